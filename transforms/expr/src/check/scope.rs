//! What names mean: computed columns first, then those of the input.

use forebay_sdk::arrow::DataType;
use forebay_sdk::{InputSchema, Kind, Plan, Source, same_name};

use super::Checker;
use crate::node::Node;
use crate::problem::{Problem, Result, Span, nearest, short};
use crate::types::{Scalar, Type};

/// A column that the config computes; its place in the list is its slot.
#[derive(Debug)]
pub(crate) struct Computed {
    pub(crate) name: String,
    /// Known once its expression has been checked; those that it needs are checked before it.
    pub(crate) ty: Type,
}

pub(crate) struct Scope<'s> {
    pub(crate) input: &'s InputSchema,
    pub(crate) computed: &'s [Computed],
    /// The computed column whose expression this is: its own name means the input's column.
    pub(crate) own: Option<usize>,
    /// Columns that rows must have, so that the input may lack them for now.
    pub(crate) required: &'s [String],
}

impl Scope<'_> {
    /// The computed column that a name means here.
    pub(crate) fn computed(&self, name: &str) -> Option<usize> {
        let index = self.computed.iter().position(|computed| same_name(&computed.name, name));
        index.filter(|index| Some(*index) != self.own || self.input.find(name).is_none())
    }
}

/// A column that expressions read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) source: Source,
    pub(crate) name: String,
    /// Fields within it.
    pub(crate) path: Vec<String>,
    pub(crate) ty: Type,
}

/// All columns that expressions read, each once.
#[derive(Debug, Default)]
pub(crate) struct Reads(pub(crate) Vec<Read>);

impl Reads {
    fn add(&mut self, read: Read) -> usize {
        let known = self.0.iter().position(|known| *known == read);
        known.unwrap_or_else(|| {
            self.0.push(read);
            self.0.len() - 1
        })
    }

    /// Reads them in the plan: a column once, whatever fields of it are read.
    pub(crate) fn plan(&self, mut plan: Plan, required: &[String]) -> Plan {
        let mut planned: Vec<(Source, &str)> = Vec::new();
        for name in required {
            plan = plan.require(name, Kind::Any);
        }
        for Read { source, name, path: _, ty: _ } in &self.0 {
            let twice = planned.contains(&(*source, name.as_str()));
            if twice || *source == Source::Column && required.iter().any(|required| same_name(required, name)) {
                continue;
            }
            plan = match source {
                Source::Column => plan.optional(name, Kind::Any),
                _ => plan.record(name, *source, false),
            };
            planned.push((*source, name));
        }
        plan
    }
}

impl Checker<'_, '_> {
    /// A column, or a field within one.
    pub(super) fn column(&mut self, path: &[(String, Span)]) -> Result<(Node, Type)> {
        let Some(((name, span), fields)) = path.split_first() else {
            return Err(Problem::new(Span { start: 0, end: 0 }, "a column without a name"));
        };
        if let Some(slot) = self.scope.computed(name) {
            let ty = self.scope.computed.get(slot).map_or(Type::Null, |computed| computed.ty.clone());
            return match fields.first() {
                None => Ok((Node::Slot(slot), ty)),
                Some((field, at)) => Err(no_struct(name, &ty, field, *at)),
            };
        }
        let Some(found) = self.scope.input.find(name) else {
            let awaited = self.scope.required.iter().any(|required| same_name(required, name));
            return if awaited { Ok((Node::Const(Scalar::Null), Type::Null)) } else { Err(self.unknown(name, *span)) };
        };
        let mut data_type = found.data_type();
        let mut inner = Vec::new();
        for (field, at) in fields {
            let DataType::Struct(known) = data_type else {
                if *data_type == DataType::Null {
                    break;
                }
                return Err(no_struct(name, &Type::of(data_type), field, *at));
            };
            let exact = known.iter().find(|known| known.name() == field);
            let Some(next) = exact.or_else(|| known.iter().find(|known| same_name(known.name(), field))) else {
                let names = || known.iter().map(|known| known.name().as_str());
                return Err(Problem::new(*at, format!("`{name}` has no field `{field}`")).hint(near(field, names)));
            };
            inner.push(next.name().clone());
            data_type = next.data_type();
        }
        let ty = Type::of(data_type);
        if ty == Type::Null {
            // It has had no value yet; the rule is bound again when it has.
            return Ok((Node::Const(Scalar::Null), ty));
        }
        let read = Read { source: Source::Column, name: found.name().clone(), path: inner, ty: ty.clone() };
        Ok((Node::Input(self.reads.add(read)), ty))
    }

    /// What is the record's own.
    pub(super) fn record(&mut self, source: Source, name: &str, ty: Type) -> (Node, Type) {
        // Its alias is a name that no column has.
        let read = Read { source, name: format!("{name}()"), path: vec![], ty: ty.clone() };
        (Node::Input(self.reads.add(read)), ty)
    }

    fn unknown(&self, name: &str, span: Span) -> Problem {
        let Scope { input, computed, own, required: _ } = self.scope;
        let problem = Problem::new(span, format!("there is no column `{}`", short(name)));
        let computed = || {
            let others = computed.iter().enumerate().filter(|(index, _)| Some(*index) != *own);
            others.map(|(_, computed)| computed.name.as_str())
        };
        let names = || input.fields().iter().map(|field| field.name().as_str()).chain(computed());
        let function = super::FUNCTIONS.iter().any(|(function, ..)| function.eq_ignore_ascii_case(name));
        if function {
            return problem.hint(format!("`{name}` is a function: write `{name}(…)`"));
        }
        problem.hint(format!("{}; a column that the stream may lack is named in `required`", near(name, names)))
    }
}

fn no_struct(name: &str, ty: &Type, field: &str, at: Span) -> Problem {
    Problem::new(at, format!("`{name}` is {ty} and has no field `{field}`"))
        .hint(format!("a column whose name has a point stands in backticks: `{name}.{field}`"))
}

/// The nearest name, or all of them where none is near and they are few.
fn near<'n, I: Iterator<Item = &'n str>>(word: &str, names: impl Fn() -> I) -> String {
    const SHOWN: usize = 12;
    if let Some(name) = nearest(word, names()) {
        return format!("did you mean `{name}`?");
    }
    let shown: Vec<_> = names().take(SHOWN).collect();
    match names().count() {
        0 => "there are none".to_owned(),
        all if all > SHOWN => format!("there are {}, and {} more", shown.join(", "), all - SHOWN),
        _ => format!("there are {}", shown.join(", ")),
    }
}
