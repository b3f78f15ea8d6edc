//! Which schema and revision serve: inferring the first schema, binding a revision, growing the schema.
//!
//! One binding serves at a time, and one is made at a time. The former serves until the next one is bound; a segment that a
//! grown schema would fit better waits until that is bound or refused.

use std::sync::Arc;

use arrow_schema::Schema;
use forebay_model::ports::WorkItem;
use forebay_model::schema::Evolution;
use forebay_model::{Error, ErrorClass, Result, StreamSchema};

use super::group::BoundSummary;
use super::lanes::SAMPLE;
use super::protocol::{Binding, BindingId, Effect, Growth, Now, Report, Wake};
use super::state::{Queued, Refine};

impl Refine {
    /// Asks for a binding of the active revision to the schema, once both are known and former loads are done: they may change
    /// the tables that it fits rows to.
    pub(super) fn bind(&mut self, out: &mut Vec<Effect>) {
        let recovering =
            !self.recovered || !self.recovering.is_empty() || self.committing.as_ref().is_some_and(|c| c.recovery);
        let (Some((revision, _)), Some(schema), false) = (self.revision, self.schema.clone(), recovering) else {
            return;
        };
        self.bind_due = false;
        let id = self.next_binding;
        self.next_binding += 1;
        self.making = Some(id);
        out.push(Effect::Bind { id, revision, schema });
    }

    /// Without a schema nothing is bound, and without work none is inferred: so what failed before there was one is tried as soon
    /// as there is a revision.
    pub(super) fn retry_before_schema(&mut self, out: &mut Vec<Effect>) {
        if self.recovered && self.revision.is_some() && self.schema.is_none() {
            self.retry_failed(out);
        }
    }

    pub(super) fn retry_failed(&mut self, out: &mut Vec<Effect>) {
        out.push(Effect::RetryFailed { revision: self.revision.map(|(revision, _)| revision) });
        self.retrying += 1;
    }

    pub(super) fn on_inferred(&mut self, result: Result<Option<StreamSchema>>, out: &mut Vec<Effect>) {
        self.inferring = false;
        match result {
            Ok(schema) => {
                self.attempts.remove(&Wake::Infer);
                // Nothing with a field in it: what comes grows the empty schema, or is rejected.
                let empty = || StreamSchema { version: 0, schema: Arc::new(Schema::empty()) };
                self.schema = Some(schema.unwrap_or_else(empty));
                self.bind(out);
            }
            Err(error) => {
                self.inferring = true;
                self.try_again(Wake::Infer, "inferring the schema", error, out);
            }
        }
    }

    pub(super) fn on_bound(&mut self, id: BindingId, result: Result<Binding>, out: &mut Vec<Effect>) {
        if self.making != Some(id) {
            // A newer revision came in between.
            out.push(Effect::DropBinding(id));
            return;
        }
        self.making = None;
        self.requeue_growing(false);
        match result {
            Ok(Binding::Done(summary)) => {
                self.serve(id, summary, out);
            }
            Ok(Binding::Refused(error)) => {
                out.push(Effect::DropBinding(id));
                self.not_bound(error, out);
            }
            Err(error) => {
                out.push(Effect::DropBinding(id));
                match error.class() {
                    // A store that cannot be asked now says nothing about the revision.
                    ErrorClass::Retry | ErrorClass::Operator | ErrorClass::Fenced => {
                        self.try_again(Wake::Bind, "binding the revision", error, out);
                    }
                    ErrorClass::RejectRows | ErrorClass::Bug => self.not_bound(error, out),
                }
            }
        }
    }

    fn serve(&mut self, id: BindingId, summary: BoundSummary, out: &mut Vec<Effect>) {
        self.attempts.remove(&Wake::Bind);
        self.broken = None;
        if std::mem::take(&mut self.awaited) {
            self.retry_failed(out);
        }
        out.push(Effect::Report(Report::Serving {
            revision: summary.revision,
            number: summary.number,
            schema_version: summary.schema_version,
        }));
        self.bindings.insert(id, summary);
        self.serving = Some(id);
        // Schema or tables are others now: what replays asked for is bound anew.
        self.beside.clear();
        self.seal();
        self.stay_behind();
    }

