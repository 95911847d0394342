//! When writers are blocked to reset the WAL, for how long, and when not.
//!
//! A writer resets the WAL (writes from its start again) only if all of it has been checkpointed and no
//! reader uses it. While programs write and reads overlap, neither happens by itself: there is always a
//! newer frame, and always a reader. If writers are blocked, the rest is checkpointed, readers that begin
//! then use the database file alone, and the WAL is free once the older ones have ended: after one to two
//! reads. (sqlite.org/wal.html, "Avoiding Excessively Large WAL Files"; `walCheckpoint`, `walTryBeginRead`
//! in SQLite's wal.c)

use std::time::{Duration, Instant};

/// Size of the frames in the WAL, in bytes, from which on writers are blocked to reset it.
pub const RESET_BYTES: u64 = 32 << 20;
/// Size of the file from which on the reset also truncates it: it has grown while it could not be reset.
pub const TRUNCATE_BYTES: u64 = 2 * RESET_BYTES;
/// Size of what may be left to checkpoint while writers are blocked, in bytes: a fraction of a second on
/// any disk that is fit for a database. More is checkpointed beforehand.
pub const REMAINDER_BYTES_MAX: u64 = 16 << 20;

/// How long writers are blocked at most, at first: enough for reads of 30 ms (41 to 60 ms were measured).
const BLOCK_MIN: Duration = Duration::from_millis(100);
/// How long writers are ever blocked for readers to end. Programs wait longer for the write lock than this:
/// the usual busy timeout is 5 s (Python's sqlite3, better-sqlite3, rusqlite), in JDBC 3 s.
const BLOCK_MAX: Duration = Duration::from_secs(2);
/// The pause after writers were blocked in vain, as a multiple of the time: they wait 5 % of the time at most.
const PAUSE_FACTOR: u32 = 20;
/// The pause after a reset, as a multiple of the time that writers were blocked.
const PAUSE_FACTOR_AFTER_RESET: u32 = 4;
/// The longest pause. Readers that are too long for [`BLOCK_MAX`] may become shorter.
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// Decides when writers are blocked, and for how long. The time doubles until the WAL could be reset; from
/// [`BLOCK_MAX`] on, the pause doubles instead.
pub struct ResetPolicy {
    /// For how long writers may be blocked next.
    block_max: Duration,
    /// The pause after the next attempt in vain.
    pause: Duration,
    not_before: Option<Instant>,
    /// How far the WAL is checkpointed as long as readers keep the rest, in frames, and since when.
    held_at: Option<(i64, Instant)>,
}

impl ResetPolicy {
    /// One that has seen nothing yet.
    pub fn new() -> ResetPolicy {
        ResetPolicy {
            block_max: BLOCK_MIN,
            pause: BLOCK_MIN * PAUSE_FACTOR,
            not_before: None,
            held_at: None,
        }
    }

    /// For how long writers may be blocked next.
    pub fn block_max(&self) -> Duration {
        self.block_max
    }

    /// Notes how many of all frames a checkpoint could copy.
    pub fn observe(&mut self, copied: i64, total: i64, now: Instant) {
        let is_same = self.held_at.is_some_and(|(frames, _)| frames == copied);
        if copied >= total {
            self.held_at = None;
        } else if !is_same {
            self.held_at = Some((copied, now));
        }
    }

    /// Since when no checkpoint could copy more than the one before it, though there was more.
    pub fn held_since(&self) -> Option<Instant> {
        self.held_at.map(|(_, since)| since)
    }

    /// Whether writers may be blocked now. Not if a reader has kept the same frames for longer than writers
    /// are ever blocked: it would most likely go on reading.
    pub fn is_due(&self, now: Instant) -> bool {
        let is_pause_over = self.not_before.is_none_or(|at| now >= at);
        let is_reader_long =
            self.held_at.is_some_and(|(_, since)| now.duration_since(since) > BLOCK_MAX);
        is_pause_over && !is_reader_long
    }

    /// Notes that another program resets the WAL, so that it is examined again only after this time.
    pub fn postpone(&mut self, time: Duration, now: Instant) {
        self.not_before = Some(now + time);
    }

    /// Notes that the WAL was reset after writers had been blocked for so long.
    pub fn succeeded(&mut self, blocked: Duration, now: Instant) {
        self.block_max = (blocked * 2).clamp(BLOCK_MIN, BLOCK_MAX);
        self.pause = self.block_max * PAUSE_FACTOR;
        self.not_before = Some(now + blocked * PAUSE_FACTOR_AFTER_RESET);
    }

    /// Notes that writers were blocked in vain.
    pub fn failed(&mut self, now: Instant) {
        self.not_before = Some(now + self.pause);
        if self.block_max < BLOCK_MAX {
            self.block_max = (self.block_max * 2).min(BLOCK_MAX);
            self.pause = self.block_max * PAUSE_FACTOR;
        } else {
            self.pause = (self.pause * 2).min(PAUSE_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_doubles_up_to_a_limit_and_then_the_pause_does() {
        let (mut policy, mut now) = (ResetPolicy::new(), Instant::now());
        let (mut blocked, mut pauses) = (Vec::new(), Vec::new());
        for _ in 0..12 {
            assert!(policy.is_due(now));
            blocked.push(policy.block_max().as_millis());
            policy.failed(now);
            let began = now;
            while !policy.is_due(now) {
                now += Duration::from_secs(1);
            }
            pauses.push(now.duration_since(began).as_secs());
        }
        assert_eq!(blocked[..7], [100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(pauses[..10], [2, 4, 8, 16, 32, 40, 80, 160, 320, 600]);
        assert_eq!((blocked[11], pauses[11]), (2000, 600));
    }

    #[test]
    fn after_a_reset_the_time_is_twice_what_it_took() {
        let (mut policy, now) = (ResetPolicy::new(), Instant::now());
        for _ in 0..9 {
            policy.failed(now);
        }
        policy.succeeded(Duration::from_millis(300), now);
        assert_eq!(policy.block_max(), Duration::from_millis(600));
        assert!(!policy.is_due(now) && policy.is_due(now + Duration::from_millis(1200)));
        policy.succeeded(Duration::from_millis(3), now);
        assert_eq!(policy.block_max(), BLOCK_MIN);
        policy.succeeded(Duration::from_secs(30), now);
        assert_eq!(policy.block_max(), BLOCK_MAX);
    }

    #[test]
    fn writers_are_not_blocked_for_a_reader_that_does_not_end() {
        let (mut policy, start) = (ResetPolicy::new(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for (copied, total, second, is_due) in [
            (10, 20, 0, true),
            (10, 30, 2, true),
            (10, 40, 3, false),
            (10, 50, 900, false),
            // It has ended, and another one has begun meanwhile.
            (45, 60, 901, true),
            (45, 70, 904, false),
            (70, 70, 905, true),
            (70, 80, 906, true),
        ] {
            policy.observe(copied, total, at(second));
            assert_eq!(policy.is_due(at(second)), is_due, "at {second} s");
        }
    }
}
