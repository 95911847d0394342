//! A value of SQLite as a value of a copy, and which values of a copy SQLite stores. Pure: SQLite gives each value its own
//! type, whatever that of its column is, so that any value may be anywhere.

use std::borrow::Cow;

use rusqlite::types::ValueRef;

use crate::store::time_text::{parse_day, parse_moment, prove_day, prove_moment};
use crate::store::{Field, Incompatibility, IncompatibleValue, StoredValue, Value, ValueType};

/// The longest text or BLOB, in bytes (`SQLITE_MAX_LENGTH`, sqlite.org/limits.html, 1).
pub const VALUE_BYTES_MAX: u64 = 1_000_000_000;
/// Every integer up to this one is exactly a double.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
/// The least double that is beyond the integers of 64 bits.
const BEYOND: f64 = 9_223_372_036_854_775_808.0;

/// A stored value as one of this type.
///
/// # Errors
/// Why it is none of this type.
pub fn read_value(stored: ValueRef<'_>, value_type: ValueType) -> Field<'_> {
    let value = match (value_type, stored) {
        (_, ValueRef::Null) => Ok(Value::Null),
        (ValueType::Text, stored) => text(stored),
        (ValueType::Time, ValueRef::Text(text)) => parse_moment(text).map(Value::Time),
        (ValueType::Time, _) => Err(Incompatibility::NoTime),
        (ValueType::Day, ValueRef::Text(text)) => parse_day(text).map(Value::Day),
        (ValueType::Day, _) => Err(Incompatibility::NoDay),
        (ValueType::Real, stored) => real(stored),
        (ValueType::Integer, stored) => integer(stored).map(Value::Integer),
        (ValueType::ShortInteger, stored) => integer(stored).and_then(short_integer),
        (ValueType::Boolean, stored) => boolean(stored),
        (ValueType::Bytes, ValueRef::Blob(bytes)) => Ok(Value::Bytes(Cow::Borrowed(bytes))),
        (ValueType::Bytes, _) => Err(Incompatibility::NoBytes),
    };
    value.map_err(|reason| IncompatibleValue { reason, stored: as_stored(stored) })
}

fn as_stored(stored: ValueRef<'_>) -> StoredValue {
    match stored {
        // NULL is of every type.
        ValueRef::Null => StoredValue::Text(Vec::new()),
        ValueRef::Integer(number) => StoredValue::Integer(number),
        ValueRef::Real(number) => StoredValue::Real(number),
        ValueRef::Text(bytes) => StoredValue::Text(bytes.to_vec()),
        ValueRef::Blob(bytes) => StoredValue::Bytes(bytes.to_vec()),
    }
}

/// An integer in a column of texts is its decimal text: a key that is no integer in every row holds both.
fn text(stored: ValueRef<'_>) -> Result<Value<'_>, Incompatibility> {
    match stored {
        ValueRef::Text(bytes) => std::str::from_utf8(bytes)
            .map(|text| Value::Text(Cow::Borrowed(text)))
            .map_err(|_| Incompatibility::InvalidUtf8),
        ValueRef::Integer(number) => Ok(Value::Text(Cow::Owned(number.to_string()))),
        _ => Err(Incompatibility::NoText),
    }
}

fn real(stored: ValueRef<'_>) -> Result<Value<'_>, Incompatibility> {
    match stored {
        ValueRef::Real(number) => Ok(Value::Real(number)),
        ValueRef::Integer(integer) => exact_double(integer).map(Value::Real),
        _ => Err(Incompatibility::NoNumber),
    }
}

/// The double that is equal to an integer.
fn exact_double(integer: i64) -> Result<f64, Incompatibility> {
    #[expect(clippy::cast_precision_loss, reason = "compared with the integer")]
    let double = integer as f64;
    // The integers reach to below the double that is next to the highest.
    #[expect(clippy::cast_possible_truncation, reason = "compared with the integer")]
    let is_equal = double < BEYOND && double as i64 == integer;
    is_equal.then_some(double).ok_or(Incompatibility::InexactNumber)
}

fn integer(stored: ValueRef<'_>) -> Result<i64, Incompatibility> {
    match stored {
        ValueRef::Integer(number) => Ok(number),
        ValueRef::Real(number) => integral(number),
        ValueRef::Text(text) => canonical_integer(text),
        _ => Err(Incompatibility::NoInteger),
    }
}

/// The integer that a double is, where it is not one of several that are the same double.
fn integral(number: f64) -> Result<i64, Incompatibility> {
    #[expect(clippy::cast_possible_truncation, reason = "an integer within 2^53")]
    match number {
        _ if number.is_finite() && !(-BEYOND..BEYOND).contains(&number) => {
            Err(Incompatibility::BeyondInteger)
        }
        _ if number.abs() <= EXACT_MAX && number.fract() == 0.0 => Ok(number as i64),
        _ => Err(Incompatibility::NoInteger),
    }
}

/// The integer of which a text is the decimal text: without `+`, spaces and leading zeros.
///
/// # Errors
/// It is no such text, or one of an integer beyond 64 bits.
pub fn canonical_integer(text: &[u8]) -> Result<i64, Incompatibility> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let is_canonical = match digits {
        b"0" => text.len() == 1,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !is_canonical {
        return Err(Incompatibility::NoInteger);
    }
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    number.ok_or(Incompatibility::BeyondInteger)
}

fn short_integer<'v>(number: i64) -> Result<Value<'v>, Incompatibility> {
    match i32::try_from(number) {
        Ok(_) => Ok(Value::Integer(number)),
        Err(_) => Err(Incompatibility::BeyondShortInteger),
    }
}

fn boolean(stored: ValueRef<'_>) -> Result<Value<'_>, Incompatibility> {
    let is_one_of =
        |words: &[&str], text: &[u8]| words.iter().any(|w| text.eq_ignore_ascii_case(w.as_bytes()));
    match stored {
        ValueRef::Integer(number @ (0 | 1)) => Ok(Value::Boolean(number == 1)),
        ValueRef::Real(number) if number == 0.0 || number == 1.0 => {
            Ok(Value::Boolean(number == 1.0))
        }
        ValueRef::Text(text) if is_one_of(&["true", "t", "1"], text) => Ok(Value::Boolean(true)),
        ValueRef::Text(text) if is_one_of(&["false", "f", "0"], text) => Ok(Value::Boolean(false)),
        _ => Err(Incompatibility::NoBoolean),
    }
}

/// Whether SQLite stores a value so that it is read back the same.
///
/// # Errors
/// The reason why it does not.
pub fn prove_storable(value: &Value<'_>) -> Result<(), Incompatibility> {
    let is_too_long = |bytes: usize| bytes as u64 > VALUE_BYTES_MAX;
    match value {
        Value::Real(number) if number.is_nan() => Err(Incompatibility::NotANumber),
        Value::Time(moment) => prove_moment(*moment),
        Value::Day(day) => prove_day(*day),
        Value::Text(text) if is_too_long(text.len()) => Err(Incompatibility::TooLong),
        Value::Bytes(bytes) if is_too_long(bytes.len()) => Err(Incompatibility::TooLong),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Day, Moment};
    use ValueRef::{Blob, Integer as Int, Null, Real, Text};

    fn read(stored: ValueRef<'_>, value_type: ValueType) -> Result<Value<'_>, Incompatibility> {
        read_value(stored, value_type).map_err(|incompatible| incompatible.reason)
    }

    #[test]
    fn values_are_read_as_the_type_of_their_column() {
        use ValueType as Type;
        let text = |text: &'static str| Value::Text(Cow::Borrowed(text));
        for (stored, value_type, value) in [
            (Null, Type::Boolean, Value::Null),
            (Null, Type::Bytes, Value::Null),
            (Int(0), Type::Boolean, Value::Boolean(false)),
            (Int(1), Type::Boolean, Value::Boolean(true)),
            (Real(1.0), Type::Boolean, Value::Boolean(true)),
            (Text(b"True"), Type::Boolean, Value::Boolean(true)),
            (Text(b"F"), Type::Boolean, Value::Boolean(false)),
            (Text(b"0"), Type::Boolean, Value::Boolean(false)),
            (Int(i64::MIN), Type::Integer, Value::Integer(i64::MIN)),
            (Real(-3.0), Type::Integer, Value::Integer(-3)),
            (Real(-0.0), Type::Integer, Value::Integer(0)),
            (Real(9_007_199_254_740_992.0), Type::Integer, Value::Integer(1 << 53)),
            (Text(b"-12"), Type::Integer, Value::Integer(-12)),
            (Text(b"0"), Type::Integer, Value::Integer(0)),
            (Text(b"9223372036854775807"), Type::Integer, Value::Integer(i64::MAX)),
            (Int(2_147_483_647), Type::ShortInteger, Value::Integer(2_147_483_647)),
            (Real(f64::INFINITY), Type::Real, Value::Real(f64::INFINITY)),
            (Real(5e-324), Type::Real, Value::Real(5e-324)),
            (Int(1 << 53), Type::Real, Value::Real(9_007_199_254_740_992.0)),
            (Int(i64::MIN), Type::Real, Value::Real(-9_223_372_036_854_775_808.0)),
            (Text(b""), Type::Text, text("")),
            (Text(b"a\0b"), Type::Text, text("a\0b")),
            (Text("\u{10ffff}".as_bytes()), Type::Text, text("\u{10ffff}")),
            (Int(-7), Type::Text, text("-7")),
            (Text(b"1970-01-01 00:00:00.001"), Type::Time, Value::Time(Moment(1000))),
            (Text(b"1970-01-02"), Type::Day, Value::Day(Day(1))),
            (Blob(b"\xff\0"), Type::Bytes, Value::Bytes(Cow::Borrowed(b"\xff\0"))),
        ] {
            assert_eq!(read(stored, value_type), Ok(value), "{stored:?} {value_type}");
        }
    }

    #[test]
    fn what_is_not_of_the_type_is_told() {
        use Incompatibility as No;
        use ValueType as Type;
        for (stored, value_type, reason) in [
            (Int(2), Type::Boolean, No::NoBoolean),
            (Real(0.5), Type::Boolean, No::NoBoolean),
            (Text(b"yes"), Type::Boolean, No::NoBoolean),
            (Text(b""), Type::Boolean, No::NoBoolean),
            (Blob(b"1"), Type::Boolean, No::NoBoolean),
            (Real(0.5), Type::Integer, No::NoInteger),
            (Real(1e17), Type::Integer, No::NoInteger),
            (Real(-9_223_372_036_854_775_808.0), Type::Integer, No::NoInteger),
            (Real(9_223_372_036_854_775_808.0), Type::Integer, No::BeyondInteger),
            (Real(-1e19), Type::Integer, No::BeyondInteger),
            (Real(f64::NEG_INFINITY), Type::Integer, No::NoInteger),
            (Text(b"9223372036854775808"), Type::Integer, No::BeyondInteger),
            (Text(b"007"), Type::Integer, No::NoInteger),
            (Text(b"+7"), Type::Integer, No::NoInteger),
            (Text(b"-0"), Type::Integer, No::NoInteger),
            (Text(b"-"), Type::Integer, No::NoInteger),
            (Text(b" 7"), Type::Integer, No::NoInteger),
            (Text(b"7\0"), Type::Integer, No::NoInteger),
            (Blob(b"7"), Type::Integer, No::NoInteger),
            (Int(2_147_483_648), Type::ShortInteger, No::BeyondShortInteger),
            (Real(-2_147_483_649.0), Type::ShortInteger, No::BeyondShortInteger),
            (Int((1 << 53) + 1), Type::Real, No::InexactNumber),
            (Int(i64::MAX), Type::Real, No::InexactNumber),
            (Text(b"1.5"), Type::Real, No::NoNumber),
            (Text(b""), Type::Real, No::NoNumber),
            (Blob(b""), Type::Real, No::NoNumber),
            (Real(1.5), Type::Text, No::NoText),
            (Blob(b"abc"), Type::Text, No::NoText),
            (Text(b"a\xff"), Type::Text, No::InvalidUtf8),
            // A lone surrogate, and a pair of them (CESU-8).
            (Text(b"\xed\xa0\x80"), Type::Text, No::InvalidUtf8),
            (Text(b"\xed\xa0\xbd\xed\xb8\x80"), Type::Text, No::InvalidUtf8),
            (Text(b"\xc0\x80"), Type::Text, No::InvalidUtf8),
            (Int(1_700_000_000), Type::Time, No::NoTime),
            (Real(2_460_000.5), Type::Time, No::NoTime),
            (Text(b"\xff"), Type::Time, No::NoTime),
            (Blob(b"2026-11-27"), Type::Day, No::NoDay),
            (Text(b"2026-11-27 00:00:00"), Type::Day, No::NoDay),
            (Text(b"ff"), Type::Bytes, No::NoBytes),
            (Int(1), Type::Bytes, No::NoBytes),
        ] {
            let found = read_value(stored, value_type).unwrap_err();
            assert_eq!(found.reason, reason, "{stored:?} {value_type}");
            assert_eq!(found.stored, as_stored(stored));
        }
    }

    #[test]
    fn what_sqlite_cannot_store_is_told() {
        for (value, expected) in [
            (Value::Null, Ok(())),
            (Value::Real(f64::NAN), Err(Incompatibility::NotANumber)),
            (Value::Real(f64::INFINITY), Ok(())),
            (Value::Time(Moment(i64::MAX)), Err(Incompatibility::InfiniteTime)),
            (Value::Day(Day(i32::MIN + 1)), Err(Incompatibility::YearOutOfRange)),
            (Value::Text("a\0".into()), Ok(())),
        ] {
            assert_eq!(prove_storable(&value), expected, "{value:?}");
        }
    }
}
