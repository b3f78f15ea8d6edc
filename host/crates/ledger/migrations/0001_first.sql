-- The first schema of the ledger. docs/ledger.md says what each table means to people; this file says how it is kept.
-- Times are microseconds since 1970-01-01T00:00:00Z. Numbers are 64 bits, signed. Booleans are 0 and 1.
-- A table whose name begins with '_' is the ledger's own and not documented.

-- One row: which ledger this is.
CREATE TABLE _ledger (
    id         TEXT    NOT NULL,
    created_at INTEGER NOT NULL
);

-- Attempts whose landing was accepted. `body` is the landing as JSON until its journal entry is durable in the zone.
CREATE TABLE _landings (
    number    INTEGER PRIMARY KEY AUTOINCREMENT,
    attempt   TEXT    NOT NULL UNIQUE,
    stream    TEXT    NOT NULL,
    landed_at INTEGER NOT NULL,
    body      TEXT
);
CREATE INDEX _landings_unjournalled ON _landings (stream, number) WHERE body IS NOT NULL;

CREATE TABLE objects (
    number       INTEGER PRIMARY KEY AUTOINCREMENT,
    object       TEXT    NOT NULL UNIQUE,
    stream       TEXT    NOT NULL,
    partition    TEXT,
    key          TEXT,
    version      TEXT,
    source_start INTEGER,
    source_end   INTEGER,
    identity     TEXT,
    on_change    TEXT,
    bytes        INTEGER NOT NULL,
    sha256       TEXT    NOT NULL,
    attempt      TEXT    NOT NULL,
    landed_at    INTEGER NOT NULL,
    replaced_by  TEXT
);
-- A part of an object is landed once.
CREATE UNIQUE INDEX objects_once ON objects (stream, partition, key, version, source_start, source_end) WHERE key IS NOT NULL;
CREATE INDEX objects_of_attempt ON objects (attempt);
CREATE INDEX objects_replaced ON objects (replaced_by) WHERE replaced_by IS NOT NULL;
CREATE INDEX objects_by_key ON objects (stream, partition, key, number) WHERE key IS NOT NULL;

-- `number` is the order of landing.
CREATE TABLE segments (
    number        INTEGER PRIMARY KEY AUTOINCREMENT,
    segment       TEXT    NOT NULL UNIQUE,
    stream        TEXT    NOT NULL,
    partition     TEXT    NOT NULL,
    key           TEXT,
    version       TEXT,
    source_start  INTEGER,
    source_end    INTEGER,
    position      TEXT,
    next_position TEXT,
    object        TEXT    NOT NULL REFERENCES objects (object),
    content       TEXT    NOT NULL,
    content_start INTEGER NOT NULL,
    content_end   INTEGER NOT NULL,
    compression   TEXT,
    preamble      TEXT,
    bytes         INTEGER NOT NULL,
    records       INTEGER,
    format        TEXT    NOT NULL,
    landed_at     INTEGER NOT NULL
);
CREATE INDEX segments_of_stream ON segments (stream, number);
CREATE INDEX segments_of_object ON segments (object, number);

CREATE TABLE partitions (
    stream        TEXT    NOT NULL,
    partition     TEXT    NOT NULL,
    next_position TEXT    NOT NULL,
    advanced_at   INTEGER NOT NULL,
    PRIMARY KEY (stream, partition)
) WITHOUT ROWID;

CREATE TABLE refinements (
    pipeline      TEXT    NOT NULL,
    segment       TEXT    NOT NULL,
    state         TEXT    NOT NULL CHECK (state IN ('loading', 'loaded', 'failed', 'superseded')),
    generation    INTEGER,
    loaded_generation INTEGER,
    load_number   INTEGER,
    revision_id   TEXT,
    records       INTEGER,
    loaded        INTEGER,
    filtered      INTEGER,
    rejected      INTEGER,
    rescued       INTEGER,
    attempts      INTEGER NOT NULL,
    error_class   TEXT,
    error_message TEXT,
    error_hint    TEXT,
    failed_at     INTEGER,
    retry_at      INTEGER,
    PRIMARY KEY (pipeline, segment)
) WITHOUT ROWID;
CREATE INDEX refinements_failed ON refinements (pipeline, retry_at) WHERE state = 'failed';
CREATE INDEX refinements_loading ON refinements (pipeline, load_number) WHERE state = 'loading';

-- Up to this segment number, all of a stream's segments have a refinement of the pipeline: work() looks behind it.
CREATE TABLE _work_marks (
    pipeline TEXT    NOT NULL,
    stream   TEXT    NOT NULL,
    number   INTEGER NOT NULL,
    PRIMARY KEY (pipeline, stream)
) WITHOUT ROWID;

