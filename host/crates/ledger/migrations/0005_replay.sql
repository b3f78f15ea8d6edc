-- How a replay was asked for: under which revision, and by how many workers at once; NULL where nobody said.
ALTER TABLE again ADD COLUMN revision_id TEXT;
ALTER TABLE again ADD COLUMN workers INTEGER;

-- Whether a replay asked for the revision: what it rejected is not tried again by itself.
ALTER TABLE refinements ADD COLUMN chosen INTEGER NOT NULL DEFAULT 0;
