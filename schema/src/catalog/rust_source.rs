//! Writes a catalogue as Rust source, so that the build can make the expected catalogue a constant of the binary.

use super::{Catalog, Column, ForeignKey, Index, Table, Text};

/// The catalogue as a Rust expression. It names the types of this module and `std::borrow::Cow::Borrowed`, which must be
/// in scope.
pub fn catalog_expression(catalog: &Catalog) -> String {
    format!(
        "Catalog {{ other_tables: {}, tables: {} }}",
        list(&catalog.other_tables, text),
        list(&catalog.tables, |table| format!("\n    {}", table_literal(table)))
    )
}

fn table_literal(table: &Table) -> String {
    let unique = list(&table.unique, |columns| list(columns, text));
    let foreign_keys = list(&table.foreign_keys, foreign_key_literal);
    format!(
        "Table {{ name: {}, columns: {}, unique: {unique}, foreign_keys: {foreign_keys}, checks: {}, attributes: {}, indexes: {}, definition: {} }}",
        text(&table.name),
        list(&table.columns, column_literal),
        list(&table.checks, text),
        list(&table.attributes, text),
        list(&table.indexes, index_literal),
        text(&table.definition)
    )
}

fn foreign_key_literal(key: &ForeignKey) -> String {
    format!(
        "ForeignKey {{ column: {}, table: {}, references: {}, on_delete: {}, attributes: {} }}",
        text(&key.column),
        text(&key.table),
        text(&key.references),
        text(&key.on_delete),
        list(&key.attributes, text)
    )
}

fn column_literal(column: &Column) -> String {
    format!(
        "Column {{ name: {}, data_type: {}, not_null: {}, default: {}, primary_key_position: {}, attributes: {} }}",
        text(&column.name),
        text(&column.data_type),
        column.not_null,
        option(column.default.as_ref()),
        column.primary_key_position,
        list(&column.attributes, text)
    )
}

fn index_literal(index: &Index) -> String {
    format!(
        "Index {{ name: {}, columns: {}, unique: {}, predicate: {}, attributes: {}, definition: {} }}",
        text(&index.name),
        list(&index.columns, text),
        index.unique,
        option(index.predicate.as_ref()),
        list(&index.attributes, text),
        text(&index.definition)
    )
}

fn text(text: &Text) -> String {
    format!("Borrowed({text:?})")
}

fn option(value: Option<&Text>) -> String {
    value.map_or("None".into(), |value| format!("Some({})", text(value)))
}

fn list<T>(items: &[T], literal: impl Fn(&T) -> String) -> String {
    format!("Borrowed(&[{}])", items.iter().map(literal).collect::<Vec<_>>().join(", "))
}
