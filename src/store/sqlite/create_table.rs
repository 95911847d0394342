//! The `CREATE TABLE` statement of a rebuilt table: the expected columns, then the columns and
//! constraints that its owner has added. Text only.

use super::existing_table::{SourceTable, has_column};
use crate::store::sql::quoted;
use cts_schema::catalog::{Column, Table};
use cts_schema::sql::definition::{TableItem, constraint_columns, contains_name, table_items};
use cts_schema::sql::tokens;

/// The statement that creates the table `name` with the columns of `target` and what was added to
/// `source`.
pub fn create_table(source: &SourceTable, name: &str, target: &Table) -> String {
    let autoincrement = source.has_autoincrement();
    let columns = target.columns.iter().map(|column| column_sql(target, column, autoincrement));
    let found = table_items(&source.table.definition);
    let added: Vec<&str> = found
        .iter()
        .filter_map(|item| item.column.as_deref())
        .filter(|column| !has_column(target, column))
        .collect();
    let kept = found.iter().filter_map(|item| kept_item(source, target, item, &added));
    let items: Vec<String> = columns.chain(kept).collect();
    let attributes = target.attributes.join(", ");
    format!("CREATE TABLE {} (\n    {}\n) {attributes}", quoted(name), items.join(",\n    "))
}

/// A column or constraint that was `added` to the table, as it stays; `None` for one that does not.
fn kept_item(
    source: &SourceTable,
    target: &Table,
    item: &TableItem<'_>,
    added: &[&str],
) -> Option<String> {
    let has_primary_key = contains_name(item.text, "PRIMARY");
    match &item.column {
        Some(column) if has_column(target, column) => None,
        // The table has its expected primary key.
        Some(column) if has_primary_key => {
            Some(format!("{} {}", quoted(column), source.data_type(column)))
        }
        // Rows of programs that do not know the column must be accepted.
        Some(column) if source.column(column).is_some_and(Column::requires_value) => {
            Some(without_not_null(item.text))
        }
        // Only a STRICT table keeps every value in a column of this type; one without a type does elsewhere.
        Some(column) if source.is_strict() && source.data_type(column) == "ANY" => {
            Some(without_type(item.text))
        }
        Some(_) => Some(item.text.to_string()),
        None if !has_primary_key && is_of_added(target, item.text, added) => {
            Some(item.text.to_string())
        }
        None => None,
    }
}

/// Whether a table constraint is about added columns. A CHECK may name expected ones too.
fn is_of_added(target: &Table, constraint: &str, added: &[&str]) -> bool {
    if contains_name(constraint, "CHECK") {
        added.iter().any(|column| contains_name(constraint, column))
    } else {
        constraint_columns(constraint).iter().all(|name| !has_column(target, name))
    }
}

/// An expected column. The expected tables have one key column at most.
fn column_sql(table: &Table, column: &Column, autoincrement: bool) -> String {
    let mut sql = format!("{} {}", quoted(&column.name), column.data_type);
    if column.primary_key_position > 0 {
        sql += " PRIMARY KEY";
        if autoincrement && table.rowid_alias() == Some(column) {
            sql += " AUTOINCREMENT";
        }
    }
    if column.not_null {
        sql += " NOT NULL";
    }
    if let Some(default) = &column.default {
        sql += &format!(" DEFAULT ({default})");
    }
    for key in table.foreign_keys.iter().filter(|key| key.column == column.name) {
        sql += &format!(
            " REFERENCES {} ({}) ON DELETE {}",
            quoted(&key.table),
            quoted(&key.references),
            key.on_delete
        );
        sql.extend(key.attributes.iter().map(|clause| format!(" {clause}")));
    }
    sql.extend(column.attributes.iter().map(|clause| format!(" {clause}")));
    sql
}

/// The definition of a column without its type, which is one word; every other byte is the same.
fn without_type(item: &str) -> String {
    match tokens(item).filter(|token| !token.is_blank()).nth(1) {
        Some(data_type) => {
            let end = data_type.start + data_type.text.len();
            let (before, after) = (item.get(..data_type.start), item.get(end..));
            format!("{}{}", before.unwrap_or_default(), after.unwrap_or_default())
        }
        None => item.to_owned(),
    }
}

/// The definition of a column without its NOT NULL constraint; every other byte is the same.
fn without_not_null(item: &str) -> String {
    let words: Vec<_> = tokens(item).filter(|token| !token.is_blank()).collect();
    let is = |at: usize, word: &str| {
        words.get(at).is_some_and(|token| token.text.eq_ignore_ascii_case(word))
    };
    let mut depth = 0_usize;
    for (at, token) in words.iter().enumerate() {
        match token.text {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            _ if depth == 0 && is(at, "NOT") && is(at + 1, "NULL") => {
                let has_conflict_clause = is(at + 2, "ON") && is(at + 3, "CONFLICT");
                let last = words.get(at + if has_conflict_clause { 4 } else { 1 });
                let end = last.map_or(item.len(), |token| token.start + token.text.len());
                let (before, after) = (item.get(..token.start), item.get(end..));
                return format!("{}{}", before.unwrap_or_default(), after.unwrap_or_default());
            }
            _ => {}
        }
    }
    item.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_null_is_taken_out_and_nothing_else() {
        for (item, left) in [
            ("own TEXT NOT NULL CHECK(own<>'q')", "own TEXT  CHECK(own<>'q')"),
            ("own INT not /* x */ null ON CONFLICT FAIL DEFAULT 1.5", "own INT  DEFAULT 1.5"),
            ("own INT CHECK(own NOT NULL OR a)", "own INT CHECK(own NOT NULL OR a)"),
        ] {
            assert_eq!(without_not_null(item), left);
        }
    }
}
