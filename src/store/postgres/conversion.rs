//! How a value of one type becomes one of another, and which values would not survive it. SQL
//! text only. A misfit is found without an error: what a cast would refuse is never cast.

/// The type of a column: that of the domain, where it is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Its name in `pg_type`, such as `int4`.
    pub name: String,
    /// Its category there: `N` numbers, `S` texts, …
    pub category: String,
    /// Its name with its modifiers, for SQL.
    pub full: String,
}

/// A conversion of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversion {
    /// The new value.
    pub value: String,
    /// Whether the value would be lost or altered.
    pub is_lossy: String,
}

const INTEGERS: &[&str] = &["int2", "int4", "int8"];
const FLOATS: &[&str] = &["float4", "float8"];
/// Up to here every integer is a double.
const EXACT: &str = "9007199254740992";
/// A number as a text, in the one way in which an integer is written.
const DIGITS: &str = "'^(0|-?[1-9][0-9]{0,18})$'";
/// A number as a text that no double takes for infinite.
const DECIMAL: &str = r"'^-?[0-9]{1,60}(\.[0-9]{1,60})?([eE][-+]?[0-9]{1,2})?$'";
/// A day that there is.
const DAY: &str = "(?!0000)([0-9]{4}-((0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)\
                   |([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29)";
/// A time of day with an offset, down to microseconds.
const CLOCK: &str = r"[ T]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,6})?)?(Z|[-+](0[0-9]|1[0-4])(:?[0-5][0-9])?)?";

impl Held {
    fn is_text(&self) -> bool {
        self.category == "S"
    }

    fn is_integer(&self) -> bool {
        INTEGERS.contains(&&*self.name)
    }

    fn is_number(&self) -> bool {
        self.is_integer() || self.name == "numeric" || FLOATS.contains(&&*self.name)
    }

    /// Whether a foreign key can lead from a column of the one type to one of the other.
    pub fn compares_with(&self, kind: &str) -> bool {
        match kind {
            "BIGINT" | "INTEGER" => self.is_integer(),
            "TEXT" => matches!(&*self.name, "text" | "varchar"),
            _ => self.name == base(kind),
        }
    }
}

