//! The JSON API as one table: from it come the routes, the OpenAPI document and the checks of what is asked.
//!
//! Each endpoint is a verb of the command line with `--json`, so that both answer the same, and ask the host in the same way.

use super::answers::{self, Fields};

/// Where a parameter stands in a request, and in the verb's arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    /// In the path; an argument of its own.
    Argument,
    /// In the path; joined to the former argument by `/`.
    Joined,
    /// In the path; a flag.
    PathFlag(&'static str),
    /// In the query, or in the JSON object of a request that changes something; a flag.
    Flag(&'static str),
    /// The same, required.
    Needed(&'static str),
    /// The same, required; an argument of its own.
    Field,
    /// In the query; the name that an uploaded file is given.
    FileName,
}

/// A parameter.
#[derive(Debug)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) to: To,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
}

/// What a parameter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// From 1 to [`MOST`].
    Limit,
    /// Whether the flag is given.
    Switch,
    OneOf(&'static [&'static str]),
}

/// The most rows of a list.
pub(super) const MOST: u32 = 1000;

/// What is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answers {
    /// The verb's object.
    Object,
    /// The verb's lines as `items`.
    Lines,
    /// A list of the verb's object as `items`.
    Items(&'static str),
}

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    /// It reads: `GET`.
    Read,
    /// It changes something: `POST` with the token.
    Change,
    /// The same, with a file as its body.
    Upload(Upload),
}

/// A file that is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Upload {
    /// A module.
    Module,
    /// A config with its assets, as JSON.
    Bundle,
}

/// An endpoint.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) path: &'static str,
    pub(super) does: Does,
    pub(super) verb: &'static [&'static str],
    pub(super) parameters: &'static [Parameter],
    pub(super) answers: Answers,
    /// Of the object, or of each item.
    pub(super) fields: Fields,
    pub(super) help: &'static str,
}

const fn parameter(name: &'static str, to: To, help: &'static str) -> Parameter {
    Parameter { name, to, kind: Kind::Text, help }
}

const fn limit() -> Parameter {
    Parameter { name: "limit", to: To::Flag("--limit"), kind: Kind::Limit, help: "At most so many; default 100." }
}

const PIPELINE: Parameter = parameter("pipeline", To::Argument, "The pipeline.");
const THIS_PIPELINE: Parameter = parameter("pipeline", To::PathFlag("--pipeline"), "The pipeline.");
const OF_PIPELINE: Parameter = parameter("pipeline", To::Flag("--pipeline"), "Of this pipeline only.");
const STATES: &[&str] = &["pending", "loading", "loaded", "failed", "superseded"];

