//! The thread that makes the automatic backups of the running service. Whatever fails in it is a condition and never ends
//! the service; a folder that hangs holds up nothing but this thread.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use crate::backup::{
    BackupFolder, BackupOwner, BackupSettings, BackupTarget, Deletions, MadeBackup, NewBackup,
    Schedule, StoredBackup, clear_room, drill, follow_up, lock, make_locked, refuse_low_disk,
    remove_failed,
};
use crate::error::{Cause, Error, Kind, Result};
use crate::health::Subject;
use crate::service::prober::Prober;
use crate::service::work_thread::{WorkEnd, WorkThread, be_nice};
use crate::store::{BackupLock, BackupSubject, DamageScope, Database, SiteLogEntry, WaitPolicy};
use crate::system::clock::SteadyClock;
use crate::system::log::Log;

/// The name of the thread.
const THREAD: &str = "auto-backup";
/// The nice value of the thread: the trading programs go first, on the processors and, by what Linux derives from it, on
/// the disks (ioprio_set(2)).
const NICE: i32 = 15;
/// The longest time between two looks at the clock, which may be set, and the machine may have slept.
const CLOCK_INTERVAL: Duration = Duration::from_secs(60);
/// How long a backup that is due waits for that of another process.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a backup that could not be restored for a trial, for want of room or of a right, is not tried again.
const DRILL_RETRY_INTERVAL: Duration = Duration::from_secs(3600);
/// How long the end of the thread is waited for when the service stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Starts to make automatic backups; `None` where none are to be made.
///
/// # Errors
/// [`Kind::Io`] if the thread cannot be started.
pub fn start(
    database: Arc<dyn Database>,
    settings: &BackupSettings,
    prober: &Prober,
    log: Log,
) -> Result<Option<WorkThread>> {
    let (Some(folder), Some(every)) = (&settings.folder, settings.every) else {
        return Ok(None);
    };
    let (folder, settings, prober) = (BackupFolder::at(folder), settings.clone(), prober.clone());
    let work = move |end| {
        let mut backups = AutomaticBackups {
            database,
            settings,
            folder,
            database_id: None,
            not_tried: None,
            schedule: Schedule::new(every),
            clock: SteadyClock::start(),
            prober,
            end,
            log,
        };
        backups.run();
    };
    WorkThread::start(THREAD, STOP_TIMEOUT, work).map(Some)
}

/// What the thread owns.
struct AutomaticBackups {
    database: Arc<dyn Database>,
    settings: BackupSettings,
    folder: BackupFolder,
    /// The id that the database had when it was read last.
    database_id: Option<String>,
    /// The file of a backup that could not be restored for a trial, and when that was, by `clock`.
    not_tried: Option<(String, Duration)>,
    schedule: Schedule,
    clock: SteadyClock,
    prober: Prober,
    end: WorkEnd,
    log: Log,
}

impl AutomaticBackups {
    fn run(&mut self) {
        be_nice(NICE);
        let cancelled = Arc::clone(&self.end.cancelled);
        let wait = WaitPolicy::silent(LOCK_TIMEOUT, &cancelled);
        // What cannot be read is met again, and reported, when a backup is due.
        let _ = self.take_note(&wait);
        while self.end.pause(self.pause()) {
            if self.pause().is_zero() {
                self.turn(&wait);
                self.prober.backups().refresh();
            }
            if !self.pause().is_zero() {
                self.make_up_drill(&wait);
            }
        }
    }

    /// The time until the next backup is due, or the clock is to be compared again.
    fn pause(&self) -> Duration {
        self.schedule.wait(self.clock.elapsed(), SystemTime::now()).min(CLOCK_INTERVAL)
    }

    /// Takes note of the newest good backup in the folder, which a command or another service may have made.
    /// Returns the database as it was examined.
    fn take_note(&mut self, wait: &WaitPolicy<'_>) -> Result<BackupSubject> {
        let subject = self.database.backup_subject(wait)?;
        let owner = BackupOwner::new(&*self.database, &subject.database_id);
        let backups = self.folder.list()?;
        let is_good = |backup: &&StoredBackup| owner.owns(&backup.manifest) && backup.is_good();
        let newest = backups.iter().rev().find(is_good).map(|newest| newest.manifest.made_at());
        self.schedule.note_newest(newest, self.clock.elapsed(), SystemTime::now());
        self.database_id = Some(subject.database_id.clone());
        Ok(subject)
    }

    /// Makes the backup that is due.
    fn turn(&mut self, wait: &WaitPolicy<'_>) {
        match self.make(wait) {
            // Another process has made one meanwhile.
            Ok(None) => self.prober.conditions().record(Subject::Backup, &Ok(())),
            Ok(Some((lock, new))) => {
                let (backup, ended) = (&new.backup, self.clock.elapsed());
                self.report_made(backup);
                self.prober.backups().refresh();
                if self.follow(&lock, backup, Some(&new), wait) {
                    self.schedule.note_success(backup.manifest.made_at(), ended);
                }
            }
            Err(error) if error.kind == Kind::Stopped => {}
            Err(error) if error.kind == Kind::TryAgain => {
                self.schedule.note_skipped(self.clock.elapsed());
                self.log
                    .info(format_args!("The backup that is due is put off: {}", error.message()));
            }
            Err(error) => {
                self.schedule.note_failure(self.clock.elapsed());
                if error.is_damage() {
                    self.prober.conditions().record(Subject::Damage, &self.find_damage(wait));
                }
                self.report_failure(Subject::Backup, error);
            }
        }
    }

