//! The command line: one file a verb. stdout is data, stderr is talk.

mod again;
mod apply;
mod bench;
mod build;
mod clock;
mod compare;
mod deploy;
mod deployments;
mod exit;
mod history;
mod init;
mod kept;
mod listing;
mod logging;
mod logs;
mod maintain;
mod modules;
pub(crate) mod named;
mod new;
mod pause;
mod plan;
mod pushing;
mod query;
mod recover;
mod rehearsals;
mod rejects;
mod remote;
mod repair;
mod replaced;
mod replay;
mod revisions;
mod rollback;
mod run;
mod schema;
mod segments;
mod show;
mod side;
mod status;
mod test;
mod validate;
mod verify;
mod watch;
mod why;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use forebay_model::ports::HostHolder;
use forebay_pipeline::panics::caught;

use crate::config::{self, Config};

pub(crate) use exit::{Exit, Failure};
pub(crate) use maintain::{Stores, maintain_all};
pub(crate) use recover::lost;
pub(crate) use run::{FailOn, RunArgs};
pub(crate) use segments::find as find_segment;
pub(crate) use show::{count as counted, thousands};

/// Lands data raw and untouched, then turns it into warehouse tables with sandboxed WebAssembly transforms.
#[derive(Debug, Parser)]
#[command(name = "forebay", version, max_term_width = 100, after_help = exit::HELP, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Refuses where nothing has run yet: the first `forebay run` makes the ledger, and no other verb does.
///
/// # Errors
/// Exit code 4; 3 where there was one; where its server does not answer.
pub(crate) async fn need_ledger(config: &Config) -> anyhow::Result<()> {
    if crate::assemble::ledger_is_there(config).await? {
        return Ok(());
    }
    if crate::assemble::zone_is_taken(config).await? {
        return Err(lost(config, "the landing zone belongs to one that was there").into());
    }
    let failure = Failure::new(Exit::NotFound, "nothing has landed yet: there is no ledger");
    Err(failure.with_hint("`forebay run --once` makes it, and lands and loads what is there").into())
}

/// What every verb takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The config: a file, or a folder whose forebay.toml and other *.toml files are read together.
    #[arg(short, long, global = true, value_name = "PATH", env = "FOREBAY_CONFIG", default_value = config::FILE_NAME)]
    config: PathBuf,
    /// Answer in JSON: an object, or one object a line for lists. Errors are an object on stderr.
    #[arg(long, global = true)]
    json: bool,
    /// How log lines are written to stderr.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Auto, value_name = "FORMAT")]
    log_format: LogFormat,
    /// Log more; twice for still more.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// Log errors only, and show no progress.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people on a terminal, JSON lines otherwise.
    Auto,
    /// For people.
    Human,
    /// JSON lines.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::InitArgs),
    New(new::NewArgs),
    Build(build::BuildArgs),
    Test(test::TestArgs),
    Watch(watch::WatchArgs),
    #[command(flatten)]
    Work(Work),
}

/// The verbs that need a config.
#[derive(Debug, Subcommand)]
enum Work {
    Validate(validate::ValidateArgs),
    Plan(plan::PlanArgs),
    Run(RunArgs),
    Query(query::QueryArgs),
    Status(status::StatusArgs),
    Segments(segments::SegmentsArgs),
    Rejects(rejects::RejectsArgs),
    Why(why::WhyArgs),
    Logs(logs::LogsArgs),
    Schema(schema::SchemaArgs),
    Modules(modules::ModulesArgs),
    Revisions(revisions::RevisionsArgs),
    Deploy(deploy::DeployArgs),
    Apply(apply::ApplyArgs),
    Deployments(deployments::DeploymentsArgs),
    Rollback(rollback::RollbackArgs),
    Pause(pause::PauseArgs),
    Resume(pause::ResumeArgs),
    Repair(repair::RepairArgs),
    Replay(replay::ReplayArgs),
    Maintain(maintain::MaintainArgs),
    Recover(recover::RecoverArgs),
}

impl Work {
    /// Whether it goes by what is written in the config alone; other verbs know the replays into tables beside, which the ledger has.
    fn is_of_what_is_written(&self) -> bool {
        match self {
            Self::Validate(_) | Self::Plan(_) | Self::Run(_) | Self::Apply(_) | Self::Recover(_) => true,
            Self::Query(_)
            | Self::Status(_)
            | Self::Segments(_)
            | Self::Rejects(_)
            | Self::Why(_)
            | Self::Logs(_)
            | Self::Schema(_)
            | Self::Modules(_)
            | Self::Revisions(_)
            | Self::Deploy(_)
            | Self::Deployments(_)
            | Self::Rollback(_)
            | Self::Pause(_)
            | Self::Resume(_)
            | Self::Repair(_)
            | Self::Replay(_)
            | Self::Maintain(_) => false,
        }
    }

