//! Tables in PostgreSQL: rows staged and committed as loads, against a bare binary COPY of the same rows into a table of the same columns.
//!
//! Needs a server that `FOREBAY_POSTGRES` names (`tests/services/up postgres`); without one it says so, and there are no figures.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::{
    ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use forebay_model::column::own_fields;
use forebay_model::ports::{StagingRequest, Warehouse as _};
use forebay_model::{Digest, Load, PipelineName, SegmentId, StagedFile, Timestamp, column};
use forebay_postgres::{Keeps, PostgresAddress};
use forebay_warehouse::{PostgresOptions, PostgresWarehouse};
use futures::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use uuid::Uuid;

use crate::stages::Real;

/// Rows of a load, in batches as the rules give them.
const ROWS: usize = 400_000;
const BATCH: usize = 8_192;
/// Each is done so often; the fastest counts.
const ROUNDS: u64 = 3;

/// The page's part.
pub(crate) fn figures() {
    println!("tables in PostgreSQL, {ROWS} payments of 12 columns a load, durable, one session at a time");
    let Ok(server) = std::env::var("FOREBAY_POSTGRES") else {
        println!("  FOREBAY_POSTGRES names no server: no figures");
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure(&server));
}

async fn measure(server: &str) {
    let name = format!("bench_{}", &Uuid::new_v4().simple().to_string()[..16]);
    let mut session = PgConnection::connect(server).await.unwrap();
    session.execute(AssertSqlSafe(format!("SET search_path = {name}"))).await.unwrap();
    let address = PostgresAddress::parse(&format!("{server}?schema={name}"), Keeps::Warehouse).unwrap();
    let options = PostgresOptions::new(Arc::new(Real), Arc::new(Real));
    let warehouse = Arc::new(PostgresWarehouse::open(&address, options).unwrap());
    let (schema, batches) = rows();
    let mut loaded = Duration::MAX;
    for number in 1..=ROUNDS {
        let from = Instant::now();
        let files = staged(&warehouse, number, &schema, &batches).await;
        warehouse.commit(&load(number, &schema, files)).await.unwrap();
        loaded = loaded.min(from.elapsed());
    }
    let sql = format!("COPY (SELECT * FROM payments WHERE {} = 1) TO STDOUT (FORMAT binary)", column::LOAD);
    let encoded: Vec<_> = session.copy_out_raw(&sql).await.unwrap().try_collect().await.unwrap();
    let mut bare = Duration::MAX;
    for number in 1..=ROUNDS {
        session.execute(AssertSqlSafe(format!("CREATE TABLE bare_{number} (LIKE payments)"))).await.unwrap();
        let from = Instant::now();
        let mut copy = session.copy_in_raw(&format!("COPY bare_{number} FROM STDIN (FORMAT binary)")).await.unwrap();
        for part in &encoded {
            copy.send(part.as_ref()).await.unwrap();
        }
        assert_eq!(copy.finish().await.unwrap(), ROWS as u64);
        bare = bare.min(from.elapsed());
    }
    session.execute(AssertSqlSafe(format!("DROP SCHEMA {name} CASCADE"))).await.unwrap();
    let rate = |took: Duration| ROWS as f64 / took.as_secs_f64();
    println!("  {:<28} {:>8.0} rows/s", "a bare COPY", rate(bare));
    println!(
        "  {:<28} {:>8.0} rows/s   {:.0} % of a bare COPY",
        "staged and committed",
        rate(loaded),
        100.0 * bare.as_secs_f64() / loaded.as_secs_f64()
    );
}

async fn staged(
    warehouse: &Arc<PostgresWarehouse>,
    number: u64,
    schema: &SchemaRef,
    batches: &[RecordBatch],
) -> Vec<StagedFile> {
    let (warehouse, schema, batches) = (Arc::clone(warehouse), Arc::clone(schema), batches.to_vec());
    let stage = move || {
        let request =
            StagingRequest { table: "payments".to_owned(), segment: segment(number), schema, partition_by: Vec::new() };
        let mut writer = warehouse.stage(request).unwrap();
        for batch in &batches {
            // Each load has a number of its own.
            let mut columns = batch.columns().to_vec();
            let place = batch.schema().index_of(column::LOAD).unwrap();
            columns[place] = Arc::new(Int64Array::from_value(number as i64, batch.num_rows()));
            writer.write(&RecordBatch::try_new(batch.schema(), columns).unwrap()).unwrap();
        }
        writer.finish().unwrap()
    };
    // As in the host, on a thread of its own.
    tokio::task::spawn_blocking(stage).await.unwrap()
}

fn segment(number: u64) -> SegmentId {
    SegmentId::from_text(format!("payments/{number:024}"))
}

fn load(number: u64, schema: &SchemaRef, files: Vec<StagedFile>) -> Load {
    Load {
        ledger: Uuid::from_u128(1),
        pipeline: PipelineName::new("bench").unwrap(),
        number,
        id: Uuid::from_u128(u128::from(number)),
        table: "warehouse.payments".parse().unwrap(),
        revision: Digest::of(b"revision"),
        schema_version: 1,
        begun_at: Timestamp::EPOCH,
        schema: Arc::clone(schema),
        partition_by: Vec::new(),
        files,
        removes: Vec::new(),
        chosen: false,
    }
}

fn rows() -> (SchemaRef, Vec<RecordBatch>) {
    let plain = [("id", DataType::Int64), ("amount", DataType::Float64), ("score", DataType::Float64)]
        .into_iter()
        .chain([("country", DataType::Utf8), ("merchant", DataType::Utf8), ("note", DataType::Utf8)]);
    let mut fields: Vec<_> = plain.map(|(name, of)| Field::new(name, of, true)).collect();
    fields.extend(own_fields().iter().map(|field| field.as_ref().clone()));
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let starts = (0..ROWS).step_by(BATCH);
    let batches = starts.map(|start| {
        let rows = start..(start + BATCH).min(ROWS);
        let columns = schema.fields().iter().map(|field| values(field, rows.clone())).collect();
        RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()
    });
    let batches = batches.collect();
    (schema, batches)
}

fn values(field: &Field, rows: std::ops::Range<usize>) -> ArrayRef {
    let count = rows.len();
    match (field.name().as_str(), field.data_type()) {
        (column::SEGMENT, _) => Arc::new(StringArray::from(vec![segment(1).as_str(); count])),
        (column::RESCUED, _) => Arc::new(StringArray::new_null(count)),
        (_, DataType::Int64) => Arc::new(Int64Array::from_iter_values(rows.map(|row| row as i64))),
        (_, DataType::Int32) => Arc::new(Int32Array::from_value(0, count)),
        (_, DataType::Float64) => Arc::new(Float64Array::from_iter_values(rows.map(|row| row as f64 * 0.37))),
        (_, DataType::Timestamp(..)) => {
            Arc::new(TimestampMicrosecondArray::from_value(1_767_323_045_000_000, count).with_timezone("UTC"))
        }
        (name, _) => Arc::new(StringArray::from_iter_values(rows.map(|row| format!("{name} {}", row % 977)))),
    }
}
