//! Statements on one connection, and their results as text.
//!
//! No statement changes a setting of the session, and none is prepared: behind a pooler in transaction
//! mode, each transaction may run on another connection of the server, which other programs use next.
//! What cts needs set is set for one transaction, by the [`settings`] before its first statement.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio_postgres::SimpleQueryMessage;

use super::answer_watch::AnswerBounds;
use super::catalog::SessionCatalog;
use super::client::{CancelRequest, Client, ClientError};
use super::connect::SessionServer;
use super::error;
use super::foreign_code::SessionForeignCode;
use super::row::{Row, results, unreadable};
use super::settings::{
    MESSAGE_ISOLATION, TimeLimits, TransactionMode, settings, statement_timeout,
};
use super::url::Password;
use crate::error::{Error, Result};
use crate::store::sql::{literal, qualified};

/// Age at which a connection is replaced. A fault of new connections (a login that is refused, a
/// setting that forbids writing) is found so within this time, as a trading program would meet it.
const MAX_AGE: Duration = Duration::from_secs(30);

/// One connection.
pub struct Session {
    /// Its server.
    pub server: SessionServer,
    /// The catalogue as it was last read.
    pub cached_catalog: Option<SessionCatalog>,
    /// Code of other roles on our tables, as it was last looked for.
    pub foreign_code: Option<SessionForeignCode>,
    client: Client,
    /// The time limits of the transaction that is open, or of the next ones.
    limits: TimeLimits,
    /// While a transaction is open: the time limits after its end.
    limits_after: Option<TimeLimits>,
    /// Number of notices that an object exists already.
    exists_notices: Arc<AtomicUsize>,
    is_broken: bool,
    opened_at: Instant,
    /// When it began to be opened.
    connecting_since: Instant,
    /// The password of the connection, which no error may contain.
    password: Option<Password>,
}

impl Session {
    /// Wraps a connection that has just been opened.
    pub fn new(
        client: Client,
        server: SessionServer,
        exists_notices: Arc<AtomicUsize>,
        password: Option<Password>,
        connecting_since: Instant,
    ) -> Session {
        Session {
            server,
            cached_catalog: None,
            foreign_code: None,
            client,
            limits: TimeLimits::INSPECTION,
            limits_after: None,
            exists_notices,
            is_broken: false,
            opened_at: Instant::now(),
            connecting_since,
            password,
        }
    }

    /// The name of an object of our schema, as SQL.
    pub fn qualified(&self, name: &str) -> String {
        qualified(&self.server.schema, name)
    }

    /// The same as a literal, for a cast to `regclass`.
    pub fn qualified_literal(&self, name: &str) -> String {
        literal(&self.qualified(name))
    }

    /// Runs statements, in the transaction that is open, else in one of their own. Returns the rows of each,
    /// in their order.
    ///
    /// # Errors
    /// If the server refuses a statement or the connection is lost. The statements before it are
    /// undone; a transaction that is open is aborted.
    pub fn results(&mut self, sql: &str) -> Result<Vec<Vec<Row>>> {
        self.in_transaction(sql, |session| {
            let (message, set) = session.message(sql);
            session.wait_as_limited();
            let mut results =
                results(&mut session.client, session.password.as_ref(), &message, sql)?;
            Ok(results.split_off(set.min(results.len())))
        })
    }

    /// Runs statements of which the first `N` are queries. Returns the rows of each query.
    ///
    /// # Errors
    /// As [`Session::results`], and `Kind::Io` if there are fewer results.
    pub fn results_of<const N: usize>(&mut self, sql: &str) -> Result<[Vec<Row>; N]> {
        let mut results = self.results(sql)?;
        results.truncate(N);
        results.try_into().map_err(|_| unreadable(sql, "is incomplete"))
    }

    /// Runs statements. Returns all rows.
    ///
    /// # Errors
    /// As [`Session::results`].
    pub fn rows(&mut self, sql: &str) -> Result<Vec<Row>> {
        Ok(self.results(sql)?.into_iter().flatten().collect())
    }

    /// Runs a query. Returns its first row, if it has one.
    ///
    /// # Errors
    /// As [`Session::results`].
    pub fn first_row(&mut self, sql: &str) -> Result<Option<Row>> {
        Ok(self.results(sql)?.into_iter().flatten().next())
    }

    /// Runs a query that gives a row.
    ///
    /// # Errors
    /// As [`Session::results`], and `Kind::Io` if the result has no row.
    pub fn row(&mut self, sql: &str) -> Result<Row> {
        self.first_row(sql)?.ok_or_else(|| unreadable(sql, "has no row"))
    }

