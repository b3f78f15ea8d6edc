//! `forebay apply`: a config and its assets into the running host.

use std::path::{Path, PathBuf};

use clap::Args;
use forebay_model::Digest;

use super::deployments::{self, follow};
use super::plan::check;
use super::pushing::{Upload, ask, no_host, send, tell};
use super::{Exit, Failure, Global, remote};
use crate::assemble::{self, Access};
use crate::bundle::{Bundle, Staged};
use crate::config::{self, Config, Share};
use crate::requests::{Push, Seen, ShadowWanted};
use crate::who::who;

/// What is said where it was as it is.
const NOTHING: &str = "nothing changed: the host's config is this one already";

/// Apply a config: the running host checks all of it, puts it in place of its own, and takes it up.
///
/// With it go the assets that its steps name by paths beside it. All or nothing: where a pipeline refuses what would be its new revision,
/// no file changes, what was active goes on, and this ends with 1. Then the file that the host was started with is replaced
/// (a folder's files are, where it was started with a folder and one is given here); the former config is kept in the landing zone. A
/// threshold that changed is a new revision like a new module: with --shadow it is compared first. Modules go with `forebay deploy`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  forebay apply rules/forebay.toml -c /srv/forebay/forebay.toml
  forebay apply forebay.toml --label \"$(git rev-parse --short HEAD)\"
  forebay apply forebay.toml --shadow 5 --max-changed 1%    first compare, row by row
  FOREBAY_URL=http://127.0.0.1:8181 FOREBAY_TOKEN=secret forebay apply forebay.toml")]
pub(super) struct ApplyArgs {
    /// The config: a file, or a folder with a forebay.toml. --config names the host's own.
    #[arg(value_name = "CONFIG")]
    file: PathBuf,
    /// Where it came from, as you call it: a commit, a release. It stands with the revisions that it leads to.
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    /// First compare what each new revision makes of so many segments with what is active, row by row; 0: not at all. Default: as
    /// each pipeline's `deploy.shadow` says.
    #[arg(long, value_name = "SEGMENTS", value_parser = clap::value_parser!(u32).range(0..=1000))]
    shadow: Option<u32>,
    /// It becomes active by itself where no larger share of those rows differs. Default: the pipeline's `deploy.max_changed`.
    #[arg(long, value_name = "SHARE", requires = "shadow")]
    max_changed: Option<Share>,
    /// Do not wait until the comparison is done.
    #[arg(long)]
    detach: bool,
}

/// A config as it will be where the host's is, checked.
pub(super) struct Meant {
    bundle: Bundle,
    config: Config,
    /// What stands in for its files until it is read no more.
    _folder: tempfile::TempDir,
}

impl Meant {
    /// Reads what is applied, as if it were in the place of `--config`.
    pub(super) fn read(global: &Global, args: &ApplyArgs) -> anyhow::Result<Self> {
        let bundle = read(args)?;
        let folder = tempfile::tempdir()?;
        let staged = Staged::write(folder.path(), bundle.places(&global.config)?)?;
        let config = config::load_over(&global.config, staged.overlay(), &|name| std::env::var(name).ok());
        // What is wrong is wrong where it came from.
        let config = config.map_err(|problems| problems.renamed(|place| origin(&args.file, place)))?;
        Ok(Self { bundle, config, _folder: folder })
    }
}

/// The file of what is applied that is to be at `place`.
fn origin(applied: &Path, place: &Path) -> PathBuf {
    let name = place.file_name().unwrap_or(place.as_os_str());
    if applied.is_dir() {
        return applied.join(name);
    }
    // Over HTTP it comes as a bundle under its name.
    if applied.extension().is_some_and(|extension| extension == "json") {
        return applied.with_extension("");
    }
    applied.to_owned()
}

fn read(args: &ApplyArgs) -> anyhow::Result<Bundle> {
    if !args.file.exists() {
        let failure = Failure::new(Exit::NotFound, format!("there is no config at {}", args.file.display()));
        return Err(failure.with_hint("name the file, or the folder with its forebay.toml").into());
    }
    Ok(Bundle::read(&args.file)?)
}

pub(super) async fn apply(global: &Global, meant: Meant, args: &ApplyArgs) -> anyhow::Result<Exit> {
    let ApplyArgs { file, label, shadow, max_changed, detach } = args;
    let Meant { bundle, config, _folder } = &meant;
    super::need_ledger(config).await?;
    let ledger = assemble::open_ledger(config, Access::Write).await?;
    if ledger.host().await?.is_none() {
        let hint = "put the config in its place yourself, and start the host with `forebay run`";
        return Err(no_host().with_hint(hint).into());
    }
    let seen = Seen::all(&*ledger, config.pipelines.keys()).await?;
    for (name, pipeline) in &config.pipelines {
        check(config, name, pipeline)
            .await
            .map_err(|error| anyhow::Error::from(error).context(format!("pipeline {name} refuses it")))?;
    }
    let bytes = bundle.bytes()?;
    let digest = Digest::of(&bytes);
    assemble::open_zone(config, Access::Write)?.keep(&Bundle::kept(digest), bytes).await?;
    let label = label.as_ref().map(|label| format!(" ({label})")).unwrap_or_default();
    let file = origin(file, file);
    let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
    let origin = format!("apply:{name}{label} by {}", who());
    let shadow = shadow.map(|segments| ShadowWanted { segments, max_changed: *max_changed });
    let pushed = ask(global, &*ledger, seen, Push::Apply { bundle: digest, origin, shadow }).await?;
    if *detach || pushed.shadow.is_empty() {
        return tell(global, &pushed, NOTHING);
    }
    follow(global, &deployments::At::Ledger(&*ledger), &pushed).await
}

/// Sends it to a host elsewhere.
pub(super) async fn ask_host(global: &Global, host: &remote::Host, args: &ApplyArgs) -> anyhow::Result<Exit> {
    let ApplyArgs { file, label, shadow, max_changed, detach } = args;
    let bundle = read(args)?.bytes()?;
    let (path, media) = ("/v1/apply", "application/json");
    let (label, shadow, max_changed) = (label.as_deref(), *shadow, *max_changed);
    let upload = Upload { path, media, file, label, shadow, max_changed, pipelines: &[] };
    let pushed = send(global, host, upload, bundle.into()).await?;
    if *detach || pushed.shadow.is_empty() {
        return tell(global, &pushed, NOTHING);
    }
    follow(global, &deployments::At::Host(host), &pushed).await
}
