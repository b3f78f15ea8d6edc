use std::num::NonZeroU32;

use uuid::Uuid;

use crate::ids::PipelineName;
use crate::revision::RevisionId;
use crate::time::Timestamp;

/// A replay whose rows go to tables beside those of its pipeline (`forebay replay --into`): a pipeline of its own, which refines the
/// segments that were chosen, and no others.
///
/// Its revision is that of the pipeline but for the tables, whose names end with `_` and the suffix. It is active under the side's name as
/// long as the side is there, and never another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Side {
    /// Its own: another side of the same name, made after this one went, has another.
    pub id: Uuid,
    /// Its name: [`PipelineName::side`].
    pub name: PipelineName,
    /// The pipeline whose history it refines.
    pub of: PipelineName,
    /// The revision of that pipeline which its own is made from.
    pub revision: RevisionId,
    /// At most so many workers at once; all that production leaves, where nobody said.
    pub workers: Option<NonZeroU32>,
    /// Who asked: `forebay replay by alice@laptop`.
    pub reason: String,
    /// When.
    pub asked_at: Timestamp,
    /// It is given no work any more, and goes with its tables.
    pub dropped: bool,
}
