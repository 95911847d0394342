-- Indexes for the queries of the trading programs and the dashboard, as in the file of the same name in schema/sqlite,
-- where they are described.

CREATE INDEX IF NOT EXISTS idx_indications_direction_live
    ON indications_direction (connection_id, symbol, calculated_at)
    WHERE status = 'active';
CREATE INDEX IF NOT EXISTS idx_indications_move_live
    ON indications_move (connection_id, symbol, calculated_at)
    WHERE status = 'active';
CREATE INDEX IF NOT EXISTS idx_indications_active_live
    ON indications_active (connection_id, symbol, calculated_at)
    WHERE status = 'active';
CREATE INDEX IF NOT EXISTS idx_indications_optimal_live
    ON indications_optimal (connection_id, symbol, calculated_at)
    WHERE status = 'active';
CREATE INDEX IF NOT EXISTS idx_indications_auto_live
    ON indications_auto (connection_id, symbol, calculated_at)
    WHERE status = 'active';

CREATE INDEX IF NOT EXISTS idx_indications_direction_best
    ON indications_direction (connection_id, profit_factor DESC, confidence DESC)
    WHERE status = 'active';
CREATE INDEX IF NOT EXISTS idx_indications_move_best
    ON indications_move (connection_id, profit_factor DESC, confidence DESC)
    WHERE status = 'active';
CREATE INDEX IF NOT EXISTS idx_indications_active_best
    ON indications_active (connection_id, profit_factor DESC, confidence DESC)
    WHERE status = 'active';
CREATE INDEX IF NOT EXISTS idx_indications_optimal_best
    ON indications_optimal (connection_id, profit_factor DESC, confidence DESC)
    WHERE status = 'active';
CREATE INDEX IF NOT EXISTS idx_indications_auto_best
    ON indications_auto (connection_id, profit_factor DESC, confidence DESC)
    WHERE status = 'active';

-- connection_id is not part of it, unlike on SQLite. Rows come in order of time, so that each entry is added at the end:
-- at 10⁶ rows an entry takes 22 bytes instead of 86, which inserts feel. The statement reads the newest rows of all
-- connections back to the given time, and takes twice as long: 125 instead of 65 µs, and 2.1 ms for a connection without a row.
CREATE INDEX IF NOT EXISTS idx_indications_direction_recent
    ON indications_direction (calculated_at);
CREATE INDEX IF NOT EXISTS idx_indications_move_recent
    ON indications_move (calculated_at);
CREATE INDEX IF NOT EXISTS idx_indications_active_recent
    ON indications_active (calculated_at);
CREATE INDEX IF NOT EXISTS idx_indications_optimal_recent
    ON indications_optimal (calculated_at);
CREATE INDEX IF NOT EXISTS idx_indications_auto_recent
    ON indications_auto (calculated_at);

CREATE INDEX IF NOT EXISTS idx_strategies_base_live
    ON strategies_base (connection_id, symbol, created_at)
    WHERE status IN ('active', 'open');
CREATE INDEX IF NOT EXISTS idx_strategies_main_live
    ON strategies_main (connection_id, symbol, created_at)
    WHERE status IN ('active', 'open');
CREATE INDEX IF NOT EXISTS idx_strategies_real_live
    ON strategies_real (connection_id, symbol, created_at)
    WHERE status IN ('active', 'open');
CREATE INDEX IF NOT EXISTS idx_strategies_block_live
    ON strategies_block (connection_id, symbol, created_at)
    WHERE status IN ('active', 'open');
CREATE INDEX IF NOT EXISTS idx_strategies_dca_live
    ON strategies_dca (connection_id, symbol, created_at)
    WHERE status IN ('active', 'open');
CREATE INDEX IF NOT EXISTS idx_strategies_trailing_live
    ON strategies_trailing (connection_id, symbol, created_at)
    WHERE status IN ('active', 'open');

CREATE INDEX IF NOT EXISTS idx_system_settings_category
    ON system_settings (category, key);

CREATE INDEX IF NOT EXISTS idx_site_logs_category
    ON site_logs (category, level, timestamp);

CREATE INDEX IF NOT EXISTS idx_site_logs_connection
    ON site_logs (connection_id, timestamp)
    WHERE connection_id IS NOT NULL;

CREATE INDEX IF NOT EXISTS idx_site_logs_time
    ON site_logs (timestamp, level);

CREATE INDEX IF NOT EXISTS idx_exchange_connections_running
    ON exchange_connections (created_at)
    WHERE is_enabled AND is_active;
