//! See `tests/fuzz/src/targets`.
#![no_main]

// A panic that is caught is no finding: what reads Parquet panics over some damage, and the envelope reader tells that. One that
// is not caught ends the process all the same.
libfuzzer_sys::fuzz_target!(
    init: std::panic::set_hook(Box::new(|panic| eprintln!("{panic}"))),
    |data: &[u8]| fuzz_targets::envelope(data)
);
