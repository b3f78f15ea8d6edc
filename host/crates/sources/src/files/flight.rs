//! What has been delivered and has not been seen in the ledger.
//!
//! A body that fails, or that is dropped before its end, puts its file back at once. One that was read to its end is asked
//! for in the ledger: after each acknowledgement and each look at the folder. If the ledger does not list it within
//! [`LAND_WITHIN`], the landing is taken to have failed and the file is delivered again; should it have landed after all, the
//! ledger knows the segments and lists nothing twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use forebay_model::Timestamp;

use super::scan::Stamp;

/// How long after its last byte a landing may take to be listed.
pub(super) const LAND_WITHIN: Duration = Duration::from_secs(60);

/// A file that was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Delivered {
    /// What it was then.
    pub(super) stamp: Stamp,
    /// The version it was given.
    pub(super) version: Arc<str>,
    /// Where the delivered range ends.
    pub(super) end: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Reading,
    Read { since: Option<Timestamp> },
    Failed,
}

type Flights = HashMap<Arc<str>, (Delivered, Stage)>;

/// Files that were delivered, by key.
#[derive(Debug, Clone, Default)]
pub(super) struct Flight(Arc<Mutex<Flights>>);

impl Flight {
    /// Notes a delivery; the ticket goes with the body.
    pub(super) fn depart(&self, key: &Arc<str>, delivered: Delivered) -> Ticket {
        self.lock().insert(Arc::clone(key), (delivered, Stage::Reading));
        Ticket { flight: self.clone(), key: Arc::clone(key), done: false }
    }

    /// Whether the key is on its way: nothing else of it is delivered until its fate is known.
    pub(super) fn holds(&self, key: &str) -> bool {
        self.lock().get(key).is_some_and(|(_, stage)| *stage != Stage::Failed)
    }

    /// Whether just this state of the file is on its way.
    pub(super) fn carries(&self, key: &str, stamp: Stamp) -> bool {
        self.lock().get(key).is_some_and(|(delivered, stage)| delivered.stamp == stamp && *stage != Stage::Failed)
    }

    /// Keys whose body was read to its end.
    pub(super) fn read(&self) -> Vec<(Arc<str>, Delivered)> {
        self.lock()
            .iter()
            .filter(|(_, (_, stage))| matches!(stage, Stage::Read { .. }))
            .map(|(key, (delivered, _))| (Arc::clone(key), delivered.clone()))
            .collect()
    }

    /// Forgets a key that the ledger lists.
    pub(super) fn landed(&self, key: &str) {
        self.lock().remove(key);
    }

    /// Gives up on a key that the ledger has not listed in time.
    pub(super) fn overdue(&self, key: &str, now: Timestamp) {
        if let Some((_, stage)) = self.lock().get_mut(key)
            && let Stage::Read { since } = stage
        {
            match since {
                Some(since) if now.since(*since) >= LAND_WITHIN => *stage = Stage::Failed,
                Some(_) => {}
                None => *since = Some(now),
            }
        }
    }

    /// Takes out the keys whose delivery failed.
    pub(super) fn failed(&self) -> Vec<Arc<str>> {
        let mut flights = self.lock();
        let failed: Vec<_> =
            flights.iter().filter(|(_, (_, stage))| *stage == Stage::Failed).map(|(key, _)| Arc::clone(key)).collect();
        for key in &failed {
            flights.remove(key);
        }
        failed
    }

    /// What they were when they departed.
    pub(super) fn stamps(&self) -> Vec<Stamp> {
        self.lock().values().map(|(delivered, _)| delivered.stamp).collect()
    }

    /// How many are on their way.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, Flights> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, key: &str, end: Stage) {
        if let Some((_, stage)) = self.lock().get_mut(key) {
            *stage = end;
        }
    }
}

/// Goes with a body, and tells what became of it.
#[derive(Debug)]
pub(super) struct Ticket {
    flight: Flight,
    key: Arc<str>,
    done: bool,
}

impl Ticket {
    /// The last byte has been handed over.
    pub(super) fn read(&mut self) {
        self.done = true;
        self.flight.end(&self.key, Stage::Read { since: None });
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.done {
            self.flight.end(&self.key, Stage::Failed);
        }
    }
}
