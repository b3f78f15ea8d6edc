//! From files that are complete to a batch, and from a batch to what is known to have landed.
//!
//! Nothing leaves the line, or what was asked for, before the await behind it has returned: a poll that is dropped half way
//! loses nothing.

use std::sync::Arc;
use std::time::Duration;

use forebay_model::flow::{OnChange, RawBatch, RawObject};
use forebay_model::ports::ObjectState;
use forebay_model::{Error, Result, Timestamp};

use super::body::{self, Reading};
use super::flight::Delivered;
use super::identity;
use super::scan::Found;
use super::tail::Follow;
use super::take::{self, Content, How, Outcome, Request, Tail, Taken};
use super::{FilesSource, IDLE_AFTER, Landed, SCAN_PAUSE, SOON, blocking, key, landed_key, trouble};

/// How many keys are asked for at once.
const ASK: usize = 500;

impl FilesSource {
    /// The next batch of files that are complete.
    pub(super) async fn deliver(&mut self) -> Result<Option<RawBatch>> {
        loop {
            let now = self.clock.now();
            self.queue.promote(now);
            self.ask(now).await?;
            let requests = self.plan(now);
            if requests.is_empty() {
                return Ok(None);
            }
            let (folder, opened) = (self.folder.clone(), requests.clone());
            let outcomes = blocking(&self.folder, move || take::open_all(&folder, &opened)).await?;
            let objects = self.commit(requests, outcomes, now);
            if !objects.is_empty() {
                return Ok(Some(RawBatch::Objects(objects)));
            }
        }
    }

    /// Asks the ledger for those in line, until there are enough for a batch that it does not have.
    async fn ask(&mut self, now: Timestamp) -> Result<()> {
        while self.asked.len() < self.config.max_batch_objects && !self.queue.nobody_in_line() {
            let keys = self.queue.first(ASK);
            let states = self.states(&keys).await?;
            self.queue.leave_line(keys.len());
            for (key, state) in keys.into_iter().zip(states) {
                self.sort(key, state, now);
            }
        }
        Ok(())
    }

    fn sort(&mut self, key: Arc<str>, state: Option<ObjectState>, now: Timestamp) {
        let Some(pending) = self.queue.get(&key) else { return };
        let (due, stamp) = (pending.due, pending.found.stamp);
        if due > now {
            // It changed while it was in line.
            self.queue.wait(&key, due);
        } else if self.flight.holds(&key) {
            self.queue.wait(&key, now.plus(SOON));
        } else if self.config.tails() {
            if let Some(state) = &state {
                self.tails.learn(&key, state);
            }
            self.asked.push_back((key, state));
        } else {
            let same = state
                .as_ref()
                .is_some_and(|state| state.range == (0..stamp.size) && identity::is_version_of(&state.version, stamp));
            if same {
                self.landed.insert(landed_key(&key), Landed { stamp, scan: self.scans });
                self.queue.done(&key);
            } else {
                self.asked.push_back((key, state));
            }
        }
    }

    /// What to open for the next batch: the first of those that were asked for, as many as fit.
    fn plan(&mut self, now: Timestamp) -> Vec<Request> {
        let mut requests: Vec<Request> = Vec::new();
        let mut bytes = 0u64;
        while requests.len() < self.config.max_batch_objects {
            let Some((key, state)) = self.asked.get(requests.len()).cloned() else { break };
            match self.request(&key, state, now) {
                Some((request, size)) => {
                    bytes = bytes.saturating_add(size);
                    if !requests.is_empty() && bytes > self.config.max_batch_bytes {
                        break;
                    }
                    requests.push(request);
                }
                None => {
                    self.asked.remove(requests.len());
                }
            }
        }
        requests
    }

