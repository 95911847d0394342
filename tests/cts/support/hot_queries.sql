-- H01 indications_direction: newest active indications of a symbol
SELECT id, symbol, profit_factor, confidence, calculated_at FROM indications_direction WHERE connection_id = ?1 AND symbol = ?2 AND status = 'active' ORDER BY calculated_at DESC LIMIT ?3;

-- H01 indications_move: newest active indications of a symbol
SELECT id, symbol, profit_factor, confidence, calculated_at FROM indications_move WHERE connection_id = ?1 AND symbol = ?2 AND status = 'active' ORDER BY calculated_at DESC LIMIT ?3;

-- H01 indications_active: newest active indications of a symbol
SELECT id, symbol, profit_factor, confidence, calculated_at FROM indications_active WHERE connection_id = ?1 AND symbol = ?2 AND status = 'active' ORDER BY calculated_at DESC LIMIT ?3;

-- H01 indications_optimal: newest active indications of a symbol
SELECT id, symbol, profit_factor, confidence, calculated_at FROM indications_optimal WHERE connection_id = ?1 AND symbol = ?2 AND status = 'active' ORDER BY calculated_at DESC LIMIT ?3;

-- H01 indications_auto: newest active indications of a symbol
SELECT id, symbol, profit_factor, confidence, calculated_at FROM indications_auto WHERE connection_id = ?1 AND symbol = ?2 AND status = 'active' ORDER BY calculated_at DESC LIMIT ?3;

-- H02 indications_direction: best active indications of a connection
SELECT id, symbol, profit_factor, confidence FROM indications_direction WHERE connection_id = ?1 AND status = 'active' ORDER BY profit_factor DESC, confidence DESC LIMIT ?2;

-- H02 indications_move: best active indications of a connection
SELECT id, symbol, profit_factor, confidence FROM indications_move WHERE connection_id = ?1 AND status = 'active' ORDER BY profit_factor DESC, confidence DESC LIMIT ?2;

-- H02 indications_active: best active indications of a connection
SELECT id, symbol, profit_factor, confidence FROM indications_active WHERE connection_id = ?1 AND status = 'active' ORDER BY profit_factor DESC, confidence DESC LIMIT ?2;

-- H02 indications_optimal: best active indications of a connection
SELECT id, symbol, profit_factor, confidence FROM indications_optimal WHERE connection_id = ?1 AND status = 'active' ORDER BY profit_factor DESC, confidence DESC LIMIT ?2;

-- H02 indications_auto: best active indications of a connection
SELECT id, symbol, profit_factor, confidence FROM indications_auto WHERE connection_id = ?1 AND status = 'active' ORDER BY profit_factor DESC, confidence DESC LIMIT ?2;

-- H03 indications_direction: indications since a given time
SELECT id, symbol, profit_factor, calculated_at FROM indications_direction WHERE connection_id = ?1 AND calculated_at > ?2 ORDER BY calculated_at DESC LIMIT ?3;

-- H03 indications_move: indications since a given time
SELECT id, symbol, profit_factor, calculated_at FROM indications_move WHERE connection_id = ?1 AND calculated_at > ?2 ORDER BY calculated_at DESC LIMIT ?3;

-- H03 indications_active: indications since a given time
SELECT id, symbol, profit_factor, calculated_at FROM indications_active WHERE connection_id = ?1 AND calculated_at > ?2 ORDER BY calculated_at DESC LIMIT ?3;

-- H03 indications_optimal: indications since a given time
SELECT id, symbol, profit_factor, calculated_at FROM indications_optimal WHERE connection_id = ?1 AND calculated_at > ?2 ORDER BY calculated_at DESC LIMIT ?3;

-- H03 indications_auto: indications since a given time
SELECT id, symbol, profit_factor, calculated_at FROM indications_auto WHERE connection_id = ?1 AND calculated_at > ?2 ORDER BY calculated_at DESC LIMIT ?3;

-- H04 strategies_base: running strategies of a symbol, newest first
SELECT id, symbol, status, profit_factor, created_at FROM strategies_base WHERE connection_id = ?1 AND symbol = ?2 AND status IN ('active', 'open') ORDER BY created_at DESC LIMIT ?3;

-- H04 strategies_main: running strategies of a symbol, newest first
SELECT id, symbol, status, profit_factor, created_at FROM strategies_main WHERE connection_id = ?1 AND symbol = ?2 AND status IN ('active', 'open') ORDER BY created_at DESC LIMIT ?3;

