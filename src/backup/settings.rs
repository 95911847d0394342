//! What is configured of backups.

use std::path::PathBuf;
use std::time::Duration;

use super::KeepRules;

/// What is configured of backups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupSettings {
    /// The folder that holds them (`CTS_BACKUP_DIR`); `None` where none is set and the store has no folder by default.
    pub folder: Option<PathBuf>,
    /// How often the service makes one (`CTS_BACKUP_EVERY`); `None` if it makes none.
    pub every: Option<Duration>,
    /// Which of them are kept (`CTS_BACKUP_KEEP`).
    pub keep: KeepRules,
    /// Whether those of the folder are compressed (`CTS_BACKUP_COMPRESS`).
    pub compress: bool,
}
