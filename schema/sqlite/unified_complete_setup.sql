-- The 22 core tables of CTS, their unique indexes, the indexes for foreign keys and basic queries, and the settings
-- of a new database. The indexes for performance and the two coordination tables have files of their own.
--
-- docs/schema.md is made from the comments in this folder. The block above a table says what one row is, and below it
-- each column in four parts separated by semicolons: meaning; format, with unit and usual values; written by whom; read
-- by whom. The block above an index says which query it serves or which rule it enforces, also for the indexes that
-- follow without an empty line. The files in schema/postgres say only what differs there.

-- Conventions
--
-- Who writes and reads a column:
--
--   cts        this program. It also copies, backs up and restores every column, which is not repeated.
--   database   the default of the column, used where the inserting program gives no value
--   engine     the trading engine
--   web        the web application: its pages and its HTTP interface
--   programs   trading programs, not known which
--
-- "not written" and "not read" mean that no statement of a program is known that names the column. cts keeps it.
--
-- Formats:
--
--   UTC time        text, YYYY-MM-DD HH:MM:SS.SSS. It sorts and compares with what datetime() gives.
--   UTC date        text, YYYY-MM-DD
--   0 or 1          integer, 0 for false and 1 for true
--   count           integer, 0 or more
--   JSON            text, NULL until a program writes it
--   quote currency  number, an amount in the quote currency of the symbol. A price is per unit of the base currency.
--   base currency   number, an amount in the base currency of the symbol
--
-- "unit set by the programs" means that the schema does not fix the unit, and that programs may differ.
--
-- Every connection_id is text, as the ids of connections are. Row ids are assigned by the database, which may use the
-- id of a deleted row again. The tables accept what the trading programs write: no CHECK constraint limits the values,
-- and NOT NULL stands only where a row would have no meaning without the value. Rules of uniqueness are indexes and not
-- part of a table, so that they can be added to a table that an older CTS made.

-- System: users, settings, events and the ledger

-- One user of the trading programs.
--
--   id             row id; integer; written by database; read by programs
--   username       name for signing in; text, unique; written by programs; read by programs
--   email          e-mail address; text, unique where it is set; written by programs; read by programs
--   password_hash  hash of the password; text, form chosen by the programs; written by programs; read by programs
--   role           rights of the user; text, usually user or admin; written by programs; read by programs
--   is_active      whether the user may sign in; 0 or 1; written by database; read by programs
--   created_at     when the row was inserted; UTC time; written by database; not read
CREATE TABLE IF NOT EXISTS users (
    id            INTEGER PRIMARY KEY,
    username      TEXT NOT NULL,
    email         TEXT,
    password_hash TEXT NOT NULL,
    role          TEXT DEFAULT 'user',
    is_active     INTEGER DEFAULT 1,
    created_at    TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);

-- One setting, shared by all programs and read by key in each engine cycle.
--
--   id           row id; integer; written by database; not read
--   key          name of the setting; text, unique, such as mainEngineIntervalMs; written by cts, programs; read by
--                engine, programs
--   value        value of the setting; text, to be read as value_type says; written by cts, programs; read by engine,
--                programs
--   category     group of settings; text, usually general, performance, indication, indications_common or strategy;
--                written by cts, programs; read by engine, programs
--   subcategory  group within the category; text; written by cts, programs; read by programs
--   value_type   how value is to be read; text: string, number, boolean or json; written by cts; read by programs
--   description  what the setting does, with its unit; text; written by cts, programs; read by programs
--   updated_at   when value was last written; UTC time; written by database, programs; not read
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

-- One event, for people. connection_id is not a foreign key: a log line is never refused, and it stays when its
-- connection is deleted.
--
--   id             row id; integer; written by database; not read
--   timestamp      when the event happened; UTC time; written by database, programs; read by web
--   level          severity; text, usually debug, info, warn, warning or error (cts: info, warn, error); written by
--                  cts, programs; read by web
--   category       part of the system that reports the event; text (cts: database); written by cts, programs; read by
--                  web
--   message        what happened, for people; text; written by cts, programs; read by web
--   context        circumstances of the event; JSON; written by programs; not read
--   user_id        user concerned; text, users.id as text; written by programs; not read
--   connection_id  connection concerned; text, exchange_connections.id; written by programs; read by web
--   error_message  message of the error; text; written by programs; not read
--   error_stack    call stack of the error; text; written by programs; not read
--   stack          call stack, from programs that do not write error_stack; text; written by programs; not read
--   details        details of the event, from programs that do not write context; text; written by programs; not read
--   metadata       further values of the event; JSON; written by programs; read by web
--   created_at     when the row was inserted; UTC time; written by database; read by programs
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

-- The ledger: one migration that was applied. Rows without a checksum were written by an older CTS.
--
--   id                 row id, in the order of application; integer; written by cts, programs; read by cts, programs
--   name               file name of the migration; text, unique where checksum is set; written by cts, programs; read
--                      by cts, programs
--   checksum           SHA-256 of the statements of the file, comments left out and white space folded; text, 64
--                      hexadecimal digits, NULL from an older CTS; written by cts; read by cts, programs
--   executed_at        when the migration was applied; UTC time; written by database, cts, programs; read by cts,
--                      programs
--   execution_time_ms  how long the migration took; integer, milliseconds; written by cts; read by cts, programs
--   version            version of cts that applied the migration; text, such as 3.1.0; written by cts; read by cts
CREATE TABLE IF NOT EXISTS migrations (
    id                INTEGER PRIMARY KEY,
    name              TEXT NOT NULL,
    checksum          TEXT,
    executed_at       TEXT NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    execution_time_ms INTEGER,
    version           TEXT
);

-- Connections: accounts at exchanges

