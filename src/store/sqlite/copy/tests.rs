#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;

use crate::error::{Kind, Result};
use crate::store::schema::SQLITE;
use crate::store::sqlite::{DatabaseFile, FileAccess};
use crate::store::{
    Change, CopiedColumn, CopiedTable, CopyEnd, Incompatibility, ReadRows, ValueType, WaitPolicy,
};
use cts_schema::constraint_exception::{ConstraintException, Rule};

/// A folder with a database of this version in it, and a place for a copy.
struct Trial {
    folder: TempDir,
    cancelled: Arc<AtomicBool>,
}

impl Trial {
    fn new() -> Trial {
        let folder = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
        let trial = Trial { folder, cancelled: Arc::default() };
        let database = trial.database("source.db");
        let mut draft = database.begin_copy(&trial.wait()).unwrap();
        let mut tx = draft.begin(&trial.wait()).unwrap();
        migrate(&mut *tx, &trial.wait());
        tx.commit(&trial.wait()).unwrap();
        draft.put_in_place(&trial.wait()).unwrap();
        trial
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn database(&self, name: &str) -> DatabaseFile {
        DatabaseFile { path: self.path(name), access: FileAccess::default() }
    }

    fn wait(&self) -> WaitPolicy<'_> {
        WaitPolicy::silent(Duration::from_secs(5), &self.cancelled)
    }

    /// A program that has the source open.
    fn program(&self) -> Connection {
        Connection::open(self.path("source.db")).unwrap()
    }

    /// Runs statements in the source, by a program that ends then.
    fn run(&self, sql: &str) {
        self.program().execute_batch(sql).unwrap();
    }

    /// The names and contents of all files.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_string();
        entries.map(|path| (name(&path), fs::read(&path).unwrap())).collect()
    }

    fn names(&self) -> Vec<String> {
        self.files().into_keys().collect()
    }

    /// Copies these tables from the source into the target, and reads them back. Returns the exceptions.
    fn copy(
        &self,
        tables: &[CopiedTable],
        exceptions: &[ConstraintException],
    ) -> Result<Vec<ConstraintException>> {
        let (from, to, wait) =
            (self.database("source.db"), self.database("target.db"), self.wait());
        let mut source = from.open_copy_source(&wait)?;
        assert!(to.open_copy_target(&wait)?.is_none());
        let mut draft = to.begin_copy(&wait)?;
        let mut tx = draft.begin(&wait)?;
        migrate(&mut *tx, &wait);
        tx.prepare_tables(tables, exceptions)?;
        for table in tables {
            tx.write_rows(table, &mut |sink| source.read_rows(table, &mut |row| sink.write(row)))?;
            assert_eq!(rows(&mut *source, table), rows(&mut *tx, table));
        }
        let in_force = tx.complete_tables(tables, exceptions, &wait)?;
        let snapshot = tx.inspect()?;
        assert_eq!(snapshot.exceptions.len(), in_force.len());
        let drift = snapshot.drift(&SQLITE);
        assert!(drift.is_none(), "{drift:?}");
        source.prove_in_place()?;
        tx.commit(&wait)?;
        draft.put_in_place(&wait)?;
        Ok(in_force)
    }
}

fn migrate(tx: &mut dyn Change, wait: &WaitPolicy<'_>) {
    for migration in &SQLITE.migrations {
        tx.execute(&migration.statements(), wait).unwrap();
        tx.record(migration, Duration::ZERO).unwrap();
    }
}

fn rows(reader: &mut (impl ReadRows + ?Sized), table: &CopiedTable) -> Vec<String> {
    let mut rows = Vec::new();
    let mut push = |row: &[crate::store::Field<'_>]| {
        rows.push(format!("{row:?}"));
        Ok(())
    };
    reader.read_rows(table, &mut push).unwrap();
    assert_eq!(reader.count_rows(&table.name).unwrap(), rows.len() as u64);
    rows
}

fn column(name: &str, value_type: ValueType) -> CopiedColumn {
    CopiedColumn { name: name.into(), value_type, is_extra: false }
}

fn table(name: &str, columns: Vec<CopiedColumn>, key: &[&str]) -> CopiedTable {
    let key = key.iter().map(ToString::to_string).collect();
    CopiedTable { name: name.into(), columns, key, is_extra: false }
}

