//! What the endpoints answer with, field by field: from it come the schemas of the OpenAPI document, which the tests hold every answer
//! against. What a column of the ledger means is told in `docs/ledger.md`.

use serde_json::{Map, Value, json};

/// A field of an answer.
#[derive(Debug)]
pub(super) struct Field {
    name: &'static str,
    of: Of,
    null: bool,
    optional: bool,
}

/// The fields of an object.
pub(super) type Fields = &'static [Field];

/// What a field holds.
#[derive(Debug, Clone, Copy)]
enum Of {
    Text,
    /// RFC 3339, in UTC.
    Time,
    Integer,
    Boolean,
    Object(Fields),
    List(Fields),
    Texts,
    /// By names that the config gives: `fraud`.
    Named(&'static Of),
    /// Told in `docs/deploy.md`; its form is not promised.
    Free,
}

const fn field(name: &'static str, of: Of) -> Field {
    Field { name, of, null: false, optional: false }
}

const fn text(name: &'static str) -> Field {
    field(name, Of::Text)
}

const fn time(name: &'static str) -> Field {
    field(name, Of::Time)
}

const fn integer(name: &'static str) -> Field {
    field(name, Of::Integer)
}

const fn boolean(name: &'static str) -> Field {
    field(name, Of::Boolean)
}

const fn object(name: &'static str, fields: Fields) -> Field {
    field(name, Of::Object(fields))
}

const fn list(name: &'static str, fields: Fields) -> Field {
    field(name, Of::List(fields))
}

impl Field {
    /// It may be null.
    const fn or_null(self) -> Self {
        Self { null: true, ..self }
    }