-- One account at an exchange. API keys may be NULL, since a predefined connection is listed before it has any. Rows of
-- most tables below belong to a connection and are deleted with it (ON DELETE CASCADE).
--
--   id                   id of the connection, chosen by the program; text: 21 random characters, or a name such as
--                        bybit-x03; written by programs; read by engine, programs
--   name                 display name; text, need not be unique; written by programs; read by programs
--   user_id              owner of the connection; integer, users.id; written by programs; not read
--   temp_user_id         owner before there is a user; text; written by programs; not read
--   exchange             name of the exchange; text, such as bybit; written by programs; read by engine, programs
--   exchange_id          number of the exchange; integer, set by the programs; written by programs; not read
--   api_type             market of the exchange; text, such as spot; written by programs; read by programs
--   api_key              API key of the account; text, secret; written by programs; read by programs
--   api_secret           API secret of the account; text, secret; written by programs; read by programs
--   passphrase           third part of the API credentials, at exchanges that ask for one; text, secret; written by
--                        programs; not read
--   api_capabilities     what the API of the exchange offers; JSON array; written by programs; not read
--   rate_limits          request limits of the exchange; JSON object; written by programs; not read
--   connection_method    how the exchange is reached; text, usually rest, websocket, library or typescript; written by
--                        programs; read by programs
--   connection_library   client library used for it; text, such as ccxt; written by programs; not read
--   margin_type          margin type ordered for new positions; text, usually cross or isolated; written by programs;
--                        not read
--   margin_mode          margin mode in use; text, usually cross or isolated; written by programs; read by programs
--   position_mode        whether both sides of a symbol may be held at once; text, usually hedge, one_way or one-way;
--                        written by programs; not read
--   position_type        type of positions opened; text, set by the programs; written by programs; read by programs
--   testnet              whether the test network of the exchange is used; 0 or 1; written by programs; read by
--                        programs
--   is_testnet           whether the test network of the exchange is used, from programs that do not write testnet; 0
--                        or 1; written by programs; not read
--   is_active            whether the connection takes part (it runs if is_enabled is set too); 0 or 1; written by
--                        programs; read by engine, programs
--   is_enabled           whether the connection is switched on (it runs if is_active is set too); 0 or 1; written by
--                        programs; read by engine, programs
--   is_predefined        whether the connection came with the program; 0 or 1; written by programs; read by programs
--   is_dashboard_active  whether the dashboard shows the connection as active; 0 or 1; written by programs; not read
--   is_live_trade        whether orders are sent to the exchange; 0 or 1; written by programs; read by programs
--   is_preset_trade      whether a preset type is traded; 0 or 1; written by programs; read by programs
--   preset_type_id       preset type that is traded; text, id set by the programs; written by programs; read by
--                        programs
--   settings             settings of the connection; JSON; written by programs; read by programs
--   connection_settings  settings of the connection, {} in a new row so that it can be parsed; JSON object; written by
--                        programs; read by programs
--   last_test_status     result of the last connection test; text; not written; read by programs
--   last_test_timestamp  when the connection was last tested; UTC time; not written; read by programs
--   created_at           when the row was inserted; UTC time; written by database, programs; read by engine, programs
--   updated_at           when the row was last changed; UTC time; written by database, programs; read by programs
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

-- Indications: conclusions of the engine about a symbol of a connection

-- One conclusion about the direction in which a price is expected to move.
--
--   id               row id; integer; written by database; read by programs
--   connection_id    connection the indication belongs to; text, exchange_connections.id; written by programs; read by
--                    programs
--   symbol           trading pair; text, as the exchange writes it; written by programs; read by programs
--   direction        expected direction of the price; text, usually long or short; not written; not read
--   signal_strength  strength of the signal; number, unit set by the programs; not written; not read
--   profit_factor    profit factor expected of the indication; number; written by database; read by programs
--   confidence       how sure the indication is; number, unit set by the programs; written by database; read by
--                    programs
--   status           state of the indication; text, usually active, closed or cancelled; written by programs; read by
--                    programs
--   metadata         further values of the calculation; JSON; not written; not read
--   calculated_at    when the indication was calculated; UTC time; written by database; read by programs
--   updated_at       when the row was last changed; UTC time; written by database, programs; not read
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

-- One conclusion about the speed of a price move.
--
--   id             row id; integer; written by database; read by programs
--   connection_id  connection the indication belongs to; text, exchange_connections.id; written by programs; read by
--                  programs
--   symbol         trading pair; text, as the exchange writes it; written by programs; read by programs
--   momentum       speed of the price move; number, unit set by the programs; not written; not read
--   move_type      kind of move; text, set by the programs; not written; not read
--   profit_factor  profit factor expected of the indication; number; written by database; read by programs
--   confidence     how sure the indication is; number, unit set by the programs; written by database; read by programs
--   status         state of the indication; text, usually active, closed or cancelled; written by programs; read by
--                  programs
--   metadata       further values of the calculation; JSON; not written; not read
--   calculated_at  when the indication was calculated; UTC time; written by database; read by programs
--   updated_at     when the row was last changed; UTC time; written by database, programs; not read
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

-- One conclusion about the activity of a market.
--
--   id              row id; integer; written by database; read by programs
--   connection_id   connection the indication belongs to; text, exchange_connections.id; written by programs; read by
--                   programs
--   symbol          trading pair; text, as the exchange writes it; written by programs; read by programs
--   activity_level  trading activity of the market; number, unit set by the programs; not written; not read
--   volatility      variation of the price; number, unit set by the programs; not written; not read
--   profit_factor   profit factor expected of the indication; number; written by database; read by programs
--   confidence      how sure the indication is; number, unit set by the programs; written by database; read by
--                   programs
--   status          state of the indication; text, usually active, closed or cancelled; written by programs; read by
--                   programs
--   metadata        further values of the calculation; JSON; not written; not read
--   calculated_at   when the indication was calculated; UTC time; written by database; read by programs
--   updated_at      when the row was last changed; UTC time; written by database, programs; not read
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