-- H04 strategies_real: running strategies of a symbol, newest first
SELECT id, symbol, status, profit_factor, created_at FROM strategies_real WHERE connection_id = ?1 AND symbol = ?2 AND status IN ('active', 'open') ORDER BY created_at DESC LIMIT ?3;

-- H04 strategies_block: running strategies of a symbol, newest first
SELECT id, symbol, status, profit_factor, created_at FROM strategies_block WHERE connection_id = ?1 AND symbol = ?2 AND status IN ('active', 'open') ORDER BY created_at DESC LIMIT ?3;

-- H04 strategies_dca: running strategies of a symbol, newest first
SELECT id, symbol, status, profit_factor, created_at FROM strategies_dca WHERE connection_id = ?1 AND symbol = ?2 AND status IN ('active', 'open') ORDER BY created_at DESC LIMIT ?3;

-- H04 strategies_trailing: running strategies of a symbol, newest first
SELECT id, symbol, status, profit_factor, created_at FROM strategies_trailing WHERE connection_id = ?1 AND symbol = ?2 AND status IN ('active', 'open') ORDER BY created_at DESC LIMIT ?3;

-- H05 strategies_base: best active strategies of a connection
SELECT id, symbol, profit_factor, win_rate FROM strategies_base WHERE connection_id = ?1 AND status = 'active' ORDER BY profit_factor DESC, win_rate DESC LIMIT ?2;

-- H05 strategies_main: best active strategies of a connection
SELECT id, symbol, profit_factor, win_rate FROM strategies_main WHERE connection_id = ?1 AND status = 'active' ORDER BY profit_factor DESC, win_rate DESC LIMIT ?2;

-- H05 strategies_block: best active strategies of a connection
SELECT id, symbol, profit_factor, win_rate FROM strategies_block WHERE connection_id = ?1 AND status = 'active' ORDER BY profit_factor DESC, win_rate DESC LIMIT ?2;

-- H05 strategies_dca: best active strategies of a connection
SELECT id, symbol, profit_factor, win_rate FROM strategies_dca WHERE connection_id = ?1 AND status = 'active' ORDER BY profit_factor DESC, win_rate DESC LIMIT ?2;

-- H05 strategies_trailing: best active strategies of a connection
SELECT id, symbol, profit_factor, win_rate FROM strategies_trailing WHERE connection_id = ?1 AND status = 'active' ORDER BY profit_factor DESC, win_rate DESC LIMIT ?2;

-- H06 strategies_real: open trades by result
SELECT id, symbol, side, entry_price, profit_loss FROM strategies_real WHERE connection_id = ?1 AND status = 'open' ORDER BY profit_loss DESC LIMIT ?2;

-- H07 strategies_real: totals of closed trades
SELECT COUNT(*) AS n, SUM(CASE WHEN profit_loss > 0 THEN 1 ELSE 0 END) AS wins, SUM(CASE WHEN profit_loss < 0 THEN 1 ELSE 0 END) AS losses, SUM(profit_loss) AS pnl, MAX(profit_loss) AS best, MIN(profit_loss) AS worst FROM strategies_real WHERE connection_id = ?1 AND status = 'closed';

-- H08 pseudo_positions: live positions, newest first
SELECT id, symbol, side, entry_price, current_price, quantity, profit_factor, opened_at FROM pseudo_positions WHERE connection_id = ?1 AND status = 'active' ORDER BY opened_at DESC LIMIT ?2;

-- H09 pseudo_positions: live positions on one side, counted
SELECT COUNT(*) FROM pseudo_positions WHERE connection_id = ?1 AND side = ?2 AND status = 'active';

-- H10 pseudo_positions: live positions against a limit
SELECT COUNT(*) FROM pseudo_positions WHERE connection_id = ?1 AND symbol = ?2 AND indication_type = ?3 AND side = ?4 AND status = 'active';

-- H11 pseudo_positions: live positions of one exact configuration
SELECT COUNT(*) FROM pseudo_positions WHERE connection_id = ?1 AND symbol = ?2 AND indication_type = ?3 AND side = ?4 AND takeprofit_factor = ?5 AND stoploss_ratio = ?6 AND trailing_enabled = ?7 AND status = 'active';

-- H12 pseudo_positions: open a position, get its id
INSERT INTO pseudo_positions (connection_id, symbol, indication_type, side, entry_price, current_price, quantity, position_cost, takeprofit_factor, stoploss_ratio, profit_factor, trailing_enabled) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) RETURNING id;

-- H13 pseudo_positions: move a price
UPDATE pseudo_positions SET current_price = ?1, profit_factor = ?2, updated_at = ?3 WHERE id = ?4;

