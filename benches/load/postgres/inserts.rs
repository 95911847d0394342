//! Duration of inserts into the large tables on PostgreSQL: one row, or many rows in one statement,
//! or by COPY, each committed to the disk; and the bytes written to the WAL.
//!
//! The rows are deleted afterwards, not timed, so that the tables keep their size.

use std::time::Instant;

use postgres::Client;
use rusqlite::types::Value;

use crate::Result;
use crate::figures::{Goal, Line, Rounds};
use crate::postgres::fill::copy;
use crate::postgres::parameters::{Parameter, borrowed, parameters};
use crate::postgres::side::{PostgresSide, connect_both, highest, take_back, wal_position};
use crate::rows::{BIG, Order, Table};
use crate::world::World;

const ROUNDS: usize = 7;

/// How the rows of a transaction are sent.
#[derive(Clone, Copy)]
enum Way {
    /// One statement with so many rows.
    Insert(usize),
    /// COPY of so many rows.
    Copy(usize),
}

/// The ways, and transactions in a measurement.
const WAYS: [(Way, usize); 4] =
    [(Way::Insert(1), 100), (Way::Insert(100), 20), (Way::Insert(1000), 4), (Way::Copy(10_000), 1)];
const TIME_GOAL: Goal = Goal::RatioAtMost(1.15);
pub const WAL_GOAL: Goal = Goal::RatioAtMost(1.1);

pub fn measure(sides: [&PostgresSide; 2], world: &World, rows: u64) -> Result<Vec<Line>> {
    let mut clients = connect_both(sides)?;
    let mut lines = Vec::new();
    for table in BIG.iter().filter_map(|name| Table::named(name)) {
        for (way, transactions) in WAYS {
            lines.extend(measure_way(&mut clients, table, way, transactions, world, rows)?);
        }
    }
    Ok(lines)
}

fn measure_way(
    clients: &mut [Client; 2],
    table: &'static Table,
    way: Way,
    transactions: usize,
    world: &World,
    rows: u64,
) -> Result<[Line; 2]> {
    let before = [highest(&mut clients[0], table.name)?, highest(&mut clients[1], table.name)?];
    let mut wal = [Vec::new(), Vec::new()];
    let rounds = Rounds::take(ROUNDS, 2, |round, side| {
        let many = way.rows() * transactions;
        let first = table.count(rows) + (round * many) as u64;
        let rows: Vec<_> = (first..first + many as u64)
            .map(|number| table.row(world, number, true, Order::Cycles))
            .collect();
        let start = wal_position(&mut clients[side])?;
        let samples = way.insert(&mut clients[side], table, &rows)?;
        wal[side].push(vec![(wal_position(&mut clients[side])? - start) / many as f64]);
        Ok(samples)
    })?;
    for (client, before) in clients.iter_mut().zip(before) {
        take_back(client, table.name, before)?;
    }
    let title = format!("insert {}, by {}", table.name, way.title());
    let wal = Rounds::of(wal).line(1, format!("{title}, WAL"), rows, "bytes/row");
    Ok([rounds.line(1, title, rows, "us").goal(TIME_GOAL), wal.goal(WAL_GOAL)])
}

impl Way {
    fn rows(self) -> usize {
        match self {
            Self::Insert(rows) | Self::Copy(rows) => rows,
        }
    }

    fn title(self) -> String {
        match self {
            Self::Insert(rows) => rows.to_string(),
            Self::Copy(_) => "COPY".to_owned(),
        }
    }

    /// The duration of each transaction, in microseconds.
    fn insert(self, client: &mut Client, table: &Table, rows: &[Vec<Value>]) -> Result<Vec<f64>> {
        match self {
            Self::Insert(size) => MultiRowInsert::prepare(client, table, size)?.run(client, rows),
            Self::Copy(_) => {
                let begun = Instant::now();
                copy(client, table, rows.iter().cloned())?;
                Ok(vec![begun.elapsed().as_secs_f64() * 1e6])
            }
        }
    }
}

/// A prepared statement that inserts a fixed number of rows.
pub struct MultiRowInsert {
    statement: postgres::Statement,
    size: usize,
}

impl MultiRowInsert {
    pub fn prepare(client: &mut Client, table: &Table, size: usize) -> Result<Self> {
        let statement = client.prepare(&table.insert_many(size))?;
        Ok(Self { statement, size })
    }

    /// Inserts the rows, one transaction per statement. In microseconds each.
    pub fn run(&self, client: &mut Client, rows: &[Vec<Value>]) -> Result<Vec<f64>> {
        let mut samples = Vec::new();
        for rows in rows.chunks(self.size) {
            let values = self.values(rows)?;
            let values = borrowed(&values);
            let begun = Instant::now();
            client.execute(&self.statement, &values)?;
            samples.push(begun.elapsed().as_secs_f64() * 1e6);
        }
        Ok(samples)
    }

    fn values(&self, rows: &[Vec<Value>]) -> Result<Vec<Parameter>> {
        parameters(&rows.concat(), self.statement.params())
    }
}
