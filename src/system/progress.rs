//! Reports the progress of long-running work, and what is waited for: a bar on a terminal, else a
//! line every few seconds.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use crate::system::log::Log;
use crate::system::size::Bytes;
use crate::system::visible::visible;

/// Time between two lines; work that is done sooner is not reported.
const PAUSE: Duration = Duration::from_secs(5);
/// Rows from which on the beginning is reported too: an index build reports nothing in between.
const MANY_ROWS: u64 = 500_000;
/// How often a bar is drawn at most.
const PICTURES_PER_SECOND: u8 = 20;
/// Columns of a terminal that does not tell its size.
const COLUMNS_DEFAULT: u16 = 80;
const BAR: &str = "{msg} {wide_bar} {percent} %, {eta} left";
/// How long work has to be under way before its pace is reported.
const PACE_AFTER: Duration = Duration::from_secs(1);

/// What an amount of work is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkUnit {
    /// Rows of a table.
    Rows,
    /// Bytes of a file.
    Bytes,
}

/// How far a piece of work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkDone {
    /// What is done.
    pub done: u64,
    /// All of it.
    pub total: u64,
    /// What both are counted in.
    pub unit: WorkUnit,
}

impl WorkDone {
    /// `12 MiB of 250 MiB, 4 %`
    fn text(self) -> String {
        let WorkDone { done, total, unit } = self;
        let percent = u128::from(done) * 100 / u128::from(total.max(1));
        match unit {
            WorkUnit::Rows => format!("{done} of {total} rows, {percent} %"),
            WorkUnit::Bytes => format!("{} of {}, {percent} %", Bytes(done), Bytes(total)),
        }
    }

    /// Whether it is so much that its beginning is reported too.
    fn is_long(self) -> bool {
        self.unit == WorkUnit::Rows && self.total >= MANY_ROWS
    }
}

/// Logs a wait, and returns the sentence.
pub fn log_wait(log: Log, wait: &dyn Display, waited: Duration) -> String {
    let text = format!("waiting for {wait}, for {} s so far", waited.as_secs());
    log.warn(&text);
    text
}

/// How fast a piece of work on rows goes on.
struct Pace {
    work: String,
    began_at: Instant,
    done_before: u64,
}

impl Pace {
    /// ` (210000 rows/s, 3 s left)`, once that can be told.
    fn text(&self, WorkDone { done, total, .. }: WorkDone) -> String {
        let elapsed = self.began_at.elapsed();
        let rows = done.saturating_sub(self.done_before);
        let per_second = u128::from(rows) * 1000 / elapsed.as_millis().max(1);
        if elapsed < PACE_AFTER || per_second == 0 {
            return String::new();
        }
        let left = u128::from(total.saturating_sub(done)).div_ceil(per_second);
        let left = Duration::from_secs(u64::try_from(left).unwrap_or(u64::MAX));
        format!(" ({per_second} rows/s, {} left)", humantime::format_duration(left))
    }
}

/// Reports progress to a terminal or the log.
pub struct ProgressReporter {
    log: Log,
    bar: RefCell<Option<ProgressBar>>,
    reported_at: Cell<Instant>,
    pace: RefCell<Option<Pace>>,
}

impl ProgressReporter {
    /// One that has reported nothing yet.
    pub fn new(log: Log) -> ProgressReporter {
        ProgressReporter {
            log,
            bar: RefCell::new(None),
            reported_at: Cell::new(Instant::now()),
            pace: RefCell::new(None),
        }
    }

    /// Reports the progress of `work`, such as "copying the database", where that is due. Returns the sentence then.
    pub fn report(&self, work: &dyn Display, progress: WorkDone) -> Option<String> {
        let pace = match progress.unit {
            WorkUnit::Rows => self.pace(work, progress),
            WorkUnit::Bytes => String::new(),
        };
        if self.log.is_watched() {
            self.draw(&format!("{work}{pace}"), progress);
            return None;
        }
        let is_beginning = progress.done == 0 && progress.is_long();
        if !is_beginning && self.reported_at.get().elapsed() < PAUSE {
            return None;
        }
        self.reported_at.set(Instant::now());
        let text = format!("{work}: {}{pace}", progress.text());
        self.log.info(&text);
        Some(text)
    }

