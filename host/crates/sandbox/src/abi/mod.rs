//! The versions of the WIT that modules may be built for: one file each, which alone knows its types. Everything else
//! speaks in the sandbox's own words: [`crate::said`], [`crate::call::Emit`], [`crate::lower::Flat`].
//!
//! A released version is never changed; a module that was built for it runs for ever.

pub(crate) mod v0_1;

/// What every version's imports begin with.
pub(crate) const PACKAGE: &str = "forebay:transform/";
/// The versions that run here.
pub(crate) const SUPPORTED: [&str; 1] = [v0_1::VERSION];
