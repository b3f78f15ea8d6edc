//! `forebay why`: what became of an object, a segment, or a record.

mod again;
mod object;
mod record;

use clap::Args;
use forebay_model::Timestamp;

use super::listing::parse_since;
use super::{Exit, Global};
use crate::config::Config;
use crate::query::Lake;

/// What became of an object, a segment or a record, and why it is not where it was expected.
///
/// An object is a file's path or its name in the source, or a name in the landing zone; of a segment's id the beginning is
/// enough. A record is found by a condition
/// on its columns, in SQL: first in the tables and rejects, then, where none of them has it, in the raw segments, decoded
/// anew. For each table it tells whether the record is there, or the first step that did not select it: the record is refined
/// again for that, by the revision that refined it then.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  forebay why inbox/2013-09-01.csv
  forebay why payments/3f9c0a1b2c3d4e5f60718293
  forebay why payments --where \"event_id = 'e-000417'\" --since 2d")]
pub(super) struct WhyArgs {
    /// An object or a segment; with --where, a stream.
    #[arg(value_name = "OBJECT|SEGMENT|STREAM")]
    what: String,
    /// A condition on the record, in SQL.
    #[arg(long = "where", value_name = "CONDITION")]
    condition: Option<String>,
    /// Only what landed since then: so long ago ("2d"), or a date or time in UTC.
    #[arg(long, value_parser = parse_since, value_name = "WHEN")]
    since: Option<Timestamp>,
    /// At most so many records.
    #[arg(long, default_value_t = 10, requires = "condition")]
    limit: u32,
}

pub(super) async fn why(global: &Global, config: Config, args: &WhyArgs) -> anyhow::Result<Exit> {
    let WhyArgs { what, condition, since, limit } = args;
    let lake = Lake::open(config).await?;
    match condition {
        Some(condition) => {
            let asked = record::Asked { stream: what, condition, since: *since, limit: *limit };
            record::why(global, &lake, &asked).await
        }
        None => object::why(global, &lake, what, *since).await,
    }
}
