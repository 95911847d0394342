//! Code of other roles does not run with the rights of the role that cts connects as: functions,
//! operators, types and views that fit what cts says better than those of the server.

use std::collections::BTreeSet;

use crate::support::cluster::{Cluster, Database};

/// What the code of another role writes into the server's log. In the statements that create the code it
/// is in two parts, as the log has these too.
const RAN: &str = "code of another role ran as";

/// A database of an older CTS: other types, an enumeration, rows that violate rules, a copied id.
const OLDER: &str = "
CREATE TYPE cts.mood AS ENUM ('active', 'open');
CREATE TABLE cts.users (id SERIAL PRIMARY KEY, username VARCHAR(99), password_hash TEXT, is_active INTEGER, created_at TIMESTAMP, role cts.mood);
INSERT INTO cts.users (username, is_active, created_at, role) VALUES ('ada', 1, '2024-02-29', 'active'), ('ada', 2, NULL, NULL);
CREATE TABLE cts.exchange_connections (id SERIAL PRIMARY KEY, name TEXT, is_testnet TEXT, margin_type cts.mood, user_id NUMERIC(9));
INSERT INTO cts.exchange_connections (name, is_testnet, user_id) VALUES ('main', 'true', 1), ('second', 'maybe', 2);
CREATE TABLE cts.indications_move (id TEXT, connection_id INTEGER REFERENCES cts.exchange_connections (id), symbol TEXT, profit_factor REAL, calculated_at TEXT);
INSERT INTO cts.indications_move VALUES ('17', 1, 'X', 1.5, '2024-02-29 10:00:00'), ('x', NULL, NULL, NULL, NULL);
CREATE TABLE cts.migrations (id SERIAL, name cts.mood, checksum cts.mood, executed_at DATE);
INSERT INTO cts.migrations (name, executed_at) VALUES ('open', '2024-02-29');
";

/// Creates a role that may create objects in schema `cts`, and as that role, for every function of the
/// server with one of these names, functions of the same name for other types; likewise operators,
/// types and views. `{names}` is an SQL array.
const PLANT: &str = r#"
CREATE ROLE {mallory};
GRANT USAGE, CREATE ON SCHEMA cts TO {mallory};
SET ROLE {mallory};
SET search_path = pg_catalog;
DO $do$
DECLARE
    body text := $body$ LANGUAGE plpgsql AS $f$ BEGIN RAISE LOG '% of another role ran as %', 'code', current_user; RETURN NULL; END $f$ $body$;
    types text[] := ARRAY['text', 'name', '"char"', 'integer', 'bigint', 'smallint', 'oid', 'boolean', 'xid', 'tid', 'regclass', 'varchar',
        'timestamptz', 'double precision', 'numeric', 'int2vector', 'smallint[]', 'text[]', 'oid[]', 'name[]'];
    few text[] := ARRAY['text', 'name', '"char"', 'integer', 'bigint', 'oid', 'boolean', 'varchar', 'double precision', 'regclass', 'smallint'];
    three text[] := ARRAY['xid', 'tid', 'oid', 'text', 'integer'];
    f record;
    a text;
    b text;
    c text;
BEGIN
    EXECUTE 'CREATE FUNCTION cts.planted() RETURNS boolean' || body;
    FOR f IN SELECT proname, max(pronargs) AS args, max(provariadic) AS variadics, max(format_type(prorettype, NULL)) AS result FROM pg_proc
        WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f' AND proname = ANY ({names})
            AND prorettype NOT IN ('record'::regtype, 'anyelement'::regtype, 'internal'::regtype, 'cstring'::regtype) GROUP BY proname
    LOOP
        IF f.result LIKE 'any%' OR f.result = 'trigger' THEN f.result := 'text'; END IF;
        EXECUTE format('CREATE FUNCTION cts.%I() RETURNS %s %s', f.proname, f.result, body);
        FOREACH a IN ARRAY types LOOP
            EXECUTE format('CREATE FUNCTION cts.%I(%s) RETURNS %s %s', f.proname, a, f.result, body);
        END LOOP;
        FOREACH a IN ARRAY few LOOP FOREACH b IN ARRAY few LOOP
            EXECUTE format('CREATE FUNCTION cts.%I(%s, %s) RETURNS %s %s', f.proname, a, b, f.result, body);
        END LOOP; END LOOP;
        IF f.args > 2 OR f.variadics <> 0 THEN
            FOREACH a IN ARRAY three LOOP FOREACH b IN ARRAY three LOOP FOREACH c IN ARRAY three LOOP
                EXECUTE format('CREATE FUNCTION cts.%I(%s, %s, %s) RETURNS %s %s', f.proname, a, b, c, f.result, body);
            END LOOP; END LOOP; END LOOP;
        END IF;
    END LOOP;
    FOREACH a IN ARRAY few LOOP FOREACH b IN ARRAY few LOOP
        EXECUTE format('CREATE FUNCTION cts.planted(%s, %s) RETURNS boolean %s', a, b, body);
        FOREACH c IN ARRAY ARRAY['=', '<>', '<', '>', '<=', '>=', '||', '~', '!~', '+', '-', '*', '/', '&'] LOOP
            EXECUTE format('CREATE OPERATOR cts.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = cts.planted)', c, a, b);
        END LOOP;
    END LOOP; END LOOP;
    FOREACH a IN ARRAY ARRAY['text', 'timestamptz', 'date', 'int4', 'int8', 'float8', 'bool', 'oid', 'name', 'regclass', 'regnamespace'] LOOP
        EXECUTE format('CREATE DOMAIN cts.%I AS pg_catalog.%I CHECK (cts.planted())', a, a);
    END LOOP;
    FOR f IN SELECT c.relname, string_agg(quote_ident(k.attname), ', ') AS columns FROM pg_class c
            JOIN pg_attribute k ON k.attrelid = c.oid AND k.attnum > 0 JOIN pg_type t ON t.oid = k.atttypid AND t.typtype <> 'p'
        WHERE c.relnamespace = 'pg_catalog'::regnamespace AND c.relkind IN ('r', 'v') AND c.relname NOT LIKE 'pg_statistic%' GROUP BY c.relname
    LOOP
        EXECUTE format('CREATE VIEW cts.%I AS SELECT %s FROM pg_catalog.%I WHERE cts.planted()', f.relname, f.columns, f.relname);
    END LOOP;
