//! Objects on their way to the disk: bytes come in on the async side, a blocking task hashes, scans and writes them.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use bytes::Bytes;
use forebay_model::StreamName;
use forebay_model::flow::RawRecords;
use forebay_model::ports::{LandedObject, SplitRule};
use forebay_model::segment::Compression;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::mpsc::{self, Receiver};

use super::blocking;
use super::files::{Files, Temporary, failed};
use crate::envelope;
use crate::error::{LandingError, Result};
use crate::intake::Watch;

/// Chunks that wait for the disk; with chunks of 4 MiB that is what an object holds in memory.
const WAITING: usize = 2;

/// What the async side sends. Without an end the object is given up: the source failed, or nobody waits for it any more.
enum Part<T> {
    Next(T),
    End,
}

/// A file that is watched while it is written.
struct Watched {
    temporary: Temporary,
    watch: Watch,
}

impl Watched {
    fn new(files: &Files, compression: Compression, split: SplitRule) -> Result<Self> {
        Ok(Self { temporary: files.temporary()?, watch: Watch::new(compression, split) })
    }

    fn place(self, files: &Files, name: &str) -> Result<LandedObject> {
        let Self { temporary, watch } = self;
        if files.place(temporary, Path::new(name))? {
            Ok(watch.finish(name))
        } else {
            Err(LandingError::Exists { name: name.to_owned() })
        }
    }
}

impl Write for Watched {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.temporary.file.write(bytes)?;
        self.watch.push(bytes.get(..written).unwrap_or(bytes));
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.temporary.file.flush()
    }
}

fn given_up(name: &str) -> LandingError {
    LandingError::Invariant(format!("object {name} was given up while it was written"))
}

pub(super) async fn object(
    files: &Arc<Files>,
    name: &str,
    mut body: BoxStream<'static, forebay_model::Result<Bytes>>,
    compression: Compression,
    split: SplitRule,
) -> Result<LandedObject> {
    let (sender, mut receiver) = mpsc::channel(WAITING);
    let (of_files, of_name) = (Arc::clone(files), name.to_owned());
    let writing = blocking(move || {
        let mut file = Watched::new(&of_files, compression, split)?;
        receive(&of_name, &mut receiver, |chunk: Bytes| {
            file.write_all(&chunk).map_err(failed(&of_files.path(&of_name), "writing"))
        })?;
        file.place(&of_files, &of_name)
    });
    // It takes the sender with it: where it ends early, the writer hears that no more comes.
    let sending = async move {
        while let Some(chunk) = body.next().await {
            // Where nobody receives, the writer has failed, and says why.
            if sender.send(Part::Next(chunk.map_err(LandingError::Body)?)).await.is_err() {
                return Ok(());
            }
        }
        let _ = sender.send(Part::End).await;
        Ok(())
    };
    both(sending, writing, name).await
}

pub(super) async fn records(
    files: &Arc<Files>,
    name: &str,
    stream: &StreamName,
    records: &RawRecords,
) -> Result<LandedObject> {
    let (sender, mut receiver) = mpsc::channel(WAITING);
    let (of_files, of_name, stream) = (Arc::clone(files), name.to_owned(), stream.clone());
    let writing = blocking(move || {
        let file = Watched::new(&of_files, Compression::None, SplitRule::Whole)?;
        let mut encoder = envelope::Encoder::new(&of_name, &stream, file)?;
        receive(&of_name, &mut receiver, |batch: RecordBatch| encoder.write(&batch))?;
        encoder.finish()?.place(&of_files, &of_name)
    });
    let sending = async move {
        for batch in envelope::Batches::new(name, records) {
            if sender.send(Part::Next(batch?)).await.is_err() {
                return Ok(());
            }
        }
        let _ = sender.send(Part::End).await;
        Ok(())
    };
    let object = both(sending, writing, name).await?;
    Ok(LandedObject { cuts: envelope::cuts(records), head: envelope::head(records), ..object })
}

fn receive<T>(name: &str, receiver: &mut Receiver<Part<T>>, mut take: impl FnMut(T) -> Result<()>) -> Result<()> {
    loop {
        match receiver.blocking_recv() {
            Some(Part::Next(part)) => take(part)?,
            Some(Part::End) => return Ok(()),
            None => return Err(given_up(name)),
        }
    }
}

/// Sends and writes; the source's error is the one to tell, where there is one.
async fn both(
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
