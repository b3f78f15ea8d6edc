-- Replays whose rows go to tables beside those of their pipeline (`replay --into`), and the segments that each refines.
CREATE TABLE sides (
    pipeline    TEXT NOT NULL PRIMARY KEY,
    id          TEXT NOT NULL,
    of_pipeline TEXT NOT NULL,
    revision_id TEXT NOT NULL,
    workers     INTEGER,
    reason      TEXT NOT NULL,
    asked_at    INTEGER NOT NULL,
    dropped     INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE side_segments (
    pipeline TEXT NOT NULL,
    segment  TEXT NOT NULL,
    PRIMARY KEY (pipeline, segment)
) WITHOUT ROWID;
