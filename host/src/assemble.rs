//! From a config to things that work: the only file that names concrete kinds.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use forebay_format::Formats;
use forebay_landing::{DiskZone, S3Zone};
use forebay_ledger::{OpenMode, PostgresLedger, SqliteLedger};
use forebay_model::ids::WarehouseName;
use forebay_model::ports::{
    Clock, Decoder, Format, HostHolder, HostLease, LandingZone, Ledger, Progress, Random, Rebuilt, Source, SplitRule,
    Warehouse,
};
use forebay_model::{Compression, Error, LandedSegment, Result, TableName, Timestamp};
use forebay_pipeline::decoding::Decoding;
use forebay_postgres::PostgresAddress;
use forebay_s3::S3Options;
use forebay_sandbox::{GuestLog, Limits, Sandbox, SandboxOptions, TracingLog};
use forebay_warehouse::{DeltaOptions, DeltaWarehouse, PostgresOptions, PostgresWarehouse};
use uuid::Uuid;

use crate::config::{Config, LandingConfig, LedgerConfig, StreamConfig, WarehouseConfig};
use crate::failpoint::failpoint;
use crate::logs::ModuleLog;

/// The system's time.
#[derive(Debug)]
pub(crate) struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_system(std::time::SystemTime::now())
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// The system's randomness.
#[derive(Debug)]
pub(crate) struct SystemRandom;

impl Random for SystemRandom {
    fn uuid(&self) -> Uuid {
        Uuid::new_v4()
    }

    fn bits(&self) -> u64 {
        Uuid::new_v4().as_u64_pair().1
    }
}

/// Time, as the host has it.
pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

/// Chance, as the host has it.
pub(crate) fn random() -> Arc<dyn Random> {
    Arc::new(SystemRandom)
}

// Opening stores.

/// What a ledger, a zone or a warehouse is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// To read, beside a host that runs.
    Read,
    /// To write; there must be one.
    Write,
    /// To run: it is made where there is none.
    Run,
}

/// The ledger.
///
/// # Errors
/// Where it is missing (unless it may be made), damaged, or of another version.
pub(crate) async fn open_ledger(config: &Config, access: Access) -> Result<Arc<dyn Ledger>> {
    let mode = match access {
        Access::Read => OpenMode::ReadOnly,
        Access::Write => OpenMode::Existing,
        Access::Run => OpenMode::Create,
    };
    match &config.ledger {
        LedgerConfig::Sqlite(path) => Ok(Arc::new(SqliteLedger::open(path, mode, &SystemClock, &SystemRandom).await?)),
        LedgerConfig::Postgres(address) => {
            Ok(Arc::new(PostgresLedger::open(address, mode, &SystemClock, &SystemRandom).await?))
        }
    }
}

/// Where the ledger is, as people are told it.
pub(crate) fn ledger_place(config: &Config) -> String {
    match &config.ledger {
        LedgerConfig::Sqlite(path) => path.display().to_string(),
        LedgerConfig::Postgres(address) => address.to_string(),
    }
}

/// The folder for what a host keeps on its machine besides: that of the ledger where it is a file, else the config's.
fn host_folder(config: &Config) -> &Path {
    match &config.ledger {
        LedgerConfig::Sqlite(path) => path.parent().unwrap_or(Path::new("")),
        LedgerConfig::Postgres(_) => &config.root,
    }
}

/// Whether there is a ledger, or what is left of one.
///
/// # Errors
/// Where its server does not answer, or refuses.
pub(crate) async fn ledger_is_there(config: &Config) -> Result<bool> {
    match &config.ledger {
        LedgerConfig::Sqlite(path) => Ok(SqliteLedger::is_there(path)),
        LedgerConfig::Postgres(address) => PostgresLedger::is_there(address).await,
    }
}

/// The host's lease of a ledger that need not be there; `None` where a live process has it.
///
/// # Errors
/// Where the lock file cannot be made, or the server does not answer.
pub(crate) async fn lease_ledger(config: &Config) -> Result<Option<Box<dyn HostLease>>> {
    match &config.ledger {
        LedgerConfig::Sqlite(path) => SqliteLedger::lease(path),
        LedgerConfig::Postgres(address) => PostgresLedger::lease_of(address).await,
    }
}

/// Who has that lease.
///
/// # Errors
/// Where the lock file cannot be read, or the server does not answer.
pub(crate) async fn ledger_holder(config: &Config) -> Result<Option<HostHolder>> {
    match &config.ledger {
        LedgerConfig::Sqlite(path) => SqliteLedger::holder(path),
        LedgerConfig::Postgres(address) => PostgresLedger::holder_of(address).await,
    }
}

