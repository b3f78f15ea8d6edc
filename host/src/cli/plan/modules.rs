//! The modules that the next run would use: those that are new in the watched folder, else those that are active.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::AsArray as _;
use bytes::Bytes;
use forebay_model::ports::{Asset, Assets, LandingZone, Ledger, Module};
use forebay_model::{Digest, Error, Result};
use forebay_sandbox::Sandbox;

use crate::cli::kept::{self, load};
use crate::config::{Config, StepConfig};

/// A module and where it was found.
pub(super) struct Found {
    pub(super) module: Arc<dyn Module>,
    pub(super) origin: String,
    /// Its content, where it has not been taken yet: a run would try the cases that it carries first.
    pub(super) untried: Option<Bytes>,
}

/// A `.wasm` of the watched folder.
struct InFolder {
    found: Found,
    /// Its content is not the one that was last seen at its path: the next run deploys it.
    new: bool,
}

/// The modules that there are.
pub(super) struct Modules {
    sandbox: Sandbox,
    folder: Vec<InFolder>,
    ledger: Option<Arc<dyn Ledger>>,
    zone: Arc<dyn LandingZone>,
    watched: String,
}

impl Modules {
    /// Looks into the watched folder. What is no module is told, and left out as a run would.
    pub(super) async fn open(
        config: &Config,
        sandbox: Sandbox,
        ledger: Option<Arc<dyn Ledger>>,
        zone: Arc<dyn LandingZone>,
    ) -> Result<Self> {
        let seen = match &ledger {
            Some(ledger) => seen(&**ledger).await?,
            None => BTreeMap::new(),
        };
        let mut folder = Vec::new();
        for file in crate::run::modules::files(&config.modules.watch) {
            let path = file.strip_prefix(&config.root).unwrap_or(&file).to_string_lossy().into_owned();
            let wasm = read(&file, "module").await?;
            let new = seen.get(&path) != Some(&Digest::of(&wasm).to_string());
            let untried = new.then(|| Bytes::from(wasm.clone()));
            match load(&sandbox, wasm).await {
                Ok(module) => folder.push(InFolder { found: Found { module, origin: path, untried }, new }),
                Err(error) => {
                    tracing::warn!(file = path, error = error.chain(), hint = error.hint(), "no module that would run");
                }
            }
        }
        let watched = config.modules.watch.display().to_string();
        Ok(Self { sandbox, folder, ledger, zone, watched })
    }

    /// The module of a step.
    pub(super) async fn of(&self, step: &StepConfig) -> Result<Found> {
        let named = || self.folder.iter().filter(|file| file.found.module.description().name == step.module);
        let copy = |file: &InFolder| {
            let Found { module, origin, untried } = &file.found;
            Found { module: Arc::clone(module), origin: origin.clone(), untried: untried.clone() }
        };
        let digest = match &step.pin {
            Some(pin) => {
                if let Some(file) = named().find(|file| file.found.module.digest().to_string().starts_with(pin)) {
                    return Ok(copy(file));
                }
                self.pinned(pin).await?
            }
            None => {
                if let Some(file) = named().rfind(|file| file.new) {
                    return Ok(copy(file));
                }
                match &self.ledger {
                    Some(ledger) => ledger.active_module(&step.module).await?,
                    None => None,
                }
            }
        };
        if let Some(digest) = digest
            && let Some(wasm) = kept::module(&*self.zone, digest).await?
        {
            let module = load(&self.sandbox, wasm.to_vec()).await?;
            let origin = "the landing zone, where it was kept".to_owned();
            return Ok(Found { module, origin, untried: None });
        }
        let pin = step.pin.as_ref().map(|pin| format!("@sha256:{pin}")).unwrap_or_default();
        Err(Error::operator(format!("step {}: there is no module {}{pin}", step.name, step.module)).with_hint(format!(
            "build it with `cargo build --profile guest --target wasm32-wasip2` and copy the .wasm into {}",
            self.watched
        )))
    }

    /// The module that a run has seen under these digits.
    async fn pinned(&self, pin: &str) -> Result<Option<Digest>> {
        let Some(ledger) = &self.ledger else { return Ok(None) };
        let table = ledger.read_table("modules").await?;
        let digests = table.column_by_name("sha256").and_then(|column| column.as_string_opt::<i32>().cloned());
        let digests = digests.ok_or_else(|| Error::bug("ledger.modules has no column sha256"))?;
        digests.iter().flatten().find(|digest| digest.starts_with(pin)).map(str::parse).transpose()
    }
}

/// The assets of a step, by name.
pub(super) async fn assets(step: &StepConfig) -> Result<Assets> {
    let mut assets = BTreeMap::new();
    for (name, path) in &step.assets {
        let bytes = read(path, "asset").await?;
        assets.insert(name.clone(), Asset { digest: Digest::of(&bytes), bytes: bytes.into() });
    }
    Ok(Arc::new(assets))
}

async fn read(path: &Path, what: &str) -> Result<Vec<u8>> {
    let read = tokio::fs::read(path).await;
    read.map_err(|error| Error::operator(format!("{what} {} cannot be read", path.display())).with_source(error))
}

/// The content that was last seen at each path of the folder.
async fn seen(ledger: &dyn Ledger) -> Result<BTreeMap<String, String>> {
    let table = ledger.read_table("module_files").await?;
    let column = |name: &str| {
        let column = table.column_by_name(name).and_then(|column| column.as_string_opt::<i32>().cloned());
        column.ok_or_else(|| Error::bug(format!("ledger.module_files has no column {name}")))
    };
    let (paths, digests) = (column("path")?, column("sha256")?);
    let pairs = paths.iter().zip(&digests);
    Ok(pairs.filter_map(|(path, digest)| Some((path?.to_owned(), digest?.to_owned()))).collect())
}
