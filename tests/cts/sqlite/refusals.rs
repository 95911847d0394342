//! What cts refuses: it reports the reason in one sentence, ends with the right exit code, and
//! changes no byte.

use std::fs;
use std::process::Command;

use crate::support::disk::unmount;
use crate::support::harness::{Machine, Run, is_root};

/// Expects every writing command to be refused with this exit code and these texts, and no file
/// changed.
fn refused(machine: &Machine, code: i32, says: &[&str]) {
    for words in ["migrate", "serve --port 0", "repair"] {
        let before = machine.files();
        let done = machine.cts(words).status(code);
        assert_eq!(machine.files(), before, "{words}");
        done.says(says);
    }
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let machine = Machine::new();
    for garbage in [
        "x",
        "not a database, but long enough to hold a header of one hundred bytes, which this line is for",
    ] {
        fs::write(machine.db(), garbage).unwrap();
        refused(&machine, 65, &["cts.db: is not a SQLite database", "left as it is"]);
        machine.cts("--check").status(2).says(&["CTS CRITICAL", "is not a SQLite database"]);
    }
}

#[test]
fn another_programs_database_is_refused() {
    let machine = Machine::new();
    machine.sql("PRAGMA application_id = 252006673; CREATE TABLE users (id, name)");
    refused(&machine, 65, &["another program's database", "0x0f055111", "left as it is"]);
    machine.cts("--check").status(2).says(&["another program's database"]);
}

#[test]
fn the_wal_of_another_programs_database_is_left_as_it_is() {
    let source = Machine::new();
    source.sql("PRAGMA application_id = 252006673; PRAGMA journal_mode = WAL; CREATE TABLE t (x)");
    let open = source.open();
    open.execute_batch("INSERT INTO t VALUES (1)").unwrap();
    let machine = Machine::new();
    for name in ["cts.db", "cts.db-wal"] {
        fs::copy(source.path(name), machine.path(name)).unwrap();
    }
    assert!(fs::metadata(machine.path("cts.db-wal")).unwrap().len() > 0);
    refused(&machine, 65, &["another program's database"]);
}

#[test]
fn another_programs_database_without_an_id_is_known_by_its_tables() {
    let machine = Machine::new();
    machine.sql(
        "PRAGMA journal_mode = WAL; CREATE TABLE users (id, name); \
         CREATE TABLE migrations (id INTEGER PRIMARY KEY, migration TEXT, batch INTEGER); \
         INSERT INTO migrations VALUES (1, 'create_users', 1)",
    );
    refused(&machine, 65, &["another program's database", "no table of CTS"]);
}

#[test]
fn an_empty_file_beside_a_wal_is_not_initialised() {
    let machine = Machine::new();
    fs::write(machine.db(), "").unwrap();
    fs::write(machine.path("cts.db-wal"), "the last open positions").unwrap();
    refused(&machine, 65, &["the file is empty", "cts.db-wal shows that there was a database"]);
    machine.cts("--check").status(2).says(&["cts.db-wal"]);
    fs::remove_file(machine.db()).unwrap();
    refused(&machine, 65, &["there is no such file", "cts.db-wal"]);
}

#[test]
fn an_empty_or_missing_file_beside_a_backup_is_not_initialised() {
    let machine = Machine::new();
    fs::write(machine.path("cts.db.before-3.1.0-20261123T120000Z"), "a backup").unwrap();
    refused(&machine, 65, &["there is no such file", "cts.db.before-3.1.0", "restore"]);
    fs::write(machine.db(), "").unwrap();
    refused(&machine, 65, &["the file is empty", "cts.db.before-3.1.0"]);
}

#[test]
fn an_empty_file_alone_is_initialised() {
    let machine = Machine::new();
    fs::write(machine.db(), "").unwrap();
    machine.cts("--check").status(2).says(&["there is no database"]);
    machine.cts("migrate").success().says(&["92 applied, 0 skipped"]);
}

