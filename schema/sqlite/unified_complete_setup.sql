-- The 22 core tables of CTS, the indexes that keys and the plainest look-ups need, and the settings a new box
-- starts with. Indexes for speed, and the coordination tables, have files of their own.
--
-- Every connection_id is text, as are the ids of connections. Ids made by the database are integers that it
-- may use again after a delete. Times are UTC text with milliseconds, so that they sort with, and compare to,
-- what datetime() gives. Flags are 0 or 1. JSON is text, absent until written.
--
-- The tables accept what the trading programs write: no lists of allowed words, and NOT NULL only where a row
-- would mean nothing without the value. Unique rules are indexes, not parts of a table, so that a table made by
-- an older CTS can be given them too.

-- System

-- Who may sign in to the trading programs. The e-mail address may be absent, but not shared.
CREATE TABLE IF NOT EXISTS users (
    id            INTEGER PRIMARY KEY,
    username      TEXT NOT NULL,
    email         TEXT,
    password_hash TEXT NOT NULL,
    role          TEXT DEFAULT 'user',
    is_active     INTEGER DEFAULT 1,
    created_at    TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);

-- Settings shared by all programs, read by key in every engine cycle. value is always text and value_type says
-- how to read it: string, number, boolean or json.
CREATE TABLE IF NOT EXISTS system_settings (
    id          INTEGER PRIMARY KEY,
    key         TEXT NOT NULL,
    value       TEXT NOT NULL,
    category    TEXT DEFAULT 'general',
    subcategory TEXT,
    value_type  TEXT DEFAULT 'string',
    description TEXT,
    updated_at  TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);

-- What happened, for people. connection_id is deliberately no foreign key: a log line is never refused, and
-- outlives the connection it speaks of.
CREATE TABLE IF NOT EXISTS site_logs (
    id            INTEGER PRIMARY KEY,
    timestamp     TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    level         TEXT NOT NULL,
    category      TEXT NOT NULL,
    message       TEXT NOT NULL,
    context       TEXT,
    user_id       TEXT,
    connection_id TEXT,
    error_message TEXT,
    error_stack   TEXT,
    stack         TEXT,
    details       TEXT,
    metadata      TEXT,
    created_at    TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);

-- The ledger: which migration was applied when, by which cts (version), how long it took, and the checksum of its
-- statements. Rows without a checksum come from an older CTS, which did not write one.
CREATE TABLE IF NOT EXISTS migrations (
    id                INTEGER PRIMARY KEY,
    name              TEXT NOT NULL,
    checksum          TEXT,
    executed_at       TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    execution_time_ms INTEGER,
    version           TEXT
);

-- Connections

-- An account at an exchange, and whether it is to be run. The id is chosen by the program: 21 random characters or
-- a name such as bybit-x03. Keys may be absent, because a predefined connection is listed before it has any.
-- Names need not differ. connection_settings starts as an empty object, so that it can always be parsed. Most tables
-- below belong to a connection and go with it.
CREATE TABLE IF NOT EXISTS exchange_connections (
    id                  TEXT PRIMARY KEY NOT NULL,
    name                TEXT NOT NULL,
    user_id             INTEGER,
    temp_user_id        TEXT,
    exchange            TEXT,
    exchange_id         INTEGER,
    api_type            TEXT DEFAULT 'spot',
    api_key             TEXT,
    api_secret          TEXT,
    passphrase          TEXT,
    api_capabilities    TEXT,
    rate_limits         TEXT,
    connection_method   TEXT,
    connection_library  TEXT DEFAULT 'ccxt',
    margin_type         TEXT DEFAULT 'cross',
    margin_mode         TEXT,
    position_mode       TEXT DEFAULT 'hedge',
    position_type       TEXT,
    testnet             INTEGER DEFAULT 0,
    is_testnet          INTEGER DEFAULT 0,
    is_active           INTEGER DEFAULT 1,
    is_enabled          INTEGER DEFAULT 0,
    is_predefined       INTEGER DEFAULT 0,
    is_dashboard_active INTEGER DEFAULT 0,
    is_live_trade       INTEGER DEFAULT 0,
    is_preset_trade     INTEGER DEFAULT 0,
    preset_type_id      TEXT,
    settings            TEXT,
    connection_settings TEXT DEFAULT '{}',
    last_test_status    TEXT,
    last_test_timestamp TEXT,
    created_at          TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    updated_at          TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);

