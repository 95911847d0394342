//! The verbs of the command line, each a thin shell round the store, the engine and the
//! report: what they print, log and return as an exit code.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::catalog::{Drift, core_tables};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::health::{Report, Status, Surroundings, examine};
use crate::log::Log;
use crate::migrate::{Outcome, Plan, bring_up_to_date};
use crate::schema::{SQLITE, VERSION};
use crate::server::get;
use crate::store::sqlite::{Sqlite, migrating};
use crate::store::{Holder, Look, Patience, Store};

/// `--check` never takes 5 s, `--deep` excepted, which reads the whole file.
const CHECK_WITHIN: Duration = Duration::from_millis(4500);
/// Exit code of `--check` where the database could not be asked.
const COULD_NOT_ASK: u8 = 3;

/// Opens the database, creating it where there is none, brings it up to date and makes it
/// fit for service. What was done is logged after it is done.
pub fn initialise(
    config: &Config,
    log: Log,
    patience: &Patience<'_>,
) -> Result<(Box<dyn Store>, Outcome)> {
    let mut store: Box<dyn Store> =
        Box::new(Sqlite::open(&config.db, config.access, patience.stop)?);
    log.info(format_args!("Database: {}", store.location()));
    let schema = store.schema();
    let (files, statements) = (schema.migrations.len(), schema.statements);
    log.detail(format_args!(
        "cts {VERSION} brings {files} migrations with {statements} statements"
    ));
    let outcome = bring_up_to_date(&mut *store, patience)?;
    for said in store.settle(patience)? {
        log.info(said);
    }
    say_outcome(log, &*store, &outcome);
    Ok((store, outcome))
}

fn say_outcome(log: Log, store: &dyn Store, outcome: &Outcome) {
    for run in &outcome.runs {
        let (name, applied, skipped) = (run.name, run.applied, run.skipped);
        let took = run.took.as_millis();
        log.info(format_args!(
            "✓ {name}: {applied} applied, {skipped} skipped ({took} ms)"
        ));
    }
    for object in &outcome.put_back {
        log.warn(format_args!("{object} was missing and has been put back"));
    }
    for (object, error) in &outcome.left {
        log.error(format_args!(
            "{object} is missing and cannot be put back: {error}"
        ));
    }
    for alteration in &outcome.drift.altered {
        log.warn(alteration);
    }
    let applied = outcome.applied();
    let skipped = store.schema().statements.saturating_sub(applied);
    log.info(format_args!(
        "✓ Unified setup complete: {applied} applied, {skipped} skipped"
    ));
    let core = core_tables().count();
    let missing = |name: &str| {
        outcome
            .drift
            .missing
            .iter()
            .any(|o| o.to_string() == format!("table {name}"))
    };
    match core_tables().filter(|name| missing(name)).count() {
        0 => log.info(format_args!("✓ All {core} critical tables verified")),
        lost => log.error(format_args!("{lost} of {core} critical tables are missing")),
    }
}

/// Logs who is waited for, and returns it as a sentence.
pub fn say_waiting(log: Log, holder: Option<&Holder>, waited: Duration) -> String {
    let who = holder.map_or("another program".to_string(), Holder::to_string);
    let text = format!(
        "waiting for the write lock, held by {who}, for {} s so far",
        waited.as_secs()
    );
    log.warn(&text);
    text
}

/// Runs `work` with a patience that ends at the first SIGTERM or SIGINT; the second one
/// ends the process.
fn interruptible<T>(
    config: &Config,
    log: Log,
    work: impl FnOnce(&Patience<'_>) -> Result<T>,
) -> Result<T> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .map_err(|e| Error::new(Kind::Io, format!("signals cannot be watched: {e}")))?;
    }
    let on_wait = |holder: Option<&_>, waited| drop(say_waiting(log, holder, waited));
    work(&Patience {
        limit: Some(config.lock_timeout),
        stop: &stop,
        on_wait: &on_wait,
    })
}

/// `cts migrate`.
pub fn migrate(config: &Config, log: Log) -> Result<u8> {
    log.info(format_args!(
        "Database Type: {}",
        config.backend.name().to_uppercase()
    ));
    interruptible(config, log, |patience| {
        let (store, _) = initialise(config, log, patience)?;
        store.close()?;
        Ok(0)
    })
}

