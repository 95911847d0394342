//! `cts backup`.

use std::path::Path;
use std::time::Duration;

use super::interruptible;
use crate::backup::{BackupFolder, BackupTarget, MadeBackup, follow_up, lock, make_locked};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::system::log::Log;

/// Makes a backup: into this file, or into the folder of backups.
///
/// # Errors
/// Why none could be made. Nothing is left behind then.
pub fn run(config: &Config, log: Log, file: Option<&Path>, compress: bool) -> Result<u8> {
    let folder = config.backups.folder.as_deref().map(BackupFolder::at);
    let (target, is_kept_by_rules) = match (file, &folder) {
        (Some(file), _) => (BackupTarget::File(file), false),
        (None, Some(folder)) => (BackupTarget::Folder(folder), true),
        (None, None) => return Err(no_folder()),
    };
    // The setting is that of the folder.
    let compress = compress || (file.is_none() && config.backups.compress);
    interruptible(config.lock_timeout, log, |wait| {
        let lock = lock(&*config.database, wait)?;
        let subject = config.database.backup_subject(wait)?;
        let MadeBackup { backup, copy_time, proof_time, notes } =
            make_locked(&*config.database, &lock, subject, target, compress, wait)?;
        notes.iter().for_each(|note| log.info(note));
        log.info(format_args!(
            "✓ {}, copied in {}, proved in {}",
            backup.summary(),
            in_ms(copy_time),
            in_ms(proof_time)
        ));
        if is_kept_by_rules {
            let deletions = follow_up(&*config.database, &config.backups, &backup, &lock, wait)?;
            if !deletions.deleted.is_empty() {
                log.info(deletions.summary(config.backups.keep));
            }
            deletions.failures.iter().for_each(|error| log.warn(error));
        }
        Ok(0)
    })
}

/// The error of a command that needs the folder of backups, where there is none.
pub fn no_folder() -> Error {
    Error::new(Kind::Config, "no folder of backups is set")
        .remedy("set CTS_BACKUP_DIR, or name a file (`cts backup FILE`)")
}

fn in_ms(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}