-- One conclusion about the best of the other indications, with a score and the action it suggests.
--
--   id                  row id; integer; written by database; read by programs
--   connection_id       connection the indication belongs to; text, exchange_connections.id; written by programs; read
--                       by programs
--   symbol              trading pair; text, as the exchange writes it; written by programs; read by programs
--   optimization_score  score of the indication among the candidates; number, unit set by the programs; not written;
--                       not read
--   recommended_action  action that the score suggests; text, set by the programs; not written; not read
--   profit_factor       profit factor expected of the indication; number; written by database; read by programs
--   confidence          how sure the indication is; number, unit set by the programs; written by database; read by
--                       programs
--   status              state of the indication; text, usually evaluating, active, paused or failed; written by
--                       programs; read by programs
--   metadata            further values of the calculation; JSON; not written; not read
--   calculated_at       when the indication was calculated; UTC time; written by database; read by programs
--   updated_at          when the row was last changed; UTC time; written by database, programs; not read
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

-- One signal that the engine derives from the trend of eight hours, the short and long market direction and the
-- activity.
--
--   id                      row id; integer; written by database; read by programs
--   connection_id           connection the indication belongs to; text, exchange_connections.id; written by programs;
--                           read by programs
--   symbol                  trading pair; text, as the exchange writes it; written by programs; read by programs
--   eight_hour_trend        trend of the last eight hours; text, usually bullish, bearish or neutral; not written; not
--                           read
--   market_direction_short  direction of the market over a short time; text, usually up, down or sideways; not
--                           written; not read
--   market_direction_long   direction of the market over a long time; text, usually up, down or sideways; not written;
--                           not read
--   progressive_activity    activity as it builds up; number, unit set by the programs; not written; not read
--   auto_signal             signal chosen; text, set by the programs; not written; not read
--   profit_factor           profit factor expected of the indication; number; written by database; read by programs
--   confidence              how sure the indication is; number, unit set by the programs; written by database; read by
--                           programs
--   status                  state of the indication; text, usually active, closed or cancelled; written by programs;
--                           read by programs
--   metadata                further values of the calculation; JSON; not written; not read
--   calculated_at           when the indication was calculated; UTC time; written by database; read by programs
--   updated_at              when the row was last changed; UTC time; written by database, programs; not read
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

-- Strategies: how indications are acted upon, and the results so far

-- One first combination of take profit and stop loss for a type of indication, with its results.
--
--   id                 row id; integer; written by database; read by programs
--   connection_id      connection the strategy belongs to; text, exchange_connections.id; written by programs; read by
--                      programs
--   symbol             trading pair; text, as the exchange writes it; written by programs; read by programs
--   indication_type    type of indication the strategy follows; text, usually direction, move, active, optimal or
--                      auto; not written; not read
--   takeprofit_factor  take profit; number, factor, base set by the programs; not written; not read
--   stoploss_ratio     stop loss; number, ratio, base set by the programs; not written; not read
--   profit_factor      profits of the winning trades divided by losses of the losing trades; number; written by
--                      database; read by programs
--   win_rate           share of winning trades; number, fraction or percent as the programs write it; written by
--                      database; read by programs
--   total_trades       closed trades; count; written by database; read by programs
--   winning_trades     closed trades with a profit; count; written by database; read by programs
--   losing_trades      closed trades with a loss; count; written by database; read by programs
--   status             state of the strategy; text, usually active, open, paused or closed; written by programs; read
--                      by programs
--   strategy_config    configuration of the strategy; JSON; not written; not read
--   created_at         when the row was inserted; UTC time; written by database; read by programs
--   updated_at         when the row was last changed; UTC time; written by database, programs; not read
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

-- One base strategy that was selected by the results of its last positions, with a limit of open positions.
--
--   id                        row id; integer; written by database; read by programs
--   connection_id             connection the strategy belongs to; text, exchange_connections.id; written by programs;
--                             read by programs
--   symbol                    trading pair; text, as the exchange writes it; written by programs; read by programs
--   indication_type           type of indication the strategy follows; text, usually direction, move, active, optimal
--                             or auto; not written; not read
--   takeprofit_factor         take profit; number, factor, base set by the programs; not written; not read
--   stoploss_ratio            stop loss; number, ratio, base set by the programs; not written; not read
--   last_positions_count      last positions by which the strategy is judged; count; not written; not read
--   max_concurrent_positions  positions that may be open at once; count; not written; not read
--   profit_factor             profits of the winning trades divided by losses of the losing trades; number; written by
--                             database; read by programs
--   win_rate                  share of winning trades; number, fraction or percent as the programs write it; written
--                             by database; read by programs
--   total_trades              closed trades; count; written by database; read by programs
--   winning_trades            closed trades with a profit; count; written by database; read by programs
--   losing_trades             closed trades with a loss; count; written by database; read by programs
--   status                    state of the strategy; text, usually active, open, paused or closed; written by
--                             programs; read by programs
--   strategy_config           configuration of the strategy; JSON; not written; not read
--   created_at                when the row was inserted; UTC time; written by database; read by programs
--   updated_at                when the row was last changed; UTC time; written by database, programs; not read
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

