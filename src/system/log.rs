//! Log lines on standard error: one line for each event, with the prefix `[v0] `, and under systemd
//! the priority that journald reads (sd-daemon(3)). To log is to add a line to a queue: nobody waits for
//! the reader of the log, except the end of the process, for some seconds.

use std::any::Any;
use std::env;
use std::fmt::Display;
use std::io::{self, IsTerminal};
use std::panic;
use std::time::Duration;

use super::log_queue::LogLine;
use super::log_writer::{FlushTimeout, LogWriter};
use crate::system::colour::{coloured, has_colour};
use crate::system::visible::visible;

/// The writer of the one standard error that a process has.
static STANDARD_ERROR: LogWriter = LogWriter::new();

/// How long a command waits at its end for a reader of its log who does not read: nothing is locked
/// any longer, and a slow reader loses no line.
const COMMAND_FLUSH: FlushTimeout =
    FlushTimeout { without_progress: Duration::from_secs(10), total: Duration::MAX };
/// The same for the service; with the time for requests and for the closing of the database less than
/// the TimeoutStopSec of its unit; without a reader less than what a second signal to stop allows.
const SERVICE_FLUSH: FlushTimeout =
    FlushTimeout { without_progress: Duration::from_millis(1500), total: Duration::from_secs(5) };
/// The same for a process that ends at once.
const LAST_WORDS_FLUSH: FlushTimeout = FlushTimeout {
    without_progress: Duration::from_millis(200),
    total: Duration::from_millis(500),
};

/// Waits at the end of a command until its log is written, or nobody reads it.
pub fn flush_command_log() {
    STANDARD_ERROR.flush(COMMAND_FLUSH);
}

/// Waits at the end of the service until its log is written, some seconds at most.
pub fn flush_service_log() {
    STANDARD_ERROR.flush(SERVICE_FLUSH);
}

/// Waits until the log is written, half a second at most.
pub fn flush_last_words() {
    STANDARD_ERROR.flush(LAST_WORDS_FLUSH);
}

/// Which events are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Warnings and errors only.
    Quiet,
    /// Also what went as it should.
    #[default]
    Normal,
    /// Also details.
    Verbose,
}

/// The log on standard error.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    verbosity: Verbosity,
    priorities: bool,
    has_colour: bool,
}

impl Log {
    /// A log on standard error. Priorities are written if `JOURNAL_STREAM` is set, so that journald
    /// reads it, and it is not a terminal, which inherits that variable from a service; a terminal gets colour for the signs.
    pub fn new(verbosity: Verbosity) -> Log {
        let journal = env::var_os("JOURNAL_STREAM").is_some_and(|stream| !stream.is_empty());
        let (is_terminal, has_colour) = (io::stderr().is_terminal(), has_colour(&io::stderr()));
        Log { verbosity, priorities: journal && !is_terminal, has_colour }
    }

    /// Whether standard error is a terminal on which events are shown.
    pub fn is_watched(&self) -> bool {
        self.verbosity >= Verbosity::Normal && io::stderr().is_terminal()
    }

    /// A detail, logged with `--verbose` only.
    pub fn detail(&self, event: impl Display) {
        self.line(Verbosity::Verbose, 7, &event);
    }

    /// What went as it should.
    pub fn info(&self, event: impl Display) {
        self.line(Verbosity::Normal, 6, &event);
    }

    /// What an operator should attend to.
    pub fn warn(&self, event: impl Display) {
        self.line(Verbosity::Quiet, 4, &format_args!("⚠ {event}"));
    }

    /// What failed.
    pub fn error(&self, event: impl Display) {
        self.line(Verbosity::Quiet, 3, &format_args!("✗ {event}"));
    }

    /// Draws on the terminal that shows the log; what was not drawn yet is skipped.
    pub fn draw(&self, picture: String) {
        STANDARD_ERROR.draw(picture);
    }

    /// Logs panics, which are faults of cts, instead of writing them past the log.
    pub fn report_panics(self) {
        panic::set_hook(Box::new(move |panic| {
            let at = panic.location().map(|at| format!(" at {at}")).unwrap_or_default();
            let what = panic_message(panic.payload());
            self.error(format_args!("internal error{at}, a fault of cts: {what}"));
            flush_last_words();
        }));
    }

    fn line(&self, at_least: Verbosity, priority: u8, event: &dyn Display) {
        if self.verbosity < at_least {
            return;
        }
        let event = event.to_string();
        let text = visible(&event);
        let text = match self.has_colour {
            true => coloured(&text).into(),
            false => text,
        };
        let text = if self.priorities {
            format!("<{priority}>[v0] {text}\n")
        } else {
            format!("[v0] {text}\n")
        };
        STANDARD_ERROR.add(LogLine { text, has_priority: self.priorities });
    }
}

fn panic_message(payload: &dyn Any) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message")
}
