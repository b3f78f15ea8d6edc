//! The webhook: a POST of JSON, which chat tools read too (`text`).

use std::collections::BTreeMap;
use std::time::Duration;

use forebay_model::Timestamp;
use serde_json::{Value, json};

use super::judge::{Notice, State, Subject};
use crate::config::AlertsConfig;

/// How long a server may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pauses after something could not be sent, from and to.
const PAUSES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// What is to be sent.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: BTreeMap<Subject, Notice>,
    client: Option<reqwest::Client>,
    /// Not before then, and the pause that led to it.
    paused: Option<(Timestamp, Duration)>,
}

impl Outbox {
    /// Adds notices; of each subject the newest is sent.
    pub(super) fn add(&mut self, notices: Vec<Notice>) {
        for notice in notices {
            self.waiting.insert(notice.subject.clone(), notice);
        }
    }

    /// Sends what waits, all at once; what cannot be sent waits on.
    pub(super) async fn send(&mut self, alerts: &AlertsConfig, now: Timestamp) {
        if self.waiting.is_empty() || self.paused.is_some_and(|(until, _)| now < until) {
            return;
        }
        match self.post(alerts).await {
            Ok(()) => {
                tracing::info!(alerts = self.waiting.len(), "alerts sent");
                self.waiting.clear();
                self.paused = None;
            }
            Err(error) => {
                let pause = self.paused.map_or(PAUSES.0, |(_, pause)| pause.saturating_mul(2).min(PAUSES.1));
                self.paused = Some((now.plus(pause), pause));
                tracing::warn!(
                    error,
                    alerts = self.waiting.len(),
                    seconds = pause.as_secs(),
                    "alerts could not be sent to the webhook; they are sent again after a pause"
                );
            }
        }
    }

    async fn post(&mut self, alerts: &AlertsConfig) -> Result<(), String> {
        let AlertsConfig { webhook, token_file, .. } = alerts;
        let client = match &self.client {
            Some(client) => client.clone(),
            None => {
                // A redirect would carry what is told to another place.
                let builder = reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none());
                let client = builder.build().map_err(|error| error.to_string())?;
                self.client.insert(client).clone()
            }
        };
        let mut request = client.post(webhook).header("content-type", "application/json");
        if let Some(file) = token_file {
            let token = tokio::fs::read_to_string(file).await;
            let token = token.map_err(|error| format!("the token cannot be read from {}: {error}", file.display()))?;
            request = request.bearer_auth(token.trim());
        }
        // The URL may be a secret.
        let response =
            request.body(self.body().to_string()).send().await.map_err(|error| chain(&error.without_url()))?;
        match response.status() {
            status if status.is_success() => Ok(()),
            status => Err(format!("the webhook answers {status}")),
        }
    }

    fn body(&self) -> Value {
        let alerts: Vec<_> = self.waiting.values().collect();
        let lines = alerts.iter().map(|notice| match notice.state {
            State::Firing => format!("{}. {}", notice.message, notice.hint),
            State::Resolved => format!("over: {}", notice.message),
        });
        json!({ "text": format!("forebay: {}", lines.collect::<Vec<_>>().join("\n")), "alerts": alerts })
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
