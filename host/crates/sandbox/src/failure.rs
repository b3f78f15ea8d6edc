//! Why a call into a guest did not return, in words for people: the guest's own where it panicked, the limit where one was
//! exceeded, and the guest's stack. And why there is no guest to call.

use std::time::Duration;

use forebay_model::ports::{TransformError, TransformFailure};
use wasmtime::component::Component;
use wasmtime::{Trap, WasmBacktrace};

use crate::error::SandboxError;
use crate::limits::Limits;
use crate::said::cut;
use crate::state::{Denied, Exceeded, GuestState, Mistake};

const FRAMES: usize = 32;
const MESSAGE_BYTES: usize = 2_048;

/// Turns an error of wasmtime into one of ours. `what` is the export that was called, `time` what it had.
pub(crate) fn explain(error: &wasmtime::Error, state: &GuestState, what: &str, time: Duration) -> TransformError {
    let (failure, message) = if let Some(Mistake(message)) = error.downcast_ref() {
        (TransformFailure::InvalidOutput, message.clone())
    } else if let Some(Denied(message)) = error.downcast_ref() {
        (TransformFailure::Trap, message.clone())
    } else if let Some(trap) = error.downcast_ref::<Trap>() {
        explain_trap(*trap, state, what, time)
    } else {
        // What the guest handed over did not have the form that the component model demands.
        (TransformFailure::InvalidOutput, format!("{what}: {}", error.root_cause()))
    };
    TransformError { failure, message: cut(&message, MESSAGE_BYTES), backtrace: backtrace(error) }
}

fn explain_trap(trap: Trap, state: &GuestState, what: &str, time: Duration) -> (TransformFailure, String) {
    if trap == Trap::Interrupt {
        let limit = if what == "process" { "call_ms" } else { "bind_ms" };
        let seconds = time.as_secs_f64();
        return (TransformFailure::Timeout, format!("{what} ran past its {seconds} s (limits.{limit})"));
    }
    let message = if trap == Trap::StackOverflow {
        format!("the stack grew beyond {} KiB (limits.stack_kib)", state.limits.stack_kib)
    } else if let Some(panic) = panic_message(state) {
        panic
    } else if let Some(refused) = &state.memory.refused {
        refused.to_string()
    } else {
        match state.console.stderr_tail().filter(|line| !line.is_empty()).last() {
            Some(line) => format!("{trap}: {line}"),
            None => trap.to_string(),
        }
    };
    (TransformFailure::Trap, message)
}

/// Why a component could not be instantiated.
#[derive(Debug)]
pub(crate) struct NoInstance {
    error: TransformError,
    /// The limit that it is larger than, where that is why.
    limit: Option<&'static str>,
}

impl NoInstance {
    pub(crate) fn explain(error: &wasmtime::Error, state: &GuestState, component: &Component) -> Self {
        let exceeded = limit_in_the_way(error, state, component);
        let limit = exceeded.as_ref().map(|exceeded| exceeded.limit);
        let explained = explain(error, state, "instantiating", state.limits.bind_time());
        let message = exceeded.map_or(explained.message, |exceeded| exceeded.to_string());
        let failure = TransformFailure::Instance;
        Self { error: TransformError { failure, message, backtrace: explained.backtrace }, limit }
    }

    /// The error of loading or binding the module, which is `otherwise` where no limit is in the way.
    pub(crate) fn of(self, module: String, otherwise: impl FnOnce(TransformError) -> SandboxError) -> SandboxError {
        match self.limit {
            Some(limit) => SandboxError::Instance { module, reason: self.error.message, limit },
            None => otherwise(self.into()),
        }
    }
}

impl From<NoInstance> for TransformError {
    fn from(none: NoInstance) -> Self {
        let NoInstance { error, limit: _ } = none;
        Self { message: format!("no instance: {}", error.message), ..error }
    }
}

/// The limit that kept a component from being instantiated, if one did. Memory and elements of tables are asked for; tables
/// and core instances are counted by wasmtime, whose words name no limit.
fn limit_in_the_way(error: &wasmtime::Error, state: &GuestState, component: &Component) -> Option<Exceeded> {
    if let Some(refused) = &state.memory.refused {
        return Some(refused.clone());
    }
    let Limits { tables, instances, .. } = &*state.limits;
    let needed = component.resources_required().map_or(0, |needed| needed.num_tables);
    if usize::try_from(needed).is_ok_and(|needed| needed > *tables) {
        let what = format!("needs {needed} tables, the cap is {tables}");
        return Some(Exceeded { limit: "tables", what });
    }
    // How many there are nobody tells beforehand.
    let too_many = error.root_cause().to_string().starts_with("resource limit exceeded: instance count");
    let what = || format!("needs more core instances than the cap of {instances}");
    too_many.then(|| Exceeded { limit: "instances", what: what() })
}

