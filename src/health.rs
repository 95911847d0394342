//! What one look at the database found, and the one decision what it means. The health
//! JSON, the status JSON and the line of `--check` are renderings of the same [`Report`],
//! so they cannot disagree.

use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};

use crate::catalog::{CATEGORIES, CRITICAL, core_tables};
use crate::error::{Error, Result};
use crate::migrate::Plan;
use crate::migration::Applied;
use crate::schema::{Schema, VERSION};
use crate::store::{Backend, Damage, Look, Place};

/// Below this many free bytes a database cannot be used: the WAL and the shared memory of
/// a busy box need about as much.
const DISK_FULL: u64 = 16 << 20;
/// Below this many free bytes, and 5 % of the disk, a person should look.
const DISK_LOW: u64 = 1 << 30;

/// How the database is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Everything expected is there and usable.
    Healthy,
    /// Usable, and a person should look.
    Degraded,
    /// Not usable.
    Unhealthy,
    /// Migrations are running.
    Initializing,
}

impl Status {
    /// Its name in JSON and text.
    pub fn name(self) -> &'static str {
        match self {
            Status::Healthy => "healthy",
            Status::Degraded => "degraded",
            Status::Unhealthy => "unhealthy",
            Status::Initializing => "initializing",
        }
    }

    /// Whether trading programs can use the database.
    pub fn is_usable(self) -> bool {
        matches!(self, Status::Healthy | Status::Degraded)
    }

    /// The exit code of `--check`.
    pub fn exit_code(self) -> u8 {
        match self {
            Status::Healthy => 0,
            Status::Degraded | Status::Initializing => 1,
            Status::Unhealthy => 2,
        }
    }
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The database cannot be used.
    Critical(String),
    /// It can be used, and a person should look.
    Warning(String),
}

impl Finding {
    fn text(&self) -> &str {
        match self {
            Finding::Critical(text) | Finding::Warning(text) => text,
        }
    }
}

/// What is known beside what the database itself says.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The place it lies in.
    pub place: Place,
    /// Why the last attempt to write failed.
    pub unwritable: Option<String>,
    /// What a search for damage found, where there was one.
    pub damage: Damage,
}

/// What one look found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The kind of database.
    pub backend: Backend,
    /// Whether the database answered.
    pub connected: bool,
    /// Whether migrations are running.
    pub initializing: bool,
    /// How long the answer took.
    pub response_time: Duration,
    /// When it was asked.
    pub at: SystemTime,
    /// What is not as it should be.
    pub findings: Vec<Finding>,
    /// The expected tables that exist.
    tables: Vec<&'static str>,
    /// The ledger's rows of ours.
    applied: Vec<Applied>,
    /// Migrations that are pending and objects that are missing, by name.
    pending: Vec<String>,
    /// The number of migrations a complete ledger holds.
    expected_migrations: usize,
}

impl Report {
    /// The report of a look that succeeded.
    pub fn of(
        schema: &'static Schema,
        backend: Backend,
        look: &Look,
        around: &Surroundings,
        took: Duration,
    ) -> Report {
        let mut report = Report::without_look(schema, backend);
        report.connected = true;
        report.response_time = took;
        report.tables = schema
            .expected
            .tables
            .iter()
            .map(|table| &*table.name)
            .filter(|name| look.catalog.table(name).is_some())
            .collect();
        report.applied = look
            .ledger
            .iter()
            .filter(|row| row.is_ours())
            .cloned()
            .collect();
        report.judge_schema(schema, look);
        report.judge_surroundings(around);
        report
    }

    /// The report where the database could not be asked.
    pub fn unreachable(schema: &'static Schema, backend: Backend, error: &Error) -> Report {
        let mut report = Report::without_look(schema, backend);
        report.findings.push(Finding::Critical(error.to_string()));
        report
    }

    /// The report while migrations run.
    pub fn initializing(schema: &'static Schema, backend: Backend, doing: &str) -> Report {
        let mut report = Report::without_look(schema, backend);
        report.initializing = true;
        report.findings.push(Finding::Warning(doing.to_string()));
        report
    }

    fn without_look(schema: &'static Schema, backend: Backend) -> Report {
        Report {
            backend,
            connected: false,
            initializing: false,
            response_time: Duration::ZERO,
            at: SystemTime::now(),
            findings: Vec::new(),
            tables: Vec::new(),
            applied: Vec::new(),
            pending: schema
                .migrations
                .iter()
                .map(|m| m.name.to_string())
                .collect(),
            expected_migrations: schema.migrations.len(),
        }
    }

    fn judge_schema(&mut self, schema: &'static Schema, look: &Look) {
        for table in CRITICAL.iter().filter(|table| !self.tables.contains(table)) {
            self.findings.push(Finding::Critical(format!(
                "critical table {table} is missing"
            )));
        }
        let drift = match Plan::of(schema, look) {
            Ok(plan) => {
                self.pending = plan.pending.iter().map(|m| m.name.to_string()).collect();
                let pending = self.pending.iter();
                self.findings.extend(
                    pending.map(|name| Finding::Warning(format!("migration {name} is pending"))),
                );
                plan.drift
            }
            Err(error) => {
                self.pending = Vec::new();
                self.findings.push(Finding::Warning(error.to_string()));
                schema.expected.difference(&look.catalog)
            }
        };
        if self
            .applied
            .iter()
            .any(|row| row.name == schema.fallback.name)
        {
            self.expected_migrations += 1;
        }
        let is_critical = |text: &str| {
            CRITICAL
                .iter()
                .any(|table| text == format!("table {table}"))
        };
        for object in drift.missing.iter().map(ToString::to_string) {
            if !is_critical(&object) {
                self.findings
                    .push(Finding::Warning(format!("{object} is missing")));
            }
            self.pending.push(object);
        }
        self.findings.extend(
            drift
                .altered
                .iter()
                .map(|alteration| Finding::Warning(alteration.to_string())),
        );
    }

