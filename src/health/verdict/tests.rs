//! What each state of a database is judged to be.

use std::time::Duration;

use super::super::conditions::{Condition, Subject};
use super::*;
use crate::error::Error;
use crate::error::Kind;
use crate::migrate::outlook::{MissingObject, Outlook};
use crate::store::Database;
use crate::store::schema::SQLITE;
use crate::store::sqlite::{DatabaseFile, FileAccess};
use cts_schema::catalog::Object;
use cts_schema::migration::AppliedMigration;

type CaseSetup = fn(&mut Snapshot, &mut Surroundings);

/// A database in which everything is in place.
fn whole() -> Snapshot {
    let applied = |(id, m): (i64, &cts_schema::migration::Migration)| AppliedMigration {
        id: Some(id),
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
        counters: Vec::new(),
        accepted: Vec::new(),
    }
}

fn report(snapshot: &Snapshot, surroundings: &Surroundings) -> Report {
    Report::of(&database().identity(), snapshot, surroundings, Duration::from_micros(400))
}

fn database() -> DatabaseFile {
    DatabaseFile { path: "/data/cts.db".into(), access: FileAccess::default() }
}

/// The condition of a write that failed.
fn unwritable(what: &str) -> Condition {
    Condition { subject: Subject::Write, error: Error::new(Kind::Io, what), refused: Vec::new() }
}

fn without(snapshot: &mut Snapshot, table: &str) {
    snapshot.catalog.tables.to_mut().retain(|t| t.name != table);
}

fn status_of(change: impl Fn(&mut Snapshot, &mut Surroundings)) -> (Status, Vec<String>) {
    let (mut snapshot, mut surroundings) = (whole(), Surroundings::default());
    change(&mut snapshot, &mut surroundings);
    let report = report(&snapshot, &surroundings);
    (report.status(), report.reasons().iter().map(ToString::to_string).collect())
}

#[test]
fn everything_in_place_is_healthy() {
    assert_eq!(status_of(|_, _| {}), (Status::Healthy, Vec::new()));
}

