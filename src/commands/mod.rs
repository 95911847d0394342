//! The commands, one file each: what they print, log and return as an exit code.

pub mod accept;
pub mod backup;
pub mod backups;
pub mod check;
mod drift;
pub mod migrate;
pub mod repair;
pub mod status;
pub mod verify;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::config::{Config, notices};
use crate::error::Result;
use crate::migrate::progress::{ProgressReporter, log_wait};
use crate::store::{OpenDatabase, Progress, WaitPolicy, WaitReason};
use crate::system::log::Log;
use crate::system::signals::stop_flag;

/// Opens an existing database read-only, waiting at most `timeout` for a lock on all of it; `None`
/// where it does not exist.
fn open_read_only(config: &Config, timeout: Duration) -> Result<Option<Box<dyn OpenDatabase>>> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let wait = WaitPolicy::silent(timeout, &cancelled);
    let wait = if timeout == config.lock_timeout { wait.configured() } else { wait };
    let opened = config.database.open_read_only(&wait)?;
    Ok(opened.database.filter(|_| opened.has_tables))
}

/// Logs what an operator should know of the settings of this run.
pub fn log_notices(config: &Config, log: Log) {
    for notice in notices(config) {
        match notice.is_warning {
            true => log.warn(notice.text),
            false => log.info(notice.text),
        }
    }
}

/// Runs `work` with a wait policy that is cancelled by the first request to stop.
fn interruptible<T>(
    config: &Config,
    log: Log,
    work: impl FnOnce(&WaitPolicy<'_>) -> Result<T>,
) -> Result<T> {
    let cancelled = stop_flag(log)?;
    let on_wait = |wait: &WaitReason, waited| drop(log_wait(log, wait, waited));
    let reporter = ProgressReporter::new(log);
    let on_progress = |progress: Progress<'_>| drop(reporter.report(progress));
    work(&WaitPolicy {
        timeout: Some(config.lock_timeout),
        is_configured: true,
        cancelled: &cancelled,
        on_wait: &on_wait,
        on_progress: &on_progress,
    })
}