-- One trade with real money.
--
--   id                   row id; integer; written by database; read by programs
--   connection_id        connection the trade belongs to; text, exchange_connections.id; written by programs; read by
--                        programs
--   symbol               trading pair; text, as the exchange writes it; written by programs; read by programs
--   side                 side of the trade; text, usually long or short; not written; not read
--   indication_type      type of indication that led to the trade; text, usually direction, move, active, optimal or
--                        auto; not written; not read
--   volume               size of the trade; number, unit set by the programs; not written; not read
--   entry_price          price at which the trade was opened; quote currency; not written; not read
--   current_price        last known price; quote currency; not written; not read
--   take_profit          take profit; number, unit set by the programs; not written; not read
--   stop_loss            stop loss; number, unit set by the programs; not written; not read
--   profit_loss          profit, or loss where it is negative; quote currency; written by database; read by programs
--   profit_loss_percent  profit or loss relative to the entry; percent; not written; not read
--   profit_factor        profit factor of the strategy; number; not written; not read
--   status               state of the trade; text, usually open, active, closed or cancelled; written by programs;
--                        read by programs
--   created_at           when the row was inserted; UTC time; written by database; read by programs
--   updated_at           when the row was last changed; UTC time; written by database, programs; not read
--   closed_at            when the trade was closed; UTC time, NULL while it is open; not written; not read
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

-- One strategy that adds volume in blocks after neutral positions.
--
--   id              row id; integer; written by database; read by programs
--   connection_id   connection the strategy belongs to; text, exchange_connections.id; written by programs; read by
--                   programs
--   symbol          trading pair; text, as the exchange writes it; written by programs; read by programs
--   block_count     blocks of volume added; count; not written; not read
--   neutral_count   neutral positions in a row; count; not written; not read
--   profit_factor   profits of the winning trades divided by losses of the losing trades; number; written by database;
--                   read by programs
--   win_rate        share of winning trades; number, fraction or percent as the programs write it; written by
--                   database; read by programs
--   total_trades    closed trades; count; written by database; read by programs
--   winning_trades  closed trades with a profit; count; written by database; read by programs
--   losing_trades   closed trades with a loss; count; written by database; read by programs
--   status          state of the strategy; text, usually active, open, paused or deactivated; written by programs;
--                   read by programs
--   block_config    configuration of the strategy; JSON; not written; not read
--   created_at      when the row was inserted; UTC time; written by database; read by programs
--   updated_at      when the row was last changed; UTC time; written by database, programs; not read
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

-- One strategy that averages the entry price in steps (dollar cost averaging).
--
--   id              row id; integer; written by database; read by programs
--   connection_id   connection the strategy belongs to; text, exchange_connections.id; written by programs; read by
--                   programs
--   symbol          trading pair; text, as the exchange writes it; written by programs; read by programs
--   current_step    step of the sequence that was reached; integer, from 1; not written; not read
--   total_steps     steps of the sequence; count; not written; not read
--   average_entry   average entry price over the steps; quote currency; not written; not read
--   total_invested  amount invested over the steps; quote currency; not written; not read
--   profit_factor   profits of the winning trades divided by losses of the losing trades; number; written by database;
--                   read by programs
--   win_rate        share of winning trades; number, fraction or percent as the programs write it; written by
--                   database; read by programs
--   total_trades    closed trades; count; written by database; read by programs
--   winning_trades  closed trades with a profit; count; written by database; read by programs
--   losing_trades   closed trades with a loss; count; written by database; read by programs
--   status          state of the strategy; text, usually active, open, paused or deactivated; written by programs;
--                   read by programs
--   dca_config      configuration of the strategy; JSON; not written; not read
--   created_at      when the row was inserted; UTC time; written by database; read by programs
--   updated_at      when the row was last changed; UTC time; written by database, programs; not read
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

-- One strategy that moves the stop along with the price once a profit is reached.
--
--   id               row id; integer; written by database; read by programs
--   connection_id    connection the strategy belongs to; text, exchange_connections.id; written by programs; read by
--                    programs
--   symbol           trading pair; text, as the exchange writes it; written by programs; read by programs
--   trail_start      profit from which the stop follows the price; number, unit set by the programs; not written; not
--                    read
--   trail_stop       distance at which the stop follows; number, unit set by the programs; not written; not read
--   highest_profit   highest profit reached; number, unit set by the programs; not written; not read
--   profit_factor    profits of the winning trades divided by losses of the losing trades; number; written by
--                    database; read by programs
--   win_rate         share of winning trades; number, fraction or percent as the programs write it; written by
--                    database; read by programs
--   total_trades     closed trades; count; written by database; read by programs
--   winning_trades   closed trades with a profit; count; written by database; read by programs
--   losing_trades    closed trades with a loss; count; written by database; read by programs
--   status           state of the strategy; text, usually active, open, paused or closed; written by programs; read by
--                    programs
--   trailing_config  configuration of the strategy; JSON; not written; not read
--   created_at       when the row was inserted; UTC time; written by database; read by programs
--   updated_at       when the row was last changed; UTC time; written by database, programs; not read
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

-- Positions: simulated and real. They refer to one another by id and without foreign keys, so that each table can be
-- pruned by itself.

