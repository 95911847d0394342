//! The body of `/api/health/database` and of `cts --check --json`.

use serde::Serialize;

use super::archive::ArchiveJson;
use super::backups::BackupsJson;
use super::format::{json_text, milliseconds, timestamp};
use crate::health::report::TableCount;
use crate::health::{DeepCheck, Report, Status};
use crate::store::PoolState;
use crate::system::version::VERSION;
use cts_schema::catalog::{CRITICAL, core_tables};

impl Report {
    /// The body of `/api/health/database`.
    pub fn health_json(&self) -> String {
        let TableCount { expected: total, existing, missing } =
            self.count(CRITICAL.iter().copied());
        json_text(&Health {
            status: self.status(),
            database: HealthDatabase {
                kind: self.backend.name(),
                connected: self.connected,
                response_time: milliseconds(self.response_time, 1),
                table_count: self.count(core_tables()).existing,
                critical_tables: CriticalTables { total, existing, missing },
                pool: self.storage.pool.map(PoolJson::of),
            },
            migrations: MigrationCount {
                applied: self.applied.len(),
                expected: self.expected_migrations,
            },
            deep_check: self.deep_check.map(DeepCheckJson::of),
            backups: self.backups_json(),
            archive: self.archive_json(),
            reasons: self.reasons(),
            summary: if self.missing().next().is_none() { Vec::new() } else { self.summary() },
            version: VERSION,
            timestamp: timestamp(self.at),
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Health<'r> {
    status: Status,
    database: HealthDatabase,
    migrations: MigrationCount,
    #[serde(skip_serializing_if = "Option::is_none")]
    deep_check: Option<DeepCheckJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backups: Option<BackupsJson<'r>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    archive: Option<ArchiveJson<'r>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<&'r str>,
    /// Only where it is not the same as the reasons.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    summary: Vec<String>,
    version: &'static str,
    timestamp: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HealthDatabase {
    #[serde(rename = "type")]
    kind: &'static str,
    connected: bool,
    response_time: String,
    table_count: usize,
    critical_tables: CriticalTables,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool: Option<PoolJson>,
}

/// The connections to a server.
#[derive(Serialize)]
pub struct PoolJson {
    connections: u32,
    idle: u32,
    max: u32,
}

impl PoolJson {
    pub fn of(pool: PoolState) -> PoolJson {
        let PoolState { connections, idle, max } = pool;
        PoolJson { connections, idle, max }
    }
}

/// A check of everything for damage; what it has read is `null` where that is not known.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeepCheckJson {
    tables: Option<usize>,
    bytes: Option<u64>,
    seconds: f64,
}

impl DeepCheckJson {
    fn of(check: DeepCheck) -> DeepCheckJson {
        let DeepCheck { read, time } = check;
        DeepCheckJson {
            tables: read.map(|read| read.tables),
            bytes: read.and_then(|read| read.bytes),
            seconds: time.as_secs_f64(),
        }
    }
}

#[derive(Serialize)]
struct MigrationCount {
    applied: usize,
    expected: usize,
}

#[derive(Serialize)]
struct CriticalTables {
    total: usize,
    existing: usize,
    missing: Vec<&'static str>,
}
