//! A server that stops, hangs, refuses connections or is read-only, while cts runs and when it
//! starts: what is reported meanwhile, and that cts recovers by itself.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::cluster::{Cluster, Database, Mode};
use crate::support::harness::{Answer, Machine, Service, TIMEOUT, await_that, await_within};

const HEALTH: &str = "/api/health/database";
/// Longest time until a restarted server is found: cts tries every second, and a busy machine may
/// need several for the schema's verification.
const FOUND_WITHIN: Duration = Duration::from_secs(6);
/// Longest time of `--check`.
const CHECKED_WITHIN: Duration = Duration::from_secs(5);

fn status(answer: &Answer) -> String {
    answer.json()["status"].as_str().unwrap().to_string()
}

/// Expects the next health answer to be unhealthy for this reason.
fn is_unhealthy(service: &Service, reason: &str) {
    let answer = service.get(HEALTH);
    assert_eq!((answer.code, status(&answer).as_str()), (503, "unhealthy"), "{}", answer.body);
    let reasons = answer.json()["reasons"].to_string();
    assert!(reasons.contains(reason), "{reason:?} is missing in {reasons}");
}

/// Expects the service to become healthy by itself within `FOUND_WITHIN`, and prints the time.
fn recovers(service: &Service, after: &str) {
    let start = Instant::now();
    service.until_status("healthy");
    let took = start.elapsed();
    eprintln!("healthy {} ms after {after}", took.as_millis());
    assert!(took < FOUND_WITHIN, "{after}: {took:?}\n{}", service.log());
}

fn threads(service: &Service) -> usize {
    fs::read_dir(format!("/proc/{}/task", service.child.id())).unwrap().count()
}

/// The sessions of cts on the server.
fn sessions(database: &Database) -> i64 {
    let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{}'", database.name);
    let mut admin = database.admin();
    crate::support::cluster::number(&mut admin, &sql)
}

/// Waits until the server has no process for this database, so that its connection slot is free.
fn await_free(cluster: &Cluster, database: &Database) {
    let of_it = format!(": {} {} ", database.name, database.name);
    let is_of_it = |pid: &rustix::process::Pid| {
        fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().contains(&of_it)
    };
    await_that("its connections have ended", || !cluster.processes().iter().any(is_of_it));
}

#[test]
fn a_stopped_server_is_reported_at_once_and_found_again() {
    let cluster = Cluster::builder().start();
    let database = cluster.owned();
    let service = database.serve().start();
    service.until_ready();
    // No request is sent yet.
    cluster.stop(Mode::Fast);
    service.until("⚠ The database cannot be used: ");
    cluster.start_again();
    service.until("✓ The database can be used again");
    let ways: [(&str, &dyn Fn()); 3] = [
        ("a fast stop", &|| cluster.stop(Mode::Fast)),
        ("an immediate stop", &|| cluster.stop(Mode::Immediate)),
        ("SIGKILL", &|| cluster.kill()),
    ];
    for (way, down) in ways {
        assert_eq!(status(&service.get(HEALTH)), "healthy");
        let answers = service.log().matches("answers; its schema is as expected").count();
        down();
        is_unhealthy(&service, &format!("127.0.0.1:{}: connection refused", cluster.port));
        assert_eq!((service.get("/livez").code, service.get("/readyz").code), (200, 503), "{way}");
        cluster.start_again();
        recovers(&service, way);
        await_that("the new server is named in the log", || {
            service.log().matches("answers; its schema is as expected").count() > answers
        });
    }
    let (code, log) = service.stop();
    assert_eq!(code, Some(0), "{log}");
    let notes = database.texts("SELECT message FROM site_logs WHERE message LIKE 'the service%'");
    assert_eq!(notes, ["the service started (cts 3.1.0)", "the service stopped"]);
}

