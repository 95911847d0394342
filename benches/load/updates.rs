//! The continuous updates: the prices of all live positions each second, and indications that expire.
//! Committed, with the settings of each side.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::Result;
use crate::figures::{Line, Rounds, microseconds};
use crate::lookups::live_positions;
use crate::random::Random;
use crate::shapes::shapes;
use crate::side::Side;
use crate::world::{Moment, SEED, World};

const ROUNDS: usize = 5;
const TICKS: usize = 8;
const EXPIRIES: usize = 10;
/// Number of indications of one connection that expire together.
const AT_ONCE: i64 = 100;

pub fn measure(sides: [&Side; 2], world: &World, rows: u64) -> Result<Vec<Line>> {
    let conns = [sides[0].open(sides[0].settings)?, sides[1].open(sides[1].settings)?];
    let tick = shapes().find(|shape| shape.number == "H13").ok_or("H13: not in the shapes file")?;
    let live = live_positions(&conns[0])?;
    let ticks = Rounds::take(ROUNDS, 2, |round, side| {
        let random = &mut Random::new(round as u64);
        let time = Moment(rows + round as u64 * 100).text();
        let once = |_| move_prices(&conns[side], sides[side], tick.sql, &time, &live, random);
        (0..TICKS).map(once).collect()
    })?;
    let expiries = Rounds::take(ROUNDS, 2, |round, side| {
        let random = &mut Random::new(SEED + round as u64);
        (0..EXPIRIES)
            .map(|_| expire(&conns[side], sides[side], random.pick::<String>(&world.connections)))
            .collect()
    })?;
    let per_tick = format!("tick of {} positions", live.len());
    Ok(vec![
        ticks.line(1, per_tick, rows, "us"),
        expiries.line(1, format!("expire {AT_ONCE} indications"), rows, "us"),
    ])
}

/// One transaction that updates all positions by id. In microseconds.
fn move_prices(
    conn: &Connection,
    side: &Side,
    sql: &str,
    time: &str,
    live: &[i64],
    random: &mut Random,
) -> Result<f64> {
    let row = |id: &i64| -> [Value; 4] {
        let [price, factor] = [random.between(0.1, 60_000.0), random.between(0.2, 3.0)];
        [price.into(), factor.into(), time.to_owned().into(), (*id).into()]
    };
    let rows: Vec<_> = live.iter().map(row).collect();
    let mut update = conn.prepare(sql)?;
    microseconds(|| {
        conn.execute_batch(side.settings.begin())?;
        for row in &rows {
            update.execute(params_from_iter(row))?;
        }
        Ok(conn.execute_batch("COMMIT")?)
    })
}

/// Expires the oldest active indications of a connection, and activates them again, not timed. In
/// microseconds.
fn expire(conn: &Connection, side: &Side, connection: &str) -> Result<f64> {
    let oldest = "SELECT id, calculated_at FROM indications_direction WHERE connection_id = ?1 AND status = 'active' \
                  ORDER BY calculated_at LIMIT ?2";
    let mut oldest = conn.prepare(oldest)?;
    let rows: Vec<(i64, String)> = oldest
        .query_map((connection, AT_ONCE), |row| row.try_into())?
        .collect::<rusqlite::Result<_>>()?;
    let (_, until) = rows.last().ok_or("no indication is active")?;
    let mut expire = conn.prepare(
        "UPDATE indications_direction SET status = 'expired' \
         WHERE connection_id = ?1 AND status = 'active' AND calculated_at <= ?2",
    )?;
    let took = microseconds(|| {
        conn.execute_batch(side.settings.begin())?;
        expire.execute((connection, until))?;
        Ok(conn.execute_batch("COMMIT")?)
    })?;
    let mut back =
        conn.prepare("UPDATE indications_direction SET status = 'active' WHERE id = ?1")?;
    conn.execute_batch("BEGIN IMMEDIATE")?;
    for (id, _) in &rows {
        back.execute([id])?;
    }
    conn.execute_batch("COMMIT")?;
    Ok(took)
}
