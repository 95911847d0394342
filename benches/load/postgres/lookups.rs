//! Duration of each statement of the trading programs on PostgreSQL, as a program sees it: prepared
//! once, with the round trip over loopback.

use std::time::Instant;

use postgres::{Client, Statement};

use crate::figures::{Goal, Line, Rounds, microseconds};
use crate::postgres::parameters::{Parameter, borrowed, parameters, with_dollars};
use crate::postgres::side::{PostgresSide, connect_both, live_positions};
use crate::random::Random;
use crate::shapes::{Binder, Kind, Shape, shapes};
use crate::world::{Moment, SEED, World};
use crate::{Result, SHORT};

/// Many short rounds, since the scheduling of a busy machine disturbs the server's process too.
const ROUNDS: usize = 15;
/// Samples of a statement on one side in one round, or as many as the time limit allows, but at least
/// two.
const SAMPLES: usize = 20;
const TIME: f64 = 0.02;
/// Executions before the first samples: after five, PostgreSQL decides between a generic plan and one
/// for the values.
const FIRST_WARM_UP: usize = 6;
/// Executions before the samples of the other rounds.
const WARM_UP: usize = 1;

pub fn measure(sides: [&PostgresSide; 2], world: &World, rows: u64) -> Result<Vec<Line>> {
    let mut clients = connect_both(sides)?;
    let live = live_positions(&mut clients[0])?;
    let mut lines = vec![round_trip(&mut clients, rows)?];
    for shape in shapes() {
        let sql = with_dollars(shape.sql);
        let statements = [clients[0].prepare(&sql)?, clients[1].prepare(&sql)?];
        let rounds = Rounds::take(ROUNDS, 2, |round, side| {
            let random = Random::new(SEED + round as u64);
            let mut binder = Binder { world, random, now: Moment(rows), live: &live };
            let warm_up = if round == 0 { FIRST_WARM_UP } else { WARM_UP };
            samples(&mut clients[side], &statements[side], &shape, &mut binder, warm_up)
        })?;
        let line = rounds.line(1, shape.label, rows, "us");
        let is_judged = shape.is_compared() && rows >= SHORT;
        lines.push(if is_judged { line.goal(Goal::RatioAtMost(0.5)) } else { line });
    }
    Ok(lines)
}

/// A statement that reads no table: part of the duration of all others.
fn round_trip(clients: &mut [Client; 2], rows: u64) -> Result<Line> {
    let rounds = Rounds::take(ROUNDS, 2, |_, side| {
        let client = &mut clients[side];
        let statement = client.prepare("SELECT 1")?;
        (0..SAMPLES).map(|_| microseconds(|| run(client, &statement, &[]))).collect()
    })?;
    Ok(rounds.line(1, "round trip", rows, "us"))
}

/// In microseconds. Changes are rolled back, and the rollback is not timed.
fn samples(
    client: &mut Client,
    statement: &Statement,
    shape: &Shape,
    binder: &mut Binder,
    warm_up: usize,
) -> Result<Vec<f64>> {
    let mut samples = Vec::with_capacity(warm_up + SAMPLES);
    let begun = Instant::now();
    while samples.len() < warm_up + 2
        || samples.len() < warm_up + SAMPLES && begun.elapsed().as_secs_f64() < TIME
    {
        let values = parameters(&binder.draw(shape), statement.params())?;
        let changes = shape.kind == Kind::Write;
        if changes {
            client.batch_execute("BEGIN")?;
        }
        samples.push(microseconds(|| run(client, statement, &values))?);
        if changes {
            client.batch_execute("ROLLBACK")?;
        }
    }
    Ok(samples.split_off(warm_up))
}

/// Executes a statement and receives every row of its result.
pub fn run(client: &mut Client, statement: &Statement, values: &[Parameter]) -> Result<()> {
    std::hint::black_box(client.query(statement, &borrowed(values))?);
    Ok(())
}
