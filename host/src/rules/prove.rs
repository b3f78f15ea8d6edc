//! The cases that a module carries, run before anybody takes it: a module that does not do what it says is refused.

use std::time::Duration;

use forebay_model::ports::Module;
use forebay_model::{Error, Result};

use super::cases::{self, Expect, Ran, Until};
use super::packed::{Carried, carried};

/// How long all cases of a module may take together. One that loops is stopped by the limits of a call long before.
pub(crate) const TIME: Duration = Duration::from_secs(60);
/// Lines of what is wrong with a case: `forebay test` shows all of it.
const LINES: usize = 12;
/// Bytes of it: a row may be long, and this ends up in a ledger and in logs.
const BYTES: usize = 2_000;

/// Runs the cases that a module carries, under the limits that it was loaded with. Blocking.
///
/// # Errors
/// Of class operator: what the first case that does not pass says, or that what it carries are no cases.
pub(crate) fn prove(module: &dyn Module, wasm: &[u8], time: Duration) -> Result<()> {
    let name = &module.description().name;
    let Carried { cases, bytes: _ } = carried(wasm).map_err(|error| {
        Error::operator(format!("module {name}: the cases that it carries cannot be read: {error}"))
            .with_hint("build it again with `forebay build`, which packs them")
    })?;
    let until = Until::after(time);
    for (number, case) in cases.iter().enumerate() {
        let ran = cases::run(module, case, Expect::Same, until);
        if ran.passed() {
            continue;
        }
        let Ran { name: case, counts: _, wrong, differs: _, dependence, updated: _ } = ran;
        let wrong = wrong.into_iter().chain(dependence.map(|dependence| dependence.to_string()));
        let which = format!("case {case} ({} of {})", number + 1, cases.len());
        let message = format!("module {name}: its own {which} does not pass:\n{}", short(wrong));
        return Err(Error::operator(message).with_hint(
            "`forebay test` in the rule's folder shows all of it; repair the rule, or what its case expects, and build it again",
        ));
    }
    Ok(())
}

/// The first lines, each two blanks in.
fn short(wrong: impl Iterator<Item = String>) -> String {
    let all = wrong.collect::<Vec<_>>().join("\n");
    let mut lines: Vec<_> = all.lines().take(LINES).map(|line| format!("  {}", line.trim_start())).collect();
    if all.lines().count() > LINES {
        lines.push("  …".to_owned());
    }
    let mut text = lines.join("\n");
    if text.len() > BYTES {
        let end = (0..=BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_short() {
        let lines = |count: usize| std::iter::repeat_n("    row 7".to_owned(), count);
        assert_eq!(short(lines(2)), "  row 7\n  row 7");
        assert_eq!(short(lines(500)).lines().count(), LINES + 1);
        let long = short(std::iter::once("é".repeat(BYTES)));
        assert!(long.len() <= BYTES + '…'.len_utf8() && long.ends_with('…'), "{}", long.len());
    }
}
