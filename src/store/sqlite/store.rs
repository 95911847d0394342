//! An open SQLite database.

use std::path::PathBuf;

use rusqlite::Connection;

use super::FileAccess;
use super::at_rest::AtRest;
use super::checkpoint::{Checkpointer, Overwritten};
use super::damage::find_damage;
use super::database::identity;
use super::error::{from_sqlite, is_busy};
use super::file::{self, FileIdentity, has_wal, is_empty};
use super::inspect::{CachedCatalog, find_obstacles, has_more_rows, snapshot};
use super::litestream;
use super::lock::until_unlocked;
use super::open_here::OpenHere;
use super::permissions::correct_modes;
use super::recognition::refuse_foreign;
use super::running::other_services;
use super::storage::storage_status;
use super::transaction::SqliteTx;
use super::wal_hold::{WalHold, announced_hold};
use super::wal_length::kept_wal;
use super::{counters, rebuild};
use crate::error::{Error, Kind, Result};
use crate::store::{
    Change, Damage, DamageScope, DatabaseIdentity, Forecast, Inspect, KeptWal, Obstacle,
    OpenDatabase, Settled, Snapshot, StorageStatus, Store, Upkeep, UpkeepOpener, WaitPolicy,
};
use cts_schema::catalog::{Catalog, CounterFault, Index, Object, Table};
use cts_schema::constraint_exception::ConstraintException;

/// Pages that the connection may cache during a write probe: so few that the pages it writes spill to
/// the disk before it is rolled back.
const PROBE_CACHE_PAGES: u32 = 4;
/// Bytes that a write probe writes and rolls back: several times the cache.
const PROBE_BYTES: u32 = 64 << 10;

/// An open SQLite database.
pub struct Sqlite {
    pub(super) conn: Connection,
    pub(super) path: PathBuf,
    pub(super) identity: Option<FileIdentity>,
    pub(super) access: FileAccess,
    /// Whether the schema is in place, so that the file cannot be empty.
    pub(super) settled: bool,
    /// The catalogue as it was read last.
    pub(super) known: Option<CachedCatalog>,
    /// How it was opened, if that was without locks because no process had it open.
    pub(super) at_rest: Option<AtRest>,
    /// The path as it is configured, which may be a symbolic link, of a database that stays open.
    pub(super) link: Option<PathBuf>,
    /// Set by the upkeep once the file was overwritten in place.
    pub(super) overwritten: Overwritten,
    /// Kept up to date by the upkeep.
    pub(super) wal_hold: WalHold,
    /// Of a database that was opened for writing.
    pub(super) open_here: Option<OpenHere>,
}

impl Sqlite {
    /// A database that is open on this connection, and of which nothing else is known yet.
    pub(super) fn new(conn: Connection, path: PathBuf, access: FileAccess) -> Sqlite {
        Sqlite {
            conn,
            path,
            identity: None,
            access,
            settled: false,
            known: None,
            at_rest: None,
            link: None,
            overwritten: Overwritten::default(),
            wal_hold: WalHold::default(),
            open_here: None,
        }
    }

    pub(super) fn error(&self, cause: &rusqlite::Error) -> Error {
        from_sqlite(&self.path, cause)
    }

