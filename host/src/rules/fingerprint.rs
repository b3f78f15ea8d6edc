//! What steps made, as one digest: two runs that differ in a byte of Arrow's data, in a record's number or in a reject differ here.

use std::io;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::ipc::writer::StreamWriter;
use forebay_model::{Digest, Error, Reject, Result, RouteBatch, SegmentCounts, TransformedBatch};
use forebay_pipeline::refine::rows::Rows;
use forebay_pipeline::refine::trial::{Refused, Tried};
use sha2::{Digest as _, Sha256};

/// Takes batches one after the other.
#[derive(Default)]
pub(crate) struct Fingerprint(Hashing);

#[derive(Default)]
struct Hashing(Sha256);

impl io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Fingerprint {
    /// Adds a batch.
    ///
    /// # Errors
    /// Class bug, where Arrow cannot write it down.
    pub(crate) fn add(&mut self, batch: &TransformedBatch) -> Result<()> {
        let TransformedBatch { routes, rejects, counts } = batch;
        let SegmentCounts { records, loaded, filtered, rejected, rescued } = counts;
        self.numbers(&[*records, *loaded, *filtered, *rejected, *rescued, routes.len() as u64, rejects.len() as u64]);
        for RouteBatch { route, batch, numbers, items, rescued } in routes {
            self.numbers(&[*route as u64, numbers.len() as u64]);
            self.numbers(numbers);
            items.iter().for_each(|item| self.0.0.update(item.to_le_bytes()));
            self.arrow(batch)?;
            self.column(rescued)?;
        }
        for Reject { record, stage, code, message, retryable, raw } in rejects {
            self.numbers(&[*record, u64::from(*retryable)]);
            for text in [stage.to_string().as_bytes(), code.as_bytes(), message.as_bytes(), raw] {
                self.text(text);
            }
        }
        Ok(())
    }

    /// Adds what a rule made of a case.
    ///
    /// # Errors
    /// Class bug, where Arrow cannot write it down.
    pub(crate) fn add_tried(&mut self, tried: &Tried) -> Result<()> {
        // What it counted and observed is told as metrics, and loads nothing.
        let Tried { routes, refused, said: _ } = tried;
        for (name, rows) in routes {
            self.text(name.as_bytes());
            let Some(Rows { batch, numbers, rescued, record_columns: _ }) = rows else { continue };
            self.numbers(&[numbers.len() as u64]);
            self.numbers(numbers);
            self.arrow(batch)?;
            self.column(rescued)?;
        }
        for (record, Refused { by: _, code, message, retryable }) in refused {
            self.numbers(&[*record, u64::from(*retryable)]);
            self.text(code.as_bytes());
            self.text(message.as_bytes());
        }
        Ok(())
    }

    /// The digest of all of them.
    pub(crate) fn finish(self) -> Digest {
        Digest::from_bytes(self.0.0.finalize().into())
    }

    fn text(&mut self, text: &[u8]) {
        self.numbers(&[text.len() as u64]);
        self.0.0.update(text);
    }

    fn column(&mut self, column: &StringArray) -> Result<()> {
        let column: ArrayRef = Arc::new(column.clone());
        self.arrow(&RecordBatch::try_from_iter([("rescued", column)]).map_err(unwritable)?)
    }

    fn numbers(&mut self, numbers: &[u64]) {
        numbers.iter().for_each(|number| self.0.0.update(number.to_le_bytes()));
    }

    fn arrow(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut writer = StreamWriter::try_new(&mut self.0, &batch.schema()).map_err(unwritable)?;
        writer.write(batch).and_then(|()| writer.finish()).map_err(unwritable)
    }
}

fn unwritable(error: arrow::error::ArrowError) -> Error {
    Error::bug("a batch cannot be written down").with_source(error)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use arrow::array::Int64Array;
    use forebay_model::RejectStage;

    use super::*;

    fn batch(values: [i64; 2], numbers: [u64; 2], message: &str) -> TransformedBatch {
        let column: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
        TransformedBatch {
            routes: vec![RouteBatch {
                route: 0,
                batch: RecordBatch::try_from_iter([("id", column)]).unwrap(),
                numbers: numbers.to_vec(),
                items: vec![0; 2],
                rescued: StringArray::new_null(2),
            }],
            rejects: vec![Reject {
                record: 2,
                stage: RejectStage::Decode,
                code: "malformed".to_owned(),
                message: message.to_owned(),
                retryable: true,
                raw: b"x".to_vec().into(),
            }],
            counts: SegmentCounts { records: 3, loaded: 2, filtered: 0, rejected: 1, rescued: 0 },
        }
    }

    fn of(batches: &[TransformedBatch]) -> Digest {
        let mut fingerprint = Fingerprint::default();
        batches.iter().for_each(|batch| fingerprint.add(batch).unwrap());
        fingerprint.finish()
    }

    #[test]
    fn what_differs_anywhere_differs() {
        let same = || batch([1, 2], [0, 1], "no");
        assert_eq!(of(&[same()]), of(&[same()]));
        for other in [batch([1, 3], [0, 1], "no"), batch([1, 2], [0, 2], "no"), batch([1, 2], [0, 1], "on")] {
            assert_ne!(of(&[same()]), of(&[other]));
        }
        assert_ne!(of(&[same()]), of(&[same(), same()]));
    }
}
