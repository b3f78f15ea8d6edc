//! What a rule does to a schema: the columns that it reads, and the routes that it writes.
//!
//! A plan is the agreement between a rule and the host. The host sends only what the plan reads, takes back only what it
//! computes, and checks both against the next step and the tables before any data flows.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::BindError;
use crate::kind::Kind;
use crate::layout::Layout;
use crate::row::Row;
use crate::schema::{InputSchema, same_name};

/// Where the values of an input column come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// A column of the input schema.
    Column,
    /// The record's key: bytes.
    RecordKey,
    /// The record's headers: a map of text to bytes.
    RecordHeaders,
    /// The time that the source gave the record: a timestamp.
    RecordTimestamp,
    /// The record's position in its partition: text.
    RecordPosition,
    /// The object that the record lay in: text, a file's path relative to its source.
    RecordObject,
}

impl Source {
    /// The type of what is the record's own.
    fn data_type(self) -> DataType {
        match self {
            Self::Column => DataType::Null,
            Self::RecordKey => DataType::Binary,
            Self::RecordHeaders => {
                let entries =
                    vec![Field::new("keys", DataType::Utf8, false), Field::new("values", DataType::Binary, true)];
                DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries.into()), false)), false)
            }
            Self::RecordTimestamp => DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, Some("UTC".into())),
            Self::RecordPosition | Self::RecordObject => DataType::Utf8,
        }
    }
}

/// A column that the rule reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Input {
    /// The rule's word for it.
    pub(crate) alias: String,
    /// The schema's.
    pub(crate) name: String,
    pub(crate) source: Source,
    pub(crate) required: bool,
    /// `Null` where the schema lacks it: then no row reaches the rule.
    pub(crate) data_type: DataType,
}

/// A column of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Output {
    PassOthers(Vec<String>),
    Pass { input: String, output: String },
    Computed(u32),
}

/// A named output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) name: String,
    pub(crate) columns: Vec<Output>,
    pub(crate) computed: SchemaRef,
    pub(crate) layouts: Vec<Layout>,
}

/// The columns that a rule reads and the routes that it writes, made with the methods below; a mistake in any of them comes
/// out as the [`BindError`] of the whole.
#[derive(Debug, Clone)]
#[must_use]
pub struct Plan {
    schema: InputSchema,
    inputs: Vec<Input>,
    routes: Vec<Route>,
    reusable: bool,
    error: Option<BindError>,
}

impl Plan {
    /// A plan that reads nothing and writes nothing.
    pub fn new(input: &InputSchema) -> Self {
        Self { schema: input.clone(), inputs: vec![], routes: vec![], reusable: false, error: None }
    }

    /// Reads a column, found as by [`InputSchema::find`]. Rows where it is missing, null or did not fit its type are rejected
    /// before the rule sees them (where the schema has no such column, all are, until it has).
    pub fn require(self, name: &str, kind: Kind) -> Self {
        self.input(name, name, kind, true)
    }

    /// Reads a column where the schema has it; its values may be null.
    pub fn optional(self, name: &str, kind: Kind) -> Self {
        self.input(name, name, kind, false)
    }

    /// As [`Self::require`], where the rule's word for the column is not the schema's: [`crate::Batch`] knows it by `alias`.
    pub fn require_as(self, alias: &str, name: &str, kind: Kind) -> Self {
        self.input(alias, name, kind, true)
    }

    /// As [`Self::optional`], with a word of the rule's own.
    pub fn optional_as(self, alias: &str, name: &str, kind: Kind) -> Self {
        self.input(alias, name, kind, false)
    }

    /// Reads what is the record's own and not a column. Where it is required, records that lack it are rejected.
    pub fn record(mut self, alias: &str, source: Source, required: bool) -> Self {
        if source == Source::Column {
            return self.fail(BindError::new(format!("{alias:?} is no record's own")).hint("use require or optional"));
        }
        self.inputs.push(Input {
            alias: alias.to_owned(),
            name: alias.to_owned(),
            source,
            required,
            data_type: source.data_type(),
        });
        self
    }

