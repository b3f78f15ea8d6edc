//! Inference: what was seen of a stream's values, counted by kind, and the types that follow.
//!
//! For each field the kind that was met most often wins; ties go to text, then numbers, booleans, lists, objects. What
//! is of another kind is rescued when it is decoded. Within a kind:
//!
//! - text is a timestamp where each text of the sample is one;
//! - numbers are `Int64`; `Float64` where one has a point or an exponent, unless integers that no float is equal to
//!   outnumber those; `Decimal128(38, 0)` where a tenth or more of them are integers beyond 64 bits;
//! - objects are structs of their typed fields, lists have the type of their elements;
//! - nulls, empty objects and empty lists have no type: a field that is nothing else has no column.
//!
//! CSV says nothing of kinds: there a field has a type where each of its texts is written so, and is text otherwise.
//!
//! Of names that come to one name in a table (they differ only in case, or in characters that no table's names have) the
//! smallest in byte order has the column. Fields come in the order in which they
//! were first met, at most as many as the limit says, counted as leaves.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields};
use forebay_model::column::timestamp_type;

use crate::cursor::{Cursor, Fault, Malformed, Number};
use crate::names;
use crate::number;
use crate::time;

/// Integers beyond 64 bits are decimals.
pub(crate) const BIG: DataType = DataType::Decimal128(38, 0);

/// What observing needs beside the shape.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Seconds east of UTC of times without a zone.
    pub(crate) zone: Option<i32>,
    /// Fields that may still be watched: it bounds the memory, whatever the names.
    pub(crate) room: usize,
    text: Vec<u8>,
}

impl Watch {
    /// Watches some more fields than may become columns: many will never have a type.
    pub(crate) fn new(zone: Option<i32>, max_columns: usize) -> Self {
        Self { zone, room: max_columns.saturating_mul(4), text: Vec::new() }
    }
}

/// The values that were met at one place.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    bools: u64,
    ints: u64,
    /// Those of `ints` that no float is equal to.
    inexact: u64,
    /// Integers of 65 bits to 38 digits.
    bigs: u64,
    floats: u64,
    times: u64,
    texts: u64,
    lists: u64,
    objects: u64,
    element: Option<Box<Shape>>,
    members: Option<Box<Members>>,
}

#[derive(Debug, Default)]
pub(crate) struct Members {
    order: Vec<(String, Shape)>,
    index: HashMap<String, usize>,
}

impl Shape {
    /// Whether a number with a point or an exponent was met.
    pub(crate) fn has_floats(&self) -> bool {
        self.floats > 0
    }

    pub(crate) fn element(&self) -> Option<&Self> {
        self.element.as_deref()
    }

    pub(crate) fn element_mut(&mut self) -> &mut Self {
        self.element.get_or_insert_default()
    }

    pub(crate) fn member(&self, name: &str) -> Option<&Self> {
        let members = self.members.as_ref()?;
        members.order.get(*members.index.get(name)?).map(|(_, shape)| shape)
    }

    /// The shape of a field, a new one where there is room.
    pub(crate) fn member_mut(&mut self, name: &str, room: &mut usize) -> Option<&mut Self> {
        let members = self.members.get_or_insert_default();
        let index = match members.index.get(name) {
            Some(&index) => index,
            None => {
                *room = room.checked_sub(1)?;
                members.order.push((name.to_owned(), Self::default()));
                members.index.insert(name.to_owned(), members.order.len() - 1);
                members.order.len() - 1
            }
        };
        members.order.get_mut(index).map(|(_, shape)| shape)
    }

