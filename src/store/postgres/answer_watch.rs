//! Bounds every wait for a server: by a deadline of the work, by the time that a statement may take, by whether
//! the server still answers other connections, and by being told to stop.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, timeout};

use super::client::ClientError;
use super::server_address::ServerAddress;

/// Between two looks at the bounds while an answer is waited for.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How long the server has, after the work was told to stop, to end the statement that runs: a cancel request is under
/// way then; and to answer one that is sent after that, such as ROLLBACK. Together, on the two connections of an
/// online index build, they are less than the 5 s in which cts ends.
const STOP_TIMEOUT: Duration = Duration::from_millis(2500);
const STOPPED_STATEMENT_TIMEOUT: Duration = Duration::from_secs(1);
/// How often the server is asked, while an answer is waited for, whether it answers at all; how long that may take,
/// and how long it may fail before the server counts as gone.
const SIGN_INTERVAL: Duration = Duration::from_secs(15);
const SIGN_TIMEOUT: Duration = Duration::from_secs(10);
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// The longest that a statement whose time grows with the tables may take. One process of a server that is
/// stopped looks like one that computes.
const STATEMENT_MAX: Duration = Duration::from_secs(48 * 60 * 60);
/// How much longer than its time limit on the server a statement is waited for.
const STATEMENT_MARGIN: Duration = Duration::from_secs(30);

/// The bounds of the answers on a connection.
#[derive(Clone, Debug)]
pub struct AnswerBounds {
    /// The time limit that the server has for each statement (`statement_timeout`), if there is one.
    pub statement_timeout: Option<Duration>,
    /// When all of the work has to be done, and how long it had for that.
    pub deadline: Option<(Instant, Duration)>,
    /// Becomes true when the work is told to stop.
    pub stop: Arc<AtomicBool>,
}

impl AnswerBounds {
    /// Those of statements whose time is not known.
    pub fn of_statements(stop: &Arc<AtomicBool>) -> AnswerBounds {
        AnswerBounds { statement_timeout: None, deadline: None, stop: Arc::clone(stop) }
    }

    /// Those of work that has `limit` from now on.
    pub fn within(limit: Duration, stop: &Arc<AtomicBool>) -> AnswerBounds {
        AnswerBounds {
            statement_timeout: None,
            deadline: Some((Instant::now() + limit, limit)),
            stop: Arc::clone(stop),
        }
    }

    /// Ends the wait for a connection whose time is over, or that is not needed any longer.
    ///
    /// # Errors
    /// [`ClientError::NoAnswer`] or [`ClientError::Stopped`].
    pub fn check_connecting(&self) -> Result<(), ClientError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(ClientError::Stopped);
        }
        match self.deadline {
            Some((deadline, limit)) if Instant::now() >= deadline => {
                Err(ClientError::NoAnswer(limit))
            }
            _ => Ok(()),
        }
    }

    /// How long the answer to a message with this many statements may take. The server limits each of them.
    /// (PostgreSQL documentation, `statement_timeout`)
    fn of_message(&self, statements: u32) -> Duration {
        let limit = self
            .statement_timeout
            .and_then(|limit| (limit + STATEMENT_MARGIN).checked_mul(statements));
        limit.map_or(STATEMENT_MAX, |limit| limit.min(STATEMENT_MAX))
    }
}

/// A connection of its own to the server, under way: whether it was answered.
type Sign = Pin<Box<dyn Future<Output = bool>>>;

/// The connection that an answer comes on.
#[derive(Clone, Copy)]
pub struct AnsweringServer<'c> {
    /// Where the server is.
    pub address: &'c ServerAddress,
    /// The connection.
    pub requests: &'c tokio_postgres::Client,
}

/// Watches over the wait for one answer.
pub struct AnswerWatch<'b> {
    bounds: &'b AnswerBounds,
    /// The server of an answer; `None` while connecting to it.
    server: Option<AnsweringServer<'b>>,
    limit: Duration,
    started_at: Instant,
    /// How long the server has after the work was told to stop.
    stop_timeout: Duration,
    told_to_stop_at: Option<Instant>,
    cancelling: Option<Sign>,
    sign: Option<Sign>,
    sign_begun_at: Instant,
    answered_at: Instant,
}

