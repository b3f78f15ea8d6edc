//! The hosts that share a ledger: who they are, and which does what.
//!
//! Each host has a row, in which it writes what it is ready for; and each duty has one, with its host. Who divides
//! holds the ledger's one row, so hosts do it one after the other. It removes the rows of hosts that live no more (a lock that can be taken
//! is nobody's, and one whose session broke takes it again within [`GRACE`]), which frees what they had and lets them write nothing any
//! more. A duty that is free goes to a host that is ready for it
//! and has the fewest; who finds that another one that is ready has two fewer is to give one back. So duties go to where there is room,
//! and stay there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use forebay_model::Timestamp;
use forebay_model::ports::{Division, Duty, HostHolder, HostState, Readiness};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use super::lease;
use crate::error::LedgerError;
use crate::sql::Step;

/// A duty that those who have fewer have not taken for so long goes to whoever is ready.
const PATIENCE: Duration = Duration::from_secs(3);

/// A host whose lock is free for so long lives no more. It also is how soon one that died is replaced.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// The server's time, in microseconds.
const NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

/// A token that no host had.
pub(super) async fn token(connection: &mut PgConnection) -> sqlx::Result<String> {
    sqlx::query("SELECT gen_random_uuid()::text AS token").fetch_one(connection).await?.try_get("token")
}

/// Writes the row of a host whose locks are taken. What a host that it replaces has under way ends before, for it has locked the ledger's
/// row. False where one that wants to be alone must wait whether another takes its lock again.
pub(super) async fn enter(connection: &mut PgConnection, token: &str, schema: &str, alone: bool) -> Step<bool> {
    let mut transaction = connection.begin().await?;
    let ledger = sqlx::query("SELECT id FROM _ledger FOR UPDATE").fetch_optional(&mut *transaction).await?;
    if ledger.is_none() {
        return Err(LedgerError::invariant("table _ledger is empty").into());
    }
    if alone {
        // One that was alone lives no more: its lock could not have been taken.
        sqlx::query("DELETE FROM _hosts WHERE alone").execute(&mut *transaction).await?;
        if !others(&mut transaction, schema, token).await?.is_empty() {
            transaction.commit().await?;
            return Ok(false);
        }
    }
    let insert = format!("INSERT INTO _hosts (token, process, name, since, alone) VALUES ($1, $2, $3, {NOW}, $4)");
    sqlx::query(AssertSqlSafe(insert))
        .bind(token)
        .bind(i64::from(std::process::id()))
        .bind(whoami::hostname().ok())
        .bind(alone)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(true)
}

/// Removes the row of a host that ends; what it had is free from now on, and divided among all.
pub(super) async fn leave(connection: &mut PgConnection, token: &str) -> sqlx::Result<()> {
    let free = format!("UPDATE _duties SET host = NULL, since = {NOW} WHERE host = $1");
    sqlx::query(AssertSqlSafe(free)).bind(token).execute(&mut *connection).await?;
    sqlx::query("DELETE FROM _hosts WHERE token = $1").bind(token).execute(connection).await?;
    Ok(())
}

/// Whether a host has its place still.
pub(super) async fn is_in(connection: &mut PgConnection, token: &str) -> sqlx::Result<bool> {
    let row = sqlx::query("SELECT 1 FROM _hosts WHERE token = $1").bind(token).fetch_optional(connection).await?;
    Ok(row.is_some())
}

/// The host that came last.
pub(super) async fn newest(connection: &mut PgConnection) -> Step<Option<HostHolder>> {
    let row = sqlx::query("SELECT process, name, since FROM _hosts ORDER BY since DESC, token LIMIT 1")
        .fetch_optional(connection)
        .await?;
    row.map(|row| holder(&row)).transpose()
}

fn holder(row: &PgRow) -> Step<HostHolder> {
    let process: i64 = row.try_get("process")?;
    Ok(HostHolder {
        process: u32::try_from(process).ok(),
        host: row.try_get("name")?,
        since: Timestamp::from_micros(row.try_get("since")?),
    })
}

