//! What health, status and `--check` say of the backups: the same, whoever is asked, and nothing that is not known.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::support::harness::{Machine, Run, Service, await_that, is_root};
use crate::support::manifest;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A machine with one backup.
fn backed_up() -> Machine {
    let machine = Machine::migrated();
    machine.cts("backup").success();
    machine
}

/// The paths of the manifests, in the order in which the backups were made.
fn manifests(machine: &Machine) -> Vec<PathBuf> {
    let entries = fs::read_dir(machine.path("backups")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut all: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
    all.sort_by_key(|path| {
        let manifest: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        manifest["serial"].as_u64()
    });
    all
}

/// Changes the manifest of the newest backup.
fn change(machine: &Machine, key: &str, value: Value) {
    manifest::edit(&manifests(machine).pop().unwrap(), |manifest| manifest[key] = value);
}

fn time(at: SystemTime) -> Value {
    humantime::format_rfc3339_millis(at).to_string().into()
}

fn made_days_ago(machine: &Machine, days: u32) {
    change(machine, "madeAt", time(SystemTime::now() - DAY * days));
}

fn health(service: &Service) -> Value {
    service.get("/api/health/database").json()
}

/// The text before the bar and the figure `backup_age` behind it.
#[track_caller]
fn check(run: Run, code: i32) -> (String, Option<String>) {
    let line = run.status(code).out();
    let (text, figures) = line.trim().split_once(" | ").unwrap();
    let age = figures.split(' ').find_map(|figure| figure.strip_prefix("backup_age="));
    (text.to_string(), age.map(String::from))
}

#[test]
fn the_newest_backup_is_seen_by_health_status_and_check_alike() {
    let machine = backed_up();
    made_days_ago(&machine, 1);
    let service = machine.serve().start();
    service.until_ready();
    await_that("the backup is seen", || health(&service)["backups"]["count"] == 1);
    let answer = health(&service);
    assert_eq!((&answer["status"], &answer["reasons"]), (&json!("healthy"), &Value::Null));
    let backups = &answer["backups"];
    assert_eq!(backups["automatic"], true);
    assert_eq!(
        (&backups["everySeconds"], &backups["ageMaxSeconds"]),
        (&json!(86400), &json!(172800))
    );
    let age = backups["last"]["ageSeconds"].as_u64().unwrap();
    assert!((86400..86460).contains(&age), "{age}");
    assert!(backups["last"]["sizeBytes"].as_u64().unwrap() > 100_000);
    assert_eq!(
        (&backups["problem"], &backups["last"]["restoreSeconds"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(backups["folder"], Value::Null, "the health answer needs no token");
    let folder = machine.path("backups");
    let status = service.get("/api/admin/migrations/status").json();
    assert_eq!(status["backups"]["folder"], folder.to_str().unwrap());
    let file = backups["last"]["file"].as_str().unwrap();
    machine.cts("status").success().says(&[
        "Backups:    1 good, one every 1day",
        &format!("  folder         {}", folder.display()),
        &format!("  last           {file}, 1day old, "),
        "not restored for a trial",
    ]);
    // The same line, whoever is asked.
    let url = format!("--check --url http://{}", service.address());
    for words in ["--check", &url] {
        let (text, age) = check(machine.cts(words), 0);
        assert_eq!(text, "CTS OK - sqlite, 22/22 core tables, 4/4 migrations");
        let age = age.unwrap();
        let age: u64 = age.strip_suffix("s;172800;;0").unwrap().parse().unwrap();
        assert!((86400..86460).contains(&age), "{words}: {age}");
    }
    // One that is made while the service runs.
    machine.cts("backup").success();
    await_that("the new backup is seen", || health(&service)["backups"]["count"] == 2);
    assert_eq!(service.stop().0, Some(0));
}

#[test]
fn none_within_twice_the_period_is_degraded_and_the_service_is_ready() {
    let machine = backed_up();
    made_days_ago(&machine, 3);
    let service = machine.serve().start();
    service.until_ready().until_status("degraded");
    let answer = health(&service);
    let reason = answer["reasons"][0].as_str().unwrap();
    assert!(
        reason.contains(" is 3days old; one is to be made every 1day. Try: `cts backup`"),
        "{reason}"
    );
    assert_eq!(answer["backups"]["problem"], reason);
    let ready = service.get("/readyz");
    assert_eq!((ready.code, &ready.json()["ready"]), (200, &json!(true)));
    let url = format!("--check --url http://{}", service.address());
    for words in ["--check", &url] {
        let (text, age) = check(machine.cts(words), 1);
        assert_eq!(
            text,
            format!("CTS WARNING - sqlite, 22/22 core tables, 4/4 migrations: {reason}")
        );
        assert!(age.unwrap().ends_with("s;172800;;0"));
    }
    machine.cts("status").success().says(&[reason]);
    // A new one ends it.
    machine.cts("backup").success();
    service.until_status("healthy");
    check(machine.cts("--check"), 0);
    assert_eq!(service.stop().0, Some(0));
}

#[test]
fn where_none_is_made_automatically_nothing_is_expected() {
    let machine = backed_up();
    made_days_ago(&machine, 300);
    let (text, age) = check(machine.cts("--check").env("CTS_BACKUP_EVERY", "0"), 0);
    assert!(text.starts_with("CTS OK"), "{text}");
    assert!(age.unwrap().ends_with("s;;;0"), "the age is shown without a threshold");
    let bare = Machine::migrated();
    let run = bare.cts("--check --json").env("CTS_BACKUP_EVERY", "0");
    let backups = &run.success().json()["backups"];
    let none = json!({"automatic": false, "everySeconds": null, "ageMaxSeconds": null, "count": 0,
                      "last": null, "nextDueAt": null, "problem": null});
    assert_eq!(*backups, none);
    assert_eq!(check(bare.cts("--check").env("CTS_BACKUP_EVERY", "0"), 0).1, None);
}

#[test]
fn a_young_database_needs_none_yet_and_an_older_one_misses_it() {
    let machine = Machine::migrated();
    assert_eq!(check(machine.cts("--check"), 0).1.unwrap(), "U");
    machine.sql("UPDATE migrations SET executed_at = datetime('now', '-3 days')");
    let (text, age) = check(machine.cts("--check"), 1);
    assert!(text.contains("there is no good backup: their folder does not exist;"), "{text}");
    assert_eq!(age.unwrap(), "U");
    fs::create_dir(machine.path("backups")).unwrap();
    let (text, _) = check(machine.cts("--check"), 1);
    assert!(text.contains("there is no good backup; one is to be made every 1day"), "{text}");
    // Dated in the future, by a clock that was set back since: how old it is cannot be known.
    machine.sql("UPDATE migrations SET executed_at = datetime('now', '+400 days')");
    check(machine.cts("--check"), 0);
}

#[test]
fn backups_of_another_database_do_not_count() {
    let machine = backed_up();
    for file in ["cts.db", "cts.db-wal", "cts.db-shm"] {
        let _ = fs::remove_file(machine.path(file));
    }
    machine.cts("migrate").success();
    let json = machine.cts("--check --json").success().json();
    assert_eq!((&json["backups"]["count"], &json["backups"]["last"]), (&json!(0), &Value::Null));
    // The id of the database is that of its first row, which says when it was created.
    machine.sql("UPDATE migrations SET executed_at = datetime('now', '-3 days')");
    let (text, _) = check(machine.cts("--check"), 1);
    assert!(text.contains("no good backup of this database, and 1 of others"), "{text}");
}

#[test]
fn without_the_database_its_backups_are_told_all_the_same() {
    let machine = backed_up();
    fs::remove_file(machine.db()).unwrap();
    let json = machine.cts("--check --json").status(2).json();
    assert_eq!((&json["status"], &json["backups"]["count"]), (&json!("unhealthy"), &json!(1)));
    assert!(json["backups"]["last"]["file"].as_str().unwrap().starts_with("cts-"));
}

#[test]
fn a_backup_that_could_not_be_restored_for_a_trial_counts_for_nothing() {
    let machine = backed_up();
    let file = |json: &Value| json["backups"]["last"]["file"].clone();
    let first = file(&machine.cts("--check --json").success().json());
    // The rules keep one of each day.
    made_days_ago(&machine, 1);
    machine.cts("backup").success();
    let failed = json!({"at": time(SystemTime::now()), "restoreSeconds": null,
                        "failure": "table users: 3 rows instead of 4"});
    change(&machine, "drill", failed);
    let json = machine.cts("--check --json").status(1).json();
    assert_eq!((&json["status"], &file(&json)), (&json!("degraded"), &first));
    let problem = json["backups"]["problem"].as_str().unwrap();
    let says =
        "counts for nothing: restoring it for a trial failed: table users: 3 rows instead of 4";
    assert!(problem.contains(says), "{problem}");
    assert_eq!(json["backups"]["count"], 1);
    let drilled =
        json!({"at": "2026-11-28T20:00:00.000Z", "restoreSeconds": 1.25, "failure": null});
    change(&machine, "drill", drilled);
    let json = machine.cts("--check --json").success().json();
    let last = &json["backups"]["last"];
    assert_eq!(
        (&last["drilledAt"], &last["restoreSeconds"]),
        (&json!("2026-11-28T20:00:00.000Z"), &json!(1.25))
    );
    machine.cts("status").success().says(&["restored for a trial in 1.2 s"]);
}

#[test]
fn a_backup_whose_file_was_cut_off_counts_for_nothing() {
    let machine = backed_up();
    let file = manifests(&machine).pop().unwrap().with_extension("");
    let length = fs::metadata(&file).unwrap().len();
    fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(length - 1).unwrap();
    let (text, age) = check(machine.cts("--check"), 1);
    let says = format!("its file has {} bytes instead of {length}", length - 1);
    assert!(text.contains(&says), "{text}");
    assert_eq!(age.unwrap(), "U");
    fs::remove_file(&file).unwrap();
    assert_eq!(machine.cts("--check --json").success().json()["backups"]["count"], 0);
}

#[test]
fn a_backup_from_the_future_has_no_age_and_is_said() {
    let machine = backed_up();
    change(&machine, "madeAt", time(SystemTime::now() + DAY * 365));
    let json = machine.cts("--check --json").success().json();
    assert_eq!((&json["status"], &json["backups"]["count"]), (&json!("healthy"), &json!(1)));
    assert_eq!(json["backups"]["last"]["ageSeconds"], Value::Null);
    assert_eq!(json["backups"]["nextDueAt"], Value::Null);
    assert!(json["reasons"][0].as_str().unwrap().contains("is dated in the future"), "{json}");
    assert_eq!(check(machine.cts("--check"), 0).1.unwrap(), "U");
    machine.cts("status").success().says(&["of unknown age"]);
}

#[test]
fn what_a_user_may_not_read_is_unknown_and_not_missing() {
    if !is_root() {
        return;
    }
    let machine = backed_up();
    machine.sql("UPDATE migrations SET executed_at = datetime('now', '-3 days')");
    // The group of the trading programs has the database, and not the backups.
    chown(machine.path(""), None, Some(65534)).unwrap();
    chown(machine.db(), None, Some(65534)).unwrap();
    let run = |words| machine.cts_as_nobody(words).env("CTS_GROUP_ACCESS", "1");
    run("--version").success();
    fs::set_permissions(machine.path(""), Permissions::from_mode(0o2770)).unwrap();
    fs::set_permissions(machine.db(), Permissions::from_mode(0o660)).unwrap();
    let as_group = |words: &str| {
        let mut run =
            Run::of(&machine.path("cts-for-all"), words).env("SQLITE_DB_PATH", machine.db());
        std::os::unix::process::CommandExt::uid(&mut run.command, 65534);
        std::os::unix::process::CommandExt::gid(&mut run.command, 65534);
        run.env("CTS_GROUP_ACCESS", "1")
    };
    let (text, age) = check(as_group("--check"), 0);
    assert!(text.contains("whether there are backups is unknown: "), "{text}");
    assert_eq!(age.unwrap(), "U");
    let json = as_group("--check --json").success().json();
    assert_eq!((&json["backups"]["count"], &json["backups"]["last"]), (&Value::Null, &Value::Null));
    as_group("status").success().says(&["Backups:    unknown, one every 1day"]);
}

#[test]
fn a_folder_that_does_not_answer_holds_up_no_answer() {
    let machine = backed_up();
    // Each pipe without a writer is read for 2 s.
    let manifest = manifests(&machine).pop().unwrap();
    for number in 0..5 {
        let file = machine.path(&format!("backups/hangs-{number}"));
        fs::write(&file, "").unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            file.with_extension("json"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
    }
    let pipe = |number: u32| machine.path(&format!("backups/hangs-{number}.json"));
    let writers: Vec<fs::File> = (0..5)
        .map(|number| fs::OpenOptions::new().read(true).write(true).open(pipe(number)).unwrap())
        .collect();
    let service = machine.serve().start();
    service.until_ready();
    let start = Instant::now();
    let (text, age) = check(machine.cts("--check"), 1);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(
        text.contains("backups is unknown") && text.contains("was not read within 2 s"),
        "{text}"
    );
    assert_eq!(age.unwrap(), "U");
    // The service says the same, and answers at once meanwhile.
    let mut longest = Duration::ZERO;
    await_that("the service says that the folder does not answer", || {
        let start = Instant::now();
        let answer = health(&service);
        longest = longest.max(start.elapsed());
        answer["status"] == "degraded"
    });
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    let problem = health(&service)["backups"]["problem"].as_str().unwrap().to_string();
    assert!(problem.contains("was not read within 5 s"), "{problem}");
    assert_eq!(service.get("/readyz").code, 200);
    // It answers again.
    for number in 0..5 {
        fs::remove_file(pipe(number)).unwrap();
    }
    drop(writers);
    service.until_status("healthy");
    assert!(manifest.exists());
    assert_eq!(service.stop().0, Some(0));
}

#[test]
fn a_folder_that_cannot_be_read_is_degraded_with_its_path() {
    let machine = Machine::migrated();
    fs::write(machine.path("backups"), "not a folder").unwrap();
    let (text, age) = check(machine.cts("--check"), 1);
    let folder = machine.path("backups");
    assert!(text.contains(&format!("{}: the folder cannot be read", folder.display())), "{text}");
    assert_eq!(age.unwrap(), "U");
}

#[test]
fn a_backup_that_failed_is_degraded_and_ready_until_one_succeeds() {
    let machine = Machine::migrated();
    fs::write(machine.path("backups"), "not a folder").unwrap();
    let service = machine.serve().env("CTS_BACKUP_EVERY", "1s").start();
    service.until_ready();
    let problem =
        || health(&service)["backups"]["problem"].as_str().unwrap_or_default().to_string();
    await_that("the failure is seen", || problem().starts_with("the last backup failed: "));
    let answer = health(&service);
    assert_eq!(answer["status"], "degraded");
    let reasons = answer["reasons"].as_array().unwrap();
    assert!(reasons.contains(&answer["backups"]["problem"]), "{answer:#}");
    assert_eq!(service.get("/readyz").code, 200);
    fs::remove_file(machine.path("backups")).unwrap();
    await_that("backups are made again", || health(&service)["backups"]["problem"].is_null());
    service.until_status("healthy");
    let (code, log) = service.stop();
    assert_eq!(code, Some(0));
    assert!(log.contains("✓ backups are made again, after "), "{log}");
}

#[test]
fn damage_of_the_database_that_a_backup_meets_makes_it_unhealthy() {
    let machine = Machine::migrated();
    machine.sql("PRAGMA wal_checkpoint(TRUNCATE)");
    // A table that nothing else of the service reads.
    let root = machine.number("SELECT rootpage FROM sqlite_schema WHERE name = 'users'");
    let mut bytes = fs::read(machine.db()).unwrap();
    let page = usize::try_from(root - 1).unwrap() * 4096;
    bytes[page..page + 64].fill(0xee);
    fs::write(machine.db(), bytes).unwrap();
    let service = machine.serve().env("CTS_BACKUP_EVERY", "1s").start();
    service.until_ready();
    let answer = service.until_status("unhealthy");
    assert_eq!(answer.code, 503);
    let reason = answer.json()["reasons"][0].as_str().unwrap().to_string();
    assert!(reason.contains("damaged: ") && reason.contains("cts restore latest"), "{reason}");
    assert_eq!(service.get("/readyz").code, 503);
    assert_eq!(service.stop().0, Some(0));
}
