//! A folder with a config, and the binary to run in it.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Where this test binary was built: `<target>/<profile>/deps/suite-…`.
fn profile_folder() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    exe.parent().and_then(Path::parent).unwrap().to_owned()
}

/// Where cargo builds.
pub(crate) fn target_folder() -> PathBuf {
    profile_folder().parent().unwrap().to_owned()
}

/// Cargo at the workspace's root, into the folder that this was built in.
pub(crate) fn cargo(arguments: &[&str]) {
    let target = target_folder();
    let mut command = Command::new(env!("CARGO"));
    // What `cargo test` tells its tests would make build scripts that read it run again, and all that hangs on them.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") || name == "OUT_DIR" {
            command.env_remove(name);
        }
    }
    let status = command
        .args(arguments)
        .arg("--target-dir")
        .arg(target)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .status()
        .unwrap();
    assert!(status.success(), "cargo {arguments:?} failed");
}

/// The binary: `cargo test --workspace` has built it; a single test builds it itself.
pub(crate) fn forebay() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let binary = profile_folder().join("forebay");
        if std::env::var_os("FOREBAY_TESTS_BUILT").is_none() && !binary.exists() {
            // The whole workspace's features, as `cargo test --workspace` has them.
            cargo(&["build", "--quiet", "--workspace", "--bin", "forebay"]);
        }
        binary
    })
}

fn guest(name: &str) -> PathBuf {
    cargo(&["build", "--quiet", "--profile", "guest", "--target", "wasm32-wasip2", "-p", name]);
    target_folder().join(format!("wasm32-wasip2/guest/{name}.wasm"))
}

/// The fraud rule in Wasm.
pub(crate) fn fraud_wasm() -> &'static Path {
    static MODULE: OnceLock<PathBuf> = OnceLock::new();
    MODULE.get_or_init(|| guest("fraud"))
}

/// The filter in Wasm.
pub(crate) fn keep_wasm() -> &'static Path {
    static MODULE: OnceLock<PathBuf> = OnceLock::new();
    MODULE.get_or_init(|| guest("keep"))
}

/// Expressions in Wasm.
pub(crate) fn expr_wasm() -> &'static Path {
    static MODULE: OnceLock<PathBuf> = OnceLock::new();
    MODULE.get_or_init(|| guest("expr"))
}

/// The orders in Wasm.
pub(crate) fn normalize_wasm() -> &'static Path {
    static MODULE: OnceLock<PathBuf> = OnceLock::new();
    MODULE.get_or_init(|| guest("normalize"))
}

pub(crate) const CONFIG: &str = r#"
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
format = "auto"

[pipelines.fraud]
from = "payments"

[[pipelines.fraud.steps]]
module = "fraud"
config = { v14_below = -8.0 }

[pipelines.fraud.routes]
scored = "lake.payments"
flagged = "lake.flagged_payments"
"#;

/// Where a host keeps compiled modules, beside its ledger.
const CACHE: &str = ".forebay-cache";

/// Compiling the rule takes seconds, so it is done once for all tests.
fn share_compiled(into: &Path) {
    static COMPILED: OnceLock<TempDir> = OnceLock::new();
    let from = COMPILED.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("inbox")).unwrap();
        std::fs::create_dir(folder.path().join("modules")).unwrap();
        std::fs::copy(fraud_wasm(), folder.path().join("modules/fraud.wasm")).unwrap();
        std::fs::write(folder.path().join("forebay.toml"), CONFIG).unwrap();
        let output = Command::new(forebay()).args(["run", "--once"]).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", texts(&output).1);
        folder
    });
    std::fs::create_dir(into).unwrap();
    for entry in std::fs::read_dir(from.path().join(CACHE)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), into.join(entry.file_name())).unwrap();
    }
}

/// SIGABRT: how a process dies at a named point.
pub(crate) const ABORTED: i32 = 6;
/// SIGKILL.
pub(crate) const KILLED: i32 = 9;

/// A ledger's files.
const LEDGER: [&str; 3] = ["forebay.db", "forebay.db-wal", "forebay.db-shm"];

