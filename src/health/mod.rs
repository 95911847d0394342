//! What one look at the database found, and the one decision what it means. The health
//! JSON, the status JSON and the line of `--check` are renderings of the same [`Report`],
//! so they cannot disagree.

pub mod render;

use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::migrate::Plan;
use crate::store::schema::Schema;
use crate::store::{Backend, Damage, Database, Look, Orphans, Place, PoolState};
use cts_schema::catalog::CRITICAL;
use cts_schema::constraint_exception::{Relaxation, Rule};
use cts_schema::migration::Applied;

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
    pub tables: Vec<&'static str>,
    /// The ledger's rows of ours.
    pub applied: Vec<Applied>,
    /// Migrations that are pending and objects that are missing, by name.
    pub pending: Vec<String>,
    /// The number of migrations a complete ledger holds.
    pub expected_migrations: usize,
    /// Rules that do not hold in this database, which is no fault.
    pub relaxations: Vec<Relaxation>,
    /// The connections to its server, where there is one.
    pub pool: Option<PoolState>,
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
        report.applied = look.ledger.iter().filter(|row| row.is_ours()).cloned().collect();
        report.relaxations = look.relaxations.clone();
        report.pool = around.place.pool;
        report.judge_schema(schema, look);
        report.judge_surroundings(schema, around);
        report
    }

    /// The report where the database could not be asked.
    pub fn unreachable(database: &dyn Database, error: &Error) -> Report {
        let mut report = Report::without_look(database.schema(), database.backend());
        report.findings.push(Finding::Critical(error.to_string()));
        report
    }

    /// The report while migrations run.
    pub fn initializing(database: &dyn Database, doing: &str) -> Report {
        let mut report = Report::without_look(database.schema(), database.backend());
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
            pending: schema.migrations.iter().map(|m| m.name.to_string()).collect(),
            expected_migrations: schema.migrations.len(),
            relaxations: Vec::new(),
            pool: None,
        }
    }

    fn judge_schema(&mut self, schema: &'static Schema, look: &Look) {
        let has_any = !self.tables.is_empty();
        if !has_any {
            self.findings.push(Finding::Critical(NO_TABLE.into()));
        }
        for table in CRITICAL.iter().filter(|table| has_any && !self.tables.contains(table)) {
            self.findings.push(Finding::Critical(format!("critical table {table} is missing")));
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
                self.pending = vec![error.what.clone()];
                self.findings.push(Finding::Warning(error.to_string()));
                look.drift(schema)
            }
        };
        if self.applied.iter().any(|row| row.name == schema.fallback.name) {
            self.expected_migrations += 1;
        }
        let is_critical =
            |text: &str| CRITICAL.iter().any(|table| text == format!("table {table}"));
        for object in drift.missing.iter().map(ToString::to_string) {
            if has_any && !is_critical(&object) {
                self.findings.push(Finding::Warning(format!(
                    "{object} is missing; `cts repair` puts it back"
                )));
            }
            self.pending.push(object);
        }
        self.findings.extend(
            drift.altered.iter().map(|alteration| Finding::Warning(alteration.to_string())),
        );
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
        self.findings.extend(critical.into_iter().map(Finding::Critical));
        self.findings.extend(disk_finding(place));
        // Rows of other programs' tables are theirs, and what was adopted so is known.
        let is_ours = |orphans: &&Orphans| {
            let is_relaxed =
                |r: &Relaxation| r.table == orphans.table && matches!(r.rule, Rule::References(_));
            schema.expected.table(&orphans.table).is_some()
                && !self.relaxations.iter().any(is_relaxed)
        };
        let orphans: Vec<Finding> = damage
            .orphans
            .iter()
            .filter(is_ours)
            .map(|orphans| Finding::Warning(orphans.to_string()))
            .collect();
        self.findings.extend(orphans);
    }

    /// The one decision.
    pub fn status(&self) -> Status {
        if self.initializing {
            Status::Initializing
        } else if !self.connected || self.findings.iter().any(|f| matches!(f, Finding::Critical(_)))
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
        let (critical, rest): (Vec<&Finding>, Vec<&Finding>) =
            self.findings.iter().partition(|f| matches!(f, Finding::Critical(_)));
        critical.into_iter().chain(rest).map(Finding::text).collect()
    }
}