#[test]
fn a_path_that_is_not_a_file_is_refused() {
    let machine = Machine::new();
    fs::create_dir(machine.db()).unwrap();
    refused(&machine, 78, &["cts.db: is a directory, not a file", "SQLITE_DB_PATH"]);
    fs::remove_dir(machine.db()).unwrap();
    assert!(Command::new("mkfifo").arg(machine.db()).status().unwrap().success());
    refused(&machine, 78, &["cts.db: is a pipe, not a file"]);
    fs::remove_file(machine.db()).unwrap();
    std::os::unix::fs::symlink("/nonexistent/cts.db", machine.db()).unwrap();
    refused(&machine, 65, &["cts.db: the symbolic link cannot be followed"]);
    fs::remove_file(machine.db()).unwrap();
    fs::write(machine.path("file"), "").unwrap();
    let below_a_file = machine.path("file/cts.db");
    let says = ["file/cts.db: cannot be read", "a file that is in a folder"];
    machine.cts("migrate").db(&below_a_file).status(78).says(&says);
    machine.cts("doctor").db(&below_a_file).status(2).says(&["✗ folder", "not a folder"]);
}

#[test]
fn a_damaged_database_is_not_migrated() {
    let machine = Machine::migrated();
    machine.sql("DELETE FROM migrations WHERE id = 4; PRAGMA wal_checkpoint(TRUNCATE)");
    // The root page of a table, found by its content; its cell pointers are damaged.
    let root = machine.number("SELECT rootpage FROM sqlite_schema WHERE name = 'system_settings'");
    let mut bytes = fs::read(machine.db()).unwrap();
    let page = usize::try_from(root - 1).unwrap() * 4096;
    bytes[page..page + 64].fill(0xee);
    fs::write(machine.db(), bytes).unwrap();
    refused(
        &machine,
        65,
        &["the database is damaged", "is not migrated", "nothing was changed", "restore"],
    );
    machine.cts("--check --deep").status(2).says(&["CTS CRITICAL", "damaged", "s: damaged: "]);
}

#[test]
fn an_unwritable_folder_is_refused_with_a_remedy() {
    let machine = Machine::new();
    let locked = machine.path("locked");
    fs::create_dir(&locked).unwrap();
    let mut permissions = fs::metadata(&locked).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o555);
    fs::set_permissions(&locked, permissions).unwrap();
    for path in ["locked/cts.db", "locked/data/cts.db"] {
        machine.cts_as_nobody("migrate").db(&machine.path(path)).status(77).says(&[
            path,
            "cannot create",
            "ermission denied",
            "SQLITE_DB_PATH",
        ]);
    }
    assert_eq!(fs::read_dir(&locked).unwrap().count(), 0);
}

#[test]
fn a_file_of_another_user_is_refused_and_cannot_be_checked() {
    let machine = Machine::migrated();
    if !is_root() {
        crate::support::not_tried("only root can run cts as another user");
        return;
    }
    machine.cts_as_nobody("migrate").status(77).says(&["cts.db: cannot be read"]);
    machine.cts_as_nobody("--check").status(3).says(&["CTS UNKNOWN", "--url"]);
}

