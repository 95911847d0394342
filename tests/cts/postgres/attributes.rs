//! Attributes of tables, columns, indexes and constraints: what decides which rows are stored, found
//! and kept is compared; what an operator tunes is not.

use crate::support::cluster::{Cluster, Database};

/// A foreign key of `pseudo_positions` in place of the expected one.
const FOREIGN_KEY: &str = "ALTER TABLE pseudo_positions DROP CONSTRAINT pseudo_positions_connection_id_fkey, ADD FOREIGN KEY (connection_id)";
/// An index in place of the expected one.
const INDEX: &str = "DROP INDEX idx_system_settings_category; CREATE INDEX idx_system_settings_category ON system_settings";

/// A change, and the part of the difference that names it.
const DRIFT: &[(&str, &str)] = &[
    ("ALTER TABLE users SET UNLOGGED", "table users: expected an ordinary table, found UNLOGGED"),
    ("CREATE TABLE o.parent (role TEXT); ALTER TABLE users INHERIT o.parent", "found INHERITS "),
    (
        "ALTER TABLE site_logs ALTER id DROP IDENTITY; \
         CREATE TABLE o.big (LIKE site_logs INCLUDING DEFAULTS) PARTITION BY RANGE (id); \
         ALTER TABLE o.big ATTACH PARTITION site_logs DEFAULT",
        "found PARTITION OF ",
    ),
    ("ALTER TABLE users ENABLE ROW LEVEL SECURITY", "found ROW LEVEL SECURITY"),
    (
        "CREATE RULE away AS ON INSERT TO site_logs DO INSTEAD NOTHING",
        "found RULE away ON INSERT DO INSTEAD",
    ),
    (
        "CREATE RULE \"Some\" AS ON UPDATE TO site_logs WHERE new.level = 'x' DO INSTEAD NOTHING",
        "found RULE \"Some\" ON UPDATE DO INSTEAD",
    ),
    ("ALTER TABLE users ADD EXCLUDE USING hash (role WITH =)", "found EXCLUDE USING hash"),
    (
        "ALTER TABLE users DROP CONSTRAINT users_pkey, ADD PRIMARY KEY (id) DEFERRABLE",
        "found PRIMARY KEY DEFERRABLE",
    ),
    (
        "ALTER TABLE users ALTER role TYPE TEXT COLLATE \"POSIX\"",
        "column users.role: expected TEXT DEFAULT 'user', found TEXT DEFAULT 'user' COLLATE \"POSIX\"",
    ),
    (
        "{FOREIGN_KEY} REFERENCES o.exchange_connections (id) ON DELETE CASCADE",
        "REFERENCES o.exchange_connections(id)",
    ),
    (
        "{FOREIGN_KEY} REFERENCES exchange_connections (id) ON DELETE CASCADE NOT VALID",
        "found FOREIGN KEY (connection_id) REFERENCES exchange_connections(id) ON DELETE CASCADE NOT VALID",
    ),
    (
        "{FOREIGN_KEY} REFERENCES exchange_connections (id) ON DELETE CASCADE ON UPDATE CASCADE",
        "ON DELETE CASCADE ON UPDATE CASCADE",
    ),
    (
        "{FOREIGN_KEY} REFERENCES exchange_connections (id) MATCH FULL ON DELETE CASCADE",
        "MATCH FULL",
    ),
    (
        "{FOREIGN_KEY} REFERENCES exchange_connections (id) ON DELETE CASCADE INITIALLY DEFERRED",
        "DEFERRABLE INITIALLY DEFERRED",
    ),
    ("ALTER TABLE pseudo_positions DISABLE TRIGGER ALL", "WITH ITS TRIGGERS DISABLED"),
    ("ALTER TABLE exchange_connections DISABLE TRIGGER ALL", "WITH ITS TRIGGERS DISABLED"),
    (
        "ALTER TABLE users ALTER role SET DEFAULT 'user'::varchar(2)",
        "found TEXT DEFAULT 'user'::CHARACTER VARYING(2)",
    ),
    (
        "ALTER TABLE users ALTER created_at SET DEFAULT now()::date",
        "expected TIMESTAMPTZ DEFAULT CURRENT_TIMESTAMP, found TIMESTAMPTZ DEFAULT CURRENT_TIMESTAMP::DATE",
    ),
    (
        "ALTER TABLE users ALTER created_at SET DEFAULT now()::timestamptz(0)",
        "found TIMESTAMPTZ DEFAULT CURRENT_TIMESTAMP::TIMESTAMP(0) WITH TIME ZONE",
    ),
    (
        "CREATE FUNCTION o.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT NULL::timestamptz'; \
         ALTER TABLE users ALTER created_at SET DEFAULT o.now()",
        "found TIMESTAMPTZ DEFAULT o.now()",
    ),
    (
        "DROP INDEX idx_pseudo_positions_live; CREATE INDEX idx_pseudo_positions_live \
         ON pseudo_positions (connection_id, symbol) WHERE status = 'active'::varchar(3)",
        "index idx_pseudo_positions_live",
    ),
    (
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET session_replication_role = replica', current_database()); END $$",
        "table exchange_connections: expected an ordinary table, found FOREIGN KEYS TURNED OFF BY session_replication_role; \
         `ALTER ROLE … RESET session_replication_role`",
    ),
    ("{INDEX} (category COLLATE \"POSIX\")", "found (category COLLATE \"POSIX\")"),
    ("{INDEX} (category text_pattern_ops DESC)", "found (category text_pattern_ops DESC)"),
    ("{INDEX} (category NULLS FIRST)", "found (category NULLS FIRST)"),
    ("{INDEX} (category) INCLUDE (value)", "found (category) INCLUDE (value)"),
    ("{INDEX} (lower(category))", "found ((lower(category)))"),
    ("{INDEX} USING hash (category)", "found (category USING hash)"),
    (
        "DROP INDEX idx_system_settings_key; \
         CREATE UNIQUE INDEX idx_system_settings_key ON system_settings (key) NULLS NOT DISTINCT",
        "found UNIQUE (key) NULLS NOT DISTINCT",
    ),
];

