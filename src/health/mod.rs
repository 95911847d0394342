//! What one look at the database found, and the one decision what it means. The health
//! JSON, the status JSON and the line of `--check` are renderings of the same [`Report`],
//! so they cannot disagree.

pub mod render;

use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::migrate::Plan;
use crate::store::schema::Schema;
use crate::store::{Backend, Damage, Database, Orphans, PoolState, Snapshot, StorageStatus};
use cts_schema::catalog::CRITICAL;
use cts_schema::constraint_exception::{ConstraintException, Rule};
use cts_schema::migration::AppliedMigration;

/// Below this many free bytes a database cannot be used: the WAL and the shared memory of
/// a busy box need about as much.
const DISK_FULL: u64 = 16 << 20;
/// Below this many free bytes, and 5 % of the disk, a person should look.
const DISK_LOW: u64 = 1 << 30;

/// Where nothing is left that could be repaired.
const NO_TABLE: &str =
    "no table of CTS is left; `cts migrate` or a restart of cts makes them anew, without rows";

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
pub enum Reason {
    /// The database cannot be used.
    Critical(String),
    /// It can be used, and a person should look.
    Warning(String),
}

impl Reason {
    fn text(&self) -> &str {
        match self {
            Reason::Critical(text) | Reason::Warning(text) => text,
        }
    }
}

/// What is known beside what the database itself says.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The place it lies in.
    pub place: StorageStatus,
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
    pub reasons_found: Vec<Reason>,
    /// The expected tables that exist.
    pub tables: Vec<&'static str>,
    /// The ledger's rows of ours.
    pub applied: Vec<AppliedMigration>,
    /// Migrations that are pending and objects that are missing, by name.
    pub pending: Vec<String>,
    /// The number of migrations a complete ledger holds.
    pub expected_migrations: usize,
    /// Rules that do not hold in this database, which is no fault.
    pub exceptions: Vec<ConstraintException>,
    /// The connections to its server, where there is one.
    pub pool: Option<PoolState>,
}

impl Report {
    /// The report of a look that succeeded.
    pub fn of(
        schema: &'static Schema,
        backend: Backend,
        snapshot: &Snapshot,
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
            .filter(|name| snapshot.catalog.table(name).is_some())
            .collect();
        report.applied = snapshot.ledger.iter().filter(|row| row.is_ours()).cloned().collect();
        report.exceptions = snapshot.exceptions.clone();
        report.pool = around.place.pool;
        report.judge_schema(schema, snapshot);
        report.judge_surroundings(schema, around);
        report
    }

    /// The report where the database could not be asked.
    pub fn unreachable(database: &dyn Database, error: &Error) -> Report {
        let mut report = {
            let identity = database.identity();
            Report::without_look(identity.schema, identity.backend)
        };
        report.reasons_found.push(Reason::Critical(error.to_string()));
        report
    }

    /// The report while migrations run.
    pub fn initializing(database: &dyn Database, doing: &str) -> Report {
        let mut report = {
            let identity = database.identity();
            Report::without_look(identity.schema, identity.backend)
        };
        report.initializing = true;
        report.reasons_found.push(Reason::Warning(doing.to_string()));
        report
    }

    fn without_look(schema: &'static Schema, backend: Backend) -> Report {
        Report {
            backend,
            connected: false,
            initializing: false,
            response_time: Duration::ZERO,
            at: SystemTime::now(),
            reasons_found: Vec::new(),
            tables: Vec::new(),
            applied: Vec::new(),
            pending: schema.migrations.iter().map(|m| m.name.to_string()).collect(),
            expected_migrations: schema.migrations.len(),
            exceptions: Vec::new(),
            pool: None,
        }
    }

    fn judge_schema(&mut self, schema: &'static Schema, snapshot: &Snapshot) {
        let has_any = !self.tables.is_empty();
        if !has_any {
            self.reasons_found.push(Reason::Critical(NO_TABLE.into()));
        }
        for table in CRITICAL.iter().filter(|table| has_any && !self.tables.contains(table)) {
            self.reasons_found.push(Reason::Critical(format!("critical table {table} is missing")));
        }
        let drift = match Plan::of(schema, snapshot) {
            Ok(plan) => {
                self.pending = plan.pending.iter().map(|m| m.name.to_string()).collect();
                let pending = self.pending.iter();
                self.reasons_found.extend(
                    pending.map(|name| Reason::Warning(format!("migration {name} is pending"))),
                );
                plan.drift
            }
            Err(error) => {
                self.pending = vec![error.message()];
                self.reasons_found.push(Reason::Warning(error.to_string()));
                snapshot.drift(schema)
            }
        };
        if self.applied.iter().any(|row| row.name == schema.fallback.name) {
            self.expected_migrations += 1;
        }
        let is_critical =
            |text: &str| CRITICAL.iter().any(|table| text == format!("table {table}"));
        for object in drift.missing.iter().map(ToString::to_string) {
            if has_any && !is_critical(&object) {
                self.reasons_found.push(Reason::Warning(format!(
                    "{object} is missing; `cts repair` puts it back"
                )));
            }
            self.pending.push(object);
        }
        self.reasons_found
            .extend(drift.altered.iter().map(|alteration| Reason::Warning(alteration.to_string())));
    }