    /// It may be left out.
    const fn optional(self) -> Self {
        Self { optional: true, ..self }
    }
}

/// The schema of an object with these fields, and none beside them.
pub(super) fn schema(fields: Fields) -> Value {
    let properties: Map<_, _> = fields.iter().map(|field| (field.name.to_owned(), of(field))).collect();
    let required: Vec<_> = fields.iter().filter(|field| !field.optional).map(|field| field.name).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

fn of(field: &Field) -> Value {
    let mut schema = value(field.of);
    if let (true, Some(kind)) = (field.null, schema.get_mut("type")) {
        *kind = json!([kind.take(), "null"]);
    }
    schema
}

fn value(of: Of) -> Value {
    match of {
        Of::Text => json!({ "type": "string" }),
        Of::Time => json!({ "type": "string", "format": "date-time" }),
        Of::Integer => json!({ "type": "integer" }),
        Of::Boolean => json!({ "type": "boolean" }),
        Of::Object(fields) => schema(fields),
        Of::List(fields) => json!({ "type": "array", "items": schema(fields) }),
        Of::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        Of::Named(each) => json!({ "type": "object", "additionalProperties": value(*each) }),
        Of::Free => json!({ "type": "object" }),
    }
}

const COUNTS: Fields = &[integer("records"), integer("loaded"), integer("filtered"), integer("rejected")];

pub(super) const PIPELINE: Fields = &[
    text("pipeline"),
    text("stream"),
    object(
        "counts",
        &[
            text("pipeline").optional(),
            integer("pending").optional(),
            integer("loading").optional(),
            integer("loaded").optional(),
            integer("failed").optional(),
            integer("superseded").optional(),
            integer("records").or_null().optional(),
            integer("records_loaded").or_null().optional(),
            integer("records_filtered").or_null().optional(),
            integer("records_rejected").or_null().optional(),
            integer("records_rescued").or_null().optional(),
        ],
    ),
    object(
        "active",
        &[text("pipeline"), integer("revision"), text("revision_id"), text("reason"), time("deployed_at")],
    )
    .or_null(),
    object("refused", &[text("pipeline"), integer("revision"), text("reason"), time("refused_at")]).or_null(),
    object(
        "shadow",
        &[integer("revision"), text("revision_id"), time("since"), text("reason"), text("stage"), text("compared")],
    )
    .or_null(),
    object("paused", &[text("pipeline"), text("reason"), time("since")]).or_null(),
    object("last_load", &[text("pipeline"), integer("number"), time("done_at")]).or_null(),
    list(
        "failures",
        &[
            text("pipeline"),
            text("segment"),
            text("object"),
            text("state"),
            integer("attempts"),
            text("error_message"),
            text("error_hint").or_null(),
            time("failed_at"),
            time("retry_at").or_null(),
        ],
    ),
    list("held", &[text("table_name"), text("column_name"), text("data_type"), text("reason"), time("first_seen")]),
    object(
        "history",
        &[
            text("pipeline"),
            integer("segments"),
            integer("left_segments"),
            integer("left_bytes"),
            time("next_landed"),
            time("began_at"),
        ],
    )
    .or_null(),
    object("replay_into", REPLAY_INTO).or_null(),
    list(
        "again",
        &[
            text("pipeline"),
            text("what"),
            integer("revision").or_null(),
            integer("workers").or_null(),
            text("reason"),
            integer("segments"),
            integer("failed"),
            time("asked_at"),
            text("error_message").or_null(),
        ],
    ),
];

pub(super) const STATUS: Fields = &[
    object("host", &[integer("process").or_null(), time("since")]).or_null(),
    list(
        "hosts",
        &[
            integer("process").or_null(),
            text("host").or_null(),
            time("since"),
            field("duties", Of::Texts).or_null(),
            field("cannot", Of::Named(&Of::Text)),
        ],
    ),
    list("streams", &[text("stream"), integer("segments"), integer("bytes").or_null(), time("last_landed").or_null()]),
    list("pipelines", PIPELINE),
    list("replays_idle", REPLAY_INTO),
];

/// A replay into tables beside.
const REPLAY_INTO: Fields =
    &[text("pipeline"), text("of_pipeline"), integer("revision"), text("reason"), time("asked_at"), boolean("dropped")];

pub(super) const SEGMENT_LINE: Fields = &[
    text("segment"),
    text("object"),
    time("landed_at"),
    integer("bytes"),
    text("pipeline").or_null(),
    text("state").or_null(),
    integer("records").or_null(),
    integer("loaded").or_null(),
    integer("filtered").or_null(),
    integer("rejected").or_null(),
    integer("rescued").or_null(),
    text("error").or_null(),
];

const SEGMENT: Field = object(
    "segment",
    &[
        integer("number"),
        text("segment"),
        text("stream"),
        text("partition"),
        text("key").or_null(),
        text("version").or_null(),
        integer("source_start").or_null(),
        integer("source_end").or_null(),
        text("position").or_null(),
        text("next_position").or_null(),
        text("object"),
        text("content"),
        integer("content_start"),
        integer("content_end"),
        text("compression").or_null(),
        text("preamble").or_null(),
        integer("bytes"),
        integer("records").or_null(),
        text("format"),
        text("sha256"),
        time("landed_at"),
    ],
);

const REFINED: Field = list(
    "pipelines",
    &[
        integer("number"),
        text("segment"),
        text("stream"),
        text("object"),
        integer("bytes"),
        time("landed_at"),
        text("pipeline").or_null(),
        text("state").or_null(),
        integer("generation").or_null(),
        integer("revision").or_null(),
        integer("records").or_null(),
        integer("loaded").or_null(),
        integer("filtered").or_null(),
        integer("rejected").or_null(),
        integer("rescued").or_null(),
        integer("attempts").or_null(),
        text("error_message").or_null(),
        text("error_hint").or_null(),
        time("failed_at").or_null(),
        time("retry_at").or_null(),
    ],
);

const LOADED: Field = list(
    "tables",
    &[
        text("pipeline"),
        integer("number"),
        text("table_name"),
        integer("rows"),
        integer("revision"),
        text("state"),
        time("done_at").or_null(),
    ],
);

const REJECTED: Field = list("rejects", &[text("pipeline"), text("stage"), text("code"), integer("records")]);

const AGAIN: Field = list(
    "again",
    &[
        text("pipeline"),
        text("what"),
        integer("revision").or_null(),
        text("reason"),
        time("asked_at"),
        text("error_message").or_null(),
        time("failed_at").or_null(),
        time("retry_at").or_null(),
    ],
);

pub(super) const SEGMENT_SHOWN: Fields = &[SEGMENT, REFINED, LOADED, REJECTED, AGAIN];

/// The same, and by pipeline the modules that made its rows.
pub(super) const WHY: Fields = &[SEGMENT, REFINED, LOADED, REJECTED, AGAIN, field("modules", Of::Named(&Of::Texts))];

pub(super) const REJECT: Fields = &[
    text("pipeline"),
    text("segment"),
    integer("record").or_null(),
    text("stage"),
    text("code"),
    text("message"),
    boolean("retryable"),
    time("refused_at"),
];

pub(super) const REVISION: Fields = &[
    text("pipeline"),
    integer("revision"),
    text("id"),
    text("modules"),
    text("state").or_null(),
    time("deployed_at").or_null(),
    time("retired_at").or_null(),
    text("reason").or_null(),
];

pub(super) const DEPLOYMENT_LINE: Fields = &[
    text("pipeline"),
    integer("revision"),
    text("id"),
    text("state"),
    time("deployed_at"),
    time("retired_at").or_null(),
    time("shadow_since").or_null(),
    text("reason"),
];

pub(super) const DEPLOYMENT: Fields = &[
    text("pipeline"),
    integer("revision"),
    text("revision_id"),
    text("state"),
    text("reason"),
    time("deployed_at"),
    time("retired_at").or_null(),
    field("shadow", Of::Free).or_null(),
];

pub(super) const MODULE: Fields = &[
    text("name"),
    text("digest"),
    boolean("active"),
    text("version"),
    integer("bytes"),
    time("recorded_at"),
    text("origin"),
];

pub(super) const HELD_CHANGE: Fields = &[
    text("table_name"),
    text("column_name"),
    text("data_type"),
    text("reason"),
    time("first_seen"),
    boolean("approved"),
];

pub(super) const APPROVED: Fields = &[text("table"), text("column"), boolean("approved")];

const NAMED_REVISION: Fields = &[text("pipeline"), integer("revision"), text("revision_id")];

/// By table, the columns that it will gain.
const GAINS: Field = field("gains", Of::Named(&Of::Texts));

pub(super) const PUSHED: Fields = &[
    list("active", &[text("pipeline"), integer("revision"), text("revision_id"), field("missing", Of::Texts), GAINS]),
    list("refused", &[text("pipeline").or_null(), text("error"), text("hint").or_null()]),
    list("shadow", &[text("pipeline"), integer("revision"), text("revision_id"), GAINS.optional()]),
    list("cancelled", NAMED_REVISION),
    object(
        "applied",
        &[
            boolean("changed"),
            text("former").or_null(),
            field("started", Of::Texts),
            field("stopped", Of::Texts),
            field("waiting", Of::Texts),
        ],
    )
    .optional(),
];

pub(super) const PAUSED: Fields = &[text("pipeline"), object("paused", &[text("reason"), time("since")]).or_null()];

pub(super) const RESUMED: Fields = &[text("pipeline"), boolean("was_paused")];

/// By pipeline, how many segments are tried again that were not before.
pub(super) const RETRIED: Fields = &[field("segments", Of::Named(&Of::Integer)), boolean("host")];

const CHOSEN: Fields = &[
    text("pipeline"),
    integer("segments"),
    integer("bytes"),
    object("counts", COUNTS),
    integer("time_unknown").optional(),
    integer("revision").optional(),
    integer("workers").optional(),
    text("into").optional(),
];

pub(super) const REPLAYED: Fields = &[object("asked", CHOSEN).optional(), object("would_replay", CHOSEN).optional()];

pub(super) const DROPPED: Fields = &[text("pipeline"), boolean("dropped")];

pub(super) const STOPPED: Fields = &[text("pipeline"), integer("taken_back")];

/// Either what was asked for, or that there is nothing to repair.
pub(super) const REPAIRED: Fields =
    &[object("asked", CHOSEN).optional(), list("repairs", &[]).optional(), boolean("done").optional()];