#[test]
fn a_hanging_server_does_not_exhaust_threads_or_trigger_the_watchdog() {
    let cluster = Cluster::builder().start();
    let database = cluster.owned();
    let machine = Machine::new();
    let manager = UnixDatagram::bind(machine.path("notify")).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
    let service = database
        .serve()
        .env("NOTIFY_SOCKET", machine.path("notify"))
        .env("WATCHDOG_USEC", "3000000")
        .start();
    service.until_ready();
    service.until_status("healthy");
    // A start that took long has asked for time before.
    let mut notification = [0; 256];
    let mut is_ready = || {
        let length = manager.recv(&mut notification).unwrap();
        String::from_utf8_lossy(&notification[..length]).contains("READY=1")
    };
    while !is_ready() {}
    let (before, paused) = (threads(&service), Instant::now());
    cluster.pause();
    let answers = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    let asked = Instant::now();
                    is_unhealthy(&service, "check the server and the network to it");
                    answers.lock().unwrap().push((asked.elapsed(), threads(&service)));
                }
            });
        }
    });
    let overview = service.get("/api/admin/overview").json();
    assert_eq!((&overview["success"], &overview["status"]), (&false.into(), &"unhealthy".into()));
    assert!(overview["history"]["responseSeconds"][0].is_number(), "{overview}");
    let answers = answers.into_inner().unwrap();
    let slowest = answers.iter().map(|(took, _)| *took).max().unwrap();
    let most = answers.iter().map(|(_, count)| *count).max().unwrap();
    eprintln!("{before} threads, then at most {most}; the slowest answer took {slowest:?}");
    assert!(slowest < Duration::from_secs(4), "{slowest:?}");
    // The HTTP server may have started some workers.
    assert!(most <= before + 10, "{before} threads, then {most}");
    // Longer than an inspection or a write may take before it counts as hanging.
    while paused.elapsed() < Duration::from_secs(23) {
        let mut bytes = [0; 256];
        let length = match manager.recv(&mut bytes) {
            // A read with a timeout is not restarted after a signal.
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            length => length.expect("no notification to the watchdog"),
        };
        let notification = String::from_utf8_lossy(&bytes[..length]).into_owned();
        assert!(notification.contains("READY=1") || notification == "WATCHDOG=1", "{notification}");
    }
    assert!(!service.log().contains("has not answered"), "{}", service.log());
    // No thread waits for the server longer than its limit.
    assert!(threads(&service) <= before + 8, "{before} threads, then {}", threads(&service));
    assert_eq!(service.get("/livez").code, 200);
    cluster.resume();
    recovers(&service, "a pause of 23 s");
    await_that("the threads that hung have ended", || threads(&service) <= before + 1);
    assert_eq!(service.stop().0, Some(0));
}

#[test]
fn a_service_stops_though_its_server_hangs() {
    let cluster = Cluster::builder().start();
    let database = cluster.owned();
    let service = database.serve().start();
    service.until_ready();
    service.until_status("healthy");
    cluster.pause();
    let start = Instant::now();
    let (code, log) = service.stop();
    eprintln!("ended {:?} after SIGTERM", start.elapsed());
    assert_eq!(code, Some(0), "{log}");
    assert!(start.elapsed() < Duration::from_secs(5), "{log}");
}

