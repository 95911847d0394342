//! Servers that speak the protocol of PostgreSQL and are something else, and extensions and event triggers in the
//! database of CTS.

use crate::support::cluster::{Cluster, Database};
use crate::support::harness::Machine;

/// What the engines answer to `version()`, the name and a part of the reason for which each is refused.
const ENGINES: [(&str, &str, &str); 3] = [
    (
        "CockroachDB CCL v25.4.14 (x86_64-pc-linux-gnu, built 2026/03/27 01:53:43, go1.25.5)",
        "the server is CockroachDB and not PostgreSQL",
        "its advisory locks lock nothing",
    ),
    (
        "PostgreSQL 15.12-YB-2025.1.0.0-b0 on x86_64-pc-linux-gnu, compiled by clang version 17.0.6, 64-bit",
        "the server is YugabyteDB and not PostgreSQL",
        "its rows have no xmin",
    ),
    ("PostgreSQL 16", "another engine, such as Aurora DSQL", "the platform and the compiler"),
];

/// Replaces, in this database alone, what the server says of itself.
fn call(database: &Database, version: &str) {
    let sql = format!(
        "SET allow_system_table_mods = on; \
         CREATE OR REPLACE FUNCTION pg_catalog.version() RETURNS text LANGUAGE sql STABLE \
         AS $$ SELECT '{version}'::text $$"
    );
    database.admin().batch_execute(&sql).unwrap();
}

#[test]
fn another_engine_is_refused_by_name_before_anything_is_changed() {
    for (version, name, reason) in ENGINES {
        let (database, machine) = (Cluster::shared().owned(), Machine::new());
        call(&database, version);
        let before = database.everything();
        for words in
            ["migrate", "migrate --dry-run", "repair", "verify", "serve --port 0", "backup"]
        {
            let run = database.cts(words).env("CTS_BACKUP_DIR", machine.path("backups"));
            run.status(78).says(&[name, reason, version, "use PostgreSQL 13 or later"]);
        }
        database.cts("--check").status(3).says(&[name]);
        database.cts("doctor").status(2).says(&[name]);
        assert_eq!(database.everything(), before);
    }
}

/// An engine may lack a function that every connection calls.
#[test]
fn another_engine_is_named_though_it_lacks_a_function() {
    let database = Cluster::shared().owned();
    let (version, name, _) = ENGINES[0];
    let gone = "SET allow_system_table_mods = on; \
        ALTER FUNCTION pg_catalog.pg_postmaster_start_time() RENAME TO pg_no_start_time";
    database.admin().batch_execute(gone).unwrap();
    let done = database.cts("migrate").run();
    assert!(done.err().contains("pg_postmaster_start_time"), "{}", done.err());
    call(&database, version);
    database.cts("migrate").status(78).says(&[name]);
}

/// A function of this name in a schema of the search path is not the server's.
#[test]
fn a_function_of_the_owner_does_not_make_postgresql_another_engine() {
    let database = Cluster::shared().one_schema();
    database.sql(
        "CREATE FUNCTION cts.version() RETURNS text LANGUAGE sql AS $$ SELECT 'CockroachDB CCL v25.4.14' $$",
    );
    let path = "ALTER ROLE current_user SET search_path = cts, pg_catalog";
    database.sql(path);
    database.cts("migrate").success();
    database.cts("--check").success();
}
