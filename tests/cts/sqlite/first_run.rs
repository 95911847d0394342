//! The first run on an empty path, and the second run that changes nothing.

use std::fs;
use std::process::{Command, Stdio};

use crate::support::harness::{Machine, mode};

#[test]
fn first_run_makes_a_private_migrated_wal_database() {
    let machine = Machine::new();
    let db = machine.path("made/by/cts/cts.db");
    let done = machine.cts("migrate").db(&db).success();
    // It is created with this mode, not changed to it afterwards.
    assert!(!done.err().contains("changed to"), "{}", done.err());
    done.says(&[
        "[v0] Database Type: SQLITE\n",
        "[v0] ✓ Unified setup complete: 92 applied, 0 skipped\n",
        "[v0] ✓ All 22 critical tables verified\n",
    ]);
    assert_eq!(mode(&db), 0o600);
    for folder in ["made", "made/by", "made/by/cts"] {
        assert_eq!(mode(&machine.path(folder)), 0o700, "{folder}");
    }
    let conn = rusqlite::Connection::open(&db).unwrap();
    let ask = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(ask("PRAGMA journal_mode"), "wal");
    assert_eq!(ask("SELECT count(*) || '' FROM sqlite_schema WHERE type = 'table'"), "24");
    let id: u32 = conn.query_row("PRAGMA application_id", [], |row| row.get(0)).unwrap();
    assert_eq!(id, 0x4354_5333);
}

#[test]
fn a_database_made_in_a_draft_equals_one_made_in_place() {
    let (drafted, in_place) = (Machine::migrated(), Machine::new());
    fs::write(in_place.db(), "").unwrap();
    in_place.cts("migrate").success();
    for sql in [
        "SELECT type || name || tbl_name || coalesce(sql, '') FROM sqlite_schema ORDER BY name",
        "SELECT key || value || category || value_type FROM system_settings ORDER BY id",
        "SELECT name || checksum || version FROM migrations ORDER BY id",
        "SELECT * FROM pragma_integrity_check",
        "SELECT * FROM pragma_journal_mode",
        "SELECT application_id || '' FROM pragma_application_id",
        "SELECT page_size || encoding FROM pragma_page_size, pragma_encoding",
    ] {
        assert_eq!(drafted.texts(sql), in_place.texts(sql), "{sql}");
    }
}

/// The number of calls that sync to disk, counted by `strace`.
fn syncs(machine: &Machine, words: &str) -> usize {
    let trace = machine.path("trace");
    let status = Command::new("strace")
        .args(["-f", "-e", "trace=fsync,fdatasync,sync_file_range,sync", "-o"])
        .arg(&trace)
        .arg(env!("CARGO_BIN_EXE_cts"))
        .args(words.split_whitespace())
        .env("SQLITE_DB_PATH", machine.db())
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .expect("strace (Debian package strace)");
    assert!(status.success());
    fs::read_to_string(trace).unwrap().matches("sync(").count()
}

#[test]
fn a_first_run_syncs_a_few_times_and_a_no_op_never() {
    let machine = Machine::new();
    let first = syncs(&machine, "migrate");
    assert!((1..=3).contains(&first), "{first} syncs");
    let in_place = Machine::new();
    fs::write(in_place.db(), "").unwrap();
    let first = syncs(&in_place, "migrate");
    assert!((1..=10).contains(&first), "{first} syncs in place");
    for words in ["migrate", "--check", "--check --deep", "status", "verify", "migrate --dry-run"] {
        assert_eq!(syncs(&machine, words), 0, "{words}");
    }
}

#[test]
fn side_files_are_as_private_as_the_database() {
    let machine = Machine::migrated();
    let service = machine.serve().start();
    service.until_ready();
    for suffix in ["", "-wal", "-shm"] {
        let file = machine.path(&format!("cts.db{suffix}"));
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[test]
fn a_mode_that_admits_others_is_tightened_and_reported() {
    use std::os::unix::fs::PermissionsExt;
    let machine = Machine::migrated();
    fs::set_permissions(machine.db(), fs::Permissions::from_mode(0o644)).unwrap();
    machine.cts("migrate").success().says(&["mode 0644 changed to 0600"]);
    assert_eq!(mode(&machine.db()), 0o600);
}

#[test]
fn group_access_opens_the_file_and_its_folder_to_the_group() {
    let machine = Machine::new();
    let db = machine.path("shared/cts.db");
    machine.cts("migrate").db(&db).env("CTS_GROUP_ACCESS", "1").success();
    assert_eq!((mode(&db), mode(&machine.path("shared"))), (0o660, 0o2770));
    machine.cts("migrate").db(&db).success().says(&["mode 0660 changed to 0600"]);
}

#[test]
fn unusual_file_names_are_used_literally() {
    let machine = Machine::new();
    for name in ["with space.db", "what?.db", "100%25.db", "a#b.db", "ünï.db", "file:x?mode=memory"]
    {
        let db = machine.path(name);
        machine.cts("migrate").db(&db).success();
        assert_eq!(mode(&db), 0o600, "{name}");
        machine.cts("--check").db(&db).success();
    }
    let mut relative = machine.cts("migrate --db data/cts.db");
    relative.command.current_dir(machine.path("."));
    relative.success();
    assert!(machine.path("data/cts.db").is_file());
}

#[test]
fn a_link_to_the_database_is_followed() {
    let machine = Machine::migrated();
    let link = machine.path("link.db");
    std::os::unix::fs::symlink(machine.db(), &link).unwrap();
    machine.cts("migrate").db(&link).success().says(&["0 applied, 92 skipped"]);
    machine.cts("--check").db(&link).success();
}

#[test]
fn quiet_prints_nothing_and_verbose_prints_more() {
    let machine = Machine::new();
    assert_eq!(machine.cts("migrate --quiet").success().err(), "");
    let normal = machine.cts("migrate").success().err().lines().count();
    assert!(machine.cts("migrate --verbose").success().err().lines().count() > normal);
}

#[test]
fn under_journald_each_line_has_its_priority() {
    let machine = Machine::new();
    let log = machine.cts("migrate").env("JOURNAL_STREAM", "8:1").success().err();
    assert!(log.lines().all(|line| line.starts_with("<6>[v0] ")), "{log}");
    fs::write(machine.db(), "garbage").unwrap();
    let log = machine.cts("migrate").env("JOURNAL_STREAM", "8:1").status(65).err();
    assert!(log.lines().last().unwrap().starts_with("<3>[v0] ✗ "), "{log}");
}
