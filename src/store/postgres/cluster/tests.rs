use super::super::connect::ReadOnlyReason;
use super::super::server_identity::IdentityColumns;
use super::super::server_record::ServerContent;
use super::*;
use crate::error::Cause;

const OURS: i64 = 7_388_000_000_000_000_001;
const OTHER: i64 = 7_388_000_000_000_000_002;

fn server(name: &str, system: i64, timeline: u32) -> SessionServer {
    SessionServer {
        name: name.into(),
        version: 150_004,
        started_at: format!("start of {name}"),
        read_only: None,
        schema: "cts".into(),
        identity: ServerIdentity { system: Some(system), timeline: Some(timeline) },
        identity_columns: IdentityColumns::ALL,
    }
}

fn standby(name: &str, system: i64, timeline: u32) -> SessionServer {
    SessionServer { read_only: Some(ReadOnlyReason::Standby), ..server(name, system, timeline) }
}

fn with_tables(tables: usize, recorded: Option<(i64, u32)>) -> Option<ServerContent> {
    let recorded = recorded.map(|(system, timeline)| ServerIdentity {
        system: Some(system),
        timeline: Some(timeline),
    });
    Some(ServerContent { tables, recorded })
}

fn found(server: SessionServer, content: Option<ServerContent>) -> Result<FoundServer> {
    Ok(FoundServer { server, content })
}

fn refused() -> Result<FoundServer> {
    Err(Error::new(Kind::Unavailable, "connection refused"))
}

/// A URL with the hosts a, b and so on.
fn cluster(hosts: usize) -> Cluster {
    let names: Vec<String> =
        ["a", "b", "c"].iter().take(hosts).map(|name| format!("{name}:5432")).collect();
    let url = format!("postgresql://u:p@{}/d?sslmode=disable", names.join(","));
    Cluster::new(&Target::read("DATABASE_URL", &url, &|_| None).unwrap())
}

/// One that works with cluster `OURS`, on host a, of timeline 1.
fn running() -> Cluster {
    let cluster = cluster(3);
    cluster.record(0, found(server("a:5432", OURS, 1), with_tables(24, None)));
    cluster.record(1, found(standby("b:5432", OURS, 1), with_tables(24, None)));
    cluster.record(2, refused());
    assert_eq!(cluster.choose(), Ok(0));
    cluster.use_host(0);
    assert!(cluster.is_known());
    cluster
}

fn says(error: &Error, parts: &[&str]) {
    let text = error.to_string();
    parts.iter().for_each(|part| assert!(text.contains(part), "{part:?} is missing: {text}"));
}

#[test]
fn a_promoted_standby_is_used_though_the_old_primary_still_answers() {
    let cluster = running();
    assert_eq!(cluster.conflict(), None);
    cluster.record(1, found(server("b:5432", OURS, 2), None));
    assert_eq!(cluster.choose(), Ok(1));
    let old = cluster.admit(&server("a:5432", OURS, 1)).unwrap_err();
    says(
        &old,
        &["a:5432", "an old primary: its timeline is 1", "b:5432", "timeline 2", "pg_rewind"],
    );
    cluster.use_host(1);
    let conflict = cluster.conflict().unwrap();
    says(
        &conflict,
        &[
            "2 servers of the URL can be written: b:5432 (timeline 2",
            "in use) and a:5432 (timeline 1",
        ],
    );
    // The new primary is lost, the old one answers: it is not used.
    cluster.record(1, refused());
    says(
        &cluster.choose().unwrap_err(),
        &["an old primary", "b:5432: connection refused", "pg_rewind"],
    );
    // It has been made a standby and was promoted.
    cluster.record(0, found(standby("a:5432", OURS, 2), None));
    says(&cluster.choose().unwrap_err(), &["in recovery (a standby)"]);
    cluster.record(0, found(server("a:5432", OURS, 3), None));
    assert_eq!((cluster.choose(), cluster.conflict()), (Ok(0), None));
}

#[test]
fn a_server_of_another_cluster_is_refused_also_where_it_holds_the_same_tables() {
    let cluster = running();
    cluster.record(0, refused());
    cluster.record(1, found(server("b:5432", OTHER, 7), None));
    let error = cluster.choose().unwrap_err();
    says(
        &error,
        &[
            "b:5432: another cluster: its system_identifier is",
            "000002",
            "000001",
            "restart cts with only this host",
        ],
    );
    assert_eq!(error.kind, Kind::Unavailable);
    assert!(cluster.admit(&server("b:5432", OTHER, 7)).is_err());
    // Its timeline says nothing about ours.
    cluster.record(0, found(server("a:5432", OURS, 1), None));
    assert_eq!(cluster.choose(), Ok(0));
    says(&cluster.conflict().unwrap(), &["a:5432", "b:5432"]);
}

