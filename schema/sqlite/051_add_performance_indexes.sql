-- Indexes for the queries of the trading programs and the dashboard on indications, strategies, logs, settings and
-- connections. The indexes for positions are in the next file.
--
-- A partial index serves only a query that contains the same condition as a literal, such as status = 'active'. Where a
-- program binds the status as a parameter, the full indexes of the unified setup narrow the search to the connection.
--
-- Times ascend in these indexes. They are read backwards at the same speed, and since rows are inserted in the order of
-- time, pages are filled completely. In a descending index each page is split in the middle and stays half empty.

-- Serves the newest active indications of a connection and symbol. The full index of the unified setup would read all
-- indications of the symbol, and its index of active ones those of all symbols of the connection.
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

-- Serves the best active indications of a connection, by profit factor and then confidence.
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

-- Serves the indications of a connection calculated since a given time, for all symbols and in any status.
CREATE INDEX IF NOT EXISTS idx_indications_direction_recent
    ON indications_direction (connection_id, calculated_at);
CREATE INDEX IF NOT EXISTS idx_indications_move_recent
    ON indications_move (connection_id, calculated_at);
CREATE INDEX IF NOT EXISTS idx_indications_active_recent
    ON indications_active (connection_id, calculated_at);
CREATE INDEX IF NOT EXISTS idx_indications_optimal_recent
    ON indications_optimal (connection_id, calculated_at);
CREATE INDEX IF NOT EXISTS idx_indications_auto_recent
    ON indications_auto (connection_id, calculated_at);

-- Serves the newest running strategies of a connection and symbol.
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

-- Serves the settings of a category, in order of their keys.
CREATE INDEX IF NOT EXISTS idx_system_settings_category
    ON system_settings (category, key);

-- Serves the newest log lines of a category and level. Category comes first, so that the planner does not choose this
-- index for counting log lines by level, for which it would have to be read completely.
CREATE INDEX IF NOT EXISTS idx_site_logs_category
    ON site_logs (category, level, timestamp);

-- Serves the newest log lines of a connection. Log lines without a connection take no space in it.
CREATE INDEX IF NOT EXISTS idx_site_logs_connection
    ON site_logs (connection_id, timestamp)
    WHERE connection_id IS NOT NULL;

-- Serves the number of log lines by level since a given time, the newest log lines, and deleting old log lines.
CREATE INDEX IF NOT EXISTS idx_site_logs_time
    ON site_logs (timestamp, level);

-- Serves the connections to run, newest first. It contains only these, so that all of it is the answer.
CREATE INDEX IF NOT EXISTS idx_exchange_connections_running
    ON exchange_connections (created_at)
    WHERE is_enabled AND is_active;
