//! The thread that takes the figures of the database now and then, beside the programs that use it, so that no request
//! does. It has no connection in between. Whatever fails in it leaves figures unknown or old, and does nothing else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::health::FigureWatch;
use crate::service::work_thread::{WorkEnd, WorkThread, be_nice};
use crate::store::Database;

/// The name of the thread.
const THREAD: &str = "figures";
/// The nice value of the thread: the trading programs go first.
const NICE: i32 = 15;
/// The time from the start to the first measurement of the tables: programs connect first.
const TABLES_DELAY: Duration = Duration::from_secs(2);
/// The interval between two measurements of the tables.
const TABLES_INTERVAL: Duration = Duration::from_secs(600);
/// The interval after one that failed.
const TABLES_RETRY_INTERVAL: Duration = Duration::from_secs(60);
/// How long the end of the thread is waited for when the service stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Starts to take the figures of a database that this process has open.
///
/// # Errors
/// [`Kind::Io`](crate::error::Kind::Io) if the thread cannot be started; the figures stay unknown then.
pub fn start(database: Arc<dyn Database>, figures: FigureWatch) -> Result<WorkThread> {
    WorkThread::start(THREAD, STOP_TIMEOUT, move |end| take_figures(&*database, &figures, &end))
}

fn take_figures(database: &dyn Database, figures: &FigureWatch, end: &WorkEnd) {
    be_nice(NICE);
    let mut next_tables = Instant::now() + TABLES_DELAY;
    loop {
        // What could not be measured is unknown, and not as it was.
        figures.set_sizes(database.measure_sizes(&end.cancelled).unwrap_or_default());
        let next_sizes = Instant::now() + database.sizes_interval();
        while Instant::now() < next_sizes {
            let next = next_sizes.min(next_tables);
            let pause = next.saturating_duration_since(Instant::now());
            if !end.pause(pause) {
                return;
            }
            if Instant::now() >= next_tables {
                let pause = match database.measure_tables(&end.cancelled) {
                    Ok(measured) => {
                        figures.set_tables(measured);
                        TABLES_INTERVAL
                    }
                    // The figures of before stay, with their time.
                    Err(_) => TABLES_RETRY_INTERVAL,
                };
                next_tables = Instant::now() + pause;
            }
        }
    }
}
