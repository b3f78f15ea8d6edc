//! What a module says: log lines, and what it prints to stdout and stderr, line by line, bounded for each call.
//!
//! The end of stderr is kept as well: that is where a panic's message stands when the call traps.

use std::collections::VecDeque;
use std::sync::Arc;

use forebay_model::ports::LogLevel;

use crate::limits::Limits;
use crate::said::cut;

/// Where the lines of modules go. Called on the thread that runs the module, so it should not block for long.
pub trait GuestLog: Send + Sync {
    /// One line, without its end, of the module with this name.
    fn line(&self, module: &str, level: LogLevel, text: &str);
}

/// Lines become events of `tracing`, with the target `forebay::module` and the field `module`.
#[derive(Debug, Clone, Copy, Default)]
pub struct TracingLog;

impl GuestLog for TracingLog {
    fn line(&self, module: &str, level: LogLevel, text: &str) {
        const TARGET: &str = "forebay::module";
        match level {
            LogLevel::Trace => tracing::trace!(target: TARGET, module, "{text}"),
            LogLevel::Debug => tracing::debug!(target: TARGET, module, "{text}"),
            LogLevel::Info => tracing::info!(target: TARGET, module, "{text}"),
            LogLevel::Warn => tracing::warn!(target: TARGET, module, "{text}"),
            LogLevel::Error => tracing::error!(target: TARGET, module, "{text}"),
        }
    }
}

/// Lines go nowhere.
pub(crate) struct NoLog;

impl GuestLog for NoLog {
    fn line(&self, _: &str, _: LogLevel, _: &str) {}
}

/// Which of the two a guest prints to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// Longest line that is put together from what a guest prints; what is longer is broken.
const LINE_BYTES: usize = 8 << 10;
/// What Rust's panic handler adds, and nobody can do for a module: its stack is in the error that the host tells.
const PANIC_NOTE: &str = "note: run with `RUST_BACKTRACE=";
/// Lines of stderr that are kept to explain a trap.
const TAIL_LINES: usize = 32;

/// The console of an instance.
pub(crate) struct Console {
    log: Arc<dyn GuestLog>,
    module: Arc<str>,
    lines_left: usize,
    bytes_left: usize,
    dropped_lines: u64,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// The first line of a panic, which its message follows.
    panic: Option<String>,
    tail: VecDeque<String>,
}

impl Console {
    pub(crate) fn new(log: Arc<dyn GuestLog>, module: Arc<str>) -> Self {
        Self {
            log,
            module,
            lines_left: 0,
            bytes_left: 0,
            dropped_lines: 0,
            stdout: Vec::new(),
            stderr: Vec::new(),
            panic: None,
            tail: VecDeque::new(),
        }
    }

    /// A call begins: its limits are whole, and nothing of the one before explains it.
    pub(crate) fn begin(&mut self, limits: &Limits) {
        self.lines_left = limits.log_lines;
        self.bytes_left = limits.log_bytes();
        self.dropped_lines = 0;
        self.tail.clear();
    }

