use std::collections::BTreeSet;

use forebay_model::ids::{PipelineName, SegmentId};
use forebay_model::load::{Load, LoadReceipt, Terms};
use forebay_model::ports::{AssetRecord, Pause, Side};
use forebay_model::position::Position;
use forebay_model::revision::RevisionId;
use forebay_model::segment::{LandedSegment, SegmentContent};
use forebay_model::time::Timestamp;
use serde::Serialize;

use super::state::{Asked, Group, Healed, Refinement, State, number_of};
use crate::error::{LedgerError, Result};
use crate::tables::Cell;
use crate::versions::Standing;

fn word<T: Serialize>(value: &T) -> Cell {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word.into(),
        _ => Cell::Null,
    }
}

fn json<T: Serialize>(value: &T) -> Result<Cell> {
    serde_json::to_string(value)
        .map(Cell::Text)
        .map_err(|error| LedgerError::invariant(format!("the ledger's content as JSON: {error}")))
}

impl State {
    /// The rows of a documented table.
    pub(super) fn rows(&self, table: &str) -> Result<Vec<Vec<Cell>>> {
        Ok(match table {
            "segments" => self
                .segments
                .iter()
                .enumerate()
                .map(|(place, segment)| segment_row(place, segment))
                .collect::<Result<_>>()?,
            "objects" => self.object_rows(),
            "partitions" => self
                .partitions
                .iter()
                .map(|((stream, partition), (next, at))| {
                    vec![stream.as_str().into(), partition.as_str().into(), next.to_string().into(), (*at).into()]
                })
                .collect(),
            "refinements" => self.refinement_rows(),
            "histories" => self
                .histories
                .iter()
                .map(|((pipeline, stream), (end, at))| {
                    vec![pipeline.as_str().into(), stream.as_str().into(), (*end as u64).into(), (*at).into()]
                })
                .collect(),
            "sides" => self.side_rows(),
            "side_segments" => self
                .sides
                .iter()
                .flat_map(|(name, (_, has))| has.iter().map(|id| vec![name.as_str().into(), id.as_str().into()]))
                .collect(),
            "heals" => self.heal_rows(),
            "again" => self.again_rows(),
            "loads" => self.load_rows(),
            "load_segments" => self.load_segment_rows(),
            "reject_counts" => self
                .reject_counts
                .iter()
                .map(|((pipeline, segment, generation, stage, code), records)| {
                    vec![
                        pipeline.as_str().into(),
                        segment.as_str().into(),
                        (*generation).into(),
                        stage.as_str().into(),
                        code.as_str().into(),
                        (*records).into(),
                    ]
                })
                .collect(),
            "schemas" => self.schema_rows()?,
            "held_changes" => self
                .held
                .values()
                .map(|held| {
                    vec![
                        held.table.to_string().into(),
                        held.column.as_str().into(),
                        held.data_type.as_str().into(),
                        held.reason.as_str().into(),
                        held.first_seen.into(),
                        held.approved.into(),
                    ]
                })
                .collect(),
            "modules" => self.module_rows(),
            "assets" => self.asset_rows(),
            "module_files" => self
                .module_files
                .iter()
                .map(|(path, (digest, at))| vec![path.as_str().into(), digest.to_string().into(), (*at).into()])
                .collect(),
            "revisions" => self.revision_rows()?,
            "deployments" => self.deployment_rows(),
            "paused" => self.paused_rows(),
            "requests" => self.request_rows(),
            other => return Err(LedgerError::NoTable { name: other.to_owned() }),
        })
    }

    fn revision_number(&self, pipeline: &PipelineName, id: RevisionId) -> Cell {
        self.revision(pipeline, id).map(|record| record.number).into()
    }

    fn object_rows(&self) -> Vec<Vec<Cell>> {
        let row = |(place, object): (usize, &super::state::Object)| {
            let source = object.source.as_ref();
            vec![
                number_of(place).into(),
                object.name.as_str().into(),
                object.stream.as_str().into(),
                source.map(|source| source.partition.as_str()).into(),
                source.map(|source| source.key.as_str()).into(),
                source.map(|source| source.version.as_str()).into(),
                source.map(|source| source.range.start).into(),
                source.map(|source| source.range.end).into(),
                source.map(|source| source.identity.as_str()).into(),
                source.map_or(Cell::Null, |_| word(&object.on_change)),
                object.bytes.into(),
                object.digest.to_string().into(),
                object.attempt.to_string().into(),
                object.landed_at.into(),
                object.replaced_by.clone().into(),
            ]
        };
        self.objects.iter().enumerate().map(row).collect()
    }

