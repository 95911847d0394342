//! The automatic backups of the service: made when they are due, tried, kept by rules, and never at the cost of the service.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

use crate::support::harness::{Machine, Run, await_that, is_root, leave_free};

/// A service that makes a backup every second.
fn every_second(machine: &Machine) -> Run {
    machine.serve().env("CTS_BACKUP_EVERY", "1s")
}

/// The manifests in a folder, in the order in which the backups were made.
fn manifests(folder: &Path) -> Vec<Value> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let manifests = entries.filter(|path| path.extension().is_some_and(|kind| kind == "json"));
    let mut manifests: Vec<Value> = manifests
        .filter_map(|path| serde_json::from_str(&fs::read_to_string(path).ok()?).ok())
        .collect();
    manifests.sort_by_key(|manifest| manifest["serial"].as_u64());
    manifests
}

#[test]
fn a_service_makes_backups_that_are_tried_and_kept_by_rules() {
    let machine = Machine::new();
    let service = every_second(&machine).env("CTS_BACKUP_KEEP", "daily=1").start();
    service.until("were deleted: cts-");
    let folder = machine.path("backups");
    await_that("only the newest is kept", || manifests(&folder).len() == 1);
    let recorded =
        "SELECT count(*) FROM site_logs WHERE message LIKE 'Backups that no rule keeps%'";
    await_that("it is recorded", || machine.number(recorded) > 0);
    await_that("the last success is the backup that is there", || {
        let name = fs::read_to_string(folder.join("last-success")).unwrap();
        folder.join(name.trim_end()).is_file()
    });
    let (code, log) = service.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("✓ Backup ") && log.contains("was restored for a trial"), "{log}");
    let newest = manifests(&folder).pop().unwrap();
    assert!(newest["serial"].as_u64() > Some(1) && newest["keptBy"] == "rules", "{newest}");
    let entries = machine.texts("SELECT message FROM site_logs WHERE message LIKE 'Backup%'");
    assert!(entries.iter().any(|entry| entry.contains("24 tables with")), "{entries:?}");
    assert!(entries.iter().any(|entry| entry.contains("no rule keeps")), "{entries:?}");
    // All of it was taken away: what is left is the newest, its companions, and the name of the last success.
    assert!(fs::read_dir(&folder).unwrap().count() <= 7, "{log}");
}

#[test]
fn no_backup_is_made_where_none_are_wanted() {
    let machine = Machine::new();
    let service = machine.serve().env("CTS_BACKUP_EVERY", "0").start();
    service.until_ready();
    assert_eq!(service.get("/readyz").code, 200);
    let (_, log) = service.stop();
    assert!(!log.contains("✓ Backup") && !machine.path("backups").exists(), "{log}");
}

#[test]
fn the_first_backup_is_not_made_in_the_first_minute() {
    let machine = Machine::new();
    let service = machine.serve().start();
    service.until_ready();
    assert_eq!(service.get("/readyz").code, 200);
    service.stop();
    assert!(!machine.path("backups").exists());
}

#[test]
fn a_backup_waits_for_that_of_another_process_and_says_so() {
    let machine = Machine::migrated();
    let folder = File::open(machine.path("")).unwrap();
    flock(&folder, FlockOperation::LockExclusive).unwrap();
    let service = every_second(&machine).start();
    service.until("The backup that is due is put off: ");
    let busy = machine.cts("backup").env("CTS_LOCK_TIMEOUT", "100ms").status(75);
    busy.says(&["another cts makes or restores a backup"]);
    assert_eq!(service.get("/readyz").code, 200);
    drop(folder);
    service.until("✓ Backup ");
}

#[test]
fn two_services_on_one_database_make_no_two_backups_at_once() {
    let machine = Machine::new();
    let services = [every_second(&machine).start(), every_second(&machine).start()];
    for service in &services {
        service.until("✓ Backup ");
    }
    let folder = machine.path("backups");
    await_that("some were made", || {
        manifests(&folder).last().is_some_and(|newest| newest["serial"].as_u64() > Some(4))
    });
    let logs = services.map(|service| service.stop().1);
    for log in &logs {
        assert!(!log.contains("✗") && !log.contains("the last backup failed"), "{log}");
    }
    // One and the same backup is made by one of them only.
    let names: Vec<&str> = logs
        .iter()
        .flat_map(|log| log.lines().filter(|line| line.contains("✓ Backup ")))
        .filter_map(|line| line.split(": ").next())
        .collect();
    let mut distinct = names.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), names.len(), "{names:?}");
}

