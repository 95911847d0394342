//! Examines every value of the source before anything is written: which rows can be copied, their digest, and what is in
//! the way of the others.

use super::plan::CopyPlan;
use super::problems::Problems;
use super::rows::{RowProgress, read_checked};
use super::skipped_rows::SkippedRows;
use crate::error::Result;
use crate::store::{CopiedTable, CopySource, Database, LongWork, WaitPolicy};
use crate::store::{TableDigest, TableHasher};

/// What the source holds.
#[derive(Debug)]
pub struct Survey {
    /// The tables, in the order of the plan.
    pub tables: Vec<SurveyedTable>,
    /// What cannot be copied.
    pub problems: Problems,
}

/// A table of the source.
#[derive(Debug)]
pub struct SurveyedTable {
    /// The table.
    pub table: CopiedTable,
    /// The rows that are copied.
    pub digest: TableDigest,
    /// Whether there are others, which are not.
    pub has_problems: bool,
}

impl Survey {
    /// The number of rows that are copied.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|surveyed| surveyed.digest.rows).sum()
    }
}

/// Reads all rows of the tables that are copied. Those that cannot be are written to `skipped`, where they are to be.
///
/// # Errors
/// Where the source cannot be read, `skipped` not be written, or the work is cancelled.
pub fn survey(
    source: &mut dyn CopySource,
    plan: &CopyPlan,
    target: &dyn Database,
    mut skipped: Option<&mut SkippedRows>,
    wait: &WaitPolicy<'_>,
) -> Result<Survey> {
    let mut total = 0;
    for table in &plan.tables {
        total += source.count_rows(&table.name)?;
    }
    let mut progress = RowProgress::of(LongWork::ExaminingRows, total, wait);
    let mut problems = Problems::default();
    let mut tables = Vec::new();
    for (at, table) in plan.tables.iter().enumerate() {
        let mut hasher = TableHasher::default();
        let problems_before = problems.rows;
        read_checked(source, table, target, &mut progress, &mut |number, row, found| {
            if found.is_empty() {
                hasher.add(row);
                return Ok(());
            }
            problems.add((at, table), number, row, found);
            match &mut skipped {
                Some(skipped) => skipped.write(table, row, found),
                None => Ok(()),
            }
        })?;
        let has_problems = problems.rows > problems_before;
        let digest = hasher.finish()?;
        tables.push(SurveyedTable { table: table.clone(), digest, has_problems });
    }
    progress.finish();
    Ok(Survey { tables, problems })
}
