//! Builds indexes while programs go on writing: `CREATE INDEX CONCURRENTLY`, outside any
//! transaction, under the migration lock. A cancelled build leaves an INVALID index, which costs
//! every write and serves no query; it is dropped and built again.
//! (PostgreSQL documentation, CREATE INDEX, "Building Indexes Concurrently")

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::error::is_lost;
use super::exceptions;
use super::index::{IndexState, count_duplicates, state};
use super::lock::{self, BlockingTransaction, LockedSession};
use super::pool::SessionPool;
use super::session::Row;
use crate::error::{Error, Kind, Result};
use crate::store::sql::{create_index, not_unique};
use crate::store::{Progress, WaitPolicy, WaitReason, interrupted};
use crate::system::deadline::cannot_start_thread;
use cts_schema::catalog::{Index, Object, Text};
use cts_schema::constraint_exception::ConstraintException;
use cts_schema::sql::with_qualified_operators;

/// Between two queries for the progress of a build.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// How long a query for the progress may take.
const POLL_TIMEOUT: Duration = Duration::from_secs(3);
/// `lock_timeout` of dropping an invalid index.
const DROP_LOCK_TIMEOUT: Duration = Duration::from_millis(300);
/// When a blocked build is first reported, and between two reports.
const FIRST_REPORT: Duration = Duration::from_secs(2);
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Builds an index, if there is no valid one of that name yet. Not unique where rows share a key:
/// the exception is recorded and returned.
///
/// # Errors
/// Those of [`LockedSession::take`]; `Kind::TryAgain` when a transaction blocks the build for longer
/// than the policy's timeout or the policy is cancelled; else the error of the statement. The index
/// does not exist then, or an invalid one is left, which the next build drops.
pub fn build(
    pool: &SessionPool,
    table: &str,
    index: &Index,
    wait: &WaitPolicy<'_>,
) -> Result<Option<ConstraintException>> {
    let mut locked = LockedSession::take(pool, wait)?;
    let session = locked.session();
    let found = state(session, &index.name)?;
    if found == IndexState::Valid {
        return Ok(None);
    }
    session.run("SET statement_timeout = 0; SET lock_timeout = 0")?;
    let rows = if index.unique { count_duplicates(session, table, index)? } else { 0 };
    let mut statements = Vec::new();
    if found == IndexState::Invalid {
        let name = session.qualified(&index.name);
        statements.push(format!("DROP INDEX CONCURRENTLY IF EXISTS {name}"));
    }
    // No search path can be set for a statement that runs in no transaction.
    let predicate = index.predicate.as_deref().map(with_qualified_operators).map(Text::from);
    let qualified = Index { predicate, ..index.clone() };
    let name = session.qualified(table);
    statements.push(create_index(&name, &qualified, rows == 0, "CONCURRENTLY"));
    let object = Object::Index(table.into(), index.name.to_string());
    let pid = session.number("SELECT pg_backend_pid()")?;
    let token = session.cancel_token();
    let cancel = || token.iter().for_each(|request| drop(request.send()));
    let build = Build { pool, pid, object: &object, wait, cancel: &cancel };
    let Finished { locked, result } = build.run(locked, statements)?;
    if let Err(error) = result {
        drop_invalid(locked, &index.name);
        return Err(error);
    }
    record_exception(locked, not_unique(table, index, rows))
}

/// A build that runs on a thread of its own.
struct Build<'b> {
    pool: &'b SessionPool,
    /// The process of the server that builds.
    pid: i32,
    object: &'b Object,
    wait: &'b WaitPolicy<'b>,
    cancel: &'b dyn Fn(),
}

/// A build that has ended, with the connection that it ran on.
struct Finished {
    locked: LockedSession,
    result: Result<()>,
}

/// A transaction that blocks a build, and since when.
struct BlockedBy {
    transaction: BlockingTransaction,
    since: Instant,
}

