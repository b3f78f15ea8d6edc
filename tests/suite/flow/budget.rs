//! Promise 7: whoever works with bytes holds them of the budget, for as long as the work lasts.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use arrow_schema::SchemaRef;
use forebay_model::plan::Plan;
use forebay_model::ports::{
    Assets, BatchInput, BoundTransform, Description, Format, Module, SegmentContext, SplitRule, TransformError,
    TransformInstance, TransformOutput,
};
use forebay_model::{Compression, Digest, Partition, Result, StreamName};
use forebay_pipeline::budget::{Budget, OBJECT_BYTES, WORKER_BYTES};
use forebay_pipeline::decoding::Decoding;
use forebay_pipeline::intake;
use forebay_pipeline::refine::bind::Materials;
use forebay_pipeline::refine::protocol::Event;

use super::world::{NativeRule, Told, World, all};

const MIB: u64 = 1 << 20;

/// What the calls of a rule have seen of the budget.
#[derive(Debug)]
struct Calls {
    budget: Budget,
    seen: Mutex<Seen>,
    entered: Condvar,
}

#[derive(Debug, Default)]
struct Seen {
    working: u64,
    /// For each call: how many were at work, and what refine held.
    looks: Vec<(u64, u64)>,
}

impl Calls {
    fn enter(&self) {
        let mut seen = self.seen.lock().unwrap();
        seen.working += 1;
        // Nobody leaves meanwhile, and who has not left still holds.
        let look = (seen.working, self.budget.refine.held());
        seen.looks.push(look);
        self.entered.notify_all();
        if seen.looks.len() == 1 {
            // So that workers do meet: the first waits until a second has come.
            drop(self.entered.wait_timeout_while(seen, Duration::from_secs(30), |seen| seen.looks.len() < 2).unwrap());
        }
    }

    fn leave(&self) {
        self.seen.lock().unwrap().working -= 1;
    }
}

/// A module whose calls look at the budget.
#[derive(Debug)]
struct Watching<T: ?Sized>(Arc<Calls>, Arc<T>);

struct WatchingInstance(Arc<Calls>, Box<dyn TransformInstance>);

impl Module for Watching<dyn Module> {
    fn digest(&self) -> Digest {
        self.1.digest()
    }

    fn description(&self) -> &Description {
        self.1.description()
    }

    fn bind(&self, input: &SchemaRef, config: &serde_json::Value, assets: &Assets) -> Result<Arc<dyn BoundTransform>> {
        Ok(Arc::new(Watching(Arc::clone(&self.0), self.1.bind(input, config, assets)?)))
    }
}

impl BoundTransform for Watching<dyn BoundTransform> {
    fn plan(&self) -> &Plan {
        self.1.plan()
    }

    fn input(&self) -> &SchemaRef {
        self.1.input()
    }

    fn instance(&self, segment: &SegmentContext) -> Result<Box<dyn TransformInstance>, TransformError> {
        Ok(Box::new(WatchingInstance(Arc::clone(&self.0), self.1.instance(segment)?)))
    }
}

impl TransformInstance for WatchingInstance {
    fn process(&mut self, input: &BatchInput) -> Result<TransformOutput, TransformError> {
        self.0.enter();
        let output = self.1.process(input);
        self.0.leave();
        output
    }
}

