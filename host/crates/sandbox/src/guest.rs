//! One instance of a module: its memory, its exports, and the one way in.
//!
//! Every call goes through [`Guest::enter`], which sets the deadline, gives the call its whole share of the log, and turns
//! whatever stops it into words. A guest that failed is dropped by whoever called: its memory may be in any state.

use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay_model::plan::Plan;
use forebay_model::ports::{Assets, BatchInput, SegmentContext, TransformError, TransformFailure, TransformOutput};
use wasmtime::Store;

use crate::abi::v0_1::{ExportIndexes, Exports};
use crate::call::Call;
use crate::engine::deadline;
use crate::failure::{NoInstance, explain};
use crate::limits::Limits;
use crate::lower::lower;
use crate::meter::Meter;
use crate::output::{Console, GuestLog};
use crate::rng::SplitMix;
use crate::said::{Draft, Refusal, SelfDescription, cut};
use crate::state::GuestState;

/// What a guest is given beside its code.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) limits: Arc<Limits>,
    pub(crate) log: Arc<dyn GuestLog>,
    /// The name that its log lines have.
    pub(crate) name: Arc<str>,
    pub(crate) assets: Assets,
    /// Where calls are measured.
    pub(crate) meter: Option<Arc<Meter>>,
}

pub(crate) struct Guest {
    store: Store<GuestState>,
    exports: Exports,
    meter: Option<Arc<Meter>>,
}

/// A component, ready to be instantiated.
pub(crate) type Pre = wasmtime::component::InstancePre<GuestState>;

impl Guest {
    /// A fresh instance.
    pub(crate) fn new(pre: &Pre, indexes: &ExportIndexes, around: &Surroundings) -> Result<Self, NoInstance> {
        let Surroundings { limits, log, name, assets, meter } = around;
        let console = Console::new(Arc::clone(log), Arc::clone(name));
        let state = GuestState::new(Arc::clone(limits), console, Arc::clone(assets));
        let mut store = Store::new(pre.engine(), state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(limits.output_bytes());
        store.set_max_component_handles(limits.handles);
        if meter.is_some() {
            store.call_hook(|mut context, to| {
                context.data_mut().watch.passes(to);
                Ok(())
            });
        }
        // Instantiating runs the guest's start functions.
        store.set_epoch_deadline(deadline(limits.bind_time()));
        store.data_mut().console.begin(limits);
        let exports = pre.instantiate(&mut store).and_then(|instance| Exports::of(&mut store, &instance, indexes));
        match exports {
            Ok(exports) => Ok(Self { store, exports, meter: meter.clone() }),
            Err(error) => Err(NoInstance::explain(&error, store.data(), pre.component())),
        }
    }

    /// Whether the exports have the types that the WIT says.
    pub(crate) fn check_exports(&self) -> Result<(), String> {
        self.exports.check(&self.store).map_err(|error| format!("{error:#}"))
    }

    pub(crate) fn describe(&mut self) -> Result<SelfDescription, TransformError> {
        let time = self.store.data().limits.bind_time();
        self.enter("describe", time, Exports::describe)
    }

    /// Binds; the inner result is the module's own answer. Clock and randomness are the same for every instance, so that
    /// the answer can be.
    pub(crate) fn bind(&mut self, schema: &[u8], config: &str) -> Result<Result<Draft, Refusal>, TransformError> {
        let state = self.store.data_mut();
        (state.clock, state.random) = (0, SplitMix::of_call(0, 0));
        let time = state.limits.bind_time();
        self.enter("bind", time, |exports, store| exports.bind(store, schema, config))
    }

    pub(crate) fn process(
        &mut self,
        plan: &Arc<Plan>,
        segment: &SegmentContext,
        input: &BatchInput,
    ) -> Result<TransformOutput, TransformError> {
        let own_fault = |message: String| TransformError {
            failure: TransformFailure::Instance,
            message: format!("sandbox: {message}"),
            backtrace: Vec::new(),
        };
        let began = Instant::now();
        let flat = lower(&input.columns).map_err(own_fault)?;
        let rows = u32::try_from(input.rows).map_err(|_| own_fault(format!("{} rows are too many", input.rows)))?;
        let state = self.store.data_mut();
        state.clock = segment.landed_at.as_micros();
        state.random = SplitMix::of_call(segment.seed, input.numbers.first().copied().unwrap_or(0));
        state.watch.take();
        state.call = Some(Call::new(Arc::clone(plan), rows));
        let time = state.limits.call_time();
        let answer = self.enter("process", time, |exports, store| exports.process(store, segment, input, &flat));
        let state = self.store.data_mut();
        let call = state.call.take();
        if let Some(meter) = &self.meter {
            meter.add(rows, began.elapsed(), state.watch.take(), state.memory.used());
        }
        match answer? {
            Ok(()) => Ok(call.map(Call::finish).unwrap_or_default()),
            Err(message) => {
                let message = cut(&message, 2_048);
                Err(TransformError { failure: TransformFailure::RuleError, message, backtrace: Vec::new() })
            }
        }
    }

    fn enter<R>(
        &mut self,
        what: &str,
        time: Duration,
        call: impl FnOnce(&Exports, &mut Store<GuestState>) -> wasmtime::Result<R>,
    ) -> Result<R, TransformError> {
        self.store.set_epoch_deadline(deadline(time));
        let state = self.store.data_mut();
        state.memory.refused = None;
        let limits = Arc::clone(&state.limits);
        state.console.begin(&limits);
        let result = call(&self.exports, &mut self.store);
        self.store.data_mut().console.end();
        result.map_err(|error| explain(&error, self.store.data(), what, time))
    }
}
