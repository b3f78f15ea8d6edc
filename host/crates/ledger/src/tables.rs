//! The documented tables (`docs/ledger.md`): their names and columns, written once for every implementation.

use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use forebay_model::Timestamp;

use crate::error::{LedgerError, Result};

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `Utf8`.
    Text,
    /// `Int64`.
    Int,
    /// `Timestamp(us, UTC)`.
    Time,
    /// `Boolean`.
    Bool,
}

/// A column of a documented table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its type.
    pub(crate) kind: Kind,
    /// How SQL computes it from the table `t`; `None` where the table has it under its own name.
    pub(crate) sql: Option<&'static str>,
}

/// A documented table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its columns.
    pub(crate) columns: &'static [Column],
    /// The columns that order its rows.
    pub(crate) order: &'static str,
}

/// A value of a documented table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cell {
    /// None.
    Null,
    /// Text.
    Text(String),
    /// A number, a boolean (0 or 1) or microseconds, by the column's kind.
    Int(i64),
}

const fn text(name: &'static str) -> Column {
    Column { name, kind: Kind::Text, sql: None }
}
const fn int(name: &'static str) -> Column {
    Column { name, kind: Kind::Int, sql: None }
}
const fn time(name: &'static str) -> Column {
    Column { name, kind: Kind::Time, sql: None }
}
const fn boolean(name: &'static str) -> Column {
    Column { name, kind: Kind::Bool, sql: None }
}
/// The revision's number, for people, from its id.
const REVISION: Column = Column {
    name: "revision",
    kind: Kind::Int,
    sql: Some("(SELECT v.revision FROM revisions v WHERE v.pipeline = t.pipeline AND v.revision_id = t.revision_id)"),
};

