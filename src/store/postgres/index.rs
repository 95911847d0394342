//! Creates indexes in a transaction, and counts the rows that share a key of a unique one.

use super::catalog::schema_oid;
use super::session::Session;
use crate::error::{Error, Kind, Result};
use crate::store::Progress;
use crate::store::sql::{self, create_index, index_columns, literal, not_unique, quoted};
use cts_schema::catalog::{Index, Object};
use cts_schema::constraint_exception::ConstraintException;

/// The state of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexState {
    /// There is no index of that name.
    Missing,
    /// A cancelled `CREATE INDEX CONCURRENTLY` has left it.
    Invalid,
    /// It is complete.
    Valid,
}

/// The state of the index of that name.
///
/// # Errors
/// If the query fails; an open transaction is aborted then.
pub fn state(session: &mut Session, name: &str) -> Result<IndexState> {
    let sql = format!(
        "SELECT x.indisvalid AND x.indisready FROM pg_class c JOIN pg_index x ON x.indexrelid = c.oid \
         WHERE c.relnamespace = {} AND c.relname = {}",
        schema_oid(&session.server.schema),
        literal(name)
    );
    Ok(match session.first_row(&sql)? {
        None => IndexState::Missing,
        Some(row) if row.flag(0)? => IndexState::Valid,
        Some(_) => IndexState::Invalid,
    })
}

/// Creates an index, and first drops the one of that name on the table. Not unique where rows
/// share a key: the exception is returned. A transaction is open.
///
/// # Errors
/// `Kind::Data` if another object has the name, or any error of a statement; the transaction has to
/// be rolled back then.
pub fn create(
    session: &mut Session,
    table: &str,
    index: &Index,
    progress: &dyn Fn(Progress<'_>),
) -> Result<Option<ConstraintException>> {
    let taken = format!(
        "SELECT count(*) > 0 FROM pg_class c LEFT JOIN pg_index x ON x.indexrelid = c.oid \
         WHERE c.relnamespace = {} AND c.relname = {} \
             AND x.indrelid IS DISTINCT FROM {}::regclass",
        schema_oid(&session.server.schema),
        literal(&index.name),
        session.qualified_literal(table)
    );
    if session.flag(&taken)? {
        let what = format!("index {} cannot be created: another object has its name", index.name);
        return Err(Error::new(Kind::Data, what).remedy("rename that object"));
    }
    let object = &Object::Index(table.into(), index.name.to_string());
    let name = session.qualified(table);
    let total = session.number(&format!("SELECT count(*) FROM {name}"))?;
    progress(Progress::of_rows(object, 0, total));
    // A row written between the count and the creation could make a unique index fail.
    session.run(&format!("LOCK TABLE {name} IN SHARE MODE"))?;
    let rows = if index.unique { count_duplicates(session, table, index)? } else { 0 };
    let create = create_index(&name, index, rows == 0, "");
    let dropped = session.qualified(&index.name);
    session.run(&format!("DROP INDEX IF EXISTS {dropped}; {create}"))?;
    progress(Progress::of_rows(object, total, total));
    Ok(not_unique(table, index, rows))
}

/// The number of rows that share a key of a unique index. NULLs are never equal in one.
///
/// # Errors
/// If the query fails; an open transaction is aborted then.
pub fn count_duplicates(session: &mut Session, table: &str, index: &Index) -> Result<u64> {
    let names: Vec<String> = index_columns(index).map(quoted).collect();
    count_duplicates_of(session, table, index, &names)
}

/// The same where the columns of the index have the values of these SQL expressions.
///
/// # Errors
/// If the query fails; an open transaction is aborted then.
pub fn count_duplicates_of(
    session: &mut Session,
    table: &str,
    index: &Index,
    values: &[String],
) -> Result<u64> {
    let sql = sql::count_duplicates(&session.qualified(table), index, values);
    session.number(&sql)
}
