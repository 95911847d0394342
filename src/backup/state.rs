//! What is known of the backups of a database at one moment, judged from the manifests, the settings and the clock.
//! Nothing is read here.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::inventory::{BackupInventory, BackupRecord};
use super::settings::BackupSettings;
use crate::error::Error;
use crate::store::{DatabaseIdentity, Snapshot};

/// A time that is ahead of the clock by no more than this counts as now: clocks are corrected by some seconds.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);
/// After how many periods without a good backup a person should look.
const PERIODS_MAX: u32 = 2;
/// How many backups are listed.
const NEWEST_MAX: usize = 30;

/// The time now, by one clock or two: that of the machine, which may be set by any amount, and one that runs evenly
/// since a process began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// What the machine's clock says.
    pub wall: SystemTime,
    /// The machine's clock when the process began, and the time that has passed since then.
    pub steady: Option<(SystemTime, Duration)>,
}

/// The age of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// It is so old.
    Known(Duration),
    /// It is dated in the future: the clock is wrong, or was.
    Future,
    /// Its time is not known.
    Unknown,
}

impl Clocks {
    /// The age of what happened at this time: by whichever clock it is less, as a clock that was set forward since then
    /// makes everything older than it is.
    pub fn age(&self, at: Option<SystemTime>) -> Age {
        let Some(at) = at else { return Age::Unknown };
        let steady = self.steady.and_then(|(began, passed)| began.checked_add(passed));
        let ages = [Some(self.wall), steady].into_iter().flatten().filter_map(|now| {
            let age = now.duration_since(at);
            age.or_else(|e| (e.duration() <= CLOCK_TOLERANCE).then_some(Duration::ZERO).ok_or(e))
                .ok()
        });
        ages.min().map_or(Age::Future, Age::Known)
    }
}

/// A period or an age as it is shown: to the minute from an hour on.
pub fn shown_age(age: Duration) -> String {
    let seconds = age.as_secs();
    let seconds = if seconds >= 3600 { seconds - seconds % 60 } else { seconds };
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

impl Age {
    /// The age, where it is known.
    pub fn known(self) -> Option<Duration> {
        match self {
            Age::Known(age) => Some(age),
            Age::Future | Age::Unknown => None,
        }
    }
}

/// Who looks at the backups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inspector {
    /// The service, which makes them.
    Service,
    /// A command, perhaps of a user who may not enter their folder.
    Command,
}

/// The backups of a folder as they were seen.
#[derive(Clone, Debug)]
pub struct BackupInspection {
    /// What is configured.
    pub settings: BackupSettings,
    /// What the folder holds, or why that cannot be read; `None` where it was not read yet.
    pub found: Option<Result<Arc<BackupInventory>, Error>>,
    /// The time.
    pub clocks: Clocks,
    /// Who looks.
    pub inspector: Inspector,
}

/// Which database the backups must be of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackedUpDatabase {
    /// Its type.
    pub database_type: String,
    /// What tells it from others; `None` where it could not be read.
    pub id: Option<String>,
    /// When it was created; `None` where that is not known.
    pub created_at: Option<SystemTime>,
}

impl BackedUpDatabase {
    /// The one of this snapshot. Its ledger begins when it is created; where an older CTS made it, when it is adopted.
    pub fn of(identity: &DatabaseIdentity, snapshot: &Snapshot) -> BackedUpDatabase {
        let mut own = snapshot.ledger.iter().filter(|row| row.is_ours());
        let created_at = own.next().and_then(|row| row.executed_at.as_deref());
        BackedUpDatabase {
            id: Some(snapshot.database_id()),
            created_at: created_at.and_then(|time| humantime::parse_rfc3339_weak(time).ok()),
            ..BackedUpDatabase::unread(identity)
        }
    }

    /// One whose ledger is not known.
    pub fn unread(identity: &DatabaseIdentity) -> BackedUpDatabase {
        let database_type = identity.backend.name().into();
        BackedUpDatabase { database_type, ..BackedUpDatabase::default() }
    }
}

/// A backup with its age.
#[derive(Clone, Debug, PartialEq)]
pub struct LastBackup {
    /// What is known of it.
    pub record: BackupRecord,
    /// Its age.
    pub age: Age,
}

impl LastBackup {
    /// Why it does not count as a backup, if it does not.
    pub fn fault(&self) -> Option<&str> {
        self.record.fault.as_deref()
    }
}

