//! Brings a database to the schema of this binary: decides what is pending and missing,
//! and does it in one transaction under the write lock. Knows the store only through its
//! seam, and says nothing; what was done is its result.

mod adopt;
mod heal;
pub mod progress;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::error::{Cause, Error, Kind, Result, StateLeft};
use crate::store::schema::Schema;
use crate::store::{
    Backend, Backup, Change, Damage, DamageScope, DatabaseIdentity, Inspect, ONLINE_INDEX_ROWS_MAX,
    Origin, SiteLogEntry, Snapshot, Store, WaitPolicy, write_site_log,
};
use crate::system::version::VERSION;
use cts_schema::catalog::{Catalog, Column, Drift, Object};
use cts_schema::constraint_exception::{ConstraintException, Rule};
use cts_schema::migration::{LedgerRefusal, Migration, pending};
use cts_schema::sql::{Created, Statement};
pub use heal::heal_in_passing;

/// What is to be done, as one look shows it.
#[derive(Debug)]
pub struct Plan {
    /// Migrations that the ledger does not hold.
    pub pending: Vec<Migration>,
    /// What differs from the expected catalogue.
    pub drift: Drift,
}

impl Plan {
    /// Decides what is to be done, or why nothing may be.
    pub fn of(schema: &Schema, snapshot: &Snapshot) -> Result<Plan> {
        let pending = pending(&schema.migrations, &schema.fallback, &snapshot.ledger)
            .map_err(|refusal| refused(&refusal))?;
        Ok(Plan { pending, drift: snapshot.drift(schema) })
    }

    /// Whether nothing is pending and nothing is missing.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.drift.missing.is_empty()
    }
}

/// Refuses a database that is not ours yet where something is in the way of what it lacks.
pub fn refuse_obstacles(schema: &Schema, plan: &Plan, database: &mut dyn Inspect) -> Result<()> {
    let mut missing = plan.drift.missing.clone();
    for table in schema.expected.tables.iter() {
        if plan.drift.missing.contains(&Object::Table(table.name.to_string())) {
            let index = |name: &str| Object::Index(table.name.to_string(), name.to_string());
            missing.extend(table.indexes.iter().map(|i| index(&i.name)));
        }
    }
    match database.find_obstacles(&missing)?.into_iter().next() {
        None => Ok(()),
        Some(obstacle) => Err(obstacle.error),
    }
}

fn refused(refusal: &LedgerRefusal) -> Error {
    let remedy = match refusal {
        LedgerRefusal::Edited { .. } => "start the cts that applied it, or put the file back as it was and build again; a change is a new migration".into(),
        LedgerRefusal::Unknown { applied_by, .. } => {
            let newer = applied_by.as_deref().unwrap_or("that applied it");
            format!("start cts {newer} or later, or restore a backup made before the upgrade")
        }
    };
    Error::new(Kind::Data, format!("{refusal} (this is cts {VERSION})")).remedy(remedy)
}

/// A migration that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationRun {
    /// Its name.
    pub name: &'static str,
    /// Statements that changed something.
    pub applied: usize,
    /// Statements that found their object in place.
    pub skipped: usize,
    /// How long it took.
    pub took: Duration,
}

/// What was done, all of it committed.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The migrations that were applied, in order.
    pub runs: Vec<MigrationRun>,
    /// What was missing and has been put back.
    pub put_back: Vec<Object>,
    /// Indexes that were built after the transaction, while programs went on writing.
    pub built: Vec<Object>,
    /// What is missing and could not be put back, and why.
    pub left: Vec<(Object, Error)>,
    /// Where the database was copied to before its tables were given another shape.
    pub backup: Option<Backup>,
    /// Tables that were given the expected shape, and their rows, all of them kept.
    pub rebuilt: Vec<(String, u64)>,
    /// Rules that were relaxed, because rows break them.
    pub exceptions: Vec<ConstraintException>,
    /// Rules that hold again.
    pub enforced: Vec<ConstraintException>,
    /// Rules that older tables had and that no longer hold, with the table.
    pub dropped: Vec<String>,
    /// Damaged indexes that were built anew.
    pub reindexed: Vec<String>,
    /// The difference that remains.
    pub drift: Drift,
    /// Why what was done could not be noted in `site_logs`.
    pub unnoted: Option<Error>,
}

