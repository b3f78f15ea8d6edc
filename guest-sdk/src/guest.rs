//! A rule as the host sees it: `describe`, `bind`, `process`, over plain values. The Wasm boundary and the native test harness both go
//! through here, so that a native test exercises all but the copy across.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::asset::AssetWant;
use crate::batch::{Batch, Context};
use crate::error::BindError;
use crate::layout::Node;
use crate::output::Output;
use crate::plan::{Finished, Input, Route};
use crate::schema;
use crate::transform::{Module, Transform};

/// What a module says of itself.
#[derive(Debug, Clone)]
pub struct About {
    /// Its name.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Its documentation.
    pub doc: &'static str,
    /// The JSON Schema of its config.
    pub config_schema: String,
    /// Its assets.
    pub assets: &'static [AssetWant],
}

/// Who the module is.
#[must_use]
pub fn describe<T: Module>() -> About {
    let config_schema = schemars::schema_for!(T::Config).as_value().to_string();
    About { name: T::NAME, version: T::VERSION, doc: T::DOC, config_schema, assets: T::ASSETS }
}

/// A rule that is bound to a schema and a config.
#[derive(Debug)]
pub struct Bound<T> {
    rule: T,
    inputs: Arc<[Input]>,
    routes: Arc<[Route]>,
    reusable: bool,
}

/// Makes the rule.
///
/// # Errors
/// Where schema, config or plan do not fit.
pub fn bind<T: Transform>(input_schema: &[u8], config: &str) -> Result<Bound<T>, BindError> {
    let input = schema::decode(input_schema)?;
    let (rule, plan) = T::new(parse_config::<T::Config>(config)?, &input)?;
    let Finished { inputs, routes, reusable } = plan.finish()?;
    Ok(Bound { rule, inputs: inputs.into(), routes: routes.into(), reusable })
}

/// The config as the rule's own type. Keys that the type does not have are errors: a misspelt threshold must not be a default.
fn parse_config<C: DeserializeOwned + schemars::JsonSchema>(config: &str) -> Result<C, BindError> {
    let mut unknown = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let mut json = serde_json::Deserializer::from_str(config);
    let parsed = {
        let tracked = serde_path_to_error::Deserializer::new(&mut json, &mut track);
        let mut ignored = |path: serde_ignored::Path<'_>| unknown.push(path.to_string());
        C::deserialize(serde_ignored::Deserializer::new(tracked, &mut ignored))
    };
    let parsed = parsed.map_err(|error| {
        let path = track.path().to_string();
        let place = if path == "." { "config".to_owned() } else { format!("config.{path}") };
        BindError::new(format!("the config does not fit: {}", without_position(&error.to_string())))
            .place(place)
            .hint(known_keys::<C>())
    })?;
    match unknown.into_iter().next() {
        Some(key) => Err(BindError::new(format!("the rule has no config key {key:?}"))
            .place(format!("config.{key}"))
            .hint(known_keys::<C>())),
        None => Ok(parsed),
    }
}

/// The text is one line that the host wrote, so where in it the mistake is helps nobody.
fn without_position(message: &str) -> &str {
    message.rsplit_once(" at line ").map_or(message, |(before, _)| before)
}

fn known_keys<C: schemars::JsonSchema>() -> String {
    let schema = schemars::schema_for!(C);
    let keys = schema.get("properties").and_then(|properties| properties.as_object());
    match keys {
        Some(keys) if !keys.is_empty() => {
            let keys: Vec<_> = keys.keys().map(String::as_str).collect();
            format!("its keys are {}", keys.join(", "))
        }
        _ => "see the module's config schema".to_owned(),
    }
}

/// The IPC message for a route's computed columns; empty where there are none.
pub(crate) fn computed_schema(route: &Route) -> Vec<u8> {
    if route.computed.fields().is_empty() { Vec::new() } else { schema::encode(&route.computed) }
}

impl<T> Bound<T> {
    pub(crate) fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    pub(crate) fn routes(&self) -> &[Route] {
        &self.routes
    }

    pub(crate) fn reusable(&self) -> bool {
        self.reusable
    }
}

impl<T: Transform> Bound<T> {
    /// One batch.
    pub(crate) fn process(
        &mut self,
        context: Context,
        rows: u32,
        nodes: Vec<Node>,
        buffers: Vec<Vec<u8>>,
    ) -> Result<(), String> {
        let batch = Batch::new(context, rows, nodes, buffers, &self.inputs)?;
        let mut output = Output::new(Arc::clone(&self.routes), batch.rows());
        self.rule.process(&batch, &mut output).map_err(|error| error.to_string())?;
        output.flush();
        Ok(())
    }
}
