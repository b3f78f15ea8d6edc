//! Verbs that go to a host elsewhere: `FOREBAY_URL` names it, `FOREBAY_TOKEN` opens it. They answer as they do beside the ledger.

use std::path::Path;
use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::Value;

use super::{Exit, Failure};
use crate::who::who;

/// The variable that names the host.
const URL: &str = "FOREBAY_URL";

/// A deployment may compile a module, and waits for its turn.
const PATIENCE: Duration = Duration::from_secs(660);

/// A host that is asked over HTTP.
pub(super) struct Host {
    url: String,
    token: Option<String>,
    client: reqwest::Client,
}

impl Host {
    /// The host that the environment names, if it names one.
    ///
    /// # Errors
    /// Exit code 2 where what it names is no URL.
    pub(super) fn of_environment() -> anyhow::Result<Option<Self>> {
        let Some(url) = std::env::var(URL).ok().filter(|url| !url.is_empty()) else { return Ok(None) };
        let parsed = reqwest::Url::parse(&url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        if parsed.is_none() {
            let failure = Failure::new(Exit::Usage, format!("{URL} is no URL of a host"));
            return Err(failure.with_hint("write it as http://127.0.0.1:8181").into());
        }
        let client = reqwest::Client::builder().timeout(PATIENCE).connect_timeout(Duration::from_secs(10)).build()?;
        let token = std::env::var(crate::run::TOKEN).ok().map(|token| token.trim().to_owned());
        let token = token.filter(|token| !token.is_empty());
        Ok(Some(Self { url: url.trim_end_matches('/').to_owned(), token, client }))
    }

    /// Reads.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.answer(self.request(Method::GET, path)).await
    }

    /// Changes something; `fields` is a JSON object.
    pub(super) async fn post(&self, path: &str, fields: &Value) -> anyhow::Result<Value> {
        let request = self.request(Method::POST, path).header("content-type", "application/json");
        self.answer(request.body(fields.to_string())).await
    }

    /// Sends a file.
    pub(super) async fn upload(
        &self,
        path: &str,
        media: &str,
        query: &[(&str, &str)],
        file: Vec<u8>,
    ) -> anyhow::Result<Value> {
        let request = self.request(Method::POST, path).header("content-type", media);
        self.answer(request.query(query).body(file)).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        // A header is plain letters: what is not is left out.
        let by: String = who().chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect();
        let request = request.header(crate::run::BY, by);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn answer(&self, request: RequestBuilder) -> anyhow::Result<Value> {
        let gone = |error: reqwest::Error| {
            let error = anyhow::Error::from(error.without_url());
            let failure = Failure::new(Exit::Failed, format!("the host at {URL} does not answer: {error:#}"));
            failure.with_hint(format!(
                "is it running, with an [http] section? Without {URL} the ledger of the config is asked"
            ))
        };
        let response = request.send().await.map_err(gone)?;
        let status = response.status();
        let text = response.bytes().await.map_err(gone)?;
        let answer: Option<Value> = serde_json::from_slice(&text).ok();
        match answer {
            Some(answer) if status.is_success() => Ok(answer),
            Some(answer) => Err(refused(status, &answer).into()),
            None => {
                let failure = Failure::new(Exit::Failed, format!("what answers at {URL} is no forebay: {status}"));
                Err(failure.with_hint("look at the address, and at a proxy before it").into())
            }
        }
    }
}

/// A file's name as a host takes it: what a path would not be made of stands as it is in no origin.
pub(super) fn plain_name(file: &Path) -> String {
    let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
    let name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).take(100).collect();
    name.trim_start_matches(['.', '-']).to_owned()
}

/// A refusal of the host, with the exit code that it has beside the ledger.
fn refused(status: StatusCode, answer: &Value) -> Failure {
    let text = |key: &str| answer.get(key).and_then(Value::as_str);
    let exit = match status {
        StatusCode::BAD_REQUEST => Exit::Usage,
        StatusCode::NOT_FOUND => Exit::NotFound,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::CONFLICT => Exit::Refused,
        _ => Exit::Failed,
    };
    let error = text("error").map_or_else(|| format!("the host answers {status}"), str::to_owned);
    let failure = Failure::new(exit, error);
    match (status, text("hint")) {
        (StatusCode::UNAUTHORIZED, _) => failure.with_hint(format!("set {} to it", crate::run::TOKEN)),
        (_, Some(hint)) => failure.with_hint(hint),
        (_, None) => failure,
    }
}
