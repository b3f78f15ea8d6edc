//! Hot reload: the config, the module folder and the assets are watched; what changed takes effect, what is wrong changes nothing.
//!
//! A changed config is checked as a whole first. Then parts stop and start as far as [`Difference`] says, and each pipeline's
//! revision is submitted (`deploy`). What fails and may go away by itself is tried again after a pause. A part that ended with an
//! error is started again here too, once its pause is over (`restart`): its revision is submitted like any other.

use std::sync::Arc;
use std::time::Duration;

use forebay_model::{Error, ErrorClass, Result};
use forebay_pipeline::panics::caught;
use tokio::sync::{mpsc, watch};

use super::deploy::Deployer;
use super::difference::Difference;
use super::parts::Part;
use super::progress::Progress;
use super::push::Submission;
use super::watch::Watch;
use super::{Host, check_tables, sides};
use crate::assemble::{self, Access};
use crate::config::{self, Config};
use crate::failpoint::failpoint;
use crate::sides::{LeftOut, with_sides};

/// How often the ledger is looked at for revisions that another host made active.
const FOLLOW: Duration = Duration::from_millis(300);

/// The pause before what failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Reloads while the host runs.
pub(super) struct Reloader {
    pub(super) host: Arc<Host>,
    pub(super) progress: Arc<Progress>,
    pub(super) deployer: Deployer,
    pub(super) watch: Watch,
    /// What runs: the config that was loaded last, as far as it took effect.
    pub(super) runs: watch::Sender<Config>,
    /// The keys that were told last to need a restart.
    pub(super) told: Vec<String>,
    /// The replays into tables beside that the ledger had at the last look.
    pub(super) sides: sides::Known,
    /// Those of them that cannot run, as they were told last.
    pub(super) left_out: Vec<LeftOut>,
    /// Parts that ended with an error and are to be started again now.
    pub(super) due: mpsc::UnboundedReceiver<Part>,
    /// What people push.
    pub(super) submitted: mpsc::UnboundedReceiver<Submission>,
}

impl Reloader {
    /// Reloads whenever something changes, for ever.
    pub(super) async fn run(mut self, mut again: bool) {
        loop {
            let (due, reason) = match self.next(again).await {
                Next::Due(part) => (Some(part), "restart"),
                Next::Submitted(submission) => {
                    Box::pin(self.push(submission)).await;
                    continue;
                }
                Next::Changed => (None, "config"),
                Next::Led => (None, "lead"),
                Next::Sides => (None, "replay"),
            };
            let reload = async {
                if let Some(part) = due {
                    let _moving = self.host.fleet.moving.lock().await;
                    let config = self.runs.borrow().clone();
                    self.host.parts.start_again(&self.host, &config, &part, &self.progress);
                }
                Ok::<_, Error>(self.reload(reason).await)
            };
            again = match caught(reload).await {
                Ok(again) => again,
                Err(error) => {
                    tracing::error!(error = error.chain(), "reload failed; what was active goes on");
                    false
                }
            };
        }
    }

    /// What there is to do next; until then, what other hosts of the ledger make active is taken up.
    async fn next(&mut self, again: bool) -> Next {
        let Self { host, progress: _, deployer, watch, runs, told: _, sides: known, left_out: _, due, submitted } =
            self;
        let changed = change(watch, again);
        tokio::pin!(changed);
        let mut look = tokio::time::interval(sides::LOOK);
        loop {
            tokio::select! {
                Some(part) = due.recv() => return Next::Due(part),
                Some(submission) = submitted.recv() => return Next::Submitted(submission),
                () = &mut changed => return Next::Changed,
                () = host.fleet.led.notified() => return Next::Led,
                _ = look.tick() => {
                    if sides::moved(host.ledger.as_ref(), known).await {
                        return Next::Sides;
                    }
                }
                () = tokio::time::sleep(FOLLOW), if host.fleet.is_shared() => follow(host, deployer, runs).await,
            }
        }
    }

