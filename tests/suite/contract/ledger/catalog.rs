use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use forebay_model::ErrorClass;
use forebay_model::flow::OnChange;
use forebay_model::ids::{Digest, ModuleName, PipelineName};
use forebay_model::ports::{AssetRecord, DeploymentState, HeldChange, Ledger, ModuleRecord, Pause, Shadow};
use forebay_model::revision::{Revision, RouteTarget, Step};
use forebay_model::schema::{SchemaChanges, StreamSchema};
use serde_json::json;

use super::support::*;

fn schema(columns: &[&str]) -> SchemaRef {
    Arc::new(Schema::new(
        columns
            .iter()
            .map(|name| Field::new(*name, DataType::Timestamp(TimeUnit::Microsecond, None), true))
            .collect::<Vec<_>>(),
    ))
}

pub(super) fn revision(threshold: f64) -> Revision {
    Revision {
        pipeline: pipeline(),
        stream: stream(),
        decoder: json!({"type": "csv", "header": true}),
        steps: vec![Step {
            name: "fraud".to_owned(),
            module: ModuleName::new("fraud").unwrap(),
            digest: Digest::of(b"wasm"),
            config: json!({"v14_below": threshold}),
            assets: BTreeMap::from([("blocked".to_owned(), Digest::of(b"list"))]),
        }],
        routes: BTreeMap::from([(
            "scored".to_owned(),
            RouteTarget::Table {
                table: table("payments"),
                partition_by: Vec::new(),
                schema_changes: SchemaChanges::Apply,
            },
        )]),
        rejects: table("fraud_rejects"),
    }
}

pub(super) async fn a_schema_grows_by_compare_and_swap(ledger: &dyn Ledger) {
    assert_eq!(ledger.schema(&pipeline()).await.unwrap(), None);
    let (one, two) = (schema(&["a"]), schema(&["a", "b"]));
    let first = Some(StreamSchema { version: 1, schema: Arc::clone(&one) });
    for _ in 0..2 {
        assert_eq!(ledger.evolve_schema(&pipeline(), None, &one, at(1)).await.unwrap(), first);
    }
    assert_eq!(ledger.evolve_schema(&pipeline(), None, &two, at(2)).await.unwrap(), None, "another was faster");
    assert_eq!(ledger.schema(&pipeline()).await.unwrap(), first);
    let grown = ledger.evolve_schema(&pipeline(), Some(1), &two, at(3)).await.unwrap();
    assert_eq!(grown, Some(StreamSchema { version: 2, schema: two }));
    assert_eq!(ledger.schema(&pipeline()).await.unwrap(), grown);
    assert_eq!(ledger.evolve_schema(&pipeline(), Some(5), &one, at(4)).await.unwrap(), None);
    assert_eq!(ledger.schema(&PipelineName::new("other").unwrap()).await.unwrap(), None);
}

pub(super) async fn held_changes_keep_their_first_time_and_approval(ledger: &dyn Ledger) {
    let change = |column: &str, seen| HeldChange {
        table: table("payments"),
        column: column.to_owned(),
        data_type: "Int64".to_owned(),
        reason: "hold".to_owned(),
        first_seen: at(seen),
        approved: false,
    };
    ledger.hold_changes(&[change("b", 2), change("a", 1)]).await.unwrap();
    assert!(ledger.approve_change(&table("payments"), "a").await.unwrap());
    assert!(!ledger.approve_change(&table("payments"), "c").await.unwrap());
    ledger.hold_changes(&[change("a", 9), change("b", 9)]).await.unwrap();
    let approved = HeldChange { approved: true, ..change("a", 1) };
    assert_eq!(ledger.held_changes().await.unwrap(), [approved, change("b", 2)]);
}

pub(super) async fn modules_and_files_are_remembered(ledger: &dyn Ledger) {
    let name = ModuleName::new("fraud").unwrap();
    let module = |content: &[u8], origin: &str| ModuleRecord {
        digest: Digest::of(content),
        name: name.clone(),
        version: "1.0.0".to_owned(),
        bytes: 10,
        origin: origin.to_owned(),
        at: at(1),
    };
    ledger.record_module(&module(b"one", "folder:modules/fraud.wasm")).await.unwrap();
    ledger.record_module(&module(b"one", "deploy")).await.unwrap();
    let table = ledger.read_table("modules").await.unwrap();
    assert_eq!(table.column_by_name("origin").unwrap().as_string::<i32>().value(0), "folder:modules/fraud.wasm");
    assert_eq!(ledger.active_module(&name).await.unwrap(), None);
    ledger.activate_module(&name, Digest::of(b"one"), at(2)).await.unwrap();
    ledger.activate_module(&name, Digest::of(b"two"), at(3)).await.unwrap();
    assert_eq!(ledger.active_module(&name).await.unwrap(), Some(Digest::of(b"two")));

    let seen = async |content: &[u8], seconds| {
        ledger.seen_in_folder("modules/fraud.wasm", Digest::of(content), at(seconds)).await.unwrap()
    };
    assert!(!seen(b"one", 1).await);
    assert!(!seen(b"one", 1).await, "the same call once more: its first answer may have been lost");
    assert!(seen(b"one", 2).await);
    assert!(!seen(b"two", 3).await);
    assert!(!seen(b"one", 4).await, "only the last content counts");
    assert!(!ledger.seen_in_folder("modules/other.wasm", Digest::of(b"one"), at(5)).await.unwrap());
}

