//! Faults while a backup is made: it is complete, or it is not there, and those before are as they were.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{backups, expect_complete, logged, names, parts};
use crate::support::disk::unmount;
use crate::support::harness::{Machine, Run, for_each, is_root, leave_free};
use crate::support::kills::{kill_after, tried};

/// Moments at which a backup is killed.
const MOMENTS: u32 = 100;
const AT_ONCE: Duration = Duration::from_secs(20);

/// A machine with rows enough that copying takes several steps.
fn filled() -> Machine {
    let machine = Machine::migrated();
    machine.sql(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
         INSERT INTO site_logs (level, category, message) SELECT 'info', 'x', hex(zeroblob(60)) FROM n",
    );
    machine
}

/// The files of a folder with their content.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = names(folder).into_iter().map(|name| folder.join(name));
    paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
#[ignore = "sweep"]
fn a_kill_at_any_moment_leaves_the_backups_before_and_the_next_one_clears_up() {
    let machine = filled();
    fs::create_dir(machine.path("backups")).unwrap();
    let start = Instant::now();
    // One that no rule deletes.
    machine.cts(&format!("backup {}", machine.path("backups/kept.db").display())).success();
    let duration = start.elapsed();
    let first = contents(&machine.path("backups"));
    let mut left = 0;
    for moment in tried(MOMENTS) {
        kill_after(duration * moment / MOMENTS, machine.cts("backup"));
        let now = contents(&machine.path("backups"));
        assert!(first.iter().all(|(path, bytes)| now.get(path) == Some(bytes)));
        left += now.keys().filter(|path| path.to_string_lossy().contains(".partial")).count();
        // What is listed is complete.
        let listed = machine.cts("backups --json").success().json();
        for backup in listed["backups"].as_array().unwrap() {
            let path = machine.path("backups").join(backup["file"].as_str().unwrap());
            expect_complete(&path, logged(&machine));
            if !first.contains_key(&path) {
                for ending in ["", ".json", ".sha256"] {
                    fs::remove_file(format!("{}{ending}", path.display())).unwrap();
                }
            }
        }
    }
    assert!(left * 10 > tried(MOMENTS).count(), "{left} were killed while they wrote");
    machine.cts("backup").success();
    assert_eq!(parts(&machine.path("backups")).len(), 6);
    machine.cts("--check --deep").success();
}

#[test]
#[ignore = "sweep"]
fn a_kill_leaves_nothing_that_is_in_the_way_of_a_backup_of_the_same_name() {
    let machine = filled();
    let backup = machine.path("copy.db");
    let run = || machine.cts(&format!("backup {}", backup.display()));
    let start = Instant::now();
    run().success();
    let duration = start.elapsed();
    for moment in tried(MOMENTS) {
        for ending in ["", ".json", ".sha256"] {
            let _ = fs::remove_file(format!("{}{ending}", backup.display()));
        }
        kill_after(duration * moment / MOMENTS, run());
        if !backup.exists() {
            run().success();
        }
        expect_complete(&backup, logged(&machine));
        assert!(!names(&machine.path("")).iter().any(|name| name.contains(".partial")));
    }
}

/// A run of cts in which one call of these, on the files of a backup, fails, and all after it.
fn failing(machine: &Machine, backup: &Path, calls: &str, fault: &str, from: u32) -> Run {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null"]);
    for ending in [".partial", ".json.partial", ".sha256.partial"] {
        command.arg("-P").arg(format!("{}{ending}", backup.display()));
    }
    command.args(["-e", &format!("trace={calls}")]);
    command.args(["-e", &format!("inject={calls}:error={fault}:when={from}+")]);
    command.arg(env!("CARGO_BIN_EXE_cts")).arg("backup").arg(backup);
    command.env_clear().env("SQLITE_DB_PATH", machine.db()).stdin(Stdio::null());
    Run { command }
}

