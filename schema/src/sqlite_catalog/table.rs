//! Reads a table with its columns, constraints and indexes from SQLite, and from the statements that created them where
//! the pragmas are silent (sqlite.org/pragma.html). What is read is compared with the expected table; of every figure of
//! the pragmas, and of every clause, this says whether it is read, or why not.
//!
//! `table_list`
//! - `schema`: always `main`; no other database is attached.
//! - `name`: read.
//! - `type`: read. A virtual table is none of ours; a view is no table, and shadow tables belong to other programs.
//! - `ncol`: follows from the columns.
//! - `wr`, `strict`: read. Either refuses rows that an ordinary table takes.
//!
//! `table_xinfo`
//! - `cid`: not compared. A column that is put back is the last one, and programs name the columns that they use.
//! - `name`, `type`, `notnull`, `dflt_value`, `pk`: read. A default of NULL is that of a column without one.
//! - `hidden`: read. A generated column (2, 3) refuses the values that programs write; 1, of virtual tables, is left
//!   out: it holds no data.
//!
//! `index_list`
//! - `seq`: the order in which the indexes were created, which changes no result.
//! - `name`: read of indexes of their own; those of constraints have generated names.
//! - `unique`, `origin`, `partial`: read.
//!
//! `index_xinfo`
//! - `seqno`, `name`, `desc`, `coll`, `key`: read, also of the index of a primary key. It has none where the key is
//!   another name of the rowid, and `INTEGER PRIMARY KEY DESC` is not (sqlite.org/lang_createtable.html, 5).
//! - `cid`: the column by number. An expression (-2) is none of the expected columns.
//!
//! `foreign_key_list`
//! - `id`, `seq`: the order of the statement, and of the columns in one key.
//! - `table`, `from`, `to`, `on_update`, `on_delete`: read. Without `to`, a key refers to the primary key.
//! - `match`: SQLite checks every key as MATCH SIMPLE, and so reports NONE for each.
//!
//! Clauses of the statements
//! - COLLATE, GENERATED ALWAYS AS, ON CONFLICT, DEFERRABLE, CHECK, the condition of a partial index: read.
//! - AUTOINCREMENT: not compared. It takes the same rows, only never an id again; what its owner has added stays.
//! - CONSTRAINT names: not compared; nothing refers to them.
//! - Triggers and views of the owner: not compared, as nothing is that a program has added to its tables.

use std::borrow::Cow;

use super::clauses::{TableClauses, collation_name, predicate};
use super::spelling::spell_as;
use super::{SchemaRow, SqliteConnection, TextRow};
use crate::catalog::{Column, ForeignKey, Index, List, Table, Text};
use crate::sql::definition::check_conditions;
use crate::sql::fold;

/// Reads a table and these indexes of it, in the spelling of the table that it is `expected` to be.
///
/// # Errors
/// Where SQLite refuses a query.
pub(super) fn read<'i, C: SqliteConnection>(
    conn: &C,
    row: &SchemaRow,
    indexes: impl Iterator<Item = &'i SchemaRow>,
    expected: Option<&Table>,
) -> Result<Table, C::Error> {
    let list = index_list(conn, &row.name)?;
    let mut found = Table { indexes: own_indexes(conn, indexes, &list)?, ..empty(row) };
    // Where only an index differs, the columns and constraints of the table need not be read.
    match expected.filter(|expected| expected.definition == row.sql) {
        Some(known) => {
            let indexes = found.indexes;
            found = Table { indexes, ..known.clone() };
        }
        None => {
            let clauses = TableClauses::of(&row.sql);
            found.columns = columns(conn, &row.name, &clauses)?.into();
            add_primary_key_index(conn, &mut found, &list)?;
            found.unique = unique(conn, &list)?.into();
            found.foreign_keys = foreign_keys(conn, &row.name, &clauses)?.into();
            found.attributes = attributes(conn, &row.name, &clauses)?.into();
        }
    }
    if let Some(expected) = expected {
        spell_as(&mut found, expected);
    }
    Ok(found)
}

