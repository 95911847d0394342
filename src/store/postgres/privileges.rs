//! The rights that the role of the connection lacks on our tables. (PostgreSQL documentation, "Access Privilege
//! Inquiry Functions")

use super::catalog::is_our_table;
use super::row::Row;
use crate::error::Result;
use crate::store::sql::quoted;
use crate::store::{MissingRights, MissingTableRights};

/// The rights that the role lacks, from the row of [`missing_rights_sql`]; `None` where it lacks none.
///
/// # Errors
/// `Kind::Io` if a cell cannot be read.
pub fn missing_rights(row: &Row, schema: &str) -> Result<Option<MissingRights>> {
    let lines = row.get(2).into_iter().flat_map(str::lines);
    let tables = lines.filter_map(|line| line.split_once(' '));
    let tables: Vec<_> = tables
        .map(|(table, rights)| MissingTableRights { table: table.into(), rights: rights.into() })
        .collect();
    if tables.is_empty() {
        return Ok(None);
    }
    let (role, is_writer) = (row.text(0)?.to_string(), row.flag(1)?);
    Ok(Some(MissingRights { role, schema: quoted(schema), is_writer, tables }))
}

/// The query for the role, whether it writes the ledger or owns a table, and a line for each table with what it lacks. An identity
/// column needs no right on its sequence; a column of type `serial` does.
pub fn missing_rights_sql(schema: &str) -> String {
    let lacks = |right: &str| {
        format!("CASE WHEN NOT has_table_privilege(c.oid, '{right}') THEN '{right}' END")
    };
    let [select, insert, update, delete] = ["SELECT", "INSERT", "UPDATE", "DELETE"].map(lacks);
    format!(
        "WITH tables AS (SELECT c.relname, \
             pg_has_role(c.relowner, 'USAGE') \
                 OR (c.relname = 'migrations' AND has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE')) AS is_writer, \
             concat_ws(', ', {select}, {insert}, {update}, {delete}, \
                 (SELECT string_agg('USAGE of sequence ' || s.relname, ', ') FROM pg_depend d JOIN pg_class s ON s.oid = d.objid \
                  WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid \
                      AND d.deptype = 'a' AND CASE s.relkind WHEN 'S' THEN NOT has_sequence_privilege(s.oid, 'USAGE, UPDATE') END)) AS missing \
             FROM pg_class c WHERE {}) \
         SELECT current_user, coalesce(bool_or(is_writer), false), \
             string_agg(relname || ' ' || missing, chr(10) ORDER BY relname) FILTER (WHERE missing <> '') FROM tables",
        is_our_table(schema)
    )
}
