//! Databases on which cts has work to do, and how a test determines afterwards whether it finds the
//! old database or the new one. Any other state is a failure.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::support::harness::{Machine, Run};
use crate::support::older_databases::Old;

/// A database as it is before the run, and the command that brings it up to date.
pub struct Scenario {
    pub name: &'static str,
    pub words: &'static str,
    /// Makes the database, unless the run starts without one.
    pub make: fn(&Machine),
}

pub const SCENARIOS: [Scenario; 6] = [
    Scenario { name: "a first run", words: "migrate", make: |_| () },
    Scenario {
        name: "a first run in an empty file",
        words: "migrate",
        make: |machine| fs::write(machine.db(), "").unwrap(),
    },
    Scenario { name: "a repair", words: "repair", make: |machine| made_of(machine, LOST) },
    Scenario {
        name: "migrations of a database that lacks things",
        words: "migrate",
        make: |machine| {
            made_of(machine, LOST);
            machine.sql("DELETE FROM migrations WHERE id > 1");
        },
    },
    Scenario {
        name: "an adoption, from rollback mode",
        words: "migrate",
        make: |machine| Old::Master.make(&machine.db()),
    },
    Scenario {
        name: "an adoption, from WAL mode",
        words: "migrate",
        make: |machine| Old::Unified.make(&machine.db()),
    },
];

/// Thousands of rows, of all types, some of them deleted again.
pub const ROWS: &str = "
    INSERT INTO exchange_connections (id, name) VALUES ('bybit-x03', 'main'), ('okx', 'ünï');
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
    INSERT INTO pseudo_positions (connection_id, symbol, status, entry_price, volume, close_reason)
    SELECT iif(i % 3, 'bybit-x03', 'okx'), 'SYM' || i % 40, iif(i % 5, 'closed', 'active'), i / 7.0,
           iif(i % 11, i, 'text'), iif(i % 2, NULL, 'reason ' || hex(i * 7919)) FROM n;
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
    INSERT INTO site_logs (level, category, message, connection_id, metadata)
    SELECT 'info', 'trade', 'message ' || hex(i * 104729), 'okx', iif(i % 50, NULL, zeroblob(9000)) FROM n;
    INSERT INTO indications_move (connection_id, symbol, momentum)
    SELECT connection_id, symbol, 9e999 FROM pseudo_positions WHERE id % 2;
    INSERT INTO users (username, password_hash) VALUES ('kept', x'00ff');
    DELETE FROM site_logs WHERE id % 100 = 51;";

/// Statements that drop tables, columns and indexes.
const LOST: &str = "
    DROP TABLE system_settings; DROP TABLE indications_auto; DROP TABLE statistics_daily;
    DROP TABLE indication_states; ALTER TABLE users DROP COLUMN role;
    ALTER TABLE exchange_connections DROP COLUMN margin_mode;
    ALTER TABLE exchange_positions DROP COLUMN leverage;
    DROP INDEX idx_pseudo_positions_live; DROP INDEX idx_pseudo_positions_symbol;
    DROP INDEX idx_pseudo_positions_status; DROP INDEX idx_indications_move_conn_symbol;
    DROP INDEX idx_indications_move_status; DROP INDEX idx_indications_move_recent;
    DROP INDEX idx_site_logs_category; DROP INDEX idx_site_logs_connection;
    DROP INDEX idx_site_logs_time; DROP INDEX idx_users_email;";

fn made_of(machine: &Machine, lost: &str) {
    machine.cts("migrate").success();
    machine.sql(ROWS);
    machine.sql(lost);
}

/// Suffixes of the files that hold content of a database.
pub const SUFFIXES: [&str; 3] = ["", "-wal", "-journal"];

