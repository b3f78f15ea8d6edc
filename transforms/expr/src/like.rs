//! `like`: `%` is any text, `_` any character, `\` takes the next as it is. In time that grows with the text alone: each piece between
//! two `%` is looked for once, by a fast search where it has no `_`, else by one bit for each of its characters.

use forebay_sdk::text::Finder;

/// The longest piece with a `_` in it.
const LONGEST: usize = 64;

/// A pattern, ready to be asked.
#[derive(Debug)]
pub(crate) struct Like {
    /// What the text begins with, and whether that is all of it.
    first: Vec<Option<char>>,
    whole: bool,
    middle: Vec<Piece>,
    last: Vec<Option<char>>,
    fold: bool,
}

#[derive(Debug)]
enum Piece {
    Plain {
        finder: Box<Finder>,
        length: usize,
    },
    /// With a `_`: `None` is any character.
    Bits(Vec<Option<char>>),
}

impl Like {
    /// # Errors
    /// What is wrong with the pattern, and which character of it.
    pub(crate) fn new(pattern: &str, fold: bool) -> Result<Self, String> {
        let pattern = if fold { pattern.to_lowercase() } else { pattern.to_owned() };
        let mut pieces = vec![Vec::new()];
        let mut characters = pattern.chars();
        while let Some(character) = characters.next() {
            let taken = match character {
                '%' => {
                    pieces.push(Vec::new());
                    continue;
                }
                '_' => None,
                '\\' => Some(
                    characters.next().ok_or("the pattern ends with `\\`, which takes the next character as it is")?,
                ),
                other => Some(other),
            };
            if let Some(piece) = pieces.last_mut() {
                piece.push(taken);
            }
        }
        let whole = pieces.len() == 1;
        let last = if whole { vec![] } else { pieces.pop().unwrap_or_default() };
        let first = pieces.remove(0);
        let middle = pieces.into_iter().filter(|piece| !piece.is_empty()).map(piece).collect::<Result<_, _>>()?;
        Ok(Self { first, whole, middle, last, fold })
    }

    pub(crate) fn fits(&self, text: &str) -> bool {
        if self.fold { self.fits_folded(&text.to_lowercase()) } else { self.fits_folded(text) }
    }

    fn fits_folded(&self, text: &str) -> bool {
        let Some(rest) = strip_start(text, &self.first) else { return false };
        if self.whole {
            return rest.is_empty();
        }
        let Some(mut rest) = strip_end(rest, &self.last) else { return false };
        for piece in &self.middle {
            match piece.end(rest) {
                Some(end) => rest = &rest[end..],
                None => return false,
            }
        }
        true
    }
}

fn piece(piece: Vec<Option<char>>) -> Result<Piece, String> {
    match piece.iter().copied().collect::<Option<String>>() {
        Some(plain) => Ok(Piece::Plain { length: plain.len(), finder: Box::new(Finder::new(&plain)) }),
        None if piece.len() > LONGEST => {
            Err(format!("a piece of the pattern has a `_` and {} characters, more than {LONGEST}", piece.len()))
        }
        None => Ok(Piece::Bits(piece)),
    }
}

impl Piece {
    /// Where the first place that fits ends.
    fn end(&self, text: &str) -> Option<usize> {
        let characters = match self {
            Self::Plain { finder, length } => return finder.find(text).map(|at| at + length),
            Self::Bits(characters) => characters,
        };
        // Bit `n` is set where the last `n + 1` characters of the text are the first of the piece.
        let last = 1_u64 << (characters.len() - 1);
        let mut state = 0_u64;
        for (at, character) in text.char_indices() {
            let fits = characters
                .iter()
                .rev()
                .fold(0, |bits, wanted| bits << 1 | u64::from(wanted.is_none_or(|wanted| wanted == character)));
            state = (state << 1 | 1) & fits;
            if state & last != 0 {
                return Some(at + character.len_utf8());
            }
        }
        None
    }
}

fn strip_start<'t>(text: &'t str, piece: &[Option<char>]) -> Option<&'t str> {
    let mut rest = text.chars();
    for wanted in piece {
        let found = rest.next()?;
        if wanted.is_some_and(|wanted| wanted != found) {
            return None;
        }
    }
    Some(rest.as_str())
}

fn strip_end<'t>(text: &'t str, piece: &[Option<char>]) -> Option<&'t str> {
    let mut rest = text.chars();
    for wanted in piece.iter().rev() {
        let found = rest.next_back()?;
        if wanted.is_some_and(|wanted| wanted != found) {
            return None;
        }
    }
    Some(rest.as_str())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fits(pattern: &str, text: &str) -> bool {
        Like::new(pattern, false).is_ok_and(|like| like.fits(text))
    }

    /// By trying everything.
    fn slow(pattern: &[char], text: &[char]) -> bool {
        match pattern {
            [] => text.is_empty(),
            ['%', rest @ ..] => (0..=text.len()).any(|skip| slow(rest, &text[skip..])),
            ['_', rest @ ..] => !text.is_empty() && slow(rest, &text[1..]),
            [first, rest @ ..] => text.first() == Some(first) && slow(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn it_fits_where_trying_everything_fits(pattern in "[ab%_ü]{0,8}", text in "[abü]{0,10}") {
            let characters = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(fits(&pattern, &text), slow(&characters(&pattern), &characters(&text)));
        }
    }

    #[test]
    fn a_backslash_takes_the_next_character_as_it_is() {
        assert!(fits("100\\%", "100%") && !fits("100\\%", "1000"));
        assert!(fits("a\\_b", "a_b") && !fits("a\\_b", "axb"));
        assert!(Like::new("a\\", false).is_err());
        assert!(Like::new(&format!("%{}_%", "a".repeat(64)), false).is_err());
        assert!(Like::new("GOOGLE%", true).is_ok_and(|like| like.fits("googlebot")));
    }
}
