//! As much of WASI 0.2 as Rust's `std` imports, and nothing behind it: no files, no network, no environment, no arguments.
//!
//! stdout and stderr are the log, stdin is at its end, the clocks stand still at the segment's landing time, randomness
//! comes from the segment's seed. Whatever waits traps: neither an epoch nor a clock that stands still could end a guest
//! that sleeps inside the host. The functions are written by hand rather than taken from `wasmtime-wasi`: they are few,
//! none of them needs an async runtime, and what is not defined here cannot be imported.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType, WasmList};

use crate::output::Stream;
use crate::state::{Denied, GuestState};

/// Defined as 0.2.0, found by every 0.2.x that a toolchain writes.
const VERSION: &str = "0.2.0";
const TRACK: &str = "0.2.";
/// The interfaces that are defined here, each with all of its functions.
const INTERFACES: [&str; 20] = [
    "cli/environment",
    "cli/exit",
    "cli/stdin",
    "cli/stdout",
    "cli/stderr",
    "cli/terminal-input",
    "cli/terminal-output",
    "cli/terminal-stdin",
    "cli/terminal-stdout",
    "cli/terminal-stderr",
    "clocks/wall-clock",
    "clocks/monotonic-clock",
    "random/random",
    "random/insecure",
    "random/insecure-seed",
    "io/error",
    "io/poll",
    "io/streams",
    "filesystem/preopens",
    "filesystem/types",
];
/// What a stream says it takes at once.
const STREAM_ROOM: u32 = 64 << 10;
/// Most random bytes of a call.
const RANDOM_BYTES: u64 = 1 << 20;
const STDOUT: u32 = 1;
const STDERR: u32 = 2;

/// Resources that guests hold; the numbers behind them are the streams', nothing is kept.
struct InputStream;
struct OutputStream;
struct IoError;
struct Pollable;
struct TerminalInput;
struct TerminalOutput;
struct Descriptor;
struct DirectoryStream;

#[derive(ComponentType, Lower, Lift)]
#[component(variant)]
enum StreamError {
    #[component(name = "last-operation-failed")]
    LastOperationFailed(Resource<IoError>),
    #[component(name = "closed")]
    Closed,
}

#[derive(ComponentType, Lower, Lift)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

type Context<'a> = StoreContextMut<'a, GuestState>;
type Linked = wasmtime::Result<()>;

/// Whether an import of this name, `wasi:io/poll@0.2.6`, is defined here.
pub(crate) fn is_given(import: &str) -> bool {
    let parts = import.strip_prefix("wasi:").and_then(|name| name.split_once('@'));
    parts.is_some_and(|(interface, version)| INTERFACES.contains(&interface) && version.starts_with(TRACK))
}

/// Defines all of it.
pub(crate) fn link(linker: &mut Linker<GuestState>) -> Linked {
    cli(linker)?;
    terminals(linker)?;
    clocks(linker)?;
    random(linker)?;
    io(linker)?;
    filesystem(linker)
}

fn instance<'a>(linker: &'a mut Linker<GuestState>, name: &str) -> wasmtime::Result<LinkerInstance<'a, GuestState>> {
    linker.instance(&format!("wasi:{name}@{VERSION}"))
}

fn resource<T: 'static>(instance: &mut LinkerInstance<'_, GuestState>, name: &str) -> Linked {
    instance.resource(name, ResourceType::host::<T>(), |_, _| Ok(()))
}

/// Defines functions that no rule may call; they need no types, since they never return.
fn deny(instance: &mut LinkerInstance<'_, GuestState>, interface: &str, names: &[&str], why: &'static str) -> Linked {
    for name in names {
        let text = format!("the module called wasi:{interface}.{name}: {why}");
        instance.func_new(name, move |_, _, _, _| Err(wasmtime::Error::new(Denied(text.clone()))))?;
    }
    Ok(())
}