    fn not_bound(&mut self, error: Error, out: &mut Vec<Effect>) {
        self.attempts.remove(&Wake::Bind);
        if let Some((revision, number)) = self.revision {
            out.push(Effect::Report(Report::NotBound {
                revision,
                number,
                error: error.chain(),
                hint: error.hint().map(ToOwned::to_owned),
            }));
        }
        if self.serving.is_none() {
            self.broken = Some(error);
        }
    }

    pub(super) fn on_grown(&mut self, now: Now<'_>, id: BindingId, result: Result<Growth>, out: &mut Vec<Effect>) {
        let current = self.making == Some(id);
        if current {
            self.making = None;
        }
        self.settle_growth(now, (id, current), result, out);
        // A binding that was to be tried again, and whose time came meanwhile, would wait for ever.
        if self.making.is_none() && self.bind_due && self.attempts.contains_key(&Wake::Bind) {
            self.bind(out);
        }
    }

    fn settle_growth(
        &mut self,
        now: Now<'_>,
        (id, current): (BindingId, bool),
        result: Result<Growth>,
        out: &mut Vec<Effect>,
    ) {
        let accept_schema = match result {
            Ok(Growth::Done(schema, summary)) => {
                self.attempts.remove(&Wake::Grow);
                self.schema = Some(schema);
                if current {
                    self.serve(id, summary, out);
                } else {
                    // The revision changed meanwhile: bind it to what has grown.
                    out.push(Effect::DropBinding(id));
                    self.bind(out);
                }
                false
            }
            Ok(Growth::Behind) => {
                out.push(Effect::DropBinding(id));
                false
            }
            Ok(Growth::Refused(error)) => {
                out.push(Effect::DropBinding(id));
                if let Some((revision, number)) = self.revision {
                    let hint = error.hint().map(ToOwned::to_owned);
                    out.push(Effect::Report(Report::NotGrown { revision, number, error: error.chain(), hint }));
                }
                // What serves may be older than the schema: of a revision whose successor was refused when the first one came.
                let serves = self.serving.and_then(|id| self.bindings.get(&id)).map_or(0, |bound| bound.schema_version);
                if serves == 0 {
                    // Nothing with a field serves that rows could load under.
                    let binding = self.serving.unwrap_or(id);
                    for item in std::mem::take(&mut self.growing) {
                        self.fail(now, binding, &item, &error, out);
                    }
                    return;
                }
                true
            }
            // Nothing is known of the schema: decoding under the one before would rescue what is no conflict.
            Err(error) => {
                out.push(Effect::DropBinding(id));
                if current {
                    self.try_again(Wake::Grow, "growing the schema", error, out);
                }
                return;
            }
        };
        self.requeue_growing(accept_schema);
    }

    /// Segments that waited for a schema are tried again, before all others.
    pub(super) fn requeue_growing(&mut self, accept_schema: bool) {
        for item in std::mem::take(&mut self.growing).into_iter().rev() {
            self.requeue(Queued { item, accept_schema });
        }
    }

    pub(super) fn grow(&mut self, binding: BindingId, item: WorkItem, evolution: Evolution, out: &mut Vec<Effect>) {
        let grown_already = self.serving != Some(binding);
        let (Some((revision, _)), Some(from), false) = (self.revision, self.schema.clone(), grown_already) else {
            self.requeue(Queued { item, accept_schema: false });
            return;
        };
        self.growing.push(item);
        if self.making.is_none() {
            let id = self.next_binding;
            self.next_binding += 1;
            self.making = Some(id);
            out.push(Effect::Grow { id, revision, from, evolution });
        }
    }

    pub(super) fn infer(&mut self, out: &mut Vec<Effect>) {
        if self.schema.is_some() || self.inferring || self.revision.is_none() || self.stopping {
            return;
        }
        // History first: a pipeline that comes later infers what those had that were there. Those that failed told nothing, but may be all there
        // is, as may those that are refined again: a rebuilt ledger may know loaded segments and no schema. They lie the newest first.
        let (history, others): (Vec<_>, Vec<_>) = self.again.iter().partition(|queued| queued.item.history);
        let all = history.into_iter().chain(&self.queue).chain(others.into_iter().rev());
        let sample: Vec<_> = all.take(SAMPLE).map(|queued| queued.item.clone()).collect();
        if !sample.is_empty() {
            self.inferring = true;
            out.push(Effect::Infer(sample));
        }
    }
}
