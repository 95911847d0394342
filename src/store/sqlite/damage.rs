//! Looks for damage in a SQLite database: pages and indexes, by SQLite's own checks, and rows whose
//! foreign key references nothing.

use std::path::Path;

use rusqlite::{Connection, Params, Row, ffi};

use super::error::{from_sqlite, is_damage, is_uncheckable};
use crate::error::Result;
use crate::store::schema::SQLITE;
use crate::store::sql::quoted;
use crate::store::{Damage, DamageScope, Orphans, ProofDepth, ReadExtent, Unchecked};

/// Lines that a check returns at most.
const LINES_MAX: usize = 20;
/// Lines of which those about structure are taken.
const STRUCTURAL_LINES_MAX: usize = 1000;
/// The beginnings of lines about a value in a row. (`sqlite3Pragma` in pragma.c)
const VALUE_FAULTS: [&str; 4] =
    ["NULL value in ", "CHECK constraint failed in ", "NUMERIC value in ", "TEXT value in "];
/// Counts the rows whose foreign key references nothing, by table and referenced table.
const ORPHANS: &str =
    "SELECT \"table\", parent, count(*) FROM pragma_foreign_key_check GROUP BY 1, 2";
/// The same of one table.
const ORPHANS_OF_TABLE: &str =
    "SELECT \"table\", parent, count(*) FROM pragma_foreign_key_check(?1) GROUP BY 1, 2";
/// The tables that have pages in this file, the schema among them.
const TABLES: &str = "SELECT 'sqlite_schema' UNION ALL \
    SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0";
/// The number of tables that have pages in this file, without those that SQLite makes for itself.
const OWN_TABLES: &str = "SELECT count(*) FROM sqlite_schema \
    WHERE type = 'table' AND rootpage > 0 AND name NOT GLOB 'sqlite_*'";
/// The bytes of the file, with what is only in the WAL.
const FILE_BYTES: &str = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";

/// Checks the pages (`quick_check`), those of one table and of the schema, or every page, index
/// entry (`integrity_check`) and foreign key. That SQLite cannot read a damaged file is damage, not
/// an error; a table that cannot be checked is neither.
///
/// # Errors
/// If the check cannot be completed for another reason.
pub fn find_damage(conn: &Connection, path: &Path, scope: DamageScope<'_>) -> Result<Damage> {
    let checked = match scope {
        DamageScope::Pages => check_all(conn, "quick_check", LINES_MAX),
        DamageScope::Everything => check_all(conn, "integrity_check", LINES_MAX),
        DamageScope::Table(table) => check_table(conn, table),
    };
    let checked = checked.map_err(|e| from_sqlite(path, &e))?;
    let read = match scope {
        DamageScope::Everything => read_extent(conn, &checked),
        DamageScope::Pages | DamageScope::Table(_) => None,
    };
    let Checked { lines, mut unchecked, .. } = checked;
    let indexes = damaged_indexes(&lines);
    let pages = lines.into_iter().map(|line| with_object(conn, line)).collect();
    let orphans = match scope {
        DamageScope::Everything => find_orphans(conn, &mut unchecked),
        DamageScope::Pages | DamageScope::Table(_) => Ok(Vec::new()),
    };
    match orphans {
        Ok(orphans) => Ok(Damage { pages, indexes, orphans, unchecked, read }),
        Err(e) if is_damage(&e) => {
            Ok(Damage { pages, indexes, orphans: Vec::new(), unchecked, read: None })
        }
        Err(e) => Err(from_sqlite(path, &e)),
    }
}

/// What a check of the whole file has read; `None` where damage ended it early.
fn read_extent(conn: &Connection, checked: &Checked) -> Option<ReadExtent> {
    if checked.is_cut_short || checked.lines.len() >= LINES_MAX {
        return None;
    }
    let number = |sql| conn.query_row(sql, [], |row| row.get::<_, u64>(0)).ok();
    let tables = usize::try_from(number(OWN_TABLES)?).ok()?;
    let bytes = number(FILE_BYTES).filter(|_| checked.unchecked.is_empty());
    Some(ReadExtent { tables: tables.saturating_sub(checked.unchecked.len()), bytes })
}

/// What a check of pages found.
#[derive(Default)]
struct Checked {
    /// The lines that report damage.
    lines: Vec<String>,
    unchecked: Vec<Unchecked>,
    /// Whether damage ended the check early.
    is_cut_short: bool,
}

impl Checked {
    fn add(&mut self, other: Checked) {
        self.lines.extend(other.lines);
        self.unchecked.extend(other.unchecked);
        self.is_cut_short |= other.is_cut_short;
    }
}

/// Checks the whole file; table by table where SQLite refuses to check all of it because of one. Pages
/// that belong to no table are left out then.
fn check_all(conn: &Connection, pragma: &str, lines_max: usize) -> rusqlite::Result<Checked> {
    match check(conn, &format!("{pragma}({lines_max})")) {
        Err(e) if is_uncheckable(&e) => {}
        checked => return checked,
    }
    let mut checked = Checked::default();
    for table in rows(conn, TABLES, [], |row| row.get::<_, String>(0))? {
        match check(conn, &format!("{pragma}({})", quoted(&table))) {
            Err(e) if is_uncheckable(&e) => checked.unchecked.push(unchecked(&table, &e)),
            of_table => checked.add(of_table?),
        }
    }
    checked.lines.truncate(lines_max);
    Ok(checked)
}

