//! The continuous updates on PostgreSQL: the prices of all live positions, and indications that expire;
//! with the share of HOT updates and the bytes written to the WAL.

use std::time::Instant;

use postgres::{Client, Statement};
use rusqlite::types::Value;

use crate::Result;
use crate::figures::{Goal, Line, Rounds};
use crate::postgres::inserts::WAL_GOAL;
use crate::postgres::parameters::{borrowed, parameters, with_dollars};
use crate::postgres::side::{PostgresSide, connect_both, live_positions, wal_position};
use crate::random::Random;
use crate::shapes::shapes;
use crate::world::{Moment, SEED, World};

const ROUNDS: usize = 7;
const TICKS: usize = 8;
const EXPIRIES: usize = 10;
/// Number of indications of one connection that expire together.
pub const AT_ONCE: i64 = 100;

/// What one side did in one round.
#[derive(Default)]
struct Effects {
    microseconds: Vec<f64>,
    wal_bytes: f64,
    updated: i64,
    hot: i64,
}

pub fn measure(sides: [&PostgresSide; 2], world: &World, rows: u64) -> Result<Vec<Line>> {
    let mut clients = connect_both(sides)?;
    let live = live_positions(&mut clients[0])?;
    let tick = shapes().find(|shape| shape.number == "H13").ok_or("H13: not in the shapes file")?;
    let tick = with_dollars(tick.sql);
    let ticks = [clients[0].prepare(&tick)?, clients[1].prepare(&tick)?];
    let title = format!("tick of {} positions", live.len());
    let mut lines = measure_updates(&title, live.len(), rows, |round, side| {
        let random = &mut Random::new(round as u64);
        let mut effects = Effects::default();
        for number in 0..TICKS as u64 {
            let time = Moment(rows + round as u64 * 800 + number * 100).text();
            let batch = price_changes(&live, random, &time);
            move_prices(&mut clients[side], &ticks[side], &batch, &mut effects)?;
        }
        Ok(effects)
    })?;
    let title = format!("expire {AT_ONCE} indications");
    lines.extend(measure_updates(&title, AT_ONCE as usize, rows, |round, side| {
        let random = &mut Random::new(SEED + round as u64);
        let mut effects = Effects::default();
        for _ in 0..EXPIRIES {
            let connection: &String = random.pick(&world.connections);
            expire_for_a_while(&mut clients[side], connection, &mut effects)?;
        }
        Ok(effects)
    })?);
    for client in &mut clients {
        client.batch_execute("VACUUM indications_direction, pseudo_positions")?;
    }
    Ok(lines)
}

/// `size` is the number of rows that a transaction changes.
fn measure_updates(
    title: &str,
    size: usize,
    rows: u64,
    mut act: impl FnMut(usize, usize) -> Result<Effects>,
) -> Result<Vec<Line>> {
    let mut wal = [Vec::new(), Vec::new()];
    let (mut updated, mut hot) = ([0; 2], [0; 2]);
    let rounds = Rounds::take(ROUNDS, 2, |round, side| {
        let effects = act(round, side)?;
        wal[side].push(vec![effects.wal_bytes / (effects.microseconds.len() * size) as f64]);
        updated[side] += effects.updated;
        hot[side] += effects.hot;
        Ok(effects.microseconds)
    })?;
    let share = |side: usize| 100.0 * hot[side] as f64 / updated[side] as f64;
    let wal = Rounds::of(wal).line(1, format!("{title}, WAL"), rows, "bytes/row");
    let hot = Line::new(format!("{title}, HOT"), rows, "%", share(0).into());
    Ok(vec![
        rounds.line(1, title, rows, "us").goal(Goal::RatioAtMost(1.15)),
        wal.goal(WAL_GOAL),
        hot.beside(share(1).into()),
    ])
}

fn price_changes(live: &[i64], random: &mut Random, time: &str) -> Vec<[Value; 4]> {
    let row = |id: &i64| -> [Value; 4] {
        let [price, factor] = [random.between(0.1, 60_000.0), random.between(0.2, 3.0)];
        [price.into(), factor.into(), time.to_owned().into(), (*id).into()]
    };
    live.iter().map(row).collect()
}

/// One transaction that updates each position by its id.
fn move_prices(
    client: &mut Client,
    tick: &Statement,
    batch: &[[Value; 4]],
    effects: &mut Effects,
) -> Result<()> {
    let rows: Result<Vec<_>> = batch.iter().map(|row| parameters(row, tick.params())).collect();
    let rows = rows?;
    let start = wal_position(client)?;
    let begun = Instant::now();
    let mut transaction = client.transaction()?;
    for row in &rows {
        transaction.execute(tick, &borrowed(row))?;
    }
    let took = begun.elapsed();
    effects.count_updates(&mut transaction, "pseudo_positions")?;
    let begun = Instant::now();
    transaction.commit()?;
    effects.microseconds.push((took + begun.elapsed()).as_secs_f64() * 1e6);
    effects.wal_bytes += wal_position(client)? - start;
    Ok(())
}

/// Expires the oldest active indications of a connection, and activates them again, not timed.
fn expire_for_a_while(client: &mut Client, connection: &str, effects: &mut Effects) -> Result<()> {
    let oldest = "SELECT id FROM indications_direction WHERE connection_id = $1 AND status = 'active' \
                  ORDER BY calculated_at LIMIT $2";
    let ids: Vec<i64> =
        client.query(oldest, &[&connection, &AT_ONCE])?.iter().map(|row| row.get(0)).collect();
    let start = wal_position(client)?;
    let begun = Instant::now();
    let mut transaction = client.transaction()?;
    expire(&mut transaction, connection, AT_ONCE)?;
    let took = begun.elapsed();
    effects.count_updates(&mut transaction, "indications_direction")?;
    let begun = Instant::now();
    transaction.commit()?;
    effects.microseconds.push((took + begun.elapsed()).as_secs_f64() * 1e6);
    effects.wal_bytes += wal_position(client)? - start;
    let back = "UPDATE indications_direction SET status = 'active' WHERE id = ANY ($1)";
    client.execute(back, &[&ids])?;
    Ok(())
}

/// Expires the oldest active indications of a connection, at least so many.
pub fn expire(
    transaction: &mut impl postgres::GenericClient,
    connection: &str,
    many: i64,
) -> Result<u64> {
    let sql = "UPDATE indications_direction SET status = 'expired' \
               WHERE connection_id = $1 AND status = 'active' AND calculated_at <= \
               (SELECT max(calculated_at) FROM (SELECT calculated_at FROM indications_direction \
                WHERE connection_id = $1 AND status = 'active' ORDER BY calculated_at LIMIT $2) AS oldest)";
    Ok(transaction.execute(sql, &[&connection, &many])?)
}

impl Effects {
    /// Adds what the present transaction has updated.
    fn count_updates(&mut self, within: &mut postgres::Transaction, table: &str) -> Result<()> {
        let sql =
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = $1";
        let row = within.query_one(sql, &[&table])?;
        self.updated += row.get::<_, i64>(0);
        self.hot += row.get::<_, i64>(1);
        Ok(())
    }
}
