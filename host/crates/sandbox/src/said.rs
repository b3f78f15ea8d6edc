//! What a module says of itself and of what it plans, as it came: nothing of it is checked yet.

use forebay_model::plan::{InputColumn, OutputColumn};
use forebay_model::ports::AssetWant;

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

/// At most `most` bytes of the text, with an ellipsis where something was cut off.
pub(crate) fn cut(text: &str, most: usize) -> String {
    const ELLIPSIS: char = '…';
    if text.len() <= most {
        return text.to_owned();
    }
    let room = most.saturating_sub(ELLIPSIS.len_utf8());
    let end = (0..=room).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    let mut short = text.get(..end).unwrap_or_default().to_owned();
    short.push(ELLIPSIS);
    short
}
