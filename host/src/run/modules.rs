//! Modules: found in the watched folder, kept beside the raw data by digest, loaded when a revision needs them.
//!
//! The folder is where people put modules, not where they are run from: what was deployed is kept, so that it can run again after
//! the file has changed, and so that a restart does not bring back what was replaced or rolled back. A file is new when
//! its content is not the one that was last taken from its path; one that was refused stays new, for what it lacked (a key of the
//! config, an asset) may come later.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use arrow::array::AsArray;
use forebay_model::ids::ModuleName;
use forebay_model::kept::{KeptModule, KeptRevision, kept_asset};
use forebay_model::ports::{
    Asset, AssetRecord, Assets, Clock, Description, LandingZone, Ledger, Module, ModuleLoader, ModuleRecord,
    RevisionRecord,
};
use forebay_model::{Digest, Error, ErrorClass, PipelineName, Result, Revision, Timestamp};
use forebay_pipeline::refine::bind::Materials;
use forebay_pipeline::workers::Workers;
use forebay_sandbox::{Limits, Sandbox};

use crate::assemble;
use crate::config::{Config, PipelineConfig, StepConfig, format_bytes};

/// What modules are taken in with.
pub(super) struct Shelf {
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) zone: Arc<dyn LandingZone>,
    pub(super) sandbox: Sandbox,
    pub(super) workers: Workers,
    pub(super) clock: Arc<dyn Clock>,
    /// Files that are no module, by path: told once for each content and the limits that it was loaded under.
    pub(super) no_modules: Mutex<BTreeMap<String, (Digest, Limits)>>,
    /// Modules that have passed the cases that they carry, with the limits that they were loaded under: once is enough.
    pub(super) passed: Mutex<Vec<(Digest, Limits)>>,
}

/// A module of the folder that is not the one taken last from its path, or one that a person pushed.
#[derive(Debug, Clone)]
pub(super) struct NewModule {
    pub(super) name: ModuleName,
    pub(super) digest: Digest,
    /// `folder:modules/fraud.wasm`, `deploy:fraud.wasm`.
    pub(super) origin: String,
    /// How the ledger knows the path; `None` where a person pushed it.
    pub(super) path: Option<String>,
}

/// What a look into the folder gave.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The newest file first.
    pub(super) new: Vec<NewModule>,
    /// Files that are no module, with why. They are looked at again when they change.
    pub(super) refused: Vec<(PathBuf, Error)>,
}

/// A file does not say which pipelines will use it, so it is loaded under the most that any of them allows, or `without` any; each
/// pipeline then loads it under its own limits.
pub(crate) fn loosest(without: &Limits, config: &Config) -> Limits {
    // The config was checked: its limits can be read.
    let mut limits = config.pipelines.values().filter_map(|pipeline| assemble::limits(&pipeline.limits).ok());
    let mut loosest = limits.next().unwrap_or_else(|| without.clone());
    for limits in limits {
        loosest.module_mib = loosest.module_mib.max(limits.module_mib);
        loosest.compile_seconds = loosest.compile_seconds.max(limits.compile_seconds);
        loosest.compile_memory_mib = loosest.compile_memory_mib.max(limits.compile_memory_mib);
        loosest.bind_ms = loosest.bind_ms.max(limits.bind_ms);
        loosest.memory_mib = loosest.memory_mib.max(limits.memory_mib);
    }
    loosest
}

/// Whether a pipeline takes the active module of a name: a step that pins one does not.
pub(crate) fn uses(config: &Config, pipeline: &PipelineName, module: &ModuleName) -> bool {
    let steps = config.pipelines.get(pipeline).map(|pipeline| pipeline.steps.as_slice()).unwrap_or_default();
    steps.iter().any(|step| step.module == *module && step.pin.is_none())
}

/// A module is taken by all pipelines that use its name: who means only some of them is to say so in the config, since the next look at it
/// would bring the name's module to them, or take it from the others. `named` is empty for all of them.
///
/// # Errors
/// Class operator, where a named one takes another module, or one that is not named would take this one too.
pub(crate) fn meant_for(
    config: &Config,
    (module, digest): (&ModuleName, Digest),
    named: &BTreeSet<PipelineName>,
) -> Result<()> {
    if named.is_empty() {
        return Ok(());
    }
    let joined = |names: &[&PipelineName]| names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    let using: Vec<_> = config.pipelines.keys().filter(|pipeline| uses(config, pipeline, module)).collect();
    let pin = format!("{module}@sha256:{}", digest.short());
    if let Some(other) = named.iter().find(|pipeline| !using.contains(pipeline)) {
        let steps = config.pipelines.get(other).map(|pipeline| pipeline.steps.as_slice()).unwrap_or_default();
        let pins = steps.iter().any(|step| step.module == *module);
        let (what, hint) = match (pins, using.as_slice()) {
            (true, _) => ("pins its module", format!("write module = \"{pin}\" there, and `forebay apply` the config")),
            (false, []) => ("has no step with module", "no pipeline has one: give it a step in the config".to_owned()),
            (false, using) => ("has no step with module", format!("those that have one: {}", joined(using))),
        };
        return Err(Error::operator(format!("pipeline {other} {what} {module}")).with_hint(hint));
    }
    let others: Vec<_> = using.into_iter().filter(|pipeline| !named.contains(*pipeline)).collect();
    if others.is_empty() {
        return Ok(());
    }
    let named: Vec<_> = named.iter().collect();
    let (verb, them) = if others.len() == 1 { ("uses", "it") } else { ("use", "them") };
    let message = format!("{} {verb} module {module} too, and would take it with {}", joined(&others), joined(&named));
    Err(Error::operator(message).with_hint(format!(
        "name {them} too, or none; for {} alone write module = \"{pin}\" in the step there, and `forebay apply` the config: the \
         module is kept",
        joined(&named)
    )))
}

