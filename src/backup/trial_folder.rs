//! The folder that a backup is restored into for a trial. It is locked as long as its process lives, so that the next trial
//! removes those of processes that were killed, and no other.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process;

use rustix::fs::{FlockOperation, flock};

use super::failure::failed;
use crate::error::Result;

/// What the name of such a folder begins with; the id of a process and a number follow.
const PREFIX: &str = "cts-drill-";
/// The mode of such a folder: what is in it holds keys of exchanges.
const MODE: u32 = 0o700;

/// A folder for a trial. Dropping it removes it with all that is in it.
pub struct TrialFolder {
    path: PathBuf,
    /// Holds the lock.
    _locked: File,
}

impl TrialFolder {
    /// Creates one in a folder, and removes there what killed processes have left.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn create(above: &Path) -> Result<TrialFolder> {
        remove_abandoned(above);
        for number in 1_u32.. {
            let path = above.join(format!("{PREFIX}{}-{number}", process::id()));
            match TrialFolder::try_create(&path) {
                Ok(Some(folder)) => return Ok(folder),
                Ok(None) => {}
                Err(e) => return Err(failed(&path, "the folder cannot be created", &e)),
            }
        }
        Err(failed(above, "no folder can be created", &ErrorKind::AlreadyExists.into()))
    }

    /// `None` where the name is taken.
    fn try_create(path: &Path) -> io::Result<Option<TrialFolder>> {
        match DirBuilder::new().mode(MODE).create(path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok(None),
            created => created?,
        }
        // Between the two calls another process may have taken it for one that was left, and be removing it.
        let locked = File::open(path).and_then(|folder| {
            flock(&folder, FlockOperation::NonBlockingLockExclusive)?;
            fs::metadata(path).map(|_| folder)
        });
        Ok(locked.ok().map(|locked| TrialFolder { path: path.to_path_buf(), _locked: locked }))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TrialFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes the folders of trials whose process has ended. What cannot be removed stays.
pub fn remove_abandoned(above: &Path) {
    for entry in fs::read_dir(above).into_iter().flatten().flatten() {
        let is_folder = entry.file_type().is_ok_and(|found| found.is_dir());
        if !is_folder || !entry.file_name().to_str().is_some_and(is_trial_name) {
            continue;
        }
        let Ok(folder) = File::open(entry.path()) else { continue };
        if flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn is_trial_name(name: &str) -> bool {
    let numbers = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-'));
    let is_number = |text: &str| text.parse::<u32>().is_ok();
    numbers.is_some_and(|(process, number)| is_number(process) && is_number(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_a_process_that_has_ended_is_removed_and_no_other() {
        let above = tempfile::TempDir::new().unwrap();
        let path = |name: &str| above.path().join(name);
        for name in ["cts-drill-1-1", "cts-drill-mine", "cts-drill-1-1.db", "backups"] {
            fs::create_dir(path(name)).unwrap();
            fs::write(path(name).join("file"), "x").unwrap();
        }
        let first = TrialFolder::create(above.path()).unwrap();
        let second = TrialFolder::create(above.path()).unwrap();
        fs::write(second.path().join("cts.db"), "x").unwrap();
        assert!(!path("cts-drill-1-1").exists());
        let mine = second.path().to_path_buf();
        drop(second);
        assert!(!mine.exists() && first.path().exists());
        for name in ["cts-drill-mine", "cts-drill-1-1.db", "backups"] {
            assert!(path(name).join("file").exists(), "{name}");
        }
    }
}
