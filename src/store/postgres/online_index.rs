//! Builds indexes while programs go on writing: `CREATE INDEX CONCURRENTLY`, outside any transaction, on a
//! connection of its own. A transaction beside it holds the migration lock; it has no snapshot between two
//! statements, for which the build would wait. A cancelled build leaves an INVALID index, which costs
//! every write and serves no query; it is dropped and built again.
//! (PostgreSQL documentation, CREATE INDEX, "Building Indexes Concurrently")

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::connect::SessionServer;
use super::error::is_cancelled;
use super::exceptions;
use super::index::{IndexState, count_duplicates, state};
use super::index_builds::{BuildProgress, BuiltIndex, drop_sql};
use super::lock::{BlockingTransaction, LockedSession};
use super::pool::SessionPool;
use super::session::Session;
use super::standalone::StandaloneSession;
use super::transaction::PostgresTx;
use crate::error::{Error, Kind, Result};
use crate::store::sql::{create_index, not_unique};
use crate::store::{Change, Progress, WaitPolicy, WaitReason, interrupted};
use crate::system::deadline::cannot_start_thread;
use cts_schema::catalog::{Index, Object, Text};
use cts_schema::constraint_exception::ConstraintException;
use cts_schema::sql::with_qualified_operators;

/// Between two queries for the progress of a build. They also show a pooler that the transaction of the lock
/// is not idle.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// How long a query for the progress may take.
const POLL_TIMEOUT: Duration = Duration::from_secs(3);
/// When a blocked build is first reported, and between two reports.
const FIRST_REPORT: Duration = Duration::from_secs(2);
const REPORT_INTERVAL: Duration = Duration::from_secs(10);
/// How long dropping the index may take that a build has left which was told to stop.
const DROP_TIMEOUT: Duration = Duration::from_secs(1);

/// Builds an index, if there is no valid one of that name yet. Not unique where rows share a key:
/// the exception is recorded and returned.
///
/// # Errors
/// Those of [`LockedSession::take`]; `Kind::Blocked` when another session builds the index for longer than
/// the policy's timeout; `Kind::TryAgain` when a transaction blocks the build for as long, or the policy is
/// cancelled; `Kind::Unavailable` when another server has been promoted; else the error of the statement. The
/// index does not exist then, or an invalid one is left, which the next build drops.
pub fn build(
    pool: &SessionPool,
    table: &str,
    index: &Index,
    wait: &WaitPolicy<'_>,
) -> Result<Option<ConstraintException>> {
    wait.retry_while_blocked(|| {
        let mut locked = LockedSession::take(pool, wait)?;
        let session = locked.session();
        BuiltIndex { table, name: &index.name }.refuse_running_build(session)?;
        let found = state(session, &index.name)?;
        if found == IndexState::Valid {
            return Ok(None);
        }
        match StandaloneSession::open_beside(session, pool)? {
            Some(builder) => build_beside(locked, builder, pool, table, index, wait),
            None => build_in_transaction(locked, pool, table, index, wait),
        }
    })
}

/// Builds it in the transaction of the lock, where there is no second connection. Programs wait with writing
/// meanwhile.
fn build_in_transaction(
    locked: LockedSession,
    pool: &SessionPool,
    table: &str,
    index: &Index,
    wait: &WaitPolicy<'_>,
) -> Result<Option<ConstraintException>> {
    let mut tx = Box::new(PostgresTx::begin(locked, pool, wait)?);
    let exception = tx.create_index(table, index, wait)?;
    if let Some(exception) = &exception {
        tx.record_exception(exception)?;
    }
    tx.commit(wait)?;
    Ok(exception)
}

/// Builds it on a connection beside that of the lock.
fn build_beside(
    mut locked: LockedSession,
    mut builder: StandaloneSession,
    pool: &SessionPool,
    table: &str,
    index: &Index,
    wait: &WaitPolicy<'_>,
) -> Result<Option<ConstraintException>> {
    // The transaction of the lock must not read the table: dropping an index would wait for it.
    let session = &mut builder.session;
    let rows = match index.unique {
        true => session.without_statement_timeout(|s| count_duplicates(s, table, index))?,
        false => 0,
    };
    let statements = statements(session, table, index, rows == 0)?;
    session.bounds().stop = Arc::clone(wait.cancelled);
    let token = session.cancel_token();
    let cancel = || token.iter().for_each(|request| drop(request.send()));
    let object = Object::Index(table.into(), index.name.to_string());
    let of = BuiltIndex { table, name: &index.name };
    let server = locked.session().server.clone();
    let build = Build { pool, server: &server, of, object: &object, wait, cancel: &cancel };
    let role_timeout = builder.statement_timeout.take();
    let built = build.run(&mut locked, builder, statements);
    // Nothing more is written to a server that is no longer the one to use.
    pool.confirm(&server)?;
    if let Err(error) = built {
        drop_invalid(locked, &index.name);
        return Err(match role_timeout {
            Some(timeout) if is_cancelled(&error) => exceeds_timeout(error, &timeout),
            _ => error,
        });
    }
    let Some(exception) = not_unique(table, index, rows) else { return Ok(None) };
    // The lock may have been lost while the index was built.
    if !locked.is_in_transaction() {
        drop(locked);
        locked = LockedSession::take(pool, wait)?;
    }
    exceptions::record(locked.session(), &exception)?;
    locked.session().commit()?;
    Ok(Some(exception))
}

