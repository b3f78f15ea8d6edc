//! The warehouse port. Every test runs over the model in memory, over Delta Lake, and over PostgreSQL where `FOREBAY_POSTGRES` names a server;
//! what only files have (columns that divide them, compaction) is not asked of PostgreSQL.
//!
//! With `FOREBAY_KEEP_TABLES` set to a folder, the Delta tables stay there, each with an `expected.json` that was made from the
//! model's rows: `tests/services/readers.py` reads them with other engines.

mod postgres;
mod rows;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Date32Array, Float64Array, Int32Array, Int64Array, ListArray, RecordBatch,
    StringArray, StructArray, TimestampMicrosecondArray, new_null_array,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use forebay_model::column::own_fields;
use forebay_model::ports::{Clock as _, MaintainOptions, MaintainReport, StagingRequest, Warehouse};
use forebay_model::{Digest, ErrorClass, Load, PipelineName, SEGMENT, SegmentId, StagedFile, TableName};
use forebay_warehouse::{DeltaOptions, DeltaWarehouse, MemoryWarehouse, PostgresWarehouse};
use uuid::Uuid;

use self::rows::{
    a_dropped_table_is_as_if_it_had_never_been, the_rows_of_a_segment_are_found_wherever_they_lie,
    the_rows_of_a_segment_have_all_columns_of_the_table,
};
use super::support::{CountingRandom, SteeredClock};

const LEDGER: Uuid = Uuid::from_u128(0x1ed6e2);

enum Kind {
    Memory(MemoryWarehouse),
    Delta(Arc<DeltaWarehouse>, PathBuf),
    Postgres(Arc<PostgresWarehouse>, Arc<crate::postgres::Schema>),
}

/// A warehouse under test.
struct World {
    warehouse: Arc<dyn Warehouse>,
    kind: Kind,
    clock: Arc<SteeredClock>,
    // Removes the folder when the test ends.
    _folder: Option<tempfile::TempDir>,
}

impl World {
    fn memory(_: &str) -> Self {
        let memory = MemoryWarehouse::new();
        let clock = Arc::new(SteeredClock::new());
        Self { warehouse: Arc::new(memory.clone()), kind: Kind::Memory(memory), clock, _folder: None }
    }

    fn delta(test: &str) -> Self {
        let (root, folder) = match std::env::var_os("FOREBAY_KEEP_TABLES") {
            Some(keep) => (PathBuf::from(keep).join(test), None),
            None => {
                let folder = tempfile::tempdir().unwrap();
                (folder.path().join("warehouse"), Some(folder))
            }
        };
        let clock = Arc::new(SteeredClock::new());
        let options = DeltaOptions {
            checkpoint_interval: 10,
            ..DeltaOptions::new(clock.clone(), Arc::new(CountingRandom::new(1)))
        };
        let delta = Arc::new(DeltaWarehouse::open(&root, options).unwrap());
        Self { warehouse: delta.clone(), kind: Kind::Delta(delta, root), clock, _folder: folder }
    }

    async fn rows(&self, table: &str) -> RecordBatch {
        match &self.kind {
            Kind::Memory(memory) => memory.rows(table).unwrap().unwrap(),
            Kind::Delta(delta, _) => delta.rows(table).await.unwrap().unwrap(),
            Kind::Postgres(postgres, _) => postgres.rows(table).await.unwrap().unwrap(),
        }
    }

    /// Whether its tables are made of files, which can be compacted.
    fn has_files(&self) -> bool {
        !matches!(self.kind, Kind::Postgres(..))
    }

    /// Rows for each segment of the table.
    async fn segments(&self, table: &str) -> BTreeMap<String, u64> {
        let rows = self.rows(table).await;
        let mut counts = BTreeMap::new();
        for segment in texts(&rows, SEGMENT) {
            *counts.entry(segment.unwrap()).or_default() += 1;
        }
        counts
    }

