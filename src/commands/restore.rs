//! `cts restore`.

use std::fs;
use std::path::{Path, PathBuf};

use super::interruptible;
use crate::archive::{ArchiveFolder, ArchiveMoment, ArchivedDatabase};
use crate::backup::{
    BackupChoice, BackupFolder, RestorePlan, Restored, TrialFolder, examine, execute_restore,
    find_backup, plan_restore, plan_unbuilt,
};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::store::{Backend, BackupSource, Database, WaitPolicy};
use crate::system::invocation;
use crate::system::log::{Log, Verbosity};
use crate::system::output::print_lines;
use crate::system::shell::word;
use crate::system::size::Bytes;
use crate::system::visible::Lines;

/// What `cts restore` restores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreSource {
    /// A backup.
    Backup(BackupChoice),
    /// The database of a moment.
    Archive(ArchiveMoment),
}

/// Puts a backup, or the database of a moment, in place of the database, or of none at the path `to`; with `dry_run` prints what would be done.
///
/// # Errors
/// Why that cannot be done. The database before is in its place, unless the error says otherwise.
pub fn run(
    config: &Config,
    log: Log,
    source: &RestoreSource,
    to: Option<&Path>,
    dry_run: bool,
) -> Result<u8> {
    let own = &*config.database;
    let elsewhere = to.map(|path| elsewhere(own, path)).transpose()?;
    let target = elsewhere.as_deref().unwrap_or(own);
    interruptible(config.lock_timeout, log, |wait| {
        let (plan, source): (RestorePlan, Box<dyn BackupSource>) = match source {
            RestoreSource::Backup(choice) => {
                let backup = examine(&find(config, log, choice, wait)?, wait)?;
                (plan_restore(target, &backup, wait)?, Box::new(backup))
            }
            RestoreSource::Archive(moment) => {
                let archived = archived(config, *moment)?;
                if dry_run {
                    return print_lines(&plan_text(&tried(&archived, log, target, wait)?))
                        .map(|()| 0);
                }
                let size_bytes = archived.folder.size_of(&archived.plan)?;
                let plan = plan_unbuilt(target, archived.shown(), size_bytes, wait)?;
                (plan, Box::new(archived))
            }
        };
        if dry_run {
            return print_lines(&plan_text(&plan)).map(|()| 0);
        }
        log.info(format_args!("Restoring {}", summary(&plan)));
        let restored = execute_restore(target, plan, &*source, wait)?;
        log.info(format_args!("✓ Restored {}", restored.plan.place.location));
        let mut lines = restored_text(&restored);
        if config.verbosity > Verbosity::Quiet {
            add_advice(&mut lines, &restored.plan, own.identity().backend, to.is_some());
        }
        print_lines(&lines).map(|()| 0)
    })
}

/// The path of the backup that was chosen.
fn find(
    config: &Config,
    log: Log,
    choice: &BackupChoice,
    wait: &WaitPolicy<'_>,
) -> Result<PathBuf> {
    let own = &*config.database;
    let folder = config.backups.folder.as_deref().map(BackupFolder::at);
    let id = database_id(own, choice, wait);
    let chosen = find_backup(choice, folder.as_ref(), &own.identity(), id.as_deref())?;
    for message in &chosen.messages {
        log.warn(message);
    }
    Ok(chosen.path)
}

/// The name of a database that is built of an archive for a trial.
const BUILT: &str = "cts.db";

/// Finds the database of a moment in the archive.
fn archived(config: &Config, moment: ArchiveMoment) -> Result<ArchivedDatabase> {
    let Some(settings) = &config.archive else {
        return Err(Error::new(Kind::Config, "there is no archive: CTS_ARCHIVE_DIR is not set")
            .remedy("set it to the folder of the archive, or restore a backup (`cts backups` lists them)"));
    };
    let folder = ArchiveFolder::at(&settings.folder);
    let plan = folder.plan(moment)?;
    Ok(ArchivedDatabase { folder, moment, plan })
}

