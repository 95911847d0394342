//! Restoring a backup of a SQLite database: what is in its place, which programs keep it from being replaced, and what a
//! restore that was killed has left. The database that is prepared is in `restore_draft`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::geteuid;

use super::DatabaseFile;
use super::at_rest::connect_immutable;
use super::draft::prove_creatable;
use super::file::{
    attributes, folder_of, has_wal, journal_pages, refuse_other_types, resolve, side_file,
};
use super::file_error::cannot_write;
use super::file_system::refuse_network;
use super::openers::{openers_and_locks, refuse_openers};
use super::permissions::create_folder;
use super::recognition::refuse_foreign_interrupted;
use super::restore_draft::{FileDraft, changed};
use super::restore_intent::{
    InPlace, Purpose, RestoreIntent, is_recorded, move_side_files_back, record_path,
    remove_if_there, remove_prepared, remove_record,
};
use super::storage::free_bytes;
use super::write_access::refuse_obstacle;
use crate::error::{Error, Kind, Result, StateLeft};
use crate::store::{
    BackUp, Database, Restore, RestoreDraft, RestoreOrigin, RestorePlace, WaitPolicy,
};
use crate::system::clock::UtcTime;
use crate::system::shell::word;
use crate::system::size::Bytes;
use crate::system::users;

impl Restore for DatabaseFile {
    fn restore_place(&self, begun_at: UtcTime, _: &WaitPolicy<'_>) -> Result<RestorePlace> {
        let path = resolve(&self.path)?;
        refuse_network(&path, self.access.allow_network)?;
        refuse_other_types(&path)?;
        match attributes(&path)? {
            None => prove_creatable(&path, self.access)?,
            Some(_) => {
                refuse_obstacle(&path)?;
                self.refuse_other_owner(&path)?;
                refuse_other_program(&path)?;
            }
        }
        refuse_openers(&path, || openers_and_locks(&path))?;
        let present = Present::at(&path)?;
        Ok(RestorePlace {
            location: path.display().to_string(),
            present: present.describe(&path),
            kept_as: present.is_kept().then(|| kept_path(&path, begun_at).display().to_string()),
            free_bytes: free_bytes(&path),
        })
    }

    fn begin_restore<'d>(
        &'d self,
        place: &RestorePlace,
        origin: &RestoreOrigin,
        wait: &WaitPolicy<'_>,
    ) -> Result<Box<dyn RestoreDraft + 'd>> {
        let path = resolve(&self.path)?;
        create_folder(&path, self.access.group)?;
        let lock = self.lock_backups(wait)?;
        // Another restore may have ended since.
        let now = self.restore_place(origin.begun_at, wait)?;
        if (now.present, now.kept_as) != (place.present.clone(), place.kept_as.clone()) {
            return Err(changed(&path));
        }
        let kept = place.kept_as.as_ref().map(PathBuf::from);
        Ok(Box::new(FileDraft::begin(
            path,
            self.access,
            kept,
            origin,
            Purpose::Restore,
            lock,
            wait,
        )?))
    }

    fn elsewhere(&self, path: &Path) -> Result<Box<dyn Database>> {
        Ok(Box::new(DatabaseFile { path: path.to_path_buf(), access: self.access }))
    }

    fn interrupted_restore(&self) -> Option<String> {
        let path = resolve(&self.path).ok()?;
        let record = record_path(&path);
        if !record.exists() {
            return None;
        }
        Some(match RestoreIntent::read(&path) {
            Some(intent) => {
                let found = describe(&path, &intent, "is running or was interrupted");
                format!("{}: {found}", path.display())
            }
            None => format!(
                "{} is no record of a restore that this cts can read: whether one was interrupted does not show; remove it if the database is the one you expect (`cts status`)",
                record.display()
            ),
        })
    }
}

impl DatabaseFile {
    /// Refuses a file that this user may write, and whose owner could not open the one that takes its place.
    fn refuse_other_owner(&self, path: &Path) -> Result<()> {
        use std::os::unix::fs::MetadataExt;
        let (Some(found), own) = (attributes(path)?, geteuid()) else { return Ok(()) };
        if own.is_root() || self.access.group || found.uid() == own.as_raw() {
            return Ok(());
        }
        let (owner, sudo) = (users::name(found.uid()), users::sudo(found.uid()));
        Err(Error::new(
            Kind::Permission,
            format!("belongs to {owner}, who could not open the restored file"),
        )
        .at(path.display())
        .leaving(StateLeft::Unchanged)
        .remedy(format!("run it as that user: {sudo} cts restore …")))
    }
}

/// Refuses the database of another program; one that cannot be read is taken for a damaged one of ours.
fn refuse_other_program(path: &Path) -> Result<()> {
    match connect_immutable(path) {
        Ok(conn) => refuse_foreign_interrupted(&conn, path),
        Err(_) => Ok(()),
    }
}

/// The files in the place of a database.
struct Present {
    size_bytes: Option<u64>,
    has_wal: bool,
    has_journal: bool,
}

impl Present {
    fn at(path: &Path) -> Result<Present> {
        Ok(Present {
            size_bytes: attributes(path)?.map(|found| found.len()),
            has_wal: has_wal(path)?,
            has_journal: journal_pages(path)?.is_some(),
        })
    }

    /// Whether there is something that would be lost.
    fn is_kept(&self) -> bool {
        self.size_bytes.is_some_and(|bytes| bytes > 0) || self.has_wal || self.has_journal
    }