    /// Runs a query that gives one number, such as a count.
    ///
    /// # Errors
    /// As [`Session::row`], and `Kind::Io` if the result is not a number.
    pub fn number<N: FromStr>(&mut self, sql: &str) -> Result<N> {
        self.row(sql)?.number(0)
    }

    /// Runs a query that gives one boolean.
    ///
    /// # Errors
    /// As [`Session::row`], and `Kind::Io` if the result is not a boolean.
    pub fn flag(&mut self, sql: &str) -> Result<bool> {
        self.row(sql)?.flag(0)
    }

    /// Runs statements and discards their rows.
    ///
    /// # Errors
    /// As [`Session::results`].
    pub fn run(&mut self, sql: &str) -> Result<()> {
        self.in_transaction(sql, |session| {
            let (message, _) = session.message(sql);
            session.execute(&message)
        })
    }

    /// Runs a statement that the server does not run in a transaction, with the settings of the role.
    ///
    /// # Errors
    /// As [`Session::results`].
    pub fn run_outside_transaction(&mut self, sql: &str) -> Result<()> {
        self.client.bounds().statement_timeout = None;
        self.client.batch_execute(sql).map_err(|e| self.error(&e))
    }

    /// Runs statements. Returns for each how many rows it changed.
    ///
    /// # Errors
    /// As [`Session::results`].
    pub fn changed_rows(&mut self, sql: &str) -> Result<Vec<u64>> {
        self.in_transaction(sql, |session| {
            let (message, set) = session.message(sql);
            session.wait_as_limited();
            let messages = session.client.simple_query(&message).map_err(|e| session.error(&e))?;
            let count = |message| match message {
                SimpleQueryMessage::CommandComplete(rows) => Some(rows),
                _ => None,
            };
            Ok(messages.into_iter().filter_map(count).skip(set).collect())
        })
    }

    /// Begins a transaction with these time limits, and runs statements in it. Returns the rows of each.
    ///
    /// # Errors
    /// As [`Session::results`]. No transaction is open then.
    pub fn begin(
        &mut self,
        mode: TransactionMode,
        limits: TimeLimits,
        sql: &str,
    ) -> Result<Vec<Vec<Row>>> {
        let begin = format!("{}; {}", mode.begin_sql(), settings(self.server.version, limits));
        self.limits_after.get_or_insert(self.limits);
        self.limits = limits;
        let begun = match is_parsed_alike(sql) {
            true => {
                let set = statements_of(&begin);
                let message = format!("{begin}; {sql}");
                self.wait_as_limited();
                results(&mut self.client, self.password.as_ref(), &message, sql)
                    .map(|mut results| results.split_off(set.min(results.len())))
            }
            false => self.execute(&begin).and_then(|()| self.results(sql)),
        };
        begun.inspect_err(|_| self.roll_back())
    }

    /// Runs statements, and commits the transaction. Returns the rows of each.
    ///
    /// # Errors
    /// As [`Session::results`]. The transaction is rolled back then, unless the connection was lost while it
    /// was committed.
    pub fn commit_after(&mut self, sql: &str) -> Result<Vec<Vec<Row>>> {
        let done = self.results(&format!("{sql}; COMMIT"));
        match done {
            Ok(mut results) => {
                self.end_transaction();
                results.pop();
                Ok(results)
            }
            Err(error) => {
                self.roll_back();
                Err(error)
            }
        }
    }

    /// Commits the transaction.
    ///
    /// # Errors
    /// If the server refuses it, and then has rolled it back, or if the connection is lost meanwhile.
    pub fn commit(&mut self) -> Result<()> {
        let done = self.execute("COMMIT");
        self.end_transaction();
        done
    }

    /// Rolls back the transaction, if one is open. Where that fails, the connection is not used again, and
    /// the server rolls back when it ends.
    pub fn roll_back(&mut self) {
        if self.is_in_transaction() {
            self.is_broken = self.is_broken || self.execute("ROLLBACK").is_err();
            self.end_transaction();
        }
    }

    /// The time limits of the transaction that is open, or of the next ones.
    pub fn limits(&self) -> TimeLimits {
        self.limits
    }

    /// Whether a transaction is open. It may have been aborted by an error.
    pub fn is_in_transaction(&self) -> bool {
        self.limits_after.is_some()
    }

    /// Runs `work` without a limit on the time of its statements.
    ///
    /// # Errors
    /// That of `work`, or if the limit cannot be set; a transaction that is open is aborted then.
    pub fn without_statement_timeout<T>(
        &mut self,
        work: impl FnOnce(&mut Session) -> Result<T>,
    ) -> Result<T> {
        let limit = self.limits.statement;
        self.limit_statements(Duration::ZERO)?;
        let done = work(self);
        match done {
            Ok(value) => self.limit_statements(limit).map(|()| value),
            // In a transaction that is aborted, nothing can be set, and its end does it.
            Err(error) => {
                self.limits.statement = limit;
                Err(error)
            }
        }
    }

