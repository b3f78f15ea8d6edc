use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_schema::Schema;
use forebay_model::ids::{Digest, PipelineName};
use forebay_model::load::{Load, LoadGroup, LoadReceipt, StagedFile};
use forebay_model::ports::{
    DeploymentState, LandOutcome, Rebuilt, RebuiltLoad, RebuiltPartition, RebuiltPipeline, RebuiltSegment,
    SegmentFailure, Standing as Stands,
};
use forebay_model::{ErrorClass, Timestamp};
use uuid::Uuid;

use super::state::{Group, Refinement, State};
use crate::check::{self, AGAIN_HINT, REBUILT};
use crate::error::Result;
use crate::versions::Standing;

impl State {
    pub(super) fn import(&mut self, ledger: Uuid, content: &Rebuilt) -> Result<()> {
        let Rebuilt { landings, partitions, modules, assets, pipelines } = content;
        let holds_nothing = self.landings.is_empty()
            && self.groups.is_empty()
            && self.modules.is_empty()
            && self.revisions.is_empty()
            && self.schemas.is_empty();
        if !holds_nothing {
            return Err(check::not_empty());
        }
        for landing in landings {
            let mut outcome = LandOutcome { listed: Vec::new(), known: Vec::new() };
            for object in &landing.objects {
                self.list(landing, object, &mut outcome)?;
            }
            self.landings.push((landing.clone(), false));
        }
        for RebuiltPartition { stream, partition, next, at } in partitions {
            self.partitions.insert((stream.clone(), partition.clone()), (*next, *at));
        }
        for module in modules {
            self.record_module(module)?;
        }
        for asset in assets {
            self.record_asset(asset)?;
        }
        pipelines.iter().try_for_each(|pipeline| self.import_pipeline(ledger, pipeline))
    }

    fn import_pipeline(&mut self, ledger: Uuid, content: &RebuiltPipeline) -> Result<()> {
        let RebuiltPipeline { pipeline, last_number, loads, segments, schemas, revisions, active } = content;
        check::rebuilt_revisions(content)?;
        if *last_number > 0 {
            self.groups.insert((pipeline.clone(), *last_number), group(pipeline, *last_number));
        }
        for load in loads {
            let place = (pipeline.clone(), load.number);
            let group = self.groups.entry(place).or_insert_with(|| group(pipeline, load.number));
            group.loads.insert(load.table.clone(), done(ledger, pipeline, load));
        }
        for segment in segments {
            self.refinements.insert((pipeline.clone(), segment.segment.clone()), refinement(segment));
        }
        if !schemas.is_empty() {
            self.schemas.insert(pipeline.clone(), schemas.clone());
        }
        if !revisions.is_empty() {
            self.revisions.insert(pipeline.clone(), revisions.clone());
        }
        if let Some((revision, at)) = active {
            self.deploy(pipeline, *revision, DeploymentState::Active, REBUILT, *at)?;
            let steps = revisions.iter().filter(|record| record.id == *revision).flat_map(|r| &r.revision.steps);
            self.active_modules.extend(steps.map(|step| (step.module.clone(), step.digest)));
        }
        Ok(())
    }
}

fn group(pipeline: &PipelineName, number: u64) -> Group {
    let group = LoadGroup {
        pipeline: pipeline.clone(),
        number,
        revision: Digest::from_bytes([0; 32]),
        schema_version: 0,
        begun_at: Timestamp::EPOCH,
        segments: Vec::new(),
        loads: Vec::new(),
    };
    Group { group, loads: BTreeMap::new(), done: true, withdrawn: false }
}

fn done(ledger: Uuid, pipeline: &PipelineName, load: &RebuiltLoad) -> (Load, Option<(LoadReceipt, Timestamp)>) {
    let RebuiltLoad { number, table, id, revision, table_version, rows_removed, at, rows } = load;
    let files = rows.iter().map(|(segment, rows)| StagedFile {
        path: String::new(),
        bytes: 0,
        rows: *rows,
        segment: segment.clone(),
        partition_values: BTreeMap::new(),
        statistics: String::new(),
    });
    let receipt =
        LoadReceipt { table_version: *table_version, rows_added: 0, rows_removed: *rows_removed, committed_now: true };
    let load = Load {
        ledger,
        pipeline: pipeline.clone(),
        number: *number,
        id: *id,
        table: table.clone(),
        revision: *revision,
        schema_version: 0,
        begun_at: *at,
        schema: Arc::new(Schema::empty()),
        partition_by: Vec::new(),
        files: files.collect(),
        removes: Vec::new(),
        chosen: false,
    };
    (load, Some((receipt, *at)))
}

fn refinement(content: &RebuiltSegment) -> Refinement {
    let RebuiltSegment { segment, standing, number, revision } = content;
    let (standing, has_rows, failure) = match standing {
        Stands::Loaded => (Standing::Loaded, true, None),
        Stands::Superseded => (Standing::Superseded, false, None),
        Stands::Again { why, at } => {
            let failure = SegmentFailure {
                segment: segment.clone(),
                generation: 0,
                revision: revision.unwrap_or(Digest::from_bytes([0; 32])),
                class: ErrorClass::Retry,
                message: why.clone(),
                hint: Some(AGAIN_HINT.to_owned()),
                at: *at,
                retry_at: Some(*at),
            };
            (Standing::Failed(Some(*at)), true, Some(failure))
        }
    };
    Refinement {
        standing,
        generation: has_rows.then_some(0),
        loaded_generation: has_rows.then_some(0),
        load_number: *number,
        revision: *revision,
        counts: None,
        retryable: None,
        chosen: false,
        heals: Vec::new(),
        attempts: 0,
        failure,
    }
}