#[test]
fn a_service_waits_for_a_stopped_server_and_names_it() {
    let cluster = Cluster::builder().start();
    let database = cluster.owned();
    cluster.stop(Mode::Fast);
    let service = database.serve().env("CTS_WAIT", "20s").start();
    let refused = format!("127.0.0.1:{}: connection refused", cluster.port);
    service.until(&refused);
    await_that("health says for what it waits", || {
        let answer = service.get(HEALTH);
        let (code, status) = (answer.code, status(&answer));
        assert_eq!((code, status.as_str()), (503, "initializing"), "{}", answer.body);
        answer.json()["reasons"].to_string().contains(&refused)
    });
    assert_eq!((service.get("/livez").code, service.get("/readyz").code), (200, 503));
    service.until("for 2 s so far");
    // It is logged at once, and then at growing intervals.
    // However many attempts there were, the pool is one.
    assert!(threads(&service) <= 12, "{} threads", threads(&service));
    let lines = service.log().matches(&refused).count();
    assert!((1..=3).contains(&lines), "{}", service.log());
    cluster.start_again();
    recovers(&service, "the start of a server that was waited for");
    service.until_ready();
    assert_eq!(service.stop().0, Some(0));

    cluster.stop(Mode::Fast);
    let migrate = thread::scope(|scope| {
        let migrate = scope.spawn(|| database.cts("migrate").env("CTS_WAIT", "20s").run());
        cluster.start_again();
        migrate.join().unwrap()
    });
    assert_eq!(migrate.0.status.code(), Some(0), "{}", migrate.err());
}

#[test]
fn a_server_that_stays_down_ends_with_exit_code_69() {
    let cluster = Cluster::builder().start();
    let database = cluster.owned();
    database.cts("migrate").success();
    cluster.stop(Mode::Fast);
    let refused = format!("127.0.0.1:{}: connection refused", cluster.port);
    for words in ["serve --port 0", "migrate", "repair"] {
        let start = Instant::now();
        let done = database.cts(words).env("CTS_WAIT", "1s").status(69);
        assert!(start.elapsed() >= Duration::from_secs(1), "{words}");
        assert!(start.elapsed() < Duration::from_secs(5), "{words}: {:?}", start.elapsed());
        done.says(&[&refused, "waited 1s (CTS_WAIT)", "pg_isready"]);
    }
    for words in ["status", "status --json", "verify", "stats", "migrate --dry-run"] {
        let done = database.cts(words).within(CHECKED_WITHIN);
        assert_eq!(done.0.status.code(), Some(69), "{words}: {}", done.err());
        done.says(&[&refused]);
    }
    for words in ["--check", "--check --json", "--check --deep"] {
        let done = database.cts(words).within(CHECKED_WITHIN);
        assert_eq!(done.0.status.code(), Some(2), "{words}: {}", done.err());
        done.says(&[&refused]);
    }
}

#[test]
fn an_inspection_gives_up_on_a_server_that_never_answers() {
    let cluster = Cluster::builder().start();
    let database = cluster.owned();
    database.cts("migrate").success();
    cluster.pause();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_address = format!("127.0.0.1:{}", silent.local_addr().unwrap().port());
    let commands = [
        ("--check", 2),
        ("--check --json", 2),
        ("--check --deep", 2),
        ("status", 69),
        ("verify", 69),
        ("stats", 69),
        ("migrate", 69),
        ("serve --port 0", 69),
    ];
    let ask = |url: &str, words: &str, code: i32| {
        let run = database.cts(words).env("DATABASE_URL", url).env("CTS_WAIT", "1s");
        let run = if code == 69 { run.env("CTS_POOL_CONNECT", "1s") } else { run };
        let done = run.within(CHECKED_WITHIN);
        let said = done.out() + &done.err();
        assert_eq!(done.0.status.code(), Some(code), "{words}: {said}");
        assert!(!said.contains("dmesg") && !said.contains("the file"), "{said}");
        done.says(&["127.0.0.1:", "does not answer within"]);
    };
    thread::scope(|scope| {
        for url in [&database.url(), &database.url_to(&silent_address, "sslmode=disable")] {
            for (words, code) in commands {
                let (ask, url) = (&ask, url.clone());
                scope.spawn(move || ask(&url, words, code));
            }
        }
    });
}

