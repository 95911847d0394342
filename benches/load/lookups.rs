//! Duration of each statement of the trading programs, and its growth with the number of rows.

use std::time::Instant;

use rusqlite::types::Value;
use rusqlite::{Connection, Statement, params_from_iter};
use serde::Serialize;

use crate::Result;
use crate::figures::{Goal, Line, Rounds, microseconds};
use crate::random::Random;
use crate::shapes::{Binder, Kind, Shape, shapes};
use crate::side::Side;
use crate::world::{Moment, SEED, World};

const ROUNDS: usize = 5;
/// Samples of a statement on one side in one round: this many, or as many as the time limit allows,
/// but at least two. Some take seconds on the baseline.
const SAMPLES: usize = 60;
const TIME: f64 = 0.03;
/// Executions before the samples, so that the upper pages of the indexes are in the cache.
const WARM_UP: usize = 3;
const RATIO_GOAL: Goal = Goal::RatioAtMost(0.5);

/// SQLite's plan for a statement, without statistics from ANALYZE.
#[derive(Serialize)]
pub struct Plan {
    shape: &'static str,
    ours: String,
    baseline: String,
}

pub fn plans(sides: [&Side; 2]) -> Result<Vec<Plan>> {
    let [ours, baseline] = [sides[0].open(sides[0].settings)?, sides[1].open(sides[1].settings)?];
    let plan = |shape: Shape| {
        Ok(Plan {
            shape: shape.label,
            ours: plan(&ours, shape.sql)?,
            baseline: plan(&baseline, shape.sql)?,
        })
    };
    shapes().map(plan).collect()
}

fn plan(conn: &Connection, sql: &str) -> Result<String> {
    let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
    let steps: rusqlite::Result<Vec<String>> =
        statement.raw_query().mapped(|row| row.get(3)).collect();
    Ok(steps?.join("; "))
}

/// Each side uses its own settings.
pub fn measure(sides: [&Side; 2], world: &World, rows: u64) -> Result<Vec<Line>> {
    let conns = [sides[0].open(sides[0].settings)?, sides[1].open(sides[1].settings)?];
    let live = live_positions(&conns[0])?;
    let mut lines = Vec::new();
    for shape in shapes() {
        let mut statements = [conns[0].prepare(shape.sql)?, conns[1].prepare(shape.sql)?];
        let rounds = Rounds::take(ROUNDS, 2, |round, side| {
            let random = Random::new(SEED + round as u64);
            let mut binder = Binder { world, random, now: Moment(rows), live: &live };
            samples(&conns[side], &mut statements[side], &shape, &mut binder)
        })?;
        let line = rounds.line(1, shape.label, rows, "us");
        lines.push(if shape.is_compared() { line.goal(RATIO_GOAL) } else { line });
    }
    Ok(lines)
}

/// In microseconds. Changes are rolled back, and the rollback is not timed.
fn samples(
    conn: &Connection,
    statement: &mut Statement,
    shape: &Shape,
    binder: &mut Binder,
) -> Result<Vec<f64>> {
    let mut samples = Vec::with_capacity(WARM_UP + SAMPLES);
    let begun = Instant::now();
    while samples.len() < WARM_UP + 2
        || samples.len() < WARM_UP + SAMPLES && begun.elapsed().as_secs_f64() < TIME
    {
        let values = binder.draw(shape);
        let changes = shape.kind == Kind::Write;
        if changes {
            conn.execute_batch("BEGIN IMMEDIATE")?;
        }
        samples.push(microseconds(|| Ok(run(statement, &values)?))?);
        if changes {
            conn.execute_batch("ROLLBACK")?;
        }
    }
    Ok(samples.split_off(WARM_UP))
}

/// Executes a statement and reads every column of every row, as a program does.
pub fn run(statement: &mut Statement, values: &[Value]) -> rusqlite::Result<()> {
    let columns = statement.column_count();
    let mut rows = statement.query(params_from_iter(values))?;
    while let Some(row) = rows.next()? {
        for column in 0..columns {
            std::hint::black_box(row.get_ref(column)?);
        }
    }
    Ok(())
}

/// The same for both sides, since they hold the same rows.
pub fn live_positions(conn: &Connection) -> Result<Vec<i64>> {
    let mut statement =
        conn.prepare("SELECT id FROM pseudo_positions WHERE status = 'active' ORDER BY id")?;
    let ids = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    Ok(ids)
}

/// From 10^5 rows, where the indexes have their usual depth, to the highest number measured.
pub fn growth(lines: &[Line]) -> Vec<Line> {
    let p50 =
        |what: &str, rows: u64| lines.iter().find(|line| line.what == what && line.rows == rows);
    let most = lines.iter().map(|line| line.rows).max().unwrap_or_default();
    let shapes = shapes().filter(|shape| shape.is_judged() || shape.kind == Kind::Key);
    let growth = |shape: Shape| {
        let (small, large) = (p50(shape.label, 100_000)?, p50(shape.label, most)?);
        let ours = large.ours.p50 / small.ours.p50;
        let baseline = large.baseline?.p50 / small.baseline?.p50;
        let line = Line::new(format!("{}, growth", shape.label), most, "times", ours.into());
        Some(line.beside(baseline.into()).goal(Goal::OursAtMost(2.0)))
    };
    if most > 100_000 { shapes.filter_map(growth).collect() } else { Vec::new() }
}
