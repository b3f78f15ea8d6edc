//! A host's lease: advisory locks of a session that does nothing else, and a row in the ledger.
//!
//! The locks say that a host lives, alone or as one of several: the server gives them back when the session ends, be it that the process
//! died, that the network broke, or that the process was stopped and said nothing for [`SILENCE`]. But a host does not know at once that
//! its session ended. So it has a row with a token of its own, which whoever takes its place removes ([`fleet`]), and each transaction
//! of a host that writes locks the ledger's one row and looks whether its own is there: what a host without the lease wants to write is
//! refused, however late it comes.
//!
//! A host whose session broke takes its locks again, if nobody has taken its place since: the row tells.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use forebay_model::ports::{Division, Duty, HostHolder, HostLease, Hosts, Readiness};
use forebay_model::{Error, Result};
use forebay_postgres::{PATIENCE, PostgresAddress};
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::{PostgresStore, fleet};
use crate::error::LedgerError;
use crate::sql::{Fault, Step};

/// After so long without a word the server ends the session of a host that is stopped.
const SILENCE: &str = "30s";
/// How often a host says one. Where its session broke it has to notice, and to begin another, within [`fleet::GRACE`].
const WORD: Duration = Duration::from_secs(1);
/// The pause before a session that broke is begun again.
const AGAIN: Duration = Duration::from_millis(500);
/// How often the locks are tried where they are taken, and the pause between: those of a process that was killed are free an instant later.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// The number that stands for a schema's lock of a kind.
pub(super) fn key(kind: &str, schema: &str) -> i64 {
    let digest = forebay_model::Digest::of(format!("forebay {kind} {schema}").as_bytes());
    digest.as_bytes().iter().take(8).fold(0, |key, byte| key << 8 | i64::from(*byte))
}

/// The lock of the host that has a token: it lives as long as that is taken.
pub(super) fn key_of(token: &str, schema: &str) -> i64 {
    key(&format!("host {token}"), schema)
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

/// With whom a host shares the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    /// With nobody.
    Alone,
    /// With others that do too.
    Others,
}

/// The locks of a session, and whose they are.
#[derive(Debug, Clone)]
struct Locks {
    address: PostgresAddress,
    share: Share,
    /// That of the host's row; `None` of who runs nothing, and lets nobody else (`recover`).
    token: Option<String>,
}

/// A session that keeps its locks until this is dropped, or the process dies.
#[derive(Debug)]
struct Session {
    leave: Option<oneshot::Sender<()>>,
    keeper: Option<JoinHandle<()>>,
    held: Arc<Held>,
    /// Who took its place.
    lost: watch::Receiver<Option<LedgerError>>,
}

impl Session {
    fn keep(locks: Locks, connection: PgConnection, held: Arc<Held>) -> Self {
        let (leave, left) = oneshot::channel();
        let (tell, lost) = watch::channel(None);
        let keeper = tokio::spawn(Keeper { locks, tell }.keep(connection, left));
        Self { leave: Some(leave), keeper: Some(keeper), held, lost }
    }

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

impl Drop for Session {
    fn drop(&mut self) {
        self.held.set(None);
        drop(self.leave.take());
        *self.held.leaving.lock().unwrap_or_else(PoisonError::into_inner) = self.keeper.take();
    }
}

/// The lease of who shares the ledger with nobody.
#[derive(Debug)]
struct AloneLease(Session);

#[async_trait]
impl HostLease for AloneLease {
    async fn lost(&self) -> Error {
        self.0.lost().await
    }
}

/// The lease of a host among others.
#[derive(Debug)]
struct SharedLease {
    session: Session,
    store: PostgresStore,
    token: String,
}

#[async_trait]
impl HostLease for SharedLease {
    async fn lost(&self) -> Error {
        self.session.lost().await
    }

    fn among(&self) -> Option<&dyn Hosts> {
        Some(self)
    }
}

#[async_trait]
impl Hosts for SharedLease {
    async fn divide(&self, state: &Readiness) -> Result<Division> {
        let divided = async {
            let mut transaction = self.store.write().await?;
            let division = fleet::divide(&mut transaction, self.store.address.schema(), &self.token, state).await?;
            transaction.commit().await?;
            Ok(division)
        };
        Ok(divided.await.map_err(|fault: Fault| fault.of(&self.store.address, "dividing what there is to do"))?)
    }