    fn describe(&self, path: &Path) -> Option<String> {
        let shown = path.display();
        match self.size_bytes {
            None if self.is_kept() => {
                Some(format!("{shown}: there is no such file, but side files of one"))
            }
            None => None,
            Some(0) => Some(format!("{shown}: an empty file")),
            Some(bytes) => Some(format!("{shown}: {}", Bytes(bytes))),
        }
    }
}

/// The path at which the database in the place is kept: one that no file has yet.
fn kept_path(path: &Path, begun_at: UtcTime) -> PathBuf {
    let name = |number: u32| {
        let number = if number > 1 { format!("-{number}") } else { String::new() };
        side_file(path, &format!(".before-restore-{}{number}", begun_at.for_file_name()))
    };
    let is_free = |kept: &PathBuf| {
        !kept.exists() && !side_file(kept, "-wal").exists() && !side_file(kept, "-journal").exists()
    };
    (1..).map(name).find(is_free).unwrap_or_else(|| name(1))
}

/// What a restore of which there is a record has left, as a sentence about the database; `end` says how far it came.
fn describe(path: &Path, intent: &RestoreIntent, end: &str) -> String {
    let RestoreIntent { backup, begun_at, purpose, .. } = intent;
    if *purpose == Purpose::Compact {
        let state = match intent.in_place(path) {
            InPlace::Before => "the database from before it is in place",
            InPlace::Restored => "the rebuilt database is in place",
            InPlace::Nothing => "no database is in place",
        };
        return format!(
            "a rebuild by `cts prune --compact`, begun at {begun_at} after the backup {backup}, {end}: {state}"
        );
    }
    let state = match intent.in_place(path) {
        InPlace::Before => "the database from before it is in place".to_string(),
        InPlace::Restored => match &intent.kept {
            Some(kept) => format!(
                "the restored database is in place, and the one before is kept as {}",
                kept.display()
            ),
            None => "the restored database is in place".to_string(),
        },
        InPlace::Nothing => "no database is in place".to_string(),
    };
    format!("a restore of {backup}, begun at {begun_at}, {end}: {state}")
}

/// Cleans up after a restore that was killed, once no other one runs. Returns what was found, as lines for the log.
///
/// # Errors
/// No database is in the place, and a new one is not what was wanted; or what ends the waiting for a restore that runs.
pub fn settle_interrupted(database: &DatabaseFile, wait: &WaitPolicy<'_>) -> Result<Vec<String>> {
    let path = resolve(&database.path)?;
    if !is_recorded(&path) {
        return Ok(Vec::new());
    }
    let _lock = database.lock_backups(wait)?;
    let record = record_path(&path);
    if !record.exists() {
        // Killed before anything was begun; what cannot be removed is no reason to refuse a database.
        let _ = remove_record(&path);
        return Ok(Vec::new());
    }
    let Some(intent) = RestoreIntent::read(&path) else {
        return Ok(database.interrupted_restore().into_iter().collect());
    };
    let in_place = intent.in_place(&path);
    let found = describe(&path, &intent, "was interrupted");
    if in_place == InPlace::Nothing {
        let (backup, record) = (word(Path::new(&intent.backup)), word(&record));
        return Err(Error::new(Kind::Data, found).at(path.display()).remedy(format!(
            "run it again (`cts restore {backup}`); to begin with a new, empty database instead, remove {record}"
        )));
    }
    let mut lines = vec![format!("{}: {found}", path.display())];
    // What cannot be cleaned up is no reason to refuse a database.
    lines.extend(clean_up(&path, &intent).err().map(|error| error.to_string()));
    Ok(lines)
}

/// Refuses to inspect a database while a restore replaces it: the inspection would be one of the programs that have it open.
///
/// # Errors
/// [`Kind::TryAgain`], while a restore is running.
pub fn refuse_running(database: &DatabaseFile) -> Result<()> {
    let path = resolve(&database.path)?;
    if !is_recorded(&path) {
        return Ok(());
    }
    let cancelled = Arc::default();
    // Held for a moment only; where no restore runs, one that was killed has left the record.
    match database.lock_backups(&WaitPolicy::silent(Duration::ZERO, &cancelled)) {
        Err(error) if error.kind == Kind::TryAgain => {
            let by = RestoreIntent::read(&path).map(|intent| format!(" (pid {})", intent.pid));
            Err(Error::new(
                Kind::TryAgain,
                format!("a restore is running{}", by.unwrap_or_default()),
            )
            .at(path.display())
            .remedy("try again when it has ended"))
        }
        _ => Ok(()),
    }
}

/// Removes what a killed restore has left beside the database that is in the place.
///
/// # Errors
/// Something cannot be removed. The record stays then.
pub fn clean_up(path: &Path, intent: &RestoreIntent) -> Result<()> {
    let failed = |e| cannot_write(folder_of(path), None, &e);
    if let (InPlace::Before, Some(kept)) = (intent.in_place(path), &intent.kept) {
        let are_back = move_side_files_back(path, kept).map_err(failed)?;
        let is_same = super::file::FileIdentity::of(kept) == super::file::FileIdentity::of(path);
        // Only a second name of the file in the place.
        if are_back && is_same && kept.exists() {
            remove_if_there(kept).map_err(failed)?;
        }
    }
    if intent.in_place(path) == InPlace::Restored {
        intent.remove_replaced().map_err(failed)?;
    }
    remove_prepared(path).map_err(failed)?;
    remove_record(path).map_err(failed)
}
