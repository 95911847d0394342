//! What a definition can carry beside names and types: it is compared with the expected one, reported in a database of
//! ours, and put right when the database of an older CTS is adopted, with every row.

use crate::support::harness::{Machine, for_each};

/// A definition that differs in one clause from the expected one.
struct Case {
    /// The table or index.
    object: &'static str,
    /// What is replaced in its statement.
    text: &'static str,
    by: &'static str,
    /// What is said of it.
    found: &'static str,
}

const CASES: &[Case] = &[
    case("users", "PRIMARY KEY", "PRIMARY KEY DESC", "found INTEGER PRIMARY KEY DESC"),
    case(
        "users",
        "PRIMARY KEY",
        "PRIMARY KEY ON CONFLICT REPLACE",
        "PRIMARY KEY ON CONFLICT REPLACE",
    ),
    case("users", ")\n)", ")\n) WITHOUT ROWID", "found WITHOUT ROWID"),
    case("users", ")\n)", ")\n) STRICT", "found STRICT"),
    case("users", "username      TEXT", "username TEXT COLLATE NOCASE", "COLLATE NOCASE"),
    case(
        "users",
        "username      TEXT NOT NULL",
        "username TEXT NOT NULL ON CONFLICT IGNORE",
        "NOT NULL ON CONFLICT IGNORE",
    ),
    case(
        "users",
        "email         TEXT",
        "email TEXT UNIQUE ON CONFLICT REPLACE",
        "UNIQUE ON CONFLICT REPLACE",
    ),
    case("users", "email         TEXT", "email TEXT CHECK (email <> 'x')", "CHECK (email <> 'x')"),
    case(
        "users",
        "email         TEXT",
        "email TEXT AS (username) STORED",
        "GENERATED ALWAYS AS (username) STORED",
    ),
    case(
        "users",
        "role          TEXT DEFAULT 'user'",
        "role TEXT DEFAULT 'User'",
        "DEFAULT 'User'",
    ),
    case("users", "is_active     INTEGER", "is_active INT", "found INT DEFAULT 1"),
    case(
        "users",
        ")\n)",
        "), UNIQUE (username, role) ON CONFLICT REPLACE\n)",
        "UNIQUE (username, role) ON CONFLICT REPLACE",
    ),
    case(
        "exchange_connections",
        "TEXT PRIMARY KEY",
        "TEXT COLLATE RTRIM PRIMARY KEY",
        "COLLATE RTRIM",
    ),
    case(
        "indication_states",
        "ON DELETE CASCADE",
        "ON DELETE CASCADE ON UPDATE SET NULL",
        "ON UPDATE SET NULL",
    ),
    case(
        "indication_states",
        "ON DELETE CASCADE",
        "ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED",
        "DEFERRABLE INITIALLY DEFERRED",
    ),
    case("indication_states", "ON DELETE CASCADE", "ON DELETE SET NULL", "ON DELETE SET NULL"),
    case(
        "idx_indication_states_key",
        "(state_key)",
        "(state_key COLLATE NOCASE)",
        "found UNIQUE (state_key COLLATE NOCASE)",
    ),
    case(
        "idx_indication_states_key",
        "(state_key)",
        "(state_key DESC)",
        "found UNIQUE (state_key DESC)",
    ),
    case(
        "idx_indication_states_key",
        "(state_key)",
        "(state_key)WHERE(state_key<>'')",
        "WHERE (state_key<>'')",
    ),
    case(
        "idx_indication_states_key",
        "(state_key)",
        "(lower(state_key))",
        "found UNIQUE ((expression))",
    ),
];

const fn case(
    object: &'static str,
    text: &'static str,
    by: &'static str,
    found: &'static str,
) -> Case {
    Case { object, text, by, found }
}