    /// Counts the JSON value at the cursor.
    pub(crate) fn json(&mut self, cursor: &mut Cursor<'_>, watch: &mut Watch, depth: u32) -> Result<(), Malformed> {
        match cursor.peek() {
            b'"' => {
                cursor.at += 1;
                watch.text.clear();
                // Half of a surrogate pair is no text: such a value is always rescued.
                if cursor.string(&mut watch.text)? {
                    let time = time::timestamp(&watch.text, watch.zone).is_some();
                    self.times += u64::from(time);
                    self.texts += u64::from(!time);
                }
            }
            b'-' | b'0'..=b'9' => {
                let from = cursor.at;
                let number = cursor.number()?;
                self.number(number, cursor.since(from));
            }
            b't' | b'f' => {
                cursor.skip(depth)?;
                self.bools += 1;
            }
            b'[' => {
                let mut more = cursor.enter(b']', depth)?;
                self.lists += 1;
                while more {
                    self.element_mut().json(cursor, watch, depth + 1)?;
                    more = cursor.more(b']', Fault::ListEnd)?;
                }
            }
            b'{' => self.object(cursor, watch, depth)?,
            _ => cursor.skip(depth)?,
        }
        Ok(())
    }

    fn object(&mut self, cursor: &mut Cursor<'_>, watch: &mut Watch, depth: u32) -> Result<(), Malformed> {
        self.objects += 1;
        let mut more = cursor.enter(b'}', depth)?;
        while more {
            cursor.at += 1;
            watch.text.clear();
            cursor.string(&mut watch.text)?;
            cursor.colon()?;
            let name = String::from_utf8_lossy(&watch.text).into_owned();
            match self.member_mut(&name, &mut watch.room) {
                Some(member) => member.json(cursor, watch, depth + 1)?,
                None => cursor.skip(depth + 1)?,
            }
            more = cursor.more(b'}', Fault::ObjectEnd)?;
        }
        Ok(())
    }

    /// Numbers that no type holds (`1e999`) count nowhere.
    fn number(&mut self, number: Number, text: &[u8]) {
        if number.to_i64().is_some() {
            self.ints += 1;
            self.inexact += u64::from(number.to_f64(text).is_none());
        } else if number.integer {
            self.bigs += u64::from(number::integer(text).is_some());
        } else {
            self.floats += u64::from(number.to_f64(text).is_some());
        }
    }

    /// Counts a CSV field that is not null.
    pub(crate) fn csv(&mut self, text: &[u8], zone: Option<i32>) {
        let mut cursor = Cursor::over(text);
        if text == b"true" || text == b"false" {
            self.bools += 1;
        } else if let Ok(number) = cursor.number()
            && cursor.at == text.len()
        {
            self.number(number, text);
        } else if time::timestamp(text, zone).is_some() {
            self.times += 1;
        } else {
            self.texts += 1;
        }
    }

    /// The type of what was met. `csv`: one text that is written differently makes all text. `room`: leaves that
    /// the schema may still have.
    pub(crate) fn data_type(&self, csv: bool, room: &mut usize) -> Option<DataType> {
        if *room == 0 {
            return None;
        }
        let Self { bools, ints, bigs, floats, times, texts, lists, objects, .. } = *self;
        let numbers = ints + bigs + floats;
        if csv {
            let kinds = [bools, numbers, times, texts].iter().filter(|&&count| count > 0).count();
            if kinds > 1 {
                *room -= 1;
                return Some(DataType::Utf8);
            }
        }
        // Sorting is stable, so the order here settles ties.
        let mut kinds = [(times + texts, 't'), (numbers, 'n'), (bools, 'b'), (lists, 'l'), (objects, 'o')];
        kinds.sort_by_key(|&(count, _)| std::cmp::Reverse(count));
        for (_, kind) in kinds.into_iter().filter(|&(count, _)| count > 0) {
            let data_type = match kind {
                't' => Some(if texts == 0 { timestamp_type() } else { DataType::Utf8 }),
                'n' => Some(self.number_type()),
                'b' => Some(DataType::Boolean),
                'l' => {
                    let element = self.element().and_then(|element| element.data_type(csv, room));
                    if let Some(element) = element {
                        return Some(DataType::List(list_field(element)));
                    }
                    None
                }
                _ => {
                    let fields = self.fields(csv, room, false);
                    if !fields.is_empty() {
                        return Some(DataType::Struct(fields));
                    }
                    None
                }
            };
            if data_type.is_some() {
                *room -= 1;
                return data_type;
            }
        }
        None
    }

