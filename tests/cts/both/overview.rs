//! What the status page is drawn from: the same state as in the other answers, and rows of the database.

use serde_json::{Value, json};

use super::{AnyStore, FILES};
use crate::support::harness::{Service, await_that};

const OVERVIEW: &str = "/api/admin/overview";

on_both! {
    the_overview_tells_what_the_other_answers_tell,
    texts_of_site_logs_are_cut_and_visible_and_an_altered_table_is_unknown,
    figures_of_tables_are_those_of_the_database_also_with_200_others,
    the_statistics_are_those_of_the_newest_day,
    each_reason_has_its_severity_and_the_command_to_type,
}

fn overview(service: &Service) -> Value {
    let answer = service.get(OVERVIEW);
    assert_eq!(answer.code, 200, "{}", answer.body);
    answer.json()
}

fn the_overview_tells_what_the_other_answers_tell(store: &dyn AnyStore) {
    let service = store.serve();
    service.until_ready().until_status("healthy");
    let (json, status) = (overview(&service), service.get("/api/admin/migrations/status").json());
    assert_eq!((&json["success"], &json["status"]), (&true.into(), &"healthy".into()));
    assert_eq!((&json["command"], &json["archive"]), (&Value::Null, &Value::Null));
    let database = &json["database"];
    assert_eq!((&database["type"], &database["connected"]), (&store.kind().into(), &true.into()));
    assert!(database["responseSeconds"].as_f64().unwrap() < 10.0, "{json}");
    assert_eq!(database["pool"].is_object(), store.kind() == "postgresql", "{json}");
    assert_eq!(database["diskFreeBytes"].is_number(), store.kind() == "sqlite", "{json}");
    let applied = json["migrations"]["applied"].as_array().unwrap();
    let in_status = status["migrations"]["applied"].as_array().unwrap();
    assert_eq!(applied.len(), FILES.len());
    for (row, same) in applied.iter().zip(in_status) {
        for key in ["id", "name", "checksum", "executedAt"] {
            assert_eq!(row[key], same[key], "{key}");
        }
        assert!(row["executionSeconds"].is_number(), "{row}");
    }
    assert_eq!(json["tables"]["existing"], 22);
    let categories = json["tables"]["categories"].as_array().unwrap();
    let names: Vec<&str> = categories.iter().map(|all| all["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 7);
    let tables = categories.iter().flat_map(|all| all["tables"].as_array().unwrap());
    assert_eq!(tables.clone().filter(|table| table["exists"] == true).count(), 24);
    assert_eq!(tables.filter(|table| table["isCritical"] == true).count(), 5);
    let history = &json["history"];
    let points = history["status"].as_array().unwrap();
    // A minute has the worst status that was seen in it.
    assert!(points.iter().all(|seen| seen == "healthy" || seen == "initializing"), "{history}");
    assert_eq!(history["intervalSeconds"], 60);
    for key in ["sizeBytes", "walSizeBytes", "diskFreeBytes", "responseSeconds"] {
        assert_eq!(history[key].as_array().unwrap().len(), points.len(), "{key}");
    }
    assert!(history["responseSeconds"][0].is_number(), "{history}");
    assert!(service.get(&format!("{OVERVIEW}?history=0")).json()["history"].is_null());
    let newest = &json["events"][0];
    let message = store.texts("SELECT message FROM site_logs ORDER BY id DESC LIMIT 1").remove(0);
    assert_eq!((&newest["message"], &newest["level"]), (&message.into(), &"info".into()));
    let at = newest["at"].as_str().unwrap();
    assert!(at.len() == 24 && at.ends_with('Z') && at.contains('T'), "{at}");
    assert!(json["startedAt"].as_str().unwrap() <= json["timestamp"].as_str().unwrap(), "{json}");
    assert!(json["commit"].is_string() && json["version"].is_string());
}

fn texts_of_site_logs_are_cut_and_visible_and_an_altered_table_is_unknown(store: &dyn AnyStore) {
    let service = store.serve();
    service.until_ready();
    let hostile = "\u{5e9}\u{5dc} \u{202e}gnp\u{202c} \u{1b}[31m</script>";
    let insert = |message: &str| {
        store.sql(&format!(
            "INSERT INTO site_logs (level, category, message) VALUES ('error', 'x', {message})"
        ));
    };
    (0..30).for_each(|_| insert("'filler'"));
    let long = match store.kind() {
        "sqlite" => "printf('%.*c', 3000000, 'a')",
        _ => "repeat('a', 3000000)",
    };
    insert(long);
    insert(&format!("'{hostile}'"));
    insert(&format!("'{}'", "b".repeat(5000)));
    let events = overview(&service)["events"].clone();
    assert_eq!(events.as_array().unwrap().len(), 20);
    let text = |at: usize| events[at]["message"].as_str().unwrap();
    assert!(text(0).starts_with("bbbb") && text(0).chars().count() == 500, "{}", text(0));
    assert_eq!(text(1), "\u{5e9}\u{5dc} \\u{202e}gnp\\u{202c} \\x1b[31m</script>");
    assert_eq!((text(2), text(3)), ("(a text of 3000000 bytes, which is not shown)", "filler"));
    store.sql("ALTER TABLE site_logs RENAME COLUMN message TO words");
    await_that("the events are unknown", || overview(&service)["events"].is_null());
    store.sql("ALTER TABLE site_logs RENAME COLUMN words TO message");
    await_that("the events are known", || overview(&service)["events"].is_array());
}

fn figures_of_tables_are_those_of_the_database_also_with_200_others(store: &dyn AnyStore) {
    store.migrate();
    let long = "n".repeat(60);
    let names =
        (0..198).map(|at| format!("mine_{at:03}")).chain([long.clone(), "\u{5e9}\u{5dc}".into()]);
    let tables = names.map(|name| format!("CREATE TABLE \"{name}\" (id INTEGER);"));
    store.sql(&tables.collect::<String>());
    store.sql("INSERT INTO mine_000 VALUES (1), (2), (3)");
    if store.kind() == "postgresql" {
        // Estimates are those of the last ANALYZE.
        store.sql("ANALYZE");
    }
    let settings = store.number("SELECT count(*) FROM system_settings");
    store.sql("DROP INDEX idx_users_email");
    store.cts("accept idx_users_email").success();
    let service = store.serve();
    service.until_ready();
    let measured = || overview(&service)["tables"]["measuredAt"].is_string();
    await_that("the tables are measured", measured);
    let json = overview(&service);
    // Those in which cts keeps its own records are none of them.
    let others = json["tables"]["others"].as_array().unwrap();
    let names: Vec<&str> = others.iter().map(|other| other["name"].as_str().unwrap()).collect();
    assert_eq!((others.len(), &json["tables"]["othersOmitted"]), (200, &0.into()));
    assert!(names.contains(&long.as_str()) && names.contains(&"\u{5e9}\u{5dc}"), "{names:?}");
    let mine = others.iter().find(|other| other["name"] == "mine_000").unwrap();
    assert_eq!(mine["rows"], 3, "{mine}");
    let system = json["tables"]["categories"][0]["tables"].as_array().unwrap();
    let found = system.iter().find(|table| table["name"] == "system_settings").unwrap();
    assert_eq!(found["rows"], settings, "{found}");
    let size = json["database"]["sizeBytes"].as_u64().unwrap();
    assert!((100_000..100_000_000).contains(&size), "{size}");
    let sizes = json["history"]["sizeBytes"].as_array().unwrap();
    assert_eq!(sizes.last().and_then(Value::as_u64), Some(size), "{json}");
}

fn the_statistics_are_those_of_the_newest_day(store: &dyn AnyStore) {
    let service = store.serve();
    service.until_ready();
    assert_eq!(overview(&service)["statistics"], Value::Null);
    for connection in ["a", "b"] {
        store.sql(&format!(
            "INSERT INTO exchange_connections (id, name) VALUES ('{connection}', 'x')"
        ));
    }
    for (connection, day, profits) in [
        ("a", "2026-11-20", &[3.5, -1.0][..]),
        ("b", "2026-11-20", &[10.0]),
        ("a", "2026-11-19", &[99.0, 99.0, -1.0]),
    ] {
        for profit in profits {
            store.sql(&format!(
                "INSERT INTO pseudo_positions (connection_id, symbol, status, closed_at, pnl) \
                 VALUES ('{connection}', 'X', 'closed', '{day} 12:00:00+00', {profit})"
            ));
        }
    }
    let expected = json!({"day": "2026-11-20", "trades": 3, "wins": 2, "losses": 1, "profit": 12.5, "winRate": 0.666667});
    await_that("the positions are counted", || overview(&service)["statistics"] == expected);
}

fn each_reason_has_its_severity_and_the_command_to_type(store: &dyn AnyStore) {
    let service = store.serve();
    service.until_ready().until_status("healthy");
    store.sql("DROP INDEX idx_site_logs_time");
    let degraded = overview(&service);
    assert_eq!(
        (&degraded["status"], &degraded["command"]),
        (&"degraded".into(), &"cts repair".into())
    );
    let reason = &degraded["reasons"][0];
    assert_eq!(
        (&reason["severity"], &reason["command"]),
        (&"warning".into(), &"cts repair".into())
    );
    assert!(reason["text"].as_str().unwrap().contains("idx_site_logs_time"), "{reason}");
    store.sql("DROP TABLE site_logs");
    let unhealthy = overview(&service);
    assert_eq!((&unhealthy["success"], &unhealthy["status"]), (&true.into(), &"unhealthy".into()));
    assert_eq!(
        (&unhealthy["reasons"][0]["severity"], &unhealthy["events"]),
        (&"critical".into(), &Value::Null)
    );
    assert_eq!(unhealthy["command"], "cts repair");
    let system = &unhealthy["tables"]["categories"][0];
    assert_eq!((&system["name"], &system["complete"]), (&"system".into(), &false.into()));
    let points = unhealthy["history"]["status"].as_array().unwrap();
    assert_eq!(points.last(), Some(&"unhealthy".into()));
}
