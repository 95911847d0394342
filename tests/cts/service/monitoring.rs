//! What comes with cts for Prometheus and Grafana: the alerts, the dashboard, and the configuration
//! in docs/monitoring.md, with a real Prometheus that scrapes a real cts.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::support::harness::{Machine, Service, await_that};
use crate::support::project::source;
use crate::support::prometheus::{Prometheus, is_installed, monitoring_files, promtool};

const TOKEN: &str = "of-the-monitoring";

/// Metrics that a cts on SQLite without an archive does not have.
const ELSEWHERE: [&str; 11] = [
    "cts_archive_drill_failed",
    "cts_archive_drill_timestamp_seconds",
    "cts_archive_gaps",
    "cts_archive_lag_seconds",
    "cts_archive_newest_timestamp_seconds",
    "cts_archive_restore_seconds",
    "cts_archive_size_bytes",
    "cts_pool_connections",
    "cts_pool_connections_max",
    "cts_server_certificate_not_after_timestamp_seconds",
    "cts_table_size_bytes",
];

fn file(name: &str) -> String {
    fs::read_to_string(monitoring_files().join(name)).unwrap()
}

/// The names of metrics of cts in a text.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c: char| !is_name(c));
    let names = words.filter(|word| word.starts_with("cts_") || word.starts_with("process_"));
    names.map(|name| name.trim_end_matches("_bucket")).collect()
}

/// A service with a token in a file, and with a backup that was restored for a trial.
fn monitored(machine: &Machine) -> Service {
    fs::write(machine.path("token"), format!("{TOKEN}\n")).unwrap();
    // A backup that was restored for a trial, which the service does only a minute after its start.
    machine.cts("backup").success();
    let folder = fs::read_dir(machine.path("backups")).unwrap();
    let backup = folder
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|e| e == "db"));
    machine.cts(&format!("backup --verify {}", backup.unwrap().display())).success();
    let service = machine
        .serve()
        .env("CTS_ADMIN_TOKEN_FILE", machine.path("token"))
        .env("CTS_BACKUP_EVERY", "24h")
        .start();
    service.until_ready();
    service
}

fn metrics(service: &Service) -> String {
    let request = format!(
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    );
    let answer = service.ask(&request);
    assert_eq!(answer.code, 200, "{}", answer.body);
    answer.body
}

#[test]
fn each_alert_fires_above_its_threshold_and_not_below() {
    let Some(()) = is_installed() else { return };
    promtool(&monitoring_files(), &["check", "rules", "alerts.yml"], "");
    promtool(&monitoring_files(), &["test", "rules", "alerts_test.yml"], "");
}

#[test]
fn each_alert_is_tried_and_explained_in_the_page() {
    let (rules, tests) = (file("alerts.yml"), file("alerts_test.yml"));
    let page = fs::read_to_string(source("docs/monitoring.md")).unwrap();
    let names: Vec<&str> =
        rules.lines().filter_map(|l| l.split_once("- alert: ")).map(|l| l.1).collect();
    assert!(names.len() > 10);
    for name in names {
        let fires = format!("ALERTS{{alertname=\"{name}\", alertstate=\"firing\", ");
        assert!(tests.contains(&fires), "{name} never fires in alerts_test.yml");
        assert!(page.contains(&format!("| `{name}` |")), "{name} is not in docs/monitoring.md");
    }
}

#[test]
fn rules_and_dashboard_name_only_metrics_that_cts_exports() {
    let machine = Machine::migrated();
    let service = monitored(&machine);
    let (rules, dashboard) = (file("alerts.yml"), file("dashboard.json"));
    let mut named = metrics_in(&rules);
    named.extend(metrics_in(&dashboard));
    named.retain(|name| !ELSEWHERE.contains(name));
    // The threshold of CtsProbeSlow is a bound of a bucket, between which quantiles are guessed.
    assert!(rules.contains("> 0.25\n") && metrics(&service).contains("_bucket{le=\"0.25\"}"));
    assert!(named.len() > 15, "{named:?}");
    let mut missing = Vec::new();
    // Figures come some time after the start.
    await_that(&format!("cts exports {named:?}"), || {
        let exported = metrics(&service);
        let is_there = |name: &&&str| exported.lines().any(|line| line.starts_with(**name));
        missing = named.iter().filter(|name| !is_there(name)).map(|n| n.to_string()).collect();
        missing.is_empty()
    });
}

#[test]
fn the_page_lists_the_metrics_that_cts_exports() {
    let machine = Machine::migrated();
    let service = monitored(&machine);
    let page = fs::read_to_string(source("docs/monitoring.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")).map(metrics_in);
    let listed: BTreeSet<&str> = rows.filter_map(|names| names.first().copied()).collect();
    await_that("the page lists what cts exports", || {
        let exported = metrics(&service);
        let types = exported.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        let mut names: BTreeSet<&str> = types.map(|line| line.split(' ').next().unwrap()).collect();
        names.extend(ELSEWHERE);
        let unknown: Vec<_> = names.difference(&listed).collect();
        assert!(unknown.is_empty(), "not in docs/monitoring.md: {unknown:?}");
        names == listed
    });
}

/// The datasources that a part of the dashboard names.
fn datasources<'v>(value: &'v Value, found: &mut BTreeSet<&'v str>) {
    match value {
        Value::Object(map) => {
            if let Some(uid) = map.get("datasource").and_then(|source| source["uid"].as_str()) {
                found.insert(uid);
            }
            map.values().for_each(|part| datasources(part, found));
        }
        Value::Array(parts) => parts.iter().for_each(|part| datasources(part, found)),
        _ => {}
    }
}

