//! Intake as a state machine: poll ▶ land ▶ list ▶ journal ▶ acknowledge, one batch at a time.
//!
//! What holds at every step: nothing is acknowledged before its bytes are durable in the landing zone, the ledger lists them,
//! and the journal says so. What if the process dies here?
//!
//! | after | then |
//! |---|---|
//! | land | the objects are orphans; the source delivers again |
//! | list | the journal entry is written by the next process, before it polls |
//! | journal | the source delivers again, the ledger knows it, nothing is listed twice |
//! | acknowledge | nothing is left to do |

use std::time::Duration;

use forebay_model::ports::{JournalEntry, LandOutcome, Landing, Polled};
use forebay_model::{Error, ErrorClass, LandedSegment, RawBatch, Result, SegmentId};
use uuid::Uuid;

use crate::policy::{Action, ONCE_ATTEMPTS, Scope, decide};

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// Begin.
    Start,
    /// Answer to [`Effect::FindUnjournalled`].
    Unjournalled(Result<Vec<JournalEntry>>),
    /// Answer to [`Effect::Poll`].
    Polled(Result<Polled>),
    /// Answer to [`Effect::Land`]: what is durable now, and what failed of the batch.
    Landed(LandedBatch),
    /// Answer to [`Effect::List`].
    Listed(Result<LandOutcome>),
    /// Answer to [`Effect::Journal`].
    Journalled(Result<()>),
    /// Answer to [`Effect::Acknowledge`].
    Acknowledged(Result<()>),
    /// A pause is over.
    Woke,
    /// Finish the batch in work, and stop.
    Shutdown,
}

/// What became of a batch in the landing zone.
#[derive(Debug)]
pub struct LandedBatch {
    /// What is durable: to be listed. `None` where nothing is.
    pub landing: Option<Landing>,
    /// Objects that could not be landed; the source has to deliver them again.
    pub failures: Vec<Error>,
}

/// What is to be done.
#[derive(Debug)]
pub enum Effect {
    /// Ask the ledger for landings without a journal entry.
    FindUnjournalled,
    /// Ask the source.
    Poll,
    /// Make a batch durable.
    Land(RawBatch),
    /// Have the ledger list it.
    List(Landing),
    /// Write to the zone what was listed, and have the ledger note that.
    Journal(Box<JournalEntry>),
    /// Tell the source.
    Acknowledge(Vec<SegmentId>),
    /// Remove objects that the ledger does not list: another attempt was faster.
    Discard(Vec<String>),
    /// Build the source anew, from the ledger's positions: it delivers again what did not land.
    Reopen,
    /// Bring [`Event::Woke`] after a pause.
    WakeAfter(Duration),
    /// Tell people, counters, and the pipelines of the stream.
    Report(Report),
    /// The end: the stream lands nothing more.
    Finish(Result<()>),
}

/// What people, counters and pipelines are told.
#[derive(Debug)]
pub enum Report {
    /// These are listed.
    Listed(Vec<LandedSegment>),
    /// The source has nothing now.
    CaughtUp,
    /// Something failed, and goes on or is tried again.
    Failed {
        /// What.
        what: &'static str,
        /// The error with its causes.
        error: String,
        /// What to do.
        hint: Option<String>,
    },
}

/// Where a batch is.
#[derive(Debug)]
enum Phase {
    Starting,
    Journalling { left: Vec<JournalEntry> },
    Polling,
    Landing,
    Listing { landing: Landing },
    JournallingNew { entry: Box<JournalEntry>, known: Vec<SegmentId> },
    Acknowledging { segments: Vec<SegmentId> },
    Pausing { then: Box<Phase> },
    Finished,
}

/// The state of one stream.
#[derive(Debug)]
pub struct Intake {
    ledger: Uuid,
    once: bool,
    phase: Phase,
    attempts: u32,
    stopping: bool,
    /// Errors of objects that stay undelivered: with `once`, the run ends with the first.
    failed: Option<Error>,
    /// What the last poll failed with. A source tells what is wrong with an object once: the same twice is its own.
    last_error: Option<String>,
    /// What failed is delivered again only by a source that is built anew.
    reopen: bool,
}

