//! The systemd unit, as systemd's own tools report it. A machine without systemd is not a fault.

use std::collections::BTreeMap;
use std::path::Path;

use super::program;
use super::sandbox::Sandbox;
use super::upgrade;
use crate::config::SERVICE_UNIT;
use crate::store::finding::{Finding, Group};

/// Exists if systemd is the init system (sd_booted(3)).
pub const BOOTED: &str = "/run/systemd/system";
/// The exposure level (`systemd-analyze security`) of the shipped unit.
const EXPOSURE_SHIPPED: f32 = 1.2;
/// The one that it does not exceed with the drop-ins that it has in its comments, on any version of systemd.
const EXPOSURE_MAX: f32 = 2.0;
const PROPERTIES: &str = "--property=LoadState,FragmentPath,UnitFileState,ActiveState,Result,\
NRestarts,User,NeedDaemonReload,ProtectSystem,ProtectHome,PrivateTmp,ReadWritePaths,InaccessiblePaths";

/// What the examination of the unit found.
#[derive(Default)]
pub struct UnitExamination {
    /// The findings.
    pub findings: Vec<Finding>,
    /// The user that the unit runs as; `None` if it is not installed, or not known.
    pub user: Option<String>,
    /// What it can write; `None` if it is not installed.
    pub sandbox: Option<Sandbox>,
}

impl UnitExamination {
    fn not_examined(reason: &str) -> UnitExamination {
        let finding =
            Finding::skipped(Group::Service, SERVICE_UNIT, format!("not examined: {reason}"));
        UnitExamination { findings: vec![finding], ..UnitExamination::default() }
    }
}

/// Examines the unit.
pub fn examine() -> UnitExamination {
    if !Path::new(BOOTED).exists() {
        return UnitExamination::not_examined("systemd is not the init system of this machine");
    }
    let Some(output) =
        program::output("systemctl", &["show", PROPERTIES, SERVICE_UNIT, "cts.socket"])
    else {
        return UnitExamination::not_examined("systemctl does not answer");
    };
    let mut unit = judge(&output);
    if unit.user.is_some() {
        let output = program::output("systemd-analyze", &["security", "--no-pager", SERVICE_UNIT]);
        unit.findings.push(exposure(output.as_deref()));
        unit.findings.extend(upgrade::examine());
    }
    unit
}

/// Whether a connection to the port would start the service: systemd listens for it, and it is not active.
pub fn is_socket_activated() -> bool {
    let arguments = ["show", "--property=ActiveState", "cts.socket", SERVICE_UNIT];
    Path::new(BOOTED).exists()
        && program::output("systemctl", &arguments).is_some_and(|output| socket_waits(&output))
}

/// Reads the properties of the socket, an empty line, and those of the service.
fn socket_waits(output: &str) -> bool {
    let mut states = output.split("\n\n").map(|unit| unit.trim());
    states.next() == Some("ActiveState=active") && states.next() != Some("ActiveState=active")
}

/// The properties of one unit. One that systemctl does not print is not known.
pub struct Properties<'o>(BTreeMap<&'o str, &'o str>);

impl<'o> Properties<'o> {
    /// Reads what `systemctl show` prints of one unit.
    pub fn read(output: &'o str) -> Properties<'o> {
        Properties(output.lines().filter_map(|line| line.split_once('=')).collect())
    }

    fn get(&self, name: &str) -> Option<&'o str> {
        self.0.get(name).copied()
    }

    /// A property that the unit has been given a value for.
    pub fn value(&self, name: &str) -> Option<&'o str> {
        self.get(name).filter(|value| !value.is_empty())
    }
}

/// Judges the output of `systemctl show`: the service, an empty line, the socket.
fn judge(output: &str) -> UnitExamination {
    let mut units = output.split("\n\n").map(Properties::read);
    let service = units.next().unwrap_or_else(|| Properties::read(""));
    let socket = units.next().unwrap_or_else(|| Properties::read(""));
    match service.value("LoadState") {
        Some("loaded") => {}
        Some(state) => {
            return UnitExamination { findings: vec![not_loaded(state)], ..Default::default() };
        }
        None => return UnitExamination::not_examined("systemctl does not report its LoadState"),
    }
    let path = service.value("FragmentPath").unwrap_or("path unknown");
    let has_enabled_socket = socket.value("UnitFileState").is_some_and(is_enabled);
    let waits_for_socket = socket.value("ActiveState") == Some("active")
        && service.value("ActiveState") == Some("inactive");
    let findings = vec![
        Finding::good(Group::Service, SERVICE_UNIT, format!("installed, {path}")),
        reloaded(service.value("NeedDaemonReload")),
        enabled(service.value("UnitFileState"), has_enabled_socket),
        if waits_for_socket {
            let what = "not running; a connection to cts.socket starts it";
            Finding::good(Group::Service, "active", what)
        } else {
            active(&service)
        },
    ];
    // Without `User=`, systemd runs a unit as root.
    let user = service.get("User").map(|user| if user.is_empty() { "root" } else { user });
    let property = |name: &str| service.get(name).unwrap_or_default().to_string();
    let sandbox = Sandbox {
        protect_system: property("ProtectSystem"),
        protect_home: property("ProtectHome"),
        private_tmp: property("PrivateTmp"),
        read_write_paths: property("ReadWritePaths"),
        inaccessible_paths: property("InaccessiblePaths"),
    };
    UnitExamination { findings, user: user.map(String::from), sandbox: Some(sandbox) }
}

