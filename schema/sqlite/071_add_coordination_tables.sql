-- The two tables by which engines that run side by side keep out of the way of one another, and their indexes. They
-- hold the state of the moment, not history.

-- What is being done for a connection at this moment, and when that was last heard of. One row for each connection.
CREATE TABLE IF NOT EXISTS connection_coordination (
    connection_id     TEXT PRIMARY KEY NOT NULL REFERENCES exchange_connections (id) ON DELETE CASCADE,
    status            TEXT DEFAULT 'idle',
    current_operation TEXT,
    last_heartbeat    TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);

-- Cooldown markers: when an indication state was last acted upon. Programs write key and time alone, so the
-- connection may be absent.
CREATE TABLE IF NOT EXISTS indication_states (
    id            INTEGER PRIMARY KEY,
    connection_id TEXT REFERENCES exchange_connections (id) ON DELETE CASCADE,
    state_key     TEXT NOT NULL,
    state_value   TEXT,
    validated_at  TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);

-- Which connections in this status have not been heard of since a given time?
CREATE INDEX IF NOT EXISTS idx_connection_coordination_heartbeat
    ON connection_coordination (status, last_heartbeat);

-- When was this state last acted upon? Programs write markers with ON CONFLICT (state_key).
CREATE UNIQUE INDEX IF NOT EXISTS idx_indication_states_key
    ON indication_states (state_key);

-- The foreign key: which markers go with a connection?
CREATE INDEX IF NOT EXISTS idx_indication_states_connection
    ON indication_states (connection_id);
