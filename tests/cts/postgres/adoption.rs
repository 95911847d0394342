//! Adoption of databases of an older CTS on PostgreSQL: every row and value is kept, objects of the
//! owner are kept, violations are kept and reported, and a database that cannot be adopted is not
//! changed.

use std::collections::BTreeMap;

use postgres::{Client, SimpleQueryMessage};

use crate::support::cluster::{Cluster, Database};

/// Other types, violations, and objects of the owner.
const OLDER: &str = r#"
CREATE TABLE users (id SERIAL PRIMARY KEY, username VARCHAR(255) UNIQUE NOT NULL, email VARCHAR(255) UNIQUE,
    password_hash VARCHAR(255), role VARCHAR(50) DEFAULT 'user' CHECK (role IN ('user', 'admin')),
    is_active INTEGER DEFAULT 1, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, nickname TEXT NOT NULL UNIQUE,
    boss_id INTEGER REFERENCES users (id), CONSTRAINT nick CHECK (length(nickname) > 0));
INSERT INTO users (id, username, email, password_hash, is_active, created_at, nickname) VALUES
    (3, 'ada', 'a@x', 'h', 1, '2024-02-29 23:59:59.123456', 'A'), (7, 'größer ✓', NULL, NULL, 0, NULL, 'B'), (9, '', 'c@x', 'h', NULL, 'infinity', 'C');
UPDATE users SET boss_id = 3 WHERE id = 7;
SELECT setval('users_id_seq', 40);
CREATE TABLE system_settings (id SERIAL PRIMARY KEY, key VARCHAR(255), value JSONB, updated_at TIMESTAMPTZ(3) DEFAULT now());
INSERT INTO system_settings (key, value) VALUES ('mainEngineIntervalMs', '"250"'), ('twice', '{"b": 1, "a": 2}'), ('twice', '2'), ('none', NULL);
CREATE TABLE site_logs (id BIGSERIAL PRIMARY KEY, level VARCHAR(20) NOT NULL CHECK (level IN ('info', 'warn')),
    message TEXT NOT NULL, context JSON, timestamp TEXT DEFAULT CURRENT_TIMESTAMP, created_at TEXT);
INSERT INTO site_logs (level, message, context, timestamp, created_at) VALUES
    ('info', E'a\nb', '{"k" :  1.50, "k": 2}', '2025-01-31 10:00:00.5', '2025-01-31'), ('warn', '', NULL, '2024-02-29T00:00:00Z', 'yesterday');
CREATE TABLE migrations (id SERIAL PRIMARY KEY, name VARCHAR(255) UNIQUE NOT NULL, executed_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
INSERT INTO migrations (name, executed_at) VALUES ('unified_001', '2025-01-01'), ('051_add_performance_indexes.sql', NULL);
CREATE TABLE exchange_connections (id SERIAL PRIMARY KEY, user_id INTEGER REFERENCES users (id) ON DELETE CASCADE,
    name VARCHAR(255) NOT NULL, exchange VARCHAR(50) NOT NULL, api_key TEXT NOT NULL, is_enabled INTEGER NOT NULL DEFAULT 0,
    is_active BOOLEAN DEFAULT true, is_testnet TEXT DEFAULT 'false', is_live_trade SMALLINT DEFAULT 0, connection_settings JSONB DEFAULT '{}',
    preset_type_id UUID, last_test_timestamp DATE, balance NUMERIC(20,8), UNIQUE (user_id, name), UNIQUE (name, balance));
INSERT INTO exchange_connections (id, user_id, name, exchange, api_key, is_enabled, is_testnet, is_live_trade, preset_type_id, last_test_timestamp, balance) VALUES
    (1, 3, 'main', 'binance', 'k', 1, 'true', 1, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '2024-12-31', 0.10000000),
    (2, 3, 'second', 'okx', 'k', 0, 'false', 2, NULL, NULL, 12345678901.12345678), (2000000000, NULL, 'third', 'bybit', '', 0, NULL, 0, NULL, '0001-01-01', NULL);
CREATE TABLE indications_move (id UUID PRIMARY KEY, connection_id INTEGER NOT NULL REFERENCES exchange_connections (id) ON DELETE CASCADE,
    symbol VARCHAR(20) NOT NULL, momentum NUMERIC(30,18), profit_factor REAL DEFAULT 1.0, status VARCHAR(20) DEFAULT 'active');
INSERT INTO indications_move VALUES ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12', 1, 'BTCUSDT', 0.123456789012345678, 0.1), ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a13', 2, 'ETHUSDT', 1, 3e38);
CREATE TABLE pseudo_positions (id VARCHAR(40) PRIMARY KEY, connection_id INTEGER, symbol CHAR(10) NOT NULL, side TEXT,
    entry_price NUMERIC(20,8), quantity NUMERIC, volume TEXT, is_open INTEGER, status VARCHAR(20) DEFAULT 'active', opened_at TIMESTAMP(0), updated_at BIGINT DEFAULT 0);
