//! Putting values aside: a column's values as members of the JSON object in `_forebay_rescued`.

use std::collections::{BTreeMap, BTreeSet};

use arrow_array::builder::StringBuilder;
use arrow_array::{Array, ArrayRef, StringArray};
use arrow_schema::{Field, FieldRef};
use forebay_model::{Error, Result};

/// A column to put aside: its name, its values, and for which rows (all where `None`).
#[derive(Debug)]
pub struct Aside<'a> {
    /// The name in the object.
    pub name: &'a str,
    /// The values.
    pub values: &'a ArrayRef,
    /// `rows[i]`: this row's value is put aside.
    pub rows: Option<Vec<bool>>,
}

/// `rescued` with the columns' values added, where they are not null.
///
/// # Errors
/// Class bug, where Arrow cannot write a value as JSON.
pub fn put_aside(rescued: &StringArray, columns: &[Aside<'_>]) -> Result<StringArray> {
    if columns.is_empty() {
        return Ok(rescued.clone());
    }
    let options = arrow_json::EncoderOptions::default().with_explicit_nulls(true);
    let fields: Vec<FieldRef> =
        columns.iter().map(|column| Field::new(column.name, column.values.data_type().clone(), true).into()).collect();
    let mut encoders = Vec::with_capacity(columns.len());
    for (column, field) in columns.iter().zip(&fields) {
        let encoder = arrow_json::writer::make_encoder(field, column.values.as_ref(), &options).map_err(|error| {
            Error::bug(format!("column {:?} cannot be rescued as JSON", column.name)).with_source(error)
        })?;
        encoders.push(encoder);
    }
    let names: Vec<String> = columns.iter().map(|column| serde_json::Value::from(column.name).to_string()).collect();
    let mut builder = StringBuilder::with_capacity(rescued.len(), rescued.len() * 16);
    let mut object = Vec::new();
    for row in 0..rescued.len() {
        object.clear();
        if rescued.is_valid(row) {
            object.extend_from_slice(rescued.value(row).as_bytes());
        }
        for ((column, name), encoder) in columns.iter().zip(&names).zip(&mut encoders) {
            let wanted = column.rows.as_ref().is_none_or(|rows| rows[row]);
            if !wanted || column.values.is_null(row) {
                continue;
            }
            begin_member(&mut object, name);
            encoder.encode(row, &mut object);
            object.push(b'}');
        }
        if object.is_empty() {
            builder.append_null();
        } else {
            let text = std::str::from_utf8(&object)
                .map_err(|error| Error::bug("a rescued value is not UTF-8").with_source(error))?;
            builder.append_value(text);
        }
    }
    Ok(builder.finish())
}

fn begin_member(object: &mut Vec<u8>, name: &str) {
    if object.is_empty() {
        object.push(b'{');
    } else {
        object.pop();
        if object.last() != Some(&b'{') {
            object.push(b',');
        }
    }
    object.extend_from_slice(name.as_bytes());
    object.push(b':');
}

/// The columns that a rescued object has values of, each once: what stands before a path (`geo` of `geo.city`).
#[must_use]
pub fn members(object: &str) -> BTreeSet<String> {
    // Values stay text: rescued ones may be numbers that no float holds, such as 1e999.
    let members = serde_json::from_str::<BTreeMap<String, &serde_json::value::RawValue>>(object);
    let column = |path: String| path.split(['.', '[', '#']).next().unwrap_or_default().to_owned();
    members.map(|members| members.into_keys().map(column).collect()).unwrap_or_default()
}

/// Whether a rescued object has a member of this name: what a rule requires and what did not fit. Top-level fields and paths
/// below them (`geo.city` for `geo`).
#[must_use]
pub fn has_member(object: &str, name: &str) -> bool {
    // Values stay text: rescued ones may be numbers that no float holds, such as 1e999.
    let members = serde_json::from_str::<BTreeMap<String, &serde_json::value::RawValue>>(object);
    members.is_ok_and(|members| {
        members
            .keys()
            .any(|key| key.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[', '#'])))
    })
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "tests")]
mod tests {
    use std::sync::Arc;

    use super::*;
    use arrow_array::{Float64Array, Int64Array};

    #[test]
    fn members_are_added_to_what_is_there() {
        let rescued = StringArray::from(vec![None, Some(r#"{"x":1}"#), None, Some("{}")]);
        let values: ArrayRef = Arc::new(Int64Array::from(vec![Some(7), Some(8), None, Some(9)]));
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![0.5, 1.5, 2.5, 3.5]));
        let columns = [
            Aside { name: "a \"b\"", values: &values, rows: None },
            Aside { name: "f", values: &floats, rows: Some(vec![true, false, false, false]) },
        ];
        let out = put_aside(&rescued, &columns).expect("rescues");
        assert_eq!(out.value(0), r#"{"a \"b\"":7,"f":0.5}"#);
        assert_eq!(out.value(1), r#"{"x":1,"a \"b\"":8}"#);
        assert!(out.is_null(2));
        assert_eq!(out.value(3), r#"{"a \"b\"":9}"#);
        assert!(has_member(out.value(1), "x") && !has_member(out.value(1), "f"));
        assert!(has_member(r#"{"geo.city":1}"#, "geo"));
        assert!(has_member(r#"{"n":1e999}"#, "n") && has_member(r#"{"items[3].note":1}"#, "items"));
        let columns = members(r#"{"geo.city":1,"geo.zip":1,"n#2":1e999,"items[3].note":1}"#);
        assert_eq!(columns.into_iter().collect::<Vec<_>>(), ["geo", "items", "n"]);
        assert!(has_member(r#"{"n#2":1}"#, "n") && !has_member(r#"{"name":1}"#, "n"));
    }
}
