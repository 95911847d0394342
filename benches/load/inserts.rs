//! Insert rate of the large tables, with one row and with many rows per transaction, and the bytes
//! written to the WAL.
//!
//! The checkpoint after the last row is included in the time. The rows are deleted afterwards, not
//! timed, so that the tables keep their size.

use std::time::{Duration, Instant};

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::Result;
use crate::appliance::Appliance;
use crate::figures::{Goal, Line, Rounds};
use crate::rows::{BIG, Order, Table};
use crate::settings::{DEFAULTS, Settings};
use crate::side::{Side, checkpoint};
use crate::world::World;

const ROUNDS: usize = 5;
/// Rounds of the sustained inserts, and the duration of each.
const LONG_ROUNDS: usize = 1;
const LONG: Duration = Duration::from_secs(2);
/// Rows in a transaction, and rows in a measurement.
const BATCHES: [(usize, usize); 3] = [(1, 300), (100, 3000), (1000, 6000)];

/// An insert statement, its rows, and the id of the row before them.
struct Batch {
    table: &'static str,
    sql: String,
    rows: Vec<Vec<Value>>,
    size: usize,
    order: Order,
}

pub fn measure(
    ours: &Side,
    baseline: &Side,
    bare: &Side,
    world: &World,
    rows: u64,
) -> Result<Vec<Line>> {
    let open = |side: &Side| side.open(side.settings);
    let (our_conn, baseline_conn, bare_conn) = (open(ours)?, open(baseline)?, open(bare)?);
    let sides = [
        (&our_conn, ours.settings),
        (&baseline_conn, baseline.settings),
        (&baseline_conn, ours.settings),
        (&bare_conn, bare.settings),
    ];
    let mut lines = Vec::new();
    let orders = |name| match name {
        "indications_direction" => [Order::Cycles, Order::Scattered].as_slice(),
        _ => &[Order::Cycles],
    };
    let kinds = BIG.iter().filter_map(|name| Table::named(name));
    for (table, &order) in
        kinds.flat_map(|table| orders(table.name).iter().map(move |o| (table, o)))
    {
        for (size, many) in BATCHES {
            let batch = Batch::new(table, world, rows, size, many, order);
            let rates = Rounds::take(ROUNDS, sides.len(), |_, side| {
                let (conn, settings) = sides[side];
                Ok(vec![batch.rate(conn, settings)?])
            })?;
            let line = |side, what| rates.line(side, batch.title(what), rows, "rows/s");
            lines.push(line(1, "own settings").goal(Goal::RatioAtLeast(1.0)));
            lines.push(line(2, "equal settings").goal(Goal::RatioAtLeast(0.55)));
            lines.push(line(3, "beside no indexes"));
            let wal = batch.wal_per_row(&our_conn, ours)?;
            let line = Line::new(batch.title("WAL"), rows, "bytes/row", wal.into());
            lines.push(line.beside(batch.wal_per_row(&baseline_conn, baseline)?.into()));
        }
    }
    Ok(lines)
}

/// Inserts for this long, 100 rows per transaction, while the appliance checkpoints for cts and the
/// baseline checkpoints itself.
pub fn sustained(ours: &Side, baseline: &Side, world: &World, rows: u64) -> Result<Vec<Line>> {
    let appliance = Appliance::start(ours)?;
    let mut lines = Vec::new();
    let mut largest_wal = 0;
    for table in [BIG[0], BIG[1]].iter().filter_map(|name| Table::named(name)) {
        let rates = Rounds::take(LONG_ROUNDS, 2, |_, side| {
            let side = [ours, baseline][side];
            let rate = insert_for(LONG, side, table, world, rows)?;
            largest_wal = if side.name == ours.name {
                largest_wal.max(side.wal_bytes()?)
            } else {
                largest_wal
            };
            Ok(vec![rate])
        })?;
        let title = format!("insert {} for {} s, by 100, own settings", table.name, LONG.as_secs());
        lines.push(rates.line(1, title, rows, "rows/s").goal(Goal::RatioAtLeast(1.0)));
    }
    let largest_wal = largest_wal as f64 / f64::from(1 << 20);
    lines.push(Line::new("insert on and on, largest WAL", rows, "MiB", largest_wal.into()));
    appliance.stop()?;
    Ok(lines)
}

