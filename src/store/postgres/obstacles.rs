//! Finds what keeps missing objects from being created and does not show in the catalogue of our
//! tables: a missing right, a table of another role, and names that other objects have.

use super::catalog::schema_oid;
use super::error::OWN_TABLES;
use super::session::Session;
use crate::error::{Error, Kind, Result};
use crate::store::Obstacle;
use crate::store::sql::{literal, quoted};
use cts_schema::catalog::Object;

/// Finds the obstacles of these missing objects: that the role does not own a table or may not create
/// objects, else the names that are taken.
///
/// # Errors
/// If a query fails; an open transaction is aborted then.
pub fn find(session: &mut Session, missing: &[Object]) -> Result<Vec<Obstacle>> {
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let error = match table_of_other_role(session, missing)? {
        Some(error) => Some(error),
        None => missing_right(session)?,
    };
    match error {
        Some(error) => Ok(missing
            .iter()
            .map(|object| Obstacle { object: object.clone(), error: error.clone() })
            .collect()),
        None => names_taken(session, missing),
    }
}

/// The error of a column or an index that is missing from a table of another role: the server lets only
/// the owner add it, whatever rights the role has in the schema.
fn table_of_other_role(session: &mut Session, missing: &[Object]) -> Result<Option<Error>> {
    let is_part = |object: &&Object| !matches!(object, Object::Table(_));
    let tables: Vec<String> =
        missing.iter().filter(is_part).map(|object| literal(object.table())).collect();
    if tables.is_empty() {
        return Ok(None);
    }
    let sql = format!(
        "SELECT relname FROM pg_class WHERE relnamespace = {} AND relkind IN ('r', 'p') \
         AND relname IN ({}) AND NOT pg_has_role(relowner, 'USAGE') ORDER BY 1 LIMIT 1",
        schema_oid(&session.server.schema),
        tables.join(", ")
    );
    let Some(row) = session.first_row(&sql)? else { return Ok(None) };
    let what = format!("must be owner of table {}", row.text(0)?);
    Ok(Some(Error::new(Kind::Permission, what).remedy(OWN_TABLES)))
}

fn missing_right(session: &mut Session) -> Result<Option<Error>> {
    let schema = session.server.schema.clone();
    let sql = format!("SELECT has_schema_privilege({}, 'CREATE'), current_user", literal(&schema));
    let row = session.row(&sql)?;
    if row.flag(0)? {
        return Ok(None);
    }
    let role = row.text(1)?;
    let what = format!("role {role} may not create tables in schema {schema}");
    Ok(Some(Error::new(Kind::Permission, what).remedy(format!(
        "`GRANT USAGE, CREATE ON SCHEMA {} TO {}`, or give it a schema of its own (docs/postgresql.md, \"Rights\")",
        quoted(&schema),
        quoted(role)
    ))))
}

/// The description of an object, as an SQL expression, without the name of our schema. `object` are the
/// arguments of `pg_describe_object`.
pub fn described(session: &Session, object: &str) -> String {
    let schema = literal(&session.server.schema);
    format!("replace(pg_describe_object({object}), quote_ident({schema}) || '.', '')")
}

/// Tables, views, sequences and indexes share one namespace, and each table has a type of its name.
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
         SELECT w.at, CASE WHEN t.oid IS NULL THEN {described_class} ELSE 'an index of table ' || t.relname END \
         FROM wanted w JOIN pg_class c ON c.relnamespace = {schema} AND c.relname = w.name \
             LEFT JOIN pg_index x ON x.indexrelid = c.oid LEFT JOIN pg_class t ON t.oid = x.indrelid \
         WHERE x.indisvalid IS NOT FALSE \
         UNION ALL SELECT w.at, {described_type} \
         FROM wanted w JOIN pg_type y ON y.typnamespace = {schema} AND y.typname = w.name \
         WHERE w.is_table AND y.typrelid = 0 ORDER BY 1",
        wanted.join(", "),
        described_class = described(session, "'pg_class'::regclass, c.oid, 0"),
        described_type = described(session, "'pg_type'::regclass, y.oid, 0"),
        schema = schema_oid(&session.server.schema)
    );
    let mut obstacles = Vec::new();
    for row in session.rows(&sql)? {
        if let Some(object) = missing.get(row.number::<usize>(0)?) {
            obstacles.push(Obstacle::name_taken(object, row.text(1)?));
        }
    }
    Ok(obstacles)
}
