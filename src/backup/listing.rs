//! What a person sees of a folder of backups: each backup with why it is kept and until when, and whatever else is there.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::delete::{BackupOwner, dated};
use super::digest::digest_line;
use super::failure::failed;
use super::folder::{BackupFolder, StoredBackup, read_manifest};
use super::follow_up::LAST_SUCCESS;
use super::manifest::KeptBy;
use super::name::{DIGEST, MANIFEST, PARTIAL, beside, is_backup_name};
use super::retention::{DatedBackup, KeepReason, keep_reasons, kept_until};
use super::settings::BackupSettings;
use crate::error::Result;
use crate::system::file_handle::type_name;
use crate::system::small_file::{self, SETTINGS_BYTES_MAX};

/// The interval that is assumed where the service makes no backups: a timer makes one a day.
const ASSUMED_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// A folder of backups, as a person sees it.
#[derive(Debug, Default)]
pub struct BackupListing {
    /// The backups that have a manifest, the newest first.
    pub backups: Vec<ListedBackup>,
    /// What else is in the folder, by name, each with what it is.
    pub others: Vec<(String, String)>,
}

/// A backup, as a person sees it.
#[derive(Debug)]
pub struct ListedBackup {
    /// The backup.
    pub backup: StoredBackup,
    /// Why it is there, and for how long.
    pub keeping: Keeping,
    /// What is wrong with it or its companions, one clause each.
    pub faults: Vec<String>,
}

/// Why a backup is there, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// These rules keep it, until about then if that can be said.
    Rules(Vec<KeepReason>, Option<SystemTime>),
    /// No rule keeps it: the next backup deletes it.
    None,
    /// A person named its file, and deletes it.
    Hand,
    /// It is of another database, whose rules decide.
    OtherDatabase,
    /// It is of the database of an older CTS, before its adoption, and is never deleted by rule.
    BeforeAdoption,
    /// It is not what was made, and is never deleted by rule.
    Changed,
    /// Which database is at the place is not known.
    Unknown,
}

/// Lists a folder. `owner` is the database in the place; `None` where it cannot be read.
///
/// # Errors
/// The folder cannot be read.
pub fn list_folder(
    folder: &BackupFolder,
    owner: Option<&BackupOwner>,
    settings: &BackupSettings,
    now: SystemTime,
) -> Result<BackupListing> {
    let mut backups = folder.list()?;
    backups.reverse();
    let others = other_files(folder, &backups)?;
    let ruled: Vec<DatedBackup> = backups
        .iter()
        .filter(|backup| owner.is_some_and(|owner| owner.is_kept_by_rules(backup)))
        .filter_map(dated)
        .collect();
    let every = settings.every.unwrap_or(ASSUMED_INTERVAL);
    let newest = ruled.iter().filter(|b| b.is_good).max_by_key(|b| b.serial);
    let due = newest.and_then(|newest| newest.made_at?.checked_add(every));
    let reasons = keep_reasons(&ruled, settings.keep);
    let until = kept_until(&ruled, settings.keep, due.map_or(now, |due| due.max(now)), every);
    let keeping = |backup: &StoredBackup| {
        let at = ruled.iter().position(|ruled| Some(*ruled) == dated(backup));
        let kept = at.and_then(|at| Some((reasons.get(at)?.clone(), *until.get(at)?)));
        match (owner, kept) {
            (None, _) => Keeping::Unknown,
            _ if backup.manifest.kept_by == KeptBy::Hand => Keeping::Hand,
            (Some(owner), _) if !owner.owns(&backup.manifest) => Keeping::OtherDatabase,
            (Some(owner), _) if owner.is_from_before_adoption(&backup.manifest) => {
                Keeping::BeforeAdoption
            }
            (_, None) => Keeping::Changed,
            (_, Some((reasons, _))) if reasons.is_empty() => Keeping::None,
            (_, Some((reasons, until))) => Keeping::Rules(reasons, until),
        }
    };
    let listed = |backup: StoredBackup| ListedBackup {
        keeping: keeping(&backup),
        faults: faults(&backup),
        backup,
    };
    Ok(BackupListing { backups: backups.into_iter().map(listed).collect(), others })
}

/// What is wrong with a backup, as far as it shows without reading it.
fn faults(backup: &StoredBackup) -> Vec<String> {
    let StoredBackup { path, manifest, .. } = backup;
    let mut faults = Vec::new();
    match fs::symlink_metadata(path) {
        Ok(found) if found.len() != manifest.size_bytes => faults.push(format!(
            "its file has {} bytes instead of {}",
            found.len(),
            manifest.size_bytes
        )),
        Ok(_) => {}
        Err(e) => faults.push(format!("its file cannot be examined: {e}")),
    }
    if let Some(why) = manifest.drill.as_ref().and_then(|drill| drill.failure.as_ref()) {
        faults.push(format!("restoring it for a trial failed: {why}"));
    }
    if !backup.is_sealed {
        faults.push(format!("{}{MANIFEST} was changed", manifest.file));
    }
    let expected = digest_line(&manifest.sha256, &manifest.file);
    match small_file::read(&beside(path, DIGEST), SETTINGS_BYTES_MAX) {
        Ok(text) if text == expected.as_bytes() => {}
        Ok(_) => faults.push(format!("{}{DIGEST} is not what its manifest says", manifest.file)),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            faults.push(format!("{}{DIGEST} is missing", manifest.file));
        }
        Err(e) => faults.push(format!("{}{DIGEST} cannot be read: {e}", manifest.file)),
    }
    faults
}

/// What is in the folder besides the backups and their companions.
fn other_files(folder: &BackupFolder, backups: &[StoredBackup]) -> Result<Vec<(String, String)>> {
    let unreadable = |e| failed(folder.path(), "the folder cannot be read", &e);
    let known: BTreeSet<&str> = backups.iter().map(|b| b.manifest.file.as_str()).collect();
    let entries = match fs::read_dir(folder.path()) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(unreadable)?,
    };
    let mut others = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let companion = [DIGEST, MANIFEST].iter().find_map(|ending| name.strip_suffix(ending));
        let is_known = |name: &str| known.contains(name);
        if !is_known(&name) && !companion.is_some_and(is_known) && name != LAST_SUCCESS {
            let what = what_it_is(&path, &name, companion);
            others.push((name, what));
        }
    }
    others.sort_unstable();
    Ok(others)
}

fn what_it_is(path: &Path, name: &str, companion: Option<&str>) -> String {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        Err(e) => return format!("cannot be examined: {e}"),
    };
    if !found.is_file() {
        return format!("{}, which is not a backup", type_name(found));
    }
    let has_file = |of: &str| path.with_file_name(of).exists();
    match companion {
        _ if name.ends_with(PARTIAL) => {
            "is being written, or was left by a process that was killed".into()
        }
        Some(of) if is_backup_name(of) && !has_file(of) => {
            "the backup that it is of is gone".into()
        }
        Some(of) if has_file(of) => "belongs to a file without a manifest".into(),
        _ if beside(path, MANIFEST).exists() && read_manifest(path).is_none() => {
            "its manifest cannot be read, or is that of another file: it is never deleted".into()
        }
        _ if is_backup_name(name) => {
            "has no manifest: it was not made here, and is never deleted".into()
        }
        _ => "is not a backup of cts".into(),
    }
}
