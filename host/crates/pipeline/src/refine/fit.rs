//! How a route's rows fit a table: which columns it has, which it gains, and what is rescued instead.
//!
//! A schema change stops nothing (promise 8). A column that is new to the table is added (`apply`), or its values go to
//! `_forebay_rescued` (`hold` until approved, `rescue` for ever). A column whose type does not meet the table's is rescued.
//! `Int64` that has become `Float64` is the one widening: the table is rewritten where it is small enough, else the
//! change is held, integers stay and other numbers are rescued, value by value.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef};
use forebay_model::column;
use forebay_model::ids::TableName;
use forebay_model::ports::{HeldChange, TableInfo, TableOwner, Warehouse};
use forebay_model::schema::SchemaChanges;
use forebay_model::{Error, Result, Timestamp};

use super::conform::{Meeting, meet};

/// What happens to a column of the route's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// It becomes this column of the table, brought to its type without loss.
    Column(usize),
    /// It becomes this column where the number is the same in the table's type; other values are rescued.
    ByValue(usize),
    /// All its values are rescued, under its own name.
    Rescued,
}

/// A route's rows and their table.
#[derive(Debug, Clone)]
pub struct TableFit {
    /// The table.
    pub table: TableName,
    /// Its schema after a load, with forebay's own columns: what is staged has it.
    pub after: SchemaRef,
    /// For each column of the route.
    pub destinations: Vec<Destination>,
    /// For each column of the route, how the warehouse stores it, before it meets the table.
    pub stored: Vec<DataType>,
    /// Columns that the load adds, by name.
    pub adds: Vec<String>,
    /// Columns that the load rewrites as `Float64`.
    pub widens: Vec<String>,
    /// Changes that wait.
    pub held: Vec<HeldChange>,
    /// The columns that divide its files.
    pub partition_by: Vec<String>,
}

/// What is known of the table before.
#[derive(Debug, Clone, Default)]
pub struct TableState {
    /// Its schema; `None` for a table that does not exist yet.
    pub schema: Option<SchemaRef>,
    /// Its size in bytes.
    pub bytes: u64,
    /// The columns that divide its files; `None` for a table that does not exist yet.
    pub partition_by: Option<Vec<String>>,
    /// Who loads it; `None` for a table that does not exist yet, or is not forebay's.
    pub owner: Option<TableOwner>,
    /// Columns of it that a person approved.
    pub approved: BTreeSet<String>,
}

impl TableState {
    /// The table as the warehouse has it, with the changes to it that a person approved.
    #[must_use]
    pub fn new(info: Option<TableInfo>, table: &TableName, held: &[HeldChange]) -> Self {
        let approved = held.iter().filter(|change| change.approved && change.table == *table);
        let approved = approved.map(|change| change.column.clone()).collect();
        let Some(info) = info else { return Self { approved, ..Self::default() } };
        let TableInfo { schema, partition_by, owner, version: _, files: _, bytes, rows: _ } = info;
        Self { schema: Some(schema), bytes, partition_by: Some(partition_by), owner, approved }
    }
}

/// The rules of one table.
#[derive(Debug, Clone)]
pub struct FitRules<'a> {
    /// The table.
    pub table: &'a TableName,
    /// Who is to load it.
    pub owner: &'a TableOwner,
    /// What new columns mean.
    pub changes: SchemaChanges,
    /// Columns that divide the files of a new table.
    pub partition_by: &'a [String],
    /// A table above this is not rewritten to widen a column.
    pub widen_max_bytes: u64,
    /// For the note of a held change.
    pub now: Timestamp,
}

struct Fitting<'a> {
    rules: &'a FitRules<'a>,
    state: &'a TableState,
    fields: Vec<FieldRef>,
    /// Set by a column of this route already: two source columns may be mapped to one name.
    taken: BTreeSet<usize>,
    fit: TableFit,
}

/// Fits rows of `schema` (without forebay's own columns) to a table.
///
/// # Errors
/// Class operator, where a type cannot be stored at all, or the table is not forebay's.
pub fn fit(warehouse: &dyn Warehouse, rules: &FitRules<'_>, state: &TableState, schema: &Schema) -> Result<TableFit> {
    let fields = match &state.schema {
        Some(known) => {
            check_own_columns(rules.table, known)?;
            check_owner(rules, state)?;
            known.fields().iter().cloned().collect()
        }
        None => Vec::new(),
    };
    let fit = TableFit {
        table: rules.table.clone(),
        after: Arc::new(Schema::empty()),
        destinations: Vec::new(),
        stored: Vec::new(),
        adds: Vec::new(),
        widens: Vec::new(),
        held: Vec::new(),
        partition_by: rules.partition_by.to_vec(),
    };
    let mut fitting = Fitting { rules, state, fields, taken: BTreeSet::new(), fit };
    for field in schema.fields() {
        let stored = warehouse.storage_field(field).map_err(|error| {
            let message = format!("column {:?} cannot be stored in {}: {error}", field.name(), rules.table);
            match error.hint() {
                Some(hint) => Error::new(error.class(), message).with_hint(hint),
                None => Error::new(error.class(), message),
            }
        })?;
        fitting.fit.stored.push(stored.data_type().clone());
        let destination = fitting.place(stored);
        fitting.fit.destinations.push(destination);
    }
    fitting.finish()
}

