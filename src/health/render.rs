//! The renderings of a [`Report`]: the two JSON bodies, the line of `--check`, and the
//! status for a person. They only show; what it means was decided before.

use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::health::{Report, Status};
use crate::store::PoolState;
use crate::system::version::VERSION;
use cts_schema::catalog::{Alteration, CATEGORIES, CRITICAL, Drift, Object, core_tables};
use cts_schema::constraint_exception::ConstraintException;
use cts_schema::migration::AppliedMigration;

impl Report {
    /// The body of `/api/health/database`.
    pub fn health_json(&self) -> String {
        let (_, core, _) = self.count(core_tables());
        let (total, existing, missing) = self.count(CRITICAL.iter().copied());
        text(&Health {
            status: self.status(),
            database: HealthDatabase {
                kind: self.backend.name(),
                connected: self.connected,
                response_time: milliseconds(self.response_time, 1),
                table_count: core,
                critical_tables: CriticalTables { total, existing, missing },
                pool: self.pool.map(|PoolState { connections, idle, max }| Pool {
                    connections,
                    idle,
                    max,
                }),
            },
            migrations: Counted { applied: self.applied.len(), expected: self.expected_migrations },
            reasons: self.reasons(),
            version: VERSION,
            timestamp: timestamp(self.at),
        })
    }

    /// The body of `/api/admin/migrations/status`.
    pub fn status_json(&self) -> String {
        let (expected, existing, _) = self.count(core_tables());
        let categories = CATEGORIES.map(|category| {
            let (expected, existing, missing) = self.count(category.tables.iter().copied());
            let complete = existing == expected;
            (category.key, CategoryTables { expected, existing, missing, complete })
        });
        text(&MigrationStatus {
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
            relaxed: self.exceptions.iter().map(relaxation_json).collect(),
            reasons: self.reasons(),
            version: VERSION,
            timestamp: timestamp(self.at),
        })
    }

    /// The status for a person; `location` says where the database is.
    pub fn status_text(&self, location: &str) -> String {
        let mut text = format!("Database:   {}, {location}\n", self.backend.name());
        text += &format!(
            "Migrations: {} of {} applied\n",
            self.applied.len(),
            self.expected_migrations
        );
        for row in self.applied.iter().map(AppliedRow::from) {
            text += &format!("  {:<45} {}  {:>6}\n", row.name, row.executed_at, row.execution_time);
        }
        let (expected, existing, _) = self.count(core_tables());
        text += &format!("Tables:     {existing} of {expected} core tables\n");
        for category in CATEGORIES {
            let (expected, existing, _) = self.count(category.tables.iter().copied());
            text += &format!("  {:<14} {existing}/{expected}\n", category.key);
        }
        text += &format!("Status:     {}\n", self.migration_status());
        for exception in &self.exceptions {
            text += &format!("  relaxed: {exception}\n");
        }
        for reason in self.reasons() {
            text += &format!("  {reason}\n");
        }
        text
    }

    /// The line of `--check`.
    pub fn check_line(&self) -> String {
        let (_, tables, _) = self.count(core_tables());
        let counts = Counts {
            tables,
            applied: self.applied.len(),
            migrations: self.expected_migrations,
            seconds: self.response_time.as_secs_f64(),
        };
        let counts = self.connected.then_some(counts);
        check_line(self.status(), self.backend.name(), counts, &self.reasons())
    }
}

/// The drift and the relaxed rules as JSON.
pub fn drift_json(drift: &Drift, exceptions: &[ConstraintException]) -> String {
    let object = |object: &Object| match object {
        Object::Table(table) => json!({ "kind": "table", "table": table }),
        Object::Column(table, name) => json!({ "kind": "column", "table": table, "name": name }),
        Object::Index(table, name) => json!({ "kind": "index", "table": table, "name": name }),
    };
    let altered = |alteration: &Alteration| {
        let Alteration { object: what, expected, found } = alteration;
        json!({ "object": object(what), "expected": expected, "found": found })
    };
    json!({
        "drift": !drift.is_none(),
        "missing": drift.missing.iter().map(object).collect::<Vec<_>>(),
        "altered": drift.altered.iter().map(altered).collect::<Vec<_>>(),
        "extra": drift.extra.iter().map(object).collect::<Vec<_>>(),
        "relaxed": exceptions.iter().map(relaxation_json).collect::<Vec<_>>(),
    })
    .to_string()
}

