//! Statements on one connection, and their results as text; [`transactions`] begins and ends the transactions
//! that they run in, and [`copying`] hands on the rows of a COPY.
//!
//! No statement changes a setting of the session, and none but a COPY is prepared: behind a pooler in transaction
//! mode, each transaction may run on another connection of the server, which other programs use next.
//! What cts needs set is set for one transaction, by the [`super::settings`] before its first statement.

mod copying;
mod transactions;

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
use super::settings::TimeLimits;
use super::url::Password;
use crate::error::{Error, Result};
use crate::store::sql::{literal, qualified};

pub use copying::CopyFeed;

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

    /// Ends the connection, and with it what its transaction holds.
    pub fn close(&mut self) {
        self.client.close();
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
