//! The write transaction on SQLite, from `BEGIN IMMEDIATE` to `COMMIT`.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::damage::find_damage;
use super::error::from_sqlite;
use super::file::APPLICATION_ID;

use super::inspect::{CachedCatalog, find_obstacles, has_more_rows, snapshot};
use super::lock::until_unlocked;
use super::violations::{count_violations, mismatched_foreign_keys};
use super::{catalog, counters, exceptions, index, rebuild, rebuild_copy};
use crate::error::{Error, Kind, Result};
use crate::store::sql::{
    EXCEPTIONS_TABLE, delete_acceptance, insert_ledger_row, insert_site_log, quoted,
};
use crate::store::{
    Change, Damage, DamageScope, FailedStatement, Forecast, Inspect, Obstacle, RebuildCopy,
    Rebuilt, SiteLogEntry, Snapshot, StatementCounts, WaitPolicy, interrupted,
};
use cts_schema::catalog::{
    AcceptedDifference, Catalog, Column, Correction, CounterFault, Index, Object, Table,
};
use cts_schema::constraint_exception::{ConstraintException, Rule};
use cts_schema::migration::Migration;
use cts_schema::sql::Statement;

/// An open transaction that holds the write lock. Dropped before `COMMIT`, it is rolled back.
pub(super) struct SqliteTx<'s> {
    pub(super) conn: &'s Connection,
    pub(super) path: &'s Path,
    pub(super) group: bool,
    pub(super) known: Option<CachedCatalog>,
    /// The tables that had a foreign key to columns that are not unique when the backup was made.
    pub(super) mismatched_before: Vec<String>,
}

impl SqliteTx<'_> {
    fn run(&self, sql: &str) -> Result<()> {
        self.conn.execute_batch(sql).map_err(|e| from_sqlite(self.path, &e))
    }
}

impl Drop for SqliteTx<'_> {
    fn drop(&mut self) {
        if !self.conn.is_autocommit() {
            // If this fails, the transaction ends with its connection, uncommitted.
            let _ = self.conn.execute_batch("ROLLBACK");
        }
    }
}

impl Inspect for SqliteTx<'_> {
    fn inspect(&mut self) -> Result<Snapshot> {
        snapshot(self.conn, &mut self.known).map_err(|e| e.at(self.path))
    }

    fn find_counter_faults(&mut self, catalog: &Catalog) -> Result<Vec<CounterFault>> {
        counters::find_faults(self.conn, catalog).map_err(|e| from_sqlite(self.path, &e))
    }

    fn find_obstacles(&mut self, missing: &[Object]) -> Result<Vec<Obstacle>> {
        find_obstacles(self.conn, missing).map_err(|e| from_sqlite(self.path, &e))
    }

    fn find_damage(&mut self, scope: DamageScope<'_>) -> Result<Damage> {
        find_damage(self.conn, self.path, scope)
    }

    fn has_more_rows(&mut self, table: &str, than: u64) -> Result<bool> {
        has_more_rows(self.conn, table, than).map_err(|e| from_sqlite(self.path, &e))
    }

    fn forecast(&mut self, expected: &Table) -> Result<Forecast> {
        rebuild::forecast(self.conn, expected).map_err(|e| e.at(self.path))
    }
}

