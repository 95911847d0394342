//! `cts doctor`: looks at everything that cts needs to work, says what it saw and what to do.
//! Nothing is changed and no running cts is needed. Each look has a limit, and none waits for
//! another: a disk or a server that hangs is a finding, not the end of the others.
//!
//! What it sees becomes [`Finding`]s by pure functions, in the files below this one and
//! behind the store's seam.

mod clock;
mod contents;
mod endpoints;
mod settings;
mod unit;

use std::fmt::Write as _;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::store::FileOwner;
use crate::store::finding::{Finding, Grade, Group};
use crate::system::log::Verbosity;
use crate::system::output::print;
use crate::system::version::VERSION;

/// When the last look is no longer waited for.
const WITHIN: Duration = Duration::from_secs(8);
/// How long a program that is asked may take.
const PROGRAM_WITHIN: Duration = Duration::from_secs(3);

/// `cts doctor`.
pub fn run(config: &Config, as_json: bool) -> Result<u8> {
    let until = Instant::now() + WITHIN;
    let asked = config.clone();
    let database = begin(move || contents::examine(&*asked.database))?;
    let asked = config.clone();
    let endpoints = begin(move || endpoints::examine(&asked))?;
    let unit = begin(unit::examine)?;
    let clock = begin(clock::examine)?;

    let mut all = settings::examine(config);
    let (seen, owner) = database.within(until).unwrap_or_else(|| {
        let location = config.database.location();
        let what = format!("{location}: no answer within {} s", WITHIN.as_secs());
        let late = Finding::bad(Group::Database, "answer", what);
        (vec![late.remedy(config.database.silence())], None)
    });
    all.extend(seen);
    let late = |group, what: &str| {
        let what = format!("{what} took longer than {} s", WITHIN.as_secs());
        vec![Finding::skipped(group, "looked at", what)]
    };
    all.extend(endpoints.within(until).unwrap_or_else(|| late(Group::Endpoints, "the answers")));
    let (seen, user) =
        unit.within(until).unwrap_or_else(|| (late(Group::Service, "systemd"), None));
    all.extend(seen);
    all.extend(owner.zip(user).map(|(owner, user)| of_one_user(&owner, &user)));
    all.extend(clock.within(until).unwrap_or_else(|| late(Group::Clock, "the clock")));
    tell(all, config.verbosity, as_json).map(|status| status.exit_code())
}

/// Exit code of a wrong configuration, as every command has it; what can be looked at without
/// one is said all the same.
pub fn misconfigured(error: &Error, verbosity: Verbosity, as_json: bool) -> Result<u8> {
    let until = Instant::now() + WITHIN;
    let (unit, clock) = (begin(unit::examine)?, begin(clock::examine)?);
    let mut all = vec![settings::refused(error)];
    all.extend(unit.within(until).map(|(seen, _)| seen).unwrap_or_default());
    all.extend(clock.within(until).unwrap_or_default());
    tell(all, verbosity, as_json)?;
    Ok(Kind::Config.exit_code())
}

/// A look under way.
struct Looking<T>(Receiver<T>);

fn begin<T: Send + 'static>(snapshot: impl FnOnce() -> T + Send + 'static) -> Result<Looking<T>> {
    let (sender, receiver) = mpsc::channel();
    let run = move || {
        // Nobody waits for an answer that comes too late.
        let _ = sender.send(snapshot());
    };
    thread::Builder::new()
        .spawn(run)
        .map(|_| Looking(receiver))
        .map_err(|e| Error::new(Kind::Io, format!("a thread cannot be started: {e}")))
}

impl<T> Looking<T> {
    fn within(&self, until: Instant) -> Option<T> {
        self.0.recv_timeout(until.saturating_duration_since(Instant::now())).ok()
    }
}

/// Whether the service runs as who owns the database: the slip of a first run by root.
fn of_one_user(owner: &FileOwner, user: &str) -> Finding {
    let what = format!("{} belongs to {}", owner.path, crate::system::users::name(owner.uid));
    match crate::system::users::uid(user) {
        None => {
            let what = format!("{what}, and cts.service runs as {user}, whose number is not known");
            Finding::skipped(Group::Service, "owner", what)
        }
        Some(uid) if uid == owner.uid => {
            Finding::good(Group::Service, "owner", format!("{what}, as whom cts.service runs"))
        }
        Some(_) if owner.shared => {
            let what =
                format!("{what}; cts.service runs as {user}, and the file's group may write");
            Finding::good(Group::Service, "owner", what)
        }
        Some(_) => {
            let what = format!("{what}, but cts.service runs as {user}, who may not open it");
            let remedy = format!("chown {user}: {}*", owner.path);
            // It may be another database than the service's.
            Finding::attention(Group::Service, "owner", what).remedy(remedy)
        }
    }
}

