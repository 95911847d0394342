//! How many rows are deleted at once, and the pause after: no program that writes may wait for long.

use std::time::Duration;

/// How long rows are deleted in one transaction; its commit takes some time too.
pub const DELETE_TIME: Duration = Duration::from_millis(4);
/// The least pause. With SQLite's own pauses (0, 1, 3, 8, 18 ms after the first attempt) a program that has met a
/// transaction of 5 ms tries again within 8 ms, in which the lock is free.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// The pause after a lock that was taken, which becomes longer each time.
const BUSY_PAUSE: Duration = Duration::from_millis(2);
const BUSY_PAUSE_MAX: Duration = Duration::from_millis(50);
/// Rows of the first batch, of the shortest and of the longest one. On a slow disk each row of the first one may have to be
/// read.
const ROWS_FIRST: usize = 20;
const ROWS_MIN: usize = 10;
const ROWS_MAX: usize = 2000;

/// The number of rows of the next batch, and the pause before it.
#[derive(Debug)]
pub struct BatchSize {
    /// How long a batch should take.
    goal: Duration,
    rows: usize,
    busy: u32,
    /// The longest time that the lock was held.
    longest: Duration,
}

impl BatchSize {
    /// For the first batch, of which each should take so long.
    pub fn new(goal: Duration) -> BatchSize {
        BatchSize { goal, rows: ROWS_FIRST, busy: 0, longest: Duration::ZERO }
    }

    /// Rows of the next batch.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The longest time that the lock was held.
    pub fn longest(&self) -> Duration {
        self.longest
    }

    /// Takes note of a batch that held the lock so long for so many rows. Returns the pause until the next one.
    pub fn done(&mut self, rows: usize, held: Duration) -> Duration {
        self.busy = 0;
        self.longest = self.longest.max(held);
        let factor = self.goal.as_secs_f64() / held.as_secs_f64().max(1e-6);
        // It becomes smaller at once, and larger by and by.
        let next = rows.max(1) as f64 * factor.clamp(0.1, 1.5);
        self.rows = (next as usize).clamp(ROWS_MIN, ROWS_MAX);
        PAUSE_MIN.max(held * 2)
    }

    /// Takes note of a lock that was taken. Returns the pause until the next attempt.
    pub fn busy(&mut self) -> Duration {
        self.busy = self.busy.saturating_add(1);
        (BUSY_PAUSE * self.busy.min(100)).min(BUSY_PAUSE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_that_took_too_long_is_followed_by_a_smaller_one_and_a_longer_pause() {
        let mut size = BatchSize::new(Duration::from_millis(5));
        assert_eq!(size.done(100, Duration::from_millis(40)), Duration::from_millis(80));
        assert_eq!(size.rows(), 12);
        assert_eq!(size.done(12, Duration::from_micros(100)), PAUSE_MIN);
        assert_eq!(size.rows(), 18);
        assert_eq!(size.longest(), Duration::from_millis(40));
        assert!(size.busy() < size.busy());
    }
}