-- Indications: what the engine concluded about a symbol of a connection. Active until a program says otherwise.

-- Which way a symbol is about to go, and how strongly.
CREATE TABLE IF NOT EXISTS indications_direction (
    id              INTEGER PRIMARY KEY,
    connection_id   TEXT NOT NULL REFERENCES exchange_connections (id) ON DELETE CASCADE,
    symbol          TEXT NOT NULL,
    direction       TEXT,
    signal_strength REAL DEFAULT 0,
    profit_factor   REAL DEFAULT 1.0,
    confidence      REAL DEFAULT 0,
    status          TEXT DEFAULT 'active',
    metadata        TEXT,
    calculated_at   TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    updated_at      TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);

-- The pace of a price move.
CREATE TABLE IF NOT EXISTS indications_move (
    id            INTEGER PRIMARY KEY,
    connection_id TEXT NOT NULL REFERENCES exchange_connections (id) ON DELETE CASCADE,
    symbol        TEXT NOT NULL,
    momentum      REAL DEFAULT 0,
    move_type     TEXT,
    profit_factor REAL DEFAULT 1.0,
    confidence    REAL DEFAULT 0,
    status        TEXT DEFAULT 'active',
    metadata      TEXT,
    calculated_at TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    updated_at    TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);

-- How busy and how nervous the market of a symbol is.
CREATE TABLE IF NOT EXISTS indications_active (
    id             INTEGER PRIMARY KEY,
    connection_id  TEXT NOT NULL REFERENCES exchange_connections (id) ON DELETE CASCADE,
    symbol         TEXT NOT NULL,
    activity_level REAL DEFAULT 0,
    volatility     REAL DEFAULT 0,
    profit_factor  REAL DEFAULT 1.0,
    confidence     REAL DEFAULT 0,
    status         TEXT DEFAULT 'active',
    metadata       TEXT,
    calculated_at  TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    updated_at     TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);

-- The best of what the other indications found, scored, with the action it suggests.
CREATE TABLE IF NOT EXISTS indications_optimal (
    id                 INTEGER PRIMARY KEY,
    connection_id      TEXT NOT NULL REFERENCES exchange_connections (id) ON DELETE CASCADE,
    symbol             TEXT NOT NULL,
    optimization_score REAL DEFAULT 0,
    recommended_action TEXT,
    profit_factor      REAL DEFAULT 1.0,
    confidence         REAL DEFAULT 0,
    status             TEXT DEFAULT 'active',
    metadata           TEXT,
    calculated_at      TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    updated_at         TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);

-- The signal the engine chooses by itself from the eight-hour trend, both market directions and the
-- activity as it builds up.
CREATE TABLE IF NOT EXISTS indications_auto (
    id                     INTEGER PRIMARY KEY,
    connection_id          TEXT NOT NULL REFERENCES exchange_connections (id) ON DELETE CASCADE,
    symbol                 TEXT NOT NULL,
    eight_hour_trend       TEXT,
    market_direction_short TEXT,
    market_direction_long  TEXT,
    progressive_activity   REAL DEFAULT 0,
    auto_signal            TEXT,
    profit_factor          REAL DEFAULT 1.0,
    confidence             REAL DEFAULT 0,
    status                 TEXT DEFAULT 'active',
    metadata               TEXT,
    calculated_at          TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    updated_at             TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);

-- Strategies: how to act on indications, and how that has gone so far.

