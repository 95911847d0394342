//! The migration lock: an advisory lock of the database, one for each schema, held by the transaction of
//! the migration itself. So it ends with that transaction, whatever becomes of the connection: a lock of the
//! session would stay on a connection of a pooler that another program uses next. It is polled, and never
//! waited for on the server: a process that waits inside `pg_advisory_xact_lock` holds a snapshot, for
//! which `CREATE INDEX CONCURRENTLY` of the lock's holder would wait in turn.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::catalog::schema_oid;
use super::error::is_lock_timeout;
use super::pool::{PooledSession, SessionPool};
use super::row::{Row, unreadable};
use super::session::Session;
use super::settings::{TimeLimits, TransactionMode};
use crate::error::{Error, Kind, Result};
use crate::store::{Holder, WaitPolicy};

/// The first of the lock's two keys, "CTS3" as in the application id of a SQLite file. The second
/// is the oid of the schema.
const KEY: i32 = 0x4354_5333;
/// Between two attempts to take the lock.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long opening the connection of the lock may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The two keys of an advisory lock on a schema, as SQL.
fn keys_of(key: i32, schema: &str) -> String {
    format!("{key}, {}::int4", schema_oid(schema))
}

/// A connection with an open transaction that holds the migration lock, or another lock on a schema. Dropped,
/// it rolls back.
pub struct LockedSession {
    session: PooledSession,
}

impl LockedSession {
    /// Takes the migration lock, and waits for it as the policy says.
    ///
    /// # Errors
    /// Those of [`SessionPool::get`]; `Kind::TryAgain` after the policy's timeout, `Kind::Stopped`
    /// when it is cancelled. The lock is not held then.
    pub fn take(pool: &SessionPool, wait: &WaitPolicy<'_>) -> Result<LockedSession> {
        LockedSession::take_lock(pool, KEY, wait)
    }

    /// Takes the lock with this first key.
    ///
    /// # Errors
    /// As [`LockedSession::take`].
    pub fn take_lock(pool: &SessionPool, key: i32, wait: &WaitPolicy<'_>) -> Result<LockedSession> {
        let mut session = pool.get(CONNECT_TIMEOUT)?;
        session.bounds().stop = Arc::clone(wait.cancelled);
        let locked = RefCell::new(LockedSession { session });
        let attempt = || {
            if locked.borrow_mut().try_lock(key)? {
                return Ok(Some(()));
            }
            thread::sleep(POLL_INTERVAL);
            Ok(None)
        };
        let holder = || holder_of(&mut locked.borrow_mut().session, key).ok().flatten();
        wait.until_unlocked(attempt, holder)?;
        Ok(locked.into_inner())
    }

    /// Begins a transaction that holds the lock; returns false, and leaves none open, where another holds it.
    fn try_lock(&mut self, key: i32) -> Result<bool> {
        let session = &mut self.session;
        let sql =
            format!("SELECT pg_try_advisory_xact_lock({})", keys_of(key, &session.server.schema));
        let taken = session.begin(TransactionMode::ReadCommitted, TimeLimits::MIGRATION, &sql)?;
        let is_taken = match taken.iter().flatten().next() {
            Some(row) => row.flag(0),
            None => Err(unreadable(&sql, "has no row")),
        };
        if !matches!(is_taken, Ok(true)) {
            session.roll_back();
        }
        is_taken
    }

    /// Takes the migration lock again, on another connection if this one is lost, where it is not held any
    /// more and another does not hold it. Limits the time of statements to `limit`.
    ///
    /// # Errors
    /// Those of [`SessionPool::reopen`], or if a query fails.
    pub fn hold(&mut self, pool: &SessionPool, limit: Duration) -> Result<()> {
        if !self.session.is_alive() {
            pool.reopen(&mut self.session, limit)?;
        }
        if !self.is_in_transaction() {
            self.try_lock(KEY)?;
        }
        self.session.limit_statements(limit)
    }

    /// Gives the lock up by ending the connection, where a statement could wait for a server that hangs.
    pub fn give_up(&mut self) {
        self.session.mark_broken();
    }

    /// The connection.
    pub fn session(&mut self) -> &mut PooledSession {
        &mut self.session
    }

    /// Whether its transaction is open, and the lock held.
    pub fn is_in_transaction(&self) -> bool {
        self.session.is_in_transaction()
    }
}

impl Drop for LockedSession {
    fn drop(&mut self) {
        self.session.roll_back();
    }
}

/// The process that holds the migration lock.
///
/// # Errors
/// If the query fails.
pub fn holder(session: &mut Session) -> Result<Option<Holder>> {
    holder_of(session, KEY)
}

