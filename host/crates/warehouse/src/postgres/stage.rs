//! Staging: a segment's rows become a table of their own, `_forebay_staged_<id>`, that nobody looks into.
//!
//! It is made, filled by binary COPY and listed in `_forebay_staged` in one transaction, so it is there, whole and durable, or not at
//! all. Rows are encoded by the worker; a task carries them to the server over a connection that it takes when the first
//! megabyte is full, or at the end: so a writer that waits holds none.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use arrow_array::RecordBatch;
use forebay_model::ports::{StagedWriter, StagingRequest};
use forebay_model::{Result, StagedFile};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tokio::sync::{mpsc, oneshot};

use super::copy::{self, HEADER, Misfit, TRAILER};
use super::names::column;
use super::state::{Server, schema_text, signed};
use super::types::sql_type;
use crate::delta::check_schema;
use crate::error::WarehouseError;

/// What is sent at once.
const PARCEL: usize = 1 << 20;
/// Parcels that wait to be sent.
const WAITING: usize = 2;
/// Beginning of the names of staged tables.
pub(super) const PREFIX: &str = "_forebay_staged_";

enum Parcel {
    Rows(Vec<u8>),
    /// No more come: there were so many rows.
    End(u64),
}

/// The task that carries rows to the server.
struct Courier {
    parcels: mpsc::Sender<Parcel>,
    outcome: oneshot::Receiver<Result<(), WarehouseError>>,
}

/// See the module.
pub(super) struct PostgresStagedWriter {
    server: Arc<Server>,
    request: StagingRequest,
    path: String,
    buffer: Vec<u8>,
    courier: Option<Courier>,
    rows: u64,
    bytes: u64,
}

impl PostgresStagedWriter {
    pub(super) fn new(server: Arc<Server>, request: StagingRequest) -> Self {
        let path = format!("{PREFIX}{}", server.random.uuid().simple());
        Self { server, request, path, buffer: Vec::new(), courier: None, rows: 0, bytes: 0 }
    }

    /// Hands over what is full. Where the task has ended, its outcome says why.
    fn send(&mut self, parcel: Parcel) -> Result<(), WarehouseError> {
        let Self { server, request, path, courier, .. } = self;
        let sending = courier.get_or_insert_with(|| {
            let (parcels, waiting) = mpsc::channel(WAITING);
            let (answer, outcome) = oneshot::channel();
            let (server, request, path) = (Arc::clone(server), request.clone(), path.clone());
            let handle = server.handle.clone();
            handle.spawn(async move {
                let carried = Box::pin(carry(&server, &request, &path, waiting)).await;
                // Whoever gave up does not ask.
                let _ = answer.send(carried);
            });
            Courier { parcels, outcome }
        });
        if wait(sending.parcels.send(parcel)).is_ok() {
            return Ok(());
        }
        self.outcome()?;
        Err(WarehouseError::Bug("rows were left over when all were written".to_owned()))
    }

    fn outcome(&mut self) -> Result<(), WarehouseError> {
        let Some(Courier { parcels, outcome }) = self.courier.take() else { return Ok(()) };
        let outcome = wait(outcome);
        drop(parcels);
        outcome.unwrap_or_else(|_| Err(WarehouseError::Bug("the task that writes rows is gone".to_owned())))
    }

    fn misfit(&self, Misfit { column, why }: Misfit) -> WarehouseError {
        let column = self.request.schema.fields().get(column).map_or_else(String::new, |field| field.name().clone());
        WarehouseError::Value { table: self.request.table.clone(), column, why }
    }
}

