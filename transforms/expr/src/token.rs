//! Text into tokens: words, names in backticks, text in quotes, numbers, symbols.

use crate::problem::{Problem, Result, Span};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    /// A keyword, a column, a function.
    Word(String),
    /// A column in backticks.
    Name(String),
    /// Text; whether in double quotes, where SQL would have a name.
    Text {
        value: String,
        double: bool,
    },
    /// A number without a point or an exponent.
    Whole(String),
    /// A number with one.
    Fraction(String),
    Symbol(&'static str),
    End,
}

impl Token {
    /// For messages.
    pub(crate) fn told(&self) -> String {
        match self {
            Self::Word(word) => format!("`{word}`"),
            Self::Name(name) => format!("the column `{name}`"),
            Self::Text { .. } => "a text".to_owned(),
            Self::Whole(number) | Self::Fraction(number) => format!("the number {number}"),
            Self::Symbol(symbol) => format!("`{symbol}`"),
            Self::End => "the end".to_owned(),
        }
    }
}

/// The longest symbols first, since they begin as shorter ones do.
const SYMBOLS: [&str; 18] =
    ["<>", "!=", "<=", ">=", "::", "||", "(", ")", ",", ".", "+", "-", "*", "/", "%", "=", "<", ">"];

/// What other languages write, and what is written here.
const FOREIGN: [(&str, &str); 7] = [
    ("==", "equality is written `=`"),
    ("&&", "write `and`"),
    ("--", "in SQL that begins a comment; write `- -`, or one of them"),
    ("=~", "write `like`"),
    ("!", "write `not`, or `<>` for unequal"),
    ("&", "write `and`"),
    ("|", "write `or`, or `||` to join texts"),
];

/// All tokens of an expression, `End` the last.
pub(crate) fn tokens(text: &str) -> Result<Vec<(Token, Span)>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let (token, end) = token(text, at, first)?;
        tokens.push((token, Span { start: at, end }));
        at = end;
    }
    tokens.push((Token::End, Span { start: text.len(), end: text.len() }));
    Ok(tokens)
}

fn token(text: &str, at: usize, first: char) -> Result<(Token, usize)> {
    let rest = &text[at..];
    if first.is_alphabetic() || first == '_' {
        let end = at + rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        return Ok((Token::Word(text[at..end].to_owned()), end));
    }
    let decimal = first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit());
    if first.is_ascii_digit() || decimal {
        return number(text, at);
    }
    match first {
        '\'' | '"' => {
            let (value, end) = quoted(text, at, first, "the text")?;
            return Ok((Token::Text { value, double: first == '"' }, end));
        }
        '`' => {
            let (name, end) = quoted(text, at, first, "the name")?;
            return Ok((Token::Name(name), end));
        }
        _ => {}
    }
    if let Some((foreign, hint)) = FOREIGN.iter().find(|(foreign, _)| {
        rest.starts_with(foreign) && !SYMBOLS.iter().any(|known| known.len() > foreign.len() && rest.starts_with(known))
    }) {
        let span = Span { start: at, end: at + foreign.len() };
        return Err(Problem::new(span, format!("`{foreign}` is no operator here")).hint(*hint));
    }
    if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
        return Ok((Token::Symbol(symbol), at + symbol.len()));
    }
    let span = Span { start: at, end: at + first.len_utf8() };
    Err(Problem::new(span, format!("the character {first:?} does not belong here"))
        .hint("text stands in 'single quotes', a column of an unusual name in `backticks`"))
}

/// Digits, perhaps a fraction, perhaps an exponent.
fn number(text: &str, at: usize) -> Result<(Token, usize)> {
    let digits = |from: usize| from + text[from..].bytes().take_while(u8::is_ascii_digit).count();
    let mut end = digits(at);
    let mut whole = true;
    if text[end..].starts_with('.') {
        whole = false;
        end = digits(end + 1);
    }
    if text[end..].starts_with(['e', 'E']) {
        let sign = end + 1 + usize::from(text[end + 1..].starts_with(['+', '-']));
        let past = digits(sign);
        if past > sign {
            whole = false;
            end = past;
        }
    }
    if let Some(next) = text[end..].chars().next().filter(|next| next.is_alphanumeric() || *next == '_') {
        let span = Span { start: at, end: end + next.len_utf8() };
        return Err(Problem::new(span, format!("a number goes on as {next:?}"))
            .hint("leave a blank behind the number; a column whose name begins with a digit stands in `backticks`"));
    }
    let number = text[at..end].to_owned();
    Ok((if whole { Token::Whole(number) } else { Token::Fraction(number) }, end))
}

/// What stands between two of `quote`; a doubled one stands for itself.
fn quoted(text: &str, at: usize, quote: char, what: &str) -> Result<(String, usize)> {
    let mut value = String::new();
    let mut from = at + 1;
    while let Some(found) = text[from..].find(quote) {
        value.push_str(&text[from..from + found]);
        from += found + 1;
        if !text[from..].starts_with(quote) {
            return Ok((value, from));
        }
        value.push(quote);
        from += 1;
    }
    let span = Span { start: at, end: at + 1 };
    Err(Problem::new(span, format!("{what} that begins here has no end"))
        .hint(format!("close it with {quote}; one within it is doubled: {quote}{quote}")))
}
