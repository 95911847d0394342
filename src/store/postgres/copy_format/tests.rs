//! Rows as they are written are rows as they are read, and nothing that a server could send is taken for one.

use super::reading::{field, unconverted};
use super::writing::{END_DAY, END_MICROSECOND};
use super::*;
use crate::store::{Day, Field, Moment, Value};

const ALL: [ValueType; 8] = [
    ValueType::Boolean,
    ValueType::Integer,
    ValueType::ShortInteger,
    ValueType::Real,
    ValueType::Text,
    ValueType::Time,
    ValueType::Day,
    ValueType::Bytes,
];

fn wire(value_type: ValueType) -> WireType {
    match value_type {
        ValueType::Boolean => WireType::Bool,
        ValueType::Integer | ValueType::ShortInteger => WireType::Int,
        ValueType::Real => WireType::Float,
        ValueType::Text => WireType::Text,
        ValueType::Time => WireType::Timestamp,
        ValueType::Day => WireType::Date,
        ValueType::Bytes => WireType::Bytea,
    }
}

fn reader() -> RowReader {
    RowReader::new(ALL.map(|value_type| FieldForm::Plain(wire(value_type), value_type)).into())
}

/// Rows, each with a value of all types, with header and trailer.
fn rows() -> (Vec<Vec<Value<'static>>>, Vec<u8>) {
    let row = |number: i64, real, text: &'static str, moment, day, bytes: &'static [u8]| {
        vec![
            Value::Boolean(number % 2 == 0),
            Value::Integer(number),
            Value::Integer(number.clamp(i32::MIN.into(), i32::MAX.into())),
            Value::Real(real),
            Value::Text(text.into()),
            Value::Time(Moment(moment)),
            Value::Day(Day(day)),
            Value::Bytes(bytes.into()),
        ]
    };
    let rows = vec![
        row(0, 0.1, "", 0, 0, b""),
        row(i64::MAX, f64::INFINITY, "naïve \u{1F600}", i64::MAX, i32::MAX, b"\0\xff"),
        row(i64::MIN, f64::MIN_POSITIVE, "\t\n\\.", i64::MIN, i32::MIN, b"x"),
        // The years 1 and 9999, and the first and the last time of the server.
        row(1, -1.5, "a", -62_135_596_800_000_000, -719_162, b""),
        row(2, 1e308, "b", 253_402_300_799_999_999, 2_932_896, b""),
        row(3, 0.0, "c", -210_866_803_200_000_000, -2_440_588, b""),
        vec![Value::Null; ALL.len()],
    ];
    let mut bytes = HEADER.to_vec();
    for row in &rows {
        bytes.extend((ALL.len() as i16).to_be_bytes());
        for (value, value_type) in row.iter().zip(ALL) {
            let long = append(&mut bytes, value, value_type).unwrap();
            bytes.extend(long);
        }
    }
    bytes.extend(TRAILER);
    (rows, bytes)
}

/// What is read from these bytes, in messages of this length.
fn read(bytes: &[u8], message: usize) -> Result<Vec<Vec<Field<'static>>>, FormatFault> {
    let (mut reader, mut found) = (reader(), Vec::new());
    for message in bytes.chunks(message) {
        reader.read(message, &mut Vec::new(), &mut |row: &[Field<'_>]| {
            found.push(row.iter().map(owned).collect());
            Ok::<(), FormatFault>(())
        })?;
    }
    reader.finish().map(|()| found)
}

fn owned(field: &Field<'_>) -> Field<'static> {
    match field.clone()? {
        Value::Text(text) => Ok(Value::Text(text.into_owned().into())),
        Value::Bytes(bytes) => Ok(Value::Bytes(bytes.into_owned().into())),
        Value::Null => Ok(Value::Null),
        Value::Boolean(value) => Ok(Value::Boolean(value)),
        Value::Integer(value) => Ok(Value::Integer(value)),
        Value::Real(value) => Ok(Value::Real(value)),
        Value::Time(value) => Ok(Value::Time(value)),
        Value::Day(value) => Ok(Value::Day(value)),
    }
}

#[test]
fn rows_are_read_as_they_were_written_wherever_a_message_ends() {
    let (rows, bytes) = rows();
    let rows: Vec<Vec<_>> = rows.into_iter().map(|row| row.into_iter().map(Ok).collect()).collect();
    for message in 1..=bytes.len() {
        assert_eq!(read(&bytes, message).as_ref(), Ok(&rows), "{message}");
    }
}

#[test]
fn rows_that_are_cut_off_or_continues_are_refused() {
    let (_, bytes) = rows();
    for end in 0..bytes.len() {
        assert!(read(&bytes[..end], usize::MAX).is_err(), "{end}");
    }
    assert!(read(&[&bytes[..], b"x"].concat(), usize::MAX).is_err());
    assert!(read(&[&bytes[..], b"x"].concat(), 1).is_err());
}

/// A byte in each place has each value: an error or other rows, and nothing worse.
#[test]
fn no_byte_makes_the_reader_panic() {
    let (_, bytes) = rows();
    for at in 0..bytes.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] = value;
            let _ = read(&changed, usize::MAX);
            let _ = read(&changed, 7);
        }
    }
}

