//! Text. A result of more than [`LONGEST`] bytes is null.

use std::rc::Rc;

use forebay_sdk::build::StringBuilder;

use super::vector::{Numbers, Reader, Seen, Texts, Values, Vector};
use super::{Care, Eval, Result, matters};
use crate::node::{Node, Text};

/// The longest text that is made, in bytes.
const LONGEST: usize = 1 << 20;

impl<'a> Eval<'a> {
    pub(super) fn text(&self, text: &Text, care: Care<'_>) -> Result<Vector<'a>> {
        match text {
            Text::Lower(text) => self.mapped_text(text, care, |text, into| {
                if text.is_ascii() {
                    into.extend(text.chars().map(|character| character.to_ascii_lowercase()));
                } else {
                    into.push_str(&text.to_lowercase());
                }
            }),
            Text::Upper(text) => self.mapped_text(text, care, |text, into| {
                if text.is_ascii() {
                    into.extend(text.chars().map(|character| character.to_ascii_uppercase()));
                } else {
                    into.push_str(&text.to_uppercase());
                }
            }),
            Text::Trim { text, left, right } => self.mapped_text(text, care, |text, into| {
                let text = if *left { text.trim_start() } else { text };
                into.push_str(if *right { text.trim_end() } else { text });
            }),
            Text::Part { text, from, count } => self.part(text, from, count.as_deref(), care),
            Text::Replace { text, part, with } => self.replace(text, part, with, care),
            Text::Join { parts, skip_nulls } => self.join(parts, *skip_nulls, care),
        }
    }

    /// A text of each text.
    fn mapped_text(&self, text: &Node, care: Care<'_>, write: impl Fn(&str, &mut String)) -> Result<Vector<'a>> {
        let Some(texts) = self.eval(text, care)?.texts()? else { return Ok(Vector::Null) };
        if let Texts::One(text) = &texts {
            let mut made = String::new();
            write(text, &mut made);
            return Ok(Vector::Text(Texts::One(made.into())));
        }
        let reader = texts.reader();
        Ok(self.built(care, |row, into| reader.get(row).map(|text| write(text, into))))
    }

    /// A text for each row that matters; null where `write` says so, or the text is too long.
    pub(super) fn built(&self, care: Care<'_>, write: impl Fn(usize, &mut String) -> Option<()>) -> Vector<'a> {
        let (mut builder, mut made) = (StringBuilder::new(), String::new());
        for row in 0..self.rows {
            made.clear();
            let written = if matters(care, row) { write(row, &mut made) } else { None };
            builder.push_option(written.filter(|()| made.len() <= LONGEST).map(|()| made.as_str()));
        }
        Vector::Text(Texts::Built(Rc::new(builder)))
    }

    fn part(&self, text: &Node, from: &Node, count: Option<&Node>, care: Care<'_>) -> Result<Vector<'a>> {
        let texts = self.eval(text, care)?.texts()?;
        let Some((texts, from)) = texts.zip(self.eval(from, care)?.i64s()?) else { return Ok(Vector::Null) };
        let count = match count {
            None => None,
            Some(count) => match self.eval(count, care)?.i64s()? {
                None => return Ok(Vector::Null),
                some => some,
            },
        };
        let reader = texts.reader();
        Ok(self.built(care, |row, into| {
            let text = reader.get(row)?;
            let from = at(&from, row)?;
            // Places before the first character count, as SQL has it.
            let end = match &count {
                None => i64::MAX,
                Some(count) => from.saturating_add(at(count, row)?.max(0)),
            };
            let skip = usize::try_from(from.saturating_sub(1)).unwrap_or(0);
            let take = usize::try_from(end.saturating_sub(from.max(1))).unwrap_or(0);
            into.extend(text.chars().skip(skip).take(take));
            Some(())
        }))
    }

    fn replace(&self, text: &Node, part: &Node, with: &Node, care: Care<'_>) -> Result<Vector<'a>> {
        let (texts, part) = (self.eval(text, care)?.texts()?, self.eval(part, care)?.texts()?);
        let with = self.eval(with, care)?.texts()?;
        let (Some(texts), Some(part), Some(with)) = (texts, part, with) else { return Ok(Vector::Null) };
        let (texts, part, with) = (texts.reader(), part.reader(), with.reader());
        Ok(self.built(care, |row, into| {
            let (text, part, with) = (texts.get(row)?, part.get(row)?, with.get(row)?);
            if part.is_empty() {
                into.push_str(text);
                return Some(());
            }
            let mut rest = text;
            while let Some((before, after)) = rest.split_once(part) {
                into.push_str(before);
                into.push_str(with);
                rest = after;
                if into.len() > LONGEST {
                    return None;
                }
            }
            into.push_str(rest);
            Some(())
        }))
    }

    fn join(&self, parts: &[Node], skip_nulls: bool, care: Care<'_>) -> Result<Vector<'a>> {
        let parts = parts.iter().map(|part| self.eval(part, care)?.texts()).collect::<Result<Vec<_>>>()?;
        if !skip_nulls && parts.iter().any(Option::is_none) {
            return Ok(Vector::Null);
        }
        let readers: Vec<Reader<'_>> = parts.iter().flatten().map(Texts::reader).collect();
        Ok(self.built(care, |row, into| {
            for reader in &readers {
                match reader.get(row) {
                    Some(text) => into.push_str(text),
                    None if skip_nulls => {}
                    None => return None,
                }
                if into.len() > LONGEST {
                    return None;
                }
            }
            Some(())
        }))
    }

    /// In characters.
    pub(super) fn length(&self, text: &Node, care: Care<'_>) -> Result<Vector<'a>> {
        let Some(texts) = self.eval(text, care)?.texts()? else { return Ok(Vector::Null) };
        let reader = texts.reader();
        let length = |text: &str| i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
        let lengths = (0..self.rows).map(|row| reader.get(row).map(length)).collect();
        let lengths = Numbers::all(Values::Owned(lengths));
        Ok(Vector::I64(super::numbers::mapped(self.rows, lengths, |length: Option<i64>| length)))
    }
}

fn at(numbers: &Numbers<'_, i64>, row: usize) -> Option<i64> {
    let valid = numbers.valid.as_ref().is_none_or(|valid| valid.keeps(row));
    valid.then(|| match numbers.values.seen() {
        Seen::One(value) => value,
        Seen::Each(values) => values[row],
    })
}
