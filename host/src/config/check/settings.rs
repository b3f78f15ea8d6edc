//! `[host]`, `[http]`, `[alerts]` and `[maintain]`: defaults, and numbers in range.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::super::shape;
use super::super::units::{Size, Span, format_duration};
use super::super::{AlertsConfig, CommitConfig, HostConfig, HttpConfig, MaintainConfig, nearest};
use super::Check;

/// Where the host answers over HTTP, where nothing else is said.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8181);

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const DAY: Duration = Duration::from_hours(24);

/// How loud a log can be.
const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

/// A filter takes any word for the name of a part of the program, and logs nothing else then: so a word alone is to be a level.
fn is_level_or_part(word: &str) -> bool {
    word.contains(['=', '['])
        || LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word))
        || word.starts_with("forebay")
}

impl Check<'_> {
    pub(super) fn host(&mut self) -> HostConfig {
        let shape::Host { workers, memory, shutdown_seconds, log, commit } = self.section_or_default("host");
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let workers = workers.and_then(|workers| self.number(&["host", "workers"], workers, 1..=1024));
        let workers = workers.and_then(|workers| usize::try_from(workers).ok()).and_then(NonZeroUsize::new);
        let shutdown = shutdown_seconds.unwrap_or(30);
        let log = log.unwrap_or_else(|| "info".to_owned());
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&log) {
            let hint = "use error, warn, info, debug or trace, for single crates too: \"info,forebay_sandbox=debug\"";
            self.problem_at(&["host", "log"], format!("`log` is not a log filter: {error}"), Some(hint.to_owned()));
        } else if let Some(word) = log.split(',').map(str::trim).find(|word| !is_level_or_part(word)) {
            let hint = match nearest(word, LEVELS) {
                Some(level) => format!("did you mean `{level}`?"),
                None => format!("the levels are {}", LEVELS.join(", ")),
            };
            self.problem_at(&["host", "log"], format!("`{word}` in `log` is no level"), Some(hint));
        }
        HostConfig {
            workers: workers.unwrap_or(cores),
            memory: self.size(&["host", "memory"], memory, 256 * MIB, 64 * MIB..=1024 * GIB),
            shutdown: Duration::from_secs(
                self.number(&["host", "shutdown_seconds"], shutdown, 0..=3600).unwrap_or_default(),
            ),
            log,
            commit: self.commit(&commit),
        }
    }

    fn commit(&mut self, shape: &shape::Commit) -> CommitConfig {
        let shape::Commit { max_segments, max_bytes, max_age } = *shape;
        let segments = self.number(&["host", "commit", "max_segments"], max_segments.unwrap_or(64), 1..=10_000);
        CommitConfig {
            max_segments: segments.and_then(|segments| u32::try_from(segments).ok()).unwrap_or(1),
            max_bytes: self.size(&["host", "commit", "max_bytes"], max_bytes, 128 * MIB, MIB..=64 * GIB),
            max_age: self.duration(
                &["host", "commit", "max_age"],
                max_age,
                Duration::from_secs(1),
                Duration::from_millis(10)..=Duration::from_hours(1),
            ),
        }
    }

    pub(super) fn http(&mut self) -> Option<HttpConfig> {
        let tree = self.tree;
        let shape::Http { listen, token_file } = self.section(&tree.node.get("http")?.node)?;
        let listen = listen.map_or(Ok(LISTEN), |listen| listen.parse().map_err(|_| listen));
        let listen = listen.unwrap_or_else(|listen| {
            let message = format!("`{listen}` is not an address to listen on");
            let hint = "write address and port: \"127.0.0.1:8181\", \"0.0.0.0:8181\", \"[::1]:8181\"".to_owned();
            self.problem_at(&["http", "listen"], message, Some(hint));
            LISTEN
        });
        if token_file.as_ref().is_some_and(String::is_empty) {
            self.problem_at(&["http", "token_file"], "a file is expected, found empty text", None);
        }
        Some(HttpConfig { listen, token_file: token_file.map(|file| tree.root.join(file)) })
    }

    pub(super) fn alerts(&mut self) -> Option<AlertsConfig> {
        let tree = self.tree;
        let shape::Alerts { webhook, token_file, repeat, window, lag, reject_percent } =
            self.section(&tree.node.get("alerts")?.node)?;
        let url = url::Url::parse(&webhook).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        if url.is_none() {
            let hint = "write the whole of it: \"https://hooks.example.com/forebay\"".to_owned();
            self.problem_at(&["alerts", "webhook"], "`webhook` is not a URL of http or https", Some(hint));
        }
        if token_file.as_ref().is_some_and(String::is_empty) {
            self.problem_at(&["alerts", "token_file"], "a file is expected, found empty text", None);
        }
        let reject_percent = reject_percent.unwrap_or(5.0);
        if !(0.0..=100.0).contains(&reject_percent) {
            self.problem_at(&["alerts", "reject_percent"], "`reject_percent` must be from 0 to 100", None);
        }
        let minute = Duration::from_mins(1);
        let mut span = |key, span, default, least| self.duration(&["alerts", key], span, default, least..=7 * DAY);
        Some(AlertsConfig {
            webhook,
            token_file: token_file.map(|file| tree.root.join(file)),
            repeat: span("repeat", repeat, 60 * minute, minute),
            window: span("window", window, 5 * minute, Duration::from_secs(10)),
            lag: span("lag", lag, 15 * minute, Duration::from_secs(10)),
            reject_percent,
        })
    }

    pub(super) fn maintain(&mut self) -> MaintainConfig {
        let shape::Maintain { target_file, retention } = self.section_or_default("maintain");
        MaintainConfig {
            target_file: self.size(&["maintain", "target_file"], target_file, 128 * MIB, MIB..=16 * GIB),
            retention: self.duration(
                &["maintain", "retention"],
                retention,
                7 * DAY,
                Duration::from_hours(1)..=3650 * DAY,
            ),
        }
    }

    pub(super) fn number(&mut self, path: &[&str], number: u64, range: RangeInclusive<u64>) -> Option<u64> {
        if range.contains(&number) {
            return Some(number);
        }
        let key = path.last().copied().unwrap_or_default();
        self.problem_at(path, format!("`{key}` must be from {} to {}", range.start(), range.end()), None);
        None
    }

    fn size(&mut self, path: &[&str], size: Option<Size>, default: u64, range: RangeInclusive<u64>) -> u64 {
        let Some(Size(size)) = size else { return default };
        if !range.contains(&size) {
            let key = path.last().copied().unwrap_or_default();
            let message = format!("`{key}` must be from {} to {} MiB", range.start() / MIB, range.end() / MIB);
            self.problem_at(path, message, Some("sizes have a unit: \"256MiB\"".to_owned()));
        }
        size
    }

    fn duration(
        &mut self,
        path: &[&str],
        duration: Option<Span>,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let Some(Span(duration)) = duration else { return default };
        if !range.contains(&duration) {
            let key = path.last().copied().unwrap_or_default();
            self.problem_at(
                path,
                format!(
                    "`{key}` must be from {} to {}",
                    format_duration(*range.start()),
                    format_duration(*range.end())
                ),
                None,
            );
        }
        duration
    }
}
