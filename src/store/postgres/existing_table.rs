//! Reads a table of an older CTS as it is: columns with their types, constraints, the foreign keys
//! that reference it, and the sequences that fill its columns.

use super::constraint::{CONSTRAINT_COLUMN_COUNT, CONSTRAINT_COLUMNS, Constraint};
use super::conversion::{Conversion, SourceType, conversion};
use super::inspect;
use super::row::Row;
use super::session::Session;
use crate::error::{Error, Kind, Result};
use crate::store::schema::POSTGRES;
use crate::store::sql::quoted;
use cts_schema::catalog::{Column, ForeignKey, Table, Text};

/// A foreign key that references the table.
pub struct ReferencingKey {
    /// The foreign key.
    pub constraint: Constraint,
    /// Its table with its schema, as SQL.
    pub table: String,
    /// Its name for messages, with the schema where that is another one.
    pub shown_table: String,
    /// Whether that is the table itself.
    pub is_own: bool,
    /// Whether both tables and its columns are ours.
    pub is_ours: bool,
    /// Whether the expected schema has it.
    pub is_expected: bool,
}

/// A sequence that fills a column.
pub struct Sequence {
    /// Its name, as SQL.
    pub name: String,
    column: String,
    /// Whether the column owns it and takes its default from it, and nothing else uses it.
    pub is_exclusive: bool,
    /// Whether the column owns it, and it is not the sequence of an identity.
    pub is_owned: bool,
}

/// The type of a column, for conversions.
pub struct ColumnType {
    /// The column.
    pub column: String,
    /// Its type.
    pub source: SourceType,
}

/// The types of the columns of a table of our schema.
///
/// # Errors
/// If the query fails, or there is no such table; an open transaction is aborted then.
pub fn column_types(session: &mut Session, table: &str) -> Result<Vec<ColumnType>> {
    let oid = format!("{}::regclass", session.qualified_literal(table));
    session.rows(&column_types_sql(&oid))?.iter().map(column_type).collect()
}

/// The query for the types of the columns of a table, for [`column_type`]. A type that is not the server's has no name,
/// so that it is not taken for the one of that name.
fn column_types_sql(oid: &str) -> String {
    format!(
        "SELECT a.attname, CASE b.typnamespace WHEN 'pg_catalog'::regnamespace THEN b.typname ELSE '' END, b.typcategory, format_type(a.atttypid, a.atttypmod) \
         FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
             JOIN pg_type b ON b.oid = CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END \
         WHERE a.attrelid = {oid} AND a.attnum > 0 AND NOT a.attisdropped"
    )
}

/// A table as it is.
pub struct ExistingTable {
    /// The table in the catalogue.
    pub table: Table,
    /// Its constraints.
    pub constraints: Vec<Constraint>,
    /// The foreign keys that reference it, its own among them.
    pub referencing: Vec<ReferencingKey>,
    /// Whether somebody has set storage parameters.
    pub has_storage_parameters: bool,
    types: Vec<ColumnType>,
    sequences: Vec<Sequence>,
}

impl ExistingTable {
    /// Reads it, in the transaction that is open, if one is.
    ///
    /// # Errors
    /// If a query fails (an open transaction is aborted then), or `Kind::Data` if the table does
    /// not exist or is partitioned.
    pub fn read(session: &mut Session, expected: &Table) -> Result<ExistingTable> {
        let name = &*expected.name;
        let catalog = inspect::inspect_in_transaction(session)?.snapshot.catalog;
        let missing = || Error::new(Kind::Data, format!("there is no table {name}"));
        let table = catalog.table(name).cloned().ok_or_else(missing)?;
        let [state, types, constraints, referencing, sequences] =
            session.results_of(&details_sql(&session.qualified_literal(name)))?;
        let state = state.first().ok_or_else(missing)?;
        if state.flag(0)? {
            let what =
                format!("table {name} is partitioned, and cts cannot convert a partitioned table");
            return Err(Error::new(Kind::Data, what)
                .remedy("copy its rows into an ordinary table of the same name"));
        }
        Ok(ExistingTable {
            types: types.iter().map(column_type).collect::<Result<_>>()?,
            constraints: constraints.iter().map(Constraint::read).collect::<Result<_>>()?,
            referencing: referencing
                .iter()
                .map(|row| ReferencingKey::read(row, name))
                .collect::<Result<_>>()?,
            sequences: sequences.iter().map(sequence).collect::<Result<_>>()?,
            has_storage_parameters: state.flag(1)?,
            table,
        })
    }

    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.table.columns.iter().find(|column| column.name == *name)
    }

    /// How a column is converted to another type.
    pub fn conversion(&self, column: &str, to: &str) -> Conversion {
        conversion(self.source_type(column), to, &quoted(column))
    }

    /// The type of a column; one that nothing converts where there is no such column.
    pub fn source_type(&self, column: &str) -> &SourceType {
        static UNKNOWN: SourceType =
            SourceType { name: String::new(), category: String::new(), full_name: String::new() };
        let found = self.types.iter().find(|found| found.column == *column);
        found.map_or(&UNKNOWN, |found| &found.source)
    }

    /// The sequences that fill a column.
    pub fn sequences(&self, column: &str) -> impl Iterator<Item = &Sequence> {
        self.sequences.iter().filter(move |sequence| sequence.column == column)
    }

    /// The columns that the schema does not know.
    pub fn added_columns<'o>(&'o self, expected: &'o Table) -> impl Iterator<Item = &'o Column> {
        self.table.columns.iter().filter(|column| !has_column(expected, &column.name))
    }
}

