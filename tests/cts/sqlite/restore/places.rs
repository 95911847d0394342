//! Where the restored database is put: over a file of any kind, where there is none, at another path; and what is in the
//! way.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::process::Command;

use super::{assert_tidy, backed_up, backup_of, files, kept, refused, users};
use crate::support::harness::{Machine, await_that, is_root, leave_free, mode};
use crate::support::scenario::side_file;

#[test]
fn a_new_box_needs_no_database_and_no_folder() {
    let (machine, new) = (backed_up(), Machine::new());
    let backup = backup_of(&machine);
    let db = new.path("data/deep/cts.db");
    let words = format!("restore {}", backup.display());
    let done = new.cts(&format!("{words} --dry-run")).db(&db).success();
    done.says(&["There now: nothing at"]);
    assert!(!new.path("data").exists());
    new.cts(&words).db(&db).success();
    assert_eq!(users(&db), ["saved"]);
    assert_eq!((mode(&db), mode(db.parent().unwrap())), (0o600, 0o700));
    new.cts("--check --deep").db(&db).success();
}

#[test]
fn a_file_that_is_empty_is_replaced_and_one_that_is_no_database_is_kept() {
    for (content, is_kept) in [(&b""[..], false), (b"not a database", true)] {
        let machine = backed_up();
        fs::write(machine.db(), content).unwrap();
        machine.cts("restore latest").success();
        assert_eq!(kept(&machine).len(), usize::from(is_kept));
        assert_eq!(users(&machine.db()), ["saved"]);
        assert_tidy(&machine);
    }
}

#[test]
fn a_wal_without_its_database_is_kept() {
    let machine = backed_up();
    fs::remove_file(machine.db()).unwrap();
    fs::write(side_file(&machine.db(), "-wal"), "what is left of it").unwrap();
    machine.cts("restore latest").success();
    let wals = files(machine.db().parent().unwrap(), |name| name.ends_with("-wal"));
    assert_eq!(wals.len(), 1);
    assert_eq!(fs::read(&wals[0]).unwrap(), b"what is left of it");
    assert_eq!(users(&machine.db()), ["saved"]);
    assert_tidy(&machine);
}

#[test]
fn a_link_stays_and_the_database_that_it_leads_to_is_replaced() {
    let machine = backed_up();
    let link = machine.path("link.db");
    symlink(machine.db(), &link).unwrap();
    let words = format!("restore {}", backup_of(&machine).display());
    machine.cts(&words).db(&link).success();
    assert_eq!(fs::read_link(&link).unwrap(), machine.db());
    assert_eq!(users(&machine.db()), ["saved"]);
    assert_eq!(kept(&machine).len(), 1);
    assert_tidy(&machine);
}

#[test]
fn the_database_of_another_program_is_not_replaced() {
    let machine = backed_up();
    let other = machine.path("other.db");
    rusqlite::Connection::open(&other).unwrap().execute_batch("CREATE TABLE notes (x)").unwrap();
    let before = machine.files();
    let words = format!("restore {}", backup_of(&machine).display());
    machine.cts(&words).db(&other).status(65).says(&["another program's database"]);
    machine.cts(&words).db(&machine.path("backups")).status(78).says(&["is a directory"]);
    assert_eq!(machine.files(), before);
}

#[test]
fn another_path_takes_a_copy_while_the_service_runs() {
    let machine = backed_up();
    let service = machine.serve().start();
    service.until_ready();
    let to = machine.path("elsewhere/copy.db");
    let words = format!("restore latest --to {}", to.display());
    machine.cts(&words).success().says(&["cts --db", "the database in use is as it was"]);
    assert_eq!(users(&to), ["saved"]);
    machine.cts(&words).status(73).says(&["there is a file of this name already"]);
    let own = format!("restore latest --to {}", machine.db().display());
    machine.cts(&own).status(73).says(&["there is a file of this name already"]);
    service.stop();
    assert_eq!(users(&machine.db()), ["saved", "later"]);
    assert_tidy(&machine);
}