-- A first set of take profit and stop loss for an indication, judged by its trades.
CREATE TABLE IF NOT EXISTS strategies_base (
    id                INTEGER PRIMARY KEY,
    connection_id     TEXT NOT NULL REFERENCES exchange_connections (id) ON DELETE CASCADE,
    symbol            TEXT NOT NULL,
    indication_type   TEXT,
    takeprofit_factor REAL,
    stoploss_ratio    REAL,
    profit_factor     REAL DEFAULT 1.0,
    win_rate          REAL DEFAULT 0,
    total_trades      INTEGER DEFAULT 0,
    winning_trades    INTEGER DEFAULT 0,
    losing_trades     INTEGER DEFAULT 0,
    status            TEXT DEFAULT 'active',
    strategy_config   TEXT,
    created_at        TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    updated_at        TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);

-- What is left of the base strategies after their last positions were judged, with a limit on positions
-- held at once.
CREATE TABLE IF NOT EXISTS strategies_main (
    id                       INTEGER PRIMARY KEY,
    connection_id            TEXT NOT NULL REFERENCES exchange_connections (id) ON DELETE CASCADE,
    symbol                   TEXT NOT NULL,
    indication_type          TEXT,
    takeprofit_factor        REAL,
    stoploss_ratio           REAL,
    last_positions_count     INTEGER DEFAULT 3,
    max_concurrent_positions INTEGER DEFAULT 3,
    profit_factor            REAL DEFAULT 1.0,
    win_rate                 REAL DEFAULT 0,
    total_trades             INTEGER DEFAULT 0,
    winning_trades           INTEGER DEFAULT 0,
    losing_trades            INTEGER DEFAULT 0,
    status                   TEXT DEFAULT 'active',
    strategy_config          TEXT,
    created_at               TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    updated_at               TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);

-- A strategy traded with real money: one row for each trade, open until it is closed with its result.
CREATE TABLE IF NOT EXISTS strategies_real (
    id                  INTEGER PRIMARY KEY,
    connection_id       TEXT NOT NULL REFERENCES exchange_connections (id) ON DELETE CASCADE,
    symbol              TEXT NOT NULL,
    side                TEXT,
    indication_type     TEXT,
    volume              REAL,
    entry_price         REAL,
    current_price       REAL,
    take_profit         REAL,
    stop_loss           REAL,
    profit_loss         REAL DEFAULT 0,
    profit_loss_percent REAL DEFAULT 0,
    profit_factor       REAL DEFAULT 1.0,
    status              TEXT DEFAULT 'open',
    created_at          TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    updated_at          TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    closed_at           TEXT
);

-- Adds volume in blocks after a run of neutral positions.
CREATE TABLE IF NOT EXISTS strategies_block (
    id             INTEGER PRIMARY KEY,
    connection_id  TEXT NOT NULL REFERENCES exchange_connections (id) ON DELETE CASCADE,
    symbol         TEXT NOT NULL,
    block_count    INTEGER DEFAULT 0,
    neutral_count  INTEGER DEFAULT 0,
    profit_factor  REAL DEFAULT 1.0,
    win_rate       REAL DEFAULT 0,
    total_trades   INTEGER DEFAULT 0,
    winning_trades INTEGER DEFAULT 0,
    losing_trades  INTEGER DEFAULT 0,
    status         TEXT DEFAULT 'active',
    block_config   TEXT,
    created_at     TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    updated_at     TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);

-- Averages the entry price in steps (dollar cost averaging).
CREATE TABLE IF NOT EXISTS strategies_dca (
    id             INTEGER PRIMARY KEY,
    connection_id  TEXT NOT NULL REFERENCES exchange_connections (id) ON DELETE CASCADE,
    symbol         TEXT NOT NULL,
    current_step   INTEGER DEFAULT 1,
    total_steps    INTEGER DEFAULT 4,
    average_entry  REAL DEFAULT 0,
    total_invested REAL DEFAULT 0,
    profit_factor  REAL DEFAULT 1.0,
    win_rate       REAL DEFAULT 0,
    total_trades   INTEGER DEFAULT 0,
    winning_trades INTEGER DEFAULT 0,
    losing_trades  INTEGER DEFAULT 0,
    status         TEXT DEFAULT 'active',
    dca_config     TEXT,
    created_at     TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    updated_at     TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);

