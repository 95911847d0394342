//! Files that are not what they should be: another type, a link that is put in the place of a file, another
//! owner. And a start that a file system holds up.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::harness::{Machine, Run, await_that, is_root, mode};

/// A run that only examines a few files ends within this time on a busy machine too.
const AT_ONCE: Duration = Duration::from_secs(20);
const NOBODY: u32 = 65534;

/// Puts something at the path that is not a regular file, and names it as cts does.
fn put(kind: &str, path: &Path, target: &Path) {
    match kind {
        "a directory" => fs::create_dir(path).unwrap(),
        "a pipe" => assert!(Command::new("mkfifo").arg(path).status().unwrap().success()),
        "a socket" => drop(UnixListener::bind(path).unwrap()),
        _ => symlink(target, path).unwrap(),
    }
}

fn take_away(path: &Path) {
    fs::remove_file(path).or_else(|_| fs::remove_dir(path)).unwrap();
}

#[test]
fn a_side_file_that_is_not_a_regular_file_is_refused_by_its_type_and_nothing_hangs() {
    let (old, new) = (Machine::migrated(), Machine::new());
    fs::write(old.path("victim"), "of somebody else").unwrap();
    fs::write(new.path("victim"), "of somebody else").unwrap();
    for suffix in ["-journal", "-wal", "-shm"] {
        for kind in ["a pipe", "a directory", "a socket", "a symbolic link"] {
            for machine in [&old, &new] {
                let path = machine.path(&format!("cts.db{suffix}"));
                put(kind, &path, &machine.path("victim"));
                let before = machine.files();
                let says =
                    format!("cts.db{suffix}: is {kind}, where SQLite keeps a file of its own");
                for words in ["serve --port 0", "migrate", "repair", "status", "verify"] {
                    let done = machine.cts(words).within(AT_ONCE);
                    assert_eq!(done.0.status.code(), Some(65), "{words}: {}", done.err());
                    done.says(&[&says, "nothing was opened", "move it away"]);
                }
                for words in ["--check", "--check --deep", "doctor"] {
                    let done = machine.cts(words).within(AT_ONCE);
                    assert_eq!(done.0.status.code(), Some(2), "{words}: {}", done.out());
                    done.says(&[&says]);
                }
                assert_eq!(machine.files(), before);
                take_away(&path);
            }
        }
    }
    old.cts("migrate").success();
    new.cts("migrate").success();
}

#[test]
fn a_database_that_is_not_a_regular_file_is_refused_by_its_type() {
    let machine = Machine::new();
    for kind in ["a pipe", "a directory", "a socket"] {
        put(kind, &machine.db(), Path::new(""));
        for words in ["serve --port 0", "migrate", "status"] {
            let done = machine.cts(words).within(AT_ONCE);
            assert_eq!(done.0.status.code(), Some(78), "{words}: {}", done.err());
            done.says(&[&format!("cts.db: is {kind}, not a file")]);
        }
        take_away(&machine.db());
    }
    let done = machine.cts("migrate").db(Path::new("/dev/null")).within(AT_ONCE);
    assert_eq!(done.0.status.code(), Some(78), "{}", done.err());
    done.says(&["/dev/null: is a device, not a file"]);
}

#[test]
fn a_link_put_in_the_place_of_a_side_file_keeps_the_mode_of_what_it_leads_to() {
    let machine = Machine::migrated();
    let (victim, link, db) = (machine.path("victim"), machine.path("link"), machine.db());
    fs::write(&victim, "").unwrap();
    let wal = machine.path("cts.db-wal");
    let mut swapped = 0;
    for _ in 0..40 {
        for path in [&victim, &db] {
            fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
        }
        let run = machine.cts("migrate --quiet");
        thread::scope(|scope| {
            let running = scope.spawn(|| run.run());
            while !running.is_finished() {
                if fs::symlink_metadata(&wal).is_ok_and(|found| found.is_file()) {
                    symlink(&victim, &link).unwrap();
                    fs::rename(&link, &wal).unwrap();
                    swapped += 1;
                    break;
                }
            }
        });
        assert_eq!(mode(&victim), 0o644);
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_file(machine.path(&format!("cts.db{suffix}")));
        }
    }
    assert!(swapped > 0, "no -wal was met in 40 runs");
}