    /// Leaves what other engines are to find.
    async fn keep(&self, table: &str) {
        let Kind::Delta(_, root) = &self.kind else { return };
        let rows = self.rows(table).await;
        let mut sums = serde_json::Map::new();
        for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
            let sum = match field.data_type() {
                DataType::Int64 => column.as_primitive::<Int64Type>().iter().flatten().sum::<i64>() as f64,
                DataType::Float64 => column.as_primitive::<Float64Type>().iter().flatten().sum(),
                _ => continue,
            };
            sums.insert(field.name().clone(), sum.into());
        }
        let mut counts = serde_json::Map::new();
        for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
            counts.insert(field.name().clone(), (column.len() - column.null_count()).into());
        }
        let mut points = Vec::new();
        for (segment, count) in self.segments(table).await {
            points.push(serde_json::json!({ "column": SEGMENT, "value": segment, "rows": count }));
        }
        let ids = numbers(&rows, "id");
        if let Some(last) = ids.last() {
            let count = ids.iter().filter(|id| *id == last).count();
            points.push(serde_json::json!({ "column": "id", "value": last, "rows": count }));
        }
        let expected = serde_json::json!({ "rows": rows.num_rows(), "counts": counts, "sums": sums, "points": points });
        std::fs::write(root.join(table).join("expected.json"), expected.to_string()).unwrap();
    }

    fn schema(&self, fields: &[Field]) -> SchemaRef {
        let own = own_fields();
        let fields = fields.iter().chain(own.iter().map(AsRef::as_ref));
        Arc::new(Schema::new(fields.map(|field| self.warehouse.storage_field(field).unwrap()).collect::<Vec<_>>()))
    }

    fn stage(&self, table: &str, name: &str, schema: &SchemaRef, by: &[&str], rows: usize) -> Vec<StagedFile> {
        let partition_by = by.iter().map(|name| (*name).to_owned()).collect();
        let request =
            StagingRequest { table: table.into(), segment: segment(name), schema: schema.clone(), partition_by };
        let mut writer = self.warehouse.stage(request).unwrap();
        for start in (0..rows).step_by(1000) {
            writer.write(&batch(schema, name, start, (rows - start).min(1000))).unwrap();
            assert!(writer.buffered_bytes() < 24 << 20);
        }
        writer.finish().unwrap()
    }

    async fn load(&self, load: &Load) -> forebay_model::LoadReceipt {
        self.warehouse.commit(load).await.unwrap()
    }

    fn maintenance(&self) -> MaintainOptions {
        MaintainOptions {
            target_file_bytes: 64 << 20,
            retention: Duration::from_secs(3600),
            dry_run: false,
            now: self.clock.now(),
            keep_staged: Vec::new(),
        }
    }
}

fn segment(name: &str) -> SegmentId {
    SegmentId::from_text(format!("a-stream-with-a-name-that-is-longer-than-statistics/{name:0>24}"))
}

fn a_load(number: u64, table: &str, schema: &SchemaRef, files: Vec<StagedFile>, removes: &[&str]) -> Load {
    Load {
        ledger: LEDGER,
        pipeline: PipelineName::new("fraud").unwrap(),
        number,
        id: Uuid::from_u128(u128::from(number) << 64 | 7),
        table: format!("lake.{table}").parse::<TableName>().unwrap(),
        revision: Digest::of(b"revision"),
        schema_version: 1,
        begun_at: forebay_model::Timestamp::from_micros(1_767_323_045_000_000),
        schema: schema.clone(),
        partition_by: Vec::new(),
        files,
        removes: removes.iter().map(|name| segment(name)).collect(),
        chosen: false,
    }
}

fn base() -> Vec<Field> {
    let geo = vec![Field::new("city", DataType::Utf8, true), Field::new("zip", DataType::Int64, true)];
    vec![
        Field::new("id", DataType::Int64, true),
        Field::new("amount", DataType::Int64, true),
        Field::new("country", DataType::Utf8, true),
        Field::new("geo", DataType::Struct(geo.into()), true),
        Field::new("tags", DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))), true),
        Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("day", DataType::Date32, true),
        Field::new("ok", DataType::Boolean, true),
    ]
}

/// Rows `start ..` of a segment, in any schema.
fn batch(schema: &SchemaRef, name: &str, start: usize, rows: usize) -> RecordBatch {
    let columns = schema.fields().iter().map(|field| column(field, name, start, rows)).collect();
    RecordBatch::try_new(schema.clone(), columns).unwrap()
}

