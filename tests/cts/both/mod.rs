//! The suite that both stores pass: each test runs on SQLite and on PostgreSQL.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

#[cfg(feature = "postgres")]
use crate::support::cluster::{Cluster, Database};
use crate::support::harness::{Machine, Run, Service};

/// An empty database on either store, and the commands that are run on it.
trait AnyStore {
    /// The name of the store in JSON.
    fn kind(&self) -> &'static str;
    fn cts(&self, words: &str) -> Run;
    fn sql(&self, sql: &str);
    fn texts(&self, sql: &str) -> Vec<String>;
    /// The whole content, to detect any change.
    fn everything(&self) -> Vec<String>;

    fn number(&self, sql: &str) -> i64 {
        self.texts(&format!("SELECT CAST(({sql}) AS TEXT)"))[0].parse().unwrap()
    }

    fn migrate(&self) {
        self.cts("migrate").success();
    }

    fn serve(&self) -> Service {
        self.cts("serve --port 0").start()
    }

    /// Runs a command, expects this exit code and these texts, and that nothing was changed.
    fn changes_nothing(&self, words: &str, code: i32, says: &[&str]) {
        let before = self.everything();
        let done = self.cts(words).status(code);
        assert_eq!(self.everything(), before, "{words}");
        done.says(says);
    }

    /// Expects every writing command to be refused with this exit code and these texts, without a
    /// change.
    fn refuses(&self, code: i32, says: &[&str]) {
        for words in ["migrate", "serve --port 0", "repair"] {
            self.changes_nothing(words, code, says);
        }
    }
}

impl AnyStore for Machine {
    fn kind(&self) -> &'static str {
        "sqlite"
    }

    fn cts(&self, words: &str) -> Run {
        Machine::cts(self, words)
    }

    fn sql(&self, sql: &str) {
        Machine::sql(self, sql);
    }

    fn texts(&self, sql: &str) -> Vec<String> {
        Machine::texts(self, sql)
    }

    fn everything(&self) -> Vec<String> {
        self.files().into_iter().map(|file| format!("{file:?}")).collect()
    }
}

#[cfg(feature = "postgres")]
impl AnyStore for Database<'_> {
    fn kind(&self) -> &'static str {
        "postgresql"
    }

    fn cts(&self, words: &str) -> Run {
        Database::cts(self, words)
    }

    fn sql(&self, sql: &str) {
        Database::sql(self, sql);
    }

    fn texts(&self, sql: &str) -> Vec<String> {
        Database::texts(self, sql)
    }

    fn everything(&self) -> Vec<String> {
        Database::everything(self)
    }
}

