//! `forebay replay --into`: history into tables beside a pipeline's own, which stay as they are. Looked at, what stands beside is put in
//! the place of what the pipeline has (`--swap`), or goes (`--drop`).
//!
//! A side is a pipeline of its own to whoever runs it ([`crate::sides`]). Its rows have load numbers of their own, so they are not moved:
//! a swap has the same segments refined under the same revision into the pipeline's tables, each group in one commit of each table, and
//! then compares the two, row by row. Only where nothing differs the tables beside go by themselves.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay_model::load::Terms;
use forebay_model::ports::{Ledger, Side, TableOwner, Warehouse};
use forebay_model::{PipelineName, Revision, RevisionId, TableName};
use forebay_pipeline::refine::bind::Warehouses;
use serde_json::json;
use uuid::Uuid;

use super::again::{Chosen, follow, left, tell};
use super::replaced::{self, Before, Differ};
use super::{Exit, Failure, Global, listing, show};
use crate::assemble::{self, Access};
use crate::query::Lake;
use crate::sides;
use crate::who::who;

/// How long a host may take to drop tables.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is told where the host that is to drop them has not.
const NOT_YET: &str = "the host has not dropped the tables beside yet: its log tells why";

/// Tables beside those of a pipeline, as a person names them.
pub(super) struct Beside {
    pub(super) of: PipelineName,
    pub(super) suffix: String,
    /// The side's own name.
    pub(super) name: PipelineName,
}

impl Beside {
    pub(super) fn new(of: &PipelineName, suffix: &str) -> anyhow::Result<Self> {
        if of.as_side().is_some() {
            let failure =
                Failure::new(Exit::Usage, format!("{of} is a replay's itself: its tables have no others beside"));
            return Err(failure.with_hint("name the pipeline whose history it is").into());
        }
        let name = of.side(suffix).map_err(|error| {
            let failure = Failure::new(Exit::Usage, error.to_string());
            failure.with_hint(error.hint().unwrap_or("use a shorter suffix").to_owned())
        })?;
        Ok(Self { of: of.clone(), suffix: suffix.to_owned(), name })
    }

    fn gone(&self) -> String {
        format!("the tables that end with _{} are gone", self.suffix)
    }

    async fn known(&self, ledger: &dyn Ledger) -> anyhow::Result<Option<Side>> {
        let found = ledger.sides().await?.into_iter().find(|side| side.name == self.name);
        if found.as_ref().is_some_and(|side| side.dropped) {
            let failure =
                Failure::new(Exit::Refused, format!("the tables that end with _{} are being dropped", self.suffix));
            return Err(failure
                .with_hint("ask again in a moment; `forebay status` tells whether the host has done it")
                .into());
        }
        Ok(found)
    }

    async fn needed(&self, ledger: &dyn Ledger) -> anyhow::Result<Side> {
        Ok(self.known(ledger).await?.ok_or_else(|| self.missing())?)
    }

    fn missing(&self) -> Failure {
        let Self { of, suffix, .. } = self;
        let failure = Failure::new(Exit::NotFound, format!("no replay of {of} has tables that end with _{suffix}"));
        failure.with_hint(format!("`forebay replay --pipeline {of} --into {suffix}` makes them"))
    }
}

/// Has chosen segments refined into tables beside, and waits.
pub(super) async fn begin(
    global: &Global,
    lake: &Lake,
    ledger: &dyn Ledger,
    (beside, chosen): (&Beside, Chosen),
    (revision, id): (&Revision, RevisionId),
    (workers, dry_run, detach): (Option<NonZeroU32>, bool, bool),
) -> anyhow::Result<Exit> {
    let own = sides::revision_beside(revision, &beside.name, &beside.suffix)?;
    let known = beside.known(ledger).await?;
    if known.is_none() {
        check_free(lake, ledger, beside, &own).await?;
    }
    let chosen = chosen.into_side(&beside.name);
    let tables: Vec<_> = own.tables().iter().map(ToString::to_string).collect();
    let tables = tables.join(", ");
    if dry_run {
        return tell(global, &json!({ "would_replay": chosen.json() }), || {
            format!("{}: {} would be refined into {tables}{}", beside.of, chosen.words(), chosen.how())
        });
    }
    let (now, reason) = (listing::now(), format!("forebay replay by {}", who()));
    let side = Side {
        id: Uuid::new_v4(),
        name: beside.name.clone(),
        of: beside.of.clone(),
        revision: id,
        workers,
        reason,
        asked_at: now,
        dropped: false,
    };
    let new = ledger.ask_side(&side, &own, &chosen.segments).await?;
    ledger.retry_failed(&beside.name).await?;
    if !global.json() {
        let had = chosen.segments.len() as u64 - new;
        let had = if had == 0 { String::new() } else { format!("; {} asked for before", show::count(had, "segment")) };
        show::line(&format!("{}: {} into {tables}{}{had}", beside.of, chosen.words(), chosen.how()))?;
    }
    let before = if detach { None } else { Before::beside(lake, &beside.of, revision, &beside.suffix).await };
    follow(global, lake, ledger, (&chosen, before), detach).await
}

