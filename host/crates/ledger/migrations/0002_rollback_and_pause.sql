-- A revision that a person took back is `cancelled`: what the config means is not deployed again by itself. SQLite changes no
-- CHECK in place, so the table is made anew.
CREATE TABLE deployments_2 (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    pipeline    TEXT    NOT NULL,
    revision_id TEXT    NOT NULL,
    state       TEXT    NOT NULL CHECK (state IN ('active', 'retired', 'refused', 'cancelled')),
    reason      TEXT    NOT NULL,
    deployed_at INTEGER NOT NULL,
    retired_at  INTEGER
);
INSERT INTO deployments_2 (number, pipeline, revision_id, state, reason, deployed_at, retired_at)
    SELECT number, pipeline, revision_id, state, reason, deployed_at, retired_at FROM deployments;
DROP TABLE deployments;
ALTER TABLE deployments_2 RENAME TO deployments;
CREATE UNIQUE INDEX deployments_active ON deployments (pipeline) WHERE state = 'active';

-- Pipelines that are given no work until they are resumed.
CREATE TABLE paused (
    pipeline TEXT    NOT NULL PRIMARY KEY,
    reason   TEXT    NOT NULL,
    since    INTEGER NOT NULL
) WITHOUT ROWID;