-- Lets a stop follow the price once it has gone far enough.
CREATE TABLE IF NOT EXISTS strategies_trailing (
    id              INTEGER PRIMARY KEY,
    connection_id   TEXT NOT NULL REFERENCES exchange_connections (id) ON DELETE CASCADE,
    symbol          TEXT NOT NULL,
    trail_start     REAL,
    trail_stop      REAL,
    highest_profit  REAL DEFAULT 0,
    profit_factor   REAL DEFAULT 1.0,
    win_rate        REAL DEFAULT 0,
    total_trades    INTEGER DEFAULT 0,
    winning_trades  INTEGER DEFAULT 0,
    losing_trades   INTEGER DEFAULT 0,
    status          TEXT DEFAULT 'active',
    trailing_config TEXT,
    created_at      TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    updated_at      TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);

-- Positions. They point to one another by id and without foreign keys: each kind is pruned at its own pace.

-- Positions on paper, by which strategies are tried out. Programs open one without naming a status, and every
-- look-up of live positions asks for active: hence that default. Some write side, some direction, and none volume
-- at first. base_position_id is the key of a base configuration, which is text.
CREATE TABLE IF NOT EXISTS pseudo_positions (
    id                   INTEGER PRIMARY KEY,
    connection_id        TEXT NOT NULL REFERENCES exchange_connections (id) ON DELETE CASCADE,
    symbol               TEXT NOT NULL,
    indication_type      TEXT,
    indication_range     INTEGER,
    strategy_type        TEXT,
    adjusted_strategy    TEXT,
    configuration_set_id TEXT,
    base_position_id     TEXT,
    position_level       TEXT DEFAULT 'base',
    mode                 TEXT DEFAULT 'main',
    side                 TEXT,
    direction            TEXT,
    status               TEXT DEFAULT 'active',
    is_open              INTEGER,
    entry_price          REAL,
    current_price        REAL,
    quantity             REAL,
    volume               REAL,
    adjusted_volume      REAL,
    position_cost        REAL,
    takeprofit_factor    REAL,
    stoploss_ratio       REAL,
    trailing_enabled     INTEGER DEFAULT 0,
    trail_start          REAL,
    trail_stop           REAL,
    trailing_stop_price  REAL,
    profit_factor        REAL,
    profit_loss          REAL DEFAULT 0,
    profit_loss_percent  REAL DEFAULT 0,
    pnl                  REAL,
    pnl_percentage       REAL,
    block_neutral_count  INTEGER DEFAULT 0,
    dca_step             INTEGER DEFAULT 1,
    dca_total_steps      INTEGER DEFAULT 4,
    activity_ratio       REAL,
    time_window          INTEGER,
    overall_change       REAL,
    last_part_change     REAL,
    last_part_ratio      REAL,
    market_change_range  INTEGER,
    drawdown_ratio       REAL,
    volatility           REAL,
    momentum             REAL,
    continuation_ratio   REAL,
    close_reason         TEXT,
    opened_at            TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    closed_at            TEXT,
    created_at           TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    updated_at           TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);

-- Paper positions good enough to be followed like real ones. main_config_id and main_position_id are ids of
-- pseudo_positions, integers like those, since an index on text would not serve the comparison.
CREATE TABLE IF NOT EXISTS real_pseudo_positions (
    id                INTEGER PRIMARY KEY,
    connection_id     TEXT NOT NULL REFERENCES exchange_connections (id) ON DELETE CASCADE,
    symbol            TEXT NOT NULL,
    base_config_id    TEXT,
    main_config_id    INTEGER,
    main_position_id  INTEGER,
    mode              TEXT DEFAULT 'main',
    side              TEXT,
    status            TEXT DEFAULT 'active',
    entry_price       REAL,
    quantity          REAL,
    takeprofit        REAL,
    stoploss          REAL,
    trailing_enabled  INTEGER DEFAULT 0,
    trail_start       REAL,
    trail_stop        REAL,
    profit_factor     REAL,
    avg_drawdown_time REAL,
    validated_at      TEXT,
    created_at        TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);

