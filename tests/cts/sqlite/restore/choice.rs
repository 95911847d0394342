//! Which backup is taken: the file that is named, or the newest good one of the database.

use std::fs;

use super::{assert_tidy, backed_up, backup_of, files, refused, users};
use crate::support::harness::Machine;
use crate::support::manifest;

#[test]
fn latest_is_refused_where_there_is_no_backup() {
    let machine = Machine::migrated();
    refused(&machine, "restore latest", 65, &["there is no backup", "backups", "restore FILE"]);
}

#[test]
fn a_backup_is_found_by_its_name_in_the_folder_of_backups() {
    let machine = backed_up();
    let name = backup_of(&machine).file_name().unwrap().to_string_lossy().into_owned();
    machine.cts(&format!("restore {name}")).success();
    assert_eq!(users(&machine.db()), ["saved"]);
    let says = ["there is no such file, nor", "backups/cts-x.db", "`cts backups`"];
    refused(&machine, "restore cts-x.db", 65, &says);
}

#[test]
fn a_backup_whose_drill_has_failed_is_passed_over_and_named() {
    let machine = backed_up();
    let read = |path: &std::path::PathBuf| -> serde_json::Value {
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    };
    // The second one of a day takes the place of the first, unless a person keeps that.
    let first = crate::support::scenario::side_file(&backup_of(&machine), ".json");
    manifest::edit(&first, |manifest| manifest["keptBy"] = "hand".into());
    machine.cts("backup").success();
    let manifests = files(&machine.path("backups"), |name| name.ends_with(".json"));
    let manifest = manifests.iter().find(|path| read(path)["serial"] == 2).unwrap();
    let failed = serde_json::json!({
        "at": "2026-11-28T00:00:00.000Z", "restoreSeconds": null, "failure": "a page was damaged"
    });
    manifest::edit(manifest, |manifest| manifest["drill"] = failed);
    let json = read(manifest);
    let name = json["file"].as_str().unwrap();
    machine
        .cts("restore latest")
        .success()
        .says(&[&format!("{name} is passed over: a page was damaged")]);
    assert_eq!(users(&machine.db()), ["saved"]);
}

#[test]
fn of_several_databases_in_one_folder_each_has_its_own_latest() {
    let machine = Machine::new();
    let (one, two) = (machine.db(), machine.path("two.db"));
    let run = |words: &str, db| machine.cts(words).db(db).env("CTS_BACKUP_DIR", machine.path("b"));
    for (db, user) in [(&one, "one"), (&two, "two")] {
        run("migrate", db).success();
        rusqlite::Connection::open(db)
            .unwrap()
            .execute("INSERT INTO users (username, password_hash) VALUES (?1, 'x')", [user])
            .unwrap();
        run("backup", db).success();
    }
    run("restore latest", &one).success();
    assert_eq!(users(&one), ["one"]);
    // Where the database is gone, the backups of the one that was in its place are meant; where none was, it does not show.
    for file in files(one.parent().unwrap(), |name| name.starts_with("cts.db")) {
        fs::remove_file(file).unwrap();
    }
    let three = machine.path("three.db");
    let done = run("restore latest", &three).status(65);
    done.says(&["several databases", one.to_str().unwrap(), two.to_str().unwrap(), "restore FILE"]);
    assert!(!three.exists());
    run("restore latest", &one).success();
    assert_eq!(users(&one), ["one"]);
    for file in files(one.parent().unwrap(), |name| name.starts_with("cts.db")) {
        fs::remove_file(file).unwrap();
    }
    // Nor is the backup of another database taken for one that was created anew.
    fs::remove_dir_all(machine.path("b")).unwrap();
    run("backup", &two).success();
    run("migrate", &one).success();
    run("restore latest", &one).status(65).says(&["those of another database"]);
}

#[test]
fn a_new_database_in_the_place_of_a_lost_one_gives_way_to_the_backups_of_that() {
    let machine = backed_up();
    fs::remove_file(machine.db()).unwrap();
    let name = backup_of(&machine).file_name().unwrap().to_string_lossy().into_owned();
    let says = ["backups of the one that was there before", &format!("`cts restore {name}`")];
    machine.cts("migrate").success().says(&says);
    let latest = machine.cts("restore latest --dry-run").success();
    latest.says(&["was created after its backups were made"]);
    // A backup of the new one does not hide those of the lost one.
    machine.cts("backup").success();
    let says = ["was created anew", &name, "can be named instead"];
    machine.cts("restore latest --dry-run").success().says(&says);
    machine.cts(&format!("restore {name}")).success();
    assert_eq!(users(&machine.db()), ["saved"]);
    assert_tidy(&machine);
}