/// A migrated database with a row in each table concerned, whose definition was changed then.
fn changed(case: &Case) -> Machine {
    let machine = Machine::migrated();
    let conn = machine.open();
    conn.execute_batch(
        "INSERT INTO exchange_connections (id, name) VALUES ('x', 'main'); \
         INSERT INTO users (id, username, password_hash) VALUES (7, 'K', 'h'); \
         INSERT INTO indication_states (connection_id, state_key) VALUES ('x', 'K')",
    )
    .unwrap();
    let sql = "SELECT sql FROM sqlite_schema WHERE name = ?1";
    let sql: String = conn.query_row(sql, [case.object], |row| row.get(0)).unwrap();
    assert!(sql.contains(case.text), "{sql}");
    let create = sql.replacen(case.text, case.by, 1);
    if sql.starts_with("CREATE TABLE") {
        let table = case.object;
        let is_generated = case.by.contains(" AS (");
        let copied = if is_generated { "id, username, password_hash" } else { "*" };
        let into = if is_generated { "(id, username, password_hash)" } else { "" };
        let indexes = "SELECT coalesce(group_concat(sql, ';'), '') FROM sqlite_schema WHERE tbl_name = ?1 AND type = 'index'";
        let indexes: String = conn.query_row(indexes, [table], |row| row.get(0)).unwrap();
        conn.execute_batch(&format!(
            "PRAGMA foreign_keys = OFF; CREATE TEMP TABLE kept AS SELECT * FROM {table}; DROP TABLE {table}; {create}; \
             INSERT INTO {table} {into} SELECT {copied} FROM kept; {indexes}"
        ))
        .unwrap();
    } else {
        conn.execute_batch(&format!("DROP INDEX {}; {create}", case.object)).unwrap();
    }
    machine
}

#[test]
fn every_clause_that_differs_is_reported() {
    for_each(CASES, |case| {
        let machine = changed(case);
        machine.cts("verify").status(1).says(&[case.found]);
        machine.cts("--check").status(1).says(&[case.found]);
        machine.cts("migrate").success().says(&[case.found]);
        machine.cts("repair").status(1).says(&[case.found]);
    });
}

#[test]
fn every_clause_that_differs_is_put_right_by_an_adoption_and_every_row_stays() {
    for_each(CASES, |case| {
        let machine = changed(case);
        machine.sql("PRAGMA application_id = 0; DELETE FROM migrations");
        machine.cts("migrate").success();
        machine.cts("verify").success().says(&["no drift"]);
        let rows = "SELECT id || username || password_hash || role FROM users";
        assert_eq!(machine.texts(rows).len(), 1, "{}", case.by);
        machine.sql(
            "INSERT INTO users (username, password_hash) VALUES ('k', 'h'); \
             INSERT INTO indication_states (connection_id, state_key) VALUES ('x', 'k')",
        );
        assert_eq!(machine.texts("SELECT id || username FROM users"), ["7K", "8k"]);
        let states = "SELECT id || state_key FROM indication_states";
        assert_eq!(machine.texts(states), ["1K", "2k"]);
    });
}

#[test]
fn a_dropped_clause_is_told() {
    let machine = changed(&CASES[4]);
    machine.sql("PRAGMA application_id = 0; DELETE FROM migrations");
    let gone = ["COLLATE NOCASE of column username on table users"];
    machine.cts("migrate --dry-run").success().says(&gone);
    machine.cts("migrate").success().says(&gone);
}

/// Rows whose key is NULL, as a key that is no rowid alias allows, stay beside new ones that get an id.
#[test]
fn a_descending_key_with_nulls_is_adopted_with_every_row() {
    let machine = changed(&CASES[0]);
    machine.sql(
        "INSERT INTO users (username, password_hash) VALUES ('a', 'h'), ('b', 'h'); \
         PRAGMA application_id = 0; DELETE FROM migrations",
    );
    assert_eq!(machine.number("SELECT count(*) FROM users WHERE id IS NULL"), 2);
    machine.cts("migrate").success();
    machine.cts("verify").success();
    machine.sql("INSERT INTO users (username, password_hash) VALUES ('c', 'h')");
    assert_eq!(machine.texts("SELECT username FROM users ORDER BY 1"), ["K", "a", "b", "c"]);
    assert_eq!(
        machine.number("SELECT count(*) FROM users WHERE username = 'c' AND id IS NOT NULL"),
        1
    );
}

