//! A target of the archive that is away, read-only, slow, or another one's: programs write the database on without waiting, the WAL
//! stays short, the reason is said, and once the target is back the archive goes on with a gap that is listed. Nothing is
//! listed that cannot be restored.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rustix::process::Signal;

use super::{
    CREATE, Recorded, archive, archiving, beside_programs, content, prove, segments, trader,
    until_archived, until_base, write,
};
use crate::support::harness::{Machine, Run, Service, TIMEOUT, await_that, is_root};
use crate::support::random::Random;
use crate::support::strace::AttachedStrace;

/// What a program may wait for a commit at most, on a busy machine too. Each fault lasts longer.
const COMMIT_MAX: Duration = Duration::from_secs(4);
/// The length of the WAL at which it is given up, and what a program writes at full speed until it is begun anew.
const WAL_MAX: u64 = 1 << 30;

/// A service that archives, and a program that writes.
struct Trial {
    machine: Machine,
    service: Service,
    conn: Connection,
    random: Random,
    recorded: Recorded,
}

impl Trial {
    fn start() -> Trial {
        let machine = Machine::migrated();
        Trial::start_on(machine, archiving)
    }

    fn start_on(machine: Machine, run: impl FnOnce(&Machine) -> Run) -> Trial {
        trader(&machine.db()).execute_batch(CREATE).unwrap();
        let service = run(&machine).start();
        let conn = trader(&machine.db());
        let (random, recorded) = (Random(21), Recorded::default());
        Trial { machine, service, conn, random, recorded }
    }

    /// One that has archived a few transactions.
    fn archived() -> Trial {
        let mut trial = Trial::start();
        until_base(&trial.machine);
        trial.write_until("there are segments", |trial| segments(&trial.machine).len() > 4);
        trial
    }

    /// Writes until this holds. No commit waits for the archive, and the WAL stays short.
    fn write_until(&mut self, what: &str, mut holds: impl FnMut(&Trial) -> bool) {
        let (wal, deadline) = (self.machine.path("cts.db-wal"), Instant::now() + TIMEOUT);
        let mut look = Instant::now();
        loop {
            let before = Instant::now();
            write(&self.conn, &mut self.random, &self.recorded);
            assert!(before.elapsed() < COMMIT_MAX, "{what}: {:?}", before.elapsed());
            let length = fs::metadata(&wal).map_or(0, |wal| wal.len());
            assert!(length < WAL_MAX, "{what}: a WAL of {length} bytes");
            if Instant::now() < look {
                continue;
            }
            if holds(self) {
                return;
            }
            assert!(Instant::now() < deadline, "not in time: {what}\n{}", self.service.log());
            look = Instant::now() + Duration::from_millis(50);
        }
    }

    /// One transaction that changes many pages, so that its segment is written by many calls.
    fn write_much(&self) {
        let fill = "BEGIN IMMEDIATE; WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400) \
            INSERT OR REPLACE INTO own SELECT i, i, randomblob(2500) FROM n; UPDATE commits SET n = n + 1";
        self.conn.execute_batch(fill).unwrap();
        let n = self.conn.query_row("SELECT n FROM commits", [], |row| row.get(0)).unwrap();
        self.recorded.lock().unwrap().insert(n, content(&self.conn));
        self.conn.execute_batch("COMMIT").unwrap();
    }

    fn health(&self) -> String {
        self.service.get("/api/health/database").body
    }

    /// Writes until the health answer is `degraded` and says this, and the path of the target.
    fn until_degraded(&mut self, says: &str) {
        let folder = archive(&self.machine).display().to_string();
        self.write_until(&format!("{says:?} is said"), |trial| {
            let health = trial.health();
            let is_said = health.contains("what is committed is not archived")
                && health.contains(says)
                && health.contains(&folder);
            assert!(!is_said || health.contains("\"status\":\"degraded\""), "{health}");
            is_said
        });
    }

    /// Writes until the archive has what is committed now, and the health answer is good.
    fn until_archived_again(&mut self) {
        self.write_until("it is archived again", |trial| {
            trial.health().contains("\"status\":\"healthy\"")
        });
        until_archived(&self.machine, &self.service);
    }

    /// How often it is listed that what was committed before is not known.
    fn gaps(&self) -> usize {
        let listed =
            self.machine.cts("backups --json").env("CTS_ARCHIVE_DIR", archive(&self.machine));
        let json = listed.success().json();
        assert!(json["archive"]["fault"].is_null(), "{json}");
        let reaches = json["archive"]["reaches"].as_array().unwrap();
        reaches.iter().filter(|reach| reach["gapBefore"].is_string()).count()
    }

