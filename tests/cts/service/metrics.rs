//! `/metrics`: what `promtool` says of it, its samples against the truth, and who may read it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::support::harness::{Machine, Service, await_within};
use crate::support::prometheus::{is_installed, promtool};

/// The names of all metrics of a SQLite database with a backup, and their types.
const METRICS: [(&str, &str); 39] = [
    ("cts_backup_age_max_seconds", "gauge"),
    ("cts_backup_drill_failed", "gauge"),
    ("cts_backup_last_success_timestamp_seconds", "gauge"),
    ("cts_backup_restore_seconds", "gauge"),
    ("cts_backups", "gauge"),
    ("cts_build_info", "gauge"),
    ("cts_constraint_exceptions", "gauge"),
    ("cts_database_size_bytes", "gauge"),
    ("cts_disk_free_bytes", "gauge"),
    ("cts_disk_total_bytes", "gauge"),
    ("cts_health_status", "gauge"),
    ("cts_http_rejected_total", "counter"),
    ("cts_http_requests_total", "counter"),
    ("cts_migrations_applied", "gauge"),
    ("cts_migrations_expected", "gauge"),
    ("cts_probe_duration_seconds", "histogram"),
    ("cts_retention_deleted_rows_total", "counter"),
    ("cts_retention_last_success_timestamp_seconds", "gauge"),
    ("cts_schema_drift_objects", "gauge"),
    ("cts_statistics_last_success_timestamp_seconds", "gauge"),
    ("cts_table_rows", "gauge"),
    ("cts_tables_expected", "gauge"),
    ("cts_tables_measured_timestamp_seconds", "gauge"),
    ("cts_tables_not_measured", "gauge"),
    ("cts_tables_present", "gauge"),
    ("cts_up", "gauge"),
    ("cts_wal_size_bytes", "gauge"),
    ("process_cpu_seconds_total", "counter"),
    ("process_max_fds", "gauge"),
    ("process_open_fds", "gauge"),
    ("process_resident_memory_bytes", "gauge"),
    ("process_start_time_seconds", "gauge"),
    ("process_threads", "gauge"),
    ("process_virtual_memory_bytes", "gauge"),
    // Samples of a histogram.
    ("cts_probe_duration_seconds_bucket", ""),
    ("cts_probe_duration_seconds_sum", ""),
    ("cts_probe_duration_seconds_count", ""),
    ("cts_health_status{status=\"healthy\"}", ""),
    ("cts_schema_drift_objects{kind=\"altered\"}", ""),
];

fn metrics(service: &Service) -> String {
    let answer = service.get("/metrics");
    assert_eq!(answer.code, 200, "{}", answer.body);
    answer.body
}

/// The value of a sample, named with its labels.
fn value(metrics: &str, sample: &str) -> Option<f64> {
    let line = metrics.lines().find(|line| line.rsplit_once(' ').is_some_and(|(s, _)| s == sample));
    line.map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
}

fn until_tables_are_measured(service: &Service) -> String {
    let mut found = String::new();
    await_within(Duration::from_secs(60), "measured tables", || {
        found = metrics(service);
        found.contains("\ncts_tables_measured_timestamp_seconds ")
    });
    found
}

fn check_by_promtool(metrics: &str) {
    if is_installed().is_some() {
        assert_eq!(promtool(Path::new("."), &["check", "metrics"], metrics), "", "{metrics}");
    }
}

#[test]
fn every_metric_is_there_with_its_type_and_promtool_accepts_them() {
    let machine = Machine::migrated();
    let service = machine.serve().env("CTS_BACKUP_EVERY", "4s").start();
    service.until_ready();
    let mut found = until_tables_are_measured(&service);
    // The service drills the first backup as soon as it has made it.
    await_within(Duration::from_secs(60), "a drilled backup", || {
        found = metrics(&service);
        found.contains("\ncts_backup_restore_seconds ")
    });
    for (name, kind) in METRICS {
        let is_there = match kind {
            "" => found.contains(&format!("\n{name}")),
            kind => found.contains(&format!("\n# TYPE {name} {kind}\n")),
        };
        assert!(is_there, "{name} {kind} is missing: {found}");
    }
    check_by_promtool(&found);
    let described = found.lines().filter(|line| line.starts_with("# TYPE ")).count();
    let listed = METRICS.iter().filter(|(_, kind)| !kind.is_empty()).count();
    assert_eq!(described, listed, "a metric that is not listed: {found}");
}

