//! Rows on their way out: `emit` sends them to a route, `reject` refuses them.

use std::sync::Arc;

use crate::build::Mask;
use crate::error::RuleError;
use crate::host;
use crate::layout::{AsColumn, Flat, Gathered};
use crate::plan::Route;

/// Where a rule sends its rows during one call. What it sent counts only when [`crate::Transform::process`] returns `Ok`; rows
/// that are neither emitted nor rejected are filtered.
#[derive(Debug)]
pub struct Output {
    routes: Arc<[Route]>,
    rows: usize,
    pending: Option<Rejects>,
}

/// Rows that are refused for the same reason, told to the host in one call.
#[derive(Debug)]
struct Rejects {
    rows: Vec<u32>,
    code: String,
    message: String,
    retryable: bool,
}

impl Output {
    pub(crate) fn new(routes: Arc<[Route]>, rows: usize) -> Self {
        Self { routes, rows, pending: None }
    }

    /// Sends each row of the batch once, in order. Add the route's computed columns, then [`Emit::send`].
    pub fn emit_all<'c>(&mut self, route: &str) -> Emit<'_, 'c> {
        self.emit(route, None)
    }

    /// Sends these rows, by index into the batch; a row may stand there many times (one order, many items) or not at all.
    pub fn emit_rows<'c>(&mut self, route: &str, rows: &'c [u32]) -> Emit<'_, 'c> {
        self.emit(route, Some(rows))
    }

    /// Sends the rows that a mask keeps to a route that computes nothing.
    ///
    /// # Errors
    /// As for [`Emit::send`].
    pub fn keep(&mut self, route: &str, mask: &Mask) -> Result<(), RuleError> {
        if mask.rows() != self.rows {
            return Err(RuleError::new(format!("a mask of {} rows for a batch of {}", mask.rows(), self.rows)));
        }
        if mask.count() == self.rows {
            return self.emit_all(route).send();
        }
        let rows = mask.selection();
        self.emit_rows(route, &rows).send()
    }

    fn emit<'c>(&mut self, route: &str, selection: Option<&'c [u32]>) -> Emit<'_, 'c> {
        let index = self.routes.iter().position(|planned| planned.name == route);
        let error = index.is_none().then(|| format!("the plan has no route {route:?}"));
        Emit { output: self, route: index.unwrap_or_default(), selection, parts: vec![], error }
    }

    /// Refuses a row: it goes to the pipeline's rejects and loads nothing on any route. `code` is short and stable, for
    /// counting; `message` is for people. A later revision may accept the row.
    pub fn reject(&mut self, row: usize, code: &str, message: impl AsRef<str>) {
        self.refuse(row, code, message.as_ref(), true);
    }

    /// Refuses a row for good: no revision is to try it again.
    pub fn reject_final(&mut self, row: usize, code: &str, message: impl AsRef<str>) {
        self.refuse(row, code, message.as_ref(), false);
    }

    fn refuse(&mut self, row: usize, code: &str, message: &str, retryable: bool) {
        // What is not a row of any batch is told to the host as it is, which traps.
        let row = u32::try_from(row).unwrap_or(u32::MAX);
        if let Some(pending) = &mut self.pending
            && (pending.code.as_str(), pending.message.as_str(), pending.retryable) == (code, message, retryable)
        {
            pending.rows.push(row);
            return;
        }
        self.flush();
        self.pending = Some(Rejects { rows: vec![row], code: code.to_owned(), message: message.to_owned(), retryable });
    }

    pub(crate) fn flush(&mut self) {
        if let Some(Rejects { rows, code, message, retryable }) = self.pending.take() {
            host::reject(&rows, &code, &message, retryable);
        }
    }
}

/// A computed column of an [`Emit`].
enum Part<'c> {
    Lent(&'c dyn AsColumn),
    Gathered(Gathered),
}

impl Part<'_> {
    fn as_column(&self) -> &dyn AsColumn {
        match self {
            Self::Lent(column) => *column,
            Self::Gathered(column) => column,
        }
    }
}

/// Rows for a route. Nothing is sent before [`Self::send`].
#[must_use = "call send"]
pub struct Emit<'o, 'c> {
    output: &'o mut Output,
    route: usize,
    selection: Option<&'c [u32]>,
    parts: Vec<Part<'c>>,
    error: Option<String>,
}

impl<'c> Emit<'_, 'c> {
    /// The next computed column of the route, with a value for each row that is sent. Its buffers are lent, not copied.
    pub fn column(mut self, column: &'c dyn AsColumn) -> Self {
        self.parts.push(Part::Lent(column));
        self
    }

    /// The next computed column of the route, given with a value for each row of the *batch*: those of the rows that are sent
    /// are picked out.
    pub fn pick(mut self, column: &'c dyn AsColumn) -> Self {
        match self.selection {
            None => self.parts.push(Part::Lent(column)),
            Some(rows) if rows.iter().all(|&row| (row as usize) < column.rows()) => {
                self.parts.push(Part::Gathered(Gathered::pick(column, rows)));
            }
            Some(_) => {
                self.error.get_or_insert_with(|| {
                    format!("a column of {} values is picked from at a row beyond its end", column.rows())
                });
            }
        }
        self
    }

    /// Sends the rows.
    ///
    /// # Errors
    /// Where the route is not planned, or the columns are not those of the plan: another number of them, another type, another
    /// number of values than rows, a null in a column that is planned without.
    pub fn send(self) -> Result<(), RuleError> {
        let Self { output, route, selection, parts, error } = self;
        if let Some(error) = error {
            return Err(error.into());
        }
        let rows = selection.map_or(output.rows, <[u32]>::len);
        let planned = output.routes.get(route).ok_or("the plan has no routes")?;
        check_count(planned, parts.len())?;
        let mut flat = Flat::default();
        for (index, part) in parts.iter().enumerate() {
            let first = flat.nodes.len();
            part.as_column().lower(&mut flat);
            let nulls = flat.nodes.get(first).is_some_and(|node| node.null_count > 0);
            check(planned, index, part.as_column(), rows, nulls)?;
        }
        if rows > 0 {
            let index = u32::try_from(route).unwrap_or(u32::MAX);
            host::emit(index, selection, u32::try_from(rows).unwrap_or(u32::MAX), &flat);
        }
        Ok(())
    }
}

fn check_count(route: &Route, given: usize) -> Result<(), RuleError> {
    let planned = route.computed.fields().len();
    if planned == given {
        return Ok(());
    }
    Err(format!("route {:?} computes {planned} columns, {given} were given", route.name).into())
}

fn check(route: &Route, index: usize, column: &dyn AsColumn, rows: usize, nulls: bool) -> Result<(), RuleError> {
    let (field, layout) = (route.computed.field(index), &route.layouts[index]);
    let name = || format!("route {:?}: column {:?}", route.name, field.name());
    let given = column.layout();
    if given != *layout {
        return Err(format!("{} is planned as {}, and given as {given:?}", name(), field.data_type()).into());
    }
    if column.rows() != rows {
        return Err(format!("{} has {} values for {rows} rows", name(), column.rows()).into());
    }
    if nulls && !field.is_nullable() {
        return Err(format!("{} is planned without nulls, and has some", name()).into());
    }
    Ok(())
}