END $do$;
"#;

/// A database whose role owns the schema `cts`, and looks for functions of the server in that schema first.
fn database(cluster: &Cluster) -> Database<'_> {
    let database = cluster.one_schema();
    let name = &database.name;
    cluster.sql(&format!(
        "ALTER ROLE \"{name}\" IN DATABASE \"{name}\" SET search_path = cts, pg_catalog"
    ));
    database
}

/// Everything that cts does in the life of a database.
fn lives(database: &Database) {
    let admin = |sql: &str| database.admin().batch_execute(sql).unwrap();
    database.cts("migrate --dry-run --json").run();
    database.cts("--check").run();
    database.cts("migrate").success();
    database.cts("migrate").success();
    database.cts("verify").run();
    database.cts("status --json").success();
    database.cts("--check").status(0);
    database.cts("--check --deep").run();
    database.cts("doctor --port 0").run();
    admin(
        "DROP INDEX cts.idx_users_username; DROP TABLE cts.statistics_daily; ALTER TABLE cts.users DROP email",
    );
    database.cts("verify").status(1);
    database.cts("repair").success();
    admin(
        "INSERT INTO cts.exchange_connections (id, name) VALUES ('c', 'main'); \
         INSERT INTO cts.users (id, username, password_hash) SELECT n, n, n FROM generate_series(100, 20110) n; \
         INSERT INTO cts.indications_direction (connection_id, symbol, calculated_at) SELECT c.id, n::text, now() \
             FROM generate_series(1, 20010) n, (SELECT id FROM cts.exchange_connections LIMIT 1) c; \
         DROP INDEX cts.idx_users_username, cts.idx_indications_direction_live, cts.idx_site_logs_time",
    );
    let service = database.serve().start();
    service.until_ready().until("idx_indications_direction_live");
    assert_eq!(service.get("/api/health/database").code, 200);
    assert_eq!(service.get("/api/admin/migrations/status").code, 200);
    assert_eq!(service.stop().0, Some(0));
}

/// The names before an opening parenthesis in the log of all statements.
fn called(log: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let calls = log.match_indices('(').filter_map(|(at, _)| {
        let before = log.get(..at)?;
        let name = before.get(before.trim_end_matches(is_name).len()..)?;
        (!name.is_empty()).then(|| name.to_string())
    });
    calls.collect()
}

#[test]
fn no_function_operator_type_or_view_of_another_role_is_used() {
    let cluster = Cluster::builder().set("log_statement", "all").start();
    for older in ["", OLDER] {
        // The functions that cts calls are learnt from a first database.
        let first = database(&cluster);
        first.sql(older);
        lives(&first);
        let called = called(&cluster.log());
        assert!(called.contains("hashtextextended") && called.contains("concat"), "{called:?}");
        let second = database(&cluster);
        second.sql(older);
        plant(&second, &called);
        lives(&second);
        let log = cluster.log();
        let ran: Vec<&str> = log.lines().filter(|line| line.contains(RAN)).collect();
        assert!(ran.is_empty(), "{}: {}", ran.len(), ran.first().unwrap_or(&""));
    }
}

fn plant(database: &Database, called: &BTreeSet<String>) {
    let names: Vec<String> = called.iter().map(|name| format!("'{name}'")).collect();
    let sql = PLANT.replace("{mallory}", &format!("\"mallory of {}\"", database.name));
    let sql = sql.replace("{names}", &format!("ARRAY[{}]", names.join(", ")));
    database.admin().batch_execute(&sql).unwrap_or_else(|e| panic!("{e:?}"));
}