/// How it is, all in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DoctorStatus {
    Good,
    Attention,
    Bad,
    Unknown,
}

impl DoctorStatus {
    /// The one decision. Below what keeps it from working comes what could not be seen: a
    /// database that nobody looked at is not good.
    fn of(all: &[Finding]) -> DoctorStatus {
        let has = |grade| all.iter().any(|finding| finding.grade == grade);
        if has(Grade::Bad) {
            DoctorStatus::Bad
        } else if has(Grade::Unknown) {
            DoctorStatus::Unknown
        } else if has(Grade::Attention) {
            DoctorStatus::Attention
        } else {
            DoctorStatus::Good
        }
    }

    fn name(self) -> &'static str {
        match self {
            DoctorStatus::Good => "good",
            DoctorStatus::Attention => "attention",
            DoctorStatus::Bad => "bad",
            DoctorStatus::Unknown => "unknown",
        }
    }

    fn exit_code(self) -> u8 {
        match self {
            DoctorStatus::Good => 0,
            DoctorStatus::Attention => 1,
            DoctorStatus::Bad => 2,
            DoctorStatus::Unknown => 3,
        }
    }
}

fn tell(mut all: Vec<Finding>, verbosity: Verbosity, as_json: bool) -> Result<DoctorStatus> {
    all.sort_by_key(|finding| finding.group);
    let status = DoctorStatus::of(&all);
    print(&if as_json { as_data(status, &all) } else { as_text(status, &all, verbosity) })?;
    Ok(status)
}

fn as_data(status: DoctorStatus, all: &[Finding]) -> String {
    let finding = |finding: &Finding| {
        let Finding { group, name, grade, what, remedy } = finding;
        let status = match grade {
            Grade::Good => "good",
            Grade::Attention => "attention",
            Grade::Bad => "bad",
            Grade::Unknown | Grade::Skipped => "unknown",
        };
        json!({"group": group.name(), "name": name, "status": status, "what": what, "remedy": remedy})
    };
    let findings: Vec<_> = all.iter().map(finding).collect();
    json!({"status": status.name(), "findings": findings, "version": VERSION}).to_string() + "\n"
}

/// One line a finding, its remedy below it. Quiet, only what is not good is shown.
fn as_text(status: DoctorStatus, all: &[Finding], verbosity: Verbosity) -> String {
    let is_shown = |finding: &&Finding| {
        verbosity > Verbosity::Quiet || !matches!(finding.grade, Grade::Good | Grade::Skipped)
    };
    let clean = |text: &str| text.replace(char::is_control, " ");
    let mut text = String::new();
    let mut group = None;
    for finding in all.iter().filter(is_shown) {
        if group.replace(finding.group) != Some(finding.group) {
            let _ = writeln!(text, "{}", finding.group.name());
        }
        let sign = match finding.grade {
            Grade::Good => "✓",
            Grade::Attention => "⚠",
            Grade::Bad => "✗",
            Grade::Unknown => "?",
            Grade::Skipped => "-",
        };
        let (name, what) = (&finding.name, clean(&finding.what));
        let _ = writeln!(text, "  {sign} {name}: {what}");
        if let Some(remedy) = &finding.remedy {
            let _ = writeln!(text, "      {}", clean(remedy));
        }
    }
    let count = |grade| all.iter().filter(|finding| finding.grade == grade).count();
    let sum = match status {
        DoctorStatus::Good => "all good".to_string(),
        DoctorStatus::Attention => format!("{} for a person to look at", count(Grade::Attention)),
        DoctorStatus::Bad => format!(
            "{} in the way of cts, {} for a person to look at",
            count(Grade::Bad),
            count(Grade::Attention)
        ),
        DoctorStatus::Unknown => format!(
            "{} could not be looked at, {} for a person to look at",
            count(Grade::Unknown),
            count(Grade::Attention)
        ),
    };
    text + &sum + "; nothing was changed\n"
}

