//! Differences from the expected schema: reported, restored, or left alone.

use serde_json::{Value, json};

use super::{AnyStore, named};

on_both! {
    no_drift_has_its_exact_shape,
    drift_has_its_exact_shape,
    a_start_restores_what_is_missing,
    migrate_and_repair_restore_what_is_missing,
    altered_objects_are_reported_and_not_changed,
    a_rebuild_for_a_column_is_planned,
    extra_objects_are_not_drift,
}

fn no_drift_has_its_exact_shape(store: &dyn AnyStore) {
    store.migrate();
    let none = json!({"drift": false, "missing": [], "altered": [], "extra": [], "relaxed": []});
    assert_eq!(store.cts("verify --json").success().json(), none);
}

/// A missing object of each kind, and an altered and an extra object of two kinds each.
const DRIFT: &str = "
    DROP TABLE indications_auto; ALTER TABLE users DROP COLUMN role; DROP INDEX idx_site_logs_time;
    ALTER TABLE exchange_positions DROP COLUMN leverage;
    ALTER TABLE exchange_positions ADD COLUMN leverage TEXT;
    DROP INDEX idx_site_logs_category; CREATE INDEX idx_site_logs_category ON site_logs (level);
    ALTER TABLE users ADD COLUMN nickname TEXT; CREATE INDEX my_own ON users (nickname)";

fn drift_has_its_exact_shape(store: &dyn AnyStore) {
    store.migrate();
    store.sql(DRIFT);
    let json = store.cts("verify --json").status(1).json();
    assert_eq!(json["drift"], true);
    assert_eq!(
        json["missing"],
        json!([
            {"kind": "table", "table": "indications_auto"},
            {"kind": "index", "table": "site_logs", "name": "idx_site_logs_time"},
            {"kind": "column", "table": "users", "name": "role"},
        ]),
        "{json}"
    );
    let index = json!({"kind": "index", "table": "site_logs", "name": "idx_site_logs_category"});
    let column = json!({"kind": "column", "table": "exchange_positions", "name": "leverage"});
    let altered: Vec<&Value> =
        json["altered"].as_array().unwrap().iter().map(|a| &a["object"]).collect();
    assert!(
        altered.len() == 2 && altered.contains(&&index) && altered.contains(&&column),
        "{json}"
    );
    for alteration in json["altered"].as_array().unwrap() {
        assert!(alteration["expected"].is_string() && alteration["found"].is_string(), "{json}");
    }
    let extra = json!([
        {"kind": "column", "table": "users", "name": "nickname"},
        {"kind": "index", "table": "users", "name": "my_own"},
    ]);
    assert_eq!(json["extra"], extra);
    assert_eq!(json["relaxed"], json!([]));
    store.cts("verify").status(1).says(&[
        "missing: table indications_auto\n",
        "altered: index idx_site_logs_category on site_logs: expected (category, ",
        "altered: column exchange_positions.leverage: expected ",
        "extra:   index my_own on users (left alone)\n",
        "drift: 3 missing, 2 altered",
    ]);
}

/// Drops two tables, an index and a column; the rows of the other tables are kept.
fn lose_things(store: &dyn AnyStore) {
    store.sql(
        "INSERT INTO users (username, password_hash) VALUES ('kept', 'x'); \
         DROP TABLE system_settings; DROP TABLE indications_auto; \
         DROP INDEX idx_pseudo_positions_live; ALTER TABLE users DROP COLUMN role",
    );
    store.cts("verify").status(1).says(&[
        "missing: table system_settings\n",
        "missing: table indications_auto\n",
        "missing: column users.role\n",
        "missing: index idx_pseudo_positions_live on pseudo_positions\n",
        "drift: 4 missing; ",
    ]);
    store.cts("--check").status(2).says(&[
        "missing: tables system_settings (critical), indications_auto; 2 more. Run: cts repair",
    ]);
}

