//! The rule author's loop with the real binary and the real cargo: a crate that builds at once, what its module is, and cases that
//! run in the sandbox as they run natively.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::{ArrayRef, Float64Array, Int32Array, RecordBatch};
use parquet::arrow::ArrowWriter;
use tempfile::TempDir;

use super::seen::{check, steady};
use super::strange_modules::guest;
use super::support::{
    Place, expr_wasm, forebay, fraud_wasm, keep_wasm, normalize_wasm, payments, target_folder, texts,
};

/// A folder of an author's.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// The exit code and both outputs of a verb.
    fn sees(&self, folder: &str, arguments: &[&str]) -> String {
        let mut command = std::process::Command::new(forebay());
        command.args(arguments).args(["--quiet", "--log-format", "human"]).current_dir(self.path(folder));
        // What a rule is built with has been built for the rules of this repository.
        command.env("CARGO_NET_OFFLINE", "true").env("CARGO_TARGET_DIR", target_folder());
        command.env("RUST_BACKTRACE", "0");
        let output = command.output().unwrap();
        let (out, err) = texts(&output);
        let text = format!("exit {}\n{out}{err}", output.status.code().unwrap());
        let real = self.0.path().canonicalize().unwrap();
        let named = |path: &Path| path.display().to_string();
        steady(&text.replace(&named(&target_folder()), "[target]").replace(&named(&real), "[desk]"))
    }

    fn tests(&self, module: &Path, more: &[&str]) -> String {
        let module = module.display().to_string();
        self.sees("", &[&["test", "--module", &module, "--cases", "cases"], more].concat())
    }
}

/// How long a module is depends on where it was built.
fn sizes(text: &str) -> String {
    let parts: Vec<_> = text.split(" KiB").collect();
    let (last, before) = parts.split_last().unwrap();
    let sized = before.iter().map(|part| part.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned() + "[size] KiB");
    sized.collect::<String>() + last
}

/// Two tests write a rule of this name, and cargo puts what it builds of them into the same folder.
static LARGE_PAYMENTS: Mutex<()> = Mutex::new(());

fn transforms() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../transforms")
}

#[test]
fn a_new_rule_builds_at_once_and_passes_its_case() {
    let _alone = LARGE_PAYMENTS.lock().unwrap_or_else(PoisonError::into_inner);
    let desk = Desk::new();
    check("author-new", &desk.sees("", &["new", "rule", "rules/large-payments"]));
    let rule = "rules/large-payments";
    let lock = fs::read_to_string(desk.path(rule).join("Cargo.lock")).unwrap();
    check("author-new-build", &sizes(&desk.sees(rule, &["build"])));
    check("author-new-test", &sizes(&desk.sees(rule, &["test"])));
    let after = fs::read_to_string(desk.path(rule).join("Cargo.lock")).unwrap();
    assert_eq!(lock, after, "cargo found nothing to change in the lock file");

    // A value that nobody thought of, and the smallest row that has it.
    let source = desk.path(rule).join("src/lib.rs");
    let sound = fs::read_to_string(&source).unwrap();
    check("author-fuzz", &sizes(&desk.sees(rule, &["test", "--fuzz", "100"])));
    let fragile = sound
        .replace("if payment.amount < 0.0 {", "assert!(payment.amount.abs() < 1e300);\n if payment.amount < 0.0 {");
    assert_ne!(fragile, sound);
    fs::write(&source, fragile).unwrap();
    let found = desk.sees(rule, &["test", "--fuzz", "100"]);
    let found: Vec<_> = found.lines().filter(|line| !line.trim_start().starts_with("at ")).collect();
    check("author-fuzz-traps", &sizes(&found.join("\n")));

    // What is wrong in the crate is cargo's to say, and it is told that it was said.
    desk.write(&format!("{rule}/src/lib.rs"), "fn broken( {}\n");
    let broken = desk.sees(rule, &["test"]);
    assert!(broken.starts_with("exit 1\nerror: ") && broken.contains("src/lib.rs:_"), "{broken}");
    let end = "error: large-payments does not build\nhint: cargo says why, above\n";
    assert!(broken.ends_with(end), "{broken}");
}