/// What an operator or owner may do without changing which rows a program can store and find.
const NO_DRIFT: &[&str] = &[
    "ALTER TABLE users ALTER created_at SET DEFAULT now(), ALTER role SET DEFAULT 'user'::varchar; \
     ALTER TABLE pseudo_positions ALTER profit_loss SET DEFAULT 0::double precision, ALTER pnl SET DEFAULT NULL::double precision",
    "ALTER TABLE users SET (fillfactor = 50, autovacuum_enabled = false); ALTER TABLE users ALTER role SET STORAGE EXTERNAL",
    "ALTER TABLE users ALTER role SET STATISTICS 500; ALTER TABLE users ALTER role SET (n_distinct = 5); \
     CREATE STATISTICS dependent ON role, id FROM users; CLUSTER users USING users_pkey",
    "COMMENT ON TABLE users IS 'x'; GRANT SELECT ON users TO PUBLIC; ALTER TABLE users REPLICA IDENTITY FULL",
    "ALTER TABLE pseudo_positions RENAME CONSTRAINT pseudo_positions_connection_id_fkey TO other; \
     ALTER TABLE users RENAME CONSTRAINT users_pkey TO another",
    "ALTER INDEX idx_system_settings_category SET (fillfactor = 70); CREATE INDEX mine ON users (role)",
    "CREATE FUNCTION own() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$; \
     CREATE TRIGGER own BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION own(); ALTER TABLE users DISABLE TRIGGER own",
    "CREATE TABLE copies (x TEXT); CREATE RULE copied AS ON DELETE TO site_logs DO ALSO INSERT INTO copies VALUES ('x')",
    "CREATE RULE off AS ON DELETE TO site_logs DO INSTEAD NOTHING; ALTER TABLE site_logs DISABLE RULE off",
    "CREATE TABLE child () INHERITS (users); CREATE POLICY unused ON users USING (true)",
    "ALTER TABLE users ADD COLUMN mine TEXT COLLATE \"C\"; ALTER TABLE users ADD EXCLUDE USING hash (mine WITH =); \
     ALTER TABLE users ADD FOREIGN KEY (mine) REFERENCES o.exchange_connections (id) ON UPDATE CASCADE NOT VALID",
    "DO $$ DECLARE own TEXT; BEGIN FOR own IN SELECT tgname FROM pg_trigger WHERE tgrelid = 'pseudo_positions'::regclass LOOP \
     EXECUTE format('ALTER TABLE pseudo_positions ENABLE ALWAYS TRIGGER %I', own); END LOOP; END $$",
];

