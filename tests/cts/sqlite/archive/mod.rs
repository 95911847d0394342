//! The archive of every change: each archived moment is restored to exactly the state that the writer recorded for it, whatever
//! is killed or checkpointed meanwhile, by cts and by Litestream; what is damaged is refused; and the database goes on without it.

mod seen;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use serde_json::Value;

use crate::service::litestream::program;
use crate::support::disk::Disk;
use crate::support::harness::{Machine, Run, Service, await_that, is_root};
use crate::support::random::Random;

mod aged;
mod corruptions;
mod kills;
mod power_loss;
mod targets;
mod workloads;

/// The content of the tables of the test, in a few numbers.
const STATE: &str = "SELECT (SELECT count(*) FROM own), (SELECT coalesce(sum(id * 7 + x), 0) FROM own), \
    (SELECT coalesce(sum(length(filling)), 0) FROM own), (SELECT group_concat(name) FROM sqlite_schema WHERE name LIKE 'extra%')";

fn archive(machine: &Machine) -> PathBuf {
    machine.path("archive")
}

fn archiving(machine: &Machine) -> Run {
    let run = machine.serve().env("CTS_ARCHIVE_DIR", archive(machine));
    run.env("CTS_BACKUP_EVERY", "0")
}

/// The list of the archive; empty while there is none.
fn segments(machine: &Machine) -> Vec<Value> {
    let text = fs::read_to_string(archive(machine).join("chain.jsonl")).unwrap_or_default();
    let lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn number(segment: &Value, key: &str) -> u64 {
    segment[key].as_u64().unwrap()
}

/// A moment as the command takes it.
fn time(milliseconds: u64) -> String {
    let at = std::time::UNIX_EPOCH + Duration::from_millis(milliseconds);
    let seconds = at.duration_since(std::time::UNIX_EPOCH).unwrap();
    let text = Connection::open_in_memory().unwrap();
    let sql = "SELECT strftime('%Y-%m-%dT%H:%M:%S', ?1, 'unixepoch') || printf('.%03dZ', ?2)";
    text.query_row(sql, [seconds.as_secs(), milliseconds % 1000], |row| row.get(0)).unwrap()
}

fn restored(machine: &Machine, moment: &str, name: &str) -> PathBuf {
    let to = machine.path(name);
    let mut run = machine.cts("restore").env("CTS_ARCHIVE_DIR", archive(machine));
    run.command.args(["--at", moment, "--to"]).arg(&to);
    run.success();
    to
}

/// The number of the last transaction of the test in a database, and the content.
fn state(db: &Path) -> (u64, String) {
    let conn = Connection::open(db).unwrap();
    let check: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    (conn.query_row("SELECT n FROM commits", [], |row| row.get(0)).unwrap(), content(&conn))
}

fn content(conn: &Connection) -> String {
    conn.query_row(STATE, [], |row| {
        let numbers: [i64; 3] = [row.get(0)?, row.get(1)?, row.get(2)?];
        Ok(format!("{numbers:?} {:?}", row.get::<_, Option<String>>(3)?))
    })
    .unwrap()
}

fn trader(db: &Path) -> Connection {
    let conn = Connection::open(db).unwrap();
    conn.busy_timeout(Duration::from_secs(20)).unwrap();
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    conn.execute_batch(
        "PRAGMA wal_autocheckpoint = 0; PRAGMA synchronous = NORMAL; PRAGMA cache_size = 20",
    )
    .unwrap();
    conn
}

const CREATE: &str = "CREATE TABLE own (id INTEGER PRIMARY KEY, x INTEGER, filling BLOB); \
    CREATE INDEX own_x ON own (x); CREATE TABLE commits (n INTEGER); INSERT INTO commits VALUES (0)";

/// What the content was after each transaction, by its number.
type Recorded = Mutex<BTreeMap<u64, String>>;

/// One transaction, which may be rolled back as a whole or in part. Recorded before it is committed, since it may be archived
/// at once.
fn write(conn: &Connection, random: &mut Random, recorded: &Recorded) {
    conn.execute_batch("BEGIN IMMEDIATE").unwrap();
    change(conn, random);
    if random.below(4) == 0 {
        conn.execute_batch("SAVEPOINT s").unwrap();
        change(conn, random);
        conn.execute_batch("ROLLBACK TO s; RELEASE s").unwrap();
    }
    if random.below(60) == 0 {
        let name = random.below(3);
        let sql = format!("DROP TABLE IF EXISTS extra{name}; CREATE TABLE extra{name} (y TEXT)");
        conn.execute_batch(&sql).unwrap();
    }
    if random.below(10) == 0 {
        return conn.execute_batch("ROLLBACK").unwrap();
    }
    conn.execute("UPDATE commits SET n = n + 1", []).unwrap();
    let n = conn.query_row("SELECT n FROM commits", [], |row| row.get(0)).unwrap();
    recorded.lock().unwrap().insert(n, content(conn));
    conn.execute_batch("COMMIT").unwrap();
}

fn change(conn: &Connection, random: &mut Random) {
    let large = random.below(30) == 0;
    for _ in 0..1 + random.below(if large { 300 } else { 12 }) {
        let (id, x, size) = (random.below(900), random.below(1 << 30), random.below(3000));
        match random.below(5) {
            0 => conn.execute("DELETE FROM own WHERE id BETWEEN ?1 AND ?1 + 30", [id]).unwrap(),
            _ => {
                let sql = "INSERT OR REPLACE INTO own VALUES (?1, ?2, randomblob(?3))";
                conn.execute(sql, [id, x, size]).unwrap()
            }
        };
    }
}

/// Runs `during` while two programs write and two others checkpoint.
fn beside_programs(db: &Path, seed: u64, recorded: &Recorded, during: impl FnOnce()) {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 0..2 {
            let is_over = &is_over;
            scope.spawn(move || {
                let (conn, mut random) = (trader(db), Random(seed * 2 + writer + 1));
                while !is_over.load(Ordering::Relaxed) {
                    write(&conn, &mut random, recorded);
                    thread::sleep(Duration::from_millis(random.below(4) as u64));
                }
            });
        }
        for mode in ["PASSIVE", "TRUNCATE"] {
            let is_over = &is_over;
            scope.spawn(move || {
                let conn = trader(db);
                conn.busy_timeout(Duration::from_millis(20)).unwrap();
                let sql = format!("PRAGMA wal_checkpoint({mode})");
                while !is_over.load(Ordering::Relaxed) {
                    // Others may hold its locks.
                    let _ = conn.query_row(&sql, [], |_| Ok(()));
                    thread::sleep(Duration::from_millis(30));
                }
            });
        }
        during();
        is_over.store(true, Ordering::Relaxed);
    });
}

