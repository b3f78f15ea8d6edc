//! The config: what a person wrote, checked as a whole before anything else is touched.
//!
//! [`load`] answers with a [`Config`] whose every value is known to be usable offline (names resolve, numbers are in
//! range, a table has one pipeline), or with *all* that is wrong, each with file, line, column and what to do
//! ([`Problems`]). Nothing downstream looks at TOML again.
//!
//! The way: text ▶ [`node`] (a tree that remembers places; files of a folder merged; `${NAME}` replaced) ▶ [`shape`]
//! (serde structs, unknown keys refused) ▶ [`check`] (what one key says of another) ▶ [`Config`].

mod check;
mod de;
mod node;
mod overlay;
mod problem;
mod redact;
mod schedule;
mod shape;
mod show;
#[cfg(test)]
mod tests;
mod units;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use forebay_landing::Encryption;
use forebay_model::ids::{ModuleName, WarehouseName};
use forebay_model::revision::RouteTarget;
use forebay_model::{PipelineName, StreamName, TableName};
use forebay_postgres::PostgresAddress;
use forebay_s3::S3Address;
use uuid::Uuid;

pub(crate) use overlay::Overlay;
pub(crate) use problem::{Problem, Problems, hint_for, nearest};
pub(crate) use redact::Settings;
pub(crate) use schedule::Schedule;
use units::format_size;
pub(crate) use units::{BackAfter, Share, format_bytes, format_duration, parse_duration};

/// The name of the config file in a folder.
pub(crate) const FILE_NAME: &str = "forebay.toml";

/// A whole config. Relative paths have been joined to `root`.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// What was given to read it, a file or a folder: [`load`] it again to see what changed.
    pub(crate) path: PathBuf,
    /// The file that was read; `forebay.toml` of the folder where a folder was given.
    pub(crate) file: PathBuf,
    /// Its folder, which relative paths are relative to. Absolute.
    pub(crate) root: PathBuf,
    /// `[landing]`.
    pub(crate) landing: LandingConfig,
    /// `[ledger]`.
    pub(crate) ledger: LedgerConfig,
    /// `[modules]`.
    pub(crate) modules: ModulesConfig,
    /// `[warehouses.<name>]`.
    pub(crate) warehouses: BTreeMap<WarehouseName, WarehouseConfig>,
    /// `[streams.<name>]`.
    pub(crate) streams: BTreeMap<StreamName, StreamConfig>,
    /// `[pipelines.<name>]`.
    pub(crate) pipelines: BTreeMap<PipelineName, PipelineConfig>,
    /// `[host]`.
    pub(crate) host: HostConfig,
    /// `[http]`, where it is written.
    pub(crate) http: Option<HttpConfig>,
    /// `[alerts]`, where it is written.
    pub(crate) alerts: Option<AlertsConfig>,
    /// `[maintain]`.
    pub(crate) maintain: MaintainConfig,
}

/// Where raw data lands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LandingConfig {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A bucket, or a prefix of one.
    S3 {
        /// Where it is.
        address: S3Address,
        /// How objects are encrypted, where it is not left to the bucket.
        encryption: Option<Encryption>,
    },
}

/// Where the ledger is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum LedgerConfig {
    /// An SQLite file.
    Sqlite(PathBuf),
    /// A schema of a PostgreSQL database.
    Postgres(PostgresAddress),
}

/// Where modules come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModulesConfig {
    /// The watched folder; a `.wasm` that appears there is validated and deployed.
    pub(crate) watch: PathBuf,
}

/// A warehouse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WarehouseConfig {
    /// Delta Lake tables, each a folder of this folder.
    Delta {
        /// The folder.
        folder: PathBuf,
    },
    /// Tables in a schema of a PostgreSQL database.
    Postgres(PostgresAddress),
}

/// A stream.
#[derive(Debug, Clone)]
pub(crate) struct StreamConfig {
    /// The source's table, whole (`type` too): what `forebay_sources::build` takes, and has checked.
    pub(crate) source: Settings,
    /// The format's name or table: what `forebay_format::Formats::from_config` takes, and has checked.
    pub(crate) format: Settings,
}

