//! The systemd unit, as systemd's own tools tell of it; on a machine without systemd that is
//! said, and is no fault.

use std::collections::BTreeMap;
use std::path::Path;

use super::program;
use crate::store::finding::{Finding, Group};

/// Is there where systemd is the init system (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";
const UNIT: &str = "cts.service";
/// Exposure as `systemd-analyze security` counts it that the shipped unit stays below.
const EXPOSURE_LIMIT: f32 = 2.0;
const PROPERTIES: &str = "--property=LoadState,FragmentPath,UnitFileState,ActiveState,Result,\
NRestarts,User,NeedDaemonReload";

/// Looks at the unit. Also gives the user that it runs as, where there is one.
pub fn examine() -> (Vec<Finding>, Option<String>) {
    if !Path::new(BOOTED).exists() {
        let what = "not looked at: systemd does not run this machine";
        return (vec![Finding::skipped(Group::Service, UNIT, what)], None);
    }
    let Some(told) = program::output("systemctl", &["show", PROPERTIES, UNIT, "cts.socket"]) else {
        let what = "not looked at: systemctl does not answer";
        return (vec![Finding::skipped(Group::Service, UNIT, what)], None);
    };
    let (mut all, user) = judge(&told);
    if user.is_some() {
        let said = program::output("systemd-analyze", &["security", "--no-pager", UNIT]);
        all.push(exposure(said.as_deref()));
    }
    (all, user)
}

/// Whether systemd listens for cts and starts it when it is asked.
pub fn would_be_started() -> bool {
    let words = ["show", "--property=ActiveState", "cts.socket", UNIT];
    Path::new(BOOTED).exists()
        && program::output("systemctl", &words).is_some_and(|told| waits(&told))
}

/// The socket's state, an empty line, the service's.
fn waits(told: &str) -> bool {
    let mut states = told.split("\n\n").map(|unit| unit.trim());
    states.next() == Some("ActiveState=active") && states.next() != Some("ActiveState=active")
}

/// The answer of `systemctl show`: the service, an empty line, the socket.
fn judge(told: &str) -> (Vec<Finding>, Option<String>) {
    let mut units = told.split("\n\n").map(properties);
    let service = units.next().unwrap_or_default();
    let socket = units.next().unwrap_or_default();
    let of = |name: &str| service.get(name).copied().unwrap_or_default();
    if of("LoadState") != "loaded" {
        let what = match of("LoadState") {
            "not-found" | "" => "is not installed, so nothing starts cts at boot".to_string(),
            state => format!("cannot be started: it is {state}"),
        };
        let seen = Finding::attention(Group::Service, UNIT, what).remedy(
            "install systemd/cts.service to /usr/lib/systemd/system (docs/install.md, \"Install by hand\"), \
             then systemctl daemon-reload",
        );
        return (vec![seen], None);
    }
    let has_socket = socket.get("UnitFileState").is_some_and(|state| is_enabled(state));
    let all = vec![
        Finding::good(Group::Service, UNIT, format!("installed, {}", of("FragmentPath"))),
        reloaded(of("NeedDaemonReload")),
        enabled(of("UnitFileState"), has_socket),
        match socket.get("ActiveState") {
            Some(&"active") if of("ActiveState") == "inactive" => {
                let what = "not running; cts.socket starts it when it is asked";
                Finding::good(Group::Service, "active", what)
            }
            _ => active(of("ActiveState"), of("Result"), of("NRestarts")),
        },
    ];
    let user = if of("User").is_empty() { "root" } else { of("User") };
    (all, Some(user.to_string()))
}

fn properties(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.split_once('=')).collect()
}

fn is_enabled(state: &str) -> bool {
    matches!(state, "enabled" | "enabled-runtime" | "static" | "alias" | "generated" | "linked")
}

fn reloaded(needed: &str) -> Finding {
    match needed {
        "yes" => Finding::attention(
            Group::Service,
            "loaded",
            "its file was changed since systemd read it",
        )
        .remedy("systemctl daemon-reload"),
        _ => Finding::good(Group::Service, "loaded", "as its file has it"),
    }
}

fn enabled(state: &str, by_socket: bool) -> Finding {
    let name = "enabled";
    match (is_enabled(state), by_socket) {
        (true, _) => Finding::good(Group::Service, name, state),
        (_, true) => Finding::good(Group::Service, name, "by cts.socket"),
        _ if state == "masked" => {
            Finding::bad(Group::Service, name, "it is masked, and cannot be started")
                .remedy("systemctl unmask cts")
        }
        _ => Finding::attention(Group::Service, name, "not started at boot")
            .remedy("systemctl enable cts"),
    }
}

