//! The trait that a rule implements.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::asset::AssetWant;
use crate::batch::Batch;
use crate::error::{BindError, RuleError};
use crate::output::Output;
use crate::plan::Plan;
use crate::schema::InputSchema;

/// A rule over batches of rows.
///
/// An instance is made for each segment: [`Self::new`] once, then [`Self::process`] for each batch. The answer for a row depends
/// on the row, the config and the assets alone, never on its neighbours: that is what makes replays exact, and what
/// [`crate::testing::Harness::check_splits`] checks.
pub trait Transform: Sized + 'static {
    /// The rule's config: what stands in `config = { … }` of the step. A key that it does not know is an error.
    type Config: DeserializeOwned + JsonSchema;

    /// The assets that the rule opens.
    const ASSETS: &'static [AssetWant] = &[];

    /// Makes the rule for an input schema and says what it reads and writes. Assets are read here.
    ///
    /// # Errors
    /// Where config, assets or schema do not fit. Mistakes within the [`Plan`] need not be looked for: they become errors by themselves.
    fn new(config: Self::Config, input: &InputSchema) -> Result<(Self, Plan), BindError>;

    /// Answers for each row of a batch: emitted to routes, rejected, or (neither) filtered.
    ///
    /// # Errors
    /// Where the batch cannot be processed at all. Single rows are better refused with [`Output::reject`].
    fn process(&mut self, batch: &Batch, output: &mut Output) -> Result<(), RuleError>;
}

/// What a module says of itself; [`crate::export!`] implements it.
pub trait Module: Transform {
    /// Its name: the crate's.
    const NAME: &'static str;
    /// Its version: the crate's.
    const VERSION: &'static str;
    /// What it does, in Markdown; the first line is the summary.
    const DOC: &'static str;
}

/// Makes a rule the module: names it after the crate and, for Wasm, exports the world `forebay:transform@0.1.0`.
///
/// `export!(Fraud)` takes the crate's description for documentation; `export!(Fraud, doc = include_str!("../README.md"))`
/// another text. Once in a crate, which is a `cdylib` (and `rlib`, so that its tests can use it).
#[macro_export]
macro_rules! export {
    ($rule:ty) => {
        $crate::export!($rule, doc = ::std::env!("CARGO_PKG_DESCRIPTION"));
    };
    ($rule:ty, doc = $doc:expr) => {
        impl $crate::Module for $rule {
            const NAME: &'static str = ::std::env!("CARGO_PKG_NAME");
            const VERSION: &'static str = ::std::env!("CARGO_PKG_VERSION");
            const DOC: &'static str = $doc;
        }

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            ::std::thread_local! {
                static BOUND: ::std::cell::RefCell<::std::option::Option<$crate::guest::Bound<$rule>>> =
                    const { ::std::cell::RefCell::new(::std::option::Option::None) };
            }

            struct Exported;

            impl $crate::abi::Guest for Exported {
                fn describe() -> $crate::abi::Description {
                    $crate::abi::describe::<$rule>()
                }

                fn bind(
                    schema: ::std::vec::Vec<u8>,
                    config: ::std::string::String,
                ) -> ::std::result::Result<$crate::abi::Plan, $crate::abi::BindError> {
                    BOUND.with(|slot| $crate::abi::bind(slot, &schema, &config))
                }

                fn process(
                    context: $crate::abi::WireContext,
                    batch: $crate::abi::RecordBatch,
                ) -> ::std::result::Result<(), ::std::string::String> {
                    BOUND.with(|slot| $crate::abi::process(slot, context, batch))
                }
            }

    $crate::abi::export_transform!(Exported with_types_in $crate::abi::bindings);
        };
    };
}