/// Rows per second of transaction time.
fn insert_for(
    time: Duration,
    side: &Side,
    table: &'static Table,
    world: &World,
    rows: u64,
) -> Result<f64> {
    const SIZE: u64 = 100;
    let conn = side.open(side.settings)?;
    let (begun, mut spent, mut done) = (Instant::now(), Duration::ZERO, 0);
    let before = highest(&conn, table.name)?;
    let mut insert = conn.prepare(&table.insert())?;
    let mut retire = table.retire_some().map(|sql| conn.prepare(&sql)).transpose()?;
    while begun.elapsed() < time {
        let first = table.count(rows) + done;
        let new: Vec<_> = (first..first + SIZE)
            .map(|number| table.row(world, number, true, Order::Cycles))
            .collect();
        let begun = Instant::now();
        conn.execute_batch(side.settings.begin())?;
        for row in &new {
            insert.execute(params_from_iter(row))?;
        }
        conn.execute_batch("COMMIT")?;
        spent += begun.elapsed();
        done += SIZE;
        // The same number of rows becomes history, not timed.
        if let Some(retire) = &mut retire {
            let last = (table.first_live(rows) + done) as i64;
            retire.execute([last - SIZE as i64, last])?;
        }
    }
    drop((insert, retire));
    take_back(&conn, table.name, before)?;
    Ok(done as f64 / spent.as_secs_f64())
}

/// The effect of each recommended setting: cts, compared with cts with SQLite's default for that one.
pub fn settings(ours: &Side, world: &World, rows: u64) -> Result<Vec<Line>> {
    let all = ours.settings;
    let without = [
        ("synchronous", Settings { synchronous: DEFAULTS.synchronous, ..all }),
        ("cache_size", Settings { cache: DEFAULTS.cache, ..all }),
        ("wal_autocheckpoint", Settings { wal_autocheckpoint: DEFAULTS.wal_autocheckpoint, ..all }),
    ];
    let conn = ours.open(all)?;
    let table = Table::named(BIG[0]).ok_or("no such table")?;
    let mut lines = Vec::new();
    for (size, many) in BATCHES {
        let batch = Batch::new(table, world, rows, size, many, Order::Cycles);
        let rates = Rounds::take(ROUNDS, 1 + without.len(), |_, side| {
            let settings = if side == 0 { all } else { without[side - 1].1 };
            Ok(vec![batch.rate(&conn, settings)?])
        })?;
        for (number, (name, _)) in without.iter().enumerate() {
            lines.push(rates.line(
                number + 1,
                batch.title(&format!("default {name}")),
                rows,
                "rows/s",
            ));
        }
    }
    Ok(lines)
}

fn highest(conn: &Connection, table: &str) -> Result<i64> {
    Ok(conn.query_row(&format!("SELECT coalesce(max(id), 0) FROM {table}"), [], |row| row.get(0))?)
}

/// Deletes the rows inserted after that id, not timed.
fn take_back(conn: &Connection, table: &str, before: i64) -> Result<()> {
    conn.execute(&format!("DELETE FROM {table} WHERE id > ?1"), [before])?;
    checkpoint(conn, "PASSIVE")
}

impl Batch {
    /// Rows that continue a table when the large tables together hold `rows`.
    fn new(
        table: &'static Table,
        world: &World,
        rows: u64,
        size: usize,
        many: usize,
        order: Order,
    ) -> Self {
        let numbers = table.count(rows)..table.count(rows) + many as u64;
        let rows = numbers.map(|number| table.row(world, number, true, order)).collect();
        Self { table: table.name, sql: table.insert(), rows, size, order }
    }

    fn title(&self, what: &str) -> String {
        let order = if self.order == Order::Scattered { " scattered" } else { "" };
        format!("insert {}{order}, by {}, {what}", self.table, self.size)
    }

    /// Rows per second.
    fn rate(&self, conn: &Connection, settings: Settings) -> Result<f64> {
        settings.apply(conn)?;
        let begun = Instant::now();
        let before = self.insert(conn, settings)?;
        checkpoint(conn, "PASSIVE")?;
        let rate = self.rows.len() as f64 / begun.elapsed().as_secs_f64();
        take_back(conn, self.table, before)?;
        Ok(rate)
    }

    fn wal_per_row(&self, conn: &Connection, side: &Side) -> Result<f64> {
        let settings = side.settings.without_checkpoints();
        settings.apply(conn)?;
        checkpoint(conn, "TRUNCATE")?;
        let before = self.insert(conn, settings)?;
        let bytes = side.wal_bytes()?;
        take_back(conn, self.table, before)?;
        Ok(bytes as f64 / self.rows.len() as f64)
    }

    /// Returns the highest id before the rows were inserted.
    fn insert(&self, conn: &Connection, settings: Settings) -> Result<i64> {
        let before = highest(conn, self.table)?;
        let mut insert = conn.prepare(&self.sql)?;
        for transaction in self.rows.chunks(self.size) {
            conn.execute_batch(settings.begin())?;
            for row in transaction {
                insert.execute(params_from_iter(row))?;
            }
            conn.execute_batch("COMMIT")?;
        }
        Ok(before)
    }
}