/// All of them.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        path: "/v1/status",
        does: Does::Read,
        verb: &["status"],
        parameters: &[],
        answers: Answers::Object,
        fields: answers::STATUS,
        help: "How far each stream and pipeline is, and what needs a person.",
    },
    Endpoint {
        path: "/v1/pipelines",
        does: Does::Read,
        verb: &["status"],
        parameters: &[],
        answers: Answers::Items("pipelines"),
        fields: answers::PIPELINE,
        help: "The pipelines: counts, the active revision, pause, failures, held changes.",
    },
    Endpoint {
        path: "/v1/segments",
        does: Does::Read,
        verb: &["segments", "list"],
        parameters: &[
            parameter("stream", To::Flag("--stream"), "Of this stream only."),
            OF_PIPELINE,
            Parameter {
                name: "state",
                to: To::Flag("--state"),
                kind: Kind::OneOf(STATES),
                help: "In this state only.",
            },
            limit(),
        ],
        answers: Answers::Lines,
        fields: answers::SEGMENT_LINE,
        help: "Segments with their state in each pipeline, the newest first.",
    },
    Endpoint {
        path: "/v1/segments/{stream}/{segment}",
        does: Does::Read,
        verb: &["segments", "show"],
        parameters: &[
            parameter("stream", To::Argument, "The stream."),
            parameter("segment", To::Joined, "The segment's id, or its beginning."),
        ],
        answers: Answers::Object,
        fields: answers::SEGMENT_SHOWN,
        help: "Where a segment came from, where it lies, and what each pipeline made of it.",
    },
    Endpoint {
        path: "/v1/rejects",
        does: Does::Read,
        verb: &["rejects", "list"],
        parameters: &[
            OF_PIPELINE,
            parameter("code", To::Flag("--code"), "With this code only."),
            parameter("since", To::Flag("--since"), "Since then: so long ago (2d), or a date or time in UTC."),
            limit(),
        ],
        answers: Answers::Lines,
        fields: answers::REJECT,
        help: "Refused records without their text, the newest first.",
    },
    Endpoint {
        path: "/v1/why",
        does: Does::Read,
        verb: &["why"],
        parameters: &[
            parameter("what", To::Field, "An object or a segment."),
            parameter(
                "since",
                To::Flag("--since"),
                "What landed since then: so long ago (2d), or a date or time in UTC.",
            ),
        ],
        answers: Answers::Lines,
        fields: answers::WHY,
        help: "What became of an object or a segment, from its source to its rows.",
    },
    Endpoint {
        path: "/v1/revisions",
        does: Does::Read,
        verb: &["revisions", "list"],
        parameters: &[OF_PIPELINE, limit()],
        answers: Answers::Lines,
        fields: answers::REVISION,
        help: "Revisions, the newest first, with their modules and what became of each.",
    },
    Endpoint {
        path: "/v1/deployments",
        does: Does::Read,
        verb: &["deployments", "list"],
        parameters: &[OF_PIPELINE, limit()],
        answers: Answers::Lines,
        fields: answers::DEPLOYMENT_LINE,
        help: "Deployments, the newest first.",
    },
    Endpoint {
        path: "/v1/pipelines/{pipeline}/deployment",
        does: Does::Read,
        verb: &["deployments", "show"],
        parameters: &[
            PIPELINE,
            parameter("revision", To::Flag("--revision"), "Its number. Default: the one in shadow, or else the last."),
        ],
        answers: Answers::Object,
        fields: answers::DEPLOYMENT,
        help: "A deployment, and what differs from the active revision where it was compared.",
    },
    Endpoint {
        path: "/v1/modules",
        does: Does::Read,
        verb: &["modules", "list"],
        parameters: &[parameter("name", To::Flag("--name"), "Of this name only."), limit()],
        answers: Answers::Lines,
        fields: answers::MODULE,
        help: "Modules, each name's newest content first.",
    },
    Endpoint {
        path: "/v1/schema",
        does: Does::Read,
        verb: &["schema", "list"],
        parameters: &[],
        answers: Answers::Lines,
        fields: answers::HELD_CHANGE,
        help: "Changes of tables' schemas that wait for approval, or for the next load.",
    },
    Endpoint {
        path: "/v1/schema/approve",
        does: Does::Change,
        verb: &["schema", "approve"],
        parameters: &[parameter("table", To::Field, "The table."), parameter("column", To::Field, "The column.")],
        answers: Answers::Object,
        fields: answers::APPROVED,
        help: "Approve a change: the next load applies it.",
    },
    Endpoint {
        path: "/v1/deploy",
        does: Does::Upload(Upload::Module),
        verb: &["deploy", "--detach"],
        parameters: &[
            parameter("file", To::FileName, "The file's name; it stands in the module's origin. Default: module.wasm."),
            parameter("label", To::Flag("--label"), "Where it came from, as you call it: a commit, a release."),
            parameter(
                "shadow",
                To::Flag("--shadow"),
                "So many segments are compared first. Default: as the config says.",
            ),
            parameter(
                "max_changed",
                To::Flag("--max-changed"),
                "The share of rows that may differ: 1%. With `shadow`.",
            ),
            parameter(
                "pipeline",
                To::Flag("--pipeline"),
                "The pipelines that it is meant for, by commas; refused where others use its name too. Default: all that do.",
            ),
        ],
        answers: Answers::Object,
        fields: answers::PUSHED,
        help: "Deploy a module: it is checked, and takes the next segments of all pipelines that use its name, or of none.",
    },
    Endpoint {
        path: "/v1/apply",
        does: Does::Upload(Upload::Bundle),
        verb: &["apply", "--detach"],
        parameters: &[
            parameter(
                "file",
                To::FileName,
                "What the config is called; it stands with what it leads to. Default: forebay.toml.",
            ),
            parameter("label", To::Flag("--label"), "Where it came from, as you call it: a commit, a release."),
            parameter(
                "shadow",
                To::Flag("--shadow"),
                "So many segments are compared first. Default: as the config says.",
            ),
            parameter(
                "max_changed",
                To::Flag("--max-changed"),
                "The share of rows that may differ: 1%. With `shadow`.",
            ),
        ],
        answers: Answers::Object,
        fields: answers::PUSHED,
        help: "Apply a config with its assets: all of it is checked, and takes the place of the host's, or nothing changes.",
    },
    Endpoint {
        path: "/v1/pipelines/{pipeline}/approve",
        does: Does::Change,
        verb: &["deployments", "approve"],
        parameters: &[PIPELINE],
        answers: Answers::Object,
        fields: answers::PUSHED,
        help: "Let the revision in shadow become active, whatever was compared.",
    },
    Endpoint {
        path: "/v1/pipelines/{pipeline}/cancel",
        does: Does::Change,
        verb: &["deployments", "cancel"],
        parameters: &[PIPELINE, parameter("reason", To::Flag("--reason"), "Why; `deployments show` tells it.")],
        answers: Answers::Object,
        fields: answers::PUSHED,
        help: "Take the revision in shadow back.",
    },
    Endpoint {
        path: "/v1/pipelines/{pipeline}/rollback",
        does: Does::Change,
        verb: &["rollback"],
        parameters: &[
            PIPELINE,
            parameter(
                "to",
                To::Flag("--to"),
                "The revision: its number, or the beginning of its id. Default: the one before.",
            ),
        ],
        answers: Answers::Object,
        fields: answers::PUSHED,
        help: "Put a former revision back.",
    },
    Endpoint {
        path: "/v1/pipelines/{pipeline}/pause",
        does: Does::Change,
        verb: &["pause"],
        parameters: &[PIPELINE, parameter("reason", To::Flag("--reason"), "Why; the status shows it.")],
        answers: Answers::Object,
        fields: answers::PAUSED,
        help: "Give a pipeline no further segments, until it is resumed.",
    },
    Endpoint {
        path: "/v1/pipelines/{pipeline}/resume",
        does: Does::Change,
        verb: &["resume"],
        parameters: &[PIPELINE],
        answers: Answers::Object,
        fields: answers::RESUMED,
        help: "Let a paused pipeline take segments again.",
    },
    Endpoint {
        path: "/v1/pipelines/{pipeline}/retry",
        does: Does::Change,
        verb: &["rejects", "retry"],
        parameters: &[
            THIS_PIPELINE,
            parameter("code", To::Flag("--code"), "Records with this code only."),
            parameter(
                "since",
                To::Flag("--since"),
                "Of segments that landed since then: so long ago (2d), or a date or time in UTC.",
            ),
        ],
        answers: Answers::Object,
        fields: answers::RETRIED,
        help: "Try rejected records again, under the active revision; /v1/status tells how far it is.",
    },
    Endpoint {
        path: "/v1/pipelines/{pipeline}/replay",
        does: Does::Change,
        verb: &["replay", "--detach"],
        parameters: &[
            THIS_PIPELINE,
            parameter(
                "since",
                To::Flag("--since"),
                "What landed since then: so long ago (2d), or a date or time in UTC.",
            ),
            parameter("until", To::Flag("--until"), "What landed before then."),
            Parameter {
                name: "clock",
                to: To::Flag("--clock"),
                kind: Kind::OneOf(&["landed", "record"]),
                help: "What `since` and `until` are of: when segments landed, or when their records happened. Default: landed.",
            },
            parameter(
                "time_column",
                To::Flag("--time-column"),
                "With `clock` record: the column of the tables that tells when a record happened.",
            ),
            Parameter {
                name: "dry_run",
                to: To::Flag("--dry-run"),
                kind: Kind::Switch,
                help: "Say which segments it would be, and do nothing.",
            },
            parameter(
                "revision",
                To::Flag("--revision"),
                "Under this one instead of the active one: its number, or the beginning of its id.",
            ),
            parameter("workers", To::Flag("--workers"), "At most so many of the host's workers at once."),
            parameter(
                "into",
                To::Flag("--into"),
                "Load what comes out into tables beside the pipeline's, whose names end with `_` and this.",
            ),
        ],
        answers: Answers::Object,
        fields: answers::REPLAYED,
        help: "Refine history again, under the active revision or another; /v1/status tells how far it is.",
    },
    Endpoint {
        path: "/v1/pipelines/{pipeline}/replay/stop",
        does: Does::Change,
        verb: &["replay", "--stop"],
        parameters: &[
            THIS_PIPELINE,
            parameter("into", To::Flag("--into"), "Of the replay into tables whose names end with `_` and this."),
        ],
        answers: Answers::Object,
        fields: answers::STOPPED,
        help: "Take back what is asked for and not begun with.",
    },
    Endpoint {
        path: "/v1/pipelines/{pipeline}/replay/swap",
        does: Does::Change,
        verb: &["replay", "--swap", "--detach"],
        parameters: &[
            THIS_PIPELINE,
            parameter("into", To::Needed("--into"), "What the names of the tables beside end with."),
        ],
        answers: Answers::Object,
        fields: answers::REPLAYED,
        help: "Put what stands in tables beside in the place of what the pipeline has; /v1/status tells how far it is.",
    },
    Endpoint {
        path: "/v1/pipelines/{pipeline}/replay/drop",
        does: Does::Change,
        verb: &["replay", "--drop", "--detach"],
        parameters: &[
            THIS_PIPELINE,
            parameter("into", To::Needed("--into"), "What the names of the tables beside end with."),
        ],
        answers: Answers::Object,
        fields: answers::DROPPED,
        help: "Drop the tables beside; the host does it once nothing of the replay is under way.",
    },
    Endpoint {
        path: "/v1/pipelines/{pipeline}/repair",
        does: Does::Change,
        verb: &["repair", "--yes", "--detach"],
        parameters: &[
            THIS_PIPELINE,
            parameter(
                "made_by",
                To::Needed("--made-by"),
                "A revision's number, the beginning of its id, or a module's name and the beginning of its digest.",
            ),
        ],
        answers: Answers::Object,
        fields: answers::REPAIRED,
        help: "Replace the rows that a wrong revision or module made.",
    },
];