    /// Makes a backup, if none was made by another process meanwhile. The lock holds off others until what follows is done.
    fn make(&mut self, wait: &WaitPolicy<'_>) -> Result<Option<(BackupLock, NewBackup)>> {
        let lock = lock(&*self.database, wait)?;
        let subject = self.take_note(wait)?;
        if !self.pause().is_zero() {
            return Ok(None);
        }
        self.refuse_missing_folder()?;
        let created = self.folder.create()?;
        created.into_iter().for_each(|note| self.log.info(note));
        let (database, id) = (&*self.database, &subject.database_id);
        self.report_old(clear_room(database, &self.settings, &self.folder, id, &lock, wait));
        refuse_low_disk(self.folder.path(), subject.size_bytes)?;
        let target = BackupTarget::Folder(&self.folder);
        let MadeBackup { backup, notes, .. } =
            make_locked(&*self.database, &lock, subject, target, self.settings.compress, wait)?;
        notes.into_iter().for_each(|note| self.log.info(note));
        Ok(Some((lock, NewBackup::of(backup))))
    }

    /// Refuses to create a folder that was configured: it may be on a disk that is not mounted, and the backups would
    /// silently go to the disk of the mount point. The folder beside the database cannot be away by itself.
    fn refuse_missing_folder(&self) -> Result<()> {
        let folder = self.folder.path();
        let is_default = self.database.default_backup_folder().is_some_and(|own| own == folder);
        match folder.try_exists() {
            Ok(false) if !is_default => {
                let what = "the folder of backups does not exist, and the service does not create one that CTS_BACKUP_DIR names: its disk may not be mounted";
                let remedy = "mount the disk (`findmnt`), or create the folder once, by `cts backup` or `mkdir -m 700`, for the user of the service";
                Err(Error::new(Kind::CannotCreate, what).at(folder.display()).remedy(remedy))
            }
            _ => Ok(()),
        }
    }

    /// Checks the database itself: a damaged copy is that of a damaged database, or its own disk has damaged it.
    ///
    /// # Errors
    /// The damage of the database, or why it cannot be checked.
    fn find_damage(&self, wait: &WaitPolicy<'_>) -> Result<()> {
        let Some(mut database) = self.database.open_read_only(wait)?.database else {
            return Ok(());
        };
        let damage = database.find_damage(DamageScope::Everything)?;
        let damaged = |what: String, remedy: &str| {
            let error = Error::new(Kind::Data, what).caused_by(Cause::Damage).remedy(remedy);
            Err(error.at(self.database.identity().location))
        };
        match (damage.indexes.first(), damage.pages.first()) {
            (Some(index), _) => damaged(
                format!("index {index} is damaged, and no row"),
                "`cts repair` rebuilds the index",
            ),
            (None, Some(line)) => damaged(
                format!("damaged: {line}"),
                "restore a backup (`cts restore latest`); `cts --check --deep` names all damage",
            ),
            (None, None) => Ok(()),
        }
    }

    fn report_made(&self, backup: &StoredBackup) {
        let message = backup.summary();
        self.log.info(format_args!("✓ {message}"));
        self.prober.conditions().record(Subject::Backup, &Ok(()));
        // The proof has read every page.
        self.prober.conditions().record(Subject::Damage, &Ok(()));
        self.prober.record(SiteLogEntry { level: "info", message });
    }

    /// Restores the newest good backup for a trial where that was not done: it was interrupted, or a command made the backup.
    fn make_up_drill(&mut self, wait: &WaitPolicy<'_>) {
        if self.database_id.is_none() {
            let _ = self.take_note(wait);
        }
        if self.end.cancelled.load(Ordering::Relaxed) || self.newest_untried().is_none() {
            return;
        }
        // Another process that holds the lock may be trying it.
        let cancelled = Arc::clone(&self.end.cancelled);
        let at_once = WaitPolicy::silent(Duration::ZERO, &cancelled);
        let Ok(lock) = lock(&*self.database, &at_once) else { return };
        if self.take_note(wait).is_ok()
            && let Some(backup) = self.newest_untried()
        {
            let message =
                format!("{}, not restored for a trial yet: that is made up for", backup.summary());
            self.log.info(&message);
            // A command that makes a backup writes nothing into the database.
            self.prober.record(SiteLogEntry { level: "info", message });
            self.follow(&lock, &backup, None, wait);
            self.prober.backups().refresh();
        }
    }

