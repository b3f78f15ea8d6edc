//! What two revisions of a pipeline make of the same segment: what a verb shows before it changes rows.

use std::collections::BTreeMap;

use forebay_model::{Error, PipelineName, SegmentId};
use forebay_pipeline::refine::bind::Materials;
use forebay_pipeline::refine::rehearse::{Extent, Rehearsed, rehearse};
use serde_json::{Value, json};

use super::kept::blocking;
use super::rehearsals::{Landed, Rehearsals};
use super::show;
use crate::query::Lake;
use crate::rules::changes::{Changes, changes, made};

/// Records of a segment that are refined twice, about: enough to see, and done in a moment.
const RECORDS: u64 = 16_384;

/// What changes in a segment of a pipeline.
pub(super) struct Compared {
    pub(super) pipeline: PipelineName,
    pub(super) segment: String,
    /// Records that were refined.
    pub(super) records: u64,
    /// By table.
    pub(super) tables: BTreeMap<String, Changes>,
}

/// Refines the first records of a segment under both; nothing is written. `None` where the pipeline has no schema yet.
pub(super) async fn compare(
    lake: &Lake,
    pipeline: &PipelineName,
    segment: &SegmentId,
    was: Materials,
    is: Materials,
) -> anyhow::Result<Option<Compared>> {
    let Some(rehearsals) = Rehearsals::open(lake, pipeline).await? else { return Ok(None) };
    let Landed { segment: landed, decoding } = rehearsals.landed(lake, segment).await?;
    let compared = blocking(move || {
        let of = |materials: &Materials| {
            let bound = rehearsals.bind(materials)?;
            let extent = Extent { records: RECORDS, until: None, keep: true };
            let Rehearsed { batches, records, failed: _ } =
                rehearse(&*rehearsals.zone, &*decoding, &bound, &landed, extent)?;
            Ok::<_, Error>((made(&bound, &batches)?, records))
        };
        let ((was, _), (is, records)) = (of(&was)?, of(&is)?);
        Ok((changes(&was, &is), records))
    });
    let (tables, records) = compared.await?;
    Ok(Some(Compared { pipeline: pipeline.clone(), segment: segment.to_string(), records, tables }))
}

impl Compared {
    /// For programs.
    pub(super) fn json(&self) -> Value {
        let Self { pipeline, segment, records, tables } = self;
        let tables: serde_json::Map<_, _> =
            tables.iter().map(|(table, changes)| (table.clone(), changes.json())).collect();
        json!({ "pipeline": pipeline, "segment": segment, "records": records, "tables": tables })
    }

    /// For people.
    pub(super) fn words(&self) -> Vec<String> {
        let Self { pipeline, segment, records, tables } = self;
        let records = show::count(*records, "record");
        let mut lines = vec![format!("{pipeline}, segment {segment}, {records}:")];
        if tables.values().all(Changes::none) {
            lines.push("  every row is as it was".to_owned());
            return lines;
        }
        for (table, changes) in tables.iter().filter(|(_, changes)| !changes.none()) {
            lines.extend(changes.words(table));
        }
        lines
    }
}
