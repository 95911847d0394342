//! Changing a database: the write transaction under the migration lock.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::{Inspect, WaitPolicy};
use crate::error::{Error, Result};
use crate::system::progress::{WorkDone, WorkUnit};
use cts_schema::catalog::{
    AcceptedDifference, Column, Correction, CounterFault, Index, Object, Table,
};
use cts_schema::constraint_exception::{ConstraintException, Rule};
use cts_schema::migration::Migration;
use cts_schema::sql::Statement;

/// Work that takes long on a large database.
#[derive(Clone, Copy, Debug)]
pub enum LongWork<'p> {
    /// A table or an index is built. Counted in rows; those of an index are done all at once.
    Building(&'p Object),
    /// The database is copied. Counted in bytes.
    Copying,
    /// The rows of a database that is to be copied are examined.
    ExaminingRows,
    /// Rows are copied into another database.
    CopyingRows,
    /// Rows of a copy are read back and compared.
    ComparingRows,
    /// Old rows are deleted.
    Pruning,
}

impl fmt::Display for LongWork<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LongWork::Building(object) => write!(f, "making {object}"),
            LongWork::Copying => f.write_str("copying the database"),
            LongWork::ExaminingRows => f.write_str("examining the rows"),
            LongWork::CopyingRows => f.write_str("copying the rows"),
            LongWork::ComparingRows => f.write_str("comparing the copy"),
            LongWork::Pruning => f.write_str("deleting old rows"),
        }
    }
}

/// The progress of long-running work.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'p> {
    /// The work.
    pub work: LongWork<'p>,
    /// How far it is.
    pub amount: WorkDone,
}

impl<'p> Progress<'p> {
    /// The progress of building a table or an index.
    pub fn of_rows(object: &'p Object, done: u64, total: u64) -> Progress<'p> {
        let amount = WorkDone { done, total, unit: WorkUnit::Rows };
        Progress { work: LongWork::Building(object), amount }
    }

    /// The progress of work on files.
    pub fn of_bytes(work: LongWork<'p>, done: u64, total: u64) -> Progress<'p> {
        Progress { work, amount: WorkDone { done, total, unit: WorkUnit::Bytes } }
    }
}

/// A table that was rebuilt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Its rows, all of them kept.
    pub rows: u64,
    /// The rules that the rows violate, which the new table does not have.
    pub exceptions: Vec<ConstraintException>,
    /// Constraints that the old table had and the new one does not, each with its table. A key
    /// that changes its type may take along a constraint of another table that referred to it.
    pub dropped: Vec<String>,
}

/// How many statements changed something, and how many found their object in place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatementCounts {
    /// Statements that changed something.
    pub applied: usize,
    /// Statements that found their object in place.
    pub skipped: usize,
}

/// The statement that failed, and why.
#[derive(Debug)]
pub struct FailedStatement {
    /// Its position among the statements that were given; `None` where the run was interrupted or
    /// the connection was lost between statements.
    pub position: Option<usize>,
    /// The fault.
    pub error: Box<Error>,
}

/// A row for the table `site_logs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteLogEntry {
    /// `info`, `warn` or `error`.
    pub level: &'static str,
    /// What happened.
    pub message: String,
}

/// A copy of the database as it was before a change. Dropped without [`RebuildCopy::keep`], it removes
/// its file: what was not changed needs no copy.
#[derive(Debug)]
pub struct RebuildCopy {
    location: String,
    file: Option<PathBuf>,
}

impl RebuildCopy {
    /// A copy in a file of its own, with a note about its owner.
    pub fn in_file(file: PathBuf, owner: Option<String>) -> RebuildCopy {
        let owner = owner.map(|owner| format!(" ({owner})")).unwrap_or_default();
        RebuildCopy { location: format!("{}{owner}", file.display()), file: Some(file) }
    }

    /// A copy inside the database, which a rollback takes away.
    #[cfg_attr(not(feature = "postgres"), allow(dead_code))]
    pub fn in_database(location: String) -> RebuildCopy {
        RebuildCopy { location, file: None }
    }

    /// Where it is.
    pub fn location(&self) -> &str {
        &self.location
    }

    /// Keeps the copy for good.
    pub fn keep(&mut self) {
        self.file = None;
    }
}

impl Drop for RebuildCopy {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            // A copy that cannot be removed does no harm.
            let _ = fs::remove_file(file);
        }
    }
}

