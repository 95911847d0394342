//! The scripts of the original CTS, in short: `@id` and other marks stand for repeated definitions.

/// A time of another type, a ledger row without a time and one with the name of a script, a state
/// of a deleted connection, and sequences ahead of their tables.
pub const UNIFIED_ROWS: &str = "\
    UPDATE strategies_dca SET updated_at = 1740821400123 WHERE id = 3;
    UPDATE migrations SET executed_at = NULL WHERE id = 5;
    INSERT INTO migrations (name) VALUES ('unified_complete_setup.sql');
    INSERT INTO connection_coordination (connection_id) VALUES ('77');
    DELETE FROM site_logs WHERE id = (SELECT max(id) FROM site_logs);
    DELETE FROM pseudo_positions WHERE id = (SELECT max(id) FROM pseudo_positions);";

/// Objects that the owner of the database added: a table that references ours, a view of ours, a
/// broken view, and triggers, indexes and columns on our tables.
pub const THEIR_OWN: &str = r#"
    ALTER TABLE users ADD COLUMN my_nickname TEXT DEFAULT 'n''é' COLLATE NOCASE;
    ALTER TABLE users ADD COLUMN my_shout TEXT GENERATED ALWAYS AS (upper(username)) VIRTUAL;
    ALTER TABLE exchange_connections ADD COLUMN "my rank ü" INTEGER NOT NULL DEFAULT 7;
    UPDATE users SET my_nickname = 'Ünal' WHERE id = 3;
    CREATE TABLE my_notes (id INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB,
        connection INTEGER REFERENCES exchange_connections(id) ON DELETE CASCADE);
    INSERT INTO my_notes (body, connection) SELECT x'00ff', id FROM exchange_connections;
    INSERT INTO my_notes (body) VALUES ('kept'), ('highest');
    DELETE FROM my_notes WHERE body = 'highest';
    CREATE TABLE "my ""own"" table" ("a b" TEXT PRIMARY KEY, c) WITHOUT ROWID;
    INSERT INTO "my ""own"" table" VALUES ('x', 9e999), ('y', NULL);
    CREATE TABLE my_audit (what TEXT);
    CREATE VIRTUAL TABLE my_search USING fts5 (body);
    INSERT INTO my_search VALUES ('find me');
    CREATE VIEW my_view AS SELECT c.name, s.message FROM exchange_connections c
        JOIN site_logs AS s ON s.message IS NOT NULL WHERE s.rowid <= 3;
    CREATE VIEW my_broken_view AS SELECT * FROM a_table_that_is_gone;
    CREATE TRIGGER my_trigger AFTER INSERT ON exchange_connections
        BEGIN INSERT INTO my_audit VALUES (new.name); END;
    CREATE TRIGGER my_guard BEFORE DELETE ON users
        BEGIN SELECT raise(ABORT, 'users stay'); END;
    CREATE INDEX my_index ON exchange_connections (exchange, created_at DESC) WHERE exchange IS NOT NULL;
    CREATE UNIQUE INDEX my_lower ON users (lower(username));"#;

/// 19 of the present tables, and 13 that only this script had.
pub const UNIFIED: &str = "
TABLE migrations (@id, name TEXT NOT NULL UNIQUE, executed_at DATETIME DEFAULT CURRENT_TIMESTAMP);
TABLE users (@id, username TEXT NOT NULL UNIQUE, email TEXT UNIQUE, password_hash TEXT NOT NULL,
    @created, @updated);
TABLE system_settings (@id, key TEXT NOT NULL UNIQUE, value TEXT NOT NULL, description TEXT,
    @created, @updated, category TEXT DEFAULT 'general');
TABLE site_logs (@id, timestamp DATETIME DEFAULT CURRENT_TIMESTAMP, level TEXT NOT NULL, category
    TEXT NOT NULL, message TEXT NOT NULL, context TEXT, user_id TEXT, connection_id TEXT,
    error_message TEXT, error_stack TEXT, metadata TEXT DEFAULT '{}', @created);
