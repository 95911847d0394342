//! One of the concurrent processes. It receives its task as JSON and prints its measurements as JSON.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, Statement, params_from_iter};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::lookups::{live_positions, run};
use crate::random::Random;
use crate::rows::{BIG, Order, Table};
use crate::settings::Settings;
use crate::shapes::{Binder, shape};
use crate::side::{open, wal_bytes};
use crate::world::{Moment, World};

/// Mean pause between two transactions of a writer, in milliseconds. Eight writers make about four
/// hundred transactions a second, of three rows each.
pub const WRITER_PAUSE: u64 = 20;
pub const READER_PAUSE: u64 = 4;
/// A committer that is so late does not make up for it.
const LATE: Duration = Duration::from_secs(1);
/// Pause before a transaction that failed with SQLITE_BUSY is retried.
const RETRY: Duration = Duration::from_millis(1);
/// The queries of a reader, by their number in the shapes file.
pub const READ: [&str; 7] = ["H01", "H02", "H08", "H10", "H18", "H20", "H25"];

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Role {
    Writer,
    Reader,
    /// Commits one row after the other, at a fixed rate or as fast as it can. With the table's indexes, a
    /// commit writes two pages and more.
    Committer {
        per_second: Option<u32>,
        message_bytes: u32,
    },
    /// Reads all the time, each read in a transaction of this duration.
    LongReader {
        read_ms: u64,
    },
}

#[derive(Serialize, Deserialize)]
pub struct Task {
    pub role: Role,
    /// Number of the process among those with the same role.
    pub number: u64,
    pub path: PathBuf,
    pub settings: Settings,
    /// Rows of the large tables together.
    pub rows: u64,
    /// When all processes start, in milliseconds since 1970.
    pub start_ms: u64,
    pub seconds: u64,
}

#[derive(Default, Serialize, Deserialize)]
pub struct Seen {
    /// Duration of each transaction with all its retries, in milliseconds.
    pub ms: Vec<f64>,
    /// Number of SQLITE_BUSY errors.
    pub busy: u64,
    /// Largest size of the WAL, in bytes.
    pub largest_wal: u64,
}

impl Seen {
    pub fn add(&mut self, other: Self) {
        self.ms.extend(other.ms);
        self.busy += other.busy;
    }

    /// Measures an action that is retried until it does not fail with SQLITE_BUSY.
    fn time(&mut self, mut act: impl FnMut() -> rusqlite::Result<()>) -> Result<()> {
        let begun = Instant::now();
        while let Err(error) = act() {
            if error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) {
                return Err(error.into());
            }
            self.busy += 1;
            sleep(RETRY);
        }
        self.ms.push(begun.elapsed().as_secs_f64() * 1e3);
        Ok(())
    }
}

impl Task {
    pub fn work(&self) -> Result<Seen> {
        let conn = open(&self.path, self.settings)?;
        let start = SystemTime::UNIX_EPOCH + Duration::from_millis(self.start_ms);
        sleep(start.duration_since(SystemTime::now()).unwrap_or_default());
        // Staggered, since otherwise all would collide at the first statement.
        sleep(Duration::from_millis(self.number * READER_PAUSE));
        let end = Instant::now() + Duration::from_secs(self.seconds);
        let mut seen = match self.role {
            Role::Writer => self.write(&conn, end)?,
            Role::Reader => self.read(&conn, end)?,
            Role::Committer { per_second, message_bytes } => {
                commit_rows(&conn, end, per_second, message_bytes)?
            }
            Role::LongReader { read_ms } => read_long(&conn, end, Duration::from_millis(read_ms))?,
        };
        seen.largest_wal = seen.largest_wal.max(wal_bytes(&self.path)?);
        Ok(seen)
    }