#[test]
fn a_new_rule_may_use_the_sdk_of_a_clone() {
    let desk = Desk::new();
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest-sdk").canonicalize().unwrap();
    let arguments = ["new", "rule", "fx", "--template", "enrich", "--sdk-path", &sdk.display().to_string()];
    assert!(desk.sees("", &arguments).starts_with("exit 0"));
    assert!(!desk.path("fx/sdk").exists());
    check("author-enrich-build", &sizes(&desk.sees("fx", &["build"])));
    check("author-enrich-test", &sizes(&desk.sees("fx", &["test"])));
}

#[test]
fn a_new_rule_may_name_a_version_of_the_sdk() {
    let desk = Desk::new();
    let mut seen = desk.sees("", &["new", "rule", "fx", "--sdk-version", "0.1"]);
    let read = |name: &str| fs::read_to_string(desk.path("fx").join(name)).unwrap();
    assert!(!desk.path("fx/sdk").exists() && !desk.path("fx/Cargo.lock").exists());
    write!(seen, "\n--- Cargo.toml\n{}\n", read("Cargo.toml")).unwrap();
    for wrong in
        [&["--sdk-version", "newest"][..], &["--sdk-version", "*"], &["--sdk-version", "0.1", "--sdk-path", "x"]]
    {
        seen += &desk.sees("", &[&["new", "rule", "other"], wrong].concat());
    }
    assert!(!desk.path("other").exists(), "nothing was written");
    check("author-sdk-version", &seen);
}

#[test]
fn a_case_may_be_parquet() {
    let desk = Desk::new();
    desk.write("cases/typed/config.toml", "column = \"amount\"\nabove = 2.0\n");
    let file = fs::File::create(desk.path("cases/typed/input.parquet")).unwrap();
    let (id, amount) = (Int32Array::from(vec![1, 2]), Float64Array::from(vec![Some(1.5), Some(2.5)]));
    let columns: [(&str, ArrayRef); 2] = [("id", Arc::new(id)), ("amount", Arc::new(amount))];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let mut seen = desk.tests(keep_wasm(), &["--update"]);
    seen += &desk.tests(keep_wasm(), &[]);
    fs::write(desk.path("cases/typed/input.parquet"), "no parquet").unwrap();
    seen += &desk.tests(keep_wasm(), &[]);
    check("author-parquet", &sizes(&seen));
}

#[test]
fn what_a_crate_lacks_is_said_with_what_to_type() {
    let desk = Desk::new();
    let manifest = "[package]\nname = \"plain\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";
    let mut seen = desk.sees("", &["build"]);
    desk.write("a/src/lib.rs", "");
    desk.write("a/Cargo.toml", manifest);
    seen += &desk.sees("", &["build", "a"]);
    desk.write("a/Cargo.toml", &format!("{manifest}[lib]\ncrate-type = [\"cdylib\"]\n"));
    seen += &desk.sees("", &["build", "a"]);
    desk.write("b/Cargo.toml", "[workspace]\nmembers = [\"c\"]\nresolver = \"3\"\n");
    desk.write("b/c/Cargo.toml", manifest);
    desk.write("b/c/src/lib.rs", "");
    seen += &desk.sees("", &["build", "b"]);
    // A module of no world: the crate has no rule in it.
    let profile = "[lib]\ncrate-type = [\"cdylib\"]\n[profile.guest]\ninherits = \"release\"\n";
    desk.write("a/Cargo.toml", &format!("{manifest}{profile}"));
    seen += &desk.sees("", &["build", "a"]);
    check("author-lacks", &seen);
}

#[test]
fn native_tests_are_cargos() {
    let desk = Desk::new();
    desk.write(
        "a/Cargo.toml",
        "[package]\nname = \"plain\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[lib]\ncrate-type = [\"cdylib\", \"rlib\"]\n\
         [profile.guest]\ninherits = \"release\"\n[workspace]\n",
    );
    desk.write("a/src/lib.rs", "#[test]\nfn updates() { assert!(std::env::var_os(\"UPDATE_CASES\").is_some()) }\n");
    let native = |more: &[&str]| desk.sees("", &[&["test", "a", "--native"], more].concat());
    assert!(native(&["--update"]).starts_with("exit 0\nplain: native tests passed\n"), "{}", native(&["--update"]));
    assert!(native(&[]).starts_with("exit 1\nplain: native tests failed\n"), "{}", native(&[]));
    let told = native(&["--json"]);
    assert!(told.starts_with("exit 1\n{\"crate\":\"plain\",\"native\":true,\"passed\":false}\n"), "{told}");
}

