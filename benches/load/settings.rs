//! What a program sets on its connection to the database.

use std::time::Duration;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use crate::Result;

#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Settings {
    /// How long a statement waits for the lock of another process, in milliseconds.
    pub busy_timeout: u64,
    /// `PRAGMA synchronous`: 1 is NORMAL, 2 is FULL.
    pub synchronous: u8,
    /// `PRAGMA cache_size`, in KiB.
    pub cache: u32,
    /// After how many pages in the WAL a client checkpoints; 0 leaves it to others.
    pub wal_autocheckpoint: u32,
    /// Whether a transaction takes the write lock when it begins.
    pub begins_immediate: bool,
}

/// What the programs of this project should set.
pub const RECOMMENDED: Settings = Settings {
    busy_timeout: 5000,
    synchronous: 1,
    cache: 64 << 10,
    wal_autocheckpoint: 10_000,
    begins_immediate: true,
};

/// What SQLite has by itself (sqlite.org/pragma.html). The WAL is not among it: both sides have
/// that, because without it 12 processes could not work at once at all.
pub const DEFAULTS: Settings = Settings {
    busy_timeout: 0,
    synchronous: 2,
    cache: 2000,
    wal_autocheckpoint: 1000,
    begins_immediate: false,
};

/// For what is not measured: filling tables and taking rows back.
pub const UNSAFE_BUT_FAST: Settings = Settings { synchronous: 0, ..RECOMMENDED };

impl Settings {
    /// So that the WAL holds all that was written.
    pub fn without_checkpoints(self) -> Self {
        Self { wal_autocheckpoint: 0, ..self }
    }

    pub fn begin(&self) -> &'static str {
        if self.begins_immediate { "BEGIN IMMEDIATE" } else { "BEGIN" }
    }

    pub fn apply(&self, conn: &Connection) -> Result<()> {
        conn.busy_timeout(Duration::from_millis(self.busy_timeout))?;
        conn.pragma_update(None, "synchronous", self.synchronous)?;
        conn.pragma_update(None, "cache_size", -i64::from(self.cache))?;
        conn.pragma_update_and_check(None, "wal_autocheckpoint", self.wal_autocheckpoint, |_| {
            Ok(())
        })?;
        Ok(())
    }
}
