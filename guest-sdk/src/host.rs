//! What a rule may call, on both sides: in a module the imports of the world, in a native test a stand-in that the test's thread owns.

#[cfg(target_arch = "wasm32")]
pub(crate) use crate::abi::host::{Asset, count, emit, log, observe, reject};

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use native::{Asset, count, emit, log, observe, reject};

#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod native;
