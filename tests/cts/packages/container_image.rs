//! The image that the archive describes, and containers of it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use rusqlite::Connection;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::packages::install::packages;
use crate::support::harness::{await_that, is_root};
use crate::support::image::Image;
use crate::support::not_tried;

const USER: u32 = 10001;
const KEPT: &str = "SELECT count(*) FROM site_logs WHERE message = 'kept'";

/// The image, built once from the unpacked archive. `None` where this machine cannot make it, which is printed.
fn image() -> Option<&'static Image> {
    static IMAGE: OnceLock<Option<Image>> = OnceLock::new();
    IMAGE.get_or_init(|| try_image().map_err(|why| not_tried(&why)).ok()).as_ref()
}

fn try_image() -> Result<Image, String> {
    if !is_root() {
        return Err("only root can make a container".into());
    }
    let mut namespaces = Command::new("unshare");
    namespaces.args(["--mount", "--pid", "--net", "--fork", "true"]);
    if !namespaces.output().is_ok_and(|output| output.status.success()) {
        return Err("namespaces cannot be made here".into());
    }
    let packages = packages().ok_or("the archive cannot be packed")?;
    let archive = TempDir::new().unwrap();
    let unpack = "tar -C \"$0\" --strip-components=1 -xzf \"$1\"/cts-*.tar.gz";
    let mut command = Command::new("sh");
    command.args(["-euc", unpack]).arg(archive.path()).arg(packages);
    assert!(command.status().unwrap().success());
    Ok(Image::build(archive.path()))
}

fn number(volume: &Path, sql: &str) -> i64 {
    let conn = Connection::open(volume.join("cts.db")).unwrap();
    conn.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
#[ignore = "sweep"]
fn the_image_runs_without_root_and_a_token_and_keeps_its_rows_in_the_volume() {
    let Some(image) = image() else { return };
    let health = image.health_check();
    let health: Vec<&str> = health.iter().map(String::as_str).collect();
    let volume = image.new_volume();
    assert_eq!(fs::metadata(volume.path()).unwrap().permissions().mode() & 0o7777, 0o700);

    let container = image.on(volume.path()).start(&[]);
    container.service.until_ready();
    for (field, value) in [("Uid", USER.to_string().as_str()), ("CapEff", "0000000000000000")] {
        assert_eq!(container.status(field).split_whitespace().next(), Some(value), "{field}");
    }
    assert_eq!(container.status("NSpid").split_whitespace().last(), Some("1"));
    let done = container.exec(&health, &[]);
    assert_eq!((done.0.status.code(), &*done.out()), (Some(0), "CTS OK - ready: healthy\n"));
    // Docker reserves the exit code 2, which --check has for a service that does not answer.
    let done = container.exec(&health, &[("PORT", "1")]);
    assert_eq!(done.0.status.code(), Some(1), "{}", done.out());
    assert!(done.out().starts_with("CTS CRITICAL - not ready: 127.0.0.1:1 does not answer"));
    container.exec(&["cts", "doctor"], &[]).says(&["run by #10001", "0.0.0.0:3000: cts answers"]);
    assert_eq!(container.get("/livez", None).0, "200");
    for path in ["/", "/metrics", "/api/admin/migrations/status"] {
        let (code, body) = container.get(path, None);
        assert!(code == "403" && body.contains("CTS_ADMIN_TOKEN"), "{path}: {code} {body}");
    }
    let row = "INSERT INTO site_logs (level, category, message) VALUES ('info', 'test', 'kept')";
    Connection::open(volume.path().join("cts.db")).unwrap().execute_batch(row).unwrap();
    let (code, log) = container.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(!volume.path().join("cts.db-wal").exists());

    // The next container on the volume, with a token.
    let secrets = TempDir::new().unwrap();
    fs::set_permissions(secrets.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let token = secrets.path().join("cts-admin-token");
    fs::write(&token, "correct-horse-battery-staple\n").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o400)).unwrap();
    chown(&token, Some(USER), Some(USER)).unwrap();
    let run = image.on(volume.path()).secrets(secrets.path());
    let run = run.env("CTS_ADMIN_TOKEN_FILE", "/run/secrets/cts-admin-token");
    let container = run.start(&[]);
    container.service.until_ready();
    for path in ["/", "/metrics", "/api/admin/migrations/status"] {
        assert_eq!(container.get(path, None).0, "401", "{path}");
        let (code, body) = container.get(path, Some("correct-horse-battery-staple"));
        assert_eq!(code, "200", "{path}: {body}");
    }
    assert_eq!(container.exec(&health, &[]).0.status.code(), Some(0));
    assert_eq!(container.stop().0, Some(0));
    assert_eq!(number(volume.path(), KEPT), 1);
}

