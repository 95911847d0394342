//! Databases of the original CTS, made for each test from its scripts, with rows as its programs
//! wrote them and objects that users added. Nothing here depends on the present schema.

use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

/// Which of its scripts made the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Old {
    /// The unified script: integer ids, a ledger with a row for each statement.
    Unified,
    /// The 000 script: text ids, no ledger.
    Master,
    /// The unified script, and then the 000 script.
    Both,
    /// The early `sqlite_init` script: few tables, few columns.
    Init,
    /// None: the runner failed once it had made its ledger.
    Empty,
}

const ROWS: usize = 30;
const CONNECTIONS: usize = 5;

/// The id of a deleted connection.
const GONE: i64 = 77;

impl Old {
    pub const ALL: [Old; 5] = [Old::Unified, Old::Master, Old::Both, Old::Init, Old::Empty];

    pub fn make(self, path: &Path) {
        let conn = Connection::open(path).unwrap();
        conn.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        match self {
            Old::Unified => conn.execute_batch("PRAGMA journal_mode = WAL").unwrap(),
            Old::Init => conn.execute_batch("PRAGMA page_size = 1024").unwrap(),
            _ => {}
        }
        conn.execute_batch("BEGIN").unwrap();
        for script in self.scripts() {
            run_script(&conn, script);
        }
        if self != Old::Empty {
            self.fill(&conn);
            conn.execute_batch(self.awkward_rows()).unwrap();
            conn.execute_batch(THEIR_OWN).unwrap();
        }
        conn.execute_batch("COMMIT").unwrap();
    }

    fn scripts(self) -> &'static [&'static str] {
        match self {
            Old::Unified => &[UNIFIED],
            Old::Master => &[MASTER],
            Old::Both => &[UNIFIED, MASTER],
            Old::Init => &[INIT],
            Old::Empty => &["TABLE migrations (@id, name TEXT UNIQUE, \
                 executed_at DATETIME DEFAULT CURRENT_TIMESTAMP)"],
        }
    }

    /// Text ids came with the 000 script and with `sqlite_init`.
    fn has_text_ids(self) -> bool {
        matches!(self, Old::Master | Old::Init)
    }

    /// Every tenth row refers to a deleted connection.
    fn connection(self, n: usize) -> Value {
        let text = |id: &str| Value::Text(id.to_string());
        match (n % 10, self) {
            (9, Old::Both) if n % 20 == 19 => text("okx-x02"),
            (9, _) if self.has_text_ids() => text(&nanoid("gone", 0)),
            (9, _) => Value::Integer(GONE),
            (n, _) if self.has_text_ids() => match n % CONNECTIONS {
                0 => text("binance-x01"),
                1 => text("ünïcode-x✓"),
                n => text(&nanoid("connection", n)),
            },
            // The third is more than a double can hold.
            (n, _) => Value::Integer([1, 2, 9_007_199_254_740_993, 4, 12][n % CONNECTIONS]),
        }
    }

    fn fill(self, conn: &Connection) {
        for table in texts(conn, "SELECT name FROM sqlite_schema WHERE type = 'table'") {
            let rows = match table.as_str() {
                "sqlite_sequence" | "migrations" => 0,
                // Its ids are text, but no row shows it.
                "strategies_trailing" if self == Old::Master => 0,
                "exchange_connections" | "connection_coordination" => CONNECTIONS,
                _ => ROWS,
            };
            let columns = columns(conn, &table);
            let marks = vec!["?"; columns.len()].join(", ");
            let sql = format!("INSERT INTO {table} VALUES ({marks})");
            for n in 0..rows {
                let values = columns.iter().map(|column| self.value(&table, column, n));
                conn.execute(&sql, params_from_iter(values))
                    .unwrap_or_else(|e| panic!("{self:?}, {table}, row {n}: {e}"));
            }
        }
    }

    fn value(self, table: &str, column: &Column, n: usize) -> Value {
        let text = |text: String| Value::Text(text);
        let pick = |words: &[&str]| Value::Text(words[n % words.len()].to_string());
        let (name, kind) = (column.name.as_str(), column.kind.as_str());
        match name {
            "id" if table == "exchange_connections" => self.connection(n),
            "id" if kind == "TEXT" => text(nanoid(table, n)),
            "id" => integer(2 * n + 1),
            "connection_id" if column.not_null || n % 7 != 6 => self.connection(n),
            "connection_id" => Value::Null,
            _ if !column.allowed.is_empty() => {
                text(column.allowed[n % column.allowed.len()].clone())
            }
            _ if !column.not_null && n % 7 == 6 => Value::Null,
            _ if kind == "REAL" => real(n),
            _ if kind == "INTEGER" && name.ends_with("_id") => integer(n + 1),
            _ if kind == "INTEGER" => number(n),
            _ if is_time(name) => pick(TIMES),
            // The first two dozen rows are pairs, each under two connections.
            "state_key" => text(format!("BTCUSDT:direction:{}", if n < 24 { n / 2 } else { n })),
            "symbol" => pick(&["BTCUSDT", "ETHUSDT", "1000PEPEUSDT", "币安USDT"]),
            "status" => pick(&["active", "closed", "open"]),
            _ if !column.not_null && n % 11 == 10 => Value::Blob(vec![0, 0xff, n as u8]),
            _ if is_json(name) => pick(JSON),
            _ => text(format!(
                "{name} {n} {}",
                ["plain", "größer ✓ 🚀", "it's \"quoted\"; --", ""][n % 4]
            )),
        }
    }

    fn awkward_rows(self) -> &'static str {
        match self {
            Old::Unified | Old::Both => UNIFIED_ROWS,
            Old::Master => {
                "INSERT INTO site_logs (level, category, message) \
                 VALUES ('info', 'a' || char(0) || 'b', CAST(x'636166e9' AS TEXT))"
            }
            // A text key may be NULL where nobody wrote NOT NULL.
            Old::Init => "UPDATE exchange_connections SET id = NULL WHERE rowid = 5",
            Old::Empty => "",
        }
    }
}

