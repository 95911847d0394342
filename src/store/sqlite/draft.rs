//! A new database is drafted in memory and appears at its path all at once: written to a
//! file that has no name yet, synced, and then linked. A kill or a full disk leaves nothing,
//! of many starters one wins and the others find a whole database, and the disk is made to
//! write twice where a transaction in place takes eight times.
//!
//! Where the file system has no unnamed files (`O_TMPFILE`), the empty file is made and
//! migrated in place, by the same engine from the same SQL.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, MAIN_DB};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};
use rustix::io::Errno;

use super::connect::watch;
use super::error::error;
use super::file::{self, FileContent};
use super::{FileAccess, Sqlite};
use crate::error::Result;
use crate::store::{Draft, Store, WaitPolicy};

/// Bytes of the header that tell readers and writers of the WAL from those of a rollback
/// journal, and what they hold for the WAL. (sqlite.org/fileformat2.html, 1.3.3)
const VERSIONS: std::ops::RangeInclusive<usize> = 18..=19;
const WAL_VERSION: u8 = 2;

/// A database file that is not at its path yet.
pub struct FileDraft {
    store: Sqlite,
    file: File,
}

impl FileDraft {
    /// Begins a draft where there is nothing at the path; `None` where there is something,
    /// or where the file system has no unnamed files.
    pub fn begin(
        path: &Path,
        access: FileAccess,
        wait: &WaitPolicy<'_>,
    ) -> Result<Option<FileDraft>> {
        let path = file::resolve(path)?;
        file::refuse_network(&path, access.allow_network)?;
        if file::inspect(&path)? != FileContent::Missing {
            return Ok(None);
        }
        file::create_folder(&path, access.group)?;
        let Some(file) = unnamed(&path, access.group)? else { return Ok(None) };
        let mut conn = Connection::open_in_memory().map_err(|e| error(&path, &e))?;
        watch(&mut conn, wait.cancelled).map_err(|e| error(&path, &e))?;
        let store = Sqlite { conn, path, identity: None, access, settled: false, known: None };
        Ok(Some(FileDraft { store, file }))
    }
}

impl Draft for FileDraft {
    fn store(&mut self) -> &mut dyn Store {
        &mut self.store
    }

    fn publish(mut self: Box<Self>) -> Result<bool> {
        let path = &self.store.path;
        let data = self.store.conn.serialize(MAIN_DB).map_err(|e| error(path, &e))?;
        let mut bytes = data.to_vec();
        bytes.get_mut(VERSIONS).unwrap_or_default().fill(WAL_VERSION);
        let needed = bytes.len() as u64 + file::SIDE_FILES_BYTES;
        self.file
            .write_all(&bytes)
            .and_then(|()| self.file.sync_all())
            .map_err(|e| file::cannot_write(path, needed, &e))?;
        link(&self.file, path)
    }
}

fn unnamed(path: &Path, group: bool) -> Result<Option<File>> {
    let folder = folder_of(path);
    let mode = Mode::from_raw_mode(file::mode(group));
    match open(&folder, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode) {
        Ok(fd) => {
            let file = File::from(fd);
            file::set_mode(&file, path, group)?;
            Ok(Some(file))
        }
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => Ok(None),
        Err(e) => Err(file::cannot_create(path, "the file", &e.into())),
    }
}

fn link(file: &File, path: &Path) -> Result<bool> {
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    match linkat(CWD, unnamed, CWD, path, AtFlags::SYMLINK_FOLLOW) {
        Ok(()) => File::open(folder_of(path))
            .and_then(|folder| folder.sync_all())
            .map(|()| true)
            .map_err(|e| file::cannot_create(path, "the file", &e)),
        // Another starter was faster, or /proc is not there: the path is looked at again.
        Err(Errno::EXIST | Errno::NOENT | Errno::PERM | Errno::OPNOTSUPP) => Ok(false),
        Err(e) => Err(file::cannot_create(path, "the file", &io::Error::from(e))),
    }
}

fn folder_of(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_path_buf()
}