/// The name in `pg_type` of a type that the schema uses.
fn base(kind: &str) -> &'static str {
    match kind {
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

/// How `column`, a name for SQL, becomes of the type `to`, one of those that the schema uses. Where
/// there is no way, every value is a misfit.
pub fn conversion(held: &Held, to: &str, column: &str) -> Conversion {
    let (value, is_lossy) = if held.name == base(to) {
        (format!("{column}::{to}"), "false".into())
    } else {
        let known = match to {
            "TEXT" => to_text(held, column),
            "BIGINT" => to_integer(held, column, to, "-9223372036854775808", "9223372036854775807"),
            "INTEGER" => to_integer(held, column, to, "-2147483648", "2147483647"),
            "BOOLEAN" => to_boolean(held, column),
            "DOUBLE PRECISION" => to_double(held, column),
            "TIMESTAMPTZ" => to_time(held, column),
            "DATE" => to_day(held, column),
            _ => None,
        };
        known.unwrap_or_else(|| (format!("NULL::{to}"), "true".into()))
    };
    Conversion { value, is_lossy: format!("{column} IS NOT NULL AND {is_lossy}") }
}

/// A misfit: what is not so, and then what does not come back the same.
fn unless(is_so: &str, is_lossy: &str) -> String {
    format!("CASE WHEN {is_so} THEN {is_lossy} ELSE true END")
}

fn to_text(held: &Held, column: &str) -> Option<(String, String)> {
    let text = format!("{column}::text");
    let full = &held.full;
    let is_lossy = match (&*held.category, &*held.name) {
        // A text, or what is kept as one.
        ("S", _) | (_, "json") => "false".into(),
        ("N" | "B" | "D" | "T" | "E", _) | (_, "uuid" | "jsonb" | "inet" | "cidr") => {
            format!("({text})::{full} IS DISTINCT FROM {column}")
        }
        _ => return None,
    };
    Some((text, is_lossy))
}

fn to_integer(
    held: &Held,
    column: &str,
    to: &str,
    low: &str,
    high: &str,
) -> Option<(String, String)> {
    let within = |number: &str| format!("{number} BETWEEN {low} AND {high}");
    if held.is_integer() {
        return Some((format!("{column}::{to}"), format!("NOT ({})", within(column))));
    }
    if held.name == "numeric" {
        return Some((
            format!("{column}::{to}"),
            unless(&within(column), &format!("{column} <> trunc({column})")),
        ));
    }
    if FLOATS.contains(&&*held.name) {
        let is_exact = format!("abs({column}::float8) <= {EXACT} AND {}", within(column));
        return Some((
            format!("{column}::{to}"),
            unless(&is_exact, &format!("{column} <> trunc({column})")),
        ));
    }
    if held.name == "bool" {
        return Some((format!("{column}::integer::{to}"), "false".into()));
    }
    let text = format!("{column}::text");
    let fits =
        unless(&within(&format!("{text}::numeric")), &format!("{text}::{to}::text <> {text}"));
    held.is_text().then(|| (format!("{text}::{to}"), unless(&format!("{text} ~ {DIGITS}"), &fits)))
}

fn to_boolean(held: &Held, column: &str) -> Option<(String, String)> {
    if held.is_number() {
        return Some((format!("{column} = 1"), format!("{column} NOT IN (0, 1)")));
    }
    let words = "('true', 'false', 't', 'f', '1', '0')";
    held.is_text()
        .then(|| (format!("{column}::text::boolean"), format!("{column}::text NOT IN {words}")))
}

fn to_double(held: &Held, column: &str) -> Option<(String, String)> {
    // The shortest text of a double that is read as that double again.
    let back = |number: &str| format!("{number}::float8::text::numeric <> {number}::numeric");
    match &*held.name {
        "int2" | "int4" => Some((format!("{column}::float8"), "false".into())),
        "int8" => Some((
            format!("{column}::float8"),
            format!("NOT ({column} BETWEEN -{EXACT} AND {EXACT})"),
        )),
        "numeric" => {
            let finite = format!(
                "{column} = 0 OR abs({column}) BETWEEN 1e-300 AND 1e300 AND {column} <> 'NaN'"
            );
            Some((format!("{column}::float8"), unless(&finite, &back(column))))
        }
        // What programs read of a real is its text.
        "float4" => Some((
            format!("{column}::text::float8"),
            format!("{column}::text::float8::float4 IS DISTINCT FROM {column}"),
        )),
        _ => {
            let text = format!("{column}::text");
            let is_lossy = unless(&format!("{text} ~ {DECIMAL}"), &back(&text));
            held.is_text().then(|| (format!("{text}::float8"), is_lossy))
        }
    }
}

/// A time without a zone is one in UTC.
fn to_time(held: &Held, column: &str) -> Option<(String, String)> {
    let value = format!("({column}::timestamp AT TIME ZONE 'UTC')");
    match &*held.name {
        "timestamp" | "date" => {
            let is_lossy = format!("({value} AT TIME ZONE 'UTC') <> {column}::timestamp");
            Some((value, is_lossy))
        }
        _ => held.is_text().then(|| {
            let text = format!("{column}::text");
            let is_lossy = format!("{text} !~ '^({DAY})({CLOCK})?$'");
            (format!("{text}::timestamptz"), is_lossy)
        }),
    }
}

fn to_day(held: &Held, column: &str) -> Option<(String, String)> {
    let time = match &*held.name {
        "timestamp" => column.to_string(),
        "timestamptz" => format!("({column} AT TIME ZONE 'UTC')"),
        _ => {
            let text = format!("{column}::text");
            let is_lossy = format!("{text} !~ '^({DAY})$'");
            return held.is_text().then(|| (format!("{text}::date"), is_lossy));
        }
    };
    Some((format!("{time}::date"), format!("{time}::date::timestamp <> {time}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(name: &str, category: &str) -> Held {
        Held { name: name.into(), category: category.into(), full: name.into() }
    }

    #[test]
    fn what_has_no_way_is_a_misfit() {
        for (name, category, to) in
            [("bytea", "U", "TEXT"), ("_text", "A", "TEXT"), ("int8", "N", "TIMESTAMPTZ")]
        {
            let conversion = conversion(&held(name, category), to, "c");
            assert_eq!(conversion.value, format!("NULL::{to}"));
            assert_eq!(conversion.is_lossy, "c IS NOT NULL AND true");
        }
    }

    #[test]
    fn keys_compare_within_their_kind() {
        assert!(held("int4", "N").compares_with("BIGINT"));
        assert!(held("varchar", "S").compares_with("TEXT"));
        assert!(!held("int4", "N").compares_with("TEXT"));
        assert!(!held("uuid", "U").compares_with("TEXT"));
    }
}
