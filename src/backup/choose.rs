//! Which backup is restored: the file that a person names, or the newest good one of the database.

use std::path::{Path, PathBuf};

use super::folder::{BackupFolder, StoredBackup};
use super::manifest::DatabasePlace;
use crate::error::{Error, Kind, Result};
use crate::store::DatabaseIdentity;

/// How many databases are named where it is not clear whose backup is meant.
const DATABASES_SHOWN: usize = 5;

/// Which backup a person wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupChoice {
    /// The newest good one of the database in the folder of backups.
    Latest,
    /// This file, or the one of this name in the folder of backups.
    File(PathBuf),
}

/// A backup that was chosen.
#[derive(Clone, Debug)]
pub struct ChosenBackup {
    /// The path of its file.
    pub path: PathBuf,
    /// What a person should know about the choice, one sentence each.
    pub messages: Vec<String>,
}

/// Finds the backup. `database_id` is the id of the database in the place, if there is one that can be read.
///
/// # Errors
/// There is none, or it is not clear which one is meant.
pub fn find_backup(
    choice: &BackupChoice,
    folder: Option<&BackupFolder>,
    identity: &DatabaseIdentity,
    database_id: Option<&str>,
) -> Result<ChosenBackup> {
    match (choice, folder) {
        (BackupChoice::File(file), _) => find_file(file, folder),
        (BackupChoice::Latest, Some(folder)) => {
            let chosen = latest(folder.list()?, identity, database_id);
            chosen.map_err(|error| error.at(folder.path().display()))
        }
        (BackupChoice::Latest, None) => {
            Err(Error::new(Kind::Config, "no folder of backups is set")
                .remedy("set CTS_BACKUP_DIR, or name a file (`cts restore FILE`)"))
        }
    }
}

fn find_file(file: &Path, folder: Option<&BackupFolder>) -> Result<ChosenBackup> {
    let is_name = file.components().count() == 1;
    let in_folder = folder.filter(|_| is_name).map(|folder| folder.path().join(file));
    let candidates = [Some(file.to_path_buf()), in_folder.clone()];
    let Some(path) = candidates.into_iter().flatten().find(|path| path.exists()) else {
        let also = in_folder.map(|path| format!(", nor {}", path.display())).unwrap_or_default();
        return Err(Error::new(Kind::Data, format!("there is no such file{also}"))
            .at(file.display())
            .remedy("`cts backups` lists the backups; `cts restore latest` takes the newest"));
    };
    Ok(ChosenBackup { path, messages: Vec::new() })
}

/// The newest good backup of the database among those of a folder, which are in the order in which they were made.
///
/// Where there is a database, it is one of its own backups; or, where it was created anew since, one of the only database
/// that was at its location. Where there is none, it is one of the only database that has backups here.
fn latest(
    backups: Vec<StoredBackup>,
    identity: &DatabaseIdentity,
    database_id: Option<&str>,
) -> Result<ChosenBackup> {
    let kind = identity.backend.name();
    let all: Vec<StoredBackup> =
        backups.into_iter().filter(|b| b.manifest.database.kind == kind).collect();
    let id = |backup: &StoredBackup| backup.manifest.database.id.clone();
    let place = DatabasePlace::of(identity);
    let is_here = |b: &&StoredBackup| place.is_of(&b.manifest.database);
    let is_own = |b: &&StoredBackup| database_id == Some(id(b).as_str()) && is_here(b);
    let own: Vec<&StoredBackup> = all.iter().filter(is_own).collect();
    let mut messages = Vec::new();
    let candidates = if own.is_empty() {
        // Of a database and its copies, which have one id, those of the one that was in this place.
        let mut others: Vec<&StoredBackup> = all.iter().collect();
        if others.iter().any(is_here) && database_id.is_none() {
            others.retain(is_here);
        }
        let is_sole = others.windows(2).all(|pair| id(pair[0]) == id(pair[1]));
        match others.last() {
            None => return Err(no_backup(format!("there is no backup of a {} database", identity.backend.label()))),
            Some(_) if !is_sole => return Err(several(&others)),
            Some(newest) if database_id.is_some() && !is_here(newest) => {
                return Err(several(&others));
            }
            Some(_) if database_id.is_some() => messages.push(format!(
                "the database at {} was created after its backups were made: it is another one than theirs",
                identity.location
            )),
            Some(_) => {}
        }
        others
    } else {
        let is_before = |b: &&StoredBackup| database_id != Some(id(b).as_str()) && is_here(b);
        messages.extend(all.iter().rfind(is_before).map(|newest| {
            format!(
                "the database at {} was created anew: {} is the newest backup of the one before (made {}), and can be named instead",
                identity.location, newest.manifest.file, newest.manifest.made_at
            )
        }));
        own
    };
    let Some(at) = candidates.iter().rposition(|backup| backup.manifest.is_good()) else {
        return Err(no_backup("each backup there has failed its trial".into()));
    };
    let passed_over = candidates.iter().skip(at + 1).map(|backup| {
        let why = backup.manifest.drill.as_ref().and_then(|drill| drill.failure.clone());
        format!("{} is passed over: {}", backup.path.display(), why.unwrap_or_default())
    });
    messages.extend(passed_over);
    Ok(ChosenBackup { path: candidates[at].path.clone(), messages })
}

fn no_backup(what: String) -> Error {
    Error::new(Kind::Data, what).remedy(
        "name a file (`cts restore FILE`), or set CTS_BACKUP_DIR to the folder that has one",
    )
}

/// The refusal where backups are those of several databases, or of another one than that in the place.
fn several(backups: &[&StoredBackup]) -> Error {
    let mut seen: Vec<&str> = Vec::new();
    let mut newest = Vec::new();
    for backup in backups.iter().rev() {
        let database = &backup.manifest.database;
        if !seen.contains(&database.id.as_str()) {
            seen.push(&database.id);
            newest.push(format!(
                "{} of {} ({})",
                backup.manifest.file, database.location, backup.manifest.made_at
            ));
        }
    }
    let count = newest.len();
    newest.truncate(DATABASES_SHOWN);
    let what = match count {
        1 => "the backups there are those of another database",
        _ => {
            "the backups there are those of several databases, and it does not show which one is meant"
        }
    };
    Error::new(Kind::Data, format!("{what}; the newest of each: {}", newest.join(", ")))
        .remedy("name the file (`cts restore FILE`)")
}
