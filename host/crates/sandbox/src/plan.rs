//! What a module answers to `bind`, checked against the schema that it was bound to.
//!
//! After this, every name in the plan leads to a column that is there and can cross the boundary, every route's columns
//! have names of their own, and every computed column has a type that the host can take. A mistake is told as the module,
//! the route, the column and what to do.

use std::collections::HashSet;

use arrow_schema::Schema;
use forebay_model::RouteName;
use forebay_model::column::PREFIX;
use forebay_model::plan::{InputColumn, InputSource, OutputColumn, Plan, RoutePlan};

use crate::error::SandboxError;
use crate::layout::check_crosses;
use crate::limits::Limits;
use crate::said::{Draft, DraftRoute, cut};
use crate::schema;

/// Names that a message lists, at most.
const NAMES_SHOWN: usize = 12;

/// What is wrong, and what to do.
type Problem = (String, String);

/// The draft as a plan, or what is wrong with it.
pub(crate) fn check(module: &str, draft: Draft, input: &Schema, limits: &Limits) -> Result<Plan, SandboxError> {
    build(draft, input, limits).map_err(|(reason, hint)| SandboxError::Plan { module: module.to_owned(), reason, hint })
}

/// Whether the schema's columns can cross to a guest: a plan may read any of them.
pub(crate) fn check_input(module: &str, input: &Schema) -> Result<(), SandboxError> {
    for field in input.fields() {
        if let Err(foreign) = check_crosses(field.data_type()) {
            return Err(SandboxError::Given {
                module: module.to_owned(),
                reason: format!("column {:?} is of type {foreign}, which no module can be given", field.name()),
                hint: "declare another type for the column, or leave it out, in the stream's schema".into(),
            });
        }
    }
    Ok(())
}

fn build(draft: Draft, input: &Schema, limits: &Limits) -> Result<Plan, Problem> {
    let Draft { inputs, routes, reusable } = draft;
    check_inputs(&inputs, input, limits)?;
    if routes.is_empty() {
        return Err(("plans no route".into(), "a rule that lets rows pass has at least the route \"out\"".into()));
    }
    if routes.len() > limits.routes {
        let reason = format!("plans {} routes, more than {}", routes.len(), limits.routes);
        return Err((reason, "plan fewer, or raise limits.routes".into()));
    }
    let mut names = HashSet::new();
    let mut checked = Vec::with_capacity(routes.len());
    for (index, route) in routes.into_iter().enumerate() {
        if RouteName::new(route.name.as_str()).is_err() {
            let reason = format!("names route {index} {:?}", shown(&route.name));
            return Err((reason, "use 1 to 64 letters, digits, '_' and '-', beginning with a letter".into()));
        }
        if !names.insert(route.name.clone()) {
            return Err((format!("plans two routes named {:?}", route.name), "give each route its own name".into()));
        }
        checked.push(check_route(route, input, limits)?);
    }
    let plan = Plan { inputs, routes: checked, reusable };
    for route in 0..plan.routes.len() {
        plan.resolve(route, input).map_err(|reason| {
            (
                format!("plans what does not fit: {reason}"),
                "pass columns of the input, each under a name of its own".into(),
            )
        })?;
    }
    Ok(plan)
}

fn check_inputs(inputs: &[InputColumn], input: &Schema, limits: &Limits) -> Result<(), Problem> {
    if inputs.len() > limits.columns {
        let reason = format!("reads {} columns, more than {}", inputs.len(), limits.columns);
        return Err((reason, "read fewer, or raise limits.columns".into()));
    }
    let mut seen = HashSet::new();
    for InputColumn { name, source, required } in inputs {
        let name_shown = shown(name);
        if !seen.insert((name, source)) {
            return Err((format!("reads column {name_shown:?} twice"), "name each column once".into()));
        }
        // A required column that is missing is no mistake: the rows are rejected until the stream has it.
        if *source == InputSource::Column && !required && input.column_with_name(name).is_none() {
            return Err((format!("reads column {name_shown:?}, which the input lacks"), closest(name, input)));
        }
    }
    Ok(())
}

fn check_route(route: DraftRoute, input: &Schema, limits: &Limits) -> Result<RoutePlan, Problem> {
    let DraftRoute { name, columns, computed_schema } = route;
    if columns.len() > limits.columns {
        let reason = format!("plans {} columns for route {name:?}, more than {}", columns.len(), limits.columns);
        return Err((reason, "plan fewer, or raise limits.columns".into()));
    }
    let computed = schema::decode(&computed_schema, limits).map_err(|reason| {
        let reason = format!("computes, for route {name:?}, columns of a schema that cannot be read: {reason}");
        (reason, "send an Arrow IPC schema message of types in the WIT's table".into())
    })?;
    for field in computed.fields() {
        check_name(&name, field.name())?;
    }
    for column in &columns {
        match column {
            OutputColumn::PassOthers { .. } => {}
            OutputColumn::Pass { input: from, output } => {
                check_name(&name, output)?;
                if input.column_with_name(from).is_none() {
                    let reason = format!("passes column {:?} to route {name:?}, which the input lacks", shown(from));
                    return Err((reason, closest(from, input)));
                }
            }
            OutputColumn::Computed(index) if *index >= computed.fields().len() => {
                let count = computed.fields().len();
                let reason = format!("puts computed column {index} on route {name:?}, which computes {count}");
                return Err((reason, "indexes count from 0 in the route's computed schema".into()));
            }
            OutputColumn::Computed(_) => {}
        }
    }
    Ok(RoutePlan { name, columns, computed })
}

fn check_name(route: &str, column: &str) -> Result<(), Problem> {
    if column.is_empty() {
        return Err((format!("gives a column of route {route:?} no name"), "name it".into()));
    }
    if column.starts_with(PREFIX) {
        let reason = format!("names a column of route {route:?} {:?}", shown(column));
        return Err((reason, format!("names that begin with {PREFIX} are forebay's own")));
    }
    Ok(())
}

fn closest(name: &str, input: &Schema) -> String {
    let names = || input.fields().iter().map(|field| field.name().as_str());
    let near = names()
        .map(|known| (strsim::jaro_winkler(known, name), known))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|left, right| left.0.total_cmp(&right.0));
    if let Some((_, known)) = near {
        return format!("did it mean {known:?}?");
    }
    let listed: Vec<_> = names().take(NAMES_SHOWN).map(|known| format!("{known:?}")).collect();
    let more = if input.fields().len() > NAMES_SHOWN { ", …" } else { "" };
    format!("the input has {}{more}", if listed.is_empty() { "no column".into() } else { listed.join(", ") })
}

/// A name as a guest sent it, short enough for a message.
fn shown(name: &str) -> String {
    cut(name, 80)
}
