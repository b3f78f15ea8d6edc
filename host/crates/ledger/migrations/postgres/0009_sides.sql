-- Replays whose rows go to tables beside those of their pipeline (`replay --into`), and the segments that each refines.
CREATE TABLE sides (
    pipeline    TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    id          TEXT COLLATE "C" NOT NULL,
    of_pipeline TEXT COLLATE "C" NOT NULL,
    revision_id TEXT COLLATE "C" NOT NULL,
    workers     BIGINT,
    reason      TEXT COLLATE "C" NOT NULL,
    asked_at    BIGINT NOT NULL,
    dropped     BOOLEAN NOT NULL
);
CREATE TABLE side_segments (
    pipeline TEXT COLLATE "C" NOT NULL,
    segment  TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (pipeline, segment)
);
