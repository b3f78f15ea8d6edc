//! What a host that runs answers over HTTP: whether it is alive and ready, its metrics, and the JSON API. See `docs/http.md`.
//!
//! A connection is taken by `connection`, let in or refused by [`Door::admit`] before its body is read, and answered by a route.
//! Nothing here is waited for by the host: it goes on whatever becomes of a request, and takes the server down when it ends.

mod answers;
mod api;
mod connection;
mod endpoints;
mod exposition;
mod metrics;
mod openapi;
mod ready;
mod token;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{DefaultBodyLimit, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use forebay_pipeline::panics::caught;
use forebay_sandbox::Limits;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt as _;

use super::Host;
use crate::assemble;
use crate::cli::{Exit, Failure};
use crate::config::{Config, HttpConfig};
pub(crate) use api::BY;
use token::Token;
pub(crate) use token::VARIABLE;

/// Bytes of a body that is no module.
const SMALL_BODY: u64 = 64 * 1024;

/// A port that is taken, before anything is served on it.
pub(super) struct Server {
    listener: TcpListener,
    address: SocketAddr,
    token: Option<Token>,
}

/// What routes look at.
pub(super) struct Seen {
    host: Arc<Host>,
    /// What runs.
    config: watch::Receiver<Config>,
    /// Whether the host has come through its start.
    started: Arc<AtomicBool>,
    /// Verbs that may run now.
    verbs: Semaphore,
}

/// Whether the caller has shown the token, or need not: then it may see what things are called.
#[derive(Debug, Clone, Copy)]
struct Known(bool);

/// What a request that is let in may do.
struct Admitted {
    /// The most bytes that its body may have.
    most: u64,
    known: Known,
}

/// Who is let in, and to what.
struct Door {
    token: Option<Token>,
    address: SocketAddr,
    router: Router,
    config: watch::Receiver<Config>,
    /// One large body at a time.
    large: Semaphore,
}

impl Server {
    /// Takes the port.
    ///
    /// # Errors
    /// A port that cannot be taken, and a token that is missing or cannot be used.
    pub(super) async fn bind(config: &HttpConfig) -> anyhow::Result<Self> {
        let token = Token::find(config).await?;
        let cannot = |error: std::io::Error| {
            let failure = Failure::new(Exit::Failed, format!("[http] cannot listen on {}: {error}", config.listen));
            if error.kind() == std::io::ErrorKind::AddrInUse {
                return failure.with_hint("another program has that port: stop it, or give `listen` in [http] another");
            }
            failure.with_hint("give `listen` in [http] an address of this machine, and a port above 1023")
        };
        let listener = TcpListener::bind(config.listen).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        Ok(Self { listener, address, token })
    }

    /// Answers for ever.
    pub(super) async fn serve(self, seen: Seen) {
        let Self { listener, address, token } = self;
        tracing::info!(%address, token = token.is_some(), "answering over HTTP");
        let config = seen.config.clone();
        let router = api::routes(Router::new())
            .route("/healthz", get(|| async { Json(json!({ "alive": true })) }))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .fallback(|| async {
                refusal(StatusCode::NOT_FOUND, "there is nothing here", Some("docs/http.md lists what there is"))
            })
            .method_not_allowed_fallback(|| async {
                refusal(StatusCode::METHOD_NOT_ALLOWED, "this cannot be done here", Some("docs/http.md lists what can"))
            })
            // Who may send how much is told before it is read.
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::new(seen));
        connection::serve(listener, Door { token, address, router, config, large: Semaphore::new(1) }).await;
    }
}

async fn ready(State(seen): State<Arc<Seen>>, Extension(Known(known)): Extension<Known>) -> Response {
    let missing = ready::missing(&seen).await;
    let status = if missing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let ready = missing.is_empty();
    let body = if known { json!({ "ready": ready, "missing": missing }) } else { json!({ "ready": ready }) };
    (status, Json(body)).into_response()
}