#[test]
fn what_needs_attention_is_degraded() {
    let cases: [(CaseSetup, &str); 6] = [
        (|snapshot, _| without(snapshot, "statistics_daily"), "table statistics_daily is missing"),
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
            |_, surroundings| {
                surroundings.storage.free_bytes = Some(900 << 20);
                surroundings.storage.total_bytes = Some(100 << 30);
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
fn without_any_table_no_remedy_is_named_that_does_not_help() {
    let (status, reasons) = status_of(|snapshot, _| *snapshot = Snapshot::default());
    assert_eq!((status, reasons[0].as_str()), (Status::Unhealthy, NO_TABLE));
    assert!(!reasons.iter().any(|reason| reason.contains("repair")), "{reasons:?}");
}

#[test]
fn what_cannot_be_used_is_unhealthy() {
    let cases: [(CaseSetup, &str); 6] = [
        (|snapshot, _| without(snapshot, "users"), "critical table users is missing"),
        (|_, surroundings| surroundings.storage.read_only = Some("read-only".into()), "read-only"),
        (|_, surroundings| surroundings.storage.replaced = Some("replaced".into()), "replaced"),
        (|_, surroundings| surroundings.conditions = vec![unwritable("disk full")], "disk full"),
        (|_, surroundings| surroundings.damage.pages = vec!["page 7".into()], "damaged: page 7"),
        (
            |_, surroundings| {
                surroundings.storage.free_bytes = Some(15 << 20);
                surroundings.storage.total_bytes = Some(1 << 30);
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
fn a_file_system_that_does_not_answer_is_unhealthy_after_an_io_error_else_degraded() {
    for (kind, expected) in [(Kind::Io, Status::Unhealthy), (Kind::Permission, Status::Degraded)] {
        let (status, reasons) = status_of(|_, surroundings| {
            surroundings.storage.unanswered = Some(Error::new(kind, "does not answer"));
        });
        assert_eq!((status, reasons[0].as_str()), (expected, "does not answer"));
    }
}

#[test]
fn a_long_wal_is_degraded_and_named_once() {
    let (status, reasons) = status_of(|_, surroundings| {
        let error = Error::new(Kind::Blocked, "the WAL is 300 MiB long");
        let subject = Subject::WalLength;
        surroundings.conditions = vec![Condition { subject, error, refused: Vec::new() }];
    });
    assert_eq!((status, reasons.len()), (Status::Degraded, 1), "{reasons:?}");
}

#[test]
fn a_wal_that_cts_keeps_itself_is_named_and_is_no_fault() {
    let (status, reasons) = status_of(|_, surroundings| {
        surroundings.wal_kept_by_cts = Some("a copy of the database is being made".into());
    });
    assert_eq!((status, reasons.len()), (Status::Healthy, 1), "{reasons:?}");
}

#[test]
fn a_large_disk_may_be_fuller_in_percent_and_a_small_one_in_bytes() {
    for (free, total) in [(2_u64 << 30, 100_u64 << 30), (500 << 20, 8 << 30)] {
        let storage = StorageStatus {
            free_bytes: Some(free),
            total_bytes: Some(total),
            ..StorageStatus::default()
        };
        assert_eq!(disk_reason(&storage), None);
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
    let (mut snapshot, surroundings) = (whole(), Surroundings::default());
    assert_eq!(
        report(&snapshot, &surroundings).check_line(),
        "CTS OK - sqlite, 22/22 core tables, 4/4 migrations | response_time=0.0004s;;;0 tables=22;;;0"
    );
    without(&mut snapshot, "users");
    let line = report(&snapshot, &surroundings).check_line();
    assert!(line.starts_with("CTS CRITICAL - sqlite, 21/22 core tables"), "{line}");
    let error = Error::new(Kind::Io, "a | b\nc");
    let line = Report::unreachable(&database(), &error).check_line();
    assert_eq!(line, "CTS CRITICAL - sqlite: a / b\\nc");
}

/// The summary where these tables are missing and have this outlook.
fn summary_without(tables: &[&str], outlook: &Outlook, change: CaseSetup) -> Vec<String> {
    let (mut snapshot, mut surroundings) = (whole(), Surroundings::default());
    for table in tables {
        without(&mut snapshot, table);
        let object = Object::Table((*table).into());
        surroundings.missing.push(MissingObject { object, outlook: outlook.clone() });
    }
    change(&mut snapshot, &mut surroundings);
    report(&snapshot, &surroundings).summary()
}

#[test]
fn a_summary_names_what_is_missing_in_one_reason_after_what_matters_more() {
    let repairable = Outlook::Repairable(None);
    let of = |tables: &[&str], outlook: &Outlook| summary_without(tables, outlook, |_, _| {});
    let four = ["exchange_positions", "indications_auto", "site_logs", "statistics_daily"];
    assert_eq!(
        of(&four, &repairable),
        ["missing: tables site_logs (critical), exchange_positions; 2 more. Run: cts repair"]
    );
    assert_eq!(
        of(&four[1..], &repairable),
        [
            "missing: tables site_logs (critical), indications_auto, statistics_daily. Run: cts repair"
        ]
    );
    // No command where it cannot help.
    assert_eq!(of(&four[3..], &Outlook::NotNow), ["missing: table statistics_daily"]);
    let damaged = |_: &mut Snapshot, surroundings: &mut Surroundings| {
        surroundings.damage.pages = vec!["page 7".into()];
    };
    let summary = summary_without(&four[3..], &repairable, damaged);
    assert_eq!(summary[0], "damaged: page 7");
    assert_eq!(summary[2], "missing: table statistics_daily");
}

#[test]
fn a_summary_keeps_the_reason_why_an_object_cannot_be_put_back() {
    let blocked = Outlook::Blocked(Box::new(Error::new(Kind::Data, "its name is taken")));
    let of = |tables: &[&str]| summary_without(tables, &blocked, |_, _| {});
    let why = |what: &str| format!("{what} is missing and cannot be put back: its name is taken");
    assert_eq!(of(&["statistics_daily"]), [why("table statistics_daily")]);
    assert_eq!(
        of(&["statistics_daily", "users"]),
        [
            "missing: tables users (critical), statistics_daily".into(),
            why("critical table users"),
            why("table statistics_daily"),
        ]
    );
}

#[test]
fn exit_codes_of_a_check_follow_the_status() {
    let codes = [Status::Healthy, Status::Degraded, Status::Initializing, Status::Unhealthy]
        .map(Status::exit_code);
    assert_eq!(codes, [0, 1, 1, 2]);
}

#[test]
fn a_recorded_fault_decides_with_the_rest_and_a_notice_only_shows() {
    let with = |subject, kind| {
        status_of(|_, surroundings| {
            let error = Error::new(kind, "refused");
            surroundings.conditions = vec![Condition { subject, error, refused: Vec::new() }];
        })
    };
    assert_eq!(with(Subject::Upkeep, Kind::Io).0, Status::Unhealthy);
    let (status, reasons) = with(Subject::Healing, Kind::Data);
    assert_eq!(status, Status::Degraded);
    assert_eq!(reasons, ["cannot put back what is missing: refused"]);
    let (status, reasons) = with(Subject::SiteLog, Kind::Data);
    assert_eq!(status, Status::Healthy);
    assert_eq!(reasons, ["cannot write to table site_logs: refused"]);
}

#[test]
fn why_the_storage_cannot_be_written_stands_for_the_write_that_failed() {
    let (status, reasons) = status_of(|_, surroundings| {
        surroundings.storage.read_only = Some("/data is mounted read-only".into());
        surroundings.conditions = vec![unwritable("attempt to write a readonly database")];
    });
    assert_eq!(status, Status::Unhealthy);
    assert_eq!(reasons, ["/data is mounted read-only"]);
}

#[test]
fn an_unreachable_database_is_reported_with_what_the_threads_know() {
    let error = Error::new(Kind::Io, "no answer");
    let report = Report::unreachable(&database(), &error).with_conditions(&[unwritable("full")]);
    assert_eq!(report.reasons(), ["no answer", "full"]);
    let json: serde_json::Value = serde_json::from_str(&report.health_json()).unwrap();
    assert_eq!(json["database"]["responseTime"], "unknown", "a time that is not known is not 0");
}
