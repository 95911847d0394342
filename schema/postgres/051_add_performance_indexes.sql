-- Indexes for what the trading programs and the dashboard ask all day of indications, strategies, logs, settings
-- and connections. What the engine asks about positions is in the next file.
--
-- A partial index answers only a query that holds the same literal, such as status = 'active'. Where a program binds
-- the status instead, the full indexes of the unified setup still narrow the search to the connection.
--
-- Times ascend. A search reads them backwards as fast, and since rows come in the order of time, pages are filled to
-- the end; where times descend, each page is split in the middle and stays half empty.

-- Which indications of this symbol are active, newest first? The full index of the unified setup would read all the
-- symbol's history to find them, and its index of active ones all symbols of the connection.
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

-- Which active indications of this connection are best, by profit factor and then confidence?
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

-- What has been calculated for this connection since a given time, for all symbols and in any status?
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

-- Which strategies are running for this connection and symbol, newest first?
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

-- Which settings belong to this category, in order of their keys?
CREATE INDEX IF NOT EXISTS idx_system_settings_category
    ON system_settings (category, key);

-- What are the newest log lines of this category and level? Category comes first so that counting by level is not
-- tempted to read this index from end to end.
CREATE INDEX IF NOT EXISTS idx_site_logs_category
    ON site_logs (category, level, timestamp);

-- What are the newest log lines of this connection? Lines that name none are left out.
CREATE INDEX IF NOT EXISTS idx_site_logs_connection
    ON site_logs (connection_id, timestamp)
    WHERE connection_id IS NOT NULL;

-- How many log lines of each level since a given time, which are newest, and which are old enough to go?
CREATE INDEX IF NOT EXISTS idx_site_logs_time
    ON site_logs (timestamp, level);

-- Which connections are to be run, newest first? The index holds these and no others, so reading all of it is
-- the answer.
CREATE INDEX IF NOT EXISTS idx_exchange_connections_running
    ON exchange_connections (created_at)
    WHERE is_enabled AND is_active;
