//! The load of a trading box on its database, beside a baseline with plain indexes and SQLite's
//! default settings.
//!
//! ```sh
//! cargo bench --bench load                                   # up to 10^5 rows, under a minute
//! cargo bench --bench load -- --long                         # up to 10^7 rows
//! cargo bench --bench load -- --rows 1000000 --try idea.sql  # with SQL applied to our side
//! ```
//!
//! Both sides hold the same rows and take turns, so that a ratio stands although the machine is
//! busy. Goals are shown, never asserted: the exit code tells only whether all could be measured.
//! The table goes to standard output; `load.json` and `load.svg` go to the folder.

#![forbid(unsafe_code)]

mod appliance;
mod chart;
mod crowd;
mod figures;
mod fill;
mod inserts;
mod lookups;
mod random;
mod report;
mod rows;
mod settings;
mod shapes;
mod side;
mod space;
mod updates;
mod worker;
mod world;

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use figures::Line;
use fill::{Progress, furnish, grow};
use settings::UNSAFE_BUT_FAST;
use side::{Schema, Side};
use world::World;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const FEWEST: u64 = 10_000;
const SHORT: u64 = 100_000;
const LONG: u64 = 10_000_000;

fn main() -> Result<()> {
    let args = command().get_matches();
    if let Some(task) = args.get_one::<String>("worker") {
        let task: worker::Task = serde_json::from_str(task)?;
        println!("{}", serde_json::to_string(&task.work()?)?);
        return Ok(());
    }
    let folder = args.get_one::<PathBuf>("out").cloned().unwrap_or_default();
    let databases = folder.join("load");
    if databases.exists() {
        fs::remove_dir_all(&databases)?;
    }
    fs::create_dir_all(&databases)?;
    measure(&args, &folder, &databases)?;
    if !args.get_flag("keep") {
        fs::remove_dir_all(&databases)?;
    }
    Ok(())
}

fn command() -> Command {
    let path = value_parser!(PathBuf);
    Command::new("load")
        .about("Measures the schema under a trading load, beside a baseline")
        .arg(Arg::new("long").long("long").action(ArgAction::SetTrue).help("Go on to 10^7 rows"))
        .arg(
            Arg::new("rows")
                .long("rows")
                .value_parser(value_parser!(u64).range(FEWEST..))
                .help("Go on to so many rows, from 10^4 by tens"),
        )
        .arg(
            Arg::new("out")
                .long("out")
                .value_name("FOLDER")
                .value_parser(path.clone())
                .default_value("target/bench")
                .help("Where load.json and load.svg go, and the databases while they are measured"),
        )
        .arg(
            Arg::new("try")
                .long("try")
                .value_name("FILE")
                .value_parser(path)
                .help("SQL to apply to our side after the schema"),
        )
        .arg(
            Arg::new("keep")
                .long("keep")
                .action(ArgAction::SetTrue)
                .help("Leave the databases there"),
        )
        .arg(Arg::new("worker").long("worker").value_name("JSON").hide(true))
        // Cargo says so to every benchmark.
        .arg(Arg::new("bench").long("bench").action(ArgAction::SetTrue).hide(true))
}

fn measure(args: &ArgMatches, folder: &Path, databases: &Path) -> Result<()> {
    let standard = if args.get_flag("long") { LONG } else { SHORT };
    let most = args.get_one::<u64>("rows").copied().unwrap_or(standard);
    let more =
        args.get_one::<PathBuf>("try").map(fs::read_to_string).transpose()?.unwrap_or_default();

    let world = World::new();
    let ours = Side::create(databases, Schema::Ours, &more)?;
    let baseline = Side::create(databases, Schema::Baseline, "")?;
    let bare = Side::create(databases, Schema::Bare, "")?;
    furnish(&bare.open(UNSAFE_BUT_FAST)?, &world)?;

    let mut progress = Progress::new((most > SHORT).then_some(most));
    let mut lines = Vec::new();
    let mut before = 0;
    for rows in sizes(most) {
        progress.tell(&format!("filling up to {rows} rows"));
        grow(&ours, &world, before, rows, &mut progress)?;
        grow(&baseline, &world, before, rows, &mut progress)?;
        progress.tell("measuring space");
        lines.extend(space::measure([&ours, &baseline], rows)?);
        progress.tell("measuring each statement");
        lines.extend(lookups::measure([&ours, &baseline], &world, rows)?);
        progress.tell("measuring updates");
        lines.extend(updates::measure([&ours, &baseline], &world, rows)?);
        progress.tell("measuring inserts");
        lines.extend(inserts::measure(&ours, &baseline, &bare, &world, rows)?);
        before = rows;
    }
    progress.tell("measuring inserts that go on and on");
    lines.extend(inserts::sustained(&ours, &baseline, &world, most)?);
    progress.tell("measuring what each setting does");
    lines.extend(inserts::settings(&ours, &world, most)?);
    progress.tell("measuring many processes at once");
    lines.extend(crowd::measure(&ours, &baseline, most, if most > SHORT { 20 } else { 4 })?);
    lines.extend(lookups::growth(&lines));

    lines.sort_by_key(|line: &Line| line.rows);
    report::print(&lines);
    report::write(&folder.join("load.json"), &lines, &lookups::plans([&ours, &baseline])?)?;
    chart::draw(&folder.join("load.svg"), &lines)
}

/// From the fewest rows by tens, and to the most in any case.
fn sizes(most: u64) -> Vec<u64> {
    let tens = std::iter::successors(Some(FEWEST), |rows| rows.checked_mul(10));
    tens.take_while(|rows| *rows < most).chain([most]).collect()
}
