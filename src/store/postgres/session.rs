//! Statements on one connection, and their results as text. A cell that cannot be read is an
//! error that names the query, never a zero or an empty text.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio_postgres::SimpleQueryMessage;

use super::answer_watch::AnswerBounds;
use super::catalog::SessionCatalog;
use super::client::{CancelRequest, Client, ClientError};
use super::connect::{INSPECTION_STATEMENT_TIMEOUT, SessionServer};
use super::error;
use super::foreign_code::SessionForeignCode;
use super::url::Password;
use crate::error::{Error, Kind, Result};
use crate::store::sql::{literal, qualified};

/// Age at which a connection is replaced. A fault of new connections (a login that is refused, a
/// setting that forbids writing) is found so within this time, as a trading program would meet it.
const MAX_AGE: Duration = Duration::from_secs(30);
/// Comes before the statements of every message. In our schema other roles may be allowed to create
/// functions, operators and types, and one whose arguments fit a call better than those of
/// `pg_catalog` is chosen wherever it stands in the path. So our schema is not in it, and every
/// object of ours is named with its schema. It is set for the transaction only: a pooler would pass
/// a setting of the session on to other programs. (PostgreSQL documentation, "Writing SECURITY
/// DEFINER Functions Safely", "Function Type Resolution")
pub const SEARCH_PATH: &str = "SET LOCAL search_path = pg_catalog, pg_temp";
/// Characters of a query that an error shows.
const SHOWN_QUERY_CHARS: usize = 160;

