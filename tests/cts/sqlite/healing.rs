//! Drift: reported by `verify`, repaired by a start and by `repair`; and older databases.

use std::time::Duration;

use crate::support::harness::{Machine, await_within};

#[test]
fn a_dropped_ledger_is_recreated_without_touching_a_row() {
    let machine = Machine::migrated();
    machine.sql(
        "INSERT INTO users (username, password_hash) VALUES ('kept', 'x'); DROP TABLE migrations",
    );
    machine
        .cts("--check")
        .status(2)
        .says(&["missing: table migrations (critical). Run: cts repair"]);
    machine.cts("migrate").success();
    assert_eq!(machine.number("SELECT count(*) FROM migrations"), 4);
    assert_eq!(machine.texts("SELECT username FROM users"), ["kept"]);
    machine.cts("verify").success();
}

#[test]
fn a_column_that_cannot_be_added_is_restored_by_a_rebuild_after_a_backup() {
    let machine = Machine::migrated();
    machine.sql(
        "INSERT INTO users (username, password_hash) VALUES ('kept', 'x'); \
         ALTER TABLE users DROP COLUMN created_at",
    );
    machine.cts("--check").status(1).says(&["missing: column users.created_at. Run: cts repair"]);
    machine.cts("repair").success().says(&[
        "✓ The database as it was: ",
        "cts.db.before-3.1.0-",
        "✓ table users was rebuilt, 1 rows, all kept",
        "column users.created_at was missing and has been put back",
        "no drift",
    ]);
    // The creation time of the row is unknown.
    assert_eq!(machine.texts("SELECT username || ifnull(created_at, ' ?') FROM users"), ["kept ?"]);
    machine.cts("--check").success();
    machine.sql("ALTER TABLE users DROP COLUMN created_at");
    machine
        .cts("migrate")
        .success()
        .says(&["column users.created_at was missing and has been put back"]);
    machine.cts("verify").success();
}

#[test]
fn repair_and_verify_without_a_database_create_nothing() {
    let machine = Machine::new();
    for words in ["repair", "verify"] {
        machine.cts(words).status(65).says(&["there is no database"]);
    }
    assert!(machine.files().is_empty());
}

/// An older CTS: a ledger without checksums and with its own rows, and fewer tables, columns and
/// indexes.
const OLDER: &str = "PRAGMA application_id = 0; DROP INDEX idx_migrations_name; \
    DELETE FROM migrations; DELETE FROM site_logs; \
    ALTER TABLE migrations DROP COLUMN checksum; ALTER TABLE migrations DROP COLUMN version; \
    INSERT INTO migrations (name) VALUES ('unified_complete_setup.sql'), ('unified_003_CREATE'); \
    DROP TABLE indication_states; DROP INDEX idx_site_logs_category; \
    DROP INDEX idx_pseudo_positions_closed; ALTER TABLE pseudo_positions DROP COLUMN closed_at; \
    INSERT INTO exchange_connections (id, name) VALUES ('bybit-x03', 'main'); \
    INSERT INTO pseudo_positions (connection_id, symbol) VALUES ('bybit-x03', 'BTCUSDT');";

#[test]
fn an_older_incomplete_database_is_completed_after_the_fallback() {
    let machine = Machine::migrated();
    machine.sql(OLDER);
    machine.cts("--check").status(1).says(&["migration unified_complete_setup.sql is pending"]);
    machine.cts("migrate").success().says(&["✓ 000_master_initialization.sql: 2 applied"]);
    assert_eq!(
        machine.texts("SELECT name FROM migrations ORDER BY id"),
        [
            "unified_complete_setup.sql",
            "unified_003_CREATE",
            "000_master_initialization.sql",
            "unified_complete_setup.sql",
            "051_add_performance_indexes.sql",
            "070_high_frequency_performance_indexes.sql",
            "071_add_coordination_tables.sql"
        ]
    );
    assert_eq!(machine.number("SELECT count(*) FROM migrations WHERE checksum IS NULL"), 2);
    assert_eq!(
        machine.texts("SELECT connection_id || symbol FROM pseudo_positions"),
        ["bybit-x03BTCUSDT"]
    );
    machine.cts("verify").success();
    let status = machine.cts("status --json").success().json();
    assert_eq!(
        (&status["migrations"]["total"], &status["status"]),
        (&5.into(), &"complete".into())
    );
    machine.cts("--check").success().says(&["5/5 migrations"]);
    machine.cts("migrate").success().says(&["0 applied, 92 skipped"]);
}

