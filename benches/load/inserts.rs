//! How fast rows are inserted into the big tables, one by one and many a transaction, and how
//! much of that goes through the WAL.
//!
//! Every figure pays its debts: the checkpoint after the last row is timed too. The rows are
//! deleted again, untimed, so that the tables keep their size.

use std::time::Instant;

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::Result;
use crate::figures::{Goal, Line, Rounds};
use crate::rows::{BIG, Order, Table};
use crate::settings::Settings;
use crate::side::{Side, checkpoint};
use crate::world::World;

const ROUNDS: usize = 5;
/// Rows in a transaction, and rows in a measurement.
const BATCHES: [(usize, usize); 3] = [(1, 400), (100, 4000), (1000, 8000)];

/// An insert statement, its rows, and after which row they come.
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

impl Batch {
    /// Rows that go on where the table ends when the big tables together hold `rows`.
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

    /// Rows a second.
    fn rate(&self, conn: &Connection, settings: Settings) -> Result<f64> {
        settings.apply(conn)?;
        let begun = Instant::now();
        let before = self.insert(conn, settings)?;
        checkpoint(conn, "PASSIVE")?;
        let rate = self.rows.len() as f64 / begun.elapsed().as_secs_f64();
        self.take_back(conn, before)?;
        Ok(rate)
    }

    fn wal_per_row(&self, conn: &Connection, side: &Side) -> Result<f64> {
        let settings = side.settings.without_checkpoints();
        settings.apply(conn)?;
        checkpoint(conn, "TRUNCATE")?;
        let before = self.insert(conn, settings)?;
        let bytes = side.wal_bytes()?;
        self.take_back(conn, before)?;
        Ok(bytes as f64 / self.rows.len() as f64)
    }

    /// Returns the highest id there was.
    fn insert(&self, conn: &Connection, settings: Settings) -> Result<i64> {
        let highest = format!("SELECT coalesce(max(id), 0) FROM {}", self.table);
        let before = conn.query_row(&highest, [], |row| row.get(0))?;
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

    fn take_back(&self, conn: &Connection, before: i64) -> Result<()> {
        conn.execute(&format!("DELETE FROM {} WHERE id > ?1", self.table), [before])?;
        checkpoint(conn, "PASSIVE")
    }
}
