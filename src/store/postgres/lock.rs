//! The migration lock: an advisory lock of the database, one for each schema. It is asked for
//! again and again, and never waited for on the server: a starter that waits inside
//! `pg_advisory_lock` holds a snapshot, for which an index that the holder builds CONCURRENTLY
//! would wait in turn.

use std::cell::RefCell;
use std::thread;
use std::time::Duration;

use super::session::{Pooled, Row, SCHEMA, Session, Sessions};
use crate::error::{Error, Kind, Result};
use crate::store::{Holder, WaitPolicy};

/// The first of the lock's two keys, "CTS3" as in the application id of a SQLite file. The second
/// is the number of the schema.
const KEY: i32 = 0x4354_5333;
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(50);
/// How long opening a connection for it may take.
const CONNECT: Duration = Duration::from_secs(10);

/// The key of the lock, for SQL.
fn key() -> String {
    format!("{KEY}, {SCHEMA}::int4")
}

/// A connection that holds the lock until it is dropped.
pub struct Locked {
    session: Pooled,
}

impl Locked {
    /// Takes the lock, waiting with patience.
    pub fn take(sessions: &Sessions, wait: &WaitPolicy<'_>) -> Result<Locked> {
        let session = RefCell::new(sessions.get(CONNECT)?);
        let sql = format!("SELECT pg_try_advisory_lock({})", key());
        let attempt = || {
            let rows = session.borrow_mut().ask(&sql)?;
            if rows.first().and_then(|rows| rows.first()).is_some_and(|row| row.is(0)) {
                return Ok(Some(()));
            }
            thread::sleep(PAUSE);
            Ok(None)
        };
        wait.until_unlocked(attempt, || holder(&mut session.borrow_mut()).ok().flatten())?;
        Ok(Locked { session: session.into_inner() })
    }

    /// The connection.
    pub fn session(&mut self) -> &mut Pooled {
        &mut self.session
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // A lock that cannot be given back is given back by the end of the connection.
        if self.session.run(&format!("SELECT pg_advisory_unlock({})", key())).is_err() {
            self.session.mark_broken();
        }
    }
}

/// Who holds the lock. (PostgreSQL documentation, pg_locks: two keys are classid and objid, with
/// objsubid 2)
pub fn holder(session: &mut Session) -> Result<Option<Holder>> {
    let sql = format!(
        "SELECT l.pid, {PROGRAM} \
         FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid \
         WHERE l.locktype = 'advisory' AND l.granted AND l.classid = {KEY}::oid \
             AND l.objid = {SCHEMA} AND l.objsubid = 2 \
             AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
             AND l.pid <> pg_backend_pid()"
    );
    Ok(session.ask(&sql)?.into_iter().flatten().next().map(|row| on_server(&row)))
}

fn on_server(row: &Row) -> Holder {
    Holder { pid: row.number(0), program: row.text(1).to_string(), is_on_server: true }
}

/// Names who was in the way of what has failed for a lock, and is rolled back.
pub fn explained(session: &mut Session, error: Error) -> Error {
    match in_the_way(session) {
        Some(who) if error.kind == Kind::Blocked => {
            Error { what: format!("{}: {who}", error.what), ..error }
        }
        _ => error,
    }
}

/// Who has locked what an attempt was refused: of the programs that hold locks on tables of the
/// schema, the one whose transaction is the oldest.
fn in_the_way(session: &mut Session) -> Option<String> {
    let sql = format!(
        "SELECT c.relname, l.pid, {PROGRAM}, {AGE}, quote_literal(p.gid) \
         FROM pg_locks l JOIN pg_class c ON c.oid = l.relation AND c.relnamespace = {SCHEMA} \
             LEFT JOIN pg_stat_activity a ON a.pid = l.pid \
             LEFT JOIN (pg_locks x JOIN pg_prepared_xacts p ON p.transaction = x.transactionid) \
                 ON l.pid IS NULL AND x.pid IS NULL AND x.virtualtransaction = l.virtualtransaction \
         WHERE l.granted AND l.pid IS DISTINCT FROM pg_backend_pid() AND c.relkind IN ('r', 'p') \
             AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
         ORDER BY coalesce(p.prepared, a.xact_start) NULLS LAST LIMIT 1"
    );
    let row = session.ask(&sql).ok()?.into_iter().flatten().next()?;
    if let Some(gid) = row.get(4) {
        return Some(format!(
            "table {} is used by the prepared transaction {gid}, which only `ROLLBACK PREPARED {gid}` or `COMMIT PREPARED {gid}` ends",
            row.text(0)
        ));
    }
    Some(format!("table {} is used by {}", row.text(0), transaction(&row, 1)))
}

/// Who keeps a process of the server waiting.
pub fn blocking_sql(pid: i32) -> String {
    format!(
        "SELECT b.pid, {PROGRAM}, {AGE} FROM unnest(pg_blocking_pids({pid})) b(pid) \
             LEFT JOIN pg_stat_activity a ON a.pid = b.pid \
         ORDER BY a.xact_start NULLS LAST LIMIT 1"
    )
}

const PROGRAM: &str = "coalesce(nullif(a.application_name, ''), 'a program without a name')";
/// NULL where the program is another role's.
const AGE: &str = "extract(epoch FROM now() - a.xact_start)::bigint";

/// A transaction as a row has it from this cell on: process, program, age in seconds.
pub fn transaction(row: &Row, from: usize) -> String {
    let (pid, program) = (row.text(from), row.text(from + 1));
    if pid == "0" {
        return "a prepared transaction (see pg_prepared_xacts)".into();
    }
    let age = row.get(from + 2).map(|age| format!(", {age} s old")).unwrap_or_default();
    format!("a transaction of {program} (pid {pid}{age})")
}

/// The number of the connection's process on the server.
pub fn pid(session: &mut Session) -> Result<i32> {
    let rows = session.ask("SELECT pg_backend_pid()")?;
    let row = rows.into_iter().flatten().next();
    row.map(|row| row.number(0)).ok_or_else(|| {
        Error::new(Kind::Data, "the server does not tell the process of the connection")
    })
}
