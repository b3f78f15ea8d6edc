//! What is kept in the landing zone beside raw data, so that a ledger can be rebuilt: revisions, schemas and withdrawals. (Modules
//! and assets are kept as they are, under their digests.) JSON with a version; a field that is not known is refused, not ignored.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::ids::{Digest, ModuleName, PipelineName, SegmentId};
use crate::revision::Revision;
use crate::schema::StreamSchema;
use crate::time::Timestamp;

/// The version of these forms.
const VERSION: u32 = 1;

/// What the landing zone calls an asset.
#[must_use]
pub fn kept_asset(digest: Digest) -> String {
    format!("assets/{digest}")
}

/// A revision that was active once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptRevision {
    /// The version of this form: 1.
    pub version: u32,
    /// Its number in its pipeline.
    pub number: u32,
    /// When it was recorded.
    pub created_at: Timestamp,
    /// Its content.
    pub revision: Revision,
    /// Its modules, one for each step.
    pub modules: Vec<KeptModule>,
}

/// A module of a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptModule {
    /// Its content.
    pub digest: Digest,
    /// Its name.
    pub name: ModuleName,
    /// The author's version.
    pub version: String,
    /// Its size.
    pub bytes: u64,
}

impl KeptRevision {
    /// The folder of kept things.
    pub const FOLDER: &'static str = "revisions";

    /// As it is kept.
    #[must_use]
    pub fn new(number: u32, created_at: Timestamp, revision: Revision, modules: Vec<KeptModule>) -> Self {
        Self { version: VERSION, number, created_at, revision, modules }
    }

    /// Its name among kept things. It holds the revision's id, so what is there already is the same.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}-{}.json", Self::FOLDER, self.revision.pipeline, self.revision.id())
    }

    /// Its bytes.
    ///
    /// # Errors
    /// Class bug, where it is not JSON.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        write(self)
    }

    /// What was kept under a name.
    ///
    /// # Errors
    /// Class operator, naming it, where it is damaged or newer.
    pub fn read(name: &str, bytes: &[u8]) -> Result<Self> {
        let kept: Self = read(name, bytes)?;
        if kept.name() == name {
            Ok(kept)
        } else {
            Err(unreadable(name, "it holds another revision than its name says"))
        }
    }
}

/// A version of a pipeline's schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptSchema {
    /// The version of this form: 1.
    pub version: u32,
    /// The pipeline.
    pub pipeline: PipelineName,
    /// The schema.
    pub schema: StreamSchema,
    /// When it was kept first.
    pub kept_at: Timestamp,
}

impl KeptSchema {
    /// The folder of kept things.
    pub const FOLDER: &'static str = "schemas";

    /// As it is kept.
    #[must_use]
    pub fn new(pipeline: PipelineName, schema: StreamSchema, kept_at: Timestamp) -> Self {
        Self { version: VERSION, pipeline, schema, kept_at }
    }

    /// Its name among kept things. It holds a digest of the schema: a number may have been given twice where a ledger was put
    /// back from a copy.
    ///
    /// # Errors
    /// Class bug, where the schema is not JSON.
    pub fn name(&self) -> Result<String> {
        let digest = Digest::of(&write(&self.schema.schema)?);
        Ok(format!("{}/{}-{:08}-{}.json", Self::FOLDER, self.pipeline, self.schema.version, digest.short()))
    }

    /// Its bytes.
    ///
    /// # Errors
    /// Class bug, where it is not JSON.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        write(self)
    }

    /// What was kept under a name.
    ///
    /// # Errors
    /// Class operator, naming it, where it is damaged or newer.
    pub fn read(name: &str, bytes: &[u8]) -> Result<Self> {
        let kept: Self = read(name, bytes)?;
        if kept.name()? == name {
            Ok(kept)
        } else {
            Err(unreadable(name, "it holds another schema than its name says"))
        }
    }
}

/// A group of loads that was taken back, because a warehouse refused some of them for good. Others of it may be done, so of its
/// segments some tables have rows and others lack them until they are loaded by a later group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptWithdrawal {
    /// The version of this form: 1.
    pub version: u32,
    /// The pipeline.
    pub pipeline: PipelineName,
    /// The number of the group's loads.
    pub number: u64,
    /// The group's segments, sorted.
    pub segments: Vec<SegmentId>,
}

impl KeptWithdrawal {
    /// The folder of kept things.
    pub const FOLDER: &'static str = "withdrawals";

    /// As it is kept.
    #[must_use]
    pub fn new(pipeline: PipelineName, number: u64, mut segments: Vec<SegmentId>) -> Self {
        segments.sort();
        Self { version: VERSION, pipeline, number, segments }
    }

    /// Its name among kept things. It holds a digest of the segments: a number may have been given twice where a ledger was put
    /// back from a copy.
    #[must_use]
    pub fn name(&self) -> String {
        let segments: Vec<_> = self.segments.iter().map(SegmentId::as_str).collect();
        let digest = Digest::of(segments.join("\n").as_bytes());
        format!("{}/{}-{:012}-{}.json", Self::FOLDER, self.pipeline, self.number, digest.short())
    }

    /// Its bytes.
    ///
    /// # Errors
    /// Class bug, where it is not JSON.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        write(self)
    }

    /// What was kept under a name.
    ///
    /// # Errors
    /// Class operator, naming it, where it is damaged or newer.
    pub fn read(name: &str, bytes: &[u8]) -> Result<Self> {
        let kept: Self = read(name, bytes)?;
        if kept.name() == name {
            Ok(kept)
        } else {
            Err(unreadable(name, "it holds another withdrawal than its name says"))
        }
    }
}

fn write<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::bug(format!("something to be kept as JSON: {error}")))
}

fn read<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let Versioned { version } = serde_json::from_slice(bytes).map_err(|error| unreadable(name, &error.to_string()))?;
    if version != VERSION {
        return Err(Error::operator(format!(
            "{name} is of version {version}, and this forebay reads version {VERSION}"
        ))
        .with_hint("use the forebay that kept it, or a newer one"));
    }
    serde_json::from_slice(bytes).map_err(|error| unreadable(name, &error.to_string()))
}

fn unreadable(name: &str, what: &str) -> Error {
    Error::operator(format!("{name}, which is kept in the landing zone, cannot be read: {what}"))
        .with_hint("restore _forebay/kept of the landing zone from a backup, or remove that one file")
}
