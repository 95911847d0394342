//! Reads the rows of a table that are copied: those of the selection, each with its problems, while the progress is
//! reported.

use super::ledger::RowSelection;
use super::problems::RowProblem;
use super::row_check::RowCheck;
use crate::error::Result;
use crate::store::{
    CopiedTable, Database, Field, LongWork, Progress, ReadRows, WaitPolicy, interrupted,
};
use crate::system::progress::{WorkDone, WorkUnit};

/// Rows between two reports of the progress.
const ROWS_PER_REPORT: u64 = 2_000;

/// The progress of work on the rows of all tables.
pub struct RowProgress<'w> {
    work: LongWork<'w>,
    wait: &'w WaitPolicy<'w>,
    done: u64,
    total: u64,
}

impl<'w> RowProgress<'w> {
    /// Of work on this number of rows.
    pub fn of(work: LongWork<'w>, total: u64, wait: &'w WaitPolicy<'w>) -> RowProgress<'w> {
        let progress = RowProgress { work, wait, done: 0, total };
        progress.report();
        progress
    }

    /// Counts a row.
    ///
    /// # Errors
    /// If the work is cancelled.
    pub fn count(&mut self) -> Result<()> {
        self.done += 1;
        if self.done.is_multiple_of(ROWS_PER_REPORT) {
            if self.wait.is_stopped() {
                return Err(interrupted());
            }
            self.report();
        }
        Ok(())
    }

    /// Reports that all of it is done.
    pub fn finish(&mut self) {
        self.done = self.total;
        self.report();
    }

    fn report(&self) {
        // Rows may have been counted before some were written.
        let total = self.total.max(self.done);
        let amount = WorkDone { done: self.done, total, unit: WorkUnit::Rows };
        (self.wait.on_progress)(Progress { work: self.work, amount });
    }
}

/// Gets a row that is to be copied: its number, from 1, its fields, and its problems.
type OnCheckedRow<'f> = dyn FnMut(u64, &[Field<'_>], &[RowProblem]) -> Result<()> + 'f;

/// Reads the rows of a table that are copied. `on_row` gets each with its number, from 1, and its problems.
///
/// # Errors
/// As [`ReadRows::read_rows`], or if the work is cancelled.
pub fn read_checked(
    source: &mut dyn ReadRows,
    table: &CopiedTable,
    target: &dyn Database,
    progress: &mut RowProgress<'_>,
    on_row: &mut OnCheckedRow<'_>,
) -> Result<()> {
    let mut check = RowCheck::of(table, target);
    read_selected(source, table, progress, &mut |number, row| {
        on_row(number, row, check.problems(row))
    })
}

/// Reads the rows of a table that are copied, each with its number, from 1.
///
/// # Errors
/// As [`ReadRows::read_rows`], or if the work is cancelled.
pub fn read_selected(
    source: &mut dyn ReadRows,
    table: &CopiedTable,
    progress: &mut RowProgress<'_>,
    on_row: &mut dyn FnMut(u64, &[Field<'_>]) -> Result<()>,
) -> Result<()> {
    let selection = RowSelection::of(table);
    let mut number = 0;
    source.read_rows(table, &mut |row| {
        progress.count()?;
        if !selection.includes(row) {
            return Ok(());
        }
        number += 1;
        on_row(number, row)
    })
}
