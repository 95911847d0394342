//! Reads our tables, with columns, constraints and indexes, from the catalogue of a PostgreSQL server.
//! (PostgreSQL documentation, chapter "System Catalogs")

use std::collections::BTreeMap;

use super::attributes::{self, COLLATION, INDEX_ATTRIBUTES, INDEX_KEY};
use super::constraint::{CONSTRAINT_COLUMNS, Constraint, ConstraintKind, lines};
use super::row::Row;
use super::session::Session;
use crate::error::Result;
use crate::store::schema::POSTGRES;
use crate::store::sql::literal;
use cts_schema::catalog::{Catalog, Column, Index, List, Table, Text};
use cts_schema::sql::ddl::{IDENTITY, type_name};
use cts_schema::sql::{canonical, canonical_default};

/// The oid of the schema of the tables, as an SQL expression.
pub fn schema_oid(schema: &str) -> String {
    format!("(SELECT oid FROM pg_namespace WHERE nspname = {})", literal(schema))
}

/// The catalogue as it was last read on a connection.
#[derive(Clone)]
pub struct SessionCatalog {
    /// Differs after every change of the catalogue.
    pub fingerprint: String,
    /// What was read.
    pub found: FoundCatalog,
}

/// Our tables in the catalogue of a server.
#[derive(Clone)]
pub struct FoundCatalog {
    /// The tables with their columns, constraints and valid indexes.
    pub catalog: Catalog,
    /// The indexes that a cancelled build has left.
    pub invalid_indexes: Vec<InvalidIndex>,
}

/// An index that a cancelled `CREATE INDEX CONCURRENTLY` has left: it costs every write and serves
/// no query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidIndex {
    /// Its table.
    pub table: String,
    /// Its name.
    pub index: String,
}

/// The names of our tables, as a list of SQL literals.
pub fn table_names() -> String {
    let names = POSTGRES.expected.tables.iter().map(|table| literal(&table.name));
    names.collect::<Vec<_>>().join(", ")
}

/// The condition that a row of `pg_class`, named `c`, is one of our tables.
pub fn is_our_table(schema: &str) -> String {
    format!(
        "c.relnamespace = {} AND c.relkind IN ('r', 'p') AND c.relname IN ({})",
        schema_oid(schema),
        table_names()
    )
}

/// Reads the catalogue, unless the fingerprint says that it is as the connection last read it.
///
/// # Errors
/// If a query fails. The cache is as it was then.
pub fn read(session: &mut Session, fingerprint: &str) -> Result<FoundCatalog> {
    match &session.cached_catalog {
        Some(cached) if cached.fingerprint == fingerprint => return Ok(cached.found.clone()),
        _ => {}
    }
    let schema = &session.server.schema;
    let sql = format!("{}; {}", catalog_sql(&is_our_table(schema)), attributes::of_tables(schema));
    let [columns, constraints, indexes, table_attributes] = session.results_of(&sql)?;
    let mut found = found_catalog(&columns, &constraints, &indexes)?;
    attributes::add_to(&mut found.catalog, &table_attributes)?;
    let fingerprint = fingerprint.to_string();
    session.cached_catalog = Some(SessionCatalog { fingerprint, found: found.clone() });
    Ok(found)
}

/// Reads a table that is not one of ours, without attributes. The condition is that its row of `pg_class`, named `c`, is it.
///
/// # Errors
/// If a query fails; an open transaction is aborted then.
pub fn read_table(session: &mut Session, is_table: &str) -> Result<Option<Table>> {
    let [columns, constraints, indexes] = session.results_of(&catalog_sql(is_table))?;
    let tables = found_catalog(&columns, &constraints, &indexes)?.catalog.tables;
    Ok(tables.into_owned().into_iter().next())
}