    fn refinement_rows(&self) -> Vec<Vec<Cell>> {
        let row = |((pipeline, segment), refinement): (&(PipelineName, _), &Refinement)| {
            let Refinement {
                standing,
                generation,
                loaded_generation: _,
                load_number,
                revision,
                counts,
                retryable,
                chosen,
                heals: _,
                attempts,
                failure,
            } = refinement;
            let failure = failure.as_ref();
            let retry_at = match standing {
                Standing::Failed(retry_at) => *retry_at,
                Standing::New | Standing::Loading | Standing::Loaded | Standing::Superseded => None,
            };
            let segment: &SegmentId = segment;
            vec![
                pipeline.as_str().into(),
                segment.as_str().into(),
                standing.name().into(),
                (*generation).into(),
                (*load_number).into(),
                revision.map_or(Cell::Null, |id| self.revision_number(pipeline, id)),
                revision.map(|id| id.to_string()).into(),
                counts.map(|counts| counts.records).into(),
                counts.map(|counts| counts.loaded).into(),
                counts.map(|counts| counts.filtered).into(),
                counts.map(|counts| counts.rejected).into(),
                counts.map(|counts| counts.rescued).into(),
                (*retryable).into(),
                (*attempts).into(),
                failure.map_or(Cell::Null, |failure| word(&failure.class)),
                failure.map(|failure| failure.message.as_str()).into(),
                failure.and_then(|failure| failure.hint.as_deref()).into(),
                failure.map(|failure| failure.at).into(),
                retry_at.into(),
                u64::from(*chosen).into(),
            ]
        };
        self.refinements.iter().map(row).collect()
    }

    fn heal_rows(&self) -> Vec<Vec<Cell>> {
        let mut rows = Vec::new();
        for ((pipeline, segment), refinement) in &self.refinements {
            for Healed { generation, load_number, revision, counts } in &refinement.heals {
                rows.push(vec![
                    pipeline.as_str().into(),
                    segment.as_str().into(),
                    (*generation).into(),
                    (*load_number).into(),
                    self.revision_number(pipeline, *revision),
                    revision.to_string().into(),
                    counts.records.into(),
                    counts.loaded.into(),
                    counts.filtered.into(),
                    counts.rejected.into(),
                    counts.rescued.into(),
                ]);
            }
        }
        rows
    }

    fn again_rows(&self) -> Vec<Vec<Cell>> {
        let row = |((pipeline, segment), asked): (&(PipelineName, SegmentId), &Asked)| {
            let Asked { what, terms: Terms { revision, workers }, reason, at, attempts, failure } = asked;
            let failure = failure.as_ref();
            vec![
                pipeline.as_str().into(),
                segment.as_str().into(),
                word(what),
                revision.map_or(Cell::Null, |id| self.revision_number(pipeline, id)),
                revision.map(|id| id.to_string()).into(),
                workers.map(|workers| u64::from(workers.get())).into(),
                reason.as_str().into(),
                (*at).into(),
                (*attempts).into(),
                failure.map_or(Cell::Null, |failure| word(&failure.class)),
                failure.map(|failure| failure.message.as_str()).into(),
                failure.and_then(|failure| failure.hint.as_deref()).into(),
                failure.map(|failure| failure.at).into(),
                failure.and_then(|failure| failure.retry_at).into(),
            ]
        };
        self.again.iter().map(row).collect()
    }

    fn side_rows(&self) -> Vec<Vec<Cell>> {
        let row = |(side, _): &(Side, BTreeSet<SegmentId>)| {
            let Side { id: _, name, of, revision, workers, reason, asked_at, dropped } = side;
            vec![
                name.as_str().into(),
                of.as_str().into(),
                self.revision_number(of, *revision),
                revision.to_string().into(),
                workers.map(|workers| u64::from(workers.get())).into(),
                reason.as_str().into(),
                (*asked_at).into(),
                (*dropped).into(),
            ]
        };
        self.sides.values().map(row).collect()
    }

    fn load_rows(&self) -> Vec<Vec<Cell>> {
        let row = |withdrawn: bool, (load, done): &(Load, Option<(LoadReceipt, Timestamp)>)| {
            let (files, bytes, rows) = crate::check::totals(load);
            let receipt = done.as_ref().map(|(receipt, _)| receipt);
            vec![
                load.pipeline.as_str().into(),
                load.number.into(),
                load.table.to_string().into(),
                load.id.to_string().into(),
                match (done, withdrawn) {
                    (Some(_), _) => "done",
                    (None, true) => "withdrawn",
                    (None, false) => "open",
                }
                .into(),
                self.revision_number(&load.pipeline, load.revision),
                load.revision.to_string().into(),
                load.schema_version.into(),
                files.into(),
                bytes.into(),
                rows.into(),
                receipt.map(|receipt| receipt.rows_removed).into(),
                receipt.map(|receipt| receipt.table_version).into(),
                load.begun_at.into(),
                done.as_ref().map(|(_, at)| *at).into(),
            ]
        };
        let rows = |group: &Group| group.loads.values().map(|load| row(group.withdrawn, load)).collect::<Vec<_>>();
        self.groups.values().flat_map(rows).collect()
    }

    fn load_segment_rows(&self) -> Vec<Vec<Cell>> {
        let mut rows = Vec::new();
        for load in self.groups.values().flat_map(Group::counted) {
            let segments: BTreeSet<_> = load.files.iter().map(|file| &file.segment).collect();
            for segment in segments {
                let of_segment = || load.files.iter().filter(|file| file.segment == *segment);
                rows.push(vec![
                    load.pipeline.as_str().into(),
                    load.number.into(),
                    load.table.to_string().into(),
                    segment.as_str().into(),
                    u64::try_from(of_segment().count()).unwrap_or(u64::MAX).into(),
                    of_segment().map(|file| file.rows).fold(0, u64::saturating_add).into(),
                ]);
            }
        }
        rows
    }

