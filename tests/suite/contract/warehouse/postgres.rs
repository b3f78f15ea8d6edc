//! What tables in PostgreSQL have besides: types and names, answers that are lost, tables of other people.

use arrow_array::builder::{MapBuilder, StringBuilder};
use arrow_array::{BinaryArray, Decimal128Array, Float32Array, Int8Array, Int16Array, MapArray, UInt64Array};
use forebay_postgres::{Keeps, PostgresAddress};
use forebay_warehouse::PostgresOptions;
use sqlx::Row as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::postgres::Schema;

impl World {
    pub(super) fn postgres() -> Option<Self> {
        let schema = Arc::new(Schema::new()?);
        Some(Self::at(&schema, &schema.url()))
    }

    fn at(schema: &Arc<Schema>, url: &str) -> Self {
        let clock = Arc::new(SteeredClock::new());
        let options = PostgresOptions::new(clock.clone(), Arc::new(CountingRandom::new(1)));
        let postgres = Arc::new(PostgresWarehouse::open(&address(url), options).unwrap());
        let kind = Kind::Postgres(postgres.clone(), schema.clone());
        Self { warehouse: postgres, kind, clock, _folder: None }
    }

    fn own_schema(&self) -> &Schema {
        let Kind::Postgres(_, schema) = &self.kind else { panic!("a world on PostgreSQL") };
        schema
    }
}

fn address(url: &str) -> PostgresAddress {
    PostgresAddress::parse(url, Keeps::Warehouse).unwrap()
}

/// Tables of rows that wait for a load.
pub(super) async fn staged_tables(schema: &Schema) -> Vec<String> {
    let sql = "SELECT c.relname::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = $1 AND c.relkind = 'r' AND starts_with(c.relname, '_forebay_staged_')";
    let rows = sqlx::query(sql).bind(schema.name()).fetch_all(&mut schema.connect().await).await.unwrap();
    rows.iter().map(|row| row.get("name")).collect()
}

/// One column of rows, with forebay's own.
fn rows_of(world: &World, columns: &[(&str, ArrayRef)]) -> RecordBatch {
    let rows = columns.first().unwrap().1.len();
    let fields: Vec<_> =
        columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    let schema = world.schema(&fields);
    let arrays = schema.fields().iter().map(|field| {
        let own = columns
            .iter()
            .zip(&fields)
            .find(|(_, of)| world.warehouse.storage_field(of).unwrap().name() == field.name());
        match own {
            Some(((_, column), _)) => world.warehouse.store_column(column, field.data_type()).unwrap(),
            None => column(field, "1", 0, rows),
        }
    });
    RecordBatch::try_new(schema.clone(), arrays.collect()).unwrap()
}

fn stage(world: &World, table: &str, rows: &RecordBatch) -> forebay_model::Result<Vec<StagedFile>> {
    let (schema, partition_by) = (rows.schema(), vec![]);
    let request = StagingRequest { table: table.into(), segment: segment("1"), schema, partition_by };
    let mut writer = world.warehouse.stage(request)?;
    writer.write(rows)?;
    writer.finish()
}

