//! Signals: requests to stop (SIGTERM, SIGINT, SIGQUIT, and SIGHUP from a terminal), and those whose default
//! action would end the process without a reason to. The only file that handles signals. SIGPIPE is
//! ignored by the standard library.

use std::fs;
use std::io;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::iterator::Signals;
use signal_hook::{flag, low_level};

use crate::error::{Error, Kind, Result};
use crate::system::deadline::cannot_start_thread;
use crate::system::log::{Log, flush_last_words};

const STOP_SIGNALS: [i32; 3] = [SIGTERM, SIGINT, SIGQUIT];
/// Signals that some programs take as a request; their default action ends a process.
const UNUSED_SIGNALS: [i32; 2] = [SIGUSR1, SIGUSR2];

/// Time after a second request to stop within which the process may still end by itself: enough to empty
/// the WAL as a rule. One key press can arrive as two signals, of the terminal and of a parent process.
const SECOND_STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause between two looks for a third request.
const THIRD_STOP_INTERVAL: Duration = Duration::from_millis(20);

/// Whether the process has nothing left to do but to write its log.
static IS_WORK_DONE: AtomicBool = AtomicBool::new(false);

/// The id of the first process of a container.
const FIRST_PROCESS: u32 = 1;
/// Added to the number of a signal, the exit code that shells and container runtimes give for it.
const FATAL_SIGNAL: i32 = 128;
/// Whether a request to stop ends the first process of a container at once.
static ENDS_FIRST_PROCESS: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Announces that the database is closed, and that nothing is left to do but to write the log.
pub fn announce_work_done() {
    IS_WORK_DONE.store(true, Ordering::SeqCst);
}

/// A request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopSignal {
    signal: i32,
    /// Whether there was one before.
    pub is_repeated: bool,
}

impl StopSignal {
    /// The name, such as `SIGTERM`.
    pub fn name(self) -> &'static str {
        name(self.signal)
    }
}

fn name(signal: i32) -> &'static str {
    low_level::signal_name(signal).unwrap_or("signal")
}

/// What SIGHUP means to the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HangupMeaning {
    /// The terminal was closed, or the connection to it was lost: a request to stop.
    Stop,
    /// A request to read the settings again, which is reported and has no effect.
    Reported,
    /// It was ignored when the process started (`nohup`) and stays so.
    Ignored,
}

impl HangupMeaning {
    /// For the service: without a terminal, the signal comes from a person or a program that takes it for
    /// a request to read the settings again (`kill -HUP`, logrotate).
    pub fn of_service() -> HangupMeaning {
        match !is_hangup_ignored() && has_terminal() {
            true => HangupMeaning::Stop,
            false => HangupMeaning::Reported,
        }
    }

    /// For a command.
    pub fn of_command() -> HangupMeaning {
        if is_hangup_ignored() { HangupMeaning::Ignored } else { HangupMeaning::Stop }
    }
}

/// Whether the process has a controlling terminal, which only then can be opened by this name (tty(4)).
fn has_terminal() -> bool {
    fs::File::open("/dev/tty").is_ok()
}

/// Whether SIGHUP was ignored when the process started, which is inherited (proc(5), `SigIgn`).
fn is_hangup_ignored() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| is_ignored_in(&status, SIGHUP))
}

fn is_ignored_in(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Ignores SIGXFSZ: a write beyond the limit on file sizes then fails with an error instead of ending the
/// process.
///
/// # Errors
///
/// [`Kind::Io`] if the signal cannot be handled.
pub fn ignore_file_size_signal() -> Result<()> {
    // A handler that does nothing else; the flag is never read.
    let received = Arc::new(AtomicBool::new(false));
    flag::register(SIGXFSZ, received).map(drop).map_err(cannot_handle)
}

/// Makes the requests to stop end the process if it is the first one of a container, for which no signal has a
/// default action (pid_namespaces(7)), until [`watch_signals`] handles them.
///
/// # Errors
///
/// [`Kind::Io`] if the signals cannot be handled.
pub fn end_first_process() -> Result<()> {
    if process::id() != FIRST_PROCESS {
        return Ok(());
    }
    let ends = ENDS_FIRST_PROCESS.get_or_init(|| Arc::new(AtomicBool::new(true)));
    for signal in STOP_SIGNALS {
        flag::register_conditional_shutdown(signal, FATAL_SIGNAL + signal, Arc::clone(ends))
            .map_err(cannot_handle)?;
    }
    Ok(())
}

/// A flag that becomes true at the first request to stop. Further ones are treated as
/// [`watch_signals`] says.
///
/// # Errors
///
/// As [`watch_signals`].
pub fn stop_flag(log: Log) -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&stop);
    watch_signals(log, HangupMeaning::of_command(), move |_| set.store(true, Ordering::Relaxed))?;
    Ok(stop)
}