/// Refuses tables that another has, or that are there already.
async fn check_free(lake: &Lake, ledger: &dyn Ledger, beside: &Beside, own: &Revision) -> anyhow::Result<()> {
    let config = &lake.stores().config;
    let taken = config.tables();
    for table in own.tables() {
        if let Some(pipeline) = taken.get(&table) {
            let failure = Failure::new(Exit::Refused, format!("table {table} is pipeline {pipeline}'s"));
            return Err(failure.with_hint("choose another suffix").into());
        }
        let warehouse = assemble::open_warehouse(config, &table.warehouse, Access::Read).await?;
        let Some(info) = warehouse.table(&table.table).await? else { continue };
        let left_over = info.owner == Some(TableOwner { ledger: ledger.id(), pipeline: beside.name.to_string() });
        let failure = Failure::new(Exit::Refused, format!("there is a table {table} already"));
        return Err(match left_over {
            true => failure.with_hint(format!(
                "it is of such a replay, which the ledger does not know any more: while no host runs, \
                 `forebay replay --pipeline {} --into {} --drop` drops it",
                beside.of, beside.suffix
            )),
            false => failure.with_hint("choose another suffix"),
        }
        .into());
    }
    Ok(())
}

/// Takes back what is not begun with.
pub(super) async fn stop(global: &Global, ledger: &dyn Ledger, beside: &Beside) -> anyhow::Result<Exit> {
    beside.needed(ledger).await?;
    let taken = ledger.forget_waiting(&beside.name).await?;
    tell(global, &json!({ "pipeline": beside.of, "taken_back": taken }), || {
        let segments = show::count(taken, "segment");
        format!(
            "{}: {segments} taken back; what is done stays in the tables that end with _{}",
            beside.of, beside.suffix
        )
    })
}

/// Puts what stands beside in the place of what the pipeline has.
pub(super) async fn swap(
    global: &Global,
    lake: &Lake,
    ledger: &dyn Ledger,
    beside: &Beside,
    detach: bool,
) -> anyhow::Result<Exit> {
    let side = beside.needed(ledger).await?;
    let of_side =
        format!("segment IN (SELECT x.segment FROM ledger.side_segments x WHERE x.pipeline = '{}')", side.name);
    let chosen = Chosen::of(lake, &beside.of, (None, None), &format!("s.{of_side}"), Vec::new()).await?;
    let waiting = left(lake, &chosen.clone().into_side(&side.name)).await?;
    if waiting.left + waiting.failed > 0 {
        let failure = Failure::new(
            Exit::Refused,
            format!(
                "of the replay into tables that end with _{}, {} not refined yet",
                beside.suffix,
                show::count_is(waiting.left + waiting.failed, "segment")
            ),
        );
        let hint = "`forebay status` tells how far it is, and why segments failed; `--stop` takes back what is left";
        return Err(failure.with_hint(hint).into());
    }
    if chosen.segments.is_empty() {
        return tell(global, &json!({ "asked": chosen.json() }), || {
            format!("{}: nothing was refined into them", beside.of)
        });
    }
    let record = ledger.revision(&beside.of, side.revision).await?;
    let record = record.ok_or_else(|| Failure::new(Exit::NotFound, "the revision is gone from the ledger"))?;
    // What is refined under the active one is healed by the next.
    let active = ledger.active(&beside.of).await?.is_some_and(|active| active.revision.id == side.revision);
    let under = (!active).then_some(side.revision);
    let chosen = Chosen { under: under.map(|_| record.number), workers: side.workers, ..chosen };
    let before = if detach { None } else { Before::of(lake, &beside.of, Some(&record.revision)).await };
    let terms = Terms { revision: under, workers: side.workers };
    ledger.ask_replay(&beside.of, &chosen.request("forebay replay --swap", terms), listing::now()).await?;
    if !global.json() {
        let what = chosen.words();
        show::line(&format!("{}: {what} as they stand in the tables that end with _{}", beside.of, beside.suffix))?;
    }
    if detach || ledger.host().await?.is_none() {
        return follow(global, lake, ledger, (&chosen, before), detach).await;
    }
    let exit = follow(global, lake, ledger, (&chosen, before), false).await?;
    if exit != Exit::Ok || left(lake, &chosen).await?.left > 0 {
        return Ok(exit);
    }
    settle(global, lake, ledger, (beside, &record.revision), &chosen).await
}