fn migrated() -> Database<'static> {
    let database = Cluster::shared().owned();
    database.cts("migrate").success();
    database.sql("CREATE SCHEMA o; CREATE TABLE o.exchange_connections (id TEXT PRIMARY KEY)");
    database
}

/// A copy that was changed in this way by the superuser, whose objects the owner has.
fn changed<'a>(database: &Database<'a>, change: &str) -> Database<'a> {
    let copy = database.copy();
    let change = change.replace("{FOREIGN_KEY}", FOREIGN_KEY).replace("{INDEX}", INDEX);
    copy.admin().batch_execute(&change).unwrap_or_else(|e| panic!("{change}: {e:?}"));
    copy
}

#[test]
fn what_decides_over_rows_is_drift() {
    let database = migrated();
    let has_nulls_not_distinct = database.server_major() >= 15;
    for (change, found) in DRIFT {
        if change.contains("NULLS NOT DISTINCT") && !has_nulls_not_distinct {
            continue;
        }
        let changed = changed(&database, change);
        changed.cts("verify").status(1).says(&[found]);
        changed.cts("--check").status(1).says(&["CTS WARNING", found]);
    }
}

#[test]
fn what_an_operator_tunes_is_no_drift() {
    let database = migrated();
    for change in NO_DRIFT {
        changed(&database, change).cts("verify").success().says(&["no drift"]);
    }
}

#[test]
fn a_running_service_notices_each_change() {
    let database = migrated();
    let service = database.serve().start();
    service.until_ready().until_status("healthy");
    for (change, undo) in [
        (
            "ALTER TABLE pseudo_positions DISABLE TRIGGER ALL",
            "ALTER TABLE pseudo_positions ENABLE TRIGGER ALL",
        ),
        ("CREATE RULE a AS ON DELETE TO users DO INSTEAD NOTHING", "DROP RULE a ON users"),
        (
            "ALTER TABLE users ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE users DISABLE ROW LEVEL SECURITY",
        ),
        ("ALTER TABLE users SET UNLOGGED", "ALTER TABLE users SET LOGGED"),
        (
            "CREATE TABLE o.p (role TEXT); ALTER TABLE users INHERIT o.p",
            "ALTER TABLE users NO INHERIT o.p",
        ),
    ] {
        database.admin().batch_execute(change).unwrap();
        service.until_status("degraded");
        database.admin().batch_execute(undo).unwrap();
        service.until_status("healthy");
    }
    service.stop();
}

#[test]
fn a_restored_dump_is_as_the_database_was() {
    let database = migrated();
    database.sql(
        "INSERT INTO exchange_connections (id, name) VALUES ('a', 'b'); \
         ALTER TABLE pseudo_positions RENAME CONSTRAINT pseudo_positions_connection_id_fkey TO other",
    );
    let restored = Cluster::shared().owned();
    let dump = database.printed(&["--inserts"]).replace(&database.name, &restored.name);
    restored.admin().batch_execute(&dump).unwrap_or_else(|e| panic!("{e:?}"));
    restored.cts("verify").success().says(&["no drift"]);
}

/// More rows than a start changes a table with.
const MANY_ROWS: &str = "INSERT INTO pseudo_positions (connection_id, symbol) SELECT 'a', 'S' FROM generate_series(1, 20001)";
const CONNECTION: &str = "INSERT INTO exchange_connections (id, name) VALUES ('a', 'b')";
/// A row whose connection does not exist, in a table without the triggers that would refuse it.
const ORPHAN: &str = "ALTER TABLE pseudo_positions DISABLE TRIGGER ALL; \
    INSERT INTO pseudo_positions (connection_id, symbol) VALUES ('gone', 'S')";

