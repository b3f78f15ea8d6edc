//! The settings of a format, read and checked. A key that is not known is refused, with the nearest that is.

use arrow_schema::DataType;
use serde_json::{Map, Value, json};

use crate::declared;
use crate::error::FormatError;
use crate::frame::Quoting;
use crate::time;

/// Records that types are inferred from.
const SAMPLE_RECORDS: usize = 10_000;
/// Larger records are rejects: 16 MiB.
const MAX_RECORD_BYTES: usize = 16 << 20;
/// The largest limit: a batch's text must stay below 2 GiB.
const LARGEST_RECORD_BYTES: usize = 512 << 20;
/// Leaves of a schema.
const MAX_COLUMNS: usize = 2_000;

/// What all formats have.
#[derive(Debug, Clone)]
pub(crate) struct Common {
    /// Columns whose types are not inferred, in the order of the config.
    pub(crate) declared: Vec<(String, DataType)>,
    /// The types as they were written, for the revision's hash.
    declared_text: Vec<(String, String)>,
    pub(crate) sample_records: usize,
    pub(crate) max_record_bytes: usize,
    pub(crate) max_columns: usize,
    /// Seconds east of UTC of times without a zone.
    pub(crate) zone: Option<i32>,
}

impl Default for Common {
    fn default() -> Self {
        Self {
            declared: Vec::new(),
            declared_text: Vec::new(),
            sample_records: SAMPLE_RECORDS,
            max_record_bytes: MAX_RECORD_BYTES,
            max_columns: MAX_COLUMNS,
            zone: None,
        }
    }
}

impl Common {
    pub(crate) fn is_declared(&self, name: &str) -> bool {
        self.declared.iter().any(|(declared, _)| declared == name)
    }
}

/// What CSV has beside it.
#[derive(Debug, Clone)]
pub(crate) struct CsvSettings {
    pub(crate) quoting: Quoting,
    pub(crate) header: bool,
    /// The columns' names where there is no header.
    pub(crate) columns: Vec<String>,
    /// Texts that are null where they are not quoted.
    pub(crate) nulls: Vec<String>,
}

impl Default for CsvSettings {
    fn default() -> Self {
        Self {
            quoting: Quoting { delimiter: b',', quote: b'"', escape: None, double_quote: true },
            header: true,
            columns: Vec::new(),
            nulls: vec![String::new()],
        }
    }
}

/// The formats that a stream may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Auto,
    Json,
    Csv,
}

impl Kind {
    const NAMES: [&'static str; 3] = ["auto", "json", "csv"];

    fn parse(text: &str) -> Result<Self, FormatError> {
        match text {
            "auto" => Ok(Self::Auto),
            "json" => Ok(Self::Json),
            "csv" => Ok(Self::Csv),
            _ => Err(FormatError::config(format!("{text:?} is no format"), nearest(text, &Self::NAMES))),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Json => "json",
            Self::Csv => "csv",
        }
    }
}

/// All that a config says of a stream's format.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) kind: Kind,
    pub(crate) common: Common,
    /// The path to the records of JSON documents; `None` for lines, or a list, by the first byte.
    pub(crate) records: Option<Vec<String>>,
    pub(crate) csv: CsvSettings,
    /// Whether the delimiter was written: else a `.tsv` has tabs.
    pub(crate) has_delimiter: bool,
}

const COMMON_KEYS: [&str; 6] = ["type", "schema", "sample_records", "max_record_bytes", "max_columns", "zone"];
const JSON_KEYS: [&str; 1] = ["records"];
const CSV_KEYS: [&str; 7] = ["delimiter", "quote", "escape", "double_quote", "header", "columns", "nulls"];