fn column(field: &Field, name: &str, start: usize, rows: usize) -> ArrayRef {
    let numbers = || (start..start + rows).map(|row| i64::try_from(row).unwrap());
    let null = |row: &i64| row % 10 == 9;
    if field.name() == SEGMENT {
        return Arc::new(StringArray::from(vec![segment(name).as_str(); rows]));
    }
    match field.data_type() {
        DataType::Int64 => Arc::new(numbers().map(|row| Some(row).filter(|row| !null(row))).collect::<Int64Array>()),
        DataType::Int32 => Arc::new(Int32Array::from(vec![0; rows])),
        DataType::Float64 => Arc::new(numbers().map(|row| row as f64 + 0.5).collect::<Float64Array>()),
        DataType::Boolean => Arc::new(numbers().map(|row| Some(row % 3 == 0)).collect::<BooleanArray>()),
        DataType::Date32 => {
            Arc::new(numbers().map(|row| Some(19_000 + i32::try_from(row % 3).unwrap())).collect::<Date32Array>())
        }
        DataType::Timestamp(_, _) => {
            let times = numbers().map(|row| 1_767_323_045_123_456 + row * 1_000_000);
            Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
        }
        DataType::Utf8 if field.name() == "country" => {
            let countries = ["NL", "a b/c%ü", "DE"];
            Arc::new(
                numbers().map(|row| countries.get(usize::try_from(row % 4).unwrap()).copied()).collect::<StringArray>(),
            )
        }
        DataType::Utf8 if field.name().starts_with("_forebay") => new_null_array(&DataType::Utf8, rows),
        DataType::Utf8 => {
            Arc::new(numbers().map(|row| Some(format!("{}-{row}", field.name()))).collect::<StringArray>())
        }
        DataType::Struct(fields) => {
            let columns = fields.iter().map(|field| column(field, name, start, rows)).collect();
            Arc::new(StructArray::try_new(fields.clone(), columns, None).unwrap())
        }
        DataType::List(item) => {
            let values = column(item, name, start, rows);
            let offsets = arrow_buffer::OffsetBuffer::<i32>::from_lengths(std::iter::repeat_n(1, rows));
            Arc::new(ListArray::try_new(item.clone(), offsets, values, None).unwrap())
        }
        other => panic!("no values of type {other}"),
    }
}

fn texts(rows: &RecordBatch, name: &str) -> Vec<Option<String>> {
    rows.column_by_name(name).unwrap().as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
}

fn numbers(rows: &RecordBatch, name: &str) -> Vec<i64> {
    let mut numbers: Vec<i64> =
        rows.column_by_name(name).unwrap().as_primitive::<Int64Type>().iter().flatten().collect();
    numbers.sort_unstable();
    numbers
}

/// Each test for each implementation; those after the semicolon are of tables that are made of files.
macro_rules! contract {
    ($($name:ident)*; $($of_files:ident)*) => {
        mod memory {
            $(#[tokio::test]
            async fn $of_files() {
                super::$of_files(&super::World::memory(stringify!($of_files))).await;
            })*
            $(#[tokio::test]
            async fn $name() {
                super::$name(&super::World::memory(stringify!($name))).await;
            })*
        }
        mod delta {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(&super::World::delta(stringify!($name))).await;
            })*
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $of_files() {
                super::$of_files(&super::World::delta(stringify!($of_files))).await;
            })*
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(world) = super::World::postgres() {
                    super::$name(&world).await;
                }
            })*
        }
    };
}

contract! {
    a_load_makes_the_table_and_its_rows_are_read_back
    staged_rows_are_seen_by_nobody_before_the_commit
    a_writer_that_is_dropped_leaves_nothing
    no_rows_make_no_file
    rows_in_another_schema_are_refused
    a_load_is_committed_once_however_often_it_is_repeated
    a_lower_number_or_another_id_is_fenced
    another_ledger_is_fenced_and_another_pipeline_refused
    many_segments_are_one_commit
    a_load_without_files_is_remembered
    a_replay_takes_the_place_of_the_rows_before
    rows_are_replaced_after_compaction
    a_compacted_file_keeps_the_rows_of_other_segments
    columns_and_nested_fields_are_added_in_the_commit
    an_integer_column_becomes_float
    a_load_staged_before_the_widening_is_widened
    a_type_that_changes_otherwise_is_refused
    a_staged_file_that_is_gone_is_told
    discarded_files_are_gone_and_loaded_ones_stay
    a_table_remembers_its_loads_and_whose_rows_it_has
    loads_and_maintenance_at_once_lose_nothing
    the_rows_of_a_segment_are_found_wherever_they_lie
    a_dropped_table_is_as_if_it_had_never_been
    ;
    columns_divide_the_files
    maintenance_compacts_and_can_be_looked_at_first
    the_rows_of_a_segment_have_all_columns_of_the_table
}