/// The error of a build that takes longer than the role allows.
fn exceeds_timeout(error: Error, timeout: &str) -> Error {
    let note = format!(
        "statement_timeout of the role is {timeout}, and a connection pooler takes no other for a build"
    );
    error.note(note).remedy(
        "`ALTER ROLE … SET statement_timeout = 0`, or name the server's own address in the URL (docs/postgresql.md, \"Poolers\")",
    )
}

/// The statements that build it, each of them outside of a transaction.
fn statements(
    session: &mut Session,
    table: &str,
    index: &Index,
    unique: bool,
) -> Result<Vec<String>> {
    let mut statements = Vec::new();
    if state(session, &index.name)? == IndexState::Invalid {
        statements.push(drop_sql(session, &index.name));
    }
    // No search path can be set for a statement that runs in no transaction.
    let predicate = index.predicate.as_deref().map(with_qualified_operators).map(Text::from);
    let qualified = Index { predicate, ..index.clone() };
    let name = session.qualified(table);
    statements.push(create_index(&name, &qualified, unique, "CONCURRENTLY"));
    Ok(statements)
}

/// A build that runs on a thread of its own.
struct Build<'b> {
    pool: &'b SessionPool,
    /// The server that builds.
    server: &'b SessionServer,
    of: BuiltIndex<'b>,
    object: &'b Object,
    wait: &'b WaitPolicy<'b>,
    cancel: &'b dyn Fn(),
}

/// A transaction that blocks a build, and since when.
struct BlockedBy {
    transaction: BlockingTransaction,
    since: Instant,
}

impl Build<'_> {
    /// Runs the statements on a thread of their own, and watches them on this one, on the connection of the
    /// lock.
    fn run(
        &self,
        locked: &mut LockedSession,
        mut builder: StandaloneSession,
        statements: Vec<String>,
    ) -> Result<()> {
        let (ended, running) = mpsc::channel::<()>();
        let work = move || {
            let session = &mut builder.session;
            let run = |sql: &String| session.run_outside_transaction(sql);
            let result = statements.iter().try_for_each(run);
            drop(ended);
            result
        };
        let worker = thread::Builder::new().name("index".into()).spawn(work);
        let worker = worker.map_err(|e| cannot_start_thread(&e))?;
        let watched = self.watch(&running, locked);
        if watched.is_err() {
            // A request that comes between two statements, or is lost, cancels none.
            while let Err(RecvTimeoutError::Timeout) = running.recv_timeout(POLL_INTERVAL) {
                (self.cancel)();
            }
        }
        let ended = || Error::new(Kind::Io, "the thread that builds an index has ended");
        let result = worker.join().map_err(|_| ended())?;
        // The reason of a cancellation is more than that the server cancelled the statement.
        if result.is_err() { watched.and(result) } else { result }
    }

    /// Reports the progress of the build and what blocks it, until it ends. Cancels it when the
    /// policy is cancelled, when one transaction has blocked it for the policy's timeout, or when
    /// another server has been promoted.
    fn watch(&self, running: &Receiver<()>, locked: &mut LockedSession) -> Result<()> {
        let mut blocked_by: Option<BlockedBy> = None;
        let mut next_report = Instant::now() + FIRST_REPORT;
        while let Err(RecvTimeoutError::Timeout) = running.recv_timeout(POLL_INTERVAL) {
            if self.wait.is_stopped() {
                (self.cancel)();
                return Err(interrupted());
            }
            if let Err(error) = self.pool.confirm(self.server) {
                (self.cancel)();
                return Err(error);
            }
            // Where the connection of the lock is lost, the build goes on without reports.
            let Ok(transaction) = self.poll(locked) else { continue };
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
    fn poll(&self, locked: &mut LockedSession) -> Result<Option<BlockingTransaction>> {
        locked.hold(self.pool, POLL_TIMEOUT)?;
        let found =
            self.of.progress(locked.session()).inspect_err(|_| locked.session().roll_back())?;
        let BuildProgress { rows, blocked_by, is_blocked_by_us } = found;
        // It met the snapshot of a query of ours, and waits for the end of the transaction. Another process that
        // gets the lock meanwhile sees the build.
        if is_blocked_by_us {
            locked.session().roll_back();
        }
        if let Some((done, total)) = rows {
            (self.wait.on_progress)(Progress::of_rows(self.object, done, total));
        }
        Ok(blocked_by)
    }
}

/// Drops the invalid index that a cancelled build has left, if no lock prevents it. Else the next
/// build drops it.
fn drop_invalid(mut locked: LockedSession, name: &str) {
    let session = locked.session();
    session.finish_within(DROP_TIMEOUT);
    if session.is_in_transaction() && matches!(state(session, name), Ok(IndexState::Invalid)) {
        let name = session.qualified(name);
        let dropped = session.run(&format!("DROP INDEX {name}"));
        let _ = dropped.and_then(|()| session.commit());
    }
}