#[test]
#[ignore = "sweep"]
fn a_disk_that_is_full_from_any_call_on_leaves_no_backup() {
    let machine = filled();
    let backup = machine.path("copy.db");
    let before = machine.files();
    let calls = "fallocate,pwrite64,write,fsync,ftruncate";
    for (fault, says) in [("ENOSPC", "free some space"), ("EDQUOT", "quota"), ("EIO", "dmesg")] {
        let is_complete = |from: u32| {
            let done = failing(&machine, &backup, calls, fault, from).within(AT_ONCE);
            match done.0.status.code() {
                Some(0) => {
                    expect_complete(&backup, logged(&machine));
                    for ending in ["", ".json", ".sha256"] {
                        fs::remove_file(format!("{}{ending}", backup.display())).unwrap();
                    }
                    true
                }
                Some(74) => {
                    let text = done.err().to_lowercase();
                    assert!(text.contains(says), "{fault} from call {from}: {text}");
                    assert_eq!(machine.files(), before, "{fault} from call {from}: {text}");
                    false
                }
                code => panic!("{fault} from call {from}: {code:?}: {}", done.err()),
            }
        };
        let mut from = 1;
        while !is_complete(from) {
            // Writes of the copy are many and alike.
            from += if from > 40 { 97 } else { 1 };
        }
        assert!(from > 20, "{from}");
    }
}

#[test]
#[ignore = "sweep"]
fn a_disk_with_any_number_of_free_kilobytes_takes_the_backup_or_is_left_as_it_was() {
    if !is_root() {
        crate::support::not_tried("only root can mount a small disk");
        return;
    }
    let machine = filled();
    let size = fs::metadata(machine.db()).unwrap().len();
    let levels: Vec<u64> = (0..40).map(|n| (size + (18 << 20)) * n / 40 + n * 517 % 4096).collect();
    for_each(levels, |level| {
        let place = Machine::new();
        let disk = place.path("");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"])
            .arg(&disk)
            .status();
        assert!(mounted.unwrap().success());
        leave_free(&disk, level);
        let done = machine.cts("backup").env("CTS_BACKUP_DIR", disk.join("kept")).run();
        let left = parts(&disk.join("kept"));
        unmount(&disk);
        let (code, text) = (done.0.status.code(), done.err());
        match code {
            Some(0) => assert_eq!(left.len(), 3, "{level}: {text}"),
            Some(74) => {
                assert!(left.is_empty(), "{level}: {left:?}");
                assert!(
                    text.contains(" are free there") && text.contains("CTS_BACKUP_DIR"),
                    "{text}"
                );
            }
            _ => panic!("{level} bytes: {code:?}: {text}"),
        }
        assert_eq!(code == Some(0), level >= size + (16 << 20) + 8192, "{level}: {text}");
    });
}

#[test]
fn a_limit_on_the_size_of_files_is_said_with_the_figures() {
    let machine = filled();
    let mut command = Command::new("prlimit");
    command.env_clear().env("SQLITE_DB_PATH", machine.db()).arg("--fsize=1048576");
    command.arg(env!("CARGO_BIN_EXE_cts")).arg("backup");
    let done = Run { command }.status(74);
    done.says(&["may not grow beyond 1024 KiB", "the backup needs about ", "ulimit -f"]);
    assert_eq!(names(&machine.path("backups")), [""; 0]);
}

#[test]
fn a_request_to_stop_ends_a_backup_and_leaves_nothing() {
    let machine = filled();
    let service = machine.cts("backup").start();
    thread::sleep(Duration::from_millis(20));
    service.signal(Signal::TERM);
    let (code, log) = service.end();
    match code {
        Some(75) => assert_eq!(names(&machine.path("backups")), [""; 0], "{log}"),
        // It was faster.
        Some(0) => assert_eq!(parts(&machine.path("backups")).len(), 3),
        // It had not begun.
        code => assert_eq!(code, None, "{log}"),
    }
}

#[test]
fn thirty_two_backups_at_once_are_made_one_after_the_other() {
    let machine = filled();
    let runs: Vec<_> = (0..32)
        .map(|_| {
            let mut run = machine.cts("backup").env("CTS_LOCK_TIMEOUT", "300s");
            run.command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for run in runs {
        let done = run.wait_with_output().unwrap();
        let log = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(0), "{log}");
    }
    // The rules keep the last one of a day.
    let all = backups(&machine);
    assert_eq!(all.len(), 1);
    assert_eq!(super::manifest(&all[0])["serial"], 32);
    expect_complete(&all[0], logged(&machine));
}

#[test]
fn a_backup_waits_for_another_of_the_same_database_and_not_without_end() {
    let machine = Machine::migrated();
    let folder = fs::File::open(machine.path("")).unwrap();
    rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive).unwrap();
    machine
        .cts("backup")
        .env("CTS_LOCK_TIMEOUT", "1s")
        .status(75)
        .says(&["another cts makes or restores a backup", "CTS_LOCK_TIMEOUT"]);
    drop(folder);
    machine.cts("backup").success();
}
