//! Reads `CREATE INDEX` statements of PostgreSQL into the catalogue.

use super::cursor::Cursor;
use super::{DdlEffect, Result, check_column, table_position};
use crate::catalog::{Index, List, Table, Text};
use crate::sql::expression::canonical_tokens;
use crate::sql::postgres_lexer::PostgresToken;

/// Applies `CREATE INDEX IF NOT EXISTS`; the cursor is behind these key words.
pub(super) fn create_index(
    tables: &mut [Table],
    mut cursor: Cursor<'_>,
    unique: bool,
) -> Result<DdlEffect> {
    let name = cursor.name()?;
    cursor.expect(&["ON"])?;
    let table = cursor.name()?;
    let keys = cursor.group()?;
    let at = table_position(tables, &table)?;
    let table = tables.get(at).ok_or("no such table")?;
    let columns = index_columns(table, keys)?;
    let predicate = cursor.takes(&["WHERE"]).then(|| canonical_tokens(cursor.take_rest()));
    cursor.end()?;
    if tables.iter().any(|table| table.index(&name).is_some()) {
        return Ok(DdlEffect::Existed);
    }
    let index = Index {
        name: name.into(),
        columns: columns.into(),
        unique,
        predicate: predicate.map(Text::from),
        attributes: List::default(),
        definition: "".into(),
    };
    tables.get_mut(at).ok_or("no such table")?.indexes.to_mut().push(index);
    Ok(DdlEffect::Created)
}

/// The columns of an index, from the tokens in its parentheses.
fn index_columns(table: &Table, keys: &[PostgresToken]) -> Result<Vec<Text>> {
    let mut columns = Vec::new();
    for key in keys.split(|token| token.is(",")) {
        let mut cursor = Cursor::new(key);
        let name = cursor.name()?;
        check_column(table, &name)?;
        let is_descending = cursor.takes(&["DESC"]);
        cursor.takes(&["ASC"]);
        cursor.end()?;
        columns.push(if is_descending { format!("{name} DESC") } else { name }.into());
    }
    Ok(columns)
}