/// Makes the ledger of what was rebuilt; what was moved aside for it.
///
/// # Errors
/// Where there is one that is not to be replaced, its folder cannot be written, or its server refuses.
pub(crate) async fn rebuild_ledger(config: &Config, id: Uuid, content: &Rebuilt, replace: bool) -> Result<Vec<String>> {
    match &config.ledger {
        LedgerConfig::Sqlite(path) => {
            let random: (&dyn Clock, &dyn Random) = (&SystemClock, &SystemRandom);
            let aside = SqliteLedger::rebuild(path, id, content, replace, random, failpoint).await?;
            Ok(aside.iter().map(|path| path.display().to_string()).collect())
        }
        LedgerConfig::Postgres(address) => {
            let aside = PostgresLedger::rebuild(address, id, content, replace, &SystemClock, failpoint).await?;
            Ok(aside.into_iter().collect())
        }
    }
}

/// Whether there is no ledger, nor what is left of one.
///
/// # Errors
/// Where there is; where its server does not answer.
pub(crate) async fn no_ledger(config: &Config) -> Result<()> {
    match &config.ledger {
        LedgerConfig::Sqlite(path) => SqliteLedger::must_not_be_there(path),
        LedgerConfig::Postgres(address) => PostgresLedger::must_not_be_there(address).await,
    }
}

/// The landing zone; its folder is made unless it is only read. One in a bucket is asked for when it is first used.
///
/// # Errors
/// Where its folder cannot be made or read.
pub(crate) fn open_zone(config: &Config, access: Access) -> Result<Arc<dyn LandingZone>> {
    match (&config.landing, access) {
        (LandingConfig::Folder(folder), Access::Read) => Ok(Arc::new(DiskZone::reading(folder, random()))),
        (LandingConfig::Folder(folder), Access::Write | Access::Run) => Ok(Arc::new(DiskZone::open(folder, random())?)),
        (LandingConfig::S3 { address, encryption }, Access::Read | Access::Write | Access::Run) => {
            let (address, encryption) = (address.clone(), encryption.clone());
            Ok(Arc::new(S3Zone::open(address, encryption, S3Options::default(), random())?))
        }
    }
}

/// Whether the landing zone belongs to a ledger already.
///
/// # Errors
/// Where its server does not answer, or refuses.
pub(crate) async fn zone_is_taken(config: &Config) -> Result<bool> {
    match &config.landing {
        LandingConfig::Folder(folder) => Ok(DiskZone::is_taken(folder)),
        LandingConfig::S3 { .. } => Ok(open_zone(config, Access::Read)?.identity().await?.is_some()),
    }
}

/// Where the landing zone is, as people are told it: folders relative to the config's.
pub(crate) fn zone_place(config: &Config) -> String {
    match &config.landing {
        LandingConfig::Folder(folder) => folder.strip_prefix(&config.root).unwrap_or(folder).display().to_string(),
        LandingConfig::S3 { address, encryption: _ } => address.to_string(),
    }
}

/// What the landing zone calls what stands at a url of its bucket; `None` where that is elsewhere, or the zone is a folder.
pub(crate) fn object_of_url(config: &Config, url: &str) -> Option<String> {
    match &config.landing {
        LandingConfig::Folder(_) => None,
        LandingConfig::S3 { address, encryption: _ } => {
            let (bucket, key) = url.strip_prefix("s3://")?.split_once('/')?;
            address.name_of(key).filter(|_| bucket == address.bucket()).map(str::to_owned)
        }
    }
}

/// The folder of the landing zone, where it is one.
pub(crate) fn zone_folder(config: &Config) -> Option<&Path> {
    match &config.landing {
        LandingConfig::Folder(folder) => Some(folder),
        LandingConfig::S3 { .. } => None,
    }
}

/// The attempt that an object's name holds.
pub(crate) const ATTEMPT_OF: forebay_pipeline::orphans::AttemptOf = forebay_landing::naming::attempt_of;

/// How objects of the landing zone are named.
pub(crate) const NAMING: forebay_pipeline::intake::land::ObjectNaming = forebay_landing::naming::object_name;

fn warehouse<'a>(config: &'a Config, name: &WarehouseName) -> Result<&'a WarehouseConfig> {
    config.warehouses.get(name).ok_or_else(|| {
        Error::operator(format!("there is no warehouse {:?}", name.as_str()))
            .with_hint(format!("add [warehouses.{name}] to {}", config.file.display()))
    })
}

fn open_delta(folder: &Path, access: Access) -> Result<DeltaWarehouse> {
    let options = DeltaOptions { failpoint, ..DeltaOptions::new(clock(), random()) };
    Ok(match access {
        Access::Read => DeltaWarehouse::reading(folder, options)?,
        Access::Write | Access::Run => DeltaWarehouse::open(folder, options)?,
    })
}