    /// Whether `FOREBAY_URL` counts for it.
    fn goes_to_a_host(&self) -> bool {
        match self {
            Self::Status(_)
            | Self::Apply(_)
            | Self::Deployments(_)
            | Self::Rollback(_)
            | Self::Pause(_)
            | Self::Resume(_) => true,
            Self::Deploy(args) => !args.is_offline(),
            Self::Validate(_)
            | Self::Plan(_)
            | Self::Run(_)
            | Self::Query(_)
            | Self::Segments(_)
            | Self::Rejects(_)
            | Self::Why(_)
            | Self::Logs(_)
            | Self::Schema(_)
            | Self::Modules(_)
            | Self::Revisions(_)
            | Self::Repair(_)
            | Self::Replay(_)
            | Self::Maintain(_)
            | Self::Recover(_) => false,
        }
    }
}

impl Global {
    /// The config, or all that is wrong with it.
    fn config(&self) -> anyhow::Result<Config> {
        Ok(config::load_with_env(&self.config)?)
    }

    /// Whether there is a config, or somebody names one: verbs of a rule's folder do without.
    fn has_config(&self) -> bool {
        self.config.exists() || self.config != std::path::Path::new(config::FILE_NAME)
    }

    /// Whether answers are to be JSON.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// Whether only errors are to be told.
    pub(crate) fn quiet(&self) -> bool {
        self.quiet || self.json
    }

    /// Whether progress may be shown: stderr is a terminal, and nobody asked for quiet.
    pub(crate) fn progress(&self) -> bool {
        use std::io::IsTerminal as _;
        !self.quiet && !self.json && std::io::stderr().is_terminal()
    }
}

/// Runs the command line of this process.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let as_json = cli.global.json;
    let exit = match start(cli) {
        Ok(exit) => exit,
        Err(error) if is_closed_pipe(&error) => Exit::Ok,
        Err(error) => exit::report(&error, as_json),
    };
    exit.into()
}

/// What is told where another process has the host's lease, and which one.
pub(crate) fn another_host(holder: Option<HostHolder>) -> Failure {
    let who = match holder {
        Some(HostHolder { process: Some(process), host: Some(host), since }) => {
            format!(" (process {process} on {host}, since {since})")
        }
        Some(HostHolder { process: Some(process), host: None, since }) => {
            format!(" (process {process}, since {since})")
        }
        Some(HostHolder { process: None, host: _, since }) => format!(" (since {since})"),
        None => String::new(),
    };
    let failure =
        Failure::new(Exit::Refused, format!("another forebay process{who} runs this ledger's streams and pipelines"));
    failure.with_hint("stop it first, or use a ledger and a landing zone of their own")
}

/// Help and version, or what is wrong with the arguments: as JSON where that was asked for.
fn usage(error: &clap::Error) -> ExitCode {
    let asked_for_json = std::env::args_os().any(|argument| argument == "--json");
    if !error.use_stderr() || !asked_for_json {
        // Nothing can be told about an stderr that is closed.
        drop(error.print());
        return if error.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() };
    }
    let text = error.render().to_string();
    let lines: Vec<_> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    let message = lines.join(" ").trim_start_matches("error: ").to_owned();
    let failure = Failure::new(Exit::Usage, message).with_hint("see `forebay --help`");
    exit::report(&failure.into(), true).into()
}

/// A reader that went away (`forebay query … | head`) is no error.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>();
        // Writers of CSV keep the text of it only.
        io.is_some_and(|io| io.kind() == std::io::ErrorKind::BrokenPipe) || cause.to_string().contains("Broken pipe")
    })
}

