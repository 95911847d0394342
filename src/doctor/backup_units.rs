//! The units that make backups and that copy them off the machine, as systemd reports them.

use std::path::Path;

use super::program;
use super::unit::{BOOTED, Properties, is_enabled};
use crate::store::finding::{Finding, Group};

/// The units, in the order in which they are asked for.
const UNITS: [&str; 4] =
    ["cts-backup.timer", "cts-backup.service", "cts-offsite.path", "cts-offsite.service"];
const PROPERTIES: &str = "--property=LoadState,UnitFileState,ActiveState,Result,ExecMainStatus,ExecMainExitTimestamp,InactiveEnterTimestamp";

/// What systemd reports of the units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackupUnits {
    /// The timer that makes backups; `None` where systemd does not report it.
    pub timer: Option<Installation>,
    /// The last run of the service that the timer starts.
    pub timer_run: Option<LastRun>,
    /// What copies backups off the machine.
    pub offsite: Option<Installation>,
    /// The last run of what copies them.
    pub offsite_run: Option<LastRun>,
}

/// Whether a unit is installed and started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installation {
    /// It is not installed.
    Missing,
    /// It is installed, and nothing starts it.
    Disabled,
    /// It is started at boot, or runs.
    Enabled,
}

/// How a run of a unit ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastRun {
    /// `success`, or what systemd calls the failure.
    pub result: String,
    /// The exit code of its program.
    pub status: String,
    /// When, as systemd writes it; empty if it has not run since the machine was started.
    pub at: String,
}

impl LastRun {
    /// Whether it failed.
    pub fn has_failed(&self) -> bool {
        self.result != "success"
    }
}

/// Asks systemd.
pub fn examine() -> BackupUnits {
    let arguments = [&["show", PROPERTIES], &UNITS[..]].concat();
    let output = Path::new(BOOTED).exists().then(|| program::output("systemctl", &arguments));
    output.flatten().map(|output| read(&output)).unwrap_or_default()
}

/// Reads what `systemctl show` prints: the units, with an empty line between two.
fn read(output: &str) -> BackupUnits {
    let units: Vec<Properties<'_>> = output.split("\n\n").map(Properties::read).collect();
    let installed = |at: usize| units.get(at).and_then(installation);
    // What a path unit or `OnSuccess=` starts is not enabled itself.
    let offsite = match (installed(2), installed(3)) {
        (Some(Installation::Enabled), _) => Some(Installation::Enabled),
        (_, service) => service,
    };
    BackupUnits {
        timer: installed(0),
        timer_run: units.get(1).and_then(last_run),
        offsite,
        offsite_run: units.get(3).and_then(last_run),
    }
}

fn installation(unit: &Properties<'_>) -> Option<Installation> {
    let is_started =
        unit.value("UnitFileState").is_some_and(|state| state != "static" && is_enabled(state))
            || unit.value("ActiveState") == Some("active");
    match unit.value("LoadState")? {
        "loaded" if is_started => Some(Installation::Enabled),
        "loaded" => Some(Installation::Disabled),
        _ => Some(Installation::Missing),
    }
}

/// The last run; `None` where the unit is not installed, or has not run since the machine was started.
fn last_run(unit: &Properties<'_>) -> Option<LastRun> {
    let at = unit.value("ExecMainExitTimestamp").or(unit.value("InactiveEnterTimestamp"));
    let result = unit.value("Result").filter(|_| unit.value("LoadState") == Some("loaded"))?;
    // A run that failed before its program began has no time of its end.
    if at.is_none() && result == "success" {
        return None;
    }
    Some(LastRun {
        result: result.into(),
        status: unit.value("ExecMainStatus").unwrap_or_default().into(),
        at: at.unwrap_or_default().into(),
    })
}

impl BackupUnits {
    /// Who makes backups by itself: the service every so often, or the timer.
    pub fn makers(&self, service_every: Option<String>) -> Finding {
        let (group, name) = (Group::Backups, "automatic");
        let by_timer = self.timer == Some(Installation::Enabled);
        match service_every {
            Some(every) if by_timer => Finding::attention(
                group,
                name,
                format!("both the service (every {every}) and cts-backup.timer make them"),
            )
            .remedy("set CTS_BACKUP_EVERY=0, or systemctl disable --now cts-backup.timer"),
            Some(every) => {
                Finding::good(group, name, format!("the service makes one every {every}"))
            }
            None if by_timer => Finding::good(group, name, "cts-backup.timer makes them"),
            None => Finding::attention(
                group,
                name,
                "nothing makes them: CTS_BACKUP_EVERY is 0, and cts-backup.timer is not enabled",
            )
            .remedy("remove CTS_BACKUP_EVERY, or systemctl enable --now cts-backup.timer"),
        }
    }

