//! Every row is kept with every value, and the schema is that of a new database.

use std::fs;
use std::path::Path;

use crate::support::harness::{Machine, Run};
use crate::support::older_databases::{self, Old};

use super::content::{
    assert_kept, assert_sound, columns, foreign_keys, fresh, number, schema, snapshot, tables,
};
use super::violations::violated_rules;
use super::{every_adopted, every_old};

#[test]
fn every_old_row_is_kept_with_every_value() {
    every_old(|_, machine| {
        let before = snapshot(&machine.open());
        machine.cts("migrate").success();
        let conn = machine.open();
        assert_kept(&before, &conn);
        assert_sound(&conn);
    });
}

#[test]
fn a_start_of_the_service_adopts_as_migrate_does() {
    every_old(|_, machine| {
        let before = snapshot(&machine.open());
        let service = machine.serve().start();
        service.until_ready().until_status("healthy");
        let (code, log) = service.stop();
        assert_eq!(code, Some(0), "{log}");
        assert_kept(&before, &machine.open());
    });
}

#[test]
#[ignore = "sweep"]
fn a_large_table_is_kept_whole() {
    let machine = Machine::new();
    Old::Unified.make(&machine.db());
    older_databases::enlarge(&machine.db(), "pseudo_positions", 100_000);
    let sum = "SELECT sum(id) + count(*) FROM pseudo_positions";
    let before = machine.number(sum);
    machine.cts("migrate --dry-run").success().says(&["pseudo_positions"]);
    machine.cts("migrate").success();
    assert_eq!(machine.number(sum), before);
}

#[test]
#[ignore = "sweep"]
fn long_steps_report_their_progress() {
    let machine = Machine::new();
    Old::Unified.make(&machine.db());
    older_databases::enlarge(&machine.db(), "pseudo_positions", 500_000);
    let copy = machine.path("copy.db");
    fs::copy(machine.db(), &copy).unwrap();
    let said = machine.cts("migrate").success().err();
    let is_progress = |line: &&str| line.contains("making index") && line.contains("rows, 0 %");
    assert!(said.lines().filter(is_progress).count() > 3, "{said}");
    // On a terminal there is a progress bar.
    let mut run = Run::of(Path::new("/usr/bin/script"), "-qec");
    run.command.arg(format!("{} migrate", env!("CARGO_BIN_EXE_cts"))).arg("/dev/null");
    let seen = run.db(&copy).env("TERM", "xterm").success().out();
    for part in ["table pseudo_positions", " %, ", " left"] {
        assert!(seen.contains(part), "{part:?} is missing in:\n{seen}");
    }
    assert!(!seen.contains("rows, 0 %"), "a line too:\n{seen}");
}

#[test]
fn the_ledger_keeps_the_old_rows_before_the_new_ones() {
    every_old(|_, machine| {
        let names = |ours| {
            format!("SELECT name FROM migrations WHERE (checksum IS NOT NULL) = {ours} ORDER BY id")
        };
        let exists =
            number(&machine.open(), "SELECT count(*) FROM sqlite_schema WHERE name = 'migrations'");
        let old = if exists == 1 {
            machine.texts("SELECT name FROM migrations ORDER BY id")
        } else {
            Vec::new()
        };
        machine.cts("migrate").success();
        assert_eq!(machine.texts(&names(0)), old);
        let ours = machine.texts(&names(1));
        for name in fresh().0.texts("SELECT name FROM migrations") {
            assert!(ours.contains(&name), "{name} is not in {ours:?}");
        }
        let status = machine.cts("status --json").success().json();
        assert_eq!(status["status"], "complete", "{status}");
    });
}

#[test]
fn the_schema_is_that_of_a_new_database() {
    every_adopted(|_, machine| {
        let (_fresh, fresh) = fresh();
        let conn = machine.open();
        let violations = violated_rules(&fresh, &conn);
        let is_fit =
            |table: &String| violations.iter().all(|violations| violations.table != *table);
        for table in tables(&fresh) {
            let found = columns(&conn, &table);
            assert!(!found.is_empty(), "table {table} is missing");
            for (name, column) in columns(&fresh, &table) {
                match found.get(&name) {
                    None => panic!("column {table}.{name} is missing"),
                    Some(found) if is_fit(&table) => assert_eq!(found, &column, "{table}.{name}"),
                    Some(_) => {}
                }
            }
            if is_fit(&table) {
                assert_eq!(foreign_keys(&conn, &table), foreign_keys(&fresh, &table), "{table}");
            }
        }
        let found = schema(&conn, "'index'");
        for (name, sql) in schema(&fresh, "'index'") {
            let found = found.get(&name).unwrap_or_else(|| panic!("index {name} is missing"));
            if name != "idx_indication_states_key" {
                assert_eq!(folded(found), folded(&sql), "{name}");
            }
        }
        machine.cts("verify").success().says(&["no drift"]);
        machine.cts("--check").success().says(&["CTS OK"]);
    });
}

/// Without spaces, and without optional keywords.
fn folded(sql: &str) -> String {
    sql.replace("IF NOT EXISTS", "").split_whitespace().collect()
}
