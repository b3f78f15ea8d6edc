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
use futures::stream::BoxStream;
use tokio::sync::mpsc;

use super::blocking;
use super::files::{Files, Temporary, failed};
use crate::envelope;
use crate::error::{LandingError, Result};
use crate::hand_over::{WAITING, batches, both, chunks, receive};
use crate::intake::Watch;

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

pub(super) async fn object(
    files: &Arc<Files>,
    name: &str,
    body: BoxStream<'static, forebay_model::Result<Bytes>>,
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
    both(chunks(sender, body), writing, name).await
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
    let object = both(batches(sender, name, records), writing, name).await?;
    Ok(LandedObject { cuts: envelope::cuts(records), head: envelope::head(records), ..object })
}
