//! What each state of a unit is judged to be.

use super::*;
use crate::store::finding::Grade;

fn show(changed: &[(&str, &str)]) -> String {
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
    let all = judge(&show(&changed)).findings;
    all.into_iter().filter(|o| o.grade != Grade::Good).map(|o| (o.name, o.grade)).collect()
}

#[test]
fn a_unit_that_is_installed_enabled_and_active_is_good() {
    let UnitExamination { findings: all, user, .. } = judge(&show(&[]));
    assert!(all.iter().all(|o| o.grade == Grade::Good), "{all:?}");
    assert_eq!((all.len(), user.as_deref()), (4, Some("cts")));
    assert_eq!(judge(&show(&[("User", "")])).user.as_deref(), Some("root"));
}

#[test]
fn each_fault_of_a_unit_is_found() {
    for (name, value, says, grade) in [
        ("LoadState", "not-found", SERVICE_UNIT, Grade::Attention),
        ("LoadState", "bad-setting", SERVICE_UNIT, Grade::Attention),
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
    assert_eq!(judge("").user, None);
}

#[test]
fn a_service_that_its_socket_starts_need_not_be_enabled_or_active() {
    let service = show(&[("UnitFileState", "disabled"), ("ActiveState", "inactive")]);
    let both = format!("{service}\nUnitFileState=enabled\nActiveState=active\n");
    assert!(judge(&both).findings.iter().all(|o| o.grade == Grade::Good));
}

#[test]
fn a_socket_that_starts_the_service_is_recognised() {
    let states =
        |socket, service| socket_waits(&format!("ActiveState={socket}\n\nActiveState={service}\n"));
    assert!(states("active", "inactive"));
    assert!(!states("active", "active") && !states("inactive", "inactive"));
}

#[test]
fn a_property_that_is_not_reported_is_not_taken_for_a_good_one() {
    let without = |name: &str| {
        let all = show(&[]);
        let lines: Vec<&str> =
            all.lines().filter(|line| !line.starts_with(&format!("{name}="))).collect();
        judge(&lines.join("\n"))
    };
    for (property, finding) in
        [("NeedDaemonReload", "loaded"), ("UnitFileState", "enabled"), ("ActiveState", "active")]
    {
        let all = without(property).findings;
        let found = all.iter().find(|f| f.name == finding).unwrap();
        assert_eq!(found.grade, Grade::Skipped, "{found:?}");
    }
    let restarts = without("NRestarts").findings;
    assert!(restarts[3].what.contains("does not report"), "{restarts:?}");
    assert_eq!(without("User").user, None);
    assert_eq!(judge("").findings[0].grade, Grade::Skipped);
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