/// Keeps a module that loads beside the raw data, and records it. Nothing is active yet.
///
/// # Errors
/// Those of the zone and the ledger.
pub(crate) async fn keep_module(
    ledger: &dyn Ledger,
    zone: &dyn LandingZone,
    (module, wasm): (&dyn Module, bytes::Bytes),
    origin: String,
    at: Timestamp,
) -> Result<ModuleRecord> {
    let (digest, bytes) = (module.digest(), wasm.len() as u64);
    let Description { name, version, .. } = module.description().clone();
    zone.keep(&kept_module(digest), wasm).await?;
    let record = ModuleRecord { digest, name, version, bytes, origin, at };
    ledger.record_module(&record).await?;
    Ok(record)
}

/// What the landing zone calls a module.
pub(super) fn kept_module(digest: Digest) -> String {
    format!("modules/{digest}.wasm")
}

/// The `.wasm` files of a folder, without hidden ones and those that are still being written (`*.tmp`, `*.part`); sorted.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wasm"))
        .filter(|path| path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.')))
        .collect();
    files.sort();
    files
}

/// Refuses a file that is larger than a module may be, before it is read; also what the file is known by.
///
/// # Errors
/// Class operator. What cannot be looked at is told by who reads it.
pub(crate) fn check_size(file: &Path, limits: &Limits) -> Result<(), (Error, Digest)> {
    let Ok(found) = std::fs::metadata(file) else { return Ok(()) };
    let most = limits.module_mib << 20;
    if found.len() <= most {
        return Ok(());
    }
    let error = Error::operator(format!(
        "{} has {}, and a module may have {}",
        file.display(),
        format_bytes(found.len()),
        format_bytes(most)
    ));
    let seen = Digest::of(format!("{} {:?}", found.len(), found.modified().ok()).as_bytes());
    Err((error.with_hint("build it optimised and without debug info, or raise limits.module_mib"), seen))
}

fn modified(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).and_then(|found| found.modified()).ok()
}