/// One connection.
pub struct Session {
    /// Its server.
    pub server: SessionServer,
    /// The catalogue as it was last read.
    pub cached_catalog: Option<SessionCatalog>,
    /// Code of other roles on our tables, as it was last looked for.
    pub foreign_code: Option<SessionForeignCode>,
    client: Client,
    /// Number of notices that an object exists already.
    exists_notices: Arc<AtomicUsize>,
    is_broken: bool,
    opened_at: Instant,
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
    ) -> Session {
        Session {
            server,
            cached_catalog: None,
            foreign_code: None,
            client,
            exists_notices,
            is_broken: false,
            opened_at: Instant::now(),
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

    /// Runs statements. Returns the rows of each, in their order.
    ///
    /// # Errors
    /// If the server refuses a statement or the connection is lost. The statements before it are
    /// undone, unless they committed a transaction; an open transaction is aborted.
    pub fn results(&mut self, sql: &str) -> Result<Vec<Vec<Row>>> {
        let mut results = results(&mut self.client, self.password.as_ref(), &with_path(sql))?;
        results.remove(0);
        Ok(results)
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
        self.run_alone(&with_path(sql))
    }

    /// Runs a statement without setting the search path before it: one that ends a transaction or
    /// returns to a savepoint, or that the server does not run in a transaction.
    ///
    /// # Errors
    /// As [`Session::results`].
    pub fn run_alone(&mut self, sql: &str) -> Result<()> {
        self.client.batch_execute(sql).map_err(|e| self.error(&e))
    }

    /// Runs statements. Returns for each how many rows it changed.
    ///
    /// # Errors
    /// As [`Session::results`].
    pub fn changed_rows(&mut self, sql: &str) -> Result<Vec<u64>> {
        let messages = self.client.simple_query(&with_path(sql)).map_err(|e| self.error(&e))?;
        let count = |message| match message {
            SimpleQueryMessage::CommandComplete(rows) => Some(rows),
            _ => None,
        };
        Ok(messages.into_iter().filter_map(count).skip(1).collect())
    }

    /// Sets the statement timeout of inspections again, which a connection has at first.
    ///
    /// # Errors
    /// As [`Session::run`]; the timeout is as it was then.
    pub fn reset_statement_timeout(&mut self) -> Result<()> {
        self.run(&format!("SET statement_timeout = {}", INSPECTION_STATEMENT_TIMEOUT.as_millis()))
    }

    /// Number of notices that an object exists already, since the connection was opened.
    pub fn exists_notices(&self) -> usize {
        self.exists_notices.load(Ordering::Relaxed)
    }

    /// Cancels the statement that runs on this connection, from another thread.
    pub fn cancel_token(&self) -> Option<CancelRequest> {
        self.client.cancel_token()
    }

    /// The bounds of the answers to come.
    pub fn bounds(&mut self) -> &mut AnswerBounds {
        self.client.bounds()
    }

    /// Makes the pool close the connection instead of reusing it.
    pub fn mark_broken(&mut self) {
        self.is_broken = true;
    }

    /// Whether it can be used again.
    pub fn is_usable(&self) -> bool {
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

fn with_path(sql: &str) -> String {
    format!("{SEARCH_PATH}; {sql}")
}

/// Runs statements on a connection. Returns the rows of each, in their order.
///
/// # Errors
/// As [`Session::results`].
pub fn results(
    client: &mut Client,
    password: Option<&Password>,
    sql: &str,
) -> Result<Vec<Vec<Row>>> {
    let query: Arc<str> = Arc::from(sql);
    let mut results = vec![Vec::new()];
    let messages = client.simple_query(sql).map_err(|e| error::from_client(&e, password))?;
    for message in messages {
        match message {
            SimpleQueryMessage::Row(row) => {
                let cell = |at| row.try_get(at).map(|cell| cell.map(str::to_string));
                let cells = (0..row.len()).map(cell).collect::<Result<_, _>>();
                let cells = cells.map_err(|_| unreadable(sql, "has a value that is not UTF-8"))?;
                if let Some(rows) = results.last_mut() {
                    rows.push(Row { cells, query: Arc::clone(&query) });
                }
            }
            SimpleQueryMessage::CommandComplete(_) => results.push(Vec::new()),
            _ => {}
        }
    }
    // Each statement ends with CommandComplete, which begins the rows of the next one.
    results.pop();
    Ok(results)
}

/// A row of a result, its cells as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    cells: Vec<Option<String>>,
    /// The query that gave it, for errors.
    query: Arc<str>,
}

impl Row {
    /// A cell; `None` is NULL.
    pub fn get(&self, at: usize) -> Option<&str> {
        self.cells.get(at)?.as_deref()
    }

    /// A cell that is never NULL.
    ///
    /// # Errors
    /// `Kind::Io` if it is NULL or missing.
    pub fn text(&self, at: usize) -> Result<&str> {
        self.get(at).ok_or_else(|| self.unreadable(at, "NULL"))
    }

    /// A boolean cell.
    ///
    /// # Errors
    /// `Kind::Io` if it is not a boolean.
    pub fn flag(&self, at: usize) -> Result<bool> {
        match self.text(at)? {
            "t" => Ok(true),
            "f" => Ok(false),
            _ => Err(self.unreadable(at, "not a boolean")),
        }
    }

    /// A number.
    ///
    /// # Errors
    /// `Kind::Io` if it is not a number of this type.
    pub fn number<N: FromStr>(&self, at: usize) -> Result<N> {
        self.text(at)?.parse().map_err(|_| self.unreadable(at, "not a number"))
    }

    fn unreadable(&self, at: usize, what: &str) -> Error {
        unreadable(&self.query, &format!("has in column {} a value that is {what}", at + 1))
    }
}

/// The error of a result that is not what the query gives on PostgreSQL.
fn unreadable(query: &str, what: &str) -> Error {
    let query = query.strip_prefix(SEARCH_PATH).unwrap_or(query).trim_start_matches(';');
    let words: Vec<&str> = query.split_whitespace().collect();
    let query = words.join(" ");
    let mut rest = query.chars();
    let shown: String = rest.by_ref().take(SHOWN_QUERY_CHARS).collect();
    let more = if rest.next().is_some() { " …" } else { "" };
    Error::new(Kind::Io, format!("the result of a query {what}: {shown}{more}"))
        .remedy("check whether a proxy or a connection pooler between cts and the server alters results, and connect to the server directly")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[Option<&str>]) -> Row {
        let cells = cells.iter().map(|cell| cell.map(str::to_string)).collect();
        Row { cells, query: "SELECT  count(*)\n FROM users".into() }
    }

    #[test]
    fn cells_are_read() {
        let row = row(&[Some("7"), Some("t"), Some("f"), None]);
        assert_eq!((row.number(0), row.text(0)), (Ok(7_u64), Ok("7")));
        assert_eq!((row.flag(1), row.flag(2), row.get(3)), (Ok(true), Ok(false), None));
    }

    #[test]
    fn an_unreadable_cell_is_an_error_that_names_the_query_and_never_zero() {
        let row = row(&[None, Some(""), Some("-1"), Some("many")]);
        for at in 0..5 {
            let error = row.number::<u64>(at).unwrap_err();
            assert_eq!(error.kind, Kind::Io);
            assert!(error.what.ends_with(": SELECT count(*) FROM users"), "{error}");
            assert!(error.what.contains(&format!("column {}", at + 1)), "{error}");
            assert!(row.flag(at).is_err());
        }
        assert!(row.text(0).is_err() && row.text(4).is_err());
    }

    #[test]
    fn a_long_query_is_cut() {
        let error = unreadable(&format!("SELECT {}", "x ".repeat(500)), "has no row");
        assert!(error.what.ends_with(" …") && error.what.chars().count() < 250, "{error}");
    }
}
