//! The host's lease: an advisory lock of a session that does nothing else, and a token in the ledger.
//!
//! The lock says that a host lives: the server gives it back when the session ends, be it that the process died, that the network
//! broke, or that the process was stopped and said nothing for [`SILENCE`]. But a host does not know at once that its session
//! ended. So who takes the lock writes a new token into the ledger's one row, and each transaction of a host that writes locks
//! that row and looks whether the token is its own: what a host without the lease wants to write is refused, however late it comes.
//!
//! A host whose session broke takes the lock again, if nobody else has taken the lease since: the token tells.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use forebay_model::ports::{HostHolder, HostLease};
use forebay_model::{Error, Timestamp};
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::address::{PATIENCE, PostgresAddress};
use super::open;
use crate::error::LedgerError;
use crate::sql::Step;

/// After so long without a word the server ends the session of a host that is stopped.
const SILENCE: &str = "30s";
/// How often a host says one.
const WORD: Duration = Duration::from_secs(5);
/// The pause before a session that broke is begun again.
const AGAIN: Duration = Duration::from_millis(500);
/// How often the lock is tried where it is taken, and the pause between: that of a process that was killed is free an instant later.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// The number that stands for a schema's lock of a kind.
pub(super) fn key(kind: &str, schema: &str) -> i64 {
    let digest = forebay_model::Digest::of(format!("forebay {kind} {schema}").as_bytes());
    digest.as_bytes().iter().take(8).fold(0, |key, byte| key << 8 | i64::from(*byte))
}

/// What a ledger's transactions and its lease have in common.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// The lease that this process has taken, while it has it.
    token: Mutex<Option<String>>,
    /// A lease that is being given back.
    leaving: Mutex<Option<JoinHandle<()>>>,
}

impl Held {
    /// The token that the ledger must hold for a transaction of this process; `None` where it is no host.
    pub(super) fn token(&self) -> Option<String> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, token: Option<String>) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }

    /// Waits until a lease that was dropped is given back.
    pub(super) async fn settled(&self) {
        let leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(leaving) = leaving {
            let _ = leaving.await;
        }
    }
}

/// Dropped, it is given back; so it is when the process dies.
#[derive(Debug)]
struct SessionLease {
    held: Arc<Held>,
    leave: Option<oneshot::Sender<()>>,
    session: Option<JoinHandle<()>>,
    /// Who took it.
    lost: watch::Receiver<Option<LedgerError>>,
}

#[async_trait]
impl HostLease for SessionLease {
    async fn lost(&self) -> Error {
        let mut lost = self.lost.clone();
        let told = lost.wait_for(Option::is_some).await.ok().and_then(|told| told.as_ref().map(ToString::to_string));
        match told {
            Some(told) => LedgerError::Fenced(told).into(),
            // It was given back.
            None => std::future::pending().await,
        }
    }
}

impl Drop for SessionLease {
    fn drop(&mut self) {
        self.held.set(None);
        drop(self.leave.take());
        *self.held.leaving.lock().unwrap_or_else(PoisonError::into_inner) = self.session.take();
    }
}

/// Takes the lease; `None` where a live process has it. Without a ledger (`recover`) there is the lock alone.
pub(super) async fn take(
    address: &PostgresAddress,
    held: &Arc<Held>,
    of_ledger: bool,
) -> Step<Option<Box<dyn HostLease>>> {
    held.settled().await;
    let mut session = begin(address).await?;
    let mut attempt = 1;
    while !lock(&mut session, address).await? {
        if attempt == ATTEMPTS {
            let _ = session.close().await;
            return Ok(None);
        }
        attempt += 1;
        tokio::time::sleep(PAUSE).await;
    }
    if of_ledger {
        held.set(Some(write_token(&mut session).await?));
    }
    let (leave, left) = oneshot::channel();
    let (tell, lost) = watch::channel(None);
    let keeper = Keeper { address: address.clone(), token: held.token().filter(|_| of_ledger), tell };
    let session = tokio::spawn(keeper.keep(session, left));
    Ok(Some(Box::new(SessionLease { held: Arc::clone(held), leave: Some(leave), session: Some(session), lost })))
}

pub(super) async fn begin(address: &PostgresAddress) -> sqlx::Result<PgConnection> {
    address.connect(address.options().options([("idle_session_timeout", SILENCE)])).await
}

async fn lock(session: &mut PgConnection, address: &PostgresAddress) -> sqlx::Result<bool> {
    let row = sqlx::query("SELECT pg_try_advisory_lock($1) AS got")
        .bind(key("host", address.schema()))
        .fetch_one(session)
        .await?;
    row.try_get("got")
}

/// From here on no other host writes: a transaction that one has under way ends before, for it has locked the row.
async fn write_token(session: &mut PgConnection) -> Step<String> {
    let row = sqlx::query(
        "UPDATE _ledger SET host_lease = gen_random_uuid()::text, host_process = $1, host_name = $2, \
         host_since = (extract(epoch FROM clock_timestamp()) * 1000000)::bigint RETURNING host_lease",
    )
    .bind(i64::from(std::process::id()))
    .bind(whoami::hostname().ok())
    .fetch_optional(session)
    .await?;
    let row = row.ok_or_else(|| LedgerError::invariant("table _ledger is empty"))?;
    Ok(row.try_get("host_lease")?)
}