async fn metrics(State(seen): State<Arc<Seen>>) -> Response {
    let text = metrics::of(&seen).await;
    ([(header::CONTENT_TYPE, exposition::CONTENT_TYPE)], text).into_response()
}

impl Seen {
    pub(super) fn new(host: Arc<Host>, config: watch::Receiver<Config>, started: Arc<AtomicBool>) -> Self {
        Self { host, config, started, verbs: Semaphore::new(api::VERBS) }
    }

    fn has_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }
}

impl Door {
    /// Whether a request is let in; told by its head alone, so that nobody's body is read who may not send one.
    fn admit(&self, head: &Parts) -> Result<Admitted, Refusal> {
        let presented = bearer(head);
        let has_token = match (&self.token, presented) {
            (Some(token), Some(presented)) => token.is(presented),
            (Some(_), None) | (None, _) => false,
        };
        let beyond = !self.address.ip().is_loopback();
        // A page in a browser of this machine can send requests here under a name of its own.
        if !beyond && !has_token && !is_of_this_machine(head) {
            let hint = "use 127.0.0.1 or localhost, or show the token";
            return Err(refusal(StatusCode::MISDIRECTED_REQUEST, "this host goes by another name", Some(hint)));
        }
        let changes = head.method != Method::GET && head.method != Method::HEAD;
        let is_probe = matches!(head.uri.path(), "/healthz" | "/readyz");
        if !has_token && (changes || (beyond && !is_probe)) {
            return Err(self.no_token(presented.is_some()));
        }
        Ok(Admitted { most: self.most(head), known: Known(has_token || !beyond) })
    }

    /// The most bytes of a body: of a module as many as a pipeline's limits let in.
    fn most(&self, head: &Parts) -> u64 {
        if !endpoints::is_upload(head.uri.path()) {
            return SMALL_BODY;
        }
        let config = self.config.borrow();
        let of_pipelines = config.pipelines.values().filter_map(|pipeline| assemble::limits(&pipeline.limits).ok());
        let most = of_pipelines.map(|limits| limits.module_mib).max();
        most.unwrap_or(Limits::default().module_mib) << 20
    }

    fn no_token(&self, presented: bool) -> Refusal {
        if self.token.is_none() {
            let hint = format!("set {VARIABLE} or token_file in [http], and start the host again");
            return refusal(StatusCode::FORBIDDEN, "this host has no token, so nothing can be changed", Some(&hint));
        }
        if presented {
            return refusal(StatusCode::FORBIDDEN, "that is not this host's token", None);
        }
        let hint = "send the header `Authorization: Bearer <token>`";
        refusal(StatusCode::UNAUTHORIZED, "this needs the host's token", Some(hint))
    }

    /// The answer of a route.
    async fn answer(&self, request: Request<axum::body::Body>) -> Response {
        let answered = async {
            match self.router.clone().oneshot(request).await {
                Ok(response) => Ok::<_, forebay_model::Error>(response),
                Err(never) => match never {},
            }
        };
        let mut response = caught(answered).await.unwrap_or_else(|error| {
            tracing::error!(error = error.chain(), "an HTTP request could not be answered");
            refusal(StatusCode::INTERNAL_SERVER_ERROR, error.chain(), error.hint()).into_response()
        });
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}

/// What is presented as a token.
fn bearer(head: &Parts) -> Option<&str> {
    let value = head.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Whether the request names this machine by an address or as localhost; HTTP/1.0 may name nothing.
fn is_of_this_machine(head: &Parts) -> bool {
    let Some(host) = head.headers.get(header::HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    let is_address = host.parse::<SocketAddr>().is_ok() || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    is_address || name.eq_ignore_ascii_case("localhost")
}

/// An error as programs read it: what happened, and what to do.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    error: String,
    hint: Option<String>,
}

fn refusal(status: StatusCode, error: impl Into<String>, hint: Option<&str>) -> Refusal {
    Refusal { status, error: error.into(), hint: hint.map(str::to_owned) }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self { status, error, hint } = self;
        let mut response = (status, Json(json!({ "error": error, "hint": hint }))).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