    /// Ends the service. Each listed moment is restored as it was recorded, the newest too.
    fn proved(self) -> Machine {
        let written = *self.recorded.lock().unwrap().keys().last().unwrap();
        assert_eq!(self.service.stop().0, Some(0));
        assert_eq!(prove(&self.machine, &self.recorded, 12), written);
        self.machine
    }
}

/// A file system of its own at a path, which is unmounted when dropped.
struct Mount(PathBuf);

impl Mount {
    fn of(folder: &Path, arguments: &[&str]) -> Mount {
        let done = Command::new("mount").args(arguments).arg(folder).status().unwrap();
        assert!(done.success());
        Mount(folder.to_path_buf())
    }

    /// A view of a folder over itself that cannot be written.
    fn read_only(folder: &Path) -> Mount {
        let mount = Mount::of(folder, &["--bind", folder.to_str().unwrap()]);
        // Not while a file in it is being written.
        await_that("it is read-only", || {
            let mut command = Command::new("mount");
            command.args(["-o", "remount,bind,ro"]).arg(folder).status().unwrap().success()
        });
        mount
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // At once, though files in it are open.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_folder_that_is_deleted_is_said_and_another_one_begins_with_a_base() {
    let mut trial = Trial::archived();
    // The service writes into it meanwhile.
    await_that("it is deleted", || fs::remove_dir_all(archive(&trial.machine)).is_ok());
    trial.until_degraded("");
    trial.until_archived_again();
    assert!(segments(&trial.machine)[0]["gap"].is_string());
    trial.proved();
}

#[test]
fn a_folder_that_is_moved_away_is_gone_on_with_once_it_is_back() {
    let mut trial = Trial::archived();
    let (folder, aside) = (archive(&trial.machine), trial.machine.path("aside"));
    let before = segments(&trial.machine).len();
    fs::rename(&folder, &aside).unwrap();
    fs::write(&folder, "a file").unwrap();
    trial.until_degraded("");
    fs::remove_file(&folder).unwrap();
    fs::rename(&aside, &folder).unwrap();
    trial.until_archived_again();
    assert!(segments(&trial.machine).len() > before);
    assert_eq!(trial.gaps(), 1);
    trial.proved();
}

#[test]
fn a_deleted_list_or_file_of_the_last_segment_is_not_written_on() {
    let mut trial = Trial::archived();
    fs::remove_file(archive(&trial.machine).join("chain.jsonl")).unwrap();
    trial.until_degraded("");
    trial.until_archived_again();
    let machine = trial.proved();
    // What was there is kept.
    let aside = fs::read_dir(archive(&machine)).unwrap().flatten();
    assert!(aside.map(|e| e.file_name()).any(|n| n.to_string_lossy().starts_with("damaged-")));
}

#[test]
fn a_target_that_is_unmounted_is_not_written_beside_and_goes_on_when_it_is_back() {
    if !is_root() {
        return crate::support::not_tried("only root can mount a file system");
    }
    let machine = Machine::migrated();
    let (disk, folder) = (machine.path("disk"), archive(&machine));
    fs::create_dir(&disk).unwrap();
    fs::create_dir(&folder).unwrap();
    let _disk = Mount::of(&disk, &["-t", "tmpfs", "tmpfs"]);
    let mounted = Mount::of(&folder, &["--bind", disk.to_str().unwrap()]);
    let mut trial = Trial::start_on(machine, archiving);
    until_base(&trial.machine);
    trial.write_until("there are segments", |trial| segments(&trial.machine).len() > 4);
    drop(mounted);
    trial.until_degraded("not mounted");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "the disk below is written");
    let _mounted = Mount::of(&folder, &["--bind", disk.to_str().unwrap()]);
    trial.until_archived_again();
    assert_eq!(trial.gaps(), 1);
    trial.proved();
}

#[test]
fn a_target_that_cannot_be_written_is_said_and_goes_on_with_a_gap() {
    if !is_root() {
        return crate::support::not_tried("only root can mount a file system read-only");
    }
    let mut trial = Trial::archived();
    let read_only = Mount::read_only(&archive(&trial.machine));
    trial.until_degraded("Read-only file system");
    let listed = segments(&trial.machine);
    trial.write_until("the WAL is begun anew", {
        let mut before = None;
        move |trial| {
            let header = fs::read(trial.machine.path("cts.db-wal")).unwrap();
            let salts = header.get(16..24).map(<[u8]>::to_vec);
            before.get_or_insert_with(|| salts.clone()) != &salts
        }
    });
    assert_eq!(segments(&trial.machine), listed);
    drop(read_only);
    trial.until_archived_again();
    assert_eq!(trial.gaps(), 1);
    trial.proved();
}