#[test]
#[ignore = "sweep"]
fn large_sorts_need_no_folder_for_temporary_files_but_that_of_the_database() {
    let Some(image) = image() else { return };
    let volume = image.new_volume();
    let run = |words: &[&str]| {
        // The root has no /tmp and is read-only.
        let done = image.on(volume.path()).env("SQLITE_TMPDIR", "/missing").cts(words);
        assert_eq!(done.0.status.code(), Some(0), "{words:?}: {}{}", done.out(), done.err());
    };
    run(&["migrate"]);
    let conn = Connection::open(volume.path().join("cts.db")).unwrap();
    // More than the 2 MB that SQLite sorts in memory.
    conn.execute_batch(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
         INSERT INTO site_logs (level, category, message)
         SELECT 'info', hex(randomblob(60)), 'row ' || i FROM n;
         DROP INDEX idx_site_logs_category; DROP INDEX idx_site_logs_time;",
    )
    .unwrap();
    drop(conn);
    run(&["repair"]);
    run(&["verify"]);
    run(&["check", "--deep"]);
    run(&["backup"]);
    let names = |folder: &Path| {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    let mut left = names(volume.path());
    left.sort();
    assert_eq!(left, ["backups", "cts.db"], "nothing temporary stays");
    let backup = names(&volume.path().join("backups"));
    let backup = backup.iter().find(|name| name.ends_with(".db")).unwrap();
    run(&["backup", "--verify", &format!("/data/backups/{backup}")]);
    run(&["restore", "latest"]);
    assert_eq!(number(volume.path(), "SELECT count(*) >= 60000 FROM site_logs"), 1);
}

#[test]
#[ignore = "sweep"]
fn a_mounted_folder_of_root_is_refused_with_the_command_that_gives_it() {
    let Some(image) = image() else { return };
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let done = image.on(folder.path()).cts(&[]);
    assert_eq!(done.0.status.code(), Some(77), "{}", done.err());
    assert!(done.err().contains("sudo chown 10001 /data"), "{}", done.err());
    // Kubernetes gives a volume to the group (fsGroup) and leaves it to root.
    chown(folder.path(), Some(0), Some(USER)).unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o2775)).unwrap();
    assert!(image.on(folder.path()).cts(&["migrate"]).0.status.success());
    assert!(image.on(folder.path()).cts(&["check"]).0.status.success());
    // The files of a container that ran as root.
    chown(folder.path(), Some(USER), Some(USER)).unwrap();
    assert!(image.on(folder.path()).cts(&["migrate"]).0.status.success());
    for path in [folder.path().to_path_buf(), folder.path().join("cts.db")] {
        chown(path, Some(0), Some(0)).unwrap();
    }
    let done = image.on(folder.path()).cts(&[]);
    assert_eq!(done.0.status.code(), Some(77), "{}", done.err());
}

#[test]
#[ignore = "sweep"]
fn the_first_process_is_ended_by_the_signals_that_end_any_other() {
    let Some(image) = image() else { return };
    let volume = image.new_volume();
    assert!(image.on(volume.path()).cts(&["migrate"]).0.status.success());
    // A command that handles no signal, and waits for a lock.
    let holder = Connection::open(volume.path().join("cts.db")).unwrap();
    holder.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE").unwrap();
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let container = image.on(volume.path()).start(&["status"]);
        let handled = 1 << (signal.as_raw() - 1);
        await_that("the signal is handled", || {
            let mask = u64::from_str_radix(&container.status("SigCgt"), 16).unwrap();
            mask & handled == handled
        });
        container.signal(signal);
        assert_eq!(container.service.end().0, Some(code));
    }
    drop(holder);
    // The third request ends the service, though a program keeps it from closing the database.
    let container = image.on(volume.path()).start(&[]);
    container.service.until_ready();
    let holder = Connection::open(volume.path().join("cts.db")).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    for said in ["Stopping (SIGTERM)", "Asked to stop again"] {
        container.signal(Signal::TERM);
        container.service.until(said);
    }
    container.signal(Signal::TERM);
    assert_eq!(container.service.end().0, Some(143));
}
