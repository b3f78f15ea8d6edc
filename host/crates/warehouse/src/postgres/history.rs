//! What a table remembers of its loads, and which rows it has: what a ledger is rebuilt from.

use forebay_model::ports::{CommittedLoad, PastLoad, SegmentRows, TableHistory};
use forebay_model::{LOAD, SEGMENT, SegmentId, Timestamp};
use sqlx::{AssertSqlSafe, Executor as _, Row as _};
use uuid::Uuid;

use super::PostgresWarehouse;
use super::commit::last_load;
use super::names::{column, stored};
use super::state::{exists, unsigned};
use crate::error::WarehouseError;

impl PostgresWarehouse {
    pub(super) async fn committed_load(
        &self,
        name: &str,
        ledger: Uuid,
        pipeline: &str,
    ) -> Result<Option<CommittedLoad>, WarehouseError> {
        let fault = self.server.fault("look for a load");
        let Some(pool) = self.server.pool().await? else { return Ok(None) };
        let mut connection = pool.acquire().await.map_err(&fault)?;
        match self.server.known(&mut connection, name).await? {
            Some(known) if known.ledger == ledger && known.pipeline == pipeline => {}
            Some(_) | None => return Ok(None),
        }
        let last = last_load(&mut connection, name).await.map_err(fault)?;
        Ok(last.map(|last| CommittedLoad { number: last.number, id: last.id.parse().ok() }))
    }

    pub(super) async fn table_history(&self, name: &str) -> Result<Option<TableHistory>, WarehouseError> {
        let fault = self.server.fault("read the loads of a table");
        let Some(pool) = self.server.pool().await? else { return Ok(None) };
        let mut connection = pool.acquire().await.map_err(&fault)?;
        let Some(known) = self.server.known(&mut connection, name).await? else {
            let there = exists(&mut connection, self.server.address.schema(), &stored(name)).await.map_err(fault)?;
            return Ok(there.then(TableHistory::default));
        };
        let loads = sqlx::query(
            "SELECT number, id, revision, chosen, version, rows_removed, replaces, committed_us FROM _forebay_loads \
             WHERE name = $1 ORDER BY number",
        );
        let loads = loads.bind(name).fetch_all(&mut *connection).await.map_err(&fault)?;
        let loads = loads.iter().map(past_load).collect::<sqlx::Result<Vec<_>>>().map_err(&fault)?;
        let mut rows = Vec::new();
        if known.schema.field_with_name(SEGMENT).is_ok() && known.schema.field_with_name(LOAD).is_ok() {
            let (segment, load) = (column(SEGMENT), column(LOAD));
            let relation = self.server.relation(name);
            let sql = format!(
                "SELECT {segment} AS segment, {load} AS load, count(*) AS rows FROM {relation} \
                 WHERE {segment} IS NOT NULL AND {load} IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2"
            );
            for row in connection.fetch_all(AssertSqlSafe(sql)).await.map_err(&fault)? {
                rows.push(segment_rows(name, &row).map_err(&fault)??);
            }
        }
        let last = loads.last().map(|load| load.number);
        let pipeline = known.pipeline.parse().ok();
        Ok(Some(TableHistory {
            ledger: Some(known.ledger),
            pipeline,
            last,
            loads: loads.into_iter().filter_map(|load| load.past).collect(),
            rows,
        }))
    }
}

struct Numbered {
    number: u64,
    /// `None` where what is kept of it cannot be read.
    past: Option<PastLoad>,
}

fn past_load(row: &sqlx::postgres::PgRow) -> sqlx::Result<Numbered> {
    let number = unsigned(row.try_get("number")?);
    let id: String = row.try_get("id")?;
    let revision: String = row.try_get("revision")?;
    let replaces: Vec<String> = row.try_get("replaces")?;
    let (table_version, rows_removed) = (unsigned(row.try_get("version")?), unsigned(row.try_get("rows_removed")?));
    let (chosen, at) = (row.try_get("chosen")?, Some(Timestamp::from_micros(row.try_get("committed_us")?)));
    let replaces = replaces.into_iter().map(SegmentId::from_text).collect();
    let past = id.parse().ok().zip(revision.parse().ok()).map(|(id, revision)| PastLoad {
        number,
        id,
        revision,
        table_version,
        rows_removed,
        replaces,
        chosen,
        at,
    });
    Ok(Numbered { number, past })
}

fn segment_rows(table: &str, row: &sqlx::postgres::PgRow) -> sqlx::Result<Result<SegmentRows, WarehouseError>> {
    let (segment, load): (String, i64) = (row.try_get("segment")?, row.try_get("load")?);
    let rows = unsigned(row.try_get("rows")?);
    Ok(match u64::try_from(load) {
        Ok(load) => Ok(SegmentRows { segment: SegmentId::from_text(segment), load, rows }),
        Err(_) => Err(WarehouseError::Bug(format!("table {table:?} has rows of load {load}"))),
    })
}
