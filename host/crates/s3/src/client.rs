//! Connecting: credentials, region, timeouts and retries. All of what is tried again is told here.

use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::interceptors::InterceptorContext;
use aws_sdk_s3::config::retry::{ClassifyRetry, RetryAction, RetryConfig};
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Builder, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation, StalledStreamProtectionConfig,
};
use forebay_model::{Error, Result};

use crate::address::{S3Address, S3Settings};

/// The region of servers that have none.
const SOME_REGION: &str = "us-east-1";
/// Two requests at once for one name: the server says that it may be asked again.
const CONFLICT: u16 = 409;

/// How long a server is waited for, and how often it is asked. What fails beyond that is an error of class retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How often a request is made, at most.
    pub attempts: u32,
    /// The longest pause before the second attempt; it doubles from attempt to attempt, and chance shortens it.
    pub pause: Duration,
    /// The longest of all pauses.
    pub longest_pause: Duration,
    /// How long connecting may take.
    pub connect: Duration,
    /// How long one attempt may take, from its first byte to the first of the answer's body.
    pub answer: Duration,
    /// How long a body may come to a standstill.
    pub stall: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts: 8,
            pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(20),
            connect: Duration::from_secs(5),
            answer: Duration::from_mins(1),
            stall: Duration::from_secs(20),
        }
    }
}

impl Patience {
    /// The pause before an attempt, the second being number 1; `chance` shortens it.
    #[must_use]
    pub fn pause_before(&self, attempt: u32, chance: u64) -> Duration {
        let longest =
            self.pause.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1))).min(self.longest_pause);
        let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(chance % micros.saturating_add(1))
    }
}

/// An access key, where a program has it: a test.
#[derive(Clone)]
pub struct Secrets {
    /// Who.
    pub access_key: String,
    /// The secret.
    pub secret_key: String,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(***)")
    }
}

/// What is no setting.
#[derive(Debug, Clone, Default)]
pub struct S3Options {
    /// How long a server is waited for.
    pub patience: Patience,
    /// The access key. Where there is none, the AWS chain is asked: environment, profile, web identity, the machine's role.
    pub secrets: Option<Secrets>,
}

/// Asks again where two writers met: who was first is told then.
#[derive(Debug)]
struct AfterConflict;

impl ClassifyRetry for AfterConflict {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        match context.response() {
            Some(response) if response.status().as_u16() == CONFLICT => RetryAction::transient_error(),
            Some(_) | None => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "two writers met"
    }
}

/// A client of the bucket's server. Nothing is asked of it yet.
pub(crate) async fn connect(address: &S3Address, options: &S3Options) -> Result<Client> {
    let S3Settings { endpoint, region, profile, path_style } = address.settings();
    let S3Options { patience, secrets } = options;
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12());
    if let Some(Secrets { access_key, secret_key }) = secrets {
        loader = loader.credentials_provider(Credentials::new(access_key, secret_key, None, None, "given"));
    }
    if let Some(profile) = profile {
        loader = loader.profile_name(profile);
    }
    if let Some(region) = region {
        loader = loader.region(Region::new(region.clone()));
    }
    let shared = loader.load().await;
    let is_amazon = endpoint.is_none() && shared.endpoint_url().is_none();
    let region = match shared.region() {
        Some(region) => region.clone(),
        None if is_amazon => {
            return Err(Error::operator(format!("in which region {address} lies is not said"))
                .with_hint("set `region` beside its url, or AWS_REGION in the environment"));
        }
        None => Region::from_static(SOME_REGION),
    };
    let Patience { attempts, pause, longest_pause, connect, answer, stall } = *patience;
    let retries = RetryConfig::standard()
        .with_max_attempts(attempts.max(1))
        .with_initial_backoff(pause)
        .with_max_backoff(longest_pause);
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(connect)
        .read_timeout(answer)
        .operation_attempt_timeout(answer)
        .build();
    // Checksums are ours to send and to compare: of all that is written, SHA-256.
    let mut config = Builder::from(&shared)
        .region(region)
        .retry_config(retries)
        .retry_classifier(AfterConflict)
        .timeout_config(timeouts)
        .stalled_stream_protection(StalledStreamProtectionConfig::enabled().grace_period(stall).build())
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .force_path_style(path_style.unwrap_or(!is_amazon));
    if let Some(endpoint) = endpoint {
        config = config.endpoint_url(endpoint.trim_end_matches('/'));
    }
    Ok(Client::from_conf(config.build()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_chance_shortens_them() {
        let patience = Patience {
            pause: Duration::from_millis(100),
            longest_pause: Duration::from_millis(350),
            ..Patience::default()
        };
        for (attempt, longest) in [(1, 100), (2, 200), (3, 350), (60, 350)] {
            let longest = Duration::from_millis(longest);
            let micros = u64::try_from(longest.as_micros()).unwrap_or_default();
            assert_eq!(patience.pause_before(attempt, micros), longest);
            assert_eq!(patience.pause_before(attempt, micros + 1), Duration::ZERO);
            assert!(patience.pause_before(attempt, 0x1234_5678_9abc_def0) <= longest);
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let secrets = Secrets { access_key: "AKIA".to_owned(), secret_key: "hunter2".to_owned() };
        let shown = format!("{:?}", S3Options { secrets: Some(secrets), ..S3Options::default() });
        assert!(!shown.contains("AKIA") && !shown.contains("hunter2"), "{shown}");
    }
}