/// `docs/rules.md` shows commands that work, one after the other.
#[test]
fn the_commands_of_the_docs_work() {
    let _alone = LARGE_PAYMENTS.lock().unwrap_or_else(PoisonError::into_inner);
    let desk = Desk::new();
    let docs = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/rules.md")).unwrap();
    let mut folder = String::new();
    let mut ran = 0;
    let blocks = docs.split("```console\n").skip(1).map(|block| block.split("```").next().unwrap());
    for line in blocks.flat_map(str::lines).filter_map(|line| line.strip_prefix("$ ")) {
        let words: Vec<_> = line.split(" #").next().unwrap().split_whitespace().collect();
        match words[..] {
            ["cd", to] => to.clone_into(&mut folder),
            ["forebay", ref arguments @ ..] => {
                let seen = desk.sees(&folder, arguments);
                assert!(seen.starts_with("exit 0"), "{line}: {seen}");
                ran += 1;
            }
            _ => panic!("{line:?} is not tried"),
        }
    }
    assert!(ran > 4, "{ran} commands");
}

#[test]
fn productions_records_become_a_case_with_masked_columns() {
    let place = Place::new();
    place.write("inbox/a.jsonl", &(payments(0..12) + "no json\n"));
    place.run(&["run", "--once"]);
    let segment = place.query("SELECT segment FROM ledger.segments")[0]["segment"].as_str().unwrap().to_owned();
    let module = fraud_wasm().display().to_string();
    let base = ["test", "--module", &module, "--cases", "cases"];
    let test = |more: &[&str]| sizes(&place.sees(&[&base, more].concat()));
    let mut seen = test(&["--from-segment", &segment]);
    seen += &test(&["--from-segment", &segment, "--rows", "3", "--write-case", "taken", "--mask", "id,Amount"]);
    let read = |name: &str| fs::read_to_string(place.path("cases/taken").join(name)).unwrap();
    write!(seen, "\n--- input.jsonl\n{}--- config.json\n{}", read("input.jsonl"), read("config.json")).unwrap();
    seen += &test(&[]);
    seen += &test(&["--from-segment", &segment, "--write-case", "taken"]);
    seen += &test(&["--from-segment", &segment, "--write-case", "../taken"]);
    seen += &test(&["--from-segment", &segment, "--mask", "amount"]);
    seen += &test(&["--from-segment", "zzz"]);
    check("author-from-segment", &seen.replace("exit ", "\nexit "));
    assert_eq!(read("input.jsonl").lines().count(), 3);
}

/// The rules of this repository: `cargo test` runs the same folders natively.
#[test]
fn cases_of_our_rules_pass_in_the_sandbox() {
    let desk = Desk::new();
    let mut seen = String::new();
    let modules =
        [("expr", expr_wasm()), ("fraud", fraud_wasm()), ("keep", keep_wasm()), ("normalize", normalize_wasm())];
    for (name, module) in modules {
        let cases = transforms().join(name).join("cases").display().to_string();
        let module = module.display().to_string();
        seen += &desk.sees("", &["test", "--module", &module, "--cases", &cases]);
    }
    check("author-our-cases", &sizes(&seen));
}

#[test]
fn a_rule_whose_answer_depends_on_the_batch_is_found_out() {
    let desk = Desk::new();
    for behaviour in ["state", "calls", "identity"] {
        desk.write(&format!("cases/{behaviour}/input.jsonl"), "{\"id\":1}\n{\"id\":2}\n{\"id\":3}\n{\"id\":4}\n");
        desk.write(
            &format!("cases/{behaviour}/config.toml"),
            &format!("behaviour = \"{behaviour}\"\ncolumns = [\"id\"]\n"),
        );
    }
    // Also what is written as expected has to be the same in any batch.
    check("author-state", &sizes(&desk.tests(&guest("evil"), &["--update"])));
    check("author-state-json", &desk.tests(&guest("evil"), &["--case", "state", "--json"]));
}