/// `cts migrate --dry-run`.
pub fn plan(config: &Config) -> Result<u8> {
    let path = config.db.display();
    let mut text = String::new();
    let look = match open_read_only(config)? {
        Some(mut store) => store.look()?,
        None => {
            let _ = writeln!(
                text,
                "{path}: there is no database; it would be created, mode 0600, in WAL mode"
            );
            Look::default()
        }
    };
    let plan = Plan::of(&SQLITE, &look)?;
    for migration in &plan.pending {
        let count = migration.statements().len();
        let _ = writeln!(text, "would apply {} ({count} statements)", migration.name);
    }
    if plan.pending.is_empty() {
        for object in &plan.drift.missing {
            let _ = writeln!(text, "would put back {object}");
        }
    }
    if plan.is_empty() {
        let _ = writeln!(
            text,
            "{path}: nothing to do, {} migrations are applied",
            SQLITE.migrations.len()
        );
    }
    for alteration in plan.drift.altered {
        let _ = writeln!(text, "differs and would stay as it is: {alteration}");
    }
    print(&(text + "nothing was changed\n"))?;
    Ok(0)
}

/// `cts status`.
pub fn status(config: &Config, as_json: bool) -> Result<u8> {
    let report = match open_read_only(config)? {
        Some(mut store) => examine(&mut *store, Surroundings::default())?,
        None => Report::unreachable(&SQLITE, config.backend, &no_database(config)),
    };
    print(&if as_json {
        report.status_json() + "\n"
    } else {
        report.status_text(&config.db.display().to_string())
    })?;
    Ok(u8::from(!report.is_complete()))
}

/// `cts verify`.
pub fn verify(config: &Config) -> Result<u8> {
    let Some(mut store) = open_read_only(config)? else {
        return Err(no_database(config));
    };
    let drift = store.schema().expected.difference(&store.look()?.catalog);
    print(&drift_text(&drift))?;
    Ok(u8::from(!drift.is_none()))
}

/// `cts repair`.
pub fn repair(config: &Config, log: Log) -> Result<u8> {
    if open_read_only(config).is_ok_and(|store| store.is_none()) {
        return Err(no_database(config));
    }
    interruptible(config, log, |patience| {
        let (store, outcome) = initialise(config, log, patience)?;
        store.close()?;
        print(&drift_text(&outcome.drift))?;
        Ok(u8::from(!outcome.drift.is_none()))
    })
}

fn drift_text(drift: &Drift) -> String {
    let mut text = String::new();
    for object in &drift.missing {
        let _ = writeln!(text, "missing: {object}");
    }
    for alteration in &drift.altered {
        let _ = writeln!(text, "altered: {alteration}");
    }
    for object in &drift.extra {
        let _ = writeln!(text, "extra:   {object} (left alone)");
    }
    let expected = SQLITE.expected;
    let indexes: usize = expected
        .tables
        .iter()
        .map(|table| table.indexes.len())
        .sum();
    if drift.is_none() {
        let _ = writeln!(
            text,
            "no drift: {} tables and {indexes} indexes are as expected",
            expected.tables.len()
        );
    } else {
        let _ = writeln!(
            text,
            "drift: {} missing, {} altered; `cts repair` puts back what is missing",
            drift.missing.len(),
            drift.altered.len()
        );
    }
    text
}

/// `cts --check`.
pub fn check(config: &Config, as_json: bool, deep: bool) -> Result<u8> {
    let (sender, receiver) = mpsc::channel();
    let asked = config.clone();
    let look = move || {
        // Nobody waits for an answer that comes too late.
        let _ = sender.send(examine_once(&asked, deep));
    };
    thread::Builder::new()
        .spawn(look)
        .map_err(|e| Error::new(Kind::Io, format!("a thread cannot be started: {e}")))?;
    let limit = if deep { Duration::MAX } else { CHECK_WITHIN };
    let late = || {
        let what = format!(
            "{}: no answer within {} s",
            config.db.display(),
            CHECK_WITHIN.as_secs_f32()
        );
        Err(Error::new(Kind::Io, what)
            .remedy("look at the disk (`dmesg`) and for a program that holds the file"))
    };
    let report = match receiver.recv_timeout(limit).unwrap_or_else(|_| late()) {
        Ok(report) => report,
        Err(error) if matches!(error.kind, Kind::Permission | Kind::Config) => return Err(error),
        Err(error) => Report::unreachable(&SQLITE, config.backend, &error),
    };
    print(&format!(
        "{}\n",
        if as_json {
            report.health_json()
        } else {
            report.check_line()
        }
    ))?;
    Ok(report.status().exit_code())
}

fn examine_once(config: &Config, deep: bool) -> Result<Report> {
    let in_progress =
        || migrating(&config.db).map(|holder| format!("migrations are run by {holder}"));
    let Some(mut store) = open_read_only(config)? else {
        return Ok(match in_progress() {
            Some(doing) => Report::initializing(&SQLITE, config.backend, &doing),
            None => Report::unreachable(&SQLITE, config.backend, &no_database(config)),
        });
    };
    let damage = if deep {
        store.find_damage(true)?
    } else {
        Default::default()
    };
    let report = examine(
        &mut *store,
        Surroundings {
            damage,
            ..Surroundings::default()
        },
    )?;
    match in_progress() {
        Some(doing) if !report.is_complete() => {
            Ok(Report::initializing(&SQLITE, config.backend, &doing))
        }
        _ => Ok(report),
    }
}