fn active(state: &str, result: &str, restarts: &str) -> Finding {
    let name = "active";
    match state {
        "active" if matches!(restarts, "" | "0") => Finding::good(Group::Service, name, state),
        "active" => {
            let what = format!("active, after {restarts} restarts by systemd");
            Finding::attention(Group::Service, name, what).remedy("journalctl -u cts -p warning")
        }
        "inactive" => Finding::attention(Group::Service, name, "it does not run")
            .remedy("systemctl start cts"),
        "failed" => Finding::bad(Group::Service, name, format!("it has failed ({result})"))
            .remedy("journalctl -u cts -n 20"),
        other => Finding::attention(Group::Service, name, format!("it is {other}"))
            .remedy("systemctl status cts"),
    }
}

/// What the last line of `systemd-analyze security` says.
fn exposure(said: Option<&str>) -> Finding {
    let name = "exposure";
    let number = |text: &str| {
        let (_, rest) = text.split_once("Overall exposure level for ")?;
        let rest = rest.split_once(':')?.1;
        rest.split_whitespace().next()?.parse::<f32>().ok()
    };
    match said.and_then(number) {
        None => {
            let what = "not looked at: systemd-analyze does not tell it";
            Finding::skipped(Group::Service, name, what)
        }
        Some(level) if level <= EXPOSURE_LIMIT => {
            Finding::good(Group::Service, name, format!("{level:.1} of 10"))
        }
        Some(level) => {
            let what =
                format!("{level:.1} of 10, more than the {EXPOSURE_LIMIT:.1} of the shipped unit");
            Finding::attention(Group::Service, name, what).remedy(
                "systemd-analyze security cts.service; systemctl cat cts shows the drop-ins",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::finding::Grade;

    fn told(changed: &[(&str, &str)]) -> String {
        let usual = [
            ("LoadState", "loaded"),
            ("FragmentPath", "/usr/lib/systemd/system/cts.service"),
            ("UnitFileState", "enabled"),
            ("ActiveState", "active"),
            ("Result", "success"),
            ("NRestarts", "0"),
            ("User", "cts"),
            ("NeedDaemonReload", "no"),
        ];
        let value = |(name, value): &(&str, &'static str)| {
            let changed = changed.iter().find(|(changed, _)| changed == name);
            format!("{name}={}\n", changed.map_or(*value, |(_, value)| *value))
        };
        usual.iter().map(value).collect()
    }

    fn judged(changed: &[(&str, &str)]) -> Vec<(String, Grade)> {
        let changed: Vec<_> = changed.to_vec();
        let all = judge(&told(&changed)).0;
        all.into_iter().filter(|o| o.grade != Grade::Good).map(|o| (o.name, o.grade)).collect()
    }

    #[test]
    fn a_unit_that_is_installed_enabled_and_active_is_good() {
        let (all, user) = judge(&told(&[]));
        assert!(all.iter().all(|o| o.grade == Grade::Good), "{all:?}");
        assert_eq!((all.len(), user.as_deref()), (4, Some("cts")));
        assert_eq!(judge(&told(&[("User", "")])).1.as_deref(), Some("root"));
    }

    #[test]
    fn each_thing_that_can_be_wrong_with_a_unit_is_said() {
        for (name, value, says, grade) in [
            ("LoadState", "not-found", UNIT, Grade::Attention),
            ("LoadState", "bad-setting", UNIT, Grade::Attention),
            ("NeedDaemonReload", "yes", "loaded", Grade::Attention),
            ("UnitFileState", "disabled", "enabled", Grade::Attention),
            ("UnitFileState", "masked", "enabled", Grade::Bad),
            ("ActiveState", "inactive", "active", Grade::Attention),
            ("ActiveState", "activating", "active", Grade::Attention),
            ("ActiveState", "failed", "active", Grade::Bad),
            ("NRestarts", "7", "active", Grade::Attention),
        ] {
            assert_eq!(judged(&[(name, value)]), [(says.to_string(), grade)], "{name}={value}");
        }
        assert_eq!(judge("").1, None);
    }

    #[test]
    fn a_service_that_its_socket_starts_need_not_be_enabled_or_active() {
        let service = told(&[("UnitFileState", "disabled"), ("ActiveState", "inactive")]);
        let both = format!("{service}\nUnitFileState=enabled\nActiveState=active\n");
        assert!(judge(&both).0.iter().all(|o| o.grade == Grade::Good));
    }

    #[test]
    fn a_socket_that_would_start_the_service_is_known() {
        let states =
            |socket, service| waits(&format!("ActiveState={socket}\n\nActiveState={service}\n"));
        assert!(states("active", "inactive"));
        assert!(!states("active", "active") && !states("inactive", "inactive"));
    }

    #[test]
    fn exposure_is_read_from_the_last_line() {
        let line =
            |level| format!("  table\n\n→ Overall exposure level for cts.service: {level} OK 🙂\n");
        assert_eq!(exposure(Some(&line("1.1"))).grade, Grade::Good);
        assert_eq!(exposure(Some(&line("9.6"))).grade, Grade::Attention);
        assert_eq!(exposure(Some("nothing")).grade, Grade::Skipped);
        assert_eq!(exposure(None).grade, Grade::Skipped);
    }
}