    /// Runs no checkpoint when a transaction ends, however long the WAL is.
    ///
    /// # Errors
    /// SQLite refuses the setting.
    pub(super) fn leave_checkpoints_to_upkeep(&self) -> Result<()> {
        let set = self.conn.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()));
        set.map_err(|e| self.error(&e))
    }

    /// Refuses to write if the file at the path is no longer the one that was opened. Both use the WAL
    /// of that name, so that what is written or checkpointed would be lost for one of them.
    ///
    /// # Errors
    /// If the file was deleted, replaced or emptied. Nothing is changed.
    pub(super) fn refuse_replaced(&self) -> Result<()> {
        match self.storage_status().replaced {
            None => Ok(()),
            Some(why) => Err(Error::new(Kind::Io, why)),
        }
    }

    /// Sets the journal mode to WAL. Returns a line for the log if it was another.
    ///
    /// # Errors
    /// If SQLite does not set it, or what ends the waiting for a lock. The mode is as before.
    fn use_wal(&self, wait: &WaitPolicy<'_>) -> Result<Option<String>> {
        let journal_mode = |sql| {
            until_unlocked(&self.path, wait, || {
                self.conn.query_row(sql, [], |row| row.get::<_, String>(0))
            })
        };
        if journal_mode("PRAGMA journal_mode")? == "wal" {
            return Ok(None);
        }
        match journal_mode("PRAGMA journal_mode = WAL")?.as_str() {
            "wal" => Ok(Some(format!("{}: journal mode changed to WAL", self.path.display()))),
            other => Err(Error::new(
                Kind::Io,
                format!("the journal mode stays {other}: SQLite does not set it to WAL"),
            )
            .at(self.path.display())
            .remedy("put the database on a local file system that supports shared memory")),
        }
    }
}

impl Inspect for Sqlite {
    fn inspect(&mut self) -> Result<Snapshot> {
        // Recognised anew each time, as each opening of it does: a program may have changed its mark.
        self.read(|own| {
            refuse_foreign(&own.conn, &own.path)?;
            snapshot(&own.conn, &mut own.known).map_err(|e| e.at(&own.path))
        })
    }

    fn find_counter_faults(&mut self, catalog: &Catalog) -> Result<Vec<CounterFault>> {
        // As long as SQLite's `schema_version` is the same, which the last inspection has read.
        if self.known.as_ref().is_some_and(|known| !known.has_counters) {
            return Ok(Vec::new());
        }
        // In one transaction: another process may be adopting the database.
        let find = || {
            let tx = self.conn.unchecked_transaction()?;
            counters::find_faults(&tx, catalog)
        };
        find().map_err(|e| self.error(&e))
    }

    fn find_obstacles(&mut self, missing: &[Object]) -> Result<Vec<Obstacle>> {
        self.read(|own| find_obstacles(&own.conn, missing).map_err(|e| own.error(&e)))
    }

    fn find_damage(&mut self, scope: DamageScope<'_>) -> Result<Damage> {
        self.read(|own| find_damage(&own.conn, &own.path, scope))
    }

    fn has_more_rows(&mut self, table: &str, than: u64) -> Result<bool> {
        self.read(|own| has_more_rows(&own.conn, table, than).map_err(|e| own.error(&e)))
    }

    fn forecast(&mut self, expected: &Table) -> Result<Forecast> {
        self.read(|own| rebuild::forecast(&own.conn, expected).map_err(|e| e.at(&own.path)))
    }
}

impl OpenDatabase for Sqlite {
    fn identity(&self) -> DatabaseIdentity {
        identity(&self.path)
    }

    fn storage_status(&self) -> StorageStatus {
        let status = storage_status(&self.path, self.identity);
        if let Some(why) = self.overwritten.get().filter(|_| status.replaced.is_none()) {
            return StorageStatus { replaced: Some(why.clone()), ..status };
        }
        if self.settled && is_empty(&self.path) && status.replaced.is_none() {
            let why = format!("{} was emptied while it was open", self.path.display());
            return StorageStatus { replaced: Some(why), ..status };
        }
        if status.replaced.is_none()
            && let Some(link) = &self.link
            && let Ok(target) = file::resolve(link)
            && target != self.path
        {
            let why = format!(
                "{} leads to {} now, and the database that is open is {}",
                link.display(),
                target.display(),
                self.path.display()
            );
            return StorageStatus { replaced: Some(why), ..status };
        }
        status
    }

    fn kept_wal(&self) -> Option<KeptWal> {
        let held = if self.settled { self.wal_hold.time() } else { announced_hold(&self.path) };
        kept_wal(&self.path, held)
    }

    fn other_services(&self) -> Vec<u32> {
        other_services(&self.path)
    }
}

