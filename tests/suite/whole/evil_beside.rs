//! Rules that misbehave beside an honest one, in a host that runs for long while files arrive one after another.

use std::time::Duration;

use super::evil::{config, records};
use super::strange_modules::guest;
use super::support::Place;

/// What fails at every segment: a trap on each row, a loop, a stack or a memory without end, a buffer that lies.
const FAILING: [&str; 5] = ["panic", "loop_process", "recursion", "alloc_bomb", "offsets_beyond"];
/// What never binds: by a trap, and by a loop.
const UNBOUND: [&str; 2] = ["panic_bind", "loop_bind"];
const FILES: u32 = 4;
const ROWS: u32 = 300;

/// A few seconds suffice where the machine does nothing else: each segment of a loop keeps a thread for some of its `call_ms`.
const HONEST: Duration = Duration::from_secs(45);
/// All segments of all rules that fail, on few threads.
const ALL_FAILED: Duration = Duration::from_secs(240);

/// Nothing of the host panicked, and none of its parts had to be started again. (What a rule's own panic says is logged too.)
fn is_calm(place: &Place) {
    let log = place.log();
    let panics = log.lines().filter(|line| line.contains("panicked") && !line.contains("evil/guest"));
    assert_eq!(panics.collect::<Vec<_>>(), Vec::<&str>::new());
    assert!(!log.contains("is started again"), "{log}");
}

#[test]
fn a_host_that_runs_outlives_every_evil_rule_beside_an_honest_one_and_a_good_module_heals_what_failed() {
    let behaviours = [&FAILING[..], &UNBOUND].concat();
    let place = Place::with(&config(&behaviours));
    place.drop_module("evil.wasm", &guest("evil"), b'1');
    let mut running = place.start();
    for file in 0..FILES {
        place.write(&format!("inbox/{file}.jsonl"), &records(file * ROWS..(file + 1) * ROWS));
        let rows = i64::from((file + 1) * ROWS);
        place.within(HONEST, &format!("the honest rule loads file {file}"), || place.rows("lake.events") == rows);
    }
    let failed = "SELECT count(*) FROM ledger.refinements WHERE state = 'failed'";
    let all = i64::from(FILES) * i64::try_from(FAILING.len()).unwrap();
    place.within(ALL_FAILED, "each segment of a failing rule has failed", || place.number(failed) == all);
    for name in FAILING {
        let of = |column: &str| format!("SELECT {column} FROM ledger.refinements WHERE pipeline = '{name}'");
        assert_eq!(place.number(&of("count(*)")), i64::from(FILES), "{name}");
        // It waits for another rule, not for a time.
        assert_eq!(place.number(&of("count(retry_at)")), 0, "{name}");
    }
    for name in UNBOUND {
        let unfit = place.told("revision does not fit");
        assert!(unfit.iter().any(|line| line["pipeline"] == name), "{name}: {}", place.log());
    }
    assert_eq!(place.number("SELECT count(*) FROM ledger.loads WHERE pipeline <> 'plain'"), 0);
    assert!(running.is_alive(), "{}", place.log());
    is_calm(&place);

    place.drop_module("evil.wasm", &guest("evil_healed"), b'2');
    let rows = i64::from(FILES * ROWS);
    for name in behaviours {
        place.until(&format!("{name} has healed"), || place.rows(&format!("lake.{name}")) == rows);
        assert_eq!(place.number(&format!("SELECT count(DISTINCT id) FROM lake.{name}")), rows, "{name}");
    }
    assert_eq!(place.number(failed), 0);
    assert_eq!(place.rows("lake.events"), rows, "the honest one had nothing to heal");
    assert!(running.is_alive(), "{}", place.log());
    is_calm(&place);
    assert!(running.stop().success());
    place.adds_up();
}
