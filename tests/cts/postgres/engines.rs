//! Servers that speak the protocol of PostgreSQL and are something else, and extensions and event triggers in the
//! database of CTS.

use crate::support::cluster::{Cluster, Database, number};
use crate::support::harness::Machine;
use crate::support::pglite::Pglite;

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

/// The service keeps the one connection that PGlite serves at a time.
#[test]
fn a_pglite_of_one_connection_is_served() {
    let Some(pglite) = Pglite::start(1) else { return };
    pglite.cts("migrate").success();
    pglite.cts("--check").success();
    pglite.cts("verify").success().says(&["no drift"]);
    let service = pglite.cts("serve --port 0").start();
    service.until_ready();
    service.until_status("healthy");
    let url = format!("--check --url http://{}", service.address());
    pglite.cts(&url).success();
    let (code, log) = service.stop();
    assert_eq!(code, Some(0), "{log}");
    pglite.cts("--check").success();
}

#[test]
fn a_pglite_of_several_connections_is_served_and_checked_at_once() {
    let Some(pglite) = Pglite::start(8) else { return };
    let service = pglite.cts("serve --port 0").start();
    service.until_ready();
    pglite.open().batch_execute("DROP INDEX idx_users_email").unwrap();
    pglite.cts("--check").status(1);
    pglite.cts("repair").success();
    pglite.cts("--check").success();
    service.until_status("healthy");
}

/// The tables of CTS stay plain ones; TimescaleDB has event triggers on each statement that changes the schema.
#[test]
fn tables_beside_hypertables_of_timescaledb_are_migrated_and_repaired() {
    let Some(server) = Pglite::with_timescaledb() else { return };
    let hypertable = "CREATE EXTENSION timescaledb; \
        CREATE TABLE candles (time timestamptz NOT NULL, close float8); \
        SELECT create_hypertable('candles', 'time'); \
        INSERT INTO candles SELECT t, 1 FROM generate_series('2026-01-01'::timestamptz, '2026-03-01', '1 day') t";
    server.open().batch_execute(hypertable).unwrap();
    server.cts("migrate").success();
    server.cts("--check").success();
    server
        .open()
        .batch_execute("ALTER TABLE site_logs DROP COLUMN context; DROP INDEX idx_users_email")
        .unwrap();
    server.cts("verify").status(1).says(&["site_logs.context", "idx_users_email"]);
    server.cts("repair").success();
    server.cts("verify").success().says(&["no drift: 24 tables"]);
    let chunks = number(&mut server.open(), "SELECT count(*) FROM show_chunks('candles')");
    assert!(chunks > 1, "{chunks}");
    assert_eq!(number(&mut server.open(), "SELECT count(*) FROM candles"), 60);
}

/// What extensions bring: event triggers, tables, views and functions in our schema, indexes by their operator
/// classes and a trigger on our tables, and a table that inherits from one of ours.
#[test]
fn extensions_with_objects_in_the_schema_and_on_the_tables_are_left_alone() {
    let (database, machine) = (Cluster::shared().owned(), Machine::new());
    let extensions =
        ["pg_trgm", "btree_gist", "hstore", "tablefunc", "lo", "pageinspect", "pg_stat_statements"];
    let mut admin = database.admin();
    for extension in extensions {
        admin.batch_execute(&format!("CREATE EXTENSION {extension}")).unwrap();
    }
    admin
        .batch_execute(
            "CREATE SCHEMA audit; CREATE TABLE audit.commands (tag text);
             CREATE FUNCTION audit.note_command() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER
                 AS $$ BEGIN INSERT INTO audit.commands VALUES (tg_tag); END $$;
             CREATE EVENT TRIGGER note_end ON ddl_command_end EXECUTE FUNCTION audit.note_command();
             CREATE EVENT TRIGGER note_drop ON sql_drop EXECUTE FUNCTION audit.note_command()",
        )
        .unwrap();
    database.cts("migrate").success();
    admin
        .batch_execute(
            "CREATE INDEX messages ON site_logs USING gin (message gin_trgm_ops);
             CREATE INDEX periods ON site_logs USING gist (created_at);
             CREATE SCHEMA internal; GRANT ALL ON SCHEMA internal TO PUBLIC;
             CREATE FUNCTION internal.no_op() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
             CREATE TRIGGER no_op BEFORE INSERT ON site_logs FOR EACH ROW EXECUTE FUNCTION internal.no_op()",
        )
        .unwrap();
    database.sql("CREATE TABLE internal.chunk () INHERITS (site_logs)");
    database.cts("--check").success();
    database.cts("verify").success().says(&["no drift: 24 tables"]);
    let harm = "ALTER TABLE site_logs DROP COLUMN context; DROP INDEX idx_users_email";
    admin.batch_execute(harm).unwrap();
    database.cts("repair").success();
    database.cts("verify").success().says(&["no drift: 24 tables"]);
    database.cts("migrate").success();
    assert!(number(&mut admin, "SELECT count(*) FROM audit.commands") > 50);
    let run = database.cts("backup").env("CTS_BACKUP_DIR", machine.path("backups"));
    run.success().says(&["proved"]);
    let left = "SELECT count(*) FROM pg_event_trigger WHERE evtenabled = 'O'";
    assert_eq!(number(&mut admin, left), 2);
    let kept = format!(
        "SELECT count(*) FROM pg_extension WHERE extname IN ('{}')",
        extensions.join("','")
    );
    assert_eq!(number(&mut admin, &kept), 7);
}