-- Positions held at the exchange. real_pseudo_position_id names the validated position that one mirrors, the
-- exchange_ columns hold the numbers the exchange gave.
CREATE TABLE IF NOT EXISTS exchange_positions (
    id                      INTEGER PRIMARY KEY,
    connection_id           TEXT NOT NULL REFERENCES exchange_connections (id) ON DELETE CASCADE,
    real_pseudo_position_id INTEGER,
    exchange_position_id    TEXT,
    exchange_order_id       TEXT,
    symbol                  TEXT NOT NULL,
    side                    TEXT,
    status                  TEXT DEFAULT 'open',
    leverage                INTEGER DEFAULT 1,
    entry_price             REAL,
    current_price           REAL,
    quantity                REAL,
    takeprofit              REAL,
    stoploss                REAL,
    unrealized_pnl          REAL DEFAULT 0,
    realized_pnl            REAL DEFAULT 0,
    fees_paid               REAL DEFAULT 0,
    opened_at               TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    last_updated_at         TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    closed_at               TEXT
);

-- Statistics: results by period, written again when a period is calculated anew.

-- How the positions that followed one type of indication did, by symbol and period.
CREATE TABLE IF NOT EXISTS statistics_indication (
    id                 INTEGER PRIMARY KEY,
    connection_id      TEXT NOT NULL REFERENCES exchange_connections (id) ON DELETE CASCADE,
    symbol             TEXT NOT NULL,
    indication_type    TEXT NOT NULL,
    period_start       TEXT NOT NULL,
    period_end         TEXT NOT NULL,
    total_positions    INTEGER DEFAULT 0,
    winning_positions  INTEGER DEFAULT 0,
    losing_positions   INTEGER DEFAULT 0,
    total_pnl          REAL DEFAULT 0,
    total_fees         REAL DEFAULT 0,
    win_rate           REAL DEFAULT 0,
    profit_factor      REAL DEFAULT 0,
    max_drawdown       REAL DEFAULT 0,
    last_calculated_at TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);

-- How the positions of one type of strategy did, by symbol and period.
CREATE TABLE IF NOT EXISTS statistics_strategy (
    id                 INTEGER PRIMARY KEY,
    connection_id      TEXT NOT NULL REFERENCES exchange_connections (id) ON DELETE CASCADE,
    symbol             TEXT NOT NULL,
    strategy_type      TEXT NOT NULL,
    period_start       TEXT NOT NULL,
    period_end         TEXT NOT NULL,
    total_positions    INTEGER DEFAULT 0,
    winning_positions  INTEGER DEFAULT 0,
    losing_positions   INTEGER DEFAULT 0,
    total_pnl          REAL DEFAULT 0,
    total_fees         REAL DEFAULT 0,
    win_rate           REAL DEFAULT 0,
    profit_factor      REAL DEFAULT 0,
    max_drawdown       REAL DEFAULT 0,
    last_calculated_at TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);

-- The day of a connection: its trades, its result, and the best and worst of them. trade_date is YYYY-MM-DD, UTC.
CREATE TABLE IF NOT EXISTS statistics_daily (
    id                 INTEGER PRIMARY KEY,
    connection_id      TEXT NOT NULL REFERENCES exchange_connections (id) ON DELETE CASCADE,
    trade_date         TEXT NOT NULL,
    total_trades       INTEGER DEFAULT 0,
    winning_trades     INTEGER DEFAULT 0,
    losing_trades      INTEGER DEFAULT 0,
    total_pnl          REAL DEFAULT 0,
    total_fees         REAL DEFAULT 0,
    max_profit         REAL DEFAULT 0,
    max_loss           REAL DEFAULT 0,
    max_drawdown       REAL DEFAULT 0,
    last_calculated_at TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);