impl Intake {
    /// A stream that has not started. With `once` it finishes when the source has nothing more.
    #[must_use]
    pub fn new(ledger: Uuid, once: bool) -> Self {
        Self {
            ledger,
            once,
            phase: Phase::Starting,
            attempts: 0,
            stopping: false,
            failed: None,
            last_error: None,
            reopen: false,
        }
    }

    /// One step. After [`Effect::Finish`] it does nothing.
    pub fn step(&mut self, event: Event) -> Vec<Effect> {
        let mut out = Vec::new();
        match event {
            Event::Start => out.push(Effect::FindUnjournalled),
            Event::Shutdown => self.on_shutdown(&mut out),
            Event::Unjournalled(Ok(left)) => self.journal_next(left, &mut out),
            Event::Unjournalled(Err(error)) => self.again("reading the ledger", error, Phase::Starting, &mut out),
            Event::Polled(result) => self.on_polled(result, &mut out),
            Event::Landed(batch) => self.on_landed(batch, &mut out),
            Event::Listed(result) => self.on_listed(result, &mut out),
            Event::Journalled(result) => self.on_journalled(result, &mut out),
            Event::Acknowledged(result) => self.on_acknowledged(result, &mut out),
            Event::Woke => self.on_woke(&mut out),
        }
        out
    }

    fn on_shutdown(&mut self, out: &mut Vec<Effect>) {
        self.stopping = true;
        // A poll may be dropped at any time; what has begun to land is finished.
        if matches!(self.phase, Phase::Polling | Phase::Pausing { .. } | Phase::Starting) {
            self.finish(Ok(()), out);
        }
    }

    fn poll(&mut self, out: &mut Vec<Effect>) {
        self.attempts = 0;
        if self.stopping {
            return self.finish(Ok(()), out);
        }
        if std::mem::take(&mut self.reopen) {
            out.push(Effect::Reopen);
        }
        self.phase = Phase::Polling;
        out.push(Effect::Poll);
    }

    fn journal_next(&mut self, mut left: Vec<JournalEntry>, out: &mut Vec<Effect>) {
        match left.first() {
            None => self.poll(out),
            Some(entry) => {
                out.push(Effect::Journal(Box::new(entry.clone())));
                // Taken off when it is written.
                self.phase = Phase::Journalling { left: std::mem::take(&mut left) };
            }
        }
    }

    fn on_polled(&mut self, result: Result<Polled>, out: &mut Vec<Effect>) {
        if !matches!(self.phase, Phase::Polling) {
            return;
        }
        if result.is_ok() {
            self.last_error = None;
        }
        match result {
            Ok(Polled::Batch(batch)) => {
                self.phase = Phase::Landing;
                out.push(Effect::Land(batch));
            }
            Ok(Polled::Idle) if self.once => {
                out.push(Effect::Report(Report::CaughtUp));
                let failed = self.failed.take();
                self.finish(failed.map_or(Ok(()), Err), out);
            }
            Ok(Polled::Idle) => {
                out.push(Effect::Report(Report::CaughtUp));
                self.poll(out);
            }
            Err(error) if self.once => self.on_poll_failed(error, out),
            Err(error) => self.again("polling the source", error, Phase::Polling, out),
        }
    }

    /// With `once`: an object that cannot be read does not keep the others from landing; a source that fails itself ends the
    /// run, at once where only a person can help.
    fn on_poll_failed(&mut self, error: Error, out: &mut Vec<Effect>) {
        let text = error.chain();
        if self.last_error.as_ref() == Some(&text) {
            return match error.class() {
                ErrorClass::Retry => self.again("polling the source", error, Phase::Polling, out),
                ErrorClass::Operator | ErrorClass::RejectRows | ErrorClass::Fenced | ErrorClass::Bug => {
                    self.finish(Err(error), out);
                }
            };
        }
        self.last_error = Some(text);
        self.attempts = 1;
        if matches!(decide(Scope::Landing, error.class(), 1), Action::Stop) {
            return self.finish(Err(error), out);
        }
        self.note("polling the source", &error, out);
        self.failed.get_or_insert(error);
        out.push(Effect::Poll);
    }