fn not_loaded(state: &str) -> Finding {
    let what = match state {
        "not-found" => "not installed, so that nothing starts cts at boot".to_string(),
        state => format!("cannot be started: its load state is {state}"),
    };
    Finding::attention(Group::Service, SERVICE_UNIT, what).remedy(
        "install systemd/cts.service to /usr/lib/systemd/system (docs/install.md), \
         then systemctl daemon-reload",
    )
}

fn unreported(name: &str) -> Finding {
    Finding::skipped(Group::Service, name, "not examined: systemctl does not report it")
}

/// Whether a unit in this state of its file is started.
pub fn is_enabled(state: &str) -> bool {
    matches!(state, "enabled" | "enabled-runtime" | "static" | "alias" | "generated" | "linked")
}

fn reloaded(needs_reload: Option<&str>) -> Finding {
    let name = "loaded";
    match needs_reload {
        Some("yes") => {
            let what = "its file has changed since systemd read it";
            Finding::attention(Group::Service, name, what).remedy("systemctl daemon-reload")
        }
        Some(_) => Finding::good(Group::Service, name, "the unit in effect is that of its file"),
        None => unreported(name),
    }
}

fn enabled(state: Option<&str>, by_socket: bool) -> Finding {
    let name = "enabled";
    match state {
        Some(state) if is_enabled(state) => Finding::good(Group::Service, name, state),
        _ if by_socket => Finding::good(Group::Service, name, "by cts.socket"),
        Some("masked") => Finding::bad(Group::Service, name, "masked: the unit cannot be started")
            .remedy("systemctl unmask cts"),
        Some(_) => Finding::attention(Group::Service, name, "not started at boot")
            .remedy("systemctl enable cts"),
        None => unreported(name),
    }
}

fn active(service: &Properties<'_>) -> Finding {
    let name = "active";
    match (service.value("ActiveState"), service.value("NRestarts")) {
        (Some("active"), Some("0")) => Finding::good(Group::Service, name, "active"),
        (Some("active"), Some(restarts)) => {
            let what = format!("active, after {restarts} restarts by systemd");
            Finding::attention(Group::Service, name, what).remedy("journalctl -u cts -p warning")
        }
        (Some("active"), None) => {
            let what = "active; systemctl does not report how often it was restarted";
            Finding::good(Group::Service, name, what)
        }
        (Some("inactive"), _) => {
            Finding::attention(Group::Service, name, "not running").remedy("systemctl start cts")
        }
        (Some("failed"), _) => {
            let result = service.value("Result").unwrap_or("result unknown");
            Finding::bad(Group::Service, name, format!("failed ({result})"))
                .remedy("journalctl -u cts -n 20")
        }
        (Some(state), _) => {
            Finding::attention(Group::Service, name, state).remedy("systemctl status cts")
        }
        (None, _) => unreported(name),
    }
}

/// Judges the last line of `systemd-analyze security`.
fn exposure(output: Option<&str>) -> Finding {
    let name = "exposure";
    let level = |text: &str| {
        let (_, rest) = text.split_once("Overall exposure level for ")?;
        let rest = rest.split_once(':')?.1;
        rest.split_whitespace().next()?.parse::<f32>().ok()
    };
    match output.and_then(level) {
        None => {
            let what = "not examined: systemd-analyze does not report it";
            Finding::skipped(Group::Service, name, what)
        }
        Some(level) if level <= EXPOSURE_MAX => {
            Finding::good(Group::Service, name, format!("{level:.1} of 10"))
        }
        Some(level) => {
            let what =
                format!("{level:.1} of 10, and that of the shipped unit is {EXPOSURE_SHIPPED:.1}");
            Finding::attention(Group::Service, name, what).remedy(
                "systemd-analyze security cts.service; systemctl cat cts shows the drop-ins",
            )
        }
    }
}

#[cfg(test)]
mod tests;
