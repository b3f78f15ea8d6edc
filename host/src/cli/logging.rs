//! Log lines on stderr: for people on a terminal, JSON lines otherwise. A panic becomes one of them.

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing_subscriber::EnvFilter;

use super::{Exit, Failure, Global, LogFormat, exit};

/// The process is ending: what is cut off in libraries' threads then is what a kill cuts off, and no bug.
static ENDING: AtomicBool = AtomicBool::new(false);

/// From here on a panic is no news.
pub(super) fn ending() {
    ENDING.store(true, Ordering::SeqCst);
}

/// Starts logging. `run` says how loud by its config's `host.log`; other verbs warn only.
pub(super) fn start(global: &Global, filter: Option<&str>) -> anyhow::Result<()> {
    let filter = match (global.quiet, global.verbose) {
        (true, _) => own("error"),
        (false, 0) => own(filter.unwrap_or("warn")),
        (false, 1) if filter.is_none() => own("info"),
        (false, 1) => own("debug"),
        (false, 2) => own("trace"),
        (false, _) => without_secrets("trace"),
    };
    let filter = EnvFilter::try_new(&filter)
        .map_err(|error| Failure::new(Exit::Usage, format!("{filter:?} is not a log filter: {error}")))?;
    let human = match global.log_format {
        LogFormat::Human => true,
        LogFormat::Json => false,
        LogFormat::Auto => std::io::stderr().is_terminal(),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if human {
        builder.with_ansi(exit::colours()).with_target(false).compact().init();
    } else {
        builder.json().flatten_event(true).init();
    }
    std::panic::set_hook(Box::new(|panic| {
        if ENDING.load(Ordering::SeqCst) {
            return;
        }
        let payload = panic.payload();
        let message = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or_default();
        tracing::error!(place, thread, message, "panicked: this is a bug of forebay, please report it");
    }));
    Ok(())
}

/// A level alone is forebay's own: libraries, which have much to say, warn only.
fn own(filter: &str) -> String {
    match filter.parse::<tracing::Level>() {
        Ok(level) => format!("{},forebay={level}", level.min(tracing::Level::WARN)),
        Err(_) => without_secrets(filter),
    }
}

/// What signs requests to S3 tells, where it tells much, of what it signs: tokens too. Who wants that names it.
fn without_secrets(filter: &str) -> String {
    if filter.contains("aws") { filter.to_owned() } else { format!("{filter},aws=warn") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_alone_is_forebays_own() {
        assert_eq!(own("info"), "WARN,forebay=INFO");
        assert_eq!(own("error"), "ERROR,forebay=ERROR");
        assert_eq!(own("info,sqlx=debug"), "info,sqlx=debug,aws=warn");
        assert_eq!(own("info,aws_config=debug"), "info,aws_config=debug");
    }
}
