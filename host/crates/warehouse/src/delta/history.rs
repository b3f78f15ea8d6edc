//! What a table remembers of its loads, and which rows it has: what a ledger is rebuilt from.
//!
//! Whose rows a data file holds is in its statistics where it holds rows of one segment, as each file does that a load brought; a
//! file that was compacted is read, two columns of it.

use std::collections::BTreeMap;

use forebay_model::SegmentId;
use forebay_model::ports::{PastLoad, SegmentRows, TableHistory};

use super::log::{self, CommitNote};
use super::table::{ActiveFile, LEDGER, PIPELINE};
use super::{DeltaWarehouse, blocking};
use crate::error::WarehouseError;
use crate::files;

impl DeltaWarehouse {
    pub(super) async fn table_history(&self, name: &str) -> Result<Option<TableHistory>, WarehouseError> {
        let slot = self.slot(name);
        let mut state = slot.lock().await;
        let Some(opened) = self.refreshed(name, &mut state).await? else { return Ok(None) };
        let snapshot = opened.table.snapshot().map_err(WarehouseError::delta("read", name))?;
        let properties = snapshot.metadata().configuration();
        let ledger = properties.get(LEDGER).and_then(|text| text.parse().ok());
        let pipeline = properties.get(PIPELINE).and_then(|text| text.parse().ok());
        let (Some(ledger), Some(pipeline)) = (ledger, pipeline) else { return Ok(Some(TableHistory::default())) };
        let pipeline: forebay_model::PipelineName = pipeline;
        let last = self.last_load(name, opened, ledger, pipeline.as_str()).await?.map(|known| known.number);
        let (active, table) = (opened.files(name)?, self.table_path(name)?);
        let of = pipeline.to_string();
        let (loads, rows) = blocking(move || {
            let notes = log::notes(&table)?.into_iter();
            let own = notes.filter(|(note, _)| note.ledger == ledger && note.pipeline == of);
            let loads = own.filter_map(|(note, at)| {
                let CommitNote { load, id, revision, version, rows_removed, replaces, chosen, .. } = note;
                let revision = revision.parse().ok()?;
                Some(PastLoad {
                    number: load,
                    id,
                    revision,
                    table_version: version,
                    rows_removed,
                    replaces,
                    chosen,
                    at,
                })
            });
            Ok((loads.collect(), rows_of(&table, &active)?))
        })
        .await?;
        Ok(Some(TableHistory { ledger: Some(ledger), pipeline: Some(pipeline), last, loads, rows }))
    }
}

fn rows_of(table: &std::path::Path, active: &[ActiveFile]) -> Result<Vec<SegmentRows>, WarehouseError> {
    let mut rows: BTreeMap<(String, i64), u64> = BTreeMap::new();
    for file in active {
        match (&file.segments, file.loads, file.rows) {
            (Some((first, last, true)), Some((least, most)), Some(count)) if first == last && least == most => {
                *rows.entry((first.clone(), least)).or_default() += count;
            }
            _ => {
                for (of, count) in files::segments_and_loads(&table.join(&file.path))? {
                    *rows.entry(of).or_default() += count;
                }
            }
        }
    }
    rows.into_iter()
        .map(|((segment, load), rows)| {
            let load = u64::try_from(load)
                .map_err(|_| WarehouseError::Bug(format!("{} has rows of load {load}", table.display())))?;
            Ok(SegmentRows { segment: SegmentId::from_text(segment), load, rows })
        })
        .collect()
}
