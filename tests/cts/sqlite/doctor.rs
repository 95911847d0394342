//! `cts doctor`: a sound machine has no findings, each fault is reported with its remedy, and
//! nothing on the disk is changed.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::disk::unmount;
use crate::support::harness::{Done, Machine, Run, await_that, is_root, leave_free};

/// It promises less than 10 s; the machine may be busy.
const WITHIN: Duration = Duration::from_secs(20);

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A port that nobody listens on.
fn free_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}

fn json(run: Run) -> (i32, Value) {
    let done = run.within(WITHIN);
    (done.0.status.code().unwrap(), done.json())
}

/// The findings of that name, each with status, text and remedy.
fn found(report: &Value, group: &str, name: &str) -> (String, String, String) {
    let all = report["findings"].as_array().unwrap();
    let is_it = |finding: &&Value| {
        finding["group"] == group && finding["name"].as_str().unwrap().contains(name)
    };
    let finding = all.iter().find(is_it).unwrap_or_else(|| panic!("{group} {name}: {report:#}"));
    let text = |key: &str| finding[key].as_str().unwrap_or_default().to_string();
    (text("status"), text("what"), text("remedy"))
}

/// Runs `cts doctor`, and expects this finding and no change on the disk.
#[track_caller]
fn says(machine: &Machine, run: Run, code: i32, at: [&str; 3], what: &str, remedy: &str) {
    let before = machine.files();
    let (ended, report) = json(run);
    assert_eq!(machine.files(), before);
    let [group, name, status] = at;
    let (is, said, try_this) = found(&report, group, name);
    assert_eq!(is, status, "{report:#}");
    assert!(said.contains(what), "{what:?} is missing in {said:?}");
    assert!(try_this.contains(remedy), "{remedy:?} is missing in {try_this:?}");
    // The machine that runs the tests may have findings of its own.
    assert!(ended == code || (code, ended) == (0, 1), "{report:#}");
}

fn doctor(machine: &Machine) -> Run {
    machine.cts("doctor --json").env("PORT", free_port())
}

/// Findings that depend on the machine that runs the tests.
fn is_of_the_test(finding: &Value) -> bool {
    let (group, name) = (finding["group"].as_str().unwrap(), finding["name"].as_str().unwrap());
    // Its backups, if any, are on the disk of the database.
    matches!(group, "service" | "clock" | "backups")
        || name == "file system"
        || name == "/etc/default/cts"
}

