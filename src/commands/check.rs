//! `cts --check`: one check for monitoring, of the database itself or of a running cts, in the form
//! and with the exit codes of the Monitoring Plugins guidelines.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::backup::Inspector;
use crate::commands::{ArchiveReading, BackupsReading, open_read_only};
use crate::config::{Config, notices};
use crate::error::{Error, Kind, Result};
use crate::health::render::{BackupFigures, Counts, check_line};
use crate::health::{DeepCheck, Reason, Report, Status, Surroundings, examine};
use crate::http::client::{HttpResponse, get_from_any};
use crate::store::{DamageScope, as_its_owner};
use crate::system::address::resolve;
use crate::system::deadline::BackgroundTask;
use crate::system::output::{print_json, print_lines};
use crate::system::value;
use crate::system::visible::{Lines, quoted_value};

/// Time within which `--check` answers; `--deep` reads the whole file and takes longer.
const CHECK_TIMEOUT: Duration = Duration::from_millis(4500);
/// How long a lock on the whole database is waited for, also with `--deep`.
const LOCK_TIMEOUT: Duration = Duration::from_millis(3500);
/// Exit code of `--check` where the database could not be checked.
const COULD_NOT_ASK: u8 = 3;

/// `cts --check`: checks the database.
///
/// # Errors
/// [`Kind::Permission`] or [`Kind::Config`] where it cannot be checked by this user or with this
/// configuration; every other fault is a result of the check.
pub fn database(config: &Config, as_json: bool, deep: bool) -> Result<u8> {
    let backups = BackupsReading::start(config);
    let archive = ArchiveReading::start(config)?;
    let asked = config.clone();
    let examine = move || (examine_once(&asked, deep), notices(&asked));
    let examination = BackgroundTask::start("check", examine)?;
    let limit = if deep { Duration::MAX } else { CHECK_TIMEOUT };
    let late = || {
        let what = format!(
            "{}: no answer within {} s",
            config.database.identity().location,
            CHECK_TIMEOUT.as_secs_f32()
        );
        let remedy = config.database.identity().no_answer_remedy;
        (Err(Error::new(Kind::Io, what).remedy(remedy)), Vec::new())
    };
    let (examined, notices) = examination.within(limit).unwrap_or_else(|_| late());
    let report = match examined {
        Ok(report) => report,
        Err(error) if matches!(error.kind, Kind::Permission | Kind::Config) => return Err(error),
        Err(error) => Report::unreachable(&*config.database, &error),
    };
    let mut report =
        report.with_backups(backups.end(config)).with_archive(archive.end(), Inspector::Command);
    report.reasons_found.extend(notices.into_iter().map(Reason::notice));
    print_result(report.check_line(), as_json.then(|| report.health_json()))?;
    Ok(report.status().exit_code())
}

fn examine_once(config: &Config, deep: bool) -> Result<Report> {
    let database = &*config.database;
    let in_progress =
        || database.migrating().map(|holder| format!("migrations are run by {holder}"));
    let Some(mut store) = open_read_only(config, LOCK_TIMEOUT)? else {
        return Ok(match in_progress() {
            Some(doing) => Report::initializing(database, &doing),
            None => Report::unreachable(database, &database.identity().absent_error()),
        });
    };
    if let Some(why) = store.storage_status().not_ours {
        // This user cannot see whether the owner can write it.
        return Err(Error::new(Kind::Permission, why)
            .remedy(as_its_owner(Path::new(&database.identity().location))));
    }
    let start = Instant::now();
    let damage =
        if deep { store.find_damage(DamageScope::Everything)? } else { Default::default() };
    let deep_check = deep.then(|| DeepCheck { read: damage.read, time: start.elapsed() });
    let surroundings = Surroundings { damage, ..Surroundings::of_command(&mut *store) };
    let report = Report { deep_check, ..examine(&mut *store, surroundings)? };
    if report.is_complete() {
        return Ok(report);
    }
    // Closed, so that its connection is free for the query for the migrating process.
    drop(store);
    Ok(in_progress().map_or(report, |doing| Report::initializing(database, &doing)))
}

