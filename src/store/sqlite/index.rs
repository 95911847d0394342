//! Creates an index of a table again.

use rusqlite::Connection;

use super::catalog::number;
use super::error::Result;
use super::inspect::NameHolder;
use crate::store::sql::{
    count_duplicates as count_duplicates_sql, create_index, not_unique, quoted,
};
use crate::store::{Obstacle, Progress};
use cts_schema::catalog::{Index, Object, Text};
use cts_schema::constraint_exception::ConstraintException;

/// Drops the index if the table has it, and creates it; without UNIQUE if rows share a key, which is
/// the exception that is returned. A transaction is open.
///
/// # Errors
/// If another object has the name, or SQLite refuses a statement. The transaction has to be rolled
/// back then.
pub fn create(
    conn: &Connection,
    table: &str,
    index: &Index,
    progress: &dyn Fn(Progress<'_>),
) -> Result<Option<ConstraintException>> {
    refuse_taken_name(conn, table, index)?;
    let object = &Object::Index(table.into(), index.name.to_string());
    let total = number(conn, &format!("SELECT count(*) FROM {}", quoted(table)))?;
    progress(Progress::of_rows(object, 0, total));
    let duplicates = if index.unique { count_duplicates(conn, table, index)? } else { 0 };
    let create = if duplicates > 0 || index.definition.is_empty() {
        create_index(&quoted(table), index, duplicates == 0, "")
    } else {
        index.definition.to_string()
    };
    conn.execute_batch(&format!("DROP INDEX IF EXISTS {}; {create}", quoted(&index.name)))?;
    progress(Progress::of_rows(object, total, total));
    Ok(not_unique(table, index, duplicates))
}

fn refuse_taken_name(conn: &Connection, table: &str, index: &Index) -> Result<()> {
    match NameHolder::find(conn, &index.name)? {
        Some(holder) if !holder.is_index_of(table) => {
            let object = Object::Index(table.into(), index.name.to_string());
            Err(Obstacle::name_taken(&object, &holder.to_string()).error.into())
        }
        _ => Ok(()),
    }
}

/// The number of rows that share a key of a unique index. NULLs are never equal in one.
///
/// # Errors
/// If the query fails, for example because the table has not all columns of the index.
pub fn count_duplicates(conn: &Connection, table: &str, index: &Index) -> rusqlite::Result<u64> {
    // The collation of the index, which that of the column may not be.
    let value = |column: &Text| {
        let mut words = column.split(' ');
        let name = quoted(words.next().unwrap_or_default());
        let collation = words.skip_while(|word| *word != "COLLATE").nth(1).unwrap_or("BINARY");
        format!("{name} COLLATE {collation}")
    };
    let values: Vec<String> = index.columns.iter().map(value).collect();
    number(conn, &count_duplicates_sql(&quoted(table), index, &values))
}
