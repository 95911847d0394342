//! Creates the database file and its folder, and sets their modes and owners: for the owner only, or with
//! `CTS_GROUP_ACCESS` for the group too. What root creates in the folder of another user belongs to that
//! user, so that the service that runs as that user can open it.

use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use rustix::process::geteuid;

use super::file::{folder_of, side_file};
use super::file_error::cannot_create;
use crate::error::Result;
use crate::system::file_handle::{FileHandle, open_regular};
use crate::system::users;

/// The mode of the database file. SQLite gives its side files the same.
pub fn file_mode(group: bool) -> u32 {
    if group { 0o660 } else { 0o600 }
}

/// The mode of the folder. With `group`, new files in it belong to its group (setgid).
pub fn folder_mode(group: bool) -> u32 {
    if group { 0o2770 } else { 0o700 }
}

/// The user and group that a file or folder is given to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewOwner {
    uid: u32,
    gid: u32,
}

impl NewOwner {
    /// The owner of what this process creates in a folder, if that is to be another user than its own: root
    /// gives it to the owner of the folder. `None` if it stays with the user of this process.
    pub fn in_folder(folder: &Metadata) -> Option<NewOwner> {
        NewOwner::by(geteuid().is_root(), folder)
    }

    fn by(is_root: bool, owned: &Metadata) -> Option<NewOwner> {
        (is_root && owned.uid() != 0).then(|| NewOwner { uid: owned.uid(), gid: owned.gid() })
    }

    /// What to tell about a file that was given to it, or could not be.
    fn note(self, given: &io::Result<()>) -> String {
        let owner = users::name(self.uid);
        match given {
            Ok(()) => format!("created by root, and given to {owner}, the owner of its folder"),
            Err(e) => format!(
                "created by root, and cannot be given to {owner}, the owner of its folder, who cannot open it: {e}"
            ),
        }
    }
}

/// Gives a new file to the owner of its folder if root has created it. Returns what to tell about it if so.
///
/// A file system or a user namespace may not allow it; the file stays with root then.
pub fn give_to_folder_owner(file: &File, path: &Path) -> Option<String> {
    let folder = FileHandle::open_folder(folder_of(path)).and_then(|folder| folder.metadata());
    let owner = NewOwner::in_folder(&folder.ok()?)?;
    Some(owner.note(&fchown(file, Some(owner.uid), Some(owner.gid))))
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
    create_folders(existing, missing.into_iter().rev(), group)
        .map_err(|e| cannot_create(path, &format!("the folder {}", folder.display()), &e))
}

/// Creates each folder in the one before it, whatever is put at their paths meanwhile.
fn create_folders(
    existing: &Path,
    names: impl Iterator<Item = OsString>,
    group: bool,
) -> io::Result<Vec<String>> {
    let (mut path, mut above) = (existing.to_path_buf(), FileHandle::open_folder(existing)?);
    let mut lines = Vec::new();
    for name in names {
        path.push(&name);
        above = match above.create_folder(&name, folder_mode(group) & 0o777)? {
            Some(created) => {
                if let Some(owner) = NewOwner::in_folder(&above.metadata()?) {
                    let note = owner.note(&created.set_owner(owner.uid, owner.gid));
                    lines.push(format!("{}: {note}", path.display()));
                }
                complete_folder_mode(&created, group)?;
                created
            }
            // Another process was faster.
            None => above.enter(&name)?,
        };
    }
    Ok(lines)
}

/// Sets the bits of the mode that the umask has removed, and setgid. If this process may not set
/// setgid (`RestrictSUIDSGID=`), it is what the folder has inherited from the one above.
fn complete_folder_mode(folder: &FileHandle, group: bool) -> io::Result<()> {
    let wanted = folder_mode(group);
    let mode = folder.metadata()?.permissions().mode() & 0o7777;
    if mode == wanted {
        return Ok(());
    }
    let without_setgid = wanted & 0o777;
    folder.set_mode(wanted).or_else(|e| {
        if mode & 0o777 == without_setgid {
            Ok(())
        } else {
            folder.set_mode(without_setgid).or(Err(e))
        }
    })
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
    let mut options = OpenOptions::new();
    let file = open_regular(path, options.write(true).create_new(true).mode(file_mode(group)))?;
    complete_file_mode(&file, group)?;
    let note = give_to_folder_owner(&file, path);
    Ok((file, note))
}

/// Sets the group's bits of the mode of a new file, which the umask may have removed.
///
/// # Errors
/// The mode cannot be set. The file stays.
pub fn complete_file_mode(file: &File, group: bool) -> io::Result<()> {
    if group { file.set_permissions(Permissions::from_mode(file_mode(group))) } else { Ok(()) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_gives_what_it_creates_to_the_owner_of_the_folder() {
        let folder = tempfile::TempDir::new().unwrap();
        let owned = folder.path().metadata().unwrap();
        let (uid, gid) = (owned.uid(), owned.gid());
        assert_eq!(NewOwner::by(false, &owned), None);
        assert_eq!(NewOwner::by(true, &owned), (uid != 0).then_some(NewOwner { uid, gid }));
    }
}