/// A pipeline.
#[derive(Debug, Clone)]
pub(crate) struct PipelineConfig {
    /// The stream that it reads.
    pub(crate) from: StreamName,
    /// Its steps, in order.
    pub(crate) steps: Vec<StepConfig>,
    /// Its routes, at least one, by name: `flagged`, or `fraud.flagged` where two steps have a route of that name.
    pub(crate) routes: BTreeMap<String, RouteTarget>,
    /// The table of the records that were refused.
    pub(crate) rejects: TableName,
    /// The sandbox's `Limits` as a JSON object, checked; keys that are left out have their defaults.
    pub(crate) limits: serde_json::Value,
    /// `[pipelines.<name>.deploy]`.
    pub(crate) deploy: DeployConfig,
    /// `[pipelines.<name>.retry]`: when what failed is tried again besides. Default: never.
    pub(crate) retry: Option<Schedule>,
    /// Of a replay into tables beside, which nobody wrote: its id in the ledger.
    pub(crate) side: Option<Uuid>,
}

/// `[pipelines.<name>.deploy]`: what a new revision has to show before it is taken. It is no part of a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DeployConfig {
    /// So many of the last segments are refined by it for a trial. Default: 3.
    pub(crate) dry_run: u32,
    /// So many segments are refined by it beside the active one. Default: none.
    pub(crate) shadow: u32,
    /// It goes on by itself where no larger share of their rows differs. Default: 1%.
    pub(crate) max_changed: Share,
    /// The former revision comes back by itself where it fails so many segments. Default: half, of at least 4.
    pub(crate) back_after: BackAfter,
}

/// A step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StepConfig {
    /// Its name, unique in the pipeline: the one given, or the module's (`fraud`, then `fraud-2`).
    pub(crate) name: String,
    /// The module's name.
    pub(crate) module: ModuleName,
    /// The first hexadecimal digits, at least 8, of the module's digest, where one is pinned. Lower case.
    pub(crate) pin: Option<String>,
    /// What `bind` is given: a JSON object.
    pub(crate) config: serde_json::Value,
    /// Files by asset name; they existed when the config was checked.
    pub(crate) assets: BTreeMap<String, PathBuf>,
}

/// `[host]`: the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostConfig {
    /// Threads that refine. Default: the cores.
    pub(crate) workers: NonZeroUsize,
    /// The byte budget of the process. Default: 256 MiB.
    pub(crate) memory: u64,
    /// How long a stop may wait for what is in flight. Default: 30 s.
    pub(crate) shutdown: Duration,
    /// The log's filter, as `tracing` writes it: `info`, `info,forebay_sandbox=debug`.
    pub(crate) log: String,
    /// What shares a commit.
    pub(crate) commit: CommitConfig,
}

/// `[host.commit]`: a group of segments is committed as soon as one of these is reached, or nothing more waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CommitConfig {
    /// Segments. Default: 64.
    pub(crate) max_segments: u32,
    /// Bytes of the segments as they landed. Default: 128 MiB.
    pub(crate) max_bytes: u64,
    /// How long the first of them has waited for others that are there. Default: 1 s.
    pub(crate) max_age: Duration,
}

/// `[http]`: what the host answers over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpConfig {
    /// Where it listens. Default: port 8181 of this machine alone.
    pub(crate) listen: SocketAddr,
    /// The file that holds the token; without it `FOREBAY_TOKEN` does.
    pub(crate) token_file: Option<PathBuf>,
}

/// `[alerts]`: what is posted to a webhook.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AlertsConfig {
    /// Where alerts are posted.
    pub(crate) webhook: String,
    /// The file that holds the bearer token which the webhook wants.
    pub(crate) token_file: Option<PathBuf>,
    /// An alert that goes on is told again after so long. Default: 1 h.
    pub(crate) repeat: Duration,
    /// What rates are of. Default: 5 min.
    pub(crate) window: Duration,
    /// The age of an unloaded segment that is told. Default: 15 min.
    pub(crate) lag: Duration,
    /// More rejected records than so many in a hundred are told. Default: 5.
    pub(crate) reject_percent: f64,
}

