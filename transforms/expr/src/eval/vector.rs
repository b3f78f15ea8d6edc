//! Columns of values while they are computed: lent from the batch, owned, shared by who uses them twice, or one value for all rows.

use std::rc::Rc;

use forebay_sdk::build::{BoolBuilder, Mask, NumberBuilder, StringBuilder};
use forebay_sdk::column::{Number, Strings};
use forebay_sdk::{AsColumn, RuleError};

use crate::types::Scalar;

/// Kleene's three values in their order, so that `and` is the lesser, `or` the greater, and `not` the distance from the top.
pub(crate) const FALSE: u8 = 0;
pub(crate) const NULL: u8 = 1;
pub(crate) const TRUE: u8 = 2;

/// Which values are valid; nothing where all are.
pub(crate) type Valid = Option<Mask>;

#[derive(Debug, Clone)]
pub(crate) enum Values<'a, T> {
    One(T),
    Lent(&'a [T]),
    Owned(Vec<T>),
    Shared(Rc<Vec<T>>),
}

/// What there is to see of values: one, or one for each row.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Seen<'v, T> {
    One(T),
    Each(&'v [T]),
}

impl<T: Copy> Values<'_, T> {
    pub(crate) fn seen(&self) -> Seen<'_, T> {
        match self {
            Self::One(value) => Seen::One(*value),
            Self::Lent(values) => Seen::Each(values),
            Self::Owned(values) => Seen::Each(values),
            Self::Shared(values) => Seen::Each(values),
        }
    }

    /// To be cloned at no cost.
    pub(crate) fn share(self) -> Self {
        match self {
            Self::Owned(values) => Self::Shared(Rc::new(values)),
            Self::One(_) | Self::Lent(_) | Self::Shared(_) => self,
        }
    }

    pub(crate) fn into_vec(self, rows: usize) -> Vec<T> {
        match self {
            Self::One(value) => vec![value; rows],
            Self::Lent(values) => values.to_vec(),
            Self::Owned(values) => values,
            Self::Shared(values) => Rc::try_unwrap(values).unwrap_or_else(|values| values.to_vec()),
        }
    }

    pub(crate) fn map<R: 'static>(&self, mut with: impl FnMut(T) -> R) -> Values<'static, R> {
        match self.seen() {
            Seen::One(value) => Values::One(with(value)),
            Seen::Each(values) => Values::Owned(values.iter().map(|value| with(*value)).collect()),
        }
    }
}

impl<T: Copy> Seen<'_, T> {
    #[inline]
    pub(crate) fn at(&self, row: usize) -> T {
        match self {
            Self::One(value) => *value,
            Self::Each(values) => values[row],
        }
    }
}

/// Two columns into one, row by row.
pub(crate) fn zip<A: Copy, B: Copy, R: 'static>(
    left: &Values<'_, A>,
    right: &Values<'_, B>,
    with: impl Fn(A, B) -> R,
) -> Values<'static, R> {
    match (left.seen(), right.seen()) {
        (Seen::One(a), Seen::One(b)) => Values::One(with(a, b)),
        (Seen::Each(a), Seen::One(b)) => Values::Owned(a.iter().map(|a| with(*a, b)).collect()),
        (Seen::One(a), Seen::Each(b)) => Values::Owned(b.iter().map(|b| with(a, *b)).collect()),
        (Seen::Each(a), Seen::Each(b)) => Values::Owned(a.iter().zip(b).map(|(a, b)| with(*a, *b)).collect()),
    }
}

/// The same in place, where one of the two is owned.
pub(crate) fn fold<'a, T: Copy + 'static>(
    left: Values<'a, T>,
    right: Values<'a, T>,
    with: impl Fn(T, T) -> T,
) -> Values<'a, T> {
    match (left, right) {
        (Values::Owned(mut a), right) => {
            match right.seen() {
                Seen::One(b) => a.iter_mut().for_each(|a| *a = with(*a, b)),
                Seen::Each(b) => a.iter_mut().zip(b).for_each(|(a, b)| *a = with(*a, *b)),
            }
            Values::Owned(a)
        }
        (left, Values::Owned(mut b)) => {
            match left.seen() {
                Seen::One(a) => b.iter_mut().for_each(|b| *b = with(a, *b)),
                Seen::Each(a) => b.iter_mut().zip(a).for_each(|(b, a)| *b = with(*a, *b)),
            }
            Values::Owned(b)
        }
        (left, right) => zip(&left, &right, with),
    }
}

/// Valid where both are.
pub(crate) fn both(left: Valid, right: Valid) -> Valid {
    match (left, right) {
        (Some(left), Some(right)) => Some(left & right),
        (one, other) => one.or(other),
    }
}