impl Change for SqliteTx<'_> {
    fn execute(
        &mut self,
        statements: &[Statement<'_>],
        wait: &WaitPolicy<'_>,
    ) -> Result<StatementCounts, FailedStatement> {
        let mut counts = StatementCounts::default();
        for (position, statement) in statements.iter().enumerate() {
            if wait.is_stopped() {
                return Err(FailedStatement { position: None, error: Box::new(interrupted()) });
            }
            match catalog::execute(self.conn, statement) {
                Ok(true) => counts.applied += 1,
                Ok(false) => counts.skipped += 1,
                Err(e) => {
                    let error = Box::new(e.at(self.path));
                    return Err(FailedStatement { position: Some(position), error });
                }
            }
        }
        Ok(counts)
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

    fn rebuild(&mut self, expected: &Table, wait: &WaitPolicy<'_>) -> Result<Rebuilt> {
        self.known = None;
        rebuild::rebuild(self.conn, expected, wait.on_progress).map_err(|e| e.at(self.path))
    }

    fn create_index(
        &mut self,
        table: &str,
        index: &Index,
        wait: &WaitPolicy<'_>,
    ) -> Result<Option<ConstraintException>> {
        index::create(self.conn, table, index, wait.on_progress).map_err(|e| e.at(self.path))
    }

    fn reindex(&mut self, index: &str) -> Result<()> {
        self.run(&format!("REINDEX {}", quoted(index)))
    }

    /// SQLite has no table of this kind, and no foreign key that only some rows are checked by.
    fn correct(&mut self, _: &Correction) -> Result<u64> {
        Ok(0)
    }

    fn back_up(&mut self) -> Result<Option<RebuildCopy>> {
        let backup = rebuild_copy::next_to(self.path, self.group)?;
        self.mismatched_before =
            mismatched_foreign_keys(self.conn).map_err(|e| from_sqlite(self.path, &e))?;
        Ok(Some(backup))
    }

    fn count_violations(&mut self, expected: &Table, rule: &Rule) -> Result<u64> {
        count_violations(self.conn, expected, rule).map_err(|e| from_sqlite(self.path, &e))
    }

    fn record_exception(&mut self, exception: &ConstraintException) -> Result<()> {
        exceptions::record(self.conn, exception).map_err(|e| from_sqlite(self.path, &e))
    }

    fn enforce(&mut self, exception: &ConstraintException) -> Result<()> {
        exceptions::remove(self.conn, exception).map_err(|e| from_sqlite(self.path, &e))
    }

    fn record_acceptance(&mut self, accepted: &AcceptedDifference) -> Result<()> {
        exceptions::record_acceptance(self.conn, accepted).map_err(|e| from_sqlite(self.path, &e))
    }

    fn withdraw_acceptance(&mut self, accepted: &AcceptedDifference) -> Result<()> {
        self.run(&delete_acceptance(EXCEPTIONS_TABLE, accepted))
    }

    fn advance_counter(&mut self, fault: &CounterFault) -> Result<()> {
        counters::advance(self.conn, fault).map_err(|e| e.at(self.path))
    }

    /// Checks the foreign keys, which a rebuild can make invalid. No sequence has to be advanced: the
    /// id of a new row is above the highest one in the table.
    fn finish_adoption(&mut self) -> Result<Vec<String>> {
        let after = mismatched_foreign_keys(self.conn).map_err(|e| from_sqlite(self.path, &e))?;
        match after.iter().find(|table| !self.mismatched_before.contains(table)) {
            None => Ok(Vec::new()),
            Some(table) => {
                let what =
                    format!("table {table} refers to a column that would no longer be unique");
                Err(Error::new(Kind::Data, what).remedy("drop its foreign key"))
            }
        }
    }

    fn attempt(&mut self, work: &mut dyn FnMut(&mut dyn Change) -> Result<()>) -> Result<()> {
        self.run("SAVEPOINT cts_attempt")?;
        let done = work(self);
        // SQLite has already rolled back the whole transaction on some errors (a full disk, an
        // interrupt).
        if done.is_err() && !self.conn.is_autocommit() {
            self.run("ROLLBACK TO cts_attempt; RELEASE cts_attempt")?;
            self.known = None;
        } else if done.is_ok() {
            self.run("RELEASE cts_attempt")?;
        }
        done
    }

    fn is_open(&self) -> bool {
        !self.conn.is_autocommit()
    }

    fn record(&mut self, migration: &Migration, took: Duration) -> Result<()> {
        let now = "strftime('%Y-%m-%d %H:%M:%f', 'now')";
        self.conn
            .execute(&insert_ledger_row("migrations", migration, took, now), [])
            .map_err(|e| from_sqlite(self.path, &e))
            .and_then(|rows| match rows {
                1 => Ok(()),
                _ => Err(Error::new(Kind::Data, "a row inserted into table migrations is not stored")
                    .remedy("find the trigger on that table that prevents it (`SELECT sql FROM sqlite_schema WHERE type = 'trigger'`)")),
            })
    }

    fn write_site_log(&mut self, entry: &SiteLogEntry) -> Result<()> {
        self.run(&insert_site_log("site_logs", entry))
    }

    fn commit(self: Box<Self>, wait: &WaitPolicy<'_>) -> Result<()> {
        self.run(&format!("PRAGMA application_id = {APPLICATION_ID}"))?;
        // In rollback journal mode a commit waits until there is a moment without readers.
        until_unlocked(self.path, wait, || self.conn.execute_batch("COMMIT"))
    }
}