fn is_put_back(store: &dyn AnyStore, log: &str) {
    for object in ["table system_settings", "column users.role", "index idx_pseudo_positions_live"]
    {
        let said = log.lines().find(|line| line.contains(object)).unwrap_or(log);
        assert!(said.ends_with("was missing and has been put back"), "{said}");
    }
    store.cts("verify").success().says(&["no drift: 24 tables"]);
    assert!(store.number("SELECT count(*) FROM system_settings") >= 10);
    assert_eq!(store.texts("SELECT username || role FROM users"), ["keptuser"]);
    let noted = "SELECT level FROM site_logs WHERE message LIKE 'cts 3.1.0 put back: %'";
    assert_eq!(store.texts(noted), ["warn"]);
    store.sql("DELETE FROM users; DELETE FROM site_logs");
}

fn a_start_restores_what_is_missing(store: &dyn AnyStore) {
    store.migrate();
    lose_things(store);
    let service = store.serve();
    service.until_ready().until_status("healthy");
    is_put_back(store, &service.stop().1);
}

fn migrate_and_repair_restore_what_is_missing(store: &dyn AnyStore) {
    store.migrate();
    for words in ["migrate", "repair"] {
        lose_things(store);
        is_put_back(store, &store.cts(words).success().err());
    }
}

fn altered_objects_are_reported_and_not_changed(store: &dyn AnyStore) {
    store.migrate();
    store.sql(
        "ALTER TABLE exchange_positions DROP COLUMN leverage; \
         ALTER TABLE exchange_positions ADD COLUMN leverage TEXT; \
         DROP INDEX idx_site_logs_time; CREATE INDEX idx_site_logs_time ON site_logs (level)",
    );
    let index = "index idx_site_logs_time on site_logs: expected (timestamp, level), found (level)";
    let column = "column exchange_positions.leverage: expected ";
    store.changes_nothing("verify", 1, &[index, column, "drift: 2 altered"]);
    store.changes_nothing("--check", 1, &["CTS WARNING", index]);
    store.changes_nothing("migrate", 0, &[index, column]);
    store.changes_nothing("migrate --dry-run", 0, &["differs and would stay as it is: ", index]);
    store.changes_nothing("repair", 1, &[index, column]);
    // Missing objects are restored although others are altered.
    store.sql("DROP TABLE statistics_daily");
    store.cts("repair").status(1).says(&[
        "table statistics_daily was missing and has been put back",
        index,
        "drift: 2 altered",
    ]);
    store.sql("DROP INDEX idx_site_logs_time; ALTER TABLE exchange_positions DROP COLUMN leverage");
    store.cts("repair").success().says(&["no drift"]);
}

fn a_rebuild_for_a_column_is_planned(store: &dyn AnyStore) {
    store.migrate();
    store.sql(
        "DROP TABLE system_settings; CREATE TABLE system_settings (key VARCHAR(3) PRIMARY KEY, value TEXT); \
         INSERT INTO system_settings VALUES ('a', 'b')",
    );
    let dry = store.cts("migrate --dry-run").success();
    assert!(
        dry.out().contains("would rebuild table system_settings (1 rows, all kept)"),
        "{}",
        dry.out()
    );
    for said in ["would stay as it is", "put back column"] {
        assert!(!dry.out().contains(said), "{}", dry.out());
    }
    store.cts("migrate").success().says(&["table system_settings was rebuilt, 1 rows"]);
    store.cts("verify").success();
}

fn extra_objects_are_not_drift(store: &dyn AnyStore) {
    let service = store.serve();
    service.until_ready();
    store.sql(
        "ALTER TABLE users ADD COLUMN nickname TEXT; CREATE INDEX my_own ON users (role); \
         CREATE TABLE my_notes (text TEXT); CREATE INDEX my_other ON my_notes (text); \
         CREATE VIEW my_view AS SELECT username FROM users",
    );
    let json = service.get("/api/health/database").json();
    assert_eq!((&json["status"], &json["database"]["tableCount"]), (&"healthy".into(), &22.into()));
    let said = store.cts("verify").success().out();
    assert_eq!(named(&said, "extra:   "), ["column users.nickname", "index my_own on users"]);
    service.stop();
    store.changes_nothing("migrate", 0, &["0 applied, 92 skipped"]);
    store.changes_nothing("--check", 0, &["CTS OK"]);
}