pub(super) async fn assets_are_recorded_once_under_each_name(ledger: &dyn Ledger) {
    let asset = |name: &str, content: &[u8], origin: &str, seconds| AssetRecord {
        digest: Digest::of(content),
        name: name.to_owned(),
        bytes: content.len() as u64,
        origin: origin.to_owned(),
        at: at(seconds),
    };
    for record in [
        asset("blocked", b"one", "start: rules/blocked.txt", 1),
        asset("blocked", b"one", "config: rules/blocked.txt", 2),
        asset("blocked", b"second", "apply:forebay.toml by alice: rules/blocked.txt", 3),
        asset("allowed", b"one", "config: rules/allowed.txt", 4),
    ] {
        ledger.record_asset(&record).await.unwrap();
    }
    let table = ledger.read_table("assets").await.unwrap();
    let texts = |name: &str| {
        let column = table.column_by_name(name).unwrap().as_string::<i32>();
        column.iter().map(|text| text.unwrap().to_owned()).collect::<Vec<_>>()
    };
    let bytes = table.column_by_name("bytes").unwrap().as_primitive::<Int64Type>();
    let mut told: Vec<_> = texts("name").into_iter().zip(texts("origin")).zip(bytes.values().iter().copied()).collect();
    told.sort();
    let told: Vec<_> = told.iter().map(|((name, origin), bytes)| (name.as_str(), origin.as_str(), *bytes)).collect();
    assert_eq!(
        told,
        [
            ("allowed", "config: rules/allowed.txt", 3),
            ("blocked", "apply:forebay.toml by alice: rules/blocked.txt", 6),
            ("blocked", "start: rules/blocked.txt", 3),
        ]
    );
    assert!(texts("sha256").contains(&Digest::of(b"second").to_string()));
}

pub(super) async fn revisions_are_numbered_once(ledger: &dyn Ledger) {
    let first = ledger.record_revision(&revision(-8.0), at(1)).await.unwrap();
    let second = ledger.record_revision(&revision(-7.5), at(2)).await.unwrap();
    assert_eq!((first.number, second.number), (1, 2));
    assert_eq!(ledger.record_revision(&revision(-8.0), at(3)).await.unwrap(), first);
    assert_eq!(first.revision, revision(-8.0));
    assert_eq!(first.id, revision(-8.0).id());
    assert_eq!(ledger.revision(&pipeline(), second.id).await.unwrap(), Some(second));
    assert_eq!(ledger.revision(&PipelineName::new("other").unwrap(), first.id).await.unwrap(), None);
    assert_eq!(ledger.revision(&pipeline(), Digest::of(b"none")).await.unwrap(), None);
}

pub(super) async fn one_deployment_is_active(ledger: &dyn Ledger) {
    let first = ledger.record_revision(&revision(-8.0), at(1)).await.unwrap();
    let second = ledger.record_revision(&revision(-7.5), at(2)).await.unwrap();
    let deploy = async |id, state, seconds: i64| {
        ledger.deploy(&pipeline(), id, state, &format!("reason {seconds}"), at(seconds)).await
    };
    assert_eq!(ledger.active(&pipeline()).await.unwrap(), None);
    deploy(first.id, DeploymentState::Active, 3).await.unwrap();
    deploy(first.id, DeploymentState::Active, 4).await.unwrap();
    for _ in 0..2 {
        deploy(second.id, DeploymentState::Refused, 5).await.unwrap();
    }
    let active = ledger.active(&pipeline()).await.unwrap().unwrap();
    assert_eq!((&active.revision, active.at, active.reason.as_str()), (&first, at(3), "reason 3"));
    deploy(second.id, DeploymentState::Active, 6).await.unwrap();
    assert_eq!(ledger.active(&pipeline()).await.unwrap().unwrap().revision, second);
    deploy(first.id, DeploymentState::Retired, 7).await.unwrap();
    assert!(ledger.active(&pipeline()).await.unwrap().is_some(), "it was retired already");
    let table = ledger.read_table("deployments").await.unwrap();
    let states: Vec<_> = table.column_by_name("state").unwrap().as_string::<i32>().iter().flatten().collect();
    assert_eq!(states, ["retired", "refused", "active"]);
    let unknown = deploy(Digest::of(b"none"), DeploymentState::Active, 8).await.unwrap_err();
    assert_eq!(unknown.class(), ErrorClass::Bug);
    deploy(second.id, DeploymentState::Retired, 9).await.unwrap();
    assert_eq!(ledger.active(&pipeline()).await.unwrap(), None);
}

