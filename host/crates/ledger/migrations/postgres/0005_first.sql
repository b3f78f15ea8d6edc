-- The ledger's schema in PostgreSQL, as SQLite's has it at the same version: tables, columns and what is unique. docs/ledger.md says
-- what each table means to people. Times are microseconds since 1970-01-01T00:00:00Z; texts compare byte by byte (COLLATE "C").
-- It is made in a schema of its own, which is the search path; a later version comes as a file of the same number as SQLite's.

-- What SQLite has and the statements use.

-- The elements of a JSON list of texts. No text of PostgreSQL's holds U+0000: its picture stands there, as for every value.
CREATE FUNCTION json_each(list text) RETURNS TABLE (key bigint, value text) LANGUAGE sql IMMUTABLE AS $$
    SELECT e.place - 1, e.value
    FROM jsonb_array_elements_text(
        CASE WHEN position('\u0000' IN list) = 0 THEN list
             ELSE regexp_replace(list, '(?<!\\)((?:\\\\)*)\\u0000', '\1␀', 'g') END::jsonb
    ) WITH ORDINALITY AS e (value, place)
$$;

-- An element of a JSON list, by its place.
CREATE FUNCTION _element(list text, place integer) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT list::jsonb ->> place $$;
CREATE OPERATOR ->> (LEFTARG = text, RIGHTARG = integer, FUNCTION = _element);

-- The next number of a table. Unlike those of a sequence they have no gaps, and are in the order of the transactions: one writes at a
-- time. `_work_marks` hangs on that: a segment that came to be seen below a mark would never be refined.
CREATE FUNCTION _next(counted text) RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    CASE counted
        WHEN '_landings' THEN RETURN (SELECT coalesce(max(number), 0) + 1 FROM _landings);
        WHEN 'objects' THEN RETURN (SELECT coalesce(max(number), 0) + 1 FROM objects);
        WHEN 'segments' THEN RETURN (SELECT coalesce(max(number), 0) + 1 FROM segments);
        WHEN 'deployments' THEN RETURN (SELECT coalesce(max(number), 0) + 1 FROM deployments);
        WHEN 'requests' THEN RETURN (SELECT coalesce(max(number), 0) + 1 FROM requests);
    END CASE;
END
$$;

-- One row: which ledger this is, and which host has it. Who writes locks the row first; a host compares `host_lease` with its own.
CREATE TABLE _ledger (
    id           TEXT COLLATE "C" NOT NULL,
    created_at   BIGINT           NOT NULL,
    host_lease   TEXT COLLATE "C",
    host_process BIGINT,
    host_name    TEXT COLLATE "C",
    host_since   BIGINT
);

-- Attempts whose landing was accepted. `body` is the landing as JSON until its journal entry is durable in the zone.
CREATE TABLE _landings (
    number    BIGINT           PRIMARY KEY DEFAULT _next('_landings'),
    attempt   TEXT COLLATE "C" NOT NULL UNIQUE,
    stream    TEXT COLLATE "C" NOT NULL,
    landed_at BIGINT           NOT NULL,
    body      TEXT COLLATE "C"
);
CREATE INDEX _landings_unjournalled ON _landings (stream, number) WHERE body IS NOT NULL;

CREATE TABLE objects (
    number       BIGINT           PRIMARY KEY DEFAULT _next('objects'),
    object       TEXT COLLATE "C" NOT NULL UNIQUE,
    stream       TEXT COLLATE "C" NOT NULL,
    partition    TEXT COLLATE "C",
    key          TEXT COLLATE "C",
    version      TEXT COLLATE "C",
    source_start BIGINT,
    source_end   BIGINT,
    identity     TEXT COLLATE "C",
    on_change    TEXT COLLATE "C",
    bytes        BIGINT           NOT NULL,
    sha256       TEXT COLLATE "C" NOT NULL,
    attempt      TEXT COLLATE "C" NOT NULL,
    landed_at    BIGINT           NOT NULL,
    replaced_by  TEXT COLLATE "C"
);
-- A part of an object is landed once. Keys may be longer than an entry of a B-tree: their hashes stand for them.
CREATE UNIQUE INDEX objects_once
    ON objects (stream, md5(partition), md5(key), md5(version), source_start, source_end) WHERE key IS NOT NULL;
CREATE INDEX objects_of_attempt ON objects (attempt);
CREATE INDEX objects_replaced ON objects (replaced_by) WHERE replaced_by IS NOT NULL;
CREATE INDEX objects_by_key ON objects USING hash (key);

-- `number` is the order of landing.
CREATE TABLE segments (
    number        BIGINT           PRIMARY KEY DEFAULT _next('segments'),
    segment       TEXT COLLATE "C" NOT NULL UNIQUE,
    stream        TEXT COLLATE "C" NOT NULL,
    partition     TEXT COLLATE "C" NOT NULL,
    key           TEXT COLLATE "C",
    version       TEXT COLLATE "C",
    source_start  BIGINT,
    source_end    BIGINT,
    position      TEXT COLLATE "C",
    next_position TEXT COLLATE "C",
    object        TEXT COLLATE "C" NOT NULL REFERENCES objects (object),
    content       TEXT COLLATE "C" NOT NULL,
    content_start BIGINT           NOT NULL,
    content_end   BIGINT           NOT NULL,
    compression   TEXT COLLATE "C",
    preamble      TEXT COLLATE "C",
    bytes         BIGINT           NOT NULL,
    records       BIGINT,
    format        TEXT COLLATE "C" NOT NULL,
    landed_at     BIGINT           NOT NULL
);
CREATE INDEX segments_of_stream ON segments (stream, number);
CREATE INDEX segments_of_object ON segments (object, number);

