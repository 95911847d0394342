//! The measurements as a table and as JSON.

use std::fs;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use crate::Result;
use crate::figures::{Goal, Line, Spread};
use crate::shapes::{Shape, shapes};
use crate::world::SEED;

const HEADING: [&str; 10] =
    ["what", "rows", "unit", "ours p50", "p99", "baseline p50", "p99", "ratio", "goal", "reached"];

/// Omits the statements on the smaller of similar tables; the JSON has them.
pub fn print(lines: &[Line]) {
    let twins: Vec<_> = shapes().filter(Shape::is_twin).map(|shape| shape.label).collect();
    let cells: Vec<_> =
        lines.iter().filter(|line| !twins.contains(&line.what.as_str())).map(cells).collect();
    let width = |column: usize| {
        let widths = cells.iter().map(|cells| cells[column].len());
        widths.max().unwrap_or_default().max(HEADING[column].len())
    };
    let widths: [usize; 10] = std::array::from_fn(width);
    print_row(&HEADING.map(str::to_owned), &widths);
    for cells in &cells {
        print_row(cells, &widths);
    }
    let judged = lines.iter().filter(|line| line.reached.is_some()).count();
    let reached = lines.iter().filter(|line| line.reached == Some(true)).count();
    println!("\n{reached} of {judged} goals reached");
}

fn print_row(cells: &[String; 10], widths: &[usize; 10]) {
    let (what, figures) = (&cells[0], &cells[1..]);
    print!("{what:width$}", width = widths[0]);
    for (cell, width) in figures.iter().zip(&widths[1..]) {
        print!("  {cell:>width$}");
    }
    println!();
}

fn cells(line: &Line) -> [String; 10] {
    let p50 = |spread: Option<Spread>| spread.map(|spread| digits(spread.p50)).unwrap_or_default();
    let p99 = |spread: Option<Spread>| {
        spread.and_then(|spread| spread.p99).map(digits).unwrap_or_default()
    };
    let ours = Some(line.ours);
    [
        line.what.clone(),
        line.rows.to_string(),
        line.unit.to_owned(),
        p50(ours),
        p99(ours),
        p50(line.baseline),
        p99(line.baseline),
        line.ratio.map(|ratio| format!("{ratio:.3}")).unwrap_or_default(),
        line.goal.map(goal).unwrap_or_default(),
        line.reached.map(|is| if is { "yes" } else { "NO" }.to_owned()).unwrap_or_default(),
    ]
}

fn goal(goal: Goal) -> String {
    match goal {
        Goal::RatioAtMost(most) => format!("ratio <= {most}"),
        Goal::RatioAtLeast(least) => format!("ratio >= {least}"),
        Goal::OursAtMost(most) => format!("ours <= {most}"),
        Goal::OursP99AtMost(most) => format!("p99 <= {most}"),
    }
}

/// Ratios are summarized from three of them on.
fn digits(figure: f64) -> String {
    match figure.abs() {
        small if small < 10.0 => format!("{figure:.2}"),
        middle if middle < 100.0 => format!("{figure:.1}"),
        _ => format!("{figure:.0}"),
    }
}

/// Writes the figures as JSON; `about` says of what.
pub fn write(file: &Path, about: Value, lines: &[Line], plans: &impl Serialize) -> Result<()> {
    let figures = json!({
        "about": about,
        "cpus": std::thread::available_parallelism()?.get(),
        "seed": SEED,
        "lines": lines,
        "plans": plans,
    });
    Ok(fs::write(file, serde_json::to_string_pretty(&figures)?)?)
}
