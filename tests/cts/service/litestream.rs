//! Litestream replicates the database beside the running service, into a folder: whatever is killed, what is
//! restored has every row up to the replicated position, and no page is missing.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rusqlite::Connection;

use crate::support::container::{Container, ContainerPlan};
use crate::support::harness::{Machine, Service, await_that};
use crate::support::project::source;
use crate::support::random::Random;

const ROUNDS: u64 = 20;
/// Offsets in the header of an LTX file, whose numbers are big-endian: from where in the WAL it was read, how
/// much, and the first salt of the WAL.
const LTX_WAL_OFFSET: usize = 48;
const LTX_WAL_SIZE: usize = 56;
const LTX_WAL_SALT: usize = 64;
/// More resets than there are in a test.
const RESETS_MAX: i32 = 10_000;
/// Size of a frame of the WAL. (sqlite.org/fileformat2.html, 4.1)
const FRAME_BYTES: u64 = 24 + 4096;

/// Where `tests/run.sh` installs it.
pub fn program() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    let program = cache.unwrap_or_default().join("cts/litestream/bin/litestream");
    if !program.exists() {
        crate::support::not_tried(&format!(
            "{} is missing; tests/run.sh installs it",
            program.display()
        ));
        return None;
    }
    Some(program)
}

/// A position in the WAL: the first salt, which each reset by a writer increases, and the offset. A writer may
/// draw another salt at random after the WAL was emptied.
#[derive(Clone, Copy, Debug)]
struct Position {
    salt: u32,
    offset: u64,
}

impl Position {
    /// The end of the WAL, or a later position if it is reset meanwhile.
    fn of_end(machine: &Machine, conn: &Connection) -> Position {
        let frames = || {
            let sql = "PRAGMA wal_checkpoint(NOOP)";
            conn.query_row(sql, [], |row| row.get::<_, u64>(1)).unwrap()
        };
        let wal = File::open(machine.path("cts.db-wal")).unwrap();
        loop {
            let mut salts = [[0; 4]; 2];
            wal.read_exact_at(&mut salts[0], 16).unwrap();
            let offset = 32 + frames() * FRAME_BYTES;
            wal.read_exact_at(&mut salts[1], 16).unwrap();
            if salts[0] == salts[1] {
                return Position { salt: u32::from_be_bytes(salts[0]), offset };
            }
        }
    }

    fn has(self, other: Position) -> bool {
        match self.salt.wrapping_sub(other.salt).cast_signed() {
            0 => self.offset >= other.offset,
            resets => (1..=RESETS_MAX).contains(&resets),
        }
    }
}

/// Litestream for the database of a machine; killed when dropped.
struct Litestream<'a> {
    machine: &'a Machine,
    program: &'a Path,
    child: Child,
}

