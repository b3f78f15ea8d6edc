#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::*;
use crate::memory::{MemoryProgress, SteppedClock};

fn open(config: GeneratorConfig, progress: &Arc<MemoryProgress>, once: bool) -> GeneratorSource {
    let (progress, clock) = (Arc::clone(progress), Arc::new(SteppedClock::default()));
    GeneratorSource::open(config, progress, clock, once).unwrap()
}

async fn drain(source: &mut GeneratorSource) -> Vec<RecordSpan> {
    let mut spans = Vec::new();
    loop {
        match source.poll().await.unwrap() {
            Polled::Batch(RawBatch::Records(records)) => spans.extend(records.spans),
            Polled::Batch(RawBatch::Objects(_)) => panic!("a generator has no objects"),
            Polled::Idle => return spans,
        }
    }
}

fn config(events: u64) -> GeneratorConfig {
    GeneratorConfig { events: Some(events), max_batch_events: 100, ..GeneratorConfig::default() }
}

fn values(spans: &[RecordSpan]) -> std::collections::BTreeMap<(Partition, OrderedPosition), String> {
    let record = |span: &RecordSpan, record: &RawRecord| {
        let value = String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap();
        ((span.partition.clone(), record.position), value)
    };
    spans.iter().flat_map(|span| span.records.iter().map(move |r| record(span, r))).collect()
}

#[tokio::test]
async fn the_same_seed_makes_the_same_events_whatever_the_batches() {
    let progress = Arc::new(MemoryProgress::default());
    let small = values(&drain(&mut open(config(1003), &progress, true)).await);
    let large = GeneratorConfig { max_batch_events: 5000, ..config(1003) };
    let large = values(&drain(&mut open(large, &progress, true)).await);
    assert_eq!(small.len(), 1003);
    assert_eq!(small, large);
    let distinct: std::collections::BTreeSet<_> = small.values().collect();
    assert_eq!(distinct.len(), 1003, "each event is another");
    let other = GeneratorConfig { seed: 7, ..config(1003) };
    let other = values(&drain(&mut open(other, &progress, true)).await);
    assert!(other.values().all(|value| !distinct.contains(value)));
    for kind in ["person", "auction", "bid"] {
        assert!(small.values().any(|value| value.starts_with(&format!("{{\"event\":\"{kind}\""))), "{kind}");
    }
}

#[tokio::test]
async fn the_largest_seed_does_not_overflow() {
    let progress = Arc::new(MemoryProgress::default());
    let last = GeneratorConfig { seed: u32::MAX, ..config(500) };
    assert_eq!(values(&drain(&mut open(last, &progress, true)).await).len(), 500);
}

#[tokio::test]
async fn the_rate_is_that_of_the_clock() {
    let progress = Arc::new(MemoryProgress::default());
    let config = GeneratorConfig { rate: Some(100), events: Some(1000), ..GeneratorConfig::default() };
    let clock = Arc::new(SteppedClock::default());
    let mut source = GeneratorSource::open(config, progress, Arc::clone(&clock) as Arc<dyn Clock>, false).unwrap();
    let mut count = 0;
    while clock.now() < Timestamp::from_micros(5_000_000) {
        if let Polled::Batch(RawBatch::Records(records)) = source.poll().await.unwrap() {
            count += records.spans.iter().map(|span| span.records.len()).sum::<usize>();
        }
    }
    assert!((495..=505).contains(&count), "{count} events in 5 seconds at 100 a second");
}

#[tokio::test]
async fn where_an_endless_one_is_read_to_its_end_it_is_refused() {
    let progress: Arc<dyn Progress> = Arc::new(MemoryProgress::default());
    let open = |config, once| {
        GeneratorSource::open(config, Arc::clone(&progress), Arc::new(SteppedClock::default()), once)
            .map_err(Error::from)
            .unwrap_err()
    };
    assert!(open(GeneratorConfig::default(), true).hint().unwrap().contains("events"));
    let zero = GeneratorConfig { partitions: 0, ..GeneratorConfig::default() };
    assert_eq!(open(zero, false).to_string(), "source of type generator: partitions must be at least 1");
    let start = GeneratorConfig { start: "yesterday".to_owned(), ..GeneratorConfig::default() };
    assert!(open(start, false).to_string().contains("\"yesterday\""));
}
