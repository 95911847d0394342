//! The HTTP server of the appliance: the listener, the gate in front of it, and the replies.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::http::access::HttpAccess;
use crate::http::client::get;
use crate::http::counters::HttpCounters;
use crate::http::exchange::Request;
use crate::http::gate::{Gate, Responder};
use crate::http::listener::listen;
use crate::http::refusal_log::RefusalLog;
use crate::http::reply::{Reply, counted_path, reply_to};
use crate::http::response::{ResponseFormat, serialize};
use crate::http::source::Source;
use crate::system::address::of_own_listener;
use crate::system::log::Log;

/// A running server.
pub struct HttpServer {
    gate: Gate,
    address: SocketAddr,
    /// Whether the status page answers nobody before a token is set.
    pub lacks_token: bool,
}

impl HttpServer {
    /// Binds the configured address, or takes the socket that systemd passes, and begins to answer.
    /// `source` is asked for each request that needs the state of the database, and each is counted in `counters`.
    ///
    /// # Errors
    ///
    /// Those of the listener: [`Kind::Unavailable`], [`Kind::Permission`] or [`Kind::Config`]. Nothing
    /// listens then.
    pub fn start(
        config: &Config,
        log: Log,
        source: impl Source + 'static,
        counters: HttpCounters,
    ) -> Result<HttpServer> {
        let listener = listen(&config.listen)?;
        let address = listener.local_addr().map_err(|cause| {
            Error::new(Kind::Unavailable, format!("the listener has no address: {cause}"))
        })?;
        let access = HttpAccess {
            admin_token: config.admin_token.clone(),
            allowed_hosts: config.allowed_hosts.clone(),
            is_loopback: address.ip().is_loopback(),
        };
        let lacks_token = access.lacks_token();
        let responder =
            SourceResponder { access, source, refusals: RefusalLog::new(log), counters };
        let gate = Gate::open(listener, config.listen.connections_max, Box::new(responder))?;
        Ok(HttpServer { gate, address, lacks_token })
    }

    /// The address that the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether a request of the process to its own `/livez` is answered within `timeout`: the server
    /// still accepts and answers.
    pub fn answers_itself(&self, timeout: Duration) -> bool {
        let address = of_own_listener(self.address);
        get(address, &address.to_string(), "/livez", timeout)
            .is_ok_and(|response| response.status_code == 200)
    }

    /// Accepts no more connections and waits for the responses in progress, at most `timeout` and no longer
    /// than `is_hurried` is false.
    pub fn stop(&self, timeout: Duration, is_hurried: &AtomicBool) {
        self.gate.close(timeout, is_hurried);
    }
}

/// Answers with what the source knows, and logs refusals.
struct SourceResponder<S> {
    access: HttpAccess,
    source: S,
    refusals: RefusalLog,
    counters: HttpCounters,
}

impl<S: Source + 'static> Responder for SourceResponder<S> {
    fn evicted(&self) -> Arc<AtomicU64> {
        self.counters.evicted()
    }

    fn respond(&self, request: &Request, client: SocketAddr) -> Vec<u8> {
        let (reply, format) = match request {
            Ok(head) => (
                reply_to(head, &self.access, &self.source),
                ResponseFormat { is_http_1_1: head.is_http_1_1, omits_body: head.method == "HEAD" },
            ),
            Err(refusal) => (
                Reply::error(refusal.status_code(), refusal.reason()),
                ResponseFormat { is_http_1_1: true, omits_body: false },
            ),
        };
        let path = request.as_ref().map_or("other", |head| counted_path(head.path()));
        self.counters.record(path, reply.status_code, reply.is_refusal());
        if reply.is_refusal() {
            self.refusals.record(&reply, client.ip());
        }
        serialize(&reply, format)
    }
}
