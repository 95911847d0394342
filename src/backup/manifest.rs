//! What is known of a backup, in a file of JSON beside it: of which database it is and what it holds, how it was proved,
//! and by which rule it is kept.

use std::collections::BTreeMap;
use std::fs;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::store::{Backend, BackupContent, DatabaseIdentity};
use crate::system::clock::UtcTime;

/// The form of the file, raised when a reader of the form before could not understand it.
pub const FORMAT: u32 = 1;

/// The description of a backup.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The form of this description.
    pub format: u32,
    /// The name of the backup's file.
    pub file: String,
    /// The database that was copied.
    pub database: CopiedDatabase,
    /// Counts the backups of a folder, from 1: the order in which they were made, whatever the clock said.
    pub serial: u64,
    /// When the copy was begun: the database is in it as it was then or later. RFC 3339, UTC.
    pub made_at: String,
    /// The version of cts that made it.
    pub made_by: String,
    /// By which rule it is kept.
    pub kept_by: KeptBy,
    /// The size of the file in bytes.
    pub size_bytes: u64,
    /// The SHA-256 of the file, in hexadecimal digits.
    pub sha256: String,
    /// The size in bytes of the copy before it was compressed.
    pub uncompressed_bytes: u64,
    /// The migrations in its ledger, in order.
    pub migrations: Vec<String>,
    /// The rows of each of its tables.
    pub tables: BTreeMap<String, u64>,
    /// When it was proved last. RFC 3339, UTC.
    pub proved_at: String,
    /// What came of restoring it for a trial; `None` if that was not tried.
    pub drill: Option<DrillResult>,
}

/// The database that a backup is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopiedDatabase {
    /// `sqlite` or `postgresql`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its path or URL, without secrets.
    pub location: String,
    /// Tells it from another database at the same location.
    pub id: String,
}

/// Where a database is. A copy of a database has its id, and is another one, in another place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabasePlace {
    kind: &'static str,
    /// The path of a file, with symbolic links resolved. The name of a server can change while its database stays the
    /// same one, and is left out.
    path: Option<String>,
}

impl DatabasePlace {
    /// The place of this database.
    pub fn of(identity: &DatabaseIdentity) -> DatabasePlace {
        let path = (identity.backend == Backend::Sqlite).then(|| resolved(&identity.location));
        DatabasePlace { kind: identity.backend.name(), path }
    }

    /// Whether the database that was copied was here.
    pub fn is_of(&self, copied: &CopiedDatabase) -> bool {
        let is_path =
            |path: &String| *path == copied.location || *path == resolved(&copied.location);
        copied.kind == self.kind && self.path.as_ref().is_none_or(is_path)
    }
}

fn resolved(path: &str) -> String {
    fs::canonicalize(path).map_or(path.into(), |path| path.display().to_string())
}

/// By which rule a backup is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeptBy {
    /// CTS_BACKUP_KEEP: it is deleted once no rule keeps it.
    Rules,
    /// A person named its file, and deletes it.
    Hand,
}

/// What came of a drill: the backup was restored to a temporary place, migrated, compared, and taken away.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrillResult {
    /// When it ended. RFC 3339, UTC.
    pub at: String,
    /// How long restoring took, in seconds, from the file to a database that is migrated and compared.
    pub restore_seconds: Option<f64>,
    /// Why it failed; `None` if it succeeded.
    pub failure: Option<String>,
}

impl Manifest {
    /// When the backup was made; `None` if the text is no time.
    pub fn made_at(&self) -> Option<SystemTime> {
        humantime::parse_rfc3339(&self.made_at).ok()
    }

    /// Whether it counts as a backup: a failed drill takes that away.
    pub fn is_good(&self) -> bool {
        self.drill.as_ref().is_none_or(|drill| drill.failure.is_none())
    }

    /// The last migration in its ledger.
    pub fn schema_version(&self) -> Option<&str> {
        self.migrations.last().map(String::as_str)
    }

    /// Records what a proof has found, now.
    pub fn record_proof(&mut self, content: BackupContent) {
        self.migrations = content.migrations;
        self.tables = content.tables.into_iter().map(|table| (table.table, table.rows)).collect();
        self.proved_at = UtcTime::now().rfc3339();
    }
}
