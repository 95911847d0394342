//! What in the database would not survive a move to the other store, by `cts copy`: as many of its values are examined as two
//! seconds allow, as the copy itself examines them. A machine that never moves is not bothered with it: such values need
//! attention only where the other database is configured too.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crate::config::OtherStore;
use crate::copy::{CopyPlan, Problem, RowSample, plan, sample_rows};
use crate::error::{Error, Result};
use crate::store::finding::{Finding, Group};
use crate::store::{Backend, Database, WaitPolicy};
use crate::system::count::counts;

/// How long rows are read.
const READING_TIME: Duration = Duration::from_secs(2);
/// How long a lock on the whole database is waited for.
const LOCK_TIMEOUT: Duration = Duration::from_millis(500);
/// How many columns with such values are named; the others are counted.
const PROBLEMS_NAMED: usize = 3;

/// Examines the database.
pub fn examine(database: &dyn Database, other: &OtherStore) -> Finding {
    let to = other.database.identity().backend;
    match examined(database, &*other.database) {
        Ok((plan, found)) => judge(to, &plan, &found, other.is_configured),
        // Where something is wrong with the database, other findings say what to do.
        Err(error) => Finding { remedy: None, ..skipped(to, error) },
    }
}

/// The finding where the other database of one of this kind is not configured as it should be.
pub fn not_examined(of: Backend, error: Error) -> Finding {
    skipped(other_of(of), error)
}

/// The finding where a database of this kind did not answer in time.
pub fn overdue(of: Backend) -> Finding {
    let what = "not examined: took longer than the other examinations left for it";
    Finding::skipped(Group::Database, &name(other_of(of)), what)
}

fn skipped(to: Backend, error: Error) -> Finding {
    let what = format!("not examined: {}", error.message());
    Finding { remedy: error.remedy, ..Finding::skipped(Group::Database, &name(to), what) }
}

fn other_of(backend: Backend) -> Backend {
    match backend {
        Backend::Sqlite => Backend::Postgresql,
        Backend::Postgresql => Backend::Sqlite,
    }
}

fn name(to: Backend) -> String {
    format!("move to {}", to.label())
}

fn examined(from: &dyn Database, to: &dyn Database) -> Result<(CopyPlan, RowSample)> {
    let until = Instant::now() + READING_TIME;
    let cancelled = Arc::new(AtomicBool::new(false));
    let wait = WaitPolicy::silent(LOCK_TIMEOUT, &cancelled);
    let open = || from.open_sample_source(&wait);
    let plan = plan(&mut *open()?, &from.identity(), &to.identity(), false)?;
    let found = sample_rows(&open, &plan, to, until, &wait)?;
    Ok((plan, found))
}

/// The finding. Where a move is not prepared, values that would not survive one are no fault.
fn judge(to: Backend, plan: &CopyPlan, found: &RowSample, is_prepared: bool) -> Finding {
    let name = &name(to);
    let dry_run = format!("`cts copy --to {} --dry-run`", to.name());
    let rows = match found.is_whole {
        true => format!("{} rows", found.rows),
        false => {
            format!("the {} rows that could be read in {} s", found.rows, READING_TIME.as_secs())
        }
    };
    let left_out = match plan.left_out.is_empty() {
        true => String::new(),
        false => format!(
            "; left out: {} (--with-extra copies columns and tables)",
            plan.left_out.join(", ")
        ),
    };
    if found.problems.is_empty() {
        let what = format!("every value of {rows} would survive it{left_out}");
        let finding = Finding::good(Group::Database, name, what);
        return match found.is_whole {
            true => finding,
            false => finding.remedy(format!("{dry_run} reads all of them")),
        };
    }
    let what = format!(
        "{} of {rows} would not survive it: {}{left_out}",
        found.problems.rows,
        named(found.problems.iter())
    );
    let finding = match is_prepared {
        true => Finding::attention(Group::Database, name, what),
        false => Finding::good(Group::Database, name, what),
    };
    finding.remedy(format!(
        "before a move: {dry_run} lists all of them; correct them, or leave them out with `--skip-bad FILE`"
    ))
}

/// The columns with such values, the first of them by name.
fn named<'p>(problems: impl Iterator<Item = &'p Problem>) -> String {
    let all: Vec<String> = problems.map(phrase).collect();
    let (shown, others) = all.split_at(all.len().min(PROBLEMS_NAMED));
    match others.len() {
        0 => shown.join("; "),
        others => format!("{}; and {others} more", shown.join("; ")),
    }
}

fn phrase(problem: &Problem) -> String {
    let column = problem.column.as_ref().map(|column| format!(".{column}")).unwrap_or_default();
    let example = problem
        .examples
        .first()
        .map(|example| format!(", such as {}", example.key))
        .unwrap_or_default();
    format!(
        "{}{column} {} ({}{example})",
        problem.table,
        problem.reason,
        counts(&[(problem.rows.try_into().unwrap_or(usize::MAX), "row", "rows")])
    )
}
