//! `forebay watch`: a rule is built, tested and put into the pipeline beside its author, whenever a file is saved.

mod local;
mod saved;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use clap::Args;
use forebay_sdk::testing::case::Case;
use serde_json::{Value, json};

use super::build::{packed_cases, write};
use super::compare::Compared;
use super::exit::report;
use super::{Exit, Global, logging, show, test};
use crate::assemble;
use crate::rules::cases::{self, Expect, Ran, Until};
use crate::rules::finished::Finished;
use crate::rules::package::Package;
use crate::run::Signals;
use local::{Built, Local, Pushing};
use saved::Saved;

/// Build, test and reload a rule whenever one of its files is saved, until Ctrl-C.
///
/// What passes its cases goes into the pipeline of the config, where there is one: the running host takes it as `forebay deploy` has
/// it, and where none runs it waits in the watched folder. Before that it is told what it changes: the last segment of each
/// pipeline that uses the rule is refined with the module that is active and with the new one, here, and their rows are compared. What does
/// not build, or fails a case, changes nothing. Rows are shown as they are: production's data is on your screen.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  forebay watch                                the crate in this folder: build and test
  forebay watch rules/fx -c forebay.toml       and put it into the pipeline that runs here
  forebay watch --json                         an object a round, for an editor")]
pub(super) struct WatchArgs {
    /// The rule's folder.
    #[arg(default_value = ".")]
    folder: PathBuf,
}

/// What came of a round.
struct Round {
    /// `fraud 0.1.0 @sha256:… (1,234 KiB)`.
    title: String,
    sha256: String,
    cases: Vec<Ran>,
    /// `None` where a case failed, or there is no config.
    pushed: Option<(Vec<Compared>, Pushing)>,
}

pub(super) fn watch(global: &Global, args: &WatchArgs) -> anyhow::Result<Exit> {
    let WatchArgs { folder } = args;
    logging::start(global, None)?;
    let package = Package::find(folder)?;
    // A config that is wrong is said now: nobody would look for it behind the first build.
    if global.has_config() {
        global.config()?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let exit = runtime.block_on(async {
        let mut signals = Signals::new();
        tokio::select! {
            () = signals.next() => Ok(Exit::Ok),
            ended = rounds(global, Arc::new(package), folder) => ended,
        }
    });
    // A build may still hold a thread.
    runtime.shutdown_background();
    exit
}

/// Round after round; it ends where nobody reads what it says any more.
async fn rounds(global: &Global, package: Arc<Package>, folder: &std::path::Path) -> anyhow::Result<Exit> {
    let mut saved = Saved::start(folder);
    loop {
        match round(global, &package, folder).await {
            Ok(round) if global.json() => show::object(&in_json(&round))?,
            Ok(round) => show::line(&in_words(&round))?,
            // It is the author's to repair, and the next save tries again.
            Err(error) => {
                report(&error, global.json());
            }
        }
        if !global.quiet() {
            eprintln!("watching {}: save a file to go on, Ctrl-C ends", folder.display());
        }
        let changed = saved.changed().await;
        if let (Some(first), false) = (changed.first(), global.quiet()) {
            let more = changed.len() - 1;
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            eprintln!("saved: {}{more}", first.strip_prefix(folder).unwrap_or(first).display());
        }
    }
}

async fn round(global: &Global, package: &Arc<Package>, folder: &std::path::Path) -> anyhow::Result<Round> {
    // Read anew: a threshold is changed as often as a rule.
    let config = if global.has_config() { Some(global.config()?) } else { None };
    let cache = config.as_ref().map_or_else(|| Some(package.cache()), assemble::cache_folder);
    let (building, quiet, of) = (Arc::clone(package), global.quiet(), folder.to_owned());
    let tried = tokio::task::spawn_blocking(move || {
        let built = building.build(quiet)?;
        let path = write(&building, &built, &packed_cases(&of.join("cases"))?)?;
        let finished = Finished::load(&path, cache)?;
        Ok::<_, anyhow::Error>((try_cases(&finished, &of), finished))
    });
    let (cases, finished) = tried.await??;
    let mut round =
        Round { title: finished.title(), sha256: finished.module.digest().to_string(), cases, pushed: None };
    let Some(config) = config.filter(|_| round.cases.iter().all(Ran::passed)) else { return Ok(round) };
    let Finished { path, bytes, module, .. } = &finished;
    let built = Built { path, wasm: Bytes::from(bytes.clone()), module: Arc::clone(module) };
    let local = Local { global, config, sandbox: finished.sandbox().clone() };
    // First what it changes: once it is active, there is nothing to compare it with.
    let compared = match local.compare(&built).await {
        Ok(compared) => compared,
        Err(error) => {
            report(&error.context("it cannot be told what changes"), global.json());
            Vec::new()
        }
    };
    let pushed = local.push(&built).await?;
    // It was compared with itself.
    let compared = if matches!(pushed, Pushing::Same) { Vec::new() } else { compared };
    round.pushed = Some((compared, pushed));
    Ok(round)
}

/// Every case of the folder; none is no failure, for the first is still to be written.
fn try_cases(finished: &Finished, folder: &std::path::Path) -> Vec<Ran> {
    let folders = Case::folders(&folder.join("cases")).unwrap_or_default();
    let run = |folder: &PathBuf| match Case::read(folder) {
        Ok(case) => cases::run(finished.module.as_ref(), &case, Expect::Same, Until::DONE),
        Err(error) => {
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Ran::broken(name, error.to_string())
        }
    };
    folders.iter().map(run).collect()
}

fn in_json(round: &Round) -> Value {
    let Round { title: _, sha256, cases, pushed } = round;
    let cases: Vec<_> = cases.iter().map(test::in_json).collect();
    let (compared, pushed) = pushed.as_ref().map(|(compared, pushed)| (compared, pushed)).unzip();
    json!({
        "sha256": sha256, "cases": cases,
        "changes": compared.into_iter().flatten().map(Compared::json).collect::<Vec<_>>(),
        "pushed": pushed.map(Pushing::json),
    })
}

fn in_words(round: &Round) -> String {
    let Round { title, sha256: _, cases, pushed } = round;
    let failed: Vec<_> = cases.iter().filter(|ran| !ran.passed()).collect();
    let passed = show::count((cases.len() - failed.len()) as u64, "case");
    let mut lines = vec![format!("{title}: {passed} passed, {} failed", failed.len())];
    lines.extend(failed.iter().map(|ran| test::in_words(ran)));
    let Some((compared, pushed)) = pushed else {
        if !failed.is_empty() {
            lines.push("it goes nowhere: repair the rule, or what its case expects".to_owned());
        }
        return lines.join("\n");
    };
    compared.iter().for_each(|compared| lines.extend(compared.words()));
    lines.extend(match pushed {
        Pushing::Same => vec!["it is active already".to_owned()],
        Pushing::Unused => vec!["it is active, and no pipeline uses it".to_owned()],
        Pushing::Waits(path) => vec![format!("no host runs: the next start takes it from {}", path.display())],
        Pushing::Taken(active) => active
            .iter()
            .map(|active| {
                let (pipeline, revision, id) = (&active.pipeline, active.revision, active.revision_id.short());
                let missing: String =
                    active.missing.iter().map(|what| format!("; every record will be rejected: {what}")).collect();
                format!("{pipeline}: revision {revision} ({id}) is active{missing}")
            })
            .collect(),
    });
    lines.join("\n")
}