/// Calls `on_stop` in a thread of its own at the first and the second request to stop. A process that has
/// not ended some seconds after the second one, or at the third, is ended, which is logged. Other signals
/// that would end the process are logged and have no effect.
///
/// # Errors
///
/// [`Kind::Io`] if the signals cannot be handled or the thread cannot be started.
pub fn watch_signals(
    log: Log,
    hangup: HangupMeaning,
    on_stop: impl Fn(StopSignal) + Send + 'static,
) -> Result<()> {
    let handled = STOP_SIGNALS.iter().chain(&UNUSED_SIGNALS);
    let hangup_signal = (hangup != HangupMeaning::Ignored).then_some(&SIGHUP);
    let mut signals = Signals::new(handled.chain(hangup_signal)).map_err(cannot_handle)?;
    ENDS_FIRST_PROCESS.get().iter().for_each(|ends| ends.store(false, Ordering::SeqCst));
    let is_stop = move |signal| {
        STOP_SIGNALS.contains(&signal) || (signal == SIGHUP && hangup == HangupMeaning::Stop)
    };
    let watch = move || {
        let mut is_repeated = false;
        loop {
            let Some(signal) = signals.forever().next() else { return };
            if !is_stop(signal) {
                report_unused(log, signal);
                continue;
            }
            on_stop(StopSignal { signal, is_repeated });
            if is_repeated {
                return end_soon(log, signal, &mut signals, is_stop);
            }
            is_repeated = true;
        }
    };
    let thread = thread::Builder::new().name("signals".into()).spawn(watch);
    thread.map(drop).map_err(|e| cannot_start_thread(&e))
}

fn report_unused(log: Log, signal: i32) {
    let name = name(signal);
    match signal {
        SIGHUP => log.warn(format_args!(
            "{name} has no effect: cts reads its settings when it starts, so restart it to apply changed ones"
        )),
        _ => log.warn(format_args!("{name} has no effect")),
    }
}

/// After the second request to stop: ends the process unless it ends by itself meanwhile.
fn end_soon(log: Log, second: i32, signals: &mut Signals, is_stop: impl Fn(i32) -> bool) {
    let seconds = SECOND_STOP_TIMEOUT.as_secs();
    if !IS_WORK_DONE.load(Ordering::SeqCst) {
        log.warn(format_args!(
            "Asked to stop again: cts ends as soon as the database is closed, within {seconds} s"
        ));
    }
    let deadline = Instant::now() + SECOND_STOP_TIMEOUT;
    let mut third = None;
    while third.is_none() && Instant::now() < deadline {
        thread::sleep(THIRD_STOP_INTERVAL);
        third = signals.pending().find(|signal| is_stop(*signal));
    }
    if !IS_WORK_DONE.load(Ordering::SeqCst) {
        log.error(
        "Ended before the database was closed: what was committed is kept, a transaction in progress is rolled back, \
         and the next start empties the WAL",
    );
    }
    flush_last_words();
    // The default action of SIGQUIT writes a core file, which would contain passwords.
    let ends = match third.unwrap_or(second) {
        SIGQUIT => SIGTERM,
        other => other,
    };
    if process::id() == FIRST_PROCESS {
        // As in `end_first_process`.
        low_level::exit(FATAL_SIGNAL + ends);
    }
    let _ = low_level::emulate_default_handler(ends);
}

fn cannot_handle(cause: io::Error) -> Error {
    Error::new(Kind::Io, "cannot handle signals").caused_by(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_signal_is_read_from_the_mask_of_the_process() {
        let status =
            |mask: &str| format!("Name:\tcts\nSigBlk:\t0000000000000001\nSigIgn:\t{mask}\n");
        assert!(is_ignored_in(&status("0000000000001001"), SIGHUP));
        assert!(!is_ignored_in(&status("0000000000001000"), SIGHUP));
        assert!(is_ignored_in(&status("0000000000001000"), signal_hook::consts::SIGPIPE));
        assert!(!is_ignored_in("", SIGHUP));
    }
}
