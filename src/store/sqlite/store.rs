//! An open SQLite database.

use std::path::PathBuf;

use rusqlite::Connection;

use super::FileAccess;
use super::checkpoint::Checkpointer;
use super::damage::find_damage;
use super::database::identity;
use super::error::{error, is_busy};
use super::file::{FileIdentity, has_wal, is_empty};
use super::inspect::{CachedCatalog, find_obstacles, has_more_rows, snapshot};
use super::lock::until_unlocked;
use super::permissions::correct_modes;
use super::rebuild;
use super::storage::storage_status;
use super::transaction::SqliteTx;
use crate::error::{Error, Kind, Result};
use crate::store::{
    Change, Damage, DamageScope, DatabaseIdentity, Forecast, Inspect, Obstacle, OpenDatabase,
    Settled, Snapshot, StorageStatus, Store, Upkeep, UpkeepOpener, WaitPolicy,
};
use cts_schema::catalog::{Index, Object, Table};
use cts_schema::constraint_exception::ConstraintException;

/// Pages a connection may keep while it proves that it can write: so few that what it writes
/// reaches the disk (it spills) before it is undone.
const PROBE_CACHE_PAGES: u32 = 4;
/// What is written and undone: several times the cache.
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
}

impl Sqlite {
    pub(super) fn error(&self, cause: &rusqlite::Error) -> Error {
        error(&self.path, cause)
    }

    /// Refuses to write where the file at the path is another one by now: its WAL may be
    /// the one beside ours, and what is written or copied there would be lost to one of them.
    fn refuse_replaced(&self) -> Result<()> {
        match self.storage_status().replaced {
            None => Ok(()),
            Some(why) => Err(Error::new(Kind::Io, why)
                .remedy("start cts again, which opens the file that is there now")),
        }
    }

    fn use_wal(&self, wait: &WaitPolicy<'_>) -> Result<Option<String>> {
        let until_answered = |sql| {
            until_unlocked(&self.path, wait, || {
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
                format!("the journal mode stays {other}, WAL was refused"),
            )
            .at(self.path.display())
            .remedy("put the database on a local file system that supports shared memory")),
        }
    }
}

impl Inspect for Sqlite {
    fn inspect(&mut self) -> Result<Snapshot> {
        snapshot(&self.conn, &mut self.known).map_err(|e| e.at(&self.path))
    }

    fn find_obstacles(&mut self, missing: &[Object]) -> Result<Vec<Obstacle>> {
        find_obstacles(&self.conn, missing).map_err(|e| error(&self.path, &e))
    }

    fn find_damage(&mut self, scope: DamageScope<'_>) -> Result<Damage> {
        find_damage(&self.conn, &self.path, scope)
    }

    fn has_more_rows(&mut self, table: &str, than: u64) -> Result<bool> {
        has_more_rows(&self.conn, table, than).map_err(|e| error(&self.path, &e))
    }

    fn forecast(&mut self, expected: &Table) -> Result<Forecast> {
        rebuild::forecast(&self.conn, expected).map_err(|e| e.at(&self.path))
    }
}

impl OpenDatabase for Sqlite {
    fn identity(&self) -> DatabaseIdentity {
        identity(&self.path)
    }

    fn storage_status(&self) -> StorageStatus {
        let status = storage_status(&self.path, self.identity);
        if self.settled && is_empty(&self.path) && status.replaced.is_none() {
            let why = format!("{} was emptied while it was open", self.path.display());
            return StorageStatus { replaced: Some(why), ..status };
        }
        status
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

    /// In a transaction: SQLite has one writer.
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

    fn settle(&mut self, wait: &WaitPolicy<'_>) -> Result<Settled> {
        let mut messages: Vec<String> = self.use_wal(wait)?.into_iter().collect();
        messages.extend(correct_modes(&self.path, self.access.group));
        self.keep_wal(false)?;
        self.settled = true;
        let path = self.path.clone();
        let upkeep: UpkeepOpener = Box::new(move |wait| {
            Checkpointer::open(&path, wait).map(|upkeep| Box::new(upkeep) as Box<dyn Upkeep>)
        });
        Ok(Settled { messages, upkeep: Some(upkeep) })
    }

    fn close(self: Box<Self>) -> Result<()> {
        if self.storage_status().replaced.is_some() {
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
