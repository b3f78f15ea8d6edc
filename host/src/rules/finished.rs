//! A module on the disk, and what can be known of it without a pipeline.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use forebay_model::plan::{InputColumn, InputSource};
use forebay_model::ports::{Description, Module, ModuleLoader as _};
use forebay_sandbox::Sandbox;
use forebay_sdk::testing::case::Case;

use super::cases;
use super::packed::{self, Carried};
use crate::assemble;
use crate::cli::{Exit, Failure};

/// A module that the sandbox has taken: its world and its imports are those that a host gives.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) path: PathBuf,
    pub(crate) bytes: Vec<u8>,
    pub(crate) module: Arc<dyn Module>,
    sandbox: Sandbox,
}

/// What a module does with a case's columns.
#[derive(Debug)]
pub(crate) struct Bound {
    /// The case.
    pub(crate) case: String,
    /// The columns that it reads, and whether each is required.
    pub(crate) reads: Vec<(String, bool)>,
    /// Its routes with their columns.
    pub(crate) routes: Vec<(String, Vec<String>)>,
}

impl Finished {
    /// Loads it; compiled code is kept in `cache`, where there is one.
    ///
    /// # Errors
    /// Where it cannot be read, or is no module.
    pub(crate) fn load(path: &Path, cache: Option<PathBuf>) -> anyhow::Result<Self> {
        let bytes = std::fs::read(path).map_err(|error| {
            Failure::new(Exit::NotFound, format!("{} cannot be read: {error}", path.display()))
                .with_hint("give the path of a module: `forebay build` tells it")
        })?;
        let sandbox = assemble::sandbox_with(cache)?;
        let module = sandbox.load(&bytes)?;
        Ok(Self { path: path.to_owned(), bytes, module, sandbox })
    }

    /// What loaded it.
    pub(crate) fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// The cases that it carries.
    ///
    /// # Errors
    /// Where they are none.
    pub(crate) fn carried(&self) -> Result<Carried, Failure> {
        packed::carried(&self.bytes).map_err(|error| {
            Failure::new(
                Exit::Failed,
                format!("the cases that {} carries cannot be read: {error}", self.path.display()),
            )
            .with_hint("build it again with `forebay build`, which packs them")
        })
    }

    /// What it imports.
    ///
    /// # Errors
    /// Where it does not compile: loading has shown that it does.
    pub(crate) fn imports(&self) -> anyhow::Result<Vec<String>> {
        Ok(self.sandbox.imports(&self.bytes)?)
    }

    /// `name version, sha256 …, size`.
    pub(crate) fn title(&self) -> String {
        let Description { name, version, .. } = self.module.description();
        format!("{name} {version} @sha256:{} ({} KiB)", self.module.digest().short(), self.bytes.len().div_ceil(1024))
    }

    /// What it does with the columns of the first case in a folder. `None` where there is no case.
    ///
    /// # Errors
    /// Why it does not bind to that case.
    pub(crate) fn bound(&self, cases: &Path) -> Result<Option<Bound>, String> {
        let Some(folder) = Case::folders(cases).ok().and_then(|folders| folders.into_iter().next()) else {
            return Ok(None);
        };
        let case = Case::read(&folder).map_err(|error| format!("case {}: {error}", folder.display()))?;
        let bound = cases::bind(self.module.as_ref(), &case);
        let (trial, input) = bound.map_err(|error| format!("case {}: {}", case.name, error.chain()))?;
        let plan = trial.step().transform.plan();
        let reads = plan.inputs.iter().map(|InputColumn { name, source, required }| match source {
            InputSource::Column => (name.clone(), *required),
            InputSource::RecordKey => ("the record's key".to_owned(), *required),
            InputSource::RecordHeaders => ("the record's headers".to_owned(), *required),
            InputSource::RecordTimestamp => ("the record's timestamp".to_owned(), *required),
            InputSource::RecordPosition => ("the record's position".to_owned(), *required),
            InputSource::RecordObject => ("the record's object".to_owned(), *required),
        });
        let routes = cases::route_columns(plan, &input.batch.schema())?;
        Ok(Some(Bound { case: case.name, reads: reads.collect(), routes }))
    }
}
