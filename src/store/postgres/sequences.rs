//! The sequences that give new rows their ids: each identity column has one of its own, which is
//! past every id of the table. Other sequences stay, and are no longer owned by the column.

use super::rebuild_plan::RebuildPlan;
use super::session::Session;
use crate::error::{Error, Kind, Result};
use crate::store::schema::POSTGRES;
use crate::store::sql::{literal, quoted};
use cts_schema::catalog::{Column, Table};
use cts_schema::sql::ddl::IDENTITY;

/// What became of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Advanced {
    /// It was past the ids already, or there is none.
    No,
    /// It is now.
    Yes,
    /// No id is left after this one.
    Exhausted(i64),
}

/// Makes the identity column of a rebuilt table continue after its ids and after the sequences of
/// the older CTS, which are dropped or detached.
///
/// # Errors
/// If a statement fails, or `Kind::Data` if no id is left; the transaction has to be rolled back.
pub fn reclaim_sequence(session: &mut Session, plan: &RebuildPlan<'_>) -> Result<()> {
    let Some(column) = identity(&plan.target) else { return Ok(()) };
    let (table, name) = (session.qualified(&plan.expected.name), quoted(&column.name));
    let mut last_id = 0_i64;
    for sequence in plan.old.sequences(&column.name) {
        let used = format!("SELECT last_value - (NOT is_called)::int FROM {}", sequence.name);
        last_id = last_id.max(session.number(&used)?);
        if sequence.is_exclusive {
            session.run(&format!("DROP SEQUENCE {}", sequence.name))?;
        } else if sequence.is_owned {
            // Otherwise pg_get_serial_sequence() would still return it.
            session.run(&format!("ALTER SEQUENCE {} OWNED BY NONE", sequence.name))?;
        }
    }
    let is_identity =
        |column: &Column| column.default.as_deref().is_some_and(|sql| sql.ends_with("AS IDENTITY"));
    if !plan.old.column(&column.name).is_none_or(is_identity) {
        session.run(&format!("ALTER TABLE {table} ALTER COLUMN {name} ADD {IDENTITY}"))?;
    }
    advance_or_refuse(session, &plan.expected.name, &column.name, last_id).map(drop)
}

/// Advances the sequence of every identity column of our tables past its ids. Returns the tables
/// whose sequence was not past them.
///
/// # Errors
/// If a statement fails, or `Kind::Data` if no id is left; the transaction has to be rolled back.
pub fn advance_sequences(session: &mut Session) -> Result<Vec<String>> {
    let mut advanced = Vec::new();
    for table in POSTGRES.expected.tables.iter() {
        if let Some(column) = identity(table)
            && advance_or_refuse(session, &table.name, &column.name, 0)?
        {
            advanced.push(table.name.to_string());
        }
    }
    Ok(advanced)
}

/// The same for rows that were copied with their ids. A table without an id left is so in the source too, and stays so.
///
/// # Errors
/// If a statement fails; the transaction has to be rolled back.
pub fn advance_where_left(session: &mut Session) -> Result<()> {
    for table in POSTGRES.expected.tables.iter() {
        if let Some(column) = identity(table) {
            advance_where_left_of(session, &table.name, &column.name)?;
        }
    }
    Ok(())
}

/// The same for one column of a table.
///
/// # Errors
/// If a statement fails; the transaction has to be rolled back.
pub fn advance_where_left_of(session: &mut Session, table: &str, column: &str) -> Result<()> {
    advance_sequence(session, table, column, 0).map(drop)
}

fn identity(table: &Table) -> Option<&Column> {
    table.columns.iter().find(|column| column.default.as_deref() == Some(IDENTITY))
}

/// Advances the column's own sequence. Returns whether it had to be advanced.
///
/// # Errors
/// If a statement fails, or `Kind::Data` if no id is left.
fn advance_or_refuse(
    session: &mut Session,
    table: &str,
    column: &str,
    last_id: i64,
) -> Result<bool> {
    match advance_sequence(session, table, column, last_id)? {
        Advanced::No => Ok(false),
        Advanced::Yes => Ok(true),
        Advanced::Exhausted(last_id) => {
            let what = format!("{table}.{column}: no id is left after {last_id} for a new row");
            Err(Error::new(Kind::Data, what)
                .remedy("give the row with the highest id a smaller one"))
        }
    }
}

/// Advances the column's own sequence past `last_id` and past every id of the table, and checks it.
fn advance_sequence(
    session: &mut Session,
    table: &str,
    column: &str,
    last_id: i64,
) -> Result<Advanced> {
    let Some(sequence) = own_sequence(session, table, column)? else { return Ok(Advanced::No) };
    let (name, rows) = (quoted(column), session.qualified(table));
    let highest = format!("SELECT coalesce(max({name}), 0) FROM {rows}");
    let last_id = last_id.max(session.number(&highest)?);
    if last_id == 0 || is_past(session, &sequence, last_id)? {
        return Ok(Advanced::No);
    }
    // Unlike setval(), this is rolled back with the transaction.
    let first = last_id.saturating_add(1);
    session.run(&format!("ALTER SEQUENCE {sequence} INCREMENT 1 RESTART WITH {first}"))?;
    match is_past(session, &sequence, last_id)? {
        true => Ok(Advanced::Yes),
        false => Ok(Advanced::Exhausted(last_id)),
    }
}

/// Whether the next value of a sequence, as SQL, is past an id. One that counts down never is.
fn is_past(session: &mut Session, sequence: &str, id: i64) -> Result<bool> {
    let next = format!(
        "SELECT s.last_value + CASE WHEN s.is_called THEN q.seqincrement ELSE 0 END FROM {sequence} s, pg_sequence q \
         WHERE q.seqrelid = {}::regclass AND q.seqincrement > 0",
        literal(sequence)
    );
    let row = session.first_row(&next)?;
    row.map_or(Ok(false), |row| Ok(row.number::<i64>(0)? > id))
}

/// The sequence of an identity column, as SQL.
fn own_sequence(session: &mut Session, table: &str, column: &str) -> Result<Option<String>> {
    let sql = format!(
        "SELECT d.objid::regclass FROM pg_depend d \
             JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid \
             JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' \
         WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'i' \
             AND d.refobjid = to_regclass({}) AND a.attname = {}",
        session.qualified_literal(table),
        literal(column)
    );
    let row = session.first_row(&sql)?;
    row.map(|row| row.text(0).map(str::to_string)).transpose()
}
