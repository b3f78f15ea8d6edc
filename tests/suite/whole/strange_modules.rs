//! Modules, assets and configs that are wrong: each is refused with the way out, and what was active goes on.

use std::path::PathBuf;
use std::sync::OnceLock;

use super::seen::{PLAIN, check};
use super::support::{Place, cargo, fraud_wasm, payments};

/// A component of `tests/evil/guest`: the misbehaving rule (`evil`), or one that no sandbox may load (`evil_network`, …).
pub(crate) fn guest(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    let target = fraud_wasm().ancestors().nth(3).unwrap().to_owned();
    BUILT.get_or_init(|| {
        let arguments = "build --quiet -p evil --lib --examples --target wasm32-wasip2 --profile guest";
        cargo(&arguments.split(' ').collect::<Vec<_>>());
    });
    let folder = target.join("wasm32-wasip2/guest");
    match name {
        "evil" => folder.join("evil.wasm"),
        example => folder.join(format!("examples/{example}.wasm")),
    }
}

fn copy(place: &Place, from: &str, to: &str) {
    std::fs::copy(guest(from), place.path(&format!("modules/{to}"))).unwrap();
}

#[test]
fn files_that_are_no_modules_are_refused_one_by_one_and_the_pipeline_runs() {
    let place = Place::new();
    place.write("modules/a-text.wasm", "this is not wasm");
    place.write("modules/b-empty.wasm", "");
    place.write_bytes("modules/c-core.wasm", b"\0asm\x01\0\0\0");
    copy(&place, "evil_network", "d-network.wasm");
    copy(&place, "evil_future", "e-future.wasm");
    copy(&place, "evil_describe", "f-describe.wasm");
    let half = std::fs::read(guest("evil")).unwrap();
    place.write_bytes("modules/g-half.wasm", &half[..half.len() / 2]);
    place.write("inbox/a.jsonl", &payments(0..100));
    let seen = place.sees(&["run", "--once"]);
    // At which byte the half is found out is the toolchain's.
    let seen: Vec<_> = seen.lines().map(|line| line.split(" (at offset").next().unwrap()).collect();
    check("modules-refused", &seen.join("\n"));
    assert_eq!(place.rows("lake.payments"), 100);
    place.adds_up();
}

/// The plain stream with one step.
fn with_step(step: &str) -> String {
    PLAIN.replace("[pipelines.plain.routes]", &format!("[[pipelines.plain.steps]]\n{step}\n\n[pipelines.plain.routes]"))
}

#[test]
fn a_module_that_traps_in_bind_fails_what_would_use_it_and_nothing_is_lost() {
    let config = with_step("module = \"evil\"\nconfig = { behaviour = \"panic_bind\", columns = [\"id\", \"Time\"] }");
    let place = Place::with(&config);
    copy(&place, "evil", "evil.wasm");
    place.write("inbox/a.jsonl", &payments(0..100));
    check("bind-traps", &place.sees(&["run", "--once"]));
    assert_eq!(place.number("SELECT count(*) FROM ledger.segments"), 1, "raw data has landed");
    let well = with_step("module = \"evil\"\nconfig = { behaviour = \"passes\" }");
    place.write("forebay.toml", &well);
    place.write("questions.toml", &well);
    place.run_well(&["run", "--once"]);
    assert_eq!(place.rows("lake.events"), 100);
    place.adds_up();
}

#[test]
fn a_module_or_an_asset_that_is_missing_is_named() {
    let place = Place::with(&with_step("module = \"nowhere\""));
    place.write("inbox/a.jsonl", &payments(0..10));
    check("module-missing", &place.sees(&["run", "--once"]));
    let place = Place::with(&with_step(
        "module = \"evil\"\nassets = { notes = \"notes.txt\" }\nconfig = { behaviour = \"passes\" }",
    ));
    copy(&place, "evil", "evil.wasm");
    place.write("inbox/a.jsonl", &payments(0..10));
    check("asset-missing", &place.sees(&["run", "--once"]));
    place.write("notes.txt", "here now");
    place.run_well(&["run", "--once"]);
    assert_eq!(place.rows("lake.events"), 10);
    place.adds_up();
    let place = Place::with(&with_step(
        "module = \"evil\"\nassets = { nots = \"notes.txt\" }\nconfig = { behaviour = \"passes\" }",
    ));
    copy(&place, "evil", "evil.wasm");
    place.write("notes.txt", "not what it asks for");
    place.write("inbox/a.jsonl", &payments(0..10));
    check("asset-unknown", &place.sees(&["run", "--once"]));
}

#[test]
fn a_damaged_file_in_the_module_cache_is_made_again() {
    let place = Place::new();
    place.write("inbox/a.jsonl", &payments(0..10));
    place.run_well(&["run", "--once"]);
    let cached = || {
        let mut files: Vec<_> =
            std::fs::read_dir(place.path(".forebay-cache")).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    };
    let whole: Vec<_> = cached().iter().map(|path| std::fs::read(path).unwrap()).collect();
    for (path, bytes) in cached().iter().zip(&whole) {
        let mut bytes = bytes.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        std::fs::write(path, bytes).unwrap();
    }
    place.write("inbox/b.jsonl", &payments(10..20));
    check("cache-damaged", &place.sees(&["run", "--once"]));
    let again: Vec<_> = cached().iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert!(again == whole, "it is whole again");
    assert_eq!(place.rows("lake.payments"), 20);
    place.adds_up();
}

#[test]
fn what_a_config_says_wrongly_is_named_with_the_nearest_right_word() {
    let place = Place::with(PLAIN);
    place.write("inbox/a.jsonl", &payments(0..10));
    place.run_well(&["run", "--once"]);
    let wrong = PLAIN
        .replace("settle_milliseconds", "setle_milliseconds")
        .replace("[warehouses.lake]", "[warehouses.lake]\nkind = \"delta\"")
        .replace("[modules]", "[module]")
        .replace("from = \"events\"", "form = \"events\"");
    place.write("forebay.toml", &wrong);
    check("config-wrong", &place.sees(&["run", "--once"]));
    place.write("forebay.toml", PLAIN);
    place.write("inbox/b.jsonl", &payments(10..20));
    place.run_well(&["run", "--once"]);
    assert_eq!(place.rows("lake.events"), 20);
    place.adds_up();
}
