//! Revisions that replays asked for, bound beside the one that serves.
//!
//! They take segments that were asked for under them, and nothing else: no schema grows for them (what a segment has that the pipeline's
//! schema lacks is rescued), and nothing heals because they have rows. Where one cannot be loaded or bound any more, what was asked for
//! under it fails with the reason, and keeps its rows.

use std::collections::VecDeque;

use forebay_model::{Error, Result, RevisionId};

use super::protocol::{Binding, BindingId, Effect, Now};
use super::state::{Queued, Refine};

/// Where such a revision is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beside {
    /// It is being loaded and bound.
    Making(BindingId),
    /// It takes segments.
    Bound(BindingId),
}

impl Refine {
    fn serves(&self, revision: RevisionId) -> bool {
        self.serving.and_then(|id| self.bindings.get(&id)).is_some_and(|bound| bound.revision == revision)
    }

    /// What a segment is refined under; `None` while that is not bound yet.
    pub(super) fn binding_of(&self, queued: &Queued) -> Option<BindingId> {
        match queued.item.terms.revision {
            Some(revision) if !self.serves(revision) => match self.beside.get(&revision) {
                Some(Beside::Bound(id)) => Some(*id),
                Some(Beside::Making(_)) | None => None,
            },
            Some(_) | None => self.serving,
        }
    }

    /// Asks for the revision that the next of the replays wants, where it does not serve anyway.
    pub(super) fn bind_beside(&mut self, out: &mut Vec<Effect>) {
        let wanted = self.again.front().and_then(|next| next.item.terms.revision);
        let (Some(revision), Some(schema), Some(_)) = (wanted, self.schema.clone(), self.serving) else { return };
        if self.stopping || !self.growing.is_empty() || self.serves(revision) || self.beside.contains_key(&revision) {
            return;
        }
        let id = self.next_binding;
        self.next_binding += 1;
        self.beside.insert(revision, Beside::Making(id));
        out.push(Effect::BindBeside { id, revision, schema });
    }

    /// Whether the answer is of such a revision; then it is dealt with.
    pub(super) fn on_bound_beside(
        &mut self,
        now: Now<'_>,
        id: BindingId,
        result: Result<Binding>,
        out: &mut Vec<Effect>,
    ) -> Option<Result<Binding>> {
        let making = self.beside.iter().find(|(_, beside)| **beside == Beside::Making(id));
        let Some(revision) = making.map(|(revision, _)| *revision) else { return Some(result) };
        match result {
            Ok(Binding::Done(summary)) => {
                self.bindings.insert(id, summary);
                self.beside.insert(revision, Beside::Bound(id));
            }
            Ok(Binding::Refused(error)) | Err(error) => {
                out.push(Effect::DropBinding(id));
                self.beside.remove(&revision);
                self.fail_asked(now, revision, &error, out);
            }
        }
        None
    }

    /// What waits to be refined under a revision fails.
    fn fail_asked(&mut self, now: Now<'_>, revision: RevisionId, error: &Error, out: &mut Vec<Effect>) {
        let all = std::mem::take(&mut self.again);
        let (failed, rest): (VecDeque<_>, _) =
            all.into_iter().partition(|queued| queued.item.terms.revision == Some(revision));
        self.again = rest;
        for Queued { item, accept_schema: _ } in failed {
            self.fail_under(now, revision, &item, error, out);
        }
    }
}