impl Settings {
    /// From `"json"`, or a table with a `type`.
    pub(crate) fn parse(value: &Value) -> Result<Self, FormatError> {
        let mut settings = Self {
            kind: Kind::Auto,
            common: Common::default(),
            records: None,
            csv: CsvSettings::default(),
            has_delimiter: false,
        };
        match value {
            Value::String(name) => settings.kind = Kind::parse(name)?,
            Value::Object(table) => settings.table(table)?,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
                return Err(FormatError::config(
                    "a name or a table is expected",
                    "write format = \"auto\", or format = { type = \"json\", records = \"$.Records[*]\" }",
                ));
            }
        }
        settings.check()?;
        Ok(settings)
    }

    fn table(&mut self, table: &Map<String, Value>) -> Result<(), FormatError> {
        if let Some(kind) = table.get("type") {
            self.kind = Kind::parse(text("type", kind)?)?;
        } else {
            return Err(FormatError::config("the table has no type", "add type = \"auto\", \"json\" or \"csv\""));
        }
        let mut keys = COMMON_KEYS.to_vec();
        if self.kind != Kind::Csv {
            keys.extend(JSON_KEYS);
        }
        if self.kind != Kind::Json {
            keys.extend(CSV_KEYS);
        }
        for (key, value) in table {
            if !keys.contains(&key.as_str()) {
                let message = format!("type {:?} has no setting {key:?}", self.kind.name());
                return Err(FormatError::config(message, nearest(key, &keys)));
            }
            self.set(key, value)?;
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: &Value) -> Result<(), FormatError> {
        match key {
            "schema" => self.schema(value)?,
            "sample_records" => self.common.sample_records = count(key, value, 1, 10_000_000)?,
            "max_record_bytes" => self.common.max_record_bytes = count(key, value, 1, LARGEST_RECORD_BYTES)?,
            "max_columns" => self.common.max_columns = count(key, value, 1, 100_000)?,
            "zone" => {
                let zone = text(key, value)?;
                self.common.zone = Some(time::zone(zone).ok_or_else(|| {
                    FormatError::config(
                        format!("zone {zone:?} is not known"),
                        "write \"UTC\" or a fixed offset such as \"+02:00\": zones with summer time are ambiguous",
                    )
                })?);
            }
            "records" => self.records = Some(path(text(key, value)?)?),
            "delimiter" => {
                self.csv.quoting.delimiter = byte(key, value)?;
                self.has_delimiter = true;
            }
            "quote" => self.csv.quoting.quote = byte(key, value)?,
            "escape" => self.csv.quoting.escape = Some(byte(key, value)?),
            "double_quote" => self.csv.quoting.double_quote = flag(key, value)?,
            "header" => self.csv.header = flag(key, value)?,
            "columns" => self.csv.columns = texts(key, value)?,
            "nulls" => self.csv.nulls = texts(key, value)?,
            _ => {}
        }
        Ok(())
    }

    fn schema(&mut self, value: &Value) -> Result<(), FormatError> {
        let Value::Object(columns) = value else {
            return Err(FormatError::config("schema is no table", "write schema = { amount = \"decimal(10,2)\" }"));
        };
        for (name, value) in columns {
            let written = text(&format!("schema.{name}"), value)?;
            let data_type = declared::parse(written).map_err(|(message, hint)| {
                FormatError::config(format!("schema.{name} = {written:?}: {message}"), hint)
            })?;
            if !crate::names::is_usable(name, true) {
                return Err(FormatError::config(
                    format!("schema.{name:?} cannot be a column"),
                    "names have 1 to 256 bytes and do not begin with _forebay_",
                ));
            }
            let folded = crate::names::fold(name);
            if let Some((other, _)) = self.common.declared.iter().find(|(other, _)| crate::names::fold(other) == folded)
            {
                return Err(FormatError::config(
                    format!("schema.{other} and schema.{name} come to one name in a table"),
                    "declare one of them: the other's values are rescued",
                ));
            }
            self.common.declared.push((name.clone(), data_type));
            self.common.declared_text.push((name.clone(), written.to_owned()));
        }
        Ok(())
    }

    fn check(&self) -> Result<(), FormatError> {
        let Quoting { delimiter, quote, escape, double_quote: _ } = self.csv.quoting;
        if delimiter == quote || escape == Some(quote) || escape == Some(delimiter) {
            return Err(FormatError::config(
                "delimiter, quote and escape are not three different characters",
                "quotes within quotes are doubled by default: leave escape out for that",
            ));
        }
        if self.csv.header && !self.csv.columns.is_empty() {
            return Err(FormatError::config(
                "columns are named beside a header",
                "set header = false, or leave columns out",
            ));
        }
        for (index, name) in self.csv.columns.iter().enumerate() {
            if self.csv.columns.iter().take(index).any(|other| other == name) {
                return Err(FormatError::config(
                    format!("columns names {name:?} twice"),
                    "give each field its own name",
                ));
            }
        }
        Ok(())
    }

    /// All settings, defaults too, in one order: what a revision's hash is made of.
    pub(crate) fn to_json(&self) -> Value {
        let Common { declared: _, declared_text, sample_records, max_record_bytes, max_columns, zone } = &self.common;
        let CsvSettings { quoting, header, columns, nulls } = &self.csv;
        let Quoting { delimiter, quote, escape, double_quote } = *quoting;
        let schema: Vec<Value> = declared_text.iter().map(|(name, text)| json!([name, text])).collect();
        let mut all = json!({
            "type": self.kind.name(),
            "max_columns": max_columns,
            "max_record_bytes": max_record_bytes,
            "sample_records": sample_records,
            "schema": schema,
            "zone_seconds_east": zone,
        });
        if let Value::Object(all) = &mut all {
            if self.kind != Kind::Csv {
                let records = self.records.as_ref().map(|path| format!("$.{}", path.join(".")));
                all.insert("records".to_owned(), json!(records));
            }
            if self.kind != Kind::Json {
                let csv = json!({
                    "columns": columns,
                    "delimiter": if self.has_delimiter { Some(char::from(delimiter)) } else { None },
                    "double_quote": double_quote,
                    "escape": escape.map(char::from),
                    "header": header,
                    "nulls": nulls,
                    "quote": char::from(quote),
                });
                all.insert("csv".to_owned(), csv);
            }
        }
        all
    }
}

