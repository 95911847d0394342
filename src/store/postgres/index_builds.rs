//! The builds of an index that run on the server, ours and those of others. Behind a pooler it is not known
//! which process of the server runs a statement of ours, and the server goes on with a build whose client
//! was killed; so they are recognised by what they do.

use super::lock::{AGE_SECONDS, BlockingTransaction, PROGRAM};
use super::row::Row;
use super::session::Session;
use crate::error::{Error, Kind, Result};
use crate::store::sql::{literal, quoted};

/// Bytes of a statement that the server shows at least. (`track_activity_query_size`)
const SHOWN_QUERY_BYTES_MIN: usize = 100 - 1;

/// An index on a table of ours.
pub struct BuiltIndex<'i> {
    /// The table.
    pub table: &'i str,
    /// The name of the index.
    pub name: &'i str,
}

/// How far the builds of an index are.
pub struct BuildProgress {
    /// Rows that are done, and all rows.
    pub rows: Option<(u64, u64)>,
    /// The transaction of another session that the build waits for.
    pub blocked_by: Option<BlockingTransaction>,
    /// Whether it waits for the transaction that asks.
    pub is_blocked_by_us: bool,
}

impl BuiltIndex<'_> {
    /// Refuses to go on while another session builds the index: an INVALID index is no leftover then.
    ///
    /// # Errors
    /// `Kind::Blocked` with the session; or if the query fails, and a transaction that is open is aborted.
    pub fn refuse_running_build(&self, session: &mut Session) -> Result<()> {
        let sql = format!(
            "{} SELECT a.pid, {PROGRAM}, {AGE_SECONDS} FROM builds b JOIN pg_stat_activity a ON a.pid = b.pid LIMIT 1",
            self.builds(session)
        );
        let Some(row) = session.first_row(&sql)? else { return Ok(()) };
        let builder = BlockingTransaction::read(&row, 0)?;
        let what = format!("index {} is being built by {builder}", self.name);
        let error = Error::new(Kind::Blocked, what);
        Err(match builder.pid {
            Some(pid) => error
                .remedy(format!("let it finish, or end it (`SELECT pg_terminate_backend({pid})`)")),
            None => error,
        })
    }

    /// How far the builds of it are. Asked in a transaction, it sees the present state each time.
    ///
    /// # Errors
    /// If a query fails; a transaction that is open is aborted then.
    pub fn progress(&self, session: &mut Session) -> Result<BuildProgress> {
        let builds = self.builds(session);
        let sql = format!(
            "SELECT pg_stat_clear_snapshot(); \
             {builds} SELECT p.tuples_done, p.tuples_total FROM builds b JOIN pg_stat_progress_create_index p ON p.pid = b.pid \
                 WHERE p.tuples_total IS NOT NULL; \
             {builds} SELECT w.pid, {PROGRAM}, {AGE_SECONDS}, w.pid = pg_backend_pid() \
                 FROM builds b, unnest(pg_blocking_pids(b.pid)) w(pid) LEFT JOIN pg_stat_activity a ON a.pid = w.pid \
                 WHERE w.pid NOT IN (SELECT pid FROM builds) ORDER BY w.pid = pg_backend_pid() DESC, a.xact_start NULLS LAST"
        );
        let [_, rows, blocking] = session.results_of(&sql)?;
        let rows = rows.first().map(|row| Ok((row.number(0)?, row.number(1)?))).transpose()?;
        let is_ours = |row: &Row| row.flag(3);
        let mut progress = BuildProgress { rows, blocked_by: None, is_blocked_by_us: false };
        for row in &blocking {
            match is_ours(row)? {
                true => progress.is_blocked_by_us = true,
                false if progress.blocked_by.is_none() => {
                    progress.blocked_by = Some(BlockingTransaction::read(row, 0)?);
                }
                false => {}
            }
        }
        Ok(progress)
    }

    /// A common table expression with the processes that build the index or wait to do so: they hold, or wait
    /// for, the lock of such a build, and have its progress or one of its statements. That of another role shows no
    /// statement.
    fn builds(&self, session: &Session) -> String {
        let statements = [
            format!("CREATE INDEX CONCURRENTLY {}", quoted(self.name)),
            format!("CREATE UNIQUE INDEX CONCURRENTLY {}", quoted(self.name)),
            drop_sql(session, self.name),
        ]
        .map(|mut statement| {
            let mut cut = statement.len().min(SHOWN_QUERY_BYTES_MIN);
            while !statement.is_char_boundary(cut) {
                cut -= 1;
            }
            statement.truncate(cut);
            format!("starts_with(q.query, {})", literal(&statement))
        });
        format!(
            "WITH builds AS MATERIALIZED (SELECT DISTINCT l.pid FROM pg_locks l JOIN pg_stat_activity q ON q.pid = l.pid \
                 LEFT JOIN pg_stat_progress_create_index p ON p.pid = l.pid \
             WHERE l.locktype = 'relation' AND l.mode = 'ShareUpdateExclusiveLock' \
                 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
                 AND l.relation = {}::regclass AND l.pid <> pg_backend_pid() \
                 AND (p.index_relid = to_regclass({}) OR p.pid IS NOT NULL AND p.command IS NULL \
                     OR q.state = 'active' AND ({})))",
            session.qualified_literal(self.table),
            session.qualified_literal(self.name),
            statements.join(" OR ")
        )
    }
}

/// The statement that drops an invalid index before it is built again.
pub fn drop_sql(session: &Session, index: &str) -> String {
    format!("DROP INDEX CONCURRENTLY IF EXISTS {}", session.qualified(index))
}
