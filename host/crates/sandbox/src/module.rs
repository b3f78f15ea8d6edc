//! Loading: from bytes to a module that is known to be of our world, that compiled, and that has described itself.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arrow_schema::SchemaRef;
use forebay_model::ports::{
    Asset, Assets, BoundTransform, Description, Module, ModuleLoader, TransformError, TransformFailure,
};
use forebay_model::{Digest, Result};
use wasmtime::component::{Component, Linker};

use crate::abi::v0_1::{self, ExportIndexes};
use crate::artefact::{Cache, Key};
use crate::bound::Bound;
use crate::compile::compile;
use crate::engine::{Engines, settings_hash};
use crate::error::{SandboxError, ShortDigest};
use crate::failure::{NoInstance, told};
use crate::guest::{Guest, Pre, Surroundings};
use crate::inspect;
use crate::limits::Limits;
use crate::meter::Meter;
use crate::output::{GuestLog, NoLog, TracingLog};
use crate::said::{Refusal, cut};
use crate::section::without_cases_section;
use crate::state::GuestState;
use crate::{description, plan, schema, wasi};

const WORDS_BYTES: usize = 2_048;
/// The name of an asset want that stands for every name.
const ANY_ASSET: &str = "*";

/// How a sandbox is set up.
#[derive(Clone)]
pub struct SandboxOptions {
    /// The folder of compiled modules, forebay's own: who may write there may run code in this process. Without one, each
    /// start compiles again.
    pub cache_dir: Option<PathBuf>,
    /// Limits for whoever sets none of their own with [`Sandbox::with_limits`].
    pub limits: Limits,
    /// Where the lines of modules go.
    pub log: Arc<dyn GuestLog>,
    /// The program, and its first arguments, whose `main` calls [`crate::compile_child_main`] with the rest: the host's own
    /// binary with its hidden subcommand. Without one, modules are compiled in this process.
    pub compile_command: Option<Vec<OsString>>,
    /// How many instances there can be at a time: address space is reserved for each, 4 GiB.
    pub concurrent_instances: u32,
}

impl Default for SandboxOptions {
    /// No cache, default limits, lines to `tracing`, compiling in this process, 256 instances.
    fn default() -> Self {
        Self {
            cache_dir: None,
            limits: Limits::default(),
            log: Arc::new(TracingLog),
            compile_command: None,
            concurrent_instances: 256,
        }
    }
}

/// Loads modules under limits. Cheap to clone; clones share engines, compiled modules and the cache on disk.
///
/// Guests run on the thread that calls. Calls block, so inside an async runtime they belong on threads for blocking work.
#[derive(Clone)]
pub struct Sandbox {
    shared: Arc<Shared>,
    limits: Arc<Limits>,
    log: Arc<dyn GuestLog>,
    meter: Option<Arc<Meter>>,
}

struct Shared {
    engines: Engines,
    cache: Cache,
    compile_command: Option<Vec<OsString>>,
    /// Compiled modules that somebody holds, by digest and stack.
    loaded: Mutex<HashMap<(Digest, u64), Weak<Compiled>>>,
    /// One module compiles at a time: each uses many cores as it is.
    compiling: Mutex<()>,
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox")
            .field("limits", &self.limits)
            .field("cache", &self.shared.cache)
            .finish_non_exhaustive()
    }
}

impl Sandbox {
    /// A sandbox; its engine is set up here, so that a machine that cannot is known at the start.
    ///
    /// # Errors
    /// Of class operator, where a limit cannot be kept or the machine lacks address space.
    pub fn new(options: SandboxOptions) -> Result<Self> {
        let SandboxOptions { cache_dir, limits, log, compile_command, concurrent_instances } = options;
        limits.validate()?;
        let shared = Shared {
            engines: Engines::new(concurrent_instances),
            cache: Cache::new(cache_dir),
            compile_command,
            loaded: Mutex::default(),
            compiling: Mutex::default(),
        };
        shared.engines.get(&limits)?;
        Ok(Self { shared: Arc::new(shared), limits: Arc::new(limits), log, meter: None })
    }

    /// The same sandbox with other limits: a pipeline's.
    ///
    /// # Errors
    /// Of class operator, where a limit cannot be kept.
    pub fn with_limits(&self, limits: Limits) -> Result<Self> {
        limits.validate()?;
        Ok(Self { limits: Arc::new(limits), ..self.clone() })
    }

    /// The same sandbox, whose modules' lines go nowhere: what a rule says of rows that are made up is no news of production.
    #[must_use]
    pub fn silent(&self) -> Self {
        Self { log: Arc::new(NoLog), ..self.clone() }
    }

