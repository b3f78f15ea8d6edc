//! The order in which columns are computed: each after those that it uses, whatever order the config has.

use forebay_sdk::BindError;

use crate::ast::Expr;
use crate::check::Scope;

/// A computed column before it has a type.
pub(crate) struct Parsed<'c> {
    pub(crate) name: &'c str,
    pub(crate) text: &'c str,
    pub(crate) expr: Expr,
}

/// For each column those that it uses.
pub(crate) fn uses(columns: &[Parsed<'_>], scope: &Scope<'_>) -> Vec<Vec<usize>> {
    let used = |(index, column): (usize, &Parsed<'_>)| {
        let scope = Scope { own: Some(index), ..*scope };
        let mut used: Vec<_> = column.expr.names().into_iter().filter_map(|name| scope.computed(name)).collect();
        used.sort_unstable();
        used.dedup();
        used
    };
    columns.iter().enumerate().map(used).collect()
}

/// All columns, each after those that it uses.
pub(crate) fn order(columns: &[Parsed<'_>], uses: &[Vec<usize>]) -> Result<Vec<usize>, BindError> {
    let mut order = Vec::with_capacity(columns.len());
    let mut done = vec![false; columns.len()];
    let mut users = vec![Vec::new(); columns.len()];
    let mut open: Vec<usize> = uses.iter().map(Vec::len).collect();
    for (user, used) in uses.iter().enumerate() {
        used.iter().for_each(|used| users[*used].push(user));
    }
    // From the last, so that what comes first is taken first.
    let mut ready: Vec<usize> = (0..columns.len()).rev().filter(|column| open[*column] == 0).collect();
    while let Some(column) = ready.pop() {
        order.push(column);
        done[column] = true;
        for user in users[column].iter().rev() {
            open[*user] -= 1;
            if open[*user] == 0 {
                ready.push(*user);
            }
        }
    }
    match done.iter().position(|done| !done) {
        None => Ok(order),
        Some(stuck) => Err(cycle(columns, uses, &done, stuck)),
    }
}

fn cycle(columns: &[Parsed<'_>], uses: &[Vec<usize>], done: &[bool], stuck: usize) -> BindError {
    // Each column that is stuck uses another one that is, so the way leads into the circle.
    let mut way: Vec<usize> = Vec::new();
    let mut at = stuck;
    while !way.contains(&at) {
        way.push(at);
        at = uses[at].iter().copied().find(|used| !done[*used]).unwrap_or(at);
    }
    let from = way.iter().position(|column| *column == at).unwrap_or(0);
    let circle = &way[from..];
    let name = |column: &usize| format!("`{}`", columns.get(*column).map_or("", |column| column.name));
    const SHOWN: usize = 8;
    let mut told: Vec<_> = circle.iter().take(SHOWN).map(name).collect();
    if circle.len() > SHOWN {
        told.push(format!("{} more", circle.len() - SHOWN));
    }
    told.extend(circle.first().map(name));
    let first = circle.first().and_then(|first| columns.get(*first)).map_or("", |column| column.name);
    let problem = match circle {
        [_] => BindError::new(format!("{} uses itself, and the input has no such column", told[0])),
        _ => BindError::new(format!("columns use one another in a circle: {}", told.join(" ▶ "))),
    };
    problem.place(format!("config.columns.{first}")).hint("give one of them another name, or write out what it uses")
}
