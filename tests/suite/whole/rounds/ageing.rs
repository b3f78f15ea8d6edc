//! Hours that pass between two lives, and what is lost between them.
//!
//! The least retention is an hour, since a reader may be at work on an older version of a table, and a host on files that no load
//! has yet. While no process lives there is neither, and what lies there may be made older: then the next maintenance removes
//! whatever it takes for unneeded, be it right or wrong.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::super::support::Place;

/// As the log of a table writes when a file left it, in milliseconds.
const REMOVED_AT: &str = "\"deletionTimestamp\":";

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// Everything in zone and warehouse is two hours old, or more; and so are removals of files from tables. A table that is there
/// has a staged file that its process never came to commit.
pub(super) fn two_hours_pass(place: &Place) {
    let then = SystemTime::now() - Duration::from_secs(2 * 3_600);
    let mut all = Vec::new();
    files(&place.path("warehouse/payments/_forebay"), &mut all);
    if let Some(staged) = all.first() {
        std::fs::copy(staged, staged.with_file_name("left-behind.parquet")).unwrap();
    }
    all.clear();
    files(&place.path("landing"), &mut all);
    files(&place.path("warehouse"), &mut all);
    for path in all {
        let is_commit = path.extension().is_some_and(|extension| extension == "json")
            && path.parent().is_some_and(|folder| folder.ends_with("_delta_log"));
        if is_commit {
            let text = std::fs::read_to_string(&path).unwrap();
            let older = removed_before(&text, then);
            if older != text {
                std::fs::write(&path, older).unwrap();
            }
        }
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        if file.metadata().unwrap().modified().unwrap() > then {
            file.set_modified(then).unwrap();
        }
    }
}

/// A commit's text whose removals are as old.
fn removed_before(text: &str, then: SystemTime) -> String {
    let then = then.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let mut parts = text.split(REMOVED_AT);
    let mut older = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap();
        let (time, rest) = part.split_at(digits);
        older += &format!("{REMOVED_AT}{}{rest}", then.min(time.parse().unwrap()));
    }
    older
}

/// The files of a group that is written down are gone, as far as no table has them; false where there is no such group.
pub(super) fn lose_staged(place: &Place) -> bool {
    if !place.path("forebay.db").exists() {
        return false;
    }
    let open = place.query("SELECT DISTINCT table_name FROM ledger.loads WHERE state = 'open'");
    let mut is_lost = false;
    for table in open {
        let (_, table) = table["table_name"].as_str().unwrap().split_once('.').unwrap();
        let (mut log, mut staged) = (Vec::new(), Vec::new());
        files(&place.path(&format!("warehouse/{table}/_delta_log")), &mut log);
        files(&place.path(&format!("warehouse/{table}/_forebay")), &mut staged);
        let log: String = log.iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect();
        let is_data = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "parquet");
        for path in staged.into_iter().filter(is_data) {
            if !log.contains(path.file_name().unwrap().to_str().unwrap()) {
                std::fs::remove_file(path).unwrap();
                is_lost = true;
            }
        }
    }
    is_lost
}