    /// How to take a file, and about how much that is; `None` where it is not its turn.
    fn request(&mut self, key: &Arc<str>, state: Option<ObjectState>, now: Timestamp) -> Option<(Request, u64)> {
        let found = self.queue.get(key)?.found.clone();
        if !self.config.tails() {
            let size = found.stamp.size;
            let how = How::Whole { previous: state.map(|state| state.version) };
            return Some((Request { found, how }, size));
        }
        let (known, moved) = match self.tails.follow(&found) {
            Follow::On => (self.tails.get(key).cloned(), false),
            Follow::From(former) => (self.tails.get(&former).cloned(), true),
            Follow::New => (None, false),
            Follow::Twin => {
                self.refused.insert(Arc::clone(key), found.stamp);
                self.queue.done(key);
                return None;
            }
            Follow::Hold => {
                if !self.held_long(key, now) {
                    self.confirm_at = now;
                    self.queue.wait(key, now.plus(SOON));
                    return None;
                }
                (None, false)
            }
            Follow::Orphaned => {
                if !self.looked_again(key, now) {
                    return None;
                }
                (None, false)
            }
        };
        let size = found.stamp.size.saturating_sub(known.as_ref().map_or(0, |known| known.end));
        let tail = Tail {
            known,
            previous: self.tails.get(key).map(|own| Arc::clone(&own.version)),
            moved,
            partial: now.since(found.stamp.modified_at()) >= self.config.partial_line(),
            searched: self.queue.get(key).map_or(0, |pending| pending.searched),
        };
        Some((Request { found, how: How::Tail(tail) }, size))
    }

    /// Whether a name has waited too long for its former file to be in the ledger: that one may be unreadable, and must not
    /// keep the new one back for ever.
    fn held_long(&self, key: &Arc<str>, now: Timestamp) -> bool {
        let held = self.queue.get(key).map_or(Duration::ZERO, |pending| now.since(pending.first));
        let long = held >= trouble::QUIET;
        if long {
            tracing::warn!(
                key = &**key,
                "the file that had this name before could not be taken in time; going on without it"
            );
        }
        long
    }

    /// Whether the whole folder has been looked through since another file was found under this name.
    fn looked_again(&mut self, key: &Arc<str>, now: Timestamp) -> bool {
        let scans = self.scans;
        let Some(pending) = self.queue.get_mut(key) else { return false };
        let since = *pending.replaced_in.get_or_insert(scans);
        if scans > since {
            let taken = self.tails.get(key).map_or(0, |known| known.end);
            tracing::warn!(
                key = &**key,
                taken,
                hint = "rotate to a name that `include` matches, and compress or delete one rotation later",
                "another file took the name, and the former one is not in the folder: what it gained last may be missing"
            );
            return true;
        }
        self.noticed.everything = true;
        self.queue.wait(key, now.plus(SCAN_PAUSE));
        false
    }

    fn commit(&mut self, requests: Vec<Request>, outcomes: Vec<Outcome>, now: Timestamp) -> Vec<RawObject> {
        let mut objects = Vec::new();
        for (request, outcome) in requests.into_iter().zip(outcomes) {
            self.asked.pop_front();
            let Found { key, stamp, target } = request.found;
            match outcome {
                Outcome::Taken(taken) => {
                    self.queue.done(&key);
                    objects.push(self.object(&key, taken));
                }
                Outcome::Gone => self.queue.done(&key),
                Outcome::Changed(stamp) => {
                    let found = Found { key: Arc::clone(&key), stamp, target };
                    let due = self.due(&found, now).max(now.plus(SOON));
                    if let Some(pending) = self.queue.get_mut(&key) {
                        pending.found = found;
                    }
                    self.queue.wait(&key, due);
                }
                Outcome::Nothing(stamp) => {
                    self.tails.exhaust(&key, stamp);
                    self.refused.insert(Arc::clone(&key), stamp);
                    self.queue.done(&key);
                }
                Outcome::HalfLine(searched) => self.await_line(&key, searched, now),
                Outcome::Refused(error) => {
                    let path = self.folder.join(key::decode(&key));
                    self.troubles.note(&path, error, now);
                    self.refused.insert(Arc::clone(&key), stamp);
                    self.queue.done(&key);
                }
            }
        }
        objects
    }

