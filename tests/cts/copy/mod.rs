//! `cts copy`: every row of one store arrives in the other, both ways, with a proof; or nothing does.

mod follow_up;
mod kept;
mod kills;
mod meanwhile;
mod older;
mod outages;
mod random;
mod refused;
mod second_proof;
mod statistics;
mod targets;
mod unfit;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use serde_json::Value;

use crate::support::cluster::{Cluster, Database};
use crate::support::harness::{Done, Machine, Run, await_that};
use crate::support::hostile::TypedColumn;
use crate::support::scenario::copy;

/// A SQLite database and a database on a server: the two ends of a copy.
struct Ends<'c> {
    machine: Machine,
    database: Database<'c>,
}

impl Ends<'static> {
    /// A migrated file, and an empty database on the shared server.
    fn new() -> Ends<'static> {
        Ends::on(Cluster::shared())
    }

    /// A file in which these statements have been run, and an empty database.
    fn with(sql: &str) -> Ends<'static> {
        let ends = Ends::new();
        ends.machine.sql(sql);
        ends
    }

    /// A machine without a file, and a migrated database in which these statements have been run.
    fn backwards(sql: &str) -> Ends<'static> {
        let ends = Ends { machine: Machine::new(), database: migrated_database() };
        ends.database.sql(sql);
        ends
    }
}

impl<'c> Ends<'c> {
    fn on(cluster: &'c Cluster) -> Ends<'c> {
        Ends { machine: migrated_file(), database: cluster.owned() }
    }

    /// A run with both databases configured.
    fn cts(&self, words: &str) -> Run {
        self.machine.cts(words).env("DATABASE_URL", self.database.url())
    }

    fn to_postgresql(&self, words: &str) -> Run {
        self.cts(&format!("copy --to postgresql {words}"))
    }

    /// Into another file than the one of the machine.
    fn to_sqlite(&self, words: &str) -> Run {
        self.cts(&format!("copy --to sqlite {words}")).db(&self.back())
    }

    fn back(&self) -> PathBuf {
        self.machine.path("back.db")
    }

    /// Every table of the server's database, and every byte of the files.
    fn everything(&self) -> (Vec<String>, BTreeMap<PathBuf, u64>) {
        (self.database.everything(), self.machine.files())
    }

    /// Expects a copy in either direction to end with this code, and to change nothing on either side.
    fn changes_nothing(&self, run: Run, code: i32, says: &[&str]) -> Done {
        let before = self.everything();
        let done = run.status(code);
        assert_eq!(self.everything(), before, "{}{}", done.out(), done.err());
        done.says(says)
    }

    /// Expects the copy on the server to be complete and in order.
    fn server_is_good(&self) {
        self.database.cts("--check").success();
        self.database.cts("verify").success();
    }
}

/// A machine with a migrated database, which is a copy of another one.
fn migrated_file() -> Machine {
    static MIGRATED: OnceLock<Machine> = OnceLock::new();
    let machine = Machine::new();
    copy(&MIGRATED.get_or_init(Machine::migrated).db(), &machine.db());
    machine
}

/// A migrated database on the shared server, which is a copy of another one.
fn migrated_database() -> Database<'static> {
    static MIGRATED: Mutex<Option<Database<'static>>> = Mutex::new(None);
    // A database is copied while nobody is connected to it.
    let mut migrated = MIGRATED.lock().unwrap_or_else(PoisonError::into_inner);
    let first = migrated.get_or_insert_with(|| {
        let database = Cluster::shared().owned();
        database.cts("migrate").success();
        await_that("nobody is connected", || database.sessions_of_cts() == 0);
        database
    });
    first.copy()
}

/// The number of rows and the digest of each table on one side, as `--json` tells them.
fn side(report: &Value, side: &str) -> BTreeMap<String, (u64, String)> {
    let tables = report["tables"].as_array().unwrap_or_else(|| panic!("no tables: {report}"));
    let row = |table: &Value| {
        let found = &table[side];
        let digest = found["digest"].as_str().unwrap().to_string();
        assert_eq!(digest.len(), 64, "{table}");
        (table["table"].as_str().unwrap().to_string(), (found["rows"].as_u64().unwrap(), digest))
    };
    tables.iter().map(row).collect()
}

/// The digests, once the report has been found to say that both sides are equal.
fn proved(report: &Value) -> BTreeMap<String, (u64, String)> {
    let (source, target) = (side(report, "source"), side(report, "target"));
    assert_eq!(source, target);
    assert_eq!(report["equal"], true, "{report}");
    let tables = report["tables"].as_array().unwrap();
    assert!(tables.iter().all(|table| table["equal"] == true), "{report}");
    let rows: u64 = source.values().map(|(rows, _)| rows).sum();
    assert_eq!(report["rows"].as_u64(), Some(rows), "{report}");
    source
}

/// Every column of the schema but the ledger's, by table, with its type on a server.
fn columns() -> &'static [TypedColumn] {
    static COLUMNS: OnceLock<Vec<TypedColumn>> = OnceLock::new();
    COLUMNS.get_or_init(|| {
        let database = migrated_database();
        let sql = "SELECT table_name::text, column_name::text, data_type::text, is_nullable::text \
                   FROM information_schema.columns WHERE table_schema = 'public' \
                   AND table_name <> 'migrations' AND NOT starts_with(table_name, 'cts_') \
                   ORDER BY table_name, ordinal_position";
        let rows = database.open().query(sql, &[]).unwrap();
        let column = |row: postgres::Row| TypedColumn {
            table: row.get(0),
            name: row.get(1),
            data_type: row.get(2),
            is_required: row.get::<_, String>(3) == "NO",
        };
        rows.into_iter().map(column).collect()
    })
}

/// Every row of a table of a file, each value with its type.
fn rows(db: &Path, table: &str) -> Vec<Vec<rusqlite::types::Value>> {
    let conn = rusqlite::Connection::open(db).unwrap();
    let mut statement = conn.prepare(&format!("SELECT * FROM {table} ORDER BY 1")).unwrap();
    let width = statement.column_count();
    let rows = statement.query_map([], |row| (0..width).map(|at| row.get(at)).collect());
    rows.unwrap().map(Result::unwrap).collect()
}