impl Store for Sqlite {
    fn lock<'s>(&'s mut self, wait: &WaitPolicy<'_>) -> Result<Box<dyn Change + 's>> {
        self.refuse_replaced()?;
        until_unlocked(&self.path, wait, || self.conn.execute_batch("BEGIN IMMEDIATE"))?;
        Ok(Box::new(SqliteTx {
            conn: &self.conn,
            path: &self.path,
            group: self.access.group,
            known: None,
            mismatched_before: Vec::new(),
        }))
    }

    /// Creates the index in a transaction, which blocks other writers: SQLite has one writer at a time.
    fn build_index(
        &mut self,
        table: &str,
        index: &Index,
        wait: &WaitPolicy<'_>,
    ) -> Result<Option<ConstraintException>> {
        let mut tx = self.lock(wait)?;
        let exception = tx.create_index(table, index, wait)?;
        if let Some(exception) = &exception {
            tx.record_exception(exception)?;
        }
        tx.commit(wait).map(|()| exception)
    }

    fn probe_write(&mut self) -> Result<()> {
        self.refuse_replaced()?;
        let written = self.conn.execute_batch(&format!(
            "PRAGMA cache_size = {PROBE_CACHE_PAGES}; BEGIN IMMEDIATE; \
             CREATE TABLE cts_write_probe (x); \
             INSERT INTO cts_write_probe VALUES (zeroblob({PROBE_BYTES}));"
        ));
        let rolled_back =
            if self.conn.is_autocommit() { Ok(()) } else { self.conn.execute_batch("ROLLBACK") };
        match written.and(rolled_back) {
            Err(e) if !is_busy(&e) => Err(self.error(&e)),
            _ => Ok(()),
        }
    }

    fn settle(&mut self, wait: &WaitPolicy<'_>) -> Result<Settled> {
        let mut messages: Vec<String> = self.use_wal(wait)?.into_iter().collect();
        messages.extend(correct_modes(&self.path, self.access.group));
        self.keep_wal(false)?;
        // The upkeep alone checkpoints from here on: it compares the file first.
        self.leave_checkpoints_to_upkeep()?;
        if litestream::replicates(&self.conn).map_err(|e| self.error(&e))? {
            messages.push(format!("{} {}", self.path.display(), litestream::LEFT_TO_IT));
        }
        self.settled = true;
        let (path, overwritten) = (self.path.clone(), Overwritten::clone(&self.overwritten));
        let hold = self.wal_hold.clone();
        let upkeep: UpkeepOpener = Box::new(move |wait, archive| {
            Checkpointer::open(&path, overwritten, hold, archive, wait)
                .map(|upkeep| Box::new(upkeep) as Box<dyn Upkeep>)
        });
        Ok(Settled { messages, upkeep: Some(upkeep) })
    }

    fn close(self: Box<Self>) -> Result<()> {
        if self.storage_status().replaced.is_some() {
            // To close the connection would empty or delete the WAL, which is that of the file at the
            // path now; the end of the process does not.
            std::mem::forget(self.conn);
            return Ok(());
        }
        if has_wal(&self.path)? {
            // SQLITE_BUSY: a reader keeps the WAL from being emptied, which is not an error.
            match self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
                Err(e) if !is_busy(&e) => return Err(self.error(&e)),
                _ => {}
            }
        }
        let path = self.path;
        self.conn.close().map_err(|(_, e)| from_sqlite(&path, &e))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_commit_of_a_database_in_service_copies_nothing_into_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cts.db");
        let conn = Connection::open(&path).unwrap();
        let mut store = Sqlite::new(conn, path.clone(), FileAccess::default());
        let (never, wal) = (std::sync::Arc::default(), folder.path().join("cts.db-wal"));
        store.settle(&WaitPolicy::silent(Duration::from_secs(5), &never)).unwrap();
        let before = fs::read(&path).unwrap();
        // More than the 1000 pages after which SQLite checkpoints by itself.
        let rows = "CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(5000000))";
        store.conn.execute_batch(rows).unwrap();
        assert!(fs::metadata(&wal).unwrap().len() > 5_000_000);
        assert!(fs::read(&path).unwrap() == before);
    }
}
