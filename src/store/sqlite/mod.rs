//! The SQLite backend: one file, opened with care, in WAL mode. The only file of the
//! binary, with those in `sqlite/`, that knows rusqlite.

mod backup;
mod catalog;
mod checkpoint;
mod checkup;
mod connect;
mod draft;
mod error;
mod exceptions;
mod file;
mod inspect;
mod rebuild;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use super::{
    Backend, Damage, Database, Draft, Effect, Examination, Holder, Look, Note, Patience, Place,
    Rebuilt, Server, Store, Tx, Upkeep,
};
use crate::error::{Error, Kind, Result};
use crate::store::schema::{SQLITE, Schema};
use crate::system::version::VERSION;
use checkpoint::Checkpointer;
use connect::{has_wal, migrating, until_free};
use cts_schema::catalog::{Catalog, Column, Index, Table};
use cts_schema::constraint_exception::{Relaxation, Rule};
use cts_schema::migration::Migration;
use cts_schema::sql::Statement;
use draft::FileDraft;
use error::{error, is_busy};
use file::APPLICATION_ID;
use inspect::{find_damage, is_light, look, write_note};
use rebuild::quoted;

/// Pages a connection may keep while it proves that it can write: so few that what it writes
/// reaches the disk (it spills) before it is undone.
const PROBE_CACHE_PAGES: u32 = 4;
/// What is written and undone: several times the cache.
const PROBE_BYTES: u32 = 64 << 10;

/// How a file may be opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Let programs of the file's group in.
    pub group: bool,
    /// Open it on a network file system all the same.
    pub allow_network: bool,
}

/// A SQLite database as it is configured: a file.
#[derive(Clone, Debug)]
pub struct DatabaseFile {
    /// Where it is.
    pub path: PathBuf,
    /// How it may be opened.
    pub access: Access,
}

impl Database for DatabaseFile {
    fn backend(&self) -> Backend {
        Backend::Sqlite
    }

    fn schema(&self) -> &'static Schema {
        &SQLITE
    }

    fn location(&self) -> String {
        self.path.display().to_string()
    }

    fn making(&self) -> &'static str {
        "there is no database; it would be created, mode 0600, in WAL mode"
    }

    fn silence(&self) -> &'static str {
        "look at the disk (`dmesg`) and for a program that holds the file"
    }

    fn missing(&self) -> Error {
        Error::new(Kind::Data, format!("{}: there is no database", self.path.display())).remedy(
            "create it with `cts migrate` or by starting cts, or set SQLITE_DB_PATH (or --db)",
        )
    }

    fn draft(&self, patience: &Patience<'_>) -> Result<Option<Box<dyn Draft>>> {
        let draft = FileDraft::begin(&self.path, self.access, patience)?;
        Ok(draft.map(|draft| Box::new(draft) as Box<dyn Draft>))
    }

    fn open(&self, patience: &Patience<'_>) -> Result<Box<dyn Store>> {
        Ok(Box::new(Sqlite::open(&self.path, self.access, patience)?))
    }

    fn open_read_only(&self, patience: &Patience<'_>) -> Result<Option<Box<dyn Store>>> {
        let store = Sqlite::open_read_only(&self.path, self.access, patience)?;
        Ok(store.map(|store| Box::new(store) as Box<dyn Store>))
    }

    fn refuse_obstacles(&self, _: &Look) -> Result<()> {
        Ok(())
    }

    fn examine(&self, patience: &Patience<'_>) -> Examination {
        checkup::examine(self, patience)
    }

    fn migrating(&self) -> Option<Holder> {
        migrating(&self.path)
    }
}

/// An open SQLite database.
pub struct Sqlite {
    conn: Connection,
    path: PathBuf,
    identity: Option<(u64, u64)>,
    access: Access,
    /// Whether the schema is in place, so that the file cannot be empty.
    settled: bool,
    /// The catalogue as it was at this `schema_version`.
    known: Option<(i64, Catalog)>,
}

impl Sqlite {
    fn error(&self, cause: &rusqlite::Error) -> Error {
        error(&self.path, cause)
    }

    /// Refuses to write where the file at the path is another one by now: its WAL may be
    /// the one beside ours, and what is written or copied there would be lost to one of them.
    fn refuse_replaced(&self) -> Result<()> {
        match self.place().replaced {
            None => Ok(()),
            Some(why) => Err(Error::new(Kind::Io, why)
                .remedy("start cts again, which opens the file that is there now")),
        }
    }

    fn use_wal(&self, patience: &Patience<'_>) -> Result<Option<String>> {
        let until_answered = |sql| {
            until_free(&self.path, patience, || {
                self.conn.query_row(sql, [], |row| row.get::<_, String>(0))
            })
        };
        if until_answered("PRAGMA journal_mode")? == "wal" {
            return Ok(None);
        }
        match until_answered("PRAGMA journal_mode = WAL")?.as_str() {
            "wal" => Ok(Some("journal mode is WAL".into())),
            other => Err(Error::new(
                Kind::Io,
                format!("{}: the journal mode stays {other}, WAL was refused", self.path.display()),
            )
            .remedy("put the database on a local file system that supports shared memory")),
        }
    }
}

