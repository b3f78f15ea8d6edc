//! The bearer token: where it comes from, and whether a caller has it.

use std::net::SocketAddr;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::cli::{Exit, Failure};
use crate::config::HttpConfig;

/// The variable that holds the token where the config names no file.
pub(crate) const VARIABLE: &str = "FOREBAY_TOKEN";

/// The fewest characters of a token: fewer can be guessed.
const LEAST: usize = 16;

/// A token, as its SHA-256: comparing digests takes the same time whatever is presented, however long it is.
pub(super) struct Token([u8; 32]);

impl Token {
    fn new(text: &str) -> Self {
        Self(Sha256::digest(text).into())
    }

    /// Whether this is it.
    pub(super) fn is(&self, presented: &str) -> bool {
        let presented: [u8; 32] = Sha256::digest(presented).into();
        self.0.ct_eq(&presented).into()
    }

    /// The token that the config or the environment names; `None` where neither does.
    ///
    /// # Errors
    /// A file that cannot be read, a token that is none, and none where others than this machine can reach the server.
    pub(super) async fn find(config: &HttpConfig) -> Result<Option<Self>, Failure> {
        let HttpConfig { listen, token_file } = config;
        let (text, from) = match token_file {
            Some(file) => {
                let text = tokio::fs::read_to_string(file).await.map_err(|error| {
                    let message = format!("the token of [http] cannot be read from {}: {error}", file.display());
                    Failure::new(Exit::Usage, message).with_hint(how_to_make_one())
                })?;
                (text, file.display().to_string())
            }
            None => match std::env::var(VARIABLE) {
                Ok(text) => (text, VARIABLE.to_owned()),
                Err(_) if listen.ip().is_loopback() => return Ok(None),
                Err(_) => return Err(beyond(*listen)),
            },
        };
        let text = text.trim();
        if text.len() < LEAST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let message = format!("{from} holds no token: it must have at least {LEAST} printable ASCII characters");
            return Err(Failure::new(Exit::Usage, message).with_hint(how_to_make_one()));
        }
        Ok(Some(Self::new(text)))
    }
}

/// Refused at the start: whoever reaches the port would see everything.
fn beyond(listen: SocketAddr) -> Failure {
    let message = format!("[http] listens on {listen}, which other machines can reach, and there is no token");
    let hint = format!("set token_file in [http] or {VARIABLE}; or listen on 127.0.0.1:{}", listen.port());
    Failure::new(Exit::Usage, message).with_hint(hint)
}

fn how_to_make_one() -> String {
    "make one with `openssl rand -hex 32`".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_itself_is_it() {
        let token = Token::new("0123456789abcdef");
        assert!(token.is("0123456789abcdef"));
        for other in ["", "0123456789abcdeF", "0123456789abcde", "0123456789abcdef0"] {
            assert!(!token.is(other), "{other:?}");
        }
    }
}