/// The hosts that live, the first in time first.
pub(super) async fn hosts(connection: &mut PgConnection, schema: &str) -> Step<Vec<HostState>> {
    let mut duties: BTreeMap<String, BTreeSet<Duty>> = BTreeMap::new();
    for row in sqlx::query("SELECT duty, host FROM _duties WHERE host IS NOT NULL").fetch_all(&mut *connection).await? {
        let (duty, host): (String, String) = (row.try_get("duty")?, row.try_get("host")?);
        duties.entry(host).or_default().insert(duty.parse().map_err(|error| unreadable(&error))?);
    }
    let taken = locks(connection).await?;
    let rows = sqlx::query("SELECT token, process, name, since, alone, cannot FROM _hosts ORDER BY since, token")
        .fetch_all(connection)
        .await?;
    let mut hosts = Vec::new();
    for row in rows {
        let (token, cannot): (String, String) = (row.try_get("token")?, row.try_get("cannot")?);
        if taken.contains(&lease::key_of(&token, schema)) {
            let duties = (!row.try_get::<bool, _>("alone")?).then(|| duties.remove(&token).unwrap_or_default());
            hosts.push(HostState { holder: holder(&row)?, duties, cannot: serde_json::from_str(&cannot)? });
        }
    }
    Ok(hosts)
}

fn unreadable(error: &forebay_model::Error) -> LedgerError {
    LedgerError::invariant(format!("table _duties: {error}"))
}

/// The advisory locks that are taken in this database.
async fn locks(connection: &mut PgConnection) -> sqlx::Result<BTreeSet<i64>> {
    let rows = sqlx::query(
        "SELECT (classid::bigint << 32 | objid::bigint) AS key FROM pg_locks WHERE locktype = 'advisory' AND granted \
         AND objsubid = 1 AND database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())",
    )
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| row.try_get("key")).collect()
}

/// Who has a schema's lock of hosts, where the ledger does not tell.
pub(super) async fn session(connection: &mut PgConnection, schema: &str) -> Step<Option<HostHolder>> {
    let row = sqlx::query(
        "SELECT (extract(epoch FROM coalesce(a.backend_start, now())) * 1000000)::bigint AS since FROM pg_locks l \
         LEFT JOIN pg_stat_activity a ON a.pid = l.pid WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 \
         AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()) \
         AND (l.classid::bigint << 32 | l.objid::bigint) = $1 ORDER BY since LIMIT 1",
    )
    .bind(lease::key("host", schema))
    .fetch_optional(connection)
    .await?;
    let since = row.map(|row| row.try_get("since")).transpose()?;
    Ok(since.map(|since| HostHolder { process: None, host: None, since: Timestamp::from_micros(since) }))
}

/// A host as the others see it.
struct Other {
    ready: BTreeSet<Duty>,
    /// How many duties it has; who leads has no more to do for that.
    has: usize,
}

/// See [`Hosts::divide`](forebay_model::ports::Hosts::divide); within a transaction that has locked the ledger's row.
pub(super) async fn divide(
    connection: &mut PgConnection,
    schema: &str,
    token: &str,
    state: &Readiness,
) -> Step<Division> {
    let Readiness { ready, cannot } = state;
    let (ready_text, cannot_text) = (serde_json::to_string(ready)?, serde_json::to_string(cannot)?);
    // Without a change nothing is written: it is asked again and again.
    sqlx::query("UPDATE _hosts SET ready = $2, cannot = $3 WHERE token = $1 AND (ready <> $2 OR cannot <> $3)")
        .bind(token)
        .bind(ready_text)
        .bind(cannot_text)
        .execute(&mut *connection)
        .await?;
    let mut others = others(connection, schema, token).await?;
    let mut mine = BTreeSet::new();
    let mut free = BTreeMap::new();
    let rows = sqlx::query(AssertSqlSafe(format!("SELECT duty, host, {NOW} - since AS age FROM _duties")))
        .fetch_all(&mut *connection)
        .await?;
    let mut known = BTreeSet::new();
    for row in rows {
        let (duty, host): (String, Option<String>) = (row.try_get("duty")?, row.try_get("host")?);
        let duty: Duty = duty.parse().map_err(|error| unreadable(&error))?;
        known.insert(duty.clone());
        match host {
            Some(host) if host == token => drop(mine.insert(duty)),
            Some(host) => {
                if let Some(other) = others.get_mut(&host).filter(|_| counts(&duty)) {
                    other.has += 1;
                }
            }
            None => drop(free.insert(duty, row.try_get::<i64, _>("age")?)),
        }
    }
    // One that nobody knew is free from now on.
    free.extend(ready.difference(&known).map(|duty| (duty.clone(), 0)));
    let patience = i64::try_from(PATIENCE.as_micros()).unwrap_or(i64::MAX);
    for (duty, age) in free.into_iter().filter(|(duty, _)| ready.contains(duty)) {
        let has = mine.iter().filter(|duty| counts(duty)).count();
        let is_others = others.values().any(|other| other.ready.contains(&duty) && other.has < has);
        let taken = age >= patience || !is_others || !counts(&duty);
        set(connection, &duty, taken.then_some(token), known.contains(&duty)).await?;
        if taken {
            mine.insert(duty);
        }
    }
    let has = mine.iter().filter(|duty| counts(duty)).count();
    let waits = |duty: &&Duty| others.values().any(|other| other.ready.contains(*duty) && other.has + 1 < has);
    // One at a time: the other may take it for enough. Pipelines first, since they are the most work.
    let give = mine.iter().rev().filter(|duty| counts(duty)).filter(waits).take(1).cloned().collect();
    Ok(Division { mine, give })
}

