//! `/v1`: a request becomes a verb of the command line, run in a process of its own: what it reads and compiles takes none of the
//! host's memory, and what it does wrong none of its life.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::{Map, Value, json};
use tokio::process::Command;

use super::endpoints::{Answers, Does, ENDPOINTS, Endpoint, Kind, MOST, Parameter, To, Upload};
use super::{Refusal, Seen, openapi, refusal};
use crate::config::FILE_NAME;

/// Verbs that run at the same time, and how long one waits for its turn.
pub(super) const VERBS: usize = 2;
const TURN: Duration = Duration::from_secs(30);

/// How long a verb that reads may take; one that changes something waits for the host, which may compile a module.
const READING: Duration = Duration::from_secs(60);
const CHANGING: Duration = Duration::from_secs(600);

/// The header in which a caller says who it is; the ledger tells it with what it changed.
pub(crate) const BY: &str = "forebay-by";

/// What stands in a query, if it is one.
type Asks = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// The routes of all endpoints, and of the document that describes them.
pub(super) fn routes(router: Router<Arc<Seen>>) -> Router<Arc<Seen>> {
    let router = router.route("/openapi.json", get(|| async { axum::Json(openapi::document()) }));
    ENDPOINTS.iter().fold(router, |router, endpoint| {
        let handler = move |State(seen): State<Arc<Seen>>,
                            headers: HeaderMap,
                            uri: Uri,
                            query: Asks,
                            body: Bytes| async move {
            match query {
                Ok(Query(query)) => answer(endpoint, &seen, (&uri, &caller(&headers)), query, body).await,
                Err(error) => refusal(StatusCode::BAD_REQUEST, error.body_text(), None).into_response(),
            }
        };
        match endpoint.does {
            Does::Read => router.route(endpoint.path, get(handler)),
            Does::Change | Does::Upload(_) => router.route(endpoint.path, post(handler)),
        }
    })
}

/// Who a caller says that it is.
fn caller(headers: &HeaderMap) -> String {
    let said = headers.get(BY).and_then(|by| by.to_str().ok()).map(crate::who::plain);
    said.filter(|said| !said.is_empty()).unwrap_or_else(|| "somebody over HTTP".to_owned())
}

async fn answer(
    endpoint: &'static Endpoint,
    seen: &Seen,
    (uri, by): (&Uri, &str),
    query: Vec<(String, String)>,
    body: Bytes,
) -> Response {
    let answered = match arguments(endpoint, uri, query, &body) {
        Ok(asked) => run(endpoint, seen, (asked, by), body).await,
        Err(refused) => Err(refused),
    };
    answered.map_or_else(|refused| refused.into_response(), |value| axum::Json(value).into_response())
}

/// What a verb is asked.
#[derive(Debug, Default)]
struct Asked {
    flags: Vec<String>,
    positional: Vec<String>,
    file: Option<String>,
}

fn arguments(endpoint: &Endpoint, uri: &Uri, query: Vec<(String, String)>, body: &[u8]) -> Result<Asked, Refusal> {
    let mut asked = Asked::default();
    let of_path = endpoint.path.split('/').zip(uri.path().split('/'));
    let of_path = of_path.filter(|(template, _)| template.starts_with('{')).map(|(_, value)| value);
    for (parameter, value) in endpoint.in_path().zip(of_path) {
        take(&mut asked, parameter, value)?;
    }
    if let Some(missing) = endpoint
        .in_query()
        .find(|parameter| parameter.is_required() && query.iter().all(|(name, _)| name != parameter.name))
    {
        return Err(lacks(missing));
    }
    for (name, value) in query {
        let parameter = endpoint.in_query().find(|parameter| parameter.name == name);
        take(&mut asked, parameter.ok_or_else(|| unknown(&name, endpoint.in_query()))?, &value)?;
    }
    match endpoint.does {
        Does::Read | Does::Upload(Upload::Module) => return Ok(asked),
        Does::Upload(Upload::Bundle) => {
            if !fields(body)?.contains_key("config") {
                let hint = Some("the config's files by name: {\"forebay.toml\": \"text\"}");
                return Err(refusal(StatusCode::BAD_REQUEST, "`config` is missing", hint));
            }
            return Ok(asked);
        }
        Does::Change => {}
    }
    let fields = fields(body)?;
    if let Some(name) = fields.keys().find(|name| endpoint.in_body().all(|parameter| parameter.name != *name)) {
        return Err(unknown(name, endpoint.in_body()));
    }
    for parameter in endpoint.in_body() {
        match (fields.get(parameter.name), parameter.kind) {
            (Some(Value::Bool(value)), Kind::Switch) => take(&mut asked, parameter, &value.to_string())?,
            (Some(Value::String(value)), Kind::Text | Kind::Limit | Kind::OneOf(_)) => {
                take(&mut asked, parameter, value)?;
            }
            (Some(_), kind) => {
                let what = if kind == Kind::Switch { "true or false" } else { "text" };
                let error = format!("`{}` must be {what}", parameter.name);
                return Err(refusal(StatusCode::BAD_REQUEST, error, None));
            }
            (None, _) if parameter.is_required() => return Err(lacks(parameter)),
            (None, _) => {}
        }
    }
    Ok(asked)
}

