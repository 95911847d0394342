//! Where a backup is put: names that it cannot have, folders, modes and owners, and what is beside it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use super::{backups, expect_complete, logged, names, parts};
use crate::support::harness::{Machine, is_root, mode};

#[test]
fn a_backup_is_complete_private_and_leaves_nothing_else() {
    let machine = Machine::migrated();
    let before = names(&machine.path(""));
    let done =
        machine.cts("backup").success().says(&["✓ Backup ", " 24 tables with ", "proved in "]);
    let backup = backups(&machine).remove(0);
    assert!(done.err().contains(backup.to_str().unwrap()), "{}", done.err());
    expect_complete(&backup, logged(&machine));
    let name = backup.file_name().unwrap().to_str().unwrap().to_string();
    let expected = [name.clone(), format!("{name}.json"), format!("{name}.sha256")];
    assert_eq!(parts(&machine.path("backups")), expected);
    for part in &expected {
        assert_eq!(mode(&machine.path("backups").join(part)), 0o600);
    }
    assert_eq!(mode(&machine.path("backups")), 0o700);
    let mut after = names(&machine.path(""));
    after.retain(|name| name != "backups");
    assert_eq!(after, before, "no side file is left beside a database at rest");
}

#[test]
fn a_backup_is_private_whatever_the_umask_and_the_access_of_the_group() {
    let machine = Machine::migrated();
    let cts = env!("CARGO_BIN_EXE_cts");
    let done = Command::new("sh")
        .args(["-c", &format!("umask 0; exec {cts} backup")])
        .env_clear()
        .env("SQLITE_DB_PATH", machine.db())
        .env("CTS_GROUP_ACCESS", "1")
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(mode(&machine.path("backups")), 0o700);
    for name in names(&machine.path("backups")) {
        assert_eq!(mode(&machine.path("backups").join(name)), 0o600);
    }
}

#[test]
fn a_file_is_named_from_the_current_folder_too() {
    let machine = Machine::migrated();
    let mut run = machine.cts("backup copy.db");
    run.command.current_dir(machine.path(""));
    run.success();
    expect_complete(&machine.path("copy.db"), logged(&machine));
}

#[test]
fn names_that_a_backup_cannot_have_are_refused_and_nothing_is_touched() {
    let machine = Machine::migrated();
    fs::create_dir(machine.path("folder")).unwrap();
    fs::write(machine.path("taken.db"), "mine").unwrap();
    fs::write(machine.path("described.db.json"), "mine").unwrap();
    fs::write(machine.path("stale.db-wal"), "mine").unwrap();
    fs::write(machine.path("loaded.db.partial"), "mine").unwrap();
    symlink("nowhere", machine.path("link.db")).unwrap();
    let before = machine.files();
    let long = "x".repeat(250);
    for (name, code, parts) in [
        ("folder", 73, ["is a folder", "name a file in it"]),
        ("folder/", 73, ["is a folder", "name a file in it"]),
        ("new/", 73, ["is a folder", "name a file in it"]),
        ("missing/copy.db", 73, ["the folder cannot be used", "create the folder"]),
        ("taken.db/copy.db", 73, ["is not a folder", "name a file in a folder"]),
        ("taken.db", 73, ["there is a file of this name already", "another name"]),
        ("described.db", 73, ["described.db.json: there is a file", "another name"]),
        ("link.db", 73, ["there is a file of this name already", "another name"]),
        ("cts.db", 73, ["there is a file of this name already", "another name"]),
        ("cts.db-wal", 73, ["SQLite takes a file whose name ends with -wal", ".db"]),
        ("stale.db", 73, ["SQLite would take ", "stale.db-wal for a part of the backup"]),
        ("loaded.db", 73, ["was not made here has its name with .partial", "move that file"]),
        (&long, 73, ["File name too long", "a shorter name"]),
    ] {
        let path = machine.path("").join(name);
        let mut run = machine.cts("backup");
        run.command.arg(format!("{}", path.display()));
        run.status(code).says(&parts);
        assert_eq!(machine.files(), before, "{name}");
    }
}

#[test]
fn a_name_that_is_no_text_is_refused_and_one_with_control_characters_is_not() {
    use std::os::unix::ffi::OsStrExt;
    let machine = Machine::migrated();
    let mut run = machine.cts("backup");
    run.command.arg(machine.path("").join(std::ffi::OsStr::from_bytes(b"no\xff.db")));
    run.status(73).says(&["is not UTF-8", "a name in UTF-8"]);
    let path = machine.path("").join("two\nlines\\and \x1b[31mred.db");
    let mut run = machine.cts("backup");
    run.command.arg(&path);
    let done = run.success();
    assert!(!done.err().contains('\x1b') && done.err().contains("two\\nlines"), "{}", done.err());
    expect_complete(&path, logged(&machine));
}

#[test]
fn a_folder_may_be_a_link_and_one_that_leads_nowhere_is_said() {
    let machine = Machine::migrated();
    fs::create_dir(machine.path("disk")).unwrap();
    symlink(machine.path("disk"), machine.path("link")).unwrap();
    symlink(machine.path("unmounted"), machine.path("away")).unwrap();
    machine.cts("backup").env("CTS_BACKUP_DIR", machine.path("link/new")).success();
    assert_eq!(parts(&machine.path("disk/new")).len(), 3);
    let before = machine.files();
    for away in ["away", "away/new"] {
        machine
            .cts("backup")
            .env("CTS_BACKUP_DIR", machine.path(away))
            .status(73)
            .says(&["away: is a symbolic link to what does not exist", "mount the file system"]);
    }
    machine
        .cts("backup")
        .env("CTS_BACKUP_DIR", machine.path("cts.db/new"))
        .status(73)
        .says(&["a folder"]);
    assert_eq!(machine.files(), before);
}

#[test]
fn a_folder_that_cannot_be_written_is_said_and_the_backups_in_it_stay() {
    if !is_root() {
        crate::support::not_tried("only root can run cts as another user, and mount");
        return;
    }
    let machine = Machine::migrated();
    machine.cts("backup").success();
    let before = names(&machine.path("backups"));
    let folder = machine.path("backups");
    let mount = |words: &[&str]| {
        assert!(Command::new("mount").args(words).arg(&folder).status().unwrap().success());
    };
    mount(&["--bind", folder.to_str().unwrap()]);
    mount(&["-o", "remount,bind,ro"]);
    let done = machine.cts("backup").run();
    let unmounted = Command::new("umount").arg(&folder).status();
    assert!(unmounted.unwrap().success());
    assert_eq!(done.0.status.code(), Some(77), "{}", done.err());
    done.says(&["Read-only file system", "mount the disk so that it can be written"]);
    assert_eq!(names(&folder), before);

    fs::set_permissions(machine.db(), fs::Permissions::from_mode(0o644)).unwrap();
    machine.cts_as_nobody("backup").status(77).says(&["Permission denied", "namei -l"]);
    assert_eq!(names(&folder), before);
}

#[test]
fn what_root_makes_in_the_folder_of_another_user_is_given_to_that_user() {
    if !is_root() {
        crate::support::not_tried("only root gives files to another user");
        return;
    }
    let machine = Machine::migrated();
    let folder = machine.path("");
    std::os::unix::fs::chown(&folder, Some(65534), Some(65534)).unwrap();
    machine.cts("backup").success().says(&["created by root, and given to "]);
    let owner = |path: &Path| fs::metadata(path).unwrap().uid();
    assert_eq!(owner(&machine.path("backups")), 65534);
    for name in names(&machine.path("backups")) {
        assert_eq!(owner(&machine.path("backups").join(name)), 65534);
    }
}
