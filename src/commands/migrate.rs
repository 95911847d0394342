//! `cts migrate` and its dry run.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::interruptible;
use crate::config::{Config, warn_of_other_databases};
use crate::error::{Kind, Result};
use crate::migrate::render::{plan_json, plan_text};
use crate::migrate::{Task, initialise, plan, plan_new};
use crate::store::WaitPolicy;
use crate::system::log::Log;
use crate::system::output::{print_json, print_lines};

/// Brings the schema up to date.
///
/// # Errors
/// With why that failed; the error says what state is left.
pub fn run(config: &Config, log: Log) -> Result<u8> {
    let backend = config.database.identity().backend;
    log.info(format_args!("Database Type: {}", backend.name().to_uppercase()));
    interruptible(config.lock_timeout, log, |wait| {
        let ready = initialise(&*config.database, log, wait, Task::Migrate)?;
        ready.store.close()?;
        if ready.is_new {
            warn_of_other_databases(config, log);
        }
        ready.outcome.refuse_missing_rights()?;
        Ok(0)
    })
}

/// Prints the steps that a run would execute. Nothing is changed.
///
/// # Errors
/// The error that a run would end with, as far as it shows beforehand: rights and room are proved too.
pub fn dry_run(config: &Config, as_json: bool) -> Result<u8> {
    let identity = config.database.identity();
    let cancelled = Arc::new(AtomicBool::new(false));
    let wait = WaitPolicy::silent(config.lock_timeout, &cancelled).configured();
    let opened = config.database.open_read_only(&wait)?;
    let exists = opened.has_tables;
    let plan = match opened.database {
        Some(mut database) => plan(&mut *database)?,
        None => plan_new(&identity)?,
    };
    config.database.prove_writable()?;
    match as_json {
        true => print_json(&plan_json(&identity, exists, &plan)),
        false => print_lines(&plan_text(&identity, exists, &plan)),
    }?;
    // A run does the rest and ends with the same.
    let mut blocked = plan.steps.iter().filter_map(|step| step.blocked.as_ref());
    let refused = blocked.find(|error| error.kind == Kind::Permission);
    Ok(refused.map_or(0, |error| error.kind.exit_code()))
}