    fn on_landed(&mut self, batch: LandedBatch, out: &mut Vec<Effect>) {
        let LandedBatch { landing, failures } = batch;
        for error in failures {
            self.note("landing an object", &error, out);
            self.reopen = true;
            if self.once {
                self.attempts += 1;
                self.failed.get_or_insert(error);
            } else {
                self.attempts += 1;
                self.failed = Some(error);
            }
        }
        match landing {
            Some(landing) => {
                out.push(Effect::List(landing.clone()));
                self.phase = Phase::Listing { landing };
            }
            None => self.after_failures(out),
        }
    }

    /// Nothing of the batch landed: a pause, then a source that delivers it again. With `once` the objects stay behind.
    fn after_failures(&mut self, out: &mut Vec<Effect>) {
        let Some(error) = self.failed.take() else { return self.poll(out) };
        if self.once {
            let retry = matches!(decide(Scope::Landing, error.class(), self.attempts), Action::Again(_));
            if !retry || self.attempts >= ONCE_ATTEMPTS {
                return self.finish(Err(error), out);
            }
        }
        self.reopen = true;
        self.again("landing", error, Phase::Polling, out);
    }

    fn on_listed(&mut self, result: Result<LandOutcome>, out: &mut Vec<Effect>) {
        let Phase::Listing { landing } = std::mem::replace(&mut self.phase, Phase::Finished) else { return };
        match result {
            Ok(LandOutcome { listed, known }) => {
                let orphans: Vec<String> = landing
                    .objects
                    .iter()
                    .filter(|object| !listed.iter().any(|segment| segment.object == object.name))
                    .map(|object| object.name.clone())
                    .collect();
                if !orphans.is_empty() {
                    out.push(Effect::Discard(orphans));
                }
                out.push(Effect::Report(Report::Listed(listed.clone())));
                let attempt = landing.attempt;
                let entry =
                    Box::new(JournalEntry { version: 1, ledger: self.ledger, attempt, landing, segments: listed });
                out.push(Effect::Journal(entry.clone()));
                self.phase = Phase::JournallingNew { entry, known };
            }
            Err(error) => self.again("listing a landing", error, Phase::Listing { landing }, out),
        }
    }

    fn on_journalled(&mut self, result: Result<()>, out: &mut Vec<Effect>) {
        let phase = std::mem::replace(&mut self.phase, Phase::Finished);
        match (phase, result) {
            (Phase::Journalling { mut left }, Ok(())) => {
                left.remove(0);
                self.journal_next(left, out);
            }
            (Phase::JournallingNew { entry, known }, Ok(())) => {
                let segments: Vec<_> = entry.segments.iter().map(|segment| segment.id.clone()).chain(known).collect();
                out.push(Effect::Acknowledge(segments.clone()));
                self.phase = Phase::Acknowledging { segments };
            }
            (phase @ (Phase::Journalling { .. } | Phase::JournallingNew { .. }), Err(error)) => {
                self.again("journalling a landing", error, phase, out);
            }
            (
                phase @ (Phase::Starting
                | Phase::Polling
                | Phase::Landing
                | Phase::Listing { .. }
                | Phase::Acknowledging { .. }
                | Phase::Pausing { .. }
                | Phase::Finished),
                _,
            ) => self.phase = phase,
        }
    }

    fn on_acknowledged(&mut self, result: Result<()>, out: &mut Vec<Effect>) {
        let Phase::Acknowledging { segments } = std::mem::replace(&mut self.phase, Phase::Finished) else { return };
        match result {
            Ok(()) if self.reopen && !self.once => self.after_failures(out),
            Ok(()) => self.poll(out),
            Err(error) => self.again("acknowledging to the source", error, Phase::Acknowledging { segments }, out),
        }
    }

    fn on_woke(&mut self, out: &mut Vec<Effect>) {
        let Phase::Pausing { then } = std::mem::replace(&mut self.phase, Phase::Finished) else { return };
        match *then {
            Phase::Starting => {
                out.push(Effect::FindUnjournalled);
                self.phase = Phase::Starting;
            }
            Phase::Polling => {
                if std::mem::take(&mut self.reopen) {
                    out.push(Effect::Reopen);
                }
                out.push(Effect::Poll);
                self.phase = Phase::Polling;
            }
            Phase::Journalling { left } => self.journal_next(left, out),
            Phase::Listing { landing } => {
                out.push(Effect::List(landing.clone()));
                self.phase = Phase::Listing { landing };
            }
            Phase::JournallingNew { entry, known } => {
                out.push(Effect::Journal(entry.clone()));
                self.phase = Phase::JournallingNew { entry, known };
            }
            Phase::Acknowledging { segments } => {
                out.push(Effect::Acknowledge(segments.clone()));
                self.phase = Phase::Acknowledging { segments };
            }
            phase @ (Phase::Landing | Phase::Pausing { .. } | Phase::Finished) => self.phase = phase,
        }
    }

