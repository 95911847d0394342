-- Indexes for the engine, which asks about live positions in every cycle (100 ms). Most are partial: a table of
-- positions is mostly history, and the engine asks about the rest. None holds a price, so that a tick, which moves
-- the prices of all live positions, touches as few indexes as can be.

-- Which positions of this connection are live, newest first?
CREATE INDEX IF NOT EXISTS idx_pseudo_positions_live
    ON pseudo_positions (connection_id, opened_at)
    WHERE status = 'active';

-- May one more be opened? How many are live on this side, for this symbol and indication type? Side comes second
-- because the question is also asked of the side alone.
CREATE INDEX IF NOT EXISTS idx_pseudo_positions_limit
    ON pseudo_positions (connection_id, side, symbol, indication_type)
    WHERE status = 'active';

-- Which live positions of this symbol, opened since a given time, could be promoted, and are not yet?
CREATE INDEX IF NOT EXISTS idx_pseudo_positions_symbol
    ON pseudo_positions (connection_id, symbol, created_at)
    WHERE status = 'active';
CREATE INDEX IF NOT EXISTS idx_real_pseudo_positions_main_config
    ON real_pseudo_positions (main_config_id);

-- Which validated positions has the exchange not been given yet? (The other half is their _status index.)
CREATE INDEX IF NOT EXISTS idx_exchange_positions_real
    ON exchange_positions (real_pseudo_position_id);

-- How did the last positions end? The result is there, so that no position has to be read for the average.
CREATE INDEX IF NOT EXISTS idx_pseudo_positions_closed
    ON pseudo_positions (closed_at, profit_loss_percent)
    WHERE status = 'closed' AND closed_at IS NOT NULL;

-- What became of the newest positions of this base configuration at this level?
CREATE INDEX IF NOT EXISTS idx_pseudo_positions_base
    ON pseudo_positions (base_position_id, position_level, created_at)
    WHERE base_position_id IS NOT NULL;

-- Which live positions of this strategy type are the newest, so that the others can be archived? Read
-- backwards, equal times come by falling id, as they are asked for.
CREATE INDEX IF NOT EXISTS idx_pseudo_positions_strategy
    ON pseudo_positions (strategy_type, created_at)
    WHERE status = 'active' AND strategy_type IS NOT NULL;
