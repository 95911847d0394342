//! Looks for damage in a PostgreSQL database: pages that cannot be read, indexes that differ from
//! their tables, rows whose foreign key references nothing.

use super::catalog::{schema_oid, table_names};
use super::foreign_code::ForeignCode;
use super::inspect;
use super::row::Row;
use super::session::Session;
use crate::error::{Cause, Error, Kind, Result};
use crate::store::sql::{literal, quoted};
use crate::store::{Damage, Orphans, ReadExtent, Unchecked};
use cts_schema::catalog::{ForeignKey, Table};

/// The least number of bytes of a row: its header and its line pointer. (PostgreSQL documentation,
/// "Database Page Layout")
const ROW_BYTES_MIN: u64 = 28;

/// Reads every row of our tables, checks every index if the extension `amcheck` is installed, and
/// counts the orphans of every foreign key.
///
/// # Errors
/// If a query fails for another reason than damage.
pub fn find_damage(session: &mut Session) -> Result<Damage> {
    let mut damage = Damage::default();
    let found = inspect::inspect(session)?.snapshot;
    let tables: Vec<&str> = found.catalog.tables.iter().map(|table| &*table.name).collect();
    ForeignCode::refuse_read(session, &tables)?;
    let mut read: Vec<&str> = Vec::new();
    for table in found.catalog.tables.iter() {
        let name = session.qualified(&table.name);
        // A cast of a row could be one that the owner of the table has created.
        match session.run(&format!("SELECT sum(length(concat(t))) FROM {name} t")) {
            Err(error) if is_uncheckable(&error) => {
                damage.unchecked.push(unchecked(&table.name, &error));
            }
            Err(error) if error.kind == Kind::Data => {
                damage.pages.push(format!("table {}: {}", table.name, error.message()));
            }
            other => {
                other?;
                read.push(&table.name);
            }
        }
    }
    let indexes = check_indexes(session, &mut damage, false)?;
    damage.read = Some(read_extent(session, &read, &indexes)?);
    for table in found.catalog.tables.iter() {
        match orphans(session, table) {
            // A column whose type its owner has changed cannot be compared with its parent's.
            Err(error) if is_uncheckable(&error) => {
                damage.unchecked.push(unchecked(&table.name, &error));
            }
            found => damage.orphans.extend(found?),
        }
    }
    Ok(damage)
}

/// The size of the tables that were read, with their oversized values, and of the indexes that were checked.
fn read_extent(session: &mut Session, tables: &[&str], indexes: &[u32]) -> Result<ReadExtent> {
    let names: Vec<String> = tables.iter().map(|name| literal(name)).collect();
    let oids: Vec<String> = indexes.iter().map(u32::to_string).collect();
    let bytes = session.number(&format!(
        "SELECT CAST(coalesce(sum(pg_table_size(c.oid)), 0) AS bigint) FROM pg_class c \
         WHERE (c.relnamespace = {} AND c.relname = ANY (ARRAY[{}]::text[])) \
         OR c.oid = ANY (ARRAY[{}]::oid[])",
        schema_oid(&session.server.schema),
        names.join(", "),
        oids.join(", ")
    ))?;
    Ok(ReadExtent { tables: tables.len(), bytes: Some(bytes) })
}

/// Whether the check itself failed on what somebody has made, and not on a page: an error of another
/// class than internal ones (XX, among them damage) and those of files (58).
fn is_uncheckable(error: &Error) -> bool {
    let is_of_server = match error.cause.as_deref() {
        Some(Cause::SqlState(state)) => state.starts_with("XX") || state.starts_with("58"),
        _ => true,
    };
    error.kind == Kind::Data && !is_of_server
}

fn unchecked(table: &str, error: &Error) -> Unchecked {
    Unchecked { table: table.to_string(), cause: error.message() }
}

/// Checks every index, in the transaction that is open, which it leaves usable.
///
/// # Errors
/// If a query fails for another reason than damage; the transaction is aborted then.
pub fn find_damaged_indexes(session: &mut Session) -> Result<Damage> {
    let mut damage = Damage::default();
    check_indexes(session, &mut damage, true)?;
    Ok(damage)
}

/// An index and the function that checks it.
struct CheckedIndex {
    name: String,
    table: String,
    /// The schema of the extension `amcheck`.
    amcheck_schema: String,
    oid: u32,
}

impl CheckedIndex {
    fn read(row: &Row) -> Result<CheckedIndex> {
        Ok(CheckedIndex {
            name: row.text(0)?.to_string(),
            amcheck_schema: row.text(1)?.to_string(),
            oid: row.number(2)?,
            table: row.text(3)?.to_string(),
        })
    }
}

