//! The overview of a service that starts, of one whose database hangs, and who may ask for it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::harness::{Machine, await_that};
use crate::support::strace::AttachedStrace;

const OVERVIEW: &str = "/api/admin/overview";

#[test]
fn the_overview_needs_the_token_where_there_is_one_and_loopback_where_there_is_none() {
    let machine = Machine::new();
    let service = machine.serve().env("CTS_ADMIN_TOKEN", "sesame").start();
    service.until_ready();
    let refused = service.get(OVERVIEW);
    assert_eq!((refused.code, refused.header("WWW-Authenticate")), (401, Some("Bearer")));
    assert!(!refused.body.contains("cts.db"), "{}", refused.body);
    for (method, has_body) in [("GET", true), ("HEAD", false)] {
        let answer = service.ask(&format!(
            "{method} {OVERVIEW} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sesame\r\n\r\n"
        ));
        assert_eq!((answer.code, answer.body.contains("cts.db")), (200, has_body), "{method}");
        assert_eq!(answer.header("Cache-Control"), Some("no-store"));
    }
    drop(service);
    let service = machine.cts("serve --port 0 --host 0.0.0.0").start();
    service.until_ready();
    assert_eq!(service.get(OVERVIEW).code, 403);
}

#[test]
fn while_the_lock_is_waited_for_the_overview_says_so() {
    let (machine, holder) = Machine::locked();
    let service = machine.serve().start();
    let mut json = Value::Null;
    await_that("the overview names the lock", || {
        json = service.get(OVERVIEW).json();
        json["reasons"][0]["text"].as_str().is_some_and(|text| text.contains("lock"))
    });
    assert_eq!((&json["success"], &json["status"]), (&false.into(), &"initializing".into()));
    assert_eq!((&json["command"], &json["events"]), (&Value::Null, &Value::Null));
    assert_eq!(json["tables"]["existing"], Value::Null);
    assert_eq!(json["history"]["status"], json!(["initializing"]));
    drop(holder);
    service.until_ready().until_status("healthy");
}

#[test]
fn a_database_that_hangs_has_an_overview_that_says_so_with_its_history() {
    let machine = Machine::new();
    let service = machine.serve().start();
    service.until_ready().until_status("healthy");
    let _strace = AttachedStrace::inject(&service, "database", "fcntl", "delay_enter=60000000");
    await_that("the overview says that the database hangs", || {
        service.get(OVERVIEW).json()["status"] == "unhealthy"
    });
    let start = Instant::now();
    let json = service.get(OVERVIEW).json();
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    let reason = json["reasons"][0]["text"].as_str().unwrap();
    assert!(reason.contains("did not answer within 3 s"), "{reason}");
    assert_eq!((&json["success"], &json["command"]), (&false.into(), &"cts doctor".into()));
    assert_eq!((&json["events"], &json["statistics"]), (&Value::Null, &Value::Null));
    let history = &json["history"];
    assert_eq!(history["status"].as_array().unwrap().last(), Some(&"unhealthy".into()));
    assert!(history["responseSeconds"][0].is_number(), "{history}");
}

#[test]
fn a_backup_is_in_the_list_of_the_overview() {
    let machine = Machine::migrated();
    machine.cts("backup").success();
    let service = machine.serve().start();
    service.until_ready();
    let backups = || service.get(OVERVIEW).json()["backups"].clone();
    await_that("the backup is listed", || {
        backups()["list"].as_array().is_some_and(|l| l.len() == 1)
    });
    let (all, status) = (backups(), service.get("/api/admin/migrations/status").json());
    let listed = &all["list"][0];
    assert_eq!((&listed["file"], &listed["problem"]), (&all["last"]["file"], &Value::Null));
    assert_eq!(all["folder"], status["backups"]["folder"]);
    assert!(status["backups"].get("list").is_none(), "{status}");
}