fn open_postgres(address: &PostgresAddress, access: Access) -> Result<PostgresWarehouse> {
    let reading = access == Access::Read;
    let options = PostgresOptions { failpoint, reading, ..PostgresOptions::new(clock(), random()) };
    Ok(PostgresWarehouse::open(address, options)?)
}

/// A warehouse; its folder is made unless it is only read. One on a server is connected to, and made, when it is first used: a server
/// that is away for a while keeps no host from landing.
///
/// # Errors
/// Where its folder cannot be made or read.
#[expect(clippy::unused_async, reason = "it is opened within a runtime, which a warehouse on a server needs")]
pub(crate) async fn open_warehouse(
    config: &Config,
    name: &WarehouseName,
    access: Access,
) -> Result<Arc<dyn Warehouse>> {
    Ok(match warehouse(config, name)? {
        WarehouseConfig::Delta { folder } => Arc::new(open_delta(folder, access)?),
        WarehouseConfig::Postgres(address) => Arc::new(open_postgres(address, access)?),
    })
}

/// The tables that a warehouse has.
///
/// # Errors
/// Where its folder cannot be read, or its server does not answer.
pub(crate) async fn warehouse_tables(config: &Config, name: &WarehouseName) -> Result<Vec<String>> {
    open_warehouse(config, name, Access::Read).await?.tables().await
}

/// A table, to be queried; `None` where there is none.
///
/// # Errors
/// Where it cannot be read.
pub(crate) async fn table_provider(config: &Config, table: &TableName) -> Result<Option<Arc<dyn TableProvider>>> {
    match warehouse(config, &table.warehouse)? {
        WarehouseConfig::Delta { folder } => open_delta(folder, Access::Read)?.provider(&table.table).await,
        WarehouseConfig::Postgres(address) => open_postgres(address, Access::Read)?.provider(&table.table).await,
    }
}

/// Whether a table is kept as it stood at its former versions.
///
/// # Errors
/// Where there is no such warehouse.
pub(crate) fn keeps_versions(config: &Config, table: &TableName) -> Result<bool> {
    Ok(match warehouse(config, &table.warehouse)? {
        WarehouseConfig::Delta { .. } => true,
        WarehouseConfig::Postgres(_) => false,
    })
}

/// The same as it stood at a version.
///
/// # Errors
/// Where its history does not go back so far, or it cannot be read.
pub(crate) async fn table_provider_at(
    config: &Config,
    table: &TableName,
    version: u64,
) -> Result<Arc<dyn TableProvider>> {
    match warehouse(config, &table.warehouse)? {
        WarehouseConfig::Delta { folder } => open_delta(folder, Access::Read)?.provider_at(&table.table, version).await,
        WarehouseConfig::Postgres(_) => {
            Err(Error::operator(format!("there is no version {version} of table {table} any more"))
                .with_hint("a table in PostgreSQL is kept as it stands now: read that"))
        }
    }
}

/// The folder that a stream's source reads, where it reads one.
pub(crate) fn source_folder(config: &Config, stream: &StreamConfig) -> Option<PathBuf> {
    let source = stream.source.value();
    let is_files = source.get("type").and_then(|kind| kind.as_str()) == Some("files");
    let url = source.get("url").and_then(|url| url.as_str()).filter(|_| is_files)?;
    Some(config.root.join(url))
}

/// Builds a stream's source.
///
/// # Errors
/// Where its settings are wrong or its folder is not there.
pub(crate) fn build_source(
    config: &Config,
    stream: &StreamConfig,
    progress: Arc<dyn Progress>,
    once: bool,
) -> Result<Box<dyn Source>> {
    forebay_sources::build(stream.source.value(), &config.root, progress, clock(), once)
}

// Decoding.

/// The name that an object lands under when neither its name nor its bytes tell the format.
const UNKNOWN: &str = "unknown";

/// A stream's formats.
#[derive(Debug)]
struct StreamFormats(Formats);

impl Decoding for StreamFormats {
    fn detect(&self, key: &str, head: &[u8]) -> String {
        match self.0.detect(key, head) {
            Ok(name) => name.to_owned(),
            // Nothing is decoded of nothing, whatever the format.
            Err(_) if head.is_empty() => self.0.for_records().to_owned(),
            Err(_) => UNKNOWN.to_owned(),
        }
    }

    fn split_rule(&self, key: &str) -> SplitRule {
        let name = self.0.detect(key, &[]).unwrap_or_else(|_| self.0.for_records());
        self.0.get(name).map_or(SplitRule::Whole, |format| format.split_rule())
    }