fn fields(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(body)
        .map_err(|error| refusal(StatusCode::BAD_REQUEST, format!("the body is no JSON object: {error}"), None))
}

fn lacks(parameter: &Parameter) -> Refusal {
    refusal(StatusCode::BAD_REQUEST, format!("`{}` is missing", parameter.name), Some(parameter.help))
}

fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a Parameter>) -> Refusal {
    let known: Vec<_> = known.map(|parameter| parameter.name).collect();
    let hint = if known.is_empty() { "it takes none".to_owned() } else { format!("it takes {}", known.join(", ")) };
    refusal(StatusCode::BAD_REQUEST, format!("there is no parameter `{name}`"), Some(&hint))
}

fn take(asked: &mut Asked, parameter: &Parameter, value: &str) -> Result<(), Refusal> {
    let no = |what: String| Err(refusal(StatusCode::BAD_REQUEST, format!("`{}` must be {what}", parameter.name), None));
    match parameter.kind {
        Kind::Text if value.contains('\0') => return no("text".to_owned()),
        Kind::Limit if !value.parse().is_ok_and(|limit: u32| (1..=MOST).contains(&limit)) => {
            return no(format!("a number from 1 to {MOST}"));
        }
        Kind::OneOf(words) if !words.contains(&value) => return no(format!("one of {}", words.join(", "))),
        Kind::Switch if !["true", "false"].contains(&value) => return no("true or false".to_owned()),
        Kind::Text | Kind::Limit | Kind::OneOf(_) | Kind::Switch => {}
    }
    match parameter.to {
        To::Flag(flag) if parameter.kind == Kind::Switch => {
            if value == "true" {
                asked.flags.push(flag.to_owned());
            }
        }
        To::Argument | To::Field => asked.positional.push(value.to_owned()),
        To::Joined => {
            if let Some(last) = asked.positional.last_mut() {
                *last = format!("{last}/{value}");
            }
        }
        To::Flag(flag) | To::Needed(flag) | To::PathFlag(flag) => asked.flags.push(format!("{flag}={value}")),
        To::FileName => {
            let plain = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
            if !plain || value.starts_with(['.', '-']) || !(1..=100).contains(&value.len()) {
                return no("a file's name of letters, digits, `.`, `_` and `-`".to_owned());
            }
            asked.file = Some(value.to_owned());
        }
    }
    Ok(())
}

