use std::sync::{Arc, Mutex};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use forebay_ledger::{MemoryLedger, MemorySnapshot};
use forebay_model::ports::Clock as _;
use forebay_model::{Result, Timestamp};

use super::WINDOW;
use crate::simulation::clock::SimClock;
use crate::simulation::faults::SimRandom;
use crate::simulation::storage::{Models, Storage, Stores};
use crate::simulation::world::as_clock;

/// A ledger whose last transactions are gone after a death.
pub(super) struct HastyLedgerStorage {
    models: Models,
    clock: Arc<SimClock>,
    ledger: Mutex<Arc<MemoryLedger>>,
    /// What is durable, and since when.
    durable: Mutex<(Timestamp, MemorySnapshot)>,
}

impl HastyLedgerStorage {
    pub(super) fn new(clock: &Arc<SimClock>, random: &Arc<SimRandom>) -> Self {
        let models = Models::new(&as_clock(clock), random.as_ref());
        let durable = Mutex::new((clock.now(), models.ledger().snapshot()));
        Self { ledger: Mutex::new(models.ledger()), models, clock: Arc::clone(clock), durable }
    }

    fn present(&self) -> Arc<MemoryLedger> {
        self.ledger.lock().unwrap().clone()
    }

    fn sync_when_due(&self) {
        let now = self.clock.now();
        let mut durable = self.durable.lock().unwrap();
        if now.since(durable.0) >= WINDOW {
            *durable = (now, self.present().snapshot());
        }
    }
}

#[async_trait]
impl Storage for HastyLedgerStorage {
    /// Called for each acknowledgement too: that is when this one looks whether it should sync.
    async fn open(&self) -> Result<Stores> {
        self.sync_when_due();
        Ok(Stores { ledger: self.present(), ..self.models.open().await? })
    }

    fn ended(&self, died: bool) {
        if died {
            let (_, durable) = self.durable.lock().unwrap().clone();
            *self.ledger.lock().unwrap() = Arc::new(MemoryLedger::restore(durable));
        }
    }

    async fn rows(&self, table: &str) -> Result<Option<RecordBatch>> {
        self.models.rows(table).await
    }

    async fn leftovers(&self, tables: &[String]) -> Vec<String> {
        self.models.leftovers(tables).await
    }
}
