//! The modes of the database file, its side files and its folder: for the owner only, or with `CTS_GROUP_ACCESS` for
//! the group too.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::file::{folder_of, side_file};
use super::file_error::cannot_create;
use crate::error::Result;
use crate::system::file_handle::FileHandle;
use crate::system::new_file;

/// The mode of the database file. SQLite gives its side files the same.
pub fn file_mode(group: bool) -> u32 {
    if group { 0o660 } else { 0o600 }
}

/// The mode of the folder. With `group`, new files in it belong to its group (setgid).
pub fn folder_mode(group: bool) -> u32 {
    if group { 0o2770 } else { 0o700 }
}

/// Creates the folder of the database, and those above it, with its [`folder_mode`], if they do not exist.
/// Returns the lines for the log about owners.
///
/// # Errors
/// A folder cannot be created. Those above it may have been.
pub fn create_folder(path: &Path, group: bool) -> Result<Vec<String>> {
    let folder = folder_of(path);
    let mut missing: Vec<OsString> = Vec::new();
    let mut existing = folder;
    while !existing.exists() {
        let (Some(name), Some(above)) = (existing.file_name(), existing.parent()) else { break };
        missing.push(name.to_owned());
        existing = above;
    }
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    new_file::create_folders(existing, missing.into_iter().rev(), folder_mode(group))
        .map_err(|e| cannot_create(path, &format!("the folder {}", folder.display()), &e))
}

/// Creates the empty database file with its [`file_mode`], and its folder, if they do not exist. Returns
/// the lines for the log about owners.
///
/// # Errors
/// The folder or the file cannot be created. The folder may have been.
pub fn create_file(path: &Path, group: bool) -> Result<Vec<String>> {
    let mut lines = create_folder(path, group)?;
    match create_new(path, group) {
        Ok((_, note)) => lines.extend(note.map(|note| format!("{}: {note}", path.display()))),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
        Err(e) => return Err(cannot_create(path, "the file", &e)),
    }
    Ok(lines)
}

/// Creates a file that does not exist, with its [`file_mode`], and opens it for writing. Returns it with
/// what to tell about its owner, if it was given to another.
///
/// # Errors
/// It exists, or cannot be created; a file whose mode could not be set stays.
pub fn create_new(path: &Path, group: bool) -> io::Result<(File, Option<String>)> {
    new_file::create_file(path, file_mode(group))
}

/// Sets the modes of a database of CTS and its side files if they permit more than [`file_mode`]
/// or, with `group`, anything else. Returns a line for the log for each such file.
pub fn correct_modes(path: &Path, group: bool) -> Vec<String> {
    let files = [path.to_path_buf(), side_file(path, "-wal"), side_file(path, "-shm")];
    files.iter().filter_map(|file| correct_mode(file, group)).collect()
}

/// Sets the mode of the regular file at the path, through a handle: a link that another user puts there
/// meanwhile is not followed. Returns a line for the log if the mode was another.
fn correct_mode(path: &Path, group: bool) -> Option<String> {
    let handle = FileHandle::open(path).ok()?;
    let found = handle.metadata().ok().filter(Metadata::is_file)?;
    let (allowed, mode) = (file_mode(group), found.permissions().mode() & 0o777);
    if if group { mode == allowed } else { mode & !allowed == 0 } {
        return None;
    }
    let shown = path.display();
    let set = match FileHandle::open_folder(folder_of(path)).and_then(|folder| folder.metadata()) {
        Ok(folder) if is_of_others(&found, &folder) => {
            Err(io::Error::other("it has another name too, and is not of the owner of its folder"))
        }
        _ => handle.set_mode(allowed),
    };
    Some(match set {
        Ok(()) => format!("{shown}: mode {mode:04o} changed to {allowed:04o}"),
        Err(e) => {
            format!("{shown}: mode {mode:04o} should be {allowed:04o}, and cannot be changed: {e}")
        }
    })
}

/// Whether the owner of the folder may have given this name to a file that is not theirs (link(2)).
fn is_of_others(file: &Metadata, folder: &Metadata) -> bool {
    file.nlink() > 1 && folder.uid() != 0 && file.uid() != folder.uid()
}