/// The process that holds the lock with this first key. (PostgreSQL documentation, pg_locks: two keys are
/// classid and objid, with objsubid 2)
///
/// # Errors
/// If the query fails.
pub fn holder_of(session: &mut Session, key: i32) -> Result<Option<Holder>> {
    let sql = format!(
        "SELECT l.pid, {PROGRAM}, host(a.client_addr), {AGE_SECONDS} \
         FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid \
         WHERE l.locktype = 'advisory' AND l.granted AND l.classid = {key}::oid \
             AND l.objid = {} AND l.objsubid = 2 \
             AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
             AND l.pid <> pg_backend_pid()",
        schema_oid(&session.server.schema)
    );
    let holder = |row: Row| {
        let (pid, program) = (row.number(0)?, row.text(1)?.to_string());
        let client = row.get(2).map(|address| format!("connected from {address}"));
        let age = row.get(3).map(|seconds| format!("in a transaction for {seconds} s"));
        let since: Vec<String> = client.into_iter().chain(age).collect();
        let since = (!since.is_empty()).then(|| since.join(", "));
        Ok(Holder { pid, program, is_on_server: true, since })
    };
    session.first_row(&sql)?.map(holder).transpose()
}

/// Adds to an error of work that was blocked by a lock, and is rolled back, which transaction holds
/// locks.
pub fn with_lock_holder(session: &mut Session, error: Error) -> Error {
    if error.kind != Kind::Blocked {
        return error;
    }
    match table_lock_holder(session) {
        Ok(Some(holder)) if is_lock_timeout(&error) => Error { what: holder, ..error },
        Ok(Some(holder)) => Error { what: format!("{}: {holder}", error.what), ..error },
        // The error is true without it.
        Ok(None) | Err(_) => error,
    }
}

/// The transaction that probably holds the lock which was not granted: of those that hold locks on
/// tables of the schema, the oldest.
pub fn table_lock_holder(session: &mut Session) -> Result<Option<String>> {
    let sql = format!(
        "SELECT c.relname, quote_literal(p.gid), l.pid, {PROGRAM}, {AGE_SECONDS} \
         FROM pg_locks l JOIN pg_class c ON c.oid = l.relation AND c.relnamespace = {} \
             LEFT JOIN pg_stat_activity a ON a.pid = l.pid \
             LEFT JOIN (pg_locks x JOIN pg_prepared_xacts p ON p.transaction = x.transactionid) \
                 ON l.pid IS NULL AND x.pid IS NULL AND x.virtualtransaction = l.virtualtransaction \
         WHERE l.granted AND l.pid IS DISTINCT FROM pg_backend_pid() AND c.relkind IN ('r', 'p') \
             AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
         ORDER BY coalesce(p.prepared, a.xact_start) NULLS LAST LIMIT 1",
        schema_oid(&session.server.schema)
    );
    let Some(row) = session.first_row(&sql)? else { return Ok(None) };
    let table = row.text(0)?;
    if let Some(gid) = row.get(1) {
        return Ok(Some(format!(
            "table {table} is locked by the prepared transaction {gid}, which only `ROLLBACK PREPARED {gid}` or `COMMIT PREPARED {gid}` ends"
        )));
    }
    Ok(Some(format!("table {table} is locked by {}", BlockingTransaction::read(&row, 2)?)))
}

/// The program of a row `a` of `pg_stat_activity`.
pub const PROGRAM: &str =
    "coalesce(nullif(a.application_name, ''), 'a program without application_name')";
/// The age of its transaction. NULL for a program of another role.
pub const AGE_SECONDS: &str = "extract(epoch FROM now() - a.xact_start)::bigint";

/// A transaction that blocks others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockingTransaction {
    /// The process of the server; `None` of a prepared transaction.
    pub pid: Option<u32>,
    program: String,
    age_seconds: Option<i64>,
}

impl BlockingTransaction {
    /// Reads process, program and age from three cells of a row.
    ///
    /// # Errors
    /// `Kind::Io` if a cell cannot be read.
    pub fn read(row: &Row, from: usize) -> Result<BlockingTransaction> {
        // pg_blocking_pids() gives 0 for a prepared transaction; pg_locks gives NULL.
        let pid = row.get(from).map(|_| row.number(from)).transpose()?;
        Ok(BlockingTransaction {
            pid: pid.filter(|pid| *pid != 0),
            program: row.text(from + 1)?.to_string(),
            age_seconds: row.get(from + 2).map(|_| row.number(from + 2)).transpose()?,
        })
    }
}

impl fmt::Display for BlockingTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.pid, self.age_seconds) {
            (None, _) => f.write_str("a prepared transaction (see pg_prepared_xacts)"),
            (Some(pid), Some(age)) => {
                write!(f, "a transaction of {} (pid {pid}, {age} s old)", self.program)
            }
            (Some(pid), None) => write!(f, "a transaction of {} (pid {pid})", self.program),
        }
    }
}
