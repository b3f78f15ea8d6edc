use async_trait::async_trait;

use super::ledger::ObjectState;
use crate::error::Result;
use crate::flow::RawBatch;
use crate::ids::SegmentId;
use crate::position::OrderedPosition;
use crate::segment::Partition;
use crate::time::Timestamp;

/// What a poll gave.
#[derive(Debug)]
pub enum Polled {
    /// Something to land.
    Batch(RawBatch),
    /// Nothing now: everything that was there when the poll began has been delivered. `run --once` ends here.
    Idle,
}

/// Where a source stands, as the ledger has it. Given to the source when it is built.
#[async_trait]
pub trait Progress: Send + Sync + std::fmt::Debug {
    /// The position after the last landed record; `None` for a partition that is new.
    async fn next_position(&self, partition: &Partition) -> Result<Option<OrderedPosition>>;
    /// The last landed versions of these keys, in the same order; `None` for a key that is new.
    async fn latest_objects(&self, partition: &Partition, keys: &[String]) -> Result<Vec<Option<ObjectState>>>;
}

/// A source of raw data.
///
/// Contract:
/// - `poll` delivers what the ledger does not have yet, ascending within an ordered partition, without gaps between spans;
///   what it delivered once and was not acknowledged is delivered again by a new source on the same `Progress`;
/// - nothing is acknowledged upstream before `acknowledge` names it;
/// - dropping a poll's future loses nothing;
/// - one object or partition that fails does not keep others from being delivered: its error comes from a later poll,
///   names it, and is not repeated more often than stated by the implementation.
#[async_trait]
pub trait Source: Send + std::fmt::Debug {
    /// The kind, as in the config: `files`.
    fn kind(&self) -> &'static str;
    /// The next batch. Waits for at most about a second where nothing is there.
    async fn poll(&mut self) -> Result<Polled>;
    /// These segments are durable in the landing zone, listed in the ledger and journalled.
    async fn acknowledge(&mut self, landed: &[SegmentId]) -> Result<()>;
    /// When the oldest object was changed last that it knows of and that has not landed; `None` where there is none, as where records are made
    /// when they are asked for.
    fn oldest_unlanded(&self) -> Option<Timestamp> {
        None
    }
}