impl Outcome {
    /// Statements that changed something, those that put something back included.
    pub fn applied(&self) -> usize {
        let runs = self.runs.iter().map(|run| run.applied).sum::<usize>();
        runs + self.put_back.len() + self.built.len()
    }

    fn has_changed_anything(&self) -> bool {
        !self.runs.is_empty()
            || !self.put_back.is_empty()
            || !self.rebuilt.is_empty()
            || !self.enforced.is_empty()
            || !self.reindexed.is_empty()
    }
}

/// Brings the database up to date. Whether there is work is first looked up without the
/// lock; what the work is, is decided under it.
pub fn bring_up_to_date(store: &mut dyn Store, wait: &WaitPolicy<'_>) -> Result<Outcome> {
    work(store, wait, false)
}

/// The same, and builds damaged indexes anew, and tightens the rules that were relaxed and that
/// no row breaks any longer.
pub fn repair(store: &mut dyn Store, wait: &WaitPolicy<'_>) -> Result<Outcome> {
    work(store, wait, true)
}

fn work(store: &mut dyn Store, wait: &WaitPolicy<'_>, repairs: bool) -> Result<Outcome> {
    let mut outcome = wait.retry_while_blocked(|| work_once(store, wait, repairs))?;
    build_indexes(store, wait, &mut outcome)?;
    Ok(outcome)
}

fn work_once(store: &mut dyn Store, wait: &WaitPolicy<'_>, repairs: bool) -> Result<Outcome> {
    let DatabaseIdentity { backend, schema, location, .. } = store.identity();
    let work = Work { schema, backend, wait, repairs, large: Vec::new() };
    match store.inspect() {
        // What repairs looks for damage, too, and that only under the lock.
        Ok(_) if repairs => {}
        Ok(snapshot) => {
            let plan = Plan::of(schema, &snapshot).map_err(|error| unchanged(error, &location))?;
            if plan.is_empty() {
                return Ok(Outcome { drift: plan.drift, ..Outcome::default() });
            }
        }
        // Somebody is writing; the lock below waits for it.
        Err(error) if error.kind == Kind::TryAgain && !wait.cancelled.load(Ordering::Relaxed) => {}
        Err(error) => return Err(unchanged(error, &location)),
    }
    let mut outcome = Outcome::default();
    let mut tx = store.lock(wait)?;
    let done = work.run(&mut *tx, &mut outcome);
    let changes = outcome.has_changed_anything();
    let ended = done.and_then(|()| if changes { tx.commit(wait) } else { Ok(()) });
    match (ended, &mut outcome.backup) {
        (Ok(()), backup) => {
            if let Some(backup) = backup {
                backup.keep();
            }
            Ok(outcome)
        }
        // The server was lost; it knows whether the last word reached it.
        (Err(error), _) if error.kind == Kind::InDoubt => Err(error.at(&location)),
        (Err(error), backup) => {
            let is_full = error.is_disk_full();
            let error = unchanged(error, &location);
            // The estimate is that of a run which rebuilds nothing.
            Err(if is_full && backup.is_some() { error.remedy(ROOM) } else { error })
        }
    }
}