/// What is wrong with the disk, by its free bytes.
pub fn disk_finding(place: &Place) -> Option<Finding> {
    let (free, total) = (place.free_bytes?, place.total_bytes?);
    let text = format!("{} MiB are free on the disk of the database", free >> 20);
    match free {
        _ if free < DISK_FULL => Some(Finding::Critical(text)),
        _ if free < DISK_LOW && free < total / 20 => Some(Finding::Warning(text)),
        _ => None,
    }
}

/// A store that can be asked for reports.
pub fn examine(store: &mut dyn crate::store::Store, around: Surroundings) -> Result<Report> {
    let start = std::time::Instant::now();
    let look = store.look()?;
    let took = start.elapsed();
    let around = Surroundings { place: store.place(), ..around };
    Ok(Report::of(store.schema(), store.backend(), &look, &around, took))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::store::schema::SQLITE;
    use crate::store::sqlite::{Access, DatabaseFile};

    type Change = fn(&mut Look, &mut Surroundings);

    /// A database in which everything is in place.
    fn whole() -> Look {
        let applied = |(id, m): (i64, &cts_schema::migration::Migration)| Applied {
            id,
            name: m.name.into(),
            checksum: Some(m.checksum.into()),
            executed_at: Some("2026-11-23 05:43:00.123".into()),
            execution_time_ms: Some(12),
            version: Some("3.1.0".into()),
        };
        Look {
            ledger: (1..).zip(&SQLITE.migrations).map(applied).collect(),
            catalog: SQLITE.expected.clone(),
            relaxations: Vec::new(),
        }
    }

    fn report(look: &Look, around: &Surroundings) -> Report {
        Report::of(&SQLITE, Backend::Sqlite, look, around, Duration::from_micros(400))
    }

    fn database() -> DatabaseFile {
        DatabaseFile { path: "/data/cts.db".into(), access: Access::default() }
    }

    fn without(look: &mut Look, table: &str) {
        look.catalog.tables.to_mut().retain(|t| t.name != table);
    }

    fn status_of(change: impl Fn(&mut Look, &mut Surroundings)) -> (Status, Vec<String>) {
        let (mut look, mut around) = (whole(), Surroundings::default());
        change(&mut look, &mut around);
        let report = report(&look, &around);
        (report.status(), report.reasons().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn everything_in_place_is_healthy() {
        assert_eq!(status_of(|_, _| {}), (Status::Healthy, Vec::new()));
    }

    #[test]
    fn what_a_person_should_look_at_is_degraded() {
        let cases: [(Change, &str); 6] = [
            (|look, _| without(look, "statistics_daily"), "table statistics_daily is missing"),
            (
                |look, _| look.catalog.tables.to_mut()[0].columns.to_mut().truncate(1),
                "column connection_coordination.",
            ),
            (
                |look, _| look.catalog.tables.to_mut()[0].indexes = Default::default(),
                "index idx_connection_coordination_heartbeat on connection_coordination is missing",
            ),
            (
                |look, _| drop(look.ledger.pop()),
                "migration 071_add_coordination_tables.sql is pending",
            ),
            (
                |look, _| look.ledger[0].checksum = Some("0".repeat(64)),
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
        let (status, reasons) = status_of(|look, _| *look = Look::default());
        assert_eq!((status, reasons[0].as_str()), (Status::Unhealthy, NO_TABLE));
        assert!(!reasons.iter().any(|reason| reason.contains("repair")), "{reasons:?}");
    }

    #[test]
    fn what_cannot_be_used_is_unhealthy() {
        let cases: [(Change, &str); 6] = [
            (|look, _| without(look, "users"), "critical table users is missing"),
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
            let place =
                Place { free_bytes: Some(free), total_bytes: Some(total), ..Place::default() };
            assert_eq!(disk_finding(&place), None);
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
        let (mut look, around) = (whole(), Surroundings::default());
        assert_eq!(
            report(&look, &around).check_line(),
            "CTS OK - sqlite, 22/22 core tables, 4/4 migrations | response_time=0.0004s;;;0 tables=22;;;0"
        );
        without(&mut look, "users");
        let line = report(&look, &around).check_line();
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