fn unchecked(table: &str, cause: &rusqlite::Error) -> Unchecked {
    let cause = match cause {
        rusqlite::Error::SqliteFailure(_, Some(text)) => text.clone(),
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    };
    Unchecked { table: expected_name(table), cause }
}

/// The name of a table as the expected catalogue spells it, where it is one of ours.
fn expected_name(name: &str) -> String {
    let mut expected = SQLITE.expected.tables.iter();
    let known = expected.find(|table| table.name.eq_ignore_ascii_case(name));
    known.map_or(name, |table| &table.name).to_string()
}

/// Counts the orphans of every table; table by table where the foreign key of one does not fit the
/// table that it refers to.
fn find_orphans(
    conn: &Connection,
    unchecked_tables: &mut Vec<Unchecked>,
) -> rusqlite::Result<Vec<Orphans>> {
    match rows(conn, ORPHANS, [], orphans) {
        Err(e) if is_uncheckable(&e) => {}
        found => return found,
    }
    let mut found = Vec::new();
    for table in rows(conn, TABLES, [], |row| row.get::<_, String>(0))? {
        match rows(conn, ORPHANS_OF_TABLE, [&table], orphans) {
            Err(e) if is_uncheckable(&e) => {
                let unchecked = unchecked(&table, &e);
                if unchecked_tables.iter().all(|other| other.table != unchecked.table) {
                    unchecked_tables.push(unchecked);
                }
            }
            of_table => found.extend(of_table?),
        }
    }
    Ok(found)
}

/// Counts the rows of every table whose foreign key references nothing. A table that cannot be checked is left out.
///
/// # Errors
/// If the check cannot be completed.
pub fn find_all_orphans(conn: &Connection) -> rusqlite::Result<Vec<Orphans>> {
    find_orphans(conn, &mut Vec::new())
}

/// What one check found.
fn check(conn: &Connection, pragma: &str) -> rusqlite::Result<Checked> {
    let of_lines = |lines| Checked { lines, ..Checked::default() };
    match rows(conn, &format!("PRAGMA {pragma}"), [], |row| row.get(0)) {
        Ok(lines) => match lines.iter().find_map(|line: &String| read_fault(line)) {
            Some(code) => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)),
            None => Ok(of_lines(lines.into_iter().filter(|line| line != "ok").collect())),
        },
        Err(e) if is_damage(&e) => {
            Ok(Checked { is_cut_short: true, ..of_lines(vec![e.to_string()]) })
        }
        Err(e) => Err(e),
    }
}

/// The result code of a page that could not be read (`checkTreePage` in btree.c), which says nothing about
/// what is in it.
fn read_fault(line: &str) -> Option<i32> {
    let (_, code) = line.split_once("unable to get the page. error code=")?;
    let digits = code.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok().filter(|code| code & 0xff == ffi::SQLITE_IOERR)
}

/// Lines about pages, and with [`ProofDepth::Everything`] about indexes that lack a row, from a check of everything that can be checked.
/// Without those about values, which are no damage: a column that has become NOT NULL, for example.
///
/// # Errors
/// If the check cannot be completed for another reason than damage.
pub fn structural_damage(conn: &Connection, depth: ProofDepth) -> rusqlite::Result<Vec<String>> {
    let pragma = match depth {
        ProofDepth::Everything => "integrity_check",
        ProofDepth::Pages => "quick_check",
    };
    conn.execute_batch("PRAGMA ignore_check_constraints = ON")?;
    let checked = check_all(conn, pragma, STRUCTURAL_LINES_MAX);
    conn.execute_batch("PRAGMA ignore_check_constraints = OFF")?;
    let rows = checked?.lines;
    let is_structural = |line: &&str| {
        !line.starts_with("***") && !VALUE_FAULTS.iter().any(|fault| line.starts_with(fault))
    };
    // One row holds all faults of the pages.
    let lines = rows.iter().flat_map(|row| row.lines());
    Ok(lines.filter(is_structural).map(str::to_string).collect())
}

/// Checks the schema and, if it exists, one table.
fn check_table(conn: &Connection, table: &str) -> rusqlite::Result<Checked> {
    let schema = check(conn, "quick_check(sqlite_schema)")?;
    if !schema.lines.is_empty() {
        return Ok(schema);
    }
    match check(conn, &format!("quick_check({})", quoted(table))) {
        // The table does not exist, or cannot be checked.
        Err(e) if is_uncheckable(&e) => Ok(schema),
        checked => checked,
    }
}

/// The indexes that are damaged, if nothing else is: they can be created again from their tables.
///
/// SQLite reports damage as text only; these forms are from `sqlite3Pragma` in pragma.c, and this is
/// the only file that reads them.
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
    let name = |at| row.get::<_, String>(at).map(|name| expected_name(&name));
    Ok(Orphans { table: name(0)?, parent: name(1)?, rows: row.get(2)? })
}

fn rows<T>(
    conn: &Connection,
    sql: &str,
    parameters: impl Params,
    read: fn(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    let mut statement = conn.prepare(sql)?;
    statement.query_map(parameters, read)?.collect()
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
