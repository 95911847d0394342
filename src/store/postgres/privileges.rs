//! The rights that the role of the connection lacks on our tables. (PostgreSQL documentation, "Access Privilege
//! Inquiry Functions")

use super::catalog::is_our_table;
use super::row::Row;
use super::session::Session;
use crate::error::{Error, Kind, Result};
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

/// Refuses tables and sequences of our schema that the role cannot read completely. The condition on `c`, their row of
/// `pg_class`, says which.
///
/// # Errors
/// `Kind::Permission` if there is one, by name, or the error of the query.
pub fn refuse_unreadable_tables(session: &mut Session, which: &str) -> Result<()> {
    let names = |condition: &str| {
        format!(
            "(SELECT string_agg(c.relname, ', ' ORDER BY c.relname) FROM pg_class c WHERE {which} AND {condition})"
        )
    };
    let row = session.row(&format!(
        "SELECT current_user, {}, {}",
        names("c.relkind IN ('r', 'p', 'S') AND NOT has_table_privilege(c.oid, 'SELECT')"),
        names("c.relkind IN ('r', 'p') AND c.relrowsecurity AND row_security_active(c.oid)"),
    ))?;
    let role = quoted(row.text(0)?);
    let refused =
        |what: String, remedy: String| Err(Error::new(Kind::Permission, what).remedy(remedy));
    if let Some(tables) = row.get(1) {
        let schema = quoted(&session.server.schema);
        return refused(
            format!("role {role} may not read: {tables}"),
            format!(
                "`GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}; GRANT SELECT ON ALL SEQUENCES IN SCHEMA {schema} TO {role}`"
            ),
        );
    }
    match row.get(2) {
        None => Ok(()),
        Some(tables) => refused(
            format!("row-level security hides rows from role {role}: {tables}"),
            format!("`ALTER TABLE … DISABLE ROW LEVEL SECURITY`, or `ALTER ROLE {role} BYPASSRLS`"),
        ),
    }
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