    fn format(&self, name: &str) -> Result<Arc<dyn Format>> {
        if name != UNKNOWN {
            return Ok(self.0.get(name)?);
        }
        let told = self.0.detect("", &[]).map_err(|_| {
            Error::operator("neither the object's name nor its first bytes tell its format")
                .with_hint("say it in the stream's config: format = \"json\" or format = \"csv\"")
        })?;
        Ok(self.0.get(told)?)
    }

    fn decompress(&self, reader: Box<dyn Read + Send>, compression: Compression) -> Result<Box<dyn Read + Send>> {
        Ok(forebay_format::decompress(reader, compression)?)
    }

    fn settings(&self) -> serde_json::Value {
        self.0.settings()
    }
}

/// The formats of a stream.
///
/// # Errors
/// Where its settings are wrong.
pub(crate) fn open_decoding(stream: &StreamConfig) -> Result<Arc<dyn Decoding>> {
    Ok(Arc::new(StreamFormats(Formats::from_config(stream.format.value())?)))
}

/// The formats of what a rule is tried with: types are inferred from all records of a text.
///
/// # Errors
/// None, as long as the formats have these settings.
pub(crate) fn open_trial_decoding(kind: &str) -> Result<Arc<dyn Decoding>> {
    let settings = serde_json::json!({ "type": kind, "sample_records": 10_000_000 });
    Ok(Arc::new(StreamFormats(Formats::from_config(&settings)?)))
}

/// Starts to decode a segment, to a schema.
///
/// # Errors
/// Where its stream is not in the config, or its bytes cannot be read.
pub(crate) fn open_segment(
    config: &Config,
    zone: &dyn LandingZone,
    segment: &LandedSegment,
    schema: &SchemaRef,
) -> Result<Box<dyn Decoder>> {
    let stream = config.streams.get(&segment.stream).ok_or_else(|| {
        Error::operator(format!("stream {} is not in the config any more", segment.stream))
            .with_hint(format!("add [streams.{}] to read its segments", segment.stream))
    })?;
    let decoding = open_decoding(stream)?;
    let input = forebay_pipeline::decoding::open_segment(zone, decoding.as_ref(), segment)?;
    decoding.format(&segment.format)?.open(input, schema)
}

// The sandbox.

/// The hidden verb that compiles a module in a process of its own.
pub(crate) const COMPILE_VERB: &str = "compile-module";

/// The sandbox; its compiled modules lie beside the ledger, or beside the config where that is on a server.
///
/// # Errors
/// Where the engine cannot be set up.
pub(crate) fn open_sandbox(config: &Config) -> Result<Sandbox> {
    sandbox_with(cache_folder(config))
}

/// The same for a host that runs: what modules say is kept for `forebay logs` too.
///
/// # Errors
/// Where the engine cannot be set up.
pub(crate) fn open_host_sandbox(config: &Config, log: Arc<ModuleLog>) -> Result<Sandbox> {
    sandbox(cache_folder(config), log)
}

/// Where a config's host keeps compiled modules.
pub(crate) fn cache_folder(config: &Config) -> Option<PathBuf> {
    Some(host_folder(config).join(".forebay-cache"))
}

/// Where a config's host keeps what modules say.
pub(crate) fn log_folder(config: &Config) -> PathBuf {
    host_folder(config).join(".forebay-logs")
}

/// The sandbox of somebody who tries rules, and has no ledger; compiled modules are kept in the folder, if there is one.
///
/// # Errors
/// Where the engine cannot be set up.
pub(crate) fn sandbox_with(cache_dir: Option<PathBuf>) -> Result<Sandbox> {
    sandbox(cache_dir, Arc::new(TracingLog))
}

fn sandbox(cache_dir: Option<PathBuf>, log: Arc<dyn GuestLog>) -> Result<Sandbox> {
    let compile_command = std::env::current_exe().ok().map(|exe| vec![exe.into_os_string(), COMPILE_VERB.into()]);
    let options = SandboxOptions { cache_dir, log, compile_command, ..SandboxOptions::default() };
    Sandbox::new(options)
}

/// The sandbox with a pipeline's limits.
///
/// # Errors
/// Where a limit cannot be kept.
pub(crate) fn with_limits(sandbox: &Sandbox, limits: &serde_json::Value) -> Result<Sandbox> {
    sandbox.with_limits(self::limits(limits)?)
}

/// A pipeline's limits.
///
/// # Errors
/// Where they are none: the config's check finds that first.
pub(crate) fn limits(limits: &serde_json::Value) -> Result<Limits> {
    serde_json::from_value(limits.clone())
        .map_err(|error| Error::operator(format!("the pipeline's limits are wrong: {error}")))
}

/// The rest of the command line of [`COMPILE_VERB`].
pub(crate) fn compile_module(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> std::process::ExitCode {
    forebay_sandbox::compile_child_main(arguments)
}
