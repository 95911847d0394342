//! The addresses and configuration files of a Patroni cluster.

use crate::support::cluster::{SUPERUSER, ServerFiles, free_port};

use super::node::PASSWORD;

/// The ports on 127.0.0.1, one of each kind for every node.
pub struct Addresses {
    /// PostgreSQL.
    pub sql: Vec<u16>,
    /// Patroni's REST API.
    pub rest: Vec<u16>,
    /// Patroni's raft.
    pub raft: Vec<u16>,
}

impl Addresses {
    pub fn free(nodes: usize) -> Addresses {
        let ports = || (0..nodes).map(|_| free_port()).collect();
        Addresses { sql: ports(), rest: ports(), raft: ports() }
    }

    /// The configuration file of a node. The times are the shortest that Patroni allows (20, 1 and 3 s), but
    /// for `retry_timeout`, after which it demotes a primary on a busy machine.
    pub fn of_node(&self, at: usize, name: &str, folder: &str, scope: &str) -> String {
        let (sql, rest, raft) = (self.sql[at], self.rest[at], self.raft[at]);
        let others = self.raft.iter().filter(|port| **port != raft);
        let partners: Vec<_> = others.map(|port| format!("'127.0.0.1:{port}'")).collect();
        let partners = partners.join(", ");
        let programs = ServerFiles::of_this_process().server_programs();
        let programs = programs.display();
        format!(
            "scope: {scope}
name: {name}
restapi: {{listen: '127.0.0.1:{rest}', connect_address: '127.0.0.1:{rest}'}}
raft: {{data_dir: '{folder}/raft', self_addr: '127.0.0.1:{raft}', partner_addrs: [{partners}]}}
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 1
    retry_timeout: 5
    postgresql:
      use_pg_rewind: true
      parameters: {{max_connections: 100, wal_keep_size: 256MB}}
  initdb: [{{encoding: UTF8}}, {{locale: C.UTF-8}}, data-checksums, no-sync]
postgresql:
  listen: 127.0.0.1:{sql}
  connect_address: 127.0.0.1:{sql}
  data_dir: '{folder}/data'
  bin_dir: '{programs}'
  pgpass: '{folder}/pgpass'
  basebackup: [{{checkpoint: fast}}]
  authentication:
    superuser: {{username: {SUPERUSER}, password: {PASSWORD}}}
    replication: {{username: replicator, password: {PASSWORD}}}
  parameters:
    unix_socket_directories: '{folder}'
    shared_buffers: 16MB
    fsync: 'off'
    log_line_prefix: '%m [%p] %q%u@%d %a '
    wal_retrieve_retry_interval: 100ms
  pg_hba:
  - local all all trust
  - host replication replicator 127.0.0.1/32 scram-sha-256
  - host all all 127.0.0.1/32 scram-sha-256
"
        )
    }

    /// The configuration file of HAProxy, which asks Patroni's REST API which node is the primary.
    pub fn of_proxy(&self, port: u16) -> String {
        let servers = self.sql.iter().zip(&self.rest).enumerate();
        let servers = servers.map(|(at, (sql, rest))| {
            format!("    server n{at} 127.0.0.1:{sql} check port {rest}\n")
        });
        format!(
            "defaults
    mode tcp
    timeout connect 2s
    timeout client 10m
    timeout server 10m
listen primary
    bind 127.0.0.1:{port}
    option httpchk OPTIONS /primary
    http-check expect status 200
    default-server inter 1s fall 2 rise 1 on-marked-down shutdown-sessions
{}",
            servers.collect::<String>()
        )
    }
}