-- One simulated position. Programs insert it without a status and search for status = 'active', hence that default.
-- activity_ratio to continuation_ratio are values of the indication that opened the position.
--
--   id                    row id, returned to the program that inserts; integer; written by database; read by engine,
--                         web, programs
--   connection_id         connection the position belongs to; text, exchange_connections.id; written by engine,
--                         programs; read by engine, web, programs
--   symbol                trading pair; text, as the exchange writes it; written by engine, programs; read by engine,
--                         web, programs
--   indication_type       type of indication that opened the position; text, usually direction, move, active,
--                         active_advanced, optimal or auto; written by engine, programs; read by engine, programs
--   indication_range      range of that indication; integer, unit set by the programs; written by programs; read by
--                         engine, programs
--   strategy_type         type of strategy the position follows; text, usually base, main or preset; not written; read
--                         by web, programs
--   adjusted_strategy     strategy that adjusted the position; text, usually block or dca; not written; read by
--                         programs
--   configuration_set_id  configuration set the position belongs to; text, id set by the programs; not written; read
--                         by programs
--   base_position_id      base configuration the position belongs to; text, key set by the programs; written by
--                         programs; read by programs
--   position_level        level of the position in its base configuration; text, usually base or main; written by
--                         programs; read by programs
--   mode                  mode of trading; text, such as main; written by database; read by engine, programs
--   side                  side of the position; text, usually long or short; written by engine, programs; read by
--                         engine, web, programs
--   direction             side of the position, from programs that do not write side; text, usually long or short;
--                         written by engine, programs; read by programs
--   status                state of the position; text, usually active, open, closed, archived, base_active,
--                         main_active or main_closed; written by database, engine, web, programs; read by engine, web,
--                         programs
--   is_open               whether the position is open; 0 or 1; not written; read by programs
--   entry_price           price at which the position was opened; quote currency; written by engine, programs; read by
--                         engine, web, programs
--   current_price         last known price, written at each tick; quote currency; written by engine, programs; read by
--                         engine, web, programs
--   quantity              size of the position; base currency; written by engine, programs; read by engine, web,
--                         programs
--   volume                volume of the position; number, unit set by the programs; not written; read by programs
--   adjusted_volume       volume after block or dca adjusted it; number, unit as volume; not written; read by programs
--   position_cost         cost of the position; percent of the balance; written by engine, programs; read by programs
--   takeprofit_factor     take profit; number, factor, base set by the programs; written by engine, programs; read by
--                         engine, programs
--   stoploss_ratio        stop loss; number, ratio, base set by the programs; written by engine, programs; read by
--                         engine, programs
--   trailing_enabled      whether a trailing stop is used; 0 or 1; written by engine, programs; read by engine,
--                         programs
--   trail_start           profit from which the stop follows the price; number, unit set by the programs; written by
--                         programs; not read
--   trail_stop            distance at which the stop follows; number, unit set by the programs; written by programs;
--                         not read
--   trailing_stop_price   price of the trailing stop; quote currency; written by programs; not read
--   profit_factor         profit factor of the position, written at each tick; number; written by engine, programs;
--                         read by engine, web, programs
--   profit_loss           profit, or loss where it is negative; quote currency; written by database; read by programs
--   profit_loss_percent   profit or loss relative to the entry; percent; written by database; read by web, programs
--   pnl                   profit or loss, from programs that do not write profit_loss; quote currency; not written;
--                         read by programs
--   pnl_percentage        profit or loss relative to the entry, from the same programs; percent; not written; read by
--                         programs
--   block_neutral_count   neutral positions in a row, for the block strategy; count; written by database; read by
--                         programs
--   dca_step              step of the dca sequence; integer, from 1; written by database; read by programs
--   dca_total_steps       steps of the dca sequence; count; written by database; read by programs
--   activity_ratio        activity ratio of the indication; number, ratio; written by programs; read by engine,
--                         programs
--   time_window           time window of the indication; integer, unit set by the programs; written by programs; read
--                         by engine, programs
--   overall_change        price change over the time window; number, unit set by the programs; written by programs;
--                         not read
--   last_part_change      price change over the last part of the time window; number, unit set by the programs;
--                         written by programs; not read
--   last_part_ratio       ratio of the last part of the time window; number, ratio; written by programs; not read
--   market_change_range   range of the market change; integer, unit set by the programs; written by programs; not read
--   drawdown_ratio        drawdown ratio of the indication; number, ratio; written by programs; not read
--   volatility            variation of the price; number, unit set by the programs; written by programs; not read
--   momentum              speed of the price move; number, unit set by the programs; written by programs; not read
--   continuation_ratio    continuation ratio of the indication; number, ratio; written by programs; not read
--   close_reason          why the position was closed; text; written by engine; not read
--   opened_at             when the position was opened; UTC time; written by database, programs; read by engine, web,
--                         programs
--   closed_at             when the position was closed; UTC time, NULL while it is open; written by engine; read by
--                         web, programs
--   created_at            when the row was inserted; UTC time; written by database, programs; read by engine, web,
--                         programs
--   updated_at            when the row was last changed; UTC time; written by database, engine, web, programs; read by
--                         programs
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

-- One simulated position that was promoted, to be followed like a real one. main_config_id and main_position_id are
-- integers like pseudo_positions.id, since an index on text would not serve the comparison with it.
--
--   id                 row id; integer; written by database; read by programs
--   connection_id      connection the position belongs to; text, exchange_connections.id; written by programs; read by
--                      programs
--   symbol             trading pair; text, as the exchange writes it; written by programs; not read
--   base_config_id     base configuration the position comes from; text, key set by the programs; written by programs;
--                      not read
--   main_config_id     position of level main that was promoted; integer, pseudo_positions.id; written by programs;
--                      read by engine, programs
--   main_position_id   position that this one follows; integer, pseudo_positions.id; written by programs; read by
--                      programs
--   mode               mode of trading; text, such as main; written by programs; not read
--   side               side of the position; text, usually long or short; written by programs; not read
--   status             state of the position; text, usually active, validated, closed or stopped; written by programs;
--                      read by programs
--   entry_price        price at which the position was opened; quote currency; written by programs; not read
--   quantity           size of the position; base currency; written by programs; not read
--   takeprofit         take profit; number, unit set by the programs; written by programs; not read
--   stoploss           stop loss; number, unit set by the programs; written by programs; not read
--   trailing_enabled   whether a trailing stop is used; 0 or 1; written by programs; not read
--   trail_start        profit from which the stop follows the price; number, unit set by the programs; written by
--                      programs; not read
--   trail_stop         distance at which the stop follows; number, unit set by the programs; written by programs; not
--                      read
--   profit_factor      profit factor at the time of promotion; number; written by programs; not read
--   avg_drawdown_time  average duration of a drawdown; number, unit set by the programs; written by programs; not read
--   validated_at       when the position was validated; UTC time; written by programs; not read
--   created_at         when the row was inserted; UTC time; written by database; not read
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