#[test]
fn a_server_in_recovery_is_waited_for() {
    let cluster = Cluster::builder().set("hot_standby", "off").start();
    let database = cluster.owned();
    // The restore_command takes a second for each file.
    cluster.sql("ALTER SYSTEM SET restore_command = 'sleep 1; false'");
    let data = cluster.texts("SHOW data_directory").remove(0);
    cluster.kill();
    fs::write(format!("{data}/recovery.signal"), "").unwrap();
    thread::scope(|scope| {
        scope.spawn(|| cluster.start_again());
        await_that("it starts up", || {
            let said = database.cts("--check").run().out();
            said.contains("starting up") || said.contains("not yet accepting")
        });
        let service = database.serve().env("CTS_WAIT", "30s").start();
        service.until("the database system is");
        assert_eq!(status(&service.get(HEALTH)), "initializing");
        service.until_ready();
        assert_eq!(status(&service.get(HEALTH)), "healthy");
    });
}

#[test]
fn a_server_without_a_free_connection_is_waited_for() {
    let cluster = Cluster::builder()
        .set("max_connections", "5")
        .set("superuser_reserved_connections", "3")
        .start();
    let database = cluster.owned();
    database.cts("migrate").success();
    await_free(&cluster, &database);
    let mut others = vec![database.open(), database.open()];
    database.cts("--check").status(2).says(&["connection", "max_connections"]);
    database.cts("status").status(69).says(&["max_connections"]);
    let service = database.serve().env("CTS_WAIT", "20s").start();
    await_that("health says for what it waits", || {
        let answer = service.get(HEALTH);
        assert_eq!(status(&answer), "initializing", "{}", answer.body);
        answer.body.contains("connection slots") || answer.body.contains("too many clients")
    });
    others.pop();
    service.until_ready();
    assert_eq!(status(&service.get(HEALTH)), "healthy");
}

#[test]
fn every_command_works_with_one_connection() {
    let cluster = Cluster::builder().set("log_connections", "on").start();
    let database = cluster.owned();
    cluster.sql(&format!("ALTER ROLE \"{}\" CONNECTION LIMIT 1", database.name));
    let opened = || {
        let line = format!("connection authorized: user={} ", database.name);
        let log = cluster.log();
        // One that comes before the server has ended the last one is authorized, refused, and made again.
        log.matches(&line).count() - log.matches("too many connections for role").count()
    };
    let free = || await_free(&cluster, &database);
    for (words, code, connections) in [
        // A command that finds nothing asks for the migration lock or for conflicting names with a
        // second connection; `repair` inspects first. The connections are made one after the other.
        ("--check", 2, 2),
        ("migrate --dry-run", 0, 2),
        ("migrate", 0, 1),
        ("migrate", 0, 1),
        ("--check", 0, 1),
        ("--check --deep", 0, 1),
        ("status", 0, 1),
        ("verify", 0, 1),
        ("repair", 0, 2),
    ] {
        let before = opened();
        let done = database.cts(words).env("CTS_POOL_MAX", "1").run();
        assert_eq!(done.0.status.code(), Some(code), "{words}: {}{}", done.out(), done.err());
        assert!(opened() - before <= connections, "{words}: {} connections", opened() - before);
        free();
    }
    let mut admin = database.admin();
    admin.batch_execute("DROP INDEX idx_site_logs_time; DROP TABLE indication_states").unwrap();
    database.cts("--check").status(1).says(&["indication_states"]);
    free();
    database.cts("repair").success();
    free();
    let service = database.serve().env("CTS_POOL_MAX", "1").start();
    service.until_ready();
    let answer = service.get(HEALTH);
    assert_eq!(status(&answer), "healthy", "{}", answer.body);
    assert_eq!(sessions(&database), 1);
    database.cts("--check").status(2).says(&["too many connections for role"]);
    assert_eq!(service.stop().0, Some(0));
    free();
}