    /// The same sandbox, whose modules tell what calls cost. Whoever measures pays for it: the clock is looked at some times a call.
    #[must_use]
    pub fn metered(&self, meter: Arc<Meter>) -> Self {
        Self { meter: Some(meter), ..self.clone() }
    }

    /// The limits.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The interfaces that a module imports, by their names; for one that [`ModuleLoader::load`] takes.
    ///
    /// # Errors
    /// Of class operator, where it does not compile.
    pub fn imports(&self, wasm: &[u8]) -> Result<Vec<String>> {
        let engine = self.shared.engines.get(&self.limits)?;
        let component = self.component(wasm, &engine)?;
        Ok(inspect::imports(&component, &engine))
    }

    fn load_module(&self, wasm: &[u8]) -> Result<LoadedModule, SandboxError> {
        let digest = Digest::of(wasm);
        let short = ShortDigest(digest);
        let limit = self.limits.module_mib << 20;
        if wasm.len() as u64 > limit {
            return Err(SandboxError::TooLarge { digest: short, bytes: wasm.len(), limit });
        }
        inspect::check_bytes(short, wasm)?;
        let known = (digest, self.limits.stack_kib);
        if let Some(compiled) = self.loaded(&known) {
            return Ok(self.module(compiled));
        }
        let engine = self.shared.engines.get(&self.limits)?;
        let component = self.component(wasm, &engine)?;
        let compiled = Arc::new(Compiled::new(digest, &component, &self.surroundings(&digest.short()))?);
        let mut loaded = self.shared.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.retain(|_, module| module.strong_count() > 0);
        loaded.insert(known, Arc::downgrade(&compiled));
        drop(loaded);
        Ok(self.module(compiled))
    }

    fn loaded(&self, known: &(Digest, u64)) -> Option<Arc<Compiled>> {
        self.shared.loaded.lock().unwrap_or_else(PoisonError::into_inner).get(known)?.upgrade()
    }

    /// The component without its cases, which are no code. Where the sections cannot be told apart, the compiler says what is wrong.
    fn component(&self, wasm: &[u8], engine: &wasmtime::Engine) -> Result<Component, SandboxError> {
        let wasm = without_cases_section(wasm).unwrap_or(Cow::Borrowed(wasm));
        let key = Key { digest: Digest::of(&wasm), settings: settings_hash(engine) };
        if let Some(component) = self.shared.cache.get(&key, engine) {
            return Ok(component);
        }
        let _one = self.shared.compiling.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever held the lock may have compiled the same module.
        if let Some(component) = self.shared.cache.get(&key, engine) {
            return Ok(component);
        }
        let artefact = compile(&key, &wasm, &self.limits, self.shared.compile_command.as_deref())?;
        let component = artefact
            .load(engine)
            .map_err(|error| SandboxError::Bug(format!("what was just compiled does not load: {error:#}")))?;
        self.shared.cache.put(&key, &artefact);
        Ok(component)
    }

    fn surroundings(&self, name: &str) -> Surroundings {
        Surroundings {
            limits: Arc::clone(&self.limits),
            log: Arc::clone(&self.log),
            name: name.into(),
            assets: Assets::default(),
            meter: self.meter.clone(),
        }
    }

    fn module(&self, compiled: Arc<Compiled>) -> LoadedModule {
        let around = self.surroundings(compiled.description.name.as_str());
        LoadedModule { compiled, around }
    }
}

impl ModuleLoader for Sandbox {
    fn load(&self, wasm: &[u8]) -> Result<Arc<dyn Module>> {
        Ok(Arc::new(self.load_module(wasm)?))
    }
}

/// A component that can be instantiated, and what it said of itself.
pub(crate) struct Compiled {
    digest: Digest,
    pre: Pre,
    indexes: ExportIndexes,
    description: Description,
}