    fn number_type(&self) -> DataType {
        let numbers = self.ints + self.bigs + self.floats;
        if self.floats == 0 && self.bigs > 0 && self.bigs.saturating_mul(10) >= numbers {
            BIG
        } else if self.floats > 0 && self.floats >= self.inexact {
            DataType::Float64
        } else {
            DataType::Int64
        }
    }

    /// The typed fields, nullable, in the order in which they were met.
    pub(crate) fn fields(&self, csv: bool, room: &mut usize, root: bool) -> Fields {
        let mut fields = Vec::new();
        for (name, shape) in self.kept(root) {
            if let Some(data_type) = shape.data_type(csv, room) {
                fields.push(Field::new(name, data_type, true));
            }
        }
        fields.into()
    }

    /// All fields, in the order in which they were met.
    pub(crate) fn met(&self) -> impl Iterator<Item = (&str, &Self)> {
        self.members.iter().flat_map(|members| &members.order).map(|(name, shape)| (name.as_str(), shape))
    }

    /// The fields that may have a column: of names that come to one, the smallest.
    pub(crate) fn kept(&self, root: bool) -> Vec<(&str, &Self)> {
        let Some(members) = &self.members else { return Vec::new() };
        let mut winners: HashMap<String, &str> = HashMap::new();
        for (name, _) in &members.order {
            winners
                .entry(names::fold(name))
                .and_modify(|winner| *winner = (*winner).min(name.as_str()))
                .or_insert(name);
        }
        members
            .order
            .iter()
            .filter(|(name, _)| names::is_usable(name, root) && winners.get(&names::fold(name)) == Some(&name.as_str()))
            .map(|(name, shape)| (name.as_str(), shape))
            .collect()
    }
}

/// A list's element, as every list of ours names it.
pub(crate) fn list_field(element: DataType) -> FieldRef {
    Arc::new(Field::new("element", element, true))
}