/// Values of fixed width; anything where one is not valid.
#[derive(Debug, Clone)]
pub(crate) struct Numbers<'a, T> {
    pub(crate) values: Values<'a, T>,
    pub(crate) valid: Valid,
}

impl<'a, T> Numbers<'a, T> {
    pub(crate) fn all(values: Values<'a, T>) -> Self {
        Self { values, valid: None }
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Texts<'a> {
    One(Rc<str>),
    Lent { strings: Strings<'a>, valid: Valid },
    Built(Rc<StringBuilder>),
}

/// Reads texts row by row.
pub(crate) enum Reader<'t> {
    One(&'t str),
    Each(Strings<'t>, Option<&'t Mask>),
}

impl Texts<'_> {
    pub(crate) fn reader(&self) -> Reader<'_> {
        match self {
            Self::One(text) => Reader::One(text),
            Self::Lent { strings, valid } => Reader::Each(*strings, valid.as_ref()),
            Self::Built(builder) => Reader::Each(builder.view(), None),
        }
    }
}

impl Reader<'_> {
    #[inline]
    pub(crate) fn get(&self, row: usize) -> Option<&str> {
        match self {
            Self::One(text) => Some(text),
            Self::Each(strings, None) => strings.get(row),
            Self::Each(strings, Some(valid)) => strings.get(row).filter(|_| valid.keeps(row)),
        }
    }
}

/// A column of values of one type.
#[derive(Debug, Clone)]
pub(crate) enum Vector<'a> {
    /// Null in every row.
    Null,
    /// Kleene's values.
    Bool(Values<'a, u8>),
    /// Integers and timestamps.
    I64(Numbers<'a, i64>),
    F64(Numbers<'a, f64>),
    /// Decimals.
    I128(Numbers<'a, i128>),
    /// Dates.
    I32(Numbers<'a, i32>),
    Text(Texts<'a>),
    /// Of a type that is only asked for nulls.
    Other(Valid),
}

/// What the checker should have made impossible.
pub(crate) fn bug(what: &str) -> RuleError {
    RuleError::new(format!("a bug in expr: {what}; please report it with the config"))
}

macro_rules! accessors {
    ($($access:ident, $variant:ident, $made:ty;)+) => {
        impl<'a> Vector<'a> {
            $(/// The values; none where all are null.
            pub(crate) fn $access(self) -> Result<Option<$made>, RuleError> {
                match self {
                    Self::$variant(values) => Ok(Some(values)),
                    Self::Null => Ok(None),
                    other => Err(bug(&format!("{} where {} were to be", other.kind(), stringify!($variant)))),
                }
            })+
        }
    };
}

accessors! {
    bools, Bool, Values<'a, u8>;
    i64s, I64, Numbers<'a, i64>;
    f64s, F64, Numbers<'a, f64>;
    i128s, I128, Numbers<'a, i128>;
    i32s, I32, Numbers<'a, i32>;
    texts, Text, Texts<'a>;
}

impl<'a> Vector<'a> {
    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "Null",
            Self::Bool(_) => "Bool",
            Self::I64(_) => "I64",
            Self::F64(_) => "F64",
            Self::I128(_) => "I128",
            Self::I32(_) => "I32",
            Self::Text(_) => "Text",
            Self::Other(_) => "Other",
        }
    }

    pub(crate) fn of(scalar: &Scalar) -> Self {
        match scalar {
            Scalar::Null => Self::Null,
            Scalar::Bool(value) => Self::Bool(Values::One(if *value { TRUE } else { FALSE })),
            Scalar::Int(value) | Scalar::Timestamp(value) => Self::I64(Numbers::all(Values::One(*value))),
            Scalar::Float(value) => Self::F64(Numbers::all(Values::One(*value))),
            Scalar::Decimal(value) => Self::I128(Numbers::all(Values::One(*value))),
            Scalar::Date(value) => Self::I32(Numbers::all(Values::One(*value))),
            Scalar::Text(value) => Self::Text(Texts::One(Rc::clone(value))),
        }
    }

    /// To be cloned at little cost.
    pub(crate) fn share(self) -> Self {
        fn shared<T: Copy>(numbers: Numbers<'_, T>) -> Numbers<'_, T> {
            Numbers { values: numbers.values.share(), valid: numbers.valid }
        }
        match self {
            Self::Bool(values) => Self::Bool(values.share()),
            Self::I64(numbers) => Self::I64(shared(numbers)),
            Self::F64(numbers) => Self::F64(shared(numbers)),
            Self::I128(numbers) => Self::I128(shared(numbers)),
            Self::I32(numbers) => Self::I32(shared(numbers)),
            Self::Null | Self::Text(_) | Self::Other(_) => self,
        }
    }

    /// For each row [`TRUE`] where it is null, else [`FALSE`].
    pub(crate) fn nulls(&self, rows: usize) -> Values<'static, u8> {
        let flag = |null: bool| if null { TRUE } else { FALSE };
        let masked = |valid: &Valid| match valid {
            None => Values::One(FALSE),
            Some(valid) => Values::Owned((0..rows).map(|row| flag(!valid.keeps(row))).collect()),
        };
        match self {
            Self::Null => Values::One(TRUE),
            Self::Bool(values) => values.map(|value| flag(value == NULL)),
            Self::I64(numbers) => masked(&numbers.valid),
            Self::F64(numbers) => masked(&numbers.valid),
            Self::I128(numbers) => masked(&numbers.valid),
            Self::I32(numbers) => masked(&numbers.valid),
            Self::Other(valid) => masked(valid),
            Self::Text(Texts::One(_)) => Values::One(FALSE),
            Self::Text(texts) => {
                let reader = texts.reader();
                Values::Owned((0..rows).map(|row| flag(reader.get(row).is_none())).collect())
            }
        }
    }

    /// As a column that can be emitted.
    pub(crate) fn emitted(self, rows: usize, null: Null) -> Result<Box<dyn AsColumn + 'a>, RuleError> {
        fn numbers<'a, T: Number>(numbers: Numbers<'a, T>, rows: usize) -> Box<dyn AsColumn + 'a> {
            match numbers {
                Numbers { values: Values::Lent(values), valid: None } => Box::new(values),
                Numbers { values, valid: None } => Box::new(values.into_vec(rows)),
                Numbers { values, valid: Some(valid) } => {
                    Box::new(NumberBuilder::from_parts(values.into_vec(rows), &valid))
                }
            }
        }
        Ok(match self {
            Self::Null => return null.column(rows),
            Self::Bool(values) => {
                let seen = values.seen();
                let value = Mask::from_fn(rows, |row| seen.at(row) == TRUE);
                let valid = Mask::from_fn(rows, |row| seen.at(row) != NULL);
                Box::new(BoolBuilder::from_parts(&value, &valid))
            }
            Self::I64(values) => numbers(values, rows),
            Self::F64(values) => numbers(values, rows),
            Self::I128(values) => numbers(values, rows),
            Self::I32(values) => numbers(values, rows),
            Self::Text(texts) => emitted_text(&texts, rows),
            Self::Other(_) => return Err(bug("a column of a type that is not computed")),
        })
    }
}

