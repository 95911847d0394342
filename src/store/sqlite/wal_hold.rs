//! For how long readers have kept the upkeep of a service from copying more of the WAL into the database file.
//!
//! Only the upkeep knows that, since it tries; a lock in `/proc/locks` has no time. So the service announces it to the
//! other cts processes, by the name of a thread: every user can read it, nothing is written for it, and it ends with the
//! process. The name holds the time since boot at which the hold began, which no change of the clock moves.

use std::fs;
use std::path::Path;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::file::has_wal;
use super::running::other_services;
use crate::system::clock::since_boot;

/// After so long a hold is no longer that of an ordinary read, and a person should know of it.
pub const HOLD_MAX: Duration = Duration::from_secs(60);
/// What the name of the announcing thread begins with; the seconds since boot follow. A name has at most 15 bytes
/// (`PR_SET_NAME` of prctl(2)).
const THREAD_PREFIX: &str = "wal-";

/// The hold that the upkeep sees; every part of the service has a clone.
#[derive(Clone, Default)]
pub struct WalHold(Arc<Mutex<HoldState>>);

#[derive(Default)]
struct HoldState {
    since: Option<Instant>,
    announcement: Option<Announcement>,
}

/// A thread that does nothing but have its name, as long as this exists.
struct Announcement(#[expect(dead_code, reason = "dropping it ends the thread")] Sender<()>);

impl WalHold {
    /// Notes since when no checkpoint could copy more; `None` where one could, or all is copied.
    pub fn note(&self, since: Option<Instant>, now: Instant) {
        let mut state = self.state();
        if state.since != since {
            *state = HoldState { since, announcement: None };
        }
        let is_due = since.is_some_and(|since| now.duration_since(since) >= HOLD_MAX);
        if is_due && state.announcement.is_none() {
            state.announcement = since.and_then(|since| announce(now.duration_since(since)));
        }
    }

    /// For how long that is so; `None` while it is shorter than [`HOLD_MAX`].
    pub fn time(&self) -> Option<Duration> {
        self.state().since.map(|since| since.elapsed()).filter(|time| *time >= HOLD_MAX)
    }

    fn state(&self) -> MutexGuard<'_, HoldState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `None` where no thread can be started: the other processes do not know of the hold then.
fn announce(held: Duration) -> Option<Announcement> {
    let began = since_boot().saturating_sub(held).as_secs();
    let (end, ended) = mpsc::channel::<()>();
    let wait = move || {
        let _ = ended.recv();
    };
    thread::Builder::new().name(format!("{THREAD_PREFIX}{began}")).spawn(wait).ok()?;
    Some(Announcement(end))
}

/// The hold that a service of the database announces.
pub fn announced_hold(path: &Path) -> Option<Duration> {
    // To look at all processes takes some milliseconds.
    if !has_wal(path).unwrap_or(true) {
        return None;
    }
    other_services(path).into_iter().filter_map(hold_of).max()
}

/// The hold that a service of the database announces, this process or another.
pub fn known_hold(path: &Path) -> Option<Duration> {
    hold_of(std::process::id()).or_else(|| announced_hold(path))
}

fn hold_of(pid: u32) -> Option<Duration> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    let mut names =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok());
    let began = names.find_map(|name| name.trim_end().strip_prefix(THREAD_PREFIX)?.parse().ok())?;
    Some(since_boot().saturating_sub(Duration::from_secs(began)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_is_told_and_announced_after_a_minute_and_until_it_ends() {
        let (hold, own) = (WalHold::default(), std::process::id());
        // A machine that was started less than two minutes ago has no such moment.
        let Some(start) = Instant::now().checked_sub(Duration::from_secs(90)) else { return };
        hold.note(Some(start), start + Duration::from_secs(59));
        assert_eq!(hold_of(own), None);
        hold.note(Some(start), Instant::now());
        let about_90 =
            |time: Option<Duration>| time.is_some_and(|t| (89..99).contains(&t.as_secs()));
        assert!(about_90(hold.time()), "{:?}", hold.time());
        // A new thread has its name a moment after it was started.
        while hold_of(own).is_none() {
            thread::yield_now();
        }
        assert!(about_90(hold_of(own)), "{:?}", hold_of(own));
        hold.note(Some(Instant::now()), Instant::now());
        assert_eq!(hold.time(), None);
        while hold_of(own).is_some() {
            thread::yield_now();
        }
    }
}
