//! Converts the values of a column from one type to another, and finds those that the conversion
//! would lose or alter. SQL expressions only. They never fail: a value that a cast would refuse is
//! not cast.

/// The type of a column; of a domain, its base type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceType {
    /// Its name in `pg_type`, such as `int4`; empty if the type is not the server's own.
    pub name: String,
    /// Its category in `pg_type`: `N` number, `S` text, …
    pub category: String,
    /// Its name with modifiers, as SQL.
    pub full_name: String,
}

/// The conversion of a column, as SQL expressions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversion {
    /// The new value.
    pub value: String,
    /// Whether the old value would be lost or altered.
    pub is_lossy: String,
}

impl Conversion {
    fn new(value: String, is_lossy: impl Into<String>) -> Conversion {
        Conversion { value, is_lossy: is_lossy.into() }
    }
}

const INTEGERS: &[&str] = &["int2", "int4", "int8"];
const FLOATS: &[&str] = &["float4", "float8"];
/// Every integer up to this one is exactly a double.
const EXACT: &str = "9007199254740992";
/// The canonical text of an integer.
const DIGITS: &str = "'^(0|-?[1-9][0-9]{0,18})$'";
/// The text of a number that is finite as a double.
const DECIMAL: &str = r"'^-?[0-9]{1,60}(\.[0-9]{1,60})?([eE][-+]?[0-9]{1,2})?$'";
/// A valid date.
const DAY: &str = "(?!0000)([0-9]{4}-((0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)\
                   |([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)";
/// A time of day with an optional offset, to the microsecond.
const CLOCK: &str = r"[ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,6})?)?(Z|[-+](0[0-9]|1[0-4])(:?[0-5][0-9])?)?";

impl SourceType {
    fn is_text(&self) -> bool {
        self.category == "S"
    }

    fn is_integer(&self) -> bool {
        INTEGERS.contains(&&*self.name)
    }

    fn is_number(&self) -> bool {
        self.is_integer() || self.name == "numeric" || FLOATS.contains(&&*self.name)
    }

    /// Whether a foreign key of a column of this type can reference a column of type `data_type`.
    pub fn compares_with(&self, data_type: &str) -> bool {
        match data_type {
            "BIGINT" | "INTEGER" => self.is_integer(),
            "TEXT" => matches!(&*self.name, "text" | "varchar"),
            _ => self.name == pg_type_name(data_type),
        }
    }
}

/// The name in `pg_type` of a type that the schema uses.
fn pg_type_name(data_type: &str) -> &'static str {
    match data_type {
        "BIGINT" => "int8",
        "BOOLEAN" => "bool",
        "DATE" => "date",
        "DOUBLE PRECISION" => "float8",
        "INTEGER" => "int4",
        "TEXT" => "text",
        "TIMESTAMPTZ" => "timestamptz",
        _ => "",
    }
}

/// The conversion of `column`, as SQL, to the type `to`, one that the schema uses. Where there is
/// none, every value would be lost.
pub fn conversion(source: &SourceType, to: &str, column: &str) -> Conversion {
    let known = match to {
        _ if source.name == pg_type_name(to) => {
            Some(Conversion::new(format!("{column}::{to}"), "false"))
        }
        "TEXT" => to_text(source, column),
        "BIGINT" => to_integer(source, column, to, "-9223372036854775808", "9223372036854775807"),
        "INTEGER" => to_integer(source, column, to, "-2147483648", "2147483647"),
        "BOOLEAN" => to_boolean(source, column),
        "DOUBLE PRECISION" => to_double(source, column),
        "TIMESTAMPTZ" => to_time(source, column),
        "DATE" => to_day(source, column),
        _ => None,
    };
    let Conversion { value, is_lossy } =
        known.unwrap_or_else(|| Conversion::new(format!("NULL::{to}"), "true"));
    Conversion { value, is_lossy: format!("{column} IS NOT NULL AND {is_lossy}") }
}

/// An expression of any type as text. Whoever owns a type may create casts from it, which a cast would
/// call; `concat` calls nothing but the type's own output function.
pub fn as_text(expression: &str) -> String {
    format!("CASE WHEN {expression} IS NOT NULL THEN concat({expression}) END")
}

/// The value is lost if `is_so` is false; else `is_lossy` decides.
fn unless(is_so: &str, is_lossy: &str) -> String {
    format!("CASE WHEN {is_so} THEN {is_lossy} ELSE true END")
}

fn to_text(source: &SourceType, column: &str) -> Option<Conversion> {
    let text = format!("{column}::text");
    let full = &source.full_name;
    let is_lossy = match (&*source.category, &*source.name) {
        // A text, or a type that stores the text itself.
        ("S", _) | (_, "json") => "false".to_string(),
        ("E", _) => return Some(Conversion::new(as_text(column), "false")),
        (_, "") => return None,
        ("N" | "B" | "D" | "T", _) | (_, "uuid" | "jsonb" | "inet" | "cidr") => {
            format!("({text})::{full} IS DISTINCT FROM {column}")
        }
        _ => return None,
    };
    Some(Conversion::new(text, is_lossy))
}