TABLE exchange_connections (@id, name TEXT NOT NULL, exchange TEXT NOT NULL, api_key TEXT NOT NULL,
    api_secret TEXT NOT NULL, api_passphrase TEXT, last_test_at DATETIME, connection_settings TEXT
    DEFAULT '{}', @created, @updated, testnet INTEGER DEFAULT 0, is_active INTEGER DEFAULT 1,
    indication_direction INTEGER DEFAULT 0, indication_move INTEGER DEFAULT 0, indication_active
    INTEGER DEFAULT 0, indication_optimal INTEGER DEFAULT 0, indication_auto INTEGER DEFAULT 0,
    preset_type TEXT DEFAULT 'main', last_test_result TEXT, last_connection_at DATETIME,
    minimum_connect_interval INTEGER DEFAULT 60, dual_mode_enabled INTEGER DEFAULT 0,
    dual_mode_settings TEXT DEFAULT '{}', UNIQUE (name, preset_type));
TABLE connection_coordination (connection_id TEXT PRIMARY KEY, last_heartbeat DATETIME DEFAULT
    CURRENT_TIMESTAMP, status TEXT DEFAULT 'idle', current_operation TEXT);
TABLE indications_direction (@id, @integer_connection, symbol TEXT NOT NULL, direction TEXT,
    profit_factor REAL DEFAULT 1.0, confidence REAL DEFAULT 0, signal_strength REAL DEFAULT 0,
    status TEXT DEFAULT 'active', @calculated, metadata TEXT DEFAULT '{}');
TABLE indications_move (@id, @integer_connection, symbol TEXT NOT NULL, momentum REAL DEFAULT 0,
    profit_factor REAL DEFAULT 1.0, confidence REAL DEFAULT 0, status TEXT DEFAULT 'active',
    @calculated, move_type TEXT, metadata TEXT DEFAULT '{}');
TABLE indications_active (@id, @integer_connection, symbol TEXT NOT NULL, profit_factor REAL DEFAULT
    1.0, confidence REAL DEFAULT 0, volatility REAL DEFAULT 0, status TEXT DEFAULT 'active',
    @calculated, activity_level REAL DEFAULT 0, metadata TEXT DEFAULT '{}');
TABLE indications_optimal (@id, @integer_connection, symbol TEXT NOT NULL, profit_factor REAL
    DEFAULT 1.0, confidence REAL DEFAULT 0, status TEXT DEFAULT 'active', @calculated,
    optimization_score REAL DEFAULT 0, recommended_action TEXT, metadata TEXT DEFAULT '{}');
TABLE indications_auto (@id, @integer_connection, symbol TEXT NOT NULL, eight_hour_trend TEXT,
    market_direction_short TEXT, market_direction_long TEXT, progressive_activity REAL DEFAULT 0,
    profit_factor REAL DEFAULT 1.0, confidence REAL DEFAULT 0, status TEXT DEFAULT 'active',
    @calculated, auto_signal TEXT, metadata TEXT DEFAULT '{}');
TABLE indication_states (@id, @integer_connection, updated_at DATETIME DEFAULT CURRENT_TIMESTAMP,
    state_key TEXT NOT NULL, state_value TEXT NOT NULL, UNIQUE (connection_id, state_key));
TABLE strategies_base (@id, @integer_connection, symbol TEXT NOT NULL, profit_factor REAL DEFAULT
    1.0, win_rate REAL DEFAULT 0, total_trades INTEGER DEFAULT 0, status TEXT DEFAULT 'active',
    @created, @updated, strategy_config TEXT DEFAULT '{}');
TABLE strategies_main (@id, @integer_connection, symbol TEXT NOT NULL, profit_factor REAL DEFAULT
    1.0, win_rate REAL DEFAULT 0, total_trades INTEGER DEFAULT 0, status TEXT DEFAULT 'active',
    @created, @updated, strategy_config TEXT DEFAULT '{}');
TABLE strategies_real (@id, @integer_connection, symbol TEXT NOT NULL, indication_type TEXT, volume
    REAL NOT NULL, entry_price REAL NOT NULL, current_price REAL, profit_loss REAL DEFAULT 0,
    profit_loss_percent REAL DEFAULT 0, status TEXT DEFAULT 'open', opened_at DATETIME DEFAULT
    CURRENT_TIMESTAMP, closed_at DATETIME, side TEXT NOT NULL, stop_loss REAL, take_profit REAL,
    strategy_type TEXT, metadata TEXT DEFAULT '{}');
