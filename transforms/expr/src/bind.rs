//! The config against a schema: expressions parsed, typed and put in order, and the plan that they make.

use forebay_sdk::arrow::DataType;
use forebay_sdk::{BindError, Columns, InputSchema, Plan, same_name};

use crate::check::{Checker, Computed, Reads, Scope, Typed};
use crate::config::{Config, RejectConfig, RouteConfig};
use crate::eval::Null;
use crate::node::Node;
use crate::order::{Parsed, order, uses};
use crate::parser::parse;
use crate::rule::{Column, Reject, Route, Rule};
use crate::types::{Scalar, Type};

/// How many columns may be computed.
const MOST: usize = 1_000;

/// The longest code of a reject that the host takes, in bytes.
const CODE: usize = 64;

const OUT: &str = "out";

pub(crate) fn bind(config: &Config, input: &InputSchema) -> Result<(Rule, Plan), BindError> {
    let Config { filter, required, columns, routes, reject } = config;
    check_names(config)?;
    let parsed = columns
        .iter()
        .map(|(name, text)| {
            let expr = parse(text).map_err(|problem| problem.told(&place(name), text))?;
            Ok(Parsed { name, text, expr })
        })
        .collect::<Result<Vec<_>, BindError>>()?;
    let unknown = |column: &Parsed<'_>| Computed { name: column.name.to_owned(), ty: Type::Null };
    let mut bound = Bound {
        input,
        required,
        computed: parsed.iter().map(unknown).collect(),
        reads: Reads::default(),
        slots: parsed.len(),
    };
    let uses = uses(&parsed, &bound.scope(None));
    let order = order(&parsed, &uses)?;
    let mut nodes = Vec::with_capacity(order.len());
    for slot in order {
        let Parsed { name, text, expr } = &parsed[slot];
        let typed = bound.column(slot, name, text, expr)?;
        bound.computed[slot].ty = typed.ty;
        nodes.push((slot, typed.node));
    }
    let filtered = filter.as_ref().map(|text| bound.condition(text, "config.filter")).transpose()?;
    let early = filter.as_ref().map_or_else(Vec::new, |text| needed(text, &uses, &bound.scope(None)));
    let computed = nodes
        .into_iter()
        .map(|(slot, node)| Column { slot, node, early: early.get(slot).copied().unwrap_or(false) })
        .collect();
    let mut rejects = Vec::with_capacity(reject.len());
    for (index, RejectConfig { code, when, message, last }) in reject.iter().enumerate() {
        let when_node = bound.condition(when, &format!("config.reject[{index}].when"))?;
        let message = message.clone().unwrap_or_else(|| format!("the record is refused where {when}"));
        rejects.push(Reject { code: code.clone(), message, last: *last, when: when_node });
    }
    let everything = RouteConfig::default();
    let mut all: Vec<(&str, &RouteConfig)> = routes.iter().map(|(name, route)| (name.as_str(), route)).collect();
    if !all.iter().any(|(name, _)| *name == OUT) {
        all.insert(0, (OUT, &everything));
    }
    let mut plan = Plan::new(input);
    let mut made = Vec::with_capacity(all.len());
    for (name, route) in all {
        let at = format!("config.routes.{name}");
        let when = route.when.as_ref().map(|text| bound.condition(text, &format!("{at}.when"))).transpose()?;
        let shape = Shape::of(route, &bound, &at)?;
        let planned = shape.computed.clone();
        plan = plan.route(name, |columns| shape.plan(columns, &bound));
        let columns = planned.into_iter().map(|slot| (slot, null(&bound.computed[slot].ty))).collect();
        made.push(Route { name: name.to_owned(), when, columns });
    }
    let plan = bound.reads.plan(plan, required);
    let Bound { reads, slots, .. } = bound;
    Ok((Rule { reads: reads.0, slots, columns: computed, filter: filtered, rejects, routes: made }, plan))
}

fn place(column: &str) -> String {
    format!("config.columns.{column}")
}

/// What names can be wrong by themselves.
fn check_names(config: &Config) -> Result<(), BindError> {
    let Config { filter: _, required: _, columns, routes: _, reject } = config;
    if columns.len() > MOST {
        return Err(BindError::new(format!("{} columns are computed, more than {MOST}", columns.len()))
            .place("config.columns")
            .hint("divide them among two steps"));
    }
    for (index, name) in columns.keys().enumerate() {
        if let Some(other) = columns.keys().take(index).find(|other| same_name(other, name)) {
            return Err(BindError::new(format!("`{other}` and `{name}` are the same column"))
                .place(place(name))
                .hint("names that differ in case only are one name: leave one of them out"));
        }
    }
    for (index, reject) in reject.iter().enumerate() {
        let code = &reject.code;
        if code.is_empty() || code.len() > CODE || code.chars().any(char::is_control) {
            return Err(BindError::new(format!(
                "the code has {} bytes, and none or more than {CODE} are no code",
                code.len()
            ))
            .place(format!("config.reject[{index}].code"))
            .hint("a code is a short word for counting: `no_amount`"));
        }
    }
    Ok(())
}

/// What has been found so far.
struct Bound<'b> {
    input: &'b InputSchema,
    required: &'b [String],
    computed: Vec<Computed>,
    reads: Reads,
    slots: usize,
}

