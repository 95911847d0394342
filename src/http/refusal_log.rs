//! The log lines about refused requests, limited in number: a client cannot fill the log.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::http::reply::Reply;
use crate::system::log::Log;

/// Minimum interval between two lines for the same status code.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// Logs refusals.
pub struct RefusalLog {
    log: Log,
    state: Mutex<RefusalLogState>,
}

#[derive(Default)]
struct RefusalLogState {
    /// By status code.
    lines: BTreeMap<u16, LastLine>,
}

struct LastLine {
    written_at: Instant,
    /// Refusals since then that have not been logged.
    suppressed: u64,
}

impl RefusalLog {
    /// Logs refusals to `log`.
    pub fn new(log: Log) -> RefusalLog {
        RefusalLog { log, state: Mutex::default() }
    }

    /// Logs that a client received this reply, unless a line with the same status code was written within
    /// [`LINE_INTERVAL`].
    pub fn record(&self, reply: &Reply, client: IpAddr) {
        let Some(suppressed) = self.state().begin_line(reply.status_code) else { return };
        let more = match suppressed {
            0 => String::new(),
            count => format!(", after {count} more like it"),
        };
        let code = reply.status_code;
        self.log.warn(format_args!("refused {client} ({code}){more}: {:.300}", reply.body));
    }

    fn state(&self) -> MutexGuard<'_, RefusalLogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RefusalLogState {
    /// If a line may be written now, the number of refusals that were not logged since the last one.
    fn begin_line(&mut self, code: u16) -> Option<u64> {
        if let Some(last) = self.lines.get_mut(&code)
            && last.written_at.elapsed() < LINE_INTERVAL
        {
            last.suppressed += 1;
            return None;
        }
        let line = LastLine { written_at: Instant::now(), suppressed: 0 };
        Some(self.lines.insert(code, line).map_or(0, |last| last.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_with_the_same_status_code_are_counted_until_the_next_line() {
        let mut state = RefusalLogState::default();
        assert_eq!(state.begin_line(404), Some(0));
        assert_eq!((state.begin_line(404), state.begin_line(404)), (None, None));
        assert_eq!(state.begin_line(403), Some(0), "the first of its status code is always logged");
        if let Some(last) = state.lines.get_mut(&404) {
            last.written_at -= LINE_INTERVAL;
        }
        assert_eq!(state.begin_line(404), Some(2));
    }
}
