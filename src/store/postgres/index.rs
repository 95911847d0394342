//! Builds indexes while programs go on writing: `CREATE INDEX CONCURRENTLY`, outside any
//! transaction, under the migration lock. What a cut-off build has left behind, an INVALID index
//! that costs every write and answers nothing, is dropped and built again.
//! (PostgreSQL documentation, CREATE INDEX, "Building Indexes Concurrently")

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::error::is_lost;
use super::exceptions;
use super::lock::{self, Locked};
use super::session::{SCHEMA, Session, Sessions};
use crate::error::{Error, Kind, Result};
use crate::store::sql::{
    count_duplicates, create_index, index_columns, literal, not_unique, quoted,
};
use crate::store::{Progress, WaitPolicy, WaitReason, interrupted};
use cts_schema::catalog::{Index, Object};
use cts_schema::constraint_exception::ConstraintException;

/// How often the progress of a build is looked at.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);
/// How long taking away what is left of a build waits for locks.
const DROP_WITHIN: Duration = Duration::from_millis(300);

/// Builds the index if it is not there by now. Not unique, where rows share a key.
pub fn build(
    sessions: &Sessions,
    table: &str,
    index: &Index,
    wait: &WaitPolicy<'_>,
) -> Result<Option<ConstraintException>> {
    let mut locked = Locked::take(sessions, wait)?;
    let session = locked.session();
    let left = state(session, &index.name)?;
    if left == Some(true) {
        return Ok(None);
    }
    session.run("SET statement_timeout = 0; SET lock_timeout = 0")?;
    let rows = if index.unique { duplicates(session, table, index)? } else { 0 };
    let mut statements = Vec::new();
    if left == Some(false) {
        statements.push(format!("DROP INDEX CONCURRENTLY IF EXISTS {}", quoted(&index.name)));
    }
    statements.push(create_index(table, index, rows == 0, "CONCURRENTLY"));
    let object = Object::Index(table.into(), index.name.to_string());
    let (pid, token) = (lock::pid(session)?, session.client.cancel_token());
    let (locked, done) = watched(locked, statements, |doing| {
        follow(sessions, pid, &object, wait, doing, &|| sessions.cancel(&token))
    })?;
    if let Err(error) = done {
        drop_invalid(locked, &index.name);
        return Err(error);
    }
    relaxed(locked, table, index, rows)
}

/// Whether there is an index of that name, and whether it is whole.
fn state(session: &mut Session, name: &str) -> Result<Option<bool>> {
    let sql = format!(
        "SELECT x.indisvalid AND x.indisready FROM pg_class c JOIN pg_index x ON x.indexrelid = c.oid \
         WHERE c.relnamespace = {SCHEMA} AND c.relname = {}",
        literal(name)
    );
    Ok(session.ask(&sql)?.first().and_then(|rows| rows.first()).map(|row| row.is(0)))
}

/// How many rows share a key of a unique index. NULLs are never equal there.
pub fn duplicates(session: &mut Session, table: &str, index: &Index) -> Result<u64> {
    let names: Vec<String> = index_columns(index).map(quoted).collect();
    duplicates_of(session, table, index, &names)
}

/// The same where its columns have these values, for SQL.
pub fn duplicates_of(
    session: &mut Session,
    table: &str,
    index: &Index,
    values: &[String],
) -> Result<u64> {
    let found = session.ask(&count_duplicates(table, index, values))?;
    Ok(found.first().and_then(|rows| rows.first()).map(|row| row.number(0)).unwrap_or_default())
}

/// Runs statements on a thread of their own, and `follow` meanwhile on this one.
fn watched(
    locked: Locked,
    statements: Vec<String>,
    follow: impl FnOnce(&Receiver<()>) -> Result<()>,
) -> Result<(Locked, Result<()>)> {
    let (ended, doing) = mpsc::channel::<()>();
    let work = move || {
        let mut locked = locked;
        let session = locked.session();
        let done = statements.iter().try_for_each(|statement| session.run(statement));
        if done.as_ref().is_err_and(is_lost) {
            session.mark_broken();
        }
        drop(ended);
        (locked, done)
    };
    let worker = thread::Builder::new().name("index".into()).spawn(work);
    let worker =
        worker.map_err(|e| Error::new(Kind::Io, format!("a thread cannot be started: {e}")))?;
    let followed = follow(&doing);
    let ended = || Error::new(Kind::Io, "the thread that built an index has ended");
    let (locked, done) = worker.join().map_err(|_| ended())?;
    // Why it was ended says more than that it was.
    Ok((locked, if done.is_err() { followed.and(done) } else { done }))
}

/// Tells how far the build is and what it waits for, until it ends; ends it when it is told to
/// stop, or when it has waited for too long for one transaction.
fn follow(
    sessions: &Sessions,
    pid: i32,
    object: &Object,
    wait: &WaitPolicy<'_>,
    doing: &Receiver<()>,
    cancel: &dyn Fn(),
) -> Result<()> {
    let sql = format!(
        "SELECT tuples_done, tuples_total FROM pg_stat_progress_create_index WHERE pid = {pid}; {}",
        lock::blocking_sql(pid)
    );
    let mut waiting: Option<(String, Instant)> = None;
    let mut said = Instant::now();
    while let Err(RecvTimeoutError::Timeout) = doing.recv_timeout(BETWEEN_LOOKS) {
        if wait.is_stopped() {
            cancel();
            return Err(interrupted());
        }
        let question = sql.clone();
        // Without a second connection nothing is told, and the build goes on.
        let Ok(found) = sessions.ask(DROP_WITHIN * 10, move |session| session.ask(&question))
        else {
            continue;
        };
        let [building, blocking, ..] = found.as_slice() else { continue };
        if let Some(row) = building.first() {
            (wait.on_progress)(Progress { object, done: row.number(0), total: row.number(1) });
        }
        let Some(row) = blocking.first() else {
            waiting = None;
            continue;
        };
        let (holder, pid) = (lock::transaction(row, 0), row.text(0).to_string());
        let since = match &waiting {
            Some((who, since)) if *who == pid => *since,
            _ => Instant::now(),
        };
        waiting = Some((pid, since));
        if wait.timeout.is_some_and(|limit| since.elapsed() >= limit) {
            cancel();
            return Err(Error::new(Kind::TryAgain, format!("it waits for {holder}"))
                .remedy("let that transaction end, or raise CTS_LOCK_TIMEOUT, and run it again"));
        }
        if said.elapsed() >= Duration::from_secs(2) {
            said = Instant::now() + Duration::from_secs(8);
            (wait.on_wait)(
                &WaitReason::Other(format!("{holder}, to build {object}")),
                since.elapsed(),
            );
        }
    }
    Ok(())
}

/// Takes what is left of a build away, if that is done in a moment. What stays is found later.
fn drop_invalid(mut locked: Locked, name: &str) {
    let session = locked.session();
    if state(session, name).is_ok_and(|state| state == Some(false)) {
        let limit = DROP_WITHIN.as_millis();
        let _ = session.run(&format!("SET lock_timeout = {limit}; DROP INDEX {}", quoted(name)));
    }
    session.mark_broken();
}

/// Records that an index is not unique.
fn relaxed(
    mut locked: Locked,
    table: &str,
    index: &Index,
    rows: u64,
) -> Result<Option<ConstraintException>> {
    let session = locked.session();
    // Its settings were changed for the build.
    session.mark_broken();
    let exception = not_unique(table, index, rows);
    if let Some(exception) = &exception {
        exceptions::record(session, exception)?;
    }
    Ok(exception)
}
