//! The imports of the world. All but `emit` are `wit-bindgen`'s; `emit` is lowered by hand.

use super::bindings::forebay::transform::host as imports;
use super::wire;
use crate::layout::Flat;
use crate::report::Level;

pub(crate) fn emit(route: u32, selection: Option<&[u32]>, rows: u32, flat: &Flat<'_>) {
    raw::emit(route, selection, rows, flat);
}

pub(crate) fn reject(rows: &[u32], code: &str, message: &str, retryable: bool) {
    imports::reject(rows, code, message, retryable);
}

pub(crate) fn log(level: Level, message: &str) {
    let level = match level {
        Level::Trace => wire::Level::Trace,
        Level::Debug => wire::Level::Debug,
        Level::Info => wire::Level::Info,
        Level::Warn => wire::Level::Warn,
        Level::Error => wire::Level::Error,
    };
    imports::log(level, message);
}

pub(crate) fn count(name: &str, delta: u64) {
    imports::count(name, delta);
}

pub(crate) fn observe(name: &str, value: f64) {
    imports::observe(name, value);
}

/// A handle of the host's.
#[derive(Debug)]
pub(crate) struct Asset(imports::Asset);

impl Asset {
    pub(crate) fn open(name: &str) -> Option<Self> {
        imports::Asset::open(name).map(Self)
    }

    pub(crate) fn size(&self) -> u64 {
        self.0.size()
    }

    pub(crate) fn digest(&self) -> String {
        self.0.digest()
    }

    pub(crate) fn read(&self, offset: u64, length: u32) -> Vec<u8> {
        self.0.read(offset, length)
    }
}

/// `emit` by the canonical ABI.
///
/// For `list<list<u8>>` the generated function wants `&[Vec<u8>]`, so each buffer of each builder would be copied once more
/// before the host copies it. The ABI itself asks only for a pointer and a length for each, which is what is built here.
///
/// Why it is sound: the host reads during the call and keeps no pointer; all pointers come from slices that live until the call
/// returns; the layouts are those that the canonical ABI prescribes for wasm32 (a `list` is address and count, a `record`
/// its fields in order, a `variant` its discriminant and then the longest payload), flattened to nine core parameters, which
/// is below the sixteen at which they would move to memory.
#[expect(unsafe_code, reason = "a foreign function that no generated binding declares in this form")]
mod raw {
    use crate::layout::{Flat, Node};

    #[link(wasm_import_module = "forebay:transform/host@0.1.0")]
    unsafe extern "C" {
        #[link_name = "emit"]
        fn import(
            route: u32,
            selection: u32,
            selected: *const u32,
            selected_count: usize,
            rows: u32,
            nodes: *const Node,
            node_count: usize,
            buffers: *const Bytes,
            buffer_count: usize,
        );
    }

    /// A `list<u8>` in memory.
    #[repr(C)]
    struct Bytes {
        at: *const u8,
        length: usize,
    }

    pub(super) fn emit(route: u32, selection: Option<&[u32]>, rows: u32, flat: &Flat<'_>) {
        let buffers: Vec<_> =
            flat.buffers.iter().map(|buffer| Bytes { at: buffer.as_ptr(), length: buffer.len() }).collect();
        let (discriminant, selected) = match selection {
            None => (0, [].as_slice()),
            Some(rows) => (1, rows),
        };
        // SAFETY: see the module's documentation.
        unsafe {
            import(
                route,
                discriminant,
                selected.as_ptr(),
                selected.len(),
                rows,
                flat.nodes.as_ptr(),
                flat.nodes.len(),
                buffers.as_ptr(),
                buffers.len(),
            );
        }
    }
}
