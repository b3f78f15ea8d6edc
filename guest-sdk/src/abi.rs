//! The boundary of the module: the world `forebay:transform@0.1.0`, its exports led to [`crate::guest`] and its imports to
//! [`crate::host`]. Compiled for Wasm only.

pub(crate) mod host;

use std::cell::RefCell;

use crate::batch::{Context, RowNumbers};
use crate::guest::{self, Bound};
use crate::layout::Node;
use crate::plan::{Output, Source};
use crate::transform::Module;

/// What `wit-bindgen` makes of the WIT.
#[expect(missing_docs, reason = "generated: the WIT has the documentation")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        world: "transform",
        pub_export_macro: true,
        export_macro_name: "export_transform",
        default_bindings_module: "forebay_sdk::abi::bindings",
    });
}

pub use bindings::export_transform;
use bindings::forebay::transform::types as wire;
pub use bindings::{BindError, Context as WireContext, Description, Guest, Plan, RecordBatch};

/// The export `describe`.
#[must_use]
pub fn describe<T: Module>() -> Description {
    let about = guest::describe::<T>();
    Description {
        name: about.name.to_owned(),
        version: about.version.to_owned(),
        doc: about.doc.to_owned(),
        config_schema: about.config_schema,
        assets: about
            .assets
            .iter()
            .map(|want| wire::AssetWant {
                name: want.name.to_owned(),
                doc: want.doc.to_owned(),
                required: want.required,
            })
            .collect(),
    }
}

/// The export `bind`: the rule that it makes serves the instance from then on.
///
/// # Errors
/// What the rule, the config or the plan is at fault.
pub fn bind<T: Module>(slot: &RefCell<Option<Bound<T>>>, schema: &[u8], config: &str) -> Result<Plan, BindError> {
    let bound = guest::bind::<T>(schema, config).map_err(|error| BindError {
        message: error.message().to_owned(),
        hint: error.get_hint().map(str::to_owned),
        place: error.get_place().map(str::to_owned),
    })?;
    let plan = plan(&bound);
    slot.replace(Some(bound));
    Ok(plan)
}

fn plan<T>(bound: &Bound<T>) -> Plan {
    let inputs = bound
        .inputs()
        .iter()
        .map(|input| wire::InputColumn {
            name: input.name.clone(),
            source: source(input.source),
            required: input.required,
        })
        .collect();
    let routes = bound
        .routes()
        .iter()
        .map(|route| wire::Route {
            name: route.name.clone(),
            columns: route.columns.iter().map(output).collect(),
            computed_schema: guest::computed_schema(route),
        })
        .collect();
    Plan { inputs, routes, reusable: bound.reusable() }
}

fn source(source: Source) -> wire::InputSource {
    match source {
        Source::Column => wire::InputSource::Column,
        Source::RecordKey => wire::InputSource::RecordKey,
        Source::RecordHeaders => wire::InputSource::RecordHeaders,
        Source::RecordTimestamp => wire::InputSource::RecordTimestamp,
        Source::RecordPosition => wire::InputSource::RecordPosition,
        Source::RecordObject => wire::InputSource::RecordObject,
    }
}

fn output(column: &Output) -> wire::OutputColumn {
    match column {
        Output::PassOthers(except) => wire::OutputColumn::PassOthers(except.clone()),
        Output::Pass { input, output } => {
            wire::OutputColumn::Pass(wire::PassColumn { input: input.clone(), output: output.clone() })
        }
        Output::Computed(index) => wire::OutputColumn::Computed(*index),
    }
}

/// The export `process`.
///
/// # Errors
/// What the rule says.
pub fn process<T: Module>(
    slot: &RefCell<Option<Bound<T>>>,
    context: WireContext,
    batch: RecordBatch,
) -> Result<(), String> {
    let mut slot = slot.borrow_mut();
    let bound = slot.as_mut().ok_or("process was called before bind")?;
    let WireContext { stream, segment, partition, first_position, rows, landed_at, seed } = context;
    let rows = match rows {
        wire::RowNumbers::From(first) => RowNumbers::From(first),
        wire::RowNumbers::Each(numbers) => RowNumbers::Each(numbers),
    };
    let context = Context { stream, segment, partition, first_position, landed_at, seed, rows };
    let nodes = batch.nodes.iter().map(|node| Node { length: node.length, null_count: node.null_count }).collect();
    bound.process(context, batch.rows, nodes, batch.buffers)
}