    /// A line that is not complete waits for its end, or until nobody seems to write it any more.
    fn await_line(&mut self, key: &Arc<str>, searched: u64, now: Timestamp) {
        let Some(pending) = self.queue.get_mut(key) else { return };
        let stamp = pending.found.stamp;
        if self.once {
            self.refused.insert(Arc::clone(key), stamp);
            self.queue.done(key);
            return;
        }
        pending.searched = searched;
        let due = stamp
            .modified_at()
            .plus(self.config.partial_line())
            .max(now.plus(self.config.settle()))
            .max(now.plus(SOON));
        self.queue.wait(key, due);
    }

    fn object(&mut self, key: &Arc<str>, taken: Taken) -> RawObject {
        let Taken { path, stamp, range, version, identity, compression, content } = taken;
        let delivered = Delivered { stamp, version: version.as_str().into(), end: range.end };
        let ticket = self.flight.depart(key, delivered);
        let body = match content {
            Content::Inline(bytes) => body::inline(bytes, ticket),
            Content::Stream(expect) => {
                let reading = Reading { path, range: range.clone(), expect, pool: self.pool.clone() };
                body::streamed(reading, ticket)
            }
        };
        RawObject {
            partition: self.partition.clone(),
            key: key.to_string(),
            version,
            range,
            modified_at: stamp.modified_at(),
            compression,
            on_change: self.config.on_change,
            identity: identity.to_string(),
            body,
        }
    }

    /// Puts back what failed, and asks the ledger for what was read to its end.
    pub(super) async fn confirm(&mut self) -> Result<()> {
        let now = self.clock.now();
        for key in self.flight.failed() {
            let times = self.failures.get(&key).map_or(1, |(times, _)| times.saturating_add(1));
            let pause = Duration::from_secs(1u64 << times.saturating_sub(1).min(6)).min(trouble::QUIET);
            self.noticed.paths.insert(self.folder.join(key::decode(&key)));
            self.failures.insert(key, (times, now.plus(pause)));
        }
        if now < self.confirm_at {
            return Ok(());
        }
        let read = self.flight.read();
        for chunk in read.chunks(ASK) {
            let keys: Vec<_> = chunk.iter().map(|(key, _)| Arc::clone(key)).collect();
            let states = self.states(&keys).await?;
            for ((key, delivered), state) in chunk.iter().zip(states) {
                let Delivered { stamp, version, end } = delivered;
                match state.filter(|state| *state.version == **version && state.range.end >= *end) {
                    Some(state) => {
                        self.flight.landed(key);
                        self.failures.remove(key);
                        match self.config.on_change {
                            OnChange::Tail => self.tails.learn(key, &state),
                            OnChange::Replace | OnChange::Append => {
                                self.landed.insert(landed_key(key), Landed { stamp: *stamp, scan: self.scans });
                            }
                        }
                    }
                    None => self.flight.overdue(key, now),
                }
            }
        }
        self.confirm_at = now.plus(IDLE_AFTER);
        Ok(())
    }

    /// What the ledger knows of tailed files that are not known here.
    pub(super) async fn learn(&mut self, found: &[Found]) -> Result<()> {
        let unknown: Vec<_> =
            found.iter().map(|found| &found.key).filter(|key| self.tails.get(key).is_none()).cloned().collect();
        for keys in unknown.chunks(ASK) {
            for (key, state) in keys.iter().zip(self.states(keys).await?) {
                if let Some(state) = state {
                    self.tails.learn(key, &state);
                }
            }
        }
        Ok(())
    }

    async fn states(&self, keys: &[Arc<str>]) -> Result<Vec<Option<ObjectState>>> {
        let texts: Vec<_> = keys.iter().map(ToString::to_string).collect();
        let states = self.progress.latest_objects(&self.partition, &texts).await?;
        if states.len() != texts.len() {
            return Err(Error::bug(format!("the ledger answered {} of {} keys", states.len(), texts.len())));
        }
        Ok(states)
    }
}