#[test]
fn the_dashboard_takes_its_datasource_from_a_variable() {
    let dashboard: Value = serde_json::from_str(&file("dashboard.json")).unwrap();
    let mut found = BTreeSet::new();
    datasources(&dashboard, &mut found);
    assert_eq!(found, BTreeSet::from(["${datasource}", "-- Grafana --"]));
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<_> = variables.iter().map(|v| v["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["datasource", "job", "instance"]);
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    for panel in panels {
        let place = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
        assert!(place[0] + place[2] <= 24, "{panel}");
        assert!(!panel["targets"].as_array().unwrap().is_empty(), "{panel}");
        assert_ne!(panel["description"], "", "{panel}");
    }
}

/// The configuration in docs/monitoring.md, for a cts and a token of this machine, every second.
fn configuration(machine: &Machine, service: &Service) -> String {
    let page = fs::read_to_string(source("docs/monitoring.md")).unwrap();
    let block = page.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let rules = file("alerts.yml").replace("for: 2m", "for: 2s");
    fs::write(machine.path("alerts.yml"), rules).unwrap();
    let replaced = [
        ("/etc/prometheus/cts/alerts.yml", machine.path("alerts.yml").display().to_string()),
        ("/etc/prometheus/cts/token", machine.path("token").display().to_string()),
        ("127.0.0.1:3000", service.address().to_string()),
        ("15s", "1s".to_string()),
    ];
    replaced.iter().fold(block.to_string(), |text, (old, new)| {
        assert!(text.contains(old), "{old} is not in the block");
        text.replace(old, new)
    })
}

/// Each rule as Prometheus has read it: evaluated, with a severity and a command to type.
fn assert_rules_are_complete(rules: &Value) {
    const COMMANDS: [&str; 5] = [
        "cts doctor",
        "cts --check",
        "systemctl status cts",
        "journalctl -u cts",
        "promtool check",
    ];
    for rule in rules["groups"][0]["rules"].as_array().unwrap() {
        let severity = rule["labels"]["severity"].as_str();
        assert!(severity.is_some_and(|s| ["critical", "warning"].contains(&s)), "{rule}");
        let description = rule["annotations"]["description"].as_str().unwrap();
        assert!(COMMANDS.iter().any(|command| description.contains(command)), "{rule}");
        assert_ne!(rule["annotations"]["summary"], "", "{rule}");
        assert_ne!(rule["health"], "err", "{rule}");
    }
}

/// The expressions of the dashboard, with values in place of its variables.
fn dashboard_queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&file("dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let given = [("$job", "cts"), ("$instance", ".*"), ("$__rate_interval", "1m")];
    let fill = |expression: &str| {
        given.iter().fold(expression.to_string(), |text, (name, value)| text.replace(name, value))
    };
    targets.map(|target| fill(target["expr"].as_str().unwrap())).collect()
}

#[test]
fn prometheus_scrapes_cts_and_its_alert_fires_once_cts_is_stopped() {
    let machine = Machine::migrated();
    let service = monitored(&machine);
    let Some(prometheus) = Prometheus::start(&configuration(&machine, &service)) else { return };
    prometheus.until_value("up{job=\"cts\"}", 1.0);
    prometheus.until_value("cts_up", 1.0);
    prometheus.until_value("cts_health_status{status=\"healthy\"}", 1.0);
    prometheus.until_value("cts_tables_present", 22.0);
    prometheus.until_value("cts_migrations_applied - cts_migrations_expected", 0.0);
    await_that("it has sizes and a time of a backup", || {
        prometheus.value("cts_database_size_bytes").is_some_and(|bytes| bytes > 100_000.0)
            && prometheus
                .value("time() - cts_backup_last_success_timestamp_seconds")
                .is_some_and(|age| (0.0..600.0).contains(&age))
    });
    assert_rules_are_complete(&prometheus.api("rules"));
    for query in dashboard_queries() {
        prometheus.query(&query);
    }
    for name in ["CtsDown", "CtsUnhealthy", "CtsBackupOld", "CtsBackupMissing", "CtsDiskFull"] {
        assert_eq!(prometheus.alert_states(name), [""; 0], "{name}");
    }
    assert_eq!(service.stop().0, Some(0));
    prometheus.until_value("up{job=\"cts\"}", 0.0);
    await_that("the alert is pending or firing", || !prometheus.alert_states("CtsDown").is_empty());
    await_that("the alert fires", || prometheus.alert_states("CtsDown") == ["firing"]);
    assert_eq!(prometheus.alert_states("CtsAbsent"), [""; 0]);
}

#[test]
fn prometheus_with_a_wrong_token_has_no_answer() {
    let machine = Machine::migrated();
    let service = monitored(&machine);
    let text = configuration(&machine, &service);
    fs::write(machine.path("other"), "of-another").unwrap();
    let text = text.replace(
        &machine.path("token").display().to_string(),
        &machine.path("other").display().to_string(),
    );
    let Some(prometheus) = Prometheus::start(&text) else { return };
    prometheus.until_value("up{job=\"cts\"}", 0.0);
    let target = prometheus.api("targets")["activeTargets"][0]["lastError"].take();
    assert!(target.as_str().unwrap().contains("401"), "{target}");
}