impl Litestream<'_> {
    /// With the configuration that is installed, on the paths of the machine.
    fn start<'a>(machine: &'a Machine, program: &'a Path) -> Litestream<'a> {
        let config = include_str!("../../../systemd/litestream.yml")
            .replace("/data/cts.db", machine.db().to_str().unwrap())
            .replace("/var/backups/cts-litestream", machine.path("replica").to_str().unwrap());
        fs::write(machine.path("litestream.yml"), config).unwrap();
        let child = Command::new(program)
            .args(["replicate", "-config"])
            .arg(machine.path("litestream.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Litestream { machine, program, child }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// How far the replica has the WAL; `None` while it has no file.
    fn position(&self) -> Option<Position> {
        let files = fs::read_dir(self.machine.path("replica/ltx/0")).ok()?;
        let files = files.map(|file| file.unwrap().path());
        let newest =
            files.filter(|file| file.extension().is_some_and(|name| name == "ltx")).max()?;
        let header = fs::read(newest).unwrap();
        let number = |at: usize| u64::from_be_bytes(header[at..at + 8].try_into().unwrap());
        let salt = u32::from_be_bytes(header[LTX_WAL_SALT..LTX_WAL_SALT + 4].try_into().unwrap());
        Some(Position { salt, offset: number(LTX_WAL_OFFSET) + number(LTX_WAL_SIZE) })
    }

    /// Waits until all that is committed is in the replica.
    fn await_all(&self) {
        let end = Position::of_end(self.machine, &self.machine.open());
        await_that("it is replicated", || self.position().is_some_and(|now| now.has(end)));
    }

    /// Restores the replica into another file.
    fn restore(&self) -> PathBuf {
        let restored = self.machine.path("restored.db");
        let output: Output = Command::new(self.program)
            .args(["restore", "-integrity-check", "full", "-config"])
            .arg(self.machine.path("litestream.yml"))
            .arg("-o")
            .arg(&restored)
            .arg(self.machine.db())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        restored
    }
}

impl Drop for Litestream<'_> {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program with the recommended settings.
fn trading_program(machine: &Machine) -> Connection {
    let conn = machine.open();
    conn.execute_batch("PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 10000").unwrap();
    conn
}

fn insert(conn: &Connection, number: u64) {
    let sql = "INSERT INTO site_logs (level, category, message) VALUES ('info', 'app', ?1)";
    conn.execute(sql, [format!("{number:08}")]).unwrap();
}

/// The numbers of the rows in a database, in order.
fn numbers(path: &Path) -> Vec<u64> {
    let conn = Connection::open(path).unwrap();
    let sql = "SELECT message FROM site_logs WHERE category = 'app' ORDER BY id";
    let mut statement = conn.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
    rows.map(|row| row.unwrap().parse().unwrap()).collect()
}

fn is_healthy(machine: &Machine, path: &Path) {
    machine.cts("--check --deep").db(path).success().says(&["22/22 core tables"]);
    machine.cts("verify").db(path).success().says(&["no drift"]);
}

fn started<'a>(machine: &'a Machine, program: &'a Path) -> (Service, Litestream<'a>) {
    let service = machine.serve().start();
    service.until_ready();
    let litestream = Litestream::start(machine, program);
    await_that("there is a replica", || litestream.position().is_some());
    (service, litestream)
}

/// Old rows, of which nine in ten are pruned.
fn insert_old(machine: &Machine) {
    machine.sql(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000)
         INSERT INTO site_logs (timestamp, level, category, message)
         SELECT iif(i % 10, '2020-01-01 00:00:00', datetime('now')), 'info', 'old', hex(randomblob(2000)) FROM n",
    );
}

/// Kills both at a moment that the random number gives, while rows are written and, in every other round, deleted.
fn kill_both_and_restore(program: &Path, random: &mut Random) {
    let machine = Machine::new();
    let (mut service, mut litestream) = started(&machine, program);
    let is_over = AtomicBool::new(false);
    let pause = Duration::from_micros([0, 1_000, 20_000][random.below(3)]);
    let moment = Duration::from_millis(random.below(3_000) as u64);
    let prunes = random.below(2) == 1;
    if prunes {
        insert_old(&machine);
    }
    let (first_sender, first) = mpsc::channel();
    let committed = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let conn = trading_program(&machine);
            let mut committed = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                insert(&conn, committed.len() as u64);
                let position = Position::of_end(&machine, &conn);
                if committed.is_empty() {
                    first_sender.send(position).unwrap();
                }
                committed.push(position);
                // A WAL of 256 MiB would be a fault of its own.
                let wal = fs::metadata(machine.path("cts.db-wal")).map_or(0, |wal| wal.len());
                thread::sleep(if wal < 100 << 20 { pause } else { Duration::from_millis(20) });
            }
            committed
        });
        // Litestream takes a second and more to copy what is written that fast.
        let first = first.recv().unwrap();
        await_that("a row is replicated", || litestream.position().is_some_and(|p| p.has(first)));
        let pruning = prunes.then(|| scope.spawn(|| machine.cts("prune").success()));
        thread::sleep(moment);
        service.child.kill().unwrap();
        litestream.kill();
        is_over.store(true, Ordering::Relaxed);
        if let Some(pruning) = pruning {
            pruning.join().unwrap();
        }
        writer.join().unwrap()
    });
    let position = litestream.position().unwrap();
    let replicated = committed.iter().filter(|row| position.has(**row)).count();
    let restored = litestream.restore();
    let found = numbers(&restored);
    assert!(found.iter().copied().eq(0..found.len() as u64), "rows are missing in between");
    assert!(found.len() >= replicated, "{} of {replicated} rows", found.len());
    assert!(replicated > 0, "nothing was replicated until {position:?}");
    is_healthy(&machine, &restored);
    service.child.wait().unwrap();
    is_healthy(&machine, &machine.db());
}

