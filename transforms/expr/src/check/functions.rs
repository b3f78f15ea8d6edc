//! The functions.

use forebay_sdk::Source;

use super::literal::Written;
use super::numbers::finite;
use super::{Checker, Typed};
use crate::ast::{Compare, Expr};
use crate::node::{Call, Decimal, Float, Node, Search, Shorten, Text, Time};
use crate::problem::{Problem, Result, Span, nearest, short};
use crate::time::{SECOND, Unit};
use crate::types::{Scalar, Type};

/// Each function: its name, how it is called, and how many arguments it takes.
pub(crate) const FUNCTIONS: [(&str, &str, std::ops::RangeInclusive<usize>); 40] = [
    ("abs", "abs(number)", 1..=1),
    ("ceil", "ceil(number)", 1..=1),
    ("coalesce", "coalesce(value, …)", 1..=usize::MAX),
    ("concat", "concat(text, …)", 1..=usize::MAX),
    ("contains", "contains(text, part)", 2..=2),
    ("date_add", "date_add(unit, amount, at)", 3..=3),
    ("date_diff", "date_diff(unit, from, to)", 3..=3),
    ("date_part", "date_part(unit, at)", 2..=2),
    ("date_trunc", "date_trunc(unit, at)", 2..=2),
    ("ends_with", "ends_with(text, part)", 2..=2),
    ("exp", "exp(number)", 1..=1),
    ("floor", "floor(number)", 1..=1),
    ("greatest", "greatest(value, …)", 1..=usize::MAX),
    ("if", "if(condition, value [, otherwise])", 2..=3),
    ("least", "least(value, …)", 1..=usize::MAX),
    ("length", "length(text)", 1..=1),
    ("ln", "ln(number)", 1..=1),
    ("log10", "log10(number)", 1..=1),
    ("lower", "lower(text)", 1..=1),
    ("ltrim", "ltrim(text)", 1..=1),
    ("max", "max(value, …)", 1..=usize::MAX),
    ("min", "min(value, …)", 1..=usize::MAX),
    ("now", "now()", 0..=0),
    ("nullif", "nullif(value, other)", 2..=2),
    ("power", "power(base, exponent)", 2..=2),
    ("record_object", "record_object()", 0..=0),
    ("record_position", "record_position()", 0..=0),
    ("record_timestamp", "record_timestamp()", 0..=0),
    ("replace", "replace(text, part, with)", 3..=3),
    ("round", "round(number [, digits])", 1..=2),
    ("rtrim", "rtrim(text)", 1..=1),
    ("sqrt", "sqrt(number)", 1..=1),
    ("starts_with", "starts_with(text, part)", 2..=2),
    ("substr", "substr(text, from [, count])", 2..=3),
    ("to_timestamp_micros", "to_timestamp_micros(integer)", 1..=1),
    ("to_timestamp_millis", "to_timestamp_millis(integer)", 1..=1),
    ("to_timestamp_seconds", "to_timestamp_seconds(integer)", 1..=1),
    ("trim", "trim(text)", 1..=1),
    ("trunc", "trunc(number)", 1..=1),
    ("upper", "upper(text)", 1..=1),
];

type Made = Result<(Node, Type)>;

impl Checker<'_, '_> {
    pub(super) fn call(&mut self, name: &str, at: Span, arguments: &[Expr]) -> Made {
        let Some((_, usage, takes)) = FUNCTIONS.iter().find(|(known, ..)| *known == name) else {
            let problem = Problem::new(at, format!("there is no function `{}`", short(name)));
            return Err(match nearest(name, FUNCTIONS.iter().map(|(known, ..)| *known)) {
                Some(near) => problem.hint(format!("did you mean `{near}`?")),
                None => problem.hint("docs/expr.md lists the functions"),
            });
        };
        if !takes.contains(&arguments.len()) {
            let given = match arguments.len() {
                0 => "none is given".to_owned(),
                1 => "1 is given".to_owned(),
                more => format!("{more} are given"),
            };
            return Err(Problem::new(at, format!("`{usage}` is how it is called; of the arguments {given}")));
        }
        let who = format!("`{name}`");
        match arguments {
            [] => Ok(self.nullary(name)),
            [only] => self.unary(name, &who, only),
            _ => self.many(name, &who, arguments),
        }
    }