fn empty(row: &SchemaRow) -> Table {
    let checks = check_conditions(&row.sql).into_iter().map(Cow::Owned).collect::<Vec<_>>();
    Table {
        name: row.name.clone().into(),
        columns: List::default(),
        unique: List::default(),
        foreign_keys: List::default(),
        checks: checks.into(),
        attributes: List::default(),
        indexes: List::default(),
        definition: row.sql.clone().into(),
    }
}

/// A row of `pragma_index_list`.
struct ListedIndex {
    name: String,
    is_unique: bool,
    /// `c` for CREATE INDEX, `u` for UNIQUE, `pk` for PRIMARY KEY.
    origin: String,
    is_partial: bool,
}

fn index_list<C: SqliteConnection>(conn: &C, table: &str) -> Result<Vec<ListedIndex>, C::Error> {
    let sql = "SELECT name, \"unique\", origin, partial FROM pragma_index_list(?1) ORDER BY name";
    let listed = |row: &TextRow| ListedIndex {
        name: row.text(0).into(),
        is_unique: row.text(1) != "0",
        origin: row.text(2).into(),
        is_partial: row.text(3) != "0",
    };
    Ok(conn.query(sql, &[table])?.iter().map(listed).collect())
}

fn own_indexes<'i, C: SqliteConnection>(
    conn: &C,
    rows: impl Iterator<Item = &'i SchemaRow>,
    list: &[ListedIndex],
) -> Result<List<Index>, C::Error> {
    let mut indexes = Vec::new();
    for row in rows {
        let Some(listed) = list.iter().find(|listed| listed.name == row.name) else { continue };
        let condition = predicate(&row.sql).filter(|_| listed.is_partial);
        indexes.push(Index {
            name: row.name.clone().into(),
            columns: index_columns(conn, &row.name)?.iter().map(IndexColumn::text).collect(),
            unique: listed.is_unique,
            predicate: condition.map(Text::from),
            attributes: List::default(),
            definition: row.sql.clone().into(),
        });
    }
    Ok(indexes.into())
}

/// A column of an index.
struct IndexColumn {
    name: String,
    is_descending: bool,
    /// `None` for BINARY, the collation of a column without one.
    collation: Option<String>,
}

impl IndexColumn {
    fn text(&self) -> Text {
        let collation = self.collation.as_ref().map(|name| format!(" COLLATE {name}"));
        let descending = if self.is_descending { " DESC" } else { "" };
        format!("{}{}{descending}", self.name, collation.unwrap_or_default()).into()
    }
}

fn index_columns<C: SqliteConnection>(conn: &C, index: &str) -> Result<Vec<IndexColumn>, C::Error> {
    let sql = "SELECT coalesce(name, '(expression)'), \"desc\", coll FROM pragma_index_xinfo(?1) \
               WHERE \"key\" ORDER BY seqno";
    let column = |row: &TextRow| IndexColumn {
        name: row.text(0).into(),
        is_descending: row.text(1) != "0",
        collation: Some(collation_name(row.text(2))).filter(|name| name != "BINARY"),
    };
    Ok(conn.query(sql, &[index])?.iter().map(column).collect())
}

fn columns<C: SqliteConnection>(
    conn: &C,
    table: &str,
    clauses: &TableClauses<'_>,
) -> Result<Vec<Column>, C::Error> {
    let sql = "SELECT name, upper(type), \"notnull\", dflt_value, pk, hidden FROM pragma_table_xinfo(?1) WHERE hidden <> 1 ORDER BY cid";
    let column = |row: &TextRow| {
        let malformed = |_| conn.malformed("pragma_table_xinfo: pk is not a number");
        let default = row.get(3).map(fold).filter(|sql| !sql.eq_ignore_ascii_case("NULL"));
        Ok(Column {
            name: row.owned(0),
            data_type: row.owned(1),
            not_null: row.text(2) != "0",
            default: default.map(Text::from),
            primary_key_position: row.text(4).parse().map_err(malformed)?,
            attributes: column_attributes(row.text(0), row.text(5), clauses).into(),
        })
    };
    conn.query(sql, &[table])?.iter().map(column).collect()
}

