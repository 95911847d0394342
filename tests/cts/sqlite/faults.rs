//! Unusual states: damaged rows of the ledger, clocks that jump, unusual paths and owners.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::harness::{Machine, is_root, mode};

const AT_ONCE: Duration = Duration::from_secs(20);

/// A ledger without constraints, with our rows.
const LAX_LEDGER: &str = "ALTER TABLE migrations RENAME TO strict; \
    CREATE TABLE migrations (id, name, checksum, executed_at, execution_time_ms, version); \
    INSERT INTO migrations SELECT id, name, checksum, executed_at, execution_time_ms, version FROM strict; \
    DROP TABLE strict; CREATE UNIQUE INDEX idx_migrations_name ON migrations (name) WHERE checksum IS NOT NULL;";

#[test]
fn damaged_ledger_rows_are_refused_or_ignored() {
    let sum = "a".repeat(64);
    for (damage, code) in [
        ("INSERT INTO migrations (id, name) VALUES (9, NULL), (NULL, NULL)".to_string(), 0),
        (format!("INSERT INTO migrations (name, checksum) VALUES (NULL, '{sum}')"), 0),
        ("UPDATE migrations SET id = 'seven' WHERE id = 2".into(), 0),
        ("UPDATE migrations SET id = 9e999 WHERE id = 2".into(), 0),
        ("UPDATE migrations SET id = -id, execution_time_ms = 'long'".into(), 0),
        ("UPDATE migrations SET executed_at = x'ff00', version = 7 WHERE id = 3".into(), 0),
        ("UPDATE migrations SET checksum = substr(checksum, 2) WHERE id = 1".into(), 65),
        ("UPDATE migrations SET checksum = checksum || 'ü' WHERE id = 2".into(), 65),
        ("UPDATE migrations SET checksum = 'ünïcödé-ünïcödé' WHERE id = 3".into(), 65),
        ("UPDATE migrations SET checksum = '' WHERE id = 4".into(), 65),
        (format!("INSERT INTO migrations (name, checksum) VALUES (x'ff', '{sum}')"), 65),
    ] {
        let machine = Machine::migrated();
        machine.sql(LAX_LEDGER);
        machine.sql(&damage);
        let before = machine.files();
        let done = machine.cts("migrate").status(code);
        assert_eq!(machine.files(), before, "{damage}");
        if code == 65 {
            done.says(&["nothing was changed", "cts 3.1.0", "Try: "]);
        }
        for words in ["status", "status --json", "--check --json", "verify", "migrate --dry-run"] {
            let code = machine.cts(words).run().0.status.code();
            assert!(matches!(code, Some(0 | 1 | 65)), "{words}: {code:?} after {damage}");
        }
    }
}

#[test]
fn a_clock_that_has_jumped_back_disturbs_nothing() {
    let machine = Machine::migrated();
    machine.sql(
        "UPDATE migrations SET executed_at = '2999-12-31 23:59:59.999'; \
         UPDATE site_logs SET timestamp = '2999-12-31 23:59:59.999', created_at = timestamp",
    );
    let later = std::time::SystemTime::now() + Duration::from_secs(1 << 30);
    fs::File::options().write(true).open(machine.db()).unwrap().set_modified(later).unwrap();
    let before = machine.files();
    machine.cts("migrate").success().says(&["0 applied, 92 skipped"]);
    assert_eq!(machine.files(), before);
    machine.cts("--check").success();
    machine.sql("DROP INDEX idx_site_logs_time; DELETE FROM migrations WHERE id = 4");
    let service = machine.serve().start();
    service.until_ready().until_status("healthy");
    assert_eq!(service.stop().0, Some(0));
    machine.cts("verify").success();
    let last = machine.texts("SELECT name FROM migrations ORDER BY id DESC LIMIT 1");
    assert_eq!(last, ["071_add_coordination_tables.sql"]);
    let ours = "SELECT count(*) FROM migrations WHERE checksum IS NOT NULL";
    assert_eq!(machine.number(ours), 4);
}