    fn nullary(&mut self, name: &str) -> (Node, Type) {
        match name {
            "record_object" => self.record(Source::RecordObject, name, Type::Text),
            "record_position" => self.record(Source::RecordPosition, name, Type::Text),
            "record_timestamp" => self.record(Source::RecordTimestamp, name, Type::Timestamp { zoned: true }),
            _ => (Node::Now, Type::Timestamp { zoned: true }),
        }
    }

    fn unary(&mut self, name: &str, who: &str, only: &Expr) -> Made {
        let text = |node| Ok((Node::Text(node), Type::Text));
        match name {
            "lower" => text(Text::Lower(Box::new(self.text_of(only, who)?))),
            "upper" => text(Text::Upper(Box::new(self.text_of(only, who)?))),
            "trim" | "ltrim" | "rtrim" => {
                let trimmed = Box::new(self.text_of(only, who)?);
                text(Text::Trim { text: trimmed, left: name != "rtrim", right: name != "ltrim" })
            }
            "length" => Ok((Node::Length(Box::new(self.text_of(only, who)?)), Type::Int)),
            "concat" => text(Text::Join { parts: vec![self.text_of(only, who)?], skip_nulls: true }),
            "coalesce" | "least" | "greatest" | "min" | "max" => {
                let typed = self.check(only)?;
                self.common(&[&typed], who)?;
                Ok((typed.node, typed.ty))
            }
            "to_timestamp_seconds" => self.time_of_number(only, who, SECOND),
            "to_timestamp_millis" => self.time_of_number(only, who, 1_000),
            "to_timestamp_micros" => self.time_of_number(only, who, 1),
            "abs" => {
                let typed = self.number(only, who)?;
                Ok((Node::Absolute(Box::new(typed.node)), typed.ty))
            }
            "round" => self.rounded(only, who, 0, Call::Round(0), Shorten::Nearest),
            "floor" => self.rounded(only, who, 0, Call::Floor, Shorten::Down),
            "ceil" => self.rounded(only, who, 0, Call::Ceil, Shorten::Up),
            "trunc" => self.truncated(only, who),
            "sqrt" => self.float_call(Call::Sqrt, only, who),
            "exp" => self.float_call(Call::Exp, only, who),
            "ln" => self.float_call(Call::Ln, only, who),
            _ => self.float_call(Call::Log10, only, who),
        }
    }

