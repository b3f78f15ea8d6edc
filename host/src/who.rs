//! Who does something, as the ledger tells it later: `alice@laptop`.
//!
//! It is what the caller says of itself, for people who ask whom to ask. It is no proof: who may change something is the token's
//! business, and the ledger's.

/// Names who does it where that is not the user of this process: a pipeline of CI, a caller over HTTP.
pub(crate) const VARIABLE: &str = "FOREBAY_BY";

/// The most characters that are kept of it.
const MOST: usize = 100;

/// What [`VARIABLE`] says; else the user and the machine.
pub(crate) fn who() -> String {
    let said = std::env::var(VARIABLE).ok().map(|said| plain(&said)).filter(|said| !said.is_empty());
    said.unwrap_or_else(|| {
        let user = whoami::username().unwrap_or_else(|_| "somebody".to_owned());
        plain(&match whoami::hostname() {
            Ok(machine) => format!("{user}@{machine}"),
            Err(_) => user,
        })
    })
}

/// One line of so many characters at most: it stands in sentences.
pub(crate) fn plain(said: &str) -> String {
    let said: String = said.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    said.trim().chars().take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_stays_one_short_line() {
        assert_eq!(plain(" alice\n@laptop\u{1b}[2J "), "alice @laptop [2J");
        assert_eq!(plain(&"a".repeat(1000)).len(), MOST);
    }
}
