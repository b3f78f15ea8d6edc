//! Where a ledger can be kept: a file, or a schema of a server's database.

pub(crate) mod postgres;
pub(crate) mod sqlite;
#[cfg(test)]
mod testing;

/// How to open a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// To read and write; made where there is none.
    Create,
    /// To read and write; an error where there is none.
    Existing,
    /// To read, beside a process that writes.
    ReadOnly,
}
