//! Cases that a module carries: packed when it is built, run when it is deployed, whichever way it comes.

use std::path::{Path, PathBuf};

use forebay_sandbox::with_cases_section;
use serde_json::{Value, json};

use super::seen::check;
use super::strange_modules::guest;
use super::support::{CONFIG, Place, fraud_wasm, keep_wasm, payments};

/// The last seven bits.
fn low(number: usize) -> u8 {
    number.to_le_bytes()[0] & 0x7f
}

/// A number as the archive writes it.
fn number(mut number: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while number > 0x7f {
        out.push(low(number) | 0x80);
        number >>= 7;
    }
    out.push(low(number));
    out
}

/// The archive of these files, written by its documentation and not by the code that reads it.
fn archive(files: &[(String, String)]) -> Vec<u8> {
    let mut plain = number(files.len());
    for (path, content) in files {
        plain.extend([number(path.len()), path.clone().into(), number(content.len()), content.clone().into()].concat());
    }
    [vec![1], zstd::bulk::compress(&plain, 3).unwrap()].concat()
}

/// A case of a module: its input, config, and the rows of a route.
fn case(name: &str, config: &str, input: &str, (route, rows): (&str, &str)) -> Vec<(String, String)> {
    [("config.toml", config), ("input.jsonl", input), (&format!("expected/{route}.jsonl"), rows)]
        .map(|(path, content)| (format!("{name}/{path}"), content.to_owned()))
        .to_vec()
}

/// What `keep` makes of two rows where one is kept.
fn keeps(name: &str, row: &str) -> Vec<(String, String)> {
    let input = "{\"id\":1,\"amount\":1.5}\n{\"id\":2,\"amount\":2.5}\n";
    case(name, "column = \"amount\"\nabove = 2.0\n", input, ("out", &format!("{row}\n")))
}

const RIGHT: &str = "{\"id\":2,\"amount\":2.5}";
const WRONG: &str = "{\"id\":2,\"amount\":2.75}";

/// A module with a section of cases, in the place's folder.
fn with(place: &Place, name: &str, module: &Path, section: &[u8]) -> PathBuf {
    let wasm = with_cases_section(&std::fs::read(module).unwrap(), section).unwrap();
    place.write_bytes(name, &wasm);
    place.path(name)
}

/// A pipeline whose one step is `keep`.
fn config() -> String {
    let step = "module = \"keep\"\nconfig = { column = \"Amount\", above = 10.0 }";
    let config = CONFIG.replace("module = \"fraud\"\nconfig = { v14_below = -8.0 }", step);
    config.replace("scored = \"lake.payments\"\nflagged = \"lake.flagged_payments\"", "out = \"lake.payments\"")
}

fn states(place: &Place) -> Value {
    let rows = place.query("SELECT revision, state FROM ledger.deployments ORDER BY number");
    rows.iter().map(|row| json!([row["revision"], row["state"]])).collect()
}

/// A place whose pipeline keeps some rows, by a module that carries a case it passes.
fn keeping() -> Place {
    let place = Place::with(&config());
    with(&place, "modules/keep.wasm", keep_wasm(), &archive(&keeps("first", RIGHT)));
    place.write("inbox/a.jsonl", &payments(0..100));
    place
}

#[test]
fn a_deployment_whose_cases_do_not_pass_is_refused_and_what_was_active_goes_on() {
    let place = keeping();
    let running = place.start();
    place.until("the first file is loaded", || place.rows("lake.payments") == 90);
    let compiled = || std::fs::read_dir(place.path(".forebay-cache")).unwrap().count();
    let once = compiled();
    let files = [keeps("first", RIGHT), keeps("second", WRONG), keeps("third", WRONG)].concat();
    with(&place, "wrong.wasm", keep_wasm(), &archive(&files));
    let mut seen = place.sees(&["deploy", "wrong.wasm"]);
    seen += "\n--- with the folder\n";
    seen += &place.sees(&["test", "--module", "wrong.wasm"]);
    check("packed-deploy", &sized(&seen));
    assert_eq!(states(&place), json!([[1, "active"], [2, "refused"]]));
    // Whoever asks for that revision itself is refused too: it never ran.
    let back = place.sees(&["rollback", "fraud", "--to", "2"]);
    assert!(back.starts_with("exit 1") && back.contains("its own case second"), "{back}");
    place.write("inbox/b.jsonl", &payments(100..200));
    place.until("the second file is loaded", || place.rows("lake.payments") == 180);
    with(&place, "right.wasm", keep_wasm(), &archive(&keeps("other", RIGHT)));
    let deployed = place.run_well(&["deploy", "right.wasm"]);
    assert!(deployed.contains("fraud: revision 3") && deployed.contains("is active"), "{deployed}");
    assert_eq!(compiled(), once, "modules that differ in their cases alone share what was compiled");
    check("packed-show", &steadied(&place.sees(&["modules", "show", "keep"])));
    assert!(running.stop().success());
    // For the next start it is the same.
    let offline = place.sees(&["deploy", "wrong.wasm", "--offline"]);
    assert!(offline.starts_with("exit 1") && offline.contains("pipeline fraud refuses it: module keep"), "{offline}");
    place.adds_up();
}

