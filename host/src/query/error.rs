//! What DataFusion says, as a person reads it: without its own prefixes, with what was likely meant.

use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;

use super::CATALOG;
use crate::cli::{Exit, Failure};
use crate::config::nearest;

/// The error with its exit code: what is wrong with the statement is 2, anything else 1.
#[expect(clippy::wildcard_enum_match_arm, reason = "what is not told apart reads as it is")]
pub(super) fn sql_error(error: &DataFusionError, tables: &[String]) -> anyhow::Error {
    if let Some(room) = room_error(error) {
        return room;
    }
    let root = error.find_root();
    let text = root.strip_backtrace();
    let failure = match root {
        DataFusionError::Plan(message) => plan_error(message, tables),
        DataFusionError::SchemaError(schema, _) => schema_error(schema, root),
        DataFusionError::SQL(parser, _) => {
            Failure::new(Exit::Usage, format!("this is not SQL: {}", parser_words(parser)))
                .with_hint("names with capitals or dashes stand in double quotes, text in single ones")
        }
        DataFusionError::ResourcesExhausted(message) => {
            Failure::new(Exit::Failed, format!("the statement needs more memory than host.memory: {}", first(message)))
                .with_hint("select fewer rows or columns, or raise host.memory")
        }
        DataFusionError::NotImplemented(message) => {
            Failure::new(Exit::Usage, format!("not known to this SQL: {}", first(message)))
        }
        DataFusionError::Execution(message) => Failure::new(Exit::Failed, first(message)),
        DataFusionError::ArrowError(arrow, _) => Failure::new(Exit::Failed, arrow.to_string()),
        _ => Failure::new(Exit::Failed, first(&text)),
    };
    failure.into()
}

/// The error of a room that a table came from, with its class and hint.
fn room_error(error: &DataFusionError) -> Option<anyhow::Error> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(room) = error.downcast_ref::<forebay_model::Error>() {
            let mut copy = forebay_model::Error::new(room.class(), room.chain());
            if let Some(hint) = room.hint() {
                copy = copy.with_hint(hint);
            }
            return Some(copy.into());
        }
        cause = error.source();
    }
    None
}

fn plan_error(whole: &str, tables: &[String]) -> Failure {
    let message = first(whole);
    if let Some(what) = message
        .strip_prefix("DDL not supported: ")
        .or(message.strip_prefix("DML not supported: "))
        .or(message.strip_prefix("Statement not supported: "))
    {
        return Failure::new(Exit::Usage, format!("a query only reads: {what} is refused"))
            .with_hint("tables are written by pipelines alone; any other engine may write to tables of its own");
    }
    let prefix = format!("{CATALOG}.");
    let message = message.replace(&prefix, "");
    let missing = message.strip_prefix("table '").and_then(|rest| rest.strip_suffix("' not found"));
    let Some(missing) = missing else {
        // What DataFusion guesses stands on a line of its own.
        let failure = Failure::new(Exit::Usage, message);
        return match whole.lines().nth(1).and_then(|line| line.strip_prefix("Did you mean ")) {
            Some(guess) => failure.with_hint(format!("did you mean {guess}")),
            None => failure,
        };
    };
    let known = tables.iter().map(String::as_str);
    let near = nearest(missing, known.clone()).map(str::to_owned);
    let hint = near.map(|near| format!("did you mean {}?", quoted(&near)));
    let all = || format!("there is {}", known.map(quoted).collect::<Vec<_>>().join(", "));
    Failure::new(Exit::Usage, format!("there is no table {missing}")).with_hint(hint.unwrap_or_else(all))
}

fn parser_words(error: &ParserError) -> &str {
    match error {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
        ParserError::RecursionLimitExceeded => "it nests too deep",
    }
}

/// A table's name as SQL needs it: parts with capitals or dashes in quotes.
fn quoted(name: &str) -> String {
    let plain = |part: &str| part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    name.split('.')
        .map(|part| if plain(part) { part.to_owned() } else { format!("\"{part}\"") })
        .collect::<Vec<_>>()
        .join(".")
}

fn schema_error(error: &SchemaError, whole: &DataFusionError) -> Failure {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let failure = Failure::new(Exit::Usage, format!("there is no column {}", field.name));
            let names = || valid_fields.iter().map(|field| field.name.as_str());
            if let Some(name) = names().find(|name| name.eq_ignore_ascii_case(&field.name)) {
                return failure.with_hint(format!("names keep their case: write \"{name}\", in double quotes"));
            }
            match nearest(&field.name, names()) {
                Some(name) => failure.with_hint(format!("did you mean {}?", quoted(name))),
                None => {
                    let all: Vec<_> = names().map(quoted).collect();
                    failure.with_hint(format!("there is {}", all.join(", ")))
                }
            }
        }
        SchemaError::AmbiguousReference { .. }
        | SchemaError::DuplicateQualifiedField { .. }
        | SchemaError::DuplicateUnqualifiedField { .. } => Failure::new(Exit::Usage, first(&whole.strip_backtrace())),
    }
}

/// The first line, without the name of the kind of error.
fn first(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let line = ["Error during planning: ", "Execution error: ", "Schema error: "]
        .iter()
        .find_map(|prefix| line.strip_prefix(prefix))
        .unwrap_or(line);
    line.to_owned()
}
