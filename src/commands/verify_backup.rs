//! `cts backup --verify`.

use std::path::{Path, PathBuf};

use super::interruptible;
use crate::backup::{VerifiedBackup, verify};
use crate::config::Config;
use crate::error::Result;
use crate::system::log::Log;
use crate::system::output::print_lines;
use crate::system::visible::Lines;

/// Verifies a backup and restores it for a trial; prints its tables with their rows.
///
/// # Errors
/// Why it is no sound backup, or why that cannot be found out.
pub fn run(config: &Config, log: Log, file: &Path) -> Result<u8> {
    let folder = config.backups.folder.as_deref();
    let file = find(file, folder);
    interruptible(config.lock_timeout, log, |wait| {
        let verified = verify(&*config.database, &file, folder, wait)?;
        print_lines(&text(&verified))?;
        let VerifiedBackup { examined, trial, not_recorded } = &verified;
        for orphans in &trial.content.orphans {
            log.warn(format_args!("{orphans}, as in the database that was copied"));
        }
        if !examined.has_digest {
            log.warn(
                "there is no SHA-256 beside it: a value that was changed since the backup was made is not found",
            );
        }
        if let Some(error) = not_recorded {
            log.warn(error);
        }
        let (path, seconds) = (examined.path.display(), trial.took.as_secs_f64());
        log.info(format_args!("✓ Backup {path} is sound: restored for a trial in {seconds:.2} s"));
        Ok(0)
    })
}

/// The file, or the one of this name in the folder of backups.
fn find(file: &Path, folder: Option<&Path>) -> PathBuf {
    let is_name = file.components().count() == 1 && !file.exists();
    let in_folder = folder.filter(|_| is_name).map(|folder| folder.join(file));
    in_folder.filter(|path| path.exists()).unwrap_or_else(|| file.to_path_buf())
}

fn text(verified: &VerifiedBackup) -> Lines {
    let tables = &verified.trial.content.tables;
    let mut lines = Lines::new();
    for table in tables {
        lines.add(format_args!("{:<28} {:>12}", table.table, table.rows));
    }
    let rows: u64 = tables.iter().map(|table| table.rows).sum();
    let migrations = match verified.trial.content.migrations.last() {
        Some(last) => format!("the last migration is {last}"),
        None => "of an older CTS, which a restore migrates".into(),
    };
    lines.add(format_args!("{} tables with {rows} rows; {migrations}", tables.len()));
    lines
}
