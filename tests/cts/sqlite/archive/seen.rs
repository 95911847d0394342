//! What an operator sees of the archive: in the health, the status, the metrics, the page, the doctor and the list of backups;
//! and the trial of the newest moment.

use std::fs;

use serde_json::{Value, json};

use super::{
    CREATE, Recorded, archive, archiving, segments, trader, until_archived, until_base, write,
};
use crate::support::harness::{Machine, Service, await_that};
use crate::support::random::Random;

fn health(service: &Service) -> Value {
    serde_json::from_str(&service.get("/api/health/database").body).unwrap()
}

fn status_file(machine: &Machine) -> Value {
    let text = fs::read_to_string(archive(machine).join("status.json")).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// What `cts COMMAND` prints and its exit code, with the archive set.
fn printed(machine: &Machine, command: &str) -> (String, i32) {
    let done = machine.cts(command).env("CTS_ARCHIVE_DIR", archive(machine)).run();
    (done.out(), done.0.status.code().unwrap())
}

#[test]
fn the_newest_moment_is_restored_for_a_trial_compared_and_shown_everywhere() {
    let machine = Machine::migrated();
    let db = trader(&machine.db());
    db.execute_batch(CREATE).unwrap();
    let (service, recorded) = (archiving(&machine).start(), Recorded::default());
    until_base(&machine);
    let mut random = Random(23);
    await_that("the archive was restored for a trial", || {
        write(&db, &mut random, &recorded);
        health(&service)["archive"]["drill"].is_object()
    });
    let shown = health(&service);
    let drill = &shown["archive"]["drill"];
    assert_eq!(drill["failure"], Value::Null, "{drill}");
    assert!(drill["restoreSeconds"].as_f64().unwrap() > 0.0);
    assert_eq!(drill["tables"], drill["comparedTables"], "{drill}");
    assert!(drill["tables"].as_u64().unwrap() > 24 && drill["comparedRows"].as_u64().unwrap() > 0);
    assert_eq!((&shown["status"], &shown["archive"]["gaps"]), (&json!("healthy"), &json!(0)));
    assert_eq!(shown["archive"]["folder"], Value::Null, "the health tells no paths");
    let folder = archive(&machine).display().to_string();
    let overview: Value = serde_json::from_str(&service.get("/api/admin/overview").body).unwrap();
    assert_eq!(overview["archive"]["folder"], json!(folder));
    let metrics = service.get("/metrics").body;
    for line in ["cts_archive_drill_failed 0", "cts_archive_gaps 0"] {
        assert!(metrics.contains(&format!("\n{line}\n")), "{line}: {metrics}");
    }
    let value = |name: &str| -> f64 {
        let line = metrics.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        line.split(' ').nth(1).unwrap().parse().unwrap()
    };
    assert!(value("cts_archive_lag_seconds") < 10.0);
    assert!(value("cts_archive_restore_seconds") > 0.0 && value("cts_archive_size_bytes") > 0.0);
    assert!(
        value("cts_archive_drill_timestamp_seconds")
            <= value("cts_archive_newest_timestamp_seconds") + 60.0
    );
    await_that("the commands see the drill", || status_file(&machine)["drill"].is_object());
    let (text, code) = printed(&machine, "status");
    assert_eq!(code, 0);
    assert!(
        text.contains("Archive:    current ") && text.contains("restored for a trial in "),
        "{text}"
    );
    let (line, code) = printed(&machine, "--check");
    assert_eq!((code, line.starts_with("CTS OK")), (0, true), "{line}");
    let (text, _) = printed(&machine, "--check --json");
    let check: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(check["archive"]["drill"]["failure"], Value::Null);
    let (text, _) = printed(&machine, "doctor --json");
    let doctor: Value = serde_json::from_str(&text).unwrap();
    let findings = doctor["findings"].as_array().unwrap();
    let of = |name: &str| {
        let found = findings.iter().find(|f| f["group"] == "archive" && f["name"] == name);
        found.unwrap_or_else(|| panic!("{name}: {text}")).clone()
    };
    for name in ["newest", "reach", "trial", "folder"] {
        assert_eq!(of(name)["status"], "good", "{}", of(name));
    }
    assert_eq!(of("disk")["status"], "attention", "{}", of("disk"));
    service.stop();
    // Nobody archives any more: what the service has written becomes old.
    let mut old = status_file(&machine);
    old["at"] = json!(old["at"].as_u64().unwrap() - 70_000);
    fs::write(archive(&machine).join("status.json"), old.to_string()).unwrap();
    let (line, code) = printed(&machine, "--check");
    assert_eq!(code, 1, "{line}");
    assert!(line.contains("what is committed is not archived: nothing for 7"), "{line}");
    fs::remove_dir_all(archive(&machine)).unwrap();
    let (line, code) = printed(&machine, "--check");
    assert_eq!(code, 1);
    assert!(line.contains("no service has archived into it"), "{line}");
    let without = machine.cts("--check").run();
    assert_eq!(
        without.0.status.code(),
        Some(0),
        "without an archive nothing is missing: {}",
        without.out()
    );
}

#[test]
fn a_trial_that_fails_is_said_and_the_archive_begins_anew() {
    let machine = Machine::migrated();
    let db = machine.db();
    let keeper = trader(&db);
    keeper.execute_batch(CREATE).unwrap();
    // Keeps the WAL when the service ends.
    let reader = trader(&db);
    reader.execute_batch("BEGIN; SELECT count(*) FROM own").unwrap();
    let service = archiving(&machine).start();
    until_base(&machine);
    await_that("it was restored for a trial", || status_file(&machine)["drill"].is_object());
    until_archived(&machine, &service);
    service.stop();
    let base = archive(&machine).join("ltx/9/0000000000000001-0000000000000001.ltx");
    let mut bytes = fs::read(&base).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&base, bytes).unwrap();
    // The next one is due.
    fs::remove_file(archive(&machine).join("status.json")).unwrap();
    let service = archiving(&machine).start();
    let reasons = || health(&service)["reasons"].to_string();
    await_that("the failed trial is said", || {
        reasons().contains("the archive was not restored for a trial: ")
    });
    assert_eq!(health(&service)["status"], "degraded");
    let bases = || segments(&machine).into_iter().filter(|segment| segment["kind"] == "base");
    await_that("there is another base", || bases().count() == 2);
    let gap = bases().next_back().unwrap()["gap"].as_str().unwrap().to_string();
    assert!(gap.contains("checksum") || gap.contains("damaged"), "{gap}");
    // Which is tried at once.
    service.until_status("healthy");
    assert_eq!(health(&service)["archive"]["drill"]["failure"], Value::Null);
    await_that("the commands see it", || status_file(&machine)["drill"]["failure"].is_null());
    service.stop();
    let mut failed = status_file(&machine);
    failed["drill"]["failure"] = json!("table orders differs");
    fs::write(archive(&machine).join("status.json"), failed.to_string()).unwrap();
    let (line, code) = printed(&machine, "--check");
    assert_eq!(code, 1);
    assert!(
        line.contains("the archive was not restored for a trial: table orders differs"),
        "{line}"
    );
}

#[test]
fn a_database_of_litestream_is_left_to_it_which_is_said() {
    let machine = Machine::migrated();
    let db = trader(&machine.db());
    db.execute_batch(CREATE).unwrap();
    // Litestream makes this table, and has it as long as it replicates.
    db.execute_batch("CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER)").unwrap();
    let service = archiving(&machine).start();
    let why = "Litestream replicates this database, and holds its WAL itself";
    await_that("it is said", || health(&service)["reasons"].to_string().contains(why));
    assert_eq!(health(&service)["status"], "degraded");
    assert!(segments(&machine).is_empty());
    db.execute_batch("DROP TABLE _litestream_seq").unwrap();
    until_base(&machine);
    service.until_status("healthy");
    service.stop();
}