/// What another program prints, if it is there and answers in time.
fn ask(program: &str, words: &[&str]) -> Option<String> {
    let mut child = Command::new(program)
        .args(words)
        .env("LC_ALL", "C")
        .env("SYSTEMD_COLORS", "0")
        .env("SYSTEMD_PAGER", "")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let said = begin_reading(&mut child);
    let until = Instant::now() + PROGRAM_WITHIN;
    let status = loop {
        match child.try_wait() {
            Ok(None) if Instant::now() < until => thread::sleep(Duration::from_millis(10)),
            Ok(Some(status)) => break Some(status),
            _ => break None,
        }
    };
    if status.is_none() {
        // One that cannot be ended ends without us.
        let _ = child.kill();
    }
    let text = said?.within(until)?;
    status.filter(|status| status.success()).map(|_| text)
}

fn begin_reading(child: &mut Child) -> Option<Looking<String>> {
    let mut output = child.stdout.take()?;
    begin(move || {
        let mut bytes = Vec::new();
        // What was read before it broke off is not enough for an answer.
        let _ = output.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(grades: &[Grade]) -> Vec<Finding> {
        let one = |grade: &Grade| Finding {
            grade: *grade,
            ..Finding::good(Group::Files, "file", "what").remedy("do it")
        };
        grades.iter().map(one).collect()
    }

    #[test]
    fn the_worst_decides_and_what_was_left_out_does_not() {
        use Grade::{Attention, Bad, Good, Skipped, Unknown};
        for (grades, code) in [
            (&[Good, Skipped][..], 0),
            (&[Good, Attention], 1),
            (&[Attention, Unknown], 3),
            (&[Unknown, Bad, Attention], 2),
        ] {
            assert_eq!(DoctorStatus::of(&seen(grades)).exit_code(), code, "{grades:?}");
        }
    }

    #[test]
    fn text_has_a_sign_a_line_and_the_remedy_below_it() {
        let mut all = seen(&[Grade::Good, Grade::Bad]);
        all[1].what = "a\u{1b}[31m b".into();
        let text = as_text(DoctorStatus::of(&all), &all, Verbosity::Normal);
        assert_eq!(
            text,
            "files\n  ✓ file: what\n      do it\n  ✗ file: a [31m b\n      do it\n\
             1 in the way of cts, 0 for a person to look at; nothing was changed\n"
        );
        let text = as_text(DoctorStatus::of(&all), &all, Verbosity::Quiet);
        assert!(text.starts_with("files\n  ✗ file") && !text.contains('✓'), "{text}");
    }

    #[test]
    fn json_has_the_published_keys() {
        let all = seen(&[Grade::Attention]);
        let json: serde_json::Value =
            serde_json::from_str(&as_data(DoctorStatus::of(&all), &all)).unwrap();
        assert_eq!(json["status"], "attention");
        let finding = json!({"group": "files", "name": "file", "status": "attention", "what": "what", "remedy": "do it"});
        assert_eq!(json["findings"], json!([finding]));
    }

    #[test]
    fn a_program_that_hangs_is_not_waited_for() {
        let start = Instant::now();
        assert_eq!(ask("sleep", &["60"]), None);
        assert!(start.elapsed() < PROGRAM_WITHIN + Duration::from_secs(2));
        assert_eq!(ask("echo", &["here"]).as_deref(), Some("here\n"));
        assert_eq!(ask("/nonexistent/program", &[]), None);
        assert_eq!(ask("false", &[]), None);
    }

    #[test]
    fn a_database_of_another_user_than_the_services_is_said() {
        let owner = |uid, shared| FileOwner { path: "/data/cts.db".into(), uid, shared };
        let seen = of_one_user(&owner(0, false), "1001");
        assert_eq!(seen.grade, Grade::Attention);
        assert_eq!(seen.remedy.as_deref(), Some("chown 1001: /data/cts.db*"));
        assert_eq!(of_one_user(&owner(0, true), "1001").grade, Grade::Good);
        assert_eq!(of_one_user(&owner(1001, false), "1001").grade, Grade::Good);
        assert_eq!(of_one_user(&owner(0, false), "no one").grade, Grade::Skipped);
    }
}