/// Whether a table has a column of that name.
pub fn has_column(table: &Table, name: &str) -> bool {
    table.columns.iter().any(|column| column.name == *name)
}

/// Five queries: kind and storage parameters, column types, constraints, the foreign keys that
/// reference the table, and its sequences. The table is a literal. A sequence is exclusive where nothing depends on it
/// but the default of the column and, before PostgreSQL 15, its own row type.
fn details_sql(table: &str) -> String {
    let oid = format!("{table}::regclass");
    let types = column_types_sql(&oid);
    format!(
        "SELECT relkind = 'p', reloptions IS NOT NULL FROM pg_class WHERE oid = {oid}; \
         {types}; \
         SELECT {CONSTRAINT_COLUMNS} FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid LEFT JOIN pg_class p ON p.oid = k.confrelid \
         WHERE k.conrelid = {oid} ORDER BY k.conname; \
         SELECT {CONSTRAINT_COLUMNS}, k.conrelid::regclass, c.relnamespace = p.relnamespace, k.conrelid = k.confrelid \
         FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_class p ON p.oid = k.confrelid \
         WHERE k.confrelid = {oid} AND k.contype = 'f' ORDER BY c.relname, k.conname; \
         SELECT s.oid::regclass, a.attname, \
             bool_or(d.deptype = 'a') AND bool_or(d.classid = 'pg_attrdef'::regclass) AND NOT EXISTS (SELECT FROM pg_depend o WHERE o.refobjid = s.oid \
                 AND o.refclassid = 'pg_class'::regclass AND o.deptype <> 'i' AND NOT (o.classid = 'pg_attrdef'::regclass AND o.objid IN \
                     (SELECT oid FROM pg_attrdef WHERE adrelid = {oid} AND adnum = a.attnum))), \
             bool_or(d.deptype = 'a') \
         FROM pg_attribute a LEFT JOIN pg_attrdef e ON e.adrelid = a.attrelid AND e.adnum = a.attnum \
             JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum AND d.deptype IN ('a', 'i') \
                 OR d.classid = 'pg_attrdef'::regclass AND d.objid = e.oid \
             JOIN pg_class s ON s.relkind = 'S' AND s.oid = CASE d.classid WHEN 'pg_class'::regclass THEN d.objid ELSE d.refobjid END \
         WHERE a.attrelid = {oid} AND a.attnum > 0 GROUP BY s.oid, a.attname, a.attnum"
    )
}

fn column_type(row: &Row) -> Result<ColumnType> {
    let source = SourceType {
        name: row.text(1)?.into(),
        category: row.text(2)?.into(),
        full_name: row.text(3)?.into(),
    };
    Ok(ColumnType { column: row.text(0)?.into(), source })
}

fn sequence(row: &Row) -> Result<Sequence> {
    Ok(Sequence {
        name: row.text(0)?.into(),
        column: row.text(1)?.into(),
        is_exclusive: row.flag(2)?,
        is_owned: row.flag(3)?,
    })
}

impl ReferencingKey {
    fn read(row: &Row, parent: &str) -> Result<ReferencingKey> {
        let constraint = Constraint::read(row)?;
        let is_same_schema = row.flag(CONSTRAINT_COLUMN_COUNT + 1)?;
        let child = POSTGRES.expected.table(&constraint.table).filter(|_| is_same_schema);
        let has = |child: &Table| constraint.columns.iter().any(|name| has_column(child, name));
        let is_it = |key: &ForeignKey| {
            let columns: &[Text] = std::slice::from_ref(&key.column);
            key.table == *parent && constraint.columns == columns
        };
        Ok(ReferencingKey {
            table: row.text(CONSTRAINT_COLUMN_COUNT)?.into(),
            shown_table: match is_same_schema {
                true => constraint.table.clone(),
                false => row.text(CONSTRAINT_COLUMN_COUNT)?.into(),
            },
            is_own: row.flag(CONSTRAINT_COLUMN_COUNT + 2)?,
            is_ours: child.is_some_and(has),
            is_expected: child.is_some_and(|child| child.foreign_keys.iter().any(is_it)),
            constraint,
        })
    }
}
