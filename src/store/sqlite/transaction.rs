//! The write transaction on SQLite, from `BEGIN IMMEDIATE` to `COMMIT`.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::error::error;
use super::file::APPLICATION_ID;
use super::lock::until_unlocked;
use super::{backup, catalog, exceptions, rebuild};
use crate::error::{Error, Kind, Result};
use crate::store::sql::{insert_ledger_row, insert_site_log, quoted};
use crate::store::{Damage, Rebuilt, SiteLogEntry, Snapshot, StatementEffect, Tx, WaitPolicy};
use cts_schema::catalog::{Column, Index, Table};
use cts_schema::constraint_exception::{ConstraintException, Rule};
use cts_schema::migration::Migration;
use cts_schema::sql::Statement;

use super::damage::find_damage;
use super::index::put_index;
use super::inspect::{CachedCatalog, is_small, snapshot};
use super::violations::{count_violations, mismatched_foreign_keys};

/// `BEGIN IMMEDIATE` until `COMMIT`; dropped before that, it rolls back.
pub(super) struct SqliteTx<'s> {
    pub(super) conn: &'s Connection,
    pub(super) path: &'s Path,
    pub(super) group: bool,
    pub(super) known: Option<CachedCatalog>,
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
    fn inspect(&mut self) -> Result<Snapshot> {
        snapshot(self.conn, &mut self.known).map_err(|e| e.at(self.path))
    }

    fn refuse_taken(&mut self, _: &Snapshot) -> Result<()> {
        // What is in the way says so when it is met.
        Ok(())
    }

    fn find_damage(&mut self, deep: bool) -> Result<Damage> {
        find_damage(self.conn, self.path, deep)
    }

    fn reindex(&mut self, index: &str) -> Result<()> {
        self.run(&format!("REINDEX {}", quoted(index)))
    }

    fn is_small(&mut self, table: &str, rows: u32) -> Result<bool> {
        is_small(self.conn, table, rows).map_err(|e| error(self.path, &e))
    }

    fn large_tables(&mut self, _: u32) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn execute_all(&mut self, _: &[Statement<'_>]) -> Result<Option<(usize, usize)>> {
        Ok(None)
    }

    fn execute(&mut self, statement: &Statement<'_>) -> Result<StatementEffect> {
        match catalog::execute(self.conn, statement) {
            Ok(true) => Ok(StatementEffect::Applied),
            Ok(false) => Ok(StatementEffect::Skipped),
            Err(e) => Err(e.at(self.path)),
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
        backup::next_to(self.path, self.group).map(Some)
    }

    fn rebuild(&mut self, expected: &Table, wait: &WaitPolicy<'_>) -> Result<Rebuilt> {
        self.known = None;
        rebuild::rebuild(self.conn, expected, wait.on_progress).map_err(|e| e.at(self.path))
    }

    fn advance_sequences(&mut self) -> Result<Vec<String>> {
        // The greatest id counts, whatever `sqlite_sequence` says.
        Ok(Vec::new())
    }

    fn mismatched(&mut self) -> Result<Vec<String>> {
        mismatched_foreign_keys(self.conn).map_err(|e| error(self.path, &e))
    }

    fn put_index(
        &mut self,
        table: &str,
        index: &Index,
        wait: &WaitPolicy<'_>,
    ) -> Result<Option<ConstraintException>> {
        put_index(self.conn, table, index, wait.on_progress).map_err(|e| e.at(self.path))
    }

    fn count_violations(&mut self, expected: &Table, rule: &Rule) -> Result<u64> {
        count_violations(self.conn, expected, rule).map_err(|e| error(self.path, &e))
    }

    fn record_exception(&mut self, exception: &ConstraintException) -> Result<()> {
        exceptions::write(self.conn, exception).map_err(|e| error(self.path, &e))
    }

    fn enforce(&mut self, exception: &ConstraintException) -> Result<()> {
        exceptions::remove(self.conn, exception).map_err(|e| error(self.path, &e))
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
        let now = "strftime('%Y-%m-%d %H:%M:%f', 'now')";
        self.conn
            .execute(&insert_ledger_row(migration, took, now), [])
            .map_err(|e| error(self.path, &e))
            .and_then(|rows| match rows {
                1 => Ok(()),
                _ => Err(Error::new(Kind::Data, "table migrations takes no row")
                    .remedy("look for a trigger on it")),
            })
    }

    fn write_site_log(&mut self, note: &SiteLogEntry) -> Result<()> {
        self.run(&insert_site_log(note))
    }

    fn commit(self: Box<Self>, wait: &WaitPolicy<'_>) -> Result<()> {
        self.run(&format!("PRAGMA application_id = {APPLICATION_ID}"))?;
        // In rollback mode a commit waits for readers; they are short, but may be many.
        until_unlocked(self.path, wait, || self.conn.execute_batch("COMMIT"))
    }
}