impl Shelf {
    /// Looks for modules that are new in the folder, checks and keeps them. Nothing is active yet.
    pub(super) async fn scan(&self, config: &Config) -> Result<Scan> {
        let taken = self.taken().await?;
        let limits = loosest(self.sandbox.limits(), config);
        let mut scan = Scan::default();
        let mut files = files(&config.modules.watch);
        files.sort_by_key(|file| std::cmp::Reverse(modified(file)));
        for file in files {
            let path = file.strip_prefix(&config.root).unwrap_or(&file).to_string_lossy().into_owned();
            if let Err((error, seen)) = check_size(&file, &limits) {
                let tried = (seen, limits.clone());
                if self.no_modules().insert(path, tried.clone()) != Some(tried) {
                    scan.refused.push((file, error));
                }
                continue;
            }
            let bytes = match tokio::fs::read(&file).await {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    let error = Error::operator(format!("{} cannot be read", file.display())).with_source(error);
                    scan.refused.push((file, error));
                    continue;
                }
            };
            let digest = Digest::of(&bytes);
            let tried = (digest, limits.clone());
            if taken.get(&path) == Some(&digest.to_string()) || self.no_modules().get(&path) == Some(&tried) {
                continue;
            }
            let origin = format!("folder:{path}");
            match self.take_in(bytes, origin.clone(), &limits).await {
                Ok(name) => scan.new.push(NewModule { name, digest, origin, path: Some(path) }),
                Err(error) => {
                    // What may go away by itself is tried at the next look.
                    if error.class() != ErrorClass::Retry {
                        self.no_modules().insert(path, tried);
                    }
                    scan.refused.push((file, error));
                }
            }
        }
        Ok(scan)
    }

    fn no_modules(&self) -> MutexGuard<'_, BTreeMap<String, (Digest, Limits)>> {
        self.no_modules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The content that was last taken from each path.
    async fn taken(&self) -> Result<BTreeMap<String, String>> {
        let table = self.ledger.read_table("module_files").await?;
        let column = |name: &str| {
            let column = table.column_by_name(name).and_then(|column| column.as_string_opt::<i32>().cloned());
            column.ok_or_else(|| Error::bug(format!("ledger.module_files has no column {name}")))
        };
        let (paths, digests) = (column("path")?, column("sha256")?);
        Ok(paths
            .iter()
            .zip(&digests)
            .filter_map(|(path, digest)| Some((path?.to_owned(), digest?.to_owned())))
            .collect())
    }

    /// Checks that the bytes are a module, and keeps them.
    async fn take_in(&self, bytes: Vec<u8>, origin: String, limits: &Limits) -> Result<ModuleName> {
        let bytes = bytes::Bytes::from(bytes);
        let (sandbox, wasm) = (self.sandbox.with_limits(limits.clone())?, bytes.clone());
        let module = self.workers.aside(move || sandbox.load(&wasm)).await?;
        let now = self.clock.now();
        Ok(keep_module(&*self.ledger, &*self.zone, (&*module, bytes), origin, now).await?.name)
    }

    /// Makes a module the active one of its name.
    pub(super) async fn activate(&self, module: &NewModule) -> Result<()> {
        self.ledger.activate_module(&module.name, module.digest, self.clock.now()).await
    }

    /// A file is new no more. One that was refused stays new: it is tried again when something changes, and at the next start.
    pub(super) async fn note_taken(&self, module: &NewModule) -> Result<()> {
        if let Some(path) = &module.path {
            self.ledger.seen_in_folder(path, module.digest, self.clock.now()).await?;
        }
        Ok(())
    }

    /// The revision that a pipeline's config means now; `instead` are modules that are not active yet.
    pub(super) async fn revision(
        &self,
        config: &Config,
        name: &PipelineName,
        pipeline: &PipelineConfig,
        instead: &BTreeMap<ModuleName, Digest>,
    ) -> Result<Revision> {
        let stream = config.streams.get(&pipeline.from).ok_or_else(|| {
            Error::operator(format!("pipeline {name} reads stream {}, which is not in the config", pipeline.from))
        })?;
        let mut steps = Vec::new();
        for step in &pipeline.steps {
            let digest = match &step.pin {
                Some(pin) => self.pinned(step, pin).await?,
                None => match instead.get(&step.module) {
                    Some(digest) => *digest,
                    None => self.active(config, step).await?,
                },
            };
            let mut assets = BTreeMap::new();
            for (asset, path) in &step.assets {
                assets.insert(asset.clone(), self.keep_asset(path).await?);
            }
            let StepConfig { name, module, pin: _, config, assets: _ } = step;
            steps.push(forebay_model::revision::Step {
                name: name.clone(),
                module: module.clone(),
                digest,
                config: config.clone(),
                assets,
            });
        }
        Ok(Revision {
            pipeline: name.clone(),
            stream: pipeline.from.clone(),
            decoder: assemble::open_decoding(stream)?.settings(),
            steps,
            routes: pipeline.routes.clone(),
            rejects: pipeline.rejects.clone(),
        })
    }

    async fn active(&self, config: &Config, step: &StepConfig) -> Result<Digest> {
        self.ledger.active_module(&step.module).await?.ok_or_else(|| {
            Error::operator(format!("there is no module named {:?}", step.module.as_str())).with_hint(format!(
                "build it with `cargo build --profile guest --target wasm32-wasip2` and copy the .wasm into {}",
                config.modules.watch.display()
            ))
        })
    }

    async fn pinned(&self, step: &StepConfig, pin: &str) -> Result<Digest> {
        let table = self.ledger.read_table("modules").await?;
        let column = |name: &str| {
            let column = table.column_by_name(name).and_then(|column| column.as_string_opt::<i32>().cloned());
            column.ok_or_else(|| Error::bug(format!("ledger.modules has no column {name}")))
        };
        let (names, digests) = (column("name")?, column("sha256")?);
        let found = names.iter().zip(&digests).filter_map(|(name, digest)| Some((name?, digest?)));
        let found: Vec<_> = found.filter(|(_, digest)| digest.starts_with(pin)).collect();
        let own: Vec<_> = found.iter().filter(|(name, _)| *name == step.module.as_str()).collect();
        match (own.as_slice(), found.as_slice()) {
            ([(_, digest)], _) => digest.parse(),
            ([], []) => Err(Error::operator(format!("module {}@sha256:{pin} was never seen", step.module))
                .with_hint("drop it into the watched folder once; `forebay query \"SELECT * FROM ledger.modules\"` lists what was seen")),
            ([], [(other, _), ..]) => Err(Error::operator(format!("sha256:{pin} is no module {}: it is {other}", step.module))
                .with_hint(format!("write \"{other}@sha256:{pin}\", or the digest of a module {}", step.module))),
            (several, _) => Err(Error::operator(format!("{} modules {} begin with sha256:{pin}", several.len(), step.module))
                .with_hint("write more digits")),
        }
    }

    async fn keep_asset(&self, path: &Path) -> Result<Digest> {
        let bytes = tokio::fs::read(path)
            .await
            .map_err(|error| Error::operator(format!("asset {} cannot be read", path.display())).with_source(error))?;
        let digest = Digest::of(&bytes);
        self.zone.keep(&kept_asset(digest), bytes.into()).await?;
        Ok(digest)
    }

    /// Records the assets of a revision that is taken: what brought them, and which files they were.
    pub(super) async fn record_assets(
        &self,
        config: &Config,
        (name, materials): (&PipelineName, &Materials),
        reason: &str,
    ) -> Result<()> {
        let steps = config.pipelines.get(name).map(|pipeline| pipeline.steps.as_slice()).unwrap_or_default();
        for (step, assets) in steps.iter().zip(&materials.assets) {
            for (asset, Asset { digest, bytes }) in &**assets {
                let Some(path) = step.assets.get(asset) else { continue };
                let path = path.strip_prefix(&config.root).unwrap_or(path);
                let origin = format!("{reason}: {}", path.display());
                let (name, bytes, at) = (asset.clone(), bytes.len() as u64, self.clock.now());
                self.ledger.record_asset(&AssetRecord { digest: *digest, name, bytes, origin, at }).await?;
            }
        }
        Ok(())
    }

    /// Loads what a revision names, from what was kept.
    pub(super) async fn materials(
        &self,
        revision: Revision,
        number: u32,
        limits: &serde_json::Value,
    ) -> Result<Arc<Materials>> {
        self.loaded(revision, number, assemble::with_limits(&self.sandbox, limits)?).await
    }

    /// The same, whose rules say nothing to the log: for trials.
    pub(super) async fn quiet(
        &self,
        revision: Revision,
        number: u32,
        limits: &serde_json::Value,
    ) -> Result<Arc<Materials>> {
        self.loaded(revision, number, assemble::with_limits(&self.sandbox, limits)?.silent()).await
    }

    async fn loaded(&self, revision: Revision, number: u32, sandbox: Sandbox) -> Result<Arc<Materials>> {
        let mut modules: Vec<Arc<dyn Module>> = Vec::new();
        let mut assets: Vec<Assets> = Vec::new();
        for step in &revision.steps {
            let wasm = self.kept(&kept_module(step.digest), step.digest).await?;
            let sandbox = sandbox.clone();
            modules.push(self.workers.aside(move || sandbox.load(&wasm)).await?);
            let mut of_step = BTreeMap::new();
            for (name, digest) in &step.assets {
                let bytes = self.kept(&kept_asset(*digest), *digest).await?;
                of_step.insert(name.clone(), Asset { digest: *digest, bytes });
            }
            assets.push(Arc::new(of_step));
        }
        Ok(Arc::new(Materials { revision, number, modules, assets }))
    }

    /// Keeps a revision beside the raw data before it is active: a ledger that is rebuilt goes on with it.
    pub(super) async fn keep_revision(&self, record: &RevisionRecord, materials: &Materials) -> Result<()> {
        let RevisionRecord { number, id: _, revision, created_at } = record;
        let mut modules = Vec::new();
        for module in &materials.modules {
            let bytes = self.kept(&kept_module(module.digest()), module.digest()).await?.len() as u64;
            let Description { name, version, .. } = module.description().clone();
            modules.push(KeptModule { digest: module.digest(), name, version, bytes });
        }
        let kept = KeptRevision::new(*number, *created_at, revision.clone(), modules);
        if self.zone.kept(&kept.name()).await?.is_some() {
            return Ok(());
        }
        self.zone.keep(&kept.name(), kept.to_bytes()?.into()).await
    }

    /// What was kept under a name, if it is what was kept: other content would be another revision under the same id.
    pub(super) async fn kept(&self, name: &str, digest: Digest) -> Result<bytes::Bytes> {
        let kept = self.zone.kept(name).await?.ok_or_else(|| {
            Error::operator(format!("{name} is not in the landing zone any more"))
                .with_hint("put the module into the watched folder again, under another name")
        })?;
        let found = Digest::of(&kept);
        if found == digest {
            return Ok(kept);
        }
        Err(Error::operator(format!(
            "{name}, which is kept in the landing zone, is damaged: its content has sha256 {}",
            found.short()
        ))
        .with_hint(
            "restore _forebay/kept of the landing zone from a backup; or remove that one file, and put the module into the \
             watched folder again, under another name",
        ))
    }
}
