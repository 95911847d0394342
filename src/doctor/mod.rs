//! `cts doctor`: examines everything that cts needs to work, and reports it with remedies. It changes
//! nothing and needs no running cts. Each examination runs on a thread of its own until a deadline: a
//! disk or a server that hangs is a finding and does not hold up the others.
//!
//! The results become [`Finding`]s by pure functions, in the files of this folder and in the stores.

mod archive;
mod backup_folder;
mod backup_units;
mod backups;
mod clock;
mod contents;
mod endpoints;
mod moving;
mod owner;
mod program;
mod retention;
mod sandbox;
mod secrets;
mod settings;
mod summary;
mod unit;
mod upgrade;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::config::{Config, OtherStore, ServiceDatabase, service_database};
use crate::error::{Error, Kind, Result};
use crate::store::Backend;
use crate::store::finding::{Finding, Group};
use crate::system::deadline::BackgroundTask;
use crate::system::log::Verbosity;
use archive::ArchiveExamination;
use backups::BackupExamination;
use contents::DatabaseExamination;
use summary::print_findings;
use unit::UnitExamination;

/// Time limit for all examinations together.
const EXAMINATION_TIMEOUT: Duration = Duration::from_secs(8);

/// `cts doctor`. `other` is the database that a copy of the configured one would be made into. Returns the exit code.
///
/// # Errors
///
/// [`Kind::Io`] if a thread cannot be started or standard output cannot be written. What is wrong with
/// the machine or the database is a finding, not an error.
pub fn run(config: &Config, other: Result<Option<OtherStore>>, as_json: bool) -> Result<u8> {
    let deadline = Instant::now() + EXAMINATION_TIMEOUT;
    let examined = config.clone();
    let database =
        BackgroundTask::start("database", move || contents::examine(&*examined.database))?;
    let examined = config.clone();
    let endpoints = BackgroundTask::start("endpoints", move || endpoints::examine(&examined))?;
    let unit = BackgroundTask::start("unit", unit::examine)?;
    let clock = BackgroundTask::start("clock", clock::examine)?;
    let backups = BackupExamination::start(config)?;
    let archive = ArchiveExamination::start(config)?;

    let mut findings = settings::examine(config, as_json || config.verbosity == Verbosity::Verbose);
    findings.extend(secrets::of_units());
    let database = database
        .until(deadline)
        .unwrap_or_else(|_| DatabaseExamination::unanswered(&*config.database, unanswered(config)));
    findings.extend(database.findings);
    if database.is_readable {
        let examined = config.clone();
        let task = BackgroundTask::start("retention", move || retention::examine(&examined))?;
        findings.extend(task.until(deadline).unwrap_or_default());
        findings.extend(move_to(other, config, deadline)?);
    }
    findings.extend(endpoints.until(deadline).unwrap_or_else(|_| vec![overdue(Group::Endpoints)]));
    let unit = unit.until(deadline).unwrap_or_else(|_| UnitExamination {
        findings: vec![overdue(Group::Service)],
        ..UnitExamination::default()
    });
    findings.extend(backups.until(deadline, config, &database.backed_up, &unit));
    findings.extend(archive.map(|archive| archive.until(deadline, &unit)).unwrap_or_default());
    findings.extend(unit.findings);
    findings.extend(unit.sandbox.and_then(|sandbox| {
        let path = service_path(config)?;
        Some(sandbox.examine(&path))
    }));
    findings
        .extend(database.owner.zip(unit.user).map(|(owner, user)| owner::examine(&owner, &user)));
    findings.extend(clock.until(deadline).unwrap_or_else(|_| vec![overdue(Group::Clock)]));
    print_findings(findings, config.verbosity, as_json).map(|status| status.exit_code())
}

/// `cts doctor` with a configuration that is refused: what needs no configuration is examined all the
/// same. Returns the exit code of a wrong configuration.
///
/// # Errors
///
/// As [`run`].
pub fn misconfigured(error: &Error, verbosity: Verbosity, as_json: bool) -> Result<u8> {
    let deadline = Instant::now() + EXAMINATION_TIMEOUT;
    let unit = BackgroundTask::start("unit", unit::examine)?;
    let clock = BackgroundTask::start("clock", clock::examine)?;
    let mut findings = vec![settings::refused(error)];
    findings.extend(unit.until(deadline).map(|unit| unit.findings).unwrap_or_default());
    findings.extend(clock.until(deadline).unwrap_or_default());
    print_findings(findings, verbosity, as_json)?;
    Ok(Kind::Config.exit_code())
}

/// Examines what would not survive a move, once nothing else reads the database.
fn move_to(
    other: Result<Option<OtherStore>>,
    config: &Config,
    deadline: Instant,
) -> Result<Option<Finding>> {
    let other = match other {
        Ok(None) => return Ok(None),
        Ok(Some(other)) => other,
        Err(error) => {
            return Ok(Some(moving::not_examined(config.database.identity().backend, error)));
        }
    };
    let examined = config.clone();
    let backend = config.database.identity().backend;
    let task = BackgroundTask::start("move", move || moving::examine(&*examined.database, &other))?;
    let finding = task.until(deadline);
    Ok(Some(finding.unwrap_or_else(|_| moving::overdue(backend))))
}

/// The path of the service's SQLite database, or else that of this run. `None` if it is on a server.
fn service_path(config: &Config) -> Option<PathBuf> {
    let identity = config.database.identity();
    let (backend, location) = match service_database() {
        Some(ServiceDatabase { backend, location, .. }) => (backend, location),
        None => (identity.backend, Some(identity.location)),
    };
    location.filter(|_| backend == Backend::Sqlite).map(PathBuf::from)
}

fn unanswered(config: &Config) -> Finding {
    let location = config.database.identity().location;
    let what = format!("{location}: no answer within {} s", EXAMINATION_TIMEOUT.as_secs());
    Finding::bad(Group::Database, "answer", what)
        .remedy(config.database.identity().no_answer_remedy)
}

fn overdue(group: Group) -> Finding {
    let what = format!("not examined: took longer than {} s", EXAMINATION_TIMEOUT.as_secs());
    Finding::skipped(group, "examination", what)
}