#[test]
fn a_sound_machine_has_no_findings_and_no_file_is_made() {
    let machine = Machine::migrated();
    set_mode(&machine.path(""), 0o700);
    let names = || {
        let entries = fs::read_dir(machine.path("")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let (names_before, files) = (names(), machine.files());
    let (code, report) = json(doctor(&machine));
    // Not even shared memory or an empty WAL.
    assert_eq!((names(), machine.files()), (names_before, files));
    assert!((0..=1).contains(&code), "{report:#}");
    for finding in report["findings"].as_array().unwrap() {
        assert!(finding["status"] == "good" || is_of_the_test(finding), "{finding:#}");
    }
    for (group, name) in [
        ("configuration", "SQLITE_DB_PATH"),
        ("files", "folder"),
        ("files", "file"),
        ("files", "free disk"),
        ("database", "journal mode"),
        ("database", "pages"),
        ("database", "ledger"),
        ("database", "schema"),
        ("endpoints", "127.0.0.1"),
        ("clock", "time"),
    ] {
        assert_eq!(found(&report, group, name).0, "good", "{group} {name}");
    }
    let text = machine.cts("doctor").env("PORT", free_port()).within(WITHIN);
    assert_eq!(text.0.status.code(), Some(code));
    // Settings that have their default are shown with --verbose only.
    assert!(!text.out().contains("(default)"), "{}", text.out());
    text.says(&["configuration\n  ✓ cts: 3.1.0", "(environment)", "nothing was changed"]);
    let verbose = machine.cts("doctor -v").env("PORT", free_port()).within(WITHIN);
    verbose.says(&["(environment)", "✓ CTS_LOCK_TIMEOUT: 30s (default)"]);
}

#[test]
fn each_setting_is_shown_with_its_source() {
    let machine = Machine::migrated();
    let run = machine.cts("doctor --json --port 0").env("HOST", "127.0.0.2").env("PORT", "1");
    let (_, report) = json(run);
    for (name, value) in [
        ("PORT", "0 (--port)"),
        ("HOST", "127.0.0.2 (environment)"),
        ("CTS_LOCK_TIMEOUT", "30s (default)"),
    ] {
        assert_eq!(found(&report, "configuration", name).1, value);
    }
    let (status, what, _) = found(&report, "endpoints", ":0");
    assert_eq!((status.as_str(), what.contains("port 0")), ("unknown", true));
}

#[test]
fn an_invalid_setting_ends_with_78_after_the_other_checks() {
    let machine = Machine::migrated();
    let run = doctor(&machine).env("PORT", "http");
    says(&machine, run, 78, ["configuration", "settings", "bad"], "PORT: \"http\"", "correct PORT");
    let (_, report) = json(doctor(&machine).env("PORT", "http"));
    found(&report, "clock", "time");
    machine.cts("doctor --jsn").status(64);
}

#[test]
fn modes_that_admit_others_need_attention() {
    let machine = Machine::migrated();
    set_mode(&machine.db(), 0o644);
    let at = ["files", "file", "attention"];
    says(&machine, doctor(&machine), 1, at, "mode 0644", "chmod 600 ");
    set_mode(&machine.db(), 0o600);
    let folder = machine.path("");
    set_mode(&folder, 0o777);
    let at = ["files", "folder", "attention"];
    says(&machine, doctor(&machine), 1, at, "every user", "chmod 700 ");
    set_mode(&folder, 0o700);
    let run = doctor(&machine).env("CTS_GROUP_ACCESS", "1");
    says(&machine, run, 1, at, "CTS_GROUP_ACCESS", "chmod 2770 ");
}

#[test]
fn a_secret_readable_by_others_needs_attention() {
    let machine = Machine::migrated();
    let token = machine.path("token");
    fs::write(&token, "tell-nobody\n").unwrap();
    let run = || doctor(&machine).env("CTS_ADMIN_TOKEN_FILE", &token);
    set_mode(&token, 0o644);
    let at = |status| ["credentials", "CTS_ADMIN_TOKEN_FILE", status];
    says(&machine, run(), 1, at("attention"), "mode 0644", "chmod 600 ");
    set_mode(&token, 0o600);
    let (_, report) = json(run());
    assert_eq!(found(&report, "credentials", "CTS_ADMIN_TOKEN_FILE").0, "good");
    fs::remove_file(&token).unwrap();
    says(&machine, run(), 78, ["configuration", "settings", "bad"], "token", "correct the path");
}

#[test]
fn no_secret_is_printed() {
    let machine = Machine::migrated();
    let token = machine.path("token");
    fs::write(&token, "tell-nobody").unwrap();
    let service = machine.serve().env("CTS_ADMIN_TOKEN", "tell-nobody").start();
    let port = service.until_ready().address().port().to_string();
    for words in ["doctor", "doctor --json", "doctor -v"] {
        let with = |name: &str, value: &std::ffi::OsStr| {
            let run = machine.cts(words).env("PORT", &port).env(name, value);
            let done = run.within(WITHIN);
            let all = done.out() + &done.err();
            assert!(all.contains(name) && !all.contains("tell-nobody"), "{all}");
        };
        with("CTS_ADMIN_TOKEN", "tell-nobody".as_ref());
        with("CTS_ADMIN_TOKEN_FILE", token.as_os_str());
    }
}

#[test]
fn a_database_that_does_not_exist_needs_attention() {
    let machine = Machine::new();
    let at = ["database", "database", "attention"];
    says(&machine, doctor(&machine), 1, at, "there is no database yet", "cts migrate");
    let db = machine.path("none/cts.db");
    let at = ["files", "folder", "attention"];
    says(&machine, doctor(&machine).db(&db), 1, at, "does not exist", "install -d");
    assert!(machine.files().is_empty());
    // A database that has existed before is treated differently.
    fs::write(machine.path("cts.db-wal"), "the last open positions").unwrap();
    let at = ["database", "database", "bad"];
    says(&machine, doctor(&machine), 2, at, "there was a database", "restore a backup");
}

#[test]
fn a_folder_that_this_user_cannot_create_is_bad() {
    let machine = Machine::migrated();
    let closed = machine.path("closed");
    fs::create_dir(&closed).unwrap();
    set_mode(&closed, 0o555);
    let run = machine.cts_as_nobody("doctor --json").env("PORT", free_port());
    let (code, report) = json(run.db(&closed.join("data/cts.db")));
    let (status, what, remedy) = found(&report, "files", "folder");
    assert_eq!((status.as_str(), code), ("bad", 2), "{report:#}");
    assert!(what.contains("may not create it") && remedy.contains("install -d"), "{what}");
}

#[test]
fn files_that_cts_refuses_are_bad() {
    let machine = Machine::new();
    let at = ["database", "database", "bad"];
    fs::write(machine.db(), "no database").unwrap();
    set_mode(&machine.db(), 0o600);
    says(&machine, doctor(&machine), 2, at, "is not a SQLite database", "restore");
    let foreign = Machine::new();
    foreign.sql("PRAGMA application_id = 252006673; CREATE TABLE users (id, name)");
    says(&foreign, doctor(&foreign), 2, at, "another program's database", "SQLITE_DB_PATH");
}

#[test]
fn damage_is_bad() {
    let machine = Machine::migrated();
    let root = machine.number("SELECT rootpage FROM sqlite_schema WHERE name = 'system_settings'");
    machine.sql("PRAGMA wal_checkpoint(TRUNCATE)");
    let mut bytes = fs::read(machine.db()).unwrap();
    let page = usize::try_from(root - 1).unwrap() * 4096;
    bytes[page..page + 64].fill(0xee);
    fs::write(machine.db(), bytes).unwrap();
    let at = ["database", "pages", "bad"];
    says(&machine, doctor(&machine), 2, at, "damaged", "restore a backup");
}

#[test]
fn the_ledger_and_the_schema_are_compared_as_verify_does() {
    let at = |name, status| ["database", name, status];
    let machine = Machine::migrated();
    machine.sql("DROP INDEX idx_site_logs_time");
    let what = "index idx_site_logs_time on site_logs";
    says(&machine, doctor(&machine), 1, at("schema", "attention"), what, "cts repair");
    machine.sql("DROP TABLE users");
    says(&machine, doctor(&machine), 2, at("schema", "bad"), "table users", "cts repair");
    let machine = Machine::migrated();
    machine.sql("DELETE FROM migrations WHERE id = 4");
    let what = "071_add_coordination_tables.sql";
    says(&machine, doctor(&machine), 1, at("ledger", "attention"), what, "cts migrate");
    let machine = Machine::migrated();
    machine.sql(&format!(
        "INSERT INTO migrations (name, checksum, version) VALUES ('072_later.sql', '{}', '3.2.0')",
        "a".repeat(64)
    ));
    says(&machine, doctor(&machine), 2, at("ledger", "bad"), "072_later.sql", "start cts 3.2.0");
    machine.sql("PRAGMA journal_mode = DELETE");
    let at = at("journal mode", "attention");
    says(&machine, doctor(&machine), 2, at, "not wal", "cts migrate");
}

/// Waits until the running service has recorded its start and everything in the WAL is in the
/// database file, so that no checkpoint of the service changes the files.
fn settle(machine: &Machine) {
    let started = "SELECT count(*) FROM site_logs WHERE message LIKE 'the service started%'";
    await_that("the start is recorded", || machine.number(started) == 1);
    await_that("the WAL is checkpointed", || {
        let pages = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
        let (written, checkpointed) =
            machine.open().query_row("PRAGMA wal_checkpoint(PASSIVE)", [], pages).unwrap();
        written == checkpointed
    });
}

#[test]
fn a_running_service_is_asked_for_its_four_answers() {
    let machine = Machine::migrated();
    let service = machine.serve().start();
    let port = service.until_ready().address().port().to_string();
    service.until_status("healthy");
    let run = || machine.cts("doctor --json").env("PORT", &port);
    let (code, report) = json(run());
    assert!((0..=1).contains(&code), "{report:#}");
    for path in ["/livez", "/readyz", "/api/health/database", "/api/admin/migrations/status"] {
        assert_eq!(found(&report, "endpoints", path).0, "good", "{path}");
    }
    settle(&machine);
    let at = ["endpoints", "/api/admin/migrations/status", "attention"];
    says(&machine, run().env("CTS_ADMIN_TOKEN", "x"), 1, at, "without the token", "restart");
    machine.sql("DROP INDEX idx_site_logs_time");
    settle(&machine);
    let at = ["endpoints", "/api/health/database", "attention"];
    says(&machine, run(), 1, at, "degraded", "cts --check");
    assert!(!service.stop().1.contains("refused"));
    says(&machine, run(), 1, ["endpoints", "127.0.0.1", "good"], "free", "");
}

#[test]
fn a_port_used_by_another_program_is_bad() {
    let machine = Machine::migrated();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    // It accepts connections and never answers.
    let run = machine.cts("doctor --json").env("PORT", &port);
    says(&machine, run, 2, ["endpoints", &port, "bad"], "another program", "ss -ltnp");
    let run = machine.cts("doctor --json").env("HOST", "192.0.2.1").env("PORT", &port);
    says(&machine, run, 2, ["endpoints", &port, "bad"], "no such address", "HOST");
}

#[test]
fn another_user_is_told_which_user_can_inspect_the_database() {
    if !is_root() {
        crate::support::not_tried("only root can run cts as another user");
        return;
    }
    let machine = Machine::migrated();
    let run =
        |db: &Path| json(machine.cts_as_nobody("doctor --json").env("PORT", free_port()).db(db));
    let (code, report) = run(&machine.db());
    let (status, _, remedy) = found(&report, "database", "database");
    assert_eq!((code, status.as_str()), (3, "unknown"), "{report:#}");
    assert_eq!(remedy, format!("sudo cts doctor --db {}", machine.db().display()));

    // In a folder that others cannot enter, owned by a user id without a name.
    let folder = machine.path("data");
    fs::create_dir(&folder).unwrap();
    fs::rename(machine.db(), folder.join("cts.db")).unwrap();
    for path in [&folder, &folder.join("cts.db")] {
        std::os::unix::fs::chown(path, Some(4_000_000), Some(4_000_000)).unwrap();
    }
    set_mode(&folder, 0o700);
    let db = folder.join("cts.db");
    let (code, report) = run(&db);
    let (status, what, remedy) = found(&report, "files", "file");
    assert_eq!((code, status.as_str()), (3, "unknown"), "{report:#}");
    assert!(what.contains(folder.to_str().unwrap()), "{what}");
    assert_eq!(remedy, format!("sudo -u '#4000000' cts doctor --db {}", db.display()));
}

#[test]
fn a_user_who_may_only_read_the_file_cannot_say_that_it_is_unhealthy() {
    if !is_root() {
        crate::support::not_tried("only root can run cts as another user");
        return;
    }
    let machine = Machine::migrated();
    set_mode(&machine.db(), 0o644);
    let unknown: &[&str] = &["CTS UNKNOWN", "cannot be written", "--url"];
    machine.cts_as_nobody("--check").status(3).says(unknown);
    machine.cts_as_nobody("status").success();
    // With a WAL beside it that this user cannot share.
    let open = machine.open();
    open.execute_batch(
        "INSERT INTO site_logs (level, category, message) VALUES ('info', 'x', 'y')",
    )
    .unwrap();
    set_mode(&machine.path("cts.db-shm"), 0o600);
    machine.cts_as_nobody("--check").status(3).says(&["CTS UNKNOWN", "--url"]);
    drop(open);
    // The folder cannot be searched.
    set_mode(&machine.db(), 0o600);
    let closed = machine.path("closed");
    fs::create_dir(&closed).unwrap();
    fs::rename(machine.db(), closed.join("cts.db")).unwrap();
    set_mode(&closed, 0o700);
    let done = machine.cts_as_nobody("--check").db(&closed.join("cts.db")).status(3);
    done.says(&["CTS UNKNOWN", "--url http://127.0.0.1:3000"]);
    // Every command names the user who can run it, and none advises to give the file away.
    let owner = format!("run as root, who owns {} (`sudo cts …`)", closed.display());
    for (words, code) in [
        ("status", 77),
        ("migrate", 77),
        ("verify", 77),
        ("backup", 77),
        ("backups", 77),
        ("doctor", 3),
    ] {
        let done = machine.cts_as_nobody(words).db(&closed.join("cts.db")).status(code);
        let said = done.out() + &done.err();
        assert!(said.contains(&owner) && !said.contains("chown"), "{words}: {said}");
    }
    // A file that its own user cannot write is unhealthy.
    std::os::unix::fs::chown(closed.join("cts.db"), Some(65534), Some(65534)).unwrap();
    set_mode(&closed, 0o755);
    set_mode(&closed.join("cts.db"), 0o400);
    let done = machine.cts_as_nobody("--check").db(&closed.join("cts.db")).status(2);
    done.says(&["CTS CRITICAL", "cannot be written"]);
}

#[test]
fn tmpfs_and_full_and_read_only_disks_are_reported() {
    if !is_root() {
        crate::support::not_tried("only root can mount a disk");
        return;
    }
    let machine = Machine::new();
    let disk = machine.path("disk");
    fs::create_dir(&disk).unwrap();
    let mount = |arguments: &[&str]| {
        let done = Command::new("mount").args(arguments).arg(&disk).status().unwrap();
        assert!(done.success());
    };
    mount(&["-t", "tmpfs", "-o", "size=64m,mode=700", "tmpfs"]);
    let db = disk.join("cts.db");
    machine.cts("migrate").db(&db).success();
    let report = || json(doctor(&machine).db(&db));
    let in_memory = report();
    leave_free(&disk, 1 << 20);
    let full = report();
    fs::remove_file(disk.join("filler")).unwrap();
    mount(&["-o", "remount,ro"]);
    let read_only = report();
    unmount(&disk);

    let status = |seen: &(i32, Value), group, name| (seen.0, found(&seen.1, group, name).0);
    assert_eq!(status(&in_memory, "files", "file system"), (1, "attention".into()));
    assert_eq!(status(&in_memory, "files", "free disk"), (1, "good".into()));
    assert_eq!(status(&full, "files", "free disk"), (2, "bad".into()));
    assert_eq!(status(&read_only, "database", "writable"), (2, "bad".into()));
    assert_eq!(status(&read_only, "database", "schema"), (2, "good".into()));
}

#[test]
fn a_database_that_is_locked_is_unknown_in_time() {
    // A program that locks the whole database blocks every inspection.
    let machine = Machine::migrated();
    machine.sql("PRAGMA journal_mode = DELETE");
    let holder = machine.open();
    holder.execute_batch("BEGIN EXCLUSIVE; DELETE FROM site_logs").unwrap();
    let (code, report) = json(doctor(&machine));
    let (status, ..) = found(&report, "database", "database");
    assert_eq!((code, status.as_str()), (3, "unknown"), "{report:#}");
    holder.execute_batch("ROLLBACK").unwrap();
    await_that("the database can be examined", || json(doctor(&machine)).0 <= 1);
}

#[test]
fn help_names_its_exit_codes() {
    let machine = Machine::new();
    let done: Done = machine.cts("doctor --help").success();
    done.says(&["Exit codes: 0 all good", "78", "--json"]);
}

/// A run in its own mount namespace, with other files in `/run/systemd`, `/etc/default` and
/// `/proc`, and other programs first in the path.
fn elsewhere(machine: &Machine, programs: &[(&str, &str)], mounts: &str) -> Run {
    let folder = machine.path("programs");
    if !folder.exists() {
        fs::create_dir(&folder).unwrap();
    }
    for (name, text) in programs {
        let program = folder.join(name);
        fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
        set_mode(&program, 0o755);
    }
    let mut command = Command::new("unshare");
    let script = format!("{mounts}\nexec \"$0\" doctor --json");
    command.args(["-m", "sh", "-ec", &script, env!("CARGO_BIN_EXE_cts")]);
    command.env("PATH", format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", folder.display()));
    Run { command }.db(&machine.db()).env("PORT", free_port())
}

#[test]
fn the_unit_and_the_clock_are_examined_under_systemd() {
    if !is_root() {
        crate::support::not_tried("only root can mount what a machine with systemd has");
        return;
    }
    let machine = Machine::migrated();
    let booted = "mount -t tmpfs tmpfs /run; mkdir -p /run/systemd/system";
    let unit = "echo LoadState=loaded; echo UnitFileState=disabled; echo ActiveState=failed; \
        echo Result=exit-code; echo NRestarts=0; echo User=nobody; echo NeedDaemonReload=no; echo; \
        echo LoadState=not-found; echo UnitFileState=; echo ActiveState=inactive";
    let programs = [
        ("systemctl", unit),
        ("systemd-analyze", "echo '→ Overall exposure level for cts.service: 9.2 UNSAFE'"),
        ("timedatectl", "echo no"),
    ];
    let run = || elsewhere(&machine, &programs, booted);
    let at = |name, status| ["service", name, status];
    says(&machine, run(), 2, at("active", "bad"), "exit-code", "journalctl -u cts");
    says(&machine, run(), 2, at("enabled", "attention"), "at boot", "systemctl enable cts");
    says(&machine, run(), 2, at("exposure", "attention"), "9.2 of 10", "drop-ins");
    says(&machine, run(), 2, at("owner", "attention"), "belongs to root", "chown nobody: ");
    says(&machine, run(), 2, ["clock", "synchronised", "attention"], "no", "set-ntp");
    // A hanging systemd is not waited for, and the other checks are made.
    let hangs = programs.map(|(name, _)| (name, "sleep 60"));
    let start = Instant::now();
    let run = elsewhere(&machine, &hangs, booted);
    says(&machine, run, 0, at("cts.service", "unknown"), "not examined", "");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn settings_of_the_service_alone_are_reported() {
    if !is_root() {
        crate::support::not_tried("only root can mount another /etc/default");
        return;
    }
    let machine = Machine::migrated();
    let mount = "mount -t tmpfs -o mode=755 tmpfs /etc/default; umask 022; \
        printf 'CTS_ADMIN_TOKEN=tell-nobody\\nCTS_LOCK_TIMEOUT=5s\\n' > /etc/default/cts";
    let run = || elsewhere(&machine, &[], mount);
    let at = ["configuration", "/etc/default/cts", "attention"];
    let what = "CTS_ADMIN_TOKEN, CTS_LOCK_TIMEOUT";
    says(&machine, run(), 1, at, what, "EnvironmentFile=/etc/default/cts");
    let at = ["credentials", "secrets of cts.service", "attention"];
    says(&machine, run(), 1, at, "mode 0644", "chmod 600 /etc/default/cts");
    let done = run().within(WITHIN);
    assert!(!(done.out() + &done.err()).contains("tell-nobody"));
}

#[test]
fn a_machine_without_proc_is_examined_too() {
    if !is_root() {
        crate::support::not_tried("only root can hide /proc");
        return;
    }
    let machine = Machine::migrated();
    let run = elsewhere(&machine, &[], "mount -t tmpfs tmpfs /proc");
    says(&machine, run, 0, ["database", "schema", "good"], "24 tables", "");
}
