//! One process of the crowd. It gets its task as JSON and prints what it saw as JSON.

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
use crate::shapes::{Binder, Shape, shapes};
use crate::side::{open, wal_bytes};
use crate::world::{Moment, World};

/// How long a program does something else between two transactions, in milliseconds. Eight
/// writers come to about four hundred transactions a second, of three rows each.
const WRITER_PAUSE: u64 = 20;
const READER_PAUSE: u64 = 4;
/// After how long a program tries again that was told SQLITE_BUSY.
const RETRY: Duration = Duration::from_millis(1);
/// The look-ups that readers make, by number.
const READ: [&str; 7] = ["H01", "H02", "H08", "H10", "H18", "H20", "H25"];

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Role {
    Writer,
    Reader,
}

#[derive(Serialize, Deserialize)]
pub struct Task {
    pub role: Role,
    /// Among those of its role.
    pub number: u64,
    pub path: PathBuf,
    pub settings: Settings,
    /// That the tables hold together.
    pub rows: u64,
    /// When all begin, in milliseconds since 1970.
    pub start_ms: u64,
    pub seconds: u64,
}

#[derive(Default, Serialize, Deserialize)]
pub struct Seen {
    /// How long each transaction took with all its retries, in milliseconds.
    pub ms: Vec<f64>,
    /// How often SQLite said SQLITE_BUSY.
    pub busy: u64,
    /// In bytes.
    pub largest_wal: u64,
}

impl Seen {
    pub fn add(&mut self, other: Self) {
        self.ms.extend(other.ms);
        self.busy += other.busy;
    }

    /// Times an act that is tried until it is not refused.
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
        // Else all would begin with the same collision.
        sleep(Duration::from_millis(self.number * READER_PAUSE));
        let end = Instant::now() + Duration::from_secs(self.seconds);
        let mut seen = match self.role {
            Role::Writer => self.write(&conn, end)?,
            Role::Reader => self.read(&conn, end)?,
        };
        seen.largest_wal = seen.largest_wal.max(wal_bytes(&self.path)?);
        Ok(seen)
    }

    /// Checks a limit, as a program does before it opens a position, then inserts a row into each big table.
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
                    // What went wrong is what counts; SQLite may have rolled back by itself.
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

fn shape(number: &str) -> Result<Shape> {
    let found = shapes().find(|shape| shape.number == number);
    found.ok_or_else(|| format!("{number}: not in the shapes file").into())
}