#[test]
fn every_replicated_row_is_restored_after_both_were_killed() {
    let Some(program) = program() else { return };
    kill_both_and_restore(&program, &mut Random(0x9e37_79b9_7f4a_7c15));
}

#[test]
#[ignore = "sweep"]
fn every_replicated_row_is_restored_whenever_both_are_killed() {
    let Some(program) = program() else { return };
    let mut random = Random(0xd1b5_4a32_d192_ed03);
    for _ in 0..ROUNDS {
        kill_both_and_restore(&program, &mut random);
    }
}

/// Old rows that are deleted, and the pages that they leave, which move others and make the file shorter.
#[test]
fn what_is_pruned_and_given_back_is_replicated() {
    let Some(program) = program() else { return };
    let machine = Machine::new();
    let (service, litestream) = started(&machine, &program);
    insert_old(&machine);
    let conn = trading_program(&machine);
    insert(&conn, 0);
    litestream.await_all();
    let pages = || machine.number("PRAGMA page_count");
    let before = pages();
    machine.cts("prune").success();
    insert(&conn, 1);
    litestream.await_all();
    let after = pages();
    assert!(after < before / 5, "{after} pages of {before}");
    let restored = litestream.restore();
    assert_eq!(numbers(&restored), [0, 1]);
    let lines = |path: &Path| {
        let sql = "SELECT id || ' ' || message FROM site_logs ORDER BY id";
        let conn = Connection::open(path).unwrap();
        let mut statement = conn.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows.map(Result::unwrap).collect::<Vec<_>>()
    };
    assert_eq!(lines(&restored), lines(&machine.db()));
    is_healthy(&machine, &restored);
    assert_eq!(service.get("/api/health/database").code, 200);
}

/// The pages of the first rows are in no later frame: if the WAL were reset now, they would be missing.
#[test]
fn what_is_written_while_litestream_does_not_run_is_replicated_afterwards() {
    let Some(program) = program() else { return };
    let machine = Machine::new();
    let (service, mut litestream) = started(&machine, &program);
    let conn = trading_program(&machine);
    for number in 0..100 {
        insert(&conn, number);
    }
    litestream.await_all();
    litestream.kill();
    for number in 100..140 {
        insert(&conn, number);
    }
    // Two turns of the upkeep.
    thread::sleep(Duration::from_millis(2_200));
    machine.sql("UPDATE system_settings SET updated_at = 'later'");
    let litestream = Litestream::start(&machine, &program);
    litestream.await_all();
    let restored = litestream.restore();
    assert!(numbers(&restored).into_iter().eq(0..140));
    is_healthy(&machine, &restored);
    assert_eq!(service.get("/api/health/database").code, 200);
}

#[test]
fn a_long_wal_is_emptied_while_litestream_does_not_run_and_the_replica_begins_anew() {
    let Some(program) = program() else { return };
    let machine = Machine::new();
    let (service, mut litestream) = started(&machine, &program);
    let conn = trading_program(&machine);
    conn.execute_batch("PRAGMA wal_autocheckpoint = 0").unwrap();
    insert(&conn, 0);
    litestream.await_all();
    let wal_bytes = || fs::metadata(machine.path("cts.db-wal")).map_or(0, |wal| wal.len());
    litestream.kill();
    conn.execute_batch(
        "INSERT INTO site_logs (level, category, message) VALUES ('info', 'long', zeroblob(33 << 20))",
    )
    .unwrap();
    await_that("the WAL is emptied", || wal_bytes() < 33 << 20);
    insert(&conn, 1);
    let litestream = Litestream::start(&machine, &program);
    litestream.await_all();
    let restored = litestream.restore();
    assert_eq!(numbers(&restored), [0, 1]);
    is_healthy(&machine, &restored);
    assert_eq!(service.get("/api/health/database").code, 200);
    // Checkpoints are left to it from the start on.
    drop(litestream);
    assert_eq!(service.stop().0, Some(0));
    let service = machine.serve().start();
    service.until("has the tables of Litestream: checkpoints are left to it").until_ready();
}