#[test]
fn an_older_database_that_cannot_be_converted_is_refused_and_left_alone() {
    let machine = Machine::new();
    machine.sql(
        "CREATE TABLE exchange_connections (id INTEGER PRIMARY KEY, name TEXT); \
         CREATE VIEW site_logs AS SELECT name FROM exchange_connections; \
         INSERT INTO exchange_connections VALUES (1, 'main')",
    );
    let before = machine.files();
    machine.cts("migrate").status(65).says(&["site_logs", "nothing was changed"]);
    assert_eq!(machine.files(), before);
}

#[test]
fn a_damaged_database_is_not_healed() {
    let machine = Machine::migrated();
    let root = machine.number("SELECT rootpage FROM sqlite_schema WHERE name = 'system_settings'");
    machine.sql("DROP INDEX idx_site_logs_time; PRAGMA wal_checkpoint(TRUNCATE)");
    let mut bytes = std::fs::read(machine.db()).unwrap();
    let page = usize::try_from(root - 1).unwrap() * 4096;
    bytes[page..page + 64].fill(0xee);
    std::fs::write(machine.db(), bytes).unwrap();
    let before = machine.files();
    machine.cts("migrate").status(65).says(&["the database is damaged", "nothing was changed"]);
    assert_eq!(machine.files(), before);
}

#[test]
fn an_object_with_the_name_of_a_missing_table_is_reported() {
    let machine = Machine::migrated();
    machine.sql(
        "ALTER TABLE statistics_daily RENAME TO mine; CREATE VIEW statistics_daily AS SELECT 1",
    );
    machine.cts("migrate").success();
    let before = machine.files();
    let done = machine.cts("migrate").success();
    assert!(!done.err().contains("put back\n"), "{}", done.err());
    done.says(&[
        "table statistics_daily is missing and cannot be put back",
        "view statistics_daily has its name",
    ]);
    assert_eq!(machine.files(), before);
}

#[test]
fn the_case_of_a_name_does_not_matter() {
    let machine = Machine::migrated();
    machine.sql("ALTER TABLE users RENAME TO other; ALTER TABLE other RENAME TO USERS");
    machine.cts("--check").success().says(&["22/22"]);
    machine.cts("verify").success();
}

#[test]
fn invalid_utf8_in_the_schema_is_tolerated() {
    let machine = Machine::migrated();
    let mut sql = b"CREATE TABLE theirs (a TEXT DEFAULT 'caf\xe9'); ALTER TABLE users ADD COLUMN b TEXT DEFAULT '\xff';".to_vec();
    sql.push(b'\n');
    let mut shell = std::process::Command::new("sqlite3")
        .arg(machine.db())
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("sqlite3 (Debian package sqlite3)");
    std::io::Write::write_all(&mut shell.stdin.take().unwrap(), &sql).unwrap();
    assert!(shell.wait().unwrap().success());
    machine.cts("migrate").success();
    machine.cts("--check").success();
}

#[test]
fn damaged_ledger_rows_are_distinguished_from_valid_ones() {
    for (damage, code) in [
        ("INSERT INTO migrations (name) VALUES ('old_1'), ('old_1')", 0),
        ("INSERT INTO migrations (name, checksum) VALUES ('', 'x'), (x'ff', 5)", 0),
        ("UPDATE migrations SET checksum = upper(checksum) WHERE id = 1", 65),
        ("UPDATE migrations SET checksum = x'00ff' WHERE id = 2", 65),
    ] {
        let machine = Machine::migrated();
        machine.sql(damage);
        machine.cts("migrate").status(code);
    }
}

