//! What a run and the service need of the file system is proved beforehand, and the remedy follows from what
//! was found.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use crate::support::harness::{Machine, is_root};

/// The user that [`Machine::cts_as_nobody`] runs as where the tests run as root.
const NOBODY: u32 = 65534;

fn give(path: &Path, uid: u32) {
    chown(path, Some(uid), Some(uid)).unwrap();
}

/// A folder of root with this name.
fn folder_of_root(machine: &Machine, name: &str) -> std::path::PathBuf {
    let folder = machine.path(name);
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

#[test]
fn the_owner_of_a_file_in_the_folder_of_root_is_told_to_take_the_folder() {
    if !is_root() {
        crate::support::not_tried("only root can run cts as another user");
        return;
    }
    let machine = Machine::new();
    let folder = folder_of_root(&machine, "box");
    let db = folder.join("cts.db");
    machine.cts("migrate").db(&db).success();
    give(&db, NOBODY);
    let remedy = format!("sudo chown nobody {}", folder.display());
    for (words, code) in [
        ("migrate", 77),
        ("serve --port 0", 77),
        ("migrate --dry-run", 77),
        ("repair", 77),
        ("--check", 2),
        ("doctor --port 0", 2),
    ] {
        let done = machine.cts_as_nobody(words).db(&db).status(code);
        let all = done.out() + &done.err();
        assert!(all.contains(&remedy) && !all.contains("run as the owner"), "{words}: {all}");
    }
    give(&folder, NOBODY);
    for words in ["migrate --dry-run", "migrate", "--check"] {
        machine.cts_as_nobody(words).db(&db).success();
    }
}

#[test]
fn who_may_not_create_a_database_learns_whose_the_folder_is() {
    if !is_root() {
        crate::support::not_tried("only root can run cts as another user");
        return;
    }
    let machine = Machine::new();
    let folder = folder_of_root(&machine, "box");
    let says = |remedy: &str| {
        let done = machine.cts_as_nobody("migrate").db(&folder.join("cts.db")).status(77);
        assert!(done.err().contains(remedy), "{}", done.err());
    };
    let shown = folder.display();
    says(&format!("{shown} belongs to root and is to belong to nobody: sudo chown nobody {shown}"));
    give(&folder, 12345);
    says(&format!(
        "{shown} belongs to #12345, and this is nobody: run as its owner (`sudo -u '#12345'"
    ));
    // Nothing is said of a folder further up, which is not for the database.
    let done = machine.cts_as_nobody("migrate").db(&folder.join("new/cts.db")).status(77);
    assert!(!done.err().contains("chown"), "{}", done.err());
}

#[test]
fn each_file_that_keeps_the_owner_from_writing_is_named_with_its_remedy() {
    if !is_root() {
        crate::support::not_tried("only root can run cts as another user");
        return;
    }
    let machine = Machine::new();
    let folder = folder_of_root(&machine, "box");
    let db = folder.join("cts.db");
    give(&folder, NOBODY);
    machine.cts_as_nobody("migrate").db(&db).success();
    let set_mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let refused = |remedy: String| {
        for words in ["migrate", "migrate --dry-run"] {
            let done = machine.cts_as_nobody(words).db(&db).status(77);
            assert!(done.err().contains(&remedy), "{words}: {remedy}: {}", done.err());
        }
    };
    set_mode(&db, 0o400);
    refused(format!("Try: chmod u+rw {}", db.display()));
    set_mode(&db, 0o600);
    set_mode(&folder, 0o555);
    refused(format!("Try: chmod u+rwx {}", folder.display()));
    set_mode(&folder, 0o755);
    give(&db, 0);
    set_mode(&db, 0o644);
    refused("run as the owner of the file and its folder, root".into());
    give(&db, NOBODY);
    set_mode(&db, 0o600);
    machine.cts_as_nobody("migrate --dry-run").db(&db).success();
}

#[test]
fn a_dry_run_ends_as_the_run_would_where_nothing_can_be_created() {
    let machine = Machine::new();
    if is_root() {
        let folder = folder_of_root(&machine, "box");
        for db in [folder.join("cts.db"), folder.join("new/deep/cts.db")] {
            let planned = machine.cts_as_nobody("migrate --dry-run").db(&db).status(77);
            let run = machine.cts_as_nobody("migrate").db(&db).status(77);
            assert_eq!(planned.err().lines().last(), run.err().lines().last());
            assert!(fs::read_dir(&folder).unwrap().next().is_none());
        }
    }
    fs::write(machine.path("file"), "").unwrap();
    let below_a_file = machine.path("file/new/cts.db");
    for words in ["migrate --dry-run", "migrate"] {
        machine.cts(words).db(&below_a_file).status(78);
    }
    let db = machine.path("may/be/made/cts.db");
    machine.cts("migrate --dry-run").db(&db).success().says(&["would be created"]);
    assert!(!machine.path("may").exists());
}