-- H14 pseudo_positions: close a position with a reason
UPDATE pseudo_positions SET status = 'closed', closed_at = ?1, close_reason = ?2 WHERE id = ?3 AND status = 'active';

-- H15 pseudo_positions: positions to promote
SELECT p.id, p.side, p.entry_price, p.profit_factor FROM pseudo_positions p WHERE p.connection_id = ?1 AND p.symbol = ?2 AND p.status = 'active' AND p.profit_factor >= ?3 AND p.created_at > ?4 AND NOT EXISTS (SELECT 1 FROM real_pseudo_positions r WHERE r.main_config_id = p.id);

-- H16 pseudo_positions: average result of the last closed positions
SELECT AVG(profit_loss_percent) FROM (SELECT profit_loss_percent FROM pseudo_positions WHERE status = 'closed' AND closed_at IS NOT NULL ORDER BY closed_at DESC LIMIT ?1) AS latest;

-- H17 pseudo_positions: newest positions of a base configuration
SELECT id, status, profit_loss, created_at FROM pseudo_positions WHERE base_position_id = ?1 AND position_level = ?2 AND status IN ('main_closed', 'main_active') ORDER BY created_at DESC LIMIT ?3;

-- H18 real_pseudo_positions: validated positions not at the exchange yet
SELECT r.id, r.symbol, r.side, r.entry_price, r.quantity FROM real_pseudo_positions r WHERE r.connection_id = ?1 AND r.status = 'validated' AND NOT EXISTS (SELECT 1 FROM exchange_positions e WHERE e.real_pseudo_position_id = r.id) ORDER BY r.validated_at DESC LIMIT ?2;

-- H19 pseudo_positions: totals of a connection
SELECT COUNT(*), SUM(CASE WHEN status = 'active' THEN 1 ELSE 0 END), SUM(CASE WHEN status = 'closed' THEN 1 ELSE 0 END), AVG(profit_factor) FROM pseudo_positions WHERE connection_id = ?1;

-- H20 system_settings: read a setting
SELECT value FROM system_settings WHERE key = ?1;

-- H21 system_settings: write a setting
INSERT INTO system_settings (key, value, updated_at) VALUES (?1, ?2, ?3) ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at;

-- H22 system_settings: settings of a category
SELECT key, value FROM system_settings WHERE category = ?1 ORDER BY key;

-- H23 site_logs: append a log line
INSERT INTO site_logs (level, category, message, context, user_id, connection_id, error_message, error_stack, metadata) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9);

-- H24 site_logs: newest log lines of a level and category
SELECT id, timestamp, level, category, message FROM site_logs WHERE level = ?1 AND category = ?2 ORDER BY timestamp DESC LIMIT ?3;

-- H25 site_logs: newest log lines of a connection
SELECT timestamp, level, message, metadata FROM site_logs WHERE connection_id = ?1 ORDER BY timestamp DESC LIMIT ?2;

-- H26 site_logs: log lines by level since a given time
SELECT level, COUNT(*) FROM site_logs WHERE timestamp > ?1 GROUP BY level;

-- H27 exchange_connections: one connection
SELECT id, name, exchange, is_enabled, is_active, connection_settings FROM exchange_connections WHERE id = ?1;

-- H28 exchange_connections: switch a connection
UPDATE exchange_connections SET is_enabled = ?1, is_live_trade = ?2, updated_at = ?3 WHERE id = ?4;

-- H29 exchange_connections: connections to run
SELECT id, exchange FROM exchange_connections WHERE is_enabled AND is_active ORDER BY created_at DESC;

-- H30 connection_coordination: heartbeat
INSERT INTO connection_coordination (connection_id, status, last_heartbeat) VALUES (?1, ?2, ?3) ON CONFLICT (connection_id) DO UPDATE SET status = excluded.status, last_heartbeat = excluded.last_heartbeat;

-- H30 connection_coordination: connections not heard of for long
SELECT connection_id FROM connection_coordination WHERE status = ?1 AND last_heartbeat < ?2 ORDER BY last_heartbeat LIMIT ?3;

-- H31 indication_states: touch a cooldown marker
INSERT INTO indication_states (state_key, validated_at) VALUES (?1, ?2) ON CONFLICT (state_key) DO UPDATE SET validated_at = excluded.validated_at;

-- H32 pseudo_positions: archive all but the newest positions of a strategy type
UPDATE pseudo_positions SET status = 'archived', updated_at = ?1 WHERE strategy_type = ?2 AND status = 'active' AND id NOT IN (SELECT id FROM pseudo_positions WHERE strategy_type = ?2 AND status = 'active' ORDER BY created_at DESC, id DESC LIMIT ?3);
