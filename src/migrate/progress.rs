//! Tells how far long work is: a bar on a terminal, else a line every few seconds.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::store::Progress;
use crate::system::log::Log;

/// Between two lines; work that is done sooner says nothing.
const PAUSE: Duration = Duration::from_secs(5);
/// Rows from which on it is said when something begins that tells nothing on its way.
const MANY: u64 = 500_000;
const BAR: &str = "{msg} {wide_bar} {percent} %, {eta} left";

/// Tells it.
pub struct ProgressReporter {
    log: Log,
    bar: RefCell<Option<ProgressBar>>,
    said: Cell<Instant>,
}

impl ProgressReporter {
    /// One that has said nothing yet.
    pub fn new(log: Log) -> ProgressReporter {
        ProgressReporter { log, bar: RefCell::new(None), said: Cell::new(Instant::now()) }
    }

    /// Tells how far it is, if it is time to. Returns the sentence then.
    pub fn tell(&self, progress: Progress<'_>) -> Option<String> {
        let Progress { object, done, total } = progress;
        if self.log.is_watched() {
            self.draw(progress);
            return None;
        }
        let is_long = done == 0 && total >= MANY;
        if !is_long && self.said.get().elapsed() < PAUSE {
            return None;
        }
        self.said.set(Instant::now());
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
        bar.set_message(object.to_string());
        bar.set_length(total);
        bar.set_position(done);
        if done >= total {
            // It makes room for the line that says what was done.
            bar.finish_and_clear();
            bar.reset();
        }
    }
}