/// Restores so many archived moments, spread over all, and the last before each gap, and compares each with what was recorded. Returns how many transactions
/// the newest has.
fn prove(machine: &Machine, recorded: &Recorded, count: usize) -> u64 {
    let all = segments(machine);
    let recorded = recorded.lock().unwrap();
    let mut newest = 0;
    for (place, segment) in all.iter().enumerate() {
        let is_last = all.get(place + 1).is_none_or(|next| next["gap"].is_string());
        if place % (all.len() / count + 1) != 0 && !is_last {
            continue;
        }
        // Of those of one millisecond the last.
        if all.get(place + 1).is_some_and(|next| next["at"] == segment["at"]) {
            continue;
        }
        let db = restored(machine, &time(number(segment, "at")), &format!("restored-{place}.db"));
        let (n, content) = state(&db);
        // Before the first transaction there is nothing to compare.
        assert_eq!(recorded.get(&n).unwrap_or(&content), &content, "segment {segment}");
        assert!(n >= newest, "{n} after {newest}");
        newest = n;
        fs::remove_file(db).unwrap();
    }
    newest
}

/// Waits until the archive has all that is committed.
fn until_archived(machine: &Machine, service: &Service) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let conn = trader(&machine.db());
    await_that("a segment was found later", || {
        let sql = "INSERT INTO site_logs (level, category, message) VALUES ('info', 'test', 'end')";
        conn.execute_batch(sql).unwrap();
        segments(machine)
            .last()
            .is_some_and(|last| u128::from(number(last, "at")) > now.as_millis())
    });
    assert_eq!(service.get("/livez").code, 200);
}

