//! How an error is shown, and what is read from its fields.

use super::*;

#[test]
fn exit_codes_are_those_of_sysexits() {
    let kinds = [
        (Kind::Usage, 64),
        (Kind::Data, 65),
        (Kind::Unavailable, 69),
        (Kind::CannotCreate, 73),
        (Kind::Io, 74),
        (Kind::TryAgain, 75),
        (Kind::Blocked, 75),
        (Kind::InDoubt, 69),
        (Kind::Stopped, 75),
        (Kind::Permission, 77),
        (Kind::Config, 78),
    ];
    for (kind, code) in kinds {
        assert_eq!(kind.exit_code(), code, "{kind:?}");
    }
}

#[test]
fn an_error_names_its_location_first_and_its_remedy_last() {
    let error = Error::new(Kind::Io, "disk full")
        .at("/data/cts.db")
        .leaving(StateLeft::Unchanged)
        .remedy("free some space");
    assert_eq!(
        error.to_string(),
        "/data/cts.db: disk full; nothing was changed. Try: free some space"
    );
}

#[test]
fn locations_are_shown_outermost_first_and_each_once() {
    let error = Error::new(Kind::Data, "no such table: t")
        .at("/data/cts.db")
        .at("setup.sql, line 3")
        .at("/data/cts.db");
    assert_eq!(error.to_string(), "/data/cts.db: setup.sql, line 3: no such table: t");
}

#[test]
fn the_outer_operation_knows_what_state_is_left() {
    let error = Error::new(Kind::Io, "the disk is full")
        .caused_by(Cause::DiskFull)
        .leaving(StateLeft::Unchanged)
        .note("waited 30s (CTS_LOCK_TIMEOUT)")
        .leaving(StateLeft::EarlierCommits);
    assert!(error.is_disk_full());
    assert_eq!(
        error.to_string(),
        "the disk is full; waited 30s (CTS_LOCK_TIMEOUT); what was committed before remains"
    );
}

#[test]
fn damage_is_known_by_its_code() {
    let is_damage = |cause| Error::new(Kind::Data, "x").caused_by(cause).is_damage();
    // SQLITE_CORRUPT, SQLITE_CORRUPT_INDEX, SQLITE_NOTADB; SQLITE_CONSTRAINT_UNIQUE
    assert!([11, 779, 26].into_iter().all(|code| is_damage(Cause::Sqlite(code))));
    assert!(!is_damage(Cause::Sqlite(2067)) && !is_damage(Cause::DiskFull));
    assert!(is_damage(Cause::SqlState("XX001".into())));
    assert!(!is_damage(Cause::SqlState("23505".into())));
}

#[test]
fn a_cause_of_the_operating_system_is_shown_and_kept_as_a_number() {
    let cause = io::Error::from_raw_os_error(5);
    let error = Error::new(Kind::Io, "cannot be read").at("/data/cts.db").caused_by(&cause);
    let shown = error.to_string();
    assert_eq!(shown, "/data/cts.db: cannot be read: Input/output error (os error 5)");
    assert!(matches!(error.cause.as_deref(), Some(Cause::Os { errno: Some(5), .. })));
}