    /// Checks a limit, as a program does before it opens a position, then inserts a row into each large table.
    fn write(&self, conn: &Connection, end: Instant) -> Result<Seen> {
        let world = World::new();
        let limit = shape("H10")?;
        let mut check = conn.prepare(limit.sql)?;
        let tables: Vec<_> = BIG.iter().filter_map(|name| Table::named(name)).collect();
        let inserts: rusqlite::Result<Vec<_>> =
            tables.iter().map(|table| conn.prepare(&table.insert())).collect();
        let mut inserts = inserts?;
        let mut binder = self.binder(&world, &[]);
        let mut seen = Seen::default();
        for turn in 0.. {
            if Instant::now() > end {
                break;
            }
            let number = |table: &Table| table.count(self.rows) + turn * 100 + self.number;
            let rows: Vec<_> = tables
                .iter()
                .map(|table| table.row(&world, number(table), true, Order::Scattered))
                .collect();
            let question = binder.draw(&limit);
            seen.time(|| {
                conn.execute_batch(self.settings.begin())?;
                let done = transact(conn, &mut check, &question, &mut inserts, &rows);
                if done.is_err() {
                    // The first error is reported; SQLite may have rolled back already.
                    let _ = conn.execute_batch("ROLLBACK");
                }
                done
            })?;
            sleep(Duration::from_millis(binder.random.below(2 * WRITER_PAUSE)));
        }
        Ok(seen)
    }

    fn read(&self, conn: &Connection, end: Instant) -> Result<Seen> {
        let world = World::new();
        let live = live_positions(conn)?;
        let shapes: Result<Vec<_>> = READ.iter().map(|number| shape(number)).collect();
        let mut reads = Vec::new();
        for shape in shapes? {
            reads.push((conn.prepare(shape.sql)?, shape));
        }
        let mut binder = self.binder(&world, &live);
        let mut seen = Seen::default();
        while Instant::now() < end {
            let which = binder.random.below(reads.len() as u64) as usize;
            let (statement, shape) = &mut reads[which];
            let values = binder.draw(shape);
            seen.time(|| run(statement, &values))?;
            sleep(Duration::from_millis(binder.random.below(2 * READER_PAUSE)));
        }
        Ok(seen)
    }

    fn binder<'a>(&self, world: &'a World, live: &'a [i64]) -> Binder<'a> {
        let seed = self.number << 1 | u64::from(self.role == Role::Reader);
        Binder { world, random: Random::new(seed), now: Moment(self.rows), live }
    }
}

fn commit_rows(
    conn: &Connection,
    end: Instant,
    per_second: Option<u32>,
    message_bytes: u32,
) -> Result<Seen> {
    let mut insert = conn.prepare(
        "INSERT INTO site_logs (level, category, message) VALUES ('info', 'app', zeroblob(?1))",
    )?;
    let interval = per_second.map_or(Duration::ZERO, |rate| Duration::from_secs(1) / rate);
    let (mut seen, mut next) = (Seen::default(), Instant::now());
    while Instant::now() < end {
        sleep(next.saturating_duration_since(Instant::now()));
        seen.time(|| insert.execute([message_bytes]).map(|_| ()))?;
        next = (next + interval).max(Instant::now() - LATE);
    }
    Ok(seen)
}

fn read_long(conn: &Connection, end: Instant, duration: Duration) -> Result<Seen> {
    let mut seen = Seen::default();
    while Instant::now() < end {
        seen.time(|| {
            conn.execute_batch("BEGIN; SELECT count(*) FROM users")?;
            sleep(duration);
            conn.execute_batch("COMMIT")
        })?;
    }
    Ok(seen)
}

fn transact(
    conn: &Connection,
    check: &mut Statement,
    question: &[Value],
    inserts: &mut [Statement],
    rows: &[Vec<Value>],
) -> rusqlite::Result<()> {
    run(check, question)?;
    for (insert, row) in inserts.iter_mut().zip(rows) {
        insert.execute(params_from_iter(row))?;
    }
    conn.execute_batch("COMMIT")
}