#[test]
fn a_folder_that_cannot_be_used_degrades_the_service_until_it_can() {
    let machine = Machine::migrated();
    let folder = machine.path("elsewhere");
    fs::write(&folder, "a file").unwrap();
    let service = every_second(&machine).env("CTS_BACKUP_DIR", &folder).start();
    service.until("the last backup failed: ");
    let answer = service.until_status("degraded");
    assert!(answer.body.contains("the last backup failed: "), "{}", answer.body);
    assert_eq!((answer.code, service.get("/readyz").code), (200, 200));
    let failed = "SELECT count(*) FROM site_logs WHERE level = 'error' AND message LIKE 'the last backup failed%'";
    await_that("it is recorded", || machine.number(failed) == 1);
    fs::remove_file(&folder).unwrap();
    // A folder that was configured may be on a disk that is not mounted.
    let says = "its disk may not be mounted";
    await_that("it is not created", || service.get("/api/health/database").body.contains(says));
    assert!(!folder.exists());
    fs::create_dir(&folder).unwrap();
    service.until("✓ backups are made again").until_status("healthy");
    assert_eq!(machine.number(failed), 1);
}

#[test]
fn none_is_begun_where_less_than_twice_its_size_would_stay_free() {
    if !is_root() {
        crate::support::not_tried("only root can mount a file system");
        return;
    }
    let machine = Machine::migrated();
    let disk = SmallDisk::mount(&machine);
    // Enough for a backup, and not for two more.
    leave_free(&disk.0, 17 << 20);
    let folder = disk.0.join("backups");
    fs::create_dir(&folder).unwrap();
    let service = every_second(&machine).env("CTS_BACKUP_DIR", &folder).start();
    service.until("twice its size is to stay free");
    assert_eq!(manifests(&folder).len(), 0);
    fs::remove_file(disk.0.join("filler")).unwrap();
    service.until("✓ backups are made again");
    service.stop();
}

#[test]
fn what_killed_runs_have_left_on_a_full_disk_and_what_no_rule_keeps_makes_room_for_the_next() {
    if !is_root() {
        crate::support::not_tried("only root can mount a file system");
        return;
    }
    let machine = Machine::migrated();
    let disk = SmallDisk::mount(&machine);
    let folder = disk.0.join("backups");
    let backup = || {
        machine
            .cts("backup")
            .env("CTS_BACKUP_DIR", &folder)
            .env("CTS_BACKUP_KEEP", "daily=1")
            .success()
    };
    // The second one takes the place of the first one, which is put back.
    backup();
    let entries = || fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let first: Vec<(PathBuf, Vec<u8>)> = entries()
        .filter(|path| !path.ends_with("last-success"))
        .map(|path| (path.clone(), fs::read(&path).unwrap()))
        .collect();
    backup();
    for (path, bytes) in first {
        fs::write(path, bytes).unwrap();
    }
    assert_eq!(manifests(&folder).len(), 2);
    let unkept = manifests(&folder)[0]["file"].as_str().unwrap().to_string();
    let trial = folder.join("cts-drill-1-1");
    fs::create_dir(&trial).unwrap();
    fs::write(trial.join("cts.db"), vec![1; 2 << 20]).unwrap();
    let partial = folder.join("cts-20200101T000000Z.db.partial");
    fs::write(&partial, vec![1; 2 << 20]).unwrap();
    fs::set_permissions(&partial, Permissions::from_mode(0o600)).unwrap();
    // Too little for a backup after which twice its size is free; enough with what is removed.
    leave_free(&disk.0, 15 << 20);
    let service = every_second(&machine)
        .env("CTS_BACKUP_DIR", &folder)
        .env("CTS_BACKUP_KEEP", "daily=1")
        .start();
    service.until("✓ Backup ");
    let (_, log) = service.stop();
    assert!(!log.contains("twice its size"), "{log}");
    assert!(!trial.exists() && !partial.exists() && !folder.join(&unkept).exists(), "{log}");
    let (deleted, made) = (log.find("were deleted: "), log.find("✓ Backup "));
    assert!(deleted.is_some() && deleted < made && log.contains(&unkept), "{log}");
}