    /// The pace of work, as text. It begins with the first report of the work.
    fn pace(&self, work: &dyn Display, progress: WorkDone) -> String {
        let work = work.to_string();
        let mut pace = self.pace.borrow_mut();
        match &*pace {
            Some(known) if known.work == work && known.done_before <= progress.done => {
                known.text(progress)
            }
            _ => {
                let (began_at, done_before) = (Instant::now(), progress.done);
                *pace = Some(Pace { work, began_at, done_before });
                String::new()
            }
        }
    }

    fn draw(&self, work: &str, WorkDone { done, total, .. }: WorkDone) {
        let mut bar = self.bar.borrow_mut();
        let bar = bar.get_or_insert_with(|| {
            let terminal = Box::new(LogTerminal { log: self.log, picture: Mutex::default() });
            let target = ProgressDrawTarget::term_like_with_hz(terminal, PICTURES_PER_SECOND);
            let bar = ProgressBar::with_draw_target(Some(total), target);
            match ProgressStyle::with_template(BAR) {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            }
        });
        bar.set_message(visible(work).into_owned());
        bar.set_length(total);
        bar.set_position(done);
        if done >= total {
            // The line that reports the result takes its place.
            bar.finish_and_clear();
            bar.reset();
        }
    }
}

/// The terminal of the log. What is drawn is handed to the thread that writes the log, so that a terminal
/// that is stopped (Ctrl-S) does not hold up the work whose progress it shows.
#[derive(Debug)]
struct LogTerminal {
    log: Log,
    /// What is drawn at the next flush.
    picture: Mutex<String>,
}

impl LogTerminal {
    fn picture(&self) -> MutexGuard<'_, String> {
        self.picture.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, text: &str) -> io::Result<()> {
        self.picture().push_str(text);
        Ok(())
    }

    /// To move by 0 moves by 1.
    fn move_cursor(&self, by: usize, direction: char) -> io::Result<()> {
        if by == 0 { Ok(()) } else { self.add(&format!("\x1b[{by}{direction}")) }
    }
}

/// Cursor movements as every terminal has them (ECMA-48: CUU, CUD, CUF, CUB, EL).
impl TermLike for LogTerminal {
    fn width(&self) -> u16 {
        let size = rustix::termios::tcgetwinsize(io::stderr());
        size.map(|size| size.ws_col).ok().filter(|columns| *columns > 0).unwrap_or(COLUMNS_DEFAULT)
    }

    fn move_cursor_up(&self, lines: usize) -> io::Result<()> {
        self.move_cursor(lines, 'A')
    }

    fn move_cursor_down(&self, lines: usize) -> io::Result<()> {
        self.move_cursor(lines, 'B')
    }

    fn move_cursor_right(&self, columns: usize) -> io::Result<()> {
        self.move_cursor(columns, 'C')
    }

    fn move_cursor_left(&self, columns: usize) -> io::Result<()> {
        self.move_cursor(columns, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.add(text)?;
        self.add("\n")
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.add(text)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.add("\r\x1b[2K")
    }

    fn flush(&self) -> io::Result<()> {
        self.log.draw(std::mem::take(&mut *self.picture()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_told_after_a_second() {
        let amount = WorkDone { done: 5_000, total: 9_999, unit: WorkUnit::Rows };
        let pace = |began_at| Pace { work: String::new(), began_at, done_before: 1_000 };
        assert_eq!(pace(Instant::now()).text(amount), "");
        let earlier = Instant::now().checked_sub(Duration::from_secs(4)).unwrap();
        let text = pace(earlier).text(amount);
        assert!([" (1000 rows/s, 5s left)", " (999 rows/s, 6s left)"].contains(&&*text), "{text}");
    }

    #[test]
    fn progress_is_told_in_rows_and_in_mebibytes() {
        let text = |done, total, unit| WorkDone { done, total, unit }.text();
        assert_eq!(text(5, 20, WorkUnit::Rows), "5 of 20 rows, 25 %");
        assert_eq!(text(3 << 20, 12 << 20, WorkUnit::Bytes), "3072 KiB of 12 MiB, 25 %");
        assert_eq!(text(u64::MAX, u64::MAX, WorkUnit::Rows).rsplit(", ").next(), Some("100 %"));
        assert_eq!(text(0, 0, WorkUnit::Bytes), "0 KiB of 0 KiB, 0 %");
    }
}