INSERT INTO pseudo_positions VALUES ('17', 1, 'BTCUSDT', 'long', 64250.12345678, 0.1, '1.5', 1, 'active', '2025-03-30 02:30:00', 1700000000123),
    ('9007199254740993', 77, 'ETHUSDT', 'short', 0.00000001, 1e-20, '-2', 0, 'closed', NULL, 0), ('3', NULL, 'X', NULL, -1.5, NULL, NULL, NULL, NULL, '1970-01-01', NULL);
CREATE TABLE real_pseudo_positions (id TEXT PRIMARY KEY, connection_id TEXT REFERENCES exchange_connections (name_of_none) ON DELETE CASCADE, symbol TEXT);
CREATE TABLE exchange_positions (id TEXT PRIMARY KEY, connection_id TEXT, symbol TEXT NOT NULL, leverage BIGINT, entry_price TEXT, status TEXT);
INSERT INTO exchange_positions VALUES ('V1StGXR8_Z5jdHi6B-myT', '1', 'BTCUSDT', 5, '64250.1', 'open'), ('12', 'gone', 'ETHUSDT', 3000000000, '1e-7', NULL), ('007', '2', 'X', NULL, '0.12345678901234567890', NULL);
CREATE TABLE statistics_daily (id SERIAL, connection_id INTEGER, trade_date TIMESTAMP, total_trades NUMERIC(10,0), total_pnl DOUBLE PRECISION);
INSERT INTO statistics_daily VALUES (1, 1, '2025-01-01', 10, 0.1), (1, 1, '2025-01-01', 11, -0.0), (2, 2, '2025-01-02', 12, 'NaN');
CREATE TABLE connection_coordination (connection_id INTEGER, status TEXT, note TEXT PRIMARY KEY);
INSERT INTO connection_coordination VALUES (1, 'idle', 'n1'), (1, 'busy', 'n2'), (NULL, NULL, 'n3');
CREATE TABLE indication_states (id INTEGER GENERATED ALWAYS AS IDENTITY PRIMARY KEY, connection_id INTEGER, state_key TEXT NOT NULL,
    long_key BOOLEAN GENERATED ALWAYS AS (length(state_key) > 5) STORED);
INSERT INTO indication_states (connection_id, state_key) VALUES (1, 'k'), (1, 'k'), (2, 'l');
CREATE TABLE trade_history (id SERIAL PRIMARY KEY, user_id INTEGER REFERENCES users (id) ON DELETE SET NULL, price NUMERIC(20,8));
INSERT INTO trade_history (user_id, price) VALUES (3, 1.10000000);
CREATE VIEW open_positions AS SELECT side, count(*) AS n FROM pseudo_positions GROUP BY side;
CREATE INDEX my_index ON users (nickname, username) WHERE username <> '';
CREATE INDEX idx_pseudo_positions_status ON pseudo_positions (status);
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'kept'; END $$;
CREATE TRIGGER guard BEFORE DELETE ON users FOR EACH ROW EXECUTE FUNCTION keep();
"#;

/// The same, without what PostgreSQL itself refuses.
fn older() -> String {
    OLDER.replace(" REFERENCES exchange_connections (name_of_none) ON DELETE CASCADE", "")
}

/// The columns and the values of a table, in the order of its rows.
type Rows = (Vec<String>, Vec<Vec<Option<String>>>);

fn rows(client: &mut Client, table: &str, columns: &str) -> Rows {
    let messages = client.simple_query(&format!("SELECT {columns} FROM {table} ORDER BY ctid"));
    let (mut names, mut rows) = (Vec::new(), Vec::new());
    for message in messages.unwrap() {
        match message {
            SimpleQueryMessage::RowDescription(columns) => {
                names = columns.iter().map(|column| column.name().to_string()).collect();
            }
            SimpleQueryMessage::Row(row) => {
                rows.push((0..row.len()).map(|at| row.get(at).map(str::to_string)).collect());
            }
            _ => {}
        }
    }
    (names, rows)
}

fn tables(database: &Database) -> Vec<String> {
    database.texts(
        "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace \
         AND relkind = 'r' AND NOT starts_with(relname, 'cts_') ORDER BY 1",
    )
}