impl Parameter {
    /// Whether a request without it is refused.
    pub(super) fn is_required(&self) -> bool {
        match self.to {
            To::Argument | To::Joined | To::PathFlag(_) | To::Needed(_) | To::Field => true,
            To::Flag(_) | To::FileName => false,
        }
    }
}

/// Whether a path takes a file.
pub(super) fn is_upload(path: &str) -> bool {
    ENDPOINTS.iter().any(|endpoint| matches!(endpoint.does, Does::Upload(_)) && endpoint.path == path)
}

impl Endpoint {
    /// The parameters of the path, in its order.
    pub(super) fn in_path(&self) -> impl Iterator<Item = &'static Parameter> {
        self.parameters.iter().filter(|parameter| matches!(parameter.to, To::Argument | To::Joined | To::PathFlag(_)))
    }

    /// Those of the query.
    pub(super) fn in_query(&self) -> impl Iterator<Item = &'static Parameter> {
        let of_body = self.does == Does::Change;
        self.parameters.iter().filter(move |parameter| match parameter.to {
            To::Flag(_) | To::Needed(_) | To::Field => !of_body,
            To::FileName => true,
            To::Argument | To::Joined | To::PathFlag(_) => false,
        })
    }

    /// Those of the JSON object.
    pub(super) fn in_body(&self) -> impl Iterator<Item = &'static Parameter> {
        let of_body = self.does == Does::Change;
        self.parameters.iter().filter(move |parameter| match parameter.to {
            To::Flag(_) | To::Needed(_) | To::Field => of_body,
            To::Argument | To::Joined | To::PathFlag(_) | To::FileName => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_docs_name_each_and_what_it_takes() {
        let docs = include_str!("../../../../docs/http.md");
        for endpoint in ENDPOINTS {
            let line = docs.lines().find(|line| line.contains(&format!("{}`", endpoint.path)) && line.starts_with('|'));
            let takes = endpoint.in_query().chain(endpoint.in_body());
            for parameter in takes {
                assert!(
                    line.is_some_and(|line| line.contains(parameter.name)),
                    "{}: {}",
                    endpoint.path,
                    parameter.name
                );
            }
            assert!(line.is_some(), "{}", endpoint.path);
        }
    }
}
