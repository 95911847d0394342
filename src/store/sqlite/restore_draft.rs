//! The database that a restore prepares beside the one in the place, and the moment when it takes the place.
//!
//! SQLite finds the WAL by the name of the file, so a WAL of the old file must never be beside the new one, nor a program that
//! has opened the old file use the WAL of the new one. So the old one is locked as a whole first, which in WAL mode no
//! other program's connection survives, its WAL is copied into it (or moved away with it, where it is damaged), and
//! after the one rename that replaces it, its lock is held until no program is left that has opened it meanwhile.
//!
//! The locks are those of fcntl(2), which a process loses when it closes any descriptor of the file: from the lock on,
//! this process opens the file at the path no more.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, fchown};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};
use rustix::fs::{CWD, FlockOperation, RenameFlags, fcntl_lock, renameat_with};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::connect::{interrupt_when, with_common_flags};
use super::damage::structural_damage;
use super::error::{from_sqlite, is_busy, is_damage};
use super::file::{
    FileIdentity, attributes, folder_of, has_wal, journal_pages, path_to_open, side_file,
};
use super::file_error::{cannot_create, cannot_write, unreadable};
use super::hot_journal;
use super::openers::{
    is_open, openers, openers_and_locks, openers_of, refuse_openers, retry_while_open,
};
use super::permissions::file_mode;
use super::proof;
use super::restore::clean_up;
use super::restore_intent::{
    KEPT_SIDE_FILES, Purpose, RestoreIntent, move_side_files_back, prepared_path, record_path,
    remove_copies_of_prepared, remove_if_there, remove_prepared, remove_record, sync_folder,
};
use super::temporary;
use super::wal_match::refuse_mismatched_wal;
use super::{DatabaseFile, FileAccess};
use crate::error::{Error, Kind, Result, StateLeft};
use crate::store::{
    BackupContent, BackupLock, BackupSource, Database, ProofDepth, RestoreDraft, RestoreOrigin,
    WaitPolicy,
};
use crate::system::file_handle::open_regular;
use crate::system::new_file::complete_file_mode;

/// A database that is prepared beside the one in the place.
pub struct FileDraft {
    /// The path of the database.
    path: PathBuf,
    access: FileAccess,
    prepared: DatabaseFile,
    intent: RestoreIntent,
    /// How it is proved.
    proof: ProofDepth,
    /// The file in the place, locked; `None` if there is none.
    present: Option<LockedFile>,
    /// A connection that reads it. Closed after the lock is of no more use, since that would release it.
    reader: Option<Connection>,
    is_done: bool,
    /// Dropped last.
    _lock: BackupLock,
}

/// A file that is locked against every connection of SQLite, until it is closed.
struct LockedFile {
    file: File,
    identity: FileIdentity,
}

impl FileDraft {
    /// Locks programs out, and records what is begun.
    ///
    /// # Errors
    /// Programs have the database open, or it cannot be locked, or the record cannot be written. The database is as it was;
    /// its WAL may have been copied into it.
    pub fn begin(
        path: PathBuf,
        access: FileAccess,
        kept: Option<PathBuf>,
        origin: &RestoreOrigin,
        purpose: Purpose,
        lock: BackupLock,
        wait: &WaitPolicy<'_>,
    ) -> Result<FileDraft> {
        if let Some(intent) = RestoreIntent::read(&path) {
            clean_up(&path, &intent)?;
        }
        remove_prepared(&path).map_err(|e| cannot_write(&prepared_path(&path), None, &e))?;
        let prepared = DatabaseFile { path: prepared_path(&path), access };
        let (backup, begun_at) = (origin.backup.clone(), origin.begun_at.rfc3339());
        let intent = RestoreIntent::new(backup, begun_at, purpose, kept);
        intent.write(&path).map_err(|e| cannot_write(&record_path(&path), None, &e))?;
        let mut draft = FileDraft {
            path,
            access,
            prepared,
            intent,
            proof: ProofDepth::Everything,
            present: None,
            reader: None,
            is_done: false,
            _lock: lock,
        };
        draft.present = draft.lock_present(wait)?;
        Ok(draft)
    }

    /// The path of the database that is prepared.
    pub fn prepared_path(&self) -> &Path {
        &self.prepared.path
    }

    /// Keeps a connection that reads the file in the place for as long as the lock on that is needed.
    pub fn read_present(&mut self, reader: Connection) -> &mut Connection {
        self.reader.insert(reader)
    }

    /// Locks the file in the place, with its WAL copied into it where that is sound. Goes on trying a moment, because of programs
    /// that only look at it.
    fn lock_present(&self, wait: &WaitPolicy<'_>) -> Result<Option<LockedFile>> {
        if attributes(&self.path)?.is_none() {
            return Ok(None);
        }
        let locked = retry_while_open(|| {
            let is_emptied = empty_wal(&self.path, wait)?;
            let locked = LockedFile::lock(&self.path)?;
            match is_emptied && has_wal(&self.path)? {
                true => Err(changed(&self.path)),
                false => Ok(locked),
            }
        })?;
        // The lock refuses whoever comes now.
        refuse_openers(&self.path, || openers(&self.path))?;
        Ok(Some(locked))
    }

