//! What other processes ask of a host that runs, and what they are answered, as it stands in the ledger.

use std::collections::{BTreeMap, BTreeSet};

use forebay_model::ids::ModuleName;
use forebay_model::ports::Ledger;
use forebay_model::{Digest, Error, PipelineName, RevisionId, TableName, Timestamp};
use serde::{Deserialize, Serialize};

use crate::config::Share;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "push", rename_all = "snake_case")]
pub(crate) enum Push {
    /// A module that was kept in the landing zone and recorded in the ledger becomes the active one of its name.
    Module {
        /// Its name.
        name: ModuleName,
        /// Its content.
        digest: Digest,
        /// Who brought it: `deploy:fraud.wasm`.
        origin: String,
        /// How it is compared before; `None` where the config says so.
        #[serde(default)]
        shadow: Option<ShadowWanted>,
        /// The pipelines that it is meant for; empty for all that use its name.
        #[serde(default)]
        pipelines: BTreeSet<PipelineName>,
    },
    /// A config with its assets, which was kept in the landing zone, takes the place of the host's.
    Apply {
        /// Its content, as it is kept.
        bundle: Digest,
        /// Who brought it: `apply:forebay.toml by alice@laptop`.
        origin: String,
        /// How revisions are compared before; `None` where the config says so.
        #[serde(default)]
        shadow: Option<ShadowWanted>,
    },
    /// A former revision takes the place of the active one.
    RollBack {
        /// The pipeline.
        pipeline: PipelineName,
        /// The revision.
        to: RevisionId,
    },
    /// A revision that fails segments makes place for the former one by itself: another host of the ledger found that.
    Back {
        /// The pipeline.
        pipeline: PipelineName,
        /// The one that fails.
        from: RevisionId,
        /// The former one.
        to: RevisionId,
        /// What was found.
        why: String,
    },
    /// What is in shadow becomes active, whatever was compared.
    Approve {
        /// The pipeline.
        pipeline: PipelineName,
    },
    /// What is in shadow is taken back.
    Cancel {
        /// The pipeline.
        pipeline: PipelineName,
        /// Why, as a person says; empty where nobody says.
        reason: String,
    },
}

/// How a deployment is compared with what is active, as somebody asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShadowWanted {
    /// So many segments; 0 for none.
    pub(crate) segments: u32,
    /// The share of rows that may differ; `None` where the config says so.
    pub(crate) max_changed: Option<Share>,
}

/// A push as it stands in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PushRequest {
    /// When it was asked for: a host that started later does not do it, since nobody waits for it any more.
    pub(crate) at: Timestamp,
    /// Who asks: `alice@laptop`.
    #[serde(default)]
    pub(crate) by: String,
    /// What they have seen of the pipelines: what has changed since is not changed again by somebody who does not know of it.
    #[serde(default)]
    pub(crate) seen: BTreeMap<PipelineName, Seen>,
    /// What is asked for.
    pub(crate) push: Push,
}

/// What stands where a pipeline is changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// The active revision.
    pub(crate) active: Option<RevisionId>,
    /// The one in shadow.
    pub(crate) shadow: Option<RevisionId>,
}

impl Seen {
    /// What stands there now, of each.
    ///
    /// # Errors
    /// Those of the ledger.
    pub(crate) async fn all<'a>(
        ledger: &dyn Ledger,
        pipelines: impl IntoIterator<Item = &'a PipelineName>,
    ) -> forebay_model::Result<BTreeMap<PipelineName, Self>> {
        let shadows = ledger.shadows().await?;
        let mut seen = BTreeMap::new();
        for pipeline in pipelines {
            let active = ledger.active(pipeline).await?.map(|active| active.revision.id);
            let shadow = shadows.iter().find(|shadow| shadow.pipeline == *pipeline).map(|shadow| shadow.revision.id);
            seen.insert(pipeline.clone(), Self { active, shadow });
        }
        Ok(seen)
    }
}

impl PushRequest {
    /// What a request of this kind is called in the ledger.
    pub(crate) const WHAT: &'static str = "push";

    /// Asks the host that runs for it; the number that it is answered under.
    ///
    /// # Errors
    /// Those of the ledger.
    pub(crate) async fn ask(&self, ledger: &dyn Ledger) -> forebay_model::Result<u64> {
        let text = serde_json::to_value(self).map_err(|error| Error::bug("a request is no JSON").with_source(error))?;
        ledger.ask(Self::WHAT, &text, self.at).await
    }
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pushed {
    /// Pipelines with a revision that takes the next segments now.
    pub(crate) active: Vec<Active>,
    /// Why nothing changed.
    pub(crate) refused: Vec<Refused>,
    /// Revisions that run beside the active ones now.
    #[serde(default)]
    pub(crate) shadow: Vec<InShadow>,
    /// Revisions that were in shadow and were taken back.
    #[serde(default)]
    pub(crate) cancelled: Vec<InShadow>,
    /// What a config that was applied changed of the host itself; `None` where none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) applied: Option<Applied>,
}

/// What a config changed of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Applied {
    /// Whether files were replaced.
    pub(crate) changed: bool,
    /// What the landing zone keeps the former config as, where it was replaced: `configs/<digest>.json`.
    pub(crate) former: Option<String>,
    /// Streams and pipelines that were started: `stream payments`.
    pub(crate) started: Vec<String>,
    /// Those that were stopped, and not started again.
    pub(crate) stopped: Vec<String>,
    /// Keys that changed and take effect at a restart.
    pub(crate) waiting: Vec<String>,
}

/// A revision that is in shadow, or was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InShadow {
    pub(crate) pipeline: PipelineName,
    pub(crate) revision: u32,
    pub(crate) revision_id: RevisionId,
    /// The columns that tables will gain once it is active; of one that has just gone into shadow.
    #[serde(default, skip_serializing_if = "Gains::is_empty")]
    pub(crate) gains: Gains,
}

/// A revision that is active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Active {
    pub(crate) pipeline: PipelineName,
    pub(crate) revision: u32,
    pub(crate) revision_id: RevisionId,
    /// What will reject every record: `step large requires column fee`.
    pub(crate) missing: Vec<String>,
    /// The columns that tables will gain with the next load.
    #[serde(default)]
    pub(crate) gains: Gains,
}

/// Columns by table.
pub(crate) type Gains = BTreeMap<TableName, Vec<String>>;

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refused {
    pub(crate) pipeline: Option<PipelineName>,
    pub(crate) error: String,
    pub(crate) hint: Option<String>,
}

impl Refused {
    pub(crate) fn new(pipeline: Option<&PipelineName>, error: &Error) -> Self {
        Self { pipeline: pipeline.cloned(), error: error.chain(), hint: error.hint().map(str::to_owned) }
    }
}

/// Maintenance that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MaintainRequest {
    /// Which tables.
    pub(crate) tables: Vec<TableName>,
    /// The landing zone too.
    pub(crate) zone: bool,
    /// Say what would be done only.
    pub(crate) dry_run: bool,
    /// Who asks: `alice@laptop`.
    #[serde(default)]
    pub(crate) by: String,
}

impl MaintainRequest {
    /// The request's name in the ledger.
    pub(crate) const WHAT: &'static str = "maintain";
}
