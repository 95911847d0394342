//! Creates the database file and its folder, and sets their modes: for the owner only, or with
//! `CTS_GROUP_ACCESS` for the group too.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::file::{folder_of, side_file};
use super::file_error::cannot_create;
use crate::error::Result;

/// The mode of the database file. SQLite gives its side files the same.
pub fn file_mode(group: bool) -> u32 {
    if group { 0o660 } else { 0o600 }
}

/// The mode of the folder. With `group`, new files in it belong to its group (setgid).
pub fn folder_mode(group: bool) -> u32 {
    if group { 0o2770 } else { 0o700 }
}

/// Creates the folder of the database, with its [`folder_mode`], if it does not exist.
///
/// # Errors
/// A folder cannot be created. Those above it may have been.
pub fn create_folder(path: &Path, group: bool) -> Result<()> {
    let folder = folder_of(path);
    if folder.exists() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(folder_mode(group) & 0o777)
        .create(folder)
        .and_then(|()| complete_folder_mode(folder, group))
        .map_err(|e| cannot_create(path, &format!("the folder {}", folder.display()), &e))
}

/// Sets the bits of the mode that the umask has removed, and setgid. If this process may not set
/// setgid (`RestrictSUIDSGID=`), it is what the folder has inherited from the one above.
fn complete_folder_mode(folder: &Path, group: bool) -> io::Result<()> {
    let wanted = folder_mode(group);
    let set = |mode| fs::set_permissions(folder, Permissions::from_mode(mode));
    let mode = fs::metadata(folder)?.permissions().mode() & 0o7777;
    if mode == wanted {
        return Ok(());
    }
    let without_setgid = wanted & 0o777;
    set(wanted).or_else(|e| {
        if mode & 0o777 == without_setgid { Ok(()) } else { set(without_setgid).or(Err(e)) }
    })
}

/// Creates the empty database file with its [`file_mode`], and its folder, if they do not exist.
///
/// # Errors
/// The folder or the file cannot be created. The folder may have been.
pub fn create_file(path: &Path, group: bool) -> Result<()> {
    create_folder(path, group)?;
    match OpenOptions::new().write(true).create_new(true).mode(file_mode(group)).open(path) {
        Ok(file) => complete_file_mode(&file, path, group),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(cannot_create(path, "the file", &e)),
    }
}

/// Sets the group's bits of the mode of a new file, which the umask may have removed.
///
/// # Errors
/// The mode cannot be set. The file stays.
pub fn complete_file_mode(file: &File, path: &Path, group: bool) -> Result<()> {
    if !group {
        return Ok(());
    }
    file.set_permissions(Permissions::from_mode(file_mode(group)))
        .map_err(|e| cannot_create(path, "the file", &e))
}

/// Sets the modes of a database of CTS and its side files if they permit more than [`file_mode`]
/// or, with `group`, anything else. Returns a line for the log for each such file.
pub fn correct_modes(path: &Path, group: bool) -> Vec<String> {
    let allowed = file_mode(group);
    let mut log_lines = Vec::new();
    for file in [path.to_path_buf(), side_file(path, "-wal"), side_file(path, "-shm")] {
        let Ok(metadata) = fs::metadata(&file) else { continue };
        let mode = metadata.permissions().mode() & 0o777;
        if if group { mode == allowed } else { mode & !allowed == 0 } {
            continue;
        }
        let shown = file.display();
        log_lines.push(match fs::set_permissions(&file, Permissions::from_mode(allowed)) {
            Ok(()) => format!("{shown}: mode {mode:04o} changed to {allowed:04o}"),
            Err(e) => format!(
                "{shown}: mode {mode:04o} should be {allowed:04o}, and cannot be changed: {e}"
            ),
        });
    }
    log_lines
}