/// Builds the database of a moment beside the place that it is for, proves it, and takes it away. Returns what would be done.
fn tried(
    archived: &ArchivedDatabase,
    log: Log,
    target: &dyn Database,
    wait: &WaitPolicy<'_>,
) -> Result<RestorePlan> {
    log.info(format_args!("Building {} for a trial", archived.shown()));
    let location = target.identity().location;
    let folder = Path::new(&location).parent().filter(|folder| folder.is_dir());
    let folder = TrialFolder::create(folder.unwrap_or(archived.folder.path()))?;
    let built = folder.path().join(BUILT);
    archived.unpack(&built, wait)?;
    let mut plan = plan_restore(target, &examine(&built, wait)?, wait)?;
    plan.origin.backup = archived.shown();
    Ok(plan)
}

/// The database at another path, where nothing is yet.
fn elsewhere(own: &dyn Database, path: &Path) -> Result<Box<dyn Database>> {
    let other = own.elsewhere(path)?;
    if fs::symlink_metadata(path).is_ok() {
        return Err(Error::new(Kind::CannotCreate, "there is a file of this name already")
            .at(path.display())
            .remedy("name a path where nothing is; without --to, the backup takes the place of the database"));
    }
    Ok(other)
}

/// The id of the database in the place, which tells its backups from those of others; `None` where it cannot be read.
fn database_id(own: &dyn Database, choice: &BackupChoice, wait: &WaitPolicy<'_>) -> Option<String> {
    match choice {
        BackupChoice::Latest => Some(own.backup_subject(wait).ok()?.database_id),
        BackupChoice::File(_) => None,
    }
}

/// The backup in a clause: its path, when it was made, and what it holds.
fn summary(plan: &RestorePlan) -> String {
    let made = plan.origin.made_at.as_ref().map(|at| format!(", made {at}")).unwrap_or_default();
    let content = match plan.content.as_ref().map(|content| (content.tables.len(), content.rows()))
    {
        None => String::new(),
        Some((0, _)) => ", proved".to_string(),
        Some((tables, rows)) => format!(", {tables} tables with {rows} rows, proved"),
    };
    format!("{}{made}{content}", plan.origin.backup)
}

fn plan_text(plan: &RestorePlan) -> Lines {
    let mut lines = Lines::new();
    lines.add(format_args!("Backup: {}", summary(plan)));
    match &plan.place.present {
        Some(present) => lines.add(format_args!("There now: {present}")),
        None => lines.add(format_args!("There now: nothing at {}", plan.place.location)),
    }
    if let Some(free) = plan.place.free_bytes {
        lines.add(format_args!("Free on that disk: {}", Bytes(free)));
    }
    lines.add("Would do:");
    for (number, step) in (1..).zip(&plan.steps) {
        lines.add(format_args!("  {number}. {}", plan.describe(step)));
    }
    lines
}

fn restored_text(Restored { content, .. }: &Restored) -> Lines {
    let mut lines = Lines::new();
    let width = content.tables.iter().map(|table| table.table.len()).max().unwrap_or_default();
    for table in &content.tables {
        lines.add(format_args!("{:width$}  {:>10} rows", table.table, table.rows));
    }
    lines.add(format_args!("{} tables, {} rows", content.tables.len(), content.rows()));
    lines
}

/// Adds what to do next.
fn add_advice(lines: &mut Lines, plan: &RestorePlan, backend: Backend, is_elsewhere: bool) {
    if is_elsewhere {
        let path = word(Path::new(&plan.place.location));
        lines.add(format_args!(
            "Look at it with `{} --db {path} status`; the database in use is as it was.",
            invocation::command()
        ));
        return;
    }
    let start = match backend {
        Backend::Sqlite => "Start cts (`systemctl start cts`), then the trading programs.",
        Backend::Postgresql => "Start cts, then the trading programs.",
    };
    lines.add(start);
    if let Some(kept) = &plan.place.kept_as {
        lines.add(format_args!(
            "The database before is kept as {kept}: delete it when you are satisfied."
        ));
    }
}
