//! What keeps missing objects from being created and does not show in the catalogue of our tables:
//! names that other objects have, and rights.

use super::session::{SCHEMA, Session};
use crate::error::{Error, Kind, Result};
use crate::store::Obstacle;
use crate::store::sql::literal;
use cts_schema::catalog::Object;

/// Finds what is in the way of these missing objects: the right to create anything, else names.
///
/// # Errors
/// Where the server cannot be asked.
pub fn find(session: &mut Session, missing: &[Object]) -> Result<Vec<Obstacle>> {
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    match missing_right(session)? {
        Some(error) => Ok(missing
            .iter()
            .map(|object| Obstacle { object: object.clone(), error: error.clone() })
            .collect()),
        None => names_taken(session, missing),
    }
}

fn missing_right(session: &mut Session) -> Result<Option<Error>> {
    let sql =
        "SELECT has_schema_privilege(current_schema(), 'CREATE'), current_user, current_schema()";
    match session.ask(sql)?.into_iter().flatten().next() {
        Some(row) if !row.is(0) => {
            let (role, schema) = (row.text(1), row.text(2));
            let what = format!("role {role} may not make tables in schema {schema}");
            Ok(Some(Error::new(Kind::Permission, what).remedy(format!(
                "`GRANT USAGE, CREATE ON SCHEMA {schema} TO` it, or give it a schema of its own (docs/postgresql.md, \"Rights\")"
            ))))
        }
        _ => Ok(None),
    }
}

/// Tables, views, sequences and indexes share one set of names, and each table has a type.
fn names_taken(session: &mut Session, missing: &[Object]) -> Result<Vec<Obstacle>> {
    let wanted: Vec<String> = missing
        .iter()
        .enumerate()
        .filter_map(|(at, object)| match object {
            Object::Table(name) => Some(format!("({at}, {}, true)", literal(name))),
            Object::Index(_, name) => Some(format!("({at}, {}, false)", literal(name))),
            Object::Column(..) => None,
        })
        .collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "WITH wanted (at, name, is_table) AS (VALUES {}) \
         SELECT w.at, CASE WHEN t.oid IS NULL THEN pg_describe_object('pg_class'::regclass, c.oid, 0) ELSE 'an index of table ' || t.relname END \
         FROM wanted w JOIN pg_class c ON c.relnamespace = {SCHEMA} AND c.relname = w.name \
             LEFT JOIN pg_index x ON x.indexrelid = c.oid LEFT JOIN pg_class t ON t.oid = x.indrelid \
         WHERE x.indisvalid IS NOT FALSE \
         UNION ALL SELECT w.at, pg_describe_object('pg_type'::regclass, y.oid, 0) \
         FROM wanted w JOIN pg_type y ON y.typnamespace = {SCHEMA} AND y.typname = w.name \
         WHERE w.is_table AND y.typrelid = 0 ORDER BY 1",
        wanted.join(", ")
    );
    let rows = session.ask(&sql)?;
    let obstacle = |row: &super::session::Row| {
        let object = missing.get(row.number::<usize>(0))?;
        Some(Obstacle::name_taken(object, row.text(1)))
    };
    Ok(rows.iter().flatten().filter_map(obstacle).collect())
}
