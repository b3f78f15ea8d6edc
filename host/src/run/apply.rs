//! A config that a person applies: all of it is checked before any of it is in place.
//!
//! Every pipeline that runs is asked whether it would take its revision; one that refuses keeps the whole config away. Then the files
//! take the places of the host's own, and are taken up as a changed config is. A process that dies in between finishes that at its next
//! start (`bundle`). The former config is kept in the landing zone.

use forebay_model::{Digest, Error, PipelineName, Result};

use super::deploy::Reloaded;
use super::difference::Difference;
use super::modules::Scan;
use super::reload::Reloader;
use super::shadow::Asked;
use crate::bundle::{Bundle, Staged};
use crate::config::{self, Config, Problems};
use crate::failpoint::failpoint;
use crate::requests::{Applied, Push, PushRequest, Pushed, Refused, ShadowWanted};
use crate::sides::with_sides;

impl Reloader {
    /// Does what a person pushed.
    pub(super) async fn pushed(&mut self, request: PushRequest) -> Result<Pushed> {
        let config = self.runs.borrow().clone();
        let Push::Apply { bundle, ref origin, shadow } = request.push else {
            return self.deployer.push(&config, &self.host.parts.handles(), request).await;
        };
        let refused = self.deployer.overtaken(&config, &request).await?;
        if !refused.is_empty() {
            return Ok(Pushed { refused, ..Pushed::default() });
        }
        let kept = self.deployer.shelf.kept(&Bundle::kept(bundle), bundle).await?;
        let staged = Staged::write(&config.root, Bundle::parse(&kept)?.places(&config.path)?)?;
        if staged.is_nothing() {
            staged.discard();
            return self.take_up(&config, origin, shadow, Applied::default()).await;
        }
        let refused = match self.refusals_of(&config, &staged).await {
            Ok(refused) => refused,
            Err(error) => {
                staged.discard();
                return Err(error);
            }
        };
        if !refused.is_empty() {
            staged.discard();
            return Ok(Pushed { refused, ..Pushed::default() });
        }
        let former = self.keep_former(&config).await;
        staged.place()?;
        failpoint("after_apply");
        tracing::info!(origin, former, "config applied: its files are in place");
        self.take_up(&config, origin, shadow, Applied { changed: true, former, ..Applied::default() }).await
    }

    /// Why pipelines that run would not take what the config will be.
    async fn refusals_of(&self, runs: &Config, staged: &Staged) -> Result<Vec<Refused>> {
        let environment = |name: &str| std::env::var(name).ok();
        let meant = config::load_over(&runs.path, staged.overlay(), &environment).map_err(|error| wrong(&error))?;
        let (meant, _) = with_sides(meant, self.host.ledger.as_ref()).await?;
        let difference = Difference::between(runs, &meant, &self.host.args.pipelines);
        self.open(&meant, &difference).await?;
        let mut handles = self.host.parts.handles();
        // What is started anew is bound to what it starts with.
        handles.retain(|name, _| !difference.stop_pipelines.contains(name));
        Ok(self.deployer.refusals_of(&meant, &handles).await)
    }

    /// Keeps what the host's config is now; what cannot be read of it is no reason to stay with it.
    async fn keep_former(&self, config: &Config) -> Option<String> {
        let keep = async {
            let bytes = Bundle::read(&config.path)?.bytes()?;
            let name = Bundle::kept(Digest::of(&bytes));
            self.host.zone.keep(&name, bytes).await?;
            Ok::<_, Error>(name)
        };
        keep.await.inspect_err(|error| tracing::warn!(error = error.chain(), "the former config is not kept")).ok()
    }

    /// Takes up what is in place now.
    async fn take_up(
        &mut self,
        former: &Config,
        origin: &str,
        shadow: Option<ShadowWanted>,
        mut applied: Applied,
    ) -> Result<Pushed> {
        let meant = config::load_with_env(&former.path).map_err(|error| wrong(&error))?;
        let (meant, _) = with_sides(meant, self.host.ledger.as_ref()).await?;
        let Difference { stop_pipelines, stop_streams, open_warehouses: _, start_streams, start_pipelines, restart } =
            Difference::between(former, &meant, &self.host.args.pipelines);
        let pipeline = |name: &PipelineName| format!("pipeline {name}");
        let gone = stop_streams.difference(&start_streams).map(|name| format!("stream {name}"));
        applied.stopped = gone.chain(stop_pipelines.difference(&start_pipelines).map(pipeline)).collect();
        let new = start_streams.iter().map(|name| format!("stream {name}"));
        applied.started = new.chain(start_pipelines.iter().map(pipeline)).collect();
        applied.waiting = restart;
        self.watch.follow(&meant);
        if self.adopt(meant).await {
            return Err(Error::operator("the config is in place, and a part of the host has not taken it up yet")
                .with_hint("it is tried again by itself: `forebay status` and the host's log tell how far it is"));
        }
        let config = self.runs.borrow().clone();
        let asked = shadow.map_or(Asked::AsConfigured, Asked::So);
        let handles = self.host.parts.handles();
        let taken = self.deployer.take(&config, &handles, Scan::default(), (origin, asked)).await?;
        let Reloaded { refused, modules_refused: _, again: _, active, why: _, shadow } = taken;
        let refused = refused.iter().map(|(pipeline, error)| Refused::new(Some(pipeline), error)).collect();
        Ok(Pushed { active, refused, shadow, cancelled: Vec::new(), applied: Some(applied) })
    }
}

fn wrong(problems: &Problems) -> Error {
    let hint = problems.iter().find_map(|problem| problem.hint.clone());
    let error = Error::operator(problems.to_string());
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}
