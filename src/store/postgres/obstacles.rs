//! Finds what keeps missing objects from being created and does not show in the catalogue of our
//! tables: a missing right, a table of another role, and names that other objects have.

use std::collections::{BTreeMap, BTreeSet};

use super::catalog::schema_oid;
use super::error::OWN_TABLES;
use super::session::Session;
use crate::error::{Error, Kind, Result};
use crate::store::Obstacle;
use crate::store::schema::POSTGRES;
use crate::store::sql::{literal, quoted};
use cts_schema::catalog::Object;

/// Finds the obstacles of these missing objects, for each the first: its table belongs to another role, the
/// role may not create objects or not refer to a parent table, its name is taken.
///
/// # Errors
/// If a query fails; an open transaction is aborted then.
pub fn find(session: &mut Session, missing: &[Object]) -> Result<Vec<Obstacle>> {
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let others = tables_of_other_roles(session, missing)?;
    let not_permitted = missing_right(session)?;
    let unreferable = unreferable_parents(session, missing)?;
    let mut obstacles = names_taken(session, missing)?;
    let right_for = |object: &Object| match object {
        Object::Table(table) => not_permitted.clone().or_else(|| unreferable.get(table).cloned()),
        _ if others.contains(object.table()) => Some(not_owner(object.table())),
        Object::Index(..) => not_permitted.clone(),
        Object::Column(..) => None,
    };
    for object in missing {
        if let Some(error) = right_for(object) {
            obstacles.retain(|obstacle| obstacle.object != *object);
            obstacles.push(Obstacle { object: object.clone(), error });
        }
    }
    Ok(obstacles)
}

/// The tables of other roles to which columns or indexes are missing: the server lets only the owner add
/// them, whatever rights the role has in the schema.
fn tables_of_other_roles(session: &mut Session, missing: &[Object]) -> Result<BTreeSet<String>> {
    let is_part = |object: &&Object| !matches!(object, Object::Table(_));
    let tables: Vec<String> =
        missing.iter().filter(is_part).map(|object| literal(object.table())).collect();
    if tables.is_empty() {
        return Ok(BTreeSet::new());
    }
    let sql = format!(
        "SELECT relname FROM pg_class WHERE relnamespace = {} AND relkind IN ('r', 'p') \
         AND relname IN ({}) AND NOT pg_has_role(relowner, 'USAGE')",
        schema_oid(&session.server.schema),
        tables.join(", ")
    );
    session.rows(&sql)?.iter().map(|row| Ok(row.text(0)?.to_string())).collect()
}

/// Whether the role owns a table, and so may change it.
///
/// # Errors
/// If the query fails; an open transaction is aborted then.
pub fn is_owner(session: &mut Session, table: &str) -> Result<bool> {
    let object = [Object::Index(table.into(), String::new())];
    Ok(tables_of_other_roles(session, &object)?.is_empty())
}

fn not_owner(table: &str) -> Error {
    Error::new(Kind::Permission, format!("must be owner of table {table}")).remedy(OWN_TABLES)
}

/// The missing tables with a foreign key to a table that the role may not refer to.
fn unreferable_parents(
    session: &mut Session,
    missing: &[Object],
) -> Result<BTreeMap<String, Error>> {
    let tables = missing.iter().filter_map(|object| match object {
        Object::Table(name) => POSTGRES.expected.table(name),
        _ => None,
    });
    let keys: Vec<(&str, &str)> = tables
        .flat_map(|table| table.foreign_keys.iter().map(|key| (&*table.name, &*key.table)))
        .collect();
    if keys.is_empty() {
        return Ok(BTreeMap::new());
    }
    let parents: Vec<String> = keys.iter().map(|(_, parent)| literal(parent)).collect();
    let sql = format!(
        "SELECT relname FROM pg_class WHERE relnamespace = {} AND relkind IN ('r', 'p') \
         AND relname IN ({}) AND NOT has_table_privilege(oid, 'REFERENCES')",
        schema_oid(&session.server.schema),
        parents.join(", ")
    );
    let mut refused = BTreeMap::new();
    for row in session.rows(&sql)? {
        let parent = row.text(0)?;
        for (table, _) in keys.iter().filter(|(_, of)| *of == parent) {
            let what = format!("may not refer to table {parent}, as its foreign key does");
            let error = Error::new(Kind::Permission, what).remedy(OWN_TABLES);
            refused.insert((*table).to_string(), error);
        }
    }
    Ok(refused)
}

/// The event trigger that runs at each definition of an object, and may refuse it.
///
/// # Errors
/// If the query fails; an open transaction is aborted then.
pub fn find_event_trigger(session: &mut Session) -> Result<Option<String>> {
    let sql = "SELECT quote_ident(evtname) FROM pg_event_trigger \
         WHERE evtevent IN ('ddl_command_start', 'ddl_command_end') AND evtenabled IN ('O', 'A') \
             AND (evttags IS NULL OR evttags && ARRAY['CREATE TABLE', 'CREATE INDEX', 'ALTER TABLE']) \
         ORDER BY evtname LIMIT 1";
    let row = session.first_row(sql)?;
    row.map(|row| Ok(format!("event trigger {}", row.text(0)?))).transpose()
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
