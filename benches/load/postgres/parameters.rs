//! The generated values as parameters of PostgreSQL's statements and as lines of COPY.

use std::error::Error;
use std::time::SystemTime;

use postgres::types::private::BytesMut;
use postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use rusqlite::types::Value;

use crate::Result;

/// A value in the type of its column.
#[derive(Debug)]
pub enum Parameter {
    Null,
    Boolean(bool),
    Small(i32),
    Integer(i64),
    Real(f64),
    Text(String),
    Time(SystemTime),
}

impl ToSql for Parameter {
    fn to_sql(
        &self,
        of: &Type,
        out: &mut BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Boolean(value) => value.to_sql(of, out),
            Self::Small(value) => value.to_sql(of, out),
            Self::Integer(value) => value.to_sql(of, out),
            Self::Real(value) => value.to_sql(of, out),
            Self::Text(value) => value.to_sql(of, out),
            Self::Time(value) => value.to_sql(of, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

pub fn parameters(values: &[Value], types: &[Type]) -> Result<Vec<Parameter>> {
    values.iter().zip(types).map(|(value, of)| parameter(value, of)).collect()
}

fn parameter(value: &Value, of: &Type) -> Result<Parameter> {
    Ok(match (value, of) {
        (Value::Null, _) => Parameter::Null,
        (Value::Integer(value), &Type::BOOL) => Parameter::Boolean(*value != 0),
        (Value::Integer(value), &Type::INT4) => Parameter::Small(i32::try_from(*value)?),
        (Value::Integer(value), &Type::INT8) => Parameter::Integer(*value),
        (Value::Real(value), &Type::FLOAT8) => Parameter::Real(*value),
        (Value::Text(text), &Type::TIMESTAMPTZ) => {
            Parameter::Time(humantime::parse_rfc3339_weak(text)?)
        }
        (Value::Text(text), &Type::TEXT) => Parameter::Text(text.clone()),
        (value, of) => return Err(format!("{value:?} as {of}: not expected").into()),
    })
}

/// The form in which the driver takes parameters.
pub fn borrowed(parameters: &[Parameter]) -> Vec<&(dyn ToSql + Sync)> {
    parameters.iter().map(|parameter| parameter as _).collect()
}

/// Turns SQLite's parameters, `?1` or `?`, into PostgreSQL's, `$1`.
pub fn with_dollars(sql: &str) -> String {
    let mut parts = sql.split('?');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for (number, part) in parts.enumerate() {
        text.push('$');
        if !part.starts_with(|c: char| c.is_ascii_digit()) {
            text += &(number + 1).to_string();
        }
        text += part;
    }
    text
}

/// Appends a row in COPY's text format.
pub fn write_line(line: &mut String, row: &[Value]) {
    for (number, value) in row.iter().enumerate() {
        if number > 0 {
            line.push('\t');
        }
        match value {
            Value::Integer(value) => line.push_str(&value.to_string()),
            Value::Real(value) => line.push_str(&value.to_string()),
            Value::Text(text) => {
                line.push_str(&text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n"))
            }
            Value::Null | Value::Blob(_) => line.push_str("\\N"),
        }
    }
    line.push('\n');
}

/// A value as a literal whose type PostgreSQL infers.
pub fn literal(value: &Value) -> String {
    match value {
        Value::Integer(value) => format!("'{value}'"),
        Value::Real(value) => format!("'{value}'"),
        Value::Text(text) => format!("'{}'", text.replace('\'', "''")),
        Value::Null | Value::Blob(_) => "NULL".to_owned(),
    }
}