fn column_attributes(column: &str, hidden: &str, clauses: &TableClauses<'_>) -> Vec<Text> {
    let collation = clauses.collation(column).map(|name| format!("COLLATE {name}").into());
    let storage = match hidden {
        "2" => Some("VIRTUAL"),
        "3" => Some("STORED"),
        _ => None,
    };
    let generated = storage.map(|storage| {
        let expression = clauses.generated(column).unwrap_or_default();
        format!("GENERATED ALWAYS AS {expression} {storage}").into()
    });
    let conflicts = clauses.conflict_clauses(column);
    collation.into_iter().chain(generated).chain(conflicts).collect()
}

/// Adds what the index of the primary key shows to the columns of the key. Without such an index, the key is another
/// name of the rowid.
fn add_primary_key_index<C: SqliteConnection>(
    conn: &C,
    table: &mut Table,
    list: &[ListedIndex],
) -> Result<(), C::Error> {
    let Some(index) = list.iter().find(|listed| listed.origin == "pk") else { return Ok(()) };
    for key in index_columns(conn, &index.name)? {
        let is_it = |column: &&mut Column| column.name == *key.name;
        let Some(column) = table.columns.to_mut().iter_mut().find(is_it) else { continue };
        let collation = key.collation.map(|name| format!("COLLATE {name}").into());
        let collation = collation.filter(|clause| !column.attributes.contains(clause));
        let descending = key.is_descending.then(|| Text::from("DESC"));
        column.attributes.to_mut().extend(descending.into_iter().chain(collation));
    }
    Ok(())
}

fn unique<C: SqliteConnection>(
    conn: &C,
    list: &[ListedIndex],
) -> Result<Vec<List<Text>>, C::Error> {
    let constraints = list.iter().filter(|listed| listed.origin == "u");
    let columns = |listed: &ListedIndex| {
        Ok(index_columns(conn, &listed.name)?.iter().map(IndexColumn::text).collect())
    };
    constraints.map(columns).collect()
}

fn foreign_keys<C: SqliteConnection>(
    conn: &C,
    table: &str,
    clauses: &TableClauses<'_>,
) -> Result<Vec<ForeignKey>, C::Error> {
    let sql = "SELECT k.\"from\", k.\"table\", coalesce(k.\"to\", \
                   (SELECT p.name FROM pragma_table_xinfo(k.\"table\") p WHERE p.pk = k.seq + 1), ''), \
                   k.on_delete, k.on_update, (SELECT max(id) FROM pragma_foreign_key_list(?1)) - k.id \
               FROM pragma_foreign_key_list(?1) k ORDER BY k.id DESC, k.seq";
    let deferred = clauses.deferred_keys();
    let key = |row: &TextRow| {
        let on_update = Some(row.text(4)).filter(|action| *action != "NO ACTION");
        let on_update = on_update.map(|action| format!("ON UPDATE {action}").into());
        let at = row.text(5).parse::<usize>().ok();
        let is_deferred = at.and_then(|at| deferred.get(at).copied()).unwrap_or_default();
        let deferrable = is_deferred.then(|| Text::from("DEFERRABLE INITIALLY DEFERRED"));
        ForeignKey {
            column: row.owned(0),
            table: row.owned(1),
            references: row.owned(2),
            on_delete: row.owned(3),
            attributes: on_update.into_iter().chain(deferrable).collect(),
        }
    };
    Ok(conn.query(sql, &[table])?.iter().map(key).collect())
}

fn attributes<C: SqliteConnection>(
    conn: &C,
    table: &str,
    clauses: &TableClauses<'_>,
) -> Result<Vec<Text>, C::Error> {
    let sql = "SELECT wr, strict FROM pragma_table_list(?1) WHERE schema = 'main'";
    let mut attributes = clauses.constraints_with_conflict_clause();
    for row in conn.query(sql, &[table])? {
        let has = |at: usize| row.text(at) != "0";
        attributes.extend(has(0).then(|| Text::from("WITHOUT ROWID")));
        attributes.extend(has(1).then(|| Text::from("STRICT")));
    }
    Ok(attributes)
}