/// Its instance is kept from segment to segment, and counts.
#[test]
fn a_rule_that_answers_otherwise_the_second_time_is_found_out() {
    let desk = Desk::new();
    desk.write("cases/again/input.jsonl", "{\"id\":1}\n{\"id\":2}\n");
    desk.write("cases/again/config.toml", "behaviour = \"calls\"\ncolumns = [\"id\"]\nreusable = true\n");
    check("author-again", &sizes(&desk.tests(&guest("evil"), &["--update"])));
    assert!(!desk.path("cases/again/expected").exists(), "what it made once is not what is expected");
}

#[test]
fn what_differs_is_told_by_case_route_row_and_column() {
    let desk = Desk::new();
    let rows: String = (0..9).map(|id| format!("{{\"id\":{id},\"note\":null,\"amount\":{id}.5}}\n")).collect();
    desk.write("cases/first/input.jsonl", &rows);
    desk.write("cases/first/config.toml", "column = \"amount\"\nabove = 2.0\n");
    let mut seen = desk.tests(keep_wasm(), &[]);
    seen += &desk.tests(keep_wasm(), &["--update"]);
    let out = desk.path("cases/first/expected/out.jsonl");
    let written = fs::read_to_string(&out).unwrap();
    seen += &desk.tests(keep_wasm(), &[]);
    fs::write(&out, written.replace("2.5", "2.25").replace("{\"id\":8,\"amount\":8.5}\n", "")).unwrap();
    desk.write("cases/first/expected/elsewhere.jsonl", "{}\n");
    desk.write("cases/first/expected/rejects.jsonl", "{\"row\":0,\"code\":\"small\",\"message\":\"too small\"}\n");
    seen += &desk.tests(keep_wasm(), &[]);
    check("author-differs", &sizes(&format!("{seen}--- expected/out.jsonl\n{written}")));
}

#[test]
fn a_case_that_is_none_says_why() {
    let desk = Desk::new();
    let mut seen = desk.tests(keep_wasm(), &[]);
    let config = "column = \"amount\"\nabove = 2.0\n";
    for (name, input) in [
        ("conflict", "{\"amount\":1}\n{\"amount\":\"much\"}\n{\"amount\":2}\n"),
        ("malformed", "{\"amount\":1}\n{\"amount\":\n"),
        ("nothing", "{\"amount\":null}\n"),
    ] {
        desk.write(&format!("cases/{name}/input.jsonl"), input);
        desk.write(&format!("cases/{name}/config.toml"), config);
    }
    desk.write("cases/ragged/input.csv", "amount,id\n1,2\n3\n");
    desk.write("cases/ragged/config.toml", config);
    desk.write("cases/key/input.csv", "amount,id\n1,2\n");
    desk.write("cases/key/config.toml", "colunm = \"amount\"\n");
    desk.write("cases/toml/input.csv", "amount,id\n1,2\n");
    desk.write("cases/toml/config.toml", "column = \n");
    fs::create_dir(desk.path("cases/empty")).unwrap();
    seen += &desk.tests(keep_wasm(), &[]);
    seen += &desk.tests(keep_wasm(), &["--case", "emtpy"]);
    check("author-no-case", &sizes(&seen));
}

#[test]
fn a_rule_that_fails_on_a_record_does_not_pass_its_case() {
    let desk = Desk::new();
    let rows: String = (0..1_010).map(|id| format!("{{\"id\":{id}}}\n")).collect();
    for behaviour in ["panic_7th", "panic", "short_buffer", "loop_process", "panic_bind"] {
        desk.write(&format!("cases/{behaviour}/input.jsonl"), &rows);
        desk.write(
            &format!("cases/{behaviour}/config.toml"),
            &format!("behaviour = \"{behaviour}\"\ncolumns = [\"id\"]\n"),
        );
    }
    let seen = desk.tests(&guest("evil"), &["--update"]);
    assert!(!desk.path("cases/panic_7th/expected").exists(), "what a rule fails on is not expected");
    // Without backtraces: their frames are those of std too.
    let seen: Vec<_> = seen.lines().filter(|line| !line.trim_start().starts_with("at ")).collect();
    check("author-fails", &sizes(&seen.join("\n")));
}
