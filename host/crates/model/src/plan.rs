//! What a rule said at `bind`: the columns it reads and what it does to the schema. Validated by the sandbox.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};

use crate::column::timestamp_type;

/// Where the values of an input column come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InputSource {
    /// A column of the incoming schema.
    Column,
    /// The record's key.
    RecordKey,
    /// The record's headers.
    RecordHeaders,
    /// The time that the source gave the record.
    RecordTimestamp,
    /// The record's position, as text.
    RecordPosition,
    /// The object that the record lay in.
    RecordObject,
}

impl InputSource {
    /// The type of what is the record's own; `None` for a column of the schema.
    #[must_use]
    pub fn data_type(self) -> Option<DataType> {
        match self {
            Self::Column => None,
            Self::RecordKey => Some(DataType::Binary),
            Self::RecordHeaders => Some(headers_type()),
            Self::RecordTimestamp => Some(timestamp_type()),
            Self::RecordPosition | Self::RecordObject => Some(DataType::Utf8),
        }
    }
}

/// `Map<Utf8, Binary>`: a record's headers. A name may stand more than once.
#[must_use]
pub fn headers_type() -> DataType {
    let entries =
        Fields::from(vec![Field::new("keys", DataType::Utf8, false), Field::new("values", DataType::Binary, true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}

/// A column that the rule reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputColumn {
    /// Its name in the incoming schema.
    pub name: String,
    /// Where its values come from.
    pub source: InputSource,
    /// Rows where it is missing, null or rescued are rejected before the rule sees them.
    pub required: bool,
}

/// A column of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputColumn {
    /// All input columns but those named.
    PassOthers {
        /// Those left out.
        except: Vec<String>,
    },
    /// One input column.
    Pass {
        /// Its name in the input.
        input: String,
        /// Its name in the route.
        output: String,
    },
    /// A computed column: its index in [`RoutePlan::computed`].
    Computed(usize),
}

/// A named output of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutePlan {
    /// Its name.
    pub name: String,
    /// Its columns, in order.
    pub columns: Vec<OutputColumn>,
    /// The computed columns, as `emit` hands them over.
    pub computed: SchemaRef,
}

/// One column of a route's output, resolved against the input schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResolvedColumn {
    /// The input column at this index of the incoming schema.
    Input(usize),
    /// The computed column at this index.
    Computed(usize),
}

/// A rule's plan for one input schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The columns that `process` is given, in order.
    pub inputs: Vec<InputColumn>,
    /// The routes; `emit` names them by index.
    pub routes: Vec<RoutePlan>,
    /// An instance may serve many segments.
    pub reusable: bool,
}

impl Plan {
    /// The route's schema and where each of its columns comes from, for this input.
    ///
    /// # Errors
    /// A sentence naming the column, where a passed column is not in the input, a computed index is out of range, or two
    /// columns share a name.
    pub fn resolve(&self, route: usize, input: &Schema) -> Result<(SchemaRef, Vec<ResolvedColumn>), String> {
        let route = self.routes.get(route).ok_or_else(|| format!("there is no route {route}"))?;
        let mut fields: Vec<FieldRef> = Vec::new();
        let mut resolved = Vec::new();
        for column in &route.columns {
            match column {
                OutputColumn::PassOthers { except } => {
                    for (index, field) in input.fields().iter().enumerate() {
                        if !except.contains(field.name()) {
                            fields.push(Arc::clone(field));
                            resolved.push(ResolvedColumn::Input(index));
                        }
                    }
                }
                OutputColumn::Pass { input: name, output } => {
                    let (index, field) = input.column_with_name(name).ok_or_else(|| {
                        format!("route {:?} passes column {name:?}, which the input lacks", route.name)
                    })?;
                    fields.push(Arc::new(field.clone().with_name(output)));
                    resolved.push(ResolvedColumn::Input(index));
                }
                OutputColumn::Computed(index) => {
                    let field = route
                        .computed
                        .fields()
                        .get(*index)
                        .ok_or_else(|| format!("route {:?} has no computed column {index}", route.name))?;
                    fields.push(Arc::clone(field));
                    resolved.push(ResolvedColumn::Computed(*index));
                }
            }
        }
        let mut names: Vec<_> = fields.iter().map(|field| field.name().as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("route {:?} has two columns named {:?}", route.name, pair[0]));
        }
        Ok((Arc::new(Schema::new(fields)), resolved))
    }
}