-- Unique rules

-- One person, one name and one address.
CREATE UNIQUE INDEX IF NOT EXISTS idx_users_username
    ON users (username);
CREATE UNIQUE INDEX IF NOT EXISTS idx_users_email
    ON users (email);

-- What is the value of this setting? Programs write settings with ON CONFLICT (key).
CREATE UNIQUE INDEX IF NOT EXISTS idx_system_settings_key
    ON system_settings (key);

-- A migration is recorded once. Rows of an older CTS, without a checksum, may bear any name.
CREATE UNIQUE INDEX IF NOT EXISTS idx_migrations_name
    ON migrations (name)
    WHERE checksum IS NOT NULL;

-- A period is counted once. These also serve the foreign keys of the statistics.
CREATE UNIQUE INDEX IF NOT EXISTS idx_statistics_indication_period
    ON statistics_indication (connection_id, symbol, indication_type, period_start, period_end);
CREATE UNIQUE INDEX IF NOT EXISTS idx_statistics_strategy_period
    ON statistics_strategy (connection_id, symbol, strategy_type, period_start, period_end);
CREATE UNIQUE INDEX IF NOT EXISTS idx_statistics_daily_date
    ON statistics_daily (connection_id, trade_date);

-- Foreign keys and the plainest look-ups. Without an index that begins with connection_id, deleting a connection
-- would read every child table from end to end.

-- What was calculated last for this connection and symbol, whatever its status? Also the foreign key.
CREATE INDEX IF NOT EXISTS idx_indications_direction_conn_symbol
    ON indications_direction (connection_id, symbol, calculated_at DESC);
CREATE INDEX IF NOT EXISTS idx_indications_move_conn_symbol
    ON indications_move (connection_id, symbol, calculated_at DESC);
CREATE INDEX IF NOT EXISTS idx_indications_active_conn_symbol
    ON indications_active (connection_id, symbol, calculated_at DESC);
CREATE INDEX IF NOT EXISTS idx_indications_optimal_conn_symbol
    ON indications_optimal (connection_id, symbol, calculated_at DESC);
CREATE INDEX IF NOT EXISTS idx_indications_auto_conn_symbol
    ON indications_auto (connection_id, symbol, calculated_at DESC);

-- Which indications of this connection are active, newest first? Closed ones take no space here.
CREATE INDEX IF NOT EXISTS idx_indications_direction_status
    ON indications_direction (connection_id, status, calculated_at DESC)
    WHERE status = 'active';
CREATE INDEX IF NOT EXISTS idx_indications_move_status
    ON indications_move (connection_id, status, calculated_at DESC)
    WHERE status = 'active';
CREATE INDEX IF NOT EXISTS idx_indications_active_status
    ON indications_active (connection_id, status, calculated_at DESC)
    WHERE status = 'active';
CREATE INDEX IF NOT EXISTS idx_indications_optimal_status
    ON indications_optimal (connection_id, status, calculated_at DESC)
    WHERE status = 'active';
CREATE INDEX IF NOT EXISTS idx_indications_auto_status
    ON indications_auto (connection_id, status, calculated_at DESC)
    WHERE status = 'active';

-- Which strategies of this connection in this status did best? Also the foreign key.
CREATE INDEX IF NOT EXISTS idx_strategies_base_status
    ON strategies_base (connection_id, status, profit_factor DESC, win_rate DESC);
CREATE INDEX IF NOT EXISTS idx_strategies_main_status
    ON strategies_main (connection_id, status, profit_factor DESC, win_rate DESC);
CREATE INDEX IF NOT EXISTS idx_strategies_block_status
    ON strategies_block (connection_id, status, profit_factor DESC, win_rate DESC);