    fn schema_rows(&self) -> Result<Vec<Vec<Cell>>> {
        let mut rows = Vec::new();
        for (pipeline, versions) in &self.schemas {
            for (schema, at) in versions {
                rows.push(vec![pipeline.as_str().into(), schema.version.into(), json(&schema.schema)?, (*at).into()]);
            }
        }
        Ok(rows)
    }

    fn module_rows(&self) -> Vec<Vec<Cell>> {
        // In the order of the documented table: by name and the digest's text, which sorts as its bytes do.
        self.modules
            .values()
            .map(|module| {
                vec![
                    module.name.as_str().into(),
                    module.digest.to_string().into(),
                    module.version.as_str().into(),
                    module.bytes.into(),
                    module.origin.as_str().into(),
                    module.at.into(),
                    (self.active_modules.get(&module.name) == Some(&module.digest)).into(),
                ]
            })
            .collect()
    }

    fn asset_rows(&self) -> Vec<Vec<Cell>> {
        let row = |asset: &AssetRecord| {
            vec![
                asset.name.as_str().into(),
                asset.digest.to_string().into(),
                asset.bytes.into(),
                asset.origin.as_str().into(),
                asset.at.into(),
            ]
        };
        self.assets.values().map(row).collect()
    }

    fn revision_rows(&self) -> Result<Vec<Vec<Cell>>> {
        let mut rows = Vec::new();
        for record in self.revisions.values().flatten() {
            rows.push(vec![
                record.revision.pipeline.as_str().into(),
                record.number.into(),
                record.id.to_string().into(),
                crate::check::revision_body(&record.revision)?.into(),
                record.created_at.into(),
            ]);
        }
        Ok(rows)
    }

    fn deployment_rows(&self) -> Vec<Vec<Cell>> {
        let canonical = forebay_model::revision::canonical;
        let row = |(place, deployed): (usize, &super::state::Deployed)| {
            let shadow = deployed.shadow.as_ref();
            vec![
                number_of(place).into(),
                deployed.pipeline.as_str().into(),
                self.revision_number(&deployed.pipeline, deployed.revision),
                deployed.revision.to_string().into(),
                word(&deployed.state),
                deployed.reason.as_str().into(),
                deployed.at.into(),
                deployed.retired_at.into(),
                shadow.map(|shadow| shadow.since).into(),
                shadow.map(|shadow| canonical(&shadow.plan)).into(),
                shadow.and_then(|shadow| shadow.report.as_ref()).map(canonical).into(),
            ]
        };
        self.deployments.iter().enumerate().map(row).collect()
    }

    fn paused_rows(&self) -> Vec<Vec<Cell>> {
        let row = |(pipeline, pause): (&PipelineName, &Pause)| {
            let Pause { reason, since } = pause;
            vec![pipeline.as_str().into(), reason.as_str().into(), (*since).into()]
        };
        self.paused.iter().map(row).collect()
    }

    fn request_rows(&self) -> Vec<Vec<Cell>> {
        let row = |(place, request): (usize, &super::state::Request)| {
            let canonical = forebay_model::revision::canonical;
            vec![
                number_of(place).into(),
                request.what.as_str().into(),
                canonical(&request.arguments).into(),
                request.at.into(),
                request.answer.as_ref().map(|(answer, _)| canonical(answer)).into(),
                request.answer.as_ref().map(|(_, at)| *at).into(),
            ]
        };
        self.requests.iter().enumerate().map(row).collect()
    }
}

fn segment_row(place: usize, segment: &LandedSegment) -> Result<Vec<Cell>> {
    let (key, version, source, position) = match &segment.first {
        Position::Ordered(position) => (None, None, None, Some(position.to_string())),
        Position::Object { key, version, range } => (Some(key.as_str()), Some(version.as_str()), Some(range), None),
    };
    let (content, range, compression, preamble) = match &segment.content {
        SegmentContent::Bytes { range, compression, preamble } => {
            ("bytes", range, word(compression), preamble.as_ref().map_or(Ok(Cell::Null), json)?)
        }
        SegmentContent::Envelope { rows } => ("rows", rows, Cell::Null, Cell::Null),
    };
    Ok(vec![
        number_of(place).into(),
        segment.id.as_str().into(),
        segment.stream.as_str().into(),
        segment.partition.as_str().into(),
        key.into(),
        version.into(),
        source.map(|range| range.start).into(),
        source.map(|range| range.end).into(),
        position.into(),
        segment.next.as_ref().map(ToString::to_string).into(),
        segment.object.as_str().into(),
        content.into(),
        range.start.into(),
        range.end.into(),
        compression,
        preamble,
        segment.bytes.into(),
        segment.records.into(),
        segment.format.as_str().into(),
        segment.digest.to_string().into(),
        segment.landed_at.into(),
    ])
}
