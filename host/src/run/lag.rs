//! How far behind a pipeline is.

use arrow::array::AsArray as _;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use forebay_model::ports::Ledger;
use forebay_model::{PipelineName, Result, Timestamp};

use crate::config::PipelineConfig;

/// When the oldest segment landed that is not loaded, failed ones, those refined again and the pipeline's history left out; `None`
/// where there is none, and while the pipeline is paused.
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
    let groups = ledger.open_groups(name).await?;
    let began = if groups.is_empty() { None } else { began(ledger, name, pipeline).await? };
    for group in groups {
        for segment in group.segments.iter().filter(|segment| segment.again.is_none()) {
            let landed = ledger.segment(&segment.segment).await?.map(|segment| segment.landed_at);
            let landed = landed.filter(|landed| began.is_none_or(|began| *landed >= began));
            oldest = [oldest, landed].into_iter().flatten().min();
        }
    }
    Ok(oldest)
}

/// When a pipeline began that has a history.
async fn began(ledger: &dyn Ledger, name: &PipelineName, pipeline: &PipelineConfig) -> Result<Option<Timestamp>> {
    let rows = ledger.read_table("histories").await?;
    let texts = |name: &str| rows.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
    let numbers = rows.column_by_name("number").and_then(|column| column.as_primitive_opt::<Int64Type>());
    let times =
        rows.column_by_name("began_at").and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
    let (Some(pipelines), Some(streams), Some(numbers), Some(times)) =
        (texts("pipeline"), texts("stream"), numbers, times)
    else {
        return Ok(None);
    };
    let mut rows = pipelines.iter().zip(streams).zip(numbers.iter().zip(times));
    let own = rows.find(|((of, stream), (number, _))| {
        *of == Some(name.as_str()) && *stream == Some(pipeline.from.as_str()) && number.is_some_and(|number| number > 0)
    });
    Ok(own.and_then(|(_, (_, began))| began).map(Timestamp::from_micros))
}