/// A ledger's files as they were.
pub(crate) type LedgerCopy = Vec<(&'static str, Option<Vec<u8>>)>;

/// A folder with the config, the rule and an inbox.
pub(crate) struct Place {
    folder: TempDir,
    /// What each process is given besides.
    environment: Vec<(String, String)>,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Self { folder, environment: Vec::new() };
        std::fs::create_dir(place.path("inbox")).unwrap();
        std::fs::create_dir(place.path("modules")).unwrap();
        std::fs::copy(fraud_wasm(), place.path("modules/fraud.wasm")).unwrap();
        place.write("forebay.toml", CONFIG);
        // Questions are asked with a config that no test breaks.
        place.write("questions.toml", CONFIG);
        share_compiled(&place.path(CACHE));
        place
    }

    /// The same with its ledger on a server.
    pub(crate) fn with_ledger_at(url: &str) -> Self {
        let place = Self::new();
        let config = CONFIG.replace("sqlite:forebay.db", url);
        place.write("forebay.toml", &config);
        place.write("questions.toml", &config);
        place
    }

    /// The same with its landing zone elsewhere, told by the lines of `[landing]`, and with variables in the environment of each process.
    pub(crate) fn with_landing(landing: &str, environment: &[(&str, &str)]) -> Self {
        let mut place = Self::new();
        let config = CONFIG.replace("url = \"landing\"", landing);
        place.write("forebay.toml", &config);
        place.write("questions.toml", &config);
        place.environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        place
    }

    /// The text of its config.
    pub(crate) fn config(&self) -> String {
        std::fs::read_to_string(self.path("forebay.toml")).unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file as a careful producer does: under another name first.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let partial = self.path(&format!("{name}.part"));
        std::fs::write(&partial, text).unwrap();
        std::fs::rename(partial, self.path(name)).unwrap();
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(forebay());
        command.args(arguments).current_dir(self.folder.path()).env("RUST_BACKTRACE", "0").stdin(Stdio::null());
        // Whoever runs the tests.
        command.env("FOREBAY_BY", "tester");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs, and fails with what it wrote where it does not exit with 0.
    pub(crate) fn run_well(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let (out, err) = texts(&output);
        assert!(output.status.success(), "forebay {arguments:?} ended with {}:\n{out}\n{err}", output.status);
        out
    }

    /// Runs with a named point at which the process ends: it dies there, and of nothing else.
    pub(crate) fn dies_at(&self, point: &str, arguments: &[&str]) {
        let output = self.command(arguments).env("FOREBAY_FAILPOINT", point).output().unwrap();
        let (out, err) = texts(&output);
        let status = output.status;
        assert_eq!(status.signal(), Some(ABORTED), "{point} was not reached, it ended with {status}:\n{out}\n{err}");
        assert!(!err.contains("panicked"), "{point}: {err}");
    }

    /// The answer to a query, row by row.
    pub(crate) fn query(&self, sql: &str) -> Vec<Value> {
        let out = self.run_well(&["-c", "questions.toml", "query", sql, "--format", "jsonl"]);
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The one number that a query answers with.
    pub(crate) fn number(&self, sql: &str) -> i64 {
        let rows = self.query(sql);
        rows[0].as_object().and_then(|row| row.values().next()).and_then(Value::as_i64).unwrap()
    }

    /// How many rows a table has; none where there is no table yet.
    pub(crate) fn rows(&self, table: &str) -> i64 {
        let output = self.run(&[
            "-c",
            "questions.toml",
            "query",
            &format!("SELECT count(*) AS rows FROM {table}"),
            "--format",
            "jsonl",
        ]);
        let (out, err) = texts(&output);
        match serde_json::from_str::<Value>(&out) {
            Ok(row) => row["rows"].as_i64().unwrap(),
            Err(_) => {
                assert!(err.contains("there is no table") || err.contains("there is no ledger"), "{err}");
                0
            }
        }
    }

    pub(crate) fn remove_ledger(&self) {
        LEDGER.iter().for_each(|name| drop(std::fs::remove_file(self.path(name))));
    }

    pub(crate) fn copy_ledger(&self) -> LedgerCopy {
        LEDGER.iter().map(|name| (*name, std::fs::read(self.path(name)).ok())).collect()
    }

    pub(crate) fn put_back(&self, copy: &LedgerCopy) {
        self.remove_ledger();
        for (name, bytes) in copy {
            if let Some(bytes) = bytes {
                std::fs::write(self.path(name), bytes).unwrap();
            }
        }
    }

    /// Changes the ledger behind the host's back.
    pub(crate) fn change_ledger(&self, statement: &str) {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let options = sqlx::sqlite::SqliteConnectOptions::new().filename(self.path("forebay.db"));
            let mut ledger = sqlx::ConnectOptions::connect(&options).await.unwrap();
            sqlx::query(sqlx::AssertSqlSafe(statement.to_owned())).execute(&mut ledger).await.unwrap();
            sqlx::Connection::close(ledger).await.unwrap();
        });
    }

    /// Starts `forebay run`, its log going to `log`.
    pub(crate) fn start(&self) -> Running {
        self.spawn(self.command(&["run"]))
    }

    /// The same with a variable in its environment.
    pub(crate) fn start_with(&self, name: &str, value: &str) -> Running {
        let mut command = self.command(&["run"]);
        command.env(name, value);
        self.spawn(command)
    }

    /// The same with another config and log, as another host of the ledger.
    pub(crate) fn start_beside(&self, config: &str, log: &str) -> Running {
        let log = std::fs::File::create(self.path(log)).unwrap();
        let mut command = self.command(&["-c", config, "run"]);
        Running(command.stderr(log).stdout(Stdio::null()).spawn().unwrap())
    }

    fn spawn(&self, mut command: Command) -> Running {
        let log = std::fs::File::create(self.path("log")).unwrap();
        Running(command.stderr(log).stdout(Stdio::null()).spawn().unwrap())
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Puts a module into the watched folder under a name, with a digest of its own for each note.
    pub(crate) fn drop_module(&self, file: &str, module: &Path, note: u8) {
        let mut wasm = std::fs::read(module).unwrap();
        // A custom section changes the content and nothing else.
        wasm.extend([0, 6, 5, b'n', b'o', b't', b'e', note]);
        let partial = self.path("modules/dropped.part");
        std::fs::write(&partial, wasm).unwrap();
        std::fs::rename(partial, self.path(&format!("modules/{file}"))).unwrap();
    }

    /// The log lines with a message that begins so, as JSON.
    pub(crate) fn told(&self, message: &str) -> Vec<Value> {
        let lines = self.log();
        let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["message"].as_str().is_some_and(|told| told.starts_with(message))).collect()
    }

    /// Waits until there are so many of such lines; the last.
    pub(crate) fn until_told(&self, message: &str, times: usize) -> Value {
        self.until(&format!("{message:?} is told {times} times"), || self.told(message).len() >= times);
        let told = self.told(message);
        assert_eq!(told.len(), times, "{}", self.log());
        told.last().cloned().unwrap()
    }

    /// Waits until something holds, looking every tenth of a second.
    pub(crate) fn until(&self, what: &str, holds: impl FnMut() -> bool) {
        self.within(Duration::from_secs(60), what, holds);
    }

    /// The same with another deadline.
    pub(crate) fn within(&self, deadline: Duration, what: &str, mut holds: impl FnMut() -> bool) {
        let began = Instant::now();
        while !holds() {
            assert!(began.elapsed() < deadline, "not within {deadline:?}: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// A host that runs; killed when dropped.
pub(crate) struct Running(Child);

impl Running {
    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Whether it has not ended.
    /// The exit code, once it ends by itself.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        self.0.try_wait().unwrap().and_then(|status| status.code())
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// A signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn stop(mut self) -> std::process::ExitStatus {
        self.terminate();
        self.0.wait().unwrap()
    }

    /// SIGKILL, of which it dies: it has not ended before.
    pub(crate) fn kill(mut self) {
        assert_eq!(self.0.try_wait().unwrap(), None, "it had ended");
        self.0.kill().unwrap();
        assert_eq!(self.0.wait().unwrap().signal(), Some(KILLED));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

pub(crate) fn texts(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Payments as JSON lines; every tenth is one that the rule flags at its default threshold.
pub(crate) fn payments(range: std::ops::Range<u32>) -> String {
    range
        .map(|n| {
            let v14 = if n % 10 == 0 { -9.5 } else { -0.5 };
            format!("{{\"id\":{n},\"Time\":{n},\"V14\":{v14},\"V17\":0.25,\"Amount\":{}.5,\"Class\":0}}\n", n % 100)
        })
        .collect()
}
