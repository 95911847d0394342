//! Reads `CREATE TABLE` and `ALTER TABLE … ADD COLUMN` statements of PostgreSQL into the catalogue.

use super::cursor::Cursor;
use super::{DdlEffect, IDENTITY, Result, check_column, find_table, table_position, type_name};
use crate::catalog::{Column, ForeignKey, List, Table, Text};
use crate::sql::definition::table_items;
use crate::sql::expression::{canonical_tokens, default_of_tokens};
use crate::sql::postgres_lexer::{PostgresToken, postgres_tokens};

/// Applies `CREATE TABLE IF NOT EXISTS`; the cursor is behind these key words.
pub(super) fn create_table(
    tables: &mut Vec<Table>,
    mut cursor: Cursor<'_>,
    sql: &str,
) -> Result<DdlEffect> {
    let name = cursor.name()?;
    cursor.group()?;
    if cursor.takes(&["WITH"]) {
        cursor.group()?;
    }
    cursor.end()?;
    let mut table = Table::named(name.clone());
    for item in table_items(sql) {
        let tokens = postgres_tokens(item.text);
        let cursor = Cursor::new(&tokens);
        match item.column {
            Some(_) => column(&mut table, tables, cursor)?,
            None => constraint(&mut table, tables, cursor)?,
        }
    }
    if tables.iter().any(|other| other.name == name) {
        return Ok(DdlEffect::Existed);
    }
    tables.push(table);
    Ok(DdlEffect::Created)
}

/// Applies `ALTER TABLE … ADD COLUMN IF NOT EXISTS`; the cursor is behind `ALTER TABLE`.
pub(super) fn add_column(tables: &mut [Table], mut cursor: Cursor<'_>) -> Result<DdlEffect> {
    let name = cursor.name()?;
    cursor.expect(&["ADD", "COLUMN", "IF", "NOT", "EXISTS"])?;
    let at = table_position(tables, &name)?;
    let mut table = tables.get(at).cloned().ok_or("no such table")?;
    let added = cursor.clone().name()?;
    if table.columns.iter().any(|column| column.name == added) {
        return Ok(DdlEffect::Existed);
    }
    column(&mut table, tables, cursor)?;
    if let Some(slot) = tables.get_mut(at) {
        *slot = table;
    }
    Ok(DdlEffect::Created)
}

/// Reads the definition of a column into the table.
fn column(table: &mut Table, tables: &[Table], mut cursor: Cursor<'_>) -> Result<()> {
    let name = cursor.name()?;
    if table.columns.iter().any(|column| column.name == name) {
        return Err(format!("column {name} is defined twice"));
    }
    let mut column = Column {
        name: name.clone().into(),
        data_type: supported_type(cursor.until_clause(0))?.into(),
        not_null: false,
        default: None,
        primary_key_position: 0,
        attributes: List::default(),
    };
    while !cursor.is_at_end() {
        if cursor.takes(&["NOT", "NULL"]) {
            column.not_null = true;
        } else if cursor.takes(&["DEFAULT"]) {
            let default = default_of_tokens(cursor.until_clause(1), &column.data_type);
            column.default = (default != "NULL").then(|| default.into());
        } else if cursor.takes(&["GENERATED", "BY", "DEFAULT", "AS", "IDENTITY"]) {
            column.default = Some(IDENTITY.into());
            column.not_null = true;
        } else if cursor.takes(&["PRIMARY", "KEY"]) {
            (column.primary_key_position, column.not_null) = (1, true);
        } else if cursor.takes(&["UNIQUE"]) {
            table.unique.to_mut().push(vec![Text::from(name.clone())].into());
        } else if cursor.takes(&["CHECK"]) {
            table.checks.to_mut().push(canonical_tokens(cursor.group()?).into());
        } else if cursor.takes(&["CONSTRAINT"]) {
            cursor.name()?;
        } else if cursor.takes(&["REFERENCES"]) {
            let key = references(&mut cursor, &name, tables)?;
            table.foreign_keys.to_mut().push(key);
        } else {
            return Err(format!("column {name}: {} is not understood", cursor.rest()));
        }
    }
    table.columns.to_mut().push(column);
    Ok(())
}

/// The types used in the schema. Another one needs a corresponding type on SQLite.
const TYPES: &[&str] =
    &["BIGINT", "BOOLEAN", "DATE", "DOUBLE PRECISION", "INTEGER", "TEXT", "TIMESTAMPTZ"];

fn supported_type(tokens: &[PostgresToken]) -> Result<String> {
    let name = tokens.iter().map(|token| token.name().unwrap_or("?")).collect::<Vec<_>>().join(" ");
    let data_type = type_name(&name);
    if TYPES.contains(&data_type.as_str()) {
        Ok(data_type)
    } else {
        Err(format!("type {data_type} is not supported"))
    }
}

/// Reads the definition of a table constraint into the table.
fn constraint(table: &mut Table, tables: &[Table], mut cursor: Cursor<'_>) -> Result<()> {
    if cursor.takes(&["CONSTRAINT"]) {
        cursor.name()?;
    }
    if cursor.takes(&["PRIMARY", "KEY"]) {
        let names = cursor.names()?;
        for column in table.columns.to_mut() {
            let position = names.iter().position(|name| *name == column.name);
            if let Some(key) = position.and_then(|position| u32::try_from(position + 1).ok()) {
                (column.primary_key_position, column.not_null) = (key, true);
            }
        }
    } else if cursor.takes(&["UNIQUE"]) {
        let names = cursor.names()?.into_iter().map(Text::from).collect::<Vec<_>>();
        table.unique.to_mut().push(names.into());
    } else if cursor.takes(&["CHECK"]) {
        table.checks.to_mut().push(canonical_tokens(cursor.group()?).into());
    } else if cursor.takes(&["FOREIGN", "KEY"]) {
        let [name] = <[String; 1]>::try_from(cursor.names()?)
            .map_err(|_| "a foreign key must have one column")?;
        cursor.expect(&["REFERENCES"])?;
        let key = references(&mut cursor, &name, tables)?;
        table.foreign_keys.to_mut().push(key);
    }
    cursor.end()
}

/// Reads what follows REFERENCES.
fn references(cursor: &mut Cursor<'_>, column: &str, tables: &[Table]) -> Result<ForeignKey> {
    let table = cursor.name()?;
    let [references] = <[String; 1]>::try_from(cursor.names()?)
        .map_err(|_| "a foreign key must refer to one column")?;
    check_column(find_table(tables, &table)?, &references)?;
    let mut on_delete = "NO ACTION";
    if cursor.takes(&["ON", "DELETE"]) {
        let actions = [
            ("CASCADE", &["CASCADE"][..]),
            ("SET NULL", &["SET", "NULL"]),
            ("SET DEFAULT", &["SET", "DEFAULT"]),
            ("RESTRICT", &["RESTRICT"]),
            ("NO ACTION", &["NO", "ACTION"]),
        ];
        let action = actions.iter().find(|(_, tokens)| cursor.takes(tokens));
        on_delete = action.ok_or("ON DELETE has no known action")?.0;
    }
    Ok(ForeignKey {
        column: column.to_string().into(),
        table: table.into(),
        references: references.into(),
        on_delete: on_delete.into(),
        attributes: List::default(),
    })
}
