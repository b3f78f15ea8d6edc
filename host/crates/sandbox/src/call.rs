//! What a guest says during a call to `process`: emits, refusals, counts and observations, each checked against the plan, the batch
//! and the limits when it is said. What does not pass fails the call, and nothing of it counts.

use std::sync::Arc;

use arrow_array::{ArrayRef, UInt32Array};
use forebay_model::plan::Plan;
use forebay_model::ports::{Emission, RowRefusal, Selection, TransformOutput};

use crate::layout::shape;
use crate::lift;
use crate::limits::Limits;
use crate::lower::Node;
use crate::said::cut;

/// What an array costs beside its buffers, for the cap on output: nobody may fill the host with empty arrays.
const ARRAY_BYTES: usize = 256;
const CODE_BYTES: usize = 64;
const METRIC_BYTES: usize = 64;

/// What a call to `process` has said so far. It counts when the call returns.
pub(crate) struct Call {
    pub(crate) plan: Arc<Plan>,
    pub(crate) rows: u32,
    refused: Vec<bool>,
    emits: u64,
    emitted_rows: u64,
    output_bytes: usize,
    output: TransformOutput,
}

impl Call {
    pub(crate) fn new(plan: Arc<Plan>, rows: u32) -> Self {
        Self {
            plan,
            rows,
            refused: Vec::new(),
            emits: 0,
            emitted_rows: 0,
            output_bytes: 0,
            output: TransformOutput::default(),
        }
    }

    pub(crate) fn finish(self) -> TransformOutput {
        self.output
    }

    /// The name of a route for messages: `emit to route 0 (scored)`.
    pub(crate) fn emit_to(&self, route: u32) -> String {
        match self.route(route) {
            Some(plan) => format!("emit to route {route} ({})", plan.name),
            None => format!("emit to route {route}"),
        }
    }

    fn route(&self, route: u32) -> Option<&forebay_model::plan::RoutePlan> {
        self.plan.routes.get(usize::try_from(route).ok()?)
    }

    /// Checks an emit before anything of it is copied: its route, its counts, and what it adds to the limits.
    pub(crate) fn admit(&mut self, emit: &Emit<'_>, limits: &Limits) -> Result<(), String> {
        let count = self.plan.routes.len();
        let route = self.route(emit.route).ok_or_else(|| format!("the plan has {count} routes"))?;
        let (nodes, buffers) = shape(route.computed.fields());
        if (emit.nodes.len(), emit.buffers.len()) != (nodes, buffers) {
            let (sent, lists) = (emit.nodes.len(), emit.buffers.len());
            return Err(format!(
                "has {sent} nodes and {lists} buffers, and its computed columns have {nodes} and {buffers}"
            ));
        }
        let selected = match emit.selection {
            None => self.rows,
            Some(rows) => u32::try_from(rows.len()).unwrap_or(u32::MAX),
        };
        if emit.rows != selected {
            return Err(format!("selects {selected} rows and has {} computed ones", emit.rows));
        }
        let buffers: usize = emit.buffers.iter().map(|buffer| buffer.len()).sum();
        let values: usize = emit.nodes.iter().map(|node| ARRAY_BYTES.saturating_add(node.length as usize)).sum();
        let selection = emit.selection.map_or(0, |rows| rows.len().saturating_mul(4));
        self.output_bytes =
            [buffers, values, selection, ARRAY_BYTES].into_iter().fold(self.output_bytes, usize::saturating_add);
        self.emitted_rows = self.emitted_rows.saturating_add(u64::from(selected));
        self.emits += 1;
        if self.output_bytes > limits.output_bytes() {
            return Err(format!("the call emits more than {} MiB (limits.output_mib)", limits.output_mib));
        }
        if self.emitted_rows > limits.output_rows {
            return Err(format!("the call emits more than {} rows (limits.output_rows)", limits.output_rows));
        }
        if self.emits > limits.emits {
            return Err(format!("the call emits more than {} times (limits.emits)", limits.emits));
        }
        Ok(())
    }

    /// Lifts an emit that was admitted.
    pub(crate) fn lift(&self, emit: &Emit<'_>) -> Result<Emission, String> {
        let route = self.route(emit.route).ok_or("no such route")?;
        let selection = match emit.selection {
            None => Selection::All,
            Some(rows) => {
                self.check_rows(rows)?;
                Selection::Rows(UInt32Array::from(rows.to_vec()))
            }
        };
        let computed: Vec<ArrayRef> =
            lift::lift(route.computed.fields(), emit.rows as usize, emit.nodes, emit.buffers)?;
        Ok(Emission { route: emit.route as usize, selection, computed })
    }

    pub(crate) fn push(&mut self, emission: Emission) {
        self.output.emissions.push(emission);
    }

    fn check_rows(&self, rows: &[u32]) -> Result<(), String> {
        if rows.iter().fold(true, |all, row| all & (*row < self.rows)) {
            return Ok(());
        }
        let place = rows.iter().position(|row| *row >= self.rows).unwrap_or_default();
        let row = rows.get(place).copied().unwrap_or_default();
        Err(format!("selects row {row} (at {place}) of a batch of {} rows", self.rows))
    }

    /// Notes a refusal for each of the rows that has none.
    pub(crate) fn refuse(
        &mut self,
        rows: &[u32],
        code: &str,
        message: &str,
        retryable: bool,
        limits: &Limits,
    ) -> Result<(), String> {
        self.check_rows(rows)?;
        if code.is_empty() || code.len() > CODE_BYTES || code.chars().any(char::is_control) {
            return Err(format!("its code is not 1 to {CODE_BYTES} bytes of text without control characters"));
        }
        let code: Arc<str> = code.into();
        let message: Arc<str> = cut(message, limits.refusal_bytes).into();
        self.refused.resize(self.rows as usize, false);
        for row in rows {
            let Some(refused) = self.refused.get_mut(*row as usize) else { continue };
            if !std::mem::replace(refused, true) {
                let (code, message) = (Arc::clone(&code), Arc::clone(&message));
                self.output.refusals.push(RowRefusal { row: *row, code, message, retryable });
            }
        }
        Ok(())
    }

    pub(crate) fn count(&mut self, name: &str, delta: u64, limits: &Limits) -> Result<(), String> {
        check_metric(name)?;
        if !self.output.counts.contains_key(name) && self.output.counts.len() >= limits.metrics {
            return Err(format!("the call has more than {} counters (limits.metrics)", limits.metrics));
        }
        let count = self.output.counts.entry(name.to_owned()).or_default();
        *count = count.saturating_add(delta);
        Ok(())
    }

    pub(crate) fn observe(&mut self, name: &str, value: f64, limits: &Limits) -> Result<(), String> {
        check_metric(name)?;
        if self.output.observations.len() >= limits.observations {
            return Err(format!("the call observes more than {} values (limits.observations)", limits.observations));
        }
        self.output.observations.push((name.to_owned(), value));
        Ok(())
    }
}

/// What a guest hands to `emit`, still in its memory. No selection means all rows.
pub(crate) struct Emit<'a> {
    pub(crate) route: u32,
    pub(crate) selection: Option<&'a [u32]>,
    pub(crate) rows: u32,
    pub(crate) nodes: &'a [Node],
    pub(crate) buffers: &'a [&'a [u8]],
}

/// A name that a metric can have in every tool that would show it.
fn check_metric(name: &str) -> Result<(), String> {
    let fits = (1..=METRIC_BYTES).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if fits { Ok(()) } else { Err(format!("its name is not 1 to {METRIC_BYTES} of a-z, 0-9 and _")) }
}
