//! Looks for damage in a SQLite database: pages and indexes, by SQLite's own checks, and rows whose
//! foreign key references nothing.

use std::path::Path;

use rusqlite::{Connection, Row};

use super::error::{from_sqlite, is_damage, is_statement_fault};
use crate::error::Result;
use crate::store::sql::quoted;
use crate::store::{Damage, DamageScope, Orphans};

/// Lines that a check returns at most.
const LINES_MAX: u32 = 20;
/// Counts the rows whose foreign key references nothing, by table and referenced table.
const ORPHANS: &str =
    "SELECT \"table\", parent, count(*) FROM pragma_foreign_key_check GROUP BY 1, 2";

/// Checks the pages (`quick_check`), those of one table and of the schema, or every page, index
/// entry (`integrity_check`) and foreign key. That SQLite cannot read a damaged file is damage, not
/// an error.
///
/// # Errors
/// If the check cannot be completed for another reason.
pub fn find_damage(conn: &Connection, path: &Path, scope: DamageScope<'_>) -> Result<Damage> {
    let lines = match scope {
        DamageScope::Pages => check(conn, &format!("quick_check({LINES_MAX})")),
        DamageScope::Everything => check(conn, &format!("integrity_check({LINES_MAX})")),
        DamageScope::Table(table) => check_table(conn, table),
    };
    let lines = lines.map_err(|e| from_sqlite(path, &e))?;
    let indexes = damaged_indexes(&lines);
    let pages = lines.into_iter().map(|line| with_object(conn, line)).collect();
    let orphans = match scope {
        DamageScope::Everything => rows(conn, ORPHANS, orphans),
        DamageScope::Pages | DamageScope::Table(_) => Ok(Vec::new()),
    };
    match orphans {
        Ok(orphans) => Ok(Damage { pages, indexes, orphans }),
        Err(e) if is_damage(&e) => Ok(Damage { pages, indexes, orphans: Vec::new() }),
        Err(e) => Err(from_sqlite(path, &e)),
    }
}

/// The lines of a check that report damage.
fn check(conn: &Connection, pragma: &str) -> rusqlite::Result<Vec<String>> {
    match rows(conn, &format!("PRAGMA {pragma}"), |row| row.get(0)) {
        Ok(lines) => Ok(lines.into_iter().filter(|line: &String| line != "ok").collect()),
        Err(e) if is_damage(&e) => Ok(vec![e.to_string()]),
        Err(e) => Err(e),
    }
}

/// The lines of a check of the schema and, if it exists, one table.
fn check_table(conn: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let lines = check(conn, "quick_check(sqlite_schema)")?;
    if !lines.is_empty() {
        return Ok(lines);
    }
    match check(conn, &format!("quick_check({})", quoted(table))) {
        // The table does not exist.
        Err(e) if is_statement_fault(&e) => Ok(Vec::new()),
        other => other,
    }
}

/// The indexes that are damaged, if nothing else is: they can be created again from their tables.
///
/// SQLite reports damage as text only; these forms are from `sqlite3Pragma` in pragma.c, and this is
/// the only place that reads them, together with [`with_object`].
fn damaged_indexes(lines: &[String]) -> Vec<String> {
    let index = |line: &String| {
        let (fault, index) = line.split_once(" index ")?;
        let is_of_index = fault.ends_with("missing from")
            || fault == "wrong # of entries in"
            || fault == "non-unique entry in";
        is_of_index.then(|| index.to_string())
    };
    let mut indexes = lines.iter().map(index).collect::<Option<Vec<String>>>().unwrap_or_default();
    indexes.sort();
    indexes.dedup();
    indexes
}

/// The line with the name of its table or index, if it names no more than the root page of its tree
/// ("Tree 7 page …", from btree.c) and the schema can be read.
fn with_object(conn: &Connection, line: String) -> String {
    let root_page = line.strip_prefix("Tree ").and_then(|rest| rest.split(' ').next());
    let sql = "SELECT format(' (%s %s)', type, name) FROM sqlite_schema WHERE rootpage = ?1";
    let object =
        root_page.and_then(|page| conn.query_row(sql, [page], |row| row.get::<_, String>(0)).ok());
    line + &object.unwrap_or_default()
}

fn orphans(row: &Row<'_>) -> rusqlite::Result<Orphans> {
    Ok(Orphans { table: row.get(0)?, parent: row.get(1)?, rows: row.get(2)? })
}

fn rows<T>(
    conn: &Connection,
    sql: &str,
    read: fn(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    let mut statement = conn.prepare(sql)?;
    statement.query_map([], read)?.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indexes_of(lines: &[&str]) -> Vec<String> {
        damaged_indexes(&lines.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn a_table_that_does_not_exist_is_not_damaged() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE \"it's\" (x)").unwrap();
        for table in ["it's", "lost"] {
            let damage = find_damage(&conn, Path::new("x.db"), DamageScope::Table(table));
            assert_eq!(damage.unwrap(), Damage::default(), "{table}");
        }
    }

    #[test]
    fn only_damage_of_indexes_alone_names_them() {
        let of_b = ["row 3 missing from index b", "wrong # of entries in index b"];
        assert_eq!(indexes_of(&of_b), ["b"]);
        assert_eq!(indexes_of(&["non-unique entry in index a", of_b[0]]), ["a", "b"]);
        assert!(
            indexes_of(&[of_b[0], "Tree 7 page 9: btreeInitPage() returns error code 11"])
                .is_empty()
        );
        assert!(indexes_of(&[]).is_empty());
    }
}