    fn judge_surroundings(&mut self, schema: &Schema, around: &Surroundings) {
        let Surroundings { place, unwritable, damage } = around;
        let mut critical: Vec<String> = Vec::new();
        critical.extend(place.replaced.clone());
        critical.extend(place.unwritable().cloned().or(unwritable.clone()));
        critical.extend(damage.pages.iter().take(3).map(|line| format!("damaged: {line}")));
        if !damage.pages.is_empty() && damage.indexes.is_empty() {
            let remedy =
                "restore a backup, or save what can be read with `.recover` of the sqlite3 shell";
            critical.push(remedy.to_string());
        }
        if let Some(index) = damage.indexes.first() {
            let remedy = "no row is damaged, and `cts repair` builds the index anew";
            critical.push(format!("index {index}: {remedy}"));
        }
        self.reasons_found.extend(critical.into_iter().map(Reason::Critical));
        self.reasons_found.extend(disk_reason(place));
        // Rows of other programs' tables are theirs, and what was adopted so is known.
        let is_ours = |orphans: &&Orphans| {
            let is_relaxed = |r: &ConstraintException| {
                r.table == orphans.table && matches!(r.rule, Rule::ForeignKey(_))
            };
            schema.expected.table(&orphans.table).is_some()
                && !self.exceptions.iter().any(is_relaxed)
        };
        let orphans: Vec<Reason> = damage
            .orphans
            .iter()
            .filter(is_ours)
            .map(|orphans| Reason::Warning(orphans.to_string()))
            .collect();
        self.reasons_found.extend(orphans);
    }