impl Compiled {
    fn new(digest: Digest, component: &Component, around: &Surroundings) -> Result<Self, SandboxError> {
        let engine = component.engine();
        let short = ShortDigest(digest);
        inspect::check_component(short, component, engine)?;
        let mut linker = Linker::<GuestState>::new(engine);
        wasi::link(&mut linker)
            .and_then(|()| v0_1::link(&mut linker))
            .map_err(|error| SandboxError::Bug(format!("the imports cannot be defined: {error:#}")))?;
        let other_world = |what: String| SandboxError::OtherWorld { digest: short, what };
        let pre = linker.instantiate_pre(component).map_err(|error| other_world(format!("{error:#}")))?;
        let indexes = ExportIndexes::find(component)
            .map_err(|missing| other_world(format!("it does not export the function {missing}")))?;

        let undescribed = |reason: String| SandboxError::Describe { digest: short, reason };
        let failed = |error: TransformError| undescribed(told(error));
        let mut guest = Guest::new(&pre, &indexes, around).map_err(|none| none.of(short.to_string(), failed))?;
        guest.check_exports().map_err(|error| other_world(format!("its exports are not those of the WIT: {error}")))?;
        let said = guest.describe().map_err(failed)?;
        let description = description::check(said).map_err(undescribed)?;
        Ok(Self { digest, pre, indexes, description })
    }

    pub(crate) fn instantiate(&self, around: &Surroundings) -> Result<Guest, NoInstance> {
        Guest::new(&self.pre, &self.indexes, around)
    }
}

struct LoadedModule {
    compiled: Arc<Compiled>,
    around: Surroundings,
}

impl fmt::Debug for LoadedModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Compiled { digest, description, .. } = &*self.compiled;
        f.debug_struct("LoadedModule").field("name", &description.name).field("digest", digest).finish_non_exhaustive()
    }
}

impl LoadedModule {
    fn name(&self) -> &str {
        self.compiled.description.name.as_str()
    }

    fn bind_module(
        &self,
        input: &SchemaRef,
        config: &serde_json::Value,
        assets: &Assets,
    ) -> Result<Bound, SandboxError> {
        let module = || self.name().to_owned();
        if !config.is_object() {
            return Err(SandboxError::Given {
                module: module(),
                reason: "its config is not a JSON object".into(),
                hint: "write config = { key = value }".into(),
            });
        }
        self.check_assets(assets)?;
        plan::check_input(self.name(), input)?;
        let message = schema::encode(input).map_err(SandboxError::Bug)?;
        let config = config.to_string();
        let around = Surroundings { assets: Arc::clone(assets), ..self.around.clone() };
        let failed = |error: TransformError| match error.failure {
            TransformFailure::Instance => SandboxError::Engine(error.message),
            TransformFailure::Trap
            | TransformFailure::Timeout
            | TransformFailure::InvalidOutput
            | TransformFailure::RuleError => SandboxError::Bind { module: module(), reason: told(error) },
        };
        let mut guest = self.compiled.instantiate(&around).map_err(|none| none.of(module(), failed))?;
        let draft = guest.bind(&message, &config).map_err(failed)?.map_err(|refusal| {
            let Refusal { message, hint, place } = refusal;
            let short = |text: String| cut(&text, WORDS_BYTES);
            SandboxError::Refused {
                module: module(),
                place: place.map(short),
                message: short(message),
                hint: hint.map(short),
            }
        })?;
        let plan = plan::check(self.name(), draft, input, &self.around.limits)?;
        Ok(Bound::new(Arc::clone(&self.compiled), around, Arc::clone(input), message, config, plan, guest))
    }

    /// Every required asset is there, and nothing that the module never opens.
    fn check_assets(&self, assets: &Assets) -> Result<(), SandboxError> {
        let wants = &self.compiled.description.assets;
        let given = |reason: String, hint: String| SandboxError::Given { module: self.name().to_owned(), reason, hint };
        if let Some(want) = wants.iter().find(|want| want.required && !assets.contains_key(&want.name)) {
            let reason = format!("the asset {:?} is required and not configured", want.name);
            return Err(given(reason, format!("add it to the step: assets.{} = \"path\" ({})", want.name, want.doc)));
        }
        let known = |name: &str| wants.iter().any(|want| want.name == name || want.name == ANY_ASSET);
        let surplus = assets.iter().find(|(name, Asset { .. })| !known(name));
        if let Some((name, _)) = surplus {
            let names: Vec<_> = wants.iter().map(|want| want.name.as_str()).collect();
            let names = if names.is_empty() { "none".into() } else { names.join(", ") };
            return Err(given(format!("it has no asset {name:?}"), format!("the assets that it opens: {names}")));
        }
        Ok(())
    }
}

impl Module for LoadedModule {
    fn digest(&self) -> Digest {
        self.compiled.digest
    }

    fn description(&self) -> &Description {
        &self.compiled.description
    }

    fn bind(&self, input: &SchemaRef, config: &serde_json::Value, assets: &Assets) -> Result<Arc<dyn BoundTransform>> {
        Ok(Arc::new(self.bind_module(input, config, assets)?))
    }
}
