//! What a table's schema becomes with a load, whatever the warehouse.
//!
//! Columns and nested fields are only ever added, at the end; `Int64` may become `Float64`. A load that was made under an
//! older schema than the table's is welcome: what it lacks is null in its rows, what it has narrower is widened.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};

/// The schema after a load, and what it takes to get there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Merged {
    /// The table's fields first, then those that are added.
    pub(crate) schema: SchemaRef,
    /// Paths of columns that become `Float64`: every file that has them is rewritten.
    pub(crate) widened: Vec<String>,
    /// Whether the table's schema changes.
    pub(crate) changed: bool,
}

/// Merges the schema of a load into the table's.
///
/// # Errors
/// A sentence naming the column that does not fit.
pub(crate) fn merge(table: &SchemaRef, load: &SchemaRef) -> Result<Merged, String> {
    let mut widened = Vec::new();
    let fields = merge_fields("", table.fields(), load.fields(), &mut widened)?;
    let schema = Arc::new(Schema::new(fields));
    let changed = schema.fields() != table.fields();
    Ok(Merged { schema, widened, changed })
}

fn merge_fields(path: &str, table: &Fields, load: &Fields, widened: &mut Vec<String>) -> Result<Fields, String> {
    let mut merged: Vec<FieldRef> = Vec::with_capacity(table.len().max(load.len()));
    for field in table {
        merged.push(match load.find(field.name()) {
            Some((_, wanted)) => {
                let path = format!("{path}{}", field.name());
                let data_type = merge_types(&path, field.data_type(), wanted.data_type(), widened)?;
                Arc::new(field.as_ref().clone().with_data_type(data_type))
            }
            None => Arc::clone(field),
        });
    }
    for field in load {
        if table.find(field.name()).is_none() {
            merged.push(Arc::new(Field::clone(field).with_nullable(true)));
        }
    }
    check_names(path, &merged)?;
    Ok(merged.into())
}

/// Names that differ only in case are one column to most readers.
pub(crate) fn check_names(path: &str, fields: &[FieldRef]) -> Result<(), String> {
    let mut names: Vec<_> = fields.iter().map(|field| (field.name().to_lowercase(), field.name())).collect();
    names.sort_unstable();
    match names.iter().zip(names.iter().skip(1)).find(|(one, other)| one.0 == other.0) {
        Some((one, other)) => Err(format!("columns {path}{} and {path}{} are one to most readers", one.1, other.1)),
        None => Ok(()),
    }
}

fn merge_types(path: &str, table: &DataType, load: &DataType, widened: &mut Vec<String>) -> Result<DataType, String> {
    if table == load {
        return Ok(table.clone());
    }
    if table == &DataType::Int64 && load == &DataType::Float64 {
        widened.push(path.to_owned());
        return Ok(DataType::Float64);
    }
    // The load was made before the table was widened.
    if table == &DataType::Float64 && load == &DataType::Int64 {
        return Ok(DataType::Float64);
    }
    if let (DataType::Struct(table), DataType::Struct(load)) = (table, load) {
        return Ok(DataType::Struct(merge_fields(&format!("{path}."), table, load, widened)?));
    }
    if let (DataType::List(table), DataType::List(load)) = (table, load) {
        let item = merge_types(&format!("{path}.element"), table.data_type(), load.data_type(), widened)?;
        return Ok(DataType::List(Arc::new(table.as_ref().clone().with_data_type(item))));
    }
    Err(format!("column {path} has type {table}, and the load has {load}"))
}

/// Whether a file of schema `file` can be read under `table` as it is: it may lack columns and fields, nothing else.
pub(crate) fn reads_as(file: &Fields, table: &Fields) -> bool {
    file.iter().all(|field| {
        table.find(field.name()).is_none_or(|(_, wanted)| type_reads_as(field.data_type(), wanted.data_type()))
    })
}

fn type_reads_as(file: &DataType, table: &DataType) -> bool {
    if let (DataType::Struct(file), DataType::Struct(table)) = (file, table) {
        return reads_as(file, table);
    }
    if let (DataType::List(file), DataType::List(table)) = (file, table) {
        return type_reads_as(file.data_type(), table.data_type());
    }
    // The one pair of types that a merge lets stand together.
    !(file == &DataType::Int64 && table == &DataType::Float64)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn schema(fields: Vec<(&str, DataType)>) -> SchemaRef {
        Arc::new(Schema::new(fields.into_iter().map(|(name, kind)| Field::new(name, kind, true)).collect::<Vec<_>>()))
    }

    fn object(fields: Vec<(&str, DataType)>) -> DataType {
        DataType::Struct(fields.into_iter().map(|(name, kind)| Field::new(name, kind, true)).collect())
    }

    #[test]
    fn columns_are_added_at_the_end_and_none_is_lost() {
        let table = schema(vec![("a", DataType::Int64), ("b", object(vec![("x", DataType::Utf8)]))]);
        let load =
            schema(vec![("c", DataType::Utf8), ("b", object(vec![("y", DataType::Int64), ("x", DataType::Utf8)]))]);
        let merged = merge(&table, &load).unwrap();
        let both = object(vec![("x", DataType::Utf8), ("y", DataType::Int64)]);
        assert_eq!(merged.schema, schema(vec![("a", DataType::Int64), ("b", both), ("c", DataType::Utf8)]));
        assert!(merged.changed && merged.widened.is_empty());
        assert!(!merge(&merged.schema, &table).unwrap().changed);
    }

    #[test]
    fn only_int64_becomes_float64() {
        let int = schema(vec![("a", object(vec![("n", DataType::Int64)]))]);
        let float = schema(vec![("a", object(vec![("n", DataType::Float64)]))]);
        let merged = merge(&int, &float).unwrap();
        assert_eq!((merged.widened, &merged.schema), (vec!["a.n".to_owned()], &float));
        assert!(merge(&float, &int).unwrap().widened.is_empty());
        assert!(!reads_as(int.fields(), float.fields()));
        assert!(reads_as(float.fields(), float.fields()));
        let text = schema(vec![("a", DataType::Utf8)]);
        assert!(merge(&text, &int).unwrap_err().contains("column a has type Utf8"));
        let case = schema(vec![("A", DataType::Utf8)]);
        assert!(merge(&text, &case).unwrap_err().contains("one to most readers"));
    }
}
