//! Tokens into an expression, by precedence climbing. The precedences are PostgreSQL's, loosest first:
//! `or`, `and`, `not`, `is`, comparisons (which do not chain), `between` `in` `like`, `||`, `+ -`, `* / %`, the sign, `::`.

use crate::ast::{Compare, DEEPEST, Expr, Is, Kind, Math, Named, too_deep};
use crate::problem::{Problem, Result, Span, nearest};
use crate::token::{Token, tokens};

/// The longest expression, in bytes.
pub(crate) const LONGEST: usize = 64 << 10;

const OR: u8 = 1;
const AND: u8 = 2;
const NOT: u8 = 3;
const IS: u8 = 4;
const COMPARE: u8 = 5;
const RANGE: u8 = 6;
const JOIN: u8 = 7;
const ADD: u8 = 8;
const MULTIPLY: u8 = 9;
const SIGN: u8 = 10;
const CAST: u8 = 11;

/// Words that are no columns unless they stand in backticks.
const KEYWORDS: [&str; 15] = [
    "and", "or", "not", "in", "between", "is", "null", "true", "false", "like", "ilike", "case", "when", "then", "else",
];

const TYPES: [(&str, Named); 17] = [
    ("boolean", Named::Bool),
    ("bool", Named::Bool),
    ("integer", Named::Int),
    ("int", Named::Int),
    ("bigint", Named::Int),
    ("float", Named::Float),
    ("double", Named::Float),
    ("decimal", Named::Decimal(38, 0)),
    ("numeric", Named::Decimal(38, 0)),
    ("text", Named::Text),
    ("varchar", Named::Text),
    ("string", Named::Text),
    ("date", Named::Date),
    ("timestamp", Named::Timestamp),
    ("int64", Named::Int),
    ("float64", Named::Float),
    ("utf8", Named::Text),
];

/// The expression of a text.
pub(crate) fn parse(text: &str) -> Result<Expr> {
    if text.len() > LONGEST {
        let span = Span { start: LONGEST, end: LONGEST + 1 };
        return Err(Problem::new(span, format!("the expression has {} bytes, more than {LONGEST}", text.len()))
            .hint("give parts of it columns of their own; a long list is an asset: `country in blocked`"));
    }
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
    if *parser.peek() == Token::End {
        return Err(Problem::new(parser.span(), "the expression is empty").hint("write one, or leave the key out"));
    }
    let expr = parser.expr(0)?;
    if *parser.peek() == Token::End {
        return Ok(expr);
    }
    Err(parser.unexpected("an operator or the end"))
}

