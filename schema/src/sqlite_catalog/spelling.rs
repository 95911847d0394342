//! Gives what was read from a database the spelling of the expected catalogue, wherever SQLite sees no difference: the
//! case of ASCII letters in names and key words, and quotes around a name. So names are compared in one place, and
//! whoever uses a catalogue later compares texts.

use std::borrow::Cow;

use crate::catalog::{Column, ForeignKey, Index, List, Table, Text};
use crate::sql::{tokens, unquote};

/// Spells a table as the expected one.
pub(super) fn spell_as(found: &mut Table, expected: &Table) {
    found.name = expected.name.clone();
    for column in found.columns.to_mut() {
        if let Some(known) =
            expected.columns.iter().find(|known| is_same_name(&known.name, &column.name))
        {
            spell_column(column, known);
        }
    }
    let columns = &*expected.columns;
    for names in found.unique.to_mut() {
        spell_names(names, columns);
    }
    for key in found.foreign_keys.to_mut() {
        spell_key(key, expected);
    }
    for check in found.checks.to_mut() {
        *check = with_column_names(check, columns);
    }
    for index in found.indexes.to_mut() {
        spell_index(index, expected);
    }
}

fn is_same_name(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

fn spell_column(column: &mut Column, known: &Column) {
    column.name = known.name.clone();
    if let (Some(default), Some(expected)) = (&mut column.default, &known.default)
        && is_same_expression(default, expected)
    {
        *default = expected.clone();
    }
}

/// A name, or one with words behind it, such as ` DESC`.
fn spell_names(names: &mut List<Text>, columns: &[Column]) {
    for name in names.to_mut() {
        let is_it = |column: &&Column| {
            let start = name.get(..column.name.len());
            start.is_some_and(|start| is_same_name(start, &column.name))
                && matches!(name.as_bytes().get(column.name.len()), None | Some(b' '))
        };
        if let Some(column) = columns.iter().find(is_it) {
            let rest = name.get(column.name.len()..).unwrap_or_default();
            *name = format!("{}{rest}", column.name).into();
        }
    }
}

fn spell_key(key: &mut ForeignKey, expected: &Table) {
    let is_it = |known: &&ForeignKey| {
        is_same_name(&known.column, &key.column)
            && is_same_name(&known.table, &key.table)
            && is_same_name(&known.references, &key.references)
    };
    if let Some(known) = expected.foreign_keys.iter().find(is_it) {
        key.column = known.column.clone();
        key.table = known.table.clone();
        key.references = known.references.clone();
    } else if let Some(column) =
        expected.columns.iter().find(|c| is_same_name(&c.name, &key.column))
    {
        key.column = column.name.clone();
    }
}

fn spell_index(index: &mut Index, expected: &Table) {
    spell_names(&mut index.columns, &expected.columns);
    if let Some(predicate) = &mut index.predicate {
        *predicate = with_column_names(predicate, &expected.columns);
    }
    let Some(known) = expected.indexes.iter().find(|known| is_same_name(&known.name, &index.name))
    else {
        return;
    };
    index.name = known.name.clone();
    if let (Some(predicate), Some(expected)) = (&mut index.predicate, &known.predicate)
        && is_same_expression(predicate, expected)
    {
        *predicate = expected.clone();
    }
}

/// An expression about the columns, with their names as they are spelled here, and without quotes.
fn with_column_names(sql: &str, columns: &[Column]) -> Text {
    let mut text = String::with_capacity(sql.len());
    for token in tokens(sql) {
        let is_literal = token.text.starts_with('\'');
        let name = unquote(token.text);
        let known = columns.iter().find(|column| !is_literal && is_same_name(&column.name, &name));
        text.push_str(known.map_or(token.text, |column| &column.name));
    }
    Cow::Owned(text)
}

/// Whether two expressions differ in white space, comments and the case of key words and names at most.
fn is_same_expression(a: &str, b: &str) -> bool {
    let is_same = |(a, b): (&str, &str)| match a.chars().next() {
        Some('\'' | '"') => a == b,
        _ => is_same_name(a, b),
    };
    let words = |sql: &'_ str| tokens(sql).filter(|token| !token.is_blank()).count();
    fn texts(sql: &str) -> impl Iterator<Item = &str> {
        tokens(sql).filter(|token| !token.is_blank()).map(|token| token.text)
    }
    words(a) == words(b) && texts(a).zip(texts(b)).all(is_same)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_the_same_without_regard_to_case_and_white_space_outside_literals() {
        let now = "strftime('%Y-%m-%d', 'now')";
        assert!(is_same_expression("STRFTIME( '%Y-%m-%d','now' )", now));
        assert!(!is_same_expression("strftime('%y-%m-%d', 'now')", now));
        assert!(!is_same_expression("\"CURRENT_TIMESTAMP\"", "CURRENT_TIMESTAMP"));
        assert!(!is_same_expression("'A'", "'a'"));
        assert!(!is_same_expression("1 + 1", "1"));
    }
}