#[test]
fn what_root_creates_belongs_to_the_owner_of_the_folder() {
    if !is_root() {
        crate::support::not_tried("only root can create files for another user");
        return;
    }
    let machine = Machine::new();
    let home = machine.path("home");
    fs::create_dir(&home).unwrap();
    chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
    let db = home.join("new/deep/cts.db");
    let owner = |path: &Path| {
        let found = fs::symlink_metadata(path).unwrap();
        (found.uid(), found.gid())
    };
    machine.cts("migrate").db(&db).success().says(&[
        "home/new: created by root, and given to nobody, the owner of its folder",
        "home/new/deep: created by root",
        "cts.db: created by root, and given to nobody",
    ]);
    for path in ["new", "new/deep", "new/deep/cts.db"] {
        assert_eq!(owner(&home.join(path)), (NOBODY, NOBODY), "{path}");
    }
    // The service of that user opens it, and beside it root writes files that the user can open.
    let as_nobody = |words: &str| machine.cts_as_nobody(words).db(&db);
    as_nobody("migrate").success();
    let service = machine.serve().db(&db).start();
    service.until_ready();
    for suffix in ["-wal", "-shm"] {
        assert_eq!(owner(&home.join(format!("new/deep/cts.db{suffix}"))), (NOBODY, NOBODY));
    }
    as_nobody("--check").success();
    service.stop();
    let again = machine.cts("migrate").db(&db).success();
    assert!(!again.err().contains("created by root"), "{}", again.err());
    // In a folder of root's, they are root's, which the service of another user cannot open.
    let rooted = machine.path("rooted/cts.db");
    machine.cts("migrate").db(&rooted).success().says(&["They belong to root", "chown -R cts: "]);
    assert_eq!(owner(&rooted).0, 0);

    // A file that is created in place, and the copy made before tables are rebuilt.
    let old = home.join("old.db");
    rusqlite::Connection::open(&old)
        .unwrap()
        .execute_batch(
            "CREATE TABLE indication_states (id integer primary key, connection_id text, state_key text)",
        )
        .unwrap();
    chown(&old, Some(NOBODY), Some(NOBODY)).unwrap();
    machine.cts("migrate").db(&old).success().says(&["given to nobody"]);
    let copy = fs::read_dir(&home)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().contains("old.db.before-"))
        .unwrap();
    assert_eq!((owner(&copy), mode(&copy)), ((NOBODY, NOBODY), 0o600));
}

#[test]
fn a_start_that_a_file_system_holds_up_ends_after_sigterm() {
    let machine = Machine::new();
    let mut command = Command::new("strace");
    // The tracer is no parent of cts, so that the signal reaches cts.
    command
        .args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync"])
        .args(["-e", "inject=fsync,fdatasync:delay_enter=300000000"])
        .args([env!("CARGO_BIN_EXE_cts"), "serve", "--port", "0"])
        .env_clear()
        .env("SQLITE_DB_PATH", machine.db());
    let service = Run { command }.start();
    service.until("Listening on http://");
    let fd = format!("/proc/{}/fd", service.child.id());
    await_that("the new database is being written", || {
        fs::read_dir(&fd).is_ok_and(|mut fds| {
            fds.any(|fd| {
                fs::metadata(fd.unwrap().path()).is_ok_and(|m| m.is_file() && m.len() > 100_000)
            })
        })
    });
    service.signal(Signal::TERM).until("the start did not end within 15 s of the signal");
    // The process ends once its tracer lets go of it.
    let status = fs::read_to_string(format!("/proc/{}/status", service.child.id())).unwrap();
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:")).unwrap();
    let tracer = Pid::from_raw(tracer.trim().parse().unwrap()).unwrap();
    kill_process(tracer, Signal::KILL).unwrap();
    let (code, log) = service.end();
    assert_eq!(code, Some(74), "{log}");
    machine.cts("migrate").success();
}