pub(super) async fn what_was_rolled_back_is_cancelled(ledger: &dyn Ledger) {
    let first = ledger.record_revision(&revision(-8.0), at(1)).await.unwrap().id;
    let second = ledger.record_revision(&revision(-7.5), at(2)).await.unwrap().id;
    ledger.deploy(&pipeline(), first, DeploymentState::Active, "start", at(3)).await.unwrap();
    ledger.deploy(&pipeline(), second, DeploymentState::Active, "config", at(4)).await.unwrap();
    let unknown = ledger.roll_back(&pipeline(), first, Some(Digest::of(b"none")), "rollback", at(5)).await.unwrap_err();
    assert_eq!(unknown.class(), ErrorClass::Bug);
    assert_eq!(ledger.active(&pipeline()).await.unwrap().unwrap().revision.id, second, "both or neither");
    for _ in 0..2 {
        ledger.roll_back(&pipeline(), first, Some(second), "rollback", at(5)).await.unwrap();
    }
    let active = ledger.active(&pipeline()).await.unwrap().unwrap();
    assert_eq!((active.revision.id, active.at, active.reason.as_str()), (first, at(5), "rollback"));
    let cancelled = async |id| ledger.is_cancelled(&pipeline(), id).await.unwrap();
    assert_eq!((cancelled(first).await, cancelled(second).await), (false, true));
    let table = ledger.read_table("deployments").await.unwrap();
    let states: Vec<_> = table.column_by_name("state").unwrap().as_string::<i32>().iter().flatten().collect();
    assert_eq!(states, ["retired", "retired", "active", "cancelled"]);
    // What is put back on purpose is cancelled no more.
    ledger.roll_back(&pipeline(), second, None, "rollback", at(6)).await.unwrap();
    assert_eq!(ledger.active(&pipeline()).await.unwrap().unwrap().revision.id, second);
    assert!(!cancelled(second).await);
    assert_eq!(
        ledger.roll_back(&pipeline(), second, Some(second), "", at(7)).await.unwrap_err().class(),
        ErrorClass::Bug
    );
}

/// The state of each deployment, why, and what is left of its shadow.
async fn shadowed(ledger: &dyn Ledger) -> Vec<(String, String, bool)> {
    let table = ledger.read_table("deployments").await.unwrap();
    let text = |name: &str| table.column_by_name(name).unwrap().as_string::<i32>().clone();
    let (states, reasons, reports) = (text("state"), text("reason"), text("shadow_report"));
    let rows = states.iter().zip(&reasons).zip(&reports);
    rows.map(|((state, reason), report)| (state.unwrap().to_owned(), reason.unwrap().to_owned(), report.is_some()))
        .collect()
}

