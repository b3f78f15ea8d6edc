//! The rule of the simulated pipelines, and the format of their stream.
//!
//! What the rule does with a record depends on its `n` and on the step's config alone; [`super::check`] says the same once more, in
//! its own words.

use std::io::Read;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_schema::{Schema, SchemaRef};
use forebay_format::Formats;
use forebay_model::plan::{InputColumn, InputSource, OutputColumn, Plan, RoutePlan};
use forebay_model::ports::{
    Assets, BatchInput, BoundTransform, Description, Emission, Format, Module, RowRefusal, SegmentContext, Selection,
    SplitRule, TransformError, TransformFailure, TransformInstance, TransformOutput,
};
use forebay_model::{Compression, Digest, Error, Result};
use forebay_pipeline::decoding::Decoding;

/// What a step's config says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Config {
    /// Records below are filtered.
    pub(crate) threshold: i64,
    /// It refuses and traps on more records than it should.
    pub(crate) harsh: bool,
    /// No instance can be made: every segment fails.
    pub(crate) broken: bool,
    /// It does not bind: the revision is refused.
    pub(crate) refused: bool,
}

impl Config {
    pub(crate) fn json(self) -> serde_json::Value {
        let Self { threshold, harsh, broken, refused } = self;
        serde_json::json!({ "threshold": threshold, "harsh": harsh, "broken": broken, "refused": refused })
    }

    fn read(config: &serde_json::Value) -> Self {
        let is = |name: &str| config[name].as_bool().unwrap();
        Self {
            threshold: config["threshold"].as_i64().unwrap(),
            harsh: is("harsh"),
            broken: is("broken"),
            refused: is("refused"),
        }
    }
}

/// The module.
#[derive(Debug)]
pub(crate) struct SimModule(Description);

impl SimModule {
    pub(crate) fn new() -> Self {
        Self(Description {
            name: forebay_model::ids::ModuleName::new("rule").unwrap(),
            version: "0".to_owned(),
            doc: String::new(),
            config_schema: serde_json::json!({}),
            assets: vec![],
        })
    }

    pub(crate) fn content() -> Digest {
        Digest::of(b"the simulated rule")
    }
}

#[derive(Debug)]
struct SimBound(Config, Plan, SchemaRef);

struct SimInstance(Config);

impl Module for SimModule {
    fn digest(&self) -> Digest {
        Self::content()
    }

    fn description(&self) -> &Description {
        &self.0
    }

    fn bind(&self, input: &SchemaRef, config: &serde_json::Value, _: &Assets) -> Result<Arc<dyn BoundTransform>> {
        let config = Config::read(config);
        if config.refused {
            return Err(Error::operator("the rule refuses this config"));
        }
        let route = |name: &str| RoutePlan {
            name: name.to_owned(),
            columns: vec![OutputColumn::PassOthers { except: vec![] }],
            computed: Arc::new(Schema::empty()),
        };
        let inputs = vec![InputColumn { name: "n".to_owned(), source: InputSource::Column, required: true }];
        let plan = Plan { inputs, routes: vec![route("out"), route("odd")], reusable: false };
        Ok(Arc::new(SimBound(config, plan, Arc::clone(input))))
    }
}

impl BoundTransform for SimBound {
    fn plan(&self) -> &Plan {
        &self.1
    }

    fn input(&self) -> &SchemaRef {
        &self.2
    }

    fn instance(&self, _: &SegmentContext) -> Result<Box<dyn TransformInstance>, TransformError> {
        if self.0.broken {
            return Err(failure(TransformFailure::Instance, "the rule is broken"));
        }
        Ok(Box::new(SimInstance(self.0)))
    }
}

fn failure(failure: TransformFailure, message: &str) -> TransformError {
    TransformError { failure, message: message.to_owned(), backtrace: vec![] }
}

impl TransformInstance for SimInstance {
    fn process(&mut self, input: &BatchInput) -> Result<TransformOutput, TransformError> {
        let values = input.columns[0].as_primitive::<Int64Type>().values();
        let (mut out, mut odd, mut refusals) = (Vec::new(), Vec::new(), Vec::new());
        for (row, n) in (0_u32..).zip(values.iter().copied()) {
            if self.0.harsh && n % 17 == 5 || n % 51 == 5 {
                // It has emitted for the rows before: nothing of that counts.
                return Err(failure(TransformFailure::Trap, "five too many"));
            }
            if self.0.harsh && n % 11 == 4 || n % 33 == 4 {
                let (code, message) = ("refused".into(), "four too many".into());
                refusals.push(RowRefusal { row, code, message, retryable: true });
            }
            if n < self.0.threshold {
                continue;
            }
            out.push(row);
            if n % 7 == 3 {
                out.push(row);
            }
            if n % 2 == 1 {
                odd.push(row);
            }
        }
        let emit =
            |route, rows: Vec<u32>| Emission { route, selection: Selection::Rows(rows.into()), computed: vec![] };
        Ok(TransformOutput { emissions: vec![emit(0, out), emit(1, odd)], refusals, ..Default::default() })
    }
}

/// JSON lines, cut into small segments.
#[derive(Debug)]
pub(crate) struct SimDecoding {
    pub(crate) formats: Formats,
    pub(crate) target: u64,
}

impl Decoding for SimDecoding {
    fn detect(&self, _: &str, _: &[u8]) -> String {
        "json".to_owned()
    }

    fn split_rule(&self, _: &str) -> SplitRule {
        SplitRule::Lines { target: self.target }
    }

    fn format(&self, name: &str) -> Result<Arc<dyn Format>> {
        Ok(self.formats.get(name)?)
    }

    fn decompress(&self, reader: Box<dyn Read + Send>, compression: Compression) -> Result<Box<dyn Read + Send>> {
        Ok(forebay_format::decompress(reader, compression)?)
    }

    fn settings(&self) -> serde_json::Value {
        self.formats.settings()
    }
}
