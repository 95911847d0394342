//! Reports the progress of long-running work, and what is waited for: a bar on a terminal, else a
//! line every few seconds.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::store::{Progress, WaitReason};
use crate::system::log::Log;
use crate::system::visible::visible;

/// Time between two lines; work that is done sooner is not reported.
const PAUSE: Duration = Duration::from_secs(5);
/// Rows from which on the beginning is reported too: an index build reports nothing in between.
const MANY: u64 = 500_000;
const BAR: &str = "{msg} {wide_bar} {percent} %, {eta} left";

/// Logs a wait, and returns the sentence.
pub fn log_wait(log: Log, wait: &WaitReason, waited: Duration) -> String {
    let text = format!("waiting for {wait}, for {} s so far", waited.as_secs());
    log.warn(&text);
    text
}

/// Reports progress to a terminal or the log.
pub struct ProgressReporter {
    log: Log,
    bar: RefCell<Option<ProgressBar>>,
    reported_at: Cell<Instant>,
}

impl ProgressReporter {
    /// One that has reported nothing yet.
    pub fn new(log: Log) -> ProgressReporter {
        ProgressReporter { log, bar: RefCell::new(None), reported_at: Cell::new(Instant::now()) }
    }

    /// Reports progress where that is due. Returns the sentence then.
    pub fn report(&self, progress: Progress<'_>) -> Option<String> {
        let Progress { object, done, total } = progress;
        if self.log.is_watched() {
            self.draw(progress);
            return None;
        }
        let is_long = done == 0 && total >= MANY;
        if !is_long && self.reported_at.get().elapsed() < PAUSE {
            return None;
        }
        self.reported_at.set(Instant::now());
        let percent = done * 100 / total.max(1);
        let text = format!("making {object}: {done} of {total} rows, {percent} %");
        self.log.info(&text);
        Some(text)
    }

    fn draw(&self, Progress { object, done, total }: Progress<'_>) {
        let mut bar = self.bar.borrow_mut();
        let bar = bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            match ProgressStyle::with_template(BAR) {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            }
        });
        bar.set_message(visible(&object.to_string()).into_owned());
        bar.set_length(total);
        bar.set_position(done);
        if done >= total {
            // The line that reports the result takes its place.
            bar.finish_and_clear();
            bar.reset();
        }
    }
}