/// All of them, in the order of a record's way.
pub(crate) const TABLES: &[Table] = &[
    Table {
        name: "segments",
        columns: &[
            int("number"),
            text("segment"),
            text("stream"),
            text("partition"),
            text("key"),
            text("version"),
            int("source_start"),
            int("source_end"),
            text("position"),
            text("next_position"),
            text("object"),
            text("content"),
            int("content_start"),
            int("content_end"),
            text("compression"),
            text("preamble"),
            int("bytes"),
            int("records"),
            text("format"),
            Column {
                name: "sha256",
                kind: Kind::Text,
                sql: Some("(SELECT o.sha256 FROM objects o WHERE o.object = t.object)"),
            },
            time("landed_at"),
        ],
        order: "number",
    },
    Table {
        name: "objects",
        columns: &[
            int("number"),
            text("object"),
            text("stream"),
            text("partition"),
            text("key"),
            text("version"),
            int("source_start"),
            int("source_end"),
            text("identity"),
            text("on_change"),
            int("bytes"),
            text("sha256"),
            text("attempt"),
            time("landed_at"),
            text("replaced_by"),
        ],
        order: "number",
    },
    Table {
        name: "partitions",
        columns: &[text("stream"), text("partition"), text("next_position"), time("advanced_at")],
        order: "stream, partition",
    },
    Table {
        name: "refinements",
        columns: &[
            text("pipeline"),
            text("segment"),
            text("state"),
            int("generation"),
            int("load_number"),
            REVISION,
            text("revision_id"),
            int("records"),
            int("loaded"),
            int("filtered"),
            int("rejected"),
            int("rescued"),
            int("retryable"),
            int("attempts"),
            text("error_class"),
            text("error_message"),
            text("error_hint"),
            time("failed_at"),
            time("retry_at"),
            boolean("chosen"),
        ],
        order: "pipeline, segment",
    },
    Table {
        name: "histories",
        columns: &[text("pipeline"), text("stream"), int("number"), time("began_at")],
        order: "pipeline, stream",
    },
    Table {
        name: "sides",
        columns: &[
            text("pipeline"),
            text("of_pipeline"),
            Column {
                name: "revision",
                kind: Kind::Int,
                sql: Some(
                    "(SELECT v.revision FROM revisions v WHERE v.pipeline = t.of_pipeline AND v.revision_id = t.revision_id)",
                ),
            },
            text("revision_id"),
            int("workers"),
            text("reason"),
            time("asked_at"),
            boolean("dropped"),
        ],
        order: "pipeline",
    },
    Table { name: "side_segments", columns: &[text("pipeline"), text("segment")], order: "pipeline, segment" },
    Table {
        name: "heals",
        columns: &[
            text("pipeline"),
            text("segment"),
            int("generation"),
            int("load_number"),
            REVISION,
            text("revision_id"),
            int("records"),
            int("loaded"),
            int("filtered"),
            int("rejected"),
            int("rescued"),
        ],
        order: "pipeline, segment, generation",
    },
    Table {
        name: "again",
        columns: &[
            text("pipeline"),
            text("segment"),
            text("what"),
            REVISION,
            text("revision_id"),
            int("workers"),
            text("reason"),
            time("asked_at"),
            int("attempts"),
            text("error_class"),
            text("error_message"),
            text("error_hint"),
            time("failed_at"),
            time("retry_at"),
        ],
        order: "pipeline, segment",
    },
    Table {
        name: "loads",
        columns: &[
            text("pipeline"),
            int("number"),
            text("table_name"),
            text("id"),
            text("state"),
            REVISION,
            text("revision_id"),
            int("schema_version"),
            int("files"),
            int("bytes"),
            int("rows"),
            int("removed_rows"),
            int("table_version"),
            time("begun_at"),
            time("done_at"),
        ],
        order: "pipeline, number, table_name",
    },
    Table {
        name: "load_segments",
        columns: &[text("pipeline"), int("number"), text("table_name"), text("segment"), int("files"), int("rows")],
        order: "pipeline, number, table_name, segment",
    },
    Table {
        name: "reject_counts",
        columns: &[text("pipeline"), text("segment"), int("generation"), text("stage"), text("code"), int("records")],
        order: "pipeline, segment, generation, stage, code",
    },
    Table {
        name: "schemas",
        columns: &[text("pipeline"), int("version"), text("schema"), time("created_at")],
        order: "pipeline, version",
    },
    Table {
        name: "held_changes",
        columns: &[
            text("table_name"),
            text("column_name"),
            text("data_type"),
            text("reason"),
            time("first_seen"),
            boolean("approved"),
        ],
        order: "table_name, column_name",
    },
    Table {
        name: "modules",
        columns: &[
            text("name"),
            text("sha256"),
            text("version"),
            int("bytes"),
            text("origin"),
            time("recorded_at"),
            Column {
                name: "active",
                kind: Kind::Bool,
                sql: Some("EXISTS (SELECT 1 FROM _active_modules a WHERE a.name = t.name AND a.sha256 = t.sha256)"),
            },
        ],
        order: "name, sha256",
    },
    Table {
        name: "assets",
        columns: &[text("name"), text("sha256"), int("bytes"), text("origin"), time("recorded_at")],
        order: "name, sha256",
    },
    Table { name: "module_files", columns: &[text("path"), text("sha256"), time("seen_at")], order: "path" },
    Table {
        name: "revisions",
        columns: &[text("pipeline"), int("revision"), text("revision_id"), text("body"), time("created_at")],
        order: "pipeline, revision",
    },
    Table {
        name: "deployments",
        columns: &[
            int("number"),
            text("pipeline"),
            REVISION,
            text("revision_id"),
            text("state"),
            text("reason"),
            time("deployed_at"),
            time("retired_at"),
            time("shadow_since"),
            text("shadow_plan"),
            text("shadow_report"),
        ],
        order: "number",
    },
    Table { name: "paused", columns: &[text("pipeline"), text("reason"), time("since")], order: "pipeline" },
    Table {
        name: "requests",
        columns: &[
            int("number"),
            text("what"),
            text("arguments"),
            time("asked_at"),
            text("answer"),
            time("answered_at"),
        ],
        order: "number",
    },
];

