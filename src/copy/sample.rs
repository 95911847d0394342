//! Examines as many rows of a database as a short time allows, for whoever may copy it one day. Each table gets an equal part
//! of the time that is left when it is its turn, so that small ones are read whole and large ones share the rest.

use std::time::Instant;

use super::plan::CopyPlan;
use super::problems::Problems;
use super::rows::{RowProgress, read_checked};
use crate::error::Result;
use crate::store::{CopiedTable, CopySource, Database, LongWork, WaitPolicy, interrupted};

/// What was found in the rows that were examined.
#[derive(Debug, Default)]
pub struct RowSample {
    /// How many there were.
    pub rows: u64,
    /// Whether these are all rows.
    pub is_whole: bool,
    /// Which of them cannot be copied.
    pub problems: Problems,
}

/// Examines rows of the tables that are copied, until a point in time. `open` opens the source anew, since one whose reading was
/// ended early may be of no more use.
///
/// # Errors
/// Where the source cannot be opened or read.
pub fn sample_rows<'s>(
    open: &dyn Fn() -> Result<Box<dyn CopySource + 's>>,
    plan: &CopyPlan,
    target: &dyn Database,
    until: Instant,
    wait: &WaitPolicy<'_>,
) -> Result<RowSample> {
    let mut found = RowSample { is_whole: true, ..RowSample::default() };
    let mut source = open()?;
    for (at, table) in plan.tables.iter().enumerate() {
        let left = until.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(plan.tables.len() - at).unwrap_or(u32::MAX);
        let part = TablePart { at, table, target, ends_at: Instant::now() + share };
        if !part.read(&mut *source, &mut found, wait)? {
            found.is_whole = false;
            source = open()?;
        }
    }
    Ok(found)
}

/// The rows of a table that are read until a point in time.
struct TablePart<'t> {
    at: usize,
    table: &'t CopiedTable,
    target: &'t dyn Database,
    ends_at: Instant,
}

impl TablePart<'_> {
    /// Reads the rows. Returns whether these are all of the table.
    fn read(
        &self,
        source: &mut dyn CopySource,
        found: &mut RowSample,
        wait: &WaitPolicy<'_>,
    ) -> Result<bool> {
        let mut progress = RowProgress::of(LongWork::ExaminingRows, 0, wait);
        let mut is_over = false;
        let read = read_checked(
            source,
            self.table,
            self.target,
            &mut progress,
            &mut |number, row, problems| {
                is_over = Instant::now() >= self.ends_at;
                if is_over {
                    return Err(interrupted());
                }
                found.rows += 1;
                if !problems.is_empty() {
                    found.problems.add((self.at, self.table), number, row, problems);
                }
                Ok(())
            },
        );
        match read {
            Err(_) if is_over => Ok(false),
            other => other.map(|()| true),
        }
    }
}