#[test]
fn root_gives_the_restored_database_to_the_user_of_the_one_before() {
    if !is_root() {
        crate::support::not_tried("only root can give a file to another user");
        return;
    }
    for folder_owner in [65534, 0] {
        let machine = backed_up();
        chown(machine.db(), Some(65534), Some(65534)).unwrap();
        chown(machine.db().parent().unwrap(), Some(folder_owner), None).unwrap();
        machine.cts("restore latest").success();
        assert_eq!(fs::metadata(machine.db()).unwrap().uid(), 65534);
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_refused() {
    let machine = backed_up();
    let folder = machine.db().parent().unwrap().to_path_buf();
    let backup = backup_of(&machine);
    let open = fs::Permissions::from_mode(0o755);
    let closed = fs::Permissions::from_mode(0o555);
    fs::set_permissions(machine.path("backups"), open.clone()).unwrap();
    for file in files(&machine.path("backups"), |_| true) {
        fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    }
    let mut run = machine.cts_as_nobody(&format!("restore {}", backup.display()));
    fs::set_permissions(&folder, closed).unwrap();
    let before = machine.files();
    let done = run.command.output().unwrap();
    fs::set_permissions(&folder, open).unwrap();
    let log = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(77), "{log}");
    assert!(log.contains("cannot be written"), "{log}");
    assert_eq!(machine.files(), before);
}

#[test]
fn a_full_disk_is_refused_with_the_figures_or_leaves_the_database_as_it_was() {
    if !is_root() {
        crate::support::not_tried("only root can mount a small disk");
        return;
    }
    let machine = backed_up();
    let disk = machine.path("disk");
    fs::create_dir(&disk).unwrap();
    let mount = ["-t", "tmpfs", "-o", "size=32m", "tmpfs"];
    assert!(Command::new("mount").args(mount).arg(&disk).status().unwrap().success());
    let db = disk.join("cts.db");
    let words = format!("restore {}", backup_of(&machine).display());
    let mut seen = BTreeMap::<_, u32>::new();
    for level in (0..40).map(|n: u64| n * 512 * 1024 + n * 613) {
        for file in files(&disk, |_| true) {
            fs::remove_file(file).unwrap();
        }
        fs::copy(machine.db(), &db).unwrap();
        leave_free(&disk, level);
        let done = machine.cts(&words).db(&db).run();
        let code = done.0.status.code();
        match code {
            Some(0) => assert_eq!(users(&db), ["saved"]),
            Some(74) => {
                assert_eq!(users(&db), ["saved", "later"]);
                assert_eq!(files(&disk, |name| name.starts_with("cts.db.")).len(), 0);
                done.says(&["KiB", "free"]);
            }
            other => panic!("{level}: {other:?}: {}", done.err()),
        }
        *seen.entry(code).or_default() += 1;
    }
    let _ = Command::new("umount").arg(&disk).status();
    eprintln!("{seen:?}");
    assert!(seen[&Some(0)] > 2 && seen[&Some(74)] > 10, "{seen:?}");
    await_that("the disk is gone", || !db.exists());
}

#[test]
fn a_limit_on_the_size_of_files_leaves_the_database_as_it_was() {
    let machine = backed_up();
    let words = format!("restore {}", backup_of(&machine).display());
    let size = fs::metadata(machine.db()).unwrap().len();
    let before = machine.files();
    for limit in (0..12).map(|n| n * size / 12) {
        let mut command = Command::new("prlimit");
        command.env_clear().env("SQLITE_DB_PATH", machine.db()).arg(format!("--fsize={limit}"));
        command.arg(env!("CARGO_BIN_EXE_cts")).args(words.split(' '));
        let done = crate::support::harness::Run { command }.run();
        assert_eq!(done.0.status.code(), Some(74), "{limit}: {}", done.err());
        assert_eq!(machine.files(), before, "{limit}");
    }
    refused(&machine, "restore nothing", 65, &["there is no such file"]);
}
