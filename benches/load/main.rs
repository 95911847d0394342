//! The load of a trading box on its database, compared with a baseline that has plain indexes and
//! SQLite's default settings.
//!
//! ```sh
//! cargo bench --bench load                                   # up to 10^5 rows, under a minute
//! cargo bench --bench load -- --long                         # up to 10^7 rows
//! cargo bench --bench load -- --reads 60                     # only the WAL beside overlapping reads
//! cargo bench --bench load -- --litestream 60                # only beside Litestream
//! cargo bench --features postgres --bench load -- --postgres # the same on PostgreSQL
//! cargo bench --bench load -- --rows 1000000 --try idea.sql  # with SQL applied to the cts schema
//! ```
//!
//! Both sides hold the same rows and are measured in alternation, so that a busy machine slows both
//! and ratios stay valid. Goals are printed, not asserted: the exit code is 0 if everything could be
//! measured. The table goes to standard output, `load.json` and `load.svg` to the output directory.

#![forbid(unsafe_code)]

mod appliance;
mod chart;
mod crowd;
mod figures;
mod fill;
mod inserts;
mod litestream;
mod long_reads;
mod lookups;
#[cfg(feature = "postgres")]
mod postgres;
mod random;
mod report;
mod rows;
mod settings;
mod shapes;
mod side;
mod space;
mod updates;
mod values;
mod worker;
mod world;

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use figures::Line;
use fill::{Progress, grow, insert_reference_rows};
use serde_json::json;
use settings::{DEFAULTS, RECOMMENDED, UNSAFE_BUT_FAST};
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
    let seconds = |name| args.get_one::<u64>(name).copied();
    match (seconds("reads"), seconds("litestream")) {
        (Some(seconds), _) => report::print(&long_reads::measure(&databases, seconds)?),
        (None, Some(seconds)) => report::print(&litestream::measure(&databases, seconds)?),
        (None, None) if args.get_flag("postgres") => {
            on_postgres(&args, &folder, &databases)?;
        }
        (None, None) => measure(&args, &folder, &databases)?,
    }
    if !args.get_flag("keep") {
        fs::remove_dir_all(&databases)?;
    }
    Ok(())
}

fn command() -> Command {
    let path = value_parser!(PathBuf);
    Command::new("load")
        .about("Measures the schema under a trading load, beside a baseline")
        .arg(
            Arg::new("long")
                .long("long")
                .action(ArgAction::SetTrue)
                .help("Measure up to 10^7 rows"),
        )
        .arg(
            Arg::new("rows")
                .long("rows")
                .value_parser(value_parser!(u64).range(FEWEST..))
                .help("Measure up to this many rows, in powers of ten from 10^4"),
        )
        .arg(
            Arg::new("out")
                .long("out")
                .value_name("FOLDER")
                .value_parser(path.clone())
                .default_value("target/bench")
                .help("Directory for load.json, load.svg and, while it runs, the databases"),
        )
        .arg(
            Arg::new("try")
                .long("try")
                .value_name("FILE")
                .value_parser(path)
                .help("SQL to apply to the cts schema before measuring"),
        )
        .arg(
            Arg::new("reads")
                .long("reads")
                .value_name("SECONDS")
                .value_parser(value_parser!(u64).range(1..))
                .help("Measure only the WAL beside overlapping reads of 5, 30 and 200 ms, each for so long"),
        )
        .arg(
            Arg::new("litestream")
                .long("litestream")
                .value_name("SECONDS")
                .value_parser(value_parser!(u64).range(1..))
                .help("Measure only a writer beside cts serve, beside Litestream, and beside both, each for so long"),
        )
        .arg(
            Arg::new("postgres")
                .long("postgres")
                .action(ArgAction::SetTrue)
                .help("Measure on PostgreSQL: on a private server, which runs as nobody where this is run by root"),
        )
        .arg(
            Arg::new("url")
                .long("url")
                .requires("postgres")
                .value_name("URL")
                .help("A server to measure instead of a private one; its user may create databases"),
        )
        .arg(
            Arg::new("from")
                .long("from")
                .requires("postgres")
                .value_parser(value_parser!(u64).range(FEWEST..))
                .help("Do not measure fewer rows than this"),
        )
        .arg(Arg::new("keep").long("keep").action(ArgAction::SetTrue).help("Keep the databases"))
        .arg(Arg::new("worker").long("worker").value_name("JSON").hide(true))
        // Cargo passes this flag to every benchmark.
        .arg(Arg::new("bench").long("bench").action(ArgAction::SetTrue).hide(true))
}

