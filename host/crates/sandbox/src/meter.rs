//! What calls to `process` cost: how long they take, and how much of it the module itself runs.
//!
//! Only a sandbox that was asked to measures. The clock is looked at whenever control passes between host and guest, so the time of a
//! guest is known without its help, and what is left of a call is the boundary: checking, copying in and out, and the host's
//! functions.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use wasmtime::CallHook;

/// Adds up calls; shared by all instances of a sandbox that measures.
#[derive(Debug, Default)]
pub struct Meter(Mutex<Metered>);

/// Calls, added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Metered {
    /// Rows that were handed over.
    pub rows: u64,
    /// From the host's columns to the host's columns.
    pub call: Duration,
    /// What of it the guest ran.
    pub guest: Duration,
    /// The largest memory that an instance had.
    pub memory_bytes: usize,
}

impl Meter {
    /// What was added up; it begins again at nothing.
    pub fn take(&self) -> Metered {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn add(&self, rows: u32, call: Duration, guest: Duration, memory_bytes: usize) {
        let mut sum = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sum.rows += u64::from(rows);
        sum.call += call;
        sum.guest += guest;
        sum.memory_bytes = sum.memory_bytes.max(memory_bytes);
    }
}

/// An instance's watch: it runs while the guest does.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    since: Option<Instant>,
    guest: Duration,
}

impl Watch {
    /// Control passes between host and guest.
    pub(crate) fn passes(&mut self, to: CallHook) {
        match to {
            CallHook::CallingWasm | CallHook::ReturningFromHost => self.since = Some(Instant::now()),
            CallHook::ReturningFromWasm | CallHook::CallingHost => {
                self.guest += self.since.take().map_or(Duration::ZERO, |since| since.elapsed());
            }
        }
    }

    /// What the guest has run; it begins again at nothing.
    pub(crate) fn take(&mut self) -> Duration {
        self.since = None;
        std::mem::take(&mut self.guest)
    }
}