impl Store for Sqlite {
    fn backend(&self) -> Backend {
        Backend::Sqlite
    }

    fn schema(&self) -> &'static Schema {
        &SQLITE
    }

    fn location(&self) -> String {
        self.path.display().to_string()
    }

    fn look(&mut self) -> Result<Look> {
        look(&self.conn, &mut self.known).map_err(|e| error(&self.path, &e))
    }

    fn lock<'s>(&'s mut self, patience: &Patience<'_>) -> Result<Box<dyn Tx + 's>> {
        self.refuse_replaced()?;
        until_free(&self.path, patience, || self.conn.execute_batch("BEGIN IMMEDIATE"))?;
        Ok(Box::new(SqliteTx {
            conn: &self.conn,
            path: &self.path,
            group: self.access.group,
            known: None,
        }))
    }

    fn try_write(&mut self) -> Result<()> {
        self.refuse_replaced()?;
        let tried = self.conn.execute_batch(&format!(
            "PRAGMA cache_size = {PROBE_CACHE_PAGES}; BEGIN IMMEDIATE; \
             CREATE TABLE cts_write_probe (x); \
             INSERT INTO cts_write_probe VALUES (zeroblob({PROBE_BYTES}));"
        ));
        let undone =
            if self.conn.is_autocommit() { Ok(()) } else { self.conn.execute_batch("ROLLBACK") };
        match tried.and(undone) {
            Err(e) if !is_busy(&e) => Err(self.error(&e)),
            _ => Ok(()),
        }
    }

    fn place(&self) -> Place {
        let place = file::place(&self.path, self.identity);
        if self.settled && file::is_empty(&self.path) && place.replaced.is_none() {
            let why = format!("{} was emptied while it was open", self.path.display());
            return Place { replaced: Some(why), ..place };
        }
        place
    }

    fn server(&self) -> Option<Server> {
        None
    }

    fn forecast(&mut self, expected: &Table) -> Result<Rebuilt> {
        rebuild::forecast(&self.conn, expected).map_err(|e| error(&self.path, &e))
    }

    fn can_add(&self, _: &Table, column: &Column, rows: u64) -> bool {
        // (sqlite.org/lang_altertable.html, "ALTER TABLE ADD COLUMN")
        let is_constant = |sql: &str| {
            sql.starts_with('\'')
                || matches!(sql, "NULL" | "TRUE" | "FALSE")
                || sql.parse::<f64>().is_ok()
        };
        let fits_rows = column.default.as_deref().map_or(!column.not_null, is_constant);
        column.key == 0 && (rows == 0 || fits_rows)
    }

    fn discard_backup(&self, backup: &str) {
        // One that stays is only in the way.
        let _ = std::fs::remove_file(backup);
    }

    fn find_damage(&mut self, deep: bool) -> Result<Damage> {
        find_damage(&self.conn, &self.path, deep)
    }

    fn settle(&mut self, patience: &Patience<'_>) -> Result<Vec<String>> {
        let mut said: Vec<String> = self.use_wal(patience)?.into_iter().collect();
        said.extend(file::tighten(&self.path, self.access.group));
        self.keep_wal(false)?;
        self.settled = true;
        Ok(said)
    }

    fn upkeep(&self, patience: &Patience<'_>) -> Result<Option<Box<dyn Upkeep>>> {
        Ok(Some(Box::new(Checkpointer::open(&self.path, patience)?)))
    }

    fn build_index(
        &mut self,
        table: &str,
        index: &Index,
        patience: &Patience<'_>,
    ) -> Result<Option<Relaxation>> {
        // No table is heavy: SQLite has one writer, and builds an index in its transaction.
        let mut tx = self.lock(patience)?;
        let relaxed = tx.put_index(table, index, patience)?;
        if let Some(relaxation) = &relaxed {
            tx.relax(relaxation)?;
        }
        tx.commit(patience).map(|()| relaxed)
    }

    fn close(self: Box<Self>) -> Result<()> {
        if self.place().replaced.is_some() {
            // Closing would empty or delete a WAL that is no longer ours; the end of the
            // process does not.
            std::mem::forget(self.conn);
            return Ok(());
        }
        if has_wal(&self.path) {
            // Other readers may keep it from being emptied; that is no fault.
            match self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
                Err(e) if !is_busy(&e) => return Err(self.error(&e)),
                _ => {}
            }
        }
        let path = self.path;
        self.conn.close().map_err(|(_, e)| error(&path, &e))
    }
}

/// `BEGIN IMMEDIATE` until `COMMIT`; dropped before that, it rolls back.
struct SqliteTx<'s> {
    conn: &'s Connection,
    path: &'s Path,
    group: bool,
    known: Option<(i64, Catalog)>,
}

impl SqliteTx<'_> {
    fn run(&self, sql: &str) -> Result<()> {
        self.conn.execute_batch(sql).map_err(|e| error(self.path, &e))
    }
}

