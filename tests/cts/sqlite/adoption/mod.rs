//! Adoption of databases of an older CTS: no row is lost or altered, objects of the owner are kept,
//! statements of the trading programs work, and violations are kept and reported.

use std::thread;

use crate::support::harness::Machine;
use crate::support::older_databases::Old;

mod backups;
mod content;
mod objects;
mod programs;
mod refusals;
mod rows;
mod violations;

/// Runs the test on every older database, each on its own machine and in a thread with its name.
fn every_old(test: impl Fn(Old, &Machine) + Sync) {
    let one = |old: Old| {
        let machine = Machine::new();
        old.make(&machine.db());
        test(old, &machine);
    };
    let failed: Vec<Old> = thread::scope(|scope| {
        let one = &one;
        let runs = Old::ALL.map(|old| {
            let thread = thread::Builder::new().name(format!("{old:?}"));
            (old, thread.spawn_scoped(scope, move || one(old)).unwrap())
        });
        runs.into_iter().filter_map(|(old, run)| run.join().is_err().then_some(old)).collect()
    });
    assert!(failed.is_empty(), "failed for {failed:?}");
}

/// As `every_old`, with the database adopted.
fn every_adopted(test: impl Fn(Old, &Machine) + Sync) {
    every_old(|old, machine| {
        machine.cts("migrate").success();
        test(old, machine);
    });
}

/// An older database with these statements applied.
fn older_with(sql: &str) -> Machine {
    let machine = Machine::new();
    machine.sql(&format!(
        "CREATE TABLE exchange_connections (id INTEGER PRIMARY KEY, name TEXT); \
         CREATE TABLE migrations (id INTEGER PRIMARY KEY, name TEXT, executed_at TEXT); \
         INSERT INTO exchange_connections VALUES (7, 'main'); {sql}"
    ));
    machine
}
