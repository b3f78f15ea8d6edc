use std::sync::Arc;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use forebay_model::ids::{Digest, ModuleName, PipelineName, SegmentId, StreamName, TableName};
use forebay_model::load::{Again, LoadGroup, LoadReceipt};
use forebay_model::ports::{
    AssetRecord, Deployment, DeploymentState, HealRequest, HeldChange, HostHolder, HostLease, JournalEntry,
    LandOutcome, Landing, Ledger, ModuleRecord, ObjectState, Pause, Rebuilt, ReplayRequest, RevisionRecord,
    SegmentFailure, Shadow, Side, WorkItem,
};
use forebay_model::revision::{Revision, RevisionId};
use forebay_model::schema::{SchemaVersion, StreamSchema};
use forebay_model::segment::{LandedSegment, Partition};
use forebay_model::{OrderedPosition, Result, Timestamp};
use uuid::Uuid;

use super::Chaos;

/// A ledger that fails.
#[derive(Debug)]
pub(crate) struct FaultyLedger {
    pub(crate) inner: Arc<dyn Ledger>,
    pub(crate) chaos: Arc<Chaos>,
}

#[async_trait]
impl Ledger for FaultyLedger {
    fn id(&self) -> Uuid {
        self.inner.id()
    }

    fn table_names(&self) -> Vec<&'static str> {
        self.inner.table_names()
    }

    async fn lease_host(&self) -> Result<Option<Box<dyn HostLease>>> {
        self.chaos.call("ledger.lease_host", String::new, self.inner.lease_host()).await
    }

    async fn host(&self) -> Result<Option<HostHolder>> {
        self.chaos.call("ledger.host", String::new, self.inner.host()).await
    }

    async fn import(&self, content: &Rebuilt) -> Result<()> {
        self.chaos.call("ledger.import", String::new, self.inner.import(content)).await
    }

    async fn land(&self, landing: &Landing) -> Result<LandOutcome> {
        self.chaos
            .call(
                "ledger.land",
                || {
                    format!(
                        "{} {:?}",
                        landing.attempt,
                        landing.objects.iter().map(|object| object.name.as_str()).collect::<Vec<_>>()
                    )
                },
                self.inner.land(landing),
            )
            .await
    }

    async fn next_position(&self, stream: &StreamName, partition: &Partition) -> Result<Option<OrderedPosition>> {
        self.chaos.call("ledger.next_position", String::new, self.inner.next_position(stream, partition)).await
    }

    async fn latest_objects(
        &self,
        stream: &StreamName,
        partition: &Partition,
        keys: &[String],
    ) -> Result<Vec<Option<ObjectState>>> {
        self.chaos.call("ledger.latest_objects", String::new, self.inner.latest_objects(stream, partition, keys)).await
    }

    async fn unjournalled(&self, stream: &StreamName) -> Result<Vec<JournalEntry>> {
        self.chaos.call("ledger.unjournalled", String::new, self.inner.unjournalled(stream)).await
    }

    async fn mark_journalled(&self, attempt: Uuid) -> Result<()> {
        self.chaos.call("ledger.mark_journalled", || attempt.to_string(), self.inner.mark_journalled(attempt)).await
    }

    async fn segment(&self, id: &SegmentId) -> Result<Option<LandedSegment>> {
        self.chaos.call("ledger.segment", String::new, self.inner.segment(id)).await
    }

    async fn objects_listed(&self, names: &[String]) -> Result<Vec<bool>> {
        self.chaos.call("ledger.objects_listed", String::new, self.inner.objects_listed(names)).await
    }

    async fn work(
        &self,
        pipeline: &PipelineName,
        stream: &StreamName,
        now: Timestamp,
        skip: &[SegmentId],
        limit: u32,
    ) -> Result<Vec<WorkItem>> {
        self.chaos
            .call(
                "ledger.work",
                || format!("{pipeline} skip {skip:?}"),
                self.inner.work(pipeline, stream, now, skip, limit),
            )
            .await
    }

    async fn failed(
        &self,
        pipeline: &PipelineName,
        stream: &StreamName,
        now: Timestamp,
        skip: &[SegmentId],
        limit: u32,
    ) -> Result<Vec<WorkItem>> {
        let detail = || format!("{pipeline} skip {skip:?}");
        let given = self.inner.failed(pipeline, stream, now, skip, limit);
        let given = self.chaos.call("ledger.failed", detail, given).await?;
        self.chaos.count(|tally| tally.failed_given += u64::from(!given.is_empty()));
        Ok(given)
    }

    async fn begin(&self, pipeline: &PipelineName, stream: &StreamName, at: Timestamp) -> Result<()> {
        self.chaos.call("ledger.begin", || pipeline.to_string(), self.inner.begin(pipeline, stream, at)).await
    }

    async fn history(
        &self,
        pipeline: &PipelineName,
        stream: &StreamName,
        now: Timestamp,
        skip: &[SegmentId],
        limit: u32,
    ) -> Result<Vec<WorkItem>> {
        let detail = || format!("{pipeline} skip {skip:?}");
        let given = self.inner.history(pipeline, stream, now, skip, limit);
        let given = self.chaos.call("ledger.history", detail, given).await?;
        self.chaos.count(|tally| tally.history_given += u64::from(!given.is_empty()));
        Ok(given)
    }

    async fn fail(&self, pipeline: &PipelineName, failure: &SegmentFailure) -> Result<()> {
        self.chaos
            .call(
                "ledger.fail",
                || format!("{pipeline} {} {}", failure.segment, failure.message),
                self.inner.fail(pipeline, failure),
            )
            .await
    }

    async fn ask_side(&self, side: &Side, own: &Revision, segments: &[SegmentId]) -> Result<u64> {
        self.chaos.call("ledger.ask_side", || side.name.to_string(), self.inner.ask_side(side, own, segments)).await
    }

    async fn forget_waiting(&self, side: &PipelineName) -> Result<u64> {
        self.chaos.call("ledger.forget_waiting", || side.to_string(), self.inner.forget_waiting(side)).await
    }

    async fn drop_side(&self, side: &PipelineName, only: Option<&[SegmentId]>) -> Result<bool> {
        self.chaos.call("ledger.drop_side", || side.to_string(), self.inner.drop_side(side, only)).await
    }

    async fn forget_side(&self, side: &PipelineName) -> Result<()> {
        self.chaos.call("ledger.forget_side", || side.to_string(), self.inner.forget_side(side)).await
    }

    async fn sides(&self) -> Result<Vec<Side>> {
        self.chaos.call("ledger.sides", String::new, self.inner.sides()).await
    }

    async fn close(&self) {
        self.inner.close().await;
    }

    async fn retry_failed(&self, pipeline: &PipelineName) -> Result<u64> {
        self.chaos.call("ledger.retry_failed", String::new, self.inner.retry_failed(pipeline)).await
    }

    async fn ask_heal(&self, pipeline: &PipelineName, wanted: &HealRequest, at: Timestamp) -> Result<u64> {
        self.chaos.call("ledger.ask_heal", || pipeline.to_string(), self.inner.ask_heal(pipeline, wanted, at)).await
    }

    async fn ask_replay(&self, pipeline: &PipelineName, wanted: &ReplayRequest, at: Timestamp) -> Result<u64> {
        let detail = || format!("{pipeline}: {} segments, {:?}", wanted.segments.len(), wanted.terms);
        self.chaos.call("ledger.ask_replay", detail, self.inner.ask_replay(pipeline, wanted, at)).await
    }

    async fn forget_again(&self, pipeline: &PipelineName, what: Again) -> Result<u64> {
        self.chaos.call("ledger.forget_again", || pipeline.to_string(), self.inner.forget_again(pipeline, what)).await
    }

    async fn again(
        &self,
        pipeline: &PipelineName,
        stream: &StreamName,
        now: Timestamp,
        skip: &[SegmentId],
        limit: u32,
    ) -> Result<Vec<WorkItem>> {
        let detail = || format!("{pipeline} skip {skip:?}");
        self.chaos.call("ledger.again", detail, self.inner.again(pipeline, stream, now, skip, limit)).await
    }

    async fn last_number(&self, pipeline: &PipelineName) -> Result<u64> {
        self.chaos.call("ledger.last_number", String::new, self.inner.last_number(pipeline)).await
    }

    async fn refined_by(
        &self,
        pipeline: &PipelineName,
        revision: RevisionId,
        limit: u32,
    ) -> Result<Vec<LandedSegment>> {
        self.chaos.call("ledger.refined_by", String::new, self.inner.refined_by(pipeline, revision, limit)).await
    }

    async fn tables_of(&self, pipeline: &PipelineName, segments: &[SegmentId]) -> Result<Vec<TableName>> {
        self.chaos.call("ledger.tables_of", String::new, self.inner.tables_of(pipeline, segments)).await
    }

    async fn open_group(&self, group: &LoadGroup) -> Result<()> {
        self.chaos.refined_again(group);
        self.chaos
            .call(
                "ledger.open_group",
                || {
                    format!(
                        "{} load {} of {:?}",
                        group.pipeline,
                        group.number,
                        group.segments.iter().map(|segment| segment.segment.as_str()).collect::<Vec<_>>()
                    )
                },
                self.inner.open_group(group),
            )
            .await
    }

    async fn withdraw_group(&self, pipeline: &PipelineName, number: u64, failures: &[SegmentFailure]) -> Result<()> {
        self.chaos
            .call(
                "ledger.withdraw_group",
                || format!("{pipeline} load {number}"),
                self.inner.withdraw_group(pipeline, number, failures),
            )
            .await
    }

    async fn close_load(
        &self,
        pipeline: &PipelineName,
        number: u64,
        table: &TableName,
        receipt: &LoadReceipt,
        at: Timestamp,
    ) -> Result<()> {
        self.chaos
            .call(
                "ledger.close_load",
                || format!("{pipeline} load {number} of {table}"),
                self.inner.close_load(pipeline, number, table, receipt, at),
            )
            .await
    }

    async fn open_groups(&self, pipeline: &PipelineName) -> Result<Vec<LoadGroup>> {
        self.chaos.call("ledger.open_groups", String::new, self.inner.open_groups(pipeline)).await
    }

    async fn schema(&self, pipeline: &PipelineName) -> Result<Option<StreamSchema>> {
        self.chaos.call("ledger.schema", String::new, self.inner.schema(pipeline)).await
    }

    async fn evolve_schema(
        &self,
        pipeline: &PipelineName,
        from: Option<SchemaVersion>,
        schema: &arrow_schema::SchemaRef,
        at: Timestamp,
    ) -> Result<Option<StreamSchema>> {
        self.chaos
            .call(
                "ledger.evolve_schema",
                || format!("{pipeline} from {from:?}"),
                self.inner.evolve_schema(pipeline, from, schema, at),
            )
            .await
    }

    async fn hold_changes(&self, changes: &[HeldChange]) -> Result<()> {
        self.chaos.call("ledger.hold_changes", String::new, self.inner.hold_changes(changes)).await
    }

    async fn held_changes(&self) -> Result<Vec<HeldChange>> {
        self.chaos.call("ledger.held_changes", String::new, self.inner.held_changes()).await
    }

    async fn approve_change(&self, table: &TableName, column: &str) -> Result<bool> {
        self.chaos.call("ledger.approve_change", String::new, self.inner.approve_change(table, column)).await
    }

    async fn record_module(&self, module: &ModuleRecord) -> Result<()> {
        self.chaos.call("ledger.record_module", String::new, self.inner.record_module(module)).await
    }

    async fn record_asset(&self, asset: &AssetRecord) -> Result<()> {
        self.chaos.call("ledger.record_asset", String::new, self.inner.record_asset(asset)).await
    }

    async fn seen_in_folder(&self, path: &str, digest: Digest, at: Timestamp) -> Result<bool> {
        self.chaos.call("ledger.seen_in_folder", String::new, self.inner.seen_in_folder(path, digest, at)).await
    }

    async fn active_module(&self, name: &ModuleName) -> Result<Option<Digest>> {
        self.chaos.call("ledger.active_module", String::new, self.inner.active_module(name)).await
    }

    async fn activate_module(&self, name: &ModuleName, digest: Digest, at: Timestamp) -> Result<()> {
        self.chaos.call("ledger.activate_module", String::new, self.inner.activate_module(name, digest, at)).await
    }

    async fn record_revision(&self, revision: &Revision, at: Timestamp) -> Result<RevisionRecord> {
        self.chaos.call("ledger.record_revision", String::new, self.inner.record_revision(revision, at)).await
    }

    async fn revision(&self, pipeline: &PipelineName, id: RevisionId) -> Result<Option<RevisionRecord>> {
        self.chaos.call("ledger.revision", String::new, self.inner.revision(pipeline, id)).await
    }

    async fn deploy(
        &self,
        pipeline: &PipelineName,
        revision: RevisionId,
        state: DeploymentState,
        reason: &str,
        at: Timestamp,
    ) -> Result<()> {
        self.chaos
            .call(
                "ledger.deploy",
                || format!("{pipeline} {} {state:?} {reason}", revision.short()),
                self.inner.deploy(pipeline, revision, state, reason, at),
            )
            .await
    }

    async fn active(&self, pipeline: &PipelineName) -> Result<Option<Deployment>> {
        self.chaos.call("ledger.active", String::new, self.inner.active(pipeline)).await
    }

    async fn roll_back(
        &self,
        pipeline: &PipelineName,
        to: RevisionId,
        meant: Option<RevisionId>,
        reason: &str,
        at: Timestamp,
    ) -> Result<()> {
        self.chaos
            .call(
                "ledger.roll_back",
                || format!("{pipeline} {} {reason}", to.short()),
                self.inner.roll_back(pipeline, to, meant, reason, at),
            )
            .await
    }

    async fn shadow(
        &self,
        pipeline: &PipelineName,
        revision: RevisionId,
        plan: &serde_json::Value,
        reason: &str,
        at: Timestamp,
    ) -> Result<()> {
        let told = || format!("{pipeline} {} {reason}", revision.short());
        self.chaos.call("ledger.shadow", told, self.inner.shadow(pipeline, revision, plan, reason, at)).await
    }

    async fn report_shadow(
        &self,
        pipeline: &PipelineName,
        revision: RevisionId,
        report: &serde_json::Value,
    ) -> Result<bool> {
        let reported = self.inner.report_shadow(pipeline, revision, report);
        self.chaos.call("ledger.report_shadow", String::new, reported).await
    }

    async fn shadows(&self) -> Result<Vec<Shadow>> {
        self.chaos.call("ledger.shadows", String::new, self.inner.shadows()).await
    }

    async fn is_cancelled(&self, pipeline: &PipelineName, revision: RevisionId) -> Result<bool> {
        self.chaos.call("ledger.is_cancelled", String::new, self.inner.is_cancelled(pipeline, revision)).await
    }

    async fn pause(&self, pipeline: &PipelineName, reason: &str, at: Timestamp) -> Result<()> {
        self.chaos.call("ledger.pause", String::new, self.inner.pause(pipeline, reason, at)).await
    }

    async fn resume(&self, pipeline: &PipelineName) -> Result<bool> {
        self.chaos.call("ledger.resume", String::new, self.inner.resume(pipeline)).await
    }

    async fn paused(&self, pipeline: &PipelineName) -> Result<Option<Pause>> {
        self.chaos.call("ledger.paused", String::new, self.inner.paused(pipeline)).await
    }

    async fn ask(&self, what: &str, arguments: &serde_json::Value, at: Timestamp) -> Result<u64> {
        self.chaos.call("ledger.ask", String::new, self.inner.ask(what, arguments, at)).await
    }

    async fn asked(&self) -> Result<Vec<(u64, String, serde_json::Value)>> {
        self.chaos.call("ledger.asked", String::new, self.inner.asked()).await
    }

    async fn answer(&self, request: u64, answer: &serde_json::Value, at: Timestamp) -> Result<()> {
        self.chaos.call("ledger.answer", String::new, self.inner.answer(request, answer, at)).await
    }

    async fn answered(&self, request: u64) -> Result<Option<serde_json::Value>> {
        self.chaos.call("ledger.answered", String::new, self.inner.answered(request)).await
    }

    async fn read_table(&self, name: &str) -> Result<RecordBatch> {
        self.chaos.call("ledger.read_table", String::new, self.inner.read_table(name)).await
    }
}
