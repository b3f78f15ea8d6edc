-- A revision that runs beside the active one is in `shadow`, with what was asked for and what came of it. SQLite changes no CHECK in
-- place, so the table is made anew.
CREATE TABLE deployments_4 (
    number        INTEGER PRIMARY KEY AUTOINCREMENT,
    pipeline      TEXT    NOT NULL,
    revision_id   TEXT    NOT NULL,
    state         TEXT    NOT NULL CHECK (state IN ('shadow', 'active', 'retired', 'refused', 'cancelled')),
    reason        TEXT    NOT NULL,
    deployed_at   INTEGER NOT NULL,
    retired_at    INTEGER,
    shadow_since  INTEGER,
    shadow_plan   TEXT,
    shadow_report TEXT
);
INSERT INTO deployments_4 (number, pipeline, revision_id, state, reason, deployed_at, retired_at)
    SELECT number, pipeline, revision_id, state, reason, deployed_at, retired_at FROM deployments;
DROP TABLE deployments;
ALTER TABLE deployments_4 RENAME TO deployments;
CREATE UNIQUE INDEX deployments_active ON deployments (pipeline) WHERE state = 'active';
CREATE UNIQUE INDEX deployments_shadow ON deployments (pipeline) WHERE state = 'shadow';

-- What a revision has loaded, the newest first.
CREATE INDEX refinements_of_revision ON refinements (pipeline, revision_id) WHERE state = 'loaded';
