//! Corrections of altered tables that lose no row, each in a transaction of its own after the others,
//! so that a program waits for one of them at most. A start makes those that take a moment and goes
//! on without one that it cannot make; `cts repair` makes all of them.

use super::event::{Event, Outcome};
use super::plan::Plan;
use super::step::{Action, Step};
use super::{Task, write_site_logs};
use crate::error::{Error, Kind, Result, StateLeft};
use crate::store::{
    DatabaseIdentity, Inspect, ONLINE_INDEX_ROWS_MAX, Store, WaitPolicy, interrupted,
};
use cts_schema::catalog::{Alteration, Correction};

/// Makes the corrections of what still differs after a run.
///
/// # Errors
/// Where the database cannot be used any longer, or the policy is cancelled; for a repair also where
/// a lock was not free in time. The corrections before that are committed.
pub fn correct(
    store: &mut dyn Store,
    identity: &DatabaseIdentity,
    wait: &WaitPolicy<'_>,
    task: Task,
    outcome: &mut Outcome,
) -> Result<()> {
    let mut corrections = due(store, identity, task, &outcome.drift.altered)?;
    if corrections.is_empty() {
        return Ok(());
    }
    corrections.reverse();
    while let Some(correction) = corrections.pop() {
        if wait.is_stopped() {
            return Err(interrupted().leaving(StateLeft::EarlierCommits));
        }
        let made = match task {
            Task::Migrate => make(store, wait, &correction),
            Task::Repair => wait.retry_while_blocked(|| make(store, wait, &correction)),
        };
        match made {
            Ok(events) => {
                let is_made = events.iter().any(|event| matches!(event, Event::Corrected(_)));
                corrections.extend(correction.next().filter(|_| is_made));
                outcome.events.extend(events);
            }
            Err(error) if is_left(task, &error) => {
                outcome.events.push(Event::NotCorrected(correction, error));
            }
            Err(error) => {
                return Err(error.at(&identity.location).leaving(StateLeft::EarlierCommits));
            }
        }
    }
    outcome.drift = store.inspect_with_counters()?.drift(identity.schema);
    Ok(())
}

/// Moves the alterations that a run would correct from those that stay to the steps.
///
/// # Errors
/// Where the database cannot be read.
pub fn add_to_plan(
    database: &mut dyn Inspect,
    identity: &DatabaseIdentity,
    plan: &mut Plan,
) -> Result<()> {
    for correction in due(database, identity, Task::Migrate, &plan.unchanged)? {
        plan.unchanged.retain(|alteration| alteration.correction().as_ref() != Some(&correction));
        let action = Action::Correct(correction);
        plan.steps.push(Step::new(identity.backend, action, "it differs"));
    }
    Ok(())
}

/// The corrections that are made, tables before those that refer to them; at a start not those that
/// would keep programs from a large table.
fn due(
    database: &mut dyn Inspect,
    identity: &DatabaseIdentity,
    task: Task,
    altered: &[Alteration],
) -> Result<Vec<Correction>> {
    let mut due = Vec::new();
    let corrections: Vec<Correction> = altered.iter().filter_map(Alteration::correction).collect();
    if corrections.is_empty() {
        return Ok(due);
    }
    for table in super::plan::parents_first(identity.schema.expected) {
        let mut of_table = corrections.iter().filter(|c| c.table() == table.name).peekable();
        if of_table.peek().is_some()
            && (task == Task::Repair
                || !database.has_more_rows(&table.name, ONLINE_INDEX_ROWS_MAX)?)
        {
            due.extend(of_table.cloned());
        }
    }
    Ok(due)
}

/// Whether an error leaves one table as it is and lets the run go on.
fn is_left(task: Task, error: &Error) -> bool {
    match error.kind {
        Kind::Data | Kind::Permission => true,
        Kind::Blocked | Kind::TryAgain => task == Task::Migrate,
        _ => false,
    }
}

/// Makes one correction. A foreign key that rows violate is left as it is.
fn make(
    store: &mut dyn Store,
    wait: &WaitPolicy<'_>,
    correction: &Correction,
) -> Result<Vec<Event>> {
    let mut tx = store.lock(wait)?;
    let rows = tx.correct(correction)?;
    if rows > 0 {
        return Ok(vec![Event::NotCorrected(correction.clone(), violated(correction, rows))]);
    }
    let mut events = vec![Event::Corrected(correction.clone())];
    write_site_logs(&mut *tx, &mut events)?;
    tx.commit(wait)?;
    Ok(events)
}

fn violated(correction: &Correction, rows: u64) -> Error {
    let table = correction.table();
    let Correction::ValidateForeignKey(_, key) = correction else {
        return Error::new(Kind::Data, format!("{rows} rows of table {table} are in the way"));
    };
    let (column, parent, references) = (&key.column, &key.table, &key.references);
    let what = format!("{rows} rows of table {table} refer to rows of {parent} that do not exist");
    Error::new(Kind::Data, what).remedy(format!(
        "delete them, or add what they refer to: `SELECT * FROM {table} WHERE {column} NOT IN (SELECT {references} FROM {parent})` shows them; then run `cts repair`"
    ))
}
