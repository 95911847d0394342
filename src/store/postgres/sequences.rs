//! Where the ids of new rows come from: one sequence for each identity column, its own, which is
//! past every id that is there. Other sequences stay, and no longer belong to the column.

use super::existing_table::RebuildPlan;
use super::session::Session;
use crate::error::{Error, Kind, Result};
use crate::store::schema::POSTGRES;
use crate::store::sql::{literal, quoted};
use cts_schema::catalog::{Column, Table};
use cts_schema::sql::ddl::IDENTITY;

/// Lets the identity column go on where its ids and the sequences of an older CTS end.
pub fn reclaim_sequence(session: &mut Session, plan: &RebuildPlan<'_>) -> Result<()> {
    let Some(column) = identity(&plan.target) else { return Ok(()) };
    let (table, name) = (quoted(&plan.expected.name), quoted(&column.name));
    let mut last = 0_i64;
    for sequence in plan.old.sequences(&column.name) {
        let last_one = format!("SELECT last_value - (NOT is_called)::int FROM {}", sequence.name);
        last = last.max(integer(session, &last_one)?);
        if sequence.is_its_own {
            session.run(&format!("DROP SEQUENCE {}", sequence.name))?;
        } else if sequence.is_attached {
            // Else pg_get_serial_sequence() would go on naming it.
            session.run(&format!("ALTER SEQUENCE {} OWNED BY NONE", sequence.name))?;
        }
    }
    let counts =
        |column: &Column| column.default.as_deref().is_some_and(|sql| sql.ends_with("AS IDENTITY"));
    if !plan.old.column(&column.name).is_none_or(counts) {
        session.run(&format!("ALTER TABLE {table} ALTER COLUMN {name} ADD {IDENTITY}"))?;
    }
    advance_sequence(session, &plan.expected.name, &column.name, last).map(|_| ())
}

/// Lets the counter of every identity column of ours be past its ids. Returns the tables where
/// it was not.
pub fn secure(session: &mut Session) -> Result<Vec<String>> {
    let mut behind = Vec::new();
    for table in POSTGRES.expected.tables.iter() {
        if let Some(column) = identity(table)
            && advance_sequence(session, &table.name, &column.name, 0)?
        {
            behind.push(table.name.to_string());
        }
    }
    Ok(behind)
}

fn identity(table: &Table) -> Option<&Column> {
    table.columns.iter().find(|column| column.default.as_deref() == Some(IDENTITY))
}

/// Lets the column's own sequence go on after `last` and after every id that is there, and proves
/// it. Whether it had to be moved.
fn advance_sequence(session: &mut Session, table: &str, column: &str, last: i64) -> Result<bool> {
    let Some(sequence) = own_sequence(session, table, column)? else { return Ok(false) };
    let most = format!("SELECT max({}) FROM {}", quoted(column), quoted(table));
    let last = last.max(integer(session, &most)?);
    let next = format!(
        "SELECT s.last_value + CASE WHEN s.is_called THEN q.seqincrement ELSE 0 END FROM {sequence} s, pg_sequence q \
         WHERE q.seqrelid = {}::regclass AND q.seqincrement > 0",
        literal(&sequence)
    );
    if last == 0 || integer(session, &next)? > last {
        return Ok(false);
    }
    // Unlike setval(), this is undone with the transaction.
    let first = last.saturating_add(1);
    session.run(&format!("ALTER SEQUENCE {sequence} INCREMENT 1 RESTART WITH {first}"))?;
    if integer(session, &next)? > last {
        return Ok(true);
    }
    let what = format!("{table}.{column}: there is no id after {last} for a new row");
    Err(Error::new(Kind::Data, what).remedy("give the row with the greatest id a smaller one"))
}

/// The sequence that an identity column brings along, for SQL.
fn own_sequence(session: &mut Session, table: &str, column: &str) -> Result<Option<String>> {
    let sql = format!(
        "SELECT d.objid::regclass FROM pg_depend d \
             JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid \
             JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' \
         WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'i' \
             AND d.refobjid = to_regclass({}) AND a.attname = {}",
        literal(&quoted(table)),
        literal(column)
    );
    let row = session.ask(&sql)?.into_iter().flatten().next();
    Ok(row.map(|row| row.text(0).to_string()))
}

fn integer(session: &mut Session, sql: &str) -> Result<i64> {
    let row = session.ask(sql)?.into_iter().flatten().next();
    Ok(row.map(|row| row.number(0)).unwrap_or_default())
}