/// Keeps the session of a lease.
struct Keeper {
    address: PostgresAddress,
    token: Option<String>,
    tell: watch::Sender<Option<LedgerError>>,
}

/// What came of taking the lock again.
enum Again {
    Got(PgConnection),
    /// Not yet: the server has not noticed that the former session is gone, or somebody looks.
    Busy,
    /// Another host took the lease.
    Lost(LedgerError),
}

impl Keeper {
    async fn keep(self, session: PgConnection, mut left: oneshot::Receiver<()>) {
        let mut session = Some(session);
        loop {
            let pause = if session.is_some() { WORD } else { AGAIN };
            // Dropping the other end is the word to go.
            if tokio::time::timeout(pause, &mut left).await.is_ok() {
                break;
            }
            session = match session.take() {
                Some(open) => self.say(open).await,
                None => match self.begin_again().await {
                    Ok(Again::Got(open)) => {
                        tracing::info!(at = %self.address, "the host has its lease again");
                        Some(open)
                    }
                    Ok(Again::Busy) => None,
                    Ok(Again::Lost(by)) => {
                        tracing::error!(at = %self.address, error = %by, "another host took the ledger over");
                        drop(self.tell.send(Some(by)));
                        return;
                    }
                    Err(error) => {
                        tracing::debug!(at = %self.address, error = ?error, "the lease's session does not begin");
                        None
                    }
                },
            };
        }
        if let Some(session) = session {
            // Ends the session, and with it the lock. `close` returns before the server is done, so the lock goes first.
            let _ = tokio::time::timeout(PATIENCE, give_back(session, &self.address)).await;
        }
    }

    /// A word to the server.
    async fn say(&self, mut session: PgConnection) -> Option<PgConnection> {
        let said = tokio::time::timeout(PATIENCE, session.ping()).await;
        let why = match said {
            Ok(Ok(())) => return Some(session),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {PATIENCE:?}"),
        };
        tracing::warn!(
            at = %self.address, error = %why,
            "the session of the host's lease broke: waiting for the server, the lease is taken again unless another host was faster"
        );
        None
    }

    async fn begin_again(&self) -> Step<Again> {
        let mut session = begin(&self.address).await?;
        let got = lock(&mut session, &self.address).await?;
        let Some(mine) = &self.token else {
            return Ok(if got { Again::Got(session) } else { Again::Busy });
        };
        let row = sqlx::query("SELECT host_lease FROM _ledger").fetch_optional(&mut session).await?;
        let stands: Option<String> = row.map(|row| row.try_get("host_lease")).transpose()?.flatten();
        if stands.as_ref() != Some(mine) {
            let by = taken(&self.address, written(&mut session).await?);
            let _ = session.close().await;
            return Ok(Again::Lost(by));
        }
        if got {
            return Ok(Again::Got(session));
        }
        let _ = session.close().await;
        Ok(Again::Busy)
    }
}

async fn give_back(mut session: PgConnection, address: &PostgresAddress) -> sqlx::Result<()> {
    sqlx::query("SELECT pg_advisory_unlock($1)").bind(key("host", address.schema())).execute(&mut session).await?;
    session.close().await
}

/// Another host has the lease.
pub(super) fn taken(address: &PostgresAddress, by: Option<HostHolder>) -> LedgerError {
    let who = by.map_or_else(String::new, |HostHolder { process, host, since }| {
        let process = process.map_or_else(String::new, |process| format!("process {process} "));
        let host = host.map_or_else(String::new, |host| format!("on {host}, "));
        format!(" ({process}{host}since {since})")
    });
    LedgerError::Fenced(format!("this host lost its lease of ledger {address}, and another one took it{who}"))
}

/// The live process that has the lease, and what it wrote of itself.
pub(super) async fn holder(connection: &mut PgConnection, address: &PostgresAddress) -> Step<Option<HostHolder>> {
    let row = sqlx::query(
        "SELECT (extract(epoch FROM coalesce(a.backend_start, now())) * 1000000)::bigint AS since FROM pg_locks l \
         LEFT JOIN pg_stat_activity a ON a.pid = l.pid WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 \
         AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()) \
         AND (l.classid::bigint << 32 | l.objid::bigint) = $1",
    )
    .bind(key("host", address.schema()))
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let session = HostHolder { process: None, host: None, since: Timestamp::from_micros(row.try_get("since")?) };
    if !matches!(open::look(connection, address).await?, open::Found::Ledger(_)) {
        return Ok(Some(session));
    }
    Ok(Some(written(connection).await?.unwrap_or(session)))
}

/// Who has written a token last.
pub(super) async fn written(connection: &mut PgConnection) -> Step<Option<HostHolder>> {
    let row = sqlx::query("SELECT host_process, host_name, host_since FROM _ledger WHERE host_lease IS NOT NULL")
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let process: Option<i64> = row.try_get("host_process")?;
    let since: Option<i64> = row.try_get("host_since")?;
    Ok(Some(HostHolder {
        process: process.and_then(|process| u32::try_from(process).ok()),
        host: row.try_get("host_name")?,
        since: Timestamp::from_micros(since.unwrap_or_default()),
    }))
}
