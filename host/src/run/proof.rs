//! A module proves itself before it is taken: the cases that it carries are run, and one that does not pass is refused.

use std::sync::PoisonError;

use arrow::array::AsArray as _;
use forebay_model::ports::ModuleLoader as _;
use forebay_model::{Error, PipelineName, Result, RevisionId};
use forebay_pipeline::refine::bind::Materials;

use super::modules::{Shelf, kept_module};
use crate::assemble;
use crate::failpoint::failpoint;
use crate::rules::prove::{TIME, prove};

impl Shelf {
    /// Runs the cases that a revision's modules carry, as its pipeline would run them: beside the workers, which go on meanwhile.
    /// Nothing is written, so a process that dies here starts as if it had not been asked.
    pub(super) async fn prove(&self, materials: &Materials, limits: &serde_json::Value) -> Result<()> {
        let limits = assemble::limits(limits)?;
        let sandbox = self.sandbox.with_limits(limits.clone())?.silent();
        for module in &materials.modules {
            let tried = (module.digest(), limits.clone());
            if self.passed.lock().unwrap_or_else(PoisonError::into_inner).contains(&tried) {
                continue;
            }
            let wasm = self.kept(&kept_module(module.digest()), module.digest()).await?;
            failpoint("before_cases");
            let sandbox = sandbox.clone();
            self.workers.aside(move || prove(&*sandbox.load(&wasm)?, &wasm, TIME)).await?;
            self.passed.lock().unwrap_or_else(PoisonError::into_inner).push(tried);
        }
        Ok(())
    }

    /// Whether a revision has ever taken segments of its pipeline.
    pub(super) async fn was_active(&self, pipeline: &PipelineName, id: RevisionId) -> Result<bool> {
        let table = self.ledger.read_table("deployments").await?;
        let column = |name: &str| {
            let column = table.column_by_name(name).and_then(|column| column.as_string_opt::<i32>().cloned());
            column.ok_or_else(|| Error::bug(format!("ledger.deployments has no column {name}")))
        };
        let (pipelines, revisions, states) = (column("pipeline")?, column("revision_id")?, column("state")?);
        let id = id.to_string();
        let mut rows = pipelines.iter().zip(&revisions).zip(&states);
        Ok(rows.any(|((of, revision), state)| {
            of == Some(pipeline.as_str())
                && revision == Some(id.as_str())
                && matches!(state, Some("active" | "retired"))
        }))
    }
}