#[test]
fn a_full_disk_leaves_nothing_and_the_space_needed_is_reported() {
    let machine = Machine::new();
    let program = env!("CARGO_BIN_EXE_cts");
    // The file may grow to 64 KiB; a new database needs several times that.
    let limited = || {
        let mut command = Command::new("bash");
        command
            .args(["-c", "ulimit -f 64; exec \"$0\" migrate", program])
            .env("SQLITE_DB_PATH", machine.db());
        Run { command }
    };
    limited().status(74).says(&["cts.db", "nothing was changed"]);
    assert_eq!(machine.number("SELECT count(*) FROM sqlite_schema"), 0);
    machine.cts("migrate").success();

    if !is_root() {
        crate::support::not_tried("only root can mount a small disk");
        return;
    }
    let disk = machine.path("disk");
    fs::create_dir(&disk).unwrap();
    let mount =
        |arguments: &[&str]| Command::new("mount").args(arguments).status().unwrap().success();
    assert!(mount(&["-t", "tmpfs", "-o", "size=200k", "tmpfs", disk.to_str().unwrap()]));
    let full = machine.cts("migrate").db(&disk.join("cts.db")).run();
    assert!(mount(&["-o", "remount,size=64m", disk.to_str().unwrap()]));
    let again = machine.cts("migrate").db(&disk.join("cts.db")).run();
    unmount(&disk);
    assert_eq!(
        (full.0.status.code(), again.0.status.code()),
        (Some(74), Some(0)),
        "{}",
        full.err()
    );
    full.says(&["the disk is full", "KiB are free", "KiB are needed", "nothing was changed"]);
}

#[test]
fn a_read_only_disk_is_reported() {
    if !is_root() {
        crate::support::not_tried("only root can mount a read-only disk");
        return;
    }
    let machine = Machine::new();
    let disk = machine.path("disk");
    fs::create_dir(&disk).unwrap();
    let mount =
        |arguments: &[&str]| Command::new("mount").args(arguments).status().unwrap().success();
    assert!(mount(&["-t", "tmpfs", "tmpfs", disk.to_str().unwrap()]));
    let db = disk.join("cts.db");
    machine.cts("migrate").db(&db).success();
    assert!(mount(&["-o", "remount,ro", disk.to_str().unwrap()]));
    let (check, migrate) =
        (machine.cts("--check").db(&db).run(), machine.cts("serve --port 0").db(&db).run());
    let new = machine.cts("migrate").db(&disk.join("new.db")).run();
    unmount(&disk);
    assert_eq!(check.0.status.code(), Some(2), "{}", check.out());
    check.says(&["CTS CRITICAL", "mounted read-only", "22/22 core tables"]);
    assert_eq!(migrate.0.status.code(), Some(77), "{}", migrate.err());
    migrate.says(&["is mounted read-only", "findmnt"]);
    assert_eq!(new.0.status.code(), Some(73), "{}", new.err());
}

#[test]
fn invalid_arguments_and_settings_have_their_exit_codes() {
    let machine = Machine::new();
    machine.cts("migrate --dry-runn").status(64).says(&["--dry-run"]);
    machine.cts("export").status(64).says(&["export"]);
    machine.cts("--check --jsn").status(3).says(&["CTS UNKNOWN", "--jsn"]);
    machine.cts("migrate").env("PORT", "x").status(78).says(&["PORT"]);
    machine
        .cts("--check")
        .env("DATABASE_TYPE", "mysql")
        .status(3)
        .says(&["DATABASE_TYPE", "mysql"]);
    machine.cts("--check --url ftp://x").status(3).says(&["--url"]);
    machine
        .cts("serve --port 0 --host nowhere.invalid")
        .status(78)
        .says(&["HOST", "nowhere.invalid"]);
    assert!(machine.files().is_empty());
}

#[test]
fn a_build_without_postgresql_refuses_it_and_reveals_no_secret() {
    let machine = Machine::new();
    let url = "postgresql://trader:s3cr3t@db.invalid/cts";
    // The build with PostgreSQL tries to connect.
    let (code, says): (i32, &[&str]) = match cfg!(feature = "postgres") {
        true => (69, &["postgresql://trader:***@db.invalid:5432/cts", "waited 0s (CTS_WAIT)"]),
        false => (78, &["DATABASE_URL", "without PostgreSQL", "--features postgres"]),
    };
    for words in ["migrate", "serve --port 0", "repair"] {
        let done = machine.cts(words).env("DATABASE_URL", url).env("CTS_WAIT", "0").status(code);
        assert!(!done.err().contains("s3cr3t"), "{}", done.err());
        done.says(says);
    }
    let check = if cfg!(feature = "postgres") { 2 } else { 3 };
    let done = machine.cts("--check --json").env("DATABASE_URL", url).status(check);
    assert!(!(done.out() + &done.err()).contains("s3cr3t"));
    let word = format!("migrate --db {url}");
    let done = machine.cts(&word).status(64);
    assert!(!done.err().contains("s3cr3t"), "{}", done.err());
    machine.cts("migrate").env("DATABASE_TYPE", "postgresql").status(78).says(&["DATABASE_TYPE"]);
    assert!(machine.files().is_empty());
    machine.cts("migrate").env("DATABASE_URL", url).env("DATABASE_TYPE", "sqlite").success();
}

