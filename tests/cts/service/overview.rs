//! The overview of a service that starts, of one whose database hangs, and who may ask for it.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::conditions::thread_id;
use crate::support::harness::{Machine, await_that};

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
    let machine = Machine::migrated();
    machine.sql("DROP INDEX idx_site_logs_time");
    let holder = machine.open();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let service = machine.serve().start();
    service.until("waiting for the write lock");
    let json = service.get(OVERVIEW).json();
    assert_eq!((&json["success"], &json["status"]), (&false.into(), &"initializing".into()));
    assert_eq!((&json["command"], &json["events"]), (&Value::Null, &Value::Null));
    assert_eq!(json["tables"]["existing"], Value::Null);
    assert_eq!(json["history"]["status"], json!(["initializing"]));
    assert!(json["reasons"][0]["text"].as_str().unwrap().contains("lock"), "{json}");
    drop(holder);
    service.until_ready().until_status("healthy");
}

#[test]
fn a_database_that_hangs_has_an_overview_that_says_so_with_its_history() {
    let machine = Machine::new();
    let service = machine.serve().start();
    service.until_ready().until_status("healthy");
    let mut strace = Command::new("strace")
        .args(["-o", "/dev/null", "-e", "trace=fcntl", "-e", "inject=fcntl:delay_enter=60000000"])
        .args(["-p", &thread_id(&service, "database")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("strace (Debian package strace)");
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
    kill_process(Pid::from_child(&strace), Signal::TERM).unwrap();
    strace.wait().unwrap();
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
