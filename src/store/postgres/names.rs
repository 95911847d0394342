//! What keeps tables from being made that a look at our tables does not show: names that other
//! objects have, and rights.

use super::session::{SCHEMA, Session};
use crate::error::{Error, Kind, Result};
use crate::store::schema::POSTGRES;
use crate::store::sql::literal;
use crate::store::{Origin, Snapshot};

/// Refuses a database whose role may not make what is missing there, or where names are taken.
pub fn refuse(session: &mut Session, snapshot: &Snapshot) -> Result<()> {
    if snapshot.origin() != Origin::Ours || !snapshot.drift(&POSTGRES).missing.is_empty() {
        refuse_rights(session)?;
    }
    refuse_taken(session, snapshot)
}

fn refuse_rights(session: &mut Session) -> Result<()> {
    let sql =
        "SELECT has_schema_privilege(current_schema(), 'CREATE'), current_user, current_schema()";
    match session.ask(sql)?.into_iter().flatten().next() {
        Some(row) if !row.is(0) => {
            let (role, schema) = (row.text(1), row.text(2));
            let what = format!("role {role} may not make tables in schema {schema}");
            Err(Error::new(Kind::Permission, what).remedy(format!(
                "`GRANT USAGE, CREATE ON SCHEMA {schema} TO` it, or give it a schema of its own (docs/postgresql.md, \"Rights\")"
            )))
        }
        _ => Ok(()),
    }
}

/// Refuses to begin with a database in which something else has the name of a table of ours, or,
/// where there are tables to adopt, of an index.
pub fn refuse_taken(session: &mut Session, snapshot: &Snapshot) -> Result<()> {
    if snapshot.origin() == Origin::Ours {
        return Ok(());
    }
    let mut wanted = Vec::new();
    for table in POSTGRES.expected.tables.iter() {
        wanted.push(format!("('table', {}, '')", literal(&table.name)));
        if !snapshot.catalog.is_empty() {
            let row =
                |name: &str| format!("('index', {}, {})", literal(name), literal(&table.name));
            wanted.extend(table.indexes.iter().map(|index| row(&index.name)));
        }
    }
    let sql = format!(
        "WITH wanted (kind, name, parent) AS (VALUES {}) \
         SELECT w.kind, w.name, CASE WHEN t.oid IS NULL THEN pg_describe_object('pg_class'::regclass, c.oid, 0) ELSE 'an index of table ' || t.relname END \
         FROM wanted w JOIN pg_class c ON c.relnamespace = {SCHEMA} AND c.relname = w.name \
             LEFT JOIN pg_index x ON x.indexrelid = c.oid LEFT JOIN pg_class t ON t.oid = x.indrelid \
         WHERE CASE w.kind WHEN 'table' THEN c.relkind NOT IN ('r', 'p') ELSE t.relname IS DISTINCT FROM w.parent END \
         UNION ALL SELECT w.kind, w.name, pg_describe_object('pg_type'::regclass, y.oid, 0) \
         FROM wanted w JOIN pg_type y ON y.typnamespace = {SCHEMA} AND y.typname = w.name \
         WHERE w.kind = 'table' AND y.typrelid = 0 ORDER BY 1 DESC, 2 LIMIT 1",
        wanted.join(", ")
    );
    let Some(row) = session.ask(&sql)?.into_iter().flatten().next() else { return Ok(()) };
    let (kind, name, taker) = (row.text(0), row.text(1), row.text(2));
    let what = format!("{kind} {name} cannot be made: {taker} has its name");
    Err(Error::new(Kind::Data, what).remedy("rename what has its name"))
}
