//! Maintenance: staged tables that no load needs are dropped. Rows that are gone are the server's business (autovacuum), and files are
//! nothing that a table in PostgreSQL has.
//!
//! Loads that are older than the retention are forgotten, but for the last: the rows say which segments are there.

use forebay_model::StagedFile;
use forebay_model::ports::{MaintainOptions, MaintainReport, TableOwner};
use sqlx::{AssertSqlSafe, Executor as _, Row as _};

use super::PostgresWarehouse;
use super::commit::{drop_staged, lock_of};
use super::names::stored;
use super::stage::PREFIX;
use super::state::{exists, lock_name, unsigned};
use crate::error::WarehouseError;

/// Loads are remembered so long at least: a ledger that is rebuilt reads what they replaced.
const LOADS_KEPT: i64 = 2 * 24 * 60 * 60 * 1_000_000;

impl PostgresWarehouse {
    pub(super) async fn maintain_table(
        &self,
        name: &str,
        options: &MaintainOptions,
    ) -> Result<MaintainReport, WarehouseError> {
        let MaintainOptions { target_file_bytes: _, retention, dry_run, now, keep_staged } = options;
        let fault = self.server.fault("look for staged tables");
        let Some(pool) = self.server.pool().await? else { return Ok(MaintainReport::default()) };
        let retention = i64::try_from(retention.as_micros()).unwrap_or(i64::MAX);
        let before = now.as_micros().saturating_sub(retention);
        let rows = sqlx::query(
            "SELECT s.path, coalesce((SELECT pg_total_relation_size(c.oid) FROM pg_class c JOIN pg_namespace n \
             ON n.oid = c.relnamespace AND n.nspname = $4 WHERE c.relname = s.path), 0) AS bytes FROM _forebay_staged s \
             WHERE s.name = $1 AND (s.load IS NOT NULL OR (s.made_us <= $2 AND NOT s.path = ANY ($3))) ORDER BY s.path",
        );
        let rows = rows.bind(name).bind(before).bind(keep_staged).bind(self.server.address.schema());
        let rows = rows.fetch_all(pool).await.map_err(&fault)?;
        let mut report = MaintainReport::default();
        let mut paths = Vec::new();
        for row in rows {
            let path: String = row.try_get("path").map_err(&fault)?;
            if self.server.pending().contains(&path) {
                continue;
            }
            report.vacuumed_files += 1;
            report.vacuumed_bytes += unsigned(row.try_get("bytes").map_err(&fault)?);
            paths.push(path);
        }
        if *dry_run {
            return Ok(report);
        }
        drop_staged(&self.server, &paths).await?;
        let forgotten = sqlx::query(
            "DELETE FROM _forebay_loads l WHERE name = $1 AND committed_us < $2 \
             AND number < (SELECT max(number) FROM _forebay_loads WHERE name = $1)",
        );
        let before = before.min(now.as_micros().saturating_sub(LOADS_KEPT));
        let forgotten = forgotten.bind(name).bind(before).execute(pool).await.map_err(fault)?.rows_affected();
        tracing::info!(
            table = name,
            staged_tables = report.vacuumed_files,
            bytes = report.vacuumed_bytes,
            forgotten,
            "table maintained"
        );
        Ok(report)
    }

    pub(super) async fn drop_owned(&self, name: &str, owner: &TableOwner) -> Result<bool, WarehouseError> {
        let fault = self.server.fault("drop a table");
        let mut transaction = self.server.writing().await?.begin().await.map_err(&fault)?;
        lock_name(&mut transaction, &lock_of(&self.server, name)).await.map_err(&fault)?;
        let known = self.server.known(&mut transaction, name).await?;
        let Some(known) = known else {
            if exists(&mut transaction, self.server.address.schema(), &stored(name)).await.map_err(&fault)? {
                return Err(not_its(name, owner));
            }
            transaction.rollback().await.map_err(&fault)?;
            // Staged for a first load, or left by a process that died amid this.
            self.drop_all_staged(name).await?;
            return Ok(false);
        };
        if (TableOwner { ledger: known.ledger, pipeline: known.pipeline }) != *owner {
            return Err(not_its(name, owner));
        }
        let sql = format!("DROP TABLE {}", self.server.relation(&stored(name)));
        transaction.execute(AssertSqlSafe(sql)).await.map_err(&fault)?;
        for of_table in ["DELETE FROM _forebay_loads WHERE name = $1", "DELETE FROM _forebay_tables WHERE name = $1"] {
            sqlx::query(of_table).bind(name).execute(&mut *transaction).await.map_err(&fault)?;
        }
        transaction.commit().await.map_err(&fault)?;
        self.drop_all_staged(name).await?;
        Ok(true)
    }

    /// What was staged for a table that is gone is nobody's any more.
    async fn drop_all_staged(&self, name: &str) -> Result<(), WarehouseError> {
        let fault = self.server.fault("drop staged tables");
        let staged = sqlx::query("SELECT path FROM _forebay_staged WHERE name = $1").bind(name);
        let staged = staged.fetch_all(self.server.writing().await?).await.map_err(&fault)?;
        let paths =
            staged.iter().map(|row| row.try_get("path")).collect::<sqlx::Result<Vec<String>>>().map_err(&fault)?;
        drop_staged(&self.server, &paths).await
    }

    pub(super) async fn discard_files(&self, name: &str, files: &[StagedFile]) -> Result<(), WarehouseError> {
        let paths: Vec<String> = files.iter().map(|file| file.path.clone()).collect();
        if let Some(path) = paths.iter().find(|path| !is_staged(path)) {
            return Err(WarehouseError::Bug(format!("{path:?} is not a staged table's name")));
        }
        let fault = self.server.fault("look for staged tables");
        let mut transaction = self.server.writing().await?.begin().await.map_err(&fault)?;
        // A load that is being committed has them, or is too late for them.
        lock_name(&mut transaction, &lock_of(&self.server, name)).await.map_err(&fault)?;
        let loaded = sqlx::query("SELECT number FROM _forebay_loads WHERE name = $1 AND staged && $2 LIMIT 1");
        let loaded = loaded.bind(name).bind(&paths).fetch_optional(&mut *transaction).await.map_err(&fault)?;
        if loaded.is_some() {
            return Err(WarehouseError::Bug(format!("a file of table {name:?} is loaded, not staged")));
        }
        let gone = sqlx::query("DELETE FROM _forebay_staged WHERE path = ANY ($1) AND load IS NULL");
        gone.bind(&paths).execute(&mut *transaction).await.map_err(&fault)?;
        if !paths.is_empty() {
            let relations: Vec<_> = paths.iter().map(|path| self.server.relation(path)).collect();
            let sql = format!("DROP TABLE IF EXISTS {}", relations.join(", "));
            transaction.execute(AssertSqlSafe(sql)).await.map_err(&fault)?;
        }
        transaction.commit().await.map_err(fault)?;
        for path in &paths {
            self.server.pending().remove(path);
        }
        Ok(())
    }
}

fn not_its(name: &str, owner: &TableOwner) -> WarehouseError {
    WarehouseError::Refused {
        table: name.to_owned(),
        what: format!("it is not pipeline {}'s, so it is not dropped", owner.pipeline),
        hint: "look whose it is, and drop it by hand if nobody needs it",
    }
}

/// Nothing else is dropped, whatever a ledger says.
fn is_staged(path: &str) -> bool {
    path.strip_prefix(PREFIX).is_some_and(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