    async fn give_back(&self, duties: &BTreeSet<Duty>) -> Result<()> {
        let given = async {
            let mut transaction = self.store.write().await?;
            fleet::give_back(&mut transaction, &self.token, duties).await?;
            transaction.commit().await?;
            Ok(())
        };
        Ok(given.await.map_err(|fault: Fault| fault.of(&self.store.address, "giving back what another host does"))?)
    }
}

/// Takes the lease of a ledger; `None` where a live process does not let it.
pub(super) async fn take(store: &PostgresStore, share: Share) -> Step<Option<Box<dyn HostLease>>> {
    store.held.settled().await;
    let address = &store.address;
    let token = fleet::token(&mut *store.readers.acquire().await?).await?;
    let locks = Locks { address: address.clone(), share, token: Some(token.clone()) };
    let Some(mut connection) = locks.take().await? else { return Ok(None) };
    let until = std::time::Instant::now() + fleet::GRACE + PAUSE * ATTEMPTS;
    while !fleet::enter(&mut connection, &token, address.schema(), share == Share::Alone).await? {
        if std::time::Instant::now() > until {
            let _ = connection.close().await;
            return Ok(None);
        }
        tokio::time::sleep(PAUSE).await;
    }
    store.held.set(Some(token.clone()));
    let session = Session::keep(locks, connection, Arc::clone(&store.held));
    Ok(Some(match share {
        Share::Alone => Box::new(AloneLease(session)),
        Share::Others => Box::new(SharedLease { session, store: store.clone(), token }),
    }))
}

/// The locks alone, without a ledger; `None` where a live process has them.
pub(super) async fn take_place(address: &PostgresAddress) -> Step<Option<Box<dyn HostLease>>> {
    let locks = Locks { address: address.clone(), share: Share::Alone, token: None };
    let Some(connection) = locks.take().await? else { return Ok(None) };
    Ok(Some(Box::new(AloneLease(Session::keep(locks, connection, Arc::default())))))
}

pub(super) async fn begin(address: &PostgresAddress) -> sqlx::Result<PgConnection> {
    address.connect(address.options().options([("idle_session_timeout", SILENCE)])).await
}

impl Locks {
    /// In a new session; `None` where somebody else has them, for longer than it takes a process to die.
    async fn take(&self) -> sqlx::Result<Option<PgConnection>> {
        let mut connection = begin(&self.address).await?;
        for attempt in 1.. {
            if self.try_in(&mut connection).await? {
                return Ok(Some(connection));
            }
            if attempt == ATTEMPTS {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        let _ = connection.close().await;
        Ok(None)
    }

    async fn try_in(&self, connection: &mut PgConnection) -> sqlx::Result<bool> {
        let schema = self.address.schema();
        let sql = match self.share {
            Share::Alone => "SELECT pg_try_advisory_lock($1) AS got",
            Share::Others => "SELECT pg_try_advisory_lock_shared($1) AS got",
        };
        let row = sqlx::query(sql).bind(key("host", schema)).fetch_one(&mut *connection).await?;
        let got = row.try_get("got")?;
        let Some(token) = self.token.as_ref().filter(|_| got) else { return Ok(got) };
        let row = sqlx::query("SELECT pg_try_advisory_lock($1) AS got")
            .bind(key_of(token, schema))
            .fetch_one(&mut *connection)
            .await?;
        row.try_get("got")
    }
}

/// Keeps the session of a lease.
struct Keeper {
    locks: Locks,
    tell: watch::Sender<Option<LedgerError>>,
}

/// What came of taking the locks again.
enum Again {
    Got(PgConnection),
    /// Not yet: the server has not noticed that the former session is gone, or somebody looks.
    Busy,
    /// Others have taken its place.
    Lost(LedgerError),
}

impl Keeper {
    async fn keep(self, session: PgConnection, mut left: oneshot::Receiver<()>) {
        let at = self.locks.address.clone();
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
                        tracing::info!(%at, "the host has its lease again");
                        Some(open)
                    }
                    Ok(Again::Busy) => None,
                    Ok(Again::Lost(by)) => {
                        tracing::error!(%at, error = %by, "another host took this one's place");
                        drop(self.tell.send(Some(by)));
                        return;
                    }
                    Err(error) => {
                        tracing::debug!(%at, error = ?error, "the lease's session does not begin");
                        None
                    }
                },
            };
        }
        if let Some(session) = session {
            // Ends the session, and with it the locks. `close` returns before the server is done, so they go first.
            let _ = tokio::time::timeout(PATIENCE, self.give_back(session)).await;
        }
    }

    async fn give_back(&self, mut session: PgConnection) -> sqlx::Result<()> {
        if let Some(token) = &self.locks.token {
            fleet::leave(&mut session, token).await?;
        }
        sqlx::query("SELECT pg_advisory_unlock_all()").execute(&mut session).await?;
        session.close().await
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
            at = %self.locks.address, error = %why,
            "the session of the host's lease broke: waiting for the server, the lease is taken again unless another host was faster"
        );
        None
    }

    async fn begin_again(&self) -> Step<Again> {
        let mut session = begin(&self.locks.address).await?;
        let got = self.locks.try_in(&mut session).await?;
        if let Some(token) = &self.locks.token
            && !fleet::is_in(&mut session, token).await?
        {
            let by = taken(&self.locks.address, fleet::newest(&mut session).await?);
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

/// Others have taken a host's place.
pub(super) fn taken(address: &PostgresAddress, by: Option<HostHolder>) -> LedgerError {
    let who = by.map_or_else(String::new, |HostHolder { process, host, since }| {
        let process = process.map_or_else(String::new, |process| format!("process {process} "));
        let host = host.map_or_else(String::new, |host| format!("on {host}, "));
        format!(" ({process}{host}since {since})")
    });
    LedgerError::Fenced(format!("this host lost its lease of ledger {address}, and another one took it{who}"))
}