    /// The newest good backup of the database, if it was not restored for a trial, and that was not in vain a moment ago. The
    /// result is not recorded in a manifest that another program has changed.
    fn newest_untried(&self) -> Option<StoredBackup> {
        let owner = BackupOwner::new(&*self.database, self.database_id.as_ref()?);
        let is_good = |backup: &StoredBackup| owner.owns(&backup.manifest) && backup.is_good();
        let newest = self.folder.list().ok()?.into_iter().rev().find(is_good)?;
        let is_recent = self.not_tried.as_ref().is_some_and(|(file, at)| {
            *file == newest.manifest.file
                && self.clock.elapsed().saturating_sub(*at) < DRILL_RETRY_INTERVAL
        });
        (newest.manifest.drill.is_none() && newest.is_sealed && !is_recent).then_some(newest)
    }

    /// Restores a backup for a trial, and deletes those that no rule keeps. In this order: one that cannot be restored takes
    /// the place of none. Returns whether it still counts as a backup; `new` is given if it was made a moment ago.
    fn follow(
        &mut self,
        lock: &BackupLock,
        backup: &StoredBackup,
        new: Option<&NewBackup>,
        wait: &WaitPolicy<'_>,
    ) -> bool {
        let tried = self.try_restore(backup, wait);
        let is_good = !matches!(tried, Ok(Some(_)));
        match tried {
            Ok(None) => self.prober.conditions().record(Subject::Drill, &Ok(())),
            Ok(Some(why)) => {
                // One that cannot be restored is none: the next one is due as after a failure.
                self.schedule.note_failure(self.clock.elapsed());
                let _ = self.take_note(wait);
                self.report_fault(lock, backup, new, why);
            }
            Err(error) if error.kind == Kind::Stopped => return true,
            Err(error) => {
                self.not_tried = Some((backup.manifest.file.clone(), self.clock.elapsed()));
                self.report_failure(Subject::Drill, error);
            }
        }
        self.report_old(follow_up(&*self.database, &self.settings, backup, lock, wait));
        is_good
    }

    /// Returns why the backup cannot be restored; `None` if it can.
    ///
    /// # Errors
    /// Why it could not be tried.
    fn try_restore(&self, backup: &StoredBackup, wait: &WaitPolicy<'_>) -> Result<Option<String>> {
        let result = drill(&*self.database, backup, wait)?;
        if result.failure.is_none() {
            let seconds = result.restore_seconds.unwrap_or_default();
            self.log.info(format_args!("✓ The backup was restored for a trial, in {seconds:.1} s"));
        }
        Ok(result.failure)
    }

    /// Reports a backup that cannot be restored. A new one is removed where an earlier one can be looked into instead.
    fn report_fault(
        &self,
        lock: &BackupLock,
        backup: &StoredBackup,
        new: Option<&NewBackup>,
        why: String,
    ) {
        let path = backup.path.display();
        let error = Error::new(Kind::Data, why).at(&path);
        let removed = new.map_or(Ok(None), |new| remove_failed(&*self.database, new, lock));
        let error = match removed {
            Ok(None) => error
                .remedy("find out why (`cts backup --verify` on it); those before it are kept"),
            Ok(Some(earlier)) => {
                let earlier = earlier.display();
                let message = format!("Backup {path}, whose trial failed, was removed: {earlier}, whose trial failed before, is kept");
                self.log.info(&message);
                self.prober.record(SiteLogEntry { level: "warn", message });
                error
                    .note(format!("it was removed; {earlier}, whose trial failed before, is kept"))
                    .remedy("find out why (`cts backup --verify` on that one); the good ones before it are kept")
            }
            Err(reason) => error.note(format!("it could not be removed: {}", reason.message())).remedy(
                "find out why (`cts backup --verify` on it), and move it away; those before it are kept",
            ),
        };
        self.report_failure(Subject::Drill, error);
    }

    /// Reports what came of deleting the backups that no rule keeps.
    fn report_old(&self, deletions: Result<Deletions>) {
        match deletions.and_then(|deletions| self.report_deleted(deletions)) {
            Err(error) if error.kind == Kind::Stopped => {}
            Err(error) => self.report_failure(Subject::OldBackups, error),
            Ok(()) => self.prober.conditions().record(Subject::OldBackups, &Ok(())),
        }
    }

    /// # Errors
    /// The first of the failures.
    fn report_deleted(&self, deletions: Deletions) -> Result<()> {
        if !deletions.deleted.is_empty() {
            let message = deletions.summary(self.settings.keep);
            self.log.info(&message);
            self.prober.record(SiteLogEntry { level: "info", message });
        }
        deletions.failures.into_iter().next().map_or(Ok(()), Err)
    }

    /// Records a fault, and in `site_logs` when it is a new one.
    fn report_failure(&self, subject: Subject, error: Error) {
        let conditions = self.prober.conditions();
        if !conditions.holds(subject) {
            let message = format!("{}{error}", subject.failure());
            self.prober.record(SiteLogEntry { level: "error", message });
        }
        conditions.record(subject, &Err::<(), _>(error));
    }
}
