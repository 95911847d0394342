//! The counters that give new rows their ids, where they are behind the ids of the rows: as after a restore of the rows
//! with their ids. Every insert fails then, though the catalogue is as expected.

use super::AnyStore;

on_both! {
    rows_restored_with_their_ids_are_reported_and_repaired,
    a_pending_migration_is_applied_though_the_ledger_counter_is_behind,
    a_running_service_reports_a_counter,
}

/// On SQLite, only AUTOINCREMENT has a counter. Rows of users have the ids 1 to 7, and the counter begins anew.
fn fall_behind(store: &dyn AnyStore) {
    let insert =
        "INSERT INTO users (id, username, password_hash) VALUES (1, 'a', 'x'), (7, 'b', 'x')";
    store.sql(&match store.kind() {
        "sqlite" => format!("{}; {insert}; DELETE FROM sqlite_sequence", autoincrement("users")),
        _ => format!("{insert}; SELECT setval(pg_get_serial_sequence('users', 'id'), 1, false)"),
    });
}

/// Statements that make the empty table with AUTOINCREMENT, with its indexes.
fn autoincrement(table: &str) -> String {
    let machine = crate::support::harness::Machine::migrated();
    let sql = format!(
        "SELECT sql FROM sqlite_schema WHERE tbl_name = '{table}' AND sql IS NOT NULL ORDER BY type DESC"
    );
    let sql = machine.texts(&sql).join("; ");
    format!(
        "DROP TABLE {table}; {}",
        sql.replace("INTEGER PRIMARY KEY", "INTEGER PRIMARY KEY AUTOINCREMENT")
    )
}

const BEHIND: &str = "ids of users.id: the next is 1, though rows have ids up to 7";

fn takes_a_row(store: &dyn AnyStore) {
    store.sql("INSERT INTO users (username, password_hash) VALUES ('new', 'x')");
    assert_eq!(store.number("SELECT id FROM users WHERE username = 'new'"), 8);
    store.sql("DELETE FROM users WHERE username = 'new'");
}

fn rows_restored_with_their_ids_are_reported_and_repaired(store: &dyn AnyStore) {
    store.migrate();
    fall_behind(store);
    store.changes_nothing(
        "verify",
        1,
        &[&format!("counter: {BEHIND}"), "drift: 1 counter behind its ids"],
    );
    store.changes_nothing("--check", 1, &["CTS WARNING", BEHIND, "`cts repair` advances them"]);
    store.changes_nothing("--check --deep", 1, &[BEHIND]);
    store.changes_nothing("migrate --dry-run", 0, &[&format!("would advance the {BEHIND}")]);
    store.changes_nothing("doctor --quiet", 1, &[BEHIND, "cts repair"]);
    let json = store.cts("verify --json").status(1).json();
    let counter = serde_json::json!([{"table": "users", "column": "id", "next": 1, "used": 7}]);
    assert_eq!((&json["drift"], &json["counters"]), (&true.into(), &counter), "{json}");
    store.cts("repair").success().says(&[BEHIND, "they now go on past", "no drift"]);
    takes_a_row(store);
    let noted = "SELECT level FROM site_logs WHERE message LIKE '%advanced the ids of users.id%'";
    assert_eq!(store.texts(noted), ["warn"]);
    // A start does the same.
    store.sql("DELETE FROM users");
    fall_behind(store);
    let service = store.serve();
    service.until_ready().until_status("healthy");
    takes_a_row(store);
    assert!(service.stop().1.contains(BEHIND));
    store.changes_nothing("verify", 0, &["no drift"]);
    store.changes_nothing("migrate", 0, &["0 applied"]);
}

fn a_pending_migration_is_applied_though_the_ledger_counter_is_behind(store: &dyn AnyStore) {
    store.migrate();
    if store.kind() == "sqlite" {
        let rows = "CREATE TABLE kept AS SELECT * FROM migrations; ";
        let back = "INSERT INTO migrations SELECT * FROM kept; DROP TABLE kept; UPDATE sqlite_sequence SET seq = 0";
        store.sql(&format!("{rows}{}; {back}", autoincrement("migrations")));
    } else {
        store.sql("SELECT setval(pg_get_serial_sequence('migrations', 'id'), 1, false)");
    }
    store.sql("DELETE FROM migrations WHERE name LIKE '071%'; DROP TABLE indication_states; DROP TABLE connection_coordination");
    store.cts("migrate").success().says(&["ids of migrations.id: the next is 1"]);
    store.cts("verify").success();
    assert_eq!(store.number("SELECT max(id) FROM migrations"), 4);
}

fn a_running_service_reports_a_counter(store: &dyn AnyStore) {
    let service = store.serve();
    service.until_ready();
    fall_behind(store);
    service.until_status("degraded");
    let body = service.get("/api/health/database").body;
    assert!(body.contains(BEHIND), "{body}");
    service.stop();
}