pub fn side_file(db: &Path, suffix: &str) -> std::path::PathBuf {
    let mut name = db.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Copies a database with its WAL and journal, and removes any older side files at the destination.
pub fn copy(from: &Path, to: &Path) {
    for suffix in SUFFIXES.iter().chain(&["-shm"]) {
        let _ = fs::remove_file(side_file(to, suffix));
    }
    for suffix in SUFFIXES.iter().filter(|suffix| side_file(from, suffix).exists()) {
        fs::copy(side_file(from, suffix), side_file(to, suffix)).unwrap();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Old,
    New,
}

/// A scenario with the database before and after the run. Faults are injected into runs on copies
/// of it.
pub struct Trial {
    pub scenario: &'static Scenario,
    /// Holds the database before the run. It has no WAL or journal and is never opened in place:
    /// threads copy it concurrently, and an open connection would create and delete side files
    /// meanwhile.
    before: Machine,
    old: Vec<String>,
    new: Vec<String>,
}

impl Trial {
    pub fn of(scenario: &'static Scenario) -> Trial {
        let (before, after) = (Machine::new(), Machine::new());
        (scenario.make)(&before);
        for suffix in ["-wal", "-journal"] {
            assert!(!side_file(&before.db(), suffix).exists(), "{}: not at rest", scenario.name);
        }
        copy(&before.db(), &after.db());
        after.cts(scenario.words).success();
        let (old, new) =
            (fingerprint(&inspect_copy(&before.db()).1), fingerprint(&inspect_copy(&after.db()).1));
        assert_ne!(old, new, "{}: nothing to do", scenario.name);
        Trial { scenario, before, old, new }
    }

    pub fn all() -> Vec<Trial> {
        SCENARIOS.iter().map(Trial::of).collect()
    }

    /// Copies the database as it is before the run to this path.
    pub fn copy_to(&self, db: &Path) {
        copy(&self.before.db(), db);
    }

    /// The run that brings the database at this path up to date.
    pub fn run(&self, db: &Path) -> Run {
        self.before.cts(self.scenario.words).db(db)
    }

    /// The median time of an undisturbed run.
    pub fn median_time(&self) -> Duration {
        let mut times: Vec<_> = (0..5)
            .map(|_| {
                let machine = Machine::new();
                self.copy_to(&machine.db());
                let mut run = self.run(&machine.db());
                let start = Instant::now();
                assert!(run.command.output().unwrap().status.success());
                start.elapsed()
            })
            .collect();
        times.sort();
        times[times.len() / 2]
    }

    /// Determines the state of the database at this path from a copy, comparing every row.
    pub fn state(&self, db: &Path) -> State {
        let (_copy, conn) = inspect_copy(db);
        assert_eq!(texts(&conn, "PRAGMA integrity_check"), ["ok"], "{}", self.scenario.name);
        let found = fingerprint(&conn);
        let state = if found == self.old {
            State::Old
        } else {
            assert_eq!(found, self.new, "{}: neither old nor new", self.scenario.name);
            State::New
        };
        self.assert_rows_kept(&conn, state);
        state
    }

    /// Expects `cts migrate` to complete the database at this path.
    pub fn completes(&self, db: &Path) {
        self.before.cts("migrate").db(db).success();
        assert_eq!(self.state(db), State::New, "{}", self.scenario.name);
        self.before.cts("verify").db(db).success();
    }

    /// Every old row is present with every value; a column whose type was changed may hold it as
    /// text. Only the new database may have more rows.
    fn assert_rows_kept(&self, conn: &Connection, state: State) {
        let db = self.before.db();
        if !db.exists() {
            return;
        }
        // Takes no lock and creates no side file.
        let unopened = format!("file:{}?mode=ro&immutable=1", db.display());
        conn.execute("ATTACH ?1 AS old", [unopened]).unwrap();
        let tables = "SELECT name FROM old.sqlite_schema \
                      WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
        for table in texts(conn, tables) {
            let columns = texts(
                conn,
                &format!(
                    "SELECT group_concat(iif(o.type = n.type, format('\"%w\"', o.name), \
                            format('CAST(\"%w\" AS TEXT)', o.name))) \
                     FROM pragma_table_info('{table}', 'old') o \
                     LEFT JOIN pragma_table_info('{table}', 'main') n ON n.name = o.name"
                ),
            );
            let columns = &columns[0];
            let table = table.replace('"', "\"\"");
            let lost = format!(
                "SELECT count(*) FROM (SELECT {columns} FROM old.\"{table}\" \
                 EXCEPT SELECT {columns} FROM main.\"{table}\")"
            );
            let more = format!(
                "SELECT (SELECT count(*) FROM main.\"{table}\") - (SELECT count(*) FROM old.\"{table}\")"
            );
            let ask = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
            assert_eq!(ask(&lost), 0, "rows of {table} are lost");
            let more = ask(&more);
            assert!(more == 0 || (state == State::New && more > 0), "{table}: {more} rows more");
        }
        conn.execute_batch("DETACH old").unwrap();
    }
}

/// Opens a copy of the database. The original is not changed; a hot journal stays hot.
fn inspect_copy(db: &Path) -> (Machine, Connection) {
    let machine = Machine::new();
    copy(db, &machine.db());
    let conn = machine.open();
    (machine, conn)
}

fn texts(conn: &Connection, sql: &str) -> Vec<String> {
    let mut statement = conn.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

/// What distinguishes the old database from the new one: schema, ledger, and number of events in
/// `site_logs`.
fn fingerprint(conn: &Connection) -> Vec<String> {
    let schema =
        "SELECT type || ' ' || name || ' ' || coalesce(sql, '') FROM sqlite_schema ORDER BY 1";
    let mut print = texts(conn, schema);
    for (table, sql) in [
        ("migrations", "SELECT 'ledger ' || name FROM migrations ORDER BY id"),
        ("site_logs", "SELECT count(*) || ' notes' FROM site_logs WHERE category = 'database'"),
    ] {
        if conn.table_exists(None, table).unwrap() {
            print.extend(texts(conn, sql));
        }
    }
    print
}
