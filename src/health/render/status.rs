//! The body of `/api/admin/migrations/status` and of `cts status --json`.

use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::archive::ArchiveJson;
use super::backups::BackupsJson;
use super::drift::{altered_json, exception_json};
use super::format::{json_text, milliseconds, stored_timestamp, timestamp};
use crate::health::Report;
use crate::health::report::TableCount;
use crate::system::version::VERSION;
use cts_schema::catalog::{CATEGORIES, core_tables};
use cts_schema::migration::AppliedMigration;

impl Report {
    /// The body of `/api/admin/migrations/status`.
    pub fn status_json(&self) -> String {
        let TableCount { expected, existing, .. } = self.count(core_tables());
        let categories = CATEGORIES.map(|category| {
            let TableCount { expected, existing, missing } =
                self.count(category.tables.iter().copied());
            let complete = existing == expected;
            (category.key, CategoryTables { expected, existing, missing, complete })
        });
        json_text(&MigrationStatus {
            success: self.connected,
            database: StatusDatabase { kind: self.backend.name(), connected: self.connected },
            migrations: Migrations {
                total: self.applied.len(),
                applied: self.applied.iter().map(AppliedRow::from).collect(),
                pending: &self.pending,
            },
            tables: Tables {
                total: expected,
                expected,
                existing,
                categories: Categories(categories),
            },
            status: self.migration_status(),
            relaxed: self.exceptions.iter().map(exception_json).collect(),
            accepted: self.accepted.iter().map(altered_json).collect(),
            backups: self.backups_json_for_administrators(),
            archive: self.archive_json_for_administrators(),
            reasons: self.reasons(),
            version: VERSION,
            timestamp: timestamp(self.at),
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MigrationStatus<'r> {
    success: bool,
    database: StatusDatabase,
    migrations: Migrations<'r>,
    tables: Tables,
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    relaxed: Vec<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    accepted: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backups: Option<BackupsJson<'r>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    archive: Option<ArchiveJson<'r>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<&'r str>,
    version: &'static str,
    timestamp: String,
}

#[derive(Serialize)]
struct StatusDatabase {
    #[serde(rename = "type")]
    kind: &'static str,
    connected: bool,
}

#[derive(Serialize)]
struct Migrations<'r> {
    total: usize,
    applied: Vec<AppliedRow>,
    pending: &'r [String],
}

#[derive(Serialize)]
struct Tables {
    total: usize,
    expected: usize,
    existing: usize,
    categories: Categories,
}

/// An object whose keys keep the order of [`CATEGORIES`].
struct Categories([(&'static str, CategoryTables); CATEGORIES.len()]);

impl Serialize for Categories {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, tables)| (key, tables)))
    }
}

#[derive(Serialize)]
struct CategoryTables {
    expected: usize,
    existing: usize,
    missing: Vec<&'static str>,
    complete: bool,
}

/// A row of the ledger as it is shown.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AppliedRow {
    /// `null` where the row holds no integer.
    id: Option<i64>,
    pub name: String,
    checksum: String,
    pub executed_at: String,
    pub execution_time: String,
}

impl From<&AppliedMigration> for AppliedRow {
    fn from(row: &AppliedMigration) -> AppliedRow {
        // A damaged row may hold no number, or a negative one.
        let execution_time = row.execution_time_ms.and_then(|ms| u64::try_from(ms).ok());
        AppliedRow {
            id: row.id,
            name: row.name.clone(),
            checksum: row.checksum.clone().unwrap_or_default(),
            executed_at: stored_timestamp(row.executed_at.as_deref().unwrap_or_default()),
            execution_time: milliseconds(execution_time.map(Duration::from_millis), 0),
        }
    }
}