/// The last size to measure, in rows.
fn most(args: &ArgMatches) -> u64 {
    let standard = if args.get_flag("long") { LONG } else { SHORT };
    args.get_one::<u64>("rows").copied().unwrap_or(standard)
}

/// The SQL to apply to the cts schema.
fn more(args: &ArgMatches) -> Result<String> {
    let file = args.get_one::<PathBuf>("try");
    Ok(file.map(fs::read_to_string).transpose()?.unwrap_or_default())
}

#[cfg(feature = "postgres")]
fn on_postgres(args: &ArgMatches, folder: &Path, databases: &Path) -> Result<()> {
    let request = postgres::Request {
        url: args.get_one::<String>("url").map(String::as_str),
        from: args.get_one::<u64>("from").copied().unwrap_or(FEWEST),
        most: most(args),
        more: more(args)?,
        keep: args.get_flag("keep"),
    };
    postgres::measure(&request, folder, databases)
}

#[cfg(not(feature = "postgres"))]
fn on_postgres(_: &ArgMatches, _: &Path, _: &Path) -> Result<()> {
    Err("--postgres: built without PostgreSQL; run cargo bench with --features postgres".into())
}

fn measure(args: &ArgMatches, folder: &Path, databases: &Path) -> Result<()> {
    let (most, more) = (most(args), more(args)?);

    let world = World::new();
    let ours = Side::create(databases, Schema::Ours, &more)?;
    let baseline = Side::create(databases, Schema::Baseline, "")?;
    let bare = Side::create(databases, Schema::Bare, "")?;
    insert_reference_rows(&bare.open(UNSAFE_BUT_FAST)?, &world)?;

    let mut progress = Progress::new((most > SHORT).then_some(most));
    let mut lines = Vec::new();
    let mut before = 0;
    for rows in sizes(most) {
        progress.report(&format!("filling up to {rows} rows"));
        grow(&ours, &world, before, rows, &mut progress)?;
        grow(&baseline, &world, before, rows, &mut progress)?;
        progress.report("measuring space");
        lines.extend(space::measure([&ours, &baseline], rows)?);
        progress.report("measuring each statement");
        lines.extend(lookups::measure([&ours, &baseline], &world, rows)?);
        progress.report("measuring updates");
        lines.extend(updates::measure([&ours, &baseline], &world, rows)?);
        progress.report("measuring inserts");
        lines.extend(inserts::measure(&ours, &baseline, &bare, &world, rows)?);
        before = rows;
    }
    progress.report("measuring sustained inserts");
    lines.extend(inserts::sustained(&ours, &baseline, &world, most)?);
    progress.report("measuring the effect of each setting");
    lines.extend(inserts::settings(&ours, &world, most)?);
    progress.report("measuring concurrent processes");
    lines.extend(crowd::measure(&ours, &baseline, most, if most > SHORT { 20 } else { 4 })?);
    lines.extend(lookups::growth(&lines));

    lines.sort_by_key(|line: &Line| line.rows);
    report::print(&lines);
    let about = json!({
        "sqlite": rusqlite::version(),
        "settings": { "ours": RECOMMENDED, "baseline": DEFAULTS },
    });
    report::write(&folder.join("load.json"), about, &lines, &lookups::plans([&ours, &baseline])?)?;
    chart::draw(&folder.join("load.svg"), &lines)
}

/// Powers of ten from [`FEWEST`], and `most` itself.
fn sizes(most: u64) -> Vec<u64> {
    let tens = std::iter::successors(Some(FEWEST), |rows| rows.checked_mul(10));
    tens.take_while(|rows| *rows < most).chain([most]).collect()
}