/// How long a module is depends on where it was built.
pub(crate) fn sized(text: &str) -> String {
    let mut words = Vec::new();
    for line in text.lines() {
        words.push(match (line.find("@sha256:"), line.find(" KiB)")) {
            (Some(from), Some(to)) => format!("{}@sha256:[sha256] ([size] {}", &line[..from], &line[to + 1..]),
            _ => line.to_owned(),
        });
    }
    words.join("\n")
}

fn steadied(text: &str) -> String {
    let line = |line: &str| {
        if line.starts_with("  sha256:") {
            "  sha256:[sha256]".to_owned()
        } else if line.contains(" from deploy:") {
            "  [size] from deploy:right.wasm, [time]".to_owned()
        } else {
            line.to_owned()
        }
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn cases_that_no_build_packed_are_refused_with_what_is_wrong() {
    let place = keeping();
    let running = place.start();
    place.until("the file is loaded", || place.rows("lake.payments") == 90);
    let good = archive(&keeps("first", RIGHT));
    let many: Vec<_> = (0..2_000).flat_map(|number| keeps(&format!("case-{number}"), RIGHT)).collect();
    let climbing = vec![("../../etc/input.jsonl".to_owned(), "{}".to_owned())];
    let bomb = zstd::bulk::compress(&vec![0; 256 << 20], 3).unwrap();
    assert!(bomb.len() < 64 << 10);
    let mut seen = String::new();
    for (what, section) in [
        ("no archive", b"\x01this is no archive".to_vec()),
        ("half an archive", good[..good.len() / 2].to_vec()),
        ("another version", vec![2, 0, 0]),
        ("a bomb", [vec![1], bomb].concat()),
        ("a path that climbs", archive(&climbing)),
        ("thousands of cases", archive(&many)),
    ] {
        with(&place, "bad.wasm", keep_wasm(), &section);
        seen += &format!("{what}\n{}\n", place.sees(&["deploy", "bad.wasm"]));
    }
    // The file itself ends within the section.
    let whole = std::fs::read(with(&place, "bad.wasm", keep_wasm(), &good)).unwrap();
    place.write_bytes("bad.wasm", &whole[..whole.len() - 10]);
    let cut = place.sees(&["deploy", "bad.wasm"]);
    seen += &format!("a file that was cut off\n{}\n", cut.split(" (at offset").next().unwrap());
    check("packed-bad", &masked(&seen));
    let kept: Vec<_> = std::fs::read_dir(place.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!kept.iter().any(|name| name == "etc"), "{kept:?}");
    assert!(running.stop().success());
    place.adds_up();
}

/// Without digests.
fn masked(text: &str) -> String {
    let mut parts = text.split("sha256:");
    let mut out = parts.next().unwrap().to_owned();
    for part in parts {
        out += &format!("sha256:[sha256]{}", part.trim_start_matches(|c: char| c.is_ascii_hexdigit()));
    }
    out
}

#[test]
fn a_case_that_loops_is_stopped_by_the_limits_of_its_pipeline() {
    let step = "module = \"evil\"\nconfig = { behaviour = \"passes\" }";
    let config = config().replace("module = \"keep\"\nconfig = { column = \"Amount\", above = 10.0 }", step);
    let place = Place::with(&config.replace("from = \"payments\"", "from = \"payments\"\nlimits = { call_ms = 200 }"));
    std::fs::copy(guest("evil"), place.path("modules/evil.wasm")).unwrap();
    place.write("inbox/a.jsonl", &payments(0..100));
    let running = place.start();
    place.until("the file is loaded", || place.rows("lake.payments") == 100);
    let input = "{\"id\":1}\n{\"id\":2}\n";
    let looping = case("spins", "behaviour = \"loop_process\"\ncolumns = [\"id\"]\n", input, ("out", ""));
    with(&place, "loops.wasm", &guest("evil"), &archive(&looping));
    let told = place.sees(&["deploy", "loops.wasm"]);
    let told: Vec<_> = told.lines().filter(|line| !line.trim_start().starts_with("at ")).collect();
    check("packed-loops", &told.join("\n"));
    let state =
        case("counts", "behaviour = \"state\"\ncolumns = [\"id\"]\n", input, ("out", "{\"id\":1}\n{\"id\":2}\n"));
    with(&place, "state.wasm", &guest("evil"), &archive(&state));
    check("packed-state", &place.sees(&["deploy", "state.wasm"]));
    // What it says of rows that are made up is no news.
    let talking = case("talks", "behaviour = \"long_line\"\ncolumns = [\"id\"]\n", input, ("out", ""));
    with(&place, "talks.wasm", &guest("evil"), &archive(&talking));
    let told = place.sees(&["deploy", "talks.wasm"]);
    assert!(told.starts_with("exit 0") && !place.log().contains("xxxx"), "{told}\n{}", place.log());
    // Data flows on meanwhile.
    place.write("inbox/b.jsonl", &payments(100..200));
    place.until("the second file is loaded", || place.rows("lake.payments") == 200);
    assert!(running.stop().success());
    place.adds_up();
}

#[test]
fn the_folder_and_the_config_bring_no_module_that_fails_its_cases() {
    let place = Place::new();
    let running = place.start();
    place.write("inbox/a.jsonl", &payments(0..100));
    place.until("the first file is loaded", || place.rows("lake.payments") == 100);
    // Nobody uses it yet, so nobody tries it.
    with(&place, "modules/keep.wasm", keep_wasm(), &archive(&keeps("first", WRONG)));
    place.until_told("module is active", 2);
    place.write("forebay.toml", &config());
    let refused = place.until_told("revision refused", 1);
    assert!(refused["error"].as_str().unwrap().contains("its own case first (1 of 1)"), "{refused}");
    place.write("inbox/b.jsonl", &payments(100..200));
    place.until("the second file is loaded", || place.rows("lake.payments") == 200);
    // With the right module the config is taken too.
    with(&place, "modules/keep.wasm", keep_wasm(), &archive(&keeps("first", RIGHT)));
    place.until_told("revision is active", 2);
    place.until_told("module is active", 3);
    with(&place, "modules/keep.wasm", keep_wasm(), &archive(&keeps("again", WRONG)));
    let refused = place.until_told("module refused: no pipeline takes it", 1);
    assert!(refused["error"].as_str().unwrap().contains("its own case again"), "{refused}");
    place.write("inbox/c.jsonl", &payments(200..300));
    place.until("the third file is loaded", || place.rows("lake.payments") == 290);
    assert!(running.stop().success());
    place.adds_up();
}

#[test]
fn a_host_that_dies_while_it_tries_cases_goes_on_with_what_was_active() {
    let place = keeping();
    place.run_well(&["run", "--once"]);
    let running = place.start_with("FOREBAY_FAILPOINT", "before_cases");
    // What is active is not tried again at a start.
    place.write("inbox/b.jsonl", &payments(100..200));
    place.until("the second file is loaded", || place.rows("lake.payments") == 180);
    with(&place, "new.wasm", keep_wasm(), &archive(&keeps("new", RIGHT)));
    let told = place.sees(&["deploy", "new.wasm"]);
    assert!(told.contains("has stopped without an answer"), "{told}");
    drop(running);
    assert_eq!(states(&place), json!([[1, "active"]]));
    // One of the folder is new again.
    std::fs::copy(place.path("new.wasm"), place.path("modules/new.wasm")).unwrap();
    place.dies_at("before_cases", &["run", "--once"]);
    assert_eq!(states(&place), json!([[1, "active"]]));
    place.write("inbox/c.jsonl", &payments(200..300));
    place.run_well(&["run", "--once"]);
    assert_eq!(place.rows("lake.payments"), 270);
    assert_eq!(states(&place), json!([[1, "retired"], [2, "active"]]));
    place.adds_up();
}

#[test]
fn a_first_module_that_fails_its_cases_loads_nothing_and_its_data_waits() {
    let place = keeping();
    with(&place, "modules/keep.wasm", keep_wasm(), &archive(&keeps("first", WRONG)));
    check("packed-plan", &masked(&place.sees(&["plan"])));
    check("packed-first", &masked(&place.sees(&["run", "--once"])));
    with(&place, "modules/keep.wasm", keep_wasm(), &archive(&keeps("first", RIGHT)));
    place.run_well(&["run", "--once"]);
    assert_eq!(place.rows("lake.payments"), 90);
    place.adds_up();
}

#[test]
fn a_finished_module_is_tested_with_what_it_carries() {
    let place = Place::with(&config());
    with(&place, "keep.wasm", keep_wasm(), &archive(&[keeps("first", RIGHT), keeps("late", RIGHT)].concat()));
    std::fs::copy(fraud_wasm(), place.path("none.wasm")).unwrap();
    with(&place, "bad.wasm", keep_wasm(), b"\x01nothing");
    let mut seen = String::new();
    for more in ["keep.wasm", "keep.wasm --case late --json", "keep.wasm --case lat", "keep.wasm --update", "none.wasm"]
    {
        let arguments: Vec<_> = ["test", "--module"].into_iter().chain(more.split(' ')).collect();
        seen += &format!("{more}\n{}\n", place.sees(&arguments));
    }
    seen += &place.sees(&["test", "--module", "bad.wasm"]);
    check("packed-test", &sized(&seen));
}

/// The words of a bench with its figures masked, and the widths that follow from them.
fn figures(text: &str) -> String {
    let word = |word: &str| {
        let figure = word.bytes().next().is_some_and(|byte| byte.is_ascii_digit());
        let kept = word == "8,192";
        if figure && !kept { "[n]".to_owned() } else { word.to_owned() }
    };
    let line = |line: &str| match line.strip_prefix("exit ") {
        Some(_) => line.to_owned(),
        None => line.split_whitespace().map(word).collect::<Vec<_>>().join(" ").replace("kB", "MB"),
    };
    sized(&text.lines().map(line).collect::<Vec<_>>().join("\n"))
}

#[test]
fn a_rule_is_measured_beside_what_is_deployed_and_another_module() {
    let place = keeping();
    place.run_well(&["run", "--once"]);
    with(&place, "keep.wasm", keep_wasm(), &archive(&keeps("first", RIGHT)));
    let bench = ["test", "--module", "keep.wasm", "--bench"];
    let mut seen = figures(&place.sees(&[&bench[..], &["--against", "modules/keep.wasm"]].concat()));
    // Another module, which the case's config does not fit.
    seen += "\n--- against fraud\n";
    std::fs::copy(fraud_wasm(), place.path("fraud.wasm")).unwrap();
    seen += &figures(&place.sees(&[&bench[..], &["--against", "fraud.wasm"]].concat()));
    seen += "\n--- without rows, a module, a config\n";
    place.write_bytes(
        "none.wasm",
        &std::fs::read(with(
            &place,
            "none.wasm",
            keep_wasm(),
            &archive(&{ case("none", "column = \"amount\"\nabove = 2.0\n", "", ("out", "")) }),
        ))
        .unwrap(),
    );
    seen += &(figures(&place.sees(&["test", "--module", "none.wasm", "--bench"])) + "\n");
    seen += &(figures(&place.sees(&[&bench[..], &["--against", "nowhere.wasm"]].concat())) + "\n");
    seen += &figures(&place.sees(&[&bench[..], &["-c", "nowhere.toml"]].concat()));
    check("bench", &seen);
    let told = place.run_well(&[&bench[..], &["--json"]].concat());
    let told: Value = serde_json::from_str(&told).unwrap();
    for module in told["modules"].as_array().unwrap() {
        let of = |key: &str| module[key].as_f64().unwrap();
        assert!(of("rows_per_second") > 1_000.0 && of("ns_per_row") > 0.0, "{module}");
        // Neither the rule nor what is around it takes no time.
        assert!((0.001..0.999).contains(&of("boundary")) && of("memory_bytes") > 65_536.0, "{module}");
    }
    assert_eq!(told["modules"].as_array().unwrap().len(), 2, "{told}");
}
