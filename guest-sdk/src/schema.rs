//! Schemas: what the rule is bound to, and how they cross the boundary (as Arrow IPC schema messages).

use std::sync::Arc;

use arrow_ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteOptions};
use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef};

use crate::error::BindError;

/// The columns that arrive: those of the stream, or of the step before.
#[derive(Debug, Clone)]
pub struct InputSchema {
    schema: SchemaRef,
}

impl InputSchema {
    /// From Arrow's own schema.
    #[must_use]
    pub fn new(schema: SchemaRef) -> Self {
        Self { schema }
    }

    /// Arrow's own schema.
    #[must_use]
    pub fn arrow(&self) -> &SchemaRef {
        &self.schema
    }

    /// The columns, in order.
    #[must_use]
    pub fn fields(&self) -> &[FieldRef] {
        self.schema.fields()
    }

    /// The column of this name. Where none is spelt exactly so, the one that differs in case only: forebay never lets two
    /// columns of a schema differ in case alone, so there is at most one.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Field> {
        let fields = self.schema.fields();
        fields
            .iter()
            .find(|field| field.name() == name)
            .or_else(|| fields.iter().find(|field| same_name(field.name(), name)))
            .map(AsRef::as_ref)
    }

    /// The type of a column, found as by [`Self::find`].
    #[must_use]
    pub fn data_type(&self, name: &str) -> Option<&DataType> {
        self.find(name).map(Field::data_type)
    }

    /// The names of the columns, for messages.
    #[must_use]
    pub fn names(&self) -> String {
        self.schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// Whether two column names are the same but for case: then they mean the same column.
#[must_use]
pub fn same_name(a: &str, b: &str) -> bool {
    a == b || a.to_lowercase() == b.to_lowercase()
}

const CONTINUATION: [u8; 4] = [0xff; 4];

/// The schema as an encapsulated IPC message: continuation marker, length, flatbuffer padded to 8 bytes.
pub(crate) fn encode(schema: &Schema) -> Vec<u8> {
    let encoded = IpcDataGenerator::default().schema_to_bytes_with_dictionary_tracker(
        schema,
        &mut DictionaryTracker::new(false),
        &IpcWriteOptions::default(),
    );
    let body = encoded.ipc_message;
    let padded = body.len().next_multiple_of(8);
    let mut bytes = Vec::with_capacity(8 + padded);
    bytes.extend_from_slice(&CONTINUATION);
    // A schema of 4 GiB cannot exist in a guest's memory.
    bytes.extend_from_slice(&u32::try_from(padded).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes.resize(8 + padded, 0);
    bytes
}

/// Reads what [`encode`], or any Arrow writer, wrote.
pub(crate) fn decode(message: &[u8]) -> Result<InputSchema, BindError> {
    arrow_ipc::convert::try_schema_from_ipc_buffer(message)
        .map(|schema| InputSchema::new(Arc::new(schema)))
        .map_err(|error| BindError::new(format!("the input schema cannot be read: {error}")))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use arrow_schema::{Fields, TimeUnit};

    use super::*;

    #[test]
    fn schemas_cross_as_they_are() {
        let item = Arc::new(Field::new("item", DataType::Decimal128(10, 2), true));
        let entries =
            Fields::from(vec![Field::new("keys", DataType::Utf8, false), Field::new("values", DataType::Binary, true)]);
        let schema = Schema::new(vec![
            Field::new("a", DataType::Float64, false),
            Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
            Field::new("list", DataType::List(item), true),
            Field::new(
                "map",
                DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false),
                true,
            ),
            Field::new("Ünïcode", DataType::Null, true),
        ]);
        let message = encode(&schema);
        assert_eq!(message[..4], CONTINUATION);
        assert_eq!(message.len() % 8, 0);
        assert_eq!(**decode(&message).unwrap().arrow(), schema);
        assert!(decode(&message[..20]).is_err());
    }

    #[test]
    fn columns_are_found_by_exact_name_first() {
        let names = ["amount", "V14", "v17"].map(|name| Field::new(name, DataType::Float64, true));
        let input = InputSchema::new(Arc::new(Schema::new(names.to_vec())));
        assert_eq!(input.find("v14").unwrap().name(), "V14");
        assert_eq!(input.find("AMOUNT").unwrap().name(), "amount");
        assert!(input.find("v1").is_none());
    }
}
