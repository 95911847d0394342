//! A full disk and a limit on the size of files, at levels from zero to enough: a run completes, or
//! leaves the old database and reports the space needed.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::disk::Disk;
use crate::support::harness::{Done, Machine, Run, for_each, is_root};
use crate::support::scenario::{State, Trial};

const LEVELS: u64 = 26;
const PAGE: u64 = 4096;
const AT_ONCE: Duration = Duration::from_secs(20);

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ended {
    /// The database is the old one.
    Refused,
    /// The transaction is committed; the checkpoint after it met the limit.
    Untidied,
    Completed,
}

fn ended(trial: &Trial, db: &Path, level: u64, done: &Done) -> Ended {
    let (code, state) = (done.0.status.code(), trial.state(db));
    let (name, log) = (trial.scenario.name, done.err());
    let ended = match (code, state) {
        (Some(0), State::New) => return Ended::Completed,
        (Some(74), State::Old) => Ended::Refused,
        (Some(74), State::New) => Ended::Untidied,
        other => panic!("{name}, {level} bytes: {other:?}: {log}"),
    };
    let is_claimed = log.contains("nothing was changed");
    assert!(ended == Ended::Refused || !is_claimed, "{name}, {level} bytes: {log}");
    assert!(log.contains(db.to_str().unwrap()), "{log}");
    ended
}

#[test]
#[ignore = "sweep"]
fn a_file_size_limit_at_any_point_leaves_the_old_database_or_the_new_one() {
    for_each(&Trial::all(), |trial| {
        sweep(trial, |level| {
            let machine = Machine::new();
            let db = machine.db();
            trial.copy_to(&db);
            let mut command = Command::new("prlimit");
            command.env_clear().env("SQLITE_DB_PATH", &db).arg(format!("--fsize={level}"));
            command.arg(env!("CARGO_BIN_EXE_cts")).args(trial.scenario.words.split(' '));
            let done = Run { command }.within(AT_ONCE);
            let ended = ended(trial, &db, level, &done);
            if ended != Ended::Completed {
                done.says(&["files may not grow beyond", "KiB are needed", "ulimit -f"]);
            }
            trial.completes(&db);
            ended
        });
    });
}

#[test]
#[ignore = "sweep"]
fn a_disk_full_at_any_point_leaves_the_old_database_until_there_is_space() {
    if !is_root() {
        crate::support::not_tried("only root can mount a small disk");
        return;
    }
    for_each(&Trial::all(), |trial| {
        let machine = Machine::new();
        let disk = Disk::mount(&machine);
        let db = disk.folder.join("cts.db");
        sweep(trial, |level| {
            disk.leave(disk.size);
            trial.copy_to(&db);
            disk.leave(level);
            let done = trial.run(&db).within(AT_ONCE);
            let ended = ended(trial, &db, level, &done);
            // The space that the message asks for is enough.
            disk.leave(match ended {
                Ended::Completed => disk.size,
                _ => level + needed(&done),
            });
            trial.completes(&db);
            ended
        });
    });
}

#[test]
fn the_space_asked_for_is_enough_for_a_large_database() {
    if !is_root() {
        crate::support::not_tried("only root can mount a small disk");
        return;
    }
    let machine = Machine::new();
    let disk = Disk::mount(&machine);
    let db = disk.folder.join("cts.db");
    machine.cts("migrate").db(&db).success();
    rusqlite::Connection::open(&db)
        .unwrap()
        .execute_batch(
            "DROP INDEX idx_site_logs_time; DROP INDEX idx_site_logs_category;
             DROP INDEX idx_site_logs_connection;
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
             INSERT INTO site_logs (level, category, message, connection_id)
             SELECT 'info', 'trade', hex(randomblob(40)), 'okx' FROM n",
        )
        .unwrap();
    disk.leave(16 * PAGE);
    let done = machine.cts("repair").db(&db).status(74);
    disk.leave(needed(&done));
    machine.cts("repair").db(&db).success();
}

/// Runs at levels from zero to at most twice the space needed, at page boundaries and between them.
fn sweep(trial: &Trial, run: impl Fn(u64) -> Ended) {
    let mut most = 8 * PAGE;
    while run(most) != Ended::Completed {
        most *= 2;
    }
    let mut seen = BTreeMap::<_, u64>::new();
    for level in (0..LEVELS).map(|n| most * n / LEVELS + n * 517 % PAGE) {
        *seen.entry(run(level)).or_default() += 1;
    }
    eprintln!("{}, {LEVELS} levels up to {most}: {seen:?}", trial.scenario.name);
    assert!(seen[&Ended::Refused] >= LEVELS / 5, "{}: {seen:?}", trial.scenario.name);
}

/// The bytes needed according to the message, which are more than the bytes free according to it.
fn needed(done: &Done) -> u64 {
    let log = done.err();
    let before = |words: &str| {
        let text = log.split(words).next().filter(|text| text.len() < log.len());
        let number =
            text.and_then(|text| text.rsplit(' ').next()?.trim_start_matches('(').parse().ok());
        number.unwrap_or_else(|| panic!("{words:?} is missing in:\n{log}"))
    };
    let (free, needed): (u64, u64) = (before(" KiB are free there"), before(" KiB are needed"));
    assert!(free < needed, "{log}");
    needed << 10
}

/// A tmpfs without a limit reports 0 blocks, of which 0 are free.
#[test]
fn a_file_system_without_figures_is_not_taken_for_a_full_one() {
    if !is_root() {
        crate::support::not_tried("only root can mount a file system");
        return;
    }
    let machine = Machine::new();
    let disk = Disk::mount_with(&machine, "size=0", 0);
    let db = disk.folder.join("cts.db");
    machine.cts("migrate").db(&db).success();
    machine.cts("--check").db(&db).success().says(&["CTS OK"]);
}