#[test]
fn a_value_of_another_length_than_its_type_is_refused() {
    for (value_type, lengths) in [
        (ValueType::Boolean, &[1][..]),
        (ValueType::Integer, &[2, 4, 8]),
        (ValueType::Real, &[8]),
        (ValueType::Time, &[8]),
        (ValueType::Day, &[4]),
    ] {
        for length in 0..12 {
            let bytes = vec![0; length];
            let found = field(&bytes, wire(value_type), value_type);
            assert_eq!(found.is_ok(), lengths.contains(&length), "{value_type} {length}");
        }
    }
}

#[test]
fn a_length_that_no_value_has_is_refused_at_once() {
    for length in [i32::MIN, -2, i32::MAX] {
        let mut bytes = [HEADER, &(ALL.len() as i16).to_be_bytes()].concat();
        bytes.extend(length.to_be_bytes());
        let mut reader = reader();
        let read = reader.read(&bytes, &mut Vec::new(), &mut |_| Ok::<(), FormatFault>(()));
        assert_eq!(read, Err(FormatFault("has a value that is too long")), "{length}");
    }
}

fn reason(field: Result<Field<'_>, FormatFault>) -> Incompatibility {
    field.unwrap().unwrap_err().reason
}

#[test]
fn a_value_that_is_none_of_its_type_says_why() {
    let short = field(&[0, 0, 0, 0, 0x80, 0, 0, 0], WireType::Int, ValueType::ShortInteger);
    assert_eq!(reason(short), Incompatibility::BeyondShortInteger);
    let text = field(b"a\xed\xa0\x80", WireType::Text, ValueType::Text);
    assert_eq!(reason(text), Incompatibility::InvalidUtf8);
    let bytes = field(b"a", WireType::Bytea, ValueType::Text);
    assert_eq!(reason(bytes), Incompatibility::NoText);
    for late in [END_MICROSECOND - 1, i64::MAX - 1, i64::MAX - EPOCH_MICROSECONDS] {
        let late = late.to_be_bytes();
        let moment = field(&late, WireType::Timestamp, ValueType::Time);
        assert_eq!(reason(moment), Incompatibility::YearOutOfRange);
    }
    let day = (END_DAY - 1).to_be_bytes();
    let moment = field(&day, WireType::Date, ValueType::Time);
    assert_eq!(reason(moment), Incompatibility::YearOutOfRange);
    assert_eq!(
        field(&i32::MAX.to_be_bytes(), WireType::Date, ValueType::Time),
        Ok(Ok(Value::Time(Moment(i64::MAX))))
    );
    for (text, value_type, reason) in [
        ("9223372036854775808", ValueType::Integer, Incompatibility::BeyondInteger),
        ("9223372036854775808.00", ValueType::Integer, Incompatibility::BeyondInteger),
        ("1.5", ValueType::Integer, Incompatibility::NoInteger),
        ("", ValueType::Integer, Incompatibility::NoInteger),
        ("-2147483649", ValueType::ShortInteger, Incompatibility::BeyondShortInteger),
        ("9007199254740993", ValueType::Real, Incompatibility::InexactNumber),
        // Of a type that is no number.
        ("1", ValueType::Integer, Incompatibility::NoInteger),
        ("1", ValueType::ShortInteger, Incompatibility::NoInteger),
        ("1", ValueType::Real, Incompatibility::NoNumber),
        (&"9".repeat(60), ValueType::Integer, Incompatibility::BeyondInteger),
        ("many", ValueType::Real, Incompatibility::NoNumber),
        ("yesterday", ValueType::Time, Incompatibility::NoTime),
    ] {
        assert_eq!(unconverted(text.as_bytes(), value_type).reason, reason, "{text}");
    }
}

#[test]
fn what_the_server_cannot_store_is_refused() {
    let mut buffer = Vec::new();
    for (value, value_type, expected) in [
        (Value::Integer(1 << 31), ValueType::ShortInteger, Incompatibility::BeyondShortInteger),
        (Value::Time(Moment(i64::MIN + 1)), ValueType::Time, Incompatibility::YearOutOfRange),
        (Value::Day(Day(-2_440_589)), ValueType::Day, Incompatibility::YearOutOfRange),
        (Value::Day(Day(i32::MAX - 1)), ValueType::Day, Incompatibility::YearOutOfRange),
        (Value::Integer(1), ValueType::Boolean, Incompatibility::NoBoolean),
        (Value::Text("1".into()), ValueType::Integer, Incompatibility::NoInteger),
    ] {
        assert_eq!(append(&mut buffer, &value, value_type), Err(expected), "{value:?}");
    }
    assert!(buffer.is_empty());
}