/// What Rust's panic handler printed: `thread 'main' panicked at src/lib.rs:7:5:`, the message, then perhaps a note.
fn panic_message(state: &GuestState) -> Option<String> {
    let lines: Vec<&str> = state.console.stderr_tail().collect();
    let at = lines.iter().rposition(|line| line.contains("panicked at "))?;
    let (_, place) = lines.get(at)?.split_once("panicked at ")?;
    let message = lines.get(at + 1..)?.iter().take_while(|line| !line.starts_with("note: run with"));
    let message: Vec<&str> = message.copied().collect();
    Some(format!("panicked at {place} {}", message.join("\n").trim_end()))
}

/// The guest's frames, innermost first, with what was inlined into them; Rust's own libraries' are left out.
fn backtrace(error: &wasmtime::Error) -> Vec<String> {
    let Some(trace) = error.downcast_ref::<WasmBacktrace>() else { return Vec::new() };
    let mut frames = Vec::new();
    for frame in trace.frames() {
        if frame.symbols().is_empty() {
            let name = frame.func_name().map_or_else(|| format!("function {}", frame.func_index()), demangled);
            frames.push(Frame { name, place: None });
        }
        for symbol in frame.symbols() {
            let name = symbol.name().or(frame.func_name()).map_or_else(|| "?".to_owned(), demangled);
            frames.push(Frame { name, place: symbol.file().zip(symbol.line()) });
        }
    }
    own_frames(&frames)
}

/// A function that was called, and where in its source.
struct Frame<'a> {
    name: String,
    place: Option<(&'a str, u32)>,
}

impl Frame<'_> {
    /// Of Rust's libraries: between a panic and the trap that it ends in, and between the rule's own. What was inlined has a name
    /// without its path, and is told by its file.
    fn is_machinery(&self) -> bool {
        let name = self.name.trim_start_matches('<');
        let of_rust =
            |file: &str| ["/core/src/", "/alloc/src/", "/std/src/"].iter().any(|folder| file.contains(folder));
        ["std::", "core::", "alloc::", "__rustc::", "rust_", "abort"].iter().any(|start| name.starts_with(start))
            || self.place.is_some_and(|(file, _)| file.contains("/library/") && of_rust(file))
    }

    fn told(&self) -> String {
        match self.place {
            Some((file, line)) => format!("{} at {}:{line}", self.name, short_path(file)),
            None => self.name.clone(),
        }
    }
}

/// The frames that the rule's author may know; where there are none of them, all.
fn own_frames(frames: &[Frame<'_>]) -> Vec<String> {
    let all = frames.iter().all(Frame::is_machinery);
    frames.iter().filter(|frame| all || !frame.is_machinery()).map(Frame::told).take(FRAMES).collect()
}

/// A failure as one text: the message, and the function that it happened in.
pub(crate) fn told(error: TransformError) -> String {
    let TransformError { failure: _, message, backtrace } = error;
    match backtrace.first() {
        Some(frame) => format!("{message} (in {frame})"),
        None => message,
    }
}

/// Without the hash that ends it: it says nothing to people.
fn demangled(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

/// The end of a path: where the module was built says nothing here.
fn short_path(path: &str) -> &str {
    let parts = path.rmatch_indices('/').nth(3);
    parts.map_or(path, |(at, _)| path.get(at + 1..).unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frames_of_rusts_libraries_are_left_out() {
        let frame = |name: &str, place| Frame { name: name.to_owned(), place };
        let panicked = [
            frame("core::panicking::panic_fmt", None),
            frame("fraud::score", Some(("/home/ann/fraud/src/lib.rs", 7))),
            frame("<alloc::vec::Vec<T> as core::iter::FromIterator<T>>::from_iter", None),
            // Inlined: by the distributed library, and by one whose source is installed.
            frame("wrapping_add", Some(("/rustc/0a1b/library/core/src/num/uint_macros.rs", 2457))),
            frame("from_elem<u8>", Some(("/home/ann/.rustup/lib/rustlib/src/rust/library/alloc/src/vec/mod.rs", 3651))),
            frame("process", Some(("/home/ann/fraud/src/lib.rs", 3))),
        ];
        assert_eq!(
            own_frames(&panicked),
            ["fraud::score at ann/fraud/src/lib.rs:7", "process at ann/fraud/src/lib.rs:3"]
        );
        assert_eq!(own_frames(&[frame("std::process::abort", None)]), ["std::process::abort"]);
    }

    #[test]
    fn names_and_paths_are_short() {
        assert_eq!(demangled("_ZN4evil6behave9check_row17h9f8b4c736babf1f1E"), "evil::behave::check_row");
        assert_eq!(demangled("_RNvNtCshXfaRvt2tfW_3std7process5abort"), "std::process::abort");
        assert_eq!(demangled("process"), "process");
        assert_eq!(short_path("/home/ann/rules/fraud/src/lib.rs"), "rules/fraud/src/lib.rs");
        assert_eq!(short_path("src/lib.rs"), "src/lib.rs");
    }
}