/// SQLite compares names without regard to the case of ASCII letters, and so does cts.
#[test]
fn names_that_differ_in_case_only_are_no_drift() {
    const RENAMED: &str = "ALTER TABLE users RENAME COLUMN username TO \"UserName\"; \
         ALTER TABLE users RENAME COLUMN email TO Email; ALTER TABLE users RENAME COLUMN id TO ID; \
         ALTER TABLE site_logs RENAME COLUMN timestamp TO Timestamp; \
         ALTER TABLE exchange_connections RENAME COLUMN id TO Id; \
         ALTER TABLE indication_states RENAME COLUMN connection_id TO \"Connection_ID\"; \
         ALTER TABLE migrations RENAME TO old; ALTER TABLE old RENAME TO Migrations; \
         ALTER TABLE pseudo_positions RENAME TO old; ALTER TABLE old RENAME TO Pseudo_Positions; \
         DROP INDEX idx_indication_states_key; CREATE UNIQUE INDEX IDX_Indication_States_KEY ON Indication_States (State_Key);";
    let machine = Machine::migrated();
    machine.sql(RENAMED);
    for words in ["--check", "verify", "repair", "status", "migrate", "--check --deep"] {
        machine.cts(words).success();
    }
    let found = machine.cts("verify --json").success().json();
    assert_eq!(found["extra"].as_array().unwrap().len(), 0, "{found}");
    // What is missing beside them is put back, and a rebuild knows the columns.
    machine.sql(
        "INSERT INTO users (UserName, password_hash) VALUES ('kept', 'h'); \
         DROP INDEX idx_users_email; ALTER TABLE users DROP COLUMN created_at",
    );
    machine.cts("repair").success().says(&["no drift", "column users.created_at was missing"]);
    assert_eq!(machine.texts("SELECT username FROM users"), ["kept"]);
    // The same names in the database of an older CTS.
    let machine = Machine::migrated();
    machine.sql(&format!(
        "INSERT INTO users (username, password_hash) VALUES ('kept', 'h'); {RENAMED} \
         PRAGMA application_id = 0; DELETE FROM Migrations; ALTER TABLE users DROP COLUMN created_at; \
         ALTER TABLE users DROP COLUMN role; ALTER TABLE users ADD COLUMN Role VARCHAR(9)"
    ));
    machine.cts("migrate").success();
    machine.cts("verify").success().says(&["no drift"]);
    assert_eq!(machine.texts("SELECT username FROM users"), ["kept"]);
}

/// Definitions that mean the same are the same: they are no drift, so no start reports them for ever.
#[test]
fn what_is_written_otherwise_and_means_the_same_is_no_drift() {
    let machine = Machine::migrated();
    let rewritten = |table: &str, replaced: &[(&str, &str)]| {
        let conn = machine.open();
        let sql = "SELECT sql FROM sqlite_schema WHERE name = ?1";
        let mut sql: String = conn.query_row(sql, [table], |row| row.get(0)).unwrap();
        for (text, by) in replaced {
            assert!(sql.contains(text), "{text} in {sql}");
            sql = sql.replacen(text, by, 1);
        }
        let indexes = "SELECT coalesce(group_concat(sql, ';'), '') FROM sqlite_schema WHERE tbl_name = ?1 AND type = 'index'";
        let indexes: String = conn.query_row(indexes, [table], |row| row.get(0)).unwrap();
        let indexes = indexes
            .replace("IS NOT NULL", "is  not /* x */ null")
            .replace("(email)", "([email] collate binary ASC)");
        conn.execute_batch(&format!("DROP TABLE {table}; {sql}; {indexes}")).unwrap();
    };
    rewritten(
        "users",
        &[
            (
                "id            INTEGER PRIMARY KEY",
                "'id' integer CONSTRAINT one PRIMARY KEY ASC ON CONFLICT ABORT AUTOINCREMENT",
            ),
            ("email         TEXT", "[email] text COLLATE binary NULL DEFAULT NULL"),
            ("strftime(", "STRFTIME ( "),
        ],
    );
    rewritten(
        "indication_states",
        &[(
            "exchange_connections (id) ON DELETE CASCADE",
            "\"Exchange_Connections\" ON UPDATE NO ACTION ON DELETE CASCADE MATCH FULL NOT DEFERRABLE INITIALLY DEFERRED",
        )],
    );
    machine.cts("verify").success().says(&["no drift"]);
    machine.cts("--check").success();
}