#[test]
fn a_target_that_the_user_may_not_write_or_that_is_no_folder_is_said_from_the_start() {
    let machine = Machine::migrated();
    fs::write(archive(&machine), "a file").unwrap();
    let mut trial = Trial::start_on(machine, archiving);
    trial.until_degraded("");
    fs::remove_file(archive(&trial.machine)).unwrap();
    trial.until_archived_again();
    assert_eq!(trial.gaps(), 1, "what was committed meanwhile is not known");
    trial.proved();
    if !is_root() {
        return crate::support::not_tried("a folder of root: the tests do not run as root");
    }
    let machine = Machine::migrated();
    for path in [machine.path("."), machine.db()] {
        std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
    }
    fs::create_dir(archive(&machine)).unwrap();
    fs::set_permissions(archive(&machine), fs::Permissions::from_mode(0o755)).unwrap();
    let folder = archive(&machine);
    let run = |machine: &Machine| {
        let run = machine.cts_as_nobody("serve --port 0").env("CTS_ARCHIVE_DIR", &folder);
        run.env("CTS_BACKUP_EVERY", "0")
    };
    let mut trial = Trial::start_on(machine, run);
    trial.until_degraded("cannot be written");
    std::os::unix::fs::chown(&folder, Some(65534), Some(65534)).unwrap();
    trial.until_archived_again();
    trial.proved();
}

#[test]
fn the_folder_of_another_service_or_database_is_left_alone() {
    let mut trial = Trial::archived();
    let other = Machine::migrated();
    symlink(archive(&trial.machine), archive(&other)).unwrap();
    let mut second = Trial::start_on(other, archiving);
    second.until_degraded("another cts archives into this folder");
    trial.until_archived_again();
    assert_eq!(trial.gaps(), 0);
    // The first one's service ends, its archive stays its own.
    let first = trial.proved();
    let listed = segments(&first);
    second.until_degraded("another database");
    assert_eq!(segments(&first), listed);
    fs::remove_file(archive(&second.machine)).unwrap();
    second.until_archived_again();
    assert_ne!(segments(&second.machine).len(), 0);
    second.proved();
}

/// The file system answers each call after seconds: the WAL is let go of while a segment is being written, and written over.
#[test]
#[ignore = "sweep"]
fn a_slow_target_archives_nothing_of_a_wal_that_was_begun_anew_meanwhile() {
    for (calls, delay) in [("write", "4000000"), ("fsync", "25000000"), ("openat", "3000000")] {
        let mut trial = Trial::archived();
        let slow = AttachedStrace::inject(
            &trial.service,
            "archive",
            calls,
            &format!("delay_enter={delay}"),
        );
        if calls == "openat" {
            // No single call takes so long that the archive is given up.
            let until = Instant::now() + Duration::from_secs(40);
            trial.write_until("some time has passed", |_| Instant::now() > until);
        } else {
            trial.write_much();
            trial.write_much();
            trial.until_degraded("too long");
        }
        // The WAL is begun anew several times.
        let until = Instant::now() + Duration::from_secs(10);
        trial.write_until("the WAL was begun anew", |_| Instant::now() > until);
        drop(slow);
        trial.until_archived_again();
        trial.proved();
    }
}

/// The WAL grows while the service is stopped, for nobody else lets go of it; then it is archived and begun anew.
#[test]
fn a_service_that_is_stopped_for_a_while_goes_on_without_a_gap_and_may_be_killed() {
    let trial = Trial::archived();
    let db = trial.machine.db();
    for is_killed in [false, true] {
        let status = format!("/proc/{}/status", trial.service.child.id());
        await_that("it is stopped, and has not the write lock", || {
            trial.service.signal(Signal::STOP);
            await_that("it is stopped", || {
                fs::read_to_string(&status).unwrap().contains("State:\tT")
            });
            trial.conn.busy_timeout(Duration::from_millis(300)).unwrap();
            let is_free = trial.conn.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok();
            if !is_free {
                trial.service.signal(Signal::CONT);
            }
            is_free
        });
        let before = segments(&trial.machine).len();
        let mut after = 0;
        beside_programs(&db, 31 + u64::from(is_killed), &trial.recorded, || {
            let from = trial.recorded.lock().unwrap().len();
            await_that("programs have written", || {
                trial.recorded.lock().unwrap().len() >= from + 200
            });
            after = segments(&trial.machine).len();
            trial.service.signal(if is_killed { Signal::KILL } else { Signal::CONT });
        });
        assert_eq!(before, after);
        if !is_killed {
            until_archived(&trial.machine, &trial.service);
            assert_eq!(trial.gaps(), 0);
        }
    }
    let Trial { machine, service, recorded, .. } = trial;
    drop(service);
    let service = archiving(&machine).start();
    until_archived(&machine, &service);
    service.stop();
    let written = *recorded.lock().unwrap().keys().last().unwrap();
    assert_eq!(prove(&machine, &recorded, 20), written);
}
