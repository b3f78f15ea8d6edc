//! SDK
#![cfg_attr(docsrs, feature(doc_cfg))]
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
mod kind;
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
