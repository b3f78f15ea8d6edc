//! The engine: how guests are compiled, how they are bounded in time, and where their memory lies.
//!
//! What a guest computes is the same on every machine: NaNs are canonical, relaxed SIMD is deterministic, there are no
//! threads. Time is bounded by epochs: a thread counts the engine's epoch up every [`TICK`], and a guest that is beyond
//! its deadline traps at its next loop or call. Memory comes from a pool of reserved address space, so that a fresh
//! instance costs microseconds; guard pages and signals take the place of bounds checks.

use std::collections::BTreeMap;
use std::hash::{Hash as _, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, WasmBacktraceDetails};

use crate::error::SandboxError;
use crate::limits::{Limits, MAX_MEMORY_MIB, MAX_PARTS, MAX_TABLE_ELEMENTS};

/// How often the epoch is counted up; a deadline is met to within two of them.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// Engines by the stack that they give, which is the one limit that an engine fixes. All compile alike, so they share
/// compiled modules.
#[derive(Debug)]
pub(crate) struct Engines {
    concurrent: u32,
    by_stack: Mutex<BTreeMap<usize, Engine>>,
}

impl Engines {
    /// Engines whose pools hold `concurrent` instances each.
    pub(crate) fn new(concurrent: u32) -> Self {
        Self { concurrent: concurrent.max(1), by_stack: Mutex::default() }
    }

    /// The engine for these limits; made, with its ticker, when it is first asked for.
    pub(crate) fn get(&self, limits: &Limits) -> Result<Engine, SandboxError> {
        let stack = limits.stack_bytes();
        let mut engines = self.by_stack.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = engines.get(&stack) {
            return Ok(engine.clone());
        }
        let mut config = base_config();
        config.max_wasm_stack(stack);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(self.concurrent)));
        let engine = Engine::new(&config).map_err(|error| SandboxError::Engine(format!("{error:#}")))?;
        start_ticker(&engine)?;
        tracing::debug!(stack_bytes = stack, concurrent = self.concurrent, "wasm engine ready");
        engines.insert(stack, engine.clone());
        Ok(engine)
    }
}

/// An engine that compiles what the others run, on one thread or on those that rayon has; without a pool, since the child
/// process has little address space.
pub(crate) fn compiler(parallel: bool) -> Result<Engine, SandboxError> {
    let mut config = base_config();
    config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
    config.parallel_compilation(parallel);
    Engine::new(&config).map_err(|error| SandboxError::Engine(format!("{error:#}")))
}

/// What must agree for a compiled module to run in an engine: wasmtime's version, its settings and the processor.
pub(crate) fn settings_hash(engine: &Engine) -> [u8; 32] {
    struct Sha(Sha256);
    impl Hasher for Sha {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            let mut first = [0; 8];
            first.copy_from_slice(&self.0.clone().finalize()[..8]);
            u64::from_le_bytes(first)
        }
    }
    let mut hasher = Sha(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.0.finalize().into()
}

/// Everything that decides what code is made. Each setting that has a default here is set all the same where the
/// sandbox's promises rest on it.
fn base_config() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .wasm_simd(true)
        .wasm_relaxed_simd(true)
        .relaxed_simd_deterministic(true)
        .cranelift_nan_canonicalization(true)
        .cranelift_opt_level(OptLevel::Speed)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .epoch_interruption(true)
        .signals_based_traps(true)
        .memory_reservation(MAX_MEMORY_MIB << 20)
        .memory_init_cow(true)
        .generate_address_map(true)
        .wasm_backtrace_details(WasmBacktraceDetails::Enable);
    config
}

fn pool(concurrent: u32) -> PoolingAllocationConfig {
    let parts = u32::try_from(MAX_PARTS).unwrap_or(u32::MAX);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(concurrent)
        // Most components have one memory, one table and four core instances; the rest is for those with more.
        .total_core_instances(concurrent.saturating_mul(8))
        .total_memories(concurrent)
        .total_tables(concurrent.saturating_mul(2))
        .max_core_instances_per_component(parts)
        .max_tables_per_component(parts)
        .max_memories_per_component(1)
        .table_elements(MAX_TABLE_ELEMENTS)
        .max_memory_size(usize::try_from(MAX_MEMORY_MIB << 20).unwrap_or(usize::MAX))
        // The pages that every instance touches stay mapped between instances; zeroing them is cheaper than faulting.
        .linear_memory_keep_resident(128 << 10)
        .table_keep_resident(16 << 10);
    pool
}

/// Counts the epoch up for as long as the engine lives.
fn start_ticker(engine: &Engine) -> Result<(), SandboxError> {
    let engine = engine.weak();
    std::thread::Builder::new()
        .name("wasm-epoch".into())
        .spawn(move || {
            while let Some(engine) = engine.upgrade() {
                engine.increment_epoch();
                drop(engine);
                std::thread::sleep(TICK);
            }
        })
        .map(drop)
        .map_err(|error| SandboxError::Engine(format!("its clock thread does not start: {error}")))
}

/// The deadline for a call that may take `time`, in epochs from now.
pub(crate) fn deadline(time: Duration) -> u64 {
    let ticks = time.as_millis().div_ceil(TICK.as_millis());
    // One more: the epoch that is running now is nearly over, perhaps.
    u64::try_from(ticks).unwrap_or(u64::MAX).saturating_add(1)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn all_engines_run_what_the_compiler_makes() {
        let engines = Engines::new(2);
        let small = engines.get(&Limits::default()).unwrap();
        let large = engines.get(&Limits { stack_kib: 1024, ..Limits::default() }).unwrap();
        assert!(!Engine::same(&small, &large));
        assert!(Engine::same(&small, &engines.get(&Limits::default()).unwrap()));
        let compiler = settings_hash(&compiler(true).unwrap());
        assert_eq!(settings_hash(&small), compiler);
        assert_eq!(settings_hash(&large), compiler);
    }

    #[test]
    fn a_deadline_is_never_nothing() {
        assert_eq!(deadline(Duration::ZERO), 1);
        assert_eq!(deadline(Duration::from_millis(11)), 3);
    }
}
