//! Runs that are killed at moments spread over their duration, and a count of how they ended.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Debug;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::support::harness::Run;

/// Moments at which a run is killed. More follow until enough runs were killed and enough have
/// completed, because a run may take longer or shorter than when its duration was measured.
const MOMENTS: u32 = 60;

/// Of so many moments of a sweep those that are tried: all, or with `CTS_TEST_EVERY_NTH_MOMENT=N` every N-th. These begin
/// at another one in each run, so that a few runs try all.
pub fn tried(moments: u32) -> impl Iterator<Item = u32> + Send + Sync + Clone {
    tried_from(0).take_while(move |moment| *moment < moments)
}

/// As [`tried`], of moments from a number on, of which it is not known how many there are.
pub fn tried_from(number: u32) -> impl Iterator<Item = u32> + Send + Sync + Clone {
    let (step, first) = step();
    (number + first..).step_by(step as usize)
}

/// Whether all moments of sweeps are tried, however long that takes.
pub fn tries_all() -> bool {
    step().0 == 1
}

/// Every how many moments one is tried, and the number of the first one.
fn step() -> (u32, u32) {
    static STEP: OnceLock<(u32, u32)> = OnceLock::new();
    *STEP.get_or_init(|| {
        let text = env::var("CTS_TEST_EVERY_NTH_MOMENT").unwrap_or("1".to_string());
        let step: u32 = text.parse().ok().filter(|step| *step > 0).expect("a positive number");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let first = now.subsec_micros() % step;
        if step > 1 {
            eprintln!("of the moments of sweeps one in {step} is tried, from number {first} on");
        }
        (step, first)
    })
}

/// Counts runs by whether they were killed, and by what was found afterwards.
pub struct KillSweep<K> {
    duration: Duration,
    moments: u32,
    seen: Mutex<BTreeMap<(bool, K), usize>>,
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

    fn killed_at_least(&self) -> usize {
        tried(self.moments).count() / 3
    }

    fn completed_at_least(&self) -> usize {
        (tried(self.moments).count() / 10).max(2)
    }

    /// The moments, each with the time from the start of the run to the kill.
    pub fn moments(&self) -> impl Iterator<Item = (u32, Duration)> + Send {
        let spread = tried(self.moments).map(|moment| (moment, self.share(moment)));
        let more =
            tried_from(self.moments).map_while(|moment| Some((moment, self.later_share(moment)?)));
        spread.chain(more).map(|(moment, share)| (moment, self.duration.mul_f64(share)))
    }

    fn share(&self, moment: u32) -> f64 {
        f64::from(moment) / f64::from(self.moments)
    }

    /// The share of the duration after which a run is killed that follows those at all moments, while one is needed.
    fn later_share(&self, moment: u32) -> Option<f64> {
        let share = self.share(moment);
        if self.count(false) < self.completed_at_least() {
            Some(share * share)
        } else if self.count(true) < self.killed_at_least() {
            Some(share.fract() / 4.0)
        } else {
            None
        }
    }

    /// Number of runs that were killed, or that completed before.
    fn count(&self, is_killed: bool) -> usize {
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