    /// Moves the WAL and a journal along with the file that is kept, and removes what is empty of them.
    fn move_side_files(&self) -> Result<()> {
        let failed = |path: &Path, e: &io::Error| cannot_write(path, None, e);
        let shared_memory = side_file(&self.path, "-shm");
        for suffix in KEPT_SIDE_FILES {
            let from = side_file(&self.path, suffix);
            let is_filled = attributes(&from)?.is_some_and(|found| found.len() > 0);
            match &self.intent.kept {
                Some(kept) if is_filled => {
                    fs::rename(&from, side_file(kept, suffix)).map_err(|e| failed(&from, &e))?;
                }
                _ => remove_if_there(&from).map_err(|e| failed(&from, &e))?,
            }
        }
        remove_if_there(&shared_memory).map_err(|e| failed(&shared_memory, &e))?;
        sync_folder(&self.path).map_err(|e| failed(folder_of(&self.path), &e))
    }

    /// Gives the prepared file its mode and its owner: those of the folder's, or else of the file before.
    fn complete_prepared(&self) -> Result<LockedFile> {
        let path = &self.prepared.path;
        if has_wal(path)? {
            return Err(changed(path));
        }
        for suffix in ["-wal", "-shm", "-journal"] {
            let file = side_file(path, suffix);
            remove_if_there(&file).map_err(|e| cannot_write(&file, None, &e))?;
        }
        remove_copies_of_prepared(&self.path).map_err(|e| cannot_write(path, None, &e))?;
        let locked = LockedFile::lock(path)?;
        self.give_to_owner(&locked.file)
            .and_then(|()| complete_file_mode(&locked.file, file_mode(self.access.group)))
            .and_then(|()| locked.file.sync_all())
            .map_err(|e| cannot_write(path, None, &e))?;
        Ok(locked)
    }

    fn give_to_owner(&self, prepared: &File) -> io::Result<()> {
        let Some(before) = &self.present else { return Ok(()) };
        let (before, own) = (before.file.metadata()?, prepared.metadata()?);
        // Root creates it for the owner of the folder; where that is root, the owner of the file before is the one who used it.
        match geteuid().is_root() && own.uid() == 0 && before.uid() != 0 {
            true => fchown(prepared, Some(before.uid()), Some(before.gid())),
            false => Ok(()),
        }
    }

    /// Renames the prepared file to the path: over the file that is locked, or where there is none.
    fn rename(&self) -> Result<()> {
        let (from, to) = (&self.prepared.path, &self.path);
        let failed = |e: &io::Error| cannot_create(to, "the restored database", e);
        match &self.present {
            Some(before) if FileIdentity::of(to) != Some(before.identity) => Err(changed(to)),
            Some(_) => fs::rename(from, to).map_err(|e| failed(&e)),
            None => match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => Err(changed(to)),
                // A file system that cannot.
                Err(Errno::INVAL | Errno::NOSYS) => fs::hard_link(from, to)
                    .and_then(|()| fs::remove_file(from))
                    .map_err(|e| failed(&e)),
                done => done.map_err(|e| failed(&e.into())),
            },
        }
    }

    /// Puts the file before back in the place, in one step: a program has opened it in the moment before it was replaced, and
    /// would use it together with the WAL of the restored one.
    fn put_back(&self, restored: &LockedFile) -> io::Result<()> {
        let Some(kept) = &self.intent.kept else { return Ok(()) };
        move_side_files_back(&self.path, kept)?;
        fs::rename(kept, &self.path)?;
        // Whoever has opened the restored file since is told that it is none.
        restored.file.write_all_at(&[0; 100], 0)?;
        sync_folder(&self.path)
    }

    fn finish(&mut self) -> Result<()> {
        self.is_done = true;
        let removed = self.intent.remove_replaced().and_then(|()| remove_record(&self.path));
        removed.map_err(|e| {
            cannot_write(&record_path(&self.path), None, &e).note("the new database is in place")
        })
    }
}

impl RestoreDraft for FileDraft {
    fn fill(&mut self, backup: &dyn BackupSource, wait: &WaitPolicy<'_>) -> Result<()> {
        self.proof = backup.proof();
        backup.unpack(&self.prepared.path, wait)
    }

    fn database(&self) -> &dyn Database {
        &self.prepared
    }

    fn prove(&self, wait: &WaitPolicy<'_>) -> Result<BackupContent> {
        proof::prove(&self.prepared.path, self.proof, wait)
    }