#[test]
#[ignore = "sweep"]
fn the_running_service_repairs_what_takes_a_moment() {
    let machine = Machine::new();
    let service = machine.serve().start();
    service.until_ready();
    machine.sql(
        "DROP TABLE statistics_daily; DROP INDEX idx_exchange_positions_real; DROP INDEX idx_site_logs_time; \
         ALTER TABLE users DROP COLUMN role; \
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000) \
         INSERT INTO site_logs (level, category, message) SELECT 'info', 'test', i FROM n",
    );
    let missing = || {
        let found = machine.cts("verify").run().out();
        found
            .lines()
            .filter(|line| line.starts_with("missing:"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    // The service inspects the schema once a minute.
    await_within(Duration::from_secs(100), "what is small is there again", || missing().len() == 1);
    assert_eq!(missing(), ["missing: index idx_site_logs_time on site_logs"]);
    let log = service.log();
    for object in
        ["table statistics_daily", "column users.role", "index idx_exchange_positions_real"]
    {
        let said = log.lines().any(|line| line.contains(object) && line.contains("put back"));
        assert!(said, "{object}: {log}");
    }
    machine.cts("--check").status(1).says(&["missing: index idx_site_logs_time on site_logs"]);
    machine.cts("repair").success();
    machine.cts("--check").success();
}

#[test]
fn a_damaged_index_is_rebuilt() {
    let machine = Machine::migrated();
    machine.sql(
        "INSERT INTO users (username, password_hash) VALUES ('a', 'x'), ('b', 'y'); \
         PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode = DELETE; PRAGMA writable_schema = ON; \
         UPDATE sqlite_schema SET sql = replace(sql, '(username)', '(password_hash)') WHERE name = 'idx_users_username'",
    );
    // Rows inserted now are indexed by another column.
    machine.sql("INSERT INTO users (username, password_hash) VALUES ('c', 'z')");
    machine.sql(
        "PRAGMA writable_schema = ON; \
         UPDATE sqlite_schema SET sql = replace(sql, '(password_hash)', '(username)') WHERE name = 'idx_users_username'",
    );
    machine.cts("--check --deep").status(2).says(&["index idx_users_username", "cts repair"]);
    machine.cts("repair").success().says(&[
        "cts.db.before-3.1.0-",
        "index idx_users_username was damaged and has been rebuilt",
        "no drift",
    ]);
    machine.cts("--check --deep").success();
    assert_eq!(machine.texts("SELECT username FROM users ORDER BY username"), ["a", "b", "c"]);
}

#[test]
fn an_index_with_missing_entries_is_rebuilt() {
    let machine = Machine::migrated();
    machine.sql(
        "PRAGMA writable_schema = ON; \
         UPDATE sqlite_schema SET sql = replace(sql, 'INDEX', 'INDEX') || ' WHERE username <> ''b''' \
         WHERE name = 'idx_users_username'",
    );
    machine.sql("INSERT INTO users (username, password_hash) VALUES ('a', 'x'), ('b', 'y')");
    machine.sql(
        "PRAGMA writable_schema = ON; \
         UPDATE sqlite_schema SET sql = substr(sql, 1, instr(sql, ' WHERE') - 1) WHERE name = 'idx_users_username'",
    );
    machine.cts("--check --deep").status(2).says(&["index idx_users_username", "cts repair"]);
    machine.cts("repair").success().says(&["idx_users_username was damaged and has been rebuilt"]);
    machine.cts("--check --deep").success();
}

/// The service searches every minute.
#[test]
#[ignore = "sweep"]
fn the_running_service_advances_a_counter_that_is_behind() {
    let machine = Machine::migrated();
    machine.sql(
        "DROP TABLE statistics_daily; \
         CREATE TABLE statistics_daily (id INTEGER PRIMARY KEY AUTOINCREMENT, date TEXT NOT NULL); \
         INSERT INTO statistics_daily (id, date) VALUES (9, '2026-11-28'); DELETE FROM sqlite_sequence",
    );
    let service = machine.serve().start();
    service.until("rows have ids up to 9; they now go on past those of the rows");
    machine.sql("UPDATE sqlite_sequence SET seq = 3");
    service.until_status("degraded");
    let limit = Duration::from_secs(90);
    await_within(limit, "the counter was advanced", || {
        machine.number("SELECT seq FROM sqlite_sequence") == 9
    });
    service.stop();
}
