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
    own text;
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
        own := CASE f.result WHEN 'void' THEN replace(body, 'RETURN NULL', 'RETURN') ELSE body END;
        EXECUTE format('CREATE FUNCTION cts.%I() RETURNS %s %s', f.proname, f.result, own);
        FOREACH a IN ARRAY types LOOP
            EXECUTE format('CREATE FUNCTION cts.%I(%s) RETURNS %s %s', f.proname, a, f.result, own);
        END LOOP;
        FOREACH a IN ARRAY few LOOP FOREACH b IN ARRAY few LOOP
            EXECUTE format('CREATE FUNCTION cts.%I(%s, %s) RETURNS %s %s', f.proname, a, b, f.result, own);
        END LOOP; END LOOP;
        IF f.args > 2 OR f.variadics <> 0 THEN
            FOREACH a IN ARRAY three LOOP FOREACH b IN ARRAY three LOOP FOREACH c IN ARRAY three LOOP
                EXECUTE format('CREATE FUNCTION cts.%I(%s, %s, %s) RETURNS %s %s', f.proname, a, b, c, f.result, own);
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
        let mut called = called(&cluster.log());
        // Called only where an index is being built meanwhile. It returns nothing.
        called.insert("pg_stat_clear_snapshot".to_string());
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

/// A role that may create objects in schema `cts`, with a function that writes into the server's log.
fn other_role(database: &Database) -> String {
    let role = format!("\"other of {}\"", database.name);
    let function = "LANGUAGE plpgsql AS $f$ BEGIN RAISE LOG '% of another role ran as %', 'code', current_user;";
    let sql = format!(
        "CREATE ROLE {role}; GRANT USAGE, CREATE ON SCHEMA cts TO {role}; SET ROLE {role}; \
         CREATE FUNCTION cts.before_row() RETURNS trigger {function} RETURN NEW; END $f$; \
         CREATE FUNCTION cts.is_right(text) RETURNS boolean IMMUTABLE {function} RETURN true; END $f$; \
         CREATE DOMAIN cts.word AS text CHECK (cts.is_right(VALUE)); RESET ROLE"
    );
    database.admin().batch_execute(&sql).unwrap();
    role
}

#[test]
fn code_of_another_role_on_our_tables_does_not_run_and_is_named() {
    let cluster = Cluster::builder().start();
    let trigger = |table: &str| {
        format!(
            "CREATE TRIGGER audit BEFORE INSERT ON cts.{table} FOR EACH ROW EXECUTE FUNCTION cts.before_row()"
        )
    };
    let query = "query_to_xml('SELECT cts.is_right(''x'')', true, true, '') IS NOT NULL";
    for (table, sql, what, stops_a_look) in [
        ("site_logs", trigger("site_logs"), "trigger audit", false),
        ("migrations", trigger("migrations"), "trigger audit", false),
        (
            "site_logs",
            "ALTER TABLE cts.site_logs ADD CHECK (cts.is_right(level))".into(),
            "constraint site_logs_level_check",
            false,
        ),
        (
            "site_logs",
            format!("ALTER TABLE cts.site_logs ADD CONSTRAINT c CHECK ({query})"),
            "constraint c",
            false,
        ),
        (
            "site_logs",
            "ALTER TABLE cts.site_logs ADD x cts.word".into(),
            "type cts.word of column x",
            false,
        ),
        (
            "site_logs",
            format!("ALTER TABLE cts.site_logs ALTER context SET DEFAULT ({query})::text"),
            "default of column context",
            false,
        ),
        (
            "site_logs",
            "CREATE RULE audit AS ON INSERT TO cts.site_logs DO ALSO SELECT cts.is_right('x')"
                .into(),
            "rule audit",
            false,
        ),
        (
            "migrations",
            "CREATE INDEX mine ON cts.migrations (name) WHERE cts.is_right('x')".into(),
            "index mine",
            true,
        ),
    ] {
        let database = cluster.one_schema();
        database.cts("migrate").success();
        let role = other_role(&database);
        let admin = |sql: &str| database.admin().batch_execute(sql).unwrap();
        // A trigger needs no more than a right on the table; all else its owner.
        let name = &database.name;
        if sql.contains("TRIGGER") {
            admin(&format!("GRANT TRIGGER ON cts.{table} TO {role}; SET ROLE {role}; {sql}"));
        } else {
            admin(&format!(
                "ALTER TABLE cts.{table} OWNER TO {role}; GRANT ALL ON cts.{table} TO \"{name}\"; \
                 GRANT ALL ON ALL SEQUENCES IN SCHEMA cts TO \"{name}\"; SET ROLE {role}; {sql}"
            ));
        }
        let before = cluster.log().matches(RAN).count();
        let says = format!("{what} is code of role {}", role.trim_matches('"'));
        let doctor = database.cts("doctor --port 0").run();
        let said = doctor.out() + &doctor.err();
        assert!(said.contains(&says) && said.contains("GRANT "), "{says}: {said}");
        let check = database.cts("--check --deep").run();
        assert_eq!(check.out().contains(&says), stops_a_look, "{}", check.out());
        database.cts("verify").run();
        if !stops_a_look {
            admin("DROP INDEX cts.idx_users_username");
            let repair = database.cts("repair").run();
            let is_ledger = table == "migrations";
            assert!(is_ledger || repair.err().contains(&says), "{}", repair.err());
            let service = database.serve().start();
            service.until_ready();
            assert_eq!(service.get("/api/health/database").code, 200);
            assert_eq!(service.stop().0, Some(0));
        }
        let log = cluster.log();
        assert_eq!(log.matches(RAN).count(), before, "{sql}");
        // Trusted, it runs.
        if sql.contains("TRIGGER") && table == "site_logs" {
            admin(&format!("GRANT {role} TO \"{name}\"; DROP INDEX cts.idx_users_username"));
            database.cts("repair").success();
            assert!(cluster.log().matches(RAN).count() > before);
        }
    }
}