pub(super) async fn a_shadow_keeps_its_plan_and_what_came_of_it(ledger: &dyn Ledger) {
    let first = ledger.record_revision(&revision(-8.0), at(1)).await.unwrap();
    let second = ledger.record_revision(&revision(-7.5), at(2)).await.unwrap();
    ledger.deploy(&pipeline(), first.id, DeploymentState::Active, "start", at(3)).await.unwrap();
    let plan = json!({ "segments": 3, "max_changed": 0.01 });
    // Repeated it stays as it is.
    for (plan, seconds) in [(&plan, 4), (&json!(null), 5)] {
        ledger.shadow(&pipeline(), second.id, plan, "deploy", at(seconds)).await.unwrap();
    }
    let expected = |report| Shadow {
        pipeline: pipeline(),
        revision: second.clone(),
        since: at(4),
        reason: "deploy".to_owned(),
        plan: plan.clone(),
        report,
    };
    assert_eq!(ledger.shadows().await.unwrap(), [expected(json!(null))]);
    assert_eq!(ledger.active(&pipeline()).await.unwrap().unwrap().revision, first, "the active one goes on");
    let report = json!({ "compared": 1 });
    assert!(ledger.report_shadow(&pipeline(), second.id, &report).await.unwrap());
    assert!(!ledger.report_shadow(&pipeline(), first.id, &report).await.unwrap(), "it is not in shadow");
    assert_eq!(ledger.shadows().await.unwrap(), [expected(report.clone())]);
    // It becomes active, and what came of its shadow is kept.
    for _ in 0..2 {
        ledger.deploy(&pipeline(), second.id, DeploymentState::Active, "deploy", at(6)).await.unwrap();
    }
    assert_eq!(ledger.shadows().await.unwrap(), []);
    let active = ledger.active(&pipeline()).await.unwrap().unwrap();
    assert_eq!((&active.revision, active.at), (&second, at(6)));
    assert!(!ledger.report_shadow(&pipeline(), second.id, &json!(null)).await.unwrap(), "it is over");
    let row = |state: &str, reason: &str, report| (state.to_owned(), reason.to_owned(), report);
    assert_eq!(shadowed(ledger).await, [row("retired", "start", false), row("active", "deploy", true)]);
    // What is active has no shadow, and what is not recorded neither.
    for id in [second.id, Digest::of(b"none")] {
        let refused = ledger.shadow(&pipeline(), id, &plan, "deploy", at(7)).await.unwrap_err();
        assert_eq!(refused.class(), ErrorClass::Bug);
    }
    let refused = ledger.deploy(&pipeline(), first.id, DeploymentState::Shadow, "deploy", at(7)).await.unwrap_err();
    assert_eq!(refused.class(), ErrorClass::Bug);
}

pub(super) async fn another_revision_ends_a_shadow(ledger: &dyn Ledger) {
    let mut ids = Vec::new();
    for (number, below) in [(1, -8.0), (2, -7.5), (3, -7.0), (4, -6.5)] {
        ids.push(ledger.record_revision(&revision(below), at(number)).await.unwrap().id);
    }
    let plan = json!({});
    let in_shadow =
        async || ledger.shadows().await.unwrap().iter().map(|shadow| shadow.revision.number).collect::<Vec<_>>();
    ledger.deploy(&pipeline(), ids[0], DeploymentState::Active, "start", at(5)).await.unwrap();
    ledger.shadow(&pipeline(), ids[1], &plan, "deploy:a", at(6)).await.unwrap();
    ledger.shadow(&pipeline(), ids[2], &plan, "deploy:b", at(7)).await.unwrap();
    assert_eq!(in_shadow().await, [3]);
    assert!(!ledger.is_cancelled(&pipeline(), ids[1]).await.unwrap(), "nobody took it back");
    // A refusal of another one ends nothing; that it becomes active does.
    ledger.deploy(&pipeline(), ids[3], DeploymentState::Refused, "config", at(8)).await.unwrap();
    assert_eq!(in_shadow().await, [3]);
    ledger.deploy(&pipeline(), ids[3], DeploymentState::Active, "config", at(9)).await.unwrap();
    assert_eq!(in_shadow().await, [0_u32; 0]);
    // A person ends one; repeated it is one end.
    ledger.shadow(&pipeline(), ids[2], &plan, "deploy:b", at(10)).await.unwrap();
    for _ in 0..2 {
        ledger.deploy(&pipeline(), ids[2], DeploymentState::Cancelled, "by hand", at(11)).await.unwrap();
    }
    assert!(ledger.is_cancelled(&pipeline(), ids[2]).await.unwrap());
    let row = |state: &str, reason: &str| (state.to_owned(), reason.to_owned(), false);
    let expected = [
        row("retired", "start"),
        row("cancelled", "superseded by revision 3 (deploy:b)"),
        row("cancelled", "superseded by revision 4 (config)"),
        row("refused", "config"),
        row("active", "config"),
        row("cancelled", "by hand"),
    ];
    assert_eq!(shadowed(ledger).await, expected);
    // Other pipelines have shadows of their own.
    let mut other = revision(-8.0);
    other.pipeline = PipelineName::new("other").unwrap();
    let other = ledger.record_revision(&other, at(12)).await.unwrap();
    ledger.shadow(&other.revision.pipeline, other.id, &plan, "deploy:c", at(13)).await.unwrap();
    ledger.shadow(&pipeline(), ids[1], &plan, "deploy:a", at(14)).await.unwrap();
    assert_eq!(in_shadow().await, [2, 1]);
}