fn cli(linker: &mut Linker<GuestState>) -> Linked {
    let mut environment = instance(linker, "cli/environment")?;
    environment.func_wrap("get-environment", |_: Context<'_>, ()| Ok((Vec::<(String, String)>::new(),)))?;
    environment.func_wrap("get-arguments", |_: Context<'_>, ()| Ok((Vec::<String>::new(),)))?;
    environment.func_wrap("initial-cwd", |_: Context<'_>, ()| Ok((None::<String>,)))?;
    deny(&mut instance(linker, "cli/exit")?, "cli/exit", &["exit", "exit-with-code"], "a rule cannot end the process")?;

    instance(linker, "cli/stdin")?
        .func_wrap("get-stdin", |_: Context<'_>, ()| Ok((Resource::<InputStream>::new_own(0),)))?;
    for (name, function, stream) in [("cli/stdout", "get-stdout", STDOUT), ("cli/stderr", "get-stderr", STDERR)] {
        instance(linker, name)?
            .func_wrap(function, move |_: Context<'_>, ()| Ok((Resource::<OutputStream>::new_own(stream),)))?;
    }
    Ok(())
}

fn terminals(linker: &mut Linker<GuestState>) -> Linked {
    resource::<TerminalInput>(&mut instance(linker, "cli/terminal-input")?, "terminal-input")?;
    resource::<TerminalOutput>(&mut instance(linker, "cli/terminal-output")?, "terminal-output")?;
    instance(linker, "cli/terminal-stdin")?
        .func_wrap("get-terminal-stdin", |_: Context<'_>, ()| Ok((None::<Resource<TerminalInput>>,)))?;
    for (name, function) in
        [("cli/terminal-stdout", "get-terminal-stdout"), ("cli/terminal-stderr", "get-terminal-stderr")]
    {
        instance(linker, name)?.func_wrap(function, |_: Context<'_>, ()| Ok((None::<Resource<TerminalOutput>>,)))?;
    }
    Ok(())
}

fn clocks(linker: &mut Linker<GuestState>) -> Linked {
    let mut wall = instance(linker, "clocks/wall-clock")?;
    wall.func_wrap("now", |store: Context<'_>, ()| Ok((datetime(store.data().clock),)))?;
    wall.func_wrap("resolution", |_: Context<'_>, ()| Ok((Datetime { seconds: 0, nanoseconds: 1_000 },)))?;

    let mut monotonic = instance(linker, "clocks/monotonic-clock")?;
    monotonic.func_wrap("now", |store: Context<'_>, ()| {
        // Before 1970 it is 1970: WASI's clocks know nothing earlier.
        let micros = u64::try_from(store.data().clock).unwrap_or(0);
        Ok((micros.saturating_mul(1_000),))
    })?;
    monotonic.func_wrap("resolution", |_: Context<'_>, ()| Ok((1_000_u64,)))?;
    let waits = "a rule may not wait, its clock stands still at the segment's landing time";
    deny(&mut monotonic, "clocks/monotonic-clock", &["subscribe-instant", "subscribe-duration"], waits)
}

fn datetime(micros: i64) -> Datetime {
    let micros = u64::try_from(micros).unwrap_or(0);
    // Less than a second in nanoseconds always fits.
    let nanoseconds = u32::try_from(micros % 1_000_000).unwrap_or(0) * 1_000;
    Datetime { seconds: micros / 1_000_000, nanoseconds }
}

fn random(linker: &mut Linker<GuestState>) -> Linked {
    for (name, bytes, number) in [
        ("random/random", "get-random-bytes", "get-random-u64"),
        ("random/insecure", "get-insecure-random-bytes", "get-insecure-random-u64"),
    ] {
        let mut random = instance(linker, name)?;
        random.func_wrap(bytes, |mut store: Context<'_>, (count,): (u64,)| {
            let count = usize::try_from(count.min(RANDOM_BYTES + 1)).unwrap_or(0);
            if count as u64 > RANDOM_BYTES {
                let text = format!("the module asked for more than {RANDOM_BYTES} random bytes at once");
                return Err(wasmtime::Error::new(Denied(text)));
            }
            Ok((store.data_mut().random.bytes(count),))
        })?;
        random.func_wrap(number, |mut store: Context<'_>, ()| Ok((store.data_mut().random.next(),)))?;
    }
    instance(linker, "random/insecure-seed")?.func_wrap("insecure-seed", |mut store: Context<'_>, ()| {
        let random = &mut store.data_mut().random;
        Ok(((random.next(), random.next()),))
    })
}

fn io(linker: &mut Linker<GuestState>) -> Linked {
    let mut error = instance(linker, "io/error")?;
    resource::<IoError>(&mut error, "error")?;
    deny(&mut error, "io/error", &["[method]error.to-debug-string"], "no stream here fails")?;

    let mut poll = instance(linker, "io/poll")?;
    resource::<Pollable>(&mut poll, "pollable")?;
    let names = ["poll", "[method]pollable.block", "[method]pollable.ready"];
    deny(&mut poll, "io/poll", &names, "a rule may not wait")?;

    let mut streams = instance(linker, "io/streams")?;
    resource::<InputStream>(&mut streams, "input-stream")?;
    resource::<OutputStream>(&mut streams, "output-stream")?;
    for name in ["read", "blocking-read"] {
        streams.func_wrap(
            &format!("[method]input-stream.{name}"),
            |_: Context<'_>, (_, _): (Resource<InputStream>, u64)| Ok((Err::<Vec<u8>, _>(StreamError::Closed),)),
        )?;
    }
    for name in ["skip", "blocking-skip"] {
        streams.func_wrap(
            &format!("[method]input-stream.{name}"),
            |_: Context<'_>, (_, _): (Resource<InputStream>, u64)| Ok((Err::<u64, _>(StreamError::Closed),)),
        )?;
    }
    streams.func_wrap("[method]input-stream.subscribe", |_: Context<'_>, (_,): (Resource<InputStream>,)| {
        Ok((Resource::<Pollable>::new_own(0),))
    })?;
    output(&mut streams)
}

fn output(streams: &mut LinkerInstance<'_, GuestState>) -> Linked {
    streams.func_wrap("[method]output-stream.check-write", |_: Context<'_>, (_,): (Resource<OutputStream>,)| {
        Ok((Ok::<_, StreamError>(u64::from(STREAM_ROOM)),))
    })?;
    for name in ["write", "blocking-write-and-flush"] {
        streams.func_wrap(
            &format!("[method]output-stream.{name}"),
            |mut store: Context<'_>, (stream, bytes): (Resource<OutputStream>, WasmList<u8>)| {
                // At most what was promised, so that the host copies no more.
                let taken = bytes.as_le_slice(&store);
                let taken = taken.get(..taken.len().min(STREAM_ROOM as usize)).unwrap_or_default().to_vec();
                let stream = if stream.rep() == STDERR { Stream::Stderr } else { Stream::Stdout };
                store.data_mut().console.print(stream, &taken);
                Ok((Ok::<(), StreamError>(()),))
            },
        )?;
    }
    for name in ["flush", "blocking-flush"] {
        streams.func_wrap(
            &format!("[method]output-stream.{name}"),
            |_: Context<'_>, (_,): (Resource<OutputStream>,)| Ok((Ok::<(), StreamError>(()),)),
        )?;
    }
    let names = [
        "[method]output-stream.write-zeroes",
        "[method]output-stream.blocking-write-zeroes-and-flush",
        "[method]output-stream.splice",
        "[method]output-stream.blocking-splice",
    ];
    deny(streams, "io/streams", &names, "a rule prints lines")?;
    streams.func_wrap("[method]output-stream.subscribe", |_: Context<'_>, (_,): (Resource<OutputStream>,)| {
        Ok((Resource::<Pollable>::new_own(0),))
    })
}

/// `std` imports files even where a program opens none. There is no directory to begin with, so nobody ever holds a
/// descriptor to call these with.
fn filesystem(linker: &mut Linker<GuestState>) -> Linked {
    instance(linker, "filesystem/preopens")?
        .func_wrap("get-directories", |_: Context<'_>, ()| Ok((Vec::<(Resource<Descriptor>, String)>::new(),)))?;
    let mut types = instance(linker, "filesystem/types")?;
    resource::<Descriptor>(&mut types, "descriptor")?;
    resource::<DirectoryStream>(&mut types, "directory-entry-stream")?;
    deny(&mut types, "filesystem/types", &FILE_FUNCTIONS, "a rule has no files")
}

const FILE_FUNCTIONS: [&str; 29] = [
    "filesystem-error-code",
    "[method]descriptor.advise",
    "[method]descriptor.append-via-stream",
    "[method]descriptor.create-directory-at",
    "[method]descriptor.get-flags",
    "[method]descriptor.get-type",
    "[method]descriptor.is-same-object",
    "[method]descriptor.link-at",
    "[method]descriptor.metadata-hash",
    "[method]descriptor.metadata-hash-at",
    "[method]descriptor.open-at",
    "[method]descriptor.read",
    "[method]descriptor.read-directory",
    "[method]descriptor.read-via-stream",
    "[method]descriptor.readlink-at",
    "[method]descriptor.remove-directory-at",
    "[method]descriptor.rename-at",
    "[method]descriptor.set-size",
    "[method]descriptor.set-times",
    "[method]descriptor.set-times-at",
    "[method]descriptor.stat",
    "[method]descriptor.stat-at",
    "[method]descriptor.symlink-at",
    "[method]descriptor.sync",
    "[method]descriptor.sync-data",
    "[method]descriptor.unlink-file-at",
    "[method]descriptor.write",
    "[method]descriptor.write-via-stream",
    "[method]directory-entry-stream.read-directory-entry",
];
