//! Runs that are killed at moments spread over their duration, and a count of how they ended.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crate::support::harness::Run;

/// Moments at which a run is killed. More follow until enough runs were killed and enough have
/// completed, because a run may take longer or shorter than when its duration was measured.
const MOMENTS: u32 = 60;
const COMPLETED_AT_LEAST: u32 = 6;

/// Counts runs by whether they were killed, and by what was found afterwards.
pub struct KillSweep<K> {
    duration: Duration,
    moments: u32,
    seen: Mutex<BTreeMap<(bool, K), u32>>,
}

impl<K: Copy + Debug + Ord + Send> KillSweep<K> {
    /// `duration` is that of an undisturbed run.
    pub fn over(duration: Duration) -> KillSweep<K> {
        KillSweep::at(MOMENTS, duration)
    }

    /// At so many moments at least.
    pub fn at(moments: u32, duration: Duration) -> KillSweep<K> {
        KillSweep { duration, moments, seen: Mutex::new(BTreeMap::new()) }
    }

    fn killed_at_least(&self) -> u32 {
        self.moments / 3
    }

    /// The moments, each with the time from the start of the run to the kill.
    pub fn moments(&self) -> impl Iterator<Item = (u32, Duration)> + Send {
        (0..).map_while(|moment| Some((moment, self.delay(moment)?)))
    }

    fn delay(&self, moment: u32) -> Option<Duration> {
        let share = f64::from(moment) / f64::from(self.moments);
        let whole_runs = if moment < self.moments {
            share
        } else if self.count(false) < COMPLETED_AT_LEAST {
            share * share
        } else if self.count(true) < self.killed_at_least() {
            share.fract() / 4.0
        } else {
            return None;
        };
        Some(self.duration.mul_f64(whole_runs))
    }

    /// Number of runs that were killed, or that completed before.
    fn count(&self, is_killed: bool) -> u32 {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|(key, _)| key.0 == is_killed).map(|(_, count)| count).sum()
    }

    pub fn record(&self, is_killed: bool, found: K) {
        *self.seen.lock().unwrap().entry((is_killed, found)).or_default() += 1;
    }

    /// Prints the counts, and returns what was found after any run.
    pub fn found(self, name: &str) -> Vec<K> {
        let (killed, completed) = (self.count(true), self.count(false));
        let killed_at_least = self.killed_at_least();
        let seen = self.seen.into_inner().unwrap();
        eprintln!("{name}, {:?}: {seen:?}", self.duration);
        assert!(killed >= killed_at_least && completed > 0, "{name}: {seen:?}");
        seen.into_keys().map(|(_, found)| found).collect()
    }
}

/// Starts the run and kills it after the delay. Returns whether it was still running.
pub fn kill_after(delay: Duration, mut run: Run) -> bool {
    run.command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = run.command.spawn().unwrap();
    thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap().signal().is_some()
}
