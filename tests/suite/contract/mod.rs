//! One suite for each port. The documentation of the port's trait is the contract; each test names the sentence it holds.

pub(crate) mod support;

mod format;
mod landing;
pub(crate) use landing::entry as landing_entry;
pub(crate) mod ledger;
mod source;
mod transform;
mod warehouse;
