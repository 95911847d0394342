//! Opens the database, creates it where it does not exist, brings it up to date, prepares it for
//! service, and logs what was done after it is done.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::event::Outcome;
use super::{Task, render, run};
use crate::error::Result;
use crate::store::{Backend, Database, DatabaseIdentity, Store, UpkeepOpener, WaitPolicy};
use crate::system::invocation;
use crate::system::log::Log;
use crate::system::shell::word;
use crate::system::version::VERSION;

/// A database that is up to date and ready for service.
pub struct Initialised {
    /// The open database.
    pub store: Box<dyn Store>,
    /// What was done.
    pub outcome: Outcome,
    /// Whether there was no database before.
    pub is_new: bool,
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
    let identity = store.identity();
    let DatabaseIdentity { schema, location, .. } = &identity;
    log.info(format_args!("Database: {location}"));
    for message in opened.messages {
        log.info(message);
    }
    let (files, statements) = (schema.migrations.len(), schema.statements);
    log.detail(format_args!("cts {VERSION} has {files} migrations with {statements} statements"));
    // A database that was just created is inspected too.
    let done = run(&mut *store, wait, task)?;
    let built = built.filter(|_| opened.is_new && done.applied() == 0);
    let outcome = built.unwrap_or(done);
    let is_new = outcome.created_schema();
    if is_new {
        log.info(format_args!("✓ Created {}", created(&identity)));
        log.info(format_args!("Look at it with `{}`", look(&identity)));
    }
    if let Some(folder) = opened.created_folder.filter(|_| is_new) {
        log.warn(created_folder(location, &folder));
    }
    render::log_outcome(log, &outcome);
    let settled = store.settle(wait)?;
    for message in settled.messages {
        log.info(message);
    }
    render::log_totals(log, schema, &outcome);
    Ok(Initialised { store, outcome, is_new, upkeep: settled.upkeep })
}

/// What was created: the file and its mode, or the tables on a server.
fn created(identity: &DatabaseIdentity) -> String {
    let DatabaseIdentity { location, schema, .. } = identity;
    let tables = schema.expected.tables.len();
    let mode = match identity.backend {
        Backend::Sqlite => fs::metadata(location).ok().map(|found| found.mode() & 0o777),
        Backend::Postgresql => None,
    };
    let mode = mode.map(|mode| format!(", mode {mode:04o}")).unwrap_or_default();
    format!("{location} ({tables} tables{mode})")
}

/// The command that shows it.
fn look(identity: &DatabaseIdentity) -> String {
    let command = invocation::command();
    match identity.backend {
        Backend::Sqlite => {
            format!("{command} --db {} status", word(Path::new(&identity.location)))
        }
        Backend::Postgresql => format!("{command} status"),
    }
}

/// The warning about a new database in a new folder: the path may be wrong, or a disk not mounted.
fn created_folder(location: &str, folder: &Path) -> String {
    let text = format!(
        "{location} is a new, empty database, and its folder {} did not exist either and was created; if there should be one, stop cts, and correct the path or mount the disk",
        folder.display()
    );
    match fs::metadata(folder).map(|found| found.uid()) {
        Ok(0) => format!(
            "{text}. They belong to root: a service that runs as another user cannot use them before `chown -R cts: {}`, with the name of that user",
            word(folder)
        ),
        _ => text,
    }
}