/// Every row of every table.
fn snapshot(database: &Database) -> BTreeMap<String, Rows> {
    let mut client = database.open();
    let tables = tables(database).into_iter();
    tables.map(|table| (table.clone(), rows(&mut client, &table, "*"))).collect()
}

/// A number without trailing zeros.
fn plain(text: &str) -> Option<String> {
    let is_number = |c: char| c.is_ascii_digit() || matches!(c, '-' | '.' | 'e' | '+');
    text.parse::<f64>().ok().filter(|_| text.chars().all(is_number))?;
    let (digits, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let point = i64::try_from(whole.trim_start_matches('-').len()).unwrap();
    let all = format!("{}{fraction}", whole.trim_start_matches('-'));
    let zeros = all.len() - all.trim_start_matches('0').len();
    let point = point + exponent.parse::<i64>().unwrap() - i64::try_from(zeros).unwrap();
    match all.trim_matches('0') {
        "" => Some("0".into()),
        digits => Some(format!("{}{digits} {point}", if text.starts_with('-') { "-" } else { "" })),
    }
}

/// A time without its zone, or a day at its beginning.
fn moment(text: &str) -> String {
    let text = text.replace('T', " ").replace('Z', "");
    let text = text.strip_suffix("+00").unwrap_or(&text);
    let text = if text.len() == 10 { format!("{text} 00:00:00") } else { text.to_string() };
    text.trim_end_matches('0').to_string()
}

/// Whether a value is the same in a column of another type.
fn is_same(old: &str, new: &str) -> bool {
    let is_time = |text: &str| text.get(4..5) == Some("-") && text.get(7..8) == Some("-");
    let flag = |text: &str| match text {
        "t" | "true" | "1" => Some(true),
        "f" | "false" | "0" => Some(false),
        _ => None,
    };
    old.trim_end() == new
        || plain(old).is_some_and(|number| Some(number) == plain(new))
        || (is_time(old) && moment(old) == moment(new))
        || (matches!(new, "t" | "f") && flag(old) == flag(new))
}

/// Every old value is unchanged; only the tables that cts writes to may have more rows.
fn assert_kept(before: &BTreeMap<String, Rows>, database: &Database) {
    let mut client = database.open();
    for (table, (columns, old)) in before {
        let quoted: Vec<String> = columns.iter().map(|name| format!("\"{name}\"")).collect();
        let (_, new) = rows(&mut client, table, &quoted.join(", "));
        for (old, new) in old.iter().zip(&new) {
            for ((column, old), new) in columns.iter().zip(old).zip(new) {
                let is_same = match (old, new) {
                    (Some(old), Some(new)) => is_same(old, new),
                    (old, new) => old == new,
                };
                assert!(is_same, "{table}.{column}: {old:?} has become {new:?}");
            }
        }
        let writes = ["migrations", "system_settings", "site_logs"].contains(&table.as_str());
        assert!(new.len() == old.len() || writes && new.len() > old.len(), "{table}: rows");
    }
}

fn exceptions(text: &str) -> Vec<String> {
    let found = text.lines().filter_map(|line| line.split_once("exception").map(|(_, rest)| rest));
    let mut found: Vec<String> = found
        .filter_map(|rest| rest.split_once(": "))
        .map(|(_, rule)| rule.trim().to_string())
        .collect();
    found.sort();
    found.dedup();
    found
}

/// The exceptions that the rows of `OLDER` cause.
const EXCEPTIONS: &[&str] = &[
    "connection_coordination.connection_id is not a key (3 rows have duplicate values)",
    "connection_coordination.connection_id may be NULL (1 rows)",
    "exchange_connections.is_live_trade keeps its type SMALLINT (1 rows)",
    "exchange_positions refers to missing rows of exchange_connections (1 rows)",
    "exchange_positions.entry_price keeps its type TEXT (1 rows)",
    "exchange_positions.id contains text values (2 rows)",
    "exchange_positions.leverage keeps its type BIGINT (1 rows)",
    "index idx_indication_states_key on indication_states is not unique (2 rows have duplicate values)",
    "index idx_statistics_daily_date on statistics_daily is not unique (2 rows have duplicate values)",
    "index idx_system_settings_key on system_settings is not unique (2 rows have duplicate values)",
    "indications_move.id contains text values (2 rows)",
    "indications_move.momentum keeps its type NUMERIC(30,18) (1 rows)",
    "migrations.executed_at may be NULL (1 rows)",
    "pseudo_positions refers to missing rows of exchange_connections (1 rows)",
    "pseudo_positions.connection_id may be NULL (1 rows)",
    "pseudo_positions.updated_at has no default (2 rows keep its type)",
    "pseudo_positions.updated_at keeps its type BIGINT (2 rows)",
    "site_logs.category may be NULL (2 rows)",
    "site_logs.created_at keeps its type TEXT (1 rows)",
    "statistics_daily.id is not a key (2 rows have duplicate values)",
    "system_settings.value may be NULL (1 rows)",
    "users.password_hash may be NULL (1 rows)",
];

#[test]
fn an_older_database_is_adopted_and_every_value_is_kept() {
    for database in [Cluster::shared().owned(), Cluster::shared().one_schema()] {
        database.sql(&older());
        let (before, dump) = (snapshot(&database), database.dump());
        let planned = database.cts("migrate --dry-run").success();
        assert_eq!(database.dump(), dump);
        let done = database.cts("migrate").success();
        assert_kept(&before, &database);
        let verified = database.cts("verify").success();
        assert!(verified.out().contains("no drift"), "{}", verified.out());
        assert_eq!(exceptions(&verified.out()), EXCEPTIONS);
        assert_eq!(exceptions(&done.err()), EXCEPTIONS);
        assert_eq!(exceptions(&planned.out()), EXCEPTIONS);
        let status = database.cts("status").success();
        assert!(EXCEPTIONS.iter().all(|rule| status.out().contains(rule)), "{}", status.out());
        for dropped in DROPPED {
            assert!(done.err().contains(&format!("constraint dropped, because the schema of this version does not have it: {dropped}\n")), "{}", done.err());
            assert!(
                planned.out().contains(&format!("would drop constraint: {dropped}\n")),
                "{dropped}"
            );
        }
        assert_eq!(done.err().matches("constraint dropped").count(), DROPPED.len());
        database.cts("--check").success();
        database.cts("migrate").success().says(&["0 applied"]);
    }
}

/// Rules that rows of the trading programs violate.
const DROPPED: &[&str] = &[
    "CHECK (role IN ('user', 'admin')) on table users",
    "CHECK (level IN ('info', 'warn')) on table site_logs",
    "UNIQUE (user_id, name) on table exchange_connections",
    "UNIQUE (name, balance) on table exchange_connections",
    "FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE on table exchange_connections",
    "PRIMARY KEY (note) on table connection_coordination",
];

#[test]
fn tables_and_columns_of_the_owner_are_kept() {
    let database = Cluster::shared().owned();
    database.sql(&older());
    database.cts("migrate").success();
    let constraints = "SELECT conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint \
         WHERE conrelid = 'users'::regclass AND contype <> 'n' ORDER BY 1";
    assert_eq!(
        database.texts(constraints),
        [
            "nick CHECK ((length(nickname) > 0))",
            "users_boss_id_fkey FOREIGN KEY (boss_id) REFERENCES users(id)",
            "users_nickname_key UNIQUE (nickname)",
            "users_pkey PRIMARY KEY (id)",
        ]
    );
    let index = database.texts("SELECT pg_get_indexdef('my_index'::regclass)").remove(0);
    assert!(index.contains("(nickname, username) WHERE"), "{index}");
    assert_eq!(database.number("SELECT sum(n) FROM open_positions"), 3);
    let refused = database.open().batch_execute("DELETE FROM users").unwrap_err();
    assert!(refused.as_db_error().unwrap().message().contains("kept"));
    // A NOT NULL column of the owner has become nullable.
    database.sql("INSERT INTO users (username, password_hash) VALUES ('new', 'x')");
    let keys = "SELECT count(*) FROM pg_constraint WHERE conrelid = 'trade_history'::regclass";
    assert!(database.number(keys) >= 2);
}

#[test]
fn new_rows_get_ids_above_the_old_ones() {
    let database = Cluster::shared().owned();
    database.sql(&older());
    database.cts("migrate").success();
    let new = |sql: &str| database.number(&format!("{sql} RETURNING id"));
    assert_eq!(new("INSERT INTO users (username, password_hash) VALUES ('new', 'x')"), 41);
    assert_eq!(new("INSERT INTO indication_states (state_key) VALUES ('new')"), 4);
    assert_eq!(
        new("INSERT INTO pseudo_positions (connection_id, symbol) VALUES ('1', 'X')"),
        9_007_199_254_740_994
    );
    let drawn = new("INSERT INTO exchange_positions (connection_id, symbol) VALUES ('1', 'X')");
    assert!(drawn > 0 && drawn < 1 << 53, "{drawn}");
    // The sequence of the old column was dropped, and the new one has its name.
    assert_eq!(
        database.texts("SELECT pg_get_serial_sequence('users', 'id')"),
        ["public.users_id_seq"]
    );
    // Orphaned rows are kept, and new ones are refused.
    let orphan = "INSERT INTO exchange_positions (connection_id, symbol) VALUES ('gone', 'X')";
    assert!(database.open().batch_execute(orphan).is_err());
    database.sql("DELETE FROM exchange_connections WHERE id = '1'");
    assert_eq!(database.number("SELECT count(*) FROM indications_move"), 1);
    let room = "SELECT reloptions::text FROM pg_class WHERE oid = 'indication_states'::regclass";
    assert_eq!(database.texts(room), ["{fillfactor=50}"]);
}

/// Older tables with numeric ids and their sequences.
const NUMBERED: &str = "
CREATE TABLE users (id SERIAL PRIMARY KEY, username VARCHAR(255) NOT NULL, password_hash VARCHAR(255) NOT NULL);
CREATE TABLE site_logs (id SERIAL PRIMARY KEY, level VARCHAR(20), category TEXT, message TEXT, timestamp TIMESTAMP);
CREATE TABLE exchange_connections (id SERIAL PRIMARY KEY, name TEXT NOT NULL);
INSERT INTO users (username, password_hash) SELECT 'u' || n, 'x' FROM generate_series(1, 5) n;
INSERT INTO site_logs (level, category, message) SELECT 'info', 'old', 'm' FROM generate_series(1, 20);
";

#[test]
fn new_rows_get_ids_though_another_table_uses_the_old_sequence() {
    let user =
        "INSERT INTO users (username, password_hash) VALUES (gen_random_uuid(), 'x') RETURNING id";
    let log =
        "INSERT INTO site_logs (level, category, message) VALUES ('info', 'x', 'x') RETURNING id";
    for (sql, other) in [
        (
            "CREATE TABLE other (id INT DEFAULT nextval('users_id_seq'), x TEXT)",
            "INSERT INTO other (x) VALUES ('y') RETURNING id",
        ),
        ("CREATE VIEW next AS SELECT nextval('site_logs_id_seq') AS id", "SELECT id FROM next"),
        (
            "CREATE TABLE child (zz INT) INHERITS (site_logs)",
            "INSERT INTO child (level, category, message) VALUES ('y', 'y', 'y') RETURNING id",
        ),
        ("CREATE SEQUENCE s9 OWNED BY users.id; SELECT setval('s9', 77)", "SELECT nextval('s9')"),
    ] {
        for database in [Cluster::shared().owned(), Cluster::shared().one_schema()] {
            database.sql(&format!("{NUMBERED}{sql}"));
            database.cts("migrate").success();
            for _ in 0..2 {
                assert!(database.number(user) > 5, "{sql}");
                assert!(database.number(log) > 20, "{sql}");
                assert!(database.number(other) > 5, "{sql}");
            }
            for table in ["users", "site_logs"] {
                let named = format!(
                    "SELECT count(*) FROM pg_depend WHERE deptype = 'i' \
                     AND objid = pg_get_serial_sequence('{table}', 'id')::regclass"
                );
                assert_eq!(database.number(&named), 1, "{sql}");
            }
            database.cts("--check").success();
        }
    }
}

#[test]
fn a_sequence_behind_the_highest_id_is_advanced() {
    let database = Cluster::shared().owned();
    database.cts("migrate").success();
    let settings = "SELECT count(*) FROM system_settings";
    let all = database.number(settings);
    database.sql(
        "DELETE FROM migrations; DELETE FROM system_settings WHERE id > 3; \
         ALTER TABLE system_settings ALTER id RESTART WITH 1; ALTER TABLE users ALTER id RESTART WITH 1; \
         INSERT INTO users (id, username, password_hash) VALUES (1, 'a', 'x'), (2, 'b', 'x')",
    );
    database.cts("migrate").success();
    assert_eq!(database.number(settings), all);
    let user = "INSERT INTO users (username, password_hash) VALUES ('new', 'x') RETURNING id";
    assert_eq!(database.number(user), 3);
}

#[test]
fn exhausted_ids_are_refused() {
    let database = Cluster::shared().owned();
    database.sql(&format!("{NUMBERED} ALTER TABLE users ALTER id TYPE BIGINT; INSERT INTO users VALUES (9223372036854775807, 'z', 'x')"));
    let before = database.dump();
    let done = database.cts("migrate").status(65);
    let said = "users.id: no id is left after 9223372036854775807 for a new row";
    assert!(done.err().contains(said), "{}", done.err());
    assert_eq!(database.dump(), before);
}

#[test]
fn corrected_rows_let_the_rules_be_enforced_again() {
    let database = Cluster::shared().owned();
    database.sql(&older());
    database.cts("migrate").success();
    database.sql(
        "DELETE FROM connection_coordination WHERE note <> 'n1'; UPDATE exchange_connections SET is_live_trade = 1 WHERE id = '2'; \
         UPDATE exchange_positions SET connection_id = '1', leverage = 1, entry_price = '1.25'; \
         UPDATE exchange_positions SET id = CASE id WHEN '007' THEN '7' ELSE '50' END WHERE id <> '12'; \
         DELETE FROM indication_states WHERE id = 2; DELETE FROM statistics_daily WHERE total_trades = 11; \
         DELETE FROM system_settings WHERE key = 'none' OR value = '2'; UPDATE indications_move SET momentum = 0.5; \
         UPDATE indications_move SET id = '1' WHERE symbol = 'BTCUSDT'; UPDATE migrations SET executed_at = now() WHERE executed_at IS NULL; \
         UPDATE pseudo_positions SET connection_id = '2', updated_at = NULL; UPDATE site_logs SET created_at = NULL, category = 'old' WHERE category IS NULL; \
         UPDATE users SET password_hash = '' WHERE password_hash IS NULL",
    );
    let repaired = database.cts("repair").success();
    let left = ["indications_move.id contains text values (1 rows)"];
    assert_eq!(exceptions(&repaired.out()), left, "{}", repaired.err());
    let corrected = database.cts("verify").success();
    assert_eq!(exceptions(&corrected.out()), left);
    let invalid = "SELECT count(*) FROM pg_constraint WHERE NOT convalidated";
    assert_eq!(database.number(invalid), 0);
    let id = database.number(
        "INSERT INTO exchange_positions (connection_id, symbol) VALUES ('1', 'X') RETURNING id",
    );
    assert_eq!(id, 51);
    database.sql("UPDATE indications_move SET id = '2' WHERE id <> '1'");
    assert!(exceptions(&database.cts("repair").success().out()).is_empty());
    assert_eq!(database.texts("SELECT id FROM indications_move ORDER BY id"), ["1", "2"]);
}

#[test]
fn replaced_tables_are_kept_as_copies() {
    let owned = Cluster::shared().owned();
    let one_schema = Cluster::shared().one_schema();
    for (database, words) in [(&owned, "schema"), (&one_schema, "tables")] {
        database.sql(&older());
        let before = snapshot(database);
        let said = database.cts("migrate").success().err();
        let said = said.split_once(&format!("as it was: {words} ")).unwrap().1;
        let name = said.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap();
        assert!(name.starts_with("cts_before_3_"), "{name}");
        let join = if words == "schema" { "." } else { "" };
        let mut client = database.open();
        for (table, old) in before {
            if table != "trade_history" && !old.1.is_empty() {
                assert_eq!(rows(&mut client, &format!("{name}{join}{table}"), "*"), old);
            }
        }
        assert!(client.batch_execute(&format!("TABLE {name}{join}real_pseudo_positions")).is_err());
        database.cts("status").success();
    }
}

#[test]
fn default_privileges_do_not_open_the_copies() {
    let owned = Cluster::shared().owned();
    let one_schema = Cluster::shared().one_schema();
    for database in [&owned, &one_schema] {
        let role = format!("rep of {}", database.name);
        database.admin().batch_execute(&format!("CREATE ROLE \"{role}\"")).unwrap();
        database.sql(&older());
        let mut client = database.open();
        for what in ["ALL ON TABLES", "ALL ON SCHEMAS"] {
            for to in [format!("\"{role}\""), "PUBLIC".into()] {
                let sql = format!("ALTER DEFAULT PRIVILEGES GRANT {what} TO {to}");
                client.batch_execute(&sql).unwrap();
            }
        }
        database.cts("migrate").success();
        let copies = "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind = 'r' AND (starts_with(nspname, 'cts_before_') OR starts_with(relname, 'cts_before_'))";
        assert!(database.number(&format!("SELECT count(*) {copies}")) > 5);
        let others = format!(
            "SELECT count(*) {copies} AND (has_table_privilege('{role}', c.oid, 'SELECT') \
                 OR EXISTS (SELECT FROM aclexplode(relacl) a WHERE a.grantee <> relowner))"
        );
        assert_eq!(database.number(&others), 0);
        let schemas = "SELECT count(*) FROM pg_namespace n, aclexplode(nspacl) a \
             WHERE starts_with(nspname, 'cts_before_') AND a.grantee <> nspowner";
        assert_eq!(database.number(schemas), 0);
        database
            .admin()
            .batch_execute(&format!("DROP OWNED BY \"{role}\"; DROP ROLE \"{role}\""))
            .unwrap();
    }
}

#[test]
fn a_deferred_trigger_on_site_logs_does_not_stop_an_adoption() {
    let database = Cluster::shared().owned();
    database.cts("migrate").success();
    database.sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'full'; END $$; \
         CREATE CONSTRAINT TRIGGER late AFTER INSERT ON site_logs DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION refuse()",
    );
    for words in ["migrate", "repair"] {
        database.sql("DROP TABLE statistics_daily");
        let done = database.cts(words).success();
        done.says(&[
            "table statistics_daily was missing",
            "cannot write to table site_logs",
            "full",
        ]);
    }
}