async fn a_load_makes_the_table_and_its_rows_are_read_back(world: &World) {
    let schema = world.schema(&base());
    assert!(world.warehouse.table("payments").await.unwrap().is_none());
    assert!(world.warehouse.committed("payments", LEDGER, "fraud").await.unwrap().is_none());
    let files = world.stage("payments", "1", &schema, &[], 2500);
    assert!(files.iter().all(|file| file.segment == segment("1") && file.bytes > 0));
    assert_eq!(files.iter().map(|file| file.rows).sum::<u64>(), 2500);
    let receipt = world.load(&a_load(1, "payments", &schema, files, &[])).await;
    assert_eq!((receipt.rows_added, receipt.rows_removed, receipt.committed_now), (2500, 0, true));
    let info = world.warehouse.table("payments").await.unwrap().unwrap();
    assert_eq!(info.schema, schema, "a table's schema is what was stored");
    assert_eq!((info.version, info.rows), (receipt.table_version, Some(2500)));
    assert_eq!(world.warehouse.tables().await.unwrap(), ["payments"]);
    let rows = world.rows("payments").await;
    assert_eq!(rows, batch(&schema, "1", 0, 2500));
    let committed = world.warehouse.committed("payments", LEDGER, "fraud").await.unwrap().unwrap();
    assert_eq!((committed.number, committed.id), (1, Some(a_load(1, "payments", &schema, vec![], &[]).id)));
    world.keep("payments").await;
}

async fn staged_rows_are_seen_by_nobody_before_the_commit(world: &World) {
    let schema = world.schema(&base());
    let first = world.stage("t", "1", &schema, &[], 10);
    world.load(&a_load(1, "t", &schema, first, &[])).await;
    let staged = world.stage("t", "2", &schema, &[], 10);
    assert_eq!(world.segments("t").await, BTreeMap::from([(segment("1").to_string(), 10)]));
    world.load(&a_load(2, "t", &schema, staged, &[])).await;
    assert_eq!(world.segments("t").await.len(), 2);
}

async fn a_writer_that_is_dropped_leaves_nothing(world: &World) {
    let schema = world.schema(&base());
    let request =
        StagingRequest { table: "t".into(), segment: segment("1"), schema: schema.clone(), partition_by: vec![] };
    let mut writer = world.warehouse.stage(request).unwrap();
    writer.write(&batch(&schema, "1", 0, 100)).unwrap();
    drop(writer);
    match &world.kind {
        Kind::Memory(memory) => assert!(memory.staged("t").is_empty()),
        Kind::Delta(_, root) => assert_eq!(parquet_files(&root.join("t")), Vec::<PathBuf>::new()),
        Kind::Postgres(_, schema) => assert_eq!(postgres::staged_tables(schema).await, Vec::<String>::new()),
    }
    assert!(world.warehouse.tables().await.unwrap().is_empty());
}

async fn no_rows_make_no_file(world: &World) {
    let schema = world.schema(&base());
    assert!(world.stage("t", "1", &schema, &[], 0).is_empty());
}

async fn rows_in_another_schema_are_refused(world: &World) {
    let schema = world.schema(&base());
    let request = StagingRequest { table: "t".into(), segment: segment("1"), schema, partition_by: vec![] };
    let mut writer = world.warehouse.stage(request).unwrap();
    let other = world.schema(&[Field::new("id", DataType::Float64, true)]);
    let error = writer.write(&batch(&other, "1", 0, 1)).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Bug);
    assert!(error.to_string().contains("\"t\""), "{error}");
}

async fn a_load_is_committed_once_however_often_it_is_repeated(world: &World) {
    let schema = world.schema(&base());
    let load = a_load(1, "t", &schema, world.stage("t", "1", &schema, &[], 10), &[]);
    let first = world.load(&load).await;
    for _ in 0..3 {
        let again = world.load(&load).await;
        assert!(!again.committed_now);
        assert_eq!((again.table_version, again.rows_added), (first.table_version, first.rows_added));
    }
    assert_eq!(world.rows("t").await.num_rows(), 10);
}

async fn a_lower_number_or_another_id_is_fenced(world: &World) {
    let schema = world.schema(&base());
    let first = a_load(5, "t", &schema, world.stage("t", "1", &schema, &[], 10), &[]);
    world.load(&first).await;
    let zombie = Load { id: Uuid::from_u128(99), files: world.stage("t", "2", &schema, &[], 10), ..first.clone() };
    let older = Load { number: 4, ..zombie.clone() };
    for refused in [zombie, older] {
        let error = world.warehouse.commit(&refused).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Fenced, "{error}");
        assert!(error.to_string().contains('t') && error.hint().is_some());
    }
    assert_eq!(world.rows("t").await.num_rows(), 10);
}