#[test]
fn sizes_rows_and_counts_are_the_true_ones() {
    let machine = Machine::migrated();
    machine.sql(
        "CREATE TABLE own (id INTEGER PRIMARY KEY, rowid TEXT);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 3 FROM n WHERE i < 90000)
         INSERT INTO own SELECT i, 'x' FROM n;
         CREATE TABLE keyed (id TEXT PRIMARY KEY) WITHOUT ROWID;
         INSERT INTO keyed SELECT 'k' || id FROM own LIMIT 77",
    );
    let service = machine.serve().start();
    service.until_ready();
    for _ in 0..3 {
        assert_eq!(service.get("/livez").code, 200);
    }
    assert_eq!(service.get("/nowhere?a=1").code, 404);
    let found = until_tables_are_measured(&service);
    for (sample, expected) in [
        ("cts_up", 1),
        ("cts_health_status{status=\"healthy\"}", 1),
        ("cts_health_status{status=\"degraded\"}", 0),
        ("cts_tables_expected", 22),
        ("cts_tables_present", 22),
        ("cts_migrations_applied", 4),
        ("cts_table_rows{table=\"own\"}", machine.number("SELECT count(*) FROM own")),
        ("cts_table_rows{table=\"keyed\"}", 77),
        ("cts_table_rows{table=\"migrations\"}", 4),
        ("cts_http_requests_total{path=\"/livez\",code=\"200\"}", 3),
        ("cts_http_requests_total{path=\"other\",code=\"404\"}", 1),
        ("cts_http_rejected_total{reason=\"path\"}", 1),
        ("cts_http_rejected_total{reason=\"slow\"}", 0),
    ] {
        assert_eq!(value(&found, sample), Some(expected as f64), "{sample}: {found}");
    }
    let size = || fs::metadata(machine.db()).unwrap().len() as f64;
    await_within(Duration::from_secs(60), "the size of the file", || {
        value(&metrics(&service), "cts_database_size_bytes") == Some(size())
    });
}

#[test]
fn names_of_tables_are_escaped_and_many_tables_bounded() {
    let machine = Machine::migrated();
    for name in
        ["a\"\"b", "back\\slash", "new\nline", "cr\rx", "e\u{1b}[31mx", "é שלום", "{x=\"\"1\"\"} 5"]
    {
        machine.sql(&format!("CREATE TABLE \"{name}\" (id); INSERT INTO \"{name}\" VALUES (1)"));
    }
    machine.sql(&format!("CREATE TABLE \"{}\" (id)", "l".repeat(5000)));
    for at in 0..300 {
        machine.sql(&format!("CREATE TABLE \"日{at:03}\" (id)"));
    }
    let service = machine.serve().start();
    service.until_ready();
    let found = until_tables_are_measured(&service);
    check_by_promtool(&found);
    let shown = |c: char| c == '\n' || !c.is_control();
    assert!(found.chars().all(shown), "a terminal obeys control characters: {found:?}");
    for label in [
        "a\\\"b",
        "back\\\\slash",
        "new\\\\nline",
        "cr\\\\rx",
        "e\\\\x1b[31mx",
        "é שלום",
        "{x=\\\"1\\\"} 5",
    ] {
        let sample = format!("cts_table_rows{{table=\"{label}\"}}");
        assert_eq!(value(&found, &sample), Some(1.0), "{sample}: {found}");
    }
    assert_eq!(value(&found, "cts_tables_not_measured"), Some(58.0));
    assert!(found.len() < 40_000, "{} bytes", found.len());
}

#[test]
fn a_database_that_is_gone_is_a_sample_and_the_token_is_asked_for() {
    let machine = Machine::migrated();
    let service = machine.serve().env("CTS_ADMIN_TOKEN", "right").start();
    service.until_ready();
    assert_eq!(service.get("/metrics").code, 401);
    let with_token = || {
        let head = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer right\r\n";
        service.ask(&format!("{head}Connection: close\r\n\r\n"))
    };
    let answer = with_token();
    assert_eq!(answer.header("Content-Type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(value(&answer.body, "cts_http_rejected_total{reason=\"token\"}"), Some(1.0));
    fs::rename(machine.db(), machine.path("away")).unwrap();
    await_within(Duration::from_secs(30), "an unhealthy sample", || {
        let answer = with_token();
        assert_eq!(answer.code, 200);
        value(&answer.body, "cts_health_status{status=\"unhealthy\"}") == Some(1.0)
    });
    check_by_promtool(&with_token().body);
    fs::rename(machine.path("away"), machine.db()).unwrap();
}