    fn many(&mut self, name: &str, who: &str, arguments: &[Expr]) -> Made {
        match (name, arguments) {
            ("coalesce", _) => {
                let values = arguments.iter().map(|argument| self.check(argument)).collect::<Result<_>>()?;
                let (values, ty) = self.alike(values, who)?;
                Ok((Node::Coalesce(values), ty))
            }
            ("least" | "greatest" | "min" | "max", _) => {
                let values = arguments.iter().map(|argument| self.check(argument)).collect::<Result<Vec<_>>>()?;
                if let Some(value) = values.iter().find(|value| value.ty == Type::Bool) {
                    return Err(self.refused(value, who, "values that have an order"));
                }
                let (of, ty) = self.alike(values, who)?;
                Ok((Node::Extreme { largest: matches!(name, "greatest" | "max"), of }, ty))
            }
            ("concat", _) => {
                let parts = arguments.iter().map(|part| self.text_of(part, who)).collect::<Result<_>>()?;
                Ok((Node::Text(Text::Join { parts, skip_nulls: true }), Type::Text))
            }
            ("if", [condition, then, rest @ ..]) => {
                let condition = self.condition(condition, who)?;
                let mut values = vec![self.check(then)?];
                values.extend(rest.first().map(|otherwise| self.check(otherwise)).transpose()?);
                let (values, ty) = self.alike(values, who)?;
                let mut values = values.into_iter();
                let null = || Node::Const(Scalar::Null);
                let arms = vec![(condition, values.next().unwrap_or_else(null))];
                Ok((Node::Case { arms, otherwise: Box::new(values.next().unwrap_or_else(null)) }, ty))
            }
            ("nullif", [value, other]) => self.nullif(value, other, who),
            ("contains" | "starts_with" | "ends_with", [text, part]) => {
                let how = match name {
                    "contains" => Search::Contains,
                    "starts_with" => Search::Starts,
                    _ => Search::Ends,
                };
                let (text, part) = (Box::new(self.text_of(text, who)?), Box::new(self.text_of(part, who)?));
                Ok((Node::Search { how, text, part }, Type::Bool))
            }
            ("replace", [text, part, with]) => {
                let [text, part, with] = [text, part, with].map(|argument| self.text_of(argument, who).map(Box::new));
                Ok((Node::Text(Text::Replace { text: text?, part: part?, with: with? }), Type::Text))
            }
            ("substr", [text, from, rest @ ..]) => {
                let text = Box::new(self.text_of(text, who)?);
                let from = Box::new(self.integer(from, who)?);
                let count = rest.first().map(|count| self.integer(count, who).map(Box::new)).transpose()?;
                Ok((Node::Text(Text::Part { text, from, count }), Type::Text))
            }
            ("round", [value, digits]) => {
                let digits = self.digits(digits)?;
                self.rounded(value, who, digits, Call::Round(i32::from(digits)), Shorten::Nearest)
            }
            ("power", [base, exponent]) => {
                let (base, exponent) = (self.float(base, who)?, self.float(exponent, who)?);
                Ok((finite(Float::Power { base: Box::new(base), exponent: Box::new(exponent) }), Type::Float))
            }
            ("date_part", [unit, at]) => {
                let unit = self.unit(unit, true)?;
                self.part(unit, at, who)
            }
            ("date_trunc", [unit, at]) => {
                let unit = self.unit(unit, false)?;
                let (value, ty, date) = self.time(at, who)?;
                Ok((Node::Time(Time::Truncate { unit, value: Box::new(value), date }), ty))
            }
            ("date_add", [unit, amount, at]) => self.date_add(unit, amount, at, who),
            ("date_diff", [unit, from, to]) => {
                let unit = self.unit(unit, false)?;
                let both = vec![self.time_typed(from, who)?, self.time_typed(to, who)?];
                let timestamp = Type::Timestamp { zoned: true };
                let mut both = both.into_iter().map(|typed| self.to(typed, &timestamp));
                let (Some(from), Some(to)) = (both.next(), both.next()) else {
                    return Ok((Node::Const(Scalar::Null), Type::Int));
                };
                Ok((Node::Time(Time::Between { unit, from: Box::new(from?), to: Box::new(to?) }), Type::Int))
            }
            // `FUNCTIONS` has let no other through.
            _ => Ok((Node::Const(Scalar::Null), Type::Null)),
        }
    }

    fn nullif(&mut self, value: &Expr, other: &Expr, who: &str) -> Made {
        let (value, other) = (self.check(value)?, self.check(other)?);
        let (ty, span, written) = (value.ty.clone(), value.span, value.written.clone());
        let made = ty.clone();
        let node = self.once(value.node, |this, value| {
            let same = Typed { node: value(), ty: ty.clone(), span, written };
            let equal = this.compare(Compare::Equal, same, other, who)?;
            let arms = vec![(equal, Node::Const(Scalar::Null))];
            Ok(Node::Case { arms, otherwise: Box::new(value()) })
        })?;
        Ok((node, made))
    }

    fn integer(&mut self, expr: &Expr, who: &str) -> Result<Node> {
        let typed = self.check(expr)?;
        match typed.ty {
            Type::Int => Ok(typed.node),
            Type::Null => Ok(Node::Const(Scalar::Null)),
            _ => Err(self.refused(&typed, who, "an integer here")),
        }
    }

    fn float(&mut self, expr: &Expr, who: &str) -> Result<Node> {
        let typed = self.number(expr, who)?;
        self.to(typed, &Type::Float)
    }

    fn float_call(&mut self, call: Call, expr: &Expr, who: &str) -> Made {
        let value = Box::new(self.float(expr, who)?);
        Ok((finite(Float::Call { call, value }), Type::Float))
    }

    /// The same type with so many digits behind the point.
    fn rounded(&mut self, expr: &Expr, who: &str, digits: u8, call: Call, how: Shorten) -> Made {
        let typed = self.number(expr, who)?;
        match typed.ty {
            Type::Decimal(all, scale) if digits < scale => {
                let by = scale - digits;
                let node = Decimal::Shorten { value: Box::new(typed.node), by, how };
                // One more before the point: 9.9 becomes 10.
                Ok((Node::Decimal(node), Type::Decimal((all - by + 1).min(all), digits)))
            }
            Type::Float => Ok((Node::Float(Float::Call { call, value: Box::new(typed.node) }), Type::Float)),
            _ => Ok((typed.node, typed.ty)),
        }
    }

