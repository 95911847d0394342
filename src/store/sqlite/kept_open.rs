//! Files of a database that are opened beside SQLite and never closed: to close a descriptor of one would release the locks that
//! SQLite holds on it in this process (sqlite.org/howtocorrupt.html, 2.2). Each is opened once, however often it is asked for.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::file::FileIdentity;
use crate::system::file_handle::open_regular;

static KEPT: Mutex<Vec<(FileIdentity, &'static File)>> = Mutex::new(Vec::new());

/// Opens a file to read it, or returns it as it was opened before.
///
/// # Errors
/// It cannot be opened, or is not a regular file.
pub fn keep_open(path: &Path) -> io::Result<&'static File> {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    // One that is kept open keeps its inode, so that no other file has it.
    let present = FileIdentity::read(path)?;
    if let Some((_, file)) = kept.iter().find(|(known, _)| Some(*known) == present) {
        return Ok(file);
    }
    let file: &'static File =
        Box::leak(Box::new(open_regular(path, OpenOptions::new().read(true))?));
    let found = file.metadata()?;
    kept.push((FileIdentity { device: found.dev(), inode: found.ino() }, file));
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_opened_once_and_another_at_its_path_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cts.db");
        assert!(keep_open(&path).is_err());
        std::fs::write(&path, "one").unwrap();
        let first = keep_open(&path).unwrap();
        assert!(std::ptr::eq(first, keep_open(&path).unwrap()));
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "another").unwrap();
        let second = keep_open(&path).unwrap();
        assert!(!std::ptr::eq(first, second) && second.metadata().unwrap().len() == 7);
    }
}
