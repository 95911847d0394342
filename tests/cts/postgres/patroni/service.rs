//! The running service when its primary changes.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::cluster::Database;
use crate::support::harness::Service;
use crate::support::patroni::{Node, Patroni};

use super::Failure;

/// Longest time until the service uses the new primary. It is to be one second on a machine that does nothing
/// else; the time that it took is printed.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(20);

/// Whether a cts that uses this database has a connection to the node.
fn is_used(node: &Node, database: &Database) -> bool {
    let sql = format!(
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE usename = '{}' \
         AND application_name LIKE 'cts%'",
        database.name
    );
    node.text(&sql).as_deref() == Some("t")
}

/// Waits until the service is healthy and uses the node; returns how long that took since the node could be
/// written to.
fn follows(service: &Service, database: &Database, node: &Node) -> Duration {
    let ready = Instant::now();
    loop {
        let answer = service.get("/api/health/database");
        if answer.json()["status"] == "healthy" && is_used(node, database) {
            return ready.elapsed();
        }
        let said = || format!("{}\n{}", answer.body, service.log());
        assert!(ready.elapsed() < FOLLOWED_WITHIN, "not healthy at {}: {}", node.host(), said());
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

    /// Makes the leader fail, and expects that both services use the next primary.
    fn follow(&self, failure: Failure, old: &Node) {
        let start = Instant::now();
        failure.happens_to(old, self.patroni);
        let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
        thread::scope(|scope| {
            scope.spawn(|| {
                let new = failure.next_primary(old, self.patroni);
                self.patroni.await_proxied(new);
                let (reached, (database, service)) = (seconds(start.elapsed()), &self.by_proxy);
                let took = seconds(follows(service, database, new));
                eprintln!("{failure:?}: HAProxy leads there after {reached}, healthy {took} later");
            });
            let new = failure.next_primary(old, self.patroni);
            let (ready, (database, service)) = (seconds(start.elapsed()), &self.by_list);
            let took = seconds(follows(service, database, new));
            eprintln!("{failure:?}: a primary after {ready}, healthy {took} later");
        });
    }

    /// Brings the old leader back, and expects that all nodes hold the same.
    fn end(&self, failure: Failure, old: &Node) {
        let start = Instant::now();
        failure.ends(old, self.patroni);
        eprintln!("{failure:?}: complete {:.1} s later", start.elapsed().as_secs_f64());
        let leader = self.patroni.leader();
        for (database, service) in [&self.by_list, &self.by_proxy] {
            service.until_status("healthy");
            let written = database.on(&leader.server).everything();
            for node in self.patroni.nodes().iter().filter(|node| node.name() != leader.name()) {
                node.server.catch_up_with(&leader.server);
                assert_eq!(database.on(&node.server).everything(), written, "{}", node.host());
            }
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
    for failure in Failure::ALL {
        let old = patroni.leader();
        services.follow(failure, old);
        services.end(failure, old);
    }
    services.stop();
}
