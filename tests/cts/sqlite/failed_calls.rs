//! Calls of the operating system that fail under SQLite, made to fail by `strace`: the cause is said, and a
//! disk that cannot be read is not told as damage.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::disk::unmount;
use crate::support::harness::{Machine, Run, is_root};

/// A run of cts in which this call fails, on this file.
fn failing(machine: &Machine, words: &str, file: &Path, call: &str, fault: &str) -> Run {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-P"]).arg(file);
    command.args(["-e", &format!("trace={call}"), "-e", &format!("inject={call}:error={fault}")]);
    command.arg(env!("CARGO_BIN_EXE_cts")).args(words.split_whitespace());
    command.env_clear().env("SQLITE_DB_PATH", machine.db()).stdin(Stdio::null());
    Run { command }
}

fn file(machine: &Machine, suffix: &str) -> PathBuf {
    machine.path(&format!("cts.db{suffix}"))
}

#[test]
fn a_page_that_cannot_be_read_is_an_io_error_and_no_damage() {
    let machine = Machine::migrated();
    let fails = |words: &str, nth: String, code: i32| {
        let done = failing(&machine, words, &machine.db(), "pread64", &format!("EIO:when={nth}"));
        let done = done.run();
        let text = done.out() + &done.err();
        assert_eq!(done.0.status.code(), Some(code), "{words}, read {nth}: {text}");
        assert!(text.contains("Input/output error") && text.contains("dmesg"), "{nth}: {text}");
        for guess in ["malformed", "damaged", "restore a backup"] {
            assert!(!text.contains(guess), "{words}, read {nth}: {text}");
        }
    };
    for nth in 1..8 {
        fails("migrate", nth.to_string(), 74);
        fails("--check", format!("{nth}+"), 2);
    }
    for nth in [3, 20, 40, 60] {
        fails("--check --deep", nth.to_string(), 2);
    }
    machine.cts("--check --deep").success();
}

#[test]
fn a_file_that_cannot_be_opened_or_written_has_its_cause() {
    let machine = Machine::migrated();
    // Something to write.
    let drop = || machine.sql("DROP INDEX IF EXISTS idx_site_logs_time");
    for (suffix, call, fault, says) in [
        ("", "openat", "EMFILE", "ulimit -n"),
        ("-wal", "openat", "EMFILE", "ulimit -n"),
        ("-shm", "openat", "ENFILE", "fs.file-max"),
        ("-wal", "openat", "ENOMEM", "free memory"),
        ("-wal", "openat", "EIO", "dmesg"),
        ("-wal", "openat", "EDQUOT", "the quota on the disk is used up"),
        ("-wal", "pwrite64", "EDQUOT", "the quota on the disk is used up"),
        ("-wal", "pwrite64", "EIO", "dmesg"),
    ] {
        drop();
        let done =
            failing(&machine, "repair", &file(&machine, suffix), call, &format!("{fault}:when=1+"));
        let done = done.run();
        let text = done.err();
        assert_eq!(done.0.status.code(), Some(74), "{suffix} {call} {fault}: {text}");
        assert!(text.contains(says) && text.contains("os error"), "{suffix} {fault}: {text}");
    }
    machine.cts("repair").success();
}

#[test]
fn a_file_system_without_free_inodes_is_reported_and_is_not_called_full() {
    if !is_root() {
        crate::support::not_tried("only root can mount a small file system");
        return;
    }
    let machine = Machine::new();
    let disk = machine.path("disk");
    std::fs::create_dir(&disk).unwrap();
    let mount = |arguments: &[&str]| {
        assert!(Command::new("mount").args(arguments).arg(&disk).status().unwrap().success());
    };
    mount(&["-t", "tmpfs", "-o", "nr_inodes=64,size=64m", "tmpfs"]);
    let db = disk.join("cts.db");
    let migrated = machine.cts("migrate").db(&db).run();
    let enough = machine.cts("--check").db(&db).run();
    let fill = (0..64).take_while(|n| std::fs::File::create(disk.join(format!("f{n}"))).is_ok());
    let filled = fill.count();
    let runs: Vec<_> = ["--check", "doctor", "migrate"]
        .map(|words| machine.cts(words).db(&db).run())
        .into_iter()
        .collect();
    std::fs::remove_file(disk.join("f0")).unwrap();
    std::fs::remove_file(disk.join("f1")).unwrap();
    let few = machine.cts("--check").db(&db).run();
    unmount(&disk);
    assert_eq!(migrated.0.status.code(), Some(0), "{}", migrated.err());
    assert_eq!(enough.0.status.code(), Some(0), "{}", enough.out());
    assert!(filled > 40, "{filled}");
    let [check, doctor, migrate] = runs.try_into().ok().unwrap();
    assert_eq!(check.0.status.code(), Some(2), "{}", check.out());
    check.says(&["0 of 64 inodes are free", "df -i"]);
    assert_eq!(doctor.0.status.code(), Some(2), "{}", doctor.out());
    doctor.says(&["free inodes", "0 of 64 inodes are free"]);
    assert_eq!(migrate.0.status.code(), Some(74), "{}", migrate.err());
    migrate.says(&["no inode is free on the file system", "df -i"]);
    assert_eq!(few.0.status.code(), Some(1), "{}", few.out());
    few.says(&["CTS WARNING", "2 of 64 inodes are free"]);
}
