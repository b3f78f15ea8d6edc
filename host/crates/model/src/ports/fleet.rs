//! Hosts of one ledger: the right to be one of them, and who does what.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::error::Result;
use crate::ids::{PipelineName, StreamName};
use crate::time::Timestamp;

/// What one host does, and no other of the same ledger at the same time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Duty {
    /// Answers who asks through the ledger, deploys, compares shadows, keeps schedules, sends alerts of the ledger.
    Lead,
    /// Lands a stream.
    Stream(StreamName),
    /// Refines and loads for a pipeline.
    Pipeline(PipelineName),
}

impl fmt::Display for Duty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lead => f.write_str("lead"),
            Self::Stream(name) => write!(f, "stream {name}"),
            Self::Pipeline(name) => write!(f, "pipeline {name}"),
        }
    }
}

impl FromStr for Duty {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(' ') {
            None if text == "lead" => Ok(Self::Lead),
            Some(("stream", name)) => Ok(Self::Stream(name.parse()?)),
            Some(("pipeline", name)) => Ok(Self::Pipeline(name.parse()?)),
            None | Some(_) => Err(Error::bug(format!("no duty of a host is called {text:?}"))),
        }
    }
}

impl TryFrom<String> for Duty {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Duty> for String {
    fn from(duty: Duty) -> Self {
        duty.to_string()
    }
}

/// Who has the right to be a host of a ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostHolder {
    /// The process, where it has said so.
    pub process: Option<u32>,
    /// The machine that it runs on, where the ledger can be used from several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Since when.
    pub since: Timestamp,
}

/// A host that lives, and what it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostState {
    /// Who.
    pub holder: HostHolder,
    /// Its duties; `None` for one that is alone: all are its own.
    pub duties: Option<BTreeSet<Duty>>,
    /// Pipelines that it takes no segments for, since it cannot load the active revision, with why.
    pub cannot: BTreeMap<PipelineName, String>,
}

impl HostState {
    /// One that is alone.
    #[must_use]
    pub fn alone(holder: HostHolder) -> Self {
        Self { holder, duties: None, cannot: BTreeMap::new() }
    }

    /// Whether it answers who asks.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.duties.as_ref().is_none_or(|duties| duties.contains(&Duty::Lead))
    }
}

/// What a host could do now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Duties that it would take, or has.
    pub ready: BTreeSet<Duty>,
    /// Pipelines whose active revision it cannot load, with why: for people.
    pub cannot: BTreeMap<PipelineName, String>,
}

/// What a host has of what there is to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Division {
    /// Its duties.
    pub mine: BTreeSet<Duty>,
    /// Those of them that another host waits for: it is to finish what is under way, and give them back.
    pub give: BTreeSet<Duty>,
}

/// The right to be a host of a ledger; given back when dropped, and by the system when the process dies.
///
/// A lease of a ledger on a server may be lost while the process lives, if it is not heard of for long. From the moment that another
/// host has taken its place, the ledger refuses with class fenced whatever this one wants to write.
#[async_trait]
pub trait HostLease: Send + Sync + fmt::Debug {
    /// Waits until others have taken its place, and says who. A lease that cannot be lost waits for ever.
    async fn lost(&self) -> Error {
        std::future::pending().await
    }

    /// What it shares with the other hosts; `None` where it is alone, and does all.
    fn among(&self) -> Option<&dyn Hosts> {
        None
    }
}

/// The hosts of one ledger, as one of them sees them.
#[async_trait]
pub trait Hosts: Send + Sync + fmt::Debug {
    /// Divides what there is to do among the hosts that live, and says what this one has; called again and again.
    ///
    /// A duty is of one host at a time: it is free when its host gives it back or is not heard of any more, and then goes to one that is
    /// ready for it and has the fewest. A host has no duty that it is not ready for once it has given it back.
    async fn divide(&self, state: &Readiness) -> Result<Division>;

    /// Gives duties back that this host does no more.
    async fn give_back(&self, duties: &BTreeSet<Duty>) -> Result<()>;
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_duty_is_its_text() {
        for text in ["lead", "stream a", "pipeline b-c"] {
            assert_eq!(text.parse::<Duty>().unwrap().to_string(), text);
        }
        for text in ["", "leads", "stream ", "stream", "warehouse a", "pipeline a b"] {
            assert!(text.parse::<Duty>().is_err(), "{text:?}");
        }
    }
}
