//! What `--check`, status and doctor say of the backups of a server, which are expected only where they are configured.

use serde_json::{Value, json};

use super::backup::cts;
use crate::support::cluster::Cluster;
use crate::support::harness::Machine;

#[test]
fn backups_of_a_server_are_expected_only_where_they_are_configured() {
    let (database, machine) = (Cluster::shared().one_schema(), Machine::new());
    database.cts("migrate").success();
    let line = database.cts("--check").success().out();
    assert!(!line.contains("backup_age"), "{line}");
    let json = database.cts("--check --json").success().json();
    assert_eq!(
        (&json["backups"]["automatic"], &json["backups"]["count"]),
        (&json!(false), &Value::Null)
    );
    // An old database without a backup.
    database.sql("UPDATE migrations SET executed_at = now() - interval '3 days'");
    database.cts("--check").success();
    let every = |words: &str| cts(&database, &machine, words).env("CTS_BACKUP_EVERY", "24h");
    every("--check").status(1).says(&["there is no good backup", "backup_age=U"]);
    cts(&database, &machine, "backup").success();
    let line = every("--check").success().out();
    assert!(line.trim().ends_with("s;172800;;0"), "{line}");
    every("status").success().says(&["Backups:    1 good, one every 1day", ".dump, "]);
}

#[test]
fn an_interval_without_a_folder_is_said() {
    let database = Cluster::shared().one_schema();
    database.cts("migrate").success();
    let says = "CTS_BACKUP_EVERY is set, and CTS_BACKUP_DIR is not";
    let run = |words| database.cts(words).env("CTS_BACKUP_EVERY", "24h");
    run("--check").status(1).says(&[says]);
    run("doctor --port 0").run().says(&[says, "set CTS_BACKUP_DIR to a folder"]);
}
