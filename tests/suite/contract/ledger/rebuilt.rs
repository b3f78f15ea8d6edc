use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema};
use forebay_model::flow::OnChange;
use forebay_model::ids::{Digest, ModuleName, SegmentId};
use forebay_model::ports::{
    AssetRecord, Landing, Ledger, ModuleRecord, Rebuilt, RebuiltLoad, RebuiltPartition, RebuiltPipeline,
    RebuiltSegment, RevisionRecord, Standing,
};
use forebay_model::schema::StreamSchema;
use forebay_model::{ErrorClass, OrderedPosition, Partition};
use uuid::Uuid;

use super::catalog::revision;
use super::support::*;

fn id(landing: &Landing, index: usize) -> SegmentId {
    let segment = &landing.objects[0].segments[index];
    SegmentId::derive(&landing.stream, &segment.partition, &segment.first)
}

fn again(segment: SegmentId, number: u64) -> RebuiltSegment {
    let standing = Standing::Again { why: "the ledger was rebuilt".to_owned(), at: at(90) };
    RebuiltSegment { segment, standing, number: Some(number), revision: None }
}

fn loaded(segment: SegmentId, number: u64) -> RebuiltSegment {
    RebuiltSegment { segment, standing: Standing::Loaded, number: Some(number), revision: None }
}

fn load_of(number: u64, name: &str, rows: &[(&SegmentId, u64)]) -> RebuiltLoad {
    RebuiltLoad {
        number,
        table: table(name),
        id: Uuid::from_u128(u128::from(number)),
        revision: Digest::of(b"revision"),
        table_version: 4,
        rows_removed: 2,
        at: at(60),
        rows: rows.iter().map(|(segment, rows)| ((*segment).clone(), *rows)).collect(),
    }
}

fn of_pipeline(last_number: u64, loads: Vec<RebuiltLoad>, segments: Vec<RebuiltSegment>) -> RebuiltPipeline {
    RebuiltPipeline {
        pipeline: pipeline(),
        last_number,
        loads,
        segments,
        schemas: Vec::new(),
        revisions: Vec::new(),
        active: None,
    }
}

fn rebuilt(landings: &[Landing], pipeline: RebuiltPipeline) -> Rebuilt {
    let landings = landings.iter().map(|landing| Landing { advances: Vec::new(), ..landing.clone() }).collect();
    Rebuilt { landings, pipelines: vec![pipeline], ..Rebuilt::default() }
}

pub(super) async fn what_was_rebuilt_is_all_there(ledger: &dyn Ledger) {
    let file = file_landing(1, "a.csv", "v1", OnChange::Replace, 25);
    let envelope = records(2, &[("p0", None, 5, 15)]);
    let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]));
    let record = RevisionRecord { number: 3, id: revision(-8.0).id(), revision: revision(-8.0), created_at: at(5) };
    let module = ModuleRecord {
        digest: Digest::of(b"wasm"),
        name: ModuleName::new("fraud").unwrap(),
        version: "1.0.0".to_owned(),
        bytes: 4,
        origin: "recovered".to_owned(),
        at: at(5),
    };
    let asset = AssetRecord {
        digest: Digest::of(b"list"),
        name: "blocked".to_owned(),
        bytes: 4,
        origin: "recovered".to_owned(),
        at: at(5),
    };
    let of = RebuiltPipeline {
        schemas: vec![(StreamSchema { version: 2, schema: Arc::clone(&schema) }, at(6))],
        revisions: vec![record.clone()],
        active: Some((record.id, at(5))),
        ..of_pipeline(
            9,
            vec![load_of(7, "payments", &[(&id(&file, 0), 10)]), load_of(9, "flagged", &[])],
            vec![loaded(id(&file, 0), 7)],
        )
    };
    let next = OrderedPosition::new(15);
    let partition = Partition::new("p0");
    let content = Rebuilt {
        partitions: vec![RebuiltPartition { stream: stream(), partition: partition.clone(), next, at: at(2) }],
        modules: vec![module.clone()],
        assets: vec![asset],
        ..rebuilt(&[file.clone(), envelope.clone()], of)
    };
    ledger.import(&content).await.unwrap();

    assert_eq!(ledger.next_position(&stream(), &partition).await.unwrap(), Some(next));
    assert_eq!(ledger.last_number(&pipeline()).await.unwrap(), 9);
    assert_eq!(ledger.schema(&pipeline()).await.unwrap(), Some(StreamSchema { version: 2, schema }));
    assert_eq!(ledger.active(&pipeline()).await.unwrap().unwrap().revision, record);
    assert_eq!(ledger.active_module(&module.name).await.unwrap(), Some(module.digest));
    assert!(ledger.unjournalled(&stream()).await.unwrap().is_empty());
    let latest = ledger.latest_objects(&stream(), &folder(), &["a.csv".to_owned()]).await.unwrap();
    assert_eq!(latest, [file.objects[0].source.clone()]);
    assert_eq!(work_ids(ledger, 100).await, [id(&file, 1), id(&file, 2), id(&envelope, 0)]);
    let tables = ledger.tables_of(&pipeline(), &[id(&file, 0)]).await.unwrap();
    assert_eq!(tables, [table("payments")]);
    for (name, rows) in
        [("segments", 4), ("objects", 2), ("refinements", 1), ("loads", 2), ("load_segments", 1), ("assets", 1)]
    {
        assert_eq!(ledger.read_table(name).await.unwrap().num_rows(), rows, "{name}");
    }
    // It goes on: the source does, and so do the numbers, above the highest.
    assert_eq!(ledger.record_revision(&revision(-9.0), at(101)).await.unwrap().number, 4);
    let outcome = ledger.land(&records(3, &[("p0", Some(15), 15, 20)])).await.unwrap();
    assert_eq!(outcome.listed.len(), 1);
    let below = group(ledger, 9, &[id(&file, 1)], &["payments"]);
    assert_eq!(ledger.open_group(&below).await.unwrap_err().class(), ErrorClass::Fenced);
    ledger.open_group(&group(ledger, 10, &[id(&file, 1)], &["payments"])).await.unwrap();
    assert_eq!(ledger.open_groups(&pipeline()).await.unwrap().len(), 1);
}

