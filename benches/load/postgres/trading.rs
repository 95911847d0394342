//! The trading loop on PostgreSQL: write 100 indications, expire 100, and look up 35 times (20 × H01,
//! 10 × H02, 5 × H03); for some rounds, and then without a pause while autovacuum works.

use std::time::{Duration, Instant};

use postgres::{Client, Statement};

use crate::Result;
use crate::figures::{Goal, Line, Rounds, Spread, quantile};
use crate::postgres::inserts::{MultiRowInsert, WAL_GOAL};
use crate::postgres::lookups::run;
use crate::postgres::parameters::{Parameter, parameters, with_dollars};
use crate::postgres::side::{PostgresSide, connect_both, wal_position};
use crate::postgres::updates::expire;
use crate::random::Random;
use crate::rows::{BIG, Order, Table};
use crate::shapes::{Binder, shape};
use crate::world::{Moment, SEED, World};

const ROUNDS: usize = 7;
const LOOPS: usize = 10;
const SIZE: u64 = 100;
/// The look-ups of a loop, how many of each, and the rows that each asks for.
const LOOKUPS: [(&str, usize, i64); 3] = [("H01", 20, 50), ("H02", 10, 20), ("H03", 5, 100)];
/// The window of H03, in seconds.
const WINDOW: u64 = 300;
/// Autovacuum begins within 5 s of the threshold, and takes some seconds; measured in parts.
const PARTS: u64 = 4;

/// A trading program on one side.
struct Trader<'a> {
    client: Client,
    world: &'a World,
    table: &'static Table,
    insert: MultiRowInsert,
    lookups: Vec<Statement>,
    /// The number of the next row.
    next: u64,
    random: Random,
}

pub fn measure(sides: [&PostgresSide; 2], world: &World, rows: u64) -> Result<Vec<Line>> {
    let [ours, baseline] = connect_both(sides)?;
    let mut traders = [Trader::new(ours, world, rows)?, Trader::new(baseline, world, rows)?];
    let mut wal = [Vec::new(), Vec::new()];
    let rounds = Rounds::take(ROUNDS, 2, |_, side| {
        let trader = &mut traders[side];
        let start = wal_position(&mut trader.client)?;
        let samples: Result<Vec<_>> = (0..LOOPS).map(|_| trader.trade()).collect();
        let bytes = wal_position(&mut trader.client)? - start;
        wal[side].push(vec![bytes / (LOOPS as u64 * SIZE) as f64]);
        samples
    })?;
    let title = "insert and expire a row, WAL";
    Ok(vec![
        rounds.line(1, "trading loop", rows, "us").goal(Goal::RatioAtMost(0.3)),
        Rounds::of(wal).line(1, title, rows, "bytes/row").goal(WAL_GOAL),
    ])
}

/// Trades without a pause, the sides in turns, while autovacuum works.
pub fn sustained(
    sides: [&PostgresSide; 2],
    world: &World,
    rows: u64,
    seconds: u64,
) -> Result<Vec<Line>> {
    let [ours, baseline] = connect_both(sides)?;
    let mut traders = [Trader::new(ours, world, rows)?, Trader::new(baseline, world, rows)?];
    let mut starts = Vec::new();
    for trader in &mut traders {
        starts.push((trader.next, trader.space()?));
    }
    let mut samples = [Vec::new(), Vec::new()];
    for part in 0..2 * PARTS {
        let side = usize::from(part % 4 == 1 || part % 4 == 2);
        let end = Instant::now() + Duration::from_secs(seconds) / PARTS as u32;
        while Instant::now() < end {
            samples[side].push(traders[side].trade()?);
        }
    }
    let mut grown = Vec::new();
    let mut runs = Vec::new();
    for (trader, (first, (bytes, before))) in traders.iter_mut().zip(starts) {
        let (bytes_now, now) = trader.space()?;
        grown.push((bytes_now - bytes) / (trader.next - first) as f64);
        runs.push((now - before) as f64);
    }
    let title = |what: &str| format!("trading for {seconds} s, {what}");
    let line = |what: &str, unit, figures: [Spread; 2]| {
        Line::new(title(what), rows, unit, figures[0]).beside(figures[1])
    };
    let longest = |side: usize| Spread::from(quantile(&samples[side], 1.0));
    Ok(vec![
        line("a loop", "us", [Spread::of(&samples[0]), Spread::of(&samples[1])])
            .goal(Goal::RatioAtMost(0.3)),
        line("longest loop", "us", [longest(0), longest(1)]),
        line("growth", "bytes/row", [grown[0].into(), grown[1].into()]),
        line("autovacuum", "runs", [runs[0].into(), runs[1].into()]),
    ])
}

impl<'a> Trader<'a> {
    fn new(mut client: Client, world: &'a World, rows: u64) -> Result<Self> {
        let table = Table::named(BIG[0]).ok_or("no such table")?;
        let insert = MultiRowInsert::prepare(&mut client, table, SIZE as usize)?;
        let mut lookups = Vec::new();
        for (number, ..) in LOOKUPS {
            lookups.push(client.prepare(&with_dollars(shape(number)?.sql))?);
        }
        let highest = client.query_one("SELECT max(id) FROM indications_direction", &[])?;
        let next = table.count(rows).max(highest.get::<_, i64>(0) as u64);
        Ok(Self { client, world, table, insert, lookups, next, random: Random::new(SEED) })
    }

    /// One loop. In microseconds.
    fn trade(&mut self) -> Result<f64> {
        let new: Vec<_> = (self.next..self.next + SIZE)
            .map(|number| self.table.row(self.world, number, true, Order::Cycles))
            .collect();
        self.next += SIZE;
        let now = Moment(self.table.rows_at(self.next));
        let connection = self.random.pick(&self.world.connections).clone();
        let mut reads = Vec::new();
        for (statement, (number, many, limit)) in self.lookups.clone().iter().zip(LOOKUPS) {
            for _ in 0..many {
                reads.push((statement.clone(), self.values(statement, number, limit, now)?));
            }
        }
        let mut took: f64 = self.insert.run(&mut self.client, &new)?.iter().sum();
        let begun = Instant::now();
        expire(&mut self.client, &connection, SIZE as i64)?;
        for (statement, values) in &reads {
            run(&mut self.client, statement, values)?;
        }
        took += begun.elapsed().as_secs_f64() * 1e6;
        Ok(took)
    }

    fn values(
        &mut self,
        statement: &Statement,
        number: &str,
        limit: i64,
        now: Moment,
    ) -> Result<Vec<Parameter>> {
        let random = Random::new(self.random.next());
        let mut binder = Binder { world: self.world, random, now, live: &[] };
        let mut values = binder.draw(&shape(number)?);
        if number == "H03" {
            values[1] = now.earlier(WINDOW).into();
        }
        if let Some(last) = values.last_mut() {
            *last = limit.into();
        }
        parameters(&values, statement.params())
    }

    /// Bytes of the table with its indexes, and runs of autovacuum so far.
    fn space(&mut self) -> Result<(f64, i64)> {
        let sql = "SELECT pg_total_relation_size(relid)::float8, autovacuum_count FROM pg_stat_user_tables \
                   WHERE relname = 'indications_direction'";
        let row = self.client.query_one(sql, &[])?;
        Ok((row.get(0), row.get(1)))
    }
}
