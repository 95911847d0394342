-- The two coordination tables and their indexes. The form of the comments is described in unified_complete_setup.sql.

-- Coordination: tables by which programs that run at the same time coordinate. They hold the present state and no
-- history.

-- The state of one connection: what is being done for it, and when that was last reported. No program is known that
-- uses this table.
--
--   connection_id      connection; text, exchange_connections.id; not written; not read
--   status             what the connection is doing; text, such as idle; not written; not read
--   current_operation  operation under way; text, NULL where there is none; not written; not read
--   last_heartbeat     when the running program last reported; UTC time; not written; not read
CREATE TABLE IF NOT EXISTS connection_coordination (
    connection_id     TEXT PRIMARY KEY NOT NULL REFERENCES exchange_connections (id) ON DELETE CASCADE,
    status            TEXT DEFAULT 'idle',
    current_operation TEXT,
    last_heartbeat    TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);

-- One indication state and when it was last acted upon (cooldown). Programs write key and time only.
--
--   id             row id; integer; written by database; not read
--   connection_id  connection the state belongs to; text, exchange_connections.id, NULL where the program names none;
--                  not written; not read
--   state_key      key of the state; text, unique; written by engine; read by engine
--   state_value    value of the state; JSON; not written; not read
--   validated_at   when the state was last acted upon; UTC time; written by database, engine; read by engine
CREATE TABLE IF NOT EXISTS indication_states (
    id            INTEGER PRIMARY KEY,
    connection_id TEXT REFERENCES exchange_connections (id) ON DELETE CASCADE,
    state_key     TEXT NOT NULL,
    state_value   TEXT,
    validated_at  TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);

-- Serves the connections in a status whose last heartbeat is older than a given time.
CREATE INDEX IF NOT EXISTS idx_connection_coordination_heartbeat
    ON connection_coordination (status, last_heartbeat);

-- Enforces one row for each state, the conflict target of programs that write states (ON CONFLICT (state_key)). Serves
-- reading a state by key.
CREATE UNIQUE INDEX IF NOT EXISTS idx_indication_states_key
    ON indication_states (state_key);

-- Serves deleting the states of a connection (foreign key).
CREATE INDEX IF NOT EXISTS idx_indication_states_connection
    ON indication_states (connection_id);
