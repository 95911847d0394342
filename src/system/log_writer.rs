//! The thread that writes the log to standard error. Whoever logs only adds to a bounded queue: a pipe that
//! nobody reads, a stalled journal or a stopped terminal holds up this thread and no other. Lines that were
//! dropped meanwhile, or that could not be written, are counted, which the next line that is written says.

use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::log_queue::{DueLine, LogLine, LogQueue};
use super::output::write_all;

/// Stack of the thread: it writes texts that others have made.
const STACK_BYTES: usize = 128 << 10;
/// Interval between two looks whether a reader has made progress.
const FLUSH_INTERVAL: Duration = Duration::from_millis(20);

/// How long the end of the process waits for lines that are not written yet.
#[derive(Clone, Copy, Debug)]
pub struct FlushTimeout {
    /// Without any progress of the reader.
    pub without_progress: Duration,
    /// Altogether.
    pub total: Duration,
}

/// Writes lines to standard error, on a thread of its own that the first line starts.
pub struct LogWriter {
    state: Mutex<LogWriterState>,
    /// Notified when something is added, and when something has been written.
    changed: Condvar,
}

struct LogWriterState {
    queue: LogQueue,
    /// The picture of a progress bar that is due; a newer one replaces it.
    picture: Option<String>,
    /// Whether the thread is writing something that it has taken.
    is_writing: bool,
    /// How often the thread has finished to write something.
    finished: u64,
    thread: WriterThread,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum WriterThread {
    NotStarted,
    Running,
    /// The operating system starts none: whoever logs writes.
    Refused,
}

/// What the thread writes next.
enum Due {
    Picture(String),
    Line(DueLine),
}

impl LogWriter {
    /// A writer without lines.
    pub const fn new() -> LogWriter {
        LogWriter {
            state: Mutex::new(LogWriterState {
                queue: LogQueue::new(),
                picture: None,
                is_writing: false,
                finished: 0,
                thread: WriterThread::NotStarted,
            }),
            changed: Condvar::new(),
        }
    }

    /// Adds a line. Never waits for the reader of the log.
    pub fn add(&'static self, line: LogLine) {
        self.change(|state| state.queue.push(line));
    }

    /// Sets the picture of a progress bar, which is drawn before the lines that wait.
    pub fn draw(&'static self, picture: String) {
        self.change(|state| state.picture = Some(picture));
    }

    fn change(&'static self, change: impl FnOnce(&mut LogWriterState)) {
        let mut state = self.state();
        if state.thread == WriterThread::NotStarted {
            let builder = thread::Builder::new().name("log".into()).stack_size(STACK_BYTES);
            state.thread = match builder.spawn(|| self.write_forever()) {
                Ok(_) => WriterThread::Running,
                Err(_) => WriterThread::Refused,
            };
        }
        change(&mut state);
        if state.thread == WriterThread::Refused {
            let mut losses = Losses::default();
            while let Some(due) = state.take_due() {
                losses.write(due);
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    fn write_forever(&self) {
        let mut losses = Losses::default();
        loop {
            losses.write(self.next_due());
            let mut state = self.state();
            state.is_writing = false;
            state.finished += 1;
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Waits until there is something to write.
    fn next_due(&self) -> Due {
        let mut state = self.state();
        loop {
            if let Some(due) = state.take_due() {
                state.is_writing = true;
                return due;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until everything is written, as long as `timeout` allows. What is left then is lost.
    pub fn flush(&self, timeout: FlushTimeout) {
        let start = Instant::now();
        let (mut progress, mut progress_at) = (None, start);
        let mut state = self.state();
        while state.has_unwritten()
            && start.elapsed() < timeout.total
            && progress_at.elapsed() < timeout.without_progress
        {
            // A pipe also tells how many bytes its reader has left in it.
            let seen = Some((state.finished, rustix::io::ioctl_fionread(io::stderr()).ok()));
            if seen != progress {
                (progress, progress_at) = (seen, Instant::now());
            }
            let woken = self.changed.wait_timeout(state, FLUSH_INTERVAL);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn state(&self) -> MutexGuard<'_, LogWriterState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogWriterState {
    fn take_due(&mut self) -> Option<Due> {
        self.picture.take().map(Due::Picture).or_else(|| self.queue.pop().map(Due::Line))
    }

    fn has_unwritten(&self) -> bool {
        self.is_writing || self.picture.is_some() || !self.queue.is_empty()
    }
}

/// The lines that were lost since the last one that was written.
#[derive(Debug, Default)]
struct Losses {
    lines: u64,
    /// Why the last of them could not be written; `None` if it was dropped from the queue.
    cause: Option<io::Error>,
    /// Whether only the beginning of the last line was written.
    is_within_line: bool,
}

impl Losses {
    /// Writes to standard error. What cannot be written is counted; that the log is lost must not stop
    /// the program.
    fn write(&mut self, due: Due) {
        let DueLine { line, dropped_before } = match due {
            Due::Picture(picture) => {
                let _ = write_all(&io::stderr(), &mut picture.as_bytes());
                return;
            }
            Due::Line(due) => due,
        };
        if dropped_before > 0 {
            (self.lines, self.cause) = (self.lines + dropped_before, None);
        }
        let text = self.announcement(line.has_priority) + &line.text;
        let mut left = text.as_bytes();
        match write_all(&io::stderr(), &mut left) {
            Ok(()) => *self = Losses::default(),
            Err(cause) => {
                let is_within_line =
                    left.len() < text.len() || (self.is_within_line && left.len() == text.len());
                *self = Losses { lines: self.lines + 1, cause: Some(cause), is_within_line };
            }
        }
    }

    /// What is written before the next line: that lines are missing, on a line of its own.
    fn announcement(&self, has_priority: bool) -> String {
        let line_end = if self.is_within_line { "\n" } else { "" };
        if self.lines == 0 {
            return line_end.into();
        }
        let why = match &self.cause {
            None => "standard error was not read".to_string(),
            Some(cause) => format!("standard error could not be written ({cause})"),
        };
        let priority = if has_priority { "<4>" } else { "" };
        let lines = self.lines;
        format!("{line_end}{priority}[v0] ⚠ {lines} lines of the log are missing here: {why}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_lines_are_counted_with_their_cause_on_a_line_of_their_own() {
        assert_eq!(Losses::default().announcement(true), "");
        let dropped = Losses { lines: 7, ..Losses::default() };
        assert_eq!(
            dropped.announcement(true),
            "<4>[v0] ⚠ 7 lines of the log are missing here: standard error was not read\n"
        );
        let cause = Some(io::Error::from_raw_os_error(28));
        let failed = Losses { lines: 2, cause, is_within_line: true };
        let text = failed.announcement(false);
        assert!(text.starts_with("\n[v0] ⚠ 2 lines of the log are missing here: "), "{text}");
        assert!(text.contains("No space left on device") && text.ends_with(")\n"), "{text}");
    }
}
