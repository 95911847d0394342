//! The thread that takes the figures of the database now and then, beside the programs that use it, so that no request
//! does. It has no connection in between. Whatever fails in it leaves figures unknown or old, and does nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use rustix::process::setpriority_process;

use crate::error::Result;
use crate::health::FigureWatch;
use crate::store::Database;
use crate::system::deadline::BackgroundTask;

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

/// The running thread.
pub struct FigureThread {
    stopping: Arc<AtomicBool>,
    stop: Option<Sender<()>>,
    task: BackgroundTask<()>,
}

impl FigureThread {
    /// Starts to take the figures of a database that this process has open.
    ///
    /// # Errors
    /// [`Kind::Io`](crate::error::Kind::Io) if the thread cannot be started; the figures stay unknown then.
    pub fn start(database: Arc<dyn Database>, figures: FigureWatch) -> Result<FigureThread> {
        let (stop, stopped) = mpsc::channel();
        let stopping = Arc::new(AtomicBool::new(false));
        let is_stopping = Arc::clone(&stopping);
        let run = move || take_figures(&*database, &figures, &is_stopping, &stopped);
        let task = BackgroundTask::start(THREAD, run)?;
        Ok(FigureThread { stopping, stop: Some(stop), task })
    }

    /// Asks the thread to end, without waiting for it.
    pub fn cancel(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        drop(self.stop.take());
    }
}

impl Drop for FigureThread {
    /// A thread that hangs in a call of the operating system is left behind; it ends with the process.
    fn drop(&mut self) {
        self.cancel();
        let _ = self.task.within(STOP_TIMEOUT);
    }
}

fn take_figures(
    database: &dyn Database,
    figures: &FigureWatch,
    stopping: &Arc<AtomicBool>,
    stopped: &Receiver<()>,
) {
    // Where that is not permitted, figures are taken all the same. On Linux the value is that of the thread alone.
    let _ = setpriority_process(None, NICE);
    let mut next_tables = Instant::now() + TABLES_DELAY;
    loop {
        // What could not be measured is unknown, and not as it was.
        figures.set_sizes(database.measure_sizes(stopping).unwrap_or_default());
        let next_sizes = Instant::now() + database.sizes_interval();
        while Instant::now() < next_sizes {
            let next = next_sizes.min(next_tables);
            let pause = next.saturating_duration_since(Instant::now());
            if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            if Instant::now() >= next_tables {
                let pause = match database.measure_tables(stopping) {
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