struct Parser {
    tokens: Vec<(Token, Span)>,
    at: usize,
    depth: u16,
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |(token, _)| token)
    }

    fn peek_at(&self, ahead: usize) -> &Token {
        self.tokens.get(self.at + ahead).map_or(&Token::End, |(token, _)| token)
    }

    fn span(&self) -> Span {
        self.tokens.get(self.at).map_or(Span { start: 0, end: 0 }, |(_, span)| *span)
    }

    /// The span of the token before.
    fn past(&self) -> Span {
        self.at.checked_sub(1).and_then(|at| self.tokens.get(at)).map_or(self.span(), |(_, span)| *span)
    }

    fn next(&mut self) -> (Token, Span) {
        let taken = self.tokens.get(self.at).cloned().unwrap_or((Token::End, self.span()));
        // The last token is the end, and stays.
        self.at = (self.at + 1).min(self.tokens.len().saturating_sub(1));
        taken
    }

    fn is_word_at(&self, ahead: usize, wanted: &str) -> bool {
        matches!(self.peek_at(ahead), Token::Word(word) if word.eq_ignore_ascii_case(wanted))
    }

    fn is_word(&self, wanted: &str) -> bool {
        self.is_word_at(0, wanted)
    }

    fn is_symbol(&self, wanted: &str) -> bool {
        matches!(self.peek(), Token::Symbol(symbol) if *symbol == wanted)
    }

    fn take_word(&mut self, wanted: &str) -> bool {
        let found = self.is_word(wanted);
        self.at += usize::from(found);
        found
    }

    fn take_symbol(&mut self, wanted: &str) -> bool {
        let found = self.is_symbol(wanted);
        self.at += usize::from(found);
        found
    }

    fn want_word(&mut self, wanted: &str) -> Result<()> {
        if self.take_word(wanted) { Ok(()) } else { Err(self.unexpected(&format!("`{wanted}`"))) }
    }

    fn want_symbol(&mut self, wanted: &str) -> Result<()> {
        if self.take_symbol(wanted) { Ok(()) } else { Err(self.unexpected(&format!("`{wanted}`"))) }
    }

    fn unexpected(&self, wanted: &str) -> Problem {
        let problem =
            Problem::new(self.span(), format!("{wanted} was expected, and {} stands here", self.peek().told()));
        match self.peek() {
            Token::Word(word) if wanted.starts_with("a value") && is_keyword(word) => {
                problem.hint(format!("`{word}` is a keyword; a column of that name stands in backticks"))
            }
            Token::Text { double: true, .. } if wanted.starts_with("an operator") => {
                problem.hint("text within TOML's double quotes is best written in 'single quotes'")
            }
            Token::Word(_)
            | Token::Name(_)
            | Token::Text { .. }
            | Token::Whole(_)
            | Token::Fraction(_)
            | Token::Symbol(_)
            | Token::End => problem,
        }
    }

    /// An expression of operators that bind at least so tight.
    fn expr(&mut self, least: u8) -> Result<Expr> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(too_deep(self.span()));
        }
        let mut left = self.operand()?;
        while let Some(power) = self.power().filter(|power| *power >= least) {
            left = self.operation(left, power)?;
        }
        self.depth -= 1;
        Ok(left)
    }

    /// How tight the operator that comes next binds.
    fn power(&self) -> Option<u8> {
        match self.peek() {
            Token::Symbol(symbol) => Some(match *symbol {
                "=" | "<>" | "!=" | "<" | "<=" | ">" | ">=" => COMPARE,
                "||" => JOIN,
                "+" | "-" => ADD,
                "*" | "/" | "%" => MULTIPLY,
                "::" => CAST,
                _ => return None,
            }),
            Token::Word(word) => match word.to_ascii_lowercase().as_str() {
                "or" => Some(OR),
                "and" => Some(AND),
                "is" => Some(IS),
                "between" | "in" | "like" | "ilike" => Some(RANGE),
                "not" => {
                    ["between", "in", "like", "ilike"].iter().any(|word| self.is_word_at(1, word)).then_some(RANGE)
                }
                _ => None,
            },
            Token::Name(_) | Token::Text { .. } | Token::Whole(_) | Token::Fraction(_) | Token::End => None,
        }
    }

    fn operation(&mut self, left: Expr, power: u8) -> Result<Expr> {
        match power {
            OR => self.chain(left, power, |this| this.take_word("or"), Kind::Any),
            AND => self.chain(left, power, |this| this.take_word("and"), Kind::All),
            JOIN => self.chain(left, power, |this| this.take_symbol("||"), Kind::Joined),
            IS => self.is(left),
            COMPARE => self.comparison(left),
            RANGE => self.range(left),
            CAST => {
                self.want_symbol("::")?;
                let to = self.type_name()?;
                self.made(left.span, Kind::Cast { value: left, to, strict: true })
            }
            _ => {
                let symbol = self.next().0;
                let math = match symbol {
                    Token::Symbol("+") => Math::Add,
                    Token::Symbol("-") => Math::Subtract,
                    Token::Symbol("*") => Math::Multiply,
                    Token::Symbol("/") => Math::Divide,
                    _ => Math::Remainder,
                };
                let right = self.expr(power + 1)?;
                self.made(left.span, Kind::Math(math, left, right))
            }
        }
    }

    /// From `start` to the token before.
    fn made(&self, start: Span, kind: Kind) -> Result<Expr> {
        Expr::new(kind, start.to(self.past()))
    }

    /// `a or b or c` as one, so that long ones do not nest.
    fn chain(
        &mut self,
        left: Expr,
        power: u8,
        mut take: impl FnMut(&mut Self) -> bool,
        kind: impl Fn(Vec<Expr>) -> Kind,
    ) -> Result<Expr> {
        let start = left.span;
        let mut parts = vec![left];
        while take(self) {
            parts.push(self.expr(power + 1)?);
        }
        self.made(start, kind(parts))
    }

    fn is(&mut self, left: Expr) -> Result<Expr> {
        self.want_word("is")?;
        let not = self.take_word("not");
        if self.take_word("distinct") {
            self.want_word("from")?;
            let right = self.expr(COMPARE)?;
            return self.made(left.span, Kind::Distinct { left, right, not });
        }
        let is = if self.take_word("null") {
            Is::Null
        } else if self.take_word("true") {
            Is::True
        } else if self.take_word("false") {
            Is::False
        } else {
            return Err(self.unexpected("`null`, `true`, `false` or `distinct from`"));
        };
        self.made(left.span, Kind::Is { value: left, is, not })
    }

    fn comparison(&mut self, left: Expr) -> Result<Expr> {
        let compare = match self.next().0 {
            Token::Symbol("=") => Compare::Equal,
            Token::Symbol("<") => Compare::Less,
            Token::Symbol("<=") => Compare::LessOrEqual,
            Token::Symbol(">") => Compare::Greater,
            Token::Symbol(">=") => Compare::GreaterOrEqual,
            _ => Compare::Unequal,
        };
        let right = self.expr(COMPARE + 1)?;
        if self.power() == Some(COMPARE) {
            return Err(Problem::new(self.span(), "comparisons do not chain")
                .hint("write `a < b and b < c`, or `b between a and c`"));
        }
        self.made(left.span, Kind::Compare(compare, left, right))
    }

    fn range(&mut self, value: Expr) -> Result<Expr> {
        let start = value.span;
        let not = self.take_word("not");
        if self.take_word("between") {
            let low = self.expr(RANGE + 1)?;
            self.want_word("and")?;
            let high = self.expr(RANGE + 1)?;
            return self.made(start, Kind::Between { value, low, high, not });
        }
        if self.take_word("in") {
            return self.within(value, not);
        }
        let fold = self.take_word("ilike");
        if !fold {
            self.want_word("like")?;
        }
        let pattern = self.expr(RANGE + 1)?;
        self.made(start, Kind::Like { value, pattern, not, fold })
    }

    fn within(&mut self, value: Expr, not: bool) -> Result<Expr> {
        let start = value.span;
        if self.take_symbol("(") {
            let list = self.list()?;
            return self.made(start, Kind::In { value, list, not });
        }
        match self.next() {
            (Token::Word(name), span) if !is_keyword(&name) => {
                self.made(start, Kind::InAsset { value, asset: (name, span), not })
            }
            (Token::Name(name), span) => self.made(start, Kind::InAsset { value, asset: (name, span), not }),
            (token, span) => Err(Problem::new(
                span,
                format!("`(` or the name of an asset was expected, and {} stands here", token.told()),
            )
            .hint(
                "write `country in ('KP', 'IR')`, or `country in blocked` with assets = { blocked = \"blocked.txt\" }",
            )),
        }
    }

    /// Expressions up to the parenthesis that closes, at least one.
    fn list(&mut self) -> Result<Vec<Expr>> {
        let mut list = vec![self.expr(0)?];
        while self.take_symbol(",") {
            list.push(self.expr(0)?);
        }
        self.want_symbol(")").map_err(|_| self.unexpected("`,` or `)`"))?;
        Ok(list)
    }

    fn operand(&mut self) -> Result<Expr> {
        let span = self.span();
        if self.take_word("not") {
            let operand = self.expr(NOT)?;
            return self.made(span, Kind::Not(operand));
        }
        if self.take_symbol("-") {
            let operand = self.expr(SIGN)?;
            return self.made(span, Kind::Negative(operand));
        }
        if self.take_symbol("+") {
            return self.expr(SIGN);
        }
        if self.take_symbol("(") {
            let inner = self.expr(0)?;
            self.want_symbol(")").map_err(|_| self.unexpected("an operator or `)`"))?;
            return Ok(Expr { span: span.to(self.past()), ..inner });
        }
        let Token::Word(word) = self.peek().clone() else {
            let kind = match self.peek().clone() {
                Token::Whole(number) => Kind::Whole(number),
                Token::Fraction(number) => Kind::Fraction(number),
                Token::Text { value, double } => Kind::Text { value, double },
                Token::Name(_) => return self.name(),
                Token::Word(_) | Token::Symbol(_) | Token::End => return Err(self.unexpected("a value")),
            };
            self.at += 1;
            return self.made(span, kind);
        };
        self.word(&word, span)
    }

    fn word(&mut self, word: &str, span: Span) -> Result<Expr> {
        let lower = word.to_ascii_lowercase();
        let calls = matches!(self.peek_at(1), Token::Symbol("("));
        match lower.as_str() {
            "null" | "true" | "false" => {
                self.at += 1;
                self.made(span, if lower == "null" { Kind::Null } else { Kind::Bool(lower == "true") })
            }
            "case" => self.case(),
            "cast" | "try_cast" if calls => {
                self.at += 2;
                let value = self.expr(0)?;
                self.want_word("as")?;
                let to = self.type_name()?;
                self.want_symbol(")")?;
                self.made(span, Kind::Cast { value, to, strict: lower == "cast" })
            }
            "date" | "timestamp" if matches!(self.peek_at(1), Token::Text { .. }) => {
                self.at += 1;
                let Token::Text { value, double: _ } = self.next().0 else { return Err(self.unexpected("a text")) };
                self.made(span, if lower == "date" { Kind::Date(value) } else { Kind::Timestamp(value) })
            }
            _ if is_keyword(word) => Err(self.unexpected("a value")),
            _ if calls => {
                self.at += 2;
                let arguments = if self.take_symbol(")") { vec![] } else { self.list()? };
                self.made(span, Kind::Call { name: (lower, span), arguments })
            }
            _ => self.name(),
        }
    }

    /// `column`, `column.field`.
    fn name(&mut self) -> Result<Expr> {
        let start = self.span();
        let mut path = Vec::new();
        loop {
            match self.next() {
                (Token::Word(name) | Token::Name(name), span) => path.push((name, span)),
                (token, span) => {
                    let message = format!("the name of a field was expected, and {} stands here", token.told());
                    return Err(Problem::new(span, message));
                }
            }
            if !self.take_symbol(".") {
                return self.made(start, Kind::Name(path));
            }
        }
    }

    fn case(&mut self) -> Result<Expr> {
        let start = self.span();
        self.want_word("case")?;
        let subject = if self.is_word("when") { None } else { Some(self.expr(0)?) };
        let mut arms = Vec::new();
        while self.take_word("when") {
            let when = self.expr(0)?;
            self.want_word("then")?;
            arms.push((when, self.expr(0)?));
        }
        if arms.is_empty() {
            return Err(self.unexpected("`when`"));
        }
        let otherwise = if self.take_word("else") { Some(self.expr(0)?) } else { None };
        self.want_word("end").map_err(|_| self.unexpected("`when`, `else` or `end`"))?;
        self.made(start, Kind::Case { subject, arms, otherwise })
    }

    fn type_name(&mut self) -> Result<Named> {
        let (token, span) = self.next();
        let Token::Word(word) = token else {
            return Err(Problem::new(span, format!("a type was expected, and {} stands here", token.told()))
                .hint("the types are boolean, integer, float, decimal(p, s), text, date and timestamp"));
        };
        let lower = word.to_ascii_lowercase();
        let Some((_, named)) = TYPES.iter().find(|(name, _)| *name == lower) else {
            let near = nearest(&word, TYPES.iter().map(|(name, _)| *name));
            let near = near.map(|near| format!("did you mean {near}? ")).unwrap_or_default();
            return Err(Problem::new(span, format!("there is no type `{word}`")).hint(format!(
                "{near}the types are boolean, integer, float, decimal(p, s), text, date and timestamp"
            )));
        };
        let Named::Decimal(..) = named else { return Ok(*named) };
        if !self.take_symbol("(") {
            return Err(Problem::new(span, "a decimal needs its digits").hint("write decimal(10, 2)"));
        }
        let digits = self.digits(1..=38, "the digits of a decimal are 1 to 38")?;
        let scale = if self.take_symbol(",") {
            self.digits(0..=digits, "a decimal has at most as many digits behind the point as in all")?
        } else {
            0
        };
        self.want_symbol(")")?;
        Ok(Named::Decimal(digits, scale))
    }

    fn digits(&mut self, range: std::ops::RangeInclusive<u8>, rule: &str) -> Result<u8> {
        let (token, span) = self.next();
        let number = if let Token::Whole(text) = &token { text.parse().ok() } else { None };
        number.filter(|number| range.contains(number)).ok_or_else(|| Problem::new(span, rule))
    }
}

fn is_keyword(word: &str) -> bool {
    KEYWORDS.iter().any(|keyword| word.eq_ignore_ascii_case(keyword)) || word.eq_ignore_ascii_case("end")
}
