//! `forebay test --bench`: what a rule costs, beside what is deployed or another module.

use std::path::Path;
use std::sync::Arc;

use comfy_table::{CellAlignment, Table, presets};
use forebay_model::ids::ModuleName;
use forebay_model::ports::{Module, ModuleLoader as _};
use forebay_sandbox::{Meter, Sandbox};
use forebay_sdk::testing::case::Case;
use serde_json::{Value, json};

use super::{Exit, Failure, Global, kept, show};
use crate::assemble::{self, Access};
use crate::config::format_bytes;
use crate::rules::bench::{Benched, Contender, Figures, bench};
use crate::rules::finished::Finished;

/// A row of the table.
type Outcome = Result<Figures, String>;

/// Measures the module over cases, and whatever it is compared with.
pub(super) fn run(
    global: &Global,
    finished: &Finished,
    against: Option<&Path>,
    cases: &[Case],
) -> anyhow::Result<Exit> {
    let mut contenders = vec![contender("this", &finished.bytes, finished.sandbox())?];
    if let Some(wasm) = deployed(global, &finished.module.description().name)? {
        let mut of = contender("deployed", &wasm, finished.sandbox())?;
        of.name = format!("deployed @sha256:{}", of.module.digest().short());
        contenders.push(of);
    }
    if let Some(path) = against {
        let wasm = std::fs::read(path).map_err(|error| {
            Failure::new(Exit::NotFound, format!("--against {} cannot be read: {error}", path.display()))
                .with_hint("give the path of a module: `forebay build` tells it")
        })?;
        contenders.push(contender(&path.display().to_string(), &wasm, finished.sandbox())?);
    }
    let mut exit = Exit::Ok;
    for case in cases {
        let benched = bench(&contenders, case)?;
        if benched.figures.first().is_some_and(Result::is_err) {
            exit = Exit::Failed;
        }
        if global.json() {
            show::object(&in_json(&contenders, case, &benched))?;
        } else {
            show::line(&in_words(&contenders, case, &benched))?;
        }
    }
    Ok(exit)
}

/// A module that tells what its calls cost. All are compiled by one sandbox, alike.
fn contender(name: &str, wasm: &[u8], sandbox: &Sandbox) -> anyhow::Result<Contender> {
    let meter = Arc::new(Meter::default());
    let module: Arc<dyn Module> = sandbox.metered(Arc::clone(&meter)).load(wasm)?;
    Ok(Contender { name: name.to_owned(), module, meter })
}

/// The module that the config's ledger has active under this name; nothing where there is no config, or nothing is deployed.
fn deployed(global: &Global, name: &ModuleName) -> anyhow::Result<Option<Vec<u8>>> {
    if !global.has_config() {
        return Ok(None);
    }
    let config = global.config()?;
    let none = || eprintln!("note: no module {name} is deployed there: there is nothing to compare with");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        if !assemble::ledger_is_there(&config).await? {
            none();
            return Ok(None);
        }
        let ledger = assemble::open_ledger(&config, Access::Read).await?;
        let zone = assemble::open_zone(&config, Access::Read)?;
        let wasm = match ledger.active_module(name).await? {
            Some(digest) => kept::module(&*zone, digest).await?,
            None => None,
        };
        if wasm.is_none() {
            none();
        }
        Ok(wasm.map(|wasm| wasm.to_vec()))
    })
}

fn in_json(contenders: &[Contender], case: &Case, benched: &Benched) -> Value {
    let Benched { batches, rounds, figures } = benched;
    let told = |(contender, outcome): (&Contender, &Outcome)| {
        let (module, sha256) = (&contender.name, contender.module.digest().to_string());
        match outcome {
            Ok(Figures { rows_per_second, ns_per_row, boundary, memory_bytes, spread }) => json!({
                "module": module, "sha256": sha256, "rows_per_second": rows_per_second, "ns_per_row": ns_per_row,
                "boundary": boundary, "memory_bytes": memory_bytes, "spread": spread, "failed": null,
            }),
            Err(why) => json!({ "module": module, "sha256": sha256, "failed": why }),
        }
    };
    let modules: Vec<_> = contenders.iter().zip(figures).map(told).collect();
    json!({ "case": case.name, "batch_rows": 8_192, "batches": batches, "rounds": rounds, "modules": modules })
}

fn in_words(contenders: &[Contender], case: &Case, benched: &Benched) -> String {
    let Benched { batches, rounds, figures } = benched;
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["", "rows/s", "ns/row", "boundary", "memory", "spread"]);
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    let mut beside = Vec::new();
    let this = figures.first().and_then(|this| this.as_ref().ok());
    for (place, (contender, outcome)) in contenders.iter().zip(figures).enumerate() {
        match outcome {
            Ok(figures) => {
                let Figures { rows_per_second, ns_per_row, boundary, memory_bytes, spread } = figures;
                table.add_row([
                    contender.name.clone(),
                    show::thousands(whole(*rows_per_second)),
                    format!("{ns_per_row:.1}"),
                    format!("{:.0} %", boundary * 100.0),
                    format_bytes(*memory_bytes),
                    format!("{:.0} %", spread * 100.0),
                ]);
                if let Some(this) = this.filter(|_| place > 0) {
                    let times = ns_per_row / this.ns_per_row.max(f64::MIN_POSITIVE);
                    beside.push(format!("  this is {times:.2} times as fast as {}", contender.name));
                }
            }
            Err(why) => beside.push(format!("  {} was not measured: {why}", contender.name)),
        }
    }
    let of = format!("{} × 8,192 rows a round, medians of {}", batches, show::count(*rounds, "round"));
    let mut lines = vec![format!("case {}: {of}", case.name)];
    if *rounds > 0 && figures.iter().any(Result::is_ok) {
        lines.extend(table.to_string().lines().map(|line| line.trim_end().to_owned()));
    }
    lines.extend(beside);
    lines.join("\n")
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate, rounded for people")]
fn whole(rate: f64) -> u64 {
    rate.round() as u64
}