CREATE TABLE partitions (
    stream        TEXT COLLATE "C" NOT NULL,
    partition     TEXT COLLATE "C" NOT NULL,
    next_position TEXT COLLATE "C" NOT NULL,
    advanced_at   BIGINT           NOT NULL,
    PRIMARY KEY (stream, partition)
);

CREATE TABLE refinements (
    pipeline          TEXT COLLATE "C" NOT NULL,
    segment           TEXT COLLATE "C" NOT NULL,
    state             TEXT COLLATE "C" NOT NULL CHECK (state IN ('loading', 'loaded', 'failed', 'superseded')),
    generation        BIGINT,
    loaded_generation BIGINT,
    load_number       BIGINT,
    revision_id       TEXT COLLATE "C",
    records           BIGINT,
    loaded            BIGINT,
    filtered          BIGINT,
    rejected          BIGINT,
    rescued           BIGINT,
    retryable         BIGINT,
    chosen            BOOLEAN          NOT NULL DEFAULT false,
    attempts          BIGINT           NOT NULL,
    error_class       TEXT COLLATE "C",
    error_message     TEXT COLLATE "C",
    error_hint        TEXT COLLATE "C",
    failed_at         BIGINT,
    retry_at          BIGINT,
    PRIMARY KEY (pipeline, segment)
);
CREATE INDEX refinements_failed ON refinements (pipeline, retry_at) WHERE state = 'failed';
CREATE INDEX refinements_loading ON refinements (pipeline, load_number) WHERE state = 'loading';
CREATE INDEX refinements_healable ON refinements (pipeline, segment)
    WHERE state = 'loaded' AND coalesce(retryable, rejected, 1) > 0;
CREATE INDEX refinements_of_revision ON refinements (pipeline, revision_id) WHERE state = 'loaded';

-- Up to this segment number, all of a stream's segments have a refinement of the pipeline: work() looks behind it.
CREATE TABLE _work_marks (
    pipeline TEXT COLLATE "C" NOT NULL,
    stream   TEXT COLLATE "C" NOT NULL,
    number   BIGINT           NOT NULL,
    PRIMARY KEY (pipeline, stream)
);

-- Loaded segments that are to be refined once more, until a group of them is opened.
CREATE TABLE again (
    pipeline      TEXT COLLATE "C" NOT NULL,
    segment       TEXT COLLATE "C" NOT NULL,
    what          TEXT COLLATE "C" NOT NULL CHECK (what IN ('heal', 'replay')),
    reason        TEXT COLLATE "C" NOT NULL,
    asked_at      BIGINT           NOT NULL,
    attempts      BIGINT           NOT NULL,
    error_class   TEXT COLLATE "C",
    error_message TEXT COLLATE "C",
    error_hint    TEXT COLLATE "C",
    failed_at     BIGINT,
    retry_at      BIGINT,
    revision_id   TEXT COLLATE "C",
    workers       BIGINT,
    PRIMARY KEY (pipeline, segment)
);

-- What became of records that were tried again, since all of their segment was refined last.
CREATE TABLE heals (
    pipeline    TEXT COLLATE "C" NOT NULL,
    segment     TEXT COLLATE "C" NOT NULL,
    generation  BIGINT           NOT NULL,
    load_number BIGINT           NOT NULL,
    revision_id TEXT COLLATE "C" NOT NULL,
    records     BIGINT           NOT NULL,
    loaded      BIGINT           NOT NULL,
    filtered    BIGINT           NOT NULL,
    rejected    BIGINT           NOT NULL,
    rescued     BIGINT           NOT NULL,
    PRIMARY KEY (pipeline, segment, generation)
);
CREATE INDEX heals_of_load ON heals (pipeline, load_number);

-- Groups of loads. `body` is the group without its loads, as JSON, until it is done or withdrawn.
CREATE TABLE _groups (
    pipeline    TEXT COLLATE "C" NOT NULL,
    number      BIGINT           NOT NULL,
    fingerprint TEXT COLLATE "C" NOT NULL,
    body        TEXT COLLATE "C",
    PRIMARY KEY (pipeline, number)
);
CREATE INDEX _groups_open ON _groups (pipeline, number) WHERE body IS NOT NULL;

