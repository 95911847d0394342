//! The schema reference: a page that describes every table, column and index on both databases. It is
//! made from the comments of the SQL files and from the expected catalogues. Text in, text out: no file
//! is read or written here.
//!
//! The form of the comments is described in `schema/sqlite/unified_complete_setup.sql`.

mod block;
mod column;
mod comments;
mod page;
mod rows;

use std::fmt;

use crate::catalog::Catalog;
use crate::sql::SqlFile;
use comments::Comments;

/// The schema of one database: its SQL files and the catalogue they lead to.
#[derive(Clone, Copy, Debug)]
pub struct SchemaSource<'a> {
    /// The SQL files in the order in which they are applied, without the fallback.
    pub files: &'a [SqlFile<'a>],
    /// The catalogue of an empty database to which the files were applied.
    pub catalog: &'a Catalog,
}

/// A comment that is missing or does not have the agreed form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommentDefect {
    /// The file and line, or the table, column or index without a comment.
    pub location: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for CommentDefect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.location, self.reason)
    }
}

/// The schema reference as a Markdown page. Tables, columns and indexes are described by the comments
/// of the SQLite files; the comments of the PostgreSQL files are shown as differences.
///
/// # Errors
/// Where a table, a column or an index has no comment in the SQLite files, or where a comment in either
/// folder does not have the agreed form. All such places are listed.
pub fn page(
    sqlite: &SchemaSource<'_>,
    postgres: &SchemaSource<'_>,
) -> Result<String, Vec<CommentDefect>> {
    let mut defects = Vec::new();
    let described = Comments::read(sqlite.files, &mut defects);
    let differences = Comments::read(postgres.files, &mut defects);
    described.check(sqlite.catalog, &mut defects);
    differences.check_names(postgres.catalog, &mut defects);
    if defects.is_empty() {
        Ok(page::Page { sqlite, postgres, described: &described, differences: &differences }
            .render())
    } else {
        Err(defects)
    }
}
