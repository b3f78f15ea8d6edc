//! What a module may use, in one value with defaults that hold for nearly every rule, set per pipeline as `limits`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::SandboxError;

/// The limits of a module. Each can be set in a pipeline's config under its name; what is left out keeps its default.
///
/// "A call" is one `process`: at most 8,192 rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// How long a call may run, in milliseconds of wall time. Default 10,000: over a millisecond for each of 8,192 rows,
    /// far beyond what a rule needs, and short enough that a loop without end holds a worker for seconds only.
    pub call_ms: u64,
    /// How long `describe` and `bind` may run, each, in milliseconds. Default 10,000: a model's weights can be parsed.
    pub bind_ms: u64,
    /// Memory of an instance in MiB, at most 4,096. Default 256: a batch of 8,192 records of several KB fits many times.
    pub memory_mib: u64,
    /// Stack of a call in KiB, at most 1,024: it lies on a host thread of 2 MiB. Default 512.
    pub stack_kib: u64,
    /// Elements of one table of an instance (function pointers), at most 65,536. Default 16,384: some 16 MB of code.
    pub table_elements: usize,
    /// Tables of a component, at most 32. Default 16.
    pub tables: usize,
    /// Core instances that a component is made of, at most 32. Default 16; a Rust component has 4.
    pub instances: usize,
    /// What a call may emit, in MiB, with 256 bytes added for each array. Default 64.
    pub output_mib: u64,
    /// How many rows a call may emit, over all routes. Default 1,048,576: 128 for each row of a full batch.
    pub output_rows: u64,
    /// How often a call may emit. Default 16,384: twice for each row of a full batch.
    pub emits: u64,
    /// Columns that a plan may read, and that each of its routes may have, and compute with nested ones. Default 4,096.
    pub columns: usize,
    /// Routes of a plan. Default 64.
    pub routes: usize,
    /// How deep the types of computed columns may nest, at most 32. Default 16.
    pub depth: usize,
    /// Bytes of a refusal's message; longer ones are cut off. Default 1,024.
    pub refusal_bytes: usize,
    /// Names of counters and histograms in a call. Default 256.
    pub metrics: usize,
    /// Observations in a call, over all histograms. Default 65,536.
    pub observations: usize,
    /// Lines for the log in a call, stdout and stderr included. What is beyond is dropped, and counted. Default 1,000.
    pub log_lines: usize,
    /// KiB of such lines in a call. Default 64.
    pub log_kib: usize,
    /// Handles that an instance may hold at a time: assets and streams. Default 1,024.
    pub handles: usize,
    /// Instances of a plan that says `reusable` which are kept between segments. Default 8.
    pub kept_instances: usize,
    /// Size of a module in MiB. Default 64.
    pub module_mib: u64,
    /// How long compiling a module may take, in seconds of wall time, in a child process. Default 120.
    pub compile_seconds: u64,
    /// Address space of the child process that compiles, in MiB. Default 4,096.
    pub compile_memory_mib: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            call_ms: 10_000,
            bind_ms: 10_000,
            memory_mib: 256,
            stack_kib: 512,
            table_elements: 16_384,
            tables: 16,
            instances: 16,
            output_mib: 64,
            output_rows: 1 << 20,
            emits: 16_384,
            columns: 4_096,
            routes: 64,
            depth: 16,
            refusal_bytes: 1_024,
            metrics: 256,
            observations: 65_536,
            log_lines: 1_000,
            log_kib: 64,
            handles: 1_024,
            kept_instances: 8,
            module_mib: 64,
            compile_seconds: 120,
            compile_memory_mib: 4_096,
        }
    }
}

/// The most that the engine's pools are laid out for.
pub(crate) const MAX_MEMORY_MIB: u64 = 4_096;
pub(crate) const MAX_TABLE_ELEMENTS: usize = 65_536;
pub(crate) const MAX_PARTS: usize = 32;
/// A host thread has 2 MiB; the host's own frames need some of it.
const MAX_STACK_KIB: u64 = 1_024;
const MAX_DEPTH: usize = 32;

