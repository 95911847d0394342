//! Watches a client program that works on a server: one that hangs must not hang the program, and a backup with it. While
//! the program shows no progress, the server is asked now and then whether it answers.

use std::time::{Duration, Instant};

use super::pool::SessionPool;
use super::store::INSPECTION_TIMEOUT;
use crate::error::Result;

/// Time without progress after which the server is asked, and between two questions.
const ASK_INTERVAL: Duration = Duration::from_secs(10);
/// Questions in a row without an answer after which the program is ended.
const UNANSWERED_MAX: u32 = 3;

/// Watches one run of a program.
pub struct ServerWatch<'p> {
    pool: &'p SessionPool,
    /// When the program last showed progress, or the server was last asked.
    last_sign_at: Instant,
    /// A figure that grows with the work.
    progress: u64,
    unanswered: u32,
}

impl<'p> ServerWatch<'p> {
    /// Starts it.
    pub fn new(pool: &'p SessionPool) -> ServerWatch<'p> {
        ServerWatch { pool, last_sign_at: Instant::now(), progress: 0, unanswered: 0 }
    }

    /// Takes note of how far the work is, by a figure that grows with it, and asks the server where that is due.
    ///
    /// # Errors
    /// That of the server, once it has not answered for some time.
    pub fn look(&mut self, progress: u64) -> Result<()> {
        if progress != self.progress {
            (self.progress, self.unanswered, self.last_sign_at) = (progress, 0, Instant::now());
            return Ok(());
        }
        if self.last_sign_at.elapsed() < ASK_INTERVAL {
            return Ok(());
        }
        let answer = self.pool.run_within(INSPECTION_TIMEOUT, |session| session.run("SELECT 1"));
        self.last_sign_at = Instant::now();
        self.unanswered = if answer.is_ok() { 0 } else { self.unanswered + 1 };
        if self.unanswered < UNANSWERED_MAX { Ok(()) } else { answer }
    }
}
