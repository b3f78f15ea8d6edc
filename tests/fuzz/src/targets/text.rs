//! The decoders of JSON and CSV: whatever bytes come, in whatever chunks, each record is a row or a reject, and the chunks do not matter.

use std::io::Read;

use forebay_format::Formats;
use forebay_model::ports::SegmentInput;

/// Gives at most so many bytes at a time.
struct Chunks(std::io::Cursor<Vec<u8>>, usize);

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(self.1);
        self.0.read(&mut buffer[..length])
    }
}

fn input(text: &[u8], chunk: usize) -> SegmentInput {
    SegmentInput::Bytes(Box::new(Chunks(std::io::Cursor::new(text.to_vec()), chunk)))
}

/// What came of it, as text: rows, rejects, and the error that ended it.
fn decoded(format: &dyn forebay_model::ports::Format, schema: &arrow_schema::SchemaRef, input: SegmentInput) -> String {
    let mut out = String::new();
    let mut records = 0;
    let mut decoder = match format.open(input, schema) {
        Ok(decoder) => decoder,
        Err(error) => return error.to_string(),
    };
    loop {
        match decoder.next_batch() {
            Ok(Some(batch)) => {
                for column in batch.batch.columns() {
                    column.to_data().validate_full().expect("a column is valid");
                }
                assert_eq!(u64::from(batch.records), batch.numbers.len() as u64 + batch.rejects.len() as u64);
                records += u64::from(batch.records);
                out += &format!("{:?} {:?} {:?}\n", batch.batch, batch.rescued, batch.rejects);
            }
            Ok(None) => return format!("{out}{records}"),
            Err(error) => return format!("{out}{error}"),
        }
    }
}

pub(crate) fn run(name: &str, data: &[u8]) {
    let (chunk, text) = data.split_at(data.len().min(1));
    let chunk = usize::from(chunk.first().copied().unwrap_or(0)) + 1;
    let formats = Formats::from_config(&serde_json::json!(name)).expect("a format");
    let format = formats.get(name).expect("a format");
    let inferred = format.infer(vec![input(text, 1 << 16)]).ok().flatten();
    let schema = inferred.unwrap_or_else(|| arrow_schema::Schema::empty().into());
    let whole = decoded(&*format, &schema, input(text, 1 << 16));
    assert_eq!(decoded(&*format, &schema, input(text, chunk)), whole);
}