TABLE strategies_block (@id, @integer_connection, symbol TEXT NOT NULL, neutral_count INTEGER
    DEFAULT 0, status TEXT DEFAULT 'active', @created, @updated, block_config TEXT DEFAULT '{}',
    block_count INTEGER DEFAULT 0, success_rate REAL DEFAULT 0);
TABLE strategies_dca (@id, @integer_connection, symbol TEXT NOT NULL, total_steps INTEGER DEFAULT 4,
    status TEXT DEFAULT 'active', @created, @updated, dca_config TEXT DEFAULT '{}', current_step
    INTEGER DEFAULT 1, average_entry REAL DEFAULT 0, total_invested REAL DEFAULT 0);
TABLE strategies_trailing (@id, @integer_connection, symbol TEXT NOT NULL, trail_success_rate REAL
    DEFAULT 0, status TEXT DEFAULT 'active', @created, @updated, trailing_config TEXT DEFAULT '{}',
    trail_distance REAL DEFAULT 0);
TABLE pseudo_positions (@id, @integer_connection, symbol TEXT NOT NULL, indication_type TEXT, side
    TEXT NOT NULL, entry_price REAL NOT NULL, current_price REAL, status TEXT DEFAULT 'open',
    opened_at DATETIME DEFAULT CURRENT_TIMESTAMP, closed_at DATETIME, eight_hour_trend TEXT,
    market_direction_short TEXT, market_direction_long TEXT, progressive_activity REAL,
    strategy_type TEXT, block_neutral_count INTEGER DEFAULT 0, level_volume_ratio REAL, dca_step
    INTEGER DEFAULT 1, dca_total_steps INTEGER DEFAULT 4, volume REAL NOT NULL, profit_loss REAL
    DEFAULT 0, profit_loss_percent REAL DEFAULT 0, stop_loss REAL, take_profit REAL, metadata TEXT
    DEFAULT '{}');
TABLE real_positions (@id, @integer_connection, symbol TEXT NOT NULL, side TEXT NOT NULL,
    entry_price REAL, status TEXT DEFAULT 'open', @created);
TABLE orders (@id, @integer_connection, position_id INTEGER REFERENCES pseudo_positions(id), symbol
    TEXT NOT NULL, price REAL, quantity REAL, status TEXT, @created);
TABLE trades (@id, @integer_connection, order_id INTEGER REFERENCES orders(id), price REAL, fee
    REAL, executed_at DATETIME);
TABLE balances (@id, @integer_connection, asset TEXT NOT NULL, free REAL DEFAULT 0, locked REAL
    DEFAULT 0, @updated, UNIQUE (connection_id, asset));
TABLE market_data (@id, symbol TEXT NOT NULL, price REAL, volume REAL, timestamp DATETIME DEFAULT
    CURRENT_TIMESTAMP);
TABLE preset_types (@id, name TEXT NOT NULL UNIQUE, description TEXT, is_active INTEGER DEFAULT 1,
    @created);
TABLE preset_sets (@id, preset_type_id INTEGER REFERENCES preset_types(id) ON DELETE CASCADE, name
    TEXT, preset_config TEXT DEFAULT '{}');
TABLE preset_strategies (@id, @integer_connection, name TEXT, strategy_config TEXT DEFAULT '{}');
TABLE engine_state (@id, @integer_connection, status TEXT DEFAULT 'stopped', @updated);
TABLE symbols (@id, symbol TEXT NOT NULL, exchange TEXT, is_active INTEGER DEFAULT 1);
TABLE position_history (@id, position_id INTEGER, price REAL, @created);
TABLE performance_metrics (@id, name TEXT NOT NULL, value REAL, @created);
TABLE notifications (@id, user_id INTEGER REFERENCES users(id), message TEXT, is_read INTEGER
    DEFAULT 0, @created);
INDEX idx_indications_direction_connection ON indications_direction (connection_id);
INDEX idx_pseudo_positions_status ON pseudo_positions (status);
INDEX idx_site_logs_timestamp ON site_logs (timestamp);
INDEX idx_orders_connection ON orders (connection_id);
";

