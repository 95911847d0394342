-- Indexes for the queries of the engine on live positions (status = 'active'), asked in each cycle of 100 ms. Most are
-- partial, since most rows of a table of positions are closed positions. None contains a price, so that a tick, which
-- writes the prices of all live positions, changes as few indexes as possible.

-- Serves the live positions of a connection, newest first.
CREATE INDEX IF NOT EXISTS idx_pseudo_positions_live
    ON pseudo_positions (connection_id, opened_at)
    WHERE status = 'active';

-- Serves the limit check before a position is opened: the number of live positions of a connection, side, symbol and
-- indication type. Side comes second, since the number is also asked for by side alone.
CREATE INDEX IF NOT EXISTS idx_pseudo_positions_limit
    ON pseudo_positions (connection_id, side, symbol, indication_type)
    WHERE status = 'active';

-- Serves the search for live positions to promote: those of a connection and symbol created since a given time.
CREATE INDEX IF NOT EXISTS idx_pseudo_positions_symbol
    ON pseudo_positions (connection_id, symbol, created_at)
    WHERE status = 'active';

-- Serves the search for positions to promote: whether a position was promoted already.
CREATE INDEX IF NOT EXISTS idx_real_pseudo_positions_main_config
    ON real_pseudo_positions (main_config_id);

-- Serves deleting old positions: whether one is referred to.
CREATE INDEX IF NOT EXISTS idx_real_pseudo_positions_main_position
    ON real_pseudo_positions (main_position_id);

-- Serves the search for validated positions without a position at the exchange, together with
-- idx_real_pseudo_positions_status.
CREATE INDEX IF NOT EXISTS idx_exchange_positions_real
    ON exchange_positions (real_pseudo_position_id);

-- Serves the average result of the positions closed last, for which no position has to be read, the statistics of a day,
-- and deleting old positions.
CREATE INDEX IF NOT EXISTS idx_pseudo_positions_closed
    ON pseudo_positions (closed_at, status, profit_loss_percent)
    WHERE closed_at IS NOT NULL;

-- Serves the newest positions of a base configuration at a level.
CREATE INDEX IF NOT EXISTS idx_pseudo_positions_base
    ON pseudo_positions (base_position_id, position_level, created_at)
    WHERE base_position_id IS NOT NULL;

-- Serves archiving all but the newest live positions of a type of strategy. Read backwards, positions of equal time
-- are in descending order of id, as the query asks for them.
CREATE INDEX IF NOT EXISTS idx_pseudo_positions_strategy
    ON pseudo_positions (strategy_type, created_at)
    WHERE status = 'active' AND strategy_type IS NOT NULL;
