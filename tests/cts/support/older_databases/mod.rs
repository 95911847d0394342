//! Databases of the original CTS, made for each test from its scripts, with rows as its programs
//! wrote them and objects that users added. Nothing here depends on the present schema.

use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

mod scripts;

use scripts::{INIT, MASTER, THEIR_OWN, UNIFIED, UNIFIED_ROWS};

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