/// Whether a duty is work that is to be spread.
fn counts(duty: &Duty) -> bool {
    match duty {
        Duty::Lead => false,
        Duty::Stream(_) | Duty::Pipeline(_) => true,
    }
}

/// The other hosts that live, or may. Those that do not lose their row, and with it the right to write.
async fn others(connection: &mut PgConnection, schema: &str, token: &str) -> Step<BTreeMap<String, Other>> {
    let hosts = format!(
        "SELECT token, process, name, since, ready, {NOW} - silent_since AS silent FROM _hosts WHERE token <> $1"
    );
    let rows = sqlx::query(AssertSqlSafe(hosts)).bind(token).fetch_all(&mut *connection).await?;
    let mut others = BTreeMap::new();
    for row in rows {
        let (of, ready): (String, String) = (row.try_get("token")?, row.try_get("ready")?);
        let silent: Option<i64> = row.try_get("silent")?;
        let is_free: bool = sqlx::query("SELECT pg_try_advisory_xact_lock($1) AS got")
            .bind(lease::key_of(&of, schema))
            .fetch_one(&mut *connection)
            .await?
            .try_get("got")?;
        if is_free != silent.is_some() {
            let since = if is_free { NOW } else { "NULL" };
            let note = format!("UPDATE _hosts SET silent_since = {since} WHERE token = $1");
            sqlx::query(AssertSqlSafe(note)).bind(&of).execute(&mut *connection).await?;
        }
        let grace = i64::try_from(GRACE.as_micros()).unwrap_or(i64::MAX);
        if !is_free || silent.is_none_or(|silent| silent < grace) {
            others.insert(of, Other { ready: serde_json::from_str(&ready)?, has: 0 });
            continue;
        }
        let HostHolder { process, host, since } = holder(&row)?;
        tracing::warn!(process, host, %since, "a host is not heard of any more: the others take what it did");
        leave(connection, &of).await?;
    }
    Ok(others)
}

/// Writes whose a duty is; nothing where it stays free.
async fn set(connection: &mut PgConnection, duty: &Duty, host: Option<&str>, known: bool) -> sqlx::Result<()> {
    if host.is_none() && known {
        return Ok(());
    }
    let sql = format!(
        "INSERT INTO _duties (duty, host, since) VALUES ($1, $2, {NOW}) \
         ON CONFLICT (duty) DO UPDATE SET host = excluded.host, since = excluded.since"
    );
    sqlx::query(AssertSqlSafe(sql)).bind(duty.to_string()).bind(host).execute(connection).await?;
    Ok(())
}

/// Frees duties of a host.
pub(super) async fn give_back(connection: &mut PgConnection, token: &str, duties: &BTreeSet<Duty>) -> sqlx::Result<()> {
    let duties: Vec<String> = duties.iter().map(ToString::to_string).collect();
    let sql = format!("UPDATE _duties SET host = NULL, since = {NOW} WHERE host = $1 AND duty = ANY($2)");
    sqlx::query(AssertSqlSafe(sql)).bind(token).bind(duties).execute(connection).await?;
    Ok(())
}