-- One position at the exchange. No program is known that uses this table.
--
--   id                       row id; integer; not written; not read
--   connection_id            connection the position belongs to; text, exchange_connections.id; not written; not read
--   real_pseudo_position_id  validated position that this one mirrors; integer, real_pseudo_positions.id; not written;
--                            not read
--   exchange_position_id     id of the position at the exchange; text; not written; not read
--   exchange_order_id        id of the order at the exchange; text; not written; not read
--   symbol                   trading pair; text, as the exchange writes it; not written; not read
--   side                     side of the position; text, usually long or short; not written; not read
--   status                   state of the position; text, such as open or closed; not written; not read
--   leverage                 leverage; integer, multiple of the margin; not written; not read
--   entry_price              price at which the position was opened; quote currency; not written; not read
--   current_price            last known price; quote currency; not written; not read
--   quantity                 size of the position; base currency; not written; not read
--   takeprofit               take profit; number, unit set by the programs; not written; not read
--   stoploss                 stop loss; number, unit set by the programs; not written; not read
--   unrealized_pnl           profit or loss of what is still open; quote currency; not written; not read
--   realized_pnl             profit or loss of what was closed; quote currency; not written; not read
--   fees_paid                fees paid to the exchange; quote currency; not written; not read
--   opened_at                when the position was opened; UTC time; not written; not read
--   last_updated_at          when the row was last brought up to date; UTC time; not written; not read
--   closed_at                when the position was closed; UTC time, NULL while it is open; not written; not read
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

-- Statistics: results by day, which cts calculates from the closed rows of pseudo_positions. No other program is known
-- that uses these tables.

-- The results of the positions that followed one type of indication, by connection, symbol and period.
--
--   id                         row id; integer; written by database; read by cts
--   connection_id              connection the statistics belong to; text, exchange_connections.id; written by cts; read
--                              by cts
--   symbol                     trading pair; text, as the exchange writes it; written by cts; read by cts
--   indication_type            type of indication that the positions followed; text, usually direction, move, active,
--                              active_advanced, optimal or auto, empty where a position has none; written by cts; read
--                              by cts
--   period_start               midnight at which the day of closing begins; UTC time; written by cts; read by cts
--   period_end                 midnight at which the day of closing ends; UTC time; written by cts; read by cts
--   total_positions            closed positions; count; written by cts; read by cts
--   winning_positions          closed positions with a profit above 0; count; written by cts; read by cts
--   losing_positions           closed positions with a loss; count; written by cts; read by cts
--   total_pnl                  sum of profits and losses; quote currency; written by cts; read by cts
--   total_profit               sum of the profits above 0; quote currency; written by cts; read by cts
--   total_loss                 sum of the losses; quote currency, 0 or less; written by cts; read by cts
--   total_fees                 sum of fees; quote currency, NULL since pseudo_positions has no column of fees; written
--                              by cts; read by cts
--   win_rate                   winning divided by all; fraction, 0 to 1; written by cts; read by cts
--   profit_factor              sum of profits divided by the absolute sum of losses; number, NULL where there is no
--                              loss; written by cts; read by cts
--   best_trade_pnl             largest result of one position; quote currency; written by cts; read by cts
--   worst_trade_pnl            smallest result of one position; quote currency; written by cts; read by cts
--   max_drawdown               largest fall of the running sum of profits, in order of closing, from its highest point,
--                              which is 0 at the start; quote currency; written by cts; read by cts
--   avg_hold_duration_seconds  mean time from opening to closing; seconds, NULL where no opening is known; written by
--                              cts; read by cts
--   highest_sum                highest point of the running sum of profits; quote currency, 0 or more; written by cts;
--                              read by cts
--   lowest_sum                 lowest point of the running sum of profits; quote currency, 0 or less; written by cts;
--                              read by cts
--   source_rows                rows of pseudo_positions that were counted; count; written by cts; read by cts
--   source_digest              digest of the rows that were counted: the sum of their SHA-256 hashes modulo 2^256; 64
--                              hexadecimal digits; written by cts; read by cts
--   last_calculated_at         when the row was last calculated; UTC time; written by cts; read by cts
CREATE TABLE IF NOT EXISTS statistics_indication (
    id                        INTEGER PRIMARY KEY,
    connection_id             TEXT NOT NULL REFERENCES exchange_connections (id) ON DELETE CASCADE,
    symbol                    TEXT NOT NULL,
    indication_type           TEXT NOT NULL,
    period_start              TEXT NOT NULL,
    period_end                TEXT NOT NULL,
    total_positions           INTEGER DEFAULT 0,
    winning_positions         INTEGER DEFAULT 0,
    losing_positions          INTEGER DEFAULT 0,
    total_pnl                 REAL DEFAULT 0,
    total_profit              REAL DEFAULT 0,
    total_loss                REAL DEFAULT 0,
    total_fees                REAL,
    win_rate                  REAL DEFAULT 0,
    profit_factor             REAL,
    best_trade_pnl            REAL,
    worst_trade_pnl           REAL,
    max_drawdown              REAL DEFAULT 0,
    avg_hold_duration_seconds REAL,
    highest_sum               REAL DEFAULT 0,
    lowest_sum                REAL DEFAULT 0,
    source_rows               INTEGER DEFAULT 0,
    source_digest             TEXT,
    last_calculated_at        TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);

