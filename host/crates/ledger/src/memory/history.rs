//! What had landed before a pipeline began.

use std::collections::BTreeSet;

use forebay_model::Timestamp;
use forebay_model::ids::{PipelineName, SegmentId, StreamName};
use forebay_model::ports::WorkItem;

use super::state::State;

impl State {
    pub(super) fn begin(&mut self, pipeline: &PipelineName, stream: &StreamName, at: Timestamp) {
        let place = (pipeline.clone(), stream.clone());
        if self.histories.contains_key(&place) {
            return;
        }
        let of_stream = |id: &SegmentId| self.segment(id).is_some_and(|segment| segment.stream == *stream);
        let began = self.refinements.keys().any(|(of, id)| of == pipeline && of_stream(id));
        let before = self.segments.iter().rposition(|segment| segment.stream == *stream && segment.landed_at < at);
        let end = if began { 0 } else { before.map_or(0, |place| place + 1) };
        self.histories.insert(place, (end, at));
    }

    /// How many segments, of all that the ledger has, are older.
    pub(super) fn history_of(&self, pipeline: &PipelineName, stream: &StreamName) -> usize {
        self.histories.get(&(pipeline.clone(), stream.clone())).map_or(0, |(end, _)| *end)
    }

    pub(super) fn history(
        &self,
        pipeline: &PipelineName,
        stream: &StreamName,
        now: Timestamp,
        skip: &BTreeSet<SegmentId>,
        limit: usize,
    ) -> Vec<WorkItem> {
        if pipeline.as_side().is_some() {
            return self.side_work(pipeline, stream, now, skip, limit);
        }
        let end = self.history_of(pipeline, stream);
        let items = self.work_in(pipeline, stream, now, skip, (0..end, limit));
        items.into_iter().map(|item| WorkItem { history: true, ..item }).collect()
    }
}
