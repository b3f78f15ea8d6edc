//! One page of figures: each stage of a record's way alone, then the whole way, as ratios to a native floor in the same run.
//!
//! Input: 500,000 payments of about 220 bytes as JSON lines, made here, the same each time; or the folder of `*.jsonl` that
//! `FOREBAY_BENCH_INPUT` names (then only the whole way reads it whole). Files lie in `FOREBAY_BENCH_DIR`, or where temporary files do.
//! The machine drifts: compare ratios, not megabytes. `cargo bench --workspace --bench path -- rules` prints one part only; the parts
//! are `stages`, `rules`, `swap`, `beside`, `postgres` and `whole`.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a bench"
)]

mod beside;
mod cargo;
mod input;
mod postgres;
mod rules;
mod stages;
mod swap;
mod whole;

fn main() -> std::process::ExitCode {
    if let Some(code) = swap::compile_if_asked() {
        return code;
    }
    // `cargo test --benches` runs benches without this argument: then there is nothing to do.
    if !std::env::args().any(|argument| argument == "--bench") {
        return std::process::ExitCode::SUCCESS;
    }
    let wanted: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wants = |part: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == part);
    let folder = match std::env::var_os("FOREBAY_BENCH_DIR") {
        Some(folder) => tempfile::tempdir_in(folder).unwrap(),
        None => tempfile::tempdir().unwrap(),
    };
    let given = std::env::var_os("FOREBAY_BENCH_INPUT").map(std::path::PathBuf::from);
    let made = folder.path().join("input");
    input::make(&made, 500_000, 4);
    if wants("stages") {
        stages::figures(&made, folder.path());
    }
    if wants("rules") {
        rules::figures(&made);
    }
    if wants("swap") {
        swap::figures(&made, folder.path());
    }
    if wants("beside") {
        beside::figures(&made, folder.path());
    }
    if wants("postgres") {
        postgres::figures();
    }
    if wants("whole") {
        whole::figures(given.as_deref().unwrap_or(&made), folder.path());
    }
    std::process::ExitCode::SUCCESS
}