/// Text ids, lists of allowed values, and NOT NULL columns that the present schema does not have.
pub const MASTER: &str = "
TABLE users (@id, username TEXT NOT NULL UNIQUE, email TEXT NOT NULL UNIQUE, password_hash TEXT NOT
    NULL, created_at TEXT DEFAULT CURRENT_TIMESTAMP, updated_at TEXT DEFAULT CURRENT_TIMESTAMP,
    api_key TEXT UNIQUE, api_secret TEXT, role TEXT DEFAULT 'user' CHECK (role IN ('user',
    'admin')), is_active INTEGER DEFAULT 1);
TABLE system_settings (@id, key TEXT NOT NULL UNIQUE, value TEXT NOT NULL, description TEXT,
    created_at TEXT DEFAULT CURRENT_TIMESTAMP, updated_at TEXT DEFAULT CURRENT_TIMESTAMP);
TABLE site_logs (@id, timestamp TEXT DEFAULT CURRENT_TIMESTAMP, level TEXT NOT NULL CHECK (level IN
    ('info', 'warning', 'error', 'debug')), category TEXT NOT NULL, message TEXT NOT NULL, context
    TEXT, user_id TEXT, connection_id TEXT, error_message TEXT, error_stack TEXT, metadata TEXT
    DEFAULT '{}', created_at TEXT DEFAULT CURRENT_TIMESTAMP, details TEXT, ip_address TEXT,
    user_agent TEXT);
TABLE exchange_connections (@nanoid, name TEXT NOT NULL, exchange TEXT NOT NULL, api_key TEXT NOT
    NULL, api_secret TEXT NOT NULL, api_passphrase TEXT, last_test_at TEXT, connection_settings TEXT
    DEFAULT '{}', created_at TEXT DEFAULT CURRENT_TIMESTAMP, updated_at TEXT DEFAULT
    CURRENT_TIMESTAMP, user_id INTEGER REFERENCES users(id), api_type TEXT NOT NULL DEFAULT 'spot',
    connection_method TEXT CHECK (connection_method IN ('rest', 'websocket', 'library',
    'typescript')), library_package TEXT, margin_type TEXT DEFAULT 'cross' CHECK (margin_type IN
    ('cross', 'isolated')), position_mode TEXT DEFAULT 'hedge' CHECK (position_mode IN ('hedge',
    'one_way')), is_testnet INTEGER DEFAULT 0, is_enabled INTEGER DEFAULT 0, is_live_trade INTEGER
    DEFAULT 0, is_preset_trade INTEGER DEFAULT 0, preset_type_id TEXT, volume_factor REAL DEFAULT
    1.0, last_test_status TEXT, last_test_balance REAL, last_test_error TEXT, last_test_log TEXT,
    api_capabilities TEXT DEFAULT '[]', rate_limits TEXT DEFAULT '{}', connection_priority TEXT
    DEFAULT '[\"rest\",\"library\",\"typescript\",\"websocket\"]', UNIQUE (user_id, name));
TABLE indications_direction (@nanoid, @text_connection, symbol TEXT NOT NULL, range_value INTEGER
    NOT NULL, @side, entry_price REAL NOT NULL, current_price REAL NOT NULL, price_change_ratio
    REAL, signal_strength REAL DEFAULT 0.0, profit_factor REAL DEFAULT 1.0, confidence REAL DEFAULT
    0, @status('active', 'closed', 'cancelled')), calculated_at TEXT DEFAULT (datetime('now')),
    @judged, closed_at TEXT);
TABLE indications_move (@nanoid, @text_connection, symbol TEXT NOT NULL, range_value INTEGER NOT
    NULL, @side, momentum REAL DEFAULT 0, entry_price REAL NOT NULL, current_price REAL NOT NULL,
    price_change_ratio REAL, signal_strength REAL DEFAULT 0.0, profit_factor REAL DEFAULT 1.0,
    confidence REAL DEFAULT 0, @status('active', 'closed', 'cancelled')), calculated_at TEXT DEFAULT
    (datetime('now')), @judged, closed_at TEXT);
