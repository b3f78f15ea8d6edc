//! The contract of [`forebay_model::ports::Format`], held over JSON lines, a JSON array and CSV: files, and JSON of records.
//!
//! Each world can write the same records, good ones and odd ones; what is decoded of them must be the same for all.

use std::io::{self, Cursor, Read};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array as _, ArrayRef, BinaryArray, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use forebay_format::Formats;
use forebay_landing::envelope;
use forebay_model::Reject;
use forebay_model::flow::DecodedBatch;
use forebay_model::ports::{Format, SegmentInput};
use serde_json::json;

/// What a record of the test is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Good,
    /// Text that is no record of the format.
    Malformed,
    /// Its number is a word.
    Word,
}

/// A record in a hundred is malformed, one has a word for a number.
fn kind(record: u64) -> Kind {
    match record % 100 {
        17 => Kind::Malformed,
        42 => Kind::Word,
        _ => Kind::Good,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum World {
    Lines,
    Array,
    Csv,
    /// JSON in the values of an envelope.
    Records,
}

const WORLDS: [World; 4] = [World::Lines, World::Array, World::Csv, World::Records];

impl World {
    fn format(self) -> Arc<dyn Format> {
        let name = if self == Self::Csv { "csv" } else { "json" };
        Formats::from_config(&json!(name)).unwrap().get(name).unwrap()
    }

    /// Whether a malformed record spoils what is behind it: in an array nothing tells where the next record begins.
    fn can_be_malformed(self) -> bool {
        self != Self::Array
    }

    fn record(self, record: u64) -> String {
        let kind = kind(record);
        match (self, kind) {
            (Self::Csv, Kind::Good) => format!("{record},name {record}"),
            (Self::Csv, Kind::Malformed) => format!("{record},too,many"),
            (Self::Csv, Kind::Word) => format!("word,name {record}"),
            (_, Kind::Malformed) if self.can_be_malformed() => format!("{{\"n\":{record},"),
            (_, Kind::Good | Kind::Malformed) => format!("{{\"n\":{record},\"name\":\"name {record}\"}}"),
            (_, Kind::Word) => format!("{{\"n\":\"word\",\"name\":\"name {record}\"}}"),
        }
    }

    fn text(self, records: u64) -> Vec<u8> {
        let records: Vec<_> = (0..records).map(|record| self.record(record)).collect();
        let text = match self {
            Self::Array => format!("[{}]", records.join(",\n")),
            Self::Csv => format!("n,name\n{}\n", records.join("\n")),
            Self::Lines | Self::Records => format!("{}\n", records.join("\n")),
        };
        text.into_bytes()
    }

    /// The records as a reader hands them over that gives at most so many bytes (or records) at once.
    fn input(self, records: u64, at_once: usize) -> SegmentInput {
        if self == Self::Records {
            let all: Vec<_> = (0..records).map(|record| self.record(record)).collect();
            let batches: Vec<_> = all.chunks(at_once).map(|values| Ok(batch_of(values))).collect();
            return SegmentInput::Records(Box::new(batches.into_iter()));
        }
        SegmentInput::Bytes(Box::new(Slow(Cursor::new(self.text(records)), at_once)))
    }
}

/// A batch of an envelope whose values are these.
fn batch_of(values: &[String]) -> RecordBatch {
    let value: ArrayRef = Arc::new(BinaryArray::from_iter_values(values));
    RecordBatch::try_from_iter([(envelope::VALUE, value)]).unwrap()
}

/// Reads at most so many bytes at once.
struct Slow(Cursor<Vec<u8>>, usize);

impl Read for Slow {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = into.len().min(self.1);
        self.0.read(&mut into[..most])
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true), Field::new("name", DataType::Utf8, true)]))
}

fn decode(format: &dyn Format, input: SegmentInput) -> (Vec<DecodedBatch>, forebay_model::Result<()>) {
    let mut decoder = format.open(input, &schema()).unwrap();
    let mut batches = Vec::new();
    loop {
        match decoder.next_batch() {
            Ok(Some(batch)) => batches.push(batch),
            Ok(None) => return (batches, Ok(())),
            Err(error) => return (batches, Err(error)),
        }
    }
}

fn rejects(batches: &[DecodedBatch]) -> Vec<&Reject> {
    batches.iter().flat_map(|batch| &batch.rejects).collect()
}

#[test]
fn a_malformed_record_is_a_reject_with_its_raw_text_and_the_next_one_is_decoded() {
    for world in WORLDS.into_iter().filter(|world| world.can_be_malformed()) {
        let (batches, end) = decode(world.format().as_ref(), world.input(1_000, 4096));
        end.unwrap();
        let rejects = rejects(&batches);
        let due: Vec<u64> = (0..1_000).filter(|record| kind(*record) == Kind::Malformed).collect();
        assert_eq!(rejects.iter().map(|reject| reject.record).collect::<Vec<_>>(), due, "{world:?}");
        for record in due {
            assert_eq!(batches[0].raw_of(record), world.record(record).into_bytes(), "{world:?}");
        }
        let rows: usize = batches.iter().map(|batch| batch.batch.num_rows()).sum();
        assert_eq!(rows, 990, "{world:?}: all others are rows");
    }
}