#[tokio::test]
async fn no_more_workers_are_at_work_than_the_budget_has_room_for() {
    let rule = |_: &BatchInput| Ok(TransformOutput { emissions: vec![all(0)], ..Default::default() });
    let world = World::new(Some(NativeRule { requires: &["n"], routes: &["out"], rule }));
    let lines: String = (0..20_000).map(|n| format!("{{\"n\":{n},\"pad\":\"{}\"}}\n", "x".repeat(40))).collect();
    world.upstream.put("a.jsonl", "1", lines);
    // Intake keeps 16 MiB: of four workers, two can work.
    let budget = Budget::new(2 * WORKER_BYTES + 16 * MIB, 4);
    let (handle, pipeline) = world.pipeline_of(4, true, Arc::new(Told::default()), &budget).unwrap();
    let pipeline = tokio::spawn(pipeline);
    let calls = Arc::new(Calls { budget: budget.clone(), seen: Mutex::default(), entered: Condvar::new() });
    let materials = Arc::unwrap_or_clone(world.materials().await.unwrap());
    let watching = |module: Arc<dyn Module>| Arc::new(Watching(Arc::clone(&calls), module)) as Arc<dyn Module>;
    let modules = materials.modules.into_iter().map(watching).collect();
    handle.deploy(Arc::new(Materials { modules, ..materials }));
    world.land(&handle, budget.clone()).await.unwrap();
    handle.send(Event::CaughtUp);
    tokio::time::timeout(Duration::from_secs(60), pipeline).await.expect("it ends").unwrap().unwrap();

    let looks = std::mem::take(&mut calls.seen.lock().unwrap().looks);
    assert!(looks.len() > 10, "the object was cut: {looks:?}");
    assert!(looks.iter().all(|(working, held)| working * WORKER_BYTES <= *held), "{looks:?}");
    assert_eq!(looks.iter().map(|(working, _)| *working).max(), Some(2), "{looks:?}");
    assert_eq!((budget.refine.held(), budget.intake.held()), (0, 0), "all is given back");
    assert_eq!(world.rows("out").len(), 20_000);
}

/// Looks at what intake holds whenever it is asked what has just landed.
#[derive(Debug)]
struct WatchingDecoding {
    decoding: Arc<dyn Decoding>,
    budget: Budget,
    held: Arc<Mutex<Vec<u64>>>,
}

impl Decoding for WatchingDecoding {
    fn detect(&self, key: &str, head: &[u8]) -> String {
        self.held.lock().unwrap().push(self.budget.intake.held());
        self.decoding.detect(key, head)
    }

    fn split_rule(&self, key: &str) -> SplitRule {
        self.decoding.split_rule(key)
    }

    fn format(&self, name: &str) -> Result<Arc<dyn Format>> {
        self.decoding.format(name)
    }

    fn decompress(&self, reader: Box<dyn Read + Send>, compression: Compression) -> Result<Box<dyn Read + Send>> {
        self.decoding.decompress(reader, compression)
    }

    fn settings(&self) -> serde_json::Value {
        self.decoding.settings()
    }
}

struct Deaf;

impl intake::driver::Listener for Deaf {
    fn report(&self, _: &StreamName, _: &intake::state::Report) {}
}

/// What intake held each time that something had landed.
async fn held_while_landing(world: &World) -> Vec<u64> {
    let budget = Budget::new(256 * MIB, 2);
    let held = Arc::default();
    let context = world.stream_context(budget.clone()).unwrap();
    let decoding =
        WatchingDecoding { decoding: Arc::clone(&context.decoding), budget: budget.clone(), held: Arc::clone(&held) };
    let context = intake::driver::StreamContext { decoding: Arc::new(decoding), ..context };
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    intake::driver::run(context, true, stopped, Arc::new(Deaf)).await.unwrap();
    assert_eq!(budget.intake.held(), 0, "it is given back");
    std::mem::take(&mut held.lock().unwrap())
}

#[tokio::test]
async fn an_object_lands_within_so_many_bytes_whatever_its_size() {
    let world = World::new(None);
    world.upstream.put("a.jsonl", "1", "{\"n\":1}\n");
    world.upstream.put("b.jsonl", "1", "{\"n\":1}\n".repeat(4_000_000));
    assert_eq!(held_while_landing(&world).await, [OBJECT_BYTES, OBJECT_BYTES]);
}

#[tokio::test]
async fn records_that_land_are_held_of_the_budget_whole() {
    let world = World::new(None);
    let value = format!("{{\"n\":\"{}\"}}", "x".repeat(1 << 20));
    world.upstream.append(&Partition::new("memory:0"), vec![value; 20]);
    // In batches of eight at most.
    let held = held_while_landing(&world).await;
    let whole: Vec<_> = held.iter().map(|bytes| bytes / MIB).collect();
    assert_eq!(whole, [8, 8, 4], "{held:?}");
}
