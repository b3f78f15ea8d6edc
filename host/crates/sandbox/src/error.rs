//! What can be wrong with a module, its config or its plan, before a row is seen. (What goes wrong with rows is a
//! [`forebay_model::ports::TransformError`].)

use forebay_model::{Digest, Error, ErrorClass};

/// An error of loading or binding a module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SandboxError {
    /// A limit that is out of range.
    #[error("the limit {name} = {value} cannot be kept: it lies between {least} and {most}")]
    Limit {
        /// Its name in the config.
        name: &'static str,
        /// What was asked for.
        value: u64,
        /// The least that can be kept.
        least: u64,
        /// The most.
        most: u64,
    },
    /// The engine could not be set up on this machine.
    #[error("the Wasm engine cannot be set up: {0}")]
    Engine(String),
    /// A file of more bytes than a module may have.
    #[error("module {digest} has {bytes} bytes, more than the limit of {limit}")]
    TooLarge {
        /// The module, short.
        digest: ShortDigest,
        /// Its size.
        bytes: usize,
        /// What is allowed.
        limit: u64,
    },
    /// Not a component.
    #[error("module {digest} {what}")]
    NotAComponent {
        /// The module.
        digest: ShortDigest,
        /// What it is.
        what: String,
        /// What to do.
        hint: &'static str,
    },
    /// A component of another world.
    #[error("module {digest} is a component of another world: {what}")]
    OtherWorld {
        /// The module.
        digest: ShortDigest,
        /// What it lacks or has.
        what: String,
    },
    /// A component of another version of forebay's world.
    #[error("module {digest} wants forebay:transform@{wants}; this forebay runs {supported}")]
    OtherVersion {
        /// The module.
        digest: ShortDigest,
        /// The version that it was built for.
        wants: String,
        /// The versions that run here, joined.
        supported: String,
    },
    /// It imports what no module is given.
    #[error("module {digest} imports {import}, which no module is given")]
    Import {
        /// The module.
        digest: ShortDigest,
        /// The import's name.
        import: String,
    },
    /// It does not compile.
    #[error("module {digest} does not compile: {reason}")]
    Compile {
        /// The module.
        digest: ShortDigest,
        /// The compiler's words.
        reason: String,
        /// What to do.
        hint: &'static str,
    },
    /// The process that compiles could not be run: not the module's fault.
    #[error("module {digest} could not be compiled: {reason}")]
    CompileProcess {
        /// The module.
        digest: ShortDigest,
        /// What happened.
        reason: String,
    },
    /// It is larger than a limit on instances.
    #[error("module {module} cannot be instantiated: {reason}")]
    Instance {
        /// The module's name, or its digest before it has said its name.
        module: String,
        /// What it needs, and the cap.
        reason: String,
        /// The limit's name in the config.
        limit: &'static str,
    },
    /// `describe` failed or said something that is not allowed.
    #[error("module {digest} does not describe itself: {reason}")]
    Describe {
        /// The module.
        digest: ShortDigest,
        /// What is wrong.
        reason: String,
    },
    /// The module refused the schema or the config.
    #[error("module {module} refuses to bind{}: {message}", place.as_ref().map(|place| format!(" at {place}")).unwrap_or_default())]
    Refused {
        /// The module's name.
        module: String,
        /// The column or config key.
        place: Option<String>,
        /// The module's words.
        message: String,
        /// The module's hint.
        hint: Option<String>,
    },
    /// `bind` trapped, ran past its time, or handed over what is not valid.
    #[error("module {module} failed in bind: {reason}")]
    Bind {
        /// The module's name.
        module: String,
        /// What happened.
        reason: String,
    },
    /// The plan does not fit the schema, or is no plan.
    #[error("module {module} {reason}")]
    Plan {
        /// The module's name.
        module: String,
        /// What is wrong, naming the column.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// The config is no JSON object, or the assets are not those that the module wants.
    #[error("module {module}: {reason}")]
    Given {
        /// The module's name.
        module: String,
        /// What is wrong.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// An invariant of the sandbox itself.
    #[error("sandbox: {0}")]
    Bug(String),
}

/// A digest that shows its first 12 digits, as configs and logs do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShortDigest(pub Digest);

impl std::fmt::Display for ShortDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sha256:{}", self.0.short())
    }
}

impl SandboxError {
    /// What can be done about it: a person must change the module or the config, unless the compiling process was at fault.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::CompileProcess { .. } => ErrorClass::Retry,
            Self::Bug(_) => ErrorClass::Bug,
            Self::Limit { .. }
            | Self::Engine(_)
            | Self::TooLarge { .. }
            | Self::NotAComponent { .. }
            | Self::OtherWorld { .. }
            | Self::OtherVersion { .. }
            | Self::Import { .. }
            | Self::Compile { .. }
            | Self::Instance { .. }
            | Self::Describe { .. }
            | Self::Refused { .. }
            | Self::Bind { .. }
            | Self::Plan { .. }
            | Self::Given { .. } => ErrorClass::Operator,
        }
    }

    /// What to do next, where it is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Limit { name, .. } => format!("set limits.{name} within that range"),
            Self::Engine(_) => {
                "it reserves address space, not memory: look at the limit on virtual memory (ulimit -v)".into()
            }
            Self::TooLarge { .. } => "build it optimised and without debug info, or raise limits.module_mib".into(),
            Self::NotAComponent { hint, .. } | Self::Compile { hint, .. } => (*hint).into(),
            Self::OtherWorld { .. } => {
                "build it with forebay-sdk and its export! macro, or against the WIT of forebay:transform".into()
            }
            Self::OtherVersion { .. } => "build it with an SDK of a version that runs here, or update forebay".into(),
            Self::Import { import, .. } => import_hint(import).into(),
            Self::Describe { .. } => "describe() must return a name and a JSON Schema without any input".into(),
            Self::Bind { .. } => "run the rule's own tests with this schema and config".into(),
            Self::Instance { limit, .. } => format!("raise limits.{limit}, or build a module that needs less"),
            Self::Plan { hint, .. } | Self::Given { hint, .. } => hint.clone(),
            Self::Refused { hint, .. } => return hint.clone(),
            Self::CompileProcess { .. } | Self::Bug(_) => return None,
        })
    }
}

fn import_hint(import: &str) -> &'static str {
    if import.starts_with("wasi:sockets") || import.starts_with("wasi:http") {
        "a rule has no network: its answer must depend on the row, the config and the assets alone; \
         hand over what it looks up as an asset"
    } else if import.starts_with("wasi:") {
        "only what Rust's std needs of WASI is there; find the dependency that wants more"
    } else {
        "a module may import forebay:transform/host and what std needs of WASI, nothing else"
    }
}

impl From<SandboxError> for Error {
    fn from(error: SandboxError) -> Self {
        let converted = Self::new(error.class(), error.to_string());
        match error.hint() {
            Some(hint) => converted.with_hint(hint),
            None => converted,
        }
    }
}
