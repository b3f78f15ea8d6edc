//! What the host remembers beside an instance: what it may do just now, what it has said, and what is left of its limits.

use std::sync::Arc;

use arrow_array::{ArrayRef, UInt32Array};
use forebay_model::plan::Plan;
use forebay_model::ports::{Assets, Emission, RowRefusal, Selection, TransformOutput};
use wasmtime::ResourceLimiter;

use crate::layout::shape;
use crate::lift;
use crate::limits::Limits;
use crate::lower::Node;
use crate::meter::Watch;
use crate::output::Console;
use crate::rng::SplitMix;

/// What an array costs beside its buffers, for the cap on output: nobody may fill the host with empty arrays.
const ARRAY_BYTES: usize = 256;
const CODE_BYTES: usize = 64;
const METRIC_BYTES: usize = 64;

/// A guest's mistake in what it hands over: the call fails as invalid output.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Mistake(pub(crate) String);

/// A limit that a guest ran into.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what} (limits.{limit})")]
pub(crate) struct Exceeded {
    /// Its name in the config.
    pub(crate) limit: &'static str,
    /// What was needed, and the cap.
    pub(crate) what: String,
}

/// A call of what no guest is given: the call fails as a trap.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Denied(pub(crate) String);

/// The data of an instance's store.
pub(crate) struct GuestState {
    pub(crate) limits: Arc<Limits>,
    pub(crate) memory: MemoryGuard,
    pub(crate) console: Console,
    pub(crate) assets: Assets,
    /// What WASI's clocks say, microseconds since the epoch.
    pub(crate) clock: i64,
    pub(crate) random: SplitMix,
    /// The call to `process` that is running.
    pub(crate) call: Option<Call>,
    /// Runs only where calls are measured.
    pub(crate) watch: Watch,
}

impl GuestState {
    pub(crate) fn new(limits: Arc<Limits>, console: Console, assets: Assets) -> Self {
        let memory = MemoryGuard::new(&limits);
        Self {
            limits,
            memory,
            console,
            assets,
            clock: 0,
            random: SplitMix::of_call(0, 0),
            call: None,
            watch: Watch::default(),
        }
    }

    /// The running call, for what belongs to `process` alone.
    pub(crate) fn call(&mut self, what: &str) -> Result<(&mut Call, &Limits), Mistake> {
        let limits = &*self.limits;
        match &mut self.call {
            Some(call) => Ok((call, limits)),
            None => Err(Mistake(format!("{what} outside process"))),
        }
    }
}

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

/// At most `most` bytes of the text, with an ellipsis where something was cut off.
pub(crate) fn cut(text: &str, most: usize) -> String {
    const ELLIPSIS: char = '…';
    if text.len() <= most {
        return text.to_owned();
    }
    let room = most.saturating_sub(ELLIPSIS.len_utf8());
    let end = (0..=room).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    let mut short = text.get(..end).unwrap_or_default().to_owned();
    short.push(ELLIPSIS);
    short
}

/// Keeps an instance's memory and tables within the limits, and remembers what it refused, for the message.
pub(crate) struct MemoryGuard {
    bytes: usize,
    table_elements: usize,
    tables: usize,
    instances: usize,
    memory_used: usize,
    /// What the guest asked for in vain, last.
    pub(crate) refused: Option<Exceeded>,
}

impl MemoryGuard {
    fn new(limits: &Limits) -> Self {
        Self {
            bytes: limits.memory_bytes(),
            table_elements: limits.table_elements,
            tables: limits.tables,
            instances: limits.instances,
            memory_used: 0,
            refused: None,
        }
    }
}

impl MemoryGuard {
    /// Bytes of memory that the instance has.
    pub(crate) fn used(&self) -> usize {
        self.memory_used
    }
}

impl ResourceLimiter for MemoryGuard {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory_used.saturating_add(desired.saturating_sub(current));
        if total > self.bytes {
            let (asked, most) = (total.div_ceil(1 << 20), self.bytes >> 20);
            let what = format!("asked for {asked} MiB of memory, the cap is {most} MiB");
            self.refused = Some(Exceeded { limit: "memory_mib", what });
            return Ok(false);
        }
        self.memory_used = total;
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        if desired > self.table_elements {
            let most = self.table_elements;
            let what = format!("asked for a table of {desired} elements, the cap is {most}");
            self.refused = Some(Exceeded { limit: "table_elements", what });
            return Ok(false);
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        self.instances
    }

    fn tables(&self) -> usize {
        self.tables
    }

    fn memories(&self) -> usize {
        1
    }
}
