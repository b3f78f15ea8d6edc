//! The rows that a table has of one segment.

use arrow_array::UInt32Array;
use arrow_array::types::TimestampMicrosecondType;
use forebay_model::ports::TableOwner;

use super::*;

/// All of them as one batch, in the order of their records.
async fn rows_of(world: &World, table: &str, name: &str) -> Option<RecordBatch> {
    let batches = world.warehouse.rows_of(table, &segment(name)).await.unwrap();
    let schema = batches.first()?.schema();
    let all = arrow_select::concat::concat_batches(&schema, &batches).unwrap();
    // The one column that tells all records apart: others have nulls.
    let times = all.column_by_name("at").unwrap().as_primitive::<TimestampMicrosecondType>().values().to_vec();
    let mut order: Vec<u32> = (0..u32::try_from(times.len()).unwrap()).collect();
    order.sort_by_key(|place| times[*place as usize]);
    Some(arrow_select::take::take_record_batch(&all, &UInt32Array::from(order)).unwrap())
}

pub(super) async fn the_rows_of_a_segment_are_found_wherever_they_lie(world: &World) {
    let schema = world.schema(&base());
    assert_eq!(rows_of(world, "t", "1").await, None, "there is no table");
    for (number, name) in [(1, "1"), (2, "2"), (3, "3")] {
        let files = world.stage("t", name, &schema, &[], 1500);
        world.load(&a_load(number, "t", &schema, files, &[])).await;
    }
    assert_eq!(rows_of(world, "t", "2").await, Some(batch(&schema, "2", 0, 1500)));
    assert_eq!(rows_of(world, "t", "4").await, None);
    // Together with others in one file.
    let report = world.warehouse.maintain("t", &world.maintenance()).await.unwrap();
    assert_eq!(report.files_after, u64::from(world.has_files()));
    assert_eq!(rows_of(world, "t", "2").await, Some(batch(&schema, "2", 0, 1500)));
    let replaced = world.stage("t", "2", &schema, &[], 7);
    world.load(&a_load(4, "t", &schema, replaced, &["2"])).await;
    assert_eq!(rows_of(world, "t", "2").await, Some(batch(&schema, "2", 0, 7)));
    assert_eq!(rows_of(world, "t", "3").await, Some(batch(&schema, "3", 0, 1500)));
}

pub(super) async fn the_rows_of_a_segment_have_all_columns_of_the_table(world: &World) {
    let schema = world.schema(&base());
    let by = ["country", "day"];
    let mut load = a_load(1, "t", &schema, world.stage("t", "1", &schema, &by, 120), &[]);
    load.partition_by = by.map(str::to_owned).to_vec();
    world.load(&load).await;
    assert_eq!(rows_of(world, "t", "1").await, Some(batch(&schema, "1", 0, 120)), "also those that divide its files");
    let mut fields = base();
    fields.push(Field::new("fee", DataType::Float64, true));
    let grown = world.schema(&fields);
    let files = world.stage("t", "2", &grown, &by, 12);
    world.load(&Load { partition_by: vec![], ..a_load(2, "t", &grown, files, &[]) }).await;
    let rows = rows_of(world, "t", "1").await.unwrap();
    assert_eq!(rows.column_by_name("fee").map(|fee| fee.null_count()), Some(120));
}

pub(super) async fn a_dropped_table_is_as_if_it_had_never_been(world: &World) {
    let schema = world.schema(&base());
    let owner = |pipeline: &str| TableOwner { ledger: LEDGER, pipeline: pipeline.to_owned() };
    let files = world.stage("t", "0", &schema, &[], 10);
    assert!(!world.warehouse.drop_table("t", &owner("fraud")).await.unwrap(), "there is none");
    let late = world.warehouse.commit(&a_load(1, "t", &schema, files, &[])).await.unwrap_err();
    assert_eq!(late.class(), ErrorClass::RejectRows, "what was staged for it is gone: {late}");
    for number in 1..4 {
        let files = world.stage("t", &number.to_string(), &schema, &[], 10);
        world.load(&a_load(number, "t", &schema, files, &[])).await;
    }
    let files = world.stage("other", "1", &schema, &[], 5);
    world.load(&a_load(1, "other", &schema, files, &[])).await;
    for stranger in [owner("visits"), TableOwner { ledger: Uuid::from_u128(1), ..owner("fraud") }] {
        let refused = world.warehouse.drop_table("t", &stranger).await.unwrap_err();
        assert_eq!(refused.class(), ErrorClass::Operator);
        assert!(refused.to_string().contains("it is not dropped"), "{refused}");
    }
    assert_eq!(world.segments("t").await.len(), 3);

    assert!(world.warehouse.drop_table("t", &owner("fraud")).await.unwrap());
    assert!(!world.warehouse.drop_table("t", &owner("fraud")).await.unwrap());
    assert!(world.warehouse.table("t").await.unwrap().is_none());
    assert!(world.warehouse.committed("t", LEDGER, "fraud").await.unwrap().is_none());
    assert!(world.warehouse.rows_of("t", &segment("1")).await.unwrap().is_empty());
    assert!(world.warehouse.history("t").await.unwrap().is_none());
    assert_eq!(world.warehouse.tables().await.unwrap(), ["other"]);

    // Another one of that name, with other columns, begins with the first number again.
    let schema = world.schema(&[Field::new("n", DataType::Int64, true)]);
    let files = world.stage("t", "9", &schema, &[], 4);
    let receipt = world.load(&a_load(1, "t", &schema, files, &[])).await;
    assert!(receipt.committed_now);
    assert_eq!(world.segments("t").await, BTreeMap::from([(segment("9").to_string(), 4)]));
    assert_eq!(world.segments("other").await.len(), 1);
}
