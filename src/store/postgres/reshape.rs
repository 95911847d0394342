//! Gives a table of an older CTS the expected shape in place, by `ALTER TABLE`, and keeps every
//! row. Everything comes from the catalogue and from the table itself; no table is known by name.

use super::index::{self, create, duplicates};
use super::look::orphaned;
use super::session::{Session, quoted};
use crate::catalog::{Column, Index, Object, Table};
use crate::error::{Error, Kind, Result};
use crate::relaxation::{Relaxation, Rule};
use crate::store::{Progress, Rebuilt};

pub use index::record;

/// The statement that adds a column. In rows that are there already, a value that would be made
/// up, such as the time a row was made, stays NULL.
pub fn add_column(table: &str, column: &Column) -> String {
    let (table, name) = (quoted(table), quoted(&column.name));
    let kind = &column.kind;
    let not_null = if column.not_null { " NOT NULL" } else { "" };
    match &column.default {
        None => format!("ALTER TABLE {table} ADD COLUMN {name} {kind}{not_null}"),
        Some(sql) if sql.contains("CURRENT_TIMESTAMP") && !column.not_null => format!(
            "ALTER TABLE {table} ADD COLUMN {name} {kind}; ALTER TABLE {table} ALTER COLUMN {name} SET DEFAULT {sql}"
        ),
        Some(sql) if sql.starts_with("GENERATED") => {
            format!("ALTER TABLE {table} ADD COLUMN {name} {kind} {sql}")
        }
        Some(sql) => {
            format!("ALTER TABLE {table} ADD COLUMN {name} {kind} DEFAULT {sql}{not_null}")
        }
    }
}

/// The rows of a table, and the rules that they break, as far as can be seen from them.
pub fn forecast(session: &mut Session, expected: &Table) -> Result<Rebuilt> {
    let rows = number(session, &format!("SELECT count(*) FROM {}", quoted(&expected.name)))?;
    Ok(Rebuilt { rows, ..Rebuilt::default() })
}

fn number(session: &mut Session, sql: &str) -> Result<u64> {
    let rows = session.ask(sql)?;
    Ok(rows.first().and_then(|rows| rows.first()).map(|row| row.number(0)).unwrap_or_default())
}

/// Copies the tables of an older CTS aside. Returns where they are.
pub fn back_up(_: &mut Session) -> Result<String> {
    Err(Error::new(Kind::Data, "the tables cannot be copied"))
}

/// Makes the table as expected, but for rules that its rows break, which are relaxed.
pub fn reshape(_: &mut Session, expected: &Table, _: &dyn Fn(Progress<'_>)) -> Result<Rebuilt> {
    Err(Error::new(Kind::Data, format!("table {} has another shape", expected.name)))
}

/// Makes an index anew, whatever has its name on this table; not unique, where rows share a key.
pub fn put_index(
    session: &mut Session,
    table: &str,
    index: &Index,
    progress: &dyn Fn(Progress<'_>),
) -> Result<Option<Relaxation>> {
    let object = &Object::Index(table.into(), index.name.to_string());
    let total = number(session, &format!("SELECT count(*) FROM {}", quoted(table)))?;
    progress(Progress { object, done: 0, total });
    let rows = if index.unique { duplicates(session, table, index)? } else { 0 };
    let made = create(table, index, rows == 0, "");
    session.run(&format!("DROP INDEX IF EXISTS {}; {made}", quoted(&index.name)))?;
    progress(Progress { object, done: total, total });
    let rule = Rule::Unique(index.name.to_string());
    Ok((rows > 0).then(|| Relaxation { table: table.into(), rule, rows }))
}

/// How many rows break a rule that was relaxed, by now. `expected` is the table without it.
pub fn breaking(session: &mut Session, expected: &Table, rule: &Rule) -> Result<u64> {
    let table = quoted(&expected.name);
    match rule {
        Rule::NotNull(name) => {
            number(session, &format!("SELECT count(*) FROM {table} WHERE {} IS NULL", quoted(name)))
        }
        Rule::Unique(name) => match expected.index(name) {
            Some(index) => duplicates(session, &expected.name, index),
            None => Ok(0),
        },
        Rule::References(parent) => {
            let mut rows = 0;
            for key in expected.foreign_keys.iter().filter(|key| key.table == *parent) {
                rows += orphaned(session, &expected.name, key)?;
            }
            Ok(rows)
        }
        Rule::Key(_) | Rule::Shared(_) | Rule::Type(..) => Ok(u64::MAX),
    }
}
