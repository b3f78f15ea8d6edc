//! `forebay deploy`: a module into the running host.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use forebay_model::PipelineName;
use forebay_model::ports::{Ledger, ModuleLoader as _, ModuleRecord};

use super::deployments::follow;
use super::kept::blocking;
use super::plan::check;
use super::pushing::{Upload, ask, no_host, send, tell};
use super::{Exit, Failure, Global, another_host, deployments, listing, named, need_ledger, remote, show};
use crate::assemble::{self, Access};
use crate::config::Config;
use crate::config::Share;
use crate::requests::{Push, Seen, ShadowWanted};
use crate::rules::prove::{TIME, prove};
use crate::run::modules::{check_size, keep_module, loosest, meant_for, uses};
use crate::who::who;

/// Deploy a module: the running host checks it, and takes it for the next segments.
///
/// It is checked as a file of the watched folder is: it loads within the limits, binds to the schemas in use, its rows fit the
/// tables, the cases that it carries pass, and it fails on no more of the last segments than what is active. All pipelines that use its name
/// take it, or none does; where it is refused, what was active goes on and this ends with 1. With --shadow it is compared first: this waits,
/// and ends with 3 where more rows differ than may, until `forebay deployments approve` or `cancel`. The module is kept by digest, so
/// `forebay rollback` puts the former one back. With --pipeline it is refused where a pipeline that is not named would take it too: a step
/// that pins it in the config (`module = "fraud@sha256:…"`) has it alone.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  forebay deploy target/forebay/fraud.wasm     what `forebay build` made
  forebay deploy fraud.wasm --label \"$(git rev-parse --short HEAD)\"
  forebay deploy fraud.wasm --shadow 5 --max-changed 1%    first compare, row by row
  forebay deploy fraud.wasm --pipeline cards   and no other pipeline, or not at all
  forebay deploy fraud.wasm --offline          for the next start, where no host runs
  FOREBAY_URL=http://127.0.0.1:8181 FOREBAY_TOKEN=secret forebay deploy fraud.wasm")]
pub(super) struct DeployArgs {
    /// The module.
    file: PathBuf,
    /// Where it came from, as you call it: a commit, a release. It stands beside the module's origin.
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    /// The pipelines that it is meant for; may be given many times. Default: all that use its name.
    #[arg(long = "pipeline", value_name = "NAME", value_delimiter = ',')]
    pipelines: Vec<PipelineName>,
    /// First compare what it makes of so many segments with what is active, row by row; 0: not at all. Default: the pipeline's
    /// `deploy.shadow`.
    #[arg(long, value_name = "SEGMENTS", value_parser = clap::value_parser!(u32).range(0..=1000))]
    shadow: Option<u32>,
    /// It becomes active by itself where no larger share of those rows differs. Default: the pipeline's `deploy.max_changed`.
    #[arg(long, value_name = "SHARE", requires = "shadow")]
    max_changed: Option<Share>,
    /// Do not wait until the comparison is done.
    #[arg(long, conflicts_with = "offline")]
    detach: bool,
    /// Write into a ledger that no host uses; the next start takes it.
    #[arg(long, conflicts_with = "shadow")]
    offline: bool,
}

impl DeployArgs {
    /// Whether it is for a ledger that no host uses.
    pub(super) fn is_offline(&self) -> bool {
        self.offline
    }
}

