//! Which files are taken, by their names alone.
//!
//! A name that begins with `.` or `_`, of a file or of a folder on the way to it, is never taken, nor is a file whose name
//! ends in `.tmp` or `.part` (in any case): these are the ways in which writers mark what is not complete. Of the rest,
//! `include` and `exclude` choose.

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use forebay_model::Error;

/// A pattern that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{key}: the pattern {pattern:?} cannot be read: {reason}")]
pub struct PatternError {
    /// `include` or `exclude`.
    pub key: &'static str,
    /// The pattern.
    pub pattern: String,
    /// Why.
    pub reason: String,
}

impl PatternError {
    /// What patterns look like.
    pub(crate) const HINT: &str = "patterns look like \"**/*.csv\" or \"logs/app-*.jsonl\"";
}

impl From<PatternError> for Error {
    fn from(error: PatternError) -> Self {
        Self::operator(error.to_string()).with_hint(PatternError::HINT)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Patterns {
    include: GlobSet,
    exclude: GlobSet,
}

impl Patterns {
    pub(crate) fn new(include: &[String], exclude: &[String]) -> Result<Self, PatternError> {
        Ok(Self { include: globs("include", include)?, exclude: globs("exclude", exclude)? })
    }

    /// Whether a file is taken; the path is relative to the folder.
    pub(crate) fn takes(&self, relative: &Path) -> bool {
        visible(relative)
            && !unfinished(relative)
            && self.include.is_match(relative)
            && !self.exclude.is_match(relative)
    }
}

/// Whether no component is hidden by its first character.
pub(crate) fn visible(relative: &Path) -> bool {
    relative.components().all(|component| match component {
        Component::Normal(name) => !matches!(name.as_bytes().first(), Some(b'.' | b'_')),
        Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => false,
    })
}

fn unfinished(relative: &Path) -> bool {
    let name = relative.as_os_str().as_bytes();
    [b".tmp".as_slice(), b".part"].iter().any(|end| {
        name.len()
            .checked_sub(end.len())
            .and_then(|at| name.get(at..))
            .is_some_and(|tail| tail.eq_ignore_ascii_case(end))
    })
}

fn globs(key: &'static str, patterns: &[String]) -> Result<GlobSet, PatternError> {
    let bad = |pattern: &str, error: &globset::Error| PatternError {
        key,
        pattern: pattern.to_owned(),
        reason: error.kind().to_string(),
    };
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let glob = GlobBuilder::new(pattern).literal_separator(true).build().map_err(|error| bad(pattern, &error))?;
        set.add(glob);
    }
    set.build().map_err(|error| bad(&patterns.join(", "), &error))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn names_that_mark_what_is_not_complete_are_never_taken() {
        let all = Patterns::new(&["**".to_owned()], &[]).unwrap();
        for name in ["a.csv", "a/b/c.jsonl", "tmp", "part.csv", "a_b/c.d", "x.tmp/a.csv"] {
            assert!(all.takes(Path::new(name)), "{name}");
        }
        for name in [".a.csv", "_SUCCESS", "a.tmp", "a.csv.part", "A.TMP", ".git/a.csv", "_temporary/0/a.csv", "a/.b/c"]
        {
            assert!(!all.takes(Path::new(name)), "{name}");
        }
    }

    #[test]
    fn exclude_wins_over_include_and_a_star_stays_in_its_folder() {
        let text = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
        let patterns = Patterns::new(&text(&["**/*.csv", "logs/*.log"]), &text(&["**/old/**"])).unwrap();
        for name in ["a.csv", "x/y/a.csv", "logs/app.log"] {
            assert!(patterns.takes(Path::new(name)), "{name}");
        }
        for name in ["a.json", "x/old/a.csv", "logs/2024/app.log"] {
            assert!(!patterns.takes(Path::new(name)), "{name}");
        }
        let error = Patterns::new(&text(&["a[.csv"]), &[]).unwrap_err();
        assert!(error.to_string().starts_with("include: the pattern \"a[.csv\" cannot be read"), "{error}");
    }
}
