//! Counts the requests that were answered and the clients that were rejected, for the metrics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::health::render::{HttpFigures, RequestCount};

/// What a connection is counted as that was closed before its request was complete, or its response received, to admit
/// another client.
const SLOW: &str = "slow";

/// The status codes of refusals, with the names of their reasons.
const REASONS: [(u16, &str); 9] = [
    (400, "malformed"),
    (401, "token"),
    (403, "not_loopback"),
    (404, "path"),
    (405, "method"),
    (413, "body"),
    (421, "host"),
    (431, "too_long"),
    (505, "version"),
];

/// The counters of the server; every thread has a clone.
#[derive(Clone, Default)]
pub struct HttpCounters {
    /// By path, one of those that there are, and by status code.
    requests: Arc<Mutex<BTreeMap<(&'static str, u16), u64>>>,
    evicted: Arc<AtomicU64>,
}

impl HttpCounters {
    /// Counts a reply with this status code to a request for this path, or for one that there is not.
    pub fn record(&self, path: &'static str, status_code: u16) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((path, status_code)).or_default() += 1;
    }

    /// The counter of the connections that were closed to admit other clients.
    pub fn evicted(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.evicted)
    }

    /// What was counted until now. Every reason is there, so that its first refusal shows as an increase.
    pub fn figures(&self) -> HttpFigures {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let requests: Vec<RequestCount> = requests
            .iter()
            .map(|((path, status_code), count)| RequestCount {
                path,
                status_code: *status_code,
                count: *count,
            })
            .collect();
        let of_code = |code: u16| {
            let same = requests.iter().filter(|request| request.status_code == code);
            same.map(|request| request.count).sum()
        };
        let mut rejected: Vec<_> =
            REASONS.iter().map(|(code, reason)| (*reason, of_code(*code))).collect();
        rejected.push((SLOW, self.evicted.load(Ordering::Relaxed)));
        HttpFigures { requests, rejected }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_counted_by_path_and_code_and_refusals_by_reason() {
        let counters = HttpCounters::default();
        for (path, code) in [("/livez", 200), ("/livez", 200), ("/metrics", 401), ("other", 404)] {
            counters.record(path, code);
        }
        counters.evicted().fetch_add(3, Ordering::Relaxed);
        let HttpFigures { requests, rejected } = counters.figures();
        let livez = RequestCount { path: "/livez", status_code: 200, count: 2 };
        assert_eq!((requests[0], requests.len()), (livez, 3));
        let counted: Vec<_> = rejected.iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [&("token", 1), &("path", 1), &("slow", 3)]);
        assert_eq!(rejected.len(), REASONS.len() + 1);
    }
}