#[test]
fn a_path_that_is_not_a_file_ends_every_command_at_once() {
    let machine = Machine::new();
    let made = |name: &str| machine.path(name);
    let _listener = UnixListener::bind(made("socket")).unwrap();
    fs::create_dir(made("folder")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(made("pipe")).status().unwrap().success());
    symlink(made("loop"), made("loop")).unwrap();
    symlink(made("pipe"), made("link to a pipe")).unwrap();
    symlink(made("lost"), made("link to nothing")).unwrap();
    let before = machine.files();
    for (path, code, says) in [
        (made("socket"), 78, "is a socket, not a file"),
        (made("folder"), 78, "is a directory, not a file"),
        (made("pipe"), 78, "is a pipe, not a file"),
        (made("link to a pipe"), 78, "is a pipe, not a file"),
        (Path::new("/dev/null").into(), 78, "is a device, not a file"),
        (made("link to nothing"), 65, "the symbolic link cannot be followed"),
        (made("loop"), 65, "the symbolic link cannot be followed"),
    ] {
        for words in ["migrate", "repair", "verify", "status", "serve --port 0"] {
            let done = machine.cts(words).db(&path).within(AT_ONCE);
            assert_eq!(done.0.status.code(), Some(code), "{words}: {}", done.err());
            done.says(&[says]);
        }
        let done = machine.cts("--check --deep").db(&path).within(AT_ONCE);
        let expected = if code == 78 { 3 } else { 2 };
        assert_eq!(done.0.status.code(), Some(expected), "{}", done.out());
        done.says(&[says]);
    }
    assert_eq!(machine.files(), before);
}

#[test]
fn unusual_paths_work_for_every_command_and_side_file() {
    let machine = Machine::new();
    let not_utf8 = OsStr::from_bytes(b"caf\xe9.db");
    let names = ["a b.db", "a?mode=memory.db", "a#b.db", "a%2fb.db", "ünï\n.db", "-v", "file:a.db"];
    for name in names.map(OsStr::new).into_iter().chain([not_utf8]) {
        let folder = machine.path("box");
        fs::create_dir(&folder).unwrap();
        let db = folder.join(name);
        // A relative path with steps back, from a folder below.
        let relative = Path::new("../box/./../box").join(name);
        let run = |words: &str| {
            let mut run = machine.cts(words).db(&relative);
            run.command.current_dir(&folder);
            run
        };
        run("migrate").success();
        assert_eq!(mode(&db), 0o600, "{name:?}");
        // Without an application id, as an older CTS left it, the file is inspected before it is
        // opened.
        let conn = rusqlite::Connection::open(&db).unwrap();
        conn.execute_batch("PRAGMA application_id = 0; DROP INDEX idx_site_logs_time").unwrap();
        drop(conn);
        run("--check --deep").status(1);
        run("verify").status(1);
        run("repair").success().says(&["index idx_site_logs_time on site_logs was missing"]);
        let there: Vec<_> =
            fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(there, [name], "side files are left");
        let mut backup = db.clone().into_os_string();
        backup.push(".before-3.1.0-20261123T120000Z");
        fs::rename(&db, &backup).unwrap();
        run("migrate").status(65).says(&["there is no such file", ".before-3.1.0"]);
        assert!(!db.exists(), "{name:?}");
        fs::remove_dir_all(&folder).unwrap();
    }
}

#[test]
fn a_run_as_root_keeps_the_owner_of_the_files() {
    if !is_root() {
        crate::support::not_tried("only root can work on the file of another user");
        return;
    }
    const OWNER: u32 = 65534;
    let machine = Machine::migrated();
    machine.cts_as_nobody("--version").success();
    for path in [machine.path("."), machine.db()] {
        chown(path, Some(OWNER), Some(OWNER)).unwrap();
    }
    let service = machine.serve().start();
    service.until_ready();
    for suffix in ["", "-wal", "-shm"] {
        let file = machine.path(&format!("cts.db{suffix}"));
        assert_eq!(fs::metadata(&file).unwrap().uid(), OWNER, "{}", file.display());
    }
    service.signal(Signal::KILL);
    assert_eq!(service.end().0, None);
    machine.sql("DROP INDEX idx_site_logs_time");
    machine
        .cts_as_nobody("migrate")
        .success()
        .says(&["idx_site_logs_time on site_logs was missing"]);
    machine.cts_as_nobody("--check").success();
}