pub(super) async fn what_is_refined_again_replaces_its_rows(ledger: &dyn Ledger) {
    let file = file_landing(1, "a.csv", "v1", OnChange::Replace, 5);
    let segment = id(&file, 0);
    let loads = vec![load_of(1, "payments", &[(&segment, 5)])];
    ledger.import(&rebuilt(&[file], of_pipeline(1, loads, vec![again(segment.clone(), 1)]))).await.unwrap();
    let items = failed(ledger, 100, &[], 10).await;
    assert_eq!(items.iter().map(|item| (&item.segment.id, item.generation)).collect::<Vec<_>>(), [(&segment, 1)]);
    assert_eq!(ledger.tables_of(&pipeline(), std::slice::from_ref(&segment)).await.unwrap(), [table("payments")]);
    let mut second = refined(&segment, &[]);
    second.generation = 1;
    load_all(ledger, 2, &[second]).await;
    assert!(is_done(ledger, 100).await);
}

pub(super) async fn versions_that_were_replaced_are_no_work(ledger: &dyn Ledger) {
    let old = file_landing(1, "a.csv", "v1", OnChange::Replace, 5);
    let new = file_landing(2, "a.csv", "v2", OnChange::Replace, 5);
    let superseded =
        RebuiltSegment { segment: id(&old, 0), standing: Standing::Superseded, number: None, revision: None };
    let loads = vec![load_of(1, "payments", &[(&id(&new, 0), 5)])];
    let of = of_pipeline(2, loads, vec![superseded, loaded(id(&new, 0), 1)]);
    ledger.import(&rebuilt(&[old, new.clone()], of)).await.unwrap();
    assert!(is_done(ledger, 100).await);
    let listed = ledger.segment(&id(&new, 0)).await.unwrap().unwrap();
    assert_eq!(listed.replaces.len(), 1);
    let third = land_file(ledger, 3, "a.csv", "v3", 5).await;
    let items = work(ledger, 100, &[], 10).await;
    assert_eq!(items.len(), 1);
    assert_eq!((&items[0].segment.id, &items[0].segment.replaces), (&third[0], &vec![id(&new, 0)]));
}

pub(super) async fn rows_of_a_segment_that_lands_again_are_replaced(ledger: &dyn Ledger) {
    let file = file_landing(1, "a.csv", "v1", OnChange::Replace, 5);
    let segment = id(&file, 0);
    let loads = vec![load_of(1, "payments", &[(&segment, 5)])];
    ledger.import(&rebuilt(&[], of_pipeline(1, loads, vec![again(segment.clone(), 1)]))).await.unwrap();
    assert!(is_done(ledger, 100).await, "what is not listed is no work");
    ledger.land(&file).await.unwrap();
    let items = failed(ledger, 100, &[], 10).await;
    assert_eq!(items.iter().map(|item| (&item.segment.id, item.generation)).collect::<Vec<_>>(), [(&segment, 1)]);
    assert_eq!(ledger.tables_of(&pipeline(), &[segment]).await.unwrap(), [table("payments")]);
}

pub(super) async fn only_an_empty_ledger_is_filled(ledger: &dyn Ledger) {
    let file = file_landing(1, "a.csv", "v1", OnChange::Replace, 5);
    // Whole or not at all: the active revision is not one of those that are known.
    let broken = RebuiltPipeline { active: Some((Digest::of(b"x"), at(1))), ..of_pipeline(1, Vec::new(), Vec::new()) };
    assert!(ledger.import(&rebuilt(std::slice::from_ref(&file), broken)).await.is_err());
    assert_eq!(ledger.read_table("segments").await.unwrap().num_rows(), 0);
    ledger.land(&file).await.unwrap();
    let error = ledger.import(&Rebuilt::default()).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Fenced);
}
