//! DuckDB, which reads both stores by code of its own, finds the same rows in both.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::cluster::SUPERUSER;
use crate::support::hostile::{Forms, fill};
use crate::support::project::source;
use crate::support::random::Random;

use super::{Ends, columns};

/// Where `tests/run.sh` installs it.
fn packages() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    let packages = cache.unwrap_or_default().join("cts/duckdb");
    if !packages.join("duckdb_ext/extensions").exists() {
        let missing = packages.display();
        crate::support::not_tried(&format!("{missing} is missing; tests/run.sh installs it"));
        return None;
    }
    Some(packages)
}

/// What differs between a file and the database, for each table.
fn compare(packages: &Path, ends: &Ends, file: &Path) -> Value {
    let (socket, port) = ends.database.socket();
    let (socket, name) = (socket.display(), &ends.database.name);
    let connection = format!("host={socket} port={port} user={SUPERUSER} dbname={name}");
    let compared = Command::new("python3")
        .arg(source("tests/clients/compare.py"))
        .arg(packages)
        .arg(file)
        .arg(&connection)
        .output()
        .unwrap();
    assert!(compared.status.success(), "{}", String::from_utf8_lossy(&compared.stderr));
    serde_json::from_slice(&compared.stdout).unwrap()
}

/// The tables in which rows differ.
fn different(found: &Value) -> Vec<&str> {
    let tables = found.as_object().unwrap().iter();
    let is_different = |table: &Value| table["onlyInFile"] != 0 || table["onlyOnServer"] != 0;
    tables.filter(|(_, table)| is_different(table)).map(|(name, _)| name.as_str()).collect()
}

#[test]
fn another_program_finds_the_same_rows_on_both_sides() {
    let Some(packages) = packages() else { return };
    let ends = Ends::new();
    fill(&ends.machine.open(), columns(), &mut Random(2026), 60, Forms::Own);
    let report = ends.to_postgresql("--json").success().json();
    ends.to_sqlite("").success();
    for file in [ends.machine.db(), ends.back()] {
        let found = compare(&packages, &ends, &file);
        assert!(different(&found).is_empty(), "{found:#}");
        assert_eq!(found.as_object().unwrap().len(), 23, "{found:#}");
        for table in report["tables"].as_array().unwrap() {
            let name = table["table"].as_str().unwrap();
            if name != "migrations" {
                let counts = [&found[name]["file"], &found[name]["server"]];
                assert_eq!(counts, [&table["source"]["rows"]; 2], "{name}");
            }
        }
    }
    // It would find the least difference, and rows that are there twice.
    for (change, table) in [
        (
            "UPDATE pseudo_positions SET entry_price = 5e-324 WHERE id = (SELECT min(id) FROM pseudo_positions)",
            "pseudo_positions",
        ),
        (
            "UPDATE users SET created_at = coalesce(created_at, now()) + interval '1 microsecond' WHERE id = (SELECT min(id) FROM users)",
            "users",
        ),
        ("UPDATE exchange_connections SET testnet = testnet IS NOT TRUE", "exchange_connections"),
        ("UPDATE site_logs SET stack = coalesce(stack, '') || ' '", "site_logs"),
        (
            "ALTER TABLE strategies_dca DROP CONSTRAINT strategies_dca_pkey; INSERT INTO strategies_dca SELECT * FROM strategies_dca LIMIT 1",
            "strategies_dca",
        ),
    ] {
        ends.database.sql(change);
        let found = compare(&packages, &ends, &ends.machine.db());
        assert!(different(&found).contains(&table), "{change}: {found:#}");
    }
    let found = compare(&packages, &ends, &ends.machine.db());
    assert_eq!(different(&found).len(), 5, "{found:#}");
}
