//! Production beside what is refined again: it waits for none of it, even on the only worker and within the least of memory that has room for both.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use forebay_model::SegmentId;
use forebay_model::load::Terms;
use forebay_model::ports::{Ledger as _, ReplayRequest, TransformOutput};
use forebay_pipeline::budget::{Budget, WORKER_BYTES};
use forebay_pipeline::refine::protocol::Event;

use super::world::{NativeRule, Told, World, all, indexes, lines, numbers};

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

#[tokio::test]
async fn production_is_loaded_while_the_only_worker_refines_history_again() {
    let world = World::new(Some(gated()));
    let budget = Budget::new(2 * WORKER_BYTES + (16 << 20), 1);
    let (handle, pipeline) = world.pipeline_of(1, false, Arc::new(Told::default()), &budget).unwrap();
    let pipeline = tokio::spawn(pipeline);
    handle.deploy(world.materials().await.unwrap());
    let has = |rows: usize| {
        let world = &world;
        move || world.rows("out").len() == rows
    };
    for part in 0..2 {
        world.upstream.put(&format!("a{part}.jsonl"), "1", lines(part * 50..part * 50 + 50));
    }
    world.land(&handle, budget.clone()).await.unwrap();
    until("history is loaded", has(100)).await;

    CLOSED.store(true, Ordering::SeqCst);
    let segments = world.column("out", "_forebay_segment").into_iter();
    let segments: BTreeSet<_> = segments.map(|id| SegmentId::from_text(id.as_str().unwrap())).collect();
    let segments = segments.into_iter().collect();
    let wanted = ReplayRequest { segments, terms: Terms::default(), reason: "a test".to_owned() };
    world.ledger.ask_replay(&World::pipeline(), &wanted, forebay_model::Timestamp::EPOCH).await.unwrap();
    handle.send(Event::Landed);
    until("history is with the worker", || WAITING.load(Ordering::SeqCst) > 0).await;
    for part in 0..5 {
        world.upstream.put(&format!("b{part}.jsonl"), "1", lines(100 + part * 10..110 + part * 10));
        world.land(&handle, budget.clone()).await.unwrap();
        until("production is loaded", has(110 + usize::try_from(part).unwrap() * 10)).await;
    }
    assert_eq!(WAITING.load(Ordering::SeqCst), 1, "one segment of it at a time");

    CLOSED.store(false, Ordering::SeqCst);
    let last = loads(&world, 100..150).into_iter().max().unwrap();
    until("history is replaced", || loads(&world, 0..100).iter().all(|load| *load > last)).await;
    handle.send(Event::Shutdown);
    pipeline.await.unwrap().unwrap();
    assert_eq!(numbers(&world.column("out", "n")), (0..150).collect::<Vec<_>>());
    assert_eq!((budget.refine.held(), budget.again.held()), (0, 0), "all is given back");
}