#[test]
fn a_service_keeps_at_most_two_connections_and_survives_their_loss() {
    let database = Cluster::shared().owned();
    let service = database.serve().start();
    service.until_ready();
    let end = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{}'",
        database.name
    );
    for _ in 0..5 {
        service.until_status("healthy");
        assert!((1..=2).contains(&sessions(&database)), "{}", sessions(&database));
        assert!(crate::support::cluster::number(&mut database.admin(), &end) >= 1);
        let answer = service.get(HEALTH);
        assert_eq!(status(&answer), "healthy", "{}", answer.body);
    }
    let pool = service.get(HEALTH).json()["pool"].clone();
    assert!(pool.is_null() || pool["connections"].as_i64() <= Some(2), "{pool}");
}

#[test]
fn a_read_only_server_is_unhealthy_until_it_is_writable() {
    let cluster = Cluster::builder().start();
    let database = cluster.owned();
    let service = database.serve().start();
    service.until_ready();
    let reload = |sql: &str| {
        cluster.sql(sql);
        cluster.sql("SELECT pg_reload_conf()");
    };
    service.until_status("healthy");
    reload("ALTER SYSTEM SET default_transaction_read_only = on");
    let answer = service.until_status("unhealthy");
    assert!(answer.body.contains("default_transaction_read_only"), "{}", answer.body);
    database.cts("--check").status(2).says(&["default_transaction_read_only is on"]);
    database
        .cts("migrate")
        .env("CTS_WAIT", "0")
        .status(69)
        .says(&["default_transaction_read_only is on"]);
    let reset = "SET default_transaction_read_only = off; \
        ALTER SYSTEM RESET default_transaction_read_only";
    let mut admin = cluster.admin("postgres");
    for sql in reset.split("; ") {
        admin.batch_execute(sql).unwrap();
    }
    admin.batch_execute("SELECT pg_reload_conf()").unwrap();
    recovers(&service, "the server takes writes again");

    // A setting of a role applies to new connections only.
    let role = &database.name;
    cluster.sql(&format!("ALTER ROLE \"{role}\" SET default_transaction_read_only = on"));
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = current_user";
    let _ = database.open().batch_execute(end);
    let answer = service.until_status("unhealthy");
    assert!(answer.body.contains("default_transaction_read_only"), "{}", answer.body);
    cluster.sql(&format!("ALTER ROLE \"{role}\" RESET default_transaction_read_only"));
    recovers(&service, "the role may write again");
}

/// The existing connections are not terminated.
#[test]
fn a_fault_of_new_connections_alone_is_found_within_a_minute() {
    let cluster = Cluster::builder().start();
    let (reading, locked_out, limited) = (cluster.owned(), cluster.owned(), cluster.owned());
    cluster.sql(&format!("ALTER ROLE \"{}\" CONNECTION LIMIT 1", limited.name));
    let services = [&reading, &locked_out, &limited].map(|database| {
        let service = database.serve().env("CTS_POOL_MAX", "1").start();
        service.until_ready();
        service.until_status("healthy");
        service
    });
    let sessions_of_limited =
        format!("SELECT pid FROM pg_stat_activity WHERE usename = '{}'", limited.name);
    let before = cluster.texts(&sessions_of_limited);
    assert_eq!(before.len(), 1, "{before:?}");
    let (reading, locked_out) = (&reading.name, &locked_out.name);
    cluster.sql(&format!("ALTER ROLE \"{reading}\" SET default_transaction_read_only = on"));
    cluster.sql(&format!("ALTER ROLE \"{locked_out}\" PASSWORD 'another'"));
    let start = Instant::now();
    let [reads, is_out, has_one_slot] = &services;
    await_that("it cannot log in", || {
        assert_eq!(status(&has_one_slot.get(HEALTH)), "healthy", "{}", has_one_slot.log());
        let answer = is_out.get(HEALTH);
        status(&answer) == "unhealthy" && answer.body.contains("password authentication failed")
    });
    await_that("it finds that it is read-only", || {
        let answer = reads.get(HEALTH);
        status(&answer) == "unhealthy" && answer.body.contains("default_transaction_read_only")
    });
    assert!(start.elapsed() < TIMEOUT, "{:?}", start.elapsed());
    // The one connection is replaced too, without a change of status.
    await_that("the connection was replaced", || {
        assert_eq!(status(&has_one_slot.get(HEALTH)), "healthy", "{}", has_one_slot.log());
        let now = cluster.texts(&sessions_of_limited);
        !now.is_empty() && now != before
    });
}