    /// The one decision.
    pub fn status(&self) -> Status {
        if self.initializing {
            Status::Initializing
        } else if !self.connected
            || self.reasons_found.iter().any(|f| matches!(f, Reason::Critical(_)))
        {
            Status::Unhealthy
        } else if self.reasons_found.is_empty() {
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

    /// How many of these tables there should be, how many there are, and which are missing;
    /// none is called missing where the database could not be asked.
    pub fn count(
        &self,
        tables: impl Iterator<Item = &'static str>,
    ) -> (usize, usize, Vec<&'static str>) {
        let (existing, missing): (Vec<&str>, Vec<&str>) =
            tables.partition(|name| self.tables.contains(name));
        let all = existing.len() + missing.len();
        (all, existing.len(), if self.connected { missing } else { Vec::new() })
    }

    /// The findings, the critical ones first.
    pub fn reasons(&self) -> Vec<&str> {
        let (critical, rest): (Vec<&Reason>, Vec<&Reason>) =
            self.reasons_found.iter().partition(|f| matches!(f, Reason::Critical(_)));
        critical.into_iter().chain(rest).map(Reason::text).collect()
    }
}

/// What is wrong with the disk, by its free bytes.
pub fn disk_reason(place: &StorageStatus) -> Option<Reason> {
    let (free, total) = (place.free_bytes?, place.total_bytes?);
    let text = format!("{} MiB are free on the disk of the database", free >> 20);
    match free {
        _ if free < DISK_FULL => Some(Reason::Critical(text)),
        _ if free < DISK_LOW && free < total / 20 => Some(Reason::Warning(text)),
        _ => None,
    }
}

/// A store that can be asked for reports.
pub fn examine(store: &mut dyn crate::store::OpenDatabase, around: Surroundings) -> Result<Report> {
    let start = std::time::Instant::now();
    let snapshot = store.inspect()?;
    let took = start.elapsed();
    let around = Surroundings { place: store.storage_status(), ..around };
    let identity = store.identity();
    Ok(Report::of(identity.schema, identity.backend, &snapshot, &around, took))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::store::schema::SQLITE;
    use crate::store::sqlite::{DatabaseFile, FileAccess};

    type Change = fn(&mut Snapshot, &mut Surroundings);

    /// A database in which everything is in place.
    fn whole() -> Snapshot {
        let applied = |(id, m): (i64, &cts_schema::migration::Migration)| AppliedMigration {
            id,
            name: m.name.into(),
            checksum: Some(m.checksum.into()),
            executed_at: Some("2026-11-23 05:43:00.123".into()),
            execution_time_ms: Some(12),
            version: Some("3.1.0".into()),
        };
        Snapshot {
            ledger: (1..).zip(&SQLITE.migrations).map(applied).collect(),
            catalog: SQLITE.expected.clone(),
            exceptions: Vec::new(),
        }
    }

    fn report(snapshot: &Snapshot, around: &Surroundings) -> Report {
        Report::of(&SQLITE, Backend::Sqlite, snapshot, around, Duration::from_micros(400))
    }

    fn database() -> DatabaseFile {
        DatabaseFile { path: "/data/cts.db".into(), access: FileAccess::default() }
    }

    fn without(snapshot: &mut Snapshot, table: &str) {
        snapshot.catalog.tables.to_mut().retain(|t| t.name != table);
    }

    fn status_of(change: impl Fn(&mut Snapshot, &mut Surroundings)) -> (Status, Vec<String>) {
        let (mut snapshot, mut around) = (whole(), Surroundings::default());
        change(&mut snapshot, &mut around);
        let report = report(&snapshot, &around);
        (report.status(), report.reasons().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn everything_in_place_is_healthy() {
        assert_eq!(status_of(|_, _| {}), (Status::Healthy, Vec::new()));
    }

    #[test]
    fn what_a_person_should_look_at_is_degraded() {
        let cases: [(Change, &str); 6] = [
            (
                |snapshot, _| without(snapshot, "statistics_daily"),
                "table statistics_daily is missing",
            ),
            (
                |snapshot, _| snapshot.catalog.tables.to_mut()[0].columns.to_mut().truncate(1),
                "column connection_coordination.",
            ),
            (
                |snapshot, _| snapshot.catalog.tables.to_mut()[0].indexes = Default::default(),
                "index idx_connection_coordination_heartbeat on connection_coordination is missing",
            ),
            (
                |snapshot, _| drop(snapshot.ledger.pop()),
                "migration 071_add_coordination_tables.sql is pending",
            ),
            (
                |snapshot, _| snapshot.ledger[0].checksum = Some("0".repeat(64)),
                "unified_complete_setup.sql",
            ),
            (
                |_, around| {
                    around.place.free_bytes = Some(900 << 20);
                    around.place.total_bytes = Some(100 << 30);
                },
                "900 MiB are free",
            ),
        ];
        for (change, reason) in cases {
            let (status, reasons) = status_of(change);
            assert_eq!(status, Status::Degraded, "{reasons:?}");
            assert!(reasons[0].contains(reason), "{reasons:?}");
        }
    }

    #[test]
    fn where_no_table_is_left_nothing_is_said_that_does_not_help() {
        let (status, reasons) = status_of(|snapshot, _| *snapshot = Snapshot::default());
        assert_eq!((status, reasons[0].as_str()), (Status::Unhealthy, NO_TABLE));
        assert!(!reasons.iter().any(|reason| reason.contains("repair")), "{reasons:?}");
    }

    #[test]
    fn what_cannot_be_used_is_unhealthy() {
        let cases: [(Change, &str); 6] = [
            (|snapshot, _| without(snapshot, "users"), "critical table users is missing"),
            (|_, around| around.place.read_only = Some("read-only".into()), "read-only"),
            (|_, around| around.place.replaced = Some("replaced".into()), "replaced"),
            (|_, around| around.unwritable = Some("disk full".into()), "disk full"),
            (|_, around| around.damage.pages = vec!["page 7".into()], "damaged: page 7"),
            (
                |_, around| {
                    around.place.free_bytes = Some(15 << 20);
                    around.place.total_bytes = Some(1 << 30);
                },
                "15 MiB are free",
            ),
        ];
        for (change, reason) in cases {
            let (status, reasons) = status_of(change);
            assert_eq!(status, Status::Unhealthy, "{reasons:?}");
            assert!(reasons[0].contains(reason), "{reasons:?}");
        }
    }

    #[test]
    fn a_large_disk_may_be_fuller_in_percent_and_a_small_one_in_bytes() {
        for (free, total) in [(2_u64 << 30, 100_u64 << 30), (500 << 20, 8 << 30)] {
            let place = StorageStatus {
                free_bytes: Some(free),
                total_bytes: Some(total),
                ..StorageStatus::default()
            };
            assert_eq!(disk_reason(&place), None);
        }
    }

    #[test]
    fn without_an_answer_it_is_unhealthy_and_while_migrating_initializing() {
        let error = Error::new(Kind::Io, "gone");
        let unreachable = Report::unreachable(&database(), &error);
        assert_eq!((unreachable.status(), unreachable.is_complete()), (Status::Unhealthy, false));
        let initializing = Report::initializing(&database(), "starting");
        assert_eq!(initializing.status(), Status::Initializing);
        assert_eq!(initializing.migration_status(), "initializing");
    }

    #[test]
    fn the_check_line_has_the_form_that_monitoring_reads() {
        let (mut snapshot, around) = (whole(), Surroundings::default());
        assert_eq!(
            report(&snapshot, &around).check_line(),
            "CTS OK - sqlite, 22/22 core tables, 4/4 migrations | response_time=0.0004s;;;0 tables=22;;;0"
        );
        without(&mut snapshot, "users");
        let line = report(&snapshot, &around).check_line();
        assert!(line.starts_with("CTS CRITICAL - sqlite, 21/22 core tables"), "{line}");
        let error = Error::new(Kind::Io, "a | b\nc");
        let line = Report::unreachable(&database(), &error).check_line();
        assert_eq!(line, "CTS CRITICAL - sqlite: a / b c");
    }

    #[test]
    fn exit_codes_of_a_check_follow_the_status() {
        let codes = [Status::Healthy, Status::Degraded, Status::Initializing, Status::Unhealthy]
            .map(Status::exit_code);
        assert_eq!(codes, [0, 1, 1, 2]);
    }
}
