//! The settings of backups.

use std::time::Duration;

use crate::backup::{BackupSettings, EXPECTED_RULES, KeepRules};
use crate::config::environment::{EnvironmentReader, invalid};
use crate::config::setting::{SettingSource, Sourced};
use crate::config::{DEFAULT_BACKUP_EVERY, DEFAULT_BACKUP_KEEP};
use crate::error::Result;
use crate::store::Database;

/// The shortest interval between two backups.
const INTERVAL_MIN: Duration = Duration::from_secs(1);

/// CTS_BACKUP_DIR, CTS_BACKUP_EVERY, CTS_BACKUP_KEEP and CTS_BACKUP_COMPRESS.
///
/// # Errors
///
/// [`Kind::Config`](crate::error::Kind::Config), with the name of the variable.
pub fn backups(env: &EnvironmentReader<'_>, database: &dyn Database) -> Result<BackupSettings> {
    let set = env.path("CTS_BACKUP_DIR")?;
    // A server has backups of its own: cts makes them only where it is told to.
    let is_automatic = database.default_backup_folder().is_some() || env.is_set("CTS_BACKUP_EVERY");
    let folder = match set.or_else(|| database.default_backup_folder()) {
        Some(_) if env.is_set("CTS_BACKUP_DIR") => env
            .path("CTS_BACKUP_DIR")?
            .map(|value| Sourced { value, source: SettingSource::Environment }),
        Some(value) => Some(Sourced { value, source: SettingSource::Default }),
        None => None,
    };
    if let Some(folder) = &folder {
        env.record("CTS_BACKUP_DIR", folder.source, folder.value.display());
    }
    let every = env.duration("CTS_BACKUP_EVERY", DEFAULT_BACKUP_EVERY)?;
    if !every.is_zero() && every < INTERVAL_MIN {
        return Err(invalid(
            "CTS_BACKUP_EVERY",
            &format!("{every:?}"),
            "0 or a duration of at least 1s",
        ));
    }
    let every = Some(every).filter(|every| !every.is_zero() && is_automatic);
    let text = env.text("CTS_BACKUP_KEEP")?;
    let source = if text.is_some() { SettingSource::Environment } else { SettingSource::Default };
    let text = text.unwrap_or_else(|| DEFAULT_BACKUP_KEEP.into());
    let keep: KeepRules =
        text.parse().map_err(|()| invalid("CTS_BACKUP_KEEP", &text, EXPECTED_RULES))?;
    env.record("CTS_BACKUP_KEEP", source, keep);
    let compress = env.switch("CTS_BACKUP_COMPRESS")?;
    Ok(BackupSettings { folder: folder.map(|folder| folder.value), every, keep, compress })
}
