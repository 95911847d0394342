//! A trading program whose transactions are recorded: each by a line in a file, which is written before the transaction is
//! committed, since it may be archived at once. A program that is killed in between has recorded one that there is not; the table
//! `own_history` tells those that there are.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime};

use rusqlite::Connection;
use rusqlite::config::DbConfig;
use sha2::{Digest, Sha256};

use crate::support::random::Random;

pub const CREATE: &str = "CREATE TABLE own (id INTEGER PRIMARY KEY, x INTEGER, filling BLOB); \
    CREATE INDEX own_x ON own (x); CREATE TABLE own_history (n INTEGER PRIMARY KEY, token TEXT NOT NULL)";
/// Debian's, with an older SQLite.
const PYTHON: &str = "/usr/bin/python3";
/// Tells a process of this program that it is a writer, and what it writes.
const WRITER: &str = "CTS_TEST_WRITER";

/// How long a transaction waits for the others, on a busy machine too; and how long a checkpoint does, which may keep the others
/// waiting meanwhile.
const BUSY_TIMEOUT: Duration = Duration::from_secs(60);
const MAINTENANCE_TIMEOUT: Duration = Duration::from_secs(5);

/// What the programs of a workload share.
#[derive(Clone)]
pub struct Writer {
    pub db: PathBuf,
    pub records: PathBuf,
    /// They end once there is such a file.
    pub stop: PathBuf,
}

/// A state of the database: the number of its last transaction, that one's random name, and the digest of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    pub n: u64,
    pub token: String,
    pub digest: String,
}

/// The state of a database, and the names of all its transactions.
pub fn state_of(conn: &Connection) -> (Recorded, Vec<String>) {
    let mut statement = conn.prepare("SELECT token FROM own_history ORDER BY n").unwrap();
    let tokens = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap);
    let tokens: Vec<String> = tokens.collect();
    let token = tokens.last().cloned().unwrap_or_default();
    (Recorded { n: tokens.len() as u64, token, digest: digest(conn) }, tokens)
}

/// What was recorded, by the name of the transaction: the state after it, and when it was about to be committed, in
/// milliseconds since 1970.
pub fn recorded(path: &Path) -> HashMap<String, (Recorded, u64)> {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let [n, token, digest, at] = words[..] else { panic!("{line}") };
        let (token, digest) = (token.to_string(), digest.to_string());
        (token.clone(), (Recorded { n: n.parse().unwrap(), token, digest }, at.parse().unwrap()))
    });
    lines.collect()
}

