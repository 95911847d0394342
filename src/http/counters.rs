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
    replies: Arc<Mutex<RepliesCounted>>,
    evicted: Arc<AtomicU64>,
}

#[derive(Default)]
struct RepliesCounted {
    /// By path, one of those that there are, and by status code.
    requests: BTreeMap<(&'static str, u16), u64>,
    /// The refusals among them, by status code.
    refusals: BTreeMap<u16, u64>,
}

impl HttpCounters {
    /// Counts a reply with this status code to a request for this path, or for one that there is not.
    pub fn record(&self, path: &'static str, status_code: u16, is_refusal: bool) {
        let mut replies = self.replies.lock().unwrap_or_else(PoisonError::into_inner);
        *replies.requests.entry((path, status_code)).or_default() += 1;
        if is_refusal {
            *replies.refusals.entry(status_code).or_default() += 1;
        }
    }

    /// The counter of the connections that were closed to admit other clients.
    pub fn evicted(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.evicted)
    }

    /// What was counted until now. Every reason is there, so that its first refusal shows as an increase.
    pub fn figures(&self) -> HttpFigures {
        let replies = self.replies.lock().unwrap_or_else(PoisonError::into_inner);
        let requests = replies.requests.iter();
        let requests = requests.map(|(&(path, status_code), &count)| RequestCount {
            path,
            status_code,
            count,
        });
        let requests = requests.collect();
        let refused = |code: u16| replies.refusals.get(&code).copied().unwrap_or_default();
        let mut rejected: Vec<_> =
            REASONS.iter().map(|(code, reason)| (*reason, refused(*code))).collect();
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
        for (path, code, is_refusal) in [
            ("/livez", 200, false),
            ("/livez", 200, false),
            ("/metrics", 401, true),
            ("/", 401, false),
            ("other", 404, true),
        ] {
            counters.record(path, code, is_refusal);
        }
        counters.evicted().fetch_add(3, Ordering::Relaxed);
        let HttpFigures { requests, rejected } = counters.figures();
        let livez = RequestCount { path: "/livez", status_code: 200, count: 2 };
        assert_eq!((requests[1], requests.len()), (livez, 4));
        let counted: Vec<_> = rejected.iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [&("token", 1), &("path", 1), &("slow", 3)]);
        assert_eq!(rejected.len(), REASONS.len() + 1);
    }
}