#[test]
fn a_ledger_without_other_tables_is_adopted() {
    for columns in [
        "id SERIAL PRIMARY KEY, name VARCHAR(255) UNIQUE NOT NULL, executed_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP",
        "id TEXT PRIMARY KEY, name TEXT UNIQUE, executed_at TEXT",
        "id UUID PRIMARY KEY DEFAULT gen_random_uuid(), name TEXT, executed_at TIMESTAMPTZ DEFAULT now(), checksum VARCHAR(64)",
    ] {
        for rows in ["", "('1')", "('1'), ('2'), ('3')"] {
            for database in [Cluster::shared().owned(), Cluster::shared().one_schema()] {
                database.sql(&format!("CREATE TABLE migrations ({columns})"));
                let id = if columns.starts_with("id TEXT") { "id, name" } else { "name" };
                let rows = match id {
                    "name" => rows.to_string(),
                    _ => rows
                        .replace("('", "('x', '")
                        .replace("'x', '2", "'y', '2")
                        .replace("'x', '3", "'3', '3"),
                };
                if !rows.is_empty() {
                    database.sql(&format!("INSERT INTO migrations ({id}) VALUES {rows}"));
                }
                let before = snapshot(&database);
                let done = database.cts("migrate").success();
                assert_eq!(done.err().contains("as it was"), !rows.is_empty(), "{}", done.err());
                assert_kept(&before, &database);
                assert!(database.cts("verify").success().out().contains("no drift"));
                let ledger = "SELECT count(*) FROM migrations WHERE checksum IS NOT NULL";
                assert_eq!(database.number(ledger), 5);
                database.cts("status").success().says(&["complete"]);
                database.cts("migrate").success().says(&["0 applied"]);
            }
        }
    }
}

