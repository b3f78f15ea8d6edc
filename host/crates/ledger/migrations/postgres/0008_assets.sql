-- Every content that a revision was given under an asset's name. The bytes are kept in the landing zone.
CREATE TABLE assets (
    name        TEXT COLLATE "C" NOT NULL,
    sha256      TEXT COLLATE "C" NOT NULL,
    bytes       BIGINT           NOT NULL,
    origin      TEXT COLLATE "C" NOT NULL,
    recorded_at BIGINT           NOT NULL,
    PRIMARY KEY (name, sha256)
);