    /// Reads the columns of a [`Row`].
    pub fn row<'a, R: Row<'a>>(self) -> Self {
        self.row_named::<R>(&ColumnNames::default())
    }

    /// Reads the columns of a [`Row`], some under the names that the config gives.
    pub fn row_named<'a, R: Row<'a>>(mut self, names: &ColumnNames) -> Self {
        if let Some(unknown) = names.0.keys().find(|key| !R::COLUMNS.iter().any(|column| column.field == **key)) {
            let known: Vec<_> = R::COLUMNS.iter().map(|column| column.field).collect();
            return self.fail(
                BindError::new(format!("the rule has no column {unknown:?}"))
                    .place(format!("config.columns.{unknown}"))
                    .hint(format!("its columns are {}", known.join(", "))),
            );
        }
        for column in R::COLUMNS {
            let name = names.0.get(column.field).map_or(column.name, String::as_str);
            self = self.input(column.field, name, column.kind, column.required);
        }
        self
    }

    fn input(mut self, alias: &str, name: &str, kind: Kind, required: bool) -> Self {
        if self.inputs.iter().any(|input| input.alias == alias) {
            return self.fail(BindError::new(format!("the rule reads {alias:?} twice")).place(name));
        }
        let Some(field) = self.schema.find(name) else {
            if required {
                let (alias, name) = (alias.to_owned(), name.to_owned());
                let data_type = DataType::Null;
                self.inputs.push(Input { alias, name, source: Source::Column, required, data_type });
            }
            return self;
        };
        if !kind.accepts(field.data_type()) {
            let error = BindError::new(format!(
                "column {:?} is {}, the rule wants {}",
                field.name(),
                field.data_type(),
                kind.wanted()
            ))
            .place(field.name().clone())
            .hint("declare the column's type in the stream's schema, or convert it in a step before");
            return self.fail(error);
        }
        let (name, data_type) = (field.name().clone(), field.data_type().clone());
        self.inputs.push(Input { alias: alias.to_owned(), name, source: Source::Column, required, data_type });
        self
    }

    /// Adds a route. `out` feeds the next step, or a table where the step is the last; every other one is given a table.
    pub fn route(mut self, name: &str, columns: impl FnOnce(Columns) -> Columns) -> Self {
        if self.routes.iter().any(|route| route.name == name) {
            return self.fail(BindError::new(format!("route {name:?} is planned twice")));
        }
        match columns(Columns::new(self.schema.clone())).finish(name) {
            Ok(route) => self.routes.push(route),
            Err(error) => return self.fail(error),
        }
        self
    }

    /// Says that an instance may serve many segments. For rules whose [`crate::Transform::new`] is dear (a model's weights),
    /// and that remember nothing between rows.
    pub fn reusable(mut self) -> Self {
        self.reusable = true;
        self
    }

    fn fail(mut self, error: BindError) -> Self {
        self.error.get_or_insert(error);
        self
    }

    /// Inputs, routes and whether the instance is reusable.
    pub(crate) fn finish(self) -> Result<Finished, BindError> {
        let Self { schema: _, inputs, routes, reusable, error } = self;
        match error {
            Some(error) => Err(error),
            None if routes.is_empty() => {
                Err(BindError::new("the rule plans no route").hint("add one: .route(\"out\", …)"))
            }
            None => Ok(Finished { inputs, routes, reusable }),
        }
    }
}

/// A plan without mistakes.
#[derive(Debug, Clone)]
pub(crate) struct Finished {
    pub(crate) inputs: Vec<Input>,
    pub(crate) routes: Vec<Route>,
    pub(crate) reusable: bool,
}

/// One column of a route, before all are known.
#[derive(Debug, Clone)]
enum Entry {
    All(Vec<String>),
    Pass { input: String, output: String },
    Computed,
}

/// The columns of a route, in order.
#[derive(Debug, Clone)]
#[must_use]
pub struct Columns {
    schema: InputSchema,
    entries: Vec<Entry>,
    computed: Vec<FieldRef>,
}

impl Columns {
    fn new(schema: InputSchema) -> Self {
        Self { schema, entries: vec![], computed: vec![] }
    }

