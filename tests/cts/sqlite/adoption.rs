//! Adoption of databases of an older CTS: no row is lost or altered, objects of the owner are kept,
//! statements of the trading programs work, and violations are kept and reported.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use crate::support::harness::{Machine, Run, mode};
use crate::support::older_databases::{self, Old};

/// Runs the test on every older database, each on its own machine and in a thread with its name.
fn every_old(test: impl Fn(Old, &Machine) + Sync) {
    let one = |old: Old| {
        let machine = Machine::new();
        old.make(&machine.db());
        test(old, &machine);
    };
    let failed: Vec<Old> = thread::scope(|scope| {
        let one = &one;
        let runs = Old::ALL.map(|old| {
            let thread = thread::Builder::new().name(format!("{old:?}"));
            (old, thread.spawn_scoped(scope, move || one(old)).unwrap())
        });
        runs.into_iter().filter_map(|(old, run)| run.join().is_err().then_some(old)).collect()
    });
    assert!(failed.is_empty(), "failed for {failed:?}");
}

/// As `every_old`, with the database adopted.
fn every_adopted(test: impl Fn(Old, &Machine) + Sync) {
    every_old(|old, machine| {
        machine.cts("migrate").success();
        test(old, machine);
    });
}

// The content of a database.

#[derive(Clone, Debug, PartialEq)]
struct Rows {
    columns: Vec<String>,
    /// Every value with its type, by the order of the rows.
    rows: Vec<Vec<String>>,
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn shown(value: ValueRef) -> String {
    match value {
        ValueRef::Null => "null".to_string(),
        ValueRef::Integer(number) => format!("integer {number}"),
        ValueRef::Real(number) => format!("real {number:?}"),
        ValueRef::Text(text) => match str::from_utf8(text) {
            Ok(text) => format!("text {text:?}"),
            Err(_) => format!("text {text:02x?}"),
        },
        ValueRef::Blob(bytes) => format!("blob {bytes:02x?}"),
    }
}

fn rows(conn: &Connection, table: &str, columns: &[String]) -> Vec<Vec<String>> {
    let names: Vec<String> = columns.iter().map(|name| quoted(name)).collect();
    let without_rowid = "SELECT count(*) FROM pragma_table_list(?1) WHERE wr";
    let by_key: i64 = conn.query_row(without_rowid, [table], |row| row.get(0)).unwrap();
    let order = if by_key == 0 { "rowid" } else { "1" };
    let sql = format!("SELECT {} FROM {} ORDER BY {order}", names.join(", "), quoted(table));
    let mut statement = conn.prepare(&sql).unwrap_or_else(|e| panic!("{e}"));
    let read =
        |row: &rusqlite::Row| (0..columns.len()).map(|n| row.get_ref(n).map(shown)).collect();
    statement.query_map([], read).unwrap().map(Result::unwrap).collect()
}

/// Every row of every table.
/// A copy of a database in the middle of a large write, as a power cut leaves it: pages are in the
/// file already, and a journal beside it holds what they were.
fn cut_off(machine: &Machine, write: &str) {
    let db = machine.db();
    let conn = machine.open();
    conn.execute_batch(&format!(
        "PRAGMA journal_mode = DELETE; PRAGMA cache_size = 4; BEGIN; {write}"
    ))
    .unwrap();
    let copy = machine.path("copy");
    let (journal, beside) = (machine.path("cts.db-journal"), machine.path("copy-journal"));
    fs::copy(&db, &copy).unwrap();
    fs::copy(&journal, &beside).unwrap();
    conn.execute_batch("ROLLBACK").unwrap();
    drop(conn);
    fs::rename(copy, db).unwrap();
    fs::rename(beside, journal).unwrap();
}

const MANY: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)";

#[test]
fn an_older_database_with_a_hot_journal_is_adopted_after_rollback() {
    let machine = Machine::new();
    machine.sql(&format!(
        "CREATE TABLE exchange_connections (id INTEGER PRIMARY KEY, name TEXT, exchange TEXT);
         CREATE TABLE site_logs (id INTEGER PRIMARY KEY, level TEXT, category TEXT, message TEXT);
         INSERT INTO site_logs (level, category, message) {MANY} SELECT 'info', 'x', 'kept ' || i FROM n;"
    ));
    cut_off(&machine, "UPDATE site_logs SET message = 'lost'; DROP TABLE exchange_connections;");
    machine.cts("--check").status(2).says(&["not rolled back yet"]);
    machine.cts("migrate").success();
    machine.cts("verify").success();
    assert_eq!(machine.number("SELECT count(*) FROM site_logs WHERE message LIKE 'kept %'"), 5000);
    assert_eq!(machine.number("SELECT count(*) FROM site_logs WHERE message = 'lost'"), 0);
}

#[test]
fn another_programs_database_with_a_hot_journal_is_left_as_it_is() {
    let machine = Machine::new();
    machine.sql(&format!(
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT);
         INSERT INTO notes (text) {MANY} SELECT 'note ' || i FROM n;"
    ));
    cut_off(&machine, "UPDATE notes SET text = 'other'");
    let before = machine.files();
    machine.cts("migrate").status(65).says(&["another program's", "notes"]);
    assert_eq!(machine.files(), before);
}

fn snapshot(conn: &Connection) -> BTreeMap<String, Rows> {
    let of = |table: String| {
        let columns: Vec<String> = columns(conn, &table).into_keys().collect();
        let rows = Rows { rows: rows(conn, &table, &columns), columns };
        (table, rows)
    };
    tables(conn).into_iter().map(of).collect()
}

