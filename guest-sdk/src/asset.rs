//! Assets: files that the config gives to a rule. Immutable, known by their digest, and read while the rule is made.

use std::io;

use crate::error::BindError;
use crate::host;

/// An asset that a rule opens; see [`crate::Transform::ASSETS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AssetWant {
    /// Its name in the config.
    pub name: &'static str,
    /// What it is.
    pub doc: &'static str,
    /// Whether the rule cannot do without.
    pub required: bool,
}

impl AssetWant {
    /// An asset that must be configured.
    #[must_use]
    pub const fn required(name: &'static str, doc: &'static str) -> Self {
        Self { name, doc, required: true }
    }

    /// An asset that may be left out: opening it gives `None` then.
    #[must_use]
    pub const fn optional(name: &'static str, doc: &'static str) -> Self {
        Self { name, doc, required: false }
    }

    /// Assets of whatever names the rule's config refers to.
    #[must_use]
    pub const fn any(doc: &'static str) -> Self {
        Self::optional(Self::ANY, doc)
    }

    /// The name that stands for every name.
    pub const ANY: &'static str = "*";

    /// Whether an asset of this name is one of those.
    #[must_use]
    pub fn is_of(&self, name: &str) -> bool {
        self.name == name || self.name == Self::ANY
    }
}

/// An open asset.
#[derive(Debug)]
pub struct Asset {
    name: String,
    handle: host::Asset,
}

/// The most that the host hands over in one call.
const CHUNK: u32 = 1 << 20;

impl Asset {
    /// Opens an asset; `None` where the config gives none of this name.
    #[must_use]
    pub fn open(name: &str) -> Option<Self> {
        host::Asset::open(name).map(|handle| Self { name: name.to_owned(), handle })
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.handle.size()
    }

    /// SHA-256 of the whole, in hexadecimal.
    #[must_use]
    pub fn digest(&self) -> String {
        self.handle.digest()
    }

    /// The whole of it.
    #[must_use]
    pub fn read_all(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(usize::try_from(self.size()).unwrap_or(0));
        loop {
            let chunk = self.handle.read(bytes.len() as u64, CHUNK);
            if chunk.is_empty() {
                return bytes;
            }
            bytes.extend_from_slice(&chunk);
        }
    }

    /// The whole of it, as text.
    ///
    /// # Errors
    /// Where it is not UTF-8; the error names the asset.
    pub fn read_text(&self) -> Result<String, BindError> {
        String::from_utf8(self.read_all()).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            BindError::new(format!("asset {:?} is not UTF-8 (byte {at})", self.name)).hint("save the file as UTF-8")
        })
    }

    /// Reads it bit by bit, for what need not lie in memory as a whole.
    #[must_use]
    pub fn reader(&self) -> AssetReader<'_> {
        AssetReader { asset: self, at: 0 }
    }
}

/// Reads an asset from its beginning.
#[derive(Debug)]
pub struct AssetReader<'a> {
    asset: &'a Asset,
    at: u64,
}

impl io::Read for AssetReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let wanted = u32::try_from(into.len()).unwrap_or(CHUNK).min(CHUNK);
        let chunk = self.asset.handle.read(self.at, wanted);
        into[..chunk.len()].copy_from_slice(&chunk);
        self.at += chunk.len() as u64;
        Ok(chunk.len())
    }
}

/// The entries of a list file: one a line, without the blanks around it; empty lines and what follows a `#` are left out.
///
/// ```
/// let text = "KP\n# added in May\nIR   # by decree\n\n";
/// assert_eq!(forebay_sdk::lines(text).collect::<Vec<_>>(), ["KP", "IR"]);
/// ```
pub fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(|line| line.split_once('#').map_or(line, |(before, _)| before).trim())
        .filter(|entry| !entry.is_empty())
}