TABLE indications_active (@nanoid, @text_connection, symbol TEXT NOT NULL, range_value INTEGER NOT
    NULL, @side, activity_ratio REAL NOT NULL, time_window INTEGER NOT NULL, activity_for_calculated
    INTEGER, activity_last_part INTEGER, entry_price REAL NOT NULL, current_price REAL NOT NULL,
    position_cost REAL, overall_change REAL, last_part_change REAL, volatility REAL DEFAULT 0,
    profit_factor REAL DEFAULT 1.0, confidence REAL DEFAULT 0, @status('active', 'closed',
    'cancelled')), calculated_at TEXT DEFAULT (datetime('now')), @judged, closed_at TEXT);
TABLE indications_optimal (@nanoid, @text_connection, symbol TEXT NOT NULL, range_value INTEGER NOT
    NULL, @side, drawdown_ratio REAL NOT NULL, market_change_range INTEGER NOT NULL, last_part_ratio
    REAL NOT NULL, entry_price REAL NOT NULL, current_price REAL NOT NULL, win_rate REAL DEFAULT
    0.0, total_positions INTEGER DEFAULT 0, winning_positions INTEGER DEFAULT 0, evaluation_count
    INTEGER DEFAULT 0, profit_factor REAL DEFAULT 1.0, confidence REAL DEFAULT 0,
    @status('evaluating', 'active', 'paused', 'failed')), calculated_at TEXT DEFAULT
    (datetime('now')), @judged, closed_at TEXT);
TABLE indications_auto (@nanoid, @text_connection, symbol TEXT NOT NULL, @side, auto_activity_ratio
    REAL NOT NULL, auto_time_window INTEGER NOT NULL, auto_use_8hour_analysis INTEGER DEFAULT 0,
    eight_hour_trend TEXT CHECK (eight_hour_trend IN ('bullish', 'bearish', 'neutral')),
    market_direction_short TEXT CHECK (market_direction_short IN ('up', 'down', 'sideways')),
    market_direction_long TEXT CHECK (market_direction_long IN ('up', 'down', 'sideways')),
    progressive_activity REAL DEFAULT 0, auto_progressive_threshold REAL, auto_trailing_optimal_min
    REAL, auto_trailing_optimal_max REAL, entry_price REAL NOT NULL, current_price REAL NOT NULL,
    signal_strength REAL DEFAULT 0.0, profit_factor REAL DEFAULT 1.0, confidence REAL DEFAULT 0,
    @status('active', 'closed', 'cancelled')), calculated_at TEXT DEFAULT (datetime('now')),
    @judged, closed_at TEXT);
TABLE indication_states (@id, @text_connection, indication_type TEXT NOT NULL, symbol TEXT NOT NULL,
    direction TEXT CHECK (direction IN ('long', 'short')), position_range TEXT, active_positions
    INTEGER DEFAULT 0, last_position_at TEXT, cooldown_until TEXT, created_at TEXT DEFAULT
    (datetime('now')), updated_at TEXT DEFAULT (datetime('now')));
TABLE strategies_base (@nanoid, @text_connection, symbol TEXT NOT NULL, indication_id TEXT NOT NULL,
    @type, takeprofit_factor REAL NOT NULL, stoploss_ratio REAL NOT NULL, profit_factor REAL DEFAULT
    1.0, win_rate REAL DEFAULT 0, total_trades INTEGER DEFAULT 0, winning_trades INTEGER DEFAULT 0,
    losing_trades INTEGER DEFAULT 0, @status('active', 'paused', 'closed')), @judged);
TABLE strategies_main (@nanoid, @text_connection, symbol TEXT NOT NULL, indication_id TEXT NOT NULL,
    @type, takeprofit_factor REAL NOT NULL, stoploss_ratio REAL NOT NULL, last_positions_count
    INTEGER NOT NULL DEFAULT 3, position_coordination INTEGER DEFAULT 1, max_concurrent_positions
    INTEGER DEFAULT 3, profit_factor REAL DEFAULT 1.0, win_rate REAL DEFAULT 0, total_trades INTEGER
    DEFAULT 0, winning_trades INTEGER DEFAULT 0, losing_trades INTEGER DEFAULT 0,
    avg_holding_time_minutes REAL, @status('active', 'paused', 'closed')), @judged);
