//! A swap of revisions: while the new one is prepared the old one serves, and the switch delays no batch.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use arrow_schema::SchemaRef;
use forebay_model::ports::{
    Assets, BoundTransform, Clock as _, DeploymentState, Description, Ledger as _, Module, TransformOutput,
};
use forebay_model::{Digest, Result};
use forebay_pipeline::budget::Budget;
use forebay_pipeline::refine::bind::Materials;
use forebay_pipeline::refine::protocol::Event;

use super::world::{NativeRule, Told, World, all};

/// A module whose `bind` says that it has begun, and then waits.
#[derive(Debug)]
struct Gated {
    module: Arc<dyn Module>,
    begun: mpsc::Sender<()>,
    open: Mutex<mpsc::Receiver<()>>,
}

impl Module for Gated {
    fn digest(&self) -> Digest {
        self.module.digest()
    }

    fn description(&self) -> &Description {
        self.module.description()
    }

    fn bind(&self, input: &SchemaRef, config: &serde_json::Value, assets: &Assets) -> Result<Arc<dyn BoundTransform>> {
        self.begun.send(()).unwrap();
        // An error is an open gate too.
        let _ = self.open.lock().unwrap().recv();
        self.module.bind(input, config, assets)
    }
}

fn rule(routes: &'static [&'static str]) -> NativeRule {
    NativeRule {
        requires: &["n"],
        routes,
        rule: |_| Ok(TransformOutput { emissions: vec![all(0)], ..Default::default() }),
    }
}

fn lines(range: std::ops::Range<u64>) -> String {
    range.map(|n| format!("{{\"n\":{n}}}\n")).collect()
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..6_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not within half a minute: {what}");
}

#[tokio::test]
async fn while_a_new_revision_is_bound_the_old_one_serves_even_on_the_only_worker() {
    let mut world = World::new(Some(rule(&["old"])));
    let budget = Budget::new(256 << 20, 1);
    let (handle, pipeline) = world.pipeline_of(1, false, Arc::new(Told::default()), &budget).unwrap();
    let pipeline = tokio::spawn(pipeline);
    handle.deploy(world.materials().await.unwrap());
    let loaded = |world: &World, table: &str| world.rows(table).len();
    world.upstream.put("a.jsonl", "1", lines(0..100));
    world.land(&handle, budget.clone()).await.unwrap();
    until("the first object is loaded", || loaded(&world, "old") == 100).await;

    world.rule = Some(rule(&["new"]));
    let Materials { revision, number, modules, assets } = Arc::unwrap_or_clone(world.materials().await.unwrap());
    let (begun, has_begun) = mpsc::channel();
    let (open, gate) = mpsc::channel();
    let module = modules.into_iter().next().unwrap();
    let gated: Vec<Arc<dyn Module>> = vec![Arc::new(Gated { module, begun, open: Mutex::new(gate) })];
    handle.deploy(Arc::new(Materials { revision, number, modules: gated, assets }));
    tokio::task::spawn_blocking(move || has_begun.recv().unwrap()).await.unwrap();

    // It is being bound, and will not be done: the old one takes what comes, segment after segment.
    for part in 1..4 {
        world.upstream.put(&format!("b{part}.jsonl"), "1", lines(part * 100..part * 100 + 100));
        world.land(&handle, budget.clone()).await.unwrap();
        until("the old one serves", || loaded(&world, "old") == usize::try_from(part).unwrap() * 100 + 100).await;
    }
    assert_eq!(loaded(&world, "new"), 0);

    // Once it is bound it takes the next segment, and none waits for more than that.
    open.send(()).unwrap();
    let mut part = 4;
    while loaded(&world, "new") == 0 {
        assert!(part < 1_000, "it never serves");
        world.upstream.put(&format!("b{part}.jsonl"), "1", lines(part * 100..part * 100 + 100));
        world.land(&handle, budget.clone()).await.unwrap();
        let all = usize::try_from(part).unwrap() * 100 + 100;
        until("one of the two loads it", || loaded(&world, "old") + loaded(&world, "new") == all).await;
        part += 1;
    }
    handle.send(Event::Shutdown);
    pipeline.await.unwrap().unwrap();
}

/// Where hosts share a ledger, another one makes a revision active: what this one has bound begins nothing any more.
#[tokio::test]
async fn under_a_revision_that_another_host_has_replaced_nothing_is_begun() {
    let mut world = World::new(Some(rule(&["old"])));
    world.shared = true;
    let budget = Budget::new(256 << 20, 1);
    let (handle, pipeline) = world.pipeline_of(1, false, Arc::new(Told::default()), &budget).unwrap();
    let pipeline = tokio::spawn(pipeline);
    let activate = async |materials: &Materials| {
        let Materials { revision, .. } = materials;
        let at = world.clock.now();
        world.ledger.deploy(&World::pipeline(), revision.id(), DeploymentState::Active, "test", at).await.unwrap();
    };
    let old = world.materials().await.unwrap();
    activate(&old).await;
    handle.deploy(old);
    let loaded = |world: &World, table: &str| world.rows(table).len();
    world.upstream.put("a.jsonl", "1", lines(0..100));
    world.land(&handle, budget.clone()).await.unwrap();
    until("the first object is loaded", || loaded(&world, "old") == 100).await;

    world.rule = Some(rule(&["new"]));
    let new = world.materials().await.unwrap();
    activate(&new).await;
    world.upstream.put("b.jsonl", "1", lines(100..200));
    world.land(&handle, budget.clone()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((loaded(&world, "old"), loaded(&world, "new")), (100, 0), "it waits for the revision that is active");
    handle.deploy(new);
    until("the new one takes it", || loaded(&world, "new") == 100).await;
    assert_eq!(loaded(&world, "old"), 100);
    handle.send(Event::Shutdown);
    pipeline.await.unwrap().unwrap();
}
