//! The record of a restore that is under way, in a small file beside the database: a restore that was killed leaves it,
//! and it tells the next start which database is in the place, and what is left to clean up.
//!
//! What is in the place follows from the names of files alone, so that the record means the same after the folder was
//! copied to another machine: the prepared database loses its name at the very moment when it takes the place.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::file::{FileIdentity, SIDE_FILES, folder_of, side_file};
use crate::system::new_file::create_file;
use crate::system::small_file::{self, SETTINGS_BYTES_MAX};

/// The form of the file.
const FORMAT: u32 = 1;
/// The mode of the file.
const FILE_MODE: u32 = 0o600;
/// What the name of the record ends with.
const RECORD: &str = ".restore-intent";
/// What the name of a record ends with that is not complete.
const PARTIAL: &str = ".restore-intent.partial";
/// What the name of the database that is prepared ends with.
const PREPARED: &str = ".restoring";
/// The side files that go with a database that is kept. The last one is that of a journal that was rolled back and is not
/// proved yet.
pub const KEPT_SIDE_FILES: [&str; 3] = ["-wal", "-journal", "-journal.unproved"];

/// The record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestoreIntent {
    /// The form of this record.
    pub format: u32,
    /// The backup.
    pub backup: String,
    /// When the restore was begun. RFC 3339, UTC.
    pub begun_at: String,
    /// The process.
    pub pid: u32,
    /// What the prepared database is for.
    #[serde(default)]
    pub purpose: Purpose,
    /// The path where the database before is kept; `None` if there was none.
    pub kept: Option<PathBuf>,
    /// Whether the prepared database was complete, and about to be put in the place.
    pub is_complete: bool,
}

/// What a database is prepared for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// To restore a backup; the database before is kept.
    #[default]
    Restore,
    /// To rebuild the database in a smaller file. The one before is kept only until that has taken its place.
    Compact,
}

/// Which database is in the place after a restore was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InPlace {
    /// The one from before the restore.
    Before,
    /// The restored one.
    Restored,
    /// There was none, and there is none.
    Nothing,
}

/// The path of the record of a restore of this database.
pub fn record_path(path: &Path) -> PathBuf {
    side_file(path, RECORD)
}

/// Whether a restore that is running, or was killed, has left something beside the database.
pub fn is_recorded(path: &Path) -> bool {
    record_path(path).exists() || partial_path(path).exists()
}

fn partial_path(path: &Path) -> PathBuf {
    side_file(path, PARTIAL)
}

/// Removes the record, and one that was not completed.
///
/// # Errors
/// One cannot be removed.
pub fn remove_record(path: &Path) -> io::Result<()> {
    remove_if_there(&partial_path(path))?;
    remove_if_there(&record_path(path))?;
    sync_folder(path)
}

/// The path of the database that is prepared.
pub fn prepared_path(path: &Path) -> PathBuf {
    side_file(path, PREPARED)
}

impl RestoreIntent {
    /// A record of a restore that is begun by this process.
    pub fn new(
        backup: String,
        begun_at: String,
        purpose: Purpose,
        kept: Option<PathBuf>,
    ) -> RestoreIntent {
        let pid = std::process::id();
        RestoreIntent { format: FORMAT, backup, begun_at, pid, purpose, kept, is_complete: false }
    }

    /// The record beside a database; `None` if the file there is none that this cts understands.
    pub fn read(path: &Path) -> Option<RestoreIntent> {
        let text = small_file::read(&record_path(path), SETTINGS_BYTES_MAX).ok()?;
        let intent: RestoreIntent = serde_json::from_slice(&text).ok()?;
        (intent.format == FORMAT).then_some(intent)
    }

    /// Writes it, whole or not at all, and makes that last.
    ///
    /// # Errors
    /// It cannot be written. The one before is in place then.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let (record, partial) = (record_path(path), partial_path(path));
        remove_if_there(&partial)?;
        let text = serde_json::to_string_pretty(self)? + "\n";
        let written = create_file(&partial, FILE_MODE).and_then(|(mut file, _)| {
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&partial, &record)
        });
        written.inspect_err(|_| drop(fs::remove_file(&partial)))?;
        sync_folder(path)
    }

    /// Removes the database from before, where it is not to be kept, once the other one is in the place.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove_replaced(&self) -> io::Result<()> {
        let (Purpose::Compact, Some(kept)) = (self.purpose, &self.kept) else { return Ok(()) };
        for suffix in KEPT_SIDE_FILES {
            remove_if_there(&side_file(kept, suffix))?;
        }
        remove_if_there(kept)
    }

    /// Which database is in the place.
    pub fn in_place(&self, path: &Path) -> InPlace {
        let present = FileIdentity::of(path);
        let is_kept_one = self.kept.as_ref().is_some_and(|kept| {
            // The name under which it is kept is given to it before the other one takes its place.
            present.is_some() && FileIdentity::of(kept) == present
        });
        let was_put = self.is_complete && !prepared_path(path).exists() && !is_kept_one;
        match (present, was_put) {
            (None, _) => InPlace::Nothing,
            (Some(_), true) => InPlace::Restored,
            (Some(_), false) => InPlace::Before,
        }
    }
}

/// Removes the prepared database, with what SQLite and an adoption have made beside it.
///
/// # Errors
/// One of the files cannot be removed.
pub fn remove_prepared(path: &Path) -> io::Result<()> {
    let prepared = prepared_path(path);
    remove_if_there(&prepared)?;
    for suffix in SIDE_FILES.iter().chain(&["-journal.unproved"]) {
        remove_if_there(&side_file(&prepared, suffix))?;
    }
    remove_copies_of_prepared(path)
}

/// Removes the copy that an adoption of the prepared database has made of it: it is that of a backup.
///
/// # Errors
/// One cannot be removed.
pub fn remove_copies_of_prepared(path: &Path) -> io::Result<()> {
    let prefix = side_file(&prepared_path(path), ".before-");
    let Some(prefix) = prefix.file_name() else { return Ok(()) };
    for entry in fs::read_dir(folder_of(path))?.flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(prefix.as_encoded_bytes()) {
            remove_if_there(&entry.path())?;
        }
    }
    Ok(())
}

/// Moves the side files of a database that was kept back beside it, where none has taken their place. Returns whether all are
/// there.
///
/// # Errors
/// One cannot be moved.
pub fn move_side_files_back(path: &Path, kept: &Path) -> io::Result<bool> {
    let mut are_back = true;
    for suffix in KEPT_SIDE_FILES {
        let (from, to) = (side_file(kept, suffix), side_file(path, suffix));
        if from.exists() {
            match to.exists() {
                true => are_back = false,
                false => fs::rename(&from, &to)?,
            }
        }
    }
    Ok(are_back)
}

/// Removes a file that may be there.
///
/// # Errors
/// It is there, and cannot be removed.
pub fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Makes the names in the folder of a database last.
///
/// # Errors
/// The disk does not take it.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}