    /// Does what a person pushed, and answers; or what came of a shadow.
    async fn push(&mut self, submission: Submission) {
        let (config, handles) = (self.runs.borrow().clone(), self.host.parts.handles());
        let (request, answer) = match submission {
            Submission::Push { request, answer } => (request, answer),
            Submission::Back(back) if !self.host.fleet.leads() => {
                if let Err(error) = back.ask(self.host.ledger.as_ref()).await {
                    tracing::error!(
                        error = error.chain(),
                        "the host that leads could not be asked for the former revision"
                    );
                }
                return;
            }
            Submission::Back(back) => {
                if let Err(error) = caught(self.deployer.go_back(&config, &handles, back)).await {
                    tracing::error!(error = error.chain(), hint = error.hint(), "the former revision cannot come back");
                }
                return;
            }
            Submission::Shadow(outcome) => {
                if let Err(error) = caught(self.deployer.finish(&config, &handles, outcome)).await {
                    tracing::error!(
                        error = error.chain(),
                        hint = error.hint(),
                        "a shadow stays; it is looked at again"
                    );
                }
                return;
            }
        };
        let pushed = caught(Box::pin(self.pushed(request))).await;
        if let Err(error) = &pushed {
            tracing::error!(error = error.chain(), hint = error.hint(), "push refused; what was active goes on");
        }
        // Who asked may have gone: it is done all the same, and told in the log.
        drop(answer.send(pushed));
    }

    /// True where something failed that may go away by itself.
    async fn reload(&mut self, reason: &str) -> bool {
        failpoint("in_reload");
        let mut again = false;
        let path = self.runs.borrow().path.clone();
        let meant = match config::load_with_env(&path) {
            Ok(meant) => {
                self.watch.follow(&meant);
                meant
            }
            Err(problems) => {
                for problem in problems.iter() {
                    tracing::error!(
                        place = problem.place.as_ref().map(ToString::to_string),
                        hint = problem.hint,
                        "config refused, the one before goes on: {}",
                        problem.message
                    );
                }
                self.runs.borrow().clone()
            }
        };
        match with_sides(meant, self.host.ledger.as_ref()).await {
            Ok((meant, left_out)) => {
                if self.left_out != left_out {
                    sides::tell(&left_out);
                    self.left_out = left_out;
                }
                again |= self.adopt(meant).await;
            }
            Err(error) => {
                tracing::warn!(error = error.chain(), "the ledger cannot be read; the config before goes on");
                again = true;
            }
        }
        if !self.host.fleet.leads() {
            follow(&self.host, &mut self.deployer, &self.runs).await;
            return again;
        }
        let config = self.runs.borrow().clone();
        match self.deployer.reload(&config, &self.host.parts.handles(), reason).await {
            Ok(reloaded) => again || reloaded.again,
            Err(error) => {
                tracing::error!(error = error.chain(), hint = error.hint(), "reload failed; what was active goes on");
                again || error.class() == ErrorClass::Retry
            }
        }
    }

    /// Makes what is meant what runs, as far as a running host can; true where some of it is to be tried again.
    pub(super) async fn adopt(&mut self, meant: Config) -> bool {
        let host = Arc::clone(&self.host);
        let difference = Difference::between(&self.runs.borrow(), &meant, host.selected());
        if !difference.restart.is_empty() && difference.restart != self.told {
            let keys = difference.restart.join(", ");
            tracing::warn!(
                keys,
                "these keys of the config changed: restart forebay to use them; the rest takes effect now"
            );
        }
        self.told.clone_from(&difference.restart);
        if difference.changes_no_part() {
            self.runs.send_modify(|runs| take_over(runs, meant));
            return false;
        }
        // First what may fail: then nothing has stopped.
        if let Err(error) = self.open(&meant, &difference).await {
            tracing::error!(
                error = error.chain(),
                hint = error.hint(),
                "the changed config cannot be taken; the one before goes on"
            );
            return error.class() == ErrorClass::Retry;
        }
        let _moving = host.fleet.moving.lock().await;
        // Until it is done the host does not end, though its only stream may be between two lives.
        let _guard = host.parts.change();
        if !self.stop(&difference).await {
            return true;
        }
        for name in &difference.start_pipelines {
            host.parts.start_pipeline(&host, &meant, name, &self.progress);
        }
        for name in &difference.start_streams {
            host.parts.start_stream(&host, &meant, name, &self.progress);
        }
        for name in &difference.start_streams {
            tracing::info!(stream = %name, "stream started: the config changed");
        }
        for name in &difference.start_pipelines {
            let why = if name.as_side().is_some() { "a replay into tables beside" } else { "the config changed" };
            tracing::info!(pipeline = %name, "pipeline started: {why}");
        }
        self.runs.send_modify(|runs| take_over(runs, meant));
        false
    }

