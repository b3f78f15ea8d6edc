//! What the host remembers beside an instance: what it may do just now, what it has said, and what is left of its limits.

use std::sync::Arc;

use forebay_model::ports::Assets;
use wasmtime::ResourceLimiter;

use crate::call::Call;
use crate::limits::Limits;
use crate::meter::Watch;
use crate::output::Console;
use crate::rng::SplitMix;

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
