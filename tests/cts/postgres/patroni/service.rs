//! The running service when its primary changes.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::cluster::Database;
use crate::support::harness::{Service, await_that};
use crate::support::patroni::{Node, Patroni};

use super::Failure;

/// Longest time until the service uses the new primary. It is to be one second on a machine that does nothing
/// else; the time that it took is printed.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(20);

/// Whether a cts that uses this database has a connection to the node, other than the one on which it asks a node
/// that it does not use what it is.
fn is_used(node: &Node, database: &Database) -> bool {
    let sql = format!(
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE usename = '{}' \
         AND application_name = 'cts'",
        database.name
    );
    node.text(&sql).as_deref() == Some("t")
}

/// Waits until the service has this status and uses the node; returns how long that took since the node could be
/// written to.
fn follows(service: &Service, database: &Database, node: &Node, status: &str) -> Duration {
    let ready = Instant::now();
    loop {
        let answer = service.get("/api/health/database");
        if answer.json()["status"] == status && is_used(node, database) {
            return ready.elapsed();
        }
        let said = || format!("{}\n{}", answer.body, service.log());
        assert!(ready.elapsed() < FOLLOWED_WITHIN, "not {status} at {}: {}", node.host(), said());
        thread::sleep(Duration::from_millis(20));
    }
}

/// The services that use a cluster, each on a database of its own.
struct Services<'a> {
    patroni: &'a Patroni,
    /// By a URL with all hosts.
    by_list: (Database<'a>, Service),
    /// By HAProxy.
    by_proxy: (Database<'a>, Service),
}

impl<'a> Services<'a> {
    fn start(patroni: &'a Patroni) -> Services<'a> {
        let serve = |is_proxied: bool| {
            let database = patroni.database();
            let url = match is_proxied {
                true => patroni.proxied_url(&database),
                false => patroni.url(&database),
            };
            let service = database.serve().env("DATABASE_URL", url).start();
            service.until_ready().until_status("healthy");
            (database, service)
        };
        Services { patroni, by_list: serve(false), by_proxy: serve(true) }
    }

    /// Makes the leader fail, and expects that both services use the next primary. The one that sees all hosts
    /// then has this status.
    fn follow(&self, failure: Failure, old: &'a Node, status: &str) -> &'a Node {
        let start = Instant::now();
        failure.happens_to(old, self.patroni);
        let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
        thread::scope(|scope| {
            scope.spawn(|| {
                let new = failure.next_primary(old, self.patroni);
                self.patroni.await_proxied(new);
                let (reached, (database, service)) = (seconds(start.elapsed()), &self.by_proxy);
                let took = seconds(follows(service, database, new, "healthy"));
                eprintln!("{failure:?}: HAProxy leads there after {reached}, healthy {took} later");
            });
            let new = failure.next_primary(old, self.patroni);
            let (ready, (database, service)) = (seconds(start.elapsed()), &self.by_list);
            let took = seconds(follows(service, database, new, status));
            eprintln!("{failure:?}: a primary after {ready}, {status} {took} later");
            new
        })
    }

    /// Brings the old leader back, and expects that all nodes hold the same.
    fn end(&self, failure: Failure, old: &Node) {
        let start = Instant::now();
        failure.ends(old, self.patroni);
        eprintln!("{failure:?}: complete {:.1} s later", start.elapsed().as_secs_f64());
        let leader = self.patroni.leader();
        let is_other = |node: &&Node| node.name() != leader.name();
        let others: Vec<&Node> = self.patroni.nodes().iter().filter(is_other).collect();
        for (database, service) in [&self.by_list, &self.by_proxy] {
            service.until_status("healthy");
            await_that("the service writes nothing while the nodes are read", || {
                let on = |node: &Node| database.on(&node.server).everything();
                let written = on(leader);
                let hold = |node: &&Node| {
                    node.server.catch_up_with(&leader.server);
                    (node.host(), on(node))
                };
                let held: Vec<_> = others.iter().map(hold).collect();
                let is_valid = on(leader) == written;
                for (host, held) in held.iter().filter(|_| is_valid) {
                    assert_eq!(held, &written, "{host}");
                }
                is_valid
            });
        }
    }

    /// Stops them, and expects the start and the stop of each in its database.
    fn stop(self) {
        let leader = self.patroni.leader();
        for (database, service) in [self.by_list, self.by_proxy] {
            let (code, log) = service.stop();
            assert_eq!(code, Some(0), "{log}");
            let sql = "SELECT message FROM site_logs WHERE message LIKE 'the service%' ORDER BY id";
            let events = database.on(&leader.server).texts(sql);
            assert_eq!(events, ["the service started (cts 3.1.0)", "the service stopped"]);
        }
    }
}

#[test]
fn a_service_follows_the_primary_of_patroni() {
    let Some(patroni) = Patroni::start() else { return };
    let services = Services::start(&patroni);
    for failure in [Failure::Switchover, Failure::PostmasterKilled, Failure::NodeKilled] {
        let old = patroni.leader();
        services.follow(failure, old, "healthy");
        services.end(failure, old);
    }
    services.stop();
}

#[test]
fn an_old_primary_that_nobody_demotes_is_left_and_named() {
    let Some(patroni) = Patroni::start() else { return };
    let services = Services::start(&patroni);
    let old = patroni.leader();
    let new = services.follow(Failure::PatroniKilled, old, "degraded");
    let (database, service) = &services.by_list;
    let on_old = database.on(&old.server);
    let before = on_old.everything();

    let named = [
        format!("{} (timeline {}", new.host(), new.timeline().unwrap()),
        format!("{} (timeline {}", old.host(), old.timeline().unwrap()),
    ];
    let named = named.each_ref().map(String::as_str);
    let url = patroni.url(database);
    let health = service.get("/api/health/database").body;
    assert!(named.iter().all(|name| health.contains(name)), "{named:?}: {health}");
    database.cts("--check").env("DATABASE_URL", &url).status(1).says(&named);
    let doctor = database.cts("doctor").env("DATABASE_URL", &url).run();
    assert_ne!(doctor.0.status.code(), Some(0), "{}", doctor.out());
    doctor.says(&named);

    // What is missing is put back on the new primary, and nothing is written to the old one.
    let on_new = database.on(&new.server);
    on_new.sql("DROP TABLE strategies_dca");
    database.cts("repair").env("DATABASE_URL", &url).success();
    assert_eq!(on_new.number("SELECT count(*) FROM strategies_dca"), 0);
    assert!(is_used(new, database) && !is_used(old, database));
    assert_eq!(on_old.everything(), before);

    // A trading program that has only the old address loses its row when the old primary is rewound.
    let lost = "site_logs WHERE message = 'only on the old one'";
    on_old.sql("INSERT INTO site_logs (level, category, message) VALUES ('info', 'app', 'only on the old one')");
    assert_eq!(on_old.number(&format!("SELECT count(*) FROM {lost}")), 1);
    services.end(Failure::PatroniKilled, old);
    assert_eq!(on_old.number(&format!("SELECT count(*) FROM {lost}")), 0);
    assert!(old.server.log().contains("running pg_rewind"), "{}", old.last_lines());
    services.stop();
}
