//! Runs transforms in WebAssembly, so that a rule can do nothing but answer.
//!
//! A module gets rows and gives rows; it has no files, no network, no environment, no clock but the segment's, no chance but
//! the segment's seed. Its time, memory, stack, output and log are bounded by [`Limits`], and whatever it hands over is
//! checked before it becomes Arrow. A module that loops, panics, lies or hoards costs the call that it did it in.
//!
//! The way of a module:
//!
//! ```text
//! bytes ─load▶ Module ─bind(schema, config, assets)▶ BoundTransform ─instance(segment)▶ TransformInstance ─process▶ rows
//! ```
//!
//! [`Sandbox`] is the port's [`forebay_model::ports::ModuleLoader`]. Inside: `inspect` looks at what a file is, `section` at the
//! cases that it carries, `compile` and `artefact` make and keep machine code, `engine` fixes how it runs, `guest` is one instance,
//! `abi` holds one file for each version of the WIT, `said` is what a guest hands over before anybody looked at it: `description`,
//! `plan` and `schema` check what it answers, `call` what it says while rows go through it. `layout` is the WIT's table of types,
//! `lower` and `lift` are Arrow's way in and out, `wasi` is what Rust's `std` imports, `meter` tells what calls cost where that is
//! asked, `failure` explains what went wrong. This crate knows Wasm and nothing of pipelines.

mod abi;
mod artefact;
mod bound;
mod call;
mod compile;
mod description;
mod engine;
mod error;
mod failure;
mod guest;
mod inspect;
mod layout;
mod lift;
mod limits;
mod lower;
mod meter;
mod module;
mod output;
mod plan;
mod rng;
mod said;
mod schema;
mod section;
mod state;
mod wasi;

pub use compile::compile_child_main;
pub use error::{SandboxError, ShortDigest};
pub use limits::Limits;
pub use meter::{Meter, Metered};
pub use module::{Sandbox, SandboxOptions};
pub use output::{GuestLog, TracingLog};
pub use section::{CASES_SECTION, SectionError, cases_section, with_cases_section, without_cases_section};
