//! The commands, one file each: what they print, log and return as an exit code.

pub mod accept;
pub mod backup;
pub mod backups;
pub mod check;
pub mod compact;
pub mod copy;
mod drift;
pub mod migrate;
pub mod prune;
pub mod ready;
pub mod repair;
pub mod restore;
pub mod stats;
pub mod status;
pub mod verify;
pub mod verify_backup;
pub mod verify_statistics;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime};

use crate::archive::ArchiveStatus;
use crate::backup::{BackupFolder, BackupInspection, Clocks, Inspector, InventoryTask};
use crate::config::{Config, notices};
use crate::error::Result;
use crate::store::{OpenDatabase, Progress, WaitPolicy, WaitReason};
use crate::system::deadline::BackgroundTask;
use crate::system::log::Log;
use crate::system::progress::{ProgressReporter, log_wait};
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

/// How long the folder of backups, or that of the archive, is read, from the start of a command.
const FOLDER_TIMEOUT: Duration = Duration::from_secs(2);

/// The backups, which are inspected on a thread of their own while a command examines the database.
struct BackupsReading {
    folder: Option<(BackupFolder, Result<InventoryTask>)>,
    deadline: Instant,
}

impl BackupsReading {
    /// Begins to read their folder.
    fn start(config: &Config) -> BackupsReading {
        let folder = config.backups.folder.as_deref().map(BackupFolder::at);
        let folder = folder.map(|folder| {
            let task = folder.read_inventory(&config.database.identity());
            (folder, task)
        });
        BackupsReading { folder, deadline: Instant::now() + FOLDER_TIMEOUT }
    }

    /// What was seen by now, or within 2 s of the start.
    fn end(self, config: &Config) -> BackupInspection {
        let found = self.folder.map(|(folder, task)| {
            let unanswered = |_| Err(folder.unanswered(FOLDER_TIMEOUT));
            task.and_then(|task| task.until(self.deadline).unwrap_or_else(unanswered))
        });
        let clocks = Clocks { wall: SystemTime::now(), steady: None };
        let settings = config.backups.clone();
        BackupInspection { settings, found, clocks, inspector: Inspector::Command }
    }
}

/// How the archive is doing, which is read on a thread of its own while a command examines the database.
struct ArchiveReading {
    folder: Option<(PathBuf, BackgroundTask<ArchiveStatus>)>,
    deadline: Instant,
}

impl ArchiveReading {
    /// Begins to read what the service has written there.
    ///
    /// # Errors
    /// The thread cannot be started.
    fn start(config: &Config) -> Result<ArchiveReading> {
        let folder = config.archive.as_ref().map(|archive| archive.folder.clone());
        let read = |folder: PathBuf| {
            let reading = folder.clone();
            BackgroundTask::start("archive", move || ArchiveStatus::read(&reading))
                .map(|task| (folder, task))
        };
        Ok(ArchiveReading {
            folder: folder.map(read).transpose()?,
            deadline: Instant::now() + FOLDER_TIMEOUT,
        })
    }

    /// What was read by now, or within 2 s of the start.
    fn end(self) -> Option<ArchiveStatus> {
        let (folder, task) = self.folder?;
        let unanswered = |_| {
            let what = format!(
                "{}: no answer within {} s. Try: check its disk and its mount (`dmesg`, `findmnt`)",
                folder.display(),
                FOLDER_TIMEOUT.as_secs()
            );
            ArchiveStatus::unread(&folder, what)
        };
        Some(task.until(self.deadline).unwrap_or_else(unanswered))
    }
}

/// Logs what an operator should know of the settings of this run.
pub fn log_notices(config: &Config, log: Log) {
    notices(config).into_iter().for_each(|notice| log.warn(notice));
}

/// Runs `work` with a wait policy that waits so long for the migration lock, and is cancelled by the first request to
/// stop.
fn interruptible<T>(
    lock_timeout: Duration,
    log: Log,
    work: impl FnOnce(&WaitPolicy<'_>) -> Result<T>,
) -> Result<T> {
    let cancelled = stop_flag(log)?;
    let on_wait = |wait: &WaitReason, waited| drop(log_wait(log, wait, waited));
    let reporter = ProgressReporter::new(log);
    let on_progress =
        |Progress { work, amount }: Progress<'_>| drop(reporter.report(&work, amount));
    work(&WaitPolicy {
        timeout: Some(lock_timeout),
        is_configured: true,
        cancelled: &cancelled,
        on_wait: &on_wait,
        on_progress: &on_progress,
    })
}