#[test]
fn code_of_another_role_on_the_table_of_exceptions_does_not_run() {
    let cluster = Cluster::builder().start();
    let database = cluster.one_schema();
    database.cts("migrate").success();
    let index = |name: &str| format!("DROP INDEX cts.{name}");
    database.admin().batch_execute(&index("idx_users_username")).unwrap();
    database.cts("accept idx_users_username").success();
    let role = other_role(&database);
    let trigger = format!(
        "GRANT TRIGGER ON cts.cts_relaxations TO {role}; SET ROLE {role}; \
         CREATE TRIGGER audit BEFORE INSERT OR DELETE ON cts.cts_relaxations \
         FOR EACH ROW EXECUTE FUNCTION cts.before_row(); RESET ROLE; {}",
        index("idx_site_logs_category")
    );
    database.admin().batch_execute(&trigger).unwrap();
    for words in ["accept idx_site_logs_category", "accept idx_users_username --withdraw"] {
        let done = database.cts(words).run();
        assert_ne!(done.0.status.code(), Some(0), "{words}: {}", done.err());
        done.says(&["trigger audit is code of role ", "cts_relaxations"]);
    }
    assert!(!cluster.log().contains(RAN));
}

#[test]
fn nobody_elses_code_runs_with_the_rights_of_a_superuser() {
    let cluster = Cluster::builder().start();
    let database = cluster.one_schema();
    database.cts("migrate").success();
    let role = other_role(&database);
    let name = &database.name;
    database
        .admin()
        .batch_execute(&format!(
            "ALTER TABLE cts.site_logs OWNER TO {role}; ALTER TABLE cts.migrations OWNER TO {role}; \
             ALTER ROLE \"{name}\" SUPERUSER; SET ROLE {role}; \
             CREATE INDEX mine ON cts.site_logs (level) WHERE cts.is_right('x'); \
             CREATE FUNCTION cts.row_to(cts.migrations) RETURNS json LANGUAGE plpgsql AS $f$ \
             BEGIN RAISE LOG '% of another role ran as %', 'code', current_user; RETURN '{{}}'; END $f$; \
             CREATE FUNCTION cts.row_as(cts.migrations) RETURNS text LANGUAGE plpgsql AS $f$ \
             BEGIN RAISE LOG '% of another role ran as %', 'code', current_user; RETURN ''; END $f$; \
             CREATE CAST (cts.migrations AS json) WITH FUNCTION cts.row_to(cts.migrations); \
             CREATE CAST (cts.migrations AS text) WITH FUNCTION cts.row_as(cts.migrations)"
        ))
        .unwrap();
    for words in
        ["--check", "--check --deep", "verify", "status", "doctor --port 0", "repair", "migrate"]
    {
        database.cts(words).run();
    }
    let log = cluster.log();
    let ran = log.split_once(&format!("{RAN} {name}")).map(|(_, rest)| rest);
    let shown: Vec<&str> = ran.unwrap_or_default().lines().take(3).collect();
    assert!(log.contains(RAN) && shown.is_empty(), "{shown:?}");
}

#[test]
fn doctor_names_the_roles_that_may_create_in_our_schema() {
    let database = Cluster::shared().one_schema();
    database.cts("migrate").success();
    database.cts("doctor --port 0").run().says(&["none may create objects in schema cts"]);
    let admin = |sql: &str| database.admin().batch_execute(sql).unwrap();
    admin("GRANT CREATE ON SCHEMA cts TO PUBLIC");
    let says =
        ["may create objects in schema cts: PUBLIC", "REVOKE CREATE ON SCHEMA cts FROM PUBLIC"];
    database.cts("doctor --port 0").status(1).says(&says);
    admin("REVOKE CREATE ON SCHEMA cts FROM PUBLIC");
    let role = other_role(&database);
    let says = format!("REVOKE CREATE ON SCHEMA cts FROM {role}");
    database.cts("doctor --port 0").status(1).says(&[&says]);
    admin(&format!(
        "REVOKE CREATE ON SCHEMA cts FROM {role}; ALTER SCHEMA cts OWNER TO {role}; GRANT USAGE, CREATE ON SCHEMA cts TO \"{}\"",
        database.name
    ));
    let says = format!("ALTER SCHEMA cts OWNER TO \"{}\"", database.name);
    database.cts("doctor --port 0").run().says(&[&says]);
    admin(&format!("DROP OWNED BY {role} CASCADE"));
}
