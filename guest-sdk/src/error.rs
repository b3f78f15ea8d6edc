//! The two ways in which a rule says that it cannot go on.

use std::fmt;

/// Why a rule does not fit the config or the schema. forebay shows it to the person who deploys the rule, so it names the
/// place and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindError {
    message: String,
    hint: Option<String>,
    place: Option<String>,
}

impl BindError {
    /// An error with a sentence that says what is wrong.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, place: None }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the place: a column's name, or `config.` and the path of the key.
    #[must_use]
    pub fn place(mut self, place: impl Into<String>) -> Self {
        self.place = Some(place.into());
        self
    }

    /// What is wrong.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it.
    #[must_use]
    pub fn get_hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The column or config key at fault.
    #[must_use]
    pub fn get_place(&self) -> Option<&str> {
        self.place.as_deref()
    }
}

impl fmt::Display for BindError {
    /// `place: message (hint)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

impl std::error::Error for BindError {}

/// Why a batch could not be processed at all. forebay drops what was emitted and tries the rows in smaller parts, so where
/// single rows are at fault, [`crate::Output::reject`] is the better answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleError {
    message: String,
}

impl RuleError {
    /// An error with a sentence that says what is wrong.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for RuleError {}

impl From<String> for RuleError {
    fn from(message: String) -> Self {
        Self { message }
    }
}

impl From<&str> for RuleError {
    fn from(message: &str) -> Self {
        Self::new(message)
    }
}
