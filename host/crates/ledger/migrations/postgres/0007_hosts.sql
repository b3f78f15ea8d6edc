-- Hosts that share the ledger, and what each does for all of them. A host lives as long as its session has the lock of its token
-- (stores/postgres/lease.rs); its row goes when another finds that it does not.
CREATE TABLE _hosts (
    token   TEXT COLLATE "C" PRIMARY KEY,
    process BIGINT           NOT NULL,
    name    TEXT COLLATE "C",
    since   BIGINT           NOT NULL,
    -- It shares the ledger with nobody.
    alone   BOOLEAN          NOT NULL,
    -- Its lock was found free then.
    silent_since BIGINT,
    -- JSON: the duties that it would take, and pipelines that it cannot load, with why.
    ready   TEXT COLLATE "C" NOT NULL DEFAULT '[]',
    cannot  TEXT COLLATE "C" NOT NULL DEFAULT '{}'
);

-- A duty that has no host is free since then.
CREATE TABLE _duties (
    duty  TEXT COLLATE "C" PRIMARY KEY,
    host  TEXT COLLATE "C" REFERENCES _hosts (token) ON DELETE SET NULL,
    since BIGINT           NOT NULL
);

ALTER TABLE _ledger DROP COLUMN host_lease, DROP COLUMN host_process, DROP COLUMN host_name, DROP COLUMN host_since;
