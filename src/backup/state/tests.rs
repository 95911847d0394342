//! What manifests, settings and clocks are judged to say.

use std::time::UNIX_EPOCH;

use super::*;
use crate::error::Kind;

const HOUR: Duration = Duration::from_secs(3600);
/// In hours since 1970.
const NOW: u32 = 500_000;

fn at(hours: u32) -> SystemTime {
    UNIX_EPOCH + HOUR * hours
}

fn backup(serial: u64, made_at: Option<u32>, id: &str, fault: Option<&str>) -> BackupRecord {
    BackupRecord {
        file: format!("cts-{serial}.db"),
        database_type: "sqlite".into(),
        database_id: id.into(),
        is_of_place: true,
        serial,
        made_at: made_at.map(at),
        size_bytes: 1,
        proved_at: String::new(),
        drill: None,
        fault: fault.map(String::from),
    }
}

fn observed(backups: Vec<BackupRecord>, every_hours: Option<u32>) -> BackupInspection {
    let inventory = BackupInventory { backups, has_folder: true };
    BackupInspection {
        settings: BackupSettings {
            folder: Some("/backups".into()),
            every: every_hours.map(|hours| HOUR * hours),
            keep: "daily=7".parse().unwrap(),
            compress: false,
        },
        found: Some(Ok(Arc::new(inventory))),
        clocks: Clocks { wall: at(NOW), steady: None },
        inspector: Inspector::Command,
    }
}

/// The database that was created so many hours ago.
fn database(hours: Option<u32>) -> BackedUpDatabase {
    BackedUpDatabase {
        database_type: "sqlite".into(),
        id: Some("a".into()),
        created_at: hours.map(|hours| at(NOW - hours)),
    }
}

fn state(backups: Vec<BackupRecord>) -> BackupState {
    BackupState::of(observed(backups, Some(24)), &database(Some(1000)))
}

#[test]
fn the_newest_good_backup_of_this_database_is_the_last_one() {
    let state = state(vec![
        backup(1, Some(NOW - 60), "a", None),
        backup(2, Some(NOW - 30), "a", None),
        backup(3, Some(NOW - 20), "a", Some("the drill failed")),
        backup(4, Some(NOW - 1), "another", None),
    ]);
    let last = state.last.as_ref().unwrap();
    assert_eq!((last.record.serial, last.age), (2, Age::Known(HOUR * 30)));
    assert_eq!((state.count, state.others), (Some(2), 1));
    assert_eq!(state.newest_faulty.as_ref().unwrap().serial, 3);
    assert_eq!(state.recency(), Recency::Recent);
    assert_eq!(state.next_due_at(), Some(at(NOW - 6)));
}

#[test]
fn a_fault_before_the_newest_good_backup_is_past() {
    let faulty = backup(1, Some(NOW - 9), "a", Some("truncated"));
    assert_eq!(state(vec![faulty, backup(2, Some(NOW), "a", None)]).newest_faulty, None);
}

#[test]
fn none_within_twice_the_period_is_overdue() {
    for (hours, expected) in [(48, Recency::Recent), (49, Recency::Overdue)] {
        let state = state(vec![backup(1, Some(NOW - hours), "a", None)]);
        assert_eq!(state.recency(), expected, "{hours}");
    }
    let automatic_none = observed(vec![backup(1, Some(1), "a", None)], None);
    let state = BackupState::of(automatic_none, &database(Some(1000)));
    assert_eq!((state.recency(), state.age_max()), (Recency::Recent, None));
}

#[test]
fn a_young_database_needs_no_backup_yet() {
    for (hours, expected) in [
        (Some(0), Recency::NoneYet),
        (Some(48), Recency::NoneYet),
        (Some(49), Recency::Overdue),
        (None, Recency::NoneYet),
    ] {
        let state = BackupState::of(observed(Vec::new(), Some(24)), &database(hours));
        assert_eq!(state.recency(), expected, "{hours:?}");
        assert_eq!((state.count, state.last), (Some(0), None));
    }
}

#[test]
fn a_backup_from_the_future_has_no_age_and_is_at_most_as_old_as_the_one_before_it() {
    let future = || backup(2, Some(NOW + 9000), "a", None);
    for (before, expected) in [(40, Recency::Recent), (50, Recency::Overdue)] {
        let state = state(vec![backup(1, Some(NOW - before), "a", None), future()]);
        assert_eq!(state.last.as_ref().unwrap().age, Age::Future);
        assert_eq!((state.recency(), state.next_due_at()), (expected, None));
    }
    assert_eq!(state(vec![future()]).recency(), Recency::Overdue);
    let young = BackupState::of(observed(vec![future()], Some(24)), &database(Some(2)));
    assert_eq!(young.recency(), Recency::NoneYet);
}

#[test]
fn a_clock_that_is_set_while_the_service_runs_changes_no_age() {
    // It has run for 30 hours, made a backup after 20 of them, and the clock was set by a year in either direction.
    let steady = Some((at(NOW), HOUR * 30));
    for wall in [at(NOW + 30 + 8760), at(NOW + 30 - 8760)] {
        let mut seen = observed(vec![backup(1, Some(NOW + 20), "a", None)], Some(24));
        seen.clocks = Clocks { wall, steady };
        let state = BackupState::of(seen, &database(Some(0)));
        assert_eq!(state.last.as_ref().unwrap().age, Age::Known(HOUR * 10));
        assert_eq!(state.recency(), Recency::Recent);
    }
    // A database that was created before the clock of a machine without a battery was right.
    let mut seen = observed(Vec::new(), Some(24));
    seen.clocks = Clocks { wall: at(NOW), steady: Some((at(10), HOUR)) };
    let created = BackedUpDatabase { created_at: Some(at(10)), ..database(None) };
    assert_eq!(BackupState::of(seen.clone(), &created).recency(), Recency::NoneYet);
    // One that is dated in the future is missed once the service has run for twice the period.
    let created = BackedUpDatabase { created_at: Some(at(NOW + 9000)), ..database(None) };
    for (hours, expected) in [(48, Recency::NoneYet), (49, Recency::Overdue)] {
        seen.clocks.steady = Some((at(NOW - hours), HOUR * hours));
        assert_eq!(BackupState::of(seen.clone(), &created).recency(), expected, "{hours}");
    }
}

#[test]
fn a_clock_that_is_corrected_by_seconds_makes_no_backup_one_of_the_future() {
    let clocks = Clocks { wall: at(NOW), steady: None };
    let ahead = |seconds| clocks.age(Some(at(NOW) + Duration::from_secs(seconds)));
    assert_eq!(ahead(60), Age::Known(Duration::ZERO));
    assert_eq!(ahead(61), Age::Future);
    assert_eq!(clocks.age(None), Age::Unknown);
}

#[test]
fn what_cannot_be_read_is_unknown_and_not_none() {
    let error = Error::new(Kind::Permission, "the folder cannot be read");
    for found in [Some(Err(error.clone())), None] {
        let mut seen = observed(Vec::new(), Some(24));
        seen.found = found.clone();
        let state = BackupState::of(seen, &database(Some(1000)));
        assert_eq!((state.count, state.last.is_none(), state.has_folder), (None, true, None));
        assert_eq!(state.unread.is_some(), found.is_some());
        assert_eq!(state.recency(), Recency::Recent);
    }
}

#[test]
fn backups_of_a_database_that_cannot_be_read_are_those_of_its_type() {
    let unknown = BackedUpDatabase { id: None, ..database(None) };
    let seen = observed(vec![backup(1, Some(NOW - 1), "any", None)], Some(24));
    assert_eq!(BackupState::of(seen, &unknown).count, Some(1));
}