/// Builds what the transaction left out, because it would have kept programs from writing.
fn build_indexes(
    store: &mut dyn Store,
    wait: &WaitPolicy<'_>,
    outcome: &mut Outcome,
) -> Result<()> {
    let is_left = |object: &Object| outcome.left.iter().any(|(left, _)| left == object);
    let due: Vec<Object> =
        outcome.drift.missing.iter().filter(|o| is_index(o) && !is_left(o)).cloned().collect();
    if due.is_empty() {
        return Ok(());
    }
    let DatabaseIdentity { schema, location, .. } = store.identity();
    for object in due {
        let Object::Index(table, name) = &object else { continue };
        let index = schema.expected.table(table).and_then(|table| table.index(name));
        let Some(index) = index else { continue };
        match store.build_index(table, index, wait) {
            Ok(relaxed) => {
                let message = format!("cts {VERSION} built {object} while programs went on");
                match write_site_log(store, wait, &SiteLogEntry { level: "info", message }) {
                    Err(error) if error.kind == Kind::Data => outcome.unnoted = Some(error),
                    noted => noted?,
                }
                outcome.exceptions.extend(relaxed);
                outcome.built.push(object);
            }
            Err(error) if error.kind == Kind::Data => outcome.left.push((object, error)),
            Err(error) => {
                // This attempt changed nothing, but what was committed before it did.
                return Err(error.at(&object).at(&location).leaving(StateLeft::EarlierCommits));
            }
        }
    }
    outcome.drift = store.inspect()?.drift(schema);
    Ok(())
}

/// 2,000,000 indications of 166 MB became 313 MB, beside their copy and the journal of both.
const ROOM: &str = "free some space: the copy, the tables as they are rebuilt and the journal need about four times the \
                    size of the database. Then run it again";

/// Everything runs in one transaction, so an error leaves what was there before.
fn unchanged(error: Error, location: &str) -> Error {
    error.at(location).leaving(StateLeft::Unchanged)
}

/// The work under the lock.
struct Work<'w> {
    schema: &'static Schema,
    backend: Backend,
    wait: &'w WaitPolicy<'w>,
    /// Whether damaged indexes are mended and relaxed rules tried again.
    repairs: bool,
    /// Tables whose indexes are built after the transaction.
    large: Vec<String>,
}

