//! Opens the database, creates it where it does not exist, brings it up to date, prepares it for
//! service, and logs what was done after it is done.

use super::event::Outcome;
use super::{Task, render, run};
use crate::error::Result;
use crate::store::{Database, DatabaseIdentity, Store, UpkeepOpener, WaitPolicy};
use crate::system::log::Log;
use crate::system::version::VERSION;

/// A database that is up to date and ready for service.
pub struct Initialised {
    /// The open database.
    pub store: Box<dyn Store>,
    /// What was done.
    pub outcome: Outcome,
    /// Opens its upkeep, where it needs one.
    pub upkeep: Option<UpkeepOpener>,
}

/// Opens the database, creating it where it does not exist, runs the task and prepares it for
/// service.
///
/// # Errors
/// Where it cannot be opened, migrated or prepared. What was committed until then remains.
pub fn initialise(
    database: &dyn Database,
    log: Log,
    wait: &WaitPolicy<'_>,
    task: Task,
) -> Result<Initialised> {
    let mut built = None;
    let opened = database.open(wait, &mut |store| {
        built = Some(run(store, wait, Task::Migrate)?);
        Ok(())
    })?;
    let mut store = opened.store;
    let DatabaseIdentity { schema, location, .. } = store.identity();
    log.info(format_args!("Database: {location}"));
    let (files, statements) = (schema.migrations.len(), schema.statements);
    log.detail(format_args!("cts {VERSION} has {files} migrations with {statements} statements"));
    // A database that was just created is inspected too.
    let done = run(&mut *store, wait, task)?;
    let built = built.filter(|_| opened.is_new && done.applied() == 0);
    let outcome = built.unwrap_or(done);
    render::log_outcome(log, &outcome);
    let settled = store.settle(wait)?;
    for message in settled.messages {
        log.info(message);
    }
    render::log_totals(log, schema, &outcome);
    Ok(Initialised { store, outcome, upkeep: settled.upkeep })
}
