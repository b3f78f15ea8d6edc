//! How a verb ends: the exit code, and the error as a person or a program reads it.

use std::fmt::Write as _;
use std::process::ExitCode;

use forebay_model::ErrorClass;
use serde_json::{Value, json};

use crate::config::{Problem, Problems};

/// The exit codes, stable: scripts rely on them. `forebay --help` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// All is done.
    Ok = 0,
    /// The work was not done, or not all of it: a segment failed, a disk is full.
    Failed = 1,
    /// The command line, the config or the SQL is wrong. Nothing was touched.
    Usage = 2,
    /// Refused, so as to keep data whole: the ledger does not belong to the zone or the tables, or another process owns it.
    Refused = 3,
    /// What was asked for is not there.
    NotFound = 4,
    /// A bug of forebay.
    Bug = 70,
}

impl Exit {
    /// The word for programs.
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Refused => "refused",
            Self::NotFound => "not_found",
            Self::Bug => "bug",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The last part of `forebay --help`.
pub(super) const HELP: &str = "\
Exit codes:
  0   all is done
  1   the work was not done, or not all of it: a segment failed, a disk is full
  2   the command line, the config or the SQL is wrong; nothing was touched
  3   refused, so as to keep data whole: another process owns the ledger, or it is not the zone's
  4   what was asked for is not there
  70  a bug of forebay

Examples:
  forebay init payments                 begin: a config, and a folder for data
  forebay run --once                    land and load what is there
  forebay new rule fx                   a rule to begin with; `forebay test` in its folder runs it
  forebay query \"SELECT count(*) FROM lake.events\"
  forebay status                        how far everything is

Data goes to stdout, talk and errors to stderr. With --json an error is one JSON object on stderr.";

/// An error of the command line's own, with the code that it ends with.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// Ends with `exit`.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    /// The code that it ends with.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// Adds what to do.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// An error as it is told.
struct Told {
    exit: Exit,
    problems: Vec<Problem>,
}

fn told(error: &anyhow::Error) -> Told {
    let one = |exit, message: String, hint: Option<&str>| Told {
        exit,
        problems: vec![Problem { message, place: None, hint: hint.map(str::to_owned) }],
    };
    if let Some(problems) = error.downcast_ref::<Problems>() {
        return Told { exit: Exit::Usage, problems: problems.iter().cloned().collect() };
    }
    if let Some(Failure { exit, message, hint }) = error.downcast_ref::<Failure>() {
        return one(*exit, message.clone(), hint.as_deref());
    }
    if let Some(room) = error.downcast_ref::<forebay_model::Error>() {
        let exit = match room.class() {
            ErrorClass::Retry | ErrorClass::RejectRows | ErrorClass::Operator => Exit::Failed,
            ErrorClass::Fenced => Exit::Refused,
            ErrorClass::Bug => Exit::Bug,
        };
        // The context that a verb added stands before the room's own words.
        let mut message = room.chain();
        if !error.is::<forebay_model::Error>() || error.to_string() != room.to_string() {
            message = format!("{error}: {message}");
        }
        return one(exit, message, room.hint());
    }
    one(Exit::Failed, format!("{error:#}"), None)
}

/// Writes the error to stderr: `error: …`, `  at …`, `hint: …`, or one JSON object.
pub(super) fn report(error: &anyhow::Error, as_json: bool) -> Exit {
    let Told { exit, problems } = told(error);
    eprint!("{}", if as_json { json_text(exit, &problems) } else { text(&problems, colours()) });
    exit
}

/// Whether stderr is a terminal that wants colours.
pub(super) fn colours() -> bool {
    use std::io::IsTerminal as _;
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn text(problems: &[Problem], colours: bool) -> String {
    let paint = |code: &str, text: &str| {
        if colours { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    };
    let mut out = String::new();
    for Problem { message, place, hint } in problems {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{}: {message}", paint("1;31", "error"));
        if let Some(place) = place {
            let _ = writeln!(out, "  at {place}");
        }
        if let Some(hint) = hint {
            let _ = writeln!(out, "{}: {hint}", paint("1;36", "hint"));
        }
    }
    if problems.len() > 1 {
        let _ = writeln!(out, "{} errors", problems.len());
    }
    out
}

/// One object: what went wrong first, and all of it.
fn json_text(exit: Exit, problems: &[Problem]) -> String {
    let first = problems.first();
    let value = json!({
        "error": first.map(|problem| problem.message.as_str()),
        "hint": first.and_then(|problem| problem.hint.as_deref()),
        "place": first.and_then(|problem| problem.place.as_ref()),
        "kind": exit.word(),
        "exit": exit as u8,
        "problems": if problems.len() > 1 { json!(problems) } else { Value::Null },
    });
    format!("{value}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_of_an_error_tells_the_code() {
        let of = |error: forebay_model::Error| told(&anyhow::Error::from(error)).exit;
        assert_eq!(of(forebay_model::Error::operator("x")), Exit::Failed);
        assert_eq!(of(forebay_model::Error::fenced("x")), Exit::Refused);
        assert_eq!(of(forebay_model::Error::bug("x")), Exit::Bug);
        let usage = Failure::new(Exit::Usage, "x").with_hint("y");
        let Told { exit, problems } = told(&anyhow::Error::from(usage));
        assert_eq!((exit, text(&problems, false).as_str()), (Exit::Usage, "error: x\nhint: y\n"));
    }

    #[test]
    fn context_stands_before_what_a_room_says() {
        let room = forebay_model::Error::operator("no such table").with_hint("look");
        let error = anyhow::Error::from(room).context("lake.payments");
        let Told { exit, problems } = told(&error);
        assert_eq!(exit, Exit::Failed);
        assert_eq!(text(&problems, false), "error: lake.payments: no such table\nhint: look\n");
    }
}