/// All tables of the schema but the ledger, each column as its declared type says.
fn expected_tables() -> Vec<CopiedTable> {
    let tables = SQLITE.expected.tables.iter().filter(|table| table.name != "migrations");
    let copied = |table: &cts_schema::catalog::Table| CopiedTable {
        name: table.name.to_string(),
        columns: table
            .columns
            .iter()
            .map(|found| {
                let value_type = match &*found.data_type {
                    "INTEGER" => ValueType::Integer,
                    "REAL" => ValueType::Real,
                    _ if found.name.ends_with("_at") => ValueType::Time,
                    _ => ValueType::Text,
                };
                column(&found.name, value_type)
            })
            .collect(),
        key: table
            .columns
            .iter()
            .filter(|column| column.primary_key_position > 0)
            .map(|column| column.name.to_string())
            .collect(),
        is_extra: false,
    };
    tables.map(copied).collect()
}

const ROWS: &str = "
    INSERT INTO exchange_connections (id, name) VALUES ('b', 'x'), ('a', 'y'), ('', '');
    INSERT INTO indications_direction (id, connection_id, symbol, signal_strength, calculated_at)
        VALUES (9223372036854775807, 'a', 'BTC', 9e999, '2026-11-27'), (-5, 'b', char(65, 0, 66), -0.0, NULL);
    INSERT INTO users (username, password_hash) VALUES ('u', 'h');";

