//! Production beside what is refined again: it waits for none of it, even on the only worker and within the least of memory that has room for both.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use forebay_model::load::Terms;
use forebay_model::ports::{Ledger as _, ReplayRequest, TransformOutput};
use forebay_model::{Result, SegmentId};
use forebay_pipeline::budget::{Budget, WORKER_BYTES};
use forebay_pipeline::refine::driver::PipelineHandle;
use forebay_pipeline::refine::protocol::Event;
use tokio::task::JoinHandle;

use super::world::{NativeRule, Nobody, Told, World, all, indexes, lines, numbers};

/// While it is closed, what holds a number below 100 is not done.
static CLOSED: AtomicBool = AtomicBool::new(false);
static WAITING: AtomicU32 = AtomicU32::new(0);

fn gated() -> NativeRule {
    NativeRule {
        requires: &["n"],
        routes: &["out"],
        rule: |input| {
            if !indexes(input, |n| n < 100).is_empty() && CLOSED.load(Ordering::SeqCst) {
                WAITING.fetch_add(1, Ordering::SeqCst);
                while CLOSED.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            Ok(TransformOutput { emissions: vec![all(0)], ..Default::default() })
        },
    }
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

/// The loads that the rows of a span of numbers came with.
fn loads(world: &World, numbers_of: std::ops::Range<u64>) -> Vec<u64> {
    let rows = world.rows("out").into_iter().filter(|row| numbers_of.contains(&row["n"].as_u64().unwrap()));
    let mut loads: Vec<_> = rows.map(|row| row["_forebay_load"].as_u64().unwrap()).collect();
    loads.sort_unstable();
    loads.dedup();
    loads
}

/// History is with the only worker, and stays there: what lands meanwhile is loaded.
async fn production_goes_on(world: &World, handle: &PipelineHandle, budget: &Budget) {
    until("history is with the worker", || WAITING.load(Ordering::SeqCst) > 0).await;
    let had = world.rows("out").len();
    for part in 0..5 {
        world.upstream.put(&format!("b{part}.jsonl"), "1", lines(100 + part * 10..110 + part * 10));
        world.land(handle, budget.clone()).await.unwrap();
        let has = had + 10 + usize::try_from(part).unwrap() * 10;
        until("production is loaded", || world.rows("out").len() == has).await;
    }
    assert_eq!(WAITING.load(Ordering::SeqCst), 1, "one segment of it at a time");
}

async fn ends(world: &World, handle: &PipelineHandle, pipeline: JoinHandle<Result<()>>, budget: &Budget) {
    handle.send(Event::Shutdown);
    pipeline.await.unwrap().unwrap();
    assert_eq!(numbers(&world.column("out", "n")), (0..150).collect::<Vec<_>>());
    assert_eq!((budget.refine.held(), budget.again.held()), (0, 0), "all is given back");
}

fn history_lies(world: &World) {
    for part in 0..2 {
        world.upstream.put(&format!("a{part}.jsonl"), "1", lines(part * 50..part * 50 + 50));
    }
}

async fn beside_a_replay() {
    let world = World::new(Some(gated()));
    let budget = Budget::new(2 * WORKER_BYTES + (16 << 20), 1);
    let (handle, pipeline) = world.pipeline_of(1, false, Arc::new(Told::default()), &budget).unwrap();
    let pipeline = tokio::spawn(pipeline);
    handle.deploy(world.materials().await.unwrap());
    history_lies(&world);
    world.land(&handle, budget.clone()).await.unwrap();
    until("history is loaded", || world.rows("out").len() == 100).await;

    CLOSED.store(true, Ordering::SeqCst);
    let segments = world.column("out", "_forebay_segment").into_iter();
    let segments: BTreeSet<_> = segments.map(|id| SegmentId::from_text(id.as_str().unwrap())).collect();
    let segments = segments.into_iter().collect();
    let wanted = ReplayRequest { segments, terms: Terms::default(), reason: "a test".to_owned() };
    world.ledger.ask_replay(&World::pipeline(), &wanted, forebay_model::Timestamp::EPOCH).await.unwrap();
    handle.send(Event::Landed);
    production_goes_on(&world, &handle, &budget).await;

    CLOSED.store(false, Ordering::SeqCst);
    let last = loads(&world, 100..150).into_iter().max().unwrap();
    until("history is replaced", || loads(&world, 0..100).iter().all(|load| *load > last)).await;
    ends(&world, &handle, pipeline, &budget).await;
}

async fn beside_what_had_landed_before() {
    let world = World::new(Some(gated()));
    history_lies(&world);
    let budget = Budget::new(2 * WORKER_BYTES + (16 << 20), 1);
    let stream = world.stream_context(budget.clone()).unwrap();
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    forebay_pipeline::intake::driver::run(stream, true, stopped, Arc::new(Nobody)).await.unwrap();
    world.clock.advance(Duration::from_secs(1));

    CLOSED.store(true, Ordering::SeqCst);
    WAITING.store(0, Ordering::SeqCst);
    let (handle, pipeline) = world.pipeline_of(1, false, Arc::new(Told::default()), &budget).unwrap();
    let pipeline = tokio::spawn(pipeline);
    handle.deploy(world.materials().await.unwrap());
    production_goes_on(&world, &handle, &budget).await;

    CLOSED.store(false, Ordering::SeqCst);
    until("history is loaded", || world.rows("out").len() == 150).await;
    ends(&world, &handle, pipeline, &budget).await;
}

/// One after the other: what holds the worker is the process's.
#[tokio::test]
async fn production_is_loaded_while_the_only_worker_refines_history() {
    beside_a_replay().await;
    beside_what_had_landed_before().await;
}