#[test]
fn help_and_version_are_printed() {
    let machine = Machine::new();
    machine.cts("--help").success().says(&[
        "migrate",
        "SQLITE_DB_PATH",
        "/data/cts.db",
        "--check",
        "78",
    ]);
    assert_eq!(machine.cts("-V").success().out(), "cts 3.1.0\n");
    let version = machine.cts("--version").success().out();
    let lines: Vec<&str> = version.lines().collect();
    let sqlite = rusqlite::version();
    let postgresql = if cfg!(feature = "postgres") { "included" } else { "not included" };
    assert_eq!((lines.len(), lines[0]), (4, "cts 3.1.0"), "{version}");
    let commit = lines[1].strip_prefix("commit: ").unwrap();
    assert!(!commit.is_empty(), "{version}");
    assert_eq!(lines[2..], [format!("SQLite: {sqlite}"), format!("PostgreSQL: {postgresql}")]);
}

#[test]
fn check_and_help_are_commands_too() {
    let machine = Machine::new();
    machine.cts("check").status(2).says(&["CTS CRITICAL - sqlite: ", "there is no database"]);
    machine.cts("migrate").success();
    let without_time = |text: String| text.split("response_time").next().unwrap().to_string();
    let check = without_time(machine.cts("check").success().out());
    assert!(check.starts_with("CTS OK - sqlite, 22/22 core tables"), "{check}");
    assert_eq!(check, without_time(machine.cts("--check").success().out()));
    let json = machine.cts("check --json --deep").success().json();
    assert_eq!(json["status"], "healthy");
    machine.cts("check --url http://127.0.0.1:1").status(2).says(&["does not answer"]);

    // A wrong flag is no state of the database, and monitoring reads one line or JSON of it.
    for words in ["check --depth", "check --port 1", "--db /x check --url http://h", "check now"] {
        let done = machine.cts(words).status(3);
        assert!(done.out().starts_with("CTS UNKNOWN - "), "{words}: {}", done.out());
        assert_eq!(done.out().lines().count(), 1, "{words}");
    }
    assert_eq!(machine.cts("check --json --depth").status(3).json()["status"], "unknown");

    let help = |words: &str| machine.cts(words).success().out();
    assert_eq!(help("help"), help("--help"));
    for command in ["serve", "check", "migrate", "restore", "doctor"] {
        assert_eq!(help(&format!("help {command}")), help(&format!("{command} --help")));
    }
    machine.cts("help nothing").status(64).says(&["nothing"]);
}

#[test]
fn a_flag_that_a_command_would_not_use_is_refused() {
    let machine = Machine::new();
    for words in ["verify --port 1", "--port 1 verify", "migrate --host=::1", "backup --port 1"] {
        let done = machine.cts(words).status(64);
        done.says(&["is for cts serve", "does not use it"]);
    }
    assert!(machine.files().is_empty());
    let help = |words: &str| machine.cts(words).success().out();
    assert!(!help("verify --help").contains("--port") && help("serve --help").contains("--port"));
}

#[test]
fn a_port_in_use_is_reported() {
    let machine = Machine::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    machine.cts(&format!("serve --port {port}")).status(69).says(&[
        &format!("127.0.0.1:{port}"),
        "cannot listen",
        "ss -ltnp",
    ]);
    assert!(machine.files().is_empty());
}
