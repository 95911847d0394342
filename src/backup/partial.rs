//! Files that are being written: each has the name that it will be given with `.partial` behind it, and is locked by the
//! process that writes it, so that what a killed process has left can be told from what another one writes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, linkat, renameat_with};
use rustix::io::Errno;

use super::name::{DIGEST, MANIFEST, PARTIAL, PLAIN, beside, is_backup_name};
use crate::system::file_handle::open_regular;
use crate::system::new_file::create_file;

/// The mode of every file of a backup: they hold keys of exchanges.
const FILE_MODE: u32 = 0o600;
/// How often a file is created anew that another process takes for one that was left.
const ATTEMPTS: usize = 8;

/// A file that is not complete. Dropped before it is given its name, it is removed.
pub struct PartialFile {
    path: PathBuf,
    file: File,
    /// What to tell about its owner, if it was given to another user.
    pub note: Option<String>,
    is_complete: bool,
}

impl PartialFile {
    /// Creates it, empty, for a file that will have the name `complete`. One that a killed process has left is removed.
    ///
    /// # Errors
    /// It cannot be created; [`ErrorKind::ResourceBusy`] where another process writes it.
    pub fn create(complete: &Path) -> io::Result<PartialFile> {
        let path = beside(complete, PARTIAL);
        for _ in 0..ATTEMPTS {
            match create_file(&path, FILE_MODE) {
                Ok((file, note)) => {
                    let created =
                        PartialFile { path: path.clone(), file, note, is_complete: false };
                    // Another process may have taken it for one that was left, before it was locked.
                    if lock(&created.file) != Lock::Foreign && created.is_in_place() {
                        return Ok(created);
                    }
                }
                Err(e) if e.kind() == ErrorKind::AlreadyExists => match open_abandoned(&path)? {
                    Some(left) => left.remove(),
                    None if fs::symlink_metadata(&path).is_err() => {}
                    None => return Err(ErrorKind::ResourceBusy.into()),
                },
                Err(e) => return Err(e),
            }
        }
        Err(ErrorKind::ResourceBusy.into())
    }

    /// Its path, as long as it is not complete.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    fn remove(mut self) {
        self.is_complete = false;
    }

    fn is_in_place(&self) -> bool {
        let identity = |found: fs::Metadata| (found.dev(), found.ino());
        let opened = self.file.metadata().map(identity).ok();
        opened.is_some() && fs::symlink_metadata(&self.path).map(identity).ok() == opened
    }

    /// Gives it a name that no file has.
    ///
    /// # Errors
    /// A file has it ([`ErrorKind::AlreadyExists`]), or it cannot be renamed. It is removed then.
    pub fn publish(mut self, complete: &Path) -> io::Result<()> {
        let renamed = renameat_with(CWD, &self.path, CWD, complete, RenameFlags::NOREPLACE);
        match renamed {
            Ok(()) => {}
            // A file system that does not know this flag, such as NFS.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => self.link(complete)?,
            Err(e) => return Err(e.into()),
        }
        self.is_complete = true;
        Ok(())
    }

    fn link(&self, complete: &Path) -> io::Result<()> {
        match linkat(CWD, &self.path, CWD, complete, rustix::fs::AtFlags::empty()) {
            Ok(()) => fs::remove_file(&self.path),
            Err(Errno::EXIST) => Err(ErrorKind::AlreadyExists.into()),
            // One without links either, such as exFAT.
            Err(_) if fs::symlink_metadata(complete).is_ok() => {
                Err(ErrorKind::AlreadyExists.into())
            }
            Err(_) => fs::rename(&self.path, complete),
        }
    }

    /// Gives it its name, in place of a file that may have it.
    ///
    /// # Errors
    /// It cannot be renamed. It is removed then, and the other file is as it was.
    pub fn replace(mut self, complete: &Path) -> io::Result<()> {
        fs::rename(&self.path, complete)?;
        self.is_complete = true;
        Ok(())
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        if !self.is_complete && self.is_in_place() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Writes a small file, whole or not at all, and syncs it. One that is there is replaced.
///
/// # Errors
/// It cannot be written. The one before is in place then.
pub fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut partial = PartialFile::create(path)?;
    partial.file.write_all(text.as_bytes())?;
    partial.file.sync_all()?;
    partial.replace(path)
}

/// Who has a lock on a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lock {
    Own,
    Foreign,
    /// The file system has no locks.
    Unknown,
}

/// Locks a file until it is closed.
fn lock(file: &File) -> Lock {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Lock::Own,
        Err(Errno::WOULDBLOCK) => Lock::Foreign,
        Err(_) => Lock::Unknown,
    }
}

/// Opens a partial file that a killed process has left. `None` if there is none, or another process writes it.
///
/// # Errors
/// It cannot be opened, or is not one that cts makes ([`ErrorKind::AlreadyExists`]).
fn open_abandoned(path: &Path) -> io::Result<Option<PartialFile>> {
    let file = match open_regular(path, OpenOptions::new().read(true)) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let found = file.metadata()?;
    if found.mode() & 0o777 != FILE_MODE || found.nlink() > 1 {
        return Err(ErrorKind::AlreadyExists.into());
    }
    let left = PartialFile { path: path.into(), file, note: None, is_complete: true };
    Ok((lock(&left.file) == Lock::Own && left.is_in_place()).then_some(left))
}

/// Removes what killed processes have left in a folder of backups: partial files that no process writes, and the companions
/// of those of backups, which never got their name. What cannot be removed stays.
pub fn clean(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let complete = name.to_str().and_then(|name| name.strip_suffix(PARTIAL));
        if let Some(complete) = complete.filter(|name| is_of_backup(name)) {
            clean_one(&folder.join(complete));
        }
    }
}

/// Removes what a killed process has left of one backup, as [`clean`] does.
///
/// The companions go first: as long as the partial file is there, the next run knows whose they are.
pub fn clean_one(complete: &Path) {
    let Ok(Some(left)) = open_abandoned(&beside(complete, PARTIAL)) else { return };
    clean_one(&beside(complete, PLAIN));
    if fs::symlink_metadata(complete).is_err() {
        for ending in [DIGEST, MANIFEST] {
            clean_one(&beside(complete, ending));
            let _ = fs::remove_file(beside(complete, ending));
        }
    }
    left.remove();
}

/// Whether it is the name of a backup, or of a companion of one.
fn is_of_backup(name: &str) -> bool {
    let of = [DIGEST, MANIFEST, PLAIN].iter().find_map(|ending| name.strip_suffix(ending));
    is_backup_name(of.unwrap_or(name))
}