fn run_as_superuser(database: &Database, sql: &str) {
    database.admin().batch_execute(sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
}

#[test]
fn a_start_puts_right_what_loses_no_row() {
    let database = migrated();
    let not_valid =
        format!("{FOREIGN_KEY} REFERENCES exchange_connections (id) ON DELETE CASCADE NOT VALID");
    for (change, said) in [
        // The children first, which may not refer to a table that is not logged.
        (
            "DO $$ DECLARE own regclass; BEGIN \
             FOR own IN SELECT conrelid FROM pg_constraint WHERE contype = 'f' LOOP EXECUTE format('ALTER TABLE %s SET UNLOGGED', own); END LOOP; \
             ALTER TABLE exchange_connections SET UNLOGGED; END $$",
            "altered table put right: make table exchange_connections logged",
        ),
        ("ALTER TABLE users SET UNLOGGED", "altered table put right: make table users logged"),
        (&*not_valid, "altered table put right: validate FOREIGN KEY (connection_id)"),
        (
            "ALTER TABLE pseudo_positions DISABLE TRIGGER ALL",
            "altered table put right: enforce FOREIGN KEY (connection_id)",
        ),
    ] {
        for words in ["migrate", "repair"] {
            let changed = changed(&database, change);
            changed.sql(CONNECTION);
            let plan = changed.cts("migrate --dry-run").success().out();
            let planned = said.strip_prefix("altered table put right: ").unwrap();
            assert!(plan.contains(&format!("would {planned}")), "{plan}");
            changed.cts(words).success().says(&[said]);
            changed.cts("verify").success().says(&["no drift"]);
            changed.cts("--check").success();
            let noted = "SELECT count(*) FROM site_logs WHERE message LIKE '%put an altered table right: %'";
            assert!(changed.number(noted) > 0, "{change}");
            assert_eq!(changed.number("SELECT count(*) FROM exchange_connections"), 1);
            let refused =
                "INSERT INTO pseudo_positions (connection_id, symbol) VALUES ('gone', 'S')";
            assert!(changed.open().batch_execute(refused).is_err(), "{change}");
        }
    }
}

#[test]
fn a_large_table_is_put_right_by_a_repair_only() {
    let database = migrated();
    database.sql(CONNECTION);
    database.sql(MANY_ROWS);
    run_as_superuser(&database, "ALTER TABLE pseudo_positions SET UNLOGGED");
    let remedy =
        "found UNLOGGED; it is empty after a crash of the server; `cts repair` makes it logged";
    database.cts("migrate --dry-run").success().says(&["would stay as it is", remedy]);
    database.cts("migrate").success().says(&[remedy]);
    database.cts("--check").status(1).says(&[remedy]);
    database.cts("repair").success().says(&["make table pseudo_positions logged"]);
    database.cts("verify").success();
    assert_eq!(database.number("SELECT count(*) FROM pseudo_positions"), 20001);
}

#[test]
fn rows_that_violate_a_foreign_key_are_kept_and_named() {
    let database = migrated();
    database.sql(CONNECTION);
    run_as_superuser(&database, ORPHAN);
    let rows =
        "1 rows of table pseudo_positions refer to rows of exchange_connections that do not exist";
    let show = "SELECT * FROM pseudo_positions WHERE connection_id NOT IN (SELECT id FROM exchange_connections)";
    database.cts("verify").status(1).says(&["`cts repair` enforces it again"]);
    database.cts("migrate").success().says(&["enforce FOREIGN KEY", rows, show]);
    // New rows are checked again, the old one is kept.
    let refused = "INSERT INTO pseudo_positions (connection_id, symbol) VALUES ('gone too', 'S')";
    assert!(database.open().batch_execute(refused).is_err());
    database.cts("repair").status(1).says(&[rows, "NOT VALID; `cts repair` validates it, once"]);
    assert_eq!(database.number("SELECT count(*) FROM pseudo_positions"), 1);
    database.sql("DELETE FROM pseudo_positions WHERE connection_id = 'gone'");
    database.cts("repair").success().says(&["validate FOREIGN KEY", "no drift"]);
}

#[test]
fn a_table_of_another_role_does_not_stop_a_start() {
    let database = migrated();
    run_as_superuser(
        &database,
        &format!(
            "ALTER TABLE users SET UNLOGGED; ALTER TABLE users OWNER TO CURRENT_USER; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON users TO \"{}\"",
            database.name
        ),
    );
    database.cts("migrate").success().says(&["cannot make table users logged", "must be owner"]);
    database.cts("repair").status(1).says(&["must be owner of table users"]);
    let service = database.serve().start();
    service.until_ready().until_status("degraded");
    service.stop();
}

#[test]
fn a_table_in_use_is_left_by_a_start_and_waited_for_by_a_repair() {
    let database = migrated();
    run_as_superuser(&database, "ALTER TABLE users SET UNLOGGED");
    let mut client = database.open();
    client
        .batch_execute("BEGIN; INSERT INTO users (username, password_hash) VALUES ('a', 'b')")
        .unwrap();
    database.cts("migrate").success().says(&["cannot make table users logged"]);
    database.cts("repair").env("CTS_LOCK_TIMEOUT", "1s").status(75);
    client.batch_execute("COMMIT").unwrap();
    database.cts("repair").success();
    assert_eq!(database.texts("SELECT username FROM users"), ["a"]);
}

#[test]
fn the_remedy_of_what_the_owner_made_works() {
    let database = migrated();
    for change in [
        "CREATE TABLE o.parent (role TEXT); ALTER TABLE users INHERIT o.parent",
        "ALTER TABLE users ENABLE ROW LEVEL SECURITY",
        "CREATE RULE \"A rule\" AS ON INSERT TO site_logs DO INSTEAD NOTHING",
        "{INDEX} (category) INCLUDE (value)",
    ] {
        let changed = changed(&database, change);
        let json = changed.cts("verify --json").status(1).json();
        let remedy = json["altered"][0]["remedy"].as_str().unwrap();
        let sql = match remedy.split('`').nth(1) {
            Some("cts repair") => "DROP INDEX idx_system_settings_category",
            sql => sql.unwrap(),
        };
        run_as_superuser(&changed, &format!("SET search_path = public; {sql}"));
        changed.cts("repair").success().says(&["no drift"]);
    }
}

#[test]
fn an_older_database_whose_tables_are_not_logged_is_adopted_and_survives_a_crash() {
    let database = Cluster::shared().owned();
    database.sql(
        "CREATE UNLOGGED TABLE exchange_connections (id TEXT PRIMARY KEY, name TEXT NOT NULL); \
         CREATE UNLOGGED TABLE users (id SERIAL PRIMARY KEY, username TEXT NOT NULL, password_hash TEXT NOT NULL); \
         INSERT INTO users (username, password_hash) VALUES ('a', 'x'), ('b', 'y'); \
         INSERT INTO exchange_connections VALUES ('c', 'd')",
    );
    database.cts("migrate").success();
    database.cts("verify").success().says(&["no drift"]);
    let unlogged = "SELECT relname FROM pg_class WHERE relpersistence = 'u'";
    assert_eq!(database.texts(unlogged), Vec::<String>::new());
    assert_eq!(database.number("SELECT count(*) FROM users"), 2);
}

#[test]
fn an_older_database_with_what_its_owner_made_is_adopted_and_reported() {
    let database = Cluster::shared().owned();
    database.sql(
        "CREATE TABLE exchange_connections (id TEXT PRIMARY KEY COLLATE \"C\", name TEXT NOT NULL); \
         CREATE TABLE pseudo_positions (id SERIAL PRIMARY KEY, symbol TEXT NOT NULL, \
             connection_id TEXT NOT NULL REFERENCES exchange_connections (id) ON UPDATE CASCADE DEFERRABLE); \
         CREATE TABLE site_logs (id SERIAL PRIMARY KEY, level TEXT NOT NULL, message TEXT NOT NULL); \
         CREATE RULE away AS ON DELETE TO site_logs DO INSTEAD NOTHING",
    );
    database.cts("migrate").success().says(&["found RULE away ON DELETE DO INSTEAD"]);
    let said = database.cts("verify").status(1).out();
    assert!(said.contains("drift: 1 altered"), "{said}");
}

/// The owner has made a table partitioned: one command says that this is meant so, and healing leaves it alone.
#[test]
fn a_partitioned_table_can_be_accepted() {
    let database = Cluster::shared().owned();
    database.cts("migrate").success();
    database.sql(
        "ALTER TABLE site_logs RENAME TO old; \
         CREATE TABLE site_logs (LIKE old INCLUDING DEFAULTS INCLUDING IDENTITY, PRIMARY KEY (id, created_at)) PARTITION BY RANGE (created_at); \
         CREATE TABLE site_logs_all PARTITION OF site_logs DEFAULT; INSERT INTO site_logs SELECT * FROM old; DROP TABLE old",
    );
    database
        .cts("repair")
        .status(1)
        .says(&["table site_logs: expected ", "PARTITION BY RANGE (created_at)"]);
    database
        .cts("accept site_logs")
        .success()
        .says(&["accepted: table site_logs: ", "PARTITION BY"]);
    database.cts("verify").success().says(&["no drift", "accepted: table site_logs: "]);
    database.cts("--check").success().says(&["CTS OK"]);
    let service = database.serve().start();
    service.until_ready().until_status("healthy");
    service.stop();
    database.cts("repair").success();
    database.cts("--check --deep").success();
}
