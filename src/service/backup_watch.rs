//! What the folder of backups holds, read now and then on a thread of its own: no health answer waits for a disk or a server
//! that backups are on.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::backup::{
    BackupFolder, BackupInspection, BackupInventory, BackupSettings, Clocks, Inspector,
    InventoryTask,
};
use crate::error::Result;
use crate::store::DatabaseIdentity;
use crate::system::clock::SteadyClock;

/// How long what was read is used. Commands and timers make backups too.
const READ_INTERVAL: Duration = Duration::from_secs(10);
/// After how long a folder that is being read counts as one that does not answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Sees the backups; every thread has a clone.
#[derive(Clone)]
pub struct BackupWatch {
    settings: BackupSettings,
    database: DatabaseIdentity,
    clock: SteadyClock,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    found: Option<Result<Arc<BackupInventory>>>,
    read_at: Option<Instant>,
    /// The reading that has not ended yet, and when it began.
    reading: Option<(InventoryTask, Instant)>,
    /// Whether the folder has changed since the reading began.
    has_changed: bool,
}

impl BackupWatch {
    /// Begins to read the folder.
    pub fn start(settings: &BackupSettings, database: DatabaseIdentity) -> BackupWatch {
        let watch = BackupWatch {
            settings: settings.clone(),
            database,
            clock: SteadyClock::start(),
            seen: Arc::default(),
        };
        watch.inspect();
        watch
    }

    /// What is known now. Waits for nothing.
    pub fn inspect(&self) -> BackupInspection {
        let clocks = Clocks {
            wall: std::time::SystemTime::now(),
            steady: Some((self.clock.started_at(), self.clock.elapsed())),
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(folder) = self.settings.folder.as_deref().map(BackupFolder::at) {
            seen.update(&folder, &self.database, Instant::now());
        }
        BackupInspection {
            settings: self.settings.clone(),
            found: seen.found.clone(),
            clocks,
            inspector: Inspector::Service,
        }
    }

    /// Has the folder read again, because a backup was made or deleted.
    pub fn refresh(&self) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).has_changed = true;
        self.inspect();
    }
}

impl Seen {
    /// Takes what was read, and begins to read again when it is time.
    fn update(&mut self, folder: &BackupFolder, database: &DatabaseIdentity, now: Instant) {
        if let Some((task, begun)) = &self.reading {
            match task.within(Duration::ZERO) {
                Ok(found) => {
                    (self.found, self.read_at, self.reading) = (Some(found), Some(now), None);
                }
                Err(_) if now.duration_since(*begun) < ANSWER_TIMEOUT => return,
                // The thread is left to itself; no second one is started beside it.
                Err(_) => {
                    self.found = Some(Err(folder.unanswered(ANSWER_TIMEOUT)));
                    return;
                }
            }
        }
        let is_due = self.read_at.is_none_or(|at| now.duration_since(at) >= READ_INTERVAL);
        if !is_due && !self.has_changed {
            return;
        }
        self.has_changed = false;
        match folder.read_inventory(database) {
            Ok(task) => self.reading = Some((task, now)),
            Err(error) => (self.found, self.read_at) = (Some(Err(error)), Some(now)),
        }
    }
}
