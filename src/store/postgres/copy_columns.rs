//! The columns of a COPY to this program. What arrives is always a value of the type that is asked for, whatever type the
//! column has in this database; a value that is none arrives as its text, so that the COPY never fails at one.

use super::conversion::{SourceType, as_text, conversion};
use super::copy_format::{FieldForm, WireType};
use crate::store::ValueType;

/// A column of the SELECT of a COPY.
pub struct SelectedColumn {
    /// Its expressions, one for each value of its form.
    pub sql: String,
    /// What is read.
    pub form: FieldForm,
}

/// How a column, given as SQL, is selected.
pub fn selected(source: &SourceType, value_type: ValueType, column: &str) -> SelectedColumn {
    let plain = |wire, sql| SelectedColumn { sql, form: FieldForm::Plain(wire, value_type) };
    if let Some(wire) = wire_type(source).filter(|wire| is_read_from(value_type, *wire)) {
        return plain(wire, column.to_string());
    }
    let text = as_text(column);
    let Some((wire, to)) = converted(value_type) else {
        return match value_type {
            ValueType::Text => plain(WireType::Text, text),
            _ => SelectedColumn {
                sql: format!("NULL::bytea, {text}"),
                form: FieldForm::OrText(WireType::Bytea, value_type),
            },
        };
    };
    let found = conversion(source, to, column);
    SelectedColumn {
        sql: format!(
            "CASE WHEN {lossy} THEN NULL ELSE {value} END, CASE WHEN {lossy} THEN {text} END",
            lossy = found.is_lossy,
            value = found.value
        ),
        form: FieldForm::OrText(wire, value_type),
    }
}

/// In which form the server sends a type as it is. A domain is sent as its base type.
fn wire_type(source: &SourceType) -> Option<WireType> {
    Some(match &*source.name {
        "bool" => WireType::Bool,
        "int2" | "int4" | "int8" => WireType::Int,
        "float8" => WireType::Float,
        "text" | "varchar" | "bpchar" => WireType::Text,
        "timestamptz" | "timestamp" => WireType::Timestamp,
        "date" => WireType::Date,
        "bytea" => WireType::Bytea,
        _ => return None,
    })
}

/// Whether a value is read from this form without a conversion of the server. Bytes are never converted.
fn is_read_from(value_type: ValueType, wire: WireType) -> bool {
    match wire {
        WireType::Bool => value_type == ValueType::Boolean,
        WireType::Int => matches!(value_type, ValueType::Integer | ValueType::ShortInteger),
        WireType::Float => value_type == ValueType::Real,
        WireType::Text => value_type == ValueType::Text,
        WireType::Timestamp => value_type == ValueType::Time,
        WireType::Date => matches!(value_type, ValueType::Day | ValueType::Time),
        WireType::Bytea => true,
    }
}

/// The form and the type of the server that other types are converted to.
fn converted(value_type: ValueType) -> Option<(WireType, &'static str)> {
    Some(match value_type {
        ValueType::Boolean => (WireType::Bool, "BOOLEAN"),
        ValueType::Integer => (WireType::Int, "BIGINT"),
        ValueType::ShortInteger => (WireType::Int, "INTEGER"),
        ValueType::Real => (WireType::Float, "DOUBLE PRECISION"),
        ValueType::Time => (WireType::Timestamp, "TIMESTAMPTZ"),
        ValueType::Day => (WireType::Date, "DATE"),
        ValueType::Text | ValueType::Bytes => return None,
    })
}
