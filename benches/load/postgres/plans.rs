//! The plans of the statements on PostgreSQL, and whether they stay the same: without statistics, with
//! those of a tenth of the rows, and after ANALYZE; for the values of a statement and for any values.

use postgres::{Client, SimpleQueryMessage};
use serde::Serialize;
use serde_json::Value as Json;

use crate::Result;
use crate::figures::{Goal, Line};
use crate::postgres::parameters::{literal, with_dollars};
use crate::postgres::side::{PostgresSide, connect_both, live_positions};
use crate::random::Random;
use crate::shapes::{Binder, Shape, shapes};
use crate::world::{Moment, SEED, World};

/// The indexes that the plans of a statement use.
#[derive(Serialize)]
pub struct PostgresPlan {
    shape: &'static str,
    rows: u64,
    /// Whether it is of the time before ANALYZE.
    before_analyze: bool,
    /// Whether it is for any values instead of those of the statement.
    generic: bool,
    ours: String,
    baseline: String,
}

/// The plans of all statements as the statistics are now.
pub fn plans(
    sides: [&PostgresSide; 2],
    world: &World,
    rows: u64,
    before_analyze: bool,
) -> Result<Vec<PostgresPlan>> {
    let [mut ours, mut baseline] = connect_both(sides)?;
    let live = live_positions(&mut ours)?;
    let mut plans = Vec::new();
    for generic in [false, true] {
        for shape in shapes() {
            let random = Random::new(SEED);
            let mut binder = Binder { world, random, now: Moment(rows), live: &live };
            let values: Vec<_> = binder.draw(&shape).iter().map(literal).collect();
            plans.push(PostgresPlan {
                shape: shape.label,
                rows,
                before_analyze,
                generic,
                ours: plan(&mut ours, &shape, &values, generic)?,
                baseline: plan(&mut baseline, &shape, &values, generic)?,
            });
        }
    }
    Ok(plans)
}

/// How many look-ups read another index, or none, in one of their plans at this size.
pub fn changes(plans: &[PostgresPlan], rows: u64) -> Line {
    let count = |plan: fn(&PostgresPlan) -> &String| {
        let judged = shapes().filter(Shape::is_judged);
        let changes = judged.filter(|shape| {
            let mut of = plans
                .iter()
                .filter(|plan| plan.shape == shape.label && plan.rows == rows)
                .map(plan);
            let first = of.next();
            of.any(|other| Some(other) != first)
        });
        changes.count() as f64
    };
    let ours = count(|plan| &plan.ours);
    let title = "look-ups whose plan changes with statistics";
    let line = Line::new(title, rows, "shapes", ours.into());
    line.beside(count(|plan| &plan.baseline).into()).goal(Goal::OursAtMost(0.0))
}

fn plan(client: &mut Client, shape: &Shape, values: &[String], generic: bool) -> Result<String> {
    let mode = if generic { "force_generic_plan" } else { "force_custom_plan" };
    let arguments =
        if values.is_empty() { String::new() } else { format!("({})", values.join(", ")) };
    client.batch_execute(&format!(
        "SET plan_cache_mode = {mode}; PREPARE shape AS {}",
        with_dollars(shape.sql)
    ))?;
    let explain = format!("EXPLAIN (FORMAT JSON, COSTS OFF) EXECUTE shape{arguments}");
    let mut text = String::new();
    for message in client.simple_query(&explain)? {
        if let SimpleQueryMessage::Row(row) = message {
            text += row.get(0).unwrap_or_default();
        }
    }
    client.batch_execute("DEALLOCATE shape")?;
    let mut scans = Vec::new();
    collect_scans(&serde_json::from_str(&text)?, &mut scans);
    Ok(scans.join(", "))
}

/// The index of each node that reads one, and the table of each that reads all of it.
fn collect_scans(plan: &Json, scans: &mut Vec<String>) {
    if let Some(index) = plan["Index Name"].as_str() {
        scans.push(index.to_owned());
    } else if plan["Node Type"] == "Seq Scan" {
        scans.push(format!("all of {}", plan["Relation Name"].as_str().unwrap_or_default()));
    }
    match plan {
        Json::Array(parts) => parts.iter().for_each(|part| collect_scans(part, scans)),
        Json::Object(node) => {
            node.values().filter(|part| part.is_array() || part.is_object()).for_each(|part| {
                collect_scans(part, scans);
            });
        }
        _ => {}
    }
}
