//! Which databases this process keeps open for writing. To open and close such a file other than with SQLite would release
//! the locks that SQLite holds on it in this process (sqlite.org/howtocorrupt.html, 2.2).

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::file::FileIdentity;

static OPEN: Mutex<Vec<FileIdentity>> = Mutex::new(Vec::new());

fn open() -> MutexGuard<'static, Vec<FileIdentity>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes that this process has a database open, for as long as it exists.
pub struct OpenHere(FileIdentity);

impl OpenHere {
    /// Notes it of the file at the path.
    pub fn note(path: &Path) -> Option<OpenHere> {
        let file = FileIdentity::of(path)?;
        open().push(file);
        Some(OpenHere(file))
    }
}

impl Drop for OpenHere {
    fn drop(&mut self) {
        let mut open = open();
        if let Some(at) = open.iter().position(|file| *file == self.0) {
            open.swap_remove(at);
        }
    }
}

/// Whether this process has the file at the path open for writing.
pub fn is_open_here(path: &Path) -> bool {
    FileIdentity::of(path).is_some_and(|file| open().contains(&file))
}