/// What is known of the backups of a database at one moment.
#[derive(Clone, Debug)]
pub struct BackupState {
    /// Their folder; `None` where none is configured.
    pub folder: Option<PathBuf>,
    /// How often the service makes one; `None` if it makes none.
    pub every: Option<Duration>,
    /// How many good ones of this database there are; `None` if that is not known.
    pub count: Option<usize>,
    /// The newest good one of this database.
    pub last: Option<LastBackup>,
    /// The newest good one that was restored for a trial.
    pub last_drilled: Option<BackupRecord>,
    /// The newest one of this database, if it does not count as a backup.
    pub newest_faulty: Option<BackupRecord>,
    /// Those of this database, the newest first, at most [`NEWEST_MAX`]; `None` if they are not known.
    pub newest: Option<Vec<LastBackup>>,
    /// How many there are of other databases.
    pub others: usize,
    /// Whether the folder exists; `None` if that is not known.
    pub has_folder: Option<bool>,
    /// Why it is not known what the folder holds.
    pub unread: Option<Error>,
    /// Who looked.
    pub inspector: Inspector,
    /// The least age that the newest good backup must have at most, by those whose time is not in the future.
    age_at_most: Option<Duration>,
    database_age: Age,
    running_for: Option<Duration>,
}

/// Whether the newest good backup is as recent as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recency {
    /// It is, or none is due, or that is not known yet.
    Recent,
    /// There is none, and the database is so young that none is missed.
    NoneYet,
    /// There is none, or none within twice the period.
    Overdue,
}

impl BackupState {
    /// What an inspection says of the backups of this database. Those of a database whose id is not known are all of its
    /// type.
    pub fn of(inspection: BackupInspection, database: &BackedUpDatabase) -> BackupState {
        let BackupInspection { settings, found, clocks, inspector } = inspection;
        let (inventory, unread) = match found {
            Some(Ok(inventory)) => (Some(inventory), None),
            Some(Err(error)) => (None, Some(error)),
            None => (None, None),
        };
        let all = inventory.as_deref().map_or(&[][..], |inventory| &inventory.backups);
        let is_own = |backup: &&BackupRecord| {
            backup.database_type == database.database_type
                && backup.is_of_place
                && database.id.as_ref().is_none_or(|id| *id == backup.database_id)
        };
        let own: Vec<&BackupRecord> = all.iter().filter(is_own).collect();
        let good: Vec<&BackupRecord> =
            own.iter().filter(|backup| backup.fault.is_none()).copied().collect();
        let aged = |record: &BackupRecord| LastBackup {
            age: clocks.age(record.made_at),
            record: record.clone(),
        };
        let last = good.last().copied().map(aged);
        let listed = || own.iter().rev().take(NEWEST_MAX).copied().map(aged).collect();
        let newest = inventory.as_ref().map(|_| listed());
        let ages = good.iter().rev().map(|backup| clocks.age(backup.made_at));
        BackupState {
            folder: settings.folder,
            every: settings.every,
            count: inventory.as_ref().map(|_| good.len()),
            last,
            last_drilled: good.iter().rfind(|backup| backup.drill.is_some()).copied().cloned(),
            newest_faulty: own.last().filter(|newest| newest.fault.is_some()).copied().cloned(),
            newest,
            others: all.len() - own.len(),
            has_folder: inventory.as_ref().map(|inventory| inventory.has_folder),
            unread,
            inspector,
            age_at_most: ages.filter_map(Age::known).next(),
            database_age: clocks.age(database.created_at),
            running_for: clocks.steady.map(|(_, passed)| passed),
        }
    }

    /// The age from which on the newest good backup is too old; `None` where none is made automatically.
    pub fn age_max(&self) -> Option<Duration> {
        self.every.map(|every| every.saturating_mul(PERIODS_MAX))
    }

    /// When the service makes the next one; `None` where it makes none, or that is not known.
    pub fn next_due_at(&self) -> Option<SystemTime> {
        let last = self.last.as_ref().filter(|last| last.age.known().is_some())?;
        last.record.made_at?.checked_add(self.every?)
    }

    /// Whether the newest good backup is recent enough.
    pub fn recency(&self) -> Recency {
        let (Some(age_max), Some(_)) = (self.age_max(), self.count) else { return Recency::Recent };
        // A good backup that is dated in the future was made after those before it, whatever the clock said.
        if let Some(age) = self.age_at_most {
            return if age > age_max { Recency::Overdue } else { Recency::Recent };
        }
        let is_young = match self.database_age {
            Age::Known(age) => age <= age_max,
            // Since when the service makes backups is known all the same. The time of a clock before 1970 is not read.
            Age::Future | Age::Unknown => self.running_for.is_none_or(|running| running <= age_max),
        };
        match is_young {
            true => Recency::NoneYet,
            false => Recency::Overdue,
        }
    }
}

#[cfg(test)]
mod tests;