/// `[maintain]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MaintainConfig {
    /// The size that small files are compacted to. Default: 128 MiB.
    pub(crate) target_file: u64,
    /// How long files that no version needs are kept. Default: 7 days.
    pub(crate) retention: Duration,
}

impl Config {
    /// The pipelines that a person wrote: without replays into tables beside.
    pub(crate) fn written(&self) -> impl Iterator<Item = (&PipelineName, &PipelineConfig)> {
        self.pipelines.iter().filter(|(_, pipeline)| pipeline.side.is_none())
    }

    /// The pipelines that a person named, or all that one wrote.
    pub(crate) fn named_or_written(
        &self,
        only: Option<&PipelineName>,
    ) -> impl Iterator<Item = (&PipelineName, &PipelineConfig)> {
        let only = only.cloned();
        self.pipelines.iter().filter(move |(name, pipeline)| match &only {
            Some(only) => only == *name,
            None => pipeline.side.is_none(),
        })
    }

    /// The tables that its pipelines load, rejects tables too, with the pipeline; each table has one.
    pub(crate) fn tables(&self) -> BTreeMap<TableName, PipelineName> {
        let mut tables = BTreeMap::new();
        for (name, pipeline) in &self.pipelines {
            for table in pipeline.tables() {
                tables.insert(table, name.clone());
            }
        }
        tables
    }
}

impl PipelineConfig {
    /// The tables of its routes, and its rejects table; sorted, each once.
    pub(crate) fn tables(&self) -> Vec<TableName> {
        let mut tables: Vec<_> = self
            .routes
            .values()
            .filter_map(|target| match target {
                RouteTarget::Discard => None,
                RouteTarget::Table { table, .. } => Some(table.clone()),
            })
            .chain([self.rejects.clone()])
            .collect();
        tables.sort();
        tables.dedup();
        tables
    }
}

/// Where `${NAME}` comes from: the process's environment, or a map in tests.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads and checks the config in a file, or in a folder: then `forebay.toml` and every other `*.toml` beside it, merged.
///
/// # Errors
/// All that is wrong, as far as it can be told at once.
pub(crate) fn load(path: &std::path::Path, environment: Environment<'_>) -> Result<Config, Problems> {
    load_over(path, &Overlay::default(), environment)
}

/// Reads and checks what the config will be once the files of `overlay` are in place. Assets among them have the paths of what stands
/// in for them.
///
/// # Errors
/// As [`load`]; places name the files as they will be named.
pub(crate) fn load_over(
    path: &std::path::Path,
    overlay: &Overlay,
    environment: Environment<'_>,
) -> Result<Config, Problems> {
    check::config(node::read(path, overlay, environment)?)
}

/// The folder that a config's relative paths are relative to, absolute.
///
/// # Errors
/// Class operator, where the process's own folder is gone.
pub(crate) fn root_of(file: &std::path::Path) -> forebay_model::Result<PathBuf> {
    let root = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(std::path::Path::new("."));
    std::path::absolute(root).map_err(|error| {
        let error = forebay_model::Error::operator(format!("the folder of {} is not known: {error}", file.display()));
        error.with_hint("give -c an absolute path")
    })
}

/// The files that a folder's config is read from, `forebay.toml` first.
///
/// # Errors
/// Class operator, where the folder cannot be read.
pub(crate) fn files_of(folder: &std::path::Path) -> forebay_model::Result<Vec<PathBuf>> {
    let others = node::fragments(folder, &Overlay::default())
        .map_err(|problems| forebay_model::Error::operator(problems.to_string()))?;
    Ok([folder.join(FILE_NAME)].into_iter().chain(others).collect())
}

/// [`load`] with the process's environment.
///
/// # Errors
/// As [`load`].
pub(crate) fn load_with_env(path: &std::path::Path) -> Result<Config, Problems> {
    load(path, &|name| std::env::var(name).ok())
}
