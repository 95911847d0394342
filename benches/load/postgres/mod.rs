//! The same load on PostgreSQL, beside a baseline on the same server.

mod crowd;
mod fill;
mod inserts;
mod lookups;
mod parameters;
mod plans;
mod server;
mod side;
mod space;
mod trading;
mod updates;

use std::path::Path;

use serde_json::json;

use crate::figures::Line;
use crate::fill::Progress;
use crate::side::Schema;
use crate::world::{SEED, World};
use crate::{Result, SHORT, report, sizes};
use server::PostgresServer;
use side::{PostgresSide, connect_both};

/// What is measured.
pub struct Request<'a> {
    /// A server that runs already; `None` starts a private one.
    pub url: Option<&'a str>,
    /// The first size, in rows of the large tables.
    pub from: u64,
    /// The last size.
    pub most: u64,
    /// SQL to apply to the cts schema.
    pub more: String,
    pub keep: bool,
}

/// Measures, prints the table, and writes `load-postgres.json`. `databases` is the folder of the private server.
pub fn measure(request: &Request, folder: &Path, databases: &Path) -> Result<()> {
    let server = match request.url {
        Some(url) => PostgresServer::at(url)?,
        None => PostgresServer::start(&databases.join("postgres"))?,
    };
    let ours = PostgresSide::create(&server, Schema::Ours, &request.more)?;
    let baseline = PostgresSide::create(&server, Schema::Baseline, "")?;
    let sides = [&ours, &baseline];
    let (mut lines, plans) = measure_sizes(request, sides)?;
    lines.extend(crate::lookups::growth(&lines));
    lines.sort_by_key(|line: &Line| line.rows);
    report::print(&lines);
    let version: String = server.connect("postgres")?.query_one("SELECT version()", &[])?.get(0);
    let about = json!({ "postgresql": version, "seed": SEED });
    report::write(&folder.join("load-postgres.json"), about, &lines, &plans)?;
    if !request.keep {
        let mut client = server.connect("postgres")?;
        for side in sides {
            client.batch_execute(&format!("DROP DATABASE {}", side.database))?;
        }
    }
    Ok(())
}

fn measure_sizes(
    request: &Request,
    sides: [&PostgresSide; 2],
) -> Result<(Vec<Line>, Vec<plans::PostgresPlan>)> {
    let world = World::new();
    let most = request.most;
    let mut progress = Progress::new((most > SHORT).then_some(most));
    let (mut lines, mut plans) = (Vec::new(), Vec::new());
    let mut before = 0;
    for rows in sizes(most).into_iter().filter(|rows| *rows >= request.from) {
        progress.report(&format!("filling up to {rows} rows"));
        for side in sides {
            fill::grow(side, &world, before, rows, &mut progress)?;
        }
        progress.report("measuring space and plans");
        lines.extend(space::measure(sides, rows)?);
        plans.extend(plans::plans(sides, &world, rows, true)?);
        for client in &mut connect_both(sides)? {
            client.batch_execute("ANALYZE")?;
        }
        plans.extend(plans::plans(sides, &world, rows, false)?);
        lines.push(plans::changes(&plans, rows));
        progress.report("measuring each statement");
        lines.extend(lookups::measure(sides, &world, rows)?);
        progress.report("measuring updates");
        lines.extend(updates::measure(sides, &world, rows)?);
        progress.report("measuring inserts");
        lines.extend(inserts::measure(sides, &world, rows)?);
        progress.report("measuring the trading loop");
        lines.extend(trading::measure(sides, &world, rows)?);
        before = rows;
    }
    let seconds = if most > SHORT { 20 } else { 4 };
    progress.report("measuring concurrent programs");
    lines.extend(crowd::measure(sides, most, seconds)?);
    progress.report("trading beside autovacuum");
    lines.extend(trading::sustained(sides, &world, most, 2 * seconds)?);
    Ok((lines, plans))
}