impl Fitting<'_> {
    fn place(&mut self, stored: Field) -> Destination {
        let index = self.fields.iter().position(|field| field.name() == stored.name());
        let Some(index) = index else {
            // Most readers would take them for one.
            let folded = stored.name().to_lowercase();
            if self.fields.iter().any(|field| field.name().to_lowercase() == folded) {
                return Destination::Rescued;
            }
            return self.add(stored);
        };
        if !self.taken.insert(index) {
            return Destination::Rescued;
        }
        let have = Arc::clone(&self.fields[index]);
        match meet(have.data_type(), stored.data_type()) {
            Meeting::Fits => Destination::Column(index),
            Meeting::Grows(grown) => {
                if self.allowed(&stored, "hold") {
                    self.fields[index] = Arc::new(have.as_ref().clone().with_data_type(grown));
                    self.fit.adds.push(stored.name().clone());
                    Destination::Column(index)
                } else {
                    Destination::Rescued
                }
            }
            Meeting::Widens(wide) => self.widen(index, &have, &stored, wide),
            Meeting::Conflicts if by_value(stored.data_type(), have.data_type()) => Destination::ByValue(index),
            Meeting::Conflicts => Destination::Rescued,
        }
    }

    fn add(&mut self, stored: Field) -> Destination {
        // A new table takes what comes; later columns are changes.
        let first = self.state.schema.is_none();
        if stored.name().starts_with(column::PREFIX) || (!first && !self.allowed(&stored, "hold")) {
            return Destination::Rescued;
        }
        if !first {
            self.fit.adds.push(stored.name().clone());
        }
        self.fields.push(Arc::new(stored.with_nullable(true)));
        self.taken.insert(self.fields.len() - 1);
        Destination::Column(self.fields.len() - 1)
    }

    fn widen(&mut self, index: usize, have: &FieldRef, stored: &Field, wide: DataType) -> Destination {
        let small = self.state.bytes <= self.rules.widen_max_bytes;
        if self.rules.changes == SchemaChanges::Apply && small || self.state.approved.contains(stored.name()) {
            self.fields[index] = Arc::new(have.as_ref().clone().with_data_type(wide));
            self.fit.widens.push(stored.name().clone());
            return Destination::Column(index);
        }
        let reason = if small { "hold" } else { "too large to rewrite" };
        self.hold(stored, reason);
        if by_value(stored.data_type(), have.data_type()) { Destination::ByValue(index) } else { Destination::Rescued }
    }

    fn allowed(&mut self, stored: &Field, reason: &str) -> bool {
        match self.rules.changes {
            SchemaChanges::Apply => true,
            SchemaChanges::Hold if self.state.approved.contains(stored.name()) => true,
            SchemaChanges::Hold => {
                self.hold(stored, reason);
                false
            }
            SchemaChanges::Rescue => false,
        }
    }

    fn hold(&mut self, stored: &Field, reason: &str) {
        if self.rules.changes == SchemaChanges::Rescue {
            return;
        }
        self.fit.held.push(HeldChange {
            table: self.rules.table.clone(),
            column: stored.name().clone(),
            data_type: stored.data_type().to_string(),
            reason: reason.to_owned(),
            first_seen: self.rules.now,
            approved: false,
        });
    }

    fn finish(mut self) -> Result<TableFit> {
        for own in column::own_fields() {
            if !self.fields.iter().any(|field| field.name() == own.name()) {
                self.fields.push(own);
            }
        }
        for name in self.rules.partition_by {
            let known = self.fields.iter().any(|field| field.name() == name && is_partition_type(field.data_type()));
            if !known {
                return Err(Error::operator(format!("table {} cannot be partitioned by {name:?}", self.rules.table))
                    .with_hint(
                        "partition_by names columns of the route that are text, numbers, booleans, dates or times",
                    ));
            }
        }
        self.fit.after = Arc::new(Schema::new(self.fields));
        Ok(self.fit)
    }
}

fn is_partition_type(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::Boolean | DataType::Date32 | DataType::Timestamp(..))
        || data_type.is_integer()
}

/// Numbers that may be the same in both types.
fn by_value(from: &DataType, to: &DataType) -> bool {
    matches!((from, to), (DataType::Int64, DataType::Float64) | (DataType::Float64, DataType::Int64))
}

/// A table belongs to one pipeline of one ledger, and keeps its partition columns.
fn check_owner(rules: &FitRules<'_>, state: &TableState) -> Result<()> {
    let FitRules { table, owner, partition_by, .. } = rules;
    if let Some(known) = &state.owner
        && known != *owner
    {
        let TableOwner { ledger, pipeline } = known;
        let (by, hint) = match *ledger == owner.ledger {
            true => (
                format!("pipeline {pipeline:?} loads it, not {:?}", owner.pipeline),
                "give each pipeline tables of its own; a pipeline that was renamed needs its former name, or new tables",
            ),
            false => (
                format!("pipeline {pipeline:?} of ledger {ledger} loads it, and this is ledger {}", owner.ledger),
                "use the ledger that the table was loaded with, or give the route a table of another name",
            ),
        };
        return Err(Error::operator(format!("table {table} is another's: {by}")).with_hint(hint));
    }
    match &state.partition_by {
        Some(known) if known.as_slice() != *partition_by => Err(Error::operator(format!(
            "table {table} is partitioned by {known:?}, and the config says {partition_by:?}: a table keeps its partition columns"
        ))
        .with_hint(format!("set partition_by to {known:?}, or load a table of another name"))),
        Some(_) | None => Ok(()),
    }
}

fn check_own_columns(table: &TableName, schema: &Schema) -> Result<()> {
    for own in column::own_fields() {
        let known = schema.field_with_name(own.name()).ok();
        if known.is_none_or(|field| field.data_type() != own.data_type()) {
            return Err(Error::operator(format!(
                "table {table} exists and is not forebay's: it has no column {} of type {}",
                own.name(),
                own.data_type()
            ))
            .with_hint("load into a table of another name, or move the existing one away"));
        }
    }
    Ok(())
}