/// A write transaction that holds the migration lock. Dropped without [`Change::commit`], it rolls
/// back.
///
/// Of every method: an error of [`Kind::Data`](crate::error::Kind) means that the statement failed
/// and, inside [`Change::attempt`], that the transaction can go on; any other error ends the
/// transaction, which has changed nothing.
pub trait Change: Inspect {
    /// Runs statements in order. One that finds its object in place counts as skipped.
    ///
    /// # Errors
    /// With the first statement that failed. Those before it have run; only a rollback undoes them.
    fn execute(
        &mut self,
        statements: &[Statement<'_>],
        wait: &WaitPolicy<'_>,
    ) -> Result<StatementCounts, FailedStatement>;

    /// Adds a column to a table that does not have it.
    ///
    /// # Errors
    /// Where the rows or another object do not allow it. The table is unchanged.
    fn add_column(&mut self, table: &str, column: &Column) -> Result<()>;

    /// Gives a table the expected columns, constraints and indexes, and keeps every row. Rules that
    /// rows violate are left out of the new table.
    ///
    /// # Errors
    /// Where a value would be lost or an object is in the way. Only a rollback undoes what was
    /// done until then.
    fn rebuild(&mut self, expected: &Table, wait: &WaitPolicy<'_>) -> Result<Rebuilt>;

    /// Creates an index, in place of one with its name on the same table. It is not unique where
    /// rows share a key; that exception is returned, and not recorded yet.
    ///
    /// # Errors
    /// Where another object has its name. Nothing is changed then.
    fn create_index(
        &mut self,
        table: &str,
        index: &Index,
        wait: &WaitPolicy<'_>,
    ) -> Result<Option<ConstraintException>>;

    /// Rebuilds a damaged index from the rows of its table.
    ///
    /// # Errors
    /// Where the rows do not allow it, or are damaged themselves.
    fn reindex(&mut self, index: &str) -> Result<()>;

    /// Puts an altered table right, and keeps every row. Returns how many rows keep a foreign key
    /// from being validated.
    ///
    /// # Errors
    /// Where the role may not, or something refers to the table as it is. It is unchanged.
    fn correct(&mut self, correction: &Correction) -> Result<u64>;

    /// Copies the database as it is under the lock and proves the copy; `None` where it has no
    /// row. Also notes the foreign keys that [`Change::finish_adoption`] compares with.
    ///
    /// # Errors
    /// Where the copy cannot be made, or is not equal. No copy is left.
    fn back_up(&mut self) -> Result<Option<RebuildCopy>>;

    /// How many rows violate a rule. `expected` is the table with the rule.
    ///
    /// # Errors
    /// Where the rows cannot be read.
    fn count_violations(&mut self, expected: &Table, rule: &Rule) -> Result<u64>;

    /// Records a constraint exception, or its present number of rows.
    ///
    /// # Errors
    /// Where the record cannot be written.
    fn record_exception(&mut self, exception: &ConstraintException) -> Result<()>;

    /// Removes the record of an exception, and validates its foreign key where it is one. Another
    /// rule holds again once its table is rebuilt or its index created.
    ///
    /// # Errors
    /// Where rows still violate the foreign key, or the record cannot be written.
    fn enforce(&mut self, exception: &ConstraintException) -> Result<()>;

    /// Records differences as accepted, in place of what was recorded of their object.
    ///
    /// # Errors
    /// Where the record cannot be written.
    fn record_acceptance(&mut self, accepted: &AcceptedDifference) -> Result<()>;

    /// Removes the record of accepted differences.
    ///
    /// # Errors
    /// Where the record cannot be written.
    fn withdraw_acceptance(&mut self, accepted: &AcceptedDifference) -> Result<()>;

    /// Makes a counter go on past the ids of the rows.
    ///
    /// # Errors
    /// [`Kind::Data`](crate::error::Kind) where no id is left, and
    /// [`Kind::Permission`](crate::error::Kind) where another role owns the counter.
    fn advance_counter(&mut self, fault: &CounterFault) -> Result<()>;

    /// Completes the adoption of a database whose tables were rebuilt: PostgreSQL advances each
    /// identity past its highest id; SQLite proves that no table has lost the unique key that its
    /// foreign key refers to. Returns the tables whose identity was behind: default rows may have
    /// been refused there.
    ///
    /// # Errors
    /// [`Kind::Data`](crate::error::Kind) where there is no id left for a new row, or a foreign key
    /// of somebody's table would no longer lead to a unique column.
    fn finish_adoption(&mut self) -> Result<Vec<String>>;

    /// Runs `work` behind a savepoint.
    ///
    /// # Errors
    /// The error of `work`. Where the transaction is [open](Change::is_open) then, what `work` changed
    /// is undone, and it goes on.
    fn attempt(&mut self, work: &mut dyn FnMut(&mut dyn Change) -> Result<()>) -> Result<()>;

    /// Whether the transaction can go on. On some errors the database has already rolled it back: on SQLite
    /// those of a full disk and of `RAISE(ROLLBACK)` in a trigger, on PostgreSQL a lock that was not granted.
    fn is_open(&self) -> bool;

    /// Writes the ledger row of a migration.
    ///
    /// # Errors
    /// Where the ledger does not take the row.
    fn record(&mut self, migration: &Migration, took: Duration) -> Result<()>;

    /// Writes one row into `site_logs`.
    ///
    /// # Errors
    /// Where the table does not take the row.
    fn write_site_log(&mut self, entry: &SiteLogEntry) -> Result<()>;

    /// Makes all of it permanent.
    ///
    /// # Errors
    /// Nothing was changed, except with [`Kind::InDoubt`](crate::error::Kind), where that is not
    /// known.
    fn commit(self: Box<Self>, wait: &WaitPolicy<'_>) -> Result<()>;
}