fn until_base(machine: &Machine) {
    await_that("there is a base", || !segments(machine).is_empty());
}

#[test]
fn each_archived_moment_is_restored_as_the_writers_recorded_it() {
    let machine = Machine::migrated();
    trader(&machine.db()).execute_batch(CREATE).unwrap();
    let (service, recorded) = (archiving(&machine).start(), Recorded::default());
    until_base(&machine);
    beside_programs(&machine.db(), 1, &recorded, || {
        await_that("there are segments", || segments(&machine).len() > 25);
    });
    until_archived(&machine, &service);
    let written = *recorded.lock().unwrap().keys().last().unwrap();
    assert_eq!(prove(&machine, &recorded, 12), written);
    let gaps = segments(&machine).iter().filter(|segment| segment["gap"].is_string()).count();
    assert_eq!(gaps, 0);
    let metrics = service.get("/metrics").body;
    assert!(metrics.contains("\ncts_archive_gaps 0\n"), "{metrics}");
    service.stop();
    let listed = machine.cts("backups").env("CTS_ARCHIVE_DIR", archive(&machine)).success();
    assert!(listed.out().contains("restored with `cts restore --at TIME`"), "{}", listed.out());
}

#[test]
fn litestream_restores_the_archive_as_cts_does() {
    let Some(litestream) = program() else { return };
    let machine = Machine::migrated();
    trader(&machine.db()).execute_batch(CREATE).unwrap();
    let (service, recorded) = (archiving(&machine).start(), Recorded::default());
    until_base(&machine);
    beside_programs(&machine.db(), 2, &recorded, || {
        await_that("there are segments", || segments(&machine).len() > 12);
    });
    until_archived(&machine, &service);
    service.stop();
    let all = segments(&machine);
    for (place, segment) in all.iter().enumerate().step_by(3) {
        let to = machine.path(&format!("litestream-{place}.db"));
        let mut command = Command::new(&litestream);
        command.args(["restore", "-txid", &format!("{:016x}", number(segment, "last")), "-o"]);
        let done = command.arg(&to).arg(format!("file://{}", archive(&machine).display())).output();
        let done = done.unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let (n, content) = state(&to);
        assert_eq!(recorded.lock().unwrap().get(&n).unwrap_or(&content), &content, "{segment}");
    }
}

#[test]
fn a_killed_service_goes_on_where_the_wal_has_its_place_and_else_says_that_there_is_a_gap() {
    let machine = Machine::migrated();
    let db = machine.db();
    let keeper = trader(&db);
    keeper.execute_batch(CREATE).unwrap();
    // Keeps the WAL when the service ends: the next writer would begin it anew, since all of it is copied by then.
    let reader = trader(&db);
    reader.execute_batch("BEGIN; SELECT count(*) FROM own").unwrap();
    let recorded = Recorded::default();
    let service = archiving(&machine).start();
    until_base(&machine);
    until_archived(&machine, &service);
    // It is killed.
    drop(service);
    let mut random = Random(3);
    (0..20).for_each(|_| write(&keeper, &mut random, &recorded));
    let service = archiving(&machine).start();
    until_archived(&machine, &service);
    let bases = |machine: &Machine| {
        segments(machine).iter().filter(|segment| segment["kind"] == "base").count()
    };
    assert_eq!(bases(&machine), 1, "it went on");
    drop((service, reader));
    keeper.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    (0..20).for_each(|_| write(&keeper, &mut random, &recorded));
    let service = archiving(&machine).start();
    await_that("there is another base", || bases(&machine) == 2);
    until_archived(&machine, &service);
    assert!(segments(&machine).iter().any(|segment| segment["gap"].is_string()));
    let written = *recorded.lock().unwrap().keys().last().unwrap();
    assert_eq!(prove(&machine, &recorded, 30), written);
    // Of a moment within the gap nothing is known.
    let all = segments(&machine);
    let after = all.iter().position(|segment| segment["gap"].is_string()).unwrap();
    let edges = [&all[after - 1], &all[after]].map(|segment| time(number(segment, "at")));
    let within = time(number(&all[after - 1], "at") + 1);
    let mut run = machine.cts("restore").env("CTS_ARCHIVE_DIR", archive(&machine));
    run.command.args(["--at", &within, "--to"]).arg(machine.path("within.db"));
    let refused = run.run();
    assert_eq!(refused.0.status.code(), Some(65), "{}", refused.all_err());
    refused.says(&[&edges[0], &edges[1], "is not archived"]);
    let listed = machine.cts("backups --json").env("CTS_ARCHIVE_DIR", archive(&machine)).success();
    assert_eq!(listed.json()["archive"]["reaches"].as_array().unwrap().len(), 2);
}

