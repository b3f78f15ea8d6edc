//! What a person sees of a run: the exit code, the summary, and what was said on stderr from a warning up, as one text.

use std::fmt::Write as _;

use serde_json::Value;

use super::support::{Place, texts};

/// A stream without rules: `lake.events` is what was decoded.
pub(crate) const PLAIN: &str = r#"
[landing]
url = "landing"

[ledger]
url = "sqlite:forebay.db"

[modules]
watch = "modules"

[warehouses.lake]
type = "delta"
url = "warehouse"

[streams.events]
source = { type = "files", url = "inbox", settle_milliseconds = 1, scan_seconds = 1 }
format = "auto"

[pipelines.plain]
from = "events"

[pipelines.plain.routes]
out = "lake.events"
"#;

impl Place {
    /// A folder with another config, and no module in it.
    pub(crate) fn with(config: &str) -> Self {
        let place = Self::new();
        std::fs::remove_file(place.path("modules/fraud.wasm")).unwrap();
        place.write("forebay.toml", config);
        place.write("questions.toml", config);
        place
    }

    /// [`Place::write`] for bytes that are no text.
    pub(crate) fn write_bytes(&self, name: &str, bytes: &[u8]) {
        let partial = self.path(&format!("{name}.part"));
        std::fs::write(&partial, bytes).unwrap();
        std::fs::rename(partial, self.path(name)).unwrap();
    }

    /// Runs a verb; what a person sees of it.
    pub(crate) fn sees(&self, arguments: &[&str]) -> String {
        self.seen_of(self.command(arguments))
    }

    /// The same with a fault, or as another user.
    pub(crate) fn seen_of(&self, mut command: std::process::Command) -> String {
        let output = command.args(["--log-format", "human"]).output().unwrap();
        let (out, err) = texts(&output);
        let mut text = match output.status.code() {
            Some(code) => format!("exit {code}\n"),
            None => "ended by a signal\n".to_owned(),
        };
        // Not how fast it was.
        for line in out.lines().filter(|line| !line.contains(" s, ")) {
            writeln!(text, "{line}").unwrap();
        }
        // Segments fail in no order.
        let told = |line: &&str| !line.contains(" INFO ");
        let mut lines: Vec<_> = err.lines().filter(told).map(|line| self.steady(line)).collect();
        let logged = lines.iter().take_while(|line| line.starts_with("[time]")).count();
        lines[..logged].sort();
        text + &lines.join("\n")
    }

    /// Without what differs from run to run.
    pub(super) fn steady(&self, line: &str) -> String {
        let folder = self.path("");
        let real = folder.canonicalize().unwrap();
        let named = |path: &std::path::Path| path.display().to_string().trim_end_matches('/').to_owned();
        let line = line.replace(&named(&real), "[place]").replace(&named(&folder), "[place]");
        let line = match line.split_once('Z') {
            Some((time, rest)) if time.starts_with("20") => format!("[time]{rest}"),
            _ => line,
        };
        steady(&line)
    }

    /// Failed segments as the ledger has them: pipeline, object, class, message and hint.
    pub(crate) fn failures(&self) -> String {
        let rows = self.query(
            "SELECT r.pipeline AS pipeline, s.key AS object, r.error_class AS class, r.error_message AS message, \
             r.error_hint AS hint FROM ledger.refinements r JOIN ledger.segments s ON r.segment = s.segment \
             WHERE r.state = 'failed' ORDER BY 1, 2",
        );
        let text = |row: &Value, name: &str| self.steady(row[name].as_str().unwrap_or("-"));
        rows.iter()
            .map(|row| {
                format!(
                    "{} {} {}: {}\n  hint: {}\n",
                    text(row, "pipeline"),
                    text(row, "object"),
                    text(row, "class"),
                    text(row, "message"),
                    text(row, "hint")
                )
            })
            .collect()
    }

    /// Rejects of a pipeline as they are stored.
    pub(crate) fn rejects(&self, pipeline: &str) -> String {
        let rows = self.query(&format!(
            "SELECT stage, code, message, raw, _forebay_row AS row FROM rejects.{pipeline} ORDER BY code, message, raw"
        ));
        rows.iter().map(|row| format!("{row}\n")).collect()
    }

    /// What landed of an object, from all of its segments' objects in the zone.
    pub(crate) fn landed(&self, key: &str) -> Vec<Vec<u8>> {
        let rows =
            self.query(&format!("SELECT DISTINCT object FROM ledger.segments WHERE key = '{key}' ORDER BY object"));
        let name = |row: &Value| row["object"].as_str().unwrap().to_owned();
        rows.iter().map(|row| std::fs::read(self.path("landing").join(name(row))).unwrap()).collect()
    }

    /// What holds whatever came in and whatever became of it: all records that were counted have one fate, what is loaded was
    /// counted, and nothing is half done.
    pub(crate) fn adds_up(&self) {
        self.nothing_is_half_done();
        assert_eq!(self.odd_counts(), Vec::<Value>::new(), "counts that lack, or do not add up");
    }