-- The results of the positions of one type of strategy, by connection, symbol and period.
--
--   id                         row id; integer; written by database; read by cts
--   connection_id              connection the statistics belong to; text, exchange_connections.id; written by cts; read
--                              by cts
--   symbol                     trading pair; text, as the exchange writes it; written by cts; read by cts
--   strategy_type              type of strategy that the positions followed; text, usually base, main or preset, empty
--                              where a position has none; written by cts; read by cts
--   period_start               midnight at which the day of closing begins; UTC time; written by cts; read by cts
--   period_end                 midnight at which the day of closing ends; UTC time; written by cts; read by cts
--   total_positions            closed positions; count; written by cts; read by cts
--   winning_positions          closed positions with a profit above 0; count; written by cts; read by cts
--   losing_positions           closed positions with a loss; count; written by cts; read by cts
--   total_pnl                  sum of profits and losses; quote currency; written by cts; read by cts
--   total_profit               sum of the profits above 0; quote currency; written by cts; read by cts
--   total_loss                 sum of the losses; quote currency, 0 or less; written by cts; read by cts
--   total_fees                 sum of fees; quote currency, NULL since pseudo_positions has no column of fees; written
--                              by cts; read by cts
--   win_rate                   winning divided by all; fraction, 0 to 1; written by cts; read by cts
--   profit_factor              sum of profits divided by the absolute sum of losses; number, NULL where there is no
--                              loss; written by cts; read by cts
--   best_trade_pnl             largest result of one position; quote currency; written by cts; read by cts
--   worst_trade_pnl            smallest result of one position; quote currency; written by cts; read by cts
--   max_drawdown               largest fall of the running sum of profits, in order of closing, from its highest point,
--                              which is 0 at the start; quote currency; written by cts; read by cts
--   avg_hold_duration_seconds  mean time from opening to closing; seconds, NULL where no opening is known; written by
--                              cts; read by cts
--   highest_sum                highest point of the running sum of profits; quote currency, 0 or more; written by cts;
--                              read by cts
--   lowest_sum                 lowest point of the running sum of profits; quote currency, 0 or less; written by cts;
--                              read by cts
--   source_rows                rows of pseudo_positions that were counted; count; written by cts; read by cts
--   source_digest              digest of the rows that were counted: the sum of their SHA-256 hashes modulo 2^256; 64
--                              hexadecimal digits; written by cts; read by cts
--   last_calculated_at         when the row was last calculated; UTC time; written by cts; read by cts
CREATE TABLE IF NOT EXISTS statistics_strategy (
    id                        INTEGER PRIMARY KEY,
    connection_id             TEXT NOT NULL REFERENCES exchange_connections (id) ON DELETE CASCADE,
    symbol                    TEXT NOT NULL,
    strategy_type             TEXT NOT NULL,
    period_start              TEXT NOT NULL,
    period_end                TEXT NOT NULL,
    total_positions           INTEGER DEFAULT 0,
    winning_positions         INTEGER DEFAULT 0,
    losing_positions          INTEGER DEFAULT 0,
    total_pnl                 REAL DEFAULT 0,
    total_profit              REAL DEFAULT 0,
    total_loss                REAL DEFAULT 0,
    total_fees                REAL,
    win_rate                  REAL DEFAULT 0,
    profit_factor             REAL,
    best_trade_pnl            REAL,
    worst_trade_pnl           REAL,
    max_drawdown              REAL DEFAULT 0,
    avg_hold_duration_seconds REAL,
    highest_sum               REAL DEFAULT 0,
    lowest_sum                REAL DEFAULT 0,
    source_rows               INTEGER DEFAULT 0,
    source_digest             TEXT,
    last_calculated_at        TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);

-- The results of one day of a connection.
--
--   id                         row id; integer; written by database; read by cts
--   connection_id              connection the statistics belong to; text, exchange_connections.id; written by cts; read
--                              by cts
--   trade_date                 day on which the trades were closed; UTC date; written by cts; read by cts
--   total_trades               closed trades; count; written by cts; read by cts
--   winning_trades             closed trades with a profit above 0; count; written by cts; read by cts
--   losing_trades              closed trades with a loss; count; written by cts; read by cts
--   total_pnl                  sum of profits and losses; quote currency; written by cts; read by cts
--   total_profit               sum of the profits above 0; quote currency; written by cts; read by cts
--   total_loss                 sum of the losses; quote currency, 0 or less; written by cts; read by cts
--   total_fees                 sum of fees; quote currency, NULL since pseudo_positions has no column of fees; written
--                              by cts; read by cts
--   win_rate                   winning divided by all; fraction, 0 to 1; written by cts; read by cts
--   profit_factor              sum of profits divided by the absolute sum of losses; number, NULL where there is no
--                              loss; written by cts; read by cts
--   max_profit                 largest result of one trade; quote currency; written by cts; read by cts
--   max_loss                   smallest result of one trade; quote currency; written by cts; read by cts
--   max_drawdown               largest fall of the running sum of profits, in order of closing, from its highest point,
--                              which is 0 at the start; quote currency; written by cts; read by cts
--   avg_hold_duration_seconds  mean time from opening to closing; seconds, NULL where no opening is known; written by
--                              cts; read by cts
--   highest_sum                highest point of the running sum of profits; quote currency, 0 or more; written by cts;
--                              read by cts
--   lowest_sum                 lowest point of the running sum of profits; quote currency, 0 or less; written by cts;
--                              read by cts
--   source_rows                rows of pseudo_positions that were counted; count; written by cts; read by cts
--   source_digest              digest of the rows that were counted: the sum of their SHA-256 hashes modulo 2^256; 64
--                              hexadecimal digits; written by cts; read by cts
--   source_rows_left           rows that were counted and that retention has not deleted yet; count, NULL until it
--                              deletes the first one; written by cts; read by cts
--   source_digest_left         digest of the rows that were counted and are left; 64 hexadecimal digits, NULL until the
--                              first one is deleted; written by cts; read by cts
--   last_calculated_at         when the row was last calculated; UTC time; written by cts; read by cts
CREATE TABLE IF NOT EXISTS statistics_daily (
    id                        INTEGER PRIMARY KEY,
    connection_id             TEXT NOT NULL REFERENCES exchange_connections (id) ON DELETE CASCADE,
    trade_date                TEXT NOT NULL,
    total_trades              INTEGER DEFAULT 0,
    winning_trades            INTEGER DEFAULT 0,
    losing_trades             INTEGER DEFAULT 0,
    total_pnl                 REAL DEFAULT 0,
    total_profit              REAL DEFAULT 0,
    total_loss                REAL DEFAULT 0,
    total_fees                REAL,
    win_rate                  REAL DEFAULT 0,
    profit_factor             REAL,
    max_profit                REAL,
    max_loss                  REAL,
    max_drawdown              REAL DEFAULT 0,
    avg_hold_duration_seconds REAL,
    highest_sum               REAL DEFAULT 0,
    lowest_sum                REAL DEFAULT 0,
    source_rows               INTEGER DEFAULT 0,
    source_digest             TEXT,
    source_rows_left          INTEGER,
    source_digest_left        TEXT,
    last_calculated_at        TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);

