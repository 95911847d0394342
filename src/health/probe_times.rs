//! How long the inspections of the database took, as a histogram over the life of the service.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The upper bounds of the buckets in seconds. An inspection takes 0.1 to 1 ms on SQLite and some milliseconds on a server;
/// requests wait 3 s for one.
pub const BUCKETS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0];

/// The inspections that were recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RecordedProbes {
    /// By bucket, those that took no longer than its bound and longer than the one before; the last are the longer ones.
    pub counts: [u64; BUCKETS.len() + 1],
    /// The sum of their times in seconds.
    pub sum_seconds: f64,
}

impl RecordedProbes {
    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// Records how long inspections took; every thread has a clone.
#[derive(Clone, Default)]
pub struct ProbeTimes(Arc<Mutex<RecordedProbes>>);

impl ProbeTimes {
    /// Records one inspection, also one that failed.
    pub fn record(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let place = BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKETS.len());
        let mut recorded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = recorded.counts.get_mut(place) {
            *count += 1;
        }
        recorded.sum_seconds += seconds;
    }

    /// Those that were recorded until now.
    pub fn recorded(&self) -> RecordedProbes {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inspection_counts_in_the_bucket_of_its_time() {
        let times = ProbeTimes::default();
        for micros in [100, 101, 3_000_000, 3_000_001] {
            times.record(Duration::from_micros(micros));
        }
        let recorded = times.recorded();
        assert_eq!((recorded.counts[0], recorded.counts[1]), (1, 1));
        assert_eq!((recorded.counts[13], recorded.counts[14], recorded.count()), (1, 1, 4));
        assert!((recorded.sum_seconds - 6.000_202).abs() < 1e-9);
    }
}
