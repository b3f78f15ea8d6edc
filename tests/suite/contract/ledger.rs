//! The contract of `ports::Ledger`.