fn start(cli: Cli) -> anyhow::Result<Exit> {
    let Cli { global, command } = cli;
    let work = match command {
        Command::Init(args) => return init::init(&global, &args),
        Command::New(args) => return new::new(&global, &args),
        Command::Build(args) => return build::build(&global, &args),
        Command::Test(args) => return test::test(&global, &args),
        Command::Watch(args) => return watch::watch(&global, &args),
        Command::Work(work) => work,
    };
    if let (true, Some(host)) = (work.goes_to_a_host(), remote::Host::of_environment()?) {
        logging::start(&global, None)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        return runtime.block_on(caught(Box::pin(ask_host(&global, &host, work))));
    }
    // What is applied may mend a config that is wrong: it alone is read.
    if let Work::Apply(args) = work {
        let meant = apply::Meant::read(&global, &args)?;
        logging::start(&global, None)?;
        return on_runtime(async move { apply::apply(&global, meant, &args).await });
    }
    let running = matches!(work, Work::Run(_));
    let finished = running && crate::bundle::finish(&global.config)?;
    // The config first: how loud a run logs stands in it.
    let config = global.config()?;
    logging::start(&global, running.then_some(config.host.log.as_str()))?;
    if finished {
        tracing::info!("the config that was applied last is in place now: the host had stopped before it was");
    }
    on_runtime(dispatch(global, work, config))
}

fn on_runtime(work: impl Future<Output = anyhow::Result<Exit>>) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("forebay").build()?;
    // What is read at the start (logs of tables, checkpoints, modules) may be damaged, and its readers are not all ours: a
    // panic is told as an error like any other.
    let exit = runtime.block_on(caught(Box::pin(work)));
    // Reads that were cut short by a limit may still sit in a blocking thread.
    logging::ending();
    runtime.shutdown_background();
    exit
}

/// What a host elsewhere does: it has the config and the ledger.
async fn ask_host(global: &Global, host: &remote::Host, work: Work) -> anyhow::Result<Exit> {
    match work {
        Work::Status(_) => status::ask_host(global, host).await,
        Work::Deploy(args) => deploy::ask_host(global, host, &args).await,
        Work::Apply(args) => apply::ask_host(global, host, &args).await,
        Work::Deployments(args) => deployments::ask_host(global, host, args).await,
        Work::Rollback(args) => rollback::ask_host(global, host, &args).await,
        Work::Pause(args) => pause::ask_host_to_pause(global, host, &args).await,
        Work::Resume(args) => pause::ask_host_to_resume(global, host, &args).await,
        Work::Validate(_)
        | Work::Plan(_)
        | Work::Run(_)
        | Work::Query(_)
        | Work::Segments(_)
        | Work::Rejects(_)
        | Work::Why(_)
        | Work::Logs(_)
        | Work::Schema(_)
        | Work::Modules(_)
        | Work::Revisions(_)
        | Work::Repair(_)
        | Work::Replay(_)
        | Work::Maintain(_)
        | Work::Recover(_) => Err(forebay_model::Error::bug("a verb that goes to no host was sent to one").into()),
    }
}

async fn dispatch(global: Global, work: Work, config: Config) -> anyhow::Result<Exit> {
    let config = if work.is_of_what_is_written() { config } else { crate::sides::known(config).await };
    match work {
        Work::Validate(args) => validate::validate(&global, &config, &args),
        Work::Plan(args) => plan::plan(&global, &config, &args).await,
        Work::Run(args) => Box::pin(crate::run::run(config, global, args)).await,
        Work::Query(args) => query::query(&global, config, &args).await,
        Work::Status(args) => status::status(&global, config, &args).await,
        Work::Segments(args) => segments::segments(&global, config, args).await,
        Work::Rejects(args) => rejects::rejects(&global, config, args).await,
        Work::Why(args) => why::why(&global, config, &args).await,
        Work::Logs(args) => logs::logs(&global, &config, args).await,
        Work::Schema(args) => schema::schema(&global, config, args).await,
        Work::Modules(args) => modules::modules(&global, config, args).await,
        Work::Revisions(args) => revisions::revisions(&global, config, args).await,
        Work::Deploy(args) => deploy::deploy(&global, &config, &args).await,
        Work::Apply(_) => Err(forebay_model::Error::bug("a config was applied to a config that runs").into()),
        Work::Deployments(args) => deployments::deployments(&global, config, args).await,
        Work::Rollback(args) => rollback::rollback(&global, config, &args).await,
        Work::Pause(args) => pause::pause(&global, &config, &args).await,
        Work::Resume(args) => pause::resume(&global, &config, &args).await,
        Work::Repair(args) => repair::repair(&global, config, &args).await,
        Work::Replay(args) => replay::replay(&global, config, &args).await,
        Work::Maintain(args) => maintain::maintain(&global, config, args).await,
        Work::Recover(args) => recover::recover(&global, &config, &args).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