    fn keep_present(&mut self, _: &WaitPolicy<'_>) -> Result<()> {
        let Some(kept) = self.intent.kept.clone().filter(|_| self.present.is_some()) else {
            return Ok(());
        };
        let failed = |e: &io::Error| cannot_create(&kept, "the name of the database before", e);
        match fs::hard_link(&self.path, &kept) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => return Err(failed(&e)),
            linked => linked.map_err(|e| failed(&e))?,
        }
        sync_folder(&self.path).map_err(|e| failed(&e))
    }

    fn put_in_place(&mut self, _: &WaitPolicy<'_>) -> Result<()> {
        let restored = self.complete_prepared()?;
        if let Some(before) = &self.present {
            refuse_openers(&self.path, || openers_of(&[before.identity]))?;
        }
        self.intent.is_complete = true;
        self.intent
            .write(&self.path)
            .map_err(|e| cannot_write(&record_path(&self.path), None, &e))?;
        self.move_side_files()?;
        self.rename()?;
        sync_folder(&self.path).map_err(|e| cannot_write(folder_of(&self.path), None, &e))?;
        if let Some(before) = &self.present
            && let Err(error) = refuse_openers(&self.path, || openers_of(&[before.identity]))
        {
            // Whoever kills it now leaves no record that says the opposite.
            self.intent.is_complete = false;
            let recorded = self.intent.write(&self.path);
            recorded
                .and_then(|()| self.put_back(&restored))
                .map_err(|e| cannot_write(&self.path, None, &e))?;
            return Err(error);
        }
        self.finish()
    }
}

impl Drop for FileDraft {
    fn drop(&mut self) {
        if !self.is_done {
            // What cannot be cleaned up now is cleaned up at the next start.
            let _ = clean_up(&self.path, &self.intent);
        }
    }
}

impl LockedFile {
    /// Locks all bytes of a file.
    ///
    /// # Errors
    /// [`Kind::TryAgain`] if a program holds a lock on it; or it cannot be opened or locked.
    fn lock(path: &Path) -> Result<LockedFile> {
        let file = open_regular(path, OpenOptions::new().read(true).write(true))
            .map_err(|e| unreadable(path, &e))?;
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::ACCESS | Errno::AGAIN) => {
                // Not locked, so that nothing is lost by opening it once more.
                return Err(is_open(path, &openers_and_locks(path)));
            }
            Err(e) => return Err(cannot_write(path, None, &e.into())),
        }
        let found = file.metadata().map_err(|e| unreadable(path, &e))?;
        let identity = FileIdentity { device: found.dev(), inode: found.ino() };
        Ok(LockedFile { file, identity })
    }
}

/// Copies the WAL of a sound database into its file, under an exclusive lock, and removes it; a journal is rolled back.
/// Returns whether no WAL is left: that of a damaged database, or one that does not belong to it, stays as it is.
fn empty_wal(path: &Path, wait: &WaitPolicy<'_>) -> Result<bool> {
    if !has_wal(path)? && journal_pages(path)?.is_none() {
        return Ok(true);
    }
    match refuse_mismatched_wal(path, wait) {
        Err(Error { kind: Kind::Data, .. }) => return Ok(false),
        other => other?,
    }
    hot_journal::keep(path)?;
    let copied = copy_wal(path, wait);
    match copied {
        Ok(is_sound) => Ok(is_sound),
        Err(e) if is_busy(&e) => Err(is_open(path, &openers_and_locks(path))),
        Err(e) if is_damage(&e) => Ok(false),
        Err(e) => Err(from_sqlite(path, &e)),
    }
}

/// Returns whether the WAL was copied: not if the database is damaged.
fn copy_wal(path: &Path, wait: &WaitPolicy<'_>) -> rusqlite::Result<bool> {
    let to_open =
        path_to_open(path).map_err(|e| rusqlite::Error::InvalidParameterName(e.to_string()))?;
    let mut conn =
        Connection::open_with_flags(to_open, with_common_flags(OpenFlags::SQLITE_OPEN_READ_WRITE))?;
    interrupt_when(&mut conn, wait.cancelled)?;
    temporary::ensure_folder(&conn, path);
    // In this mode the first read locks the file as a whole, and no shared memory is used.
    // (sqlite.org/pragma.html, "locking_mode")
    conn.query_row("PRAGMA locking_mode = EXCLUSIVE", [], |_| Ok(()))?;
    conn.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    conn.query_row("PRAGMA schema_version", [], |_| Ok(()))?;
    if !structural_damage(&conn, ProofDepth::Everything)?.is_empty() {
        return Ok(false);
    }
    hot_journal::forget(path);
    conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    conn.close().map_err(|(_, e)| e)?;
    Ok(true)
}

/// The error of a file that another program has changed in spite of the locks.
pub fn changed(path: &Path) -> Error {
    Error::new(Kind::TryAgain, "was changed by another program during the restore")
        .at(path.display())
        .leaving(StateLeft::Unchanged)
        .remedy("end the programs that use it (`fuser -v` on the path), and run it again")
}