#[test]
fn what_is_damaged_missing_or_swapped_is_refused() {
    let machine = Machine::migrated();
    trader(&machine.db()).execute_batch(CREATE).unwrap();
    let (service, recorded) = (archiving(&machine).start(), Recorded::default());
    until_base(&machine);
    beside_programs(&machine.db(), 5, &recorded, || {
        await_that("there are segments", || segments(&machine).len() > 5);
    });
    service.stop();
    let files: Vec<PathBuf> = ["ltx/9", "ltx/0"]
        .iter()
        .flat_map(|level| fs::read_dir(archive(&machine).join(level)).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    let refused = |what: &str| {
        let mut run = machine.cts("restore").env("CTS_ARCHIVE_DIR", archive(&machine));
        run.command.args(["--at", "latest", "--to"]).arg(machine.path("refused.db"));
        let done = run.run();
        assert_eq!(done.0.status.code(), Some(65), "{what}: {}", done.all_err());
        assert!(!machine.path("refused.db").exists());
    };
    let mut random = Random(11);
    for file in files.iter().take(6) {
        let whole = fs::read(file).unwrap();
        let mut bytes = whole.clone();
        let at = random.below(bytes.len());
        bytes[at] ^= 1 << random.below(8);
        fs::write(file, &bytes).unwrap();
        refused(&format!("byte {at} of {}", file.display()));
        fs::remove_file(file).unwrap();
        refused(&format!("{} is missing", file.display()));
        let other = files.iter().find(|other| *other != file).unwrap();
        fs::copy(other, file).unwrap();
        refused(&format!("{} is another", file.display()));
        fs::write(file, whole).unwrap();
    }
    restored(&machine, "latest", "whole.db");
}

#[test]
fn a_full_disk_of_the_archive_harms_nothing_and_is_said_until_there_is_room_again() {
    if !is_root() {
        return crate::support::not_tried("a full disk: only root can mount one");
    }
    let machine = Machine::migrated();
    trader(&machine.db()).execute_batch(CREATE).unwrap();
    let disk = Disk::mount(&machine);
    let folder = disk.folder.join("archive");
    let service =
        machine.serve().env("CTS_ARCHIVE_DIR", &folder).env("CTS_BACKUP_EVERY", "0").start();
    await_that("there is a base", || folder.join("chain.jsonl").exists());
    service.until_status("healthy");
    disk.leave(0);
    let (conn, recorded, mut random) = (trader(&machine.db()), Recorded::default(), Random(9));
    let mut write_until = |what: &str, holds: &dyn Fn() -> bool| {
        await_that(what, || {
            write(&conn, &mut random, &recorded);
            holds()
        });
    };
    write_until("it is degraded", &|| {
        service.get("/api/health/database").body.contains("\"status\":\"degraded\"")
    });
    let metrics = service.get("/api/health/database").body;
    assert!(metrics.contains("what is committed is not archived"), "{metrics}");
    // The WAL begins anew all the same.
    write_until("the WAL was begun anew", &|| {
        machine.number("SELECT count(*) FROM own") >= 0
            && fs::metadata(machine.path("cts.db-wal")).unwrap().len() < 64 << 20
    });
    disk.leave(disk.size);
    service.until_status("healthy");
    assert_eq!(service.stop().0, Some(0));
}