#[test]
fn a_database_that_cannot_be_adopted_is_not_changed() {
    let id = "CREATE TABLE exchange_connections (id INTEGER PRIMARY KEY, name TEXT NOT NULL); INSERT INTO exchange_connections VALUES (1, 'a');";
    for (sql, said) in [
        (
            format!("{id} CREATE VIEW names AS SELECT id, name FROM exchange_connections"),
            "view names depends on exchange_connections.id, whose type has to change",
        ),
        (
            format!("{id} CREATE MATERIALIZED VIEW ids AS SELECT id FROM exchange_connections"),
            "materialized view ids depends on exchange_connections.id",
        ),
        (
            format!("{id} ALTER TABLE exchange_connections ADD own BOOLEAN GENERATED ALWAYS AS (id > 5) STORED"),
            "column own of table exchange_connections depends on exchange_connections.id",
        ),
        (
            format!("{id} CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; \
                CREATE TRIGGER mine AFTER UPDATE OF id ON exchange_connections FOR EACH ROW EXECUTE FUNCTION f()"),
            "trigger mine on table exchange_connections depends on exchange_connections.id",
        ),
        (
            format!("{id} CREATE TABLE mine (c INTEGER CONSTRAINT lead REFERENCES exchange_connections (id))"),
            "foreign key lead of table mine references a column of table exchange_connections that has to change",
        ),
        (
            "CREATE TABLE exchange_connections (id INTEGER, name TEXT); INSERT INTO exchange_connections VALUES (1, 'a'), (1, 'b'), (NULL, 'c'), (2, 'd')".into(),
            "3 rows of table exchange_connections have no unique id, and foreign keys of other tables reference it",
        ),
        (
            "CREATE TABLE statistics_daily (id INTEGER, x TEXT) PARTITION BY LIST (x)".into(),
            "table statistics_daily is partitioned",
        ),
        (
            format!("{id} CREATE VIEW users AS SELECT 1 AS id"),
            "table users cannot be created: view users has its name",
        ),
        (
            format!("{id} CREATE TABLE mine (a TEXT); CREATE INDEX idx_users_username ON mine (a)"),
            "index idx_users_username cannot be created: an index of table mine has its name",
        ),
        (
            "CREATE TABLE exchange_connections (id INTEGER PRIMARY KEY, name TEXT, is_enabled TEXT, is_active INTEGER); \
             INSERT INTO exchange_connections VALUES (1, 'a', 'maybe', 1), (2, 'b', 'true', 0)".into(),
            "exchange_connections.is_enabled: 1 rows cannot be converted to BOOLEAN, and index idx_exchange_connections_running cannot be created over type TEXT",
        ),
        (
            "CREATE TABLE strategies_dca (id BYTEA, symbol TEXT); INSERT INTO strategies_dca VALUES ('a', 'x'), (NULL, 'y')".into(),
            "strategies_dca.id: values of type BYTEA cannot be converted to TEXT without loss",
        ),
        (
            "CREATE TABLE migrations (name TEXT, executed_at BIGINT); INSERT INTO migrations VALUES ('a', 1700000000000)".into(),
            "cts could not write its rows into the ledger: migrations.executed_at keeps its type BIGINT (1 rows)",
        ),
        (
            "CREATE TABLE users (login TEXT, data BYTEA); INSERT INTO users VALUES ('a', 'b')".into(),
            "holds tables of another program (users)",
        ),
        (
            "CREATE TABLE users (login TEXT); CREATE TABLE migrations (version BIGINT PRIMARY KEY, dirty BOOLEAN)".into(),
            "holds tables of another program (migrations, users)",
        ),
    ] {
        for database in [Cluster::shared().owned(), Cluster::shared().one_schema()] {
            database.sql(&sql);
            let before = database.dump();
            let done = database.cts("migrate").status(65);
            assert!(done.err().contains(said) && done.err().contains("Try: "), "{said}: {}", done.err());
            if said.contains("exchange_connections.is_enabled") {
                let planned = database.cts("migrate --dry-run").status(65);
                assert!(planned.err().contains(said), "{}", planned.err());
            }
            assert_eq!(database.dump(), before, "{said}");
        }
    }
}

