//! What `cts doctor` says of the backups: whether there are any that would help, and whether they survive the disk.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::support::harness::{Machine, Run, is_root};

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn findings(run: Run) -> Vec<Value> {
    let report = run.run().json();
    let all = report["findings"].as_array().unwrap().clone();
    all.into_iter().filter(|finding| finding["group"] == "backups").collect()
}

fn doctor(machine: &Machine) -> Run {
    machine.cts("doctor --json --port 0")
}

/// Expects the finding of this name, with its status and parts of its text and remedy.
#[track_caller]
fn says(found: &[Value], name: &str, status: &str, what: &str, remedy: &str) {
    let is_it = |finding: &&Value| finding["name"] == name;
    let finding = found.iter().find(is_it).unwrap_or_else(|| panic!("{name}: {found:#?}"));
    let text = |key: &str| finding[key].as_str().unwrap_or_default();
    assert_eq!(text("status"), status, "{finding:#}");
    assert!(text("what").contains(what), "{what:?} is missing in {finding:#}");
    assert!(text("remedy").contains(remedy), "{remedy:?} is missing in {finding:#}");
}

fn manifest(machine: &Machine) -> PathBuf {
    let entries = fs::read_dir(machine.path("backups")).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    paths.find(|path| path.extension().is_some_and(|end| end == "json")).unwrap()
}

fn change(machine: &Machine, key: &str, value: Value) {
    let path = manifest(machine);
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    manifest[key] = value;
    fs::write(path, manifest.to_string()).unwrap();
}

fn days_ago(days: u64) -> Value {
    let at = SystemTime::now() - Duration::from_secs(days * 24 * 3600);
    humantime::format_rfc3339_millis(at).to_string().into()
}

#[test]
fn a_new_database_has_no_backup_yet_and_then_one_that_nobody_tried() {
    let machine = Machine::migrated();
    let before = machine.files();
    let found = findings(doctor(&machine));
    says(&found, "newest", "attention", "none yet; their folder does not exist", "cts backup");
    says(&found, "automatic", "good", "every 1day", "");
    assert_eq!(machine.files(), before, "the folder is not created");
    machine.cts("backup").success();
    let found = findings(doctor(&machine));
    says(&found, "newest", "good", "0s old, of 1 good ones", "");
    says(&found, "trial", "attention", "none was ever restored for a trial", "cts backup --verify");
    says(&found, "folder", "good", "mode 0700", "");
    let drill = json!({"at": days_ago(0), "restoreSeconds": 0.5, "failure": null});
    change(&machine, "drill", drill);
    says(&findings(doctor(&machine)), "trial", "good", "was restored in 0.5 s", "");
}

#[test]
fn old_failed_and_future_backups_need_attention() {
    let machine = Machine::migrated();
    machine.cts("backup").success();
    change(&machine, "madeAt", days_ago(3));
    let found = findings(doctor(&machine));
    says(&found, "newest", "attention", "3days old: more than 2days", "cts backup");
    let future = humantime::format_rfc3339(SystemTime::now() + Duration::from_secs(1 << 25));
    change(&machine, "madeAt", future.to_string().into());
    says(&findings(doctor(&machine)), "newest", "attention", "in the future", "timedatectl");
    let failed = json!({"at": days_ago(0), "restoreSeconds": null, "failure": "rows differ"});
    change(&machine, "drill", failed);
    let found = findings(doctor(&machine));
    says(
        &found,
        "newest",
        "attention",
        "counts for nothing: restoring it for a trial failed: rows differ",
        "cts backup",
    );
}

#[test]
fn a_folder_and_files_that_others_can_read_need_attention() {
    let machine = Machine::migrated();
    machine.cts("backup").success();
    let folder = machine.path("backups");
    set_mode(&folder, 0o755);
    says(&findings(doctor(&machine)), "folder", "attention", "mode 0755", "chmod 700 ");
    set_mode(&folder, 0o700);
    set_mode(&manifest(&machine).with_extension(""), 0o644);
    says(
        &findings(doctor(&machine)),
        "files",
        "attention",
        "other users may read cts-",
        "chmod 600 ",
    );
}

#[test]
fn a_folder_on_the_disk_of_the_database_needs_attention_and_another_disk_does_not() {
    if !is_root() {
        crate::support::not_tried("only root can mount a disk");
        return;
    }
    let machine = Machine::migrated();
    let same = |run: Run| findings(run);
    says(&same(doctor(&machine)), "disk", "attention", "lost with it", "CTS_BACKUP_DIR");
    // A file system of its own in a file: another device, and no block device below both.
    let (image, disk) = (machine.path("image"), machine.path("disk"));
    fs::create_dir(&disk).unwrap();
    let run = |program: &str, arguments: &[&str]| {
        Command::new(program).args(arguments).output().is_ok_and(|done| done.status.success())
    };
    let mounted = run("truncate", &["-s", "16M", image.to_str().unwrap()])
        && run("mkfs.ext4", &["-q", image.to_str().unwrap()])
        && run("mount", &["-o", "loop", image.to_str().unwrap(), disk.to_str().unwrap()]);
    if mounted {
        let found = findings(doctor(&machine).env("CTS_BACKUP_DIR", disk.join("backups")));
        assert!(run("umount", &[disk.to_str().unwrap()]));
        says(&found, "disk", "good", "another one", "");
    } else {
        crate::support::not_tried("a file cannot be mounted here");
    }
    let found = findings(doctor(&machine).env("CTS_BACKUP_DIR", "/dev/shm/cts-no-such-folder"));
    says(&found, "disk", "attention", "in memory", "CTS_BACKUP_DIR");
}

#[test]
fn backups_of_another_database_are_named() {
    let machine = Machine::migrated();
    machine.cts("backup").success();
    for file in ["cts.db", "cts.db-wal", "cts.db-shm"] {
        let _ = fs::remove_file(machine.path(file));
    }
    machine.cts("migrate").success();
    let found = findings(doctor(&machine));
    says(&found, "other databases", "attention", "1 backups in ", "CTS_BACKUP_DIR");
    says(&found, "newest", "attention", "none yet", "cts backup");
}

#[test]
fn where_nothing_makes_backups_that_is_said() {
    let machine = Machine::migrated();
    let found = findings(doctor(&machine).env("CTS_BACKUP_EVERY", "0"));
    says(&found, "automatic", "attention", "nothing makes them", "CTS_BACKUP_EVERY");
}

#[test]
fn a_folder_that_this_user_may_not_read_is_unknown_and_its_backups_not_missing() {
    if !is_root() {
        crate::support::not_tried("only root can run cts as another user");
        return;
    }
    let machine = Machine::migrated();
    machine.cts("backup").success();
    chown(machine.db(), Some(65534), Some(65534)).unwrap();
    let found = findings(machine.cts_as_nobody("doctor --json --port 0"));
    says(&found, "newest", "unknown", "the folder cannot be read: Permission denied", "namei -l");
    assert!(!found.iter().any(|finding| finding["name"] == "trial"), "{found:#?}");
}
