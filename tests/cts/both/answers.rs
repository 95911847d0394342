//! The health and status answers of the service and of the commands.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::{Value, json};

use super::{AnyStore, FILES};

on_both! {
    the_health_answer_has_its_exact_shape,
    the_status_answer_has_its_exact_shape,
    a_check_prints_one_line_for_monitoring,
    the_three_health_answers_agree_as_objects_are_dropped,
    a_check_names_what_is_missing_first,
    a_deep_check_says_what_it_read_and_how_long_it_took,
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

fn the_health_answer_has_its_exact_shape(store: &dyn AnyStore) {
    let start = Instant::now();
    let service = store.serve();
    let answer = service.until_ready().get("/api/health/database");
    let whole = start.elapsed();
    assert_eq!(answer.code, 200);
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    assert_eq!(answer.header("Cache-Control"), Some("no-store"));
    let json = answer.json();
    assert_eq!(json["status"], "healthy", "{json}");
    let database = &json["database"];
    assert_eq!(database["type"], store.kind());
    assert_eq!(database["connected"], true);
    assert_eq!(database["tableCount"], 22);
    let critical = json!({"total": 5, "existing": 5, "missing": []});
    assert_eq!(database["criticalTables"], critical);
    let took = database["responseTime"].as_str().unwrap().strip_suffix("ms").unwrap();
    let took: f64 = took.parse().unwrap();
    assert!((0.0..whole.as_secs_f64() * 1000.0).contains(&took), "{took} ms in {whole:?}");
    let time = json["timestamp"].as_str().unwrap();
    assert!(time.len() == 24 && time.ends_with('Z') && time.contains('T'), "{time}");
    assert!(json["backups"].is_object(), "{json}");
    // The command and the service give the same keys; a backup may be made between the two answers.
    let without_backups = |json: &Value| {
        let mut found = keys(json);
        found.retain(|key| !key.starts_with(".backups."));
        found
    };
    let mut found = without_backups(&json);
    assert_eq!(without_backups(&store.cts("--check --json").success().json()), found);
    let pool = [
        ".database.pool.connections number",
        ".database.pool.idle number",
        ".database.pool.max number",
    ];
    if store.kind() == "postgresql" {
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

fn the_status_answer_has_its_exact_shape(store: &dyn AnyStore) {
    let service = store.serve();
    let answer = service.until_ready().get("/api/admin/migrations/status");
    assert_eq!(answer.code, 200);
    let json = answer.json();
    assert_eq!((&json["success"], &json["status"]), (&true.into(), &"complete".into()));
    assert_eq!(json["database"], json!({"type": store.kind(), "connected": true}));
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
    let printed = store.cts("status --json").success().json();
    assert_eq!(printed["migrations"], json["migrations"]);
    assert_eq!(printed["tables"], json["tables"]);
    let own = |json: &Value| -> Vec<String> {
        keys(json).into_iter().filter(|key| !key.starts_with(".backups.")).collect()
    };
    assert_eq!(own(&printed), own(&json));
    let all: BTreeSet<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
    let wanted = [
        "backups",
        "database",
        "migrations",
        "status",
        "success",
        "tables",
        "timestamp",
        "version",
    ];
    assert_eq!(all, BTreeSet::from(wanted));
}

fn a_check_prints_one_line_for_monitoring(store: &dyn AnyStore) {
    store.migrate();
    let start = Instant::now();
    let line = store.cts("--check").success().out();
    let took = start.elapsed();
    let (text, numbers) = line.trim().split_once(" | ").unwrap();
    assert_eq!(text, format!("CTS OK - {}, 22/22 core tables, 4/4 migrations", store.kind()));
    let seconds = numbers.strip_prefix("response_time=").unwrap();
    // Without a setting, no backups of a server are made.
    let backups = if store.kind() == "sqlite" { " backup_age=U" } else { "" };
    let seconds = seconds.strip_suffix(&format!("s;;;0 tables=22;;;0{backups}")).unwrap();
    let seconds: f64 = seconds.parse().unwrap();
    assert!((0.0..took.as_secs_f64()).contains(&seconds), "{line} in {took:?}");
}

fn the_three_health_answers_agree_as_objects_are_dropped(store: &dyn AnyStore) {
    let service = store.serve();
    service.until_ready();
    let checks_are = |code| {
        store.cts("--check").status(code);
        store.cts(&format!("--check --url http://{}", service.address())).status(code);
    };
    checks_are(0);

    store.sql("DROP INDEX idx_site_logs_time");
    let answer = service.until_status("degraded");
    assert_eq!(answer.code, 200);
    assert_eq!(
        answer.json()["reasons"][0],
        "index idx_site_logs_time on site_logs is missing; `cts repair` puts it back"
    );
    checks_are(1);
    assert_eq!(service.get("/readyz").code, 200);

    store.sql("DROP TABLE exchange_positions");
    let answer = service.get("/api/health/database");
    assert_eq!((answer.code, &answer.json()["database"]["tableCount"]), (200, &21.into()));
    let status = service.get("/api/admin/migrations/status").json();
    assert_eq!(status["status"], "incomplete");
    assert_eq!(status["tables"]["categories"]["positions"]["missing"][0], "exchange_positions");
    assert_eq!(store.cts("status --json").status(1).json()["status"], "incomplete");

    store.sql("DROP TABLE users");
    let answer = service.get("/api/health/database");
    assert_eq!((answer.code, answer.json()["status"].as_str()), (503, Some("unhealthy")));
    assert_eq!(answer.json()["database"]["criticalTables"]["missing"][0], "users");
    checks_are(2);
    assert_eq!((service.get("/readyz").code, service.get("/livez").code), (503, 200));
}

fn a_check_names_what_is_missing_first(store: &dyn AnyStore) {
    let service = store.serve();
    service.until_ready();
    let address = service.address();
    // The drops come after the inspection at the start; the next one that puts back is a minute later.
    store.sql("DROP TABLE exchange_positions; DROP INDEX idx_users_username");
    let says = |code: i32, reason: &str| {
        let local = store.cts("--check").status(code).out();
        let remote = store.cts(&format!("check --url http://{address}")).status(code).out();
        for line in [local, remote] {
            let (text, _) = line.split_once(" | ").unwrap();
            let reasons = text.split_once("migrations: ").unwrap().1;
            assert!(reasons.starts_with(reason), "{reason:?}: {line}");
            assert_eq!(reasons.matches("missing").count(), 1, "{line}");
        }
    };
    let condition = "Run: cts repair (unless rows share a key)";
    let both = "missing: table exchange_positions, index idx_users_username on users";
    says(1, &format!("{both}. {condition}"));
    store.sql(
        "ALTER TABLE users DROP COLUMN role; DROP INDEX idx_site_logs_time; DROP TABLE site_logs",
    );
    let named = "missing: tables site_logs (critical), exchange_positions; 2 more";
    says(2, &format!("{named}. {condition}"));
    let json = store.cts("--check --json").status(2).json();
    assert_eq!(json["reasons"][0], "critical table site_logs is missing", "{json}");
    assert_eq!(json["reasons"].as_array().unwrap().len(), 4, "{json}");
    assert_eq!(json["summary"], json!([format!("{named}. {condition}")]));
    store.cts("repair").success();
    assert!(store.cts("--check --json").run().json().get("summary").is_none());
}

fn a_deep_check_says_what_it_read_and_how_long_it_took(store: &dyn AnyStore) {
    store.migrate();
    let read = || -> u64 {
        let start = Instant::now();
        let line = store.cts("--check --deep").success().out();
        let took = start.elapsed().as_secs_f64();
        let words: Vec<&str> = line.split(", ").last().unwrap().split(' ').collect();
        let ["read", size, unit, "of", "24", "tables", "in", seconds, "s", "|", ..] = words[..]
        else {
            panic!("{line}")
        };
        assert!((0.0..took).contains(&seconds.parse().unwrap()), "{line} in {took} s");
        let json = store.cts("--check --deep --json").success().json();
        let check = &json["deepCheck"];
        assert_eq!(check["tables"], 24, "{json}");
        assert!(check["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{json}");
        let bytes = check["bytes"].as_u64().unwrap();
        assert_eq!((size.parse(), unit), (Ok(bytes >> 10), "KiB"), "{line} {json}");
        bytes
    };
    let before = read();
    let row = format!("'info', 'test', '{}'", "x".repeat(1000));
    let rows = vec![format!("({row})"); 1000].join(", ");
    store.sql(&format!("INSERT INTO site_logs (level, category, message) VALUES {rows}"));
    assert!(read() > before + 1_000_000);
    let quick = store.cts("--check").success().out();
    assert!(!quick.contains("read "), "{quick}");
    assert!(store.cts("--check --json").success().json().get("deepCheck").is_none());
}