#[test]
fn a_dry_run_reports_names_that_are_taken() {
    for (sql, taker) in [
        ("CREATE VIEW users AS SELECT 1", "view users"),
        ("CREATE MATERIALIZED VIEW users AS SELECT 1", "materialized view users"),
        ("CREATE SEQUENCE users", "sequence users"),
        ("CREATE TYPE users AS ENUM ('a')", "type users"),
        ("CREATE TYPE users AS (a INT)", "composite type users"),
        ("CREATE DOMAIN users AS TEXT", "type users"),
    ] {
        let database = Cluster::shared().owned();
        database.sql(sql);
        let before = database.dump();
        for words in ["migrate --dry-run", "migrate"] {
            let done = database.cts(words).status(65);
            let said = format!("table users cannot be created: {taker} has its name");
            done.says(&[&said, "rename that object"]);
            assert_eq!(database.dump(), before, "{sql}");
        }
    }
}

#[test]
fn a_dry_run_reports_missing_privileges() {
    let database = Cluster::shared().owned();
    let name = &database.name;
    database
        .admin()
        .batch_execute(&format!("ALTER SCHEMA public OWNER TO postgres; ALTER DATABASE \"{name}\" OWNER TO postgres; REVOKE CREATE ON SCHEMA public FROM PUBLIC"))
        .unwrap();
    database.cts("migrate").status(77).says(&["GRANT USAGE, CREATE ON SCHEMA"]);
    let said = format!("role {name} may not create tables in schema public");
    database.cts("migrate --dry-run").status(77).says(&[&said, "GRANT USAGE, CREATE ON SCHEMA"]);
}

#[test]
fn an_adoption_waits_for_a_table_in_use() {
    let database = Cluster::shared().owned();
    database.sql(&older());
    let mut client = database.open();
    client
        .batch_execute("BEGIN; UPDATE pseudo_positions SET side = 'long' WHERE id = '3'")
        .unwrap();
    let service = database.cts("migrate").start();
    service.until("pseudo_positions");
    client.batch_execute("COMMIT").unwrap();
    let (code, log) = service.end();
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(database.texts("SELECT side FROM pseudo_positions WHERE id = 3"), ["long"]);
}