    /// The run of the timer's service, if it failed.
    pub fn failed_timer_run(&self) -> Option<Finding> {
        let run = self.timer_run.as_ref().filter(|run| run.has_failed())?;
        let what = format!("its last run failed: {}", ended(run));
        Some(
            Finding::attention(Group::Backups, "cts-backup.service", what)
                .remedy("journalctl -u cts-backup -n 20"),
        )
    }

    /// Whether backups are copied off the machine; `None` where nothing is installed for it.
    pub fn offsite_copies(&self) -> Option<Finding> {
        let (group, name) = (Group::Backups, "cts-offsite.service");
        if !matches!(self.offsite, Some(Installation::Enabled | Installation::Disabled)) {
            return None;
        }
        Some(match &self.offsite_run {
            Some(run) if run.has_failed() => {
                Finding::attention(group, name, format!("the last copy failed: {}", ended(run)))
                    .remedy(
                        "journalctl -u cts-offsite -n 20; systemctl start cts-offsite tries again",
                    )
            }
            Some(run) => Finding::good(group, name, format!("the last copy succeeded, {}", run.at)),
            None => Finding::attention(group, name, "has not run since the machine was started")
                .remedy("systemctl start cts-offsite"),
        })
    }

    /// Whether the last copy off the machine succeeded.
    pub fn has_offsite_copy(&self) -> bool {
        self.offsite_run.as_ref().is_some_and(|run| !run.has_failed())
    }
}

fn ended(run: &LastRun) -> String {
    let LastRun { result, status, at } = run;
    match at.as_str() {
        "" => format!("{result}, status {status}"),
        at => format!("{result}, status {status}, {at}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::finding::Grade;

    const MISSING: &str = "LoadState=not-found\nActiveState=inactive\nResult=success\n";

    fn unit(file: &str, active: &str, result: &str, at: &str) -> String {
        format!(
            "LoadState=loaded\nUnitFileState={file}\nActiveState={active}\nResult={result}\n\
             ExecMainStatus=1\nExecMainExitTimestamp={at}\nInactiveEnterTimestamp={at}\n"
        )
    }

    fn units(units: [&str; 4]) -> BackupUnits {
        read(&units.join("\n"))
    }

    #[test]
    fn both_or_neither_of_service_and_timer_need_attention() {
        let enabled = unit("enabled", "active", "success", "");
        let disabled = unit("disabled", "inactive", "success", "");
        for (timer, every, grade) in [
            (&*enabled, None, Grade::Good),
            (&enabled, Some("1day"), Grade::Attention),
            (&disabled, Some("1day"), Grade::Good),
            (&disabled, None, Grade::Attention),
            (MISSING, Some("1day"), Grade::Good),
            (MISSING, None, Grade::Attention),
        ] {
            let found = units([timer, MISSING, MISSING, MISSING]).makers(every.map(String::from));
            assert_eq!(found.grade, grade, "{timer} {every:?}");
        }
        assert_eq!(BackupUnits::default().makers(None).grade, Grade::Attention);
    }

    #[test]
    fn the_last_copy_off_the_machine_counts_and_not_the_one_before() {
        let watching = unit("enabled", "active", "success", "");
        for (service, grade, says) in [
            (
                unit("static", "inactive", "success", "Sat 2026-11-28 20:00:00 UTC"),
                Grade::Good,
                "20:00:00",
            ),
            (
                unit("static", "failed", "exit-code", "Sat"),
                Grade::Attention,
                "exit-code, status 1, Sat",
            ),
            (unit("static", "inactive", "success", ""), Grade::Attention, "has not run"),
            (unit("static", "failed", "resources", ""), Grade::Attention, "resources, status 1"),
        ] {
            let found = units([MISSING, MISSING, &watching, &service]);
            let copies = found.offsite_copies().unwrap();
            assert_eq!(copies.grade, grade, "{copies:?}");
            assert!(copies.what.contains(says), "{copies:?}");
            assert_eq!(found.has_offsite_copy(), grade == Grade::Good);
        }
        assert_eq!(units([MISSING; 4]).offsite_copies(), None);
        assert_eq!(BackupUnits::default().offsite_copies(), None);
    }

    #[test]
    fn a_timer_whose_service_failed_needs_attention() {
        let timer = unit("enabled", "active", "success", "");
        let failed = unit("static", "failed", "exit-code", "Sat");
        let found = units([&timer, &failed, MISSING, MISSING]).failed_timer_run().unwrap();
        assert!(found.what.contains("exit-code"), "{found:?}");
        let good = unit("static", "inactive", "success", "Sat");
        assert_eq!(units([&timer, &good, MISSING, MISSING]).failed_timer_run(), None);
    }
}
