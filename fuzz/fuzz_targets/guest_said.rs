//! See `tests/fuzz/src/targets`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::guest_said(data));