TABLE strategies_real (@nanoid, @text_connection, symbol TEXT NOT NULL, main_strategy_id TEXT
    REFERENCES strategies_main(id), indication_id TEXT NOT NULL, @type, takeprofit_factor REAL NOT
    NULL, stoploss_ratio REAL NOT NULL, exchange_position_id TEXT, exchange_order_id TEXT, volume
    REAL NOT NULL, entry_price REAL NOT NULL, current_price REAL, takeprofit_price REAL,
    stoploss_price REAL, profit_loss REAL DEFAULT 0, profit_loss_percent REAL DEFAULT 0,
    unrealized_pnl REAL DEFAULT 0, realized_pnl REAL DEFAULT 0, fees_paid REAL DEFAULT 0, status
    TEXT DEFAULT 'open' CHECK (status IN ('open', 'closed', 'cancelled')), opened_at TEXT DEFAULT
    (datetime('now')), closed_at TEXT, updated_at TEXT NOT NULL DEFAULT (datetime('now')));
TABLE strategies_block (@nanoid, @text_connection, symbol TEXT NOT NULL, main_strategy_id TEXT NOT
    NULL, neutral_count INTEGER DEFAULT 0, current_wait_count INTEGER DEFAULT 0, total_blocks
    INTEGER DEFAULT 0, successful_blocks INTEGER DEFAULT 0, block_success_rate REAL DEFAULT 0.0,
    avg_wait_time_minutes REAL, is_active INTEGER DEFAULT 1, auto_deactivate_threshold INTEGER
    DEFAULT 25, reactivate_threshold INTEGER DEFAULT 40, deactivation_count INTEGER DEFAULT 0,
    @status('active', 'paused', 'deactivated')), @judged);
TABLE strategies_dca (@nanoid, @text_connection, symbol TEXT NOT NULL, main_strategy_id TEXT NOT
    NULL, dca_step INTEGER NOT NULL DEFAULT 1, step_ratio REAL NOT NULL DEFAULT 1.0, total_steps
    INTEGER DEFAULT 4, total_dca_sequences INTEGER DEFAULT 0, completed_sequences INTEGER DEFAULT 0,
    partial_sequences INTEGER DEFAULT 0, avg_steps_per_sequence REAL, dca_success_rate REAL DEFAULT
    0.0, is_active INTEGER DEFAULT 1, auto_deactivate_threshold INTEGER DEFAULT 25,
    reactivate_threshold INTEGER DEFAULT 40, deactivation_count INTEGER DEFAULT 0, @status('active',
    'paused', 'deactivated')), @judged);
TABLE strategies_trailing (@nanoid, @text_connection, symbol TEXT NOT NULL, strategy_id TEXT NOT
    NULL, strategy_type TEXT NOT NULL CHECK (strategy_type IN ('base', 'main', 'real')), trail_start
    REAL NOT NULL, trail_stop REAL NOT NULL, trailing_active INTEGER DEFAULT 0, highest_profit REAL
    DEFAULT 0, trailing_started_at TEXT, total_trails INTEGER DEFAULT 0, successful_trails INTEGER
    DEFAULT 0, trail_success_rate REAL DEFAULT 0, avg_additional_profit REAL, @status('active',
    'paused', 'closed')), @judged);
TABLE position_statistics (@nanoid, @text_connection, symbol TEXT, total_profit REAL DEFAULT 0,
    total_loss REAL DEFAULT 0, avg_profit REAL DEFAULT 0, avg_holding_time_minutes REAL, @judged);
TABLE trade_history (@nanoid, @text_connection, strategy_id TEXT REFERENCES strategies_real(id) ON
    DELETE SET NULL, price REAL, executed_at TEXT);
";

/// The first version of the schema.
pub const INIT: &str = "
TABLE users (@id, username TEXT NOT NULL UNIQUE, email TEXT NOT NULL UNIQUE, password_hash TEXT NOT
    NULL, api_key TEXT UNIQUE, api_secret TEXT, role TEXT DEFAULT 'user', is_active INTEGER DEFAULT
    1, created_at TEXT DEFAULT CURRENT_TIMESTAMP, updated_at TEXT DEFAULT CURRENT_TIMESTAMP);