/// The tables' names.
pub(crate) fn names() -> Vec<&'static str> {
    TABLES.iter().map(|table| table.name).collect()
}

/// The table of that name.
pub(crate) fn table(name: &str) -> Result<&'static Table> {
    TABLES.iter().find(|table| table.name == name).ok_or_else(|| LedgerError::NoTable { name: name.to_owned() })
}

impl Table {
    /// The query that gives its rows, columns in order.
    pub(crate) fn select(&self) -> String {
        let columns: Vec<_> = self
            .columns
            .iter()
            .map(|column| match column.sql {
                Some(sql) => format!("{sql} AS {}", column.name),
                None => format!("t.{}", column.name),
            })
            .collect();
        format!("SELECT {} FROM {} t ORDER BY {}", columns.join(", "), self.name, self.order)
    }

    /// Rows as Arrow.
    pub(crate) fn batch(&self, rows: &[Vec<Cell>]) -> Result<RecordBatch> {
        let mut fields = Vec::with_capacity(self.columns.len());
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for (index, column) in self.columns.iter().enumerate() {
            let cells = || rows.iter().map(move |row| row.get(index));
            let ints = || {
                cells().map(|cell| match cell {
                    Some(Cell::Int(value)) => Some(*value),
                    Some(Cell::Text(_) | Cell::Null) | None => None,
                })
            };
            let array: ArrayRef = match column.kind {
                Kind::Text => Arc::new(StringArray::from_iter(cells().map(|cell| match cell {
                    Some(Cell::Text(value)) => Some(value.as_str()),
                    Some(Cell::Int(_) | Cell::Null) | None => None,
                }))),
                Kind::Int => Arc::new(Int64Array::from_iter(ints())),
                Kind::Time => Arc::new(TimestampMicrosecondArray::from_iter(ints()).with_timezone("UTC")),
                Kind::Bool => Arc::new(BooleanArray::from_iter(ints().map(|value| value.map(|value| value != 0)))),
            };
            fields.push(Field::new(column.name, column.kind.data_type(), true));
            arrays.push(array);
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
            .map_err(|error| LedgerError::invariant(format!("table {} as Arrow: {error}", self.name)))
    }
}

impl Kind {
    fn data_type(self) -> DataType {
        match self {
            Self::Text => DataType::Utf8,
            Self::Int => DataType::Int64,
            Self::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Bool => DataType::Boolean,
        }
    }
}

impl From<&str> for Cell {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}
impl From<String> for Cell {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}
impl From<i64> for Cell {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}
impl From<u32> for Cell {
    fn from(value: u32) -> Self {
        Self::Int(i64::from(value))
    }
}
impl From<u64> for Cell {
    /// Numbers above 2^63 are refused before they come here: see `check`.
    fn from(value: u64) -> Self {
        i64::try_from(value).map_or(Self::Null, Self::Int)
    }
}
impl From<bool> for Cell {
    fn from(value: bool) -> Self {
        Self::Int(i64::from(value))
    }
}
impl From<Timestamp> for Cell {
    fn from(value: Timestamp) -> Self {
        Self::Int(value.as_micros())
    }
}
impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn every_table_and_column_is_documented_and_nothing_else() {
        let page = include_str!("../../../../docs/ledger.md");
        let sections: Vec<_> = page.split("\n### ").skip(1).collect();
        assert_eq!(sections.len(), TABLES.len());
        for table in TABLES {
            let section = sections.iter().find(|section| section.lines().next() == Some(table.name));
            let section = section.expect(table.name);
            for column in table.columns {
                assert!(section.contains(&format!("`{}`", column.name)), "{}.{}", table.name, column.name);
                let computed = section.contains(&format!("`{}` †", column.name));
                assert_eq!(computed, column.sql.is_some(), "{}.{} is computed by the query", table.name, column.name);
            }
        }
    }
}
