//! What is wrong with an expression, and where: a span of its text, shown with carets under it.

use std::fmt::Write as _;

use forebay_sdk::BindError;

/// A range of bytes of an expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Span {
    /// From the beginning of one to the end of another.
    pub(crate) fn to(self, other: Self) -> Self {
        Self { start: self.start, end: other.end }
    }
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    span: Span,
    message: String,
    hint: Option<String>,
}

pub(crate) type Result<T, E = Problem> = std::result::Result<T, E>;

/// Characters of the line that are shown before and behind the place.
const BEFORE: usize = 60;
const BEHIND: usize = 40;

impl Problem {
    pub(crate) fn new(span: Span, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// For the person who wrote the expression: what is wrong, and the line with carets under the place.
    pub(crate) fn told(self, place: &str, text: &str) -> BindError {
        let Self { span, message, hint } = self;
        let error = BindError::new(format!("{message}{}", excerpt(text, span))).place(place);
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

/// The line of the place with carets under it; a long one is cut on both sides, one of many has its number.
fn excerpt(text: &str, span: Span) -> String {
    let start = floor(text, span.start);
    let end = floor(text, span.end.max(start));
    let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
    let before: Vec<char> = text[line_start..start].chars().collect();
    let behind: Vec<char> = text[start..line_end].chars().collect();
    let marked = text[start..end.min(line_end)].chars().count();
    let cut_before = before.len().saturating_sub(BEFORE);
    // What is marked is shown as far as there is room.
    let shown = behind.len().min(marked.max(1) + BEHIND).min(BEFORE + BEHIND);
    let marked = marked.clamp(1, shown.max(1));
    let gutter = if text.contains('\n') {
        format!("{} | ", text[..line_start].matches('\n').count() + 1)
    } else {
        "| ".to_owned()
    };
    let mut line = gutter.clone();
    let mut carets = format!("{:>width$}", "| ", width = gutter.len());
    if cut_before > 0 {
        line.push('…');
        carets.push(' ');
    }
    // A control character would move what stands behind it.
    let plain = |c: &char| if c.is_control() { ' ' } else { *c };
    line.extend(before[cut_before..].iter().map(plain));
    carets.extend(std::iter::repeat_n(' ', before.len() - cut_before));
    line.extend(behind[..shown].iter().map(plain));
    carets.extend(std::iter::repeat_n('^', marked));
    if shown < behind.len() {
        line.push('…');
    }
    let mut told = String::new();
    // Writing to a `String` does not fail.
    let _ = write!(told, "\n{line}\n{carets}");
    told
}

/// The boundary of a character at or before a byte.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

/// A name for a message, cut where it is very long.
pub(crate) fn short(name: &str) -> String {
    const LONGEST: usize = 60;
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

/// The nearest of some names to a word, for a hint.
pub(crate) fn nearest<'n>(word: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let lower = word.to_lowercase();
    names
        .map(|name| (strsim::jaro_winkler(&lower, &name.to_lowercase()), name))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}