TABLE system_settings (@id, key TEXT NOT NULL UNIQUE, value TEXT NOT NULL, description TEXT,
    created_at TEXT DEFAULT CURRENT_TIMESTAMP, updated_at TEXT DEFAULT CURRENT_TIMESTAMP);
TABLE site_logs (@id, timestamp TEXT DEFAULT CURRENT_TIMESTAMP, level TEXT NOT NULL, category TEXT
    NOT NULL, message TEXT NOT NULL, details TEXT, user_id INTEGER, ip_address TEXT, user_agent
    TEXT, created_at TEXT DEFAULT CURRENT_TIMESTAMP);
TABLE exchange_connections (@nanoid, user_id INTEGER, name TEXT NOT NULL, exchange TEXT NOT NULL,
    api_type TEXT NOT NULL DEFAULT 'spot', connection_method TEXT DEFAULT 'rest', library_package
    TEXT, api_key TEXT NOT NULL, api_secret TEXT NOT NULL, api_passphrase TEXT, margin_type TEXT
    DEFAULT 'cross', position_mode TEXT DEFAULT 'hedge', is_testnet INTEGER DEFAULT 0, is_enabled
    INTEGER DEFAULT 0, is_live_trade INTEGER DEFAULT 0, is_preset_trade INTEGER DEFAULT 0,
    preset_type_id INTEGER, volume_factor REAL DEFAULT 1.0, last_test_at TEXT, last_test_status
    TEXT, last_test_balance REAL, last_test_error TEXT, last_test_log TEXT, api_capabilities TEXT
    DEFAULT '[]', rate_limits TEXT DEFAULT '{}', connection_settings TEXT DEFAULT '{}', created_at
    TEXT DEFAULT CURRENT_TIMESTAMP, updated_at TEXT DEFAULT CURRENT_TIMESTAMP, UNIQUE (user_id,
    name));
TABLE indication_states (@id, @text_connection, indication_type TEXT NOT NULL, symbol TEXT NOT NULL,
    direction TEXT, position_range TEXT, active_positions INTEGER DEFAULT 0, last_position_at TEXT,
    created_at TEXT DEFAULT CURRENT_TIMESTAMP, updated_at TEXT DEFAULT CURRENT_TIMESTAMP);
TABLE pseudo_positions (@id, @text_connection, symbol TEXT NOT NULL, indication_type TEXT, side TEXT
    NOT NULL, entry_price REAL NOT NULL, current_price REAL NOT NULL, quantity REAL NOT NULL,
    position_cost REAL NOT NULL, takeprofit_factor REAL NOT NULL, stoploss_ratio REAL NOT NULL,
    profit_factor REAL NOT NULL, trailing_enabled INTEGER DEFAULT 0, trail_start REAL, trail_stop
    REAL, status TEXT DEFAULT 'active', opened_at TEXT DEFAULT CURRENT_TIMESTAMP, closed_at TEXT,
    close_reason TEXT, created_at TEXT DEFAULT CURRENT_TIMESTAMP, updated_at TEXT DEFAULT
    CURRENT_TIMESTAMP);
TABLE real_pseudo_positions (@id, connection_id TEXT, symbol TEXT NOT NULL, indication_id TEXT,
    strategy_id TEXT, side TEXT, entry_price REAL NOT NULL, current_price REAL NOT NULL, quantity
    REAL NOT NULL, position_cost REAL NOT NULL, unrealized_pnl REAL DEFAULT 0, realized_pnl REAL
    DEFAULT 0, takeprofit_price REAL, stoploss_price REAL, trailing_enabled INTEGER DEFAULT 0,
    trail_start REAL, trail_stop REAL, trail_update REAL, highest_price REAL, lowest_price REAL,
    status TEXT DEFAULT 'active', opened_at TEXT DEFAULT CURRENT_TIMESTAMP, closed_at TEXT,
    close_reason TEXT, created_at TEXT DEFAULT CURRENT_TIMESTAMP, updated_at TEXT DEFAULT
    CURRENT_TIMESTAMP);
";