/// `$`, `$[*]`, `$.Records`, `$.data.rows[*]`.
fn path(written: &str) -> Result<Vec<String>, FormatError> {
    let refused = || {
        FormatError::config(
            format!("records = {written:?} is no path to records"),
            "write \"$\" for the document itself, or names from it to the list: \"$.Records[*]\", \"$.data.rows\"",
        )
    };
    let inner = written.strip_suffix("[*]").unwrap_or(written).strip_prefix('$').ok_or_else(refused)?;
    if inner.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<String> = inner.strip_prefix('.').ok_or_else(refused)?.split('.').map(str::to_owned).collect();
    let plain = |name: &String| !name.is_empty() && !name.contains(['[', ']', '*', '?', '$', '"', '\'']);
    if names.len() <= 32 && names.iter().all(plain) { Ok(names) } else { Err(refused()) }
}

fn wrong(key: &str, expected: &str) -> FormatError {
    FormatError::config(format!("{key} is not {expected}"), format!("give {key} {expected}"))
}

fn text<'a>(key: &str, value: &'a Value) -> Result<&'a str, FormatError> {
    value.as_str().ok_or_else(|| wrong(key, "a text"))
}

fn texts(key: &str, value: &Value) -> Result<Vec<String>, FormatError> {
    let list = value.as_array().ok_or_else(|| wrong(key, "a list of texts"))?;
    list.iter().map(|value| value.as_str().map(str::to_owned).ok_or_else(|| wrong(key, "a list of texts"))).collect()
}

fn flag(key: &str, value: &Value) -> Result<bool, FormatError> {
    value.as_bool().ok_or_else(|| wrong(key, "true or false"))
}

fn count(key: &str, value: &Value, least: usize, most: usize) -> Result<usize, FormatError> {
    value
        .as_u64()
        .and_then(|count| usize::try_from(count).ok())
        .filter(|count| (least..=most).contains(count))
        .ok_or_else(|| wrong(key, &format!("a number from {least} to {most}")))
}

fn byte(key: &str, value: &Value) -> Result<u8, FormatError> {
    match value.as_str().map(str::as_bytes) {
        Some(&[byte]) if byte.is_ascii() && !matches!(byte, b'\n' | b'\r' | 0) => Ok(byte),
        _ => Err(wrong(key, "one ASCII character that is no end of line")),
    }
}

fn nearest(word: &str, known: &[&str]) -> String {
    let best = known.iter().max_by(|a, b| strsim::jaro_winkler(word, a).total_cmp(&strsim::jaro_winkler(word, b)));
    match best.filter(|best| strsim::jaro_winkler(word, best) > 0.7) {
        Some(best) => format!("did you mean {best:?}? It may be one of {}", known.join(", ")),
        None => format!("it may be one of {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCS: &str = include_str!("../../../../docs/formats.md");

    #[test]
    fn every_setting_is_documented_and_no_other() {
        let documented: Vec<_> =
            DOCS.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(key, _)| key).collect();
        let keys: Vec<_> = COMMON_KEYS.iter().chain(&JSON_KEYS).chain(&CSV_KEYS).copied().collect();
        assert_eq!(documented, keys);
    }

    #[test]
    fn every_type_is_documented() {
        let types = declared::WORDS.iter().filter(|word| !DOCS.contains(&format!("`{word}")));
        assert_eq!(types.collect::<Vec<_>>(), Vec::<&&str>::new());
    }
}