fn relaxation_json(exception: &ConstraintException) -> Value {
    let ConstraintException { table, rule, rows } = exception;
    json!({ "table": table, "rule": rule.record_name(), "object": rule.object(), "rows": rows })
}

/// What the line of `--check` counts.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// Core tables that exist.
    pub tables: usize,
    /// Migrations that are applied.
    pub applied: usize,
    /// Migrations that should be.
    pub migrations: usize,
    /// How long the database took to answer, in seconds.
    pub seconds: f64,
}

/// The line of `--check`, in the form of the Monitoring Plugins guidelines; without `counts`
/// where the database did not answer.
pub fn check_line(
    status: Status,
    backend: &str,
    counts: Option<Counts>,
    reasons: &[&str],
) -> String {
    const SHOWN: usize = 3;
    let word = match status {
        Status::Healthy => "OK",
        Status::Degraded | Status::Initializing => "WARNING",
        Status::Unhealthy => "CRITICAL",
    };
    let mut line = format!("CTS {word} - {backend}");
    if let Some(Counts { tables, applied, migrations, .. }) = counts {
        let expected = core_tables().count();
        line += &format!(", {tables}/{expected} core tables, {applied}/{migrations} migrations");
    }
    if !reasons.is_empty() {
        let shown: Vec<&str> = reasons.iter().take(SHOWN).copied().collect();
        line += &format!(": {}", shown.join("; "));
    }
    if reasons.len() > SHOWN {
        line += &format!("; and {} more", reasons.len() - SHOWN);
    }
    // A bar begins the performance data, and a line end the long text.
    line = line.replace('|', "/").replace(char::is_control, " ");
    if let Some(Counts { tables, seconds, .. }) = counts {
        line += &format!(" | response_time={seconds:.4}s;;;0 tables={tables};;;0");
    }
    line
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Health<'r> {
    status: Status,
    database: HealthDatabase,
    migrations: Counted,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<&'r str>,
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
    pool: Option<Pool>,
}

#[derive(Serialize)]
struct Pool {
    connections: u32,
    idle: u32,
    max: u32,
}

#[derive(Serialize)]
struct Counted {
    applied: usize,
    expected: usize,
}

#[derive(Serialize)]
struct CriticalTables {
    total: usize,
    existing: usize,
    missing: Vec<&'static str>,
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

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AppliedRow {
    id: i64,
    name: String,
    checksum: String,
    executed_at: String,
    execution_time: String,
}

impl From<&AppliedMigration> for AppliedRow {
    fn from(row: &AppliedMigration) -> AppliedRow {
        let took = u64::try_from(row.execution_time_ms.unwrap_or_default()).unwrap_or_default();
        AppliedRow {
            id: row.id,
            name: row.name.clone(),
            checksum: row.checksum.clone().unwrap_or_default(),
            executed_at: iso(row.executed_at.as_deref().unwrap_or_default()),
            execution_time: milliseconds(Duration::from_millis(took), 0),
        }
    }
}

fn text(value: &impl Serialize) -> String {
    // Plain structs of strings and numbers; there is nothing in them that cannot be written.
    serde_json::to_string(value).unwrap_or_default()
}

fn milliseconds(time: Duration, decimals: usize) -> String {
    format!("{:.decimals$}ms", time.as_secs_f64() * 1000.0)
}

/// RFC 3339, UTC, with milliseconds.
pub fn timestamp(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}

/// A time as the database keeps it, as JSON shows it.
fn iso(stored: &str) -> String {
    match stored.split_once(' ') {
        Some((day, time)) => format!("{day}T{time}Z"),
        None => stored.to_string(),
    }
}