/// How many leaves a type has: what counts against the limit of columns.
pub(crate) fn leaves(data_type: &DataType) -> usize {
    #[expect(clippy::wildcard_enum_match_arm, reason = "all others are leaves")]
    match data_type {
        DataType::List(element) => leaves(element.data_type()),
        DataType::Struct(fields) => fields.iter().map(|field| leaves(field.data_type())).sum(),
        _ => 1,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn infer(records: &[&str]) -> Fields {
        let mut shape = Shape::default();
        let mut watch = Watch::new(None, 100);
        for record in records {
            shape.json(&mut Cursor::over(record.as_bytes()), &mut watch, 0).unwrap();
        }
        shape.fields(false, &mut 100, true)
    }

    fn type_of(values: &[&str]) -> Option<DataType> {
        let records: Vec<String> = values.iter().map(|value| format!("{{\"x\":{value}}}")).collect();
        let records: Vec<&str> = records.iter().map(String::as_str).collect();
        infer(&records).first().map(|field| field.data_type().clone())
    }

    fn csv_type_of(values: &[&str]) -> Option<DataType> {
        let mut shape = Shape::default();
        for value in values {
            shape.csv(value.as_bytes(), None);
        }
        shape.data_type(true, &mut 1)
    }

    #[test]
    fn the_kind_met_most_often_wins() {
        assert_eq!(type_of(&["\"a\"", "\"b\"", "3"]), Some(DataType::Utf8));
        assert_eq!(type_of(&["3", "4", "\"b\""]), Some(DataType::Int64));
        assert_eq!(type_of(&["3", "\"b\""]), Some(DataType::Utf8), "text wins a tie");
        assert_eq!(type_of(&["3", "true"]), Some(DataType::Int64), "then numbers");
        assert_eq!(type_of(&["{}", "{}", "true"]), Some(DataType::Boolean), "what has no type does not count");
        for untyped in [&["null", "[]", "{}"][..], &["[null,[]]"], &["1e999"], &["\"\\ud800\""]] {
            assert_eq!(type_of(untyped), None, "{untyped:?}");
        }
    }

    #[test]
    fn numbers_have_the_type_that_loses_nothing() {
        assert_eq!(type_of(&["1", "2.5"]), Some(DataType::Float64));
        assert_eq!(type_of(&["9007199254740993", "9007199254740995", "2.5"]), Some(DataType::Int64));
        assert_eq!(type_of(&["18446744073709551615", "1"]), Some(BIG));
        let mut mostly_small = vec!["1"; 20];
        mostly_small.push("18446744073709551615");
        assert_eq!(type_of(&mostly_small), Some(DataType::Int64));
    }

    #[test]
    fn text_is_a_timestamp_where_all_of_it_is() {
        assert_eq!(type_of(&["\"2024-01-01T00:00:00Z\"", "null"]), Some(timestamp_type()));
        assert_eq!(type_of(&["\"2024-01-01T00:00:00Z\"", "\"soon\""]), Some(DataType::Utf8));
        assert_eq!(type_of(&["\"2024-01-01T00:00:00\""]), Some(DataType::Utf8));
    }

    #[test]
    fn nested_values_have_nested_types() {
        let fields = infer(&[r#"{"g":{"a":1,"n":null},"l":[{"q":1},{"q":2.5,"r":"x"}]}"#]);
        let g = DataType::Struct(vec![Field::new("a", DataType::Int64, true)].into());
        let q = vec![Field::new("q", DataType::Float64, true), Field::new("r", DataType::Utf8, true)];
        let l = DataType::List(list_field(DataType::Struct(q.into())));
        assert_eq!(fields, vec![Field::new("g", g, true), Field::new("l", l, true)].into());
    }

    #[test]
    fn the_smallest_spelling_keeps_the_name() {
        let fields = infer(&[r#"{"id":1,"name":1,"Id":2,"ID":3}"#, r#"{"o":{"b":1,"B":2}}"#]);
        let names: Vec<_> = fields.iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["name", "ID", "o"]);
        let DataType::Struct(inner) = fields[2].data_type() else { unreachable!() };
        assert_eq!(inner[0].name(), "B");
    }

    #[test]
    fn reserved_empty_and_endless_names_are_no_columns() {
        let long = format!("{{\"{}\":1,\"\":2,\"_Forebay_x\":3,\"ok\":{{\"_forebay_y\":4}}}}", "n".repeat(300));
        let fields = infer(&[&long]);
        assert_eq!(fields.len(), 1);
        assert_eq!(leaves(fields[0].data_type()), 1);
    }

    #[test]
    fn columns_are_limited_by_leaves() {
        let mut shape = Shape::default();
        let mut watch = Watch::new(None, 3);
        let record = r#"{"a":{"x":1,"y":2},"b":[3],"c":4,"d":5}"#;
        shape.json(&mut Cursor::over(record.as_bytes()), &mut watch, 0).unwrap();
        let fields = shape.fields(false, &mut 3, true);
        let names: Vec<_> = fields.iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn csv_is_text_unless_all_is_written_alike() {
        assert_eq!(csv_type_of(&["1", "-2"]), Some(DataType::Int64));
        assert_eq!(csv_type_of(&["1", "2.5"]), Some(DataType::Float64));
        assert_eq!(csv_type_of(&["1", "2", "3", "n/a"]), Some(DataType::Utf8));
        assert_eq!(csv_type_of(&["007"]), Some(DataType::Utf8));
        assert_eq!(csv_type_of(&["true", "false"]), Some(DataType::Boolean));
        assert_eq!(csv_type_of(&["true", "1"]), Some(DataType::Utf8));
        assert_eq!(csv_type_of(&["2024-01-01T00:00:00Z"]), Some(timestamp_type()));
        assert_eq!(csv_type_of(&[]), None);
    }
}
