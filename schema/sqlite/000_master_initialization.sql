-- The fallback, applied first where the unified setup cannot be applied to an existing database, which an older CTS
-- made. It prepares the ledger and nothing else. The other tables are completed from the catalogue of the other files.
-- A column that the ledger already has counts as skipped.

-- The ledger, as in unified_complete_setup.sql.
CREATE TABLE IF NOT EXISTS migrations (
    id                INTEGER PRIMARY KEY,
    name              TEXT NOT NULL,
    checksum          TEXT,
    executed_at       TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    execution_time_ms INTEGER,
    version           TEXT
);

-- Columns that the ledger of an older CTS does not have.
ALTER TABLE migrations ADD COLUMN checksum TEXT;
ALTER TABLE migrations ADD COLUMN execution_time_ms INTEGER;
ALTER TABLE migrations ADD COLUMN version TEXT;