fn emitted_text<'a>(texts: &Texts<'a>, rows: usize) -> Box<dyn AsColumn + 'a> {
    if let Texts::Built(builder) = texts {
        return Box::new(Built(Rc::clone(builder)));
    }
    let (reader, mut builder) = (texts.reader(), StringBuilder::new());
    (0..rows).for_each(|row| builder.push_option(reader.get(row)));
    Box::new(builder)
}

/// A text column that a slot holds too.
struct Built(Rc<StringBuilder>);

impl AsColumn for Built {
    fn layout(&self) -> forebay_sdk::Layout {
        self.0.layout()
    }

    fn rows(&self) -> usize {
        self.0.rows()
    }

    fn lower<'b>(&'b self, flat: &mut forebay_sdk::Flat<'b>) {
        self.0.lower(flat);
    }
}

/// A column that is null throughout, in the layout that the plan gave it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Null {
    Bool,
    I64,
    F64,
    I128,
    I32,
    Text,
    None,
}

impl Null {
    fn column(self, rows: usize) -> Result<Box<dyn AsColumn>, RuleError> {
        let none = Mask::from_fn(rows, |_| false);
        Ok(match self {
            Self::Bool => Box::new(BoolBuilder::from_parts(&none, &none)),
            Self::I64 => Box::new(NumberBuilder::from_parts(vec![0_i64; rows], &none)),
            Self::F64 => Box::new(NumberBuilder::from_parts(vec![0_f64; rows], &none)),
            Self::I128 => Box::new(NumberBuilder::from_parts(vec![0_i128; rows], &none)),
            Self::I32 => Box::new(NumberBuilder::from_parts(vec![0_i32; rows], &none)),
            Self::Text => {
                let mut builder = StringBuilder::new();
                (0..rows).for_each(|_| builder.push_option(None));
                Box::new(builder)
            }
            Self::None => return Err(bug("a column without a type is emitted")),
        })
    }
}