-- `body` is the load as JSON, staged files included, until it is done or withdrawn.
CREATE TABLE loads (
    pipeline       TEXT COLLATE "C" NOT NULL,
    number         BIGINT           NOT NULL,
    table_name     TEXT COLLATE "C" NOT NULL,
    id             TEXT COLLATE "C" NOT NULL,
    state          TEXT COLLATE "C" NOT NULL CHECK (state IN ('open', 'done', 'withdrawn')),
    revision_id    TEXT COLLATE "C" NOT NULL,
    schema_version BIGINT           NOT NULL,
    files          BIGINT           NOT NULL,
    bytes          BIGINT           NOT NULL,
    rows           BIGINT           NOT NULL,
    removed_rows   BIGINT,
    table_version  BIGINT,
    begun_at       BIGINT           NOT NULL,
    done_at        BIGINT,
    body           TEXT COLLATE "C",
    PRIMARY KEY (pipeline, number, table_name)
);

CREATE TABLE load_segments (
    pipeline   TEXT COLLATE "C" NOT NULL,
    number     BIGINT           NOT NULL,
    table_name TEXT COLLATE "C" NOT NULL,
    segment    TEXT COLLATE "C" NOT NULL,
    files      BIGINT           NOT NULL,
    rows       BIGINT           NOT NULL,
    PRIMARY KEY (pipeline, number, table_name, segment)
);
CREATE INDEX load_segments_of_segment ON load_segments (pipeline, segment);

CREATE TABLE reject_counts (
    pipeline   TEXT COLLATE "C" NOT NULL,
    segment    TEXT COLLATE "C" NOT NULL,
    generation BIGINT           NOT NULL,
    stage      TEXT COLLATE "C" NOT NULL,
    code       TEXT COLLATE "C" NOT NULL,
    records    BIGINT           NOT NULL,
    PRIMARY KEY (pipeline, segment, generation, stage, code)
);

CREATE TABLE schemas (
    pipeline   TEXT COLLATE "C" NOT NULL,
    version    BIGINT           NOT NULL,
    schema     TEXT COLLATE "C" NOT NULL,
    created_at BIGINT           NOT NULL,
    PRIMARY KEY (pipeline, version)
);

CREATE TABLE held_changes (
    table_name  TEXT COLLATE "C" NOT NULL,
    column_name TEXT COLLATE "C" NOT NULL,
    data_type   TEXT COLLATE "C" NOT NULL,
    reason      TEXT COLLATE "C" NOT NULL,
    first_seen  BIGINT           NOT NULL,
    approved    BOOLEAN          NOT NULL,
    PRIMARY KEY (table_name, column_name)
);

CREATE TABLE modules (
    name        TEXT COLLATE "C" NOT NULL,
    sha256      TEXT COLLATE "C" NOT NULL,
    version     TEXT COLLATE "C" NOT NULL,
    bytes       BIGINT           NOT NULL,
    origin      TEXT COLLATE "C" NOT NULL,
    recorded_at BIGINT           NOT NULL,
    PRIMARY KEY (name, sha256)
);

CREATE TABLE _active_modules (
    name   TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    sha256 TEXT COLLATE "C" NOT NULL,
    since  BIGINT           NOT NULL
);

CREATE TABLE module_files (
    path    TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    sha256  TEXT COLLATE "C" NOT NULL,
    seen_at BIGINT           NOT NULL
);

-- `body` is the revision as JSON; `revision` counts from 1 for each pipeline.
CREATE TABLE revisions (
    pipeline    TEXT COLLATE "C" NOT NULL,
    revision    BIGINT           NOT NULL,
    revision_id TEXT COLLATE "C" NOT NULL,
    body        TEXT COLLATE "C" NOT NULL,
    created_at  BIGINT           NOT NULL,
    PRIMARY KEY (pipeline, revision),
    UNIQUE (pipeline, revision_id)
);

-- What a person took back is `cancelled`; what runs beside the active one is in `shadow`.
CREATE TABLE deployments (
    number        BIGINT           PRIMARY KEY DEFAULT _next('deployments'),
    pipeline      TEXT COLLATE "C" NOT NULL,
    revision_id   TEXT COLLATE "C" NOT NULL,
    state         TEXT COLLATE "C" NOT NULL CHECK (state IN ('shadow', 'active', 'retired', 'refused', 'cancelled')),
    reason        TEXT COLLATE "C" NOT NULL,
    deployed_at   BIGINT           NOT NULL,
    retired_at    BIGINT,
    shadow_since  BIGINT,
    shadow_plan   TEXT COLLATE "C",
    shadow_report TEXT COLLATE "C"
);
CREATE UNIQUE INDEX deployments_active ON deployments (pipeline) WHERE state = 'active';
CREATE UNIQUE INDEX deployments_shadow ON deployments (pipeline) WHERE state = 'shadow';

-- Pipelines that are given no work until they are resumed.
CREATE TABLE paused (
    pipeline TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    reason   TEXT COLLATE "C" NOT NULL,
    since    BIGINT           NOT NULL
);

CREATE TABLE requests (
    number      BIGINT           PRIMARY KEY DEFAULT _next('requests'),
    what        TEXT COLLATE "C" NOT NULL,
    arguments   TEXT COLLATE "C" NOT NULL,
    asked_at    BIGINT           NOT NULL,
    answer      TEXT COLLATE "C",
    answered_at BIGINT
);
CREATE INDEX requests_open ON requests (number) WHERE answered_at IS NULL;