async fn another_ledger_is_fenced_and_another_pipeline_refused(world: &World) {
    let schema = world.schema(&base());
    world.load(&a_load(1, "t", &schema, world.stage("t", "1", &schema, &[], 10), &[])).await;
    let other = Load { ledger: Uuid::from_u128(2), ..a_load(1, "t", &schema, vec![], &[]) };
    assert_eq!(world.warehouse.commit(&other).await.unwrap_err().class(), ErrorClass::Fenced);
    let other = Load { pipeline: PipelineName::new("other").unwrap(), ..a_load(1, "t", &schema, vec![], &[]) };
    assert_eq!(world.warehouse.commit(&other).await.unwrap_err().class(), ErrorClass::RejectRows);
    assert!(world.warehouse.committed("t", LEDGER, "other").await.unwrap().is_none());
}

async fn many_segments_are_one_commit(world: &World) {
    let schema = world.schema(&base());
    let files = (0..100).flat_map(|segment| world.stage("t", &segment.to_string(), &schema, &[], 20)).collect();
    let receipt = world.load(&a_load(1, "t", &schema, files, &[])).await;
    assert_eq!((receipt.rows_added, receipt.table_version), (2000, 0));
    assert_eq!(world.segments("t").await.len(), 100);
    let removes: Vec<String> = (0..100).step_by(2).map(|segment| segment.to_string()).collect();
    let removes: Vec<&str> = removes.iter().map(String::as_str).collect();
    let receipt = world.load(&a_load(2, "t", &schema, vec![], &removes)).await;
    assert_eq!((receipt.rows_removed, receipt.table_version), (1000, 1));
    assert_eq!(world.segments("t").await.len(), 50);
    world.keep("t").await;
}

async fn a_load_without_files_is_remembered(world: &World) {
    let schema = world.schema(&base());
    let empty = a_load(3, "t", &schema, vec![], &["1"]);
    let receipt = world.load(&empty).await;
    assert_eq!((receipt.rows_added, receipt.rows_removed), (0, 0));
    assert!(!world.load(&empty).await.committed_now);
    let committed = world.warehouse.committed("t", LEDGER, "fraud").await.unwrap().unwrap();
    assert_eq!((committed.number, committed.id), (3, Some(empty.id)));
    assert_eq!(world.rows("t").await.num_rows(), 0);
}

async fn a_replay_takes_the_place_of_the_rows_before(world: &World) {
    let schema = world.schema(&base());
    let mut files = world.stage("t", "1", &schema, &[], 30);
    files.extend(world.stage("t", "2", &schema, &[], 40));
    world.load(&a_load(1, "t", &schema, files, &[])).await;
    let again = world.stage("t", "1", &schema, &[], 7);
    let receipt = world.load(&a_load(2, "t", &schema, again, &["1"])).await;
    assert_eq!((receipt.rows_added, receipt.rows_removed), (7, 30));
    assert_eq!(
        world.segments("t").await,
        BTreeMap::from([(segment("1").to_string(), 7), (segment("2").to_string(), 40)])
    );
    world.keep("t").await;
}

async fn rows_are_replaced_after_compaction(world: &World) {
    let schema = world.schema(&base());
    let files = (0..5).flat_map(|name| world.stage("t", &name.to_string(), &schema, &[], 100)).collect();
    world.load(&a_load(1, "t", &schema, files, &[])).await;
    let report = world.warehouse.maintain("t", &world.maintenance()).await.unwrap();
    if world.has_files() {
        assert_eq!((report.files_before, report.files_after, report.compacted_files), (5, 1, 5));
    }
    let again = world.stage("t", "3", &schema, &[], 11);
    let receipt = world.load(&a_load(2, "t", &schema, again, &["3", "9"])).await;
    assert_eq!((receipt.rows_added, receipt.rows_removed), (11, 100));
    let segments = world.segments("t").await;
    assert_eq!(segments.values().sum::<u64>(), 411);
    assert_eq!(segments.get(segment("3").as_str()), Some(&11));
    world.keep("t").await;
}

