//! `forebay replay --verify`: the same bytes make the same rows. Segments are refined twice under the active revision, and what comes
//! out is compared byte for byte; nothing is written.

use std::sync::Arc;

use forebay_model::ports::{Deployment, Ledger};
use forebay_model::{Digest, PipelineName, Result, SegmentId};
use forebay_pipeline::refine::bind::{BoundPipeline, Materials};
use forebay_pipeline::refine::rehearse::rehearse_each;
use forebay_pipeline::workers::process_steps_behind;
use serde_json::json;

use super::again::{Chosen, bar, tell};
use super::kept::{self, blocking};
use super::rehearsals::{Landed, Rehearsals};
use super::{Exit, Failure, Global, repair};
use crate::query::Lake;
use crate::rules::fingerprint::Fingerprint;

/// Segments that are named where they differ; the rest is counted.
const NAMED: usize = 20;

/// Verifies them, under the active revision where `under` says no other.
///
/// # Errors
/// Where no revision is active, or something cannot be opened.
pub(super) async fn verify(
    global: &Global,
    lake: &Lake,
    ledger: &dyn Ledger,
    chosen: &Chosen,
    under: Option<Materials>,
) -> anyhow::Result<Exit> {
    let pipeline = &chosen.pipeline;
    let Some(rehearsals) = Rehearsals::open(lake, pipeline).await? else {
        return tell(global, &json!({ "verified": chosen.json(), "different": [] }), || {
            format!("{pipeline} has no schema yet")
        });
    };
    let materials = match under {
        Some(materials) => materials,
        None => active(lake, ledger, &rehearsals, pipeline).await?,
    };
    let number = materials.number;
    let bound = {
        let rehearsals = rehearsals.clone();
        Arc::new(blocking(move || rehearsals.bind(&materials)).await?)
    };
    process_steps_behind();
    let bar = bar(global, chosen.segments.len() as u64);
    let (mut different, mut failed) = (Vec::new(), Vec::new());
    for segment in &chosen.segments {
        let landed = rehearsals.landed(lake, segment).await?;
        let (bound, rehearsals) = (Arc::clone(&bound), rehearsals.clone());
        let twice = blocking(move || Ok((made(&rehearsals, &bound, &landed), made(&rehearsals, &bound, &landed))));
        match twice.await? {
            (Ok(first), Ok(second)) if first == second => {}
            (Ok(_), Ok(_)) => different.push(segment.clone()),
            // What fails alike is no difference.
            (Err(first), Err(second)) if first.chain() == second.chain() => failed.push((segment.clone(), first)),
            (Err(error), _) | (_, Err(error)) => {
                different.push(segment.clone());
                failed.push((segment.clone(), error));
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let failures: Vec<_> =
        failed.iter().map(|(segment, error)| json!({ "segment": segment, "error": error.chain() })).collect();
    let value = json!({ "verified": chosen.json(), "revision": number, "different": different, "failed": failures });
    tell(global, &value, || {
        let mut lines = match different.len() {
            0 => vec![format!("{pipeline}: {} come out the same twice under revision {number}", chosen.words())],
            count => vec![format!(
                "{pipeline}: {count} of {} came out otherwise the second time under revision {number}:",
                chosen.words()
            )],
        };
        lines.extend(different.iter().take(NAMED).map(|segment: &SegmentId| format!("  {segment}")));
        lines
            .extend(failed.iter().take(NAMED).map(|(segment, error)| format!("  {segment} failed: {}", error.chain())));
        lines.join("\n")
    })?;
    if !different.is_empty() {
        let failure = Failure::new(Exit::Failed, format!("the rows of {pipeline} depend on more than its records"));
        return Err(failure
            .with_hint("`forebay test --from-segment` in the rule's folder finds out on what; report it if no rule is at fault")
            .into());
    }
    Ok(if failed.is_empty() { Exit::Ok } else { Exit::Failed })
}

/// The active revision, with what it names.
async fn active(
    lake: &Lake,
    ledger: &dyn Ledger,
    rehearsals: &Rehearsals,
    pipeline: &PipelineName,
) -> anyhow::Result<Materials> {
    let active = ledger.active(pipeline).await?.ok_or_else(|| {
        Failure::new(Exit::Failed, format!("pipeline {pipeline} has no active revision"))
            .with_hint("start the host: `forebay status` then tells what is active")
    })?;
    let Deployment { revision, .. } = active;
    let sandbox = repair::sandbox(lake, pipeline)?;
    Ok(kept::materials(&*rehearsals.zone, &sandbox, revision.revision, revision.number).await?)
}

/// What a segment comes to, as a digest.
fn made(rehearsals: &Rehearsals, bound: &BoundPipeline, landed: &Landed) -> Result<Digest> {
    let mut fingerprint = Fingerprint::default();
    let Landed { segment, decoding } = landed;
    rehearse_each(&*rehearsals.zone, &**decoding, bound, segment, |batch| fingerprint.add(&batch))?;
    Ok(fingerprint.finish())
}