/// After a swap: where the rows are those that stood beside, the tables beside are needed no more.
async fn settle(
    global: &Global,
    lake: &Lake,
    ledger: &dyn Ledger,
    (beside, revision): (&Beside, &Revision),
    chosen: &Chosen,
) -> anyhow::Result<Exit> {
    let lake = Lake::with_ledger(Arc::clone(&lake.stores().config), Arc::clone(&lake.stores().ledger)).await?;
    let both = Before::beside(&lake, &beside.of, revision, &beside.suffix).await;
    let compared = match &both {
        Some(both) => both.compare(&lake, &chosen.segments).await.ok(),
        None => None,
    };
    let same = compared
        .as_ref()
        .is_some_and(|tables| tables.values().all(|differ| differ.as_ref().is_some_and(Differ::is_none)));
    if same && ledger.drop_side(&beside.name, Some(&chosen.segments)).await? {
        let gone = is_gone(ledger, beside).await?;
        if !global.json() {
            show::line(&format!("{}: {}", beside.of, if gone { beside.gone() } else { NOT_YET.to_owned() }))?;
        }
        return Ok(Exit::Ok);
    }
    if !global.quiet() {
        let drop = format!("`forebay replay --pipeline {} --into {} --drop`", beside.of, beside.suffix);
        let lines = compared.as_ref().map(replaced::words).unwrap_or_default();
        eprintln!(
            "the rows are not those that stand beside, or could not be compared with them, so those stay: {drop}"
        );
        lines.iter().for_each(|line| eprintln!("{line}"));
    }
    Ok(Exit::Failed)
}

/// Drops the tables beside: the host that runs does it, or this process where none does.
pub(super) async fn drop(
    global: &Global,
    lake: &Lake,
    ledger: &dyn Ledger,
    beside: &Beside,
    detach: bool,
) -> anyhow::Result<Exit> {
    let known = ledger.drop_side(&beside.name, None).await?;
    let Some(lease) = ledger.lease_host().await? else {
        if !known {
            // Only the host may touch tables while it runs.
            return Err(unknown(lake, ledger, beside).await?.into());
        }
        let gone = !detach && is_gone(ledger, beside).await?;
        return tell(global, &json!({ "pipeline": beside.of, "dropped": gone }), || match (detach, gone) {
            (true, _) => format!("{}: the host drops the tables that end with _{}", beside.of, beside.suffix),
            (false, true) => format!("{}: {}", beside.of, beside.gone()),
            (false, false) => format!("{}: {NOT_YET}", beside.of),
        });
    };
    let mut tables = sides::tables_of(ledger, &beside.name).await?;
    tables.extend(owned(lake, ledger, beside).await?);
    tables.sort();
    tables.dedup();
    let config = &lake.stores().config;
    let mut warehouses: BTreeMap<_, Arc<dyn Warehouse>> = BTreeMap::new();
    for name in tables.iter().map(|table| &table.warehouse) {
        if !warehouses.contains_key(name) {
            warehouses.insert(name.clone(), assemble::open_warehouse(config, name, Access::Write).await?);
        }
    }
    let warehouses: Warehouses = Arc::new(warehouses);
    let gone = sides::remove(ledger, &warehouses, &beside.name, &tables).await?;
    std::mem::drop(lease);
    if !known && gone == 0 {
        return Err(beside.missing().into());
    }
    let told = || format!("{}: {}", beside.of, beside.gone());
    tell(global, &json!({ "pipeline": beside.of, "dropped": true }), told)
}

/// The tables whose owner is the side: a ledger that was rebuilt knows none of them.
async fn owned(lake: &Lake, ledger: &dyn Ledger, beside: &Beside) -> anyhow::Result<Vec<TableName>> {
    let config = &lake.stores().config;
    let owner = TableOwner { ledger: ledger.id(), pipeline: beside.name.to_string() };
    let mut owned = Vec::new();
    for name in config.warehouses.keys() {
        let warehouse = assemble::open_warehouse(config, name, Access::Read).await?;
        let ends = format!("_{}", beside.suffix);
        for table in warehouse.tables().await?.into_iter().filter(|table| table.ends_with(&ends)) {
            if warehouse.table(&table).await?.is_some_and(|info| info.owner.as_ref() == Some(&owner)) {
                owned.push(TableName::new(name.clone(), table)?);
            }
        }
    }
    Ok(owned)
}

/// What is told where a host runs, and the ledger knows no such replay.
async fn unknown(lake: &Lake, ledger: &dyn Ledger, beside: &Beside) -> anyhow::Result<Failure> {
    let Some(table) = owned(lake, ledger, beside).await?.into_iter().next() else { return Ok(beside.missing()) };
    let failure = Failure::new(Exit::Refused, format!("the ledger does not know the replay that made {table}"));
    Ok(failure.with_hint("it was rebuilt since: stop the host, drop them then, and start it again"))
}

/// Waits until the host has done it; false where it takes too long.
async fn is_gone(ledger: &dyn Ledger, beside: &Beside) -> anyhow::Result<bool> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if !ledger.sides().await?.iter().any(|side| side.name == beside.name) {
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(false)
}
