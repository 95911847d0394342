//! A Patroni cluster of three PostgreSQL servers on loopback. Patroni keeps its state with its own raft
//! implementation, so no etcd is needed. HAProxy leads its clients to the primary. Everything ends with the
//! tests, as their other servers do.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::cluster::{Cluster, Database, ServerFiles};
use crate::support::harness::await_that;

mod configuration;
mod node;
mod programs;
mod proxy;

use configuration::Addresses;
pub use node::Node;
use programs::Programs;
use proxy::Proxy;

const NODES: usize = 3;
/// Longest time for an election, or for a node to become a replica, on a busy machine too.
const PATRONI_TIMEOUT: Duration = Duration::from_secs(120);

/// A Patroni cluster; ended when dropped.
pub struct Patroni {
    nodes: Vec<Node>,
    proxy: Proxy,
}

impl Patroni {
    /// Starts it and waits until every node is there. `None` where Patroni or HAProxy is not installed.
    pub fn start() -> Option<Patroni> {
        let started = Instant::now();
        let patroni = Patroni::begin()?;
        patroni.await_complete();
        eprintln!("Patroni has its {NODES} nodes after {:.1} s", started.elapsed().as_secs_f64());
        Some(patroni)
    }

    /// Starts it without waiting for anything.
    pub fn begin() -> Option<Patroni> {
        let programs = Programs::installed()?;
        let names: Vec<_> =
            (0..NODES).map(|_| ServerFiles::of_this_process().new_folder()).collect();
        let addresses = Addresses::free(NODES);
        let scope = &names[0].0;
        let nodes = names.iter().enumerate().map(|(at, (name, folder))| {
            let server = Cluster::run_by_another(name.clone(), folder.clone(), addresses.sql[at]);
            Node::start(server, &programs, &addresses, at, scope)
        });
        let nodes: Vec<Node> = nodes.collect();
        let proxy = Proxy::start(&addresses);
        Some(Patroni { nodes, proxy })
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node whose Patroni says that it is the leader.
    pub fn leader(&self) -> &Node {
        let mut found = None;
        await_that("Patroni has a leader", || {
            found = self.nodes.iter().find(|node| node.is_leader());
            found.is_some()
        });
        found.unwrap()
    }

    /// Waits until one node is the leader and all others stream from it.
    pub fn await_complete(&self) {
        let deadline = Instant::now() + PATRONI_TIMEOUT;
        while !self.is_complete() {
            if Instant::now() > deadline {
                let logs = self.nodes.iter().map(Node::last_lines);
                panic!("not complete:\n{}", logs.collect::<Vec<_>>().join("\n\n"));
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn is_complete(&self) -> bool {
        let leaders = self.nodes.iter().filter(|node| node.is_leader()).count();
        let primaries = self.nodes.iter().filter(|node| node.is_primary());
        let timelines: Vec<u32> = primaries.filter_map(Node::timeline).collect();
        // A standby that is to be rewound may receive an older timeline for a moment.
        let receives = |node: &&Node| timelines.first().copied() == node.received_timeline();
        let replicas = self.nodes.iter().filter(receives).count();
        (leaders, timelines.len(), replicas) == (1, 1, NODES - 1)
    }

    /// Asks Patroni for a switchover, and returns once it has begun.
    pub fn switchover(&self, from: &Node, to: &Node) {
        let request =
            format!("{{\"leader\": \"{}\", \"candidate\": \"{}\"}}", from.name(), to.name());
        from.post("/switchover", &request);
    }

    /// Waits until another node than this one can be written to, asked directly.
    pub fn await_primary_besides(&self, old: &Node) -> &Node {
        let deadline = Instant::now() + PATRONI_TIMEOUT;
        loop {
            let others = self.nodes.iter().filter(|node| node.name() != old.name());
            if let Some(node) = { others }.find(|node| node.is_primary()) {
                return node;
            }
            assert!(Instant::now() < deadline, "no other primary:\n{}", old.last_lines());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the primary is reached through HAProxy.
    pub fn await_proxied(&self, node: &Node) {
        let port = node.server.port;
        await_that("HAProxy leads to the primary", || self.proxy.leads_to(port));
    }

    /// A new database, and a role that owns it.
    pub fn database(&self) -> Database<'_> {
        let database = self.leader().server.owned();
        let exists =
            format!("SELECT count(*) FROM pg_database WHERE datname = '{}'", database.name);
        await_that("every node has the database", || {
            self.nodes.iter().all(|node| node.server.number(&exists) == 1)
        });
        database
    }

    /// The URL with the hosts of all nodes.
    pub fn url(&self, database: &Database) -> String {
        let hosts = self.nodes.iter().map(Node::host);
        database.url_to(&hosts.collect::<Vec<_>>().join(","), "sslmode=disable")
    }

    /// The URL of HAProxy.
    pub fn proxied_url(&self, database: &Database) -> String {
        database.url_to(&format!("127.0.0.1:{}", self.proxy.port), "sslmode=disable")
    }
}

impl Drop for Patroni {
    /// Patroni ends before its servers, which it would start again.
    fn drop(&mut self) {
        if thread::panicking() {
            self.nodes.iter().for_each(|node| eprintln!("{}", node.last_lines()));
        }
        self.nodes.iter().for_each(Node::end_patroni);
    }
}