    fn judge_surroundings(&mut self, around: &Surroundings) {
        let Surroundings {
            place,
            unwritable,
            damage,
        } = around;
        let mut critical: Vec<String> = Vec::new();
        critical.extend(place.replaced.clone());
        critical.extend(place.read_only.clone().or(unwritable.clone()));
        critical.extend(
            damage
                .pages
                .iter()
                .take(3)
                .map(|line| format!("damaged: {line}")),
        );
        self.findings
            .extend(critical.into_iter().map(Finding::Critical));
        self.findings.extend(disk_finding(place));
        self.findings
            .extend(damage.orphans.iter().cloned().map(Finding::Warning));
    }

    /// The one decision.
    pub fn status(&self) -> Status {
        if self.initializing {
            Status::Initializing
        } else if !self.connected
            || self
                .findings
                .iter()
                .any(|f| matches!(f, Finding::Critical(_)))
        {
            Status::Unhealthy
        } else if self.findings.is_empty() {
            Status::Healthy
        } else {
            Status::Degraded
        }
    }

    /// Whether every migration is applied and nothing expected is missing.
    pub fn is_complete(&self) -> bool {
        self.connected && self.pending.is_empty()
    }

    /// `complete`, `incomplete` or `initializing`.
    pub fn migration_status(&self) -> &'static str {
        match (self.initializing, self.is_complete()) {
            (true, _) => "initializing",
            (_, true) => "complete",
            _ => "incomplete",
        }
    }

    fn count(
        &self,
        tables: impl Iterator<Item = &'static str>,
    ) -> (usize, usize, Vec<&'static str>) {
        let all: Vec<&str> = tables.collect();
        let missing: Vec<&str> = all
            .iter()
            .copied()
            .filter(|name| !self.tables.contains(name))
            .collect();
        (all.len(), all.len() - missing.len(), missing)
    }

    /// The findings, the critical ones first.
    pub fn reasons(&self) -> Vec<&str> {
        let (critical, rest): (Vec<&Finding>, Vec<&Finding>) = self
            .findings
            .iter()
            .partition(|f| matches!(f, Finding::Critical(_)));
        critical
            .into_iter()
            .chain(rest)
            .map(Finding::text)
            .collect()
    }

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
                critical_tables: CriticalTables {
                    total,
                    existing,
                    missing,
                },
            },
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
            let complete = missing.is_empty();
            (
                category.key,
                CategoryTables {
                    expected,
                    existing,
                    missing,
                    complete,
                },
            )
        });
        text(&MigrationStatus {
            success: self.connected,
            database: StatusDatabase {
                kind: self.backend.name(),
                connected: self.connected,
            },
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
            text += &format!(
                "  {:<45} {}  {:>6}\n",
                row.name, row.executed_at, row.execution_time
            );
        }
        let (expected, existing, _) = self.count(core_tables());
        text += &format!("Tables:     {existing} of {expected} core tables\n");
        for category in CATEGORIES {
            let (expected, existing, _) = self.count(category.tables.iter().copied());
            text += &format!("  {:<14} {existing}/{expected}\n", category.key);
        }
        text += &format!("Status:     {}\n", self.migration_status());
        for reason in self.reasons() {
            text += &format!("  {reason}\n");
        }
        text
    }

    /// The line of `--check`, in the form of the Monitoring Plugins guidelines.
    pub fn check_line(&self) -> String {
        let word = match self.status() {
            Status::Healthy => "OK",
            Status::Degraded | Status::Initializing => "WARNING",
            Status::Unhealthy => "CRITICAL",
        };
        let mut line = format!("CTS {word} - {}", self.backend.name());
        let (expected, existing, _) = self.count(core_tables());
        if self.connected {
            line += &format!(
                ", {existing}/{expected} core tables, {}/{} migrations",
                self.applied.len(),
                self.expected_migrations
            );
        }
        let reasons = self.reasons();
        if !reasons.is_empty() {
            let more = reasons.len().saturating_sub(3);
            line += &format!(
                ": {}",
                reasons
                    .iter()
                    .take(3)
                    .copied()
                    .collect::<Vec<_>>()
                    .join("; ")
            );
            if more > 0 {
                line += &format!("; and {more} more");
            }
        }
        // A bar begins the performance data, and a line end the long text.
        line = line.replace('|', "/").replace(['\n', '\r'], " ");
        if self.connected {
            line += &format!(
                " | response_time={:.4}s;;;0 tables={existing};;;0",
                self.response_time.as_secs_f64()
            );
        }
        line
    }
}

fn disk_finding(place: &Place) -> Option<Finding> {
    let (free, total) = (place.free_bytes?, place.total_bytes?);
    let text = format!("{} MiB are free on the disk of the database", free >> 20);
    match free {
        _ if free < DISK_FULL => Some(Finding::Critical(text)),
        _ if free < DISK_LOW && free < total / 20 => Some(Finding::Warning(text)),
        _ => None,
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Health<'r> {
    status: Status,
    database: HealthDatabase,
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

impl From<&Applied> for AppliedRow {
    fn from(row: &Applied) -> AppliedRow {
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

/// A store that can be asked for reports.
pub fn examine(store: &mut dyn crate::store::Store, around: Surroundings) -> Result<Report> {
    let start = std::time::Instant::now();
    let look = store.look()?;
    let took = start.elapsed();
    let around = Surroundings {
        place: store.place(),
        ..around
    };
    Ok(Report::of(
        store.schema(),
        store.backend(),
        &look,
        &around,
        took,
    ))
}
