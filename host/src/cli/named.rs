//! Names that a person writes: one that the config does not have is told in one way by every verb, with what is likely meant.

use forebay_model::{PipelineName, StreamName};

use super::{Exit, Failure};
use crate::config::{Config, hint_for};

/// The stream of that name.
///
/// # Errors
/// Exit code 4, where there is none.
pub(crate) fn stream(config: &Config, name: &str) -> Result<StreamName, Failure> {
    let found = config.streams.keys().find(|stream| stream.as_str() == name);
    found.cloned().ok_or_else(|| missing("stream", name, config.streams.keys().map(StreamName::as_str)))
}

/// The pipeline of that name.
///
/// # Errors
/// Exit code 4, where there is none.
pub(crate) fn pipeline(config: &Config, name: &str) -> Result<PipelineName, Failure> {
    let found = config.pipelines.keys().find(|pipeline| pipeline.as_str() == name);
    found.cloned().ok_or_else(|| missing("pipeline", name, config.pipelines.keys().map(PipelineName::as_str)))
}

fn missing<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Failure {
    let failure = Failure::new(Exit::NotFound, format!("there is no {what} `{name}`"));
    match hint_for(name, known) {
        Some(hint) => failure.with_hint(hint),
        None => failure.with_hint(format!("the config has no {what}")),
    }
}