pub(super) async fn deploy(global: &Global, config: &Config, args: &DeployArgs) -> anyhow::Result<Exit> {
    let DeployArgs { file, label, pipelines, shadow, max_changed, detach, offline } = args;
    need_ledger(config).await?;
    let pipelines = pipelines.iter().map(|name| named::pipeline(config, name.as_str()));
    let pipelines = pipelines.collect::<Result<BTreeSet<_>, _>>()?;
    let sandbox = assemble::open_sandbox(config)?;
    check_size(file, &loosest(sandbox.limits(), config)).map_err(|(error, _)| error)?;
    let wasm = read(file).await?;
    let ledger = assemble::open_ledger(config, Access::Write).await?;
    let lease = if *offline {
        let Some(lease) = ledger.lease_host().await? else { return Err(another_host(ledger.host().await?).into()) };
        Some(lease)
    } else if ledger.host().await?.is_none() {
        let hint = "start it with `forebay run`, or deploy for its next start with --offline";
        return Err(no_host().with_hint(hint).into());
    } else {
        None
    };
    // Before what takes its time: who else deploys meanwhile was first.
    let seen = Seen::all(&*ledger, config.pipelines.keys()).await?;
    let label = label.as_ref().map(|label| format!(" ({label})")).unwrap_or_default();
    let file_name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
    let origin = format!("deploy:{file_name}{label} by {}", who());
    let wasm = bytes::Bytes::from(wasm);
    let module =
        keep(config, &*ledger, wasm.clone(), origin).await.with_context(|| format!("{} is refused", file.display()))?;
    let ModuleRecord { name, digest, version, bytes: _, origin, at } = module;
    let known = ledger.active_module(&name).await? == Some(digest);
    let nothing = match (known, config.pipelines.keys().any(|pipeline| uses(config, pipeline, &name))) {
        (true, _) => format!("{name} {version} ({}) is active already: nothing changed", digest.short()),
        (false, true) => format!("{name} {version} ({}) is active, and waits for its pipelines to run", digest.short()),
        (false, false) => format!("{name} {version} ({}) is active, and no pipeline uses it", digest.short()),
    };
    if lease.is_none() {
        let shadow = shadow.map(|segments| ShadowWanted { segments, max_changed: *max_changed });
        let pushed = ask(global, &*ledger, seen, Push::Module { name, digest, origin, shadow, pipelines }).await?;
        if *detach || pushed.shadow.is_empty() {
            return tell(global, &pushed, &nothing);
        }
        return follow(global, &deployments::At::Ledger(&*ledger), &pushed).await;
    }
    meant_for(config, (&name, digest), &pipelines).with_context(|| format!("{} is refused", file.display()))?;
    let mut users = Vec::new();
    for (pipeline, settings) in &config.pipelines {
        if !uses(config, pipeline, &name) {
            continue;
        }
        let mut pinned = settings.clone();
        for step in pinned.steps.iter_mut().filter(|step| step.module == name && step.pin.is_none()) {
            step.pin = Some(digest.to_string());
        }
        let checked = async {
            check(config, pipeline, &pinned).await?;
            passes(config, pipeline, wasm.clone()).await
        };
        if let Err(error) = checked.await {
            return Err(anyhow::Error::from(error).context(format!("pipeline {pipeline} refuses it")));
        }
        users.push(pipeline.to_string());
    }
    ledger.activate_module(&name, digest, at).await?;
    if global.json() {
        show::object(&serde_json::json!({ "module": name, "sha256": digest, "pipelines": users }))?;
    } else if users.is_empty() {
        show::line(&nothing)?;
    } else {
        show::line(&format!(
            "{name} {version} ({}): the next start takes it for {}",
            digest.short(),
            users.join(", ")
        ))?;
    }
    Ok(Exit::Ok)
}

/// Sends it to a host elsewhere.
pub(super) async fn ask_host(global: &Global, host: &remote::Host, args: &DeployArgs) -> anyhow::Result<Exit> {
    let DeployArgs { file, label, pipelines, shadow, max_changed, detach, offline: _ } = args;
    let wasm = read(file).await?;
    let (path, media) = ("/v1/deploy", "application/wasm");
    let (label, shadow, max_changed) = (label.as_deref(), *shadow, *max_changed);
    let upload = Upload { path, media, file, label, shadow, max_changed, pipelines };
    let pushed = send(global, host, upload, wasm).await?;
    if *detach || pushed.shadow.is_empty() {
        return tell(global, &pushed, "nothing changed: it is active already, or no pipeline uses it");
    }
    follow(global, &deployments::At::Host(host), &pushed).await
}

async fn read(file: &std::path::Path) -> Result<Vec<u8>, Failure> {
    tokio::fs::read(file).await.map_err(|error| {
        Failure::new(Exit::NotFound, format!("module {} cannot be read: {error}", file.display()))
            .with_hint("`forebay build` says where it puts a module")
    })
}

/// Runs the cases that a module carries, under a pipeline's limits.
async fn passes(config: &Config, pipeline: &PipelineName, wasm: bytes::Bytes) -> forebay_model::Result<()> {
    let limits = config.pipelines.get(pipeline).map(|pipeline| &pipeline.limits);
    let sandbox = assemble::open_sandbox(config)?;
    let sandbox = limits.map_or(Ok(sandbox.clone()), |limits| assemble::with_limits(&sandbox, limits))?;
    let sandbox = sandbox.silent();
    blocking(move || prove(&*sandbox.load(&wasm)?, &wasm, TIME)).await
}

/// Checks that the bytes are a module, keeps them beside the raw data, and records them. Nothing is active yet.
pub(super) async fn keep(
    config: &Config,
    ledger: &dyn Ledger,
    wasm: bytes::Bytes,
    origin: String,
) -> anyhow::Result<ModuleRecord> {
    let sandbox = assemble::open_sandbox(config)?;
    let sandbox = sandbox.with_limits(loosest(sandbox.limits(), config))?;
    let loaded = wasm.clone();
    let module = blocking(move || sandbox.load(&loaded)).await?;
    let zone = assemble::open_zone(config, Access::Write)?;
    Ok(keep_module(ledger, &*zone, (&*module, wasm), origin, listing::now()).await?)
}
