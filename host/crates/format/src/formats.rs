//! The formats of one stream, made from its config.

use std::sync::Arc;

use forebay_model::ports::Format;
use serde_json::Value;

use crate::csv::Csv;
use crate::detect::{CSV, JSON, JSON_ARRAY, TSV, detect, json_by_text, text_of};
use crate::error::FormatError;
use crate::json::{Json, Layout};
use crate::settings::{Kind, Settings};
use crate::text::Pool;

/// The formats of a stream with their settings.
///
/// A segment remembers the name that [`Formats::detect`] gave it when it landed, and [`Formats::get`] knows every such name
/// whatever the config says by now.
#[derive(Debug, Clone)]
pub struct Formats {
    settings: Settings,
    formats: [Arc<dyn Format>; 4],
}

impl Formats {
    /// From what the config says of a stream's format: `"auto"`, `"json"`, `"csv"`, or a table `{ type = …, … }`.
    ///
    /// All types take `schema` (a table of columns and types: they are not inferred), `sample_records` (10,000),
    /// `max_record_bytes` (16 MiB), `max_columns` (2,000 leaves) and `zone` (for times without one: `"UTC"`, `"+02:00"`).
    /// JSON takes `records`, the path to the records of documents (`"$"`, `"$.Records[*]"`). CSV takes `delimiter`,
    /// `quote`, `escape` (none), `double_quote` (true), `header` (true), `columns` (names where there is no header) and `nulls` (unquoted texts
    /// that are null: `[""]`). `auto` takes all of them.
    ///
    /// # Errors
    /// [`FormatError::Config`] for a key that is not known, with the nearest that is, and for a value that does not fit.
    pub fn from_config(value: &Value) -> Result<Self, FormatError> {
        let settings = Settings::parse(value)?;
        let pool = Arc::new(Pool::default());
        let common = Arc::new(settings.common.clone());
        let json = |name, layout| -> Arc<dyn Format> {
            Arc::new(Json::new(name, layout, Arc::clone(&common), Arc::clone(&pool)))
        };
        let csv = |name, tabs: bool| -> Arc<dyn Format> {
            let mut csv = settings.csv.clone();
            if tabs && !settings.has_delimiter {
                csv.quoting.delimiter = b'\t';
            }
            Arc::new(Csv::new(name, Arc::new(csv), Arc::clone(&common), Arc::clone(&pool)))
        };
        let layout = settings.records.clone().map_or(Layout::Lines, Layout::Documents);
        let documents = Layout::Documents(settings.records.clone().unwrap_or_default());
        let formats = [json(JSON, layout), json(JSON_ARRAY, documents), csv(CSV, false), csv(TSV, true)];
        Ok(Self { settings, formats })
    }

    /// The name of an object's format, to be remembered with its segments. `head` is its first bytes, compressed or not.
    ///
    /// # Errors
    /// [`FormatError::Unknown`], where the config says `auto` and neither name nor bytes tell.
    pub fn detect(&self, key: &str, head: &[u8]) -> Result<&'static str, FormatError> {
        let name = match self.settings.kind {
            Kind::Auto => detect(key, head)?,
            Kind::Json => json_by_text(&text_of(head)),
            Kind::Csv => match detect(key, head) {
                Ok(TSV) if !self.settings.has_delimiter => TSV,
                Ok(_) | Err(_) => CSV,
            },
        };
        // A path leads to the records of lists and objects alike.
        Ok(if name == JSON_ARRAY && self.settings.records.is_some() { JSON } else { name })
    }

    /// The format of a name that [`Formats::detect`] gave.
    ///
    /// # Errors
    /// [`FormatError::Config`] for any other name.
    pub fn get(&self, name: &str) -> Result<Arc<dyn Format>, FormatError> {
        self.formats.iter().find(|format| format.name() == name).cloned().ok_or_else(|| {
            FormatError::config(
                format!("this version knows no format {name:?}"),
                format!(
                    "formats are {JSON}, {JSON_ARRAY}, {CSV} and {TSV}: was the segment landed by a later version?"
                ),
            )
        })
    }

    /// The name of the format of a record stream, whose records have neither names nor heads of their own.
    #[must_use]
    pub fn for_records(&self) -> &'static str {
        match self.settings.kind {
            Kind::Auto | Kind::Json => JSON,
            Kind::Csv => CSV,
        }
    }

    /// All settings, defaults too, always in the same order: part of a revision's hash.
    #[must_use]
    pub fn settings(&self) -> Value {
        self.settings.to_json()
    }
}
