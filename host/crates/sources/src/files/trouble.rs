//! Errors of single paths, told one by one and not over and over.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

use forebay_model::Timestamp;

use super::error::FilesError;

/// How long an error of the same path is not repeated.
pub(super) const QUIET: Duration = Duration::from_secs(60);
/// How many errors wait at most; what comes on top is counted.
const MAX_WAITING: usize = 100;

/// Errors that a poll will return.
#[derive(Debug)]
pub(super) struct Troubles {
    folder: PathBuf,
    waiting: VecDeque<FilesError>,
    told: HashMap<PathBuf, Timestamp>,
    more: u64,
}

impl Troubles {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf(), waiting: VecDeque::new(), told: HashMap::new(), more: 0 }
    }

    /// Notes an error of a path, unless the last one of this path is less than a minute old.
    pub(super) fn note(&mut self, path: &Path, error: FilesError, now: Timestamp) {
        if self.told.len() >= 4 * MAX_WAITING {
            self.told.retain(|_, at| now.since(*at) < QUIET);
        }
        if self.told.get(path).is_some_and(|at| now.since(*at) < QUIET) {
            return;
        }
        self.told.insert(path.to_path_buf(), now);
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(error);
        } else {
            self.more += 1;
        }
    }

    /// Whether there is one to tell.
    pub(super) fn any(&self) -> bool {
        !self.waiting.is_empty() || self.more > 0
    }

    /// The next one to tell.
    pub(super) fn next(&mut self) -> Option<FilesError> {
        if let Some(error) = self.waiting.pop_front() {
            return Some(error);
        }
        let count = std::mem::take(&mut self.more);
        (count > 0).then(|| FilesError::More { folder: self.folder.clone(), count })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn error() -> FilesError {
        FilesError::Changed { path: PathBuf::from("a") }
    }

    #[test]
    fn an_error_is_told_once_a_minute_for_each_path() {
        let mut troubles = Troubles::new(Path::new("/inbox"));
        let start = Timestamp::EPOCH;
        troubles.note(Path::new("a"), error(), start);
        troubles.note(Path::new("a"), error(), start.plus(Duration::from_secs(59)));
        troubles.note(Path::new("b"), error(), start);
        assert!(troubles.next().is_some());
        assert!(troubles.next().is_some());
        assert!(troubles.next().is_none());
        troubles.note(Path::new("a"), error(), start.plus(QUIET));
        assert!(troubles.next().is_some());
    }

    #[test]
    fn a_flood_is_counted() {
        let mut troubles = Troubles::new(Path::new("/inbox"));
        for n in 0..1000 {
            troubles.note(Path::new(&n.to_string()), error(), Timestamp::EPOCH);
        }
        let told: Vec<_> = std::iter::from_fn(|| troubles.next()).collect();
        assert_eq!(told.len(), MAX_WAITING + 1);
        assert_eq!(told.last().unwrap().to_string(), "900 more paths in \"/inbox\" could not be taken");
    }
}