    /// Passes all input columns through, those that the stream gains later too. An input column whose name (but for case) a
    /// computed or separately passed column of the route has gives way to it.
    pub fn pass_all(self) -> Self {
        self.pass_all_but(&[] as &[&str])
    }

    /// As [`Self::pass_all`], without those named.
    pub fn pass_all_but<S: AsRef<str>>(mut self, except: &[S]) -> Self {
        self.entries.push(Entry::All(except.iter().map(|name| name.as_ref().to_owned()).collect()));
        self
    }

    /// Passes one input column through.
    pub fn pass(self, name: &str) -> Self {
        self.pass_as(name, name)
    }

    /// Passes one input column through under another name.
    pub fn pass_as(mut self, input: &str, output: &str) -> Self {
        self.entries.push(Entry::Pass { input: input.to_owned(), output: output.to_owned() });
        self
    }

    /// A column that the rule computes, and that may be null. Each `emit` to the route hands over its computed columns in this order.
    pub fn computed(self, name: &str, data_type: DataType) -> Self {
        self.computed_field(Field::new(name, data_type, true))
    }

    /// A column that the rule computes, with all that Arrow knows of a field.
    pub fn computed_field(mut self, field: Field) -> Self {
        self.entries.push(Entry::Computed);
        self.computed.push(Arc::new(field));
        self
    }

    fn finish(self, route: &str) -> Result<Route, BindError> {
        let Self { schema, entries, computed } = self;
        let mut taken: Vec<String> = computed.iter().map(|field| field.name().clone()).collect();
        let mut moved = Vec::new();
        for entry in &entries {
            if let Entry::Pass { input, output } = entry {
                let field = schema.find(input).ok_or_else(|| missing(route, input, &schema))?;
                moved.push(field.name().clone());
                taken.push(output.clone());
            }
        }
        if let Some(twice) = (1..taken.len()).find(|&at| taken[..at].iter().any(|name| same_name(name, &taken[at]))) {
            return Err(BindError::new(format!("route {route:?} has two columns named {:?}", taken[twice])));
        }
        let mut next = 0;
        let mut columns = Vec::with_capacity(entries.len());
        for entry in entries {
            columns.push(match entry {
                Entry::All(except) => Output::PassOthers(left_out(&schema, except, &taken, &moved)),
                Entry::Pass { input, output } => {
                    let name = schema.find(&input).map_or(input.clone(), |field| field.name().clone());
                    let output = if output == input { name.clone() } else { output };
                    Output::Pass { input: name, output }
                }
                Entry::Computed => {
                    next += 1;
                    Output::Computed(next - 1)
                }
            });
        }
        let layouts = computed
            .iter()
            .map(|field| {
                Layout::of(field.data_type()).map_err(|other| {
                    BindError::new(format!(
                        "route {route:?} computes {:?} as {other}, which forebay does not take",
                        field.name()
                    ))
                    .hint("the types are listed in the WIT, forebay:transform/types")
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Route { name: route.to_owned(), columns, computed: Arc::new(Schema::new(computed)), layouts })
    }
}

fn missing(route: &str, input: &str, schema: &InputSchema) -> BindError {
    BindError::new(format!("route {route:?} passes column {input:?}, which the input lacks"))
        .place(input)
        .hint(format!("the input has {}", schema.names()))
}

/// What `pass-others` leaves out: what the rule named, and every input column that another column of the route replaces.
fn left_out(schema: &InputSchema, mut except: Vec<String>, taken: &[String], moved: &[String]) -> Vec<String> {
    for name in taken.iter().chain(moved) {
        // By its own name even where the input has no such column yet: it may gain one.
        if !except.contains(name) {
            except.push(name.clone());
        }
    }
    let spelt: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| field.name())
        .filter(|name| !except.contains(name) && except.iter().any(|other| same_name(other, name)))
        .cloned()
        .collect();
    except.extend(spelt);
    except
}

/// Names that a config gives to the columns of a [`Row`], by field: `columns = { v14 = "V14", amount = "total" }`. A field that
/// it does not name is found by its own name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ColumnNames(pub std::collections::BTreeMap<String, String>);