#[test]
fn the_tables_of_litestream_are_neither_counted_nor_drift() {
    let Some(program) = program() else { return };
    let machine = Machine::new();
    let (service, _litestream) = started(&machine, &program);
    assert_eq!(
        machine.number("SELECT count(*) FROM sqlite_schema WHERE name LIKE '%litestream%'"),
        2
    );
    let answer = service.get("/api/health/database").json();
    assert_eq!(
        (&answer["status"], &answer["database"]["tableCount"]),
        (&"healthy".into(), &22.into())
    );
    is_healthy(&machine, &machine.db());
    machine.cts("status").success();
    machine.cts("repair").success();
}

/// The blocks of docs/litestream.md that are run here: set-up, trial, restore.
fn blocks() -> [&'static str; 3] {
    let page = include_str!("../../../docs/litestream.md");
    let blocks = page.split("tests/cts/service/litestream.rs runs this block").skip(1);
    let blocks = blocks.map(|rest| rest.split("```").nth(1).unwrap().strip_prefix("sh\n").unwrap());
    blocks.collect::<Vec<_>>().try_into().unwrap()
}

fn run_block(machine: &Container, block: &str) -> String {
    machine.ok(&format!("PATH=$PATH:/usr/local/bin\n{block}"))
}

/// A container with cts running, and with Litestream and the files of the package.
fn installed(program: PathBuf) -> Option<Container> {
    let examples = "/usr/share/doc/cts/litestream";
    let plan = ContainerPlan::bare()
        .with(env!("CARGO_BIN_EXE_cts").into(), "/usr/bin/cts")
        .with(program, "/usr/local/bin/litestream")
        .with(source("systemd/litestream.yml"), &format!("{examples}/litestream.yml"))
        .with(source("systemd/litestream.service"), &format!("{examples}/litestream.service"))
        .with(source("systemd/cts.service"), "/usr/lib/systemd/system/cts.service")
        .with(source("systemd/sysusers.d/cts.conf"), "/usr/lib/sysusers.d/cts.conf")
        .with(source("systemd/tmpfiles.d/cts.conf"), "/usr/lib/tmpfiles.d/cts.conf");
    let machine = plan.boot()?;
    machine.ok("systemd-sysusers; systemd-tmpfiles --create cts.conf; systemctl start cts");
    Some(machine)
}

#[test]
#[ignore = "sweep"]
fn the_page_sets_litestream_up_and_restores_on_a_booted_machine() {
    let Some(machine) = program().and_then(installed) else { return };
    let [set_up, trial, restore] = blocks();
    run_block(&machine, set_up);
    let replica = "/var/backups/cts-litestream/ltx/0";
    await_that("there is a replica", || {
        machine.sh(&format!("ls {replica}/*.ltx")).0.status.success()
    });
    let files = machine.ok(&format!("stat -c '%a %U' /etc/litestream.yml {replica}/*.ltx"));
    assert!(files.lines().eq(["644 root", "600 cts"]), "{files}");
    let rows = "SELECT count(*) FROM site_logs WHERE id = 4242";
    machine.ok("sqlite3 /data/cts.db \"INSERT INTO site_logs (id, level, category, message) VALUES (4242, 'i', 't', 'kept')\"");
    await_that("the row is replicated", || {
        run_block(
            &machine,
            &trial.replace(
                "rm -f trial.db*",
                &format!("sqlite3 trial.db \"{rows}\"; rm -f trial.db*"),
            ),
        )
        .ends_with('1')
    });
    // The log of cts has no warning afterwards.
    machine.ok("systemctl kill -s KILL litestream");
    await_that("it is restarted", || {
        machine.ok("systemctl is-active litestream || true") == "active"
    });
    let said = run_block(&machine, restore);
    assert!(said.contains("CTS OK") && said.contains("no drift"), "{said}");
    assert_eq!(machine.ok(&format!("sqlite3 /data/cts.db \"{rows}\"")), "1");
    let files = machine.ok("stat -c '%a %U %n' /data/cts.db /data/before-restore/cts.db");
    assert!(files.lines().all(|file| file.starts_with("600 cts ")), "{files}");
    await_that("there is a new replica", || {
        machine.sh(&format!("ls {replica}/*.ltx")).0.status.success()
    });
    assert_eq!(machine.log("-p warning"), "");
    machine.ok("curl -sf http://127.0.0.1:3000/readyz");
}