impl Limits {
    /// Checks that each limit is one that can be kept.
    ///
    /// # Errors
    /// [`SandboxError::Limit`], naming the first that is not.
    pub fn validate(&self) -> Result<(), SandboxError> {
        let Self {
            call_ms,
            bind_ms,
            memory_mib,
            stack_kib,
            table_elements,
            tables,
            instances,
            output_mib,
            output_rows,
            emits,
            columns,
            routes,
            depth,
            refusal_bytes,
            metrics: _,
            observations: _,
            log_lines: _,
            log_kib: _,
            handles,
            kept_instances: _,
            module_mib,
            compile_seconds,
            compile_memory_mib,
        } = self;
        let wide = |size: &usize| u64::try_from(*size).unwrap_or(u64::MAX);
        // A day is as good as no limit, and no product of these overflows.
        const DAY_MS: u64 = 86_400_000;
        const MANY: u64 = 1 << 32;
        let ranges = [
            ("call_ms", *call_ms, 1, DAY_MS),
            ("bind_ms", *bind_ms, 1, DAY_MS),
            ("memory_mib", *memory_mib, 1, MAX_MEMORY_MIB),
            ("stack_kib", *stack_kib, 64, MAX_STACK_KIB),
            ("table_elements", wide(table_elements), 1, wide(&MAX_TABLE_ELEMENTS)),
            ("tables", wide(tables), 1, wide(&MAX_PARTS)),
            ("instances", wide(instances), 1, wide(&MAX_PARTS)),
            ("output_mib", *output_mib, 1, 1 << 12),
            ("output_rows", *output_rows, 1, MANY),
            ("emits", *emits, 1, MANY),
            ("columns", wide(columns), 1, 1 << 20),
            ("routes", wide(routes), 1, 1 << 16),
            ("depth", wide(depth), 1, wide(&MAX_DEPTH)),
            ("refusal_bytes", wide(refusal_bytes), 1, 1 << 20),
            ("handles", wide(handles), 16, 1 << 20),
            ("module_mib", *module_mib, 1, 1 << 12),
            ("compile_seconds", *compile_seconds, 1, DAY_MS / 1000),
            ("compile_memory_mib", *compile_memory_mib, 64, 1 << 20),
        ];
        for (name, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return Err(SandboxError::Limit { name, value, least, most });
            }
        }
        Ok(())
    }

    pub(crate) fn call_time(&self) -> Duration {
        Duration::from_millis(self.call_ms)
    }

    pub(crate) fn bind_time(&self) -> Duration {
        Duration::from_millis(self.bind_ms)
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        bytes(self.memory_mib, 20)
    }

    pub(crate) fn stack_bytes(&self) -> usize {
        bytes(self.stack_kib, 10)
    }

    pub(crate) fn output_bytes(&self) -> usize {
        bytes(self.output_mib, 20)
    }

    pub(crate) fn log_bytes(&self) -> usize {
        self.log_kib.saturating_mul(1 << 10)
    }
}

fn bytes(count: u64, shift: u32) -> usize {
    usize::try_from(count.saturating_mul(1 << shift)).unwrap_or(usize::MAX)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn defaults_can_be_kept_and_unknown_names_are_refused() {
        Limits::default().validate().unwrap();
        let some: Limits = serde_json::from_str(r#"{"memory_mib": 512}"#).unwrap();
        assert_eq!(some, Limits { memory_mib: 512, ..Limits::default() });
        let error = serde_json::from_str::<Limits>(r#"{"memory": 512}"#).unwrap_err();
        assert!(error.to_string().contains("unknown field `memory`"), "{error}");
    }

    #[test]
    fn every_limit_is_documented_with_its_default() {
        let docs = include_str!("../../../../docs/config.md");
        let limits = docs.split_once("### `limits`").unwrap().1.split_once("\n## ").unwrap().0;
        let documented: Vec<_> = limits
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
            .map(|(key, rest)| (key, rest.split_once(" |").unwrap().0.replace(',', "")))
            .collect();
        let Value::Object(defaults) = serde_json::to_value(Limits::default()).unwrap() else { unreachable!() };
        assert_eq!(documented.len(), defaults.len());
        for (key, default) in documented {
            assert_eq!(defaults.get(key).map(Value::to_string), Some(default), "{key}");
        }
    }

    #[test]
    fn a_limit_that_cannot_be_kept_is_named() {
        let error = Limits { stack_kib: 4096, ..Limits::default() }.validate().unwrap_err();
        assert_eq!(error.to_string(), "the limit stack_kib = 4096 cannot be kept: it lies between 64 and 1024");
        assert!(Limits { call_ms: 0, ..Limits::default() }.validate().is_err());
    }
}
