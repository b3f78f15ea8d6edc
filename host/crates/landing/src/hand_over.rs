//! From the async side, where bytes come in, to a blocking task that hashes, scans and writes them.

use arrow_array::RecordBatch;
use bytes::Bytes;
use forebay_model::flow::RawRecords;
use forebay_model::ports::LandedObject;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::mpsc::{Receiver, Sender};

use crate::envelope;
use crate::error::{LandingError, Result};

/// Chunks that wait to be written; with chunks of 4 MiB that is what an object holds in memory.
pub(crate) const WAITING: usize = 2;

/// What the async side sends. Without an end the object is given up: the source failed, or nobody waits for it any more.
pub(crate) enum Part<T> {
    Next(T),
    End,
}

/// Sends a body. It takes the sender with it: where it ends early, the writer hears that no more comes.
pub(crate) async fn chunks(
    sender: Sender<Part<Bytes>>,
    mut body: BoxStream<'static, forebay_model::Result<Bytes>>,
) -> Result<()> {
    while let Some(chunk) = body.next().await {
        // Where nobody receives, the writer has failed, and says why.
        if sender.send(Part::Next(chunk.map_err(LandingError::Body)?)).await.is_err() {
            return Ok(());
        }
    }
    let _ = sender.send(Part::End).await;
    Ok(())
}

/// Sends records, likewise.
pub(crate) async fn batches(sender: Sender<Part<RecordBatch>>, name: &str, records: &RawRecords) -> Result<()> {
    for batch in envelope::Batches::new(name, records) {
        if sender.send(Part::Next(batch?)).await.is_err() {
            return Ok(());
        }
    }
    let _ = sender.send(Part::End).await;
    Ok(())
}

/// Takes what is sent, on a thread that may block.
pub(crate) fn receive<T>(
    name: &str,
    receiver: &mut Receiver<Part<T>>,
    mut take: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    loop {
        match receiver.blocking_recv() {
            Some(Part::Next(part)) => take(part)?,
            Some(Part::End) => return Ok(()),
            None => return Err(LandingError::Invariant(format!("object {name} was given up while it was written"))),
        }
    }
}

/// Sends and writes; the source's error is the one to tell, where there is one.
pub(crate) async fn both(
    sending: impl Future<Output = Result<()>>,
    writing: impl Future<Output = Result<LandedObject>>,
    name: &str,
) -> Result<LandedObject> {
    // The writer runs by itself; it is waited for even when the source failed, so that nothing is left behind by then.
    let sent = sending.await;
    let written = writing.await;
    match sent {
        Ok(()) => written,
        Err(error) => {
            tracing::debug!(object = name, "object given up");
            Err(error)
        }
    }
}