impl Work<'_> {
    fn run(mut self, tx: &mut dyn Change, outcome: &mut Outcome) -> Result<()> {
        let snapshot = tx.inspect()?;
        let plan = Plan::of(self.schema, &snapshot)?;
        if plan.is_empty() && !self.repairs {
            outcome.drift = plan.drift;
            return Ok(());
        }
        if !snapshot.catalog.is_empty() {
            self.large = self.large_tables(tx)?;
        }
        if self.repairs {
            self.mend_indexes(tx, outcome)?;
        } else if !snapshot.catalog.is_empty() {
            refuse_damage(&tx.find_damage(DamageScope::Pages)?)?;
        }
        let origin = snapshot.origin();
        if origin != Origin::Ours {
            refuse_obstacles(self.schema, &plan, tx)?;
        }
        if origin == Origin::OlderCts {
            self.adopt(tx, &plan.pending, outcome)?;
        } else {
            let (pending, relaxed) = (&plan.pending, &snapshot.exceptions);
            outcome.runs = if snapshot.catalog.is_empty() {
                self.apply(tx, pending, relaxed)?
            } else {
                self.apply_where_things_may_lack(tx, pending, relaxed, outcome)?
            };
            self.heal(tx, outcome)?;
            self.rebuild_for_columns(tx, outcome)?;
            if self.repairs {
                self.enforce_constraints(tx, &snapshot.exceptions, outcome)?;
            }
        }
        outcome.drift = tx.inspect()?.drift(self.schema);
        match tx.attempt(&mut |tx| write_site_logs(tx, outcome)) {
            Ok(()) => {}
            // A `site_logs` that somebody has changed must not stop the box.
            Err(error) if error.kind == Kind::Data => outcome.unnoted = Some(error),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn apply(
        &self,
        tx: &mut dyn Change,
        migrations: &[Migration],
        relaxed: &[ConstraintException],
    ) -> Result<Vec<MigrationRun>> {
        migrations.iter().map(|migration| self.apply_one(tx, migration, relaxed)).collect()
    }

    /// What is pending may build on what somebody has dropped: that is put back first then.
    fn apply_where_things_may_lack(
        &self,
        tx: &mut dyn Change,
        pending: &[Migration],
        relaxed: &[ConstraintException],
        outcome: &mut Outcome,
    ) -> Result<Vec<MigrationRun>> {
        let mut runs = Vec::new();
        let fits = tx.attempt(&mut |tx| {
            runs = self.apply(tx, pending, relaxed)?;
            Ok(())
        });
        match fits {
            Err(error) if error.kind == Kind::Data => {
                self.heal(tx, outcome)?;
                self.apply(tx, pending, relaxed)
            }
            other => other.map(|()| runs),
        }
    }

    fn apply_one(
        &self,
        tx: &mut dyn Change,
        migration: &Migration,
        relaxed: &[ConstraintException],
    ) -> Result<MigrationRun> {
        let run = self.execute(tx, migration, relaxed)?;
        tx.record(migration, run.took)?;
        Ok(run)
    }

    fn execute(
        &self,
        tx: &mut dyn Change,
        migration: &Migration,
        relaxed: &[ConstraintException],
    ) -> Result<MigrationRun> {
        let start = Instant::now();
        let mut statements = migration.statements();
        statements.retain(|statement| !self.is_for_later(&statement.creates()));
        let all = statements.len();
        statements.retain(|statement| !would_repeat(statement, relaxed));
        let repeated = all - statements.len();
        let counts = tx.execute(&statements, self.wait).map_err(|failed| {
            match failed.position.and_then(|at| statements.get(at)) {
                Some(statement) => failed.error.at(place(migration, statement)),
                None => *failed.error,
            }
        })?;
        let (applied, skipped) = (counts.applied, counts.skipped + repeated);
        Ok(MigrationRun { name: migration.name, applied, skipped, took: start.elapsed() })
    }

    /// The tables whose indexes are built after the transaction.
    fn large_tables(&self, tx: &mut dyn Change) -> Result<Vec<String>> {
        let mut large = Vec::new();
        if !self.backend.builds_indexes_online() {
            return Ok(large);
        }
        for table in self.schema.expected.tables.iter() {
            if tx.has_more_rows(&table.name, ONLINE_INDEX_ROWS_MAX)? {
                large.push(table.name.to_string());
            }
        }
        Ok(large)
    }

    /// Whether it is an index that is built after the transaction.
    fn is_deferred(&self, object: &Object) -> bool {
        is_index(object) && self.large.iter().any(|table| table == object.table())
    }

    fn is_for_later(&self, created: &Created) -> bool {
        let Created::Index(name) = created else { return false };
        let tables = self.schema.expected.tables.iter();
        tables.filter(|t| self.large.contains(&t.name.to_string())).any(|t| t.index(name).is_some())
    }
}

/// Default rows are kept apart by a unique index; where that is relaxed they would come twice.
fn would_repeat(statement: &Statement<'_>, relaxed: &[ConstraintException]) -> bool {
    let Created::Rows(table) = statement.creates() else { return false };
    relaxed.iter().any(|r| r.table == table && matches!(r.rule, Rule::Unique(_)))
}

fn is_table(object: &Object) -> bool {
    matches!(object, Object::Table(_))
}

fn is_column(object: &Object) -> bool {
    matches!(object, Object::Column(..))
}

fn is_index(object: &Object) -> bool {
    matches!(object, Object::Index(..))
}

fn column_of<'c>(catalog: &'c Catalog, table: &str, column: &str) -> Option<&'c Column> {
    catalog.table(table)?.columns.iter().find(|c| c.name == column)
}

