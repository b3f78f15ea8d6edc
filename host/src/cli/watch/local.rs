//! The pipeline beside an author: what a module would change in its last segment, and the module put into it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::common::ScalarValue;
use forebay_model::ports::{Asset, Assets, Module};
use forebay_model::{Digest, Error, PipelineName, SegmentId};
use forebay_pipeline::refine::bind::Materials;
use forebay_sandbox::Sandbox;
use serde_json::{Value, json};

use super::super::compare::{Compared, compare};
use super::super::kept;
use super::super::listing::{self, text};
use super::super::{Failure, Global, build, deploy, pushing};
use crate::assemble::{self, Access};
use crate::config::{Config, PipelineConfig};
use crate::query::Lake;
use crate::requests::{Active, Push, Pushed, Seen, ShadowWanted};
use crate::run::modules::uses;
use crate::who::who;

/// Where the module is now.
pub(super) enum Pushing {
    /// It is what the name means already.
    Same,
    /// The host took it.
    Taken(Vec<Active>),
    /// The host took it, and no pipeline uses it.
    Unused,
    /// No host runs: it lies where the next one finds it.
    Waits(PathBuf),
}

impl Pushing {
    pub(super) fn json(&self) -> Value {
        match self {
            Self::Same => json!({ "outcome": "same" }),
            Self::Taken(active) => json!({ "outcome": "active", "active": active }),
            Self::Unused => json!({ "outcome": "unused" }),
            Self::Waits(path) => json!({ "outcome": "waits", "path": path }),
        }
    }
}

/// A pipeline beside an author.
pub(super) struct Local<'a> {
    pub(super) global: &'a Global,
    pub(super) config: Config,
    pub(super) sandbox: Sandbox,
}

/// A module that was built and tested.
pub(super) struct Built<'a> {
    pub(super) path: &'a std::path::Path,
    pub(super) wasm: Bytes,
    pub(super) module: Arc<dyn Module>,
}

impl Local<'_> {
    /// What the module would change in each pipeline that uses it. A pipeline that has not run yet, or has no segment, is left out.
    pub(super) async fn compare(&self, built: &Built<'_>) -> anyhow::Result<Vec<Compared>> {
        let name = &built.module.description().name;
        let mut compared = Vec::new();
        if !assemble::ledger_is_there(&self.config).await? {
            return Ok(compared);
        }
        for (pipeline, settings) in
            self.config.pipelines.iter().filter(|(pipeline, _)| uses(&self.config, pipeline, name))
        {
            compared.extend(self.in_pipeline(pipeline, settings, built).await?);
        }
        Ok(compared)
    }

    async fn in_pipeline(
        &self,
        name: &PipelineName,
        settings: &PipelineConfig,
        built: &Built<'_>,
    ) -> anyhow::Result<Option<Compared>> {
        let lake = Lake::open(self.config.clone()).await?;
        let ledger = &lake.stores().ledger;
        let Some(active) = ledger.active(name).await? else { return Ok(None) };
        let sql = "SELECT segment FROM ledger.segments WHERE stream = $stream ORDER BY number DESC LIMIT 1";
        let stream = vec![("stream", ScalarValue::from(settings.from.as_str()))];
        let Some(last) = listing::objects(&lake, sql, stream).await?.into_iter().next() else { return Ok(None) };
        let zone = assemble::open_zone(&self.config, Access::Read)?;
        let sandbox = assemble::with_limits(&self.sandbox, &settings.limits)?;
        let (revision, number) = (active.revision.revision, active.revision.number);
        let was = kept::materials(&*zone, &sandbox, revision, number).await?;
        let is = instead(&was, settings, built, &sandbox)?;
        compare(&lake, name, &SegmentId::from_text(text(&last, "segment")), was, is).await
    }

    /// Puts the module into the pipeline: a host that runs is asked, and what it refuses is told; else it waits in the watched folder.
    pub(super) async fn push(&self, built: &Built<'_>) -> anyhow::Result<Pushing> {
        let Built { path, wasm, module } = built;
        let (name, digest) = (module.description().name.clone(), module.digest());
        let file = path.file_name().unwrap_or(path.as_os_str());
        if assemble::ledger_is_there(&self.config).await? {
            let ledger = assemble::open_ledger(&self.config, Access::Write).await?;
            if ledger.active_module(&name).await? == Some(digest) {
                return Ok(Pushing::Same);
            }
            if ledger.host().await?.is_some() {
                let seen = Seen::all(&*ledger, self.config.pipelines.keys()).await?;
                let origin = format!("watch:{} by {}", file.to_string_lossy(), who());
                // Who watches sees what changes, and wants it at once.
                let shadow = Some(ShadowWanted { segments: 0, max_changed: None });
                deploy::keep(&self.config, &*ledger, wasm.clone(), origin.clone()).await?;
                let push = Push::Module { name, digest, origin, shadow, pipelines: BTreeSet::new() };
                let pushed = pushing::ask(self.global, &*ledger, seen, push).await?;
                return taken(pushed);
            }
        }
        let path = self.config.modules.watch.join(file);
        build::put(&path, wasm).map_err(|error| {
            Failure::new(super::super::Exit::Failed, format!("{} cannot be written: {error}", path.display()))
                .with_hint("modules.watch of the config names the folder; give one that this user may write to")
        })?;
        Ok(Pushing::Waits(path))
    }
}

fn taken(pushed: Pushed) -> anyhow::Result<Pushing> {
    if let Some(failure) = pushing::refusal(&pushed.refused) {
        return Err(failure.into());
    }
    let Pushed { active, refused: _, shadow: _, cancelled: _, applied: _ } = pushed;
    Ok(if active.is_empty() { Pushing::Unused } else { Pushing::Taken(active) })
}

/// What runs, with the module, the config and the assets that its steps have now.
fn instead(
    was: &Materials,
    settings: &PipelineConfig,
    built: &Built<'_>,
    sandbox: &Sandbox,
) -> anyhow::Result<Materials> {
    use forebay_model::ports::ModuleLoader as _;
    let name = &built.module.description().name;
    // Under the pipeline's own limits; it is compiled already.
    let module = sandbox.load(&built.wasm)?;
    let mut is = was.clone();
    let steps = is.revision.steps.iter_mut().zip(is.modules.iter_mut()).zip(is.assets.iter_mut());
    for ((step, of_step), assets) in steps {
        let meant = settings.steps.iter().find(|meant| meant.name == step.name && meant.module == *name);
        let Some(meant) = meant.filter(|meant| meant.pin.is_none()) else { continue };
        step.digest = module.digest();
        step.config = meant.config.clone();
        *of_step = Arc::clone(&module);
        *assets = read_assets(&meant.assets)?;
    }
    Ok(is)
}

fn read_assets(paths: &BTreeMap<String, PathBuf>) -> anyhow::Result<Assets> {
    let mut assets = BTreeMap::new();
    for (name, path) in paths {
        let bytes = std::fs::read(path)
            .map_err(|error| Error::operator(format!("asset {} cannot be read", path.display())).with_source(error))?;
        assets.insert(name.clone(), Asset { digest: Digest::of(&bytes), bytes: bytes.into() });
    }
    Ok(Arc::new(assets))
}