-- Groups of loads. `body` is the group without its loads, as JSON, until it is done or withdrawn.
CREATE TABLE _groups (
    pipeline       TEXT    NOT NULL,
    number         INTEGER NOT NULL,
    fingerprint    TEXT    NOT NULL,
    body           TEXT,
    PRIMARY KEY (pipeline, number)
) WITHOUT ROWID;
CREATE INDEX _groups_open ON _groups (pipeline, number) WHERE body IS NOT NULL;

-- `body` is the load as JSON, staged files included, until it is done or withdrawn.
CREATE TABLE loads (
    pipeline       TEXT    NOT NULL,
    number         INTEGER NOT NULL,
    table_name     TEXT    NOT NULL,
    id             TEXT    NOT NULL,
    state          TEXT    NOT NULL CHECK (state IN ('open', 'done', 'withdrawn')),
    revision_id    TEXT    NOT NULL,
    schema_version INTEGER NOT NULL,
    files          INTEGER NOT NULL,
    bytes          INTEGER NOT NULL,
    rows           INTEGER NOT NULL,
    removed_rows   INTEGER,
    table_version  INTEGER,
    begun_at       INTEGER NOT NULL,
    done_at        INTEGER,
    body           TEXT,
    PRIMARY KEY (pipeline, number, table_name)
) WITHOUT ROWID;

CREATE TABLE load_segments (
    pipeline   TEXT    NOT NULL,
    number     INTEGER NOT NULL,
    table_name TEXT    NOT NULL,
    segment    TEXT    NOT NULL,
    files      INTEGER NOT NULL,
    rows       INTEGER NOT NULL,
    PRIMARY KEY (pipeline, number, table_name, segment)
) WITHOUT ROWID;
CREATE INDEX load_segments_of_segment ON load_segments (pipeline, segment);

CREATE TABLE reject_counts (
    pipeline   TEXT    NOT NULL,
    segment    TEXT    NOT NULL,
    generation INTEGER NOT NULL,
    stage      TEXT    NOT NULL,
    code       TEXT    NOT NULL,
    records    INTEGER NOT NULL,
    PRIMARY KEY (pipeline, segment, generation, stage, code)
) WITHOUT ROWID;

CREATE TABLE schemas (
    pipeline   TEXT    NOT NULL,
    version    INTEGER NOT NULL,
    schema     TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (pipeline, version)
) WITHOUT ROWID;

CREATE TABLE held_changes (
    table_name  TEXT    NOT NULL,
    column_name TEXT    NOT NULL,
    data_type   TEXT    NOT NULL,
    reason      TEXT    NOT NULL,
    first_seen  INTEGER NOT NULL,
    approved    INTEGER NOT NULL,
    PRIMARY KEY (table_name, column_name)
) WITHOUT ROWID;

CREATE TABLE modules (
    name        TEXT    NOT NULL,
    sha256      TEXT    NOT NULL,
    version     TEXT    NOT NULL,
    bytes       INTEGER NOT NULL,
    origin      TEXT    NOT NULL,
    recorded_at INTEGER NOT NULL,
    PRIMARY KEY (name, sha256)
) WITHOUT ROWID;

CREATE TABLE _active_modules (
    name   TEXT    NOT NULL PRIMARY KEY,
    sha256 TEXT    NOT NULL,
    since  INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE module_files (
    path    TEXT    NOT NULL PRIMARY KEY,
    sha256  TEXT    NOT NULL,
    seen_at INTEGER NOT NULL
) WITHOUT ROWID;

-- `body` is the revision as JSON; `revision` counts from 1 for each pipeline.
CREATE TABLE revisions (
    pipeline    TEXT    NOT NULL,
    revision    INTEGER NOT NULL,
    revision_id TEXT    NOT NULL,
    body        TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (pipeline, revision),
    UNIQUE (pipeline, revision_id)
) WITHOUT ROWID;

CREATE TABLE deployments (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    pipeline    TEXT    NOT NULL,
    revision_id TEXT    NOT NULL,
    state       TEXT    NOT NULL CHECK (state IN ('active', 'retired', 'refused')),
    reason      TEXT    NOT NULL,
    deployed_at INTEGER NOT NULL,
    retired_at  INTEGER
);
CREATE UNIQUE INDEX deployments_active ON deployments (pipeline) WHERE state = 'active';

CREATE TABLE requests (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    what        TEXT    NOT NULL,
    arguments   TEXT    NOT NULL,
    asked_at    INTEGER NOT NULL,
    answer      TEXT,
    answered_at INTEGER
);
CREATE INDEX requests_open ON requests (number) WHERE answered_at IS NULL;