async fn a_compacted_file_keeps_the_rows_of_other_segments(world: &World) {
    let schema = world.schema(&base());
    let files = (0..4).flat_map(|name| world.stage("t", &name.to_string(), &schema, &[], 100)).collect();
    world.load(&a_load(1, "t", &schema, files, &[])).await;
    world.warehouse.maintain("t", &world.maintenance()).await.unwrap();
    world.load(&a_load(2, "t", &schema, vec![], &["0", "2"])).await;
    let rows = world.rows("t").await;
    let kept: Vec<_> = texts(&rows, SEGMENT).into_iter().flatten().collect();
    assert_eq!(kept.len(), 200);
    assert!(kept.iter().all(|name| *name == segment("1").as_str() || *name == segment("3").as_str()));
    let ids = numbers(&rows, "id");
    assert_eq!(ids.len(), 180, "ten percent are null");
    world.load(&a_load(3, "t", &schema, vec![], &["1", "3"])).await;
    assert_eq!(world.warehouse.table("t").await.unwrap().unwrap().files, 0);
}

async fn columns_and_nested_fields_are_added_in_the_commit(world: &World) {
    let item = |fields: Vec<Field>| {
        let item = Arc::new(Field::new("item", DataType::Struct(fields.into()), true));
        Field::new("lines", DataType::List(item), true)
    };
    let sku = Field::new("sku", DataType::Utf8, true);
    let count = Field::new("count", DataType::Int64, true);
    let mut fields = base();
    fields.push(item(vec![sku.clone()]));
    let schema = world.schema(&fields);
    world.load(&a_load(1, "t", &schema, world.stage("t", "1", &schema, &[], 20), &[])).await;
    let geo = vec![
        Field::new("city", DataType::Utf8, true),
        Field::new("zip", DataType::Int64, true),
        Field::new("street", DataType::Utf8, true),
    ];
    fields[3] = Field::new("geo", DataType::Struct(geo.into()), true);
    fields[8] = item(vec![sku, count]);
    fields.push(Field::new("channel", DataType::Utf8, true));
    let grown = world.schema(&fields);
    let receipt = world.load(&a_load(2, "t", &grown, world.stage("t", "2", &grown, &[], 20), &[])).await;
    assert_eq!(receipt.table_version, 1, "one commit");
    // What was staged under the older schema still loads.
    world.load(&a_load(3, "t", &schema, world.stage("t", "3", &schema, &[], 20), &[])).await;
    let info = world.warehouse.table("t").await.unwrap().unwrap();
    assert_eq!(info.schema.fields().last().unwrap().name(), "channel");
    assert_eq!(
        info.schema.field_with_name("geo").unwrap().data_type(),
        grown.field_with_name("geo").unwrap().data_type()
    );
    assert_eq!(info.rows, Some(60));
    let rows = world.rows("t").await;
    assert_eq!(texts(&rows, "channel").iter().flatten().count(), 20);
    let geo = rows.column_by_name("geo").unwrap().as_struct();
    assert_eq!(geo.column_by_name("street").unwrap().null_count(), 40);
    assert_eq!(geo.column_by_name("city").unwrap().null_count(), 0);
    let lines = rows.column_by_name("lines").unwrap().as_list::<i32>().values().clone();
    assert_eq!(lines.as_struct().column_by_name("count").unwrap().null_count(), 42);
    world.warehouse.maintain("t", &world.maintenance()).await.unwrap();
    assert_eq!(world.rows("t").await.num_rows(), 60);
    world.keep("t").await;
}

fn widened() -> Vec<Field> {
    let mut fields = base();
    fields[1] = Field::new("amount", DataType::Float64, true);
    let geo = vec![Field::new("city", DataType::Utf8, true), Field::new("zip", DataType::Float64, true)];
    fields[3] = Field::new("geo", DataType::Struct(geo.into()), true);
    fields
}

async fn an_integer_column_becomes_float(world: &World) {
    let (narrow, wide) = (world.schema(&base()), world.schema(&widened()));
    let files = (0..3).flat_map(|name| world.stage("t", &name.to_string(), &narrow, &[], 10)).collect();
    world.load(&a_load(1, "t", &narrow, files, &[])).await;
    let receipt = world.load(&a_load(2, "t", &wide, world.stage("t", "9", &wide, &[], 10), &["1"])).await;
    assert_eq!((receipt.rows_added, receipt.rows_removed, receipt.table_version), (10, 10, 1));
    let info = world.warehouse.table("t").await.unwrap().unwrap();
    assert_eq!(info.schema.field_with_name("amount").unwrap().data_type(), &DataType::Float64);
    let rows = world.rows("t").await;
    assert_eq!(rows.num_rows(), 30);
    let sum: f64 = rows.column_by_name("amount").unwrap().as_primitive::<Float64Type>().iter().flatten().sum();
    assert!((sum - (2.0 * 36.0 + 50.0)).abs() < 1e-9, "{sum}");
    world.keep("t").await;
}