fn to_integer(
    source: &SourceType,
    column: &str,
    to: &str,
    low: &str,
    high: &str,
) -> Option<Conversion> {
    let within = |number: &str| format!("{number} BETWEEN {low} AND {high}");
    if source.is_integer() {
        return Some(Conversion::new(
            format!("{column}::{to}"),
            format!("NOT ({})", within(column)),
        ));
    }
    if source.name == "numeric" {
        return Some(Conversion::new(
            format!("{column}::{to}"),
            unless(&within(column), &format!("{column} <> trunc({column})")),
        ));
    }
    if FLOATS.contains(&&*source.name) {
        let is_exact = format!("abs({column}::float8) <= {EXACT} AND {}", within(column));
        return Some(Conversion::new(
            format!("{column}::{to}"),
            unless(&is_exact, &format!("{column} <> trunc({column})")),
        ));
    }
    if source.name == "bool" {
        return Some(Conversion::new(format!("{column}::integer::{to}"), "false"));
    }
    let text = format!("{column}::text");
    let fits =
        unless(&within(&format!("{text}::numeric")), &format!("{text}::{to}::text <> {text}"));
    source.is_text().then(|| {
        Conversion::new(format!("{text}::{to}"), unless(&format!("{text} ~ {DIGITS}"), &fits))
    })
}

fn to_boolean(source: &SourceType, column: &str) -> Option<Conversion> {
    if source.is_number() {
        return Some(Conversion::new(format!("{column} = 1"), format!("{column} NOT IN (0, 1)")));
    }
    let words = "('true', 'false', 't', 'f', '1', '0')";
    source.is_text().then(|| {
        Conversion::new(
            format!("{column}::text::boolean"),
            format!("{column}::text NOT IN {words}"),
        )
    })
}

fn to_double(source: &SourceType, column: &str) -> Option<Conversion> {
    // The shortest text of a double that reads back as the same double.
    let back = |number: &str| format!("{number}::float8::text::numeric <> {number}::numeric");
    match &*source.name {
        "int2" | "int4" => Some(Conversion::new(format!("{column}::float8"), "false")),
        "int8" => Some(Conversion::new(
            format!("{column}::float8"),
            format!("NOT ({column} BETWEEN -{EXACT} AND {EXACT})"),
        )),
        "numeric" => {
            let finite = format!(
                "{column} = 0 OR abs({column}) BETWEEN 1e-300 AND 1e300 AND {column} <> 'NaN'"
            );
            Some(Conversion::new(format!("{column}::float8"), unless(&finite, &back(column))))
        }
        // Programs read the text of a real, not its exact value.
        "float4" => Some(Conversion::new(
            format!("{column}::text::float8"),
            format!("{column}::text::float8::float4 IS DISTINCT FROM {column}"),
        )),
        _ => {
            let text = format!("{column}::text");
            let is_lossy = unless(&format!("{text} ~ {DECIMAL}"), &back(&text));
            source.is_text().then(|| Conversion::new(format!("{text}::float8"), is_lossy))
        }
    }
}

/// A time without time zone is read as UTC.
fn to_time(source: &SourceType, column: &str) -> Option<Conversion> {
    let value = format!("({column}::timestamp AT TIME ZONE 'UTC')");
    match &*source.name {
        "timestamp" | "date" => {
            let is_lossy = format!("({value} AT TIME ZONE 'UTC') <> {column}::timestamp");
            Some(Conversion::new(value, is_lossy))
        }
        _ => source.is_text().then(|| {
            let text = format!("{column}::text");
            let is_lossy = format!("{text} !~ '^({DAY})({CLOCK})?$'");
            Conversion::new(format!("{text}::timestamptz"), is_lossy)
        }),
    }
}

fn to_day(source: &SourceType, column: &str) -> Option<Conversion> {
    let time = match &*source.name {
        "timestamp" => column.to_string(),
        "timestamptz" => format!("({column} AT TIME ZONE 'UTC')"),
        _ => {
            let text = format!("{column}::text");
            let is_lossy = format!("{text} !~ '^({DAY})$'");
            return source.is_text().then(|| Conversion::new(format!("{text}::date"), is_lossy));
        }
    };
    Some(Conversion::new(format!("{time}::date"), format!("{time}::date::timestamp <> {time}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str, category: &str) -> SourceType {
        SourceType { name: name.into(), category: category.into(), full_name: name.into() }
    }

    #[test]
    fn a_type_without_conversion_loses_every_value() {
        for (name, category, to) in
            [("bytea", "U", "TEXT"), ("_text", "A", "TEXT"), ("int8", "N", "TIMESTAMPTZ")]
        {
            let conversion = conversion(&source(name, category), to, "c");
            assert_eq!(conversion.value, format!("NULL::{to}"));
            assert_eq!(conversion.is_lossy, "c IS NOT NULL AND true");
        }
    }

    #[test]
    fn foreign_keys_compare_types_of_one_family() {
        assert!(source("int4", "N").compares_with("BIGINT"));
        assert!(source("varchar", "S").compares_with("TEXT"));
        assert!(!source("int4", "N").compares_with("TEXT"));
        assert!(!source("uuid", "U").compares_with("TEXT"));
    }
}
