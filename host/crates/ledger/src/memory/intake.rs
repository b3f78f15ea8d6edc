use forebay_model::flow::OnChange;
use forebay_model::ids::{SegmentId, StreamName};
use forebay_model::ports::{JournalEntry, LandOutcome, Landing, NewObject, ObjectState};
use forebay_model::position::OrderedPosition;
use forebay_model::segment::{LandedSegment, Partition};
use uuid::Uuid;

use super::state::{Object, State};
use crate::check::{known_part, landed, may_advance};
use crate::error::{LedgerError, Result};

impl State {
    pub(super) fn land(&mut self, landing: &Landing) -> Result<LandOutcome> {
        let repeated = self.landings.iter().any(|(known, _)| known.attempt == landing.attempt);
        let mut outcome = LandOutcome { listed: Vec::new(), known: Vec::new() };
        let mut fresh = Vec::new();
        for object in &landing.objects {
            match self.object(&object.name) {
                Some(known) if known.digest == object.digest && repeated => {
                    outcome.listed.extend(self.segments_of(&object.name));
                }
                Some(_) => return Err(LedgerError::invariant(format!("object {} was landed before", object.name))),
                None => match self.listed_part(landing, object)? {
                    Some(name) => outcome.known.extend(self.segments_of(&name).into_iter().map(|segment| segment.id)),
                    None => fresh.push(object),
                },
            }
        }
        if repeated {
            return match fresh.first() {
                None => Ok(outcome),
                Some(object) => Err(LedgerError::invariant(format!(
                    "attempt {} landed before, without object {}",
                    landing.attempt, object.name
                ))),
            };
        }
        let advanced = self.advance(landing)?;
        let wrote = advanced || !fresh.is_empty();
        for object in fresh {
            self.list(landing, object, &mut outcome)?;
        }
        self.landings.push((landing.clone(), wrote));
        Ok(outcome)
    }

    fn listed_part(&self, landing: &Landing, object: &NewObject) -> Result<Option<String>> {
        let Some(source) = &object.source else { return Ok(None) };
        let mut name = None;
        for listed in self.objects.iter().filter(|listed| listed.stream == landing.stream) {
            if let Some(state) = &listed.source
                && (&state.partition, &state.key, &state.version) == (&source.partition, &source.key, &source.version)
                && known_part(&landing.stream, source, &state.range)?
            {
                name.get_or_insert_with(|| listed.name.clone());
            }
        }
        Ok(name)
    }

    fn advance(&mut self, landing: &Landing) -> Result<bool> {
        let mut advanced = false;
        for advance in &landing.advances {
            let has_spans = landing
                .objects
                .iter()
                .flat_map(|object| &object.segments)
                .any(|segment| segment.partition == advance.partition);
            let stands = self.next_position(&landing.stream, &advance.partition);
            if may_advance(&landing.stream, advance, stands, has_spans)? {
                let place = (landing.stream.clone(), advance.partition.clone());
                self.partitions.insert(place, (advance.to, landing.landed_at));
                advanced = true;
            }
        }
        Ok(advanced)
    }

    pub(super) fn list(&mut self, landing: &Landing, object: &NewObject, outcome: &mut LandOutcome) -> Result<()> {
        let mut replaces = Vec::new();
        if let (Some(source), OnChange::Replace) = (&object.source, object.on_change) {
            let mut names = Vec::new();
            for former in &mut self.objects {
                let same = former.stream == landing.stream
                    && former
                        .source
                        .as_ref()
                        .is_some_and(|known| known.partition == source.partition && known.key == source.key);
                if same && former.replaced_by.is_none() {
                    former.replaced_by = Some(object.name.clone());
                    names.push(former.name.clone());
                }
            }
            replaces = names.iter().flat_map(|name| self.segments_of(name)).map(|segment| segment.id).collect();
        }
        self.objects.push(Object {
            name: object.name.clone(),
            stream: landing.stream.clone(),
            bytes: object.bytes,
            digest: object.digest,
            source: object.source.clone(),
            on_change: object.on_change,
            attempt: landing.attempt,
            landed_at: landing.landed_at,
            replaced_by: None,
        });
        for segment in &object.segments {
            let segment = landed(landing, object, segment, replaces.clone());
            if self.segment(&segment.id).is_some() {
                return Err(LedgerError::invariant(format!("segment {} is listed already", segment.id)));
            }
            outcome.listed.push(segment.clone());
            self.segments.push(segment);
        }
        Ok(())
    }

    pub(super) fn object(&self, name: &str) -> Option<&Object> {
        self.objects.iter().find(|object| object.name == name)
    }

    pub(super) fn segment(&self, id: &SegmentId) -> Option<LandedSegment> {
        self.segments.iter().find(|segment| segment.id == *id).cloned()
    }

    fn segments_of(&self, object: &str) -> Vec<LandedSegment> {
        self.segments.iter().filter(|segment| segment.object == object).cloned().collect()
    }

    pub(super) fn next_position(&self, stream: &StreamName, partition: &Partition) -> Option<OrderedPosition> {
        self.partitions.get(&(stream.clone(), partition.clone())).map(|(position, _)| *position)
    }

    pub(super) fn latest_object(&self, stream: &StreamName, partition: &Partition, key: &str) -> Option<ObjectState> {
        self.objects
            .iter()
            .rev()
            .filter(|object| object.stream == *stream)
            .filter_map(|object| object.source.as_ref())
            .find(|source| source.partition == *partition && source.key == key)
            .cloned()
    }

    pub(super) fn unjournalled(&self, ledger: Uuid, stream: &StreamName) -> Vec<JournalEntry> {
        self.landings
            .iter()
            .filter(|(landing, open)| *open && landing.stream == *stream)
            .map(|(landing, _)| JournalEntry {
                version: 1,
                ledger,
                attempt: landing.attempt,
                landing: landing.clone(),
                segments: self
                    .objects
                    .iter()
                    .filter(|object| object.attempt == landing.attempt)
                    .flat_map(|object| self.segments_of(&object.name))
                    .collect(),
            })
            .collect()
    }

    pub(super) fn mark_journalled(&mut self, attempt: Uuid) {
        for (landing, open) in &mut self.landings {
            if landing.attempt == attempt {
                *open = false;
            }
        }
    }
}