-- Unique indexes

-- Enforces that a user name is used once. Serves reading a user by name.
CREATE UNIQUE INDEX IF NOT EXISTS idx_users_username
    ON users (username);
-- Enforces that an e-mail address is used once; several users may have none. Serves reading a user by e-mail address.
CREATE UNIQUE INDEX IF NOT EXISTS idx_users_email
    ON users (email);

-- Enforces one row for each key, the conflict target of programs that write settings (ON CONFLICT (key)). Serves
-- reading a setting by key.
CREATE UNIQUE INDEX IF NOT EXISTS idx_system_settings_key
    ON system_settings (key);

-- Enforces that a migration is recorded once. Rows of an older CTS, which have no checksum, may repeat a name.
CREATE UNIQUE INDEX IF NOT EXISTS idx_migrations_name
    ON migrations (name)
    WHERE checksum IS NOT NULL;

-- Enforces one row for each period. Serves deleting the statistics of a connection (foreign key).
CREATE UNIQUE INDEX IF NOT EXISTS idx_statistics_indication_period
    ON statistics_indication (connection_id, symbol, indication_type, period_start, period_end);
CREATE UNIQUE INDEX IF NOT EXISTS idx_statistics_strategy_period
    ON statistics_strategy (connection_id, symbol, strategy_type, period_start, period_end);
CREATE UNIQUE INDEX IF NOT EXISTS idx_statistics_daily_date
    ON statistics_daily (connection_id, trade_date);

-- Indexes for foreign keys and basic queries. Without an index that begins with connection_id, deleting a connection
-- would read each table that refers to it completely.

-- Serves reading the statistics of some days, and deleting old ones.
CREATE INDEX IF NOT EXISTS idx_statistics_indication_day
    ON statistics_indication (period_start);
CREATE INDEX IF NOT EXISTS idx_statistics_strategy_day
    ON statistics_strategy (period_start);
CREATE INDEX IF NOT EXISTS idx_statistics_daily_day
    ON statistics_daily (trade_date);

-- Serves the newest indications of a connection and symbol, in any status. Serves deleting the indications of a
-- connection (foreign key).
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

-- Serves the newest active indications of a connection. Indications in another status take no space in it.
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

-- Serves the strategies of a connection in one status with the best results. Serves deleting the strategies of a
-- connection (foreign key).
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

-- Serves the open trades of a connection with the highest profit or loss, and the sum over its closed trades. Serves
-- deleting the trades of a connection (foreign key).
CREATE INDEX IF NOT EXISTS idx_strategies_real_status
    ON strategies_real (connection_id, status, profit_loss);

-- Serves the totals of a connection: the number of its positions by status and their average profit factor. With
-- profit_factor in the index, each tick writes one more index entry, and the totals do not read the positions. Serves
-- deleting the positions of a connection (foreign key).
CREATE INDEX IF NOT EXISTS idx_pseudo_positions_status
    ON pseudo_positions (connection_id, status, profit_factor);

-- Serves the number of positions of a connection by status, and those validated last. Serves deleting the positions of
-- a connection (foreign key).
CREATE INDEX IF NOT EXISTS idx_real_pseudo_positions_status
    ON real_pseudo_positions (connection_id, status, validated_at);

-- Serves deleting the positions of a connection (foreign key).
CREATE INDEX IF NOT EXISTS idx_exchange_positions_connection
    ON exchange_positions (connection_id);

-- The settings of a new database. OR IGNORE keeps a value that a person has changed.
INSERT OR IGNORE INTO system_settings (key, value, category, subcategory, value_type, description) VALUES
    ('mainEngineIntervalMs', '100', 'performance', 'engine', 'number', 'Pause between two cycles of the main engine, in milliseconds'),
    ('positionUpdateIntervalMs', '1000', 'performance', 'engine', 'number', 'Pause between two price updates of live positions, in milliseconds'),
    ('healthCheckIntervalMs', '5000', 'performance', 'engine', 'number', 'Pause between two looks at the running connections, in milliseconds'),
    ('statisticsCacheMs', '5000', 'performance', 'cache', 'number', 'How long totals may be shown before they are counted again, in milliseconds'),
    ('minimumConnectIntervalMs', '200', 'general', 'connection', 'number', 'Least time between two requests to one exchange, in milliseconds'),
    ('site_logs_days', '30', 'retention', 'logs', 'number', 'Days that log lines are kept; 0 keeps them'),
    ('indications_expired_days', '7', 'retention', 'indications', 'number', 'Days that expired indications are kept; 0 keeps them'),
    ('positions_closed_days', '0', 'retention', 'positions', 'number', 'Days that closed positions are kept; 0 keeps them'),
    ('statistics_days', '0', 'retention', 'statistics', 'number', 'Days that statistics are kept; 0 keeps them'),
    ('database_max_bytes', '0', 'retention', 'size', 'number', 'Size of the database above which the oldest rows are deleted that may be deleted, in bytes; 0 is no limit'),
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