#[test]
fn one_server_under_two_names_is_no_conflict_and_the_host_in_use_stays() {
    let cluster = running();
    let same = SessionServer { name: "b:5432".into(), ..server("a:5432", OURS, 1) };
    cluster.record(1, found(same, None));
    assert_eq!((cluster.choose(), cluster.conflict()), (Ok(0), None));
    cluster.record(1, found(server("b:5432", OURS, 1), None));
    cluster.use_host(1);
    assert_eq!(cluster.choose(), Ok(1), "of two primaries on one timeline the one in use stays");
    assert!(cluster.conflict().is_some());
}

#[test]
fn a_standby_that_follows_another_primary_is_reported() {
    let cluster = running();
    cluster.record(1, found(standby("b:5432", OURS, 2), None));
    assert_eq!(cluster.choose(), Ok(0));
    says(
        &cluster.conflict().unwrap(),
        &["a:5432 is in use (timeline 1", "b:5432 is a standby on a later timeline (timeline 2"],
    );
}

#[test]
fn what_is_unknown_refuses_nothing() {
    let cluster = cluster(2);
    let unknown =
        |name: &str| SessionServer { identity: ServerIdentity::default(), ..server(name, 0, 0) };
    cluster.record(0, found(unknown("a:5432"), with_tables(24, None)));
    cluster.record(1, refused());
    assert_eq!(cluster.choose(), Ok(0));
    cluster.use_host(0);
    cluster.record(1, found(unknown("b:5432"), None));
    assert_eq!(cluster.choose(), Ok(0));
    says(&cluster.conflict().unwrap(), &["timeline unknown, system_identifier unknown, in use"]);
    cluster.record(0, refused());
    assert_eq!(cluster.choose(), Ok(1));
}

#[test]
fn at_a_start_the_server_with_the_database_is_used_and_the_highest_timeline() {
    let cluster = cluster(3);
    cluster.record(0, found(server("a:5432", OTHER, 9), with_tables(0, None)));
    cluster.record(1, found(server("b:5432", OURS, 1), with_tables(24, Some((OURS, 1)))));
    cluster.record(2, found(server("c:5432", OURS, 2), with_tables(24, Some((OURS, 1)))));
    assert_eq!(cluster.choose(), Ok(2));
    cluster.use_host(2);
    assert!(cluster.admit(&server("b:5432", OURS, 1)).is_err());
    says(&cluster.conflict().unwrap(), &["3 servers of the URL can be written"]);
}

#[test]
fn a_restored_dump_is_told_by_its_record_and_used_where_it_is_the_only_host() {
    let copy = || found(server("b:5432", OTHER, 1), with_tables(24, Some((OURS, 1))));
    let both = cluster(2);
    both.record(0, refused());
    both.record(1, copy());
    says(
        &both.choose().unwrap_err(),
        &["another cluster", "table cts_server", "start cts once with only this host"],
    );
    let one = cluster(1);
    one.record(0, copy());
    assert_eq!(one.choose(), Ok(0));
    one.use_host(0);
    assert!(one.take_moved().unwrap().contains("was last used on another server"));
    assert_eq!(one.take_moved(), None);
    assert!(one.is_unrecorded(server("b:5432", OTHER, 1).identity));
    one.committed(&server("b:5432", OTHER, 1));
    assert!(!one.is_unrecorded(server("b:5432", OTHER, 1).identity));
    // From now on the process works with that one.
    assert!(one.admit(&server("b:5432", OURS, 1)).is_err());
}

#[test]
fn nothing_is_created_where_another_host_may_hold_the_tables() {
    let empty = || found(server("a:5432", OTHER, 1), with_tables(0, None));
    let with = |other: Result<FoundServer>| {
        let cluster = cluster(2);
        cluster.record(0, empty());
        cluster.record(1, other);
        assert_eq!(cluster.choose(), Ok(0));
        cluster.use_host(0);
        assert!(!cluster.is_known());
        cluster.refuse_creation()
    };
    let error = with(refused()).unwrap_err();
    says(
        &error,
        &[
            "no table of CTS on a:5432, and none is created",
            "b:5432 may hold them (connection refused)",
            "name only that host",
        ],
    );
    assert_eq!(error.kind, Kind::Unavailable);
    let error = with(found(standby("b:5432", OURS, 1), with_tables(24, None))).unwrap_err();
    says(&error, &["b:5432 holds 24 of them"]);
    assert_eq!(with(found(standby("b:5432", OTHER, 1), with_tables(0, None))), Ok(()));
    let absent = Error::new(Kind::Config, "no database").caused_by(Cause::SqlState("3D000".into()));
    assert_eq!(with(Err(absent)), Ok(()));
}

#[test]
fn a_process_that_has_seen_tables_creates_none() {
    let cluster = running();
    cluster.inspected(&server("a:5432", OURS, 1), 24).unwrap();
    let error = cluster.refuse_creation().unwrap_err();
    says(
        &error,
        &["had 24 tables of CTS, and now has none", "nothing was changed", "start cts again"],
    );
}

#[test]
fn the_hosts_are_asked_again_once_what_is_known_of_them_is_old() {
    let cluster = running();
    assert_eq!(cluster.chosen(), Some(0));
    cluster.state().asked_at[1] = Instant::now().checked_sub(FRESH);
    assert_eq!(cluster.chosen(), None);
}
