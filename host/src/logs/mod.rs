//! What modules say, kept: `forebay logs` reads what a host that runs writes.
//!
//! Lines go to a file beside the ledger (or the config, where the ledger is on a server), a JSON object each, as well as to the host's own log. At [`FILE_BYTES`] the file becomes the
//! former one, whose place it takes: so there are never more than twice as many bytes. Nothing waits for it, and nothing depends on
//! it: lines that come faster than the disk takes them are counted and left out, and a line that a dead host tore is skipped.

mod read;
mod write;

use std::path::PathBuf;

use forebay_model::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::Config;

pub(crate) use read::{Follower, Wanted};
pub(crate) use write::ModuleLog;

/// Bytes of a file before the next one begins.
const FILE_BYTES: u64 = 16 << 20;

/// How loud a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

impl Level {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// A line that a module logged or printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) at: Timestamp,
    pub(crate) module: String,
    pub(crate) level: Level,
    pub(crate) text: String,
}

/// Where the lines lie.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    folder: PathBuf,
}

impl Files {
    /// Of a config's host.
    pub(crate) fn of(config: &Config) -> Self {
        Self { folder: crate::assemble::log_folder(config) }
    }

    fn current(&self) -> PathBuf {
        self.folder.join("modules.jsonl")
    }

    fn former(&self) -> PathBuf {
        self.folder.join("modules.1.jsonl")
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use forebay_model::ports::LogLevel;
    use forebay_sandbox::GuestLog as _;

    use super::*;

    fn texts(follower: &mut Follower) -> Vec<String> {
        let mut texts = Vec::new();
        follower.read(&mut |line| texts.push(line.text)).unwrap();
        texts
    }

    fn all() -> Wanted {
        Wanted { module: None, level: Level::Trace, since: None }
    }

    #[test]
    fn what_modules_say_is_read_while_files_change_places() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files { folder: folder.path().join("logs") };
        let mut follower = Follower::new(files.clone(), all());
        assert_eq!(texts(&mut follower), Vec::<String>::new());
        let log = ModuleLog::with_file_bytes(files.clone(), 400);
        let mut seen = Vec::new();
        for number in 0..20 {
            log.line("fraud", if number % 2 == 0 { LogLevel::Warn } else { LogLevel::Info }, &format!("line {number}"));
            log.flush();
            seen.extend(texts(&mut follower));
        }
        let expected: Vec<_> = (0..20).map(|number| format!("line {number}")).collect();
        assert_eq!(seen, expected, "who follows misses none");
        // Whoever comes later has what two files hold; a torn line is skipped.
        let torn = std::fs::read_to_string(files.current()).unwrap() + "{\"at\": \"20";
        std::fs::write(files.current(), torn).unwrap();
        let mut late = Follower::new(files.clone(), Wanted { level: Level::Warn, ..all() });
        let read = texts(&mut late);
        assert!(read.len() < 10 && read.iter().all(|text| expected.contains(text)), "{read:?}");
        assert_eq!(read.last().map(String::as_str), Some("line 18"));
        let mut other = Follower::new(files, Wanted { module: Some("other".to_owned()), ..all() });
        assert_eq!(texts(&mut other), Vec::<String>::new());
    }

    #[test]
    fn a_folder_that_cannot_be_made_costs_the_lines_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        let log = ModuleLog::with_file_bytes(Files { folder: folder.path().join("file/logs") }, 400);
        log.line("fraud", LogLevel::Info, "nowhere to go");
        log.flush();
    }
}