impl<'b> AnswerWatch<'b> {
    /// Of the answer to a message with this SQL.
    pub fn of_answer(
        bounds: &'b AnswerBounds,
        server: AnsweringServer<'b>,
        sql: &str,
    ) -> AnswerWatch<'b> {
        // At most so many statements.
        let statements = u32::try_from(sql.matches(';').count() + 1).unwrap_or(u32::MAX);
        let limit = bounds.of_message(statements);
        AnswerWatch { server: Some(server), limit, ..AnswerWatch::of_connecting(bounds) }
    }

    /// Of a connection that is being opened.
    pub fn of_connecting(bounds: &'b AnswerBounds) -> AnswerWatch<'b> {
        let now = Instant::now();
        AnswerWatch {
            bounds,
            server: None,
            limit: Duration::MAX,
            started_at: now,
            stop_timeout: match bounds.stop.load(Ordering::Relaxed) {
                true => STOPPED_STATEMENT_TIMEOUT,
                false => STOP_TIMEOUT,
            },
            told_to_stop_at: None,
            cancelling: None,
            sign: None,
            sign_begun_at: now,
            answered_at: now,
        }
    }

    fn look(&mut self, context: &mut Context<'_>) -> Result<(), ClientError> {
        let Some(server) = self.server else { return self.bounds.check_connecting() };
        let now = Instant::now();
        if self.bounds.stop.load(Ordering::Relaxed) {
            let since = *self.told_to_stop_at.get_or_insert(now);
            if now - since >= self.stop_timeout {
                return Err(ClientError::Stopped);
            }
            self.cancel(server, context);
        }
        if let Some((deadline, limit)) = self.bounds.deadline
            && now >= deadline
        {
            return Err(ClientError::NoAnswer(limit));
        }
        if now - self.started_at >= self.limit {
            return Err(ClientError::NoAnswer(self.limit));
        }
        self.look_for_sign(server.address, now, context)
    }

    /// Asks the server to cancel the statement, again and again: one that begins just now is not cancelled yet.
    fn cancel(&mut self, server: AnsweringServer<'_>, context: &mut Context<'_>) {
        let cancelling = self.cancelling.get_or_insert_with(|| {
            let (address, token) = (server.address.clone(), server.requests.cancel_token());
            Box::pin(async move { address.cancel(&token).await.is_ok() })
        });
        if cancelling.as_mut().poll(context).is_ready() {
            self.cancelling = None;
        }
    }

    /// Asks the server whether it answers at all, on a connection of its own.
    fn look_for_sign(
        &mut self,
        server: &ServerAddress,
        now: Instant,
        context: &mut Context<'_>,
    ) -> Result<(), ClientError> {
        if let Some(sign) = &mut self.sign
            && let Poll::Ready(answers) = sign.as_mut().poll(context)
        {
            self.sign = None;
            if answers {
                self.answered_at = now;
            }
        }
        if self.sign.is_none() && now - self.sign_begun_at >= SIGN_INTERVAL {
            let server = server.clone();
            self.sign_begun_at = now;
            self.sign = Some(Box::pin(async move {
                timeout(SIGN_TIMEOUT, server.answers()).await.unwrap_or(false)
            }));
        }
        match now - self.answered_at >= SILENCE_MAX {
            true => Err(ClientError::NoAnswer(SILENCE_MAX)),
            false => Ok(()),
        }
    }
}

/// Does work as long as the watch allows.
///
/// # Errors
/// [`ClientError::NoAnswer`] or [`ClientError::Stopped`], when a bound is reached; the work is dropped then.
pub async fn watched<T>(
    work: impl Future<Output = T>,
    mut watch: AnswerWatch<'_>,
) -> Result<T, ClientError> {
    let mut work = pin!(work);
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looked_at = Instant::now();
    poll_fn(|context| {
        if let Poll::Ready(done) = work.as_mut().poll(context) {
            return Poll::Ready(Ok(done));
        }
        // A server that sends without end uses up the turns of this task, so that no tick comes.
        while ticks.poll_tick(context).is_ready() {}
        if looked_at.elapsed() >= LOOK_INTERVAL {
            looked_at = Instant::now();
            if let Err(error) = watch.look(context) {
                return Poll::Ready(Err(error));
            }
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_the_time_of_all_of_its_statements() {
        let mut bounds = AnswerBounds::of_statements(&Arc::default());
        assert_eq!(bounds.of_message(7), STATEMENT_MAX);
        bounds.statement_timeout = Some(Duration::from_secs(60));
        assert_eq!(bounds.of_message(3), Duration::from_secs(270));
        assert_eq!(bounds.of_message(u32::MAX), STATEMENT_MAX);
    }

    #[test]
    fn a_connection_is_not_waited_for_after_its_time_or_the_end_of_the_work() {
        let stop = Arc::new(AtomicBool::new(false));
        let limit = Duration::from_secs(60);
        assert!(AnswerBounds::within(limit, &stop).check_connecting().is_ok());
        let passed = AnswerBounds::within(Duration::ZERO, &stop).check_connecting();
        assert!(matches!(passed, Err(ClientError::NoAnswer(Duration::ZERO))));
        stop.store(true, Ordering::Relaxed);
        let stopped = AnswerBounds::within(limit, &stop).check_connecting();
        assert!(matches!(stopped, Err(ClientError::Stopped)));
    }
}