    /// The same of a ledger that was rebuilt, which has no counts of what had loaded before.
    pub(crate) fn adds_up_since_recovery(&self) {
        self.nothing_is_half_done();
        let odd: Vec<_> = self.odd_counts().into_iter().filter(|row| !is_uncounted(row)).collect();
        assert_eq!(odd, Vec::<Value>::new(), "counts that do not add up");
    }

    fn nothing_is_half_done(&self) {
        assert_eq!(self.number("SELECT count(*) FROM ledger.refinements WHERE state = 'loading'"), 0);
        assert_eq!(self.number("SELECT count(*) FROM ledger.loads WHERE state = 'open'"), 0);
    }

    /// Refinements whose counts do not add up, of which some lack, or which are loaded and have none.
    fn odd_counts(&self) -> Vec<Value> {
        self.query(
            "SELECT segment, state, records, loaded, filtered, rejected, rescued FROM ledger.refinements \
             WHERE (records IS DISTINCT FROM (loaded + filtered + rejected)) \
             OR (records IS NULL) <> (loaded IS NULL) OR (records IS NULL) <> (filtered IS NULL) \
             OR (records IS NULL) <> (rejected IS NULL) OR (records IS NULL) <> (rescued IS NULL) \
             OR (state = 'loaded' AND records IS NULL)",
        )
    }
}

/// The five counts of a refinement.
const COUNTS: [&str; 5] = ["records", "loaded", "filtered", "rejected", "rescued"];

/// Whether a refinement has no count at all.
fn is_uncounted(refinement: &Value) -> bool {
    COUNTS.iter().all(|count| refinement[*count].is_null())
}

#[test]
fn counts_that_lack_or_do_not_add_up_are_found() {
    let place = Place::with(PLAIN);
    place.write("inbox/a.jsonl", "{\"id\":1}\n{\"id\":2}\n");
    place.run_well(&["run", "--once"]);
    place.adds_up();
    // Of a column that is set twice, SQLite takes the last.
    let odd = |counts: &str| {
        let whole = "records = 2, loaded = 2, filtered = 0, rejected = 0, rescued = 0";
        place.change_ledger(&format!("UPDATE refinements SET {whole}, {counts}"));
        place.odd_counts()
    };
    for wrong in ["records = 3", "loaded = 1", "filtered = 1", "rejected = 1"] {
        assert_eq!(odd(wrong).len(), 1, "{wrong}");
    }
    for count in COUNTS {
        let found = odd(&format!("{count} = NULL"));
        assert!(found.len() == 1 && !is_uncounted(&found[0]), "{count}: {found:?}");
    }
    let none = COUNTS.map(|count| format!("{count} = NULL")).join(", ");
    let found = odd(&none);
    assert!(found.len() == 1 && is_uncounted(&found[0]), "{found:?}");
    assert_eq!(odd(&format!("{none}, state = 'superseded'")).len(), 0, "nobody counted what was replaced before");
    assert_eq!(odd("state = 'loaded'").len(), 0);
}

/// Without the lines and columns of source files, which change with every edit of a guest.
pub(crate) fn steady(text: &str) -> String {
    let mut parts = text.split(".rs:");
    let mut steady = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        steady += ".rs:_";
        steady += part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':');
    }
    steady
}

/// The backtraces of the evil guest with the frames of its own, one for each run of the same; each run of others (of libraries, of
/// generated bindings), which are the toolchain's, as one line.
pub(crate) fn own_frames(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let line = match line.strip_prefix(FRAME).map(|frame| (frame, frame.rsplit_once(" at "))) {
            None => line.to_owned(),
            Some((frame, Some((name, place)))) if place.contains("evil/guest/src/") && !frame.contains("export_") => {
                // Types of libraries that it was made for are theirs.
                format!("{FRAME}{} at {place}", name.split('<').next().unwrap_or_default())
            }
            Some(_) => OTHERS.to_owned(),
        };
        if !line.starts_with(FRAME) || lines.last() != Some(&line) {
            lines.push(line);
        }
    }
    lines.join("\n")
}

/// What a frame's line begins with.
const FRAME: &str = "  at ";
const OTHERS: &str = "  at [others]";

/// Compares a text with its snapshot, without ids, digests and times.
pub(crate) fn check(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    for (pattern, instead) in [
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "[uuid]"),
        (r"\b(\w+)/[0-9a-f]{24}\b", "$1/[segment]"),
        (r"sha256:[0-9a-f]{12}", "sha256:[digest]"),
        (r"\b[0-9a-f]{64}\b", "[sha256]"),
        (r"\b[0-9a-f]{12}\b", "[digest]"),
        (r"dt=[\d-]+/hr=\d\d", "dt=[day]/hr=[hour]"),
        (r#"thread="[^"]+""#, "thread=[thread]"),
        // The number of a function without a name is the toolchain's.
        (r"\(in function \d+\)", "(in function [n])"),
        // How long a guest is depends on the path it was built in.
        (
            r"section range \d+\.\.\d+ is out of bounds \(bound = \d+\)",
            "section range [from]..[to] is out of bounds (bound = [bound])",
        ),
        // Which of a batch is tried again is chance.
        (r"\[uuid\]-\d+-", "[uuid]-[n]-"),
    ] {
        settings.add_filter(pattern, instead);
    }
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}