fn maps() -> MapArray {
    let mut builder = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for pairs in [vec![("a", Some("1")), ("b\"\\", None)], vec![], vec![("ü", Some("␀"))]] {
        for (key, value) in pairs {
            builder.keys().append_value(key);
            builder.values().append_option(value);
        }
        builder.append(true).unwrap();
    }
    builder.finish()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_comes_back_as_it_went() {
    let Some(world) = World::postgres() else { return };
    let floats = Float64Array::from(vec![Some(f64::NAN), Some(f64::NEG_INFINITY), None]);
    let large = 10_i128.pow(38) - 1;
    let decimals = Decimal128Array::from(vec![Some(large), None, Some(-12_345)]);
    let times = TimestampMicrosecondArray::from(vec![Some(i64::MAX), Some(-1), Some(-62_200_000_000_000_000)]);
    let times: ArrayRef = Arc::new(times.with_timezone("UTC"));
    let dates: ArrayRef = Arc::new(Date32Array::from(vec![Some(2_932_897), Some(-1), None]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a\u{1}\n\"\\ü"), None, Some("")]));
    let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![Some(&[0, 255][..]), None, Some(&[])]));
    let nested = |name: &str, column: ArrayRef| (Arc::new(Field::new(name, column.data_type().clone(), true)), column);
    let inner = StructArray::from(vec![
        nested("float", Arc::new(Float64Array::from(vec![Some(1e300), Some(f64::INFINITY), Some(0.1)]))),
        nested("small", Arc::new(Float32Array::from(vec![Some(0.1), Some(f32::NAN), None]))),
        nested("decimal", Arc::new(decimals.clone().with_precision_and_scale(38, 37).unwrap())),
        nested("time", times.clone()),
        nested("date", dates.clone()),
        nested("text", texts.clone()),
        nested("bytes", bytes.clone()),
        nested("long", Arc::new(Int64Array::from(vec![i64::MAX, i64::MIN, 0]))),
        nested("ok", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
        nested("map", Arc::new(maps())),
    ]);
    let list = ListArray::new(
        Arc::new(Field::new("item", inner.data_type().clone(), true)),
        arrow_buffer::OffsetBuffer::<i32>::from_lengths([2, 0, 1]),
        Arc::new(inner.clone()),
        Some(vec![true, true, true].into()),
    );
    let rows = rows_of(
        &world,
        &[
            ("bool", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))),
            ("i8", Arc::new(Int8Array::from(vec![Some(-128), None, Some(127)]))),
            ("i16", Arc::new(Int16Array::from(vec![i16::MIN, 0, i16::MAX]))),
            ("i32", Arc::new(Int32Array::from(vec![i32::MIN, 0, i32::MAX]))),
            ("i64", Arc::new(Int64Array::from(vec![i64::MIN, 0, i64::MAX]))),
            ("u64", Arc::new(UInt64Array::from(vec![Some(u64::MAX), Some(0), None]))),
            ("f32", Arc::new(Float32Array::from(vec![Some(f32::MAX), Some(-0.0), None]))),
            ("f64", Arc::new(floats)),
            ("decimal", Arc::new(decimals.with_precision_and_scale(38, 3).unwrap())),
            ("date", dates),
            ("time", times),
            ("text", texts),
            ("bytes", bytes),
            ("object", Arc::new(inner)),
            ("list", Arc::new(list)),
            ("map", Arc::new(maps())),
        ],
    );
    let files = stage(&world, "types", &rows).unwrap();
    world.load(&a_load(1, "types", &rows.schema(), files, &[])).await;
    let found = world.rows("types").await;
    for ((field, wanted), found) in rows.schema().fields().iter().zip(rows.columns()).zip(found.columns()) {
        assert_eq!(format!("{wanted:?}"), format!("{found:?}"), "{}", field.name());
    }
    let sql = "SELECT column_name::text AS name, data_type::text AS kind FROM information_schema.columns \
               WHERE table_schema = $1 AND table_name = 'types' ORDER BY ordinal_position";
    let mut connection = world.own_schema().connect().await;
    let kinds = sqlx::query(sql).bind(world.own_schema().name()).fetch_all(&mut connection).await.unwrap();
    let kinds: Vec<String> =
        kinds.iter().map(|row| format!("{} {}", row.get::<String, _>("name"), row.get::<String, _>("kind"))).collect();
    insta::assert_snapshot!(kinds.join("\n"));
    let asked = "SELECT (object->>'long')::int8 AS long, object->>'time' AS time FROM types WHERE i16 = 0";
    let row = sqlx::query(asked).fetch_one(&mut connection).await.unwrap();
    assert_eq!(
        (row.get::<i64, _>("long"), row.get::<String, _>("time").as_str()),
        (i64::MIN, "1969-12-31T23:59:59.999999Z")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_postgresql_cannot_hold_is_told_or_has_its_picture() {
    let Some(world) = World::postgres() else { return };
    let text = StringArray::from(vec!["a\0b"]);
    let rows = rows_of(
        &world,
        &[
            ("t", Arc::new(text.clone())),
            ("o", {
                let field = Arc::new(Field::new("t", DataType::Utf8, true));
                Arc::new(StructArray::from(vec![(field, Arc::new(text) as ArrayRef)]))
            }),
        ],
    );
    let files = stage(&world, "t", &rows).unwrap();
    world.load(&a_load(1, "t", &rows.schema(), files, &[])).await;
    let found = world.rows("t").await;
    assert_eq!(texts(&found, "t"), [Some("a\u{2400}b".to_owned())]);
    assert_eq!(found.column_by_name("o").unwrap().as_struct().column(0).as_string::<i32>().value(0), "a\u{2400}b");

    let early = TimestampMicrosecondArray::from(vec![i64::MIN]).with_timezone("UTC");
    let error = stage(&world, "t", &rows_of(&world, &[("when", Arc::new(early))])).unwrap_err();
    insta::assert_snapshot!(format!("{error}\n{}", error.hint().unwrap()), @r#"
    table "t": column "when" cannot be written: a time of it is before 4714 BC
    keep the value as text, or in another form, in a rule
    "#);
    let error =
        stage(&world, "t", &rows_of(&world, &[("day", Arc::new(Date32Array::from(vec![i32::MAX])))])).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Operator);
    let mut twice = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for _ in 0..2 {
        twice.keys().append_value("k");
        twice.values().append_value("v");
    }
    twice.append(true).unwrap();
    let error = stage(&world, "t", &rows_of(&world, &[("m", Arc::new(twice.finish()))])).unwrap_err();
    assert!(error.to_string().contains("\"m\"") && error.to_string().contains("key twice"), "{error}");
    assert_eq!(staged_tables(world.own_schema()).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_name_is_a_column_and_long_ones_stay_two() {
    let Some(world) = World::postgres() else { return };
    let long = "a_name_that_is_much_longer_than_what_postgresql_takes_for_the_name_of_a_column";
    let (one, other) = (format!("{long}_1"), format!("{long}_2"));
    let names = ["select", "Total \"net\"", "ctid", "ü%;--", one.as_str(), other.as_str()];
    let columns = names.iter().zip(0_i64..).map(|(name, value)| {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![value]));
        (*name, column)
    });
    let rows = rows_of(&world, &columns.collect::<Vec<_>>());
    let table = "pg_class";
    let files = stage(&world, table, &rows).unwrap();
    world.load(&a_load(1, table, &rows.schema(), files, &[])).await;
    assert_eq!(world.rows(table).await, rows);
    assert_eq!(world.warehouse.table(table).await.unwrap().unwrap().schema, rows.schema());
    let sql = "SELECT col_description(a.attrelid, a.attnum) AS whole FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
               JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = 'pg_class' \
               AND starts_with(a.attname, 'a_name_that') ORDER BY a.attnum";
    let mut connection = world.own_schema().connect().await;
    let whole = sqlx::query(sql).bind(world.own_schema().name()).fetch_all(&mut connection).await.unwrap();
    let whole: Vec<String> = whole.iter().map(|row| row.get("whole")).collect();
    assert_eq!(whole, [one, other]);
}

/// Sends on what comes, and breaks the connection when the first transaction that commits a load has been sent: before the server hears of
/// it, or before its answer is heard.
async fn breaking(server: &str, is_heard: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let target = url::Url::parse(server).unwrap();
    let behind = format!("{}:{}", target.host_str().unwrap(), target.port().unwrap_or(5432));
    let broken = Arc::new(std::sync::atomic::AtomicBool::new(false));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (behind, broken) = (behind.clone(), broken.clone());
            tokio::spawn(async move {
                let server = TcpStream::connect(behind).await.unwrap();
                let ((mut from, mut to), (mut back, mut answer)) = (client.into_split(), server.into_split());
                let answers = tokio::spawn(async move { tokio::io::copy(&mut back, &mut to).await });
                let (mut bytes, mut is_load) = (vec![0; 1 << 16], false);
                while let Ok(count @ 1..) = from.read(&mut bytes).await {
                    let sent = bytes.get(..count).unwrap();
                    let has = |text: &[u8]| sent.windows(text.len()).any(|window| window == text);
                    is_load |= has(b"INSERT INTO _forebay_loads");
                    if is_load && has(b"COMMIT") && !broken.swap(true, std::sync::atomic::Ordering::SeqCst) {
                        answers.abort();
                        if is_heard {
                            answer.write_all(sent).await.unwrap();
                        }
                        return;
                    }
                    answer.write_all(sent).await.unwrap();
                }
            });
        }
    });
    let mut through = target;
    through.set_host(Some("127.0.0.1")).unwrap();
    through.set_port(Some(port)).unwrap();
    through.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_there_once() {
    for is_heard in [true, false] {
        let Some(schema) = Schema::new() else { return };
        let schema = Arc::new(schema);
        let url = format!("{}?schema={}", breaking(schema.server(), is_heard).await, schema.name());
        let world = World::at(&schema, &url);
        let columns = world.schema(&base());
        let load = a_load(1, "t", &columns, world.stage("t", "1", &columns, &[], 10), &[]);
        match world.warehouse.commit(&load).await {
            // The warehouse looked again by itself.
            Ok(receipt) => assert!(is_heard && receipt.committed_now),
            Err(error) => {
                assert!(!is_heard, "{error}");
                assert_eq!(error.class(), ErrorClass::Retry, "{error}");
                assert!(world.warehouse.committed("t", LEDGER, "fraud").await.unwrap().is_none());
                assert!(world.load(&load).await.committed_now);
            }
        }
        assert!(!world.load(&load).await.committed_now);
        assert_eq!(world.rows("t").await.num_rows(), 10);
        assert_eq!(staged_tables(&schema).await, Vec::<String>::new(), "they are dropped when their load is there");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_staged_tables_are_dropped_unless_a_load_needs_them() {
    let Some(world) = World::postgres() else { return };
    let columns = world.schema(&base());
    let kept = world.stage("t", "1", &columns, &[], 10);
    world.stage("t", "2", &columns, &[], 10);
    let hour = Duration::from_secs(3600);
    world.clock.advance(hour);
    let mine = world.warehouse.maintain("t", &world.maintenance()).await.unwrap();
    assert_eq!(mine.vacuumed_files, 0, "this process may be about to commit them");
    // Another process looks.
    let Kind::Postgres(_, schema) = &world.kind else { return };
    let other = World::at(schema, &schema.url());
    let options = MaintainOptions {
        now: world.clock.now(),
        keep_staged: kept.iter().map(|file| file.path.clone()).collect(),
        ..other.maintenance()
    };
    let young = MaintainOptions { retention: hour * 2, ..options.clone() };
    assert_eq!(other.warehouse.maintain("t", &young).await.unwrap().vacuumed_files, 0);
    let look = MaintainOptions { dry_run: true, ..options.clone() };
    let looked = other.warehouse.maintain("t", &look).await.unwrap();
    assert_eq!(other.warehouse.maintain("t", &options).await.unwrap(), looked);
    assert!(looked.vacuumed_files == 1 && looked.vacuumed_bytes > 0, "{looked:?}");
    assert_eq!(staged_tables(schema).await, kept.iter().map(|file| file.path.clone()).collect::<Vec<_>>());
    world.load(&a_load(1, "t", &columns, kept, &[])).await;
    assert_eq!(world.rows("t").await.num_rows(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_other_people_and_their_changes_are_told() {
    let Some(world) = World::postgres() else { return };
    let columns = world.schema(&base());
    assert_eq!(world.warehouse.tables().await.unwrap(), Vec::<String>::new());
    let own = world.own_schema();
    own.sql("CREATE TABLE theirs (n int)").await;
    assert!(world.warehouse.table("theirs").await.unwrap().unwrap().owner.is_none());
    let error = world.warehouse.commit(&a_load(1, "theirs", &columns, vec![], &[])).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::RejectRows, "{error}");
    assert!(error.to_string().contains("not made by forebay"), "{error}");
    assert_eq!(world.warehouse.tables().await.unwrap(), Vec::<String>::new());

    world.load(&a_load(1, "t", &columns, world.stage("t", "1", &columns, &[], 10), &[])).await;
    own.sql(
        "CREATE UNIQUE INDEX one_each ON t (\"day\", \"id\", \"country\"); CREATE VIEW amounts AS SELECT amount FROM t",
    )
    .await;
    let again = a_load(2, "t", &columns, world.stage("t", "2", &columns, &[], 10), &[]);
    let error = world.warehouse.commit(&again).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::RejectRows, "{error}");
    assert!(error.chain().contains("unique constraint"), "{}", error.chain());
    own.sql("DROP INDEX one_each").await;
    let wide = world.schema(&widened());
    let widening = a_load(2, "t", &wide, world.stage("t", "2", &wide, &[], 10), &[]);
    let error = world.warehouse.commit(&widening).await.unwrap_err();
    assert_eq!(
        (error.class(), error.hint().unwrap().contains("drop the views")),
        (ErrorClass::Operator, true),
        "{error}"
    );
    own.sql("DROP VIEW amounts; ALTER TABLE t DROP COLUMN country").await;
    let error = world.warehouse.commit(&widening).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::RejectRows, "{error}");
    // A table that is dropped is made anew: what was known of it goes with it.
    own.sql("DROP TABLE t").await;
    assert!(world.warehouse.table("t").await.unwrap().is_none());
    assert_eq!(world.load(&widening).await.table_version, 0);
    assert_eq!(world.rows("t").await.num_rows(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_is_not_divided_by_columns() {
    let Some(world) = World::postgres() else { return };
    let columns = world.schema(&base());
    let by = vec!["day".to_owned()];
    for error in [
        world.warehouse.check_partitioning("t", &by).unwrap_err(),
        world
            .warehouse
            .stage(StagingRequest { table: "t".into(), segment: segment("1"), schema: columns, partition_by: by })
            .err()
            .unwrap(),
    ] {
        assert_eq!(error.class(), ErrorClass::Operator);
        assert!(error.to_string().contains("[\"day\"]") && error.hint().unwrap().contains("partition_by"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_away_is_tried_again_and_what_a_person_must_change_is_told() {
    let Some(schema) = Schema::new() else { return };
    let schema = Arc::new(schema);
    let nobody = World::at(&schema, "postgres://forebay@127.0.0.1:1/postgres");
    let columns = nobody.schema(&base());
    let error = nobody.warehouse.tables().await.unwrap_err();
    insta::assert_snapshot!(format!("{error}\n{}", error.hint().unwrap()), @"
    warehouse postgres://forebay@127.0.0.1:1/postgres?schema=public: could not connect to it
    check that PostgreSQL runs at 127.0.0.1:1 and is reached from here
    ");
    assert_eq!(error.class(), ErrorClass::Retry);
    let staged = stage(&nobody, "t", &batch(&columns, "1", 0, 10)).unwrap_err();
    assert_eq!(staged.class(), ErrorClass::Retry, "{staged}");
    let mut missing = url::Url::parse(schema.server()).unwrap();
    missing.set_path("/no_such_database");
    let error = World::at(&schema, missing.as_str()).warehouse.tables().await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Operator);
    assert!(error.hint().unwrap().contains("the warehouse's url"), "{error:?}");

    // Who only reads makes nothing.
    let options = PostgresOptions {
        reading: true,
        ..PostgresOptions::new(Arc::new(SteeredClock::new()), Arc::new(CountingRandom::new(1)))
    };
    let reader = PostgresWarehouse::open(&address(&schema.url()), options).unwrap();
    assert_eq!(reader.tables().await.unwrap(), Vec::<String>::new());
    assert!(reader.table("t").await.unwrap().is_none() && reader.rows("t").await.unwrap().is_none());
    let known = sqlx::query("SELECT 1 AS one FROM pg_namespace WHERE nspname = $1").bind(schema.name());
    assert!(known.fetch_optional(&mut schema.connect().await).await.unwrap().is_none());
}
