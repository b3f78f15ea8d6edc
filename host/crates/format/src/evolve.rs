//! How a schema grows from what was rescued: new fields with the types that inference gives them, also within structs and
//! lists, and `Int64` that met a fraction becomes `Float64`. Nothing else changes: other conflicts stay rescued.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, Schema};
use forebay_model::schema::Evolution;

use crate::column::{Column, Object};
use crate::shape::{Shape, leaves};

/// The schema that would have fitted better, if any. `pinned` are top-level fields that a person declared.
pub(crate) fn evolve(
    schema: &Schema,
    root: &Object,
    seen: &Shape,
    csv: bool,
    max_columns: usize,
    pinned: &dyn Fn(&str) -> bool,
) -> Option<Evolution> {
    let used: usize = schema.fields().iter().map(|field| leaves(field.data_type())).sum();
    let mut growth =
        Growth { csv, room: max_columns.saturating_sub(used), added: Vec::new(), widened: Vec::new(), pinned };
    let fields = growth.fields(schema.fields(), root, seen, "");
    let Growth { added, widened, .. } = growth;
    if added.is_empty() && widened.is_empty() {
        return None;
    }
    let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
    Some(Evolution { schema, added, widened })
}

struct Growth<'a> {
    csv: bool,
    room: usize,
    added: Vec<String>,
    widened: Vec<String>,
    pinned: &'a dyn Fn(&str) -> bool,
}

impl Growth<'_> {
    fn fields(&mut self, fields: &Fields, object: &Object, seen: &Shape, path: &str) -> Fields {
        let mut grown: Vec<FieldRef> = Vec::with_capacity(fields.len());
        for (field, member) in fields.iter().zip(&object.members) {
            let shape = seen.member(field.name());
            let is_pinned = path.is_empty() && (self.pinned)(field.name());
            grown.push(match shape {
                Some(shape) if !is_pinned => {
                    let data_type =
                        self.data_type(field.data_type(), &member.column, shape, &below(path, field.name()));
                    Arc::new(Field::clone(field).with_data_type(data_type))
                }
                _ => Arc::clone(field),
            });
        }
        for (name, shape) in seen.kept(path.is_empty()) {
            if object.index_of(name).is_none()
                && object.may_grow(name)
                && let Some(data_type) = shape.data_type(self.csv, &mut self.room)
            {
                self.added.push(below(path, name));
                grown.push(Arc::new(Field::new(name, data_type, true)));
            }
        }
        grown.into()
    }

    fn data_type(&mut self, data_type: &DataType, column: &Column, seen: &Shape, path: &str) -> DataType {
        match (data_type, column) {
            (DataType::Int64, Column::Int(ints)) if seen.has_floats() && !ints.beyond_float => {
                self.widened.push(path.to_owned());
                DataType::Float64
            }
            (DataType::List(field), Column::List(list)) => match seen.element() {
                Some(seen) => {
                    let element = self.data_type(field.data_type(), &list.element, seen, &format!("{path}[]"));
                    DataType::List(Arc::new(Field::clone(field).with_data_type(element)))
                }
                None => data_type.clone(),
            },
            (DataType::Struct(fields), Column::Struct(records)) => {
                DataType::Struct(self.fields(fields, &records.object, seen, path))
            }
            _ => data_type.clone(),
        }
    }
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
