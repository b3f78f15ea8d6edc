-- Every content that a revision was given under an asset's name. The bytes are kept in the landing zone.
CREATE TABLE assets (
    name        TEXT    NOT NULL,
    sha256      TEXT    NOT NULL,
    bytes       INTEGER NOT NULL,
    origin      TEXT    NOT NULL,
    recorded_at INTEGER NOT NULL,
    PRIMARY KEY (name, sha256)
) WITHOUT ROWID;
