//! A rollback journal that a killed program or a power failure has left. SQLite rolls it back when it
//! opens the database, as far as the checksums in the journal are right, and says nothing if that is not
//! to its end. So the journal is kept under another name until the database is proved.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::at_rest::is_locked;
use super::damage::structural_damage;
use super::error::from_sqlite;
use super::file::{journal_pages, side_file};
use super::file_error::cannot_write;
use crate::error::{Cause, Error, Kind, Result};
use crate::store::{ProofDepth, WaitPolicy};

/// The name of the kept journal: that of the database with this behind it.
const UNPROVED: &str = "-journal.unproved";

fn kept(path: &Path) -> PathBuf {
    side_file(path, UNPROVED)
}

/// Keeps the journal that opening the database would roll back, as a second name of the same file.
///
/// # Errors
/// It cannot be kept. Nothing was rolled back.
pub fn keep(path: &Path) -> Result<()> {
    if journal_pages(path)?.is_none() || is_locked(path) == Some(true) {
        return Ok(());
    }
    let (journal, kept) = (side_file(path, "-journal"), kept(path));
    match fs::hard_link(&journal, &kept) {
        Ok(()) => Ok(()),
        // Another process rolls it back, or one was killed while it did.
        Err(e) if matches!(e.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) => Ok(()),
        // A file system without such names.
        Err(_) => copy(&journal, &kept).map_err(|e| cannot_write(&kept, None, &e)),
    }
}

fn copy(journal: &Path, kept: &Path) -> io::Result<()> {
    let copied = fs::copy(journal, kept).map(|_| ());
    if copied.is_err() {
        let _ = fs::remove_file(kept);
    }
    copied
}

/// Forgets a kept journal.
pub fn forget(path: &Path) {
    let kept = kept(path);
    if kept.exists() {
        // If that fails, the next opening checks the database once more.
        let _ = fs::remove_file(kept);
    }
}

/// Checks a database whose journal was rolled back and that was not proved since.
///
/// # Errors
/// [`Kind::Data`] if it is damaged, or the check cannot be completed. The journal stays kept, so that the
/// next opening checks again.
pub fn prove(conn: &mut Connection, path: &Path, wait: &WaitPolicy<'_>) -> Result<()> {
    let kept = kept(path);
    if !kept.exists() {
        return Ok(());
    }
    let what = format!("the check of {}, whose last transaction was rolled back", path.display());
    let damage =
        // The connection itself moves to the thread: a shared reference to it cannot.
        wait.while_working(&what, move || {
            let conn: &mut Connection = conn;
            structural_damage(conn, ProofDepth::Everything).map_err(|e| from_sqlite(path, &e))
        })?;
    let Some(line) = damage.first() else { return Ok(()) };
    let what = format!(
        "is damaged: its last transaction was interrupted, and its journal could not be rolled back whole ({line})"
    );
    Err(Error::new(Kind::Data, what)
        .at(path.display())
        .caused_by(Cause::Damage)
        .note(format!("the journal is kept as {}", kept.display()))
        .remedy(format!(
            "stop the trading programs, keep a copy of the file and of the journal, and restore a backup; remove {0}-wal, {0}-shm and {0}-journal first if they are there",
            path.display()
        )))
}

/// As [`prove`], and removes the journal of a sound database.
///
/// # Errors
/// As [`prove`].
pub fn prove_and_forget(conn: &mut Connection, path: &Path, wait: &WaitPolicy<'_>) -> Result<()> {
    prove(conn, path, wait).map(|()| forget(path))
}
