//! A ledger that is lost is rebuilt from what it left elsewhere: the journal of landings in the zone, what was kept there, and
//! the tables.
//!
//! **Guarantee:** a run on the rebuilt ledger neither loses nor doubles a row. How that follows:
//!
//! - What was acknowledged to a source is journalled, so each landed segment is listed again, under its id and in the order of
//!   landing; a source goes on where the last journalled landing ended. A landing that the ledger had listed and that was not
//!   journalled was not acknowledged either: its source delivers it again, from the same position, so under the same id.
//! - A pipeline opens one group at a time. Where any of its tables has load *n*, every group below *n* is in every table: a
//!   segment whose rows came with a lower load is loaded. Only the last group, and those that were withdrawn (which is kept in
//!   the zone before it is done), may have reached some of their tables and not others, so their segments are refined again, and
//!   replace what there is of them in every table, unless a group after the withdrawn one has loaded them. Which they are is kept
//!   too, before the ledger is there: it may be lost once more before they were refined.
//! - A segment without rows was not refined, or all its records were filtered, or a later version of its object took its place.
//!   The last is told by rows of the later version; in both other cases refining it (again) adds what is missing: nothing.
//! - Rows of segments that the journal does not have are kept, and replaced when those segments land again.
//! - The ledger keeps its id, and numbers go on above the highest that a table has: a repeated or an older load is told.
//!
//! [`gather`] looks, [`plan`] decides and does no I/O, and [`Ledger::import`](forebay_model::ports::Ledger::import) fills the
//! new ledger. What only the lost ledger knew is gone: counts of records, failures and their reasons, approvals.

mod order;
mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use forebay_model::ids::WarehouseName;
use forebay_model::kept::{KeptRevision, KeptSchema, KeptWithdrawal, kept_asset};
use forebay_model::ports::{Journal, LandingZone, TableHistory, Warehouse};
use forebay_model::{Digest, PipelineName, Result, StreamName, TableName};
use uuid::Uuid;

pub use plan::{Damage, PipelineReport, Plan, Report, StreamReport, plan};

/// Everything that a ledger left elsewhere.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The ledger that the zone belongs to.
    pub identity: Option<Uuid>,
    /// The journal.
    pub journal: Journal,
    /// Objects of the zone, with their sizes.
    pub objects: BTreeMap<String, u64>,
    /// The tables of all warehouses.
    pub tables: BTreeMap<TableName, TableHistory>,
    /// Revisions that were kept.
    pub revisions: Vec<KeptRevision>,
    /// The assets of these that are kept, and their sizes.
    pub assets: BTreeMap<Digest, u64>,
    /// Schemas that were kept.
    pub schemas: Vec<KeptSchema>,
    /// Withdrawals that were kept.
    pub withdrawals: Vec<KeptWithdrawal>,
    /// The pipelines of the config, and what they read.
    pub streams: BTreeMap<PipelineName, StreamName>,
}

/// Looks at a zone and at warehouses. `say` is told what is looked at, for people.
///
/// # Errors
/// What cannot be read, named; damaged entries of the journal are no error here.
pub async fn gather(
    zone: &dyn LandingZone,
    warehouses: &BTreeMap<WarehouseName, Arc<dyn Warehouse>>,
    streams: BTreeMap<PipelineName, StreamName>,
    say: &(dyn Fn(String) + Sync),
) -> Result<Found> {
    say("reading the journal of the landing zone".to_owned());
    let identity = zone.identity().await?.map(|identity| identity.ledger);
    let journal = zone.read_journal(None).await?;
    say(format!("{} landings; listing the objects of the landing zone", journal.entries.len()));
    let objects = zone.list("").await?.into_iter().map(|object| (object.name, object.bytes)).collect();
    let mut found = Found { identity, journal, objects, streams, ..Found::default() };
    for name in zone.kept_in(KeptRevision::FOLDER).await? {
        if let Some(bytes) = zone.kept(&name).await? {
            found.revisions.push(KeptRevision::read(&name, &bytes)?);
        }
    }
    let steps = found.revisions.iter().flat_map(|kept| &kept.revision.steps);
    for asset in steps.flat_map(|step| step.assets.values()).copied().collect::<BTreeSet<_>>() {
        if let Some(bytes) = zone.kept(&kept_asset(asset)).await? {
            found.assets.insert(asset, bytes.len() as u64);
        }
    }
    for name in zone.kept_in(KeptSchema::FOLDER).await? {
        if let Some(bytes) = zone.kept(&name).await? {
            found.schemas.push(KeptSchema::read(&name, &bytes)?);
        }
    }
    for name in zone.kept_in(KeptWithdrawal::FOLDER).await? {
        if let Some(bytes) = zone.kept(&name).await? {
            found.withdrawals.push(KeptWithdrawal::read(&name, &bytes)?);
        }
    }
    for (name, warehouse) in warehouses {
        for table in warehouse.tables().await? {
            let table = TableName::new(name.clone(), table)?;
            say(format!("reading the history of {table}"));
            if let Some(history) = warehouse.history(&table.table).await? {
                found.tables.insert(table, history);
            }
        }
    }
    Ok(found)
}
