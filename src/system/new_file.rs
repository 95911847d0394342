//! Creates files and folders with their modes and owners. What root creates in the folder of another user belongs to
//! that user, so that the service that runs as that user can use it.

use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use rustix::process::geteuid;

use crate::system::file_handle::{FileHandle, open_regular};
use crate::system::users;

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
    let folder = FileHandle::open_folder(path.parent().unwrap_or(Path::new("/")))
        .and_then(|folder| folder.metadata());
    let owner = NewOwner::in_folder(&folder.ok()?)?;
    Some(owner.note(&fchown(file, Some(owner.uid), Some(owner.gid))))
}

/// Creates a file that does not exist, with this mode whatever the umask is, and opens it for reading and writing.
/// Returns it with what to tell about its owner, if it was given to another.
///
/// # Errors
/// It exists, or cannot be created; a file whose mode could not be set stays.
pub fn create_file(path: &Path, mode: u32) -> io::Result<(File, Option<String>)> {
    let mut options = OpenOptions::new();
    let file =
        open_regular(path, options.read(true).write(true).create_new(true).mode(mode & 0o600))?;
    complete_file_mode(&file, mode)?;
    let note = give_to_folder_owner(&file, path);
    Ok((file, note))
}

/// Sets the bits of the mode of a new file beyond those of its owner, which the umask may have removed.
///
/// # Errors
/// The mode cannot be set. The file stays.
pub fn complete_file_mode(file: &File, mode: u32) -> io::Result<()> {
    if mode == 0o600 { Ok(()) } else { file.set_permissions(Permissions::from_mode(mode)) }
}

/// Creates folders with this mode, the first in an existing one and each other in the one before it, whatever is put
/// at their paths meanwhile. Returns the lines for the log about owners.
///
/// # Errors
/// One cannot be created. Those before it were.
pub fn create_folders(
    existing: &Path,
    names: impl Iterator<Item = OsString>,
    mode: u32,
) -> io::Result<Vec<String>> {
    let (mut path, mut above) = (existing.to_path_buf(), FileHandle::open_folder(existing)?);
    let mut lines = Vec::new();
    for name in names {
        path.push(&name);
        above = match above.create_folder(&name, mode & 0o777)? {
            Some(created) => {
                if let Some(owner) = NewOwner::in_folder(&above.metadata()?) {
                    let note = owner.note(&created.set_owner(owner.uid, owner.gid));
                    lines.push(format!("{}: {note}", path.display()));
                }
                complete_folder_mode(&created, mode)?;
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
fn complete_folder_mode(folder: &FileHandle, wanted: u32) -> io::Result<()> {
    let present = folder.metadata()?.permissions().mode() & 0o7777;
    if present == wanted {
        return Ok(());
    }
    let without_setgid = wanted & 0o777;
    folder.set_mode(wanted).or_else(|e| {
        if present & 0o777 == without_setgid {
            Ok(())
        } else {
            folder.set_mode(without_setgid).or(Err(e))
        }
    })
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