    /// Towards zero: down for what is positive, up for what is negative.
    fn truncated(&mut self, expr: &Expr, who: &str) -> Made {
        let typed = self.number(expr, who)?;
        if !matches!(typed.ty, Type::Float | Type::Decimal(..)) {
            return Ok((typed.node, typed.ty));
        }
        let to = match typed.ty {
            Type::Decimal(digits, scale) => Type::Decimal((digits - scale).max(1), 0),
            _ => Type::Float,
        };
        let node = match typed.ty {
            Type::Decimal(_, scale) => {
                Node::Decimal(Decimal::Shorten { value: Box::new(typed.node), by: scale, how: Shorten::Zero })
            }
            _ => Node::Float(Float::Call { call: Call::Trunc, value: Box::new(typed.node) }),
        };
        Ok((node, to))
    }

    fn digits(&mut self, expr: &Expr) -> Result<u8> {
        let typed = self.check(expr)?;
        let written = match &typed.written {
            Some(Written::Whole(number)) => number.parse().ok(),
            Some(Written::Fraction(_) | Written::Text { .. }) | None => None,
        };
        let rule = "the digits behind the point are a number that is written down, 0 to 15";
        written.filter(|digits| *digits <= 15).ok_or_else(|| Problem::new(typed.span, rule))
    }

    fn unit(&mut self, expr: &Expr, parts: bool) -> Result<Unit> {
        let typed = self.check(expr)?;
        let names = || Unit::names(parts).collect::<Vec<_>>().join(", ");
        let Some(Written::Text { value, double: _ }) = &typed.written else {
            return Err(Problem::new(typed.span, "the unit is a text that is written down").hint(names()));
        };
        Unit::named(value, parts).ok_or_else(|| {
            let near = nearest(value, Unit::names(parts)).map(|near| format!("did you mean '{near}'? "));
            Problem::new(typed.span, format!("there is no unit '{value}'")).hint(format!(
                "{}the units are {}",
                near.unwrap_or_default(),
                names()
            ))
        })
    }

    /// A date or a timestamp; a constant text is one.
    fn time_typed(&mut self, expr: &Expr, who: &str) -> Result<Typed> {
        let typed = self.check(expr)?;
        let timestamp = Type::Timestamp { zoned: true };
        if let Some(Written::Text { .. }) = &typed.written {
            let span = typed.span;
            let node = self.to(typed, &timestamp)?;
            return Ok(Typed { node, ty: timestamp, span, written: None });
        }
        match typed.ty {
            Type::Date | Type::Timestamp { .. } | Type::Null => Ok(typed),
            _ => Err(self
                .refused(&typed, who, "dates and timestamps")
                .hint(format!("write `cast({} as timestamp)`", self.shown(typed.span)))),
        }
    }

    /// The node, its type, and whether that is a date.
    fn time(&mut self, expr: &Expr, who: &str) -> Result<(Node, Type, bool)> {
        let typed = self.time_typed(expr, who)?;
        let date = typed.ty == Type::Date;
        Ok((typed.node, typed.ty, date))
    }

    fn part(&mut self, unit: Unit, at: &Expr, who: &str) -> Made {
        let (value, _, date) = self.time(at, who)?;
        Ok((Node::Time(Time::Part { unit, value: Box::new(value), date }), Type::Int))
    }

    fn time_of_number(&mut self, expr: &Expr, who: &str, micros: i64) -> Made {
        let value = Box::new(self.integer(expr, who)?);
        Ok((Node::Time(Time::FromNumber { value, micros }), Type::Timestamp { zoned: true }))
    }

    /// A date stays one where whole days are added.
    fn date_add(&mut self, unit: &Expr, amount: &Expr, at: &Expr, who: &str) -> Made {
        let span = unit.span;
        let unit = self.unit(unit, false)?;
        let amount = Box::new(self.integer(amount, who)?);
        let (value, ty, date) = self.time(at, who)?;
        let fine = matches!(unit, Unit::Microsecond | Unit::Millisecond | Unit::Second | Unit::Minute | Unit::Hour);
        if date && fine {
            return Err(Problem::new(span, "a date has no time of day to add this to")
                .hint(format!("write `cast({} as timestamp)`", self.shown(at.span))));
        }
        Ok((Node::Time(Time::Add { unit, amount, value: Box::new(value), date }), ty))
    }
}