CREATE INDEX IF NOT EXISTS idx_strategies_dca_status
    ON strategies_dca (connection_id, status, profit_factor DESC, win_rate DESC);
CREATE INDEX IF NOT EXISTS idx_strategies_trailing_status
    ON strategies_trailing (connection_id, status, profit_factor DESC, win_rate DESC);

-- Which open trades of this connection won or lost most, and what do its closed ones add up to? Also the foreign key.
CREATE INDEX IF NOT EXISTS idx_strategies_real_status
    ON strategies_real (connection_id, status, profit_loss);

-- How many positions of this connection are in which status, and which were validated last? Also the foreign keys.
-- profit_factor is there for its average: it costs a tick one index entry, and spares the totals from reading every
-- position of the connection.
CREATE INDEX IF NOT EXISTS idx_pseudo_positions_status
    ON pseudo_positions (connection_id, status, profit_factor);
CREATE INDEX IF NOT EXISTS idx_real_pseudo_positions_status
    ON real_pseudo_positions (connection_id, status, validated_at);

-- The foreign key: which positions at the exchange go with a connection?
CREATE INDEX IF NOT EXISTS idx_exchange_positions_connection
    ON exchange_positions (connection_id);

-- The settings of a new box. OR IGNORE, because a value that a person has changed must survive.
INSERT OR IGNORE INTO system_settings (key, value, category, subcategory, value_type, description) VALUES
    ('mainEngineIntervalMs', '100', 'performance', 'engine', 'number', 'Pause between two cycles of the main engine, in milliseconds'),
    ('positionUpdateIntervalMs', '1000', 'performance', 'engine', 'number', 'Pause between two price updates of live positions, in milliseconds'),
    ('healthCheckIntervalMs', '5000', 'performance', 'engine', 'number', 'Pause between two looks at the running connections, in milliseconds'),
    ('statisticsCacheMs', '5000', 'performance', 'cache', 'number', 'How long totals may be shown before they are counted again, in milliseconds'),
    ('minimumConnectIntervalMs', '200', 'general', 'connection', 'number', 'Least time between two requests to one exchange, in milliseconds'),
    ('logRetentionDays', '30', 'general', 'logs', 'number', 'How many days log lines are kept'),
    ('indicationDirectionEnabled', 'true', 'indication', 'direction', 'boolean', 'Calculate direction indications'),
    ('indicationMoveEnabled', 'true', 'indication', 'move', 'boolean', 'Calculate move indications'),
    ('indicationActiveEnabled', 'true', 'indication', 'active', 'boolean', 'Calculate active indications'),
    ('indicationOptimalEnabled', 'true', 'indication', 'optimal', 'boolean', 'Calculate optimal indications'),
    ('indicationAutoEnabled', 'false', 'indication', 'auto', 'boolean', 'Calculate auto indications'),
    ('indicationWindowMinutes', '60', 'indications_common', 'time', 'number', 'How old an indication may be and still count, in minutes'),
    ('indicationCooldownSeconds', '30', 'indications_common', 'time', 'number', 'Least time between two positions on the same indication state, in seconds'),
    ('positionCost', '0.1', 'strategy', 'position', 'number', 'Cost of one position, in percent of the balance'),
    ('maxPositionsPerDirection', '1', 'strategy', 'position', 'number', 'Live positions allowed for one symbol, indication type and side'),
    ('minProfitFactor', '0.6', 'strategy', 'evaluation', 'number', 'Profit factor from which a position may be promoted'),
    ('strategyBlockEnabled', 'true', 'strategy', 'block', 'boolean', 'Let the block strategy adjust positions'),
    ('strategyDcaEnabled', 'true', 'strategy', 'dca', 'boolean', 'Let the dca strategy adjust positions'),
    ('dcaTotalSteps', '4', 'strategy', 'dca', 'number', 'Steps of one dca sequence'),
    ('strategyTrailingEnabled', 'true', 'strategy', 'trailing', 'boolean', 'Let a trailing stop follow winning positions');