#[test]
fn a_database_is_copied_whole_and_put_in_its_place() {
    let trial = Trial::new();
    trial.run(ROWS);
    let before = trial.files();
    assert_eq!(trial.copy(&expected_tables(), &[]).unwrap(), []);
    let mut files = trial.files();
    let target = files.remove("target.db").unwrap();
    assert!(before == files, "the source is as it was: {:?}", files.keys());
    assert_eq!(target[18..20], [2, 2]);
    let mode = fs::metadata(trial.path("target.db")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let conn = Connection::open(trial.path("target.db")).unwrap();
    let text = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(text("PRAGMA integrity_check"), "ok");
    assert_eq!(text("PRAGMA journal_mode"), "wal");
    let settings =
        "SELECT (SELECT count(*) FROM system_settings) || ' ' || (SELECT count(*) FROM migrations)";
    let wanted = trial.program().query_row(settings, [], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(text(settings), wanted);
    // Also those of an empty table are there.
    let indexes = "SELECT group_concat(name || sql) FROM (SELECT * FROM sqlite_schema WHERE type = 'index' ORDER BY name)";
    let wanted = trial.program().query_row(indexes, [], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(text(indexes), wanted);
}

#[test]
fn exceptions_shape_the_tables_and_are_counted_again() {
    let trial = Trial::new();
    trial.run(
        "DROP INDEX idx_indication_states_key; DROP TABLE indication_states; DROP TABLE users; DROP TABLE site_logs;
         CREATE TABLE indication_states (id, connection_id TEXT, state_key TEXT);
         INSERT INTO indication_states VALUES (7, 'gone', 'k'), ('12', 'gone', 'k'), ('x', NULL, 'l');
         CREATE TABLE users (id INTEGER PRIMARY KEY, username TEXT, password_hash TEXT, is_active TEXT, role TEXT);
         INSERT INTO users VALUES (3, NULL, 'h', '1.0', 'r'), (4, 'u', 'h', 'maybe', 'r');
         CREATE TABLE site_logs (id INTEGER, level TEXT, category TEXT, message TEXT);
         INSERT INTO site_logs VALUES (1, 'a', 'b', 'c'), (1, 'a', 'b', 'c');",
    );
    use ValueType::{Integer, Text};
    let states = vec![column("id", Text), column("connection_id", Text), column("state_key", Text)];
    let users = vec![
        column("id", Integer),
        column("username", Text),
        column("password_hash", Text),
        column("is_active", Text),
        column("role", Text),
    ];
    let names = ["level", "category", "message"].map(|name| column(name, Text));
    let logs = [vec![column("id", Integer)], names.to_vec()].concat();
    let tables = [
        table("indication_states", states, &["id"]),
        table("users", users, &["id"]),
        table("site_logs", logs, &[]),
    ];
    let exception = |table: &str, rule: Rule, rows: u64| ConstraintException {
        table: table.into(),
        rule,
        rows,
    };
    let wanted = [
        exception("indication_states", Rule::Unique("idx_indication_states_key".into()), 2),
        exception("indication_states", Rule::ForeignKey("exchange_connections".into()), 2),
        exception("indication_states", Rule::IntegerKey("id".into()), 1),
        exception("users", Rule::NotNull("username".into()), 1),
        exception("users", Rule::NotNull("password_hash".into()), 0),
        exception("users", Rule::Type("is_active".into(), "TEXT".into()), 1),
        exception("site_logs", Rule::PrimaryKey("id".into()), 2),
    ];
    let of_source = [
        exception("indication_states", Rule::IntegerKey("id".into()), 9),
        exception("users", Rule::NotNull("username".into()), 9),
        exception("users", Rule::NotNull("password_hash".into()), 9),
        exception("users", Rule::Type("is_active".into(), "varchar(10)".into()), 9),
        exception("users", Rule::Default("is_active".into()), 9),
        exception("users", Rule::Type("role".into(), "varchar(10)".into()), 9),
        exception("users", Rule::IntegerKey("id".into()), 9),
        exception("site_logs", Rule::PrimaryKey("id".into()), 9),
    ];
    let mut in_force = trial.copy(&tables, &of_source).unwrap();
    let mut wanted = wanted.to_vec();
    in_force.sort();
    wanted.sort();
    assert_eq!(in_force, wanted);
    let conn = Connection::open(trial.path("target.db")).unwrap();
    let ids = "SELECT group_concat(typeof(id) || id, ' ') FROM (SELECT id FROM indication_states ORDER BY id)";
    let ids: String = conn.query_row(ids, [], |row| row.get(0)).unwrap();
    assert_eq!(ids, "integer7 integer12 textx");
    // A new row gets an id.
    let new = "INSERT INTO indication_states (state_key) VALUES ('n') RETURNING typeof(id)";
    assert_eq!(conn.query_row(new, [], |row| row.get::<_, String>(0)).unwrap(), "integer");
}

#[test]
fn tables_and_columns_of_the_owner_are_copied_with_their_keys() {
    let trial = Trial::new();
    trial.run(
        "ALTER TABLE users ADD COLUMN \"my \"\"note\" BLOB;
         INSERT INTO users (username, password_hash, \"my \"\"note\") VALUES ('u', 'h', x'00ff');
         CREATE TABLE \"own things\" (a TEXT, \"b c\" DATETIME, d BLOB, PRIMARY KEY (\"b c\", a)) WITHOUT ROWID;
         INSERT INTO \"own things\" VALUES ('x', 2, 'text'), ('y', 1, x'01');
         CREATE TABLE numbered (n INTEGER PRIMARY KEY, v DECIMAL(5, 2)); INSERT INTO numbered VALUES (5, 1.5), (2, 3);
         CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY); CREATE VIRTUAL TABLE found USING fts5(body);
         CREATE TABLE cts_relaxations (x);",
    );
    let database = trial.database("source.db");
    let mut source = database.open_copy_source(&trial.wait()).unwrap();
    assert_eq!(source.other_tables().unwrap(), ["found", "numbered", "own things"]);
    let mut extra = |name: &str| {
        let found = source.other_table(name).unwrap();
        let columns = found.columns.iter().map(|column| CopiedColumn {
            name: column.name.to_string(),
            value_type: source.value_type(name, column).unwrap(),
            is_extra: true,
        });
        let mut keys: Vec<_> =
            found.columns.iter().filter(|c| c.primary_key_position > 0).collect();
        keys.sort_by_key(|column| column.primary_key_position);
        let key = keys.iter().map(|column| column.name.to_string()).collect();
        CopiedTable { name: name.into(), columns: columns.collect(), key, is_extra: true }
    };
    let (own, numbered) = (extra("own things"), extra("numbered"));
    drop(source);
    let types =
        |table: &CopiedTable| table.columns.iter().map(|c| c.value_type).collect::<Vec<_>>();
    assert_eq!(types(&own), [ValueType::Text, ValueType::Integer, ValueType::Bytes]);
    assert_eq!(own.key, ["b c", "a"]);
    assert_eq!(types(&numbered), [ValueType::Integer, ValueType::Real]);
    let mut users = table(
        "users",
        vec![column("username", ValueType::Text), column("password_hash", ValueType::Text)],
        &["id"],
    );
    let name = "my \"note".to_string();
    users.columns.push(CopiedColumn { name, value_type: ValueType::Bytes, is_extra: true });
    // The text in the column of BLOBs is left out.
    trial.run("DELETE FROM \"own things\" WHERE a = 'x'");
    assert_eq!(trial.copy(&[users, own, numbered], &[]).unwrap(), []);
    let conn = Connection::open(trial.path("target.db")).unwrap();
    let key = "SELECT group_concat(name || pk, ' ') FROM (SELECT * FROM pragma_table_info('own things') WHERE pk > 0 ORDER BY pk)";
    let key: String = conn.query_row(key, [], |row| row.get(0)).unwrap();
    assert_eq!(key, "b c1 a2");
    let next = "INSERT INTO numbered (v) VALUES (1) RETURNING n";
    assert_eq!(conn.query_row(next, [], |row| row.get::<_, i64>(0)).unwrap(), 6);
}

#[test]
fn the_snapshot_stays_while_programs_write() {
    let trial = Trial::new();
    let database = trial.database("source.db");
    let logs = table("site_logs", vec![column("message", ValueType::Text)], &["id"]);
    let insert = "INSERT INTO site_logs (level, category, message) VALUES ('info', 'c', 'm')";
    // It is open in a program or not, and in either journal mode.
    for mode in ["WAL", "DELETE"] {
        for is_open in [true, false] {
            trial.run(&format!("PRAGMA journal_mode = {mode}"));
            let program = is_open.then(|| trial.program());
            if let Some(program) = &program {
                program.execute_batch("SELECT * FROM users").unwrap();
            }
            let mut source = database.open_copy_source(&trial.wait()).unwrap();
            let before = rows(&mut *source, &logs);
            let writer = program.unwrap_or_else(|| trial.program());
            writer.busy_timeout(Duration::ZERO).unwrap();
            assert_eq!(writer.execute_batch(insert).is_ok(), mode == "WAL");
            assert_eq!(rows(&mut *source, &logs), before);
            assert!(source.inspect().unwrap().drift(&SQLITE).is_none());
            source.prove_in_place().unwrap();
            drop((source, writer));
            trial.run("PRAGMA wal_checkpoint(TRUNCATE)");
            assert_eq!(trial.names(), ["source.db"], "{mode}, open: {is_open}");
        }
    }
}

#[test]
fn a_source_that_is_not_what_it_was_is_told() {
    for is_open in [true, false] {
        let trial = Trial::new();
        trial.run(ROWS);
        let database = trial.database("source.db");
        let program = is_open.then(|| trial.program());
        if let Some(program) = &program {
            program.execute_batch(ROWS_MORE).unwrap();
        }
        let copy = fs::read(trial.path("source.db")).unwrap();
        let mut source = database.open_copy_source(&trial.wait()).unwrap();
        source.prove_in_place().unwrap();
        fs::write(trial.path("other.db"), &copy).unwrap();
        // Overwritten in place, and then another file.
        let mut changed = copy.clone();
        changed[30_000..60_000].fill(7);
        fs::write(trial.path("source.db"), &changed).unwrap();
        assert_eq!(source.prove_in_place().unwrap_err().kind, Kind::TryAgain);
        fs::rename(trial.path("other.db"), trial.path("source.db")).unwrap();
        assert_eq!(source.prove_in_place().unwrap_err().kind, Kind::TryAgain);
        drop((source, program));
        assert!(fs::read(trial.path("source.db")).unwrap() == copy);
    }
}

const ROWS_MORE: &str = "UPDATE users SET username = 'v'";

#[test]
fn a_wal_that_a_killed_program_has_left_is_read_and_left() {
    let trial = Trial::new();
    let program = trial.program();
    program.execute_batch(ROWS).unwrap();
    for suffix in ["", "-wal"] {
        fs::copy(
            trial.path(&format!("source.db{suffix}")),
            trial.path(&format!("copy.db{suffix}")),
        )
        .unwrap();
    }
    drop(program);
    let before = trial.files();
    let database = trial.database("copy.db");
    let mut source = database.open_copy_source(&trial.wait()).unwrap();
    let users = table("users", vec![column("username", ValueType::Text)], &["id"]);
    assert_eq!(rows(&mut *source, &users).len(), 1);
    assert!(trial.names().contains(&"copy.db-shm".to_string()), "it takes locks");
    source.prove_in_place().unwrap();
    drop(source);
    assert!(before == trial.files(), "{:?}", trial.names());
}

#[test]
fn rows_are_read_as_they_are_stored() {
    let trial = Trial::new();
    trial.run(ROWS);
    let conn = trial.program();
    for table in expected_tables() {
        let sql = super::super::copy_reader::select_rows(&table);
        let mut plan = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = plan.query_map([], |row| row.get::<_, String>("detail")).unwrap();
        let steps: Vec<_> = steps.map(std::result::Result::unwrap).collect();
        assert_eq!(steps, ["SCAN t"], "{}", table.name);
    }
    let database = trial.database("source.db");
    let mut source = database.open_copy_source(&trial.wait()).unwrap();
    let ids = vec![column("id", ValueType::Text)];
    let read = rows(&mut *source, &table("exchange_connections", ids, &["id"]));
    assert_eq!(read, ["[Ok(Text(\"b\"))]", "[Ok(Text(\"a\"))]", "[Ok(Text(\"\"))]"]);
    let ids = vec![column("id", ValueType::Integer)];
    let read = rows(&mut *source, &table("indications_direction", ids, &["id"]));
    assert_eq!(read, ["[Ok(Integer(-5))]", "[Ok(Integer(9223372036854775807))]"]);
    let missing = vec![column("no such", ValueType::Text)];
    let error = source.read_rows(&table("users", missing, &[]), &mut |_| Ok(())).unwrap_err();
    assert_eq!(error.kind, Kind::Data);
}

#[test]
fn every_value_comes_with_its_row() {
    let trial = Trial::new();
    trial.run(
        "INSERT INTO users (id, username, password_hash, is_active) VALUES (1, CAST(x'ff' AS TEXT), x'00', 2)",
    );
    let database = trial.database("source.db");
    let mut source = database.open_copy_source(&trial.wait()).unwrap();
    let columns = vec![
        column("username", ValueType::Text),
        column("password_hash", ValueType::Text),
        column("is_active", ValueType::Boolean),
        column("email", ValueType::Text),
    ];
    let mut reasons = Vec::new();
    let mut note = |row: &[crate::store::Field<'_>]| {
        reasons.extend(row.iter().map(|field| field.as_ref().err().map(|e| e.reason)));
        Ok(())
    };
    source.read_rows(&table("users", columns, &["id"]), &mut note).unwrap();
    use Incompatibility::{InvalidUtf8, NoBoolean, NoText};
    assert_eq!(reasons, [Some(InvalidUtf8), Some(NoText), Some(NoBoolean), None]);
}

#[test]
fn a_place_that_is_not_free_is_refused() {
    let trial = Trial::new();
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let path = trial.path(&format!("target.db{suffix}"));
        fs::write(&path, "").unwrap();
        let database = trial.database("target.db");
        let error = database.open_copy_target(&trial.wait()).err().unwrap();
        assert_eq!(error.kind, Kind::CannotCreate, "{error}");
        assert_eq!(database.begin_copy(&trial.wait()).err().unwrap(), error);
        fs::remove_file(path).unwrap();
    }
    let missing = DatabaseFile { path: trial.path("a/b/target.db"), ..trial.database("") };
    missing.open_copy_target(&trial.wait()).unwrap();
    drop(missing.begin_copy(&trial.wait()).unwrap());
    assert_eq!(trial.names(), ["source.db"]);
}

#[test]
fn a_copy_that_does_not_end_well_leaves_nothing() {
    let trial = Trial::new();
    let database = trial.database("target.db");
    let wait = trial.wait();
    // As a killed one has left it.
    fs::write(trial.path("target.db.copying"), "left").unwrap();
    fs::write(trial.path("target.db.copying-journal"), "left").unwrap();
    let mut draft = database.begin_copy(&wait).unwrap();
    assert_eq!(database.begin_copy(&wait).err().unwrap().kind, Kind::TryAgain);
    let mut tx = draft.begin(&wait).unwrap();
    migrate(&mut *tx, &wait);
    tx.commit(&wait).unwrap();
    fs::write(trial.path("target.db"), "mine").unwrap();
    let error = draft.put_in_place(&wait).unwrap_err();
    assert_eq!(error.kind, Kind::CannotCreate, "{error}");
    assert_eq!(fs::read(trial.path("target.db")).unwrap(), b"mine");
    fs::remove_file(trial.path("target.db")).unwrap();
    let mut draft = database.begin_copy(&wait).unwrap();
    drop(draft.begin(&wait).unwrap());
    drop(draft);
    assert_eq!(trial.names(), ["source.db"]);
}

#[test]
fn a_row_that_a_rule_refuses_ends_the_copy() {
    let trial = Trial::new();
    trial.run(
        "DROP TABLE users; CREATE TABLE users (username TEXT); INSERT INTO users VALUES (NULL)",
    );
    let users = table("users", vec![column("username", ValueType::Text)], &[]);
    let error = trial.copy(&[users], &[]).unwrap_err();
    assert_eq!(error.kind, Kind::Data, "{error}");
    assert!(error.what.contains("users.username"), "{error}");
    assert_eq!(trial.names(), ["source.db"]);
}
