//! Failover from a primary to a standby while cts runs.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::cluster::{Cluster, Database, number};
use crate::support::harness::{Service, await_that, for_each};

const HEALTH: &str = "/api/health/database";
/// Longest time until a promoted standby is found.
const FOUND_WITHIN: Duration = Duration::from_secs(6);

/// How the old primary fails, and how it returns.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Loss {
    /// It returns as a read-only server.
    Fenced,
    /// It returns as a standby.
    Demoted,
    /// It hangs, and its kernel accepts connections.
    Hanging,
}

/// A URL with both servers, in this order.
fn url(database: &Database, first: &Cluster, second: &Cluster, attrs: &str) -> String {
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", first.port, second.port);
    database.url_to(&hosts, &format!("sslmode=disable{attrs}"))
}

fn status(service: &Service) -> String {
    service.get(HEALTH).json()["status"].as_str().unwrap().to_string()
}

fn is_used(server: &Cluster, database: &Database) -> bool {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cts' AND usename =";
    number(&mut server.admin(&database.name), &format!("{sql} '{}'", database.name)) > 0
}

fn follows(loss: Loss, attrs: &str) {
    let primary = Cluster::builder().start();
    let database = primary.owned();
    database.cts("migrate").success();
    let standby = primary.standby();
    let service =
        database.serve().env("DATABASE_URL", url(&database, &primary, &standby, attrs)).start();
    service.until_ready();
    assert_eq!(status(&service), "healthy");
    assert!(is_used(&primary, &database) && !is_used(&standby, &database));
    if loss == Loss::Fenced {
        // Takes effect at its next start.
        primary.sql("ALTER SYSTEM SET default_transaction_read_only = on");
    }
    let data = primary.texts("SHOW data_directory").remove(0);
    standby.catch_up_with(&primary);
    match loss {
        Loss::Hanging => primary.pause(),
        _ => primary.kill(),
    }
    let answer = service.get(HEALTH);
    assert_eq!((answer.code, &*status(&service)), (503, "unhealthy"), "{}", answer.body);
    assert_eq!(service.get("/livez").code, 200);

    standby.promote();
    let promoted = Instant::now();
    service.until_status("healthy");
    let took = promoted.elapsed();
    eprintln!("{loss:?}: healthy {} ms after the promotion", took.as_millis());
    assert!(took < FOUND_WITHIN, "{took:?}\n{}", service.log());
    service.until(&format!(
        "✓ The server 127.0.0.1:{} answers; its schema is as expected",
        standby.port
    ));
    assert!(is_used(&standby, &database));

    match loss {
        Loss::Hanging => return,
        Loss::Fenced => {}
        Loss::Demoted => fs::write(format!("{data}/standby.signal"), "").unwrap(),
    }
    primary.start_again();
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
        WHERE application_name = 'cts'";
    // It stays with the new primary, even if its connections are terminated.
    for _ in 0..3 {
        let answer = service.get(HEALTH);
        assert_eq!(answer.json()["status"], "healthy", "{}", answer.body);
        assert!(is_used(&standby, &database) && !is_used(&primary, &database));
        assert!(standby.number(end) > 0);
    }
    assert_eq!(service.stop().0, Some(0));
    let note = "SELECT count(*) FROM site_logs WHERE message = 'the service stopped'";
    assert_eq!(database.on(&standby).number(note), 1);
}

#[test]
fn a_standby_that_takes_over_is_followed() {
    let losses = [
        (Loss::Fenced, "&target_session_attrs=read-write"),
        (Loss::Demoted, ""),
        (Loss::Hanging, ""),
    ];
    for_each(losses, |(loss, attrs)| follows(loss, attrs));
}

#[test]
fn the_schema_of_the_new_primary_is_repaired() {
    let primary = Cluster::builder().start();
    let database = primary.owned();
    database.cts("migrate").success();
    database.sql("DROP INDEX idx_site_logs_time; DROP TABLE indication_states");
    let standby = primary.standby();
    // From here on it lags behind.
    standby.sql("ALTER SYSTEM SET primary_conninfo = ''");
    standby.sql("SELECT pg_reload_conf()");
    let streams = "SELECT count(*) FROM pg_stat_wal_receiver";
    await_that("the standby has lost its primary", || standby.number(streams) == 0);
    let service =
        database.serve().env("DATABASE_URL", url(&database, &primary, &standby, "")).start();
    service.until_ready();
    assert_eq!(status(&service), "healthy");
    primary.kill();
    assert_eq!(status(&service), "unhealthy");
    standby.promote();
    let promoted = Instant::now();
    service.until_status("healthy");
    eprintln!("healthy and completed {} ms after the promotion", promoted.elapsed().as_millis());
    service.until(&format!("✓ The server 127.0.0.1:{} answers; ", standby.port));
    service.until("statements brought its schema up to date");
    let copy = database.on(&standby);
    assert_eq!(copy.number("SELECT count(*) FROM indication_states"), 0);
    copy.cts("verify").success();
}

#[test]
fn the_primary_is_found_at_any_place_in_the_list_of_hosts() {
    let primary = Cluster::builder().start();
    let standby = primary.standby();
    let database = primary.owned();
    let wrong = url(&database, &standby, &primary, "");
    await_that("the standby has the role", || {
        let sql = format!("SELECT count(*) FROM pg_database WHERE datname = '{}'", database.name);
        standby.number(&sql) == 1
    });
    for words in ["migrate", "--check", "status", "verify", "repair"] {
        database.cts(words).env("DATABASE_URL", &wrong).success();
    }
    // A hanging server before the primary does not matter either.
    standby.pause();
    let start = Instant::now();
    database.cts("--check").env("DATABASE_URL", &wrong).success();
    database.cts("migrate").env("DATABASE_URL", &wrong).env("CTS_POOL_CONNECT", "2s").success();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    standby.resume();
    primary.kill();
    let done = database.cts("migrate").env("DATABASE_URL", &wrong).env("CTS_WAIT", "1s").status(69);
    let (first, second) =
        (format!("127.0.0.1:{}: ", standby.port), format!("127.0.0.1:{}: ", primary.port));
    done.says(&[&first, "in recovery (a standby)", &second, "connection refused", "waited 1s"]);
}
