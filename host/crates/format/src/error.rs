//! What can be wrong with an input as a whole, or with the settings. What is wrong with one record is a reject, never an error.

use std::io;

use forebay_model::error::ErrorClass;

/// An error of this room.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// A setting that is not understood.
    #[error("format: {message}")]
    Config {
        /// Which key, and what is wrong with it.
        message: String,
        /// What would be right.
        hint: String,
    },
    /// Neither the name nor the first bytes tell what an object is.
    #[error("cannot tell the format of {key:?}: {reason}")]
    Unknown {
        /// The object's name.
        key: String,
        /// What was looked at.
        reason: &'static str,
    },
    /// The input cannot be read to its end: compression that is cut off or damaged, a failing disk.
    #[error("the input cannot be read past byte {offset}")]
    Read {
        /// Bytes of text (after decompression) that were read before.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// The input as a whole is not what the settings say: a CSV header that is not UTF-8, say.
    #[error("{message}")]
    Input {
        /// What, and where.
        message: String,
        /// What to do.
        hint: &'static str,
    },
    /// A column of the schema has a type that text is not decoded to.
    #[error("column {column:?} has the type {data_type}, to which text is not decoded")]
    Type {
        /// The column, as a path.
        column: String,
        /// Arrow's name of the type.
        data_type: String,
    },
    /// Whoever delivers the bytes or records failed.
    #[error(transparent)]
    Upstream(#[from] forebay_model::Error),
    /// Arrow refused what this room built.
    #[error("decoded columns do not fit together")]
    Arrow(#[from] arrow_schema::ArrowError),
}

impl FormatError {
    pub(crate) fn config(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Config { message: message.into(), hint: hint.into() }
    }

    /// An error while reading; what the reader wrapped of forebay's own errors comes out again.
    pub(crate) fn read(offset: u64, source: io::Error) -> Self {
        match source.downcast::<forebay_model::Error>() {
            Ok(error) => Self::Upstream(error),
            Err(source) => Self::Read { offset, source },
        }
    }

    /// What can be done about it.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Config { .. } | Self::Unknown { .. } | Self::Input { .. } | Self::Type { .. } => ErrorClass::Operator,
            Self::Read { source, .. } if is_damage(source) => ErrorClass::Operator,
            Self::Read { .. } => ErrorClass::Retry,
            Self::Upstream(error) => error.class(),
            Self::Arrow(_) => ErrorClass::Bug,
        }
    }

    /// What to do next, where it is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Config { hint, .. } => Some(hint.clone()),
            Self::Unknown { .. } => Some(
                "name the format in the stream, for example format = \"json\" or format = \"csv\"; \
                 \"auto\" knows .json, .jsonl, .ndjson, .csv and .tsv, also before .gz and .zst"
                    .to_owned(),
            ),
            Self::Read { source, .. } if is_damage(source) => {
                Some("the object is cut off or damaged: deliver it again; of this one nothing is loaded".to_owned())
            }
            Self::Read { .. } => None,
            Self::Input { hint, .. } => Some((*hint).to_owned()),
            Self::Type { .. } => {
                Some("declare the column with a type that the format knows, or leave it to inference".to_owned())
            }
            Self::Upstream(error) => error.hint().map(str::to_owned),
            Self::Arrow(_) => None,
        }
    }
}

/// Whether reading again would meet the same.
fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    [InvalidData, InvalidInput, UnexpectedEof].contains(&error.kind())
}

impl From<FormatError> for forebay_model::Error {
    fn from(error: FormatError) -> Self {
        let (class, hint) = (error.class(), error.hint());
        match error {
            FormatError::Upstream(error) => error,
            error @ (FormatError::Config { .. }
            | FormatError::Unknown { .. }
            | FormatError::Read { .. }
            | FormatError::Input { .. }
            | FormatError::Type { .. }
            | FormatError::Arrow(_)) => {
                let made = Self::new(class, error.to_string()).with_source(error);
                match hint {
                    Some(hint) => made.with_hint(hint),
                    None => made,
                }
            }
        }
    }
}