async fn a_load_staged_before_the_widening_is_widened(world: &World) {
    let (narrow, wide) = (world.schema(&base()), world.schema(&widened()));
    world.load(&a_load(1, "t", &narrow, world.stage("t", "1", &narrow, &[], 10), &[])).await;
    let early = world.stage("t", "2", &narrow, &[], 10);
    world.load(&a_load(2, "t", &wide, world.stage("t", "3", &wide, &[], 10), &[])).await;
    let receipt = world.load(&a_load(3, "t", &narrow, early, &[])).await;
    assert_eq!(receipt.rows_added, 10);
    let rows = world.rows("t").await;
    assert_eq!(rows.schema().field_with_name("amount").unwrap().data_type(), &DataType::Float64);
    assert_eq!(rows.num_rows(), 30);
    world.keep("t").await;
}

async fn a_type_that_changes_otherwise_is_refused(world: &World) {
    let schema = world.schema(&base());
    world.load(&a_load(1, "t", &schema, world.stage("t", "1", &schema, &[], 10), &[])).await;
    let mut fields = base();
    fields[0] = Field::new("id", DataType::Utf8, true);
    let other = world.schema(&fields);
    let load = a_load(2, "t", &other, world.stage("t", "2", &other, &[], 10), &[]);
    let error = world.warehouse.commit(&load).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::RejectRows);
    assert!(error.to_string().contains("column id has type"), "{error}");
    assert_eq!(world.rows("t").await.num_rows(), 10);
}

async fn columns_divide_the_files(world: &World) {
    let schema = world.schema(&base());
    let by = ["country", "day"];
    let files = world.stage("t", "1", &schema, &by, 2400);
    // Three countries and null, three days, and the same in each batch.
    assert_eq!(files.len(), 12);
    let mut load = a_load(1, "t", &schema, files, &[]);
    load.partition_by = by.map(str::to_owned).to_vec();
    world.load(&load).await;
    let info = world.warehouse.table("t").await.unwrap().unwrap();
    assert_eq!((info.partition_by, info.files, info.rows), (vec!["country".into(), "day".into()], 12, Some(2400)));
    let rows = world.rows("t").await;
    assert_eq!(texts(&rows, "country").iter().filter(|text| text.as_deref() == Some("a b/c%ü")).count(), 600);
    assert_eq!(texts(&rows, "country").iter().filter(|text| text.is_none()).count(), 600);
    let again = world.stage("t", "1", &schema, &by, 12);
    let receipt = world.load(&Load { partition_by: vec![], ..a_load(2, "t", &schema, again, &["1"]) }).await;
    assert_eq!(receipt.rows_removed, 2400);
    let unpartitioned = a_load(3, "t", &schema, world.stage("t", "3", &schema, &[], 12), &[]);
    assert_eq!(world.warehouse.commit(&unpartitioned).await.unwrap_err().class(), ErrorClass::RejectRows);
    assert_eq!(world.rows("t").await.num_rows(), 12);
    world.keep("t").await;
    let nested = StagingRequest {
        table: "u".into(),
        segment: segment("1"),
        schema: schema.clone(),
        partition_by: vec!["geo".into()],
    };
    assert!(world.warehouse.stage(nested).err().unwrap().to_string().contains("\"geo\""));
}

async fn a_staged_file_that_is_gone_is_told(world: &World) {
    let schema = world.schema(&base());
    let files = world.stage("t", "1", &schema, &[], 10);
    world.warehouse.discard("t", &files).await.unwrap();
    let error = world.warehouse.commit(&a_load(1, "t", &schema, files, &[])).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::RejectRows);
    assert!(error.to_string().contains("is gone") && error.hint().is_some(), "{error}");
}

async fn discarded_files_are_gone_and_loaded_ones_stay(world: &World) {
    let schema = world.schema(&base());
    let load = a_load(1, "t", &schema, world.stage("t", "1", &schema, &[], 10), &[]);
    world.load(&load).await;
    let staged = world.stage("t", "2", &schema, &[], 10);
    world.warehouse.discard("t", &staged).await.unwrap();
    world.warehouse.discard("t", &staged).await.unwrap();
    assert_eq!(world.warehouse.discard("t", &load.files).await.unwrap_err().class(), ErrorClass::Bug);
    assert_eq!(world.rows("t").await.num_rows(), 10);
}

