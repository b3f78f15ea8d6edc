//! What one room tells another when something went wrong.
//!
//! Each room has an error type of its own (`thiserror`) and turns it into this one at its port. The [`ErrorClass`]
//! says what kind of answer is possible; `pipeline::policy` alone decides what is done.

use std::fmt;

/// The result of a port.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can be done about an error. One table, in `pipeline::policy`, leads from here to an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// It may go away by itself: the same call is made again, later.
    Retry,
    /// The input's fault: those rows, or that load, are refused for good, and the rest goes on.
    RejectRows,
    /// A person must act: a config, a permission, a table that does not fit.
    Operator,
    /// Another process owns what this one believed to own: stop touching it.
    Fenced,
    /// forebay's own fault: an invariant does not hold.
    Bug,
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Retry => "retry",
            Self::RejectRows => "reject_rows",
            Self::Operator => "operator",
            Self::Fenced => "fenced",
            Self::Bug => "bug",
        })
    }
}

/// An error at a port: what happened, where, and what to do next. The message never holds a cell's value.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    class: ErrorClass,
    message: String,
    hint: Option<String>,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync + 'static>>,
}

impl Error {
    /// An error of a class; the message names the input and the place.
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), hint: None, source: None }
    }

    /// [`ErrorClass::Retry`].
    pub fn retry(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Retry, message)
    }

    /// [`ErrorClass::Operator`].
    pub fn operator(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Operator, message)
    }

    /// [`ErrorClass::Fenced`].
    pub fn fenced(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Fenced, message)
    }

    /// [`ErrorClass::Bug`].
    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Bug, message)
    }

    /// Adds what to do next.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync + 'static>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What can be done about it.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        self.class
    }

    /// What to do next, where it is known.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The message and the messages of its causes, joined by `: `.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(next) = cause {
            let next_text = next.to_string();
            if !text.contains(&next_text) {
                text.push_str(": ");
                text.push_str(&next_text);
            }
            cause = next.source();
        }
        text
    }
}
