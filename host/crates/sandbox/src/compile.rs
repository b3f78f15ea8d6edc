//! Compiling, which cannot be cancelled: so it runs in a process of its own that can be, with a low priority, few threads, a
//! bound on its memory and on its time.
//!
//! The host's binary is that process too, under a hidden subcommand that calls [`compile_child_main`]. Without a command
//! the module is compiled where it is asked for, on one thread and without bounds: for tests and small tools.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use forebay_model::Digest;
use rustix::process::{Resource, Rlimit, nice, setrlimit};

use crate::artefact::{Artefact, Key, write_whole};
use crate::engine;
use crate::error::{SandboxError, ShortDigest};
use crate::limits::Limits;

const POLL: Duration = Duration::from_millis(5);
/// Of what the child says there is no need for more.
const STDERR_BYTES: u64 = 16 << 10;
const NICENESS: i32 = 10;
const HINT: &str = "build it again with a current toolchain; if it is large, raise limits.compile_seconds or \
                    limits.compile_memory_mib";

/// Compiles, in a child process where there is a command for one.
pub(crate) fn compile(
    key: &Key,
    wasm: &[u8],
    limits: &Limits,
    command: Option<&[OsString]>,
) -> Result<Artefact, SandboxError> {
    let began = Instant::now();
    let artefact = match command.and_then(<[OsString]>::split_first) {
        Some((program, arguments)) => in_child(key, wasm, limits, program, arguments),
        None => here(key, wasm),
    }?;
    let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(module = %key.digest.short(), bytes = wasm.len(), elapsed_ms, "module compiled");
    Ok(artefact)
}

fn here(key: &Key, wasm: &[u8]) -> Result<Artefact, SandboxError> {
    let engine = engine::compiler(false)?;
    Artefact::compile(&engine, wasm).map_err(|error| refused(key, &format!("{error:#}")))
}

fn refused(key: &Key, reason: &str) -> SandboxError {
    SandboxError::Compile { digest: ShortDigest(key.digest), reason: reason.trim().to_owned(), hint: HINT }
}

fn in_child(
    key: &Key,
    wasm: &[u8],
    limits: &Limits,
    program: &OsStr,
    arguments: &[OsString],
) -> Result<Artefact, SandboxError> {
    let broken = |what: &str, error: &std::io::Error| SandboxError::CompileProcess {
        digest: ShortDigest(key.digest),
        reason: format!("{what}: {error}"),
    };
    let folder = tempfile::tempdir().map_err(|error| broken("no temporary folder", &error))?;
    let (source, target) = (folder.path().join("module.wasm"), folder.path().join("module.compiled"));
    fs::write(&source, wasm).map_err(|error| broken("the module cannot be written to a temporary folder", &error))?;
    // Half of the cores: what runs at the same time is production.
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2));
    let mut child = Command::new(program)
        .args(arguments)
        .args([source.as_os_str(), target.as_os_str()])
        .arg(limits.compile_memory_mib.to_string())
        .arg(limits.compile_seconds.to_string())
        .env("RAYON_NUM_THREADS", threads.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| broken(&format!("{} does not start", Path::new(program).display()), &error))?;
    let outcome = wait(&mut child, Duration::from_secs(limits.compile_seconds));
    match outcome.map_err(|error| broken("its process cannot be waited for", &error))? {
        Outcome::Done => {}
        Outcome::Failed(words) => return Err(refused(key, &words)),
        Outcome::Late => {
            return Err(refused(key, &format!("it took longer than {} s", limits.compile_seconds)));
        }
        Outcome::Killed(signal) => {
            let reason = format!(
                "its process was ended by {signal}: it needs more than {} MiB or {} s",
                limits.compile_memory_mib, limits.compile_seconds
            );
            return Err(refused(key, &reason));
        }
    }
    let content = fs::read(&target).map_err(|error| broken("what was compiled cannot be read", &error))?;
    Artefact::verify(content, key).map_err(|reason| SandboxError::CompileProcess {
        digest: ShortDigest(key.digest),
        reason: format!("{} made something else: {reason}", Path::new(program).display()),
    })
}

enum Outcome {
    Done,
    Failed(String),
    Late,
    Killed(String),
}

fn wait(child: &mut Child, time: Duration) -> std::io::Result<Outcome> {
    let stderr = child.stderr.take();
    let listener = std::thread::spawn(move || {
        let mut words = Vec::new();
        if let Some(mut stderr) = stderr {
            let _ = stderr.by_ref().take(STDERR_BYTES).read_to_end(&mut words);
            // The rest is let go of, so that the child does not wait for a reader.
            let _ = std::io::copy(&mut stderr, &mut std::io::sink());
        }
        String::from_utf8_lossy(&words).into_owned()
    });
    let end = Instant::now() + time;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(Outcome::Late);
        }
        std::thread::sleep(POLL);
    };
    let words = listener.join().unwrap_or_default();
    Ok(match status.code() {
        Some(0) => Outcome::Done,
        Some(code) if words.trim().is_empty() => Outcome::Failed(format!("its process ended with code {code}")),
        Some(_) => Outcome::Failed(words),
        None => Outcome::Killed(status.to_string()),
    })
}

/// The whole of the child process: `compile <module.wasm> <target> <MiB of memory> <seconds of CPU time>`, of which these
/// are the arguments. It bounds itself, compiles, and says on stderr what went wrong.
pub fn compile_child_main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    match child(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(words) => {
            // The parent reads this stream and nothing else.
            let _ = std::io::Write::write_all(&mut std::io::stderr(), words.as_bytes());
            ExitCode::FAILURE
        }
    }
}

fn child(arguments: impl IntoIterator<Item = OsString>) -> Result<(), String> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let [source, target, memory, seconds] = arguments.as_slice() else {
        return Err(format!("{} arguments where a module, a target, MiB and seconds are due", arguments.len()));
    };
    let number = |text: &OsString| {
        text.to_str().and_then(|text| text.parse::<u64>().ok()).ok_or_else(|| format!("{text:?} is not a number"))
    };
    bound(number(memory)?, number(seconds)?);
    let wasm = fs::read(source).map_err(|error| format!("the module cannot be read: {error}"))?;
    let engine = engine::compiler(true).map_err(|error| error.to_string())?;
    let key = Key { digest: Digest::of(&wasm), settings: engine::settings_hash(&engine) };
    let artefact = Artefact::compile(&engine, &wasm).map_err(|error| format!("{error:#}"))?;
    write_whole(Path::new(target), &artefact.seal(&key))
        .map_err(|error| format!("the target cannot be written: {error}"))
}

/// A system that refuses a bound still compiles: the parent's clock holds.
fn bound(memory_mib: u64, seconds: u64) {
    let _ = nice(NICENESS);
    for (resource, most) in
        [(Resource::As, memory_mib.saturating_mul(1 << 20)), (Resource::Cpu, seconds), (Resource::Core, 0)]
    {
        let _ = setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) });
    }
}