#[test]
fn of_backups_whose_trial_fails_only_the_first_is_kept() {
    let machine = Machine::new();
    let service = every_second(&machine).start();
    service.until("was restored for a trial");
    // A copy of this can be made and proved, but not migrated.
    machine.sql("UPDATE migrations SET checksum = 'x' WHERE id = 2");
    service.until("was removed: ");
    let removed = "SELECT message FROM site_logs WHERE message LIKE '%was removed: %'";
    await_that("it is recorded", || machine.texts(removed).len() > 1);
    let (_, log) = service.stop();
    let folder = machine.path("backups");
    let has_failed = |manifest: &&Value| manifest["drill"]["failure"].is_string();
    let manifests = manifests(&folder);
    let failed: Vec<&Value> = manifests.iter().filter(has_failed).collect();
    assert_eq!(failed.len(), 1, "{manifests:?} {log}");
    let kept = failed[0]["file"].as_str().unwrap();
    assert!(folder.join(kept).exists() && manifests.len() > 1, "{log}");
    let messages = machine.texts(removed);
    assert!(messages.iter().all(|message| message.contains(kept)), "{messages:?}");
    let name = messages[0].split(", whose").next().unwrap().rsplit('/').next().unwrap();
    let left = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name());
    let of_removed: Vec<_> = left.filter(|file| file.to_string_lossy().contains(name)).collect();
    assert!(of_removed.is_empty(), "{of_removed:?}");
}

#[test]
fn a_trial_that_was_not_made_is_made_up_for() {
    let machine = Machine::migrated();
    let (folder, every) = (machine.path("backups"), Duration::from_secs(4));
    let service = machine.serve().env("CTS_BACKUP_EVERY", "4s").start();
    service.until_ready();
    // None is due as long as a command makes them.
    let mut made = None;
    let told = "not restored for a trial yet: that is made up for";
    await_that("it is made up for", || {
        if made.is_none_or(|made: Instant| made.elapsed() > every / 4) {
            machine.cts("backup").success();
            made = Some(Instant::now());
        }
        service.log().contains(told)
    });
    await_that("it is recorded", || service.log().contains("was restored for a trial, in"));
    // The backup of a command is in the log of the database too.
    let row = format!("SELECT count(*) FROM site_logs WHERE message LIKE 'Backup %{told}'");
    await_that("it has a row", || machine.number(&row) > 0);
    let (_, log) = service.stop();
    let mut lines = log.lines().skip_while(|line| !line.contains(told));
    let line = lines.next().unwrap();
    assert!(lines.next().unwrap().contains("✓ The backup was restored for a trial, in"), "{log}");
    let of_it = |manifest: &&Value| line.contains(manifest["file"].as_str().unwrap());
    let manifests = manifests(&folder);
    let manifest = manifests.iter().find(of_it);
    assert!(manifest.is_none_or(|found| found["drill"]["restoreSeconds"].is_number()), "{log}");
}

#[test]
fn deletions_are_reported_where_the_last_success_cannot_be() {
    let machine = Machine::migrated();
    fs::create_dir_all(machine.path("backups/last-success")).unwrap();
    let service = every_second(&machine).env("CTS_BACKUP_KEEP", "daily=1").start();
    service.until("were deleted: cts-").until("last-success: cannot be written");
    service.stop();
}

#[test]
fn a_folder_that_does_not_answer_holds_up_neither_the_service_nor_its_stop() {
    let machine = Machine::migrated();
    let folder = machine.path("backups");
    fs::create_dir(&folder).unwrap();
    // A manifest that is a pipe without a writer is waited for: each is two seconds of a slow folder.
    for number in 10..40 {
        let file = folder.join(format!("cts-20200101T0000{number}Z.db"));
        fs::write(&file, "").unwrap();
        let pipe = PathBuf::from(format!("{}.json", file.display()));
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
    }
    let writers: Vec<File> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "json"))
        .map(|path| File::options().read(true).write(true).open(path).unwrap())
        .collect();
    let service = every_second(&machine).start();
    service.until_ready();
    assert_eq!(service.get("/readyz").code, 200);
    let start = Instant::now();
    let (code, log) = service.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}: {log}", start.elapsed());
    drop(writers);
}

/// A file system of 64 MiB.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(machine: &Machine) -> SmallDisk {
        let folder = machine.path("disk");
        fs::create_dir(&folder).unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"])
            .arg(&folder)
            .status();
        assert!(mount.unwrap().success());
        SmallDisk(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