/// Adds this many copies of the first row of a table, with new ids.
pub fn enlarge(path: &Path, table: &str, rows: usize) {
    let conn = Connection::open(path).unwrap();
    let columns = columns(&conn, table);
    let names = |id: &str| -> String {
        let name = |column: &Column| match (column.name.as_str(), column.kind.as_str()) {
            ("id", "TEXT") => id.to_string(),
            ("id", _) => "NULL".to_string(),
            (name, _) => format!("first.\"{name}\""),
        };
        columns.iter().map(name).collect::<Vec<_>>().join(", ")
    };
    conn.execute_batch(&format!(
        "INSERT INTO {table} ({}) \
         WITH RECURSIVE counter (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counter WHERE n < {rows}) \
         SELECT {} FROM counter, (SELECT * FROM {table} ORDER BY rowid LIMIT 1) AS first",
        columns.iter().map(|column| format!("\"{}\"", column.name)).collect::<Vec<_>>().join(", "),
        names("'large-' || n")
    ))
    .unwrap();
}

/// Runs a script as the original runner did: existing objects are kept, and if there is a ledger,
/// each statement gets a row in it.
fn run_script(conn: &Connection, script: &str) {
    let long = [
        ("@id", "id INTEGER PRIMARY KEY AUTOINCREMENT"),
        ("@nanoid", "id TEXT PRIMARY KEY"),
        (
            "@integer_connection",
            "connection_id INTEGER NOT NULL REFERENCES exchange_connections(id) ON DELETE CASCADE",
        ),
        (
            "@text_connection",
            "connection_id TEXT NOT NULL REFERENCES exchange_connections(id) ON DELETE CASCADE",
        ),
        ("@created", "created_at DATETIME DEFAULT CURRENT_TIMESTAMP"),
        ("@updated", "updated_at DATETIME DEFAULT CURRENT_TIMESTAMP"),
        ("@calculated", "calculated_at DATETIME DEFAULT CURRENT_TIMESTAMP"),
        (
            "@judged",
            "created_at TEXT NOT NULL DEFAULT (datetime('now')), \
             updated_at TEXT NOT NULL DEFAULT (datetime('now'))",
        ),
        (
            "@type",
            "indication_type TEXT NOT NULL CHECK (indication_type IN \
             ('direction', 'move', 'active', 'optimal', 'auto'))",
        ),
        ("@side", "direction TEXT NOT NULL CHECK (direction IN ('long', 'short'))"),
        ("@status(", "status TEXT DEFAULT 'active' CHECK (status IN ("),
    ];
    let words = |statement: &str| statement.split_whitespace().collect::<Vec<_>>().join(" ");
    let statements = script.split(";\n").map(words).filter(|statement| !statement.is_empty());
    for (n, statement) in statements.enumerate() {
        let full = long.iter().fold(statement, |sql, (short, long)| sql.replace(short, long));
        let (kind, rest) = full.split_once(' ').unwrap();
        conn.execute_batch(&format!("CREATE {kind} IF NOT EXISTS {rest}"))
            .unwrap_or_else(|e| panic!("{full}: {e}"));
        if script == UNIFIED {
            let name = rest.split([' ', '(']).next().unwrap();
            conn.execute(
                "INSERT INTO migrations (name, executed_at) VALUES (?1, ?2)",
                [
                    format!("unified_{:03}_CREATE_{kind}_{name}", n + 1),
                    TIMES[n % TIMES.len()].to_string(),
                ],
            )
            .unwrap();
        }
    }
}

