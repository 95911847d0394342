//! The rows of a result, as text. A cell that cannot be read is an error that names the query, never a
//! zero or an empty text.

use std::str::FromStr;
use std::sync::Arc;

use tokio_postgres::SimpleQueryMessage;

use super::client::Client;
use super::error;
use super::url::Password;
use crate::error::{Error, Kind, Result};

/// Characters of a query that an error shows.
const SHOWN_QUERY_CHARS: usize = 160;

/// Runs the statements of a message on a connection. Returns the rows of each, in their order. `query` is
/// the part of the message that errors show.
///
/// # Errors
/// If the server refuses a statement, or the connection is lost.
pub fn results(
    client: &mut Client,
    password: Option<&Password>,
    message: &str,
    query: &str,
) -> Result<Vec<Vec<Row>>> {
    let query: Arc<str> = Arc::from(query);
    let mut results = vec![Vec::new()];
    let messages = client.simple_query(message).map_err(|e| error::from_client(&e, password))?;
    for message in messages {
        match message {
            SimpleQueryMessage::Row(row) => {
                let cell = |at| row.try_get(at).map(|cell| cell.map(str::to_string));
                let cells = (0..row.len()).map(cell).collect::<Result<_, _>>();
                let cells =
                    cells.map_err(|_| unreadable(&query, "has a value that is not UTF-8"))?;
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
pub fn unreadable(query: &str, what: &str) -> Error {
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