macro_rules! on_both {
    ($($name:ident,)*) => {
        mod sqlite {
            $(#[test] fn $name() { super::$name(&super::Machine::new()); })*
        }
        #[cfg(feature = "postgres")]
        mod postgres {
            $(#[test] fn $name() { super::$name(&super::Cluster::shared().owned()); })*
        }
    };
}

on_both! {
    a_first_start_logs_its_four_lines_and_records_them,
    a_killed_service_restarts_and_loses_nothing,
    a_ledger_row_is_complete,
    with_nothing_to_do_nothing_is_written,
    a_dry_run_prints_what_migrate_does,
    read_only_commands_create_nothing,
    the_health_answer_has_its_exact_shape,
    the_status_answer_has_its_exact_shape,
    a_check_prints_one_line_for_monitoring,
    no_drift_has_its_exact_shape,
    drift_has_its_exact_shape,
    a_start_restores_what_is_missing,
    migrate_and_repair_restore_what_is_missing,
    pending_migrations_and_missing_objects_are_applied_in_one_run,
    altered_objects_are_reported_and_not_changed,
    a_rebuild_for_a_column_is_planned,
    an_edited_migration_is_refused_by_name,
    a_newer_database_is_refused_by_name_with_both_versions,
    damaged_ledger_rows_are_distinguished_from_valid_ones,
    the_status_is_incomplete_when_the_ledger_is_refused,
    changed_settings_are_kept,
    extra_objects_are_not_drift,
    a_start_succeeds_though_site_logs_cannot_be_written,
    the_three_health_answers_agree_as_objects_are_dropped,
}

const FILES: [&str; 4] = [
    "unified_complete_setup.sql",
    "051_add_performance_indexes.sql",
    "070_high_frequency_performance_indexes.sql",
    "071_add_coordination_tables.sql",
];

fn a_first_start_logs_its_four_lines_and_records_them(site: &dyn AnyStore) {
    let service = site.serve();
    service.until_ready();
    assert_eq!(service.get("/readyz").code, 200);
    let (code, log) = service.stop();
    assert_eq!(code, Some(0), "{log}");
    let kind = format!("[v0] Database Type: {}\n", site.kind().to_uppercase());
    let lines = [
        &kind,
        "[v0] ✓ Unified setup complete: 88 applied, 0 skipped\n",
        "[v0] ✓ All 22 critical tables verified\n",
        "[v0] ✓ Application Ready for Production\n",
    ];
    let places: Vec<_> =
        lines.iter().map(|line| log.find(line).unwrap_or_else(|| panic!("{line}{log}"))).collect();
    assert!(places.is_sorted(), "{log}");
    assert!(log.lines().all(|line| line.starts_with("[v0] ")), "{log}");
    let notes =
        site.texts("SELECT level || ' ' || category || ' ' || message FROM site_logs ORDER BY id");
    let applied = FILES.map(|file| format!("info database cts 3.1.0 applied {file}: "));
    assert_eq!(notes.len(), 6, "{notes:?}");
    assert!(applied.iter().zip(&notes).all(|(start, note)| note.starts_with(start)), "{notes:?}");
    assert_eq!(
        notes[4..],
        ["info database the service started (cts 3.1.0)", "info database the service stopped"]
    );
    let service = site.serve();
    service.until_ready();
    assert!(service.stop().1.contains("Unified setup complete: 0 applied, 88 skipped"));
}

fn a_killed_service_restarts_and_loses_nothing(site: &dyn AnyStore) {
    let service = site.serve();
    service.until_ready();
    site.sql("INSERT INTO site_logs (level, category, message) VALUES ('info', 'test', 'kept')");
    service.signal(rustix::process::Signal::KILL);
    assert_eq!(service.end().0, None);
    let service = site.serve();
    service.until_ready().until_status("healthy");
    assert!(service.log().contains("0 applied, 88 skipped"));
    assert_eq!(site.number("SELECT count(*) FROM site_logs WHERE message = 'kept'"), 1);
}

fn a_ledger_row_is_complete(site: &dyn AnyStore) {
    site.migrate();
    assert_eq!(site.texts("SELECT name FROM migrations ORDER BY id"), FILES);
    let wrong = "SELECT count(*) FROM migrations WHERE length(checksum) <> 64 OR version <> '3.1.0' \
                 OR execution_time_ms NOT BETWEEN 0 AND 60000";
    assert_eq!(site.number(wrong), 0);
    let status = site.cts("status --json").success().json();
    for row in status["migrations"]["applied"].as_array().unwrap() {
        let time = row["executedAt"].as_str().unwrap();
        assert_eq!(time.len(), 24, "{time}");
        let age = SystemTime::now().duration_since(humantime::parse_rfc3339(time).unwrap());
        assert!(age.unwrap() < Duration::from_secs(600), "{time}");
    }
    assert!(site.number("SELECT count(*) FROM system_settings") >= 10);
}

fn with_nothing_to_do_nothing_is_written(site: &dyn AnyStore) {
    site.migrate();
    site.changes_nothing("migrate", 0, &["Unified setup complete: 0 applied, 88 skipped"]);
    site.changes_nothing("migrate --dry-run", 0, &["nothing to do, 4 migrations are applied"]);
    site.changes_nothing("repair", 0, &["no drift: 24 tables"]);
    site.changes_nothing("verify", 0, &["no drift: 24 tables"]);
    site.changes_nothing("status", 0, &["4 of 4 applied", "22 of 22 core tables", "complete"]);
    site.changes_nothing("--check", 0, &["CTS OK"]);
    site.changes_nothing("--check --deep", 0, &["CTS OK"]);
}

/// The text of each line that follows these words, up to a colon or bracket.
fn named(log: &str, words: &str) -> Vec<String> {
    let named = log.lines().filter_map(|line| Some(line.split_once(words)?.1));
    named.map(|rest| rest.split([':', '(']).next().unwrap().trim().to_string()).collect()
}

fn a_dry_run_prints_what_migrate_does(site: &dyn AnyStore) {
    for (sql, runs) in [
        ("SELECT 1", &FILES[..]),
        ("DELETE FROM migrations WHERE id > 2; DROP TABLE indication_states", &FILES[2..]),
    ] {
        if runs.len() < FILES.len() {
            site.sql(sql);
        }
        let before = site.everything();
        let plan = site.cts("migrate --dry-run").success().says(&["nothing was changed"]).out();
        assert_eq!(site.everything(), before, "{sql}");
        assert_eq!(named(&plan, "would apply "), runs, "{plan}");
        let done = site.cts("migrate").success().err();
        let ran: Vec<_> =
            named(&done, "✓ ").into_iter().filter(|name| name.ends_with(".sql")).collect();
        assert_eq!(ran, runs, "{done}");
    }
    site.sql("DROP INDEX idx_site_logs_time; ALTER TABLE users DROP COLUMN role");
    let objects = ["column users.role", "index idx_site_logs_time on site_logs"];
    let plan = objects.map(|object| format!("would put back {object}\n"));
    site.changes_nothing("migrate --dry-run", 0, &[&plan[0], &plan[1], "nothing was changed"]);
    let done = objects.map(|object| format!("{object} was missing and has been put back\n"));
    site.cts("migrate").success().says(&[&done[0], &done[1]]);
}

fn read_only_commands_create_nothing(site: &dyn AnyStore) {
    let is_missing: &[&str] = match site.kind() {
        "sqlite" => &["there is no database"],
        _ => &["there is no table of CTS"],
    };
    for (words, code) in
        [("verify", 65), ("verify --json", 65), ("repair", 65), ("--check", 2), ("status", 1)]
    {
        site.changes_nothing(words, code, is_missing);
    }
    site.changes_nothing("migrate --dry-run", 0, &["would be created"]);
    assert_eq!(site.cts("--check --json").status(2).json()["status"], "unhealthy");
    assert_eq!(site.cts("status --json").status(1).json()["success"], false);
}

/// The keys of an object, and of those in it, each with the type of its value.
fn keys(json: &Value) -> Vec<String> {
    let kind = match json {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(all) => {
            let first = all.first().map(keys).unwrap_or_default();
            return first.into_iter().map(|key| format!("[]{key}")).chain(["[]".into()]).collect();
        }
        Value::Object(all) => {
            let below = |(name, value)| {
                let name: &String = name;
                keys(value).into_iter().map(move |key| format!(".{name}{key}"))
            };
            return all.iter().flat_map(below).collect();
        }
    };
    vec![format!(" {kind}")]
}

fn the_health_answer_has_its_exact_shape(site: &dyn AnyStore) {
    let start = Instant::now();
    let service = site.serve();
    let answer = service.until_ready().get("/api/health/database");
    let whole = start.elapsed();
    assert_eq!(answer.code, 200);
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    assert_eq!(answer.header("Cache-Control"), Some("no-store"));
    let json = answer.json();
    assert_eq!(json["status"], "healthy", "{json}");
    let database = &json["database"];
    assert_eq!(database["type"], site.kind());
    assert_eq!(database["connected"], true);
    assert_eq!(database["tableCount"], 22);
    let critical = json!({"total": 5, "existing": 5, "missing": []});
    assert_eq!(database["criticalTables"], critical);
    let took = database["responseTime"].as_str().unwrap().strip_suffix("ms").unwrap();
    let took: f64 = took.parse().unwrap();
    assert!((0.0..whole.as_secs_f64() * 1000.0).contains(&took), "{took} ms in {whole:?}");
    let time = json["timestamp"].as_str().unwrap();
    assert!(time.len() == 24 && time.ends_with('Z') && time.contains('T'), "{time}");
    // The command and the service give the same keys.
    let mut found = keys(&json);
    assert_eq!(keys(&site.cts("--check --json").success().json()), found);
    let pool = [
        ".database.pool.connections number",
        ".database.pool.idle number",
        ".database.pool.max number",
    ];
    if site.kind() == "postgresql" {
        assert!(pool.iter().all(|key| found.iter().any(|found| found == key)), "{found:?}");
    }
    found.retain(|key| !pool.contains(&key.as_str()));
    assert_eq!(
        found,
        [
            ".database.connected boolean",
            ".database.criticalTables.existing number",
            ".database.criticalTables.missing[]",
            ".database.criticalTables.total number",
            ".database.responseTime string",
            ".database.tableCount number",
            ".database.type string",
            ".migrations.applied number",
            ".migrations.expected number",
            ".status string",
            ".timestamp string",
            ".version string",
        ]
    );
}

fn the_status_answer_has_its_exact_shape(site: &dyn AnyStore) {
    let service = site.serve();
    let answer = service.until_ready().get("/api/admin/migrations/status");
    assert_eq!(answer.code, 200);
    let json = answer.json();
    assert_eq!((&json["success"], &json["status"]), (&true.into(), &"complete".into()));
    assert_eq!(json["database"], json!({"type": site.kind(), "connected": true}));
    assert_eq!(json["migrations"]["total"], 4);
    assert_eq!(json["migrations"]["pending"], json!([]));
    let first = &json["migrations"]["applied"][0];
    assert_eq!((&first["id"], &first["name"]), (&1.into(), &FILES[0].into()));
    assert_eq!(first["checksum"].as_str().unwrap().len(), 64);
    assert!(first["executionTime"].as_str().unwrap().ends_with("ms"));
    assert!(first["executedAt"].as_str().unwrap().ends_with('Z'));
    let tables = &json["tables"];
    for key in ["total", "expected", "existing"] {
        assert_eq!(tables[key], 22);
    }
    let expected = [
        ("system", 4),
        ("connections", 1),
        ("indications", 5),
        ("strategies", 6),
        ("positions", 3),
        ("statistics", 3),
        ("coordination", 2),
    ];
    assert_eq!(tables["categories"].as_object().unwrap().len(), expected.len());
    for (key, count) in expected {
        let whole = json!({"expected": count, "existing": count, "missing": [], "complete": true});
        assert_eq!(tables["categories"][key], whole, "{key}");
    }
    let printed = site.cts("status --json").success().json();
    assert_eq!(printed["migrations"], json["migrations"]);
    assert_eq!(printed["tables"], json["tables"]);
    assert_eq!(keys(&printed), keys(&json));
    let all: BTreeSet<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
    let wanted = ["database", "migrations", "status", "success", "tables", "timestamp", "version"];
    assert_eq!(all, BTreeSet::from(wanted));
}

fn a_check_prints_one_line_for_monitoring(site: &dyn AnyStore) {
    site.migrate();
    let start = Instant::now();
    let line = site.cts("--check").success().out();
    let took = start.elapsed();
    let (text, numbers) = line.trim().split_once(" | ").unwrap();
    assert_eq!(text, format!("CTS OK - {}, 22/22 core tables, 4/4 migrations", site.kind()));
    let seconds = numbers.strip_prefix("response_time=").unwrap();
    let seconds: f64 = seconds.strip_suffix("s;;;0 tables=22;;;0").unwrap().parse().unwrap();
    assert!((0.0..took.as_secs_f64()).contains(&seconds), "{line} in {took:?}");
}

fn no_drift_has_its_exact_shape(site: &dyn AnyStore) {
    site.migrate();
    let none = json!({"drift": false, "missing": [], "altered": [], "extra": [], "relaxed": []});
    assert_eq!(site.cts("verify --json").success().json(), none);
}

/// A missing object of each kind, and an altered and an extra object of two kinds each.
const DRIFT: &str = "
    DROP TABLE indications_auto; ALTER TABLE users DROP COLUMN role; DROP INDEX idx_site_logs_time;
    ALTER TABLE exchange_positions DROP COLUMN leverage;
    ALTER TABLE exchange_positions ADD COLUMN leverage TEXT;
    DROP INDEX idx_site_logs_category; CREATE INDEX idx_site_logs_category ON site_logs (level);
    ALTER TABLE users ADD COLUMN nickname TEXT; CREATE INDEX my_own ON users (nickname)";

fn drift_has_its_exact_shape(site: &dyn AnyStore) {
    site.migrate();
    site.sql(DRIFT);
    let json = site.cts("verify --json").status(1).json();
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
    site.cts("verify").status(1).says(&[
        "missing: table indications_auto\n",
        "altered: index idx_site_logs_category on site_logs: expected (category, ",
        "altered: column exchange_positions.leverage: expected ",
        "extra:   index my_own on users (left alone)\n",
        "drift: 3 missing, 2 altered",
    ]);
}

/// Drops two tables, an index and a column; the rows of the other tables are kept.
fn lose_things(site: &dyn AnyStore) {
    site.sql(
        "INSERT INTO users (username, password_hash) VALUES ('kept', 'x'); \
         DROP TABLE system_settings; DROP TABLE indications_auto; \
         DROP INDEX idx_pseudo_positions_live; ALTER TABLE users DROP COLUMN role",
    );
    site.cts("verify").status(1).says(&[
        "missing: table system_settings\n",
        "missing: table indications_auto\n",
        "missing: column users.role\n",
        "missing: index idx_pseudo_positions_live on pseudo_positions\n",
        "drift: 4 missing, 0 altered",
    ]);
    site.cts("--check").status(2).says(&["critical table system_settings is missing"]);
}

fn is_put_back(site: &dyn AnyStore, log: &str) {
    for object in ["table system_settings", "column users.role", "index idx_pseudo_positions_live"]
    {
        let said = log.lines().find(|line| line.contains(object)).unwrap_or(log);
        assert!(said.ends_with("was missing and has been put back"), "{said}");
    }
    site.cts("verify").success().says(&["no drift: 24 tables"]);
    assert!(site.number("SELECT count(*) FROM system_settings") >= 10);
    assert_eq!(site.texts("SELECT username || role FROM users"), ["keptuser"]);
    let noted = "SELECT level FROM site_logs WHERE message LIKE 'cts 3.1.0 put back: %'";
    assert_eq!(site.texts(noted), ["warn"]);
    site.sql("DELETE FROM users; DELETE FROM site_logs");
}

fn a_start_restores_what_is_missing(site: &dyn AnyStore) {
    site.migrate();
    lose_things(site);
    let service = site.serve();
    service.until_ready().until_status("healthy");
    is_put_back(site, &service.stop().1);
}

fn migrate_and_repair_restore_what_is_missing(site: &dyn AnyStore) {
    site.migrate();
    for words in ["migrate", "repair"] {
        lose_things(site);
        is_put_back(site, &site.cts(words).success().err());
    }
}

fn pending_migrations_and_missing_objects_are_applied_in_one_run(site: &dyn AnyStore) {
    site.migrate();
    // The pending migration makes an index on a column that is missing.
    site.sql(
        "DELETE FROM migrations WHERE id = 3; DROP INDEX idx_pseudo_positions_base; \
         ALTER TABLE pseudo_positions DROP COLUMN position_level",
    );
    site.cts("--check").status(1).says(&["070_high_frequency_performance_indexes.sql is pending"]);
    site.cts("migrate").success().says(&[
        "column pseudo_positions.position_level was missing and has been put back",
        "✓ 070_high_frequency_performance_indexes.sql: ",
    ]);
    site.cts("verify").success();
    assert_eq!(site.number("SELECT count(*) FROM migrations"), 4);
}

fn altered_objects_are_reported_and_not_changed(site: &dyn AnyStore) {
    site.migrate();
    site.sql(
        "ALTER TABLE exchange_positions DROP COLUMN leverage; \
         ALTER TABLE exchange_positions ADD COLUMN leverage TEXT; \
         DROP INDEX idx_site_logs_time; CREATE INDEX idx_site_logs_time ON site_logs (level)",
    );
    let index = "index idx_site_logs_time on site_logs: expected (timestamp, level), found (level)";
    let column = "column exchange_positions.leverage: expected ";
    site.changes_nothing("verify", 1, &[index, column, "drift: 0 missing, 2 altered"]);
    site.changes_nothing("--check", 1, &["CTS WARNING", index]);
    site.changes_nothing("migrate", 0, &[index, column]);
    site.changes_nothing("migrate --dry-run", 0, &["differs and would stay as it is: ", index]);
    site.changes_nothing("repair", 1, &[index, column]);
    // Missing objects are restored although others are altered.
    site.sql("DROP TABLE statistics_daily");
    site.cts("repair").status(1).says(&[
        "table statistics_daily was missing and has been put back",
        index,
        "drift: 0 missing, 2 altered",
    ]);
    site.sql("DROP INDEX idx_site_logs_time; ALTER TABLE exchange_positions DROP COLUMN leverage");
    site.cts("repair").success().says(&["no drift"]);
}

fn a_rebuild_for_a_column_is_planned(site: &dyn AnyStore) {
    site.migrate();
    site.sql(
        "DROP TABLE system_settings; CREATE TABLE system_settings (key VARCHAR(3) PRIMARY KEY, value TEXT); \
         INSERT INTO system_settings VALUES ('a', 'b')",
    );
    let dry = site.cts("migrate --dry-run").success();
    assert!(
        dry.out().contains("would rebuild table system_settings (1 rows, all kept)"),
        "{}",
        dry.out()
    );
    for said in ["would stay as it is", "put back column"] {
        assert!(!dry.out().contains(said), "{}", dry.out());
    }
    site.cts("migrate").success().says(&["table system_settings was rebuilt, 1 rows"]);
    site.cts("verify").success();
}

fn an_edited_migration_is_refused_by_name(site: &dyn AnyStore) {
    site.migrate();
    let sum = "f".repeat(64);
    site.sql(&format!(
        "UPDATE migrations SET checksum = '{sum}', version = '3.0.9' WHERE id = 2; \
         DROP TABLE statistics_daily"
    ));
    let file = "051_add_performance_indexes.sql";
    site.refuses(65, &[file, "ffffffffffff", "cts 3.0.9", "cts 3.1.0", "nothing was changed"]);
    site.changes_nothing("--check", 1, &["CTS WARNING", file]);
}

fn a_newer_database_is_refused_by_name_with_both_versions(site: &dyn AnyStore) {
    site.migrate();
    let sum = "a".repeat(64);
    site.sql(&format!(
        "INSERT INTO migrations (name, checksum, version) VALUES ('072_later.sql', '{sum}', '3.2.0'); \
         DROP TABLE statistics_daily"
    ));
    site.refuses(65, &["072_later.sql", "cts 3.2.0", "cts 3.1.0", "nothing was changed"]);
}

fn damaged_ledger_rows_are_distinguished_from_valid_ones(site: &dyn AnyStore) {
    site.migrate();
    site.sql("DROP INDEX idx_migrations_name");
    for (damage, code, mend) in [
        (
            "INSERT INTO migrations (name) VALUES ('old_1')",
            0,
            "DELETE FROM migrations WHERE id > 4",
        ),
        (
            "INSERT INTO migrations (name, checksum) VALUES ('', 'x')",
            0,
            "DELETE FROM migrations WHERE id > 4",
        ),
        (
            "UPDATE migrations SET checksum = upper(checksum) WHERE id = 1",
            65,
            "UPDATE migrations SET checksum = lower(checksum) WHERE id = 1",
        ),
        ("UPDATE migrations SET checksum = '' WHERE id = 2", 65, "SELECT 1"),
    ] {
        site.sql(damage);
        site.cts("migrate").status(code);
        if mend != "SELECT 1" {
            site.sql(mend);
        }
        assert!(site.number("SELECT count(*) FROM migrations") >= 4, "{damage}");
    }
}

fn the_status_is_incomplete_when_the_ledger_is_refused(site: &dyn AnyStore) {
    site.migrate();
    site.sql(&format!("UPDATE migrations SET checksum = '{}' WHERE id = 1", "0".repeat(64)));
    let status = site.cts("status --json").status(1).json();
    assert_eq!(status["status"], "incomplete");
    assert!(status["migrations"]["pending"][0].as_str().unwrap().contains(FILES[0]));
}

fn changed_settings_are_kept(site: &dyn AnyStore) {
    site.migrate();
    let key = site.texts("SELECT key FROM system_settings ORDER BY id LIMIT 1").remove(0);
    site.sql(&format!(
        "UPDATE system_settings SET value = 'mine' WHERE key = '{key}'; \
         DELETE FROM migrations WHERE id = 1"
    ));
    site.cts("migrate").success().says(&["✓ unified_complete_setup.sql: 0 applied"]);
    let value = format!("SELECT value FROM system_settings WHERE key = '{key}'");
    assert_eq!(site.texts(&value), ["mine"]);
    site.sql("DELETE FROM system_settings; DROP INDEX idx_site_logs_time");
    site.migrate();
    assert_eq!(site.number("SELECT count(*) FROM system_settings"), 0);
}

fn extra_objects_are_not_drift(site: &dyn AnyStore) {
    let service = site.serve();
    service.until_ready();
    site.sql(
        "ALTER TABLE users ADD COLUMN nickname TEXT; CREATE INDEX my_own ON users (role); \
         CREATE TABLE my_notes (text TEXT); CREATE INDEX my_other ON my_notes (text); \
         CREATE VIEW my_view AS SELECT username FROM users",
    );
    let json = service.get("/api/health/database").json();
    assert_eq!((&json["status"], &json["database"]["tableCount"]), (&"healthy".into(), &22.into()));
    let said = site.cts("verify").success().out();
    assert_eq!(named(&said, "extra:   "), ["column users.nickname", "index my_own on users"]);
    service.stop();
    site.changes_nothing("migrate", 0, &["0 applied, 88 skipped"]);
    site.changes_nothing("--check", 0, &["CTS OK"]);
}

fn a_start_succeeds_though_site_logs_cannot_be_written(site: &dyn AnyStore) {
    site.migrate();
    site.sql(
        "DELETE FROM site_logs WHERE id > 1; CREATE UNIQUE INDEX no_more ON site_logs (category); \
         DROP TABLE statistics_daily",
    );
    let service = site.serve();
    service.until_ready().until_status("healthy");
    let (code, log) = service.stop();
    assert_eq!(code, Some(0));
    assert!(log.contains("cannot write to table site_logs"), "{log}");
    site.cts("verify").success();
}

fn the_three_health_answers_agree_as_objects_are_dropped(site: &dyn AnyStore) {
    let service = site.serve();
    service.until_ready();
    let checks_are = |code| {
        site.cts("--check").status(code);
        site.cts(&format!("--check --url http://{}", service.address())).status(code);
    };
    checks_are(0);

    site.sql("DROP INDEX idx_site_logs_time");
    let answer = service.until_status("degraded");
    assert_eq!(answer.code, 200);
    assert_eq!(
        answer.json()["reasons"][0],
        "index idx_site_logs_time on site_logs is missing; `cts repair` puts it back"
    );
    checks_are(1);
    assert_eq!(service.get("/readyz").code, 200);

    site.sql("DROP TABLE exchange_positions");
    let answer = service.get("/api/health/database");
    assert_eq!((answer.code, &answer.json()["database"]["tableCount"]), (200, &21.into()));
    let status = service.get("/api/admin/migrations/status").json();
    assert_eq!(status["status"], "incomplete");
    assert_eq!(status["tables"]["categories"]["positions"]["missing"][0], "exchange_positions");
    assert_eq!(site.cts("status --json").status(1).json()["status"], "incomplete");

    site.sql("DROP TABLE users");
    let answer = service.get("/api/health/database");
    assert_eq!((answer.code, answer.json()["status"].as_str()), (503, Some("unhealthy")));
    assert_eq!(answer.json()["database"]["criticalTables"]["missing"][0], "users");
    checks_are(2);
    assert_eq!((service.get("/readyz").code, service.get("/livez").code), (503, 200));
}
