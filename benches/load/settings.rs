//! The settings of a program's connection to the database.

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
    /// `PRAGMA wal_autocheckpoint`, in pages; 0 turns checkpoints by this connection off.
    pub wal_autocheckpoint: u32,
    /// Whether a transaction takes the write lock when it begins.
    pub begins_immediate: bool,
}

/// The settings recommended for the trading programs.
pub const RECOMMENDED: Settings = Settings {
    busy_timeout: 5000,
    synchronous: 1,
    cache: 64 << 10,
    wal_autocheckpoint: 10_000,
    begins_immediate: true,
};

/// SQLite's defaults (sqlite.org/pragma.html), except for WAL mode: both sides use it, because
/// without it 12 processes cannot work at the same time.
pub const DEFAULTS: Settings = Settings {
    busy_timeout: 0,
    synchronous: 2,
    cache: 2000,
    wal_autocheckpoint: 1000,
    begins_immediate: false,
};

/// For work that is not measured: filling tables and deleting rows.
pub const UNSAFE_BUT_FAST: Settings = Settings { synchronous: 0, ..RECOMMENDED };

impl Settings {
    /// With these, the WAL keeps everything that is written.
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
