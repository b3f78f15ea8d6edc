//! How far behind a pipeline is.

use forebay_model::ports::Ledger;
use forebay_model::{PipelineName, Result, Timestamp};

use crate::config::PipelineConfig;

/// When the oldest segment landed that is not loaded, failed ones and those refined again left out; `None` where there is none, and
/// while the pipeline is paused.
///
/// # Errors
/// Those of the ledger.
pub(super) async fn oldest_unloaded(
    ledger: &dyn Ledger,
    name: &PipelineName,
    pipeline: &PipelineConfig,
    now: Timestamp,
) -> Result<Option<Timestamp>> {
    let mut oldest = ledger.work(name, &pipeline.from, now, &[], 1).await?.first().map(|item| item.segment.landed_at);
    for group in ledger.open_groups(name).await? {
        for segment in group.segments.iter().filter(|segment| segment.again.is_none()) {
            let landed = ledger.segment(&segment.segment).await?.map(|segment| segment.landed_at);
            oldest = [oldest, landed].into_iter().flatten().min();
        }
    }
    Ok(oldest)
}
