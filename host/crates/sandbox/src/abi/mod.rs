//! The versions of the WIT that modules may be built for: one file each, which alone knows its types. Everything else
//! speaks in the sandbox's own words: [`Draft`], [`crate::state::Emit`], [`crate::lower::Flat`].
//!
//! A released version is never changed; a module that was built for it runs for ever.

pub(crate) mod v0_1;

use forebay_model::plan::{InputColumn, OutputColumn};
use forebay_model::ports::AssetWant;

/// What every version's imports begin with.
pub(crate) const PACKAGE: &str = "forebay:transform/";
/// The versions that run here.
pub(crate) const SUPPORTED: [&str; 1] = [v0_1::VERSION];

/// What a module said of itself, not yet checked.
#[derive(Debug, Clone)]
pub(crate) struct SelfDescription {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) doc: String,
    pub(crate) config_schema: String,
    pub(crate) assets: Vec<AssetWant>,
}

/// A plan as the module sent it, not yet checked.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) inputs: Vec<InputColumn>,
    pub(crate) routes: Vec<DraftRoute>,
    pub(crate) reusable: bool,
}

/// A route of a draft; its schema is still bytes.
#[derive(Debug, Clone)]
pub(crate) struct DraftRoute {
    pub(crate) name: String,
    pub(crate) columns: Vec<OutputColumn>,
    pub(crate) computed_schema: Vec<u8>,
}

/// The module's words for why it does not bind.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    pub(crate) place: Option<String>,
}
