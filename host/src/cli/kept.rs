//! A revision as it was: its modules and assets, which the landing zone keeps by digest, loaded again.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use forebay_model::kept::kept_asset;
use forebay_model::ports::{Asset, LandingZone, Module, ModuleLoader as _};
use forebay_model::{Digest, Error, Result, Revision};
use forebay_pipeline::refine::bind::Materials;
use forebay_sandbox::Sandbox;

/// A module that was deployed once; `None` where the zone does not have it any more.
///
/// # Errors
/// Where the zone cannot be read.
pub(super) async fn module(zone: &dyn LandingZone, digest: Digest) -> Result<Option<Bytes>> {
    zone.kept(&format!("modules/{digest}.wasm")).await
}

/// What a revision names, loaded.
///
/// # Errors
/// Where the zone does not have it any more, or a module does not load.
pub(super) async fn materials(
    zone: &dyn LandingZone,
    sandbox: &Sandbox,
    revision: Revision,
    number: u32,
) -> Result<Materials> {
    let gone = |what: String| Error::operator(format!("{what} is not in the landing zone any more"));
    let (mut modules, mut assets) = (Vec::new(), Vec::new());
    for step in &revision.steps {
        let wasm = module(zone, step.digest).await?.ok_or_else(|| gone(format!("module {}", step.module)))?;
        modules.push(load(sandbox, wasm.to_vec()).await?);
        let mut of_step = BTreeMap::new();
        for (name, digest) in &step.assets {
            let bytes = zone.kept(&kept_asset(*digest)).await?;
            let bytes = bytes.ok_or_else(|| gone(format!("asset {name:?} of step {}", step.name)))?;
            of_step.insert(name.clone(), Asset { digest: *digest, bytes });
        }
        assets.push(Arc::new(of_step));
    }
    Ok(Materials { revision, number, modules, assets })
}

/// A module, compiled or from the cache: compiling takes seconds of a whole core.
///
/// # Errors
/// Where it is no module.
pub(super) async fn load(sandbox: &Sandbox, wasm: Vec<u8>) -> Result<Arc<dyn Module>> {
    let sandbox = sandbox.clone();
    blocking(move || sandbox.load(&wasm)).await
}

/// Work that holds its thread for long.
///
/// # Errors
/// Its own.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::bug("a worker thread died").with_source(error))?
}