async fn run(endpoint: &Endpoint, seen: &Seen, (asked, by): (Asked, &str), body: Bytes) -> Result<Value, Refusal> {
    let broken = |what: &str, error: std::io::Error| {
        refusal(StatusCode::INTERNAL_SERVER_ERROR, format!("{what}: {error}"), None)
    };
    let Ok(Ok(_turn)) = tokio::time::timeout(TURN, seen.verbs.acquire()).await else {
        let hint = Some("ask again");
        return Err(refusal(StatusCode::SERVICE_UNAVAILABLE, "the host is busy with other requests", hint));
    };
    let Asked { flags, mut positional, file } = asked;
    // It is removed with what is in it, whatever becomes of the request.
    let folder = tempfile::Builder::new().prefix("forebay-").tempdir();
    let folder = folder.map_err(|error| broken("no temporary folder can be made", error))?;
    if let Does::Upload(upload) = endpoint.does {
        let file = match upload {
            Upload::Module => file.unwrap_or_else(|| "module.wasm".to_owned()),
            Upload::Bundle => format!("{}.json", file.as_deref().unwrap_or(FILE_NAME)),
        };
        let written = tokio::fs::write(folder.path().join(&file), &body).await;
        written.map_err(|error| broken("what was sent cannot be written down", error))?;
        positional.push(file);
    }
    drop(body);
    let config = seen.config.borrow().path.clone();
    let config = std::path::absolute(config).map_err(|error| broken("the config is not found", error))?;
    let mut command = command(endpoint, &config, &flags, &positional).map_err(|error| broken("no program", error))?;
    command.env(crate::who::VARIABLE, by);
    let patience = if endpoint.does == Does::Read { READING } else { CHANGING };
    let output = tokio::time::timeout(patience, command.current_dir(folder.path()).output()).await;
    let Ok(output) = output else {
        let error = format!("it was not done within {} s", patience.as_secs());
        return Err(refusal(StatusCode::GATEWAY_TIMEOUT, error, Some("GET /v1/status tells what is active")));
    };
    let output = output.map_err(|error| broken("the verb cannot be run", error))?;
    if !output.status.success() {
        return Err(told(endpoint, output.status.code(), &output.stderr));
    }
    shaped(endpoint.answers, &output.stdout)
        .map_err(|error| refusal(StatusCode::INTERNAL_SERVER_ERROR, format!("the answer is no JSON: {error}"), None))
}

fn command(endpoint: &Endpoint, config: &Path, flags: &[String], positional: &[String]) -> std::io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    let mut arguments: Vec<OsString> = endpoint.verb.iter().map(Into::into).collect();
    arguments.extend(["--json".into(), "-c".into(), config.into()]);
    arguments.extend(flags.iter().map(Into::into));
    // What a caller wrote is never taken for a flag.
    if !positional.is_empty() {
        arguments.push("--".into());
    }
    arguments.extend(positional.iter().map(Into::into));
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command.env_remove("FOREBAY_URL").env_remove("FOREBAY_FAILPOINT");
    Ok(command)
}

/// A verb's error, with the status that its exit code means.
fn told(endpoint: &Endpoint, code: Option<i32>, stderr: &[u8]) -> Refusal {
    let stderr = String::from_utf8_lossy(stderr);
    let is_error = |line: &Value| line.get("error").is_some() && line.get("kind").is_some();
    let error = stderr.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find(is_error);
    let text = |key: &str| error.as_ref().and_then(|error| error.get(key)).and_then(Value::as_str);
    let of_config = error.as_ref().and_then(|error| error.get("place")).is_some_and(|place| !place.is_null());
    let status = match code {
        Some(2) if of_config => StatusCode::SERVICE_UNAVAILABLE,
        Some(1) if endpoint.does != Does::Read => StatusCode::UNPROCESSABLE_ENTITY,
        Some(2) => StatusCode::BAD_REQUEST,
        Some(3) => StatusCode::CONFLICT,
        Some(4) => StatusCode::NOT_FOUND,
        Some(_) | None => StatusCode::INTERNAL_SERVER_ERROR,
    };
    refusal(status, text("error").unwrap_or("the verb ended without a word: see the host's log"), text("hint"))
}

fn shaped(answers: Answers, stdout: &[u8]) -> serde_json::Result<Value> {
    let mut lines = serde_json::Deserializer::from_slice(stdout).into_iter::<Value>();
    match answers {
        Answers::Object => Ok(lines.next().transpose()?.unwrap_or_default()),
        Answers::Lines => Ok(json!({ "items": lines.collect::<Result<Vec<_>, _>>()? })),
        Answers::Items(key) => {
            let whole = lines.next().transpose()?.unwrap_or_default();
            Ok(json!({ "items": whole.get(key).cloned().unwrap_or(json!([])) }))
        }
    }
}