/// The B-tree indexes of our tables, if the role may call `amcheck`; else no row.
fn checked_indexes(session: &mut Session) -> Result<Vec<CheckedIndex>> {
    let sql = format!(
        "SELECT i.relname, e.nspname, x.indexrelid, c.relname FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid \
         JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am m ON m.oid = i.relam AND m.amname = 'btree', \
         (SELECT n.nspname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace \
             WHERE p.proname = 'bt_index_check' AND has_function_privilege(p.oid, 'EXECUTE') LIMIT 1) e \
         WHERE c.relname IN ({}) AND c.relnamespace = {} AND x.indisvalid AND i.relpersistence = 'p'",
        table_names(),
        schema_oid(&session.server.schema)
    );
    session.rows(&sql)?.iter().map(CheckedIndex::read).collect()
}

/// In a transaction, which an error would abort, each index is checked after a savepoint. Returns those that were read to
/// their end.
fn check_indexes(
    session: &mut Session,
    damage: &mut Damage,
    in_transaction: bool,
) -> Result<Vec<u32>> {
    let (before, after) = match in_transaction {
        true => ("SAVEPOINT cts_check; ", "; RELEASE cts_check"),
        false => ("", ""),
    };
    let undo = |session: &mut Session| match in_transaction {
        true => session.run("ROLLBACK TO cts_check"),
        false => Ok(()),
    };
    let mut checked = Vec::new();
    for CheckedIndex { name, table, amcheck_schema, oid } in checked_indexes(session)? {
        let function = format!("{}.bt_index_check", quoted(&amcheck_schema));
        match session.run(&format!("{before}SELECT {function}({oid}::regclass, true){after}")) {
            // The function of an index that its owner has made fails, for example.
            Err(error) if is_uncheckable(&error) => {
                undo(session)?;
                damage.unchecked.push(unchecked(&table, &error.at(format!("index {name}"))));
            }
            Err(error) if error.kind == Kind::Data => {
                undo(session)?;
                damage.pages.push(format!("index {name}: {}", error.message()));
                damage.indexes.push(name);
            }
            other => {
                other?;
                checked.push(oid);
            }
        }
    }
    if damage.indexes.len() < damage.pages.len() {
        damage.indexes.clear();
    }
    Ok(checked)
}

fn orphans(session: &mut Session, table: &Table) -> Result<Vec<Orphans>> {
    let mut found = Vec::new();
    for key in table.foreign_keys.iter() {
        let rows = count_orphans(session, &table.name, key)?;
        if rows > 0 {
            let (table, parent) = (table.name.to_string(), key.table.to_string());
            found.push(Orphans { table, parent, rows });
        }
    }
    Ok(found)
}

/// The number of rows whose foreign key references a row that does not exist.
///
/// # Errors
/// If the query fails; an open transaction is aborted then.
pub fn count_orphans(session: &mut Session, table: &str, key: &ForeignKey) -> Result<u64> {
    let (column, parent) = (quoted(&key.column), session.qualified(&key.table));
    let references = quoted(&key.references);
    session.number(&format!(
        "SELECT count(*) FROM {} t WHERE t.{column} IS NOT NULL AND NOT EXISTS (SELECT 1 FROM {parent} p WHERE p.{references} = t.{column})",
        session.qualified(table)
    ))
}

/// Whether a table of ours exists and has more than this number of rows. One whose file is too
/// small for that is not read.
///
/// # Errors
/// If a query fails; an open transaction is aborted then.
pub fn has_more_rows(session: &mut Session, table: &str, than: u64) -> Result<bool> {
    let sql = format!(
        "SELECT pg_relation_size(c.oid) FROM pg_class c \
         WHERE c.relnamespace = {} AND c.relkind = 'r' AND c.relname = {}",
        schema_oid(&session.server.schema),
        literal(table)
    );
    // The estimate in `pg_class` may be old or missing; the size in bytes is exact, and bounds the
    // number of rows.
    let Some(row) = session.first_row(&sql)? else { return Ok(false) };
    // NULL for a table that was dropped meanwhile.
    let Some(_) = row.get(0) else { return Ok(false) };
    if row.number::<u64>(0)? / ROW_BYTES_MIN <= than {
        return Ok(false);
    }
    let limit = than.saturating_add(1);
    session.flag(&format!(
        "SELECT count(*) > {than} FROM (SELECT 1 FROM {} LIMIT {limit}) AS few",
        session.qualified(table)
    ))
}