pub(super) async fn a_paused_pipeline_is_given_no_work(ledger: &dyn Ledger) {
    let landed = 2;
    for number in 1..=2 {
        land_file(ledger, number, &format!("{number}.csv"), "v1", 10).await;
    }
    let (one, other) = (pipeline(), PipelineName::new("other").unwrap());
    let work = async |of: &PipelineName| ledger.work(of, &stream(), at(100), &[], 10).await.unwrap().len();
    assert_eq!(ledger.paused(&one).await.unwrap(), None);
    for (reason, seconds) in [("the tables are moved", 5), ("once more", 6)] {
        ledger.pause(&one, reason, at(seconds)).await.unwrap();
    }
    let pause = Pause { reason: "the tables are moved".to_owned(), since: at(5) };
    assert_eq!(ledger.paused(&one).await.unwrap(), Some(pause));
    assert_eq!((work(&one).await, work(&other).await), (0, landed), "only that one");
    assert!(ledger.resume(&one).await.unwrap());
    assert!(!ledger.resume(&one).await.unwrap(), "it was given work already");
    assert_eq!((work(&one).await, ledger.paused(&one).await.unwrap()), (landed, None));
}

pub(super) async fn requests_are_answered_once(ledger: &dyn Ledger) {
    let arguments = json!({"table": "lake.payments", "dry_run": false});
    let first = ledger.ask("maintain", &arguments, at(1)).await.unwrap();
    assert_eq!(ledger.ask("maintain", &arguments, at(1)).await.unwrap(), first, "the same call once more");
    let second = ledger.ask("maintain", &json!(null), at(2)).await.unwrap();
    assert!(second > first);
    assert_eq!(
        ledger.asked().await.unwrap(),
        [(first, "maintain".to_owned(), arguments), (second, "maintain".to_owned(), json!(null))]
    );
    assert_eq!(ledger.answered(first).await.unwrap(), None);
    for answer in ["done", "late"] {
        ledger.answer(first, &json!({ "said": answer }), at(3)).await.unwrap();
        assert_eq!(ledger.answered(first).await.unwrap(), Some(json!({"said": "done"})));
    }
    assert_eq!(ledger.asked().await.unwrap().len(), 1);
    assert_eq!(ledger.answered(99).await.unwrap(), None);
    assert_eq!(ledger.answer(99, &json!(1), at(4)).await.unwrap_err().class(), ErrorClass::Bug);
}

pub(super) async fn the_documented_tables_have_their_rows(ledger: &dyn Ledger) {
    for name in ledger.table_names() {
        assert_eq!(ledger.read_table(name).await.unwrap().num_rows(), 0, "{name}");
    }
    ledger.record_revision(&revision(-8.0), at(1)).await.unwrap();
    let a = ledger.land(&file_landing(1, "a.csv", "v1", OnChange::Replace, 15)).await.unwrap().listed;
    ledger.land(&records(2, &[("p0", None, 0, 10)])).await.unwrap();
    let mut loaded = group(ledger, 1, &[a[0].id.clone()], &["payments"]);
    loaded.revision = revision(-8.0).id();
    loaded.loads[0].revision = revision(-8.0).id();
    ledger.open_group(&loaded).await.unwrap();
    ledger.close_load(&pipeline(), 1, &table("payments"), &receipt(), at(60)).await.unwrap();
    ledger.fail(&pipeline(), &failure(&a[1].id, 10, Some(20))).await.unwrap();

    let segments = ledger.read_table("segments").await.unwrap();
    assert_eq!(segments.num_rows(), 3);
    let landed_at = segments.column_by_name("landed_at").unwrap();
    assert_eq!(landed_at.data_type(), &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
    assert_eq!(landed_at.as_primitive::<TimestampMicrosecondType>().value(2), at(2).as_micros());
    assert_eq!(segments.column_by_name("sha256").unwrap().as_string::<i32>().value(0), a[0].digest.to_string());
    let loads = ledger.read_table("loads").await.unwrap();
    for (column, expected) in
        [("number", 1), ("revision", 1), ("rows", 5), ("files", 1), ("bytes", 50), ("table_version", 4)]
    {
        assert_eq!(loads.column_by_name(column).unwrap().as_primitive::<Int64Type>().value(0), expected, "{column}");
    }
    let expected = [
        ("objects", 2),
        ("partitions", 1),
        ("refinements", 2),
        ("load_segments", 1),
        ("reject_counts", 1),
        ("revisions", 1),
    ];
    for (name, rows) in expected {
        assert_eq!(ledger.read_table(name).await.unwrap().num_rows(), rows, "{name}");
    }
    let error = ledger.read_table("sqlite_schema").await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Operator);
    assert!(error.hint().unwrap().contains("segments"));
}