/// `cts --check --url`.
pub fn check_url(url: &str, as_json: bool) -> Result<u8> {
    let (host, path) = split_url(url)?;
    let with_port = if host
        .rsplit(']')
        .next()
        .is_some_and(|tail| tail.contains(':'))
    {
        host.to_string()
    } else {
        format!("{host}:80")
    };
    let asked = with_port
        .to_socket_addrs()
        .and_then(|mut all| all.next().ok_or_else(|| io::ErrorKind::NotFound.into()))
        .and_then(|address| get(address, host, path, CHECK_WITHIN));
    let (status, line) = match asked {
        Ok((_, body)) => match told(&body) {
            Some((status, line)) => {
                print(&format!("{}\n", if as_json { body.trim() } else { &line }))?;
                return Ok(status);
            }
            None => (2, format!("{url} answers, but not as cts does")),
        },
        Err(e) => (2, format!("{url} does not answer: {e}")),
    };
    print(&match as_json {
        true => format!(
            "{}\n",
            json!({"status": Status::Unhealthy.name(), "reasons": [line]})
        ),
        false => format!("CTS CRITICAL - {line}\n"),
    })?;
    Ok(status)
}

fn split_url(url: &str) -> Result<(&str, &str)> {
    let wrong = |why: &str| {
        Error::new(Kind::Usage, format!("--url: {url:?} {why}"))
            .remedy("give it like http://127.0.0.1:3000")
    };
    let rest = url
        .strip_prefix("http://")
        .ok_or_else(|| wrong("is not an http:// address"))?;
    let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    if host.is_empty() || host.contains(['@', ' ', '?', '#']) || path.contains([' ', '\r', '\n']) {
        return Err(wrong("is not an address"));
    }
    Ok((
        host,
        if matches!(path, "" | "/") {
            "/api/health/database"
        } else {
            path
        },
    ))
}

/// Exit code and line for a health answer of a running cts.
fn told(body: &str) -> Option<(u8, String)> {
    let json: serde_json::Value = serde_json::from_str(body).ok()?;
    let status = json["status"].as_str()?;
    let (code, word) = match status {
        "healthy" => (0, "OK"),
        "degraded" | "initializing" => (1, "WARNING"),
        "unhealthy" => (2, "CRITICAL"),
        _ => return None,
    };
    let database = &json["database"];
    let tables = database["tableCount"].as_u64()?;
    let mut line = format!(
        "CTS {word} - {}, {tables}/{} core tables",
        database["type"].as_str()?,
        core_tables().count()
    );
    let reasons: Vec<&str> = json["reasons"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|r| r.as_str())
        .collect();
    if !reasons.is_empty() {
        let _ = write!(
            line,
            ": {}",
            reasons
                .iter()
                .take(3)
                .copied()
                .collect::<Vec<_>>()
                .join("; ")
        );
    }
    line = line.replace('|', "/").replace(['\n', '\r'], " ");
    let took = database["responseTime"]
        .as_str()?
        .strip_suffix("ms")?
        .parse::<f64>()
        .ok()?
        / 1000.0;
    let _ = write!(line, " | response_time={took:.4}s;;;0 tables={tables};;;0");
    Some((code, line))
}

/// What `--check` says where it could not ask, with its exit code.
pub fn could_not_ask(error: &str, as_json: bool) -> u8 {
    let text = if as_json {
        json!({"status": "unknown", "error": error}).to_string()
    } else {
        format!(
            "CTS UNKNOWN - {}",
            error.replace('|', "/").replace(['\n', '\r'], " ")
        )
    };
    // The exit code tells it all the same.
    let _ = print(&(text + "\n"));
    COULD_NOT_ASK
}

fn open_read_only(config: &Config) -> Result<Option<Box<dyn Store>>> {
    let stop = Arc::new(AtomicBool::new(false));
    let store = Sqlite::open_read_only(&config.db, config.access, &stop)?;
    Ok(store.map(|store| Box::new(store) as Box<dyn Store>))
}

fn no_database(config: &Config) -> Error {
    Error::new(
        Kind::Data,
        format!("{}: there is no database", config.db.display()),
    )
    .remedy("create it with `cts migrate` or by starting cts, or set SQLITE_DB_PATH (or --db)")
}

/// Writes to standard output. A reader that has gone is no fault.
fn print(text: &str) -> Result<()> {
    match io::stdout()
        .write_all(text.as_bytes())
        .and_then(|()| io::stdout().flush())
    {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Error::new(
            Kind::Io,
            format!("standard output cannot be written: {e}"),
        )),
        _ => Ok(()),
    }
}