    /// False where a part has not stopped in time: what else is meant waits for it.
    async fn stop(&self, difference: &Difference) -> bool {
        let (parts, patience) = (&self.host.parts, self.host.config.host.shutdown);
        let mut stopped = true;
        for name in &difference.stop_pipelines {
            if parts.stop_pipeline(name, patience).await {
                sides::close(&self.host, &self.runs.borrow(), name);
            } else {
                tracing::error!(pipeline = %name, "pipeline has not stopped in time: the changed config waits for it");
                stopped = false;
            }
        }
        for name in &difference.stop_streams {
            if !parts.stop_stream(name, patience).await {
                tracing::error!(stream = %name, "stream has not stopped in time: the changed config waits for it");
                stopped = false;
            }
        }
        stopped
    }

    /// Opens the warehouses that are new, and checks that the tables of new pipelines are this ledger's.
    pub(super) async fn open(&self, meant: &Config, difference: &Difference) -> Result<()> {
        for name in &difference.open_warehouses {
            let warehouse = assemble::open_warehouse(meant, name, Access::Run).await?;
            self.host.add_warehouse(name.clone(), warehouse);
        }
        check_tables(meant, self.host.ledger.as_ref(), &self.host.warehouses()).await
    }
}

/// What a reloader does next.
enum Next {
    /// It starts a part again.
    Due(Part),
    /// It does what was asked for.
    Submitted(Submission),
    /// It looks at what has changed.
    Changed,
    /// The same, since it leads from now on.
    Led,
    /// The same: a replay into tables beside came or goes.
    Sides,
}

/// Takes up what is active in the ledger and not here: whoever leads has made it so, or a pipeline came or went.
async fn follow(host: &Host, deployer: &mut Deployer, runs: &watch::Sender<Config>) {
    let config = runs.borrow().clone();
    match caught(deployer.follow(&config, &host.parts.handles(), host.fleet.leads())).await {
        Ok(cannot) => host.fleet.set_cannot(cannot),
        Err(error) => {
            tracing::warn!(error = error.chain(), "what is active could not be taken up; it is tried again");
        }
    }
}

/// Returns when something has changed; after a pause all the same where something is to be tried again: whatever changes
/// during the pause is read then, and told once more.
async fn change(watch: &mut Watch, again: bool) {
    if again {
        drop(tokio::time::timeout(AGAIN, watch.changed()).await);
    } else {
        watch.changed().await;
    }
}

/// What runs now: all that is meant, but what only a restart changes. Warehouses stay known once they were opened.
fn take_over(runs: &mut Config, meant: Config) {
    let Config {
        path: _,
        file: _,
        root: _,
        landing: _,
        ledger: _,
        modules: _,
        warehouses,
        streams,
        pipelines,
        host: _,
        http: _,
        alerts,
        maintain,
    } = meant;
    for (name, warehouse) in warehouses {
        runs.warehouses.entry(name).or_insert(warehouse);
    }
    runs.streams = streams;
    runs.pipelines = pipelines;
    runs.alerts = alerts;
    runs.maintain = maintain;
}
