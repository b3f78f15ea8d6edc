-- Up to where a stream had landed when a pipeline began to read it: that is its history, which it takes beside what has landed since.
-- `done` is the place up to which all of that has a refinement; there is a row for each pipeline and stream that ever began.
CREATE TABLE histories (
    pipeline TEXT    NOT NULL,
    stream   TEXT    NOT NULL,
    number   INTEGER NOT NULL,
    done     INTEGER NOT NULL,
    began_at INTEGER NOT NULL,
    PRIMARY KEY (pipeline, stream)
) WITHOUT ROWID;