impl Drop for SqliteTx<'_> {
    fn drop(&mut self) {
        if !self.conn.is_autocommit() {
            // Cannot fail in a way that leaves anything: an open transaction dies with its
            // connection.
            let _ = self.conn.execute_batch("ROLLBACK");
        }
    }
}

impl Tx for SqliteTx<'_> {
    fn look(&mut self) -> Result<Look> {
        look(self.conn, &mut self.known).map_err(|e| error(self.path, &e))
    }

    fn refuse_taken(&mut self, _: &Look) -> Result<()> {
        // What is in the way says so when it is met.
        Ok(())
    }

    fn find_damage(&mut self, deep: bool) -> Result<Damage> {
        find_damage(self.conn, self.path, deep)
    }

    fn reindex(&mut self, index: &str) -> Result<()> {
        self.run(&format!("REINDEX {}", quoted(index)))
    }

    fn is_light(&mut self, table: &str, rows: u32) -> Result<bool> {
        is_light(self.conn, table, rows).map_err(|e| error(self.path, &e))
    }

    fn heavy_tables(&mut self, _: u32) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn execute_all(&mut self, _: &[Statement<'_>]) -> Result<Option<(usize, usize)>> {
        Ok(None)
    }

    fn execute(&mut self, statement: &Statement<'_>) -> Result<Effect> {
        match catalog::execute(self.conn, statement) {
            Ok(true) => Ok(Effect::Applied),
            Ok(false) => Ok(Effect::Skipped),
            Err(e) => Err(error(self.path, &e)),
        }
    }

    fn add_column(&mut self, table: &str, column: &Column) -> Result<()> {
        let default = column.default.as_ref().map(|sql| format!("({sql})").into());
        let column = &Column { default, ..column.clone() };
        self.run(&format!(
            "ALTER TABLE {} ADD COLUMN {} {column}",
            quoted(table),
            quoted(&column.name)
        ))
    }

    fn back_up(&mut self) -> Result<Option<String>> {
        backup::beside(self.path, self.group).map(Some)
    }

    fn rebuild(&mut self, expected: &Table, patience: &Patience<'_>) -> Result<Rebuilt> {
        self.known = None;
        rebuild::rebuild(self.conn, expected, patience.on_progress)
            .map_err(|e| error(self.path, &e))
    }

    fn secure_ids(&mut self) -> Result<Vec<String>> {
        // The greatest id counts, whatever `sqlite_sequence` says.
        Ok(Vec::new())
    }

    fn mismatched(&mut self) -> Result<Vec<String>> {
        rebuild::mismatched(self.conn).map_err(|e| error(self.path, &e))
    }

    fn put_index(
        &mut self,
        table: &str,
        index: &Index,
        patience: &Patience<'_>,
    ) -> Result<Option<Relaxation>> {
        rebuild::put_index(self.conn, table, index, patience.on_progress)
            .map_err(|e| error(self.path, &e))
    }

    fn breaking(&mut self, expected: &Table, rule: &Rule) -> Result<u64> {
        rebuild::breaking(self.conn, expected, rule).map_err(|e| error(self.path, &e))
    }

    fn relax(&mut self, relaxation: &Relaxation) -> Result<()> {
        exceptions::write(self.conn, relaxation).map_err(|e| error(self.path, &e))
    }

    fn tighten(&mut self, relaxation: &Relaxation) -> Result<()> {
        exceptions::remove(self.conn, relaxation).map_err(|e| error(self.path, &e))
    }

    fn attempt(&mut self, work: &mut dyn FnMut(&mut dyn Tx) -> Result<()>) -> Result<()> {
        self.run("SAVEPOINT cts_attempt")?;
        let done = work(self);
        // Some errors (a full disk, an interrupt) have rolled everything back already.
        if done.is_err() && !self.conn.is_autocommit() {
            self.run("ROLLBACK TO cts_attempt; RELEASE cts_attempt")?;
            self.known = None;
        } else if done.is_ok() {
            self.run("RELEASE cts_attempt")?;
        }
        done
    }

    fn record(&mut self, migration: &Migration, took: Duration) -> Result<()> {
        let took = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
        self.conn
            .execute(
                "INSERT INTO migrations (name, checksum, executed_at, execution_time_ms, version) \
                 VALUES (?1, ?2, strftime('%Y-%m-%d %H:%M:%f', 'now'), ?3, ?4)",
                (migration.name, migration.checksum, took, VERSION),
            )
            .map_err(|e| error(self.path, &e))
            .and_then(|rows| match rows {
                1 => Ok(()),
                _ => Err(Error::new(Kind::Data, "table migrations takes no row")
                    .remedy("look for a trigger on it")),
            })
    }

    fn note(&mut self, note: &Note) -> Result<()> {
        write_note(self.conn, note).map_err(|e| error(self.path, &e))
    }

    fn commit(self: Box<Self>, patience: &Patience<'_>) -> Result<()> {
        self.run(&format!("PRAGMA application_id = {APPLICATION_ID}"))?;
        // In rollback mode a commit waits for readers; they are short, but may be many.
        until_free(self.path, patience, || self.conn.execute_batch("COMMIT"))
    }
}