#[test]
fn own_columns_with_the_names_of_the_rowid_are_kept() {
    for (own, value) in [
        ("rowid TEXT", "'x'"),
        ("oid INTEGER, \"ROWID\" TEXT", "5, 'x'"),
        ("oid INTEGER, rowid TEXT, _rowid_ REAL", "5, 'x', 1.5"),
    ] {
        let machine = Machine::new();
        machine.sql(&format!(
            "CREATE TABLE exchange_connections (id TEXT PRIMARY KEY, name TEXT); \
             CREATE TABLE users (id INTEGER PRIMARY KEY, username TEXT, {own}); \
             INSERT INTO users VALUES (9, 'a', {value}), (3, 'b', {value})"
        ));
        machine.cts("migrate").success();
        machine.cts("verify").success();
        assert_eq!(
            machine
                .texts("SELECT id || username || rowid FROM users WHERE rowid = 'x' ORDER BY id"),
            ["3bx", "9ax"]
        );
        machine.sql("ALTER TABLE users DROP COLUMN created_at");
        machine.cts("repair").success().says(&["2 rows, all kept"]);
    }
}

#[test]
fn rows_that_cannot_be_told_apart_are_refused_with_the_cause() {
    let machine = Machine::new();
    machine.sql(
        "CREATE TABLE exchange_connections (id TEXT PRIMARY KEY, name TEXT); \
         CREATE TABLE users (username TEXT, oid TEXT, rowid TEXT, _rowid_ TEXT); \
         INSERT INTO users VALUES ('a', 1, 2, 3)",
    );
    machine.cts("migrate").status(65).says(&[
        "table users: its rows cannot be told apart, because it has columns named rowid, _rowid_, oid",
        "copy its rows into a table of its name without one of these columns",
        "nothing was changed",
    ]);
    machine.sql(
        "ALTER TABLE users RENAME TO old; DROP INDEX IF EXISTS idx_users_username; \
         CREATE TABLE users AS SELECT username, oid AS own, \"rowid\", _rowid_ FROM old",
    );
    machine.cts("migrate").success();
    let rows = "SELECT username || own || \"rowid\" || _rowid_ FROM users";
    assert_eq!(machine.texts(rows), ["a123"]);
}

/// A column of type ANY keeps a text that looks like a number only in a STRICT table.
#[test]
fn own_columns_of_a_strict_table_keep_their_values() {
    let machine = Machine::new();
    machine.sql(
        "CREATE TABLE exchange_connections (id TEXT PRIMARY KEY, name TEXT); \
         CREATE TABLE users (id INTEGER PRIMARY KEY, username TEXT, own ANY NOT NULL DEFAULT '00') STRICT; \
         INSERT INTO users VALUES (1, 'a', '0042'), (2, 'b', 42), (3, 'c', x'00')",
    );
    machine.cts("migrate").success().says(&["STRICT on table users"]);
    machine.cts("verify").success();
    assert_eq!(
        machine.texts("SELECT typeof(own) || quote(own) FROM users ORDER BY id"),
        ["text'0042'", "integer42", "blobX'00'"]
    );
}

/// A generated column needs no value, so it keeps no program from inserting.
#[test]
fn a_generated_column_of_the_owner_is_no_drift() {
    let machine = Machine::migrated();
    machine.sql("ALTER TABLE users ADD COLUMN shout TEXT NOT NULL AS (upper(username))");
    machine.cts("verify").success().says(&["extra:   column users.shout"]);
    machine.cts("--check").success();
}

/// A rebuild would undo what is accepted of a table, so a column that needs one is not put back.
#[test]
fn what_is_accepted_of_a_table_is_left_alone_by_healing() {
    let machine = changed(&CASES[3]);
    machine.cts("verify").status(1).says(&["found STRICT"]);
    machine.cts("accept users").success();
    machine.cts("repair").success().says(&["no drift", "accepted: table users: "]);
    machine.sql("ALTER TABLE users DROP COLUMN created_at");
    machine.cts("repair").status(1).says(&[
        "column users.created_at is missing and cannot be put back",
        "`cts accept users --withdraw` allows that",
    ]);
    assert_eq!(machine.number("SELECT strict FROM pragma_table_list('users')"), 1);
    machine.cts("accept users --withdraw").success();
    machine.cts("repair").success().says(&["table users was rebuilt"]);
    machine.cts("verify").success();
}