async fn a_table_remembers_its_loads_and_whose_rows_it_has(world: &World) {
    assert_eq!(world.warehouse.history("t").await.unwrap(), None);
    let schema = world.schema(&base());
    let mut files = world.stage("t", "1", &schema, &[], 30);
    files.extend(world.stage("t", "2", &schema, &[], 20));
    world.load(&a_load(3, "t", &schema, files, &[])).await;
    let again = world.stage("t", "2", &schema, &[], 40);
    world.load(&a_load(5, "t", &schema, again, &["2"])).await;
    for _ in 0..2 {
        let history = world.warehouse.history("t").await.unwrap().unwrap();
        let pipeline = history.pipeline.as_ref().map(PipelineName::as_str);
        assert_eq!((history.ledger, pipeline, history.last), (Some(LEDGER), Some("fraud"), Some(5)));
        let loads: Vec<_> = history.loads.iter().map(|load| (load.number, load.id, load.rows_removed)).collect();
        let id = |number| a_load(number, "t", &schema, vec![], &[]).id;
        assert_eq!(loads, [(3, id(3), 0), (5, id(5), 20)]);
        let replaces: Vec<_> = history.loads.iter().map(|load| load.replaces.clone()).collect();
        assert_eq!(replaces, [vec![], vec![segment("2")]]);
        assert!(history.loads.iter().all(|load| load.revision == Digest::of(b"revision")));
        // These rows have their own number for the load's, and each tenth has none.
        let mut rows: BTreeMap<String, (usize, u64)> = BTreeMap::new();
        for of in &history.rows {
            let (loads, count) = rows.entry(of.segment.to_string()).or_default();
            *loads += 1;
            *count += of.rows;
        }
        let expected = [(segment("1").to_string(), (27, 27)), (segment("2").to_string(), (36, 36))];
        assert_eq!(rows, BTreeMap::from(expected));
        world.warehouse.maintain("t", &world.maintenance()).await.unwrap();
    }
}

async fn maintenance_compacts_and_can_be_looked_at_first(world: &World) {
    let schema = world.schema(&base());
    for number in 1..=6 {
        let files = world.stage("t", &number.to_string(), &schema, &[], 50);
        world.load(&a_load(number, "t", &schema, files, &[])).await;
    }
    let before = world.warehouse.table("t").await.unwrap().unwrap();
    let look = MaintainOptions { dry_run: true, ..world.maintenance() };
    let looked = world.warehouse.maintain("t", &look).await.unwrap();
    assert_eq!(world.warehouse.table("t").await.unwrap().unwrap(), before);
    let report = world.warehouse.maintain("t", &world.maintenance()).await.unwrap();
    assert_eq!(report, looked);
    assert_eq!((report.files_before, report.files_after, report.compacted_files), (6, 1, 6));
    assert_eq!(world.segments("t").await.len(), 6);
    let again = world.warehouse.maintain("t", &world.maintenance()).await.unwrap();
    assert_eq!((again.compacted_files, again.files_after), (0, 1));
    let missing = world.warehouse.maintain("nothing", &world.maintenance()).await.unwrap();
    assert_eq!(missing, MaintainReport::default(), "there is nothing to do");
    assert_eq!(world.warehouse.tables().await.unwrap(), ["t"]);
    world.keep("t").await;
}

async fn loads_and_maintenance_at_once_lose_nothing(world: &World) {
    let schema = world.schema(&base());
    let files = (0..6).flat_map(|name| world.stage("t", &name.to_string(), &schema, &[], 50)).collect();
    world.load(&a_load(1, "t", &schema, files, &[])).await;
    let loading = async {
        for number in 2..=20_u64 {
            let name = (number % 6).to_string();
            let files = world.stage("t", &name, &schema, &[], usize::try_from(number).unwrap());
            world.load(&a_load(number, "t", &schema, files, &[&name])).await;
        }
    };
    let maintaining = async {
        for _ in 0..8 {
            world.warehouse.maintain("t", &world.maintenance()).await.unwrap();
        }
    };
    tokio::join!(loading, maintaining);
    let wanted: BTreeMap<String, u64> =
        (15..=20_u64).map(|number| (segment(&(number % 6).to_string()).to_string(), number)).collect();
    assert_eq!(world.segments("t").await, wanted);
    world.keep("t").await;
}

fn parquet_files(folder: &std::path::Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(parquet_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            found.push(path);
        }
    }
    found
}