/// File, line and statement, for an error.
fn place(migration: &Migration, statement: &Statement<'_>) -> String {
    let sql = cts_schema::sql::fold(statement.sql);
    let mut short: String = sql.chars().take(100).collect();
    if short.len() < sql.len() {
        short.push('…');
    }
    format!("{}, line {}: {short}", migration.name, statement.line)
}

fn refuse_damage(damage: &Damage) -> Result<()> {
    match damage.pages.first() {
        None => Ok(()),
        Some(first) => Err(Error::new(Kind::Data, format!("the database is damaged ({first}) and is not migrated"))
            .caused_by(Cause::Damage)
            .leaving(StateLeft::Unchanged)
            .remedy("stop the trading programs, keep a copy of the file, and restore a backup (`cts --check --deep` tells what is damaged)")),
    }
}

fn write_site_logs(tx: &mut dyn Change, outcome: &Outcome) -> Result<()> {
    for MigrationRun { name, applied, skipped, took } in &outcome.runs {
        let message = format!(
            "cts {VERSION} applied {name}: {applied} applied, {skipped} skipped, {} ms",
            took.as_millis()
        );
        tx.write_site_log(&SiteLogEntry { level: "info", message })?;
    }
    if let Some(backup) = &outcome.backup {
        let message = format!("cts {VERSION} copied the database to {} first", backup.location());
        tx.write_site_log(&SiteLogEntry { level: "info", message })?;
    }
    for index in &outcome.reindexed {
        let message = format!("cts {VERSION} built damaged index {index} anew");
        tx.write_site_log(&SiteLogEntry { level: "warn", message })?;
    }
    for (table, rows) in &outcome.rebuilt {
        let message = format!("cts {VERSION} rebuilt table {table}: {rows} rows, all kept");
        tx.write_site_log(&SiteLogEntry { level: "warn", message })?;
    }
    for rule in &outcome.dropped {
        tx.write_site_log(&SiteLogEntry {
            level: "warn",
            message: format!("cts {VERSION} no longer holds: {rule}"),
        })?;
    }
    for exception in &outcome.exceptions {
        tx.write_site_log(&SiteLogEntry {
            level: "warn",
            message: format!("cts {VERSION} relaxed: {exception}"),
        })?;
    }
    for exception in &outcome.enforced {
        tx.write_site_log(&SiteLogEntry {
            level: "info",
            message: format!("cts {VERSION} tightened: {exception}"),
        })?;
    }
    if !outcome.put_back.is_empty() {
        let objects =
            outcome.put_back.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        tx.write_site_log(&SiteLogEntry {
            level: "warn",
            message: format!("cts {VERSION} put back: {objects}"),
        })?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use rusqlite::Connection;
    use tempfile::TempDir;

    use super::*;
    use crate::store::failing::Failing;
    use crate::store::sqlite::{FileAccess, Sqlite};

    /// Of an older version: other types, rows that break rules, somebody's own objects.
    const OLDER: &str = "
        CREATE TABLE exchange_connections (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE, mine TEXT);
        CREATE TABLE indication_states (id TEXT PRIMARY KEY, connection_id INTEGER, state_key TEXT);
        CREATE TABLE users (id INTEGER PRIMARY KEY, username TEXT, level TEXT CHECK (level = 'x'));
        CREATE TABLE migrations (id INTEGER PRIMARY KEY, name TEXT UNIQUE, executed_at DATETIME DEFAULT CURRENT_TIMESTAMP);
        CREATE VIEW names AS SELECT name FROM exchange_connections;
        CREATE TRIGGER guard BEFORE DELETE ON users BEGIN SELECT raise(ABORT, 'kept'); END;
        INSERT INTO exchange_connections (id, name, mine) VALUES (7, 'main', 'note');
        INSERT INTO indication_states VALUES ('V1StGXR8_Z5jdHi6B-myT', 7, 'k'), ('2', 8, 'k');
        INSERT INTO users VALUES (1, NULL, 'x'); INSERT INTO migrations (name) VALUES ('unified_001');";
    /// Of this version, where somebody dropped things, and a rule was relaxed that holds by now.
    const DRIFTED: &str = "
        INSERT INTO users (username, password_hash) VALUES ('a', 'x');
        ALTER TABLE users DROP COLUMN created_at; ALTER TABLE users DROP COLUMN role;
        DROP TABLE statistics_daily; DROP INDEX idx_site_logs_time;
        DELETE FROM migrations WHERE id > 2;";

    fn with<T>(work: impl FnOnce(&WaitPolicy<'_>) -> T) -> T {
        let stop = Arc::new(AtomicBool::new(false));
        work(&WaitPolicy::silent(Duration::from_secs(5), &stop))
    }

    fn open(path: &Path, wait: &WaitPolicy<'_>) -> Box<dyn Store> {
        Box::new(Sqlite::open(path, FileAccess::default(), wait).unwrap())
    }

    /// Every statement and every row, in their order.
    fn dump(path: &Path) -> Vec<String> {
        let conn = Connection::open(path).unwrap();
        let texts = |sql: &str| -> Vec<String> {
            let mut statement = conn.prepare(sql).unwrap();
            let columns = statement.column_count();
            let rows = statement.query_map([], |row| {
                (0..columns).map(|at| row.get_ref(at).map(|value| format!("{value:?}"))).collect()
            });
            rows.unwrap().map(Result::<String, _>::unwrap).collect()
        };
        let mut dump = texts("SELECT type, name, sql FROM sqlite_schema ORDER BY 1, 2");
        let mut tables =
            conn.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").unwrap();
        let names = tables.query_map([], |row| row.get::<_, String>(0)).unwrap();
        for name in names.map(Result::unwrap) {
            dump.extend(texts(&format!("SELECT * FROM \"{name}\"")));
        }
        dump
    }

    /// In memory where there is such a place: what is tried here does not need a disk.
    fn folder() -> TempDir {
        TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap()
    }

    /// Lets every call fail in turn. Returns how many there were.
    fn fail_everywhere(made: &Path) -> usize {
        let folder = folder();
        for call in 1.. {
            let path = folder.path().join(format!("{call}.db"));
            fs::copy(made, &path).unwrap();
            let before = dump(&path);
            let failed = with(|wait| {
                let mut store = Failing::at(call, open(&path, wait));
                let done = repair(&mut store, wait);
                assert_eq!(done.is_err(), store.has_failed(), "call {call}: {:?}", done.err());
                store.has_failed()
            });
            let beside = fs::read_dir(folder.path()).unwrap();
            let names = beside.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let backups = names.filter(|name| name.contains(".before-")).count();
            if !failed {
                assert_ne!(dump(&path), before);
                assert_eq!(backups, 1);
                return call - 1;
            }
            assert_eq!(dump(&path), before, "call {call}");
            assert_eq!(backups, 0, "call {call}");
            if call % 8 == 0 {
                with(|wait| repair(&mut *open(&path, wait), wait)).unwrap();
                let snapshot = with(|wait| open(&path, wait).inspect()).unwrap();
                assert!(snapshot.drift(&crate::store::schema::SQLITE).is_none(), "call {call}");
            }
            for entry in fs::read_dir(folder.path()).unwrap() {
                fs::remove_file(entry.unwrap().path()).unwrap();
            }
        }
        0
    }

    #[test]
    fn a_store_that_fails_at_any_call_is_left_as_it_was() {
        let folder = folder();
        let older = folder.path().join("older.db");
        Connection::open(&older).unwrap().execute_batch(OLDER).unwrap();
        assert!(fail_everywhere(&older) > 100);

        let drifted = folder.path().join("drifted.db");
        with(|wait| bring_up_to_date(&mut *open(&drifted, wait), wait)).unwrap();
        Connection::open(&drifted).unwrap().execute_batch(DRIFTED).unwrap();
        assert!(fail_everywhere(&drifted) > 20);
    }
}
