//! Write transforms for forebay: rules that turn records into the rows of warehouse tables.
//!
//! A transform is a Wasm component of the world `forebay:transform@0.1.0`. The host hands it batches of typed columns; the rule
//! answers for each row: it is sent to one or more *routes*, with columns that the rule computes beside those that pass through, or
//! *rejected* with a reason, or (neither) *filtered*. The rule has no network, no files and no clock but the segment's, so the same
//! rows, config and assets always give the same answer. That, and that rows do not depend on one another, is what lets forebay
//! replay history exactly and lose one row to a bad row.
//!
//! # A worked example
//!
//! A rule that scores payments, flags the large ones from listed countries and refuses those without sense:
//!
//! ```
//! use forebay_sdk::arrow::DataType;
//! use forebay_sdk::build::{Mask, StringBuilder};
//! use forebay_sdk::schemars::{self, JsonSchema};
//! use forebay_sdk::text::FastSet;
//! use forebay_sdk::*;
//!
//! /// `config = { limit = 500.0 }` in the step; a key that is not here is an error.
//! #[derive(serde::Deserialize, JsonSchema)]
//! # #[serde(crate = "forebay_sdk::serde")]
//! struct Config {
//!     /// Payments above this are looked at.
//!     limit: f64,
//! }
//!
//! /// The columns that the rule reads: required, but for those in an `Option`.
//! #[derive(Row)]
//! struct Payment<'a> {
//!     #[column("Amount")]
//!     amount: f64,
//!     country: Option<&'a str>,
//! }
//!
//! struct Large {
//!     limit: f64,
//!     listed: FastSet<String>,
//! }
//!
//! impl Transform for Large {
//!     type Config = Config;
//!     const ASSETS: &'static [AssetWant] = &[AssetWant::required("listed", "Countries, one a line.")];
//!
//!     fn new(config: Config, input: &InputSchema) -> Result<(Self, Plan), BindError> {
//!         let listed = Asset::open("listed").ok_or_else(|| BindError::new("the asset is not there"))?;
//!         let listed = lines(&listed.read_text()?).map(str::to_owned).collect();
//!         let plan = Plan::new(input)
//!             .row::<Payment<'_>>()
//!             .route("scored", |columns| columns.pass_all().computed("reason", DataType::Utf8))
//!             .route("large", |columns| columns.pass("id").pass_as("Amount", "amount"));
//!         Ok((Self { limit: config.limit, listed }, plan))
//!     }
//!
//!     fn process(&mut self, batch: &Batch, output: &mut Output) -> Result<(), RuleError> {
//!         let mut reasons = StringBuilder::new();
//!         let mut large = Vec::new();
//!         for (index, payment) in Payment::rows(batch)?.enumerate() {
//!             let suspect = payment.amount > self.limit && payment.country.is_some_and(|c| self.listed.contains(c));
//!             reasons.push(if suspect { "large" } else { "none" });
//!             large.push(suspect);
//!             if payment.amount < 0.0 {
//!                 output.reject(index, "negative_amount", "an amount is not negative");
//!             }
//!         }
//!         count("seen", batch.rows() as u64);
//!         output.emit_all("scored").column(&reasons).send()?;
//!         output.keep("large", &Mask::from_fn(batch.rows(), |row| large[row]))
//!     }
//! }
//!
//! export!(Large);
//!
//! # fn main() -> Result<(), testing::HarnessError> {
//! // A test: no Wasm, no host.
//! let outcome = testing::Harness::<Large>::new()
//!     .config(serde_json::json!({ "limit": 500 }))
//!     .asset("listed", "KP\nIR # since May\n")
//!     .input_json(r#"
//!         {"id": 1, "Amount": 20, "country": "DE"}
//!         {"id": 2, "Amount": 900, "country": "KP"}
//!         {"id": 3, "Amount": -1, "country": null}
//!         {"id": 4, "Amount": null, "country": "DE"}
//!     "#)
//!     .run()?;
//! assert_eq!(outcome.column("scored", "reason"), ["none", "large"]);
//! assert_eq!(outcome.rows("large"), [serde_json::json!({ "id": 2, "amount": 900 })]);
//! assert_eq!(outcome.rejects[0].code, "negative_amount");
//! assert_eq!(outcome.rejects[1].code, "required_missing"); // the host's: the rule never saw the row
//! # Ok(())
//! # }
//! ```
//!
//! `cargo build --profile guest --target wasm32-wasip2` makes the module; README.md beside this crate walks through the set-up.
//!
//! # Where to look
//!
//! - what a rule implements: [`Transform`], [`export!`]
//! - what it reads: [`Plan`], [`Row`], [`Batch`], [`Column`]; which types a typed accessor takes: [`mod@kind`]
//! - what it writes: [`Output`], [`build`]
//! - what else it may do: [`Asset`], [`info!`] and its like, [`count`], [`observe`], [`random`], [`text`]
//! - its tests: [`testing`]
//!
//! A panic in a rule is a trap: forebay splits the batch until the guilty row stands alone, rejects it with the panic's message, and
//! loads every other row. A rule needs no `unsafe`; the SDK has some where the boundary's buffers are lent, and where it takes the
//! host's word that text is UTF-8.

// The derive names this crate by its name, in this crate's own tests too.
extern crate self as forebay_sdk;

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod abi;
mod array;
mod asset;
mod batch;
mod bits;
pub mod build;
pub mod column;
mod error;
#[doc(hidden)]
pub mod guest;
mod host;
pub mod kind;
mod layout;
mod output;
mod plan;
pub mod random;
mod report;
pub mod row;
mod schema;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
pub mod text;
mod transform;

pub use arrow_schema as arrow;
pub use asset::{Asset, AssetReader, AssetWant, lines};
pub use batch::{Batch, Context, RowNumbers};
pub use column::Column;
pub use error::{BindError, RuleError};
pub use forebay_sdk_derive::Row;
pub use kind::Kind;
pub use layout::{AsColumn, Element, Flat, Gathered, Layout, Node};
pub use output::{Emit, Output};
pub use plan::{ColumnNames, Columns, Plan, Source};
pub use report::{Level, count, log, observe};
pub use row::{Date, Row, Timestamp};
pub use schema::{InputSchema, same_name};
pub use transform::{Module, Transform};

pub use schemars;
pub use serde;

/// The README's rule is compiled, so that what it tells a newcomer to write is right.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
