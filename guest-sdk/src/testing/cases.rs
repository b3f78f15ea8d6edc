//! Each folder of `cases/`, run natively: whole, in parts and permuted. [`super::case`] says what a case is.

use std::fmt;
use std::io::Write as _;
use std::path::Path;

use super::case::{Answer, Case, CaseReject, InputFormat};
use super::harness::Harness;
use super::outcome::{Outcome, Rejected};
use crate::transform::Module;

/// What only the sandbox reads: a rule's own tests are not built with a reader of it.
const PARQUET: &str = "input.parquet";

/// What is wrong with the cases, as text for people.
#[derive(Clone, PartialEq, Eq)]
pub struct CasesError(pub(super) String);

impl fmt::Display for CasesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The same text: it is what `cargo test` prints of an error that a test returns.
impl fmt::Debug for CasesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CasesError {}

/// Runs each folder in `folder` (relative to the crate) as a case, whole and by [`Harness::check_splits`]:
///
/// ```ignore
/// #[test]
/// fn cases() -> Result<(), forebay_sdk::testing::CasesError> {
///     forebay_sdk::testing::run_cases::<MyRule>("cases")
/// }
/// ```
///
/// A case with `input.parquet` is left to `forebay test`, which is said on stderr.
///
/// With `UPDATE_CASES=1` in the environment, `expected/` is written anew from what the rule does: look at the difference before you commit it.
///
/// # Errors
/// All that differs, by case and file; or that there is no case.
pub fn run_cases<T: Module>(folder: impl AsRef<Path>) -> Result<(), CasesError> {
    let update = std::env::var_os("UPDATE_CASES").is_some_and(|value| value == "1");
    run_in::<T>(folder.as_ref(), update)
}

pub(super) fn run_in<T: Module>(folder: &Path, update: bool) -> Result<(), CasesError> {
    let mut wrong = String::new();
    let cases = Case::folders(folder)?;
    let (typed, cases): (Vec<_>, Vec<_>) = cases.into_iter().partition(|case| case.join(PARQUET).exists());
    for case in &typed {
        // Not `eprintln!`, which a test that passes keeps to itself.
        let said = format!("case {}: {PARQUET} is for the sandbox: `forebay test` runs it\n", case.display());
        drop(std::io::stderr().write_all(said.as_bytes()));
    }
    for case in &cases {
        if let Err(error) = run_case::<T>(case, update) {
            wrong.push_str(&format!("\ncase {}:\n{error}\n", case.display()));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(CasesError(format!("{wrong}\nIf the rule is right, UPDATE_CASES=1 cargo test writes what it does.")))
}

fn run_case<T: Module>(folder: &Path, update: bool) -> Result<(), CasesError> {
    let case = Case::read(folder)?;
    let harness = harness::<T>(&case)?;
    let failed = |error: super::HarnessError| CasesError(error.to_string());
    let answer = answer(&harness.run().map_err(failed)?);
    if update {
        case.update(&answer)?;
    } else {
        case.compare(&answer)?;
    }
    harness.check_splits().map_err(failed)
}

fn answer(outcome: &Outcome) -> Answer {
    let reject = |rejected: &Rejected| {
        let Rejected { row, code, message, retryable, by_host } = rejected;
        CaseReject { row: *row, code, message: (!by_host).then_some(message), retryable: *retryable }.line()
    };
    Answer {
        routes: outcome.routes().map(|route| (route.to_owned(), outcome.rows(route))).collect(),
        rejects: outcome.rejects.iter().map(reject).collect(),
    }
}

fn harness<T: Module>(case: &Case) -> Result<Harness<T>, CasesError> {
    let Case { name: _, folder: _, format, input, config, assets, expected: _ } = case;
    let text = |input| std::str::from_utf8(input).map_err(|error| CasesError(error.to_string()));
    let harness = Harness::new().config(config.clone());
    let harness = match format {
        InputFormat::Csv => harness.input_csv(text(input)?),
        InputFormat::Json => harness.input_json(text(input)?),
        InputFormat::Parquet => {
            return Err(CasesError(format!("{PARQUET} is for the sandbox: `forebay test` runs it")));
        }
    };
    Ok(assets.iter().fold(harness, |harness, (name, content)| harness.asset(name, content.as_slice())))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs;

    use super::*;
    use crate::{Batch, BindError, InputSchema, Kind, Output, Plan, RuleError, Transform, arrow::DataType};

    #[derive(serde::Deserialize, schemars::JsonSchema)]
    struct Config {
        add: i64,
    }

    struct Adds(i64);

    impl Transform for Adds {
        type Config = Config;
        const ASSETS: &'static [crate::AssetWant] = &[crate::AssetWant::optional("bonus", "More to add.")];
        fn new(config: Config, input: &InputSchema) -> Result<(Self, Plan), BindError> {
            let bonus = crate::Asset::open("bonus").map_or(0, |asset| asset.size().cast_signed());
            let plan = Plan::new(input).require("n", Kind::I64);
            Ok((Self(config.add + bonus), plan.route("out", |columns| columns.computed("sum", DataType::Int64))))
        }
        fn process(&mut self, batch: &Batch, output: &mut Output) -> Result<(), RuleError> {
            let values = batch.i64("n")?;
            let sums: Vec<i64> = values.values().iter().map(|n| n + self.0).collect();
            (0..batch.rows()).filter(|&row| sums[row] == 13).for_each(|row| output.reject_final(row, "unlucky", "13"));
            output.emit_all("out").column(&sums).send()
        }
    }
    crate::export!(Adds);

    #[test]
    fn a_case_is_written_checked_and_its_differences_told() {
        let folder = tempfile::tempdir().unwrap();
        let run = |update| run_in::<Adds>(folder.path(), update).map_err(|error| error.to_string());
        assert!(run(false).unwrap_err().contains("holds no case"));

        let case = folder.path().join("one");
        fs::create_dir_all(case.join("assets")).unwrap();
        assert!(run(false).unwrap_err().contains("no input.jsonl"));
        fs::write(case.join("input.jsonl"), "{\"n\":1}\n{\"n\":null}\n{\"n\":2}\n").unwrap();
        fs::write(case.join("config.toml"), "add = 8\n").unwrap();
        fs::write(case.join("assets/bonus.txt"), "xxx").unwrap();
        assert!(run(false).unwrap_err().contains("no folder expected/"));

        run(true).unwrap();
        let expected = |file| fs::read_to_string(case.join("expected").join(file)).unwrap();
        assert_eq!(expected("out.jsonl"), "{\"sum\":12}\n");
        assert_eq!(
            expected("rejects.jsonl"),
            "{\"row\":1,\"code\":\"required_missing\"}\n{\"row\":2,\"code\":\"unlucky\",\"message\":\"13\",\"retryable\":false}\n"
        );
        run(false).unwrap();
        // What only the sandbox reads is left to it.
        fs::create_dir(folder.path().join("typed")).unwrap();
        fs::write(folder.path().join("typed/input.parquet"), "PAR1").unwrap();
        run(false).unwrap();

        fs::write(case.join("expected/out.jsonl"), "{\"sum\":12.0}\n{\"sum\":5}\n").unwrap();
        fs::write(case.join("expected/nope.jsonl"), "{}\n").unwrap();
        let told = run(false).unwrap_err();
        for part in [
            "out: 2 of 2 rows differ",
            "row 0, sum: expected 12.0, found 12",
            "row 1 is missing: {\"sum\":5}",
            "expected/nope: no such route",
        ] {
            assert!(told.contains(part), "{part:?} is not in {told}");
        }
    }
}