#[test]
fn a_value_that_does_not_fit_its_column_is_rescued_whole_and_nothing_is_coerced() {
    for world in WORLDS {
        let (batches, end) = decode(world.format().as_ref(), world.input(200, 4096));
        end.unwrap();
        let batch = &batches[0];
        let numbers = batch.batch.column(0).as_primitive::<Int64Type>();
        for (row, record) in batch.numbers.iter().enumerate() {
            let rescued = batch.rescued.iter().nth(row).unwrap();
            if kind(*record) == Kind::Word {
                assert!(batch.batch.column(0).is_null(row), "{world:?}");
                assert!(rescued.is_some_and(|text| text.contains("word")), "{world:?}: {rescued:?}");
            } else {
                assert_eq!((numbers.value(row), rescued), (i64::try_from(*record).unwrap(), None), "{world:?}");
            }
        }
    }
}

#[test]
fn the_same_bytes_give_the_same_batches_however_they_arrive() {
    // Two full batches and a rest.
    let records = 2 * u64::from(DecodedBatch::RECORDS) + 100;
    for world in WORLDS {
        let (whole, end) = decode(world.format().as_ref(), world.input(records, usize::MAX));
        end.unwrap();
        let sizes: Vec<_> = whole.iter().map(|batch| (batch.first_record, batch.records)).collect();
        assert_eq!(sizes, [(0, 8192), (8192, 8192), (16384, 100)], "{world:?}");
        for at_once in [1, 7, 1000] {
            let (pieces, end) = decode(world.format().as_ref(), world.input(records, at_once));
            end.unwrap();
            assert_eq!(pieces.len(), whole.len(), "{world:?} by {at_once}");
            for (piece, due) in pieces.iter().zip(&whole) {
                assert_eq!(piece.batch, due.batch, "{world:?} by {at_once}");
                assert_eq!((&piece.numbers, &piece.rescued), (&due.numbers, &due.rescued), "{world:?} by {at_once}");
                let rejected = |batch: &DecodedBatch| batch.rejects.iter().map(|r| r.record).collect::<Vec<_>>();
                assert_eq!(rejected(piece), rejected(due), "{world:?} by {at_once}");
            }
        }
    }
}

#[test]
fn every_record_is_a_row_or_a_reject_and_rows_have_their_numbers() {
    for world in WORLDS {
        let (batches, end) = decode(world.format().as_ref(), world.input(9_000, 4096));
        end.unwrap();
        let mut next = 0;
        for batch in &batches {
            assert_eq!(batch.first_record, next, "{world:?}");
            next += u64::from(batch.records);
            let mut seen = batch.numbers.clone();
            assert!(seen.is_sorted_by(|a, b| a < b), "{world:?}: ascending");
            assert_eq!(seen.len(), batch.batch.num_rows(), "{world:?}");
            assert_eq!(seen.len(), batch.rescued.len(), "{world:?}");
            seen.extend(batch.rejects.iter().map(|reject| reject.record));
            seen.sort_unstable();
            assert_eq!(seen, (batch.first_record..next).collect::<Vec<_>>(), "{world:?}");
        }
        assert_eq!(next, 9_000, "{world:?}");
    }
}

/// Delivers what it has, then fails as a decompressor does at a torn end.
struct Torn(Cursor<Vec<u8>>);

impl Read for Torn {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.0.read(into)? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the stream is cut off")),
            read => Ok(read),
        }
    }
}

#[test]
fn an_input_that_breaks_off_is_an_error_and_the_rows_before_it_were_delivered() {
    for world in WORLDS {
        let input = if world == World::Records {
            let values: Vec<_> = (0..9_000).map(|record| world.record(record)).collect();
            let broken = Err(forebay_model::Error::operator("the envelope is cut off"));
            SegmentInput::Records(Box::new([Ok(batch_of(&values)), broken].into_iter()))
        } else {
            SegmentInput::Bytes(Box::new(Torn(Cursor::new(world.text(9_000)))))
        };
        let (batches, end) = decode(world.format().as_ref(), input);
        let message = end.unwrap_err().chain();
        assert!(message.contains("cut off"), "{world:?}: {message}");
        assert!(batches.iter().map(|batch| batch.records).sum::<u32>() >= 8192, "{world:?}: what was whole");
    }
}

#[test]
fn nothing_is_no_batch_and_no_error() {
    for world in [World::Lines, World::Csv, World::Records] {
        let input = match world {
            World::Records => SegmentInput::Records(Box::new(std::iter::empty())),
            World::Lines | World::Csv | World::Array => SegmentInput::Bytes(Box::new(io::empty())),
        };
        let (batches, end) = decode(world.format().as_ref(), input);
        end.unwrap();
        assert!(batches.is_empty(), "{world:?}");
    }
}

#[test]
fn types_are_inferred_from_a_sample_and_from_nothing_none_are() {
    for world in WORLDS {
        let inferred = world.format().infer(vec![world.input(40, 4096)]).unwrap().unwrap();
        let types: Vec<_> = inferred.fields().iter().map(|field| (field.name().as_str(), field.data_type())).collect();
        assert_eq!(types, [("n", &DataType::Int64), ("name", &DataType::Utf8)], "{world:?}");
        assert_eq!(world.format().infer(vec![]).unwrap(), None, "{world:?}");
    }
}