    fn note(&self, what: &'static str, error: &Error, out: &mut Vec<Effect>) {
        out.push(Effect::Report(Report::Failed {
            what,
            error: error.chain(),
            hint: error.hint().map(ToOwned::to_owned),
        }));
    }

    /// The same once more after a pause, or the end: what the policy says.
    fn again(&mut self, what: &'static str, error: Error, then: Phase, out: &mut Vec<Effect>) {
        self.attempts += 1;
        let give_up = self.once && self.attempts >= ONCE_ATTEMPTS;
        match decide(Scope::Landing, error.class(), self.attempts) {
            Action::Again(pause) if !give_up && !self.stopping => {
                self.note(what, &error, out);
                let pause = if self.once { pause.min(Duration::from_secs(2)) } else { pause };
                out.push(Effect::WakeAfter(pause));
                self.phase = Phase::Pausing { then: Box::new(then) };
            }
            Action::Again(_) | Action::Withdraw(_) | Action::WaitForChange | Action::Stop => {
                self.finish(Err(error), out);
            }
        }
    }

    fn finish(&mut self, result: Result<()>, out: &mut Vec<Effect>) {
        self.phase = Phase::Finished;
        out.push(Effect::Finish(result));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps a stream of `run --once` whose polls fail with these errors, the last one for ever, until it ends; what was told, and
    /// how often the source was asked.
    fn polls(errors: &[Error]) -> (Vec<String>, usize) {
        let mut intake = Intake::new(Uuid::nil(), true);
        let (mut told, mut asked) = (Vec::new(), 0);
        let mut effects = intake.step(Event::Unjournalled(Ok(Vec::new())));
        while let Some(effect) = (!effects.is_empty()).then(|| effects.remove(0)) {
            let event = match effect {
                Effect::Poll => {
                    let error = errors.get(asked).or(errors.last()).map(copy);
                    asked += 1;
                    Event::Polled(error.map_or(Ok(Polled::Idle), Err))
                }
                Effect::WakeAfter(_) => Event::Woke,
                Effect::Report(Report::Failed { error, .. }) => {
                    told.push(error);
                    continue;
                }
                Effect::Finish(result) => {
                    told.push(format!("the end: {}", result.err().map(|error| error.chain()).unwrap_or_default()));
                    break;
                }
                other @ (Effect::FindUnjournalled
                | Effect::Land(_)
                | Effect::List(_)
                | Effect::Journal(_)
                | Effect::Acknowledge(_)
                | Effect::Discard(_)
                | Effect::Reopen
                | Effect::Report(_)) => {
                    told.push(format!("{other:?}"));
                    continue;
                }
            };
            effects.extend(intake.step(event));
            assert!(asked < 100, "it goes on for ever: {told:?}");
        }
        (told, asked)
    }

    fn copy(error: &Error) -> Error {
        Error::new(error.class(), error.to_string())
    }

    #[test]
    fn once_a_source_that_is_not_there_is_told_once_and_ends_the_run() {
        let (told, asked) = polls(&[Error::operator("no folder")]);
        assert_eq!((told, asked), (vec!["no folder".to_owned(), "the end: no folder".to_owned()], 2));
    }

    #[test]
    fn once_a_source_that_may_come_back_is_asked_as_often_as_the_policy_says() {
        let (told, asked) = polls(&[Error::new(ErrorClass::Retry, "busy")]);
        assert_eq!(asked, usize::try_from(ONCE_ATTEMPTS).unwrap_or_default());
        assert_eq!(told, ["busy", "busy", "busy", "the end: busy"]);
    }

    #[test]
    fn once_objects_that_cannot_be_read_are_told_one_by_one() {
        let errors = [Error::operator("a"), Error::operator("b"), Error::operator("c"), Error::operator("c")];
        assert_eq!(polls(&errors), (vec!["a".into(), "b".into(), "c".into(), "the end: c".into()], 4));
    }
}
