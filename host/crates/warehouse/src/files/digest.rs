//! Whether a Parquet file is as it was written.
//!
//! The Parquet reader trusts the lengths that a file states: damage can make it ask for more memory than there is, which ends the
//! process. So the bytes are compared with a digest that was taken while they were written before that reader sees any of them.
//! A data file has the beginning of its digest in its name, `<uuid>-<schema>-<digest>.parquet`. A file without one is another
//! program's, and is read as it is.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use forebay_model::Digest;
use sha2::{Digest as _, Sha256};

use crate::error::WarehouseError;

/// Hexadecimal digits of a digest in a name, as [`Digest::short`] gives them.
const SHORT: usize = 12;

/// Takes the digest of what goes through to a file.
pub(super) struct Digesting<W> {
    inner: W,
    hash: Sha256,
}

impl<W> Digesting<W> {
    pub(super) fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new() }
    }

    pub(super) fn inner(&self) -> &W {
        &self.inner
    }

    /// Of what has been written.
    pub(super) fn digest(&self) -> Digest {
        Digest::from_bytes(self.hash.clone().finalize().into())
    }
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The name of a file without its digest: what it is written under.
pub(crate) fn unfinished_name(id: &str, schema: &str) -> String {
    format!("{id}-{schema}.parquet")
}

/// The name of the same file once it is whole.
pub(crate) fn finished_name(unfinished: &str, digest: &Digest) -> String {
    let stem = unfinished.strip_suffix(".parquet").unwrap_or(unfinished);
    format!("{stem}-{}.parquet", digest.short())
}

/// What the name of a whole file says: the fingerprint of its schema, and the beginning of its digest.
pub(crate) fn parts_of(path: &str) -> Option<(&str, &str)> {
    let is_short = |text: &&str| text.len() == SHORT && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (rest, digest) = path.strip_suffix(".parquet")?.rsplit_once('-')?;
    let (id, schema) = rest.rsplit_once('-')?;
    // A UUID alone ends in twelve digits too.
    let has_id = id.rsplit('/').next()?.len() == 36;
    Some((schema, digest)).filter(|(schema, digest)| has_id && is_short(schema) && is_short(digest))
}

/// Refuses a file that is not what its name says.
pub(super) fn check(file: &File, path: &Path) -> Result<(), WarehouseError> {
    let Some((_, wanted)) = path.to_str().and_then(parts_of) else { return Ok(()) };
    let found = Digest::of_reader(file).map_err(WarehouseError::io("read", path))?.short();
    if found == wanted {
        return Ok(());
    }
    let damaged = format!("its SHA-256 begins with {found} and not with {wanted}, as its name says: it was damaged");
    Err(WarehouseError::data_file("read", path)(io::Error::new(ErrorKind::InvalidData, damaged)))
}