/// The SHA-256 of the schema and the rows of all tables of the writers.
fn digest(conn: &Connection) -> String {
    let mut found = Sha256::new();
    let mut add = |sql: &str| {
        let mut statement = conn.prepare(sql).unwrap();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            found.update(row.get_ref(0).unwrap().as_bytes().unwrap());
            found.update(b"\n");
        }
    };
    add("SELECT type || '|' || name || '|' || coalesce(sql, '') FROM sqlite_schema \
         WHERE tbl_name GLOB 'own*' ORDER BY name");
    let tables = "SELECT name, (SELECT group_concat('quote(\"' || name || '\")', ' || ') \
        FROM pragma_table_info(s.name)) FROM sqlite_schema s \
        WHERE type = 'table' AND name GLOB 'own*' ORDER BY name";
    let mut statement = conn.prepare(tables).unwrap();
    let tables = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let tables: Vec<(String, String)> = tables.map(Result::unwrap).collect();
    for (table, values) in tables {
        add(&format!("SELECT {values} FROM {table} ORDER BY rowid"));
    }
    found.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Writer {
    /// Starts one as a process: with the SQLite of this program, or an older one.
    pub fn start(&self, is_older: bool, seed: u64) -> Child {
        let paths = [&self.db, &self.records, &self.stop];
        let mut command = match is_older {
            true => {
                let script = "tests/cts/sqlite/archive/workloads/writer.py";
                let mut command = Command::new(PYTHON);
                command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(script));
                command.args(paths).arg(seed.to_string());
                command
            }
            false => {
                let mut command = Command::new(std::env::current_exe().unwrap());
                command.args(["--exact", "sqlite::archive::workloads::writer::a_writer_records"]);
                let paths = paths.map(|path| path.to_str().unwrap()).join("|");
                command.env(WRITER, format!("{paths}|{seed}"));
                command
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
    }

    /// Writes until the end.
    pub fn run(&self, seed: u64) {
        let mut random = Random(seed);
        let conn = Connection::open(&self.db).unwrap();
        conn.busy_timeout(BUSY_TIMEOUT).unwrap();
        let keeps_wal = random.below(2) == 0;
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keeps_wal).unwrap();
        let synchronous = ["OFF", "NORMAL", "FULL"][random.below(3)];
        let checkpoint = [0, 20, 1000][random.below(3)];
        let cache = [2, 10, 500][random.below(3)];
        conn.execute_batch(&format!(
            "PRAGMA synchronous = {synchronous}; PRAGMA wal_autocheckpoint = {checkpoint}; PRAGMA cache_size = {cache}"
        ))
        .unwrap();
        while !self.stop.exists() {
            self.transact(&conn, &mut random);
            let statement = match random.below(60) {
                0 => "VACUUM".to_string(),
                1 => "PRAGMA incremental_vacuum(30)".to_string(),
                2 => checkpoint_of(&mut random),
                _ => String::new(),
            };
            // Others may hold its locks.
            conn.busy_timeout(MAINTENANCE_TIMEOUT).unwrap();
            let _ = conn.execute_batch(&statement);
            conn.busy_timeout(BUSY_TIMEOUT).unwrap();
            thread::sleep(Duration::from_millis(random.below(5) as u64));
        }
    }

    /// One transaction, which may be rolled back as a whole or in part.
    pub fn transact(&self, conn: &Connection, random: &mut Random) {
        conn.execute_batch("BEGIN IMMEDIATE").unwrap();
        let most = if random.below(25) == 0 { 200 } else { 10 };
        let count = 1 + random.below(most);
        change(conn, random, count, 1500);
        if random.below(3) == 0 {
            conn.execute_batch("SAVEPOINT s").unwrap();
            let count = 1 + random.below(60);
            change(conn, random, count, 6000);
            conn.execute_batch("ROLLBACK TO s").unwrap();
            if random.below(2) == 0 {
                change(conn, random, 4, 1500);
            }
            conn.execute_batch("RELEASE s").unwrap();
        }
        if random.below(25) == 0 {
            let name = format!("own_extra{}", random.below(3));
            let sql = format!(
                "DROP TABLE IF EXISTS {name}; CREATE TABLE {name} (id INTEGER PRIMARY KEY, y TEXT UNIQUE); \
                 INSERT INTO {name} SELECT id, hex(randomblob(9)) FROM own LIMIT 40"
            );
            conn.execute_batch(&sql).unwrap();
        }
        if random.below(30) == 0 {
            let sql = "CREATE TABLE own_new (id INTEGER PRIMARY KEY, x INTEGER, filling BLOB); \
                INSERT INTO own_new SELECT * FROM own; DROP TABLE own; \
                ALTER TABLE own_new RENAME TO own; CREATE INDEX own_x ON own (x)";
            conn.execute_batch(sql).unwrap();
        }
        if random.below(8) == 0 {
            return conn.execute_batch("ROLLBACK").unwrap();
        }
        let sql = "INSERT INTO own_history SELECT coalesce(max(n), 0) + 1, ?1 FROM own_history";
        conn.execute(sql, [format!("{:016x}", random.next())]).unwrap();
        self.record(&state_of(conn).0);
        conn.execute_batch("COMMIT").unwrap();
    }

    pub fn record(&self, state: &Recorded) {
        let mut records = OpenOptions::new().append(true).create(true).open(&self.records).unwrap();
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
        let line = format!("{} {} {} {at}\n", state.n, state.token, state.digest);
        records.write_all(line.as_bytes()).unwrap();
    }
}

/// The statement of one of the four kinds of checkpoints.
pub fn checkpoint_of(random: &mut Random) -> String {
    let mode = ["PASSIVE", "FULL", "RESTART", "TRUNCATE"][random.below(4)];
    format!("PRAGMA wal_checkpoint({mode})")
}

fn change(conn: &Connection, random: &mut Random, count: usize, size: usize) {
    for _ in 0..count {
        let (id, x, bytes) = (random.below(300), random.below(1 << 30), random.below(size));
        match random.below(5) {
            0 => conn.execute("DELETE FROM own WHERE id BETWEEN ?1 AND ?1 + 20", [id]).unwrap(),
            _ => {
                let sql = "INSERT OR REPLACE INTO own VALUES (?1, ?2, randomblob(?3))";
                conn.execute(sql, [id, x, bytes]).unwrap()
            }
        };
    }
}

/// A writer as a process of its own, which can be killed, where the environment asks for one; else one transaction.
#[test]
fn a_writer_records() {
    if let Ok(text) = std::env::var(WRITER) {
        let words: Vec<&str> = text.split('|').collect();
        let [db, records, stop, seed] = words[..] else { panic!("{text}") };
        let writer = Writer { db: db.into(), records: records.into(), stop: stop.into() };
        return writer.run(seed.parse().unwrap());
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let writer = Writer { db: path("db"), records: path("records"), stop: path("stop") };
    let conn = Connection::open(&writer.db).unwrap();
    conn.execute_batch(CREATE).unwrap();
    let mut random = Random(1);
    while !writer.records.exists() {
        writer.transact(&conn, &mut random);
    }
    let state = state_of(&conn).0;
    assert_eq!(recorded(&writer.records)[&state.token].0, state);
}
