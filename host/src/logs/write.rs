//! The host's side: a thread that writes, so that no worker waits for a disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use forebay_model::ports::LogLevel;
use forebay_sandbox::{GuestLog, TracingLog};

use super::{FILE_BYTES, Files, Level, Line};
use crate::assemble;

/// Lines that may wait to be written.
const WAITING: usize = 8_192;
/// How long an end waits for them.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a module says goes to the host's log, and to the file of lines.
pub(crate) struct ModuleLog {
    sender: SyncSender<Message>,
    /// Lines that were left out since the last one that was not.
    left_out: AtomicU64,
}

enum Message {
    Line(Line),
    /// Answered when all before it is written.
    Flush(SyncSender<()>),
}

impl ModuleLog {
    /// Begins to write.
    pub(crate) fn new(files: Files) -> Self {
        Self::with_file_bytes(files, FILE_BYTES)
    }

    pub(super) fn with_file_bytes(files: Files, file_bytes: u64) -> Self {
        let (sender, receiver) = sync_channel(WAITING);
        let writer = Writer { files, file_bytes, open: None, told: false };
        let thread = std::thread::Builder::new().name("module-log".to_owned());
        if let Err(error) = thread.spawn(move || writer.run(&receiver)) {
            tracing::warn!(%error, "no thread for the lines of modules: they are in this log only");
        }
        Self { sender, left_out: AtomicU64::new(0) }
    }

    /// Waits until all that was said is written, but not for a disk that hangs.
    pub(crate) fn flush(&self) {
        let (sender, receiver) = sync_channel(1);
        if self.sender.try_send(Message::Flush(sender)).is_ok() {
            let _ = receiver.recv_timeout(PATIENCE);
        }
    }

    fn send(&self, line: Line) -> bool {
        match self.sender.try_send(Message::Line(line)) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}

impl GuestLog for ModuleLog {
    fn line(&self, module: &str, level: LogLevel, text: &str) {
        TracingLog.line(module, level, text);
        let at = assemble::clock().now();
        let level = match level {
            LogLevel::Trace => Level::Trace,
            LogLevel::Debug => Level::Debug,
            LogLevel::Info => Level::Info,
            LogLevel::Warn => Level::Warn,
            LogLevel::Error => Level::Error,
        };
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        if left_out > 0 {
            let text = format!("{left_out} lines of modules were left out: they came faster than the disk takes them");
            if !self.send(Line { at, module: module.to_owned(), level: Level::Warn, text }) {
                self.left_out.fetch_add(left_out, Ordering::Relaxed);
            }
        }
        if !self.send(Line { at, module: module.to_owned(), level, text: text.to_owned() }) {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The thread's own.
struct Writer {
    files: Files,
    file_bytes: u64,
    /// The file, and how long it is.
    open: Option<(File, u64)>,
    /// Whether the log was told that lines cannot be written.
    told: bool,
}

impl Writer {
    fn run(mut self, receiver: &Receiver<Message>) {
        while let Ok(message) = receiver.recv() {
            match message {
                Message::Flush(answer) => drop(answer.send(())),
                Message::Line(line) => match self.write(&line) {
                    Ok(()) => self.told = false,
                    Err(error) => {
                        self.open = None;
                        if !std::mem::replace(&mut self.told, true) {
                            tracing::warn!(
                                %error, folder = %self.files.folder.display(),
                                "lines of modules cannot be kept for `forebay logs`; they are in this log"
                            );
                        }
                    }
                },
            }
        }
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line).map_err(io::Error::other)?;
        text.push(b'\n');
        let (mut file, mut bytes) = match self.open.take() {
            Some(open) => open,
            None => self.open()?,
        };
        if bytes >= self.file_bytes {
            std::fs::rename(self.files.current(), self.files.former())?;
            (file, bytes) = self.open()?;
        }
        // One call a line: a reader never sees half of one, but where the disk is full or the host dies.
        file.write_all(&text)?;
        self.open = Some((file, bytes.saturating_add(text.len() as u64)));
        Ok(())
    }

    fn open(&self) -> io::Result<(File, u64)> {
        std::fs::create_dir_all(&self.files.folder)?;
        let mut file = OpenOptions::new().create(true).append(true).read(true).open(self.files.current())?;
        let bytes = file.metadata()?.len();
        // A line that a former host tore does not take the next one along.
        if bytes > 0 && !ends_with_line_feed(&self.files.current(), bytes)? {
            file.write_all(b"\n")?;
        }
        Ok((file, bytes))
    }
}

fn ends_with_line_feed(path: &std::path::Path, bytes: u64) -> io::Result<bool> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(bytes.saturating_sub(1)))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}
