-- How many of a segment's rejected records a later revision may accept; NULL where it is not known.
ALTER TABLE refinements ADD COLUMN retryable INTEGER;
CREATE INDEX refinements_healable ON refinements (pipeline, segment)
    WHERE state = 'loaded' AND coalesce(retryable, rejected, 1) > 0;

-- Loaded segments that are to be refined once more, until a group of them is opened.
CREATE TABLE again (
    pipeline      TEXT    NOT NULL,
    segment       TEXT    NOT NULL,
    what          TEXT    NOT NULL CHECK (what IN ('heal', 'replay')),
    reason        TEXT    NOT NULL,
    asked_at      INTEGER NOT NULL,
    attempts      INTEGER NOT NULL,
    error_class   TEXT,
    error_message TEXT,
    error_hint    TEXT,
    failed_at     INTEGER,
    retry_at      INTEGER,
    PRIMARY KEY (pipeline, segment)
) WITHOUT ROWID;

-- What became of records that were tried again, since all of their segment was refined last.
CREATE TABLE heals (
    pipeline    TEXT    NOT NULL,
    segment     TEXT    NOT NULL,
    generation  INTEGER NOT NULL,
    load_number INTEGER NOT NULL,
    revision_id TEXT    NOT NULL,
    records     INTEGER NOT NULL,
    loaded      INTEGER NOT NULL,
    filtered    INTEGER NOT NULL,
    rejected    INTEGER NOT NULL,
    rescued     INTEGER NOT NULL,
    PRIMARY KEY (pipeline, segment, generation)
) WITHOUT ROWID;
CREATE INDEX heals_of_load ON heals (pipeline, load_number);