/// Columns, constraints and indexes of the tables that meet a condition on `c`, as three queries. What of the server's
/// catalogue they leave out, and why, is told in [`attributes`].
fn catalog_sql(is_table: &str) -> String {
    format!(
        "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, \
             a.attidentity, a.attgenerated, pg_get_expr(d.adbin, d.adrelid), {COLLATION} \
         FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid JOIN pg_type t ON t.oid = a.atttypid \
             LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum \
         WHERE {is_table} AND a.attnum > 0 AND NOT a.attisdropped ORDER BY c.relname, a.attnum; \
         SELECT {CONSTRAINT_COLUMNS} \
         FROM pg_class c JOIN pg_constraint k ON k.conrelid = c.oid LEFT JOIN pg_class p ON p.oid = k.confrelid \
         WHERE {is_table} AND (k.contype <> 'n' OR NOT k.convalidated) ORDER BY c.relname, k.conname; \
         SELECT c.relname, i.relname, x.indisunique, x.indisvalid AND x.indisready AND x.indislive, \
             pg_get_expr(x.indpred, x.indrelid), m.amname, \
             (SELECT string_agg({INDEX_KEY}, chr(10) ORDER BY place) FROM generate_series(1, x.indnkeyatts) place), {INDEX_ATTRIBUTES} \
         FROM pg_class c JOIN pg_index x ON x.indrelid = c.oid JOIN pg_class i ON i.oid = x.indexrelid \
             JOIN pg_am m ON m.oid = i.relam \
         WHERE {is_table} AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = x.indexrelid AND k.contype IN ('p', 'u', 'x')) \
         ORDER BY c.relname, i.relname"
    )
}

fn found_catalog(columns: &[Row], constraints: &[Row], indexes: &[Row]) -> Result<FoundCatalog> {
    let mut tables: BTreeMap<&str, Table> = BTreeMap::new();
    for row in columns {
        let name = row.text(0)?;
        let table = tables.entry(name).or_insert_with(|| Table::named(name.to_string()));
        table.columns.to_mut().push(column(row)?);
    }
    for row in constraints {
        let constraint = Constraint::read(row)?;
        if let Some(table) = tables.get_mut(&*constraint.table)
            && (constraint.kind != ConstraintKind::Exclusion || constraint.is_of_our_columns())
        {
            constraint.add_to(table);
        }
    }
    let mut invalid_indexes = Vec::new();
    for row in indexes {
        let name = row.text(0)?;
        let Some(table) = tables.get_mut(name) else { continue };
        if row.flag(3)? {
            table.indexes.to_mut().push(index(row)?);
        } else {
            invalid_indexes.push(InvalidIndex { table: name.into(), index: row.text(1)?.into() });
        }
    }
    let tables: Vec<Table> = tables.into_values().collect();
    let catalog = Catalog { tables: tables.into(), other_tables: List::default() };
    Ok(FoundCatalog { catalog, invalid_indexes })
}

fn column(row: &Row) -> Result<Column> {
    let data_type = type_name(row.text(2)?);
    let expression = row.get(6).map(|sql| canonical_default(sql, &data_type));
    let default = match (row.text(4)?, row.text(5)?) {
        ("d", _) => Some(IDENTITY.to_string()),
        ("a", _) => Some("GENERATED ALWAYS AS IDENTITY".into()),
        (_, stored @ ("s" | "v")) => {
            let stored = if stored == "s" { "STORED" } else { "VIRTUAL" };
            Some(format!("GENERATED ALWAYS AS ({}) {stored}", expression.unwrap_or_default()))
        }
        // The server keeps a NULL that has a type.
        _ => expression.filter(|sql| sql != "NULL"),
    };
    Ok(Column {
        name: row.text(1)?.to_string().into(),
        data_type: data_type.into(),
        not_null: row.flag(3)?,
        default: default.map(Text::from),
        primary_key_position: 0,
        attributes: attributes::list(row.get(7)),
    })
}

fn index(row: &Row) -> Result<Index> {
    let method = row.text(5)?;
    let mut columns = lines(row.text(6)?);
    if let Some(first) = columns.first_mut().filter(|_| method != "btree") {
        *first = format!("{first} USING {method}").into();
    }
    Ok(Index {
        name: row.text(1)?.to_string().into(),
        columns: columns.into(),
        unique: row.flag(2)?,
        predicate: row.get(4).map(|sql| canonical(sql).into()),
        attributes: attributes::list(row.get(7)),
        definition: Text::default(),
    })
}
