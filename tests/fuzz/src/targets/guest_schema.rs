//! The schema of computed columns that a guest sends at `bind`: a schema within its limits, or an error.

use arrow_schema::DataType;

use crate::{limits, schema};

/// How many fields there are, nested ones included, and how deep.
fn size(data_type: &DataType) -> (usize, usize) {
    let children: Vec<_> = match data_type {
        DataType::List(child) | DataType::Map(child, _) => vec![child],
        DataType::Struct(children) => children.iter().collect(),
        _ => Vec::new(),
    };
    children
        .iter()
        .map(|child| size(child.data_type()))
        .fold((1, 1), |(fields, depth), (more, below)| (fields + more, depth.max(below + 1)))
}

pub(crate) fn run(data: &[u8]) {
    let limits = limits::Limits { columns: 64, depth: 8, ..limits::Limits::default() };
    let Ok(schema) = schema::decode(data, &limits) else { return };
    let sizes: Vec<_> = schema.fields().iter().map(|field| size(field.data_type())).collect();
    assert!(sizes.iter().map(|(fields, _)| fields).sum::<usize>() <= limits.columns);
    assert!(sizes.iter().all(|(_, depth)| *depth <= limits.depth));
    // And it goes back the way that it came.
    let again = schema::encode(&schema).expect("it is written");
    assert_eq!(schema::decode(&again, &limits).expect("it is read"), schema);
}
