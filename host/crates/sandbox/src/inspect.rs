//! What a file is that calls itself a module, and whether a component is one that may run here.

use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use crate::abi::{PACKAGE, SUPPORTED};
use crate::error::{SandboxError, ShortDigest};
use crate::wasi;

const MAGIC: &[u8] = b"\0asm";
const CORE: &[u8] = &[1, 0, 0, 0];
/// Exports that a message lists, at most.
const NAMES_SHOWN: usize = 8;
/// Version 13, layer 1: what the component model's binary format has now.
const COMPONENT: &[u8] = &[13, 0, 1, 0];

/// Whether the bytes are a component, by their first eight.
pub(crate) fn check_bytes(digest: ShortDigest, wasm: &[u8]) -> Result<(), SandboxError> {
    let other = |what: &str, hint| Err(SandboxError::NotAComponent { digest, what: what.into(), hint });
    let build = "build it with: cargo build --release --target wasm32-wasip2";
    match (wasm.get(..4), wasm.get(4..8)) {
        (None, _) if wasm.is_empty() => other("is empty", "was it still being copied? put it beside, then rename it"),
        (Some(MAGIC), Some(COMPONENT)) => Ok(()),
        (Some(MAGIC), Some(CORE)) => other(
            "is a core module, not a component",
            "build it for the target wasm32-wasip2, not wasm32-unknown-unknown or wasm32-wasip1",
        ),
        (Some(MAGIC), Some(_)) => other("is of a version of Wasm that is not known here", build),
        (Some(MAGIC), None) => other("ends after its first bytes", "copy it again"),
        _ if wasm.trim_ascii_start().starts_with(b"(component") || wasm.trim_ascii_start().starts_with(b"(module") => {
            other("is WebAssembly text, not a binary", "turn it into one with: wasm-tools parse")
        }
        _ => other("is not WebAssembly", build),
    }
}

/// Whether the component imports only what is given, and is of a version that runs here.
pub(crate) fn check_component(digest: ShortDigest, component: &Component, engine: &Engine) -> Result<(), SandboxError> {
    let world = component.component_type();
    let ours = world.imports(engine).filter_map(|(name, _)| name.strip_prefix(PACKAGE)?.split_once('@'));
    let mut versions: Vec<&str> = ours.map(|(_, version)| version).collect();
    versions.dedup();
    if let Some(wants) = versions.iter().find(|version| !SUPPORTED.contains(version)) {
        let (wants, supported) = ((*wants).to_owned(), SUPPORTED.join(", "));
        return Err(SandboxError::OtherVersion { digest, wants, supported });
    }
    if versions.is_empty() {
        let exports: Vec<_> = world.exports(engine).map(|(name, _)| name.to_owned()).take(NAMES_SHOWN).collect();
        let exports = if exports.is_empty() { "nothing".into() } else { exports.join(", ") };
        let what = format!("it imports nothing of {PACKAGE}types and exports {exports}");
        return Err(SandboxError::OtherWorld { digest, what });
    }
    let foreign = world.imports(engine).find(|(name, import)| {
        let interface = matches!(import.ty, ComponentItem::ComponentInstance(_));
        !interface || !(name.starts_with(PACKAGE) || wasi::is_given(name))
    });
    match foreign {
        Some((name, _)) => Err(SandboxError::Import { digest, import: name.to_owned() }),
        None => Ok(()),
    }
}

/// The names of what a component imports.
pub(crate) fn imports(component: &Component, engine: &Engine) -> Vec<String> {
    component.component_type().imports(engine).map(|(name, _)| name.to_owned()).collect()
}