/// `cts --check --url`: asks a running cts.
///
/// # Errors
/// Where the URL is not one of cts. An answer that is missing or wrong is a result of the check.
pub fn at_url(url: &str, as_json: bool) -> Result<u8> {
    let url = &value::text("--url", url.as_ref())?.value;
    let (host, path) = split_url(url)?;
    let (name, port) = name_and_port(host).ok_or_else(|| wrong_url(url, "has no valid port"))?;
    let start = Instant::now();
    let asked = resolve(name, port, CHECK_TIMEOUT).map_err(|e| e.to_string()).and_then(|all| {
        let left = CHECK_TIMEOUT.saturating_sub(start.elapsed());
        let is_cts = |response: &HttpResponse| parse_answer(&response.body).is_some();
        get_from_any(&all, host, path, left, is_cts).map_err(|e| e.to_string())
    });
    let (status, line) = match asked {
        Ok(HttpResponse { body, .. }) => match parse_answer(&body) {
            Some((status, line)) => {
                print_result(line, as_json.then(|| body.trim().to_string()))?;
                return Ok(status);
            }
            None => (2, format!("{url} answers, but not as cts does")),
        },
        Err(e) => (2, format!("{url} does not answer: {e}")),
    };
    let json = || json!({"status": Status::Unhealthy.name(), "reasons": [line]}).to_string();
    print_result(format!("CTS CRITICAL - {line}"), as_json.then(json))?;
    Ok(status)
}

fn wrong_url(url: &str, why: &str) -> Error {
    if url.contains('@') {
        return Error::new(Kind::Usage, "--url: a user and a password cannot be given")
            .remedy("give it like http://127.0.0.1:3000; change the password if there was one");
    }
    Error::new(Kind::Usage, format!("--url: {} {why}", quoted_value(url.as_ref())))
        .remedy("give it like http://127.0.0.1:3000")
}

/// The name or the address, without brackets, and the port of the host of a URL.
fn name_and_port(host: &str) -> Option<(&str, u16)> {
    let has_port = host.rsplit(']').next().is_some_and(|tail| tail.contains(':'));
    let (name, port) = if has_port { host.rsplit_once(':')? } else { (host, "80") };
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    Some((name, port.parse().ok()?))
}

fn split_url(url: &str) -> Result<(&str, &str)> {
    let rest =
        url.strip_prefix("http://").ok_or_else(|| wrong_url(url, "is not an http:// address"))?;
    let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    if host.is_empty() || host.contains(['@', ' ', '?', '#']) || path.contains([' ', '\r', '\n']) {
        return Err(wrong_url(url, "is not an address"));
    }
    Ok((host, if matches!(path, "" | "/") { "/api/health/database" } else { path }))
}

/// Exit code and line for a health answer of a running cts.
fn parse_answer(body: &str) -> Option<(u8, String)> {
    let json: serde_json::Value = serde_json::from_str(body).ok()?;
    let status = [Status::Healthy, Status::Degraded, Status::Unhealthy, Status::Initializing]
        .into_iter()
        .find(|status| json["status"] == status.name())?;
    let database = &json["database"];
    let number = |value: &serde_json::Value| usize::try_from(value.as_u64()?).ok();
    let milliseconds = |text: &str| text.strip_suffix("ms")?.parse::<f64>().ok();
    let response_time = milliseconds(database["responseTime"].as_str()?);
    let counts = Counts {
        tables: number(&database["tableCount"])?,
        applied: number(&json["migrations"]["applied"])?,
        migrations: number(&json["migrations"]["expected"])?,
        seconds: response_time.map(|milliseconds| milliseconds / 1000.0),
        deep_check: None,
    };
    let texts = |key: &str| json[key].as_array();
    let reasons = texts("summary").or_else(|| texts("reasons")).into_iter().flatten();
    let reasons: Vec<String> = reasons.filter_map(|text| text.as_str()).map(String::from).collect();
    let counts = (database["connected"] == true).then_some(counts);
    let backups = &json["backups"];
    let age_max = backups["ageMaxSeconds"].as_u64();
    let backups = BackupFigures::new(backups["last"]["ageSeconds"].as_u64(), age_max);
    let line = check_line(status, database["type"].as_str()?, counts, backups, &reasons);
    Some((status.exit_code(), line))
}

/// Prints that the database could not be checked, and why. Returns the exit code.
pub fn could_not_ask(error: &str, as_json: bool) -> u8 {
    let json = || json!({"status": "unknown", "error": error}).to_string();
    let line = format!("CTS UNKNOWN - {}", error.replace('|', "/"));
    // Without standard output, the exit code still reports it.
    let _ = print_result(line, as_json.then(json));
    COULD_NOT_ASK
}

/// Prints the JSON, or else the line.
fn print_result(line: String, json: Option<String>) -> Result<()> {
    if let Some(json) = json {
        return print_json(&json);
    }
    let mut lines = Lines::new();
    lines.add(line);
    print_lines(&lines)
}