    /// A call is over: lines that were not ended are, and the log hears of what was dropped.
    pub(crate) fn end(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = std::mem::take(self.buffer(stream));
            if !rest.is_empty() {
                self.printed(stream, &rest);
            }
        }
        if let Some(place) = self.panic.take() {
            self.line(LogLevel::Warn, &place);
        }
        if self.dropped_lines > 0 {
            let text =
                format!("{} more lines of this call were dropped (limits.log_lines, log_kib)", self.dropped_lines);
            self.log.line(&self.module, LogLevel::Warn, &text);
            self.dropped_lines = 0;
        }
    }

    /// A line that the guest logs. Line ends in it would forge lines, so each makes one.
    pub(crate) fn log(&mut self, level: LogLevel, message: &str) {
        for line in message.lines() {
            self.line(level, line);
        }
    }

    /// Bytes that the guest prints.
    pub(crate) fn print(&mut self, stream: Stream, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            for part in piece.chunks(LINE_BYTES) {
                let buffer = self.buffer(stream);
                buffer.extend_from_slice(part);
                if buffer.ends_with(b"\n") || buffer.len() >= LINE_BYTES {
                    let line = std::mem::take(buffer);
                    self.printed(stream, &line);
                }
            }
        }
    }

    /// The last lines of stderr in this call, oldest first.
    pub(crate) fn stderr_tail(&self) -> impl Iterator<Item = &str> {
        self.tail.iter().map(String::as_str)
    }

    fn buffer(&mut self, stream: Stream) -> &mut Vec<u8> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    fn printed(&mut self, stream: Stream, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_end_matches(['\r', '\n']);
        let level = match stream {
            Stream::Stdout => LogLevel::Info,
            Stream::Stderr => LogLevel::Warn,
        };
        if stream == Stream::Stderr {
            if self.tail.len() == TAIL_LINES {
                self.tail.pop_front();
            }
            self.tail.push_back(text.to_owned());
        }
        if text.trim().is_empty() || text.starts_with(PANIC_NOTE) {
            return;
        }
        match stream {
            Stream::Stdout => self.line(level, text),
            Stream::Stderr => self.complained(level, text),
        }
    }

    /// A line of stderr. Rust's panic handler prints two, the place and the message: they are one for the log.
    fn complained(&mut self, level: LogLevel, text: &str) {
        if let Some(place) = self.panic.take() {
            return self.line(level, &format!("{place} {text}"));
        }
        if text.starts_with("thread '") && text.contains(" panicked at ") {
            self.panic = Some(text.to_owned());
            return;
        }
        self.line(level, text);
    }

    fn line(&mut self, level: LogLevel, text: &str) {
        if self.lines_left == 0 || self.bytes_left == 0 {
            self.dropped_lines += 1;
            return;
        }
        self.lines_left -= 1;
        let text = cut(text, self.bytes_left);
        self.bytes_left = self.bytes_left.saturating_sub(text.len().max(1));
        // Control characters could steer a terminal.
        let clean: String = text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect();
        self.log.line(&self.module, level, &clean);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Lines(Mutex<Vec<String>>);

    impl GuestLog for Lines {
        fn line(&self, module: &str, level: LogLevel, text: &str) {
            self.0.lock().unwrap().push(format!("{module} {level:?} {text}"));
        }
    }

    fn said(act: impl FnOnce(&mut Console)) -> Vec<String> {
        let lines = Arc::new(Lines::default());
        let log: Arc<dyn GuestLog> = Arc::clone(&lines) as _;
        let mut console = Console::new(log, "m".into());
        console.begin(&Limits { log_lines: 3, log_kib: 1, ..Limits::default() });
        act(&mut console);
        console.end();
        let said = lines.0.lock().unwrap();
        said.clone()
    }

    #[test]
    fn printed_bytes_become_lines() {
        let lines = said(|console| {
            console.print(Stream::Stdout, b"one\ntw");
            console.print(Stream::Stderr, b"bad \xff\x1b[2J\n\n");
            console.print(Stream::Stdout, b"o");
            assert_eq!(console.stderr_tail().collect::<Vec<_>>(), ["bad \u{fffd}\u{1b}[2J", ""]);
        });
        assert_eq!(lines, ["m Info one", "m Warn bad \u{fffd}\u{fffd}[2J", "m Info two"]);
    }

    #[test]
    fn a_panic_is_one_line() {
        let lines = said(|console| {
            let printed = "\nthread 'main' (1) panicked at src/lib.rs:7:5:\nno such row\nnote: run with `RUST_BACKTRACE=1` environment \
                           variable to display a backtrace\n";
            console.print(Stream::Stderr, printed.as_bytes());
        });
        assert_eq!(lines, ["m Warn thread 'main' (1) panicked at src/lib.rs:7:5: no such row"]);
        let cut_off = said(|console| console.print(Stream::Stderr, b"thread 'main' panicked at src/lib.rs:7:5:\n"));
        assert_eq!(cut_off, ["m Warn thread 'main' panicked at src/lib.rs:7:5:"]);
    }

    #[test]
    fn what_is_beyond_the_limits_is_counted() {
        let lines = said(|console| (0..10).for_each(|line| console.log(LogLevel::Info, &format!("{line}\n{line}"))));
        assert_eq!(
            lines,
            [
                "m Info 0",
                "m Info 0",
                "m Info 1",
                "m Warn 17 more lines of this call were dropped (limits.log_lines, log_kib)"
            ]
        );
        let long = said(|console| console.log(LogLevel::Info, &"é".repeat(4000)));
        assert!(long[0].ends_with('…') && long[0].len() <= 1024 + "m Info ".len(), "{}", long[0].len());
    }
}
