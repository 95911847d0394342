//! `cts backups`.

use serde_json::json;

use super::backup::no_folder;
use crate::backup::{BackupFolder, StoredBackup};
use crate::config::Config;
use crate::error::Result;
use crate::system::output::{print_json, print_lines};
use crate::system::visible::Lines;

/// Lists the backups, the newest first.
///
/// # Errors
/// If their folder cannot be read.
pub fn run(config: &Config, as_json: bool) -> Result<u8> {
    let folder = config.backups.folder.as_deref().ok_or_else(no_folder)?;
    let mut backups = BackupFolder::at(folder).list()?;
    backups.reverse();
    match as_json {
        true => {
            print_json(&json!(backups.iter().map(|b| &b.manifest).collect::<Vec<_>>()).to_string())
        }
        false => print_lines(&text(&backups)),
    }?;
    Ok(0)
}

fn text(backups: &[StoredBackup]) -> Lines {
    let mut lines = Lines::new();
    for StoredBackup { path, manifest } in backups {
        let size_kib = manifest.size_bytes >> 10;
        lines.add(format_args!("{}  {}  {size_kib} KiB", path.display(), manifest.made_at));
    }
    if backups.is_empty() {
        lines.add("there is no backup");
    }
    lines
}
