//! A ledger that is lost between two processes, and rebuilt as `forebay recover` does it.

use std::collections::BTreeMap;

use forebay_model::ids::WarehouseName;
use forebay_model::ports::{Clock as _, JournalEntry, ZoneIdentity};
use forebay_model::{PipelineName, Result};
use forebay_pipeline::recover::{Damage, Plan, gather, plan};

use super::process::stream;
use super::storage::Stores;
use super::world::World;

/// Rebuilds the ledger from zone and tables; `all` has everything refined again. False where there is nothing to lose, or
/// nothing that a recovery answers for.
pub(crate) async fn rebuild(world: &World, all: bool) -> Result<bool> {
    if !world.storage.loses_ledgers() {
        return Ok(false);
    }
    let Stores { ledger, zone, lake, model: _ } = world.storage.open().await?;
    let unjournalled = ledger.unjournalled(&stream()).await?;
    if zone.identity().await?.is_none() || unjournalled.iter().any(is_of_an_object) {
        return Ok(false);
    }
    drop(ledger);
    let shapes = world.scenario().pipelines.clone();
    let streams = shapes.iter().map(|shape| (PipelineName::new(&shape.name).unwrap(), stream())).collect();
    let warehouses = BTreeMap::from([(WarehouseName::new("lake").unwrap(), lake)]);
    let found = gather(zone.as_ref(), &warehouses, streams, &|_| {}).await?;
    let now = world.clock.now();
    let mut plan = plan(found, Damage::Refuse, now)?;
    if all {
        plan.refine_all(now);
    }
    let keep = plan.to_keep();
    let Plan { ledger, content, report } = plan;
    zone.claim(&ZoneIdentity { version: 1, ledger, since: now }).await?;
    for kept in keep {
        zone.keep(&kept.name(), kept.to_bytes()?.into()).await?;
    }
    for damaged in &report.damaged {
        zone.set_aside(&damaged.name).await?;
    }
    world.storage.rebuilt(ledger, &content).await?;
    world.chaos.note(|| format!("→  the ledger is lost, and rebuilt: {report:?}"));
    Ok(true)
}

/// What a recovery does not answer for: a version of an object that was listed and not journalled, and that has changed before it
/// landed again (ARCHITECTURE, "A ledger that is lost").
fn is_of_an_object(entry: &JournalEntry) -> bool {
    entry.landing.objects.iter().any(|object| object.source.is_some())
}
