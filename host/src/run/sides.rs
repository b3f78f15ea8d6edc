//! Replays into tables beside those of their pipeline, while the host runs: they come and go in the ledger, whoever asked.
//!
//! One that comes is a pipeline that starts, as if the config had changed (`reload`). One that is dropped stops; once no host runs it any
//! more, whoever leads drops its tables, and then what the ledger has of it. That is a task of its own: a table that somebody reads may
//! keep it waiting, and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay_model::ports::{Duty, Ledger, Side};
use forebay_model::{PipelineName, Result};
use forebay_pipeline::panics::caught;
use uuid::Uuid;

use super::Host;
use crate::config::Config;
use crate::sides::{self, LeftOut};

/// How often the ledger is looked at for them.
pub(super) const LOOK: Duration = Duration::from_secs(1);
/// The pause before tables that could not be dropped are tried again.
const AGAIN: Duration = Duration::from_secs(30);

/// The sides of the last look: their names and ids, and whether they were dropped.
pub(super) type Known = Vec<(PipelineName, Uuid, bool)>;

/// Whether any came, or was dropped, since the last look.
pub(super) async fn moved(ledger: &dyn Ledger, known: &mut Known) -> bool {
    let sides = match caught(ledger.sides()).await {
        Ok(sides) => sides,
        Err(error) => {
            tracing::warn!(
                error = error.chain(),
                "replays into tables beside could not be looked for; it is tried again"
            );
            return false;
        }
    };
    let now: Known = sides.into_iter().map(|side| (side.name, side.id, side.dropped)).collect();
    let moved = *known != now;
    *known = now;
    moved
}

/// Says why replays do not run.
pub(super) fn tell(left_out: &[LeftOut]) {
    for LeftOut { side, why } in left_out {
        tracing::warn!(
            pipeline = %side, why,
            "a replay into tables beside does not run: it goes on when that is as it was, or drop it (`forebay replay --into … --drop`)"
        );
    }
}

/// Drops the tables of what is dropped, for ever. What cannot be dropped now is told, and tried again after a pause; others do not wait.
pub(super) async fn drop_tables(host: Arc<Host>) {
    let mut failed: BTreeMap<Uuid, Instant> = BTreeMap::new();
    loop {
        tokio::time::sleep(LOOK).await;
        if !host.fleet.leads() {
            continue;
        }
        let Ok(sides) = caught(host.ledger.sides()).await else { continue };
        failed.retain(|id, _| sides.iter().any(|side| side.id == *id));
        for side in sides.into_iter().filter(|side| side.dropped) {
            if failed.get(&side.id).is_some_and(|since| since.elapsed() < AGAIN) {
                continue;
            }
            if let Err(error) = caught(drop_one(&host, &side)).await {
                tracing::warn!(
                    pipeline = %side.name, error = error.chain(), hint = error.hint(),
                    "the tables of a replay could not be dropped; it is tried again"
                );
                failed.insert(side.id, Instant::now());
            }
        }
    }
}

async fn drop_one(host: &Host, side: &Side) -> Result<()> {
    let name = &side.name;
    if runs(host, name).await? {
        return Ok(());
    }
    let tables = sides::tables_of(host.ledger.as_ref(), name).await?;
    let dropped = sides::remove(host.ledger.as_ref(), &host.warehouses(), name, &tables).await?;
    tracing::info!(pipeline = %name, tables = dropped, "replay dropped, with its tables");
    Ok(())
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
    let Some(side) = runs.pipelines.get(stopped).filter(|pipeline| pipeline.side.is_some()) else { return };
    host.parts.forget_metrics(stopped);
    for table in side.tables() {
        if let Some(warehouse) = host.warehouses().get(&table.warehouse) {
            warehouse.close_table(&table.table);
        }
    }
}
