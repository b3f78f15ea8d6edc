//! History is refined again: which of it, by how many workers, under which revision. Through the real binary.

use super::seen::check;
use super::support::{Place, expr_wasm};

const CONFIG: &str = r#"
[landing]
url = "landing"

[ledger]
url = "sqlite:forebay.db"

[modules]
watch = "modules"

[warehouses.lake]
type = "delta"
url = "warehouse"

[streams.payments]
source = { type = "files", url = "inbox", settle_milliseconds = 1, scan_seconds = 1 }
format = "json"

[pipelines.fraud]
from = "payments"

[[pipelines.fraud.steps]]
module = "expr"

[pipelines.fraud.steps.config.columns]
flag = "amount > 50"

[pipelines.fraud.steps.config.routes.flagged]
when = "flag"
columns = ["id", "amount"]

[[pipelines.fraud.steps.config.reject]]
code = "odd"
when = "id = 13"
message = "thirteen"

[pipelines.fraud.routes]
out = "lake.payments"
flagged = "lake.flagged"
"#;

fn place() -> Place {
    let place = Place::with(CONFIG);
    std::fs::copy(expr_wasm(), place.path("modules/expr.wasm")).unwrap();
    place
}

/// Payments whose amounts are their ids, all booked on one day, and noon of the next for the last.
fn payments(ids: std::ops::Range<u32>, day: u32) -> String {
    let last = ids.end - 1;
    ids.map(|id| {
        let booked = if id == last { format!("{:02}T12:00:00Z", day + 1) } else { format!("{day:02}T08:00:00Z") };
        format!("{{\"id\":{id},\"amount\":{id},\"note\":\"n\",\"booked\":\"2026-01-{booked}\"}}\n")
    })
    .collect()
}

/// What a person sees of verbs, one after the other.
fn told(place: &Place, verbs: &[&[&str]]) -> String {
    verbs.iter().map(|verb| format!("# {}\n{}\n\n", verb.join(" "), place.sees(verb))).collect()
}

/// The segments that are asked for, by the numbers of their landing.
fn asked(place: &Place) -> Vec<i64> {
    let rows = place
        .query("SELECT s.number FROM ledger.again a JOIN ledger.segments s ON s.segment = a.segment ORDER BY s.number");
    rows.iter().map(|row| row["number"].as_i64().unwrap()).collect()
}

/// Loads files one after the other, so that each has a place in the order of landing.
fn lands(place: &Place, files: &[(&str, String)]) {
    for (name, text) in files {
        place.write(&format!("inbox/{name}.jsonl"), text);
        place.run_well(&["run", "--once"]);
    }
}

#[test]
fn a_span_may_be_of_the_records_own_time_and_what_is_not_known_is_not_left_out() {
    let place = place();
    let files = [
        ("a", payments(20..30, 1)),
        ("b", payments(30..40, 2)),
        ("c", payments(40..50, 3)),
        ("d", payments(10..20, 5)),
    ];
    lands(&place, &files);
    let replay = ["replay", "--pipeline", "fraud", "--clock", "record"];
    let by = |more: &[&'static str]| [&replay[..], more].concat();
    let seen = told(
        &place,
        &[
            &by(&["--since", "2026-01-02"]),
            &by(&["--time-column", "when"]),
            &by(&["--time-column", "amount"]),
            &["replay", "--pipeline", "fraud", "--time-column", "booked"],
            &by(&["--time-column", "booked", "--since", "2026-01-02", "--until", "2026-01-03", "--dry-run"]),
            &by(&["--time-column", "booked", "--since", "2026-01-02", "--until", "2026-01-03", "--dry-run", "--json"]),
            &by(&["--time-column", "booked", "--since", "2026-01-02", "--until", "2026-01-03"]),
        ],
    );
    check("replay-clock", &seen);
    // The first has a record on the next day at noon; the last has one that stands in no table.
    assert_eq!(asked(&place), [1, 2, 4]);
    place.run_well(&["replay", "--pipeline", "fraud", "--stop"]);
    // A span that begins where the last record of the third is; the bounds are half open.
    place.run_well(&by(&["--time-column", "booked", "--since", "2026-01-04T12:00:00Z"]));
    assert_eq!(asked(&place), [3, 4]);
    place.run_well(&["replay", "--pipeline", "fraud", "--stop"]);
    place.run_well(&by(&["--time-column", "booked", "--until", "2026-01-01T08:00:00Z"]));
    assert_eq!(asked(&place), [4]);
}

#[test]
fn records_of_a_stream_have_their_sources_time() {
    let stream = CONFIG.replace(
        "source = { type = \"files\", url = \"inbox\", settle_milliseconds = 1, scan_seconds = 1 }",
        "source = { type = \"generator\", events = 30000, partitions = 3 }",
    );
    let (from, to) =
        (stream.find("[[pipelines.fraud.steps]]").unwrap(), stream.find("[pipelines.fraud.routes]").unwrap());
    let plain = format!("{}[pipelines.fraud.routes]\nout = \"lake.events\"\n", &stream[..from]);
    assert!(to > from);
    let place = Place::with(&plain);
    place.run_well(&["run", "--once"]);
    let times = place.query(
        "SELECT segment, min(timestamp) AS first, max(timestamp) AS last FROM raw.payments GROUP BY segment ORDER BY last",
    );
    assert!(times.len() > 1, "{times:?}");
    let latest = times.last().unwrap()["last"].as_str().unwrap();
    let replay =
        |more: &[&str]| place.run_well(&[&["replay", "--pipeline", "fraud", "--clock", "record"], more].concat());
    replay(&["--since", latest]);
    let asked = place.query("SELECT segment FROM ledger.again");
    let at_last: Vec<_> = times.iter().filter(|row| row["last"].as_str() == Some(latest)).collect();
    assert!(at_last.iter().all(|row| asked.iter().any(|asked| asked["segment"] == row["segment"])));
    assert!(asked.len() < times.len(), "{asked:?} of {times:?}");
    assert!(replay(&["--until", "2001-01-01"]).contains("has loaded no such segment"));
    assert!(replay(&["--dry-run"]).contains(&format!("{} segments", times.len())));
}
