//! A clock that is wrong by decades: the machine starts all the same, and says what it has.

use std::process::Command;

use crate::support::harness::{Machine, Run};

/// Of the Debian package faketime. The dynamic linker replaces `$LIB`; it reports a library that is not there,
/// and then the clock is the right one.
const LIBRARY: &str = "/usr/$LIB/faketime/libfaketimeMT.so.1";

/// A run whose clock shows this time.
fn at(time: &str, machine: &Machine, words: &str) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cts"));
    command.args(words.split_whitespace()).env_clear().env("SQLITE_DB_PATH", machine.db());
    // As `faketime -f` sets them, which is not used because its child outlives it when it is killed.
    command.env("LD_PRELOAD", LIBRARY).env("FAKETIME", time).env("DONT_FAKE_MONOTONIC", "1");
    Run { command }
}

#[test]
fn a_clock_before_1970_or_far_in_the_future_stops_nothing() {
    for (time, shown) in [
        ("@1950-03-01 12:00:00", "1950-03-01T12:00:"),
        ("@1969-12-31 23:59:00", "1969-12-31T23:59:"),
        ("@2200-01-01 00:00:00", "2200-01-01T00:00:"),
    ] {
        let machine = Machine::new();
        at(time, &machine, "migrate").success();
        let check = at(time, &machine, "--check --json").success().json();
        assert!(check["timestamp"].as_str().unwrap().starts_with(shown), "{check}");
        at(time, &machine, "status --json").success();
        let doctor = at(time, &machine, "doctor").run();
        assert!(doctor.out().contains(shown), "{}", doctor.out());
        // A copy is made, whose name has the time.
        let old = machine.path("old.db");
        rusqlite::Connection::open(&old)
            .unwrap()
            .execute_batch("CREATE TABLE indication_states (id integer primary key, connection_id text, state_key text)")
            .unwrap();
        let copied = at(time, &machine, "migrate").db(&old).success();
        copied.says(&[&format!("old.db.before-3.1.0-{}", shown[..10].replace('-', ""))]);
        let service = at(time, &machine, "serve --port 0").start();
        service.until_ready();
        let answer = service.get("/api/health/database");
        assert_eq!(answer.code, 200, "{}", answer.body);
        assert!(answer.json()["timestamp"].as_str().unwrap().starts_with(shown));
        let date = answer.header("Date").unwrap();
        assert!(date.contains(&shown[..4]) && date.ends_with(" GMT"), "{date}");
        assert_eq!(service.get("/livez").code, 200);
        let log = service.log();
        assert!(!log.contains("panicked"), "{log}");
    }
}