impl Build<'_> {
    /// Runs the statements on a thread of their own, and watches them on this one.
    fn run(&self, locked: LockedSession, statements: Vec<String>) -> Result<Finished> {
        let (ended, running) = mpsc::channel::<()>();
        let work = move || {
            let mut locked = locked;
            let session = locked.session();
            let result = statements.iter().try_for_each(|statement| session.run_alone(statement));
            if result.as_ref().is_err_and(is_lost) {
                session.mark_broken();
            }
            drop(ended);
            Finished { locked, result }
        };
        let worker = thread::Builder::new().name("index".into()).spawn(work);
        let worker = worker.map_err(|e| cannot_start_thread(&e))?;
        let watched = self.watch(&running);
        let ended = || Error::new(Kind::Io, "the thread that builds an index has ended");
        let Finished { locked, result } = worker.join().map_err(|_| ended())?;
        // The reason of a cancellation is more than that the server cancelled the statement.
        let result = if result.is_err() { watched.and(result) } else { result };
        Ok(Finished { locked, result })
    }

    /// Reports the progress of the build and what blocks it, until it ends. Cancels it when the
    /// policy is cancelled, or when one transaction has blocked it for the policy's timeout.
    fn watch(&self, running: &Receiver<()>) -> Result<()> {
        let mut blocked_by: Option<BlockedBy> = None;
        let mut next_report = Instant::now() + FIRST_REPORT;
        while let Err(RecvTimeoutError::Timeout) = running.recv_timeout(POLL_INTERVAL) {
            if self.wait.is_stopped() {
                (self.cancel)();
                return Err(interrupted());
            }
            // Where no second connection can be had, the build goes on without reports.
            let Ok(transaction) = self.poll() else { continue };
            blocked_by = transaction.map(|transaction| match blocked_by.take() {
                Some(known) if known.transaction.pid == transaction.pid => {
                    BlockedBy { transaction, ..known }
                }
                _ => BlockedBy { transaction, since: Instant::now() },
            });
            let Some(BlockedBy { transaction, since }) = &blocked_by else { continue };
            if self.wait.timeout.is_some_and(|timeout| since.elapsed() >= timeout) {
                (self.cancel)();
                let what = format!("the build waits for {transaction}");
                let remedy = self.wait.with_setting("let that transaction end and run it again");
                return Err(Error::new(Kind::TryAgain, what).remedy(remedy));
            }
            if Instant::now() >= next_report {
                next_report = Instant::now() + REPORT_INTERVAL;
                let reason = format!("{transaction}, to build {}", self.object);
                (self.wait.on_wait)(&WaitReason::Other(reason), since.elapsed());
            }
        }
        Ok(())
    }

    /// Reports the progress. Returns the transaction that blocks the build.
    fn poll(&self) -> Result<Option<BlockingTransaction>> {
        let pid = self.pid;
        let sql = format!(
            "SELECT tuples_done, tuples_total FROM pg_stat_progress_create_index WHERE pid = {pid}; {}",
            lock::blocking_sql(pid)
        );
        let results = self.pool.run_within(POLL_TIMEOUT, move |session| session.results(&sql))?;
        let first = |at: usize| results.get(at).and_then(|rows: &Vec<Row>| rows.first());
        if let Some(row) = first(0) {
            let (done, total) = (row.number(0)?, row.number(1)?);
            (self.wait.on_progress)(Progress::of_rows(self.object, done, total));
        }
        first(1).map(|row| BlockingTransaction::read(row, 0)).transpose()
    }
}

/// Drops the invalid index that a cancelled build has left, if no lock prevents it. Else the next
/// build drops it.
fn drop_invalid(mut locked: LockedSession, name: &str) {
    let session = locked.session();
    if matches!(state(session, name), Ok(IndexState::Invalid)) {
        let (timeout, name) = (DROP_LOCK_TIMEOUT.as_millis(), session.qualified(name));
        let _ = session.run(&format!("SET lock_timeout = {timeout}; DROP INDEX {name}"));
    }
    session.mark_broken();
}

/// Records that an index is not unique.
fn record_exception(
    mut locked: LockedSession,
    exception: Option<ConstraintException>,
) -> Result<Option<ConstraintException>> {
    let session = locked.session();
    // Its timeouts were changed for the build.
    session.mark_broken();
    if let Some(exception) = &exception {
        exceptions::record(session, exception)?;
    }
    Ok(exception)
}
