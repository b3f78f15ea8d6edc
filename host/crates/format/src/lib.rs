//! Bytes ▶ Arrow: JSON lines, JSON lists and documents, CSV.
//!
//! What is promised, for every input whatever: a record that is malformed is a reject with its raw text, and the next one
//! is decoded; what does not fit the schema, or has no column in it, is rescued whole and coerced never; the same bytes under
//! the same schema give the same batches, however they arrive; memory is bounded by the batch and the largest record.
//!
//! A segment's way: [`decompress()`] ▶ a *framer* cuts the text into records, batch by batch, in one contiguous buffer ▶
//! each record is read once, strictly, straight into *columns*; what does not fit is noted on the way ▶ a record that turns out to be
//! malformed is taken back by length ▶ columns become Arrow arrays, notes become `_forebay_rescued`.
//! What was rescued is also counted by its *shape*, the same that inference counts, from which the schema grows.
//!
//! Batches end after [`forebay_model::DecodedBatch::RECORDS`] records, or sooner where their text has more than 64 MiB: both
//! depend on the input alone.
//!
//! Bounds: 64 levels of nesting, `max_record_bytes` a record (16 MiB), `max_columns` leaves a schema (2,000), 256
//! bytes a column's name, and for what is rescued of a record eight times its size and 4 KiB; what exceeds them is rejected or
//! rescued, as the message says.

mod column;
mod csv;
mod cursor;
mod declared;
mod decompress;
mod detect;
mod error;
mod evolve;
mod formats;
mod frame;
mod infer;
mod json;
mod names;
mod number;
mod rescue;
mod segment;
mod settings;
mod shape;
mod table;
mod text;
mod time;

pub use decompress::decompress;
pub use detect::detect;
pub use error::FormatError;
pub use formats::Formats;