impl StagedWriter for PostgresStagedWriter {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        check_schema(&self.request, batch)?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if self.rows == 0 {
            self.buffer.extend_from_slice(HEADER);
        }
        self.rows += batch.num_rows() as u64;
        let before = self.buffer.len();
        copy::write_rows(batch, &mut self.buffer).map_err(|misfit| self.misfit(misfit))?;
        self.bytes += (self.buffer.len() - before) as u64;
        if self.buffer.len() >= PARCEL {
            let rows = std::mem::take(&mut self.buffer);
            self.send(Parcel::Rows(rows))?;
        }
        Ok(())
    }

    fn buffered_bytes(&self) -> usize {
        // Those under way are about as large.
        let under_way = if self.courier.is_some() { (WAITING + 1) * PARCEL } else { 0 };
        self.buffer.len() + under_way
    }

    fn finish(mut self: Box<Self>) -> Result<Vec<StagedFile>> {
        if self.rows == 0 {
            return Ok(Vec::new());
        }
        self.server.pending().insert(self.path.clone());
        let mut rows = std::mem::take(&mut self.buffer);
        rows.extend_from_slice(&TRAILER);
        let ended = self.send(Parcel::Rows(rows)).and_then(|()| self.send(Parcel::End(self.rows)));
        if let Err(error) = ended.and_then(|()| self.outcome()) {
            self.server.pending().remove(&self.path);
            return Err(error.into());
        }
        Ok(vec![StagedFile {
            path: self.path.clone(),
            bytes: self.bytes,
            rows: self.rows,
            segment: self.request.segment.clone(),
            partition_values: std::collections::BTreeMap::new(),
            statistics: String::new(),
        }])
    }
}

/// From the first parcel to the answer of the server.
async fn carry(
    server: &Server,
    request: &StagingRequest,
    path: &str,
    parcels: mpsc::Receiver<Parcel>,
) -> Result<(), WarehouseError> {
    server.writing().await?;
    let mut connection = server.connect().await?;
    let statements = Statements::of(server, request, path)?;
    let filled = fill(server, &mut connection, &statements, parcels).await;
    // Dropped, it is closed, and the server undoes what was not committed.
    if filled.map_err(server.fault("stage rows"))? {
        server.keep(connection);
    }
    Ok(())
}

struct Statements {
    make: String,
    copy: String,
    list: String,
}

impl Statements {
    fn of(server: &Server, request: &StagingRequest, path: &str) -> Result<Self, WarehouseError> {
        let relation = server.relation(path);
        let columns = columns(&request.schema)?;
        // It is written once and read once.
        let make = format!("CREATE TABLE {relation} ({columns}) WITH (autovacuum_enabled = false)");
        let copy = format!("COPY {relation} FROM STDIN (FORMAT binary)");
        let text = |text: &str| super::names::literal(text);
        let list = format!(
            "INSERT INTO _forebay_staged (path, name, segment, arrow_schema, made_us, rows) VALUES ({}, {}, {}, {}, {}, ",
            text(path),
            text(&request.table),
            text(request.segment.as_str()),
            text(&schema_text(&request.schema)?),
            server.clock.now().as_micros(),
        );
        Ok(Self { make, copy, list })
    }
}

/// Columns as a statement defines them.
pub(super) fn columns(schema: &arrow_schema::Schema) -> Result<String, WarehouseError> {
    let defined = schema.fields().iter().map(|field| {
        let kind = sql_type(field.data_type()).ok_or_else(|| {
            WarehouseError::Bug(format!("column {} is {}, which is not stored", field.name(), field.data_type()))
        })?;
        Ok(format!("{} {kind}", column(field.name())))
    });
    Ok(defined.collect::<Result<Vec<_>, WarehouseError>>()?.join(", "))
}

/// Whether the rows are there: not so where the writer gave up.
async fn fill(
    server: &Server,
    connection: &mut PgConnection,
    Statements { make, copy, list }: &Statements,
    mut parcels: mpsc::Receiver<Parcel>,
) -> sqlx::Result<bool> {
    let mut transaction = connection.begin().await?;
    transaction.execute(AssertSqlSafe(make.clone())).await?;
    let mut sink = transaction.copy_in_raw(copy).await?;
    let rows = loop {
        match parcels.recv().await {
            Some(Parcel::Rows(rows)) => sink.send(rows).await.map(drop)?,
            Some(Parcel::End(rows)) => break rows,
            None => {
                sink.abort("the rows are given up").await?;
                transaction.rollback().await?;
                return Ok(false);
            }
        }
    };
    let copied = sink.finish().await?;
    if copied != rows {
        return Err(sqlx::Error::Protocol(format!("the server took {copied} rows of {rows}")));
    }
    transaction.execute(AssertSqlSafe(format!("{list}{})", signed(rows)))).await?;
    (server.failpoint)("warehouse_staged");
    transaction.commit().await?;
    Ok(true)
}

/// Waits on this thread, which may be a worker's or one that drives a runtime (then in tests only).
fn wait<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(tokio::task::unconstrained(future));
    loop {
        if let Poll::Ready(answer) = future.as_mut().poll(&mut context) {
            return answer;
        }
        std::thread::park();
    }
}
