//! The HTTP server, and its answers about the state of a SQLite file. `both/` tests the bodies of
//! the answers.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::harness::{Machine, Service};

fn check(machine: &Machine, service: &Service) -> (i32, i32) {
    let direct = machine.cts("--check").run();
    let by_url = machine.cts(&format!("--check --url http://{}", service.address())).run();
    (direct.0.status.code().unwrap(), by_url.0.status.code().unwrap())
}

#[test]
fn other_paths_and_methods_are_refused_in_json() {
    let machine = Machine::new();
    let service = machine.serve().start();
    service.until_ready();
    for path in ["//", "/api", "/api/health/database/", "/metrics/", "/livez/.."] {
        let answer = service.get(path);
        assert_eq!((answer.code, answer.json()["success"].as_bool()), (404, Some(false)), "{path}");
    }
    for method in ["POST", "DELETE", "OPTIONS"] {
        let answer = service.ask(&format!(
            "{method} /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        ));
        assert_eq!((answer.code, answer.header("Allow")), (405, Some("GET, HEAD")), "{method}");
        assert!(answer.json()["error"].as_str().unwrap().contains(method));
    }
    assert_eq!(service.get("/api/health/database?from=nagios").code, 200);
}

#[test]
fn head_has_the_head_of_get_and_no_body() {
    let machine = Machine::new();
    let service = machine.serve().start();
    service.until_ready();
    for path in ["/livez", "/readyz", "/api/health/database", "/nowhere"] {
        let head = service
            .ask(&format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
        assert_eq!((head.code, head.body.as_str()), (service.get(path).code, ""), "{path}");
        assert!(head.header("Content-Length").unwrap().parse::<usize>().unwrap() > 0);
    }
}

#[test]
fn a_deleted_or_replaced_file_is_not_called_healthy() {
    let machine = Machine::new();
    let service = machine.serve().start();
    service.until_ready();
    fs::rename(machine.db(), machine.path("away")).unwrap();
    let answer = service.get("/api/health/database");
    assert_eq!(answer.code, 503);
    assert!(answer.body.contains("was deleted while it was open"), "{}", answer.body);
    fs::copy(machine.path("away"), machine.db()).unwrap();
    assert!(service.get("/api/health/database").body.contains("was replaced"));
    fs::rename(machine.path("away"), machine.db()).unwrap();
    service.until_status("healthy");
}

#[test]
fn a_check_creates_nothing_and_changes_no_byte() {
    let machine = Machine::new();
    machine.cts("--check").status(2).says(&["CTS CRITICAL", "there is no database"]);
    assert_eq!(machine.cts("--check --json").status(2).json()["status"], "unhealthy");
    assert!(machine.files().is_empty());
    machine.cts("migrate").success();
    let before = machine.files();
    let start = Instant::now();
    let line = machine.cts("--check").success().out();
    let took = start.elapsed();
    let (text, numbers) = line.trim().split_once(" | ").unwrap();
    assert_eq!(text, "CTS OK - sqlite, 22/22 core tables, 4/4 migrations");
    let seconds = numbers.strip_prefix("response_time=").unwrap();
    let seconds: f64 =
        seconds.strip_suffix("s;;;0 tables=22;;;0 backup_age=U").unwrap().parse().unwrap();
    assert!((0.0..took.as_secs_f64()).contains(&seconds), "{line} in {took:?}");
    machine.cts("--check --deep").success();
    assert_eq!(machine.files(), before);
    machine.cts("--check --url http://127.0.0.1:1").status(2).says(&["does not answer"]);
}

#[test]
fn a_check_for_a_container_says_only_whether_the_service_is_ready() {
    let machine = Machine::new();
    let service = machine.serve().env("HOST", "0.0.0.0").start();
    let port = service.until_ready().address().port().to_string();
    let ready = |words: &str| machine.cts(words).env("HOST", "0.0.0.0").env("PORT", &port);
    let said = ready("--check --ready").success().out();
    assert_eq!(said, "CTS OK - ready: healthy\n");
    assert_eq!(ready("check --ready").success().out(), said);
    // It needs none of the other settings.
    ready("--check --ready").env("CTS_ADMIN_TOKEN_FILE", "/missing").success();

    machine.sql("DROP TABLE statistics_daily");
    service.until_status("degraded");
    ready("--check --ready").success().says(&["CTS OK - ready: degraded: ", "statistics_daily"]);
    fs::rename(machine.db(), machine.path("away")).unwrap();
    service.until_status("unhealthy");
    ready("--check --ready").status(1).says(&["CTS CRITICAL - not ready: unhealthy: "]);
    fs::rename(machine.path("away"), machine.db()).unwrap();
    assert_eq!(service.stop().0, Some(0));

    // No fault has the exit code 2, which Docker reserves.
    ready("--check --ready").status(1).says(&["not ready: 127.0.0.1:", "does not answer"]);
    for (port, reason) in [("many", "PORT"), ("0", "a free port")] {
        machine.cts("--check --ready").env("PORT", port).status(1).says(&[reason]);
    }
    machine.cts("--check --ready --deep").status(3);
}

#[test]
fn orphans_are_found_by_a_deep_check() {
    let machine = Machine::migrated();
    machine.sql(
        "PRAGMA foreign_keys = OFF; \
         INSERT INTO indications_move (connection_id, symbol) VALUES ('gone', 'BTCUSDT')",
    );
    machine.cts("--check").success();
    machine
        .cts("--check --deep")
        .status(1)
        .says(&["CTS WARNING", "indications_move: 1 rows refer"]);
}

#[test]
fn a_replacement_file_keeps_what_is_written_to_it() {
    let machine = Machine::new();
    let service = machine.serve().start();
    service.until_ready();
    // As a restore would do it while the service runs.
    let other = Machine::migrated();
    fs::copy(other.db(), machine.path("new.db")).unwrap();
    fs::rename(machine.path("new.db"), machine.db()).unwrap();
    let program = machine.open();
    program
        .execute_batch(
            "INSERT INTO site_logs (level, category, message) VALUES ('info', 'test', 'kept')",
        )
        .unwrap();
    service.until_status("unhealthy");
    assert_eq!(service.stop().0, Some(0));
    let kept = "SELECT count(*) FROM site_logs WHERE message = 'kept'";
    assert_eq!(program.query_row(kept, [], |row| row.get::<_, i64>(0)), Ok(1));
    drop(program);
    assert_eq!(machine.number(kept), 1);
    assert_eq!(machine.texts("PRAGMA integrity_check"), ["ok"]);
}

#[test]
fn an_emptied_file_is_not_called_healthy() {
    let machine = Machine::new();
    let service = machine.serve().start();
    service.until_ready();
    fs::File::create(machine.db()).unwrap();
    assert!(service.get("/api/health/database").body.contains("was emptied while it was open"));
}

#[test]
fn a_check_over_http_reads_a_long_answer() {
    let machine = Machine::migrated();
    for table in
        machine.texts("SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE 'ind%'")
    {
        machine.sql(&format!("PRAGMA foreign_keys = OFF; DROP TABLE {table}"));
        let columns: Vec<String> = (0..200).map(|i| format!("column_number_{i} TEXT")).collect();
        machine.sql(&format!("CREATE TABLE {table} ({})", columns.join(", ")));
    }
    let service = machine.serve().start();
    service.until_ready();
    machine.sql("ALTER TABLE users RENAME COLUMN role TO rank");
    assert_eq!(check(&machine, &service), (1, 1));
}

#[test]
fn a_request_is_read_in_any_valid_form() {
    let machine = Machine::new();
    let service = machine.serve().start();
    service.until_ready();
    let plain = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let old = service.ask("GET /livez HTTP/1.0\r\n\r\n");
    assert_eq!((old.code, old.head.starts_with("HTTP/1.0 200 ")), (200, true), "{}", old.head);
    let address = service.address();
    let absolute =
        |host: &str| format!("GET http://{host}/livez HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(service.ask(&absolute(&address.to_string())).code, 200);
    assert_eq!(service.ask(&absolute("evil.example")).code, 421);

    let mut half_closed = TcpStream::connect(address).unwrap();
    half_closed.write_all(plain.as_bytes()).unwrap();
    half_closed.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    half_closed.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");

    let mut in_pieces = TcpStream::connect(address).unwrap();
    in_pieces.set_nodelay(true).unwrap();
    for byte in plain.as_bytes() {
        in_pieces.write_all(&[*byte]).unwrap();
        thread::sleep(Duration::from_millis(2));
    }
    let mut text = String::new();
    in_pieces.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
}

#[test]
fn the_first_of_two_requests_is_answered_and_the_connection_ends() {
    let machine = Machine::new();
    let service = machine.serve().start();
    service.until_ready();
    let two = "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n".repeat(2);
    let answer = service.ask(&two);
    assert_eq!((answer.code, answer.header("Connection")), (200, Some("close")));
    assert_eq!(answer.body, r#"{"status":"alive"}"#);
    // More requests are sent while the first is answered.
    let mut stream = TcpStream::connect(service.address()).unwrap();
    for _ in 0..20 {
        let _ = stream.write_all(two.as_bytes());
    }
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text.matches("HTTP/1.1 200 ").count(), 1, "{text}");
}

#[test]
fn malformed_requests_are_refused_at_once() {
    let machine = Machine::new();
    let service = machine.serve().start();
    service.until_ready();
    let start = Instant::now();
    for (request, code) in [
        ("GET /livez HTTP/1.1\nHost: localhost\n\n", 400),
        ("\x16\x03\x01\x02 a client of TLS", 400),
        ("GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
        ("GET /livez HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", 413),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ] {
        let answer = service.ask(request);
        assert_eq!((answer.code, &answer.json()["success"]), (code, &false.into()), "{request}");
    }
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}
