-- Indexes for the queries of the engine on live positions, as in the file of the same name in schema/sqlite, where they
-- are described.

CREATE INDEX IF NOT EXISTS idx_pseudo_positions_live
    ON pseudo_positions (connection_id, opened_at)
    WHERE status = 'active';

CREATE INDEX IF NOT EXISTS idx_pseudo_positions_limit
    ON pseudo_positions (connection_id, side, symbol, indication_type)
    WHERE status = 'active';

CREATE INDEX IF NOT EXISTS idx_pseudo_positions_symbol
    ON pseudo_positions (connection_id, symbol, created_at)
    WHERE status = 'active';

CREATE INDEX IF NOT EXISTS idx_real_pseudo_positions_main_config
    ON real_pseudo_positions (main_config_id);

CREATE INDEX IF NOT EXISTS idx_real_pseudo_positions_main_position
    ON real_pseudo_positions (main_position_id);

CREATE INDEX IF NOT EXISTS idx_exchange_positions_real
    ON exchange_positions (real_pseudo_position_id);

CREATE INDEX IF NOT EXISTS idx_pseudo_positions_closed
    ON pseudo_positions (closed_at, status, profit_loss_percent)
    WHERE closed_at IS NOT NULL;

CREATE INDEX IF NOT EXISTS idx_pseudo_positions_base
    ON pseudo_positions (base_position_id, position_level, created_at)
    WHERE base_position_id IS NOT NULL;

CREATE INDEX IF NOT EXISTS idx_pseudo_positions_strategy
    ON pseudo_positions (strategy_type, created_at)
    WHERE status = 'active' AND strategy_type IS NOT NULL;