struct Column {
    name: String,
    kind: String,
    not_null: bool,
    /// The values that its CHECK allows.
    allowed: Vec<String>,
}

fn columns(conn: &Connection, table: &str) -> Vec<Column> {
    let schema = format!("SELECT sql FROM sqlite_schema WHERE name = '{table}'");
    let sql = texts(conn, &schema).concat();
    let allowed = |name: &str| -> Vec<String> {
        let list = sql
            .split(&format!("CHECK ({name} IN ("))
            .nth(1)
            .and_then(|rest| rest.split(')').next());
        list.unwrap_or_default()
            .split(", ")
            .map(|word| word.trim_matches('\'').to_string())
            .filter(|word| !word.is_empty())
            .collect()
    };
    let mut statement =
        conn.prepare("SELECT name, type, \"notnull\" FROM pragma_table_info(?1)").unwrap();
    let rows =
        statement.query_map([table], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    rows.map(|row| {
        let (name, kind, not_null): (String, String, bool) = row.unwrap();
        Column { allowed: allowed(&name), name, kind, not_null }
    })
    .collect()
}

fn texts(conn: &Connection, sql: &str) -> Vec<String> {
    let mut statement = conn.prepare(sql).unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// 21 characters, the same for the same row.
fn nanoid(table: &str, n: usize) -> String {
    let alphabet = b"useandom-26T198340PX75pxJACKVERYMINDBUSHWOLF_GQZbfghjklqvwyzrict";
    let mut state = table
        .bytes()
        .fold(n as u64 + 1, |state, byte| state.wrapping_mul(31).wrapping_add(byte.into()));
    let character = |_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(alphabet[(state >> 58) as usize])
    };
    (0..21).map(character).collect()
}

fn integer(n: usize) -> Value {
    Value::Integer(i64::try_from(n).unwrap())
}

/// Values that programs wrote to columns declared REAL.
fn real(n: usize) -> Value {
    match n % 9 {
        0 => Value::Real(0.1 + 0.2),
        1 => Value::Text("n/a".into()),
        2 => Value::Real(f64::INFINITY),
        3 => Value::Real(f64::NEG_INFINITY),
        4 => Value::Real(-0.0),
        5 => Value::Text(String::new()),
        6 => Value::Real(67_123.456_789_012_3),
        7 => Value::Real(5e-324),
        _ => integer(n),
    }
}

/// Values that programs wrote to columns declared INTEGER.
fn number(n: usize) -> Value {
    match n % 6 {
        0 => Value::Text("true".into()),
        1 => Value::Integer(i64::MAX),
        2 => Value::Real(2.5),
        _ => Value::Integer(i64::from(n.is_multiple_of(2))),
    }
}

const TIMES: &[&str] = &[
    "2025-03-01 09:30:00",
    "2025-03-01T09:30:00.123Z",
    "2025-03-01 09:30:00.456",
    "CURRENT_TIMESTAMP",
    "2025-03-01T09:30:00+02:00",
];

const JSON: &[&str] =
    &["{}", r#"{"leverage":10,"note":"größer \"✓\"","levels":[1,2.5,null]}"#, "[]", "{broken"];

fn is_time(name: &str) -> bool {
    name.ends_with("_at") || ["timestamp", "last_heartbeat", "cooldown_until"].contains(&name)
}

fn is_json(name: &str) -> bool {
    ["settings", "config", "metadata", "context", "value", "limits", "capabilities", "result"]
        .iter()
        .any(|end| name.ends_with(end))
}

/// A time of another type, a ledger row without a time and one with the name of a script, a state
/// of a deleted connection, and sequences ahead of their tables.
const UNIFIED_ROWS: &str = "\
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
const UNIFIED: &str = "
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
const MASTER: &str = "
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
const INIT: &str = "
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
