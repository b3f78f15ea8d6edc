//! Rows as people and programs read them: a table, JSON lines, CSV.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::csv::WriterBuilder as CsvWriterBuilder;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::json::WriterBuilder as JsonWriterBuilder;
use arrow::json::writer::LineDelimited;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use clap::ValueEnum;
use comfy_table::{CellAlignment, ContentArrangement, Table, TableComponent, presets};

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// A JSON object a row; a null stands as null.
    Jsonl,
    /// With a header; a null is empty, and nested values are JSON.
    Csv,
}

/// How a null is shown in a table, so that it cannot be taken for an empty text.
const NULL: &str = "NULL";

/// Writes rows as they come. A table is written when it is whole, since its widths depend on every row.
pub(crate) struct Writer<W: Write> {
    format: Format,
    schema: SchemaRef,
    out: W,
    kept: Vec<RecordBatch>,
    headed: bool,
}

impl<W: Write> Writer<W> {
    /// A writer of rows of `schema`.
    pub(crate) fn new(format: Format, schema: SchemaRef, out: W) -> Self {
        Self { format, schema, out, kept: Vec::new(), headed: false }
    }

    /// Where it writes to, for what is not rows.
    pub(crate) fn out(&mut self) -> &mut W {
        &mut self.out
    }

    /// Adds rows.
    ///
    /// # Errors
    /// Of the output, or where a value cannot be written in the format.
    pub(crate) fn write(&mut self, batch: RecordBatch) -> anyhow::Result<()> {
        match self.format {
            Format::Table => self.kept.push(batch),
            Format::Jsonl => {
                let builder = JsonWriterBuilder::new().with_explicit_nulls(true);
                let mut writer = builder.build::<_, LineDelimited>(&mut self.out);
                writer.write(&batch)?;
                writer.finish()?;
            }
            Format::Csv => {
                let batch = flat(&batch)?;
                CsvWriterBuilder::new().with_header(!self.headed).build(&mut self.out).write(&batch)?;
                self.headed = true;
            }
        }
        Ok(())
    }

    /// Ends the output.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        match self.format {
            Format::Table => {
                let text = table(&self.schema, &self.kept)?;
                writeln!(self.out, "{text}")?;
            }
            Format::Csv if !self.headed => {
                let empty = flat(&RecordBatch::new_empty(Arc::clone(&self.schema)))?;
                CsvWriterBuilder::new().with_header(true).build(&mut self.out).write(&empty)?;
            }
            Format::Jsonl | Format::Csv => {}
        }
        self.out.flush()?;
        Ok(())
    }
}

fn options() -> FormatOptions<'static> {
    FormatOptions::new().with_null(NULL).with_timestamp_tz_format(Some("%Y-%m-%dT%H:%M:%S%.6fZ"))
}

/// Rows as a table. A single value stands alone: `forebay query "SELECT count(*) …"` is used in scripts.
fn table(schema: &Schema, batches: &[RecordBatch]) -> anyhow::Result<String> {
    let options = options();
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_style(TableComponent::HeaderLines, '─').set_style(TableComponent::MiddleHeaderIntersections, '─');
    table.set_header(schema.fields().iter().map(|field| field.name().as_str()));
    for (column, field) in table.column_iter_mut().zip(schema.fields()) {
        if field.data_type().is_numeric() {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for batch in batches {
        let columns = batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            let cells: Result<Vec<_>, _> = columns.iter().map(|column| column.value(row).try_to_string()).collect();
            let cells: Vec<String> = cells?.iter().map(|cell| visible(cell)).collect();
            if let ([only], 1) = (cells.as_slice(), rows) {
                return Ok(only.clone());
            }
            table.add_row(cells);
        }
    }
    Ok(table.trim_fmt())
}

/// Text without what would change a terminal's state, or the table's lines.
pub(crate) fn visible(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

/// Nested columns as JSON text: CSV has no lists.
fn flat(batch: &RecordBatch) -> anyhow::Result<RecordBatch> {
    let nested = |data_type: &DataType| data_type.is_nested();
    if !batch.schema().fields().iter().any(|field| nested(field.data_type())) {
        return Ok(batch.clone());
    }
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if nested(field.data_type()) {
            fields.push(Arc::new(Field::new(field.name(), DataType::Utf8, true)));
            columns.push(Arc::new(json_text(field, column)?));
        } else {
            fields.push(Arc::clone(field));
            columns.push(Arc::clone(column));
        }
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// Each value as JSON text.
fn json_text(field: &Arc<Field>, column: &ArrayRef) -> anyhow::Result<StringArray> {
    let schema = Arc::new(Schema::new(vec![Arc::clone(field)]));
    let batch = RecordBatch::try_new(schema, vec![Arc::clone(column)])?;
    let mut lines = Vec::new();
    let mut writer = JsonWriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut lines);
    writer.write(&batch)?;
    writer.finish()?;
    drop(writer);
    let mut texts = Vec::with_capacity(batch.num_rows());
    for line in serde_json::Deserializer::from_slice(&lines).into_iter::<serde_json::Map<String, serde_json::Value>>() {
        let value = line?.remove(field.name()).unwrap_or_default();
        texts.push((!value.is_null()).then(|| value.to_string()));
    }
    Ok(StringArray::from(texts))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use arrow::array::{Int64Array, ListArray};
    use arrow::datatypes::Int64Type;

    use super::*;

    fn rows() -> RecordBatch {
        let names = StringArray::from(vec![Some("a,\"b\""), None, Some("x\u{1b}[31m")]);
        let lists =
            ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(1), None].to_vec()), None, Some(vec![])]);
        RecordBatch::try_from_iter([
            ("n", Arc::new(Int64Array::from(vec![1, 20, 300])) as ArrayRef),
            ("name", Arc::new(names)),
            ("list", Arc::new(lists)),
        ])
        .unwrap()
    }

    fn written(format: Format, batch: RecordBatch) -> String {
        let mut out = Vec::new();
        let mut writer = Writer::new(format, batch.schema(), &mut out);
        writer.write(batch).unwrap();
        writer.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_format_tells_null_from_empty_and_hides_control_characters() {
        let table = written(Format::Table, rows());
        assert!(table.contains("NULL") && table.contains("x\\u{1b}[31m"), "{table}");
        let jsonl = written(Format::Jsonl, rows());
        assert_eq!(jsonl.lines().nth(1).unwrap(), r#"{"n":20,"name":null,"list":null}"#);
        let csv = written(Format::Csv, rows());
        assert_eq!(csv.lines().next().unwrap(), "n,name,list");
        assert_eq!(csv.lines().nth(1).unwrap(), r#"1,"a,""b""","[1,null]""#);
        assert_eq!(csv.lines().nth(2).unwrap(), "20,,");
    }

    #[test]
    fn no_rows_still_have_a_header() {
        let empty = rows().slice(0, 0);
        assert_eq!(written(Format::Csv, empty.clone()), "n,name,list\n");
        assert_eq!(written(Format::Jsonl, empty.clone()), "");
        assert!(written(Format::Table, empty).contains("name"));
    }

    #[test]
    fn a_single_value_stands_alone() {
        let one = rows().slice(0, 1).project(&[0]).unwrap();
        assert_eq!(written(Format::Table, one), "1\n");
    }
}
