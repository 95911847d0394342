//! `cts repair`.

use std::time::Duration;

use super::drift::drift_text;
use super::{interruptible, open_read_only};
use crate::config::Config;
use crate::error::Result;
use crate::migrate::outlook::{MissingObject, Outlook};
use crate::migrate::{Initialised, Task, initialise};
use crate::system::log::Log;
use crate::system::output::print_lines;

/// Restores what is missing, rebuilds damaged indexes and enforces the rules that no row violates.
/// The exit code is 0 where no drift is left, else 1; a missing right has its own.
///
/// # Errors
/// Where there is no database, or the repair failed; the error says what state is left.
pub fn run(config: &Config, log: Log) -> Result<u8> {
    if open_read_only(config, Duration::ZERO).is_ok_and(|database| database.is_none()) {
        return Err(config.database.identity().absent_error());
    }
    interruptible(config.lock_timeout, log, |wait| {
        let ready = initialise(&*config.database, log, wait, Task::Repair)?;
        let Initialised { mut store, outcome, .. } = ready;
        let (exceptions, schema) = (store.inspect()?.exceptions, store.identity().schema);
        store.close()?;
        let missing = outcome.not_restored().into_iter().map(|(object, error)| MissingObject {
            object,
            outlook: Outlook::Blocked(Box::new(error)),
        });
        let missing: Vec<MissingObject> = missing.collect();
        print_lines(&drift_text(schema, &outcome.drift, &missing, &exceptions))?;
        outcome.refuse_missing_rights()?;
        Ok(u8::from(!outcome.drift.is_none()))
    })
}