    /// Limits the time of the following statements of the transaction that is open, else that of all; zero is no
    /// limit.
    ///
    /// # Errors
    /// If the limit cannot be set; the transaction is aborted then.
    pub fn limit_statements(&mut self, limit: Duration) -> Result<()> {
        if self.is_in_transaction() && self.limits.statement != limit {
            self.execute(&statement_timeout(limit))?;
        }
        self.limits.statement = limit;
        Ok(())
    }

    /// Notes that the transaction has ended.
    fn end_transaction(&mut self) {
        if let Some(limits) = self.limits_after.take() {
            self.limits = limits;
        }
    }

    /// Runs `work`, which sends `sql`, in the transaction that is open. Where none is, it begins one if the
    /// settings that come in the same message would not yet be in force while the server parses it.
    fn in_transaction<T>(
        &mut self,
        sql: &str,
        work: impl FnOnce(&mut Session) -> Result<T>,
    ) -> Result<T> {
        if self.is_in_transaction() || is_parsed_alike(sql) {
            return work(self);
        }
        self.begin(TransactionMode::ReadCommitted, self.limits, "")?;
        let done = work(self).and_then(|value| self.commit().map(|()| value));
        done.inspect_err(|_| self.roll_back())
    }

    /// The message that runs statements, with the settings before them where no transaction is open, and the
    /// number of statements of these.
    fn message(&self, sql: &str) -> (String, usize) {
        if self.is_in_transaction() {
            return (sql.to_string(), 0);
        }
        let settings =
            format!("{MESSAGE_ISOLATION}; {}", settings(self.server.version, self.limits));
        let set = statements_of(&settings);
        (format!("{settings}; {sql}"), set)
    }

    fn execute(&mut self, sql: &str) -> Result<()> {
        self.wait_as_limited();
        self.client.batch_execute(sql).map_err(|e| self.error(&e))
    }

    /// Waits for the next answer as long as the server may take for its statements.
    fn wait_as_limited(&mut self) {
        let limit = self.limits.statement;
        self.client.bounds().statement_timeout = (!limit.is_zero()).then_some(limit);
    }

    /// Number of notices that an object exists already, since the connection was opened.
    pub fn exists_notices(&self) -> usize {
        self.exists_notices.load(Ordering::Relaxed)
    }

    /// Whether the process of the server is older than this connection: then a pooler is before the server.
    ///
    /// # Errors
    /// As [`Session::results`].
    pub fn is_pooled(&mut self) -> Result<bool> {
        let age = "SELECT extract(epoch FROM clock_timestamp() - backend_start) * 1000 \
             FROM pg_stat_activity WHERE pid = pg_backend_pid()";
        let age_milliseconds: f64 = self.number(age)?;
        Ok(age_milliseconds > self.connecting_since.elapsed().as_secs_f64() * 1000.0)
    }

    /// Cancels the statement that runs on this connection, from another thread.
    pub fn cancel_token(&self) -> Option<CancelRequest> {
        self.client.cancel_token()
    }

    /// The bounds of the answers to come.
    pub fn bounds(&mut self) -> &mut AnswerBounds {
        self.client.bounds()
    }

    /// Lets what is left to do after the work was told to stop be done within `limit`, instead of being cancelled.
    pub fn finish_within(&mut self, limit: Duration) {
        let bounds = self.client.bounds();
        if bounds.stop.load(Ordering::Relaxed) {
            *bounds = AnswerBounds::within(limit, &Arc::default());
        }
    }

    /// Makes the pool close the connection instead of reusing it.
    pub fn mark_broken(&mut self) {
        self.is_broken = true;
    }

    /// Whether it can be used again.
    pub fn is_usable(&self) -> bool {
        self.is_alive() && !self.is_in_transaction()
    }

    /// Whether statements can be run on it.
    pub fn is_alive(&self) -> bool {
        !self.is_broken && !self.client.is_closed()
    }

    /// Whether it is to be replaced by a new one.
    pub fn is_old(&self) -> bool {
        self.opened_at.elapsed() >= MAX_AGE
    }

    fn error(&self, cause: &ClientError) -> Error {
        error::from_client(cause, self.password.as_ref())
    }
}

/// The number of statements of settings, none of which contains a semicolon.
fn statements_of(settings: &str) -> usize {
    settings.split(';').count()
}

/// Whether the server parses statements alike with `standard_conforming_strings` on and off. It parses a
/// message as a whole, before it runs the settings at its beginning. (PostgreSQL documentation, "String
/// Constants with C-Style Escapes")
fn is_parsed_alike(sql: &str) -> bool {
    !sql.contains('\\')
}