#[test]
fn a_standby_alone_is_not_enough() {
    let primary = Cluster::builder().start();
    let database = primary.owned();
    database.cts("migrate").success();
    let standby = primary.standby();
    standby.catch_up_with(&primary);
    let copy = database.on(&standby);
    copy.cts("--check").status(2).says(&["recovery", "22/22 core tables"]);
    copy.cts("status").success();
    copy.cts("verify").success();
    for words in ["migrate", "repair", "serve --port 0"] {
        let done = copy.cts(words).env("CTS_WAIT", "1s").within(CHECKED_WITHIN);
        assert_eq!(done.0.status.code(), Some(69), "{words}: {}", done.err());
        done.says(&["in recovery (a standby)", "waited 1s (CTS_WAIT)", "primary"]);
    }
    let service = copy.serve().start();
    service.until("waiting for");
    assert_eq!(status(&service.get(HEALTH)), "initializing");
    standby.promote();
    service.until_ready();
    recovers(&service, "the promotion of a standby that was waited for");
}

#[test]
fn an_invalid_pool_setting_is_refused_by_name() {
    let database = Cluster::shared().owned();
    for (name, values) in [
        ("CTS_POOL_MAX", ["0", "many", "-1", "1001"]),
        ("CTS_POOL_IDLE", ["soon", "-1s", "1 fortnight", "0"]),
        ("CTS_POOL_CONNECT", ["soon", "-1s", "0", "0s"]),
        ("CTS_WAIT", ["forever", "-1", "1e3", "10 x"]),
    ] {
        for value in values {
            for (words, code) in [("migrate", 78), ("serve --port 0", 78), ("--check", 3)] {
                let run = database.cts(words).env(name, value).within(TIMEOUT);
                assert_eq!(run.0.status.code(), Some(code), "{name}={value}: {}", run.err());
                run.says(&[name, value]);
            }
        }
    }
    // Unusual but valid durations.
    for (name, value) in [
        ("CTS_POOL_IDLE", "1000years"),
        ("CTS_POOL_CONNECT", "1000years"),
        ("CTS_WAIT", "18446744073709551615"),
        ("CTS_WAIT", "0"),
        ("CTS_LOCK_TIMEOUT", "18446744073709551615"),
    ] {
        let run = database.cts("migrate").env(name, value).within(TIMEOUT);
        assert_eq!(run.0.status.code(), Some(0), "{name}={value}: {}", run.err());
    }
    await_within(TIMEOUT, "all connections have ended", || sessions(&database) == 0);
}

#[test]
fn tables_dropped_under_a_service_are_reported_once_with_the_remedy() {
    let database = Cluster::shared().owned();
    let service = database.serve().start();
    service.until_ready();
    service.until_status("healthy");
    let drop = format!(
        "DROP SCHEMA public CASCADE; CREATE SCHEMA public AUTHORIZATION \"{}\"",
        database.name
    );
    database.admin().batch_execute(&drop).unwrap();
    is_unhealthy(&service, "no table of CTS is left; `cts migrate`");
    assert!(!service.get(HEALTH).body.contains("repair"), "{}", service.get(HEALTH).body);
    service.until("The database cannot be used: no table of CTS is left");
    database.cts("migrate").success();
    recovers(&service, "the tables were made anew");
    service.until("can be used again");
    let log = service.log();
    let said = |part: &str| log.matches(part).count();
    assert_eq!((said("cannot be used"), said("can be used again")), (1, 1), "{log}");
}