impl Bound<'_> {
    fn scope(&self, own: Option<usize>) -> Scope<'_> {
        Scope { input: self.input, computed: &self.computed, own, required: self.required }
    }

    fn check<T>(&mut self, own: Option<usize>, text: &str, check: impl FnOnce(&mut Checker<'_, '_>) -> T) -> T {
        let Self { input, required, computed, reads, slots } = self;
        let scope = Scope { input, computed, own, required };
        check(&mut Checker { text, scope: &scope, reads, slots })
    }

    fn column(&mut self, slot: usize, name: &str, text: &str, expr: &crate::ast::Expr) -> Result<Typed, BindError> {
        let typed = self.check(Some(slot), text, |checker| checker.whole(expr));
        typed.map_err(|problem| problem.told(&place(name), text))
    }

    fn condition(&mut self, text: &str, place: &str) -> Result<Node, BindError> {
        let told = |problem: crate::problem::Problem| problem.told(place, text);
        let expr = parse(text).map_err(told)?;
        self.check(None, text, |checker| checker.condition(&expr, "the key")).map_err(told)
    }
}

/// Which columns a condition needs, directly or by another one.
fn needed(text: &str, uses: &[Vec<usize>], scope: &Scope<'_>) -> Vec<bool> {
    let mut needed = vec![false; uses.len()];
    // It was parsed before.
    let mut left: Vec<usize> = parse(text)
        .map_or_else(|_| vec![], |expr| expr.names().into_iter().filter_map(|name| scope.computed(name)).collect());
    while let Some(column) = left.pop() {
        if !std::mem::replace(&mut needed[column], true) {
            left.extend_from_slice(&uses[column]);
        }
    }
    needed
}

/// The columns of a route: what passes, and the slots of what is computed.
struct Shape<'r> {
    /// Names of the input and slots in order, or all columns but some.
    listed: Option<Vec<Result<&'r str, usize>>>,
    except: Vec<&'r str>,
    computed: Vec<usize>,
}

impl<'r> Shape<'r> {
    fn of(route: &'r RouteConfig, bound: &Bound<'_>, at: &str) -> Result<Self, BindError> {
        let RouteConfig { when: _, columns, except } = route;
        let scope = bound.scope(None);
        // A column whose type is not known yet comes when the input's column has had a value.
        let known = |slot: &usize| bound.computed[*slot].ty != Type::Null;
        let exists = |name: &str, key: &str| {
            let awaited = bound.required.iter().any(|required| same_name(required, name));
            if scope.computed(name).is_some() || bound.input.find(name).is_some() || awaited {
                return Ok(());
            }
            let names: Vec<_> = bound.computed.iter().map(|computed| computed.name.as_str()).collect();
            Err(BindError::new(format!("there is no column `{name}`")).place(format!("{at}.{key}")).hint(format!(
                "the input has {}; computed are {}",
                bound.input.names(),
                names.join(", ")
            )))
        };
        let Some(columns) = columns else {
            except.iter().try_for_each(|name| exists(name, "except"))?;
            let except: Vec<_> = except.iter().map(String::as_str).collect();
            let out = |slot: &usize| except.iter().any(|name| same_name(name, &bound.computed[*slot].name));
            let computed = (0..bound.computed.len()).filter(known).filter(|slot| !out(slot)).collect();
            return Ok(Self { listed: None, except, computed });
        };
        if !except.is_empty() {
            return Err(BindError::new("a route has `columns` or `except`, not both")
                .place(at)
                .hint("leave out `except`"));
        }
        columns.iter().try_for_each(|name| exists(name, "columns"))?;
        let listed: Vec<Result<&str, usize>> = columns
            .iter()
            .map(|name| scope.computed(name).map_or(Ok(name.as_str()), Err))
            .filter(|entry| entry.as_ref().map_or_else(known, |name| bound.input.find(name).is_some()))
            .collect();
        let computed = listed.iter().filter_map(|entry| entry.err()).collect();
        Ok(Self { listed: Some(listed), except: vec![], computed })
    }

    fn plan(self, mut columns: Columns, bound: &Bound<'_>) -> Columns {
        let compute = |columns: Columns, slot: usize| {
            let Computed { name, ty } = &bound.computed[slot];
            columns.computed(name, ty.arrow().unwrap_or(DataType::Null))
        };
        match self.listed {
            None => {
                columns = columns.pass_all_but(&self.except);
                self.computed.into_iter().fold(columns, compute)
            }
            Some(listed) => listed.into_iter().fold(columns, |columns, entry| match entry {
                Ok(name) => columns.pass(name),
                Err(slot) => compute(columns, slot),
            }),
        }
    }
}

fn null(ty: &Type) -> Null {
    match ty {
        Type::Bool => Null::Bool,
        Type::Int | Type::Timestamp { zoned: _ } => Null::I64,
        Type::Float => Null::F64,
        Type::Decimal(..) => Null::I128,
        Type::Date => Null::I32,
        Type::Text => Null::Text,
        Type::Null | Type::Other(_) => Null::None,
    }
}

impl Checker<'_, '_> {
    /// The expression of a column.
    fn whole(&mut self, expr: &crate::ast::Expr) -> crate::problem::Result<Typed> {
        let typed = self.check(expr)?;
        match typed.ty {
            Type::Other(_) => Err(self.not_computed(&typed)),
            Type::Null if expr.names().is_empty() && matches!(typed.node, Node::Const(Scalar::Null)) => {
                Err(self.typeless(&typed))
            }
            _ => Ok(typed),
        }
    }
}
