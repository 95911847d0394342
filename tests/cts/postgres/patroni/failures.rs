//! The ways in which a cluster gets another primary, or the same one again.

use crate::support::harness::await_that;
use crate::support::patroni::{Node, Patroni};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Failure {
    /// An operator asks for another leader; the old one becomes a replica.
    Switchover,
    /// SIGKILL of the postmaster; Patroni starts the server again.
    PostmasterKilled,
    /// SIGKILL of all processes of the node.
    NodeKilled,
    /// SIGKILL of Patroni alone: its server stays a primary, and another node becomes one too.
    PatroniKilled,
}

impl Failure {
    pub const ALL: [Failure; 4] = [
        Failure::Switchover,
        Failure::PostmasterKilled,
        Failure::NodeKilled,
        Failure::PatroniKilled,
    ];

    /// Makes the leader fail.
    pub fn happens_to(self, old: &Node, patroni: &Patroni) {
        match self {
            Failure::Switchover => {
                let next = patroni.nodes().iter().find(|node| node.name() != old.name());
                patroni.switchover(old, next.unwrap());
            }
            Failure::PostmasterKilled => old.kill_postmaster(),
            Failure::NodeKilled => old.kill(),
            Failure::PatroniKilled => old.kill_patroni(),
        }
    }

    /// Waits for the primary that follows, and returns it as soon as it can be written to.
    pub fn next_primary<'a>(self, old: &'a Node, patroni: &'a Patroni) -> &'a Node {
        if self != Failure::PostmasterKilled {
            return patroni.await_primary_besides(old);
        }
        await_that("the server is started again", || old.is_primary());
        old
    }

    /// Brings the old leader back, and waits until every node is there again.
    pub fn ends(self, old: &Node, patroni: &Patroni) {
        if matches!(self, Failure::NodeKilled | Failure::PatroniKilled) {
            old.start_again();
        }
        patroni.await_complete();
    }
}