fn texts(conn: &Connection, sql: &str) -> Vec<String> {
    let mut statement = conn.prepare(sql).unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn number(conn: &Connection, sql: &str) -> i64 {
    conn.query_row(sql, [], |row| row.get(0)).unwrap_or_else(|e| panic!("{e}: {sql}"))
}

fn tables(conn: &Connection) -> Vec<String> {
    texts(
        conn,
        "SELECT name FROM sqlite_schema \
         WHERE type = 'table' AND substr(name, 1, 7) <> 'sqlite_' ORDER BY name",
    )
}

#[derive(Clone, Debug, PartialEq)]
struct Column {
    kind: String,
    not_null: bool,
    default: Option<String>,
    key: i64,
}

impl Column {
    fn is_needed(&self) -> bool {
        self.not_null && self.default.is_none() && !self.is_integer_key()
    }

    fn is_integer_key(&self) -> bool {
        self.key == 1 && self.kind == "INTEGER"
    }
}

fn columns(conn: &Connection, table: &str) -> BTreeMap<String, Column> {
    let sql = "SELECT name, type, \"notnull\", dflt_value, pk \
        FROM pragma_table_xinfo(?1) WHERE hidden <> 1";
    let mut statement = conn.prepare(sql).unwrap();
    let column = |row: &rusqlite::Row| {
        let column = Column {
            kind: row.get(1)?,
            not_null: row.get(2)?,
            default: row.get(3)?,
            key: row.get(4)?,
        };
        Ok((row.get(0)?, column))
    };
    statement.query_map([table], column).unwrap().map(Result::unwrap).collect()
}

/// The SQL of every object of these types, by name.
fn schema(conn: &Connection, types: &str) -> BTreeMap<String, String> {
    let sql =
        format!("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND type IN ({types})");
    let mut statement = conn.prepare(&sql).unwrap();
    statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

/// A foreign key: column, referenced table, referenced column.
fn foreign_keys(conn: &Connection, table: &str) -> Vec<(String, String, String)> {
    let mut statement = conn
        .prepare("SELECT \"from\", \"table\", \"to\" FROM pragma_foreign_key_list(?1)")
        .unwrap();
    let keys = statement.query_map([table], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    keys.unwrap().map(Result::unwrap).collect()
}

fn assert_sound(conn: &Connection) {
    assert_eq!(texts(conn, "PRAGMA integrity_check"), ["ok"]);
}

/// The schema of a new database.
fn fresh() -> (Machine, Connection) {
    let machine = Machine::migrated();
    let conn = machine.open();
    (machine, conn)
}

/// The old value as the new column may show it: an integer id becomes its text where ids are now
/// text.
fn carried(value: &str, column: &str, now: &Column) -> String {
    match value.strip_prefix("integer ") {
        Some(number) if now.kind == "TEXT" && (column == "id" || column.ends_with("_id")) => {
            format!("text {number:?}")
        }
        _ => value.to_string(),
    }
}

/// Every old row is present in its old order, and only cts has added rows.
fn assert_kept(before: &BTreeMap<String, Rows>, conn: &Connection) {
    for (table, old) in before {
        let now = columns(conn, table);
        let expected = old.rows.iter().map(|row| -> Vec<String> {
            let pairs = row.iter().zip(&old.columns);
            pairs.map(|(value, column)| carried(value, column, &now[column])).collect()
        });
        let found = rows(conn, table, &old.columns);
        let mut left: HashMap<&Vec<String>, usize> = HashMap::new();
        for row in &found {
            *left.entry(row).or_default() += 1;
        }
        for row in expected {
            let there = left.get_mut(&row).filter(|n| **n > 0);
            *there.unwrap_or_else(|| {
                panic!("{table}: {:?} = {row:?} is not there, but {found:#?}", old.columns)
            }) -= 1;
        }
        let ours = ["migrations", "system_settings", "site_logs"].contains(&table.as_str());
        assert!(ours || found.len() == old.rows.len(), "{table}: rows that were not there");
    }
}

// Violations.

/// Rows that violate a rule of the present schema.
#[derive(Debug)]
struct Unfit {
    table: String,
    /// Number of rows. Duplicates may be counted with or without the first of each.
    counts: Vec<i64>,
    mend: String,
}

/// All violations of the rules of a new database; those of foreign keys last.
fn unfit(fresh: &Connection, conn: &Connection) -> Vec<Unfit> {
    let mut found = Vec::new();
    let mut look = |table: &str, condition: &str, mend: &str| {
        let count = number(conn, &format!("SELECT count(*) FROM {table} WHERE {condition}"));
        let mend = format!("{mend} WHERE {condition}");
        found.push(Unfit { table: table.to_string(), counts: vec![count], mend });
    };
    let all = tables(fresh);
    for table in &all {
        for (name, column) in columns(fresh, table) {
            if column.is_integer_key() {
                look(
                    table,
                    &format!("typeof({name}) <> 'integer'"),
                    &format!("UPDATE {table} SET {name} = rowid"),
                );
            } else if column.not_null {
                look(
                    table,
                    &format!("{name} IS NULL"),
                    &format!("UPDATE {table} SET {name} = 'mended ' || rowid"),
                );
            }
        }
    }
    for (table, keys) in unique_keys(fresh) {
        let some =
            format!("FROM {table} WHERE {} IS NOT NULL GROUP BY {keys}", keys.replace(',', " || "));
        let groups = format!("SELECT count(*) AS n {some} HAVING n > 1");
        let count =
            |what: &str| number(conn, &format!("SELECT coalesce({what}, 0) FROM ({groups})"));
        found.push(Unfit {
            counts: vec![count("sum(n)"), count("sum(n - 1)"), count("count(*)")],
            mend: format!("DELETE FROM {table} WHERE rowid NOT IN (SELECT min(rowid) {some})"),
            table,
        });
    }
    for table in &all {
        for (column, parent, key) in foreign_keys(fresh, table) {
            let orphan = format!(
                "{column} IS NOT NULL AND NOT EXISTS \
                 (SELECT 1 FROM {parent} AS p WHERE p.{key} = {table}.{column})"
            );
            let count = number(conn, &format!("SELECT count(*) FROM {table} WHERE {orphan}"));
            found.push(Unfit {
                table: table.clone(),
                counts: vec![count],
                mend: format!("DELETE FROM {table} WHERE {orphan}"),
            });
        }
    }
    found.retain(|unfit| unfit.counts[0] > 0);
    found
}

/// Each unique index: its table and its columns.
fn unique_keys(conn: &Connection) -> Vec<(String, String)> {
    let sql = "SELECT t.name, (SELECT group_concat(name) FROM pragma_index_info(i.name)) \
        FROM sqlite_schema AS t, pragma_index_list(t.name) AS i \
        WHERE t.type = 'table' AND i.\"unique\" AND i.origin = 'c' AND NOT i.partial";
    let mut statement = conn.prepare(sql).unwrap();
    statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !(c.is_alphanumeric() || c == '_'))
}

fn has_word(line: &str, word: &str) -> bool {
    words(line).any(|w| w == word)
}

fn assert_listed(said: &str, unfit: &Unfit) {
    let is_it = |line: &str| {
        line.contains("relaxed")
            && has_word(line, &unfit.table)
            && unfit.counts.iter().any(|count| has_word(line, &count.to_string()))
    };
    assert!(said.lines().any(is_it), "no line says that this is relaxed: {unfit:?}\n{said}");
}

// Rows, and objects of the owner.

#[test]
fn every_old_row_is_kept_with_every_value() {
    every_old(|_, machine| {
        let before = snapshot(&machine.open());
        machine.cts("migrate").success();
        let conn = machine.open();
        assert_kept(&before, &conn);
        assert_sound(&conn);
    });
}

#[test]
fn a_start_of_the_service_adopts_as_migrate_does() {
    every_old(|_, machine| {
        let before = snapshot(&machine.open());
        let service = machine.serve().start();
        service.until_ready().until_status("healthy");
        let (code, log) = service.stop();
        assert_eq!(code, Some(0), "{log}");
        assert_kept(&before, &machine.open());
    });
}

#[test]
#[ignore = "sweep"]
fn a_large_table_is_kept_whole() {
    let machine = Machine::new();
    Old::Unified.make(&machine.db());
    older_databases::enlarge(&machine.db(), "pseudo_positions", 100_000);
    let sum = "SELECT sum(id) + count(*) FROM pseudo_positions";
    let before = machine.number(sum);
    machine.cts("migrate --dry-run").success().says(&["pseudo_positions"]);
    machine.cts("migrate").success();
    assert_eq!(machine.number(sum), before);
}

#[test]
#[ignore = "sweep"]
fn long_steps_report_their_progress() {
    let machine = Machine::new();
    Old::Unified.make(&machine.db());
    older_databases::enlarge(&machine.db(), "pseudo_positions", 500_000);
    let copy = machine.path("copy.db");
    fs::copy(machine.db(), &copy).unwrap();
    let said = machine.cts("migrate").success().err();
    let is_progress = |line: &&str| line.contains("making index") && line.contains("rows, 0 %");
    assert!(said.lines().filter(is_progress).count() > 3, "{said}");
    // On a terminal there is a progress bar.
    let mut run = Run::of(Path::new("/usr/bin/script"), "-qec");
    run.command.arg(format!("{} migrate", env!("CARGO_BIN_EXE_cts"))).arg("/dev/null");
    let seen = run.db(&copy).env("TERM", "xterm").success().out();
    for part in ["table pseudo_positions", " %, ", " left"] {
        assert!(seen.contains(part), "{part:?} is missing in:\n{seen}");
    }
    assert!(!seen.contains("making index"), "{seen}");
}

#[test]
fn the_ledger_keeps_the_old_rows_before_the_new_ones() {
    every_old(|_, machine| {
        let names = |ours| {
            format!("SELECT name FROM migrations WHERE (checksum IS NOT NULL) = {ours} ORDER BY id")
        };
        let exists =
            number(&machine.open(), "SELECT count(*) FROM sqlite_schema WHERE name = 'migrations'");
        let old = if exists == 1 {
            machine.texts("SELECT name FROM migrations ORDER BY id")
        } else {
            Vec::new()
        };
        machine.cts("migrate").success();
        assert_eq!(machine.texts(&names(0)), old);
        let ours = machine.texts(&names(1));
        for name in fresh().0.texts("SELECT name FROM migrations") {
            assert!(ours.contains(&name), "{name} is not in {ours:?}");
        }
        let status = machine.cts("status --json").success().json();
        assert_eq!(status["status"], "complete", "{status}");
    });
}

#[test]
fn objects_of_the_owner_are_kept_and_work() {
    let theirs = "SELECT name || message FROM my_view ORDER BY 1";
    every_old(|old, machine| {
        let (_fresh, fresh) = fresh();
        let conn = machine.open();
        let (ours, our_indexes) = (tables(&fresh), schema(&fresh, "'index'"));
        let made = |conn: &Connection| {
            let mut made = schema(conn, "'table', 'view', 'trigger', 'index'");
            made.retain(|name, _| {
                !ours.contains(name)
                    && !our_indexes.contains_key(name)
                    && !name.starts_with("sqlite_")
            });
            made
        };
        let seen = |conn: &Connection| -> Vec<String> {
            if old == Old::Empty { Vec::new() } else { texts(conn, theirs) }
        };
        let (before, view) = (made(&conn), seen(&conn));
        let extra: Vec<_> = ours.iter().map(|table| (table, columns(&conn, table))).collect();
        drop(conn);
        machine.cts("migrate").success();
        let conn = machine.open();
        let after = made(&conn);
        for (name, sql) in &before {
            assert_eq!(after.get(name), Some(sql), "{name}");
        }
        assert_eq!(seen(&conn), view);
        for (table, old) in extra {
            let (now, new) = (columns(&conn, table), columns(&fresh, table));
            for (name, column) in old.iter().filter(|(name, _)| !new.contains_key(*name)) {
                let found =
                    now.get(name).unwrap_or_else(|| panic!("column {table}.{name} is gone"));
                if name.starts_with("my") {
                    assert_eq!(found, column, "{table}.{name}");
                }
                assert_eq!(
                    (&found.kind, &found.default),
                    (&column.kind, &column.default),
                    "{table}.{name}"
                );
            }
        }
        if old != Old::Empty {
            assert_theirs_work(&conn);
        }
    });
}

/// Triggers fire, indexes are used, and foreign keys of the owner are checked and cascade.
fn assert_theirs_work(conn: &Connection) {
    assert_eq!(number(conn, "SELECT count(*) FROM my_audit"), 0, "a trigger fired in the adoption");
    conn.execute_batch(
        "INSERT INTO exchange_connections (id, name, exchange) VALUES ('mine-1', 'mine', 'bybit'); \
         INSERT INTO my_notes (body, connection) VALUES ('mine', 'mine-1')",
    )
    .unwrap();
    assert_eq!(texts(conn, "SELECT what FROM my_audit"), ["mine"]);
    let highest = "SELECT max(id) FROM my_notes";
    let id = number(conn, highest);
    assert!(
        id > number(conn, "SELECT count(*) FROM my_notes"),
        "the id of a deleted note is used again"
    );
    conn.execute_batch("DELETE FROM exchange_connections WHERE id = 'mine-1'").unwrap();
    assert!(number(conn, highest) < id, "the note outlived its connection");
    let guarded = conn.execute("DELETE FROM users", []).unwrap_err();
    assert!(guarded.to_string().contains("users stay"), "{guarded}");
    number(
        conn,
        "SELECT count(*) FROM exchange_connections INDEXED BY my_index WHERE exchange IS NOT NULL",
    );
    number(conn, "SELECT count(*) FROM users INDEXED BY my_lower WHERE lower(username) = 'x'");
    assert_eq!(number(conn, "SELECT count(*) FROM my_search WHERE body MATCH 'find'"), 1);
    assert_eq!(number(conn, "SELECT count(*) FROM users WHERE my_shout <> upper(username)"), 0);
    assert_eq!(number(conn, "SELECT count(*) FROM users WHERE my_nickname = 'n''É'"), 0);
    assert!(number(conn, "SELECT count(*) FROM users WHERE my_nickname = 'N''é'") > 0);
    assert_eq!(
        texts(conn, "SELECT \"table\" FROM pragma_foreign_key_check WHERE \"table\" = 'my_notes'"),
        [""; 0]
    );
}

// The schema.

#[test]
fn the_schema_is_that_of_a_new_database() {
    every_adopted(|_, machine| {
        let (_fresh, fresh) = fresh();
        let conn = machine.open();
        let unfit = unfit(&fresh, &conn);
        let is_fit = |table: &String| unfit.iter().all(|unfit| unfit.table != *table);
        for table in tables(&fresh) {
            let found = columns(&conn, &table);
            assert!(!found.is_empty(), "table {table} is missing");
            for (name, column) in columns(&fresh, &table) {
                match found.get(&name) {
                    None => panic!("column {table}.{name} is missing"),
                    Some(found) if is_fit(&table) => assert_eq!(found, &column, "{table}.{name}"),
                    Some(_) => {}
                }
            }
            if is_fit(&table) {
                assert_eq!(foreign_keys(&conn, &table), foreign_keys(&fresh, &table), "{table}");
            }
        }
        let found = schema(&conn, "'index'");
        for (name, sql) in schema(&fresh, "'index'") {
            let found = found.get(&name).unwrap_or_else(|| panic!("index {name} is missing"));
            if name != "idx_indication_states_key" {
                assert_eq!(folded(found), folded(&sql), "{name}");
            }
        }
        machine.cts("verify").success().says(&["no drift"]);
        machine.cts("--check").success().says(&["CTS OK"]);
    });
}

/// Without spaces, and without optional keywords.
fn folded(sql: &str) -> String {
    sql.replace("IF NOT EXISTS", "").split_whitespace().collect()
}

// Statements of the trading programs.

/// A new row with a value for each column that needs one.
fn insert(fresh: &Connection, conn: &Connection, table: &str, n: usize) -> Option<i64> {
    let now = columns(fresh, table);
    let (mut names, mut values) = (Vec::new(), Vec::new());
    for (name, _) in
        now.iter().filter(|(name, column)| column.is_needed() || *name == "connection_id")
    {
        names.push(name.clone());
        values.push(if name == "connection_id" {
            "'bybit-x03'".to_string()
        } else {
            format!("'new {n}'")
        });
    }
    let returning = if now.contains_key("id") { "id" } else { "NULL" };
    let sql = format!(
        "INSERT INTO {table} ({}) VALUES ({}) RETURNING {returning}",
        names.join(", "),
        values.join(", ")
    );
    conn.query_row(&sql, [], |row| row.get(0)).unwrap_or_else(|e| panic!("{e}: {sql}"))
}

const CONNECTION: &str = "INSERT INTO exchange_connections (id, name) VALUES ('bybit-x03', 'main')";

#[test]
fn new_rows_get_an_id_and_are_deleted_with_their_connection() {
    every_adopted(|_, machine| {
        let (_fresh, fresh) = fresh();
        let conn = machine.open();
        conn.execute_batch(CONNECTION).unwrap();
        for table in tables(&fresh).iter().filter(|table| *table != "exchange_connections") {
            if columns(&fresh, table).contains_key("id") {
                let ids = [1, 2].map(|n| {
                    let id = insert(&fresh, &conn, table, n);
                    id.unwrap_or_else(|| panic!("{table}: a new row got no id"))
                });
                assert_ne!(ids[0], ids[1], "{table}");
                let there =
                    format!("SELECT count(*) FROM {table} WHERE id IN ({}, {})", ids[0], ids[1]);
                assert_eq!(number(&conn, &there), 2, "{table}");
            } else {
                insert(&fresh, &conn, table, 1);
            }
        }
        conn.execute_batch("DELETE FROM exchange_connections WHERE id = 'bybit-x03'").unwrap();
        for table in tables(&fresh) {
            if !foreign_keys(&fresh, &table).is_empty() {
                let left =
                    format!("SELECT count(*) FROM {table} WHERE connection_id = 'bybit-x03'");
                assert_eq!(number(&conn, &left), 0, "{table}");
            }
        }
    });
}

#[test]
fn statements_of_the_trading_programs_work() {
    every_adopted(|_, machine| {
        let conn = machine.open();
        for sql in [
            CONNECTION,
            "INSERT INTO exchange_connections (id, name, position_mode) \
             VALUES ('bybit-x04', 'main', 'one-way')",
            "INSERT INTO exchange_connections (id, name) VALUES ('bybit-x03', 'other') \
             ON CONFLICT (id) DO UPDATE SET name = excluded.name",
            "INSERT INTO system_settings (key, value) VALUES ('positionCost', '0.2') \
             ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            "INSERT INTO users (username, password_hash) VALUES ('new', 'x')",
            "INSERT INTO site_logs (level, category, message, connection_id) \
             VALUES ('warn', 'engine', 'm', 'bybit-x03')",
            "INSERT INTO indication_states (state_key, validated_at) VALUES ('new', datetime('now'))",
            "INSERT INTO pseudo_positions (connection_id, symbol, direction, status) \
             VALUES ('bybit-x03', 'BTCUSDT', 'long', 'base_active')",
            "INSERT INTO indications_optimal (connection_id, symbol, status) \
             VALUES ('bybit-x03', 'BTCUSDT', 'validated')",
            "INSERT INTO strategies_real (connection_id, symbol, status) \
             VALUES ('bybit-x03', 'BTCUSDT', 'active')",
        ] {
            conn.execute_batch(sql).unwrap_or_else(|e| panic!("{e}: {sql}"));
        }
        let orphan = conn.execute(
            "INSERT INTO strategies_base (connection_id, symbol) VALUES ('nobody', 'x')",
            [],
        );
        assert!(orphan.is_err(), "a row of no connection was taken");
        assert_eq!(
            texts(&conn, "SELECT name FROM exchange_connections WHERE id = 'bybit-x03'"),
            ["other"]
        );
    });
}

#[test]
fn sequences_continue_above_the_highest_id() {
    every_old(|_, machine| {
        let counters = |conn: &Connection| -> BTreeMap<String, i64> {
            if number(conn, "SELECT count(*) FROM sqlite_schema WHERE name = 'sqlite_sequence'")
                == 0
            {
                return BTreeMap::new();
            }
            let mut statement = conn.prepare("SELECT name, seq FROM sqlite_sequence").unwrap();
            statement
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
                .unwrap()
                .map(Result::unwrap)
                .collect()
        };
        let before = counters(&machine.open());
        machine.cts("migrate").success();
        let conn = machine.open();
        let (after, sql) = (counters(&conn), schema(&conn, "'table'"));
        for (table, counter) in before {
            if sql[&table].contains("AUTOINCREMENT") {
                assert!(
                    after.get(&table) >= Some(&counter),
                    "{table}: {:?} after {counter}",
                    after.get(&table)
                );
            }
        }
        let twice = "SELECT count(*) - count(DISTINCT name) FROM sqlite_sequence";
        if !after.is_empty() {
            assert_eq!(number(&conn, twice), 0);
        }
    });
}

// Files beside the database.

fn backups(machine: &Machine) -> Vec<PathBuf> {
    let is_one = |path: &PathBuf| {
        path.file_name().unwrap().to_string_lossy().starts_with("cts.db.before-3.1.0-")
    };
    machine.files().into_keys().filter(is_one).collect()
}

#[test]
fn a_backup_of_the_old_database_is_beside_it() {
    every_old(|_, machine| {
        let types = "'table', 'index', 'view', 'trigger'";
        let (rows, sql) = (snapshot(&machine.open()), schema(&machine.open(), types));
        let done = machine.cts("migrate").success();
        let [backup] = &backups(machine)[..] else { panic!("backups: {:?}", backups(machine)) };
        assert_eq!((mode(backup), mode(&machine.db())), (0o600, 0o600));
        let name = backup.file_name().unwrap().to_string_lossy().into_owned();
        done.says(&[&name]);
        let copy = Connection::open_with_flags(backup, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        assert_sound(&copy);
        assert_eq!(schema(&copy, types), sql);
        let kept = snapshot(&copy);
        for (table, rows) in rows {
            assert_eq!(kept[&table], rows, "{table}");
        }
    });
}

#[test]
fn a_second_run_changes_no_byte() {
    every_adopted(|_, machine| {
        let before = machine.files();
        machine.cts("migrate").success();
        machine.cts("verify").success();
        machine.cts("repair").success();
        assert_eq!(machine.files(), before);
    });
}

#[test]
fn a_dry_run_names_every_table_and_changes_no_byte() {
    every_old(|_, machine| {
        let (_fresh, fresh) = fresh();
        let before = machine.files();
        let plan = machine.cts("migrate --dry-run").success().out();
        assert_eq!(machine.files(), before);
        let conn = machine.open();
        let there = tables(&conn);
        for table in tables(&fresh) {
            let lines: Vec<&str> = plan.lines().filter(|line| has_word(line, &table)).collect();
            let says = |what: &str| lines.iter().any(|line| line.contains(what));
            if !there.contains(&table) {
                assert!(says("create"), "{table} is not said to be created:\n{plan}");
                continue;
            }
            assert!(
                says("add") || says("rebuil"),
                "{table} is neither added to nor rebuilt:\n{plan}"
            );
            let count = number(&conn, &format!("SELECT count(*) FROM {table}")).to_string();
            for line in lines.iter().filter(|line| line.contains("rebuil")) {
                assert!(has_word(line, &count), "{table} has {count} rows: {line}");
            }
        }
    });
}

// Constraint exceptions.

#[test]
fn the_test_databases_hold_violations() {
    let (_fresh, fresh) = fresh();
    for (old, tables) in [
        (Old::Unified, &["indication_states", "migrations", "indications_move"][..]),
        (Old::Master, &["indications_direction", "strategies_main", "indication_states"]),
        (Old::Both, &["indication_states", "migrations", "pseudo_positions"]),
        (Old::Init, &["exchange_connections", "real_pseudo_positions", "indication_states"]),
        (Old::Empty, &[]),
    ] {
        let machine = Machine::new();
        old.make(&machine.db());
        assert_sound(&machine.open());
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(&format!("ATTACH '{}' AS old", machine.db().display())).unwrap();
        // A table or column that does not exist yet will hold NULL only.
        for table in self::tables(&fresh) {
            let (new, now) = (columns(&fresh, &table), columns(&machine.open(), &table));
            let value = |name: &String| {
                if now.contains_key(name) { name.clone() } else { format!("NULL AS {name}") }
            };
            let list: Vec<String> = new.keys().map(value).collect();
            let from = if now.is_empty() {
                String::from("(SELECT 1) LIMIT 0")
            } else {
                format!("old.{table} ORDER BY rowid")
            };
            conn.execute_batch(&format!(
                "CREATE TABLE {table} AS SELECT {} FROM {from}",
                list.join(", ")
            ))
            .unwrap();
        }
        let found: Vec<String> =
            unfit(&fresh, &conn).into_iter().map(|unfit| unfit.table).collect();
        for table in tables {
            assert!(found.contains(&(*table).to_string()), "{old:?}: {table} is not in {found:?}");
        }
        assert_eq!(found.is_empty(), tables.is_empty(), "{old:?}: {found:?}");
    }
}

#[test]
fn violations_are_kept_and_listed() {
    every_adopted(|_, machine| {
        let (_fresh, fresh) = fresh();
        let unfit = unfit(&fresh, &machine.open());
        let (verify, status) =
            (machine.cts("verify").success().out(), machine.cts("status").success().out());
        for unfit in &unfit {
            assert_listed(&verify, unfit);
            assert_listed(&status, unfit);
        }
        let json = machine.cts("verify --json").success().json();
        assert_eq!(json["drift"], false, "{json}");
        let status_json = machine.cts("status --json").success().json();
        for unfit in &unfit {
            for relaxed in [&json["relaxed"], &status_json["relaxed"]] {
                let listed = relaxed.as_array().unwrap();
                assert!(listed.iter().any(|one| one["table"] == unfit.table), "{relaxed}");
            }
        }
        if unfit.is_empty() {
            assert!(!verify.contains("relaxed") && !status.contains("relaxed"), "{verify}{status}");
        }
        machine.cts("--check").success().says(&["CTS OK"]);
    });
}

#[test]
fn repair_enforces_rules_whose_rows_were_corrected() {
    every_adopted(|_, machine| {
        let (_fresh, fresh) = fresh();
        let conn = machine.open();
        let unfit = unfit(&fresh, &conn);
        conn.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        for Unfit { mend, .. } in &unfit {
            conn.execute_batch(mend).unwrap_or_else(|e| panic!("{e}: {mend}"));
        }
        // A corrected id may have orphaned rows, and deletions may have removed duplicates.
        for Unfit { mend, .. } in self::unfit(&fresh, &conn) {
            conn.execute_batch(&mend).unwrap_or_else(|e| panic!("{e}: {mend}"));
        }
        if columns(&conn, "strategies_dca").contains_key("dca_config") {
            let times = "UPDATE strategies_dca SET updated_at = '2026-11-23 12:00:00' \
                WHERE typeof(updated_at) = 'integer'";
            conn.execute_batch(times).unwrap();
        }
        drop(conn);
        let before = snapshot(&machine.open());
        let done = machine.cts("repair").success();
        let said = done.out() + &done.err();
        for Unfit { table, .. } in &unfit {
            let is_it = |line: &str| line.contains("tightened") && has_word(line, table);
            assert!(said.lines().any(is_it), "{table} is not said to be tightened:\n{said}");
        }
        let verify = machine.cts("verify").success().out();
        assert!(!verify.contains("relaxed"), "{verify}");
        let conn = machine.open();
        for table in tables(&fresh) {
            let now = columns(&conn, &table);
            for (name, column) in columns(&fresh, &table) {
                assert_eq!(now.get(&name), Some(&column), "{table}.{name}");
            }
        }
        // The record of exceptions is the only thing that shrank.
        for (table, rows) in before.into_iter().filter(|(table, _)| table != "cts_relaxations") {
            assert!(snapshot(&conn)[&table].rows.len() >= rows.rows.len(), "{table} lost rows");
        }
        conn.execute_batch(
            "INSERT INTO indication_states (state_key) VALUES ('upsert'); \
             INSERT INTO indication_states (state_key, state_value) VALUES ('upsert', 'x') \
             ON CONFLICT (state_key) DO UPDATE SET state_value = excluded.state_value",
        )
        .unwrap();
        assert_sound(&conn);
        let left = self::unfit(&fresh, &conn);
        assert!(left.is_empty(), "{left:?}");
    });
}

#[test]
fn repair_keeps_exceptions_that_still_have_violations() {
    every_adopted(|_, machine| {
        let before = snapshot(&machine.open());
        let done = machine.cts("repair").success();
        let said = done.out() + &done.err();
        assert!(!said.contains("tightened"), "{said}");
        assert_eq!(snapshot(&machine.open()), before);
    });
}

// Databases that are not adopted.

/// Databases of other programs, some with table names of CTS.
const FOREIGN: [(&str, &str); 5] = [
    (
        "Django",
        "CREATE TABLE django_migrations (id INTEGER PRIMARY KEY AUTOINCREMENT, app, name, applied); \
         CREATE TABLE auth_user (id INTEGER PRIMARY KEY, username, email); \
         INSERT INTO auth_user VALUES (1, 'a', 'b')",
    ),
    (
        "Rails",
        "CREATE TABLE schema_migrations (version TEXT PRIMARY KEY); \
         CREATE TABLE users (id INTEGER PRIMARY KEY, email, encrypted_password); \
         INSERT INTO schema_migrations VALUES ('20250101000000'); INSERT INTO users VALUES (1, 'a', 'b')",
    ),
    (
        "TypeORM",
        "CREATE TABLE migrations (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, \
         timestamp bigint NOT NULL, name varchar NOT NULL); \
         CREATE TABLE post (id INTEGER PRIMARY KEY, title); \
         INSERT INTO migrations (timestamp, name) VALUES (1, 'Init1')",
    ),
    (
        "db-migrate",
        "CREATE TABLE migrations (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, \
         name VARCHAR(255) NOT NULL, run_on DATETIME NOT NULL); \
         CREATE TABLE pets (id INTEGER PRIMARY KEY, name); \
         INSERT INTO migrations (name, run_on) VALUES ('/2025-add-pets', '2025')",
    ),
    (
        "notes",
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, body); INSERT INTO notes VALUES (1, 'x')",
    ),
];

#[test]
fn databases_of_other_programs_are_refused_and_left_alone() {
    for (program, sql) in FOREIGN {
        let machine = Machine::new();
        machine.sql(sql);
        let before = machine.files();
        for words in ["migrate --dry-run", "migrate", "repair", "serve --port 0"] {
            let done = machine.cts(words).run();
            assert_eq!(
                done.0.status.code(),
                Some(65),
                "{program}, {words}: {}{}",
                done.out(),
                done.err()
            );
            assert_eq!(machine.files(), before, "{program}, {words}");
            done.says(&["another program's database"]);
        }
    }
}

// Objects of the owner, and names that are taken.

/// An older database with these statements applied.
fn older_with(sql: &str) -> Machine {
    let machine = Machine::new();
    machine.sql(&format!(
        "CREATE TABLE exchange_connections (id INTEGER PRIMARY KEY, name TEXT); \
         CREATE TABLE migrations (id INTEGER PRIMARY KEY, name TEXT, executed_at TEXT); \
         INSERT INTO exchange_connections VALUES (7, 'main'); {sql}"
    ));
    machine
}

#[test]
fn a_database_that_cannot_be_adopted_is_refused_and_not_changed() {
    for (sql, sentence, remedy) in [
        (
            "CREATE TABLE users (id INTEGER PRIMARY KEY, username TEXT); CREATE TABLE own (x); \
             CREATE INDEX idx_users_username ON own (x)",
            "index idx_users_username cannot be created: an index of table own has its name",
            "rename that object",
        ),
        (
            "CREATE VIRTUAL TABLE users USING fts5 (id, username, email)",
            "table users is a virtual table",
            "rename it",
        ),
        (
            "DROP TABLE exchange_connections; \
             CREATE TABLE exchange_connections (id INTEGER PRIMARY KEY, name TEXT UNIQUE); \
             CREATE TABLE own (n TEXT REFERENCES exchange_connections (name))",
            "table own refers to a column that would no longer be unique",
            "drop its foreign key",
        ),
        (
            "CREATE TABLE cts_relaxations (a, b)",
            "table cts_relaxations is not the one",
            "rename that table",
        ),
        (
            "CREATE TRIGGER none BEFORE INSERT ON migrations BEGIN SELECT raise(IGNORE); END",
            "a row inserted into table migrations is not stored",
            "trigger",
        ),
    ] {
        let machine = older_with(sql);
        let before = machine.files();
        machine.cts("migrate").status(65).says(&[sentence, "nothing was changed", "Try: ", remedy]);
        assert_eq!(machine.files(), before, "{sql}");
    }
}

#[test]
fn exhausted_ids_are_distinguished_from_a_full_disk() {
    let machine = older_with(
        "DROP TABLE migrations; CREATE TABLE migrations (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT); \
         INSERT INTO migrations VALUES (9223372036854775807, 'x')",
    );
    let before = machine.files();
    let words = ["nothing was changed", "this disk has room", "used up its ids"];
    machine.cts("migrate").status(74).says(&words);
    assert_eq!(machine.files(), before);
}

#[test]
fn generated_columns_and_other_unusual_tables_are_adopted() {
    let machine = older_with(
        "CREATE TABLE users (id INTEGER PRIMARY KEY, username TEXT, email TEXT AS (username || '@x') STORED, \
                             own TEXT NOT NULL CHECK(own<>'q'), password_hash TEXT); \
         INSERT INTO users (id, username, own) VALUES (1, 'Bob', 'mine'); \
         CREATE TABLE site_logs (level TEXT, category TEXT, message TEXT); \
         INSERT INTO site_logs VALUES ('info', 'a', 'gone'), ('info', 'a', 'kept'); \
         DELETE FROM site_logs WHERE message = 'gone'; \
         DROP TABLE migrations; CREATE TABLE migrations (id INTEGER PRIMARY KEY, name TEXT, created_at TEXT, own TEXT NOT NULL); \
         INSERT INTO migrations VALUES (1, 'unified_001', NULL, 'x'); \
         CREATE TABLE system_settings (id INTEGER PRIMARY KEY, key TEXT, value TEXT); \
         INSERT INTO system_settings VALUES (1, 'a', '1'), (2, 'a', '2')",
    );
    machine.cts("migrate").success();
    machine.cts("verify").success();
    assert_eq!(machine.texts("SELECT username || email || own FROM users"), ["BobBob@xmine"]);
    machine.sql("INSERT INTO users (username, password_hash) VALUES ('new', 'x')");
    let own = "INSERT INTO users (username, password_hash, own) VALUES ('q', 'x', 'q')";
    assert!(machine.open().execute(own, []).is_err(), "the CHECK of an own column is gone");
    assert_eq!(
        machine.texts("SELECT id || message FROM site_logs WHERE message = 'kept'"),
        ["2kept"]
    );
    assert_eq!(machine.texts("SELECT name FROM migrations ORDER BY id")[0], "unified_001");
    // An index with an exception is restored non-unique if dropped, and enforced once its rows
    // allow it.
    machine.sql("DROP INDEX idx_system_settings_key");
    machine.cts("repair").success();
    machine.sql("DELETE FROM system_settings WHERE id = 1");
    machine.cts("repair").success().says(&["tightened: index idx_system_settings_key"]);
    assert_eq!(machine.number("SELECT count(*) FROM system_settings"), 21);
}

#[test]
fn duplicate_keys_are_kept_until_they_are_corrected() {
    let machine = older_with(
        "CREATE TABLE connection_coordination (id INTEGER PRIMARY KEY, connection_id INTEGER, status TEXT); \
         INSERT INTO connection_coordination VALUES (1, 7, 'a'), (2, 7, 'b')",
    );
    let shared =
        "connection_coordination.connection_id is not a key (2 rows have duplicate values)";
    machine.cts("migrate --dry-run").success().says(&[shared]);
    machine.cts("migrate").success().says(&[shared]);
    machine.cts("--check").success();
    let rows =
        machine.texts("SELECT connection_id || status FROM connection_coordination ORDER BY id");
    assert_eq!(rows, ["7a", "7b"]);
    machine.sql("DELETE FROM connection_coordination WHERE id = 1");
    machine
        .cts("repair")
        .success()
        .says(&["tightened: connection_coordination.connection_id is the primary key"]);
    machine.sql(
        "INSERT INTO connection_coordination (connection_id) VALUES ('7') \
         ON CONFLICT (connection_id) DO UPDATE SET status = 'c'",
    );
    assert_eq!(machine.texts("SELECT status FROM connection_coordination"), ["c"]);
}

#[test]
fn dropped_rules_are_reported() {
    let machine = older_with(
        "CREATE TABLE users (id INTEGER PRIMARY KEY, username TEXT UNIQUE, role TEXT CHECK (role IN ('a')), own TEXT, \
                             UNIQUE (own, role), UNIQUE (own))",
    );
    let gone = ["CHECK (role IN ('a'))", "UNIQUE (own, role)"];
    let planned = machine.cts("migrate --dry-run").success().says(&gone);
    let done = machine.cts("migrate").success().says(&gone);
    for text in [planned.out(), done.err()] {
        assert!(!text.contains("UNIQUE (username)"), "{text}");
    }
    machine.sql("INSERT INTO users (username, password_hash, own) VALUES ('a', 'x', 'y')");
    let again = "INSERT INTO users (username, password_hash, own) VALUES ('b', 'x', 'y')";
    assert!(machine.open().execute(again, []).is_err(), "the own UNIQUE is gone");
}

#[test]
fn a_trigger_with_the_name_of_an_index_is_kept() {
    let machine = Machine::migrated();
    machine.sql(
        "INSERT INTO users (username, password_hash) VALUES ('a', 'x'); CREATE TABLE own (x); \
         DROP INDEX idx_users_email; \
         CREATE TRIGGER idx_users_email AFTER UPDATE ON users BEGIN INSERT INTO own VALUES (1); END; \
         ALTER TABLE users DROP COLUMN created_at",
    );
    machine.cts("repair").run();
    machine.sql("UPDATE users SET username = 'b'");
    assert_eq!(machine.number("SELECT count(*) FROM own"), 1);
}
