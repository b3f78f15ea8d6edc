-- A file has one host: there is nothing to divide. PostgreSQL's ledger has tables for that, of the same version.
SELECT 1;
