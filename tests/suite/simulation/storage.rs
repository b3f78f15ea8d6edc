//! What outlives a process.

use std::sync::{Arc, Mutex};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use forebay_landing::MemoryZone;
use forebay_ledger::MemoryLedger;
use forebay_model::ports::{Clock, LandingZone, Ledger, Random, Rebuilt, Warehouse};
use forebay_model::{Error, Result};
use forebay_warehouse::MemoryWarehouse;
use uuid::Uuid;

/// The ports of a process.
#[derive(Debug, Clone)]
pub(crate) struct Stores {
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) zone: Arc<dyn LandingZone>,
    pub(crate) lake: Arc<dyn Warehouse>,
    /// The zone once more, where it is a model: a death may leave in it what was being written. A real one has a disk for that.
    pub(crate) model: Option<Arc<MemoryZone>>,
}

/// Ledger, zone and warehouse, as they are outside of any process.
#[async_trait]
pub(crate) trait Storage: Send + Sync {
    /// Opens them for a process.
    async fn open(&self) -> Result<Stores>;
    /// The process is dead, and its threads may not know it yet.
    fn dying(&self) {}
    /// All of the process is gone; where it died, so is what it had not synced.
    fn ended(&self, _died: bool) {}
    /// Whether its ledger can be lost.
    fn loses_ledgers(&self) -> bool {
        false
    }
    /// Puts a ledger that was rebuilt in the place of the one that is lost.
    async fn rebuilt(&self, _id: Uuid, _content: &Rebuilt) -> Result<()> {
        Err(Error::bug("this storage loses no ledger"))
    }
    /// All rows of a table.
    async fn rows(&self, table: &str) -> Result<Option<RecordBatch>>;
    /// What was written before now is two hours old, or more.
    fn age(&self) {}
    /// What lies in the warehouse and is in none of its tables, and what nobody finished writing to the zone.
    async fn leftovers(&self, tables: &[String]) -> Vec<String>;
}

/// The models: what they hold is what is synced.
#[derive(Debug)]
pub(crate) struct Models {
    ledger: Mutex<Arc<MemoryLedger>>,
    pub(crate) zone: Arc<MemoryZone>,
    pub(crate) lake: MemoryWarehouse,
}

impl Models {
    pub(crate) fn new(clock: &Arc<dyn Clock>, random: &dyn Random) -> Self {
        Self {
            ledger: Mutex::new(Arc::new(MemoryLedger::new(random))),
            zone: Arc::new(MemoryZone::new(Arc::clone(clock))),
            lake: MemoryWarehouse::timed(Arc::clone(clock)),
        }
    }

    pub(crate) fn ledger(&self) -> Arc<MemoryLedger> {
        Arc::clone(&self.ledger.lock().unwrap())
    }
}

#[async_trait]
impl Storage for Models {
    async fn open(&self) -> Result<Stores> {
        Ok(Stores {
            ledger: self.ledger(),
            zone: self.zone.clone(),
            lake: Arc::new(self.lake.clone()),
            model: Some(Arc::clone(&self.zone)),
        })
    }

    fn loses_ledgers(&self) -> bool {
        true
    }

    async fn rebuilt(&self, id: Uuid, content: &Rebuilt) -> Result<()> {
        let ledger = MemoryLedger::with_id(id);
        ledger.import(content).await?;
        *self.ledger.lock().unwrap() = Arc::new(ledger);
        Ok(())
    }

    async fn rows(&self, table: &str) -> Result<Option<RecordBatch>> {
        self.lake.rows(table)
    }

    async fn leftovers(&self, tables: &[String]) -> Vec<String> {
        let staged = tables.iter().flat_map(|table| self.lake.staged(table));
        staged.chain(self.zone.half_written()).collect()
    }
}
