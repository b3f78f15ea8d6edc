//! Replays into tables beside those of their pipeline, while the host runs: they come and go in the ledger, whoever asked.
//!
//! One that comes is a pipeline that starts, as if the config had changed (`reload`). One that is dropped stops; once no host runs it any
//! more, whoever leads drops its tables, and then what the ledger has of it.

use std::time::Duration;

use forebay_model::ports::{Duty, Side};
use forebay_model::{PipelineName, Result};
use forebay_pipeline::panics::caught;

use super::Host;
use crate::config::Config;
use crate::sides;

/// How often the ledger is looked at for them.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// The sides of the last look: their names, and whether they were dropped.
pub(super) type Known = Vec<(PipelineName, bool)>;

/// Whether any came, or was dropped, since the last look. Those that are dropped are removed on the way.
pub(super) async fn moved(host: &Host, known: &mut Known) -> bool {
    match caught(look(host, known)).await {
        Ok(moved) => moved,
        Err(error) => {
            tracing::warn!(
                error = error.chain(),
                hint = error.hint(),
                "replays into tables beside could not be looked after; it is tried again"
            );
            false
        }
    }
}

async fn look(host: &Host, known: &mut Known) -> Result<bool> {
    let sides = host.ledger.sides().await?;
    let now: Known = sides.iter().map(|side| (side.name.clone(), side.dropped)).collect();
    if *known != now {
        *known = now;
        return Ok(true);
    }
    for Side { name, .. } in sides.iter().filter(|side| side.dropped) {
        if !host.fleet.leads() || runs(host, name).await? {
            continue;
        }
        let tables = sides::tables_of(host.ledger.as_ref(), name).await?;
        let dropped = sides::remove(host.ledger.as_ref(), &host.warehouses(), name, &tables).await?;
        tracing::info!(pipeline = %name, tables = dropped, "replay dropped, with its tables");
    }
    Ok(false)
}

/// Whether this host has it still, or another one does.
async fn runs(host: &Host, side: &PipelineName) -> Result<bool> {
    if host.parts.handles().contains_key(side) {
        return Ok(true);
    }
    let duty = Duty::Pipeline(side.clone());
    let hosts = host.ledger.hosts().await?;
    Ok(hosts.iter().any(|host| host.duties.as_ref().is_some_and(|duties| duties.contains(&duty))))
}

/// What a side that stopped had open is forgotten: another host may drop its tables, and another replay make them anew.
pub(super) fn close(host: &Host, runs: &Config, stopped: &PipelineName) {
    let Some(side) = runs.pipelines.get(stopped).filter(|_| stopped.as_side().is_some()) else { return };
    for table in side.tables() {
        if let Some(warehouse) = host.warehouses().get(&table.warehouse) {
            warehouse.close_table(&table.table);
        }
    }
}
