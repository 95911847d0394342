//! Values as the server takes them.

use super::{EPOCH_DAYS, EPOCH_MICROSECONDS, mismatch};
use crate::store::{Day, Incompatibility, Moment, Value, ValueType};

/// The length of a NULL.
const NULL: [u8; 4] = (-1_i32).to_be_bytes();
/// The first time that the server stores, and the first that is too late, in microseconds after 2000-01-01.
/// (PostgreSQL source, MIN_TIMESTAMP, END_TIMESTAMP)
const FIRST_MICROSECOND: i64 = -211_813_488_000_000_000;
pub(super) const END_MICROSECOND: i64 = 9_223_371_331_200_000_000;
/// The same of days. (PostgreSQL source, DATETIME_MIN_JULIAN, DATE_END_JULIAN)
const FIRST_DAY: i32 = -2_451_545;
pub(super) const END_DAY: i32 = 2_145_031_949;

/// A value as the server takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoded<'v> {
    /// NULL.
    Null,
    /// A boolean.
    One([u8; 1]),
    /// A number of 32 bits.
    Four([u8; 4]),
    /// A number of 64 bits.
    Eight([u8; 8]),
    /// A text, or bytes.
    Long(&'v [u8]),
}

/// A value in the form of a type.
///
/// # Errors
/// Why the server cannot store the value in a column of this type.
pub fn encoded<'v>(
    value: &'v Value<'_>,
    value_type: ValueType,
) -> Result<Encoded<'v>, Incompatibility> {
    Ok(match (value, value_type) {
        (Value::Null, _) => Encoded::Null,
        (Value::Boolean(value), ValueType::Boolean) => Encoded::One([u8::from(*value)]),
        (Value::Integer(value), ValueType::Integer) => Encoded::Eight(value.to_be_bytes()),
        (Value::Integer(value), ValueType::ShortInteger) => {
            let short = i32::try_from(*value).map_err(|_| Incompatibility::BeyondShortInteger)?;
            Encoded::Four(short.to_be_bytes())
        }
        (Value::Real(value), ValueType::Real) => Encoded::Eight(value.to_be_bytes()),
        (Value::Time(moment), ValueType::Time) => {
            Encoded::Eight(server_microseconds(*moment)?.to_be_bytes())
        }
        (Value::Day(day), ValueType::Day) => Encoded::Four(server_days(*day)?.to_be_bytes()),
        (Value::Text(text), ValueType::Text) => Encoded::Long(text.as_bytes()),
        (Value::Bytes(bytes), ValueType::Bytes) => Encoded::Long(bytes),
        _ => return Err(mismatch(value_type)),
    })
}

/// Appends a value to rows. Of a text and of bytes only the length is appended, and the rest returned.
///
/// # Errors
/// As [`encoded`].
pub fn append<'v>(
    buffer: &mut Vec<u8>,
    value: &'v Value<'_>,
    value_type: ValueType,
) -> Result<&'v [u8], Incompatibility> {
    match encoded(value, value_type)? {
        Encoded::Null => buffer.extend_from_slice(&NULL),
        Encoded::One(bytes) => append_fixed(buffer, &bytes),
        Encoded::Four(bytes) => append_fixed(buffer, &bytes),
        Encoded::Eight(bytes) => append_fixed(buffer, &bytes),
        Encoded::Long(bytes) => {
            let length = i32::try_from(bytes.len()).map_err(|_| Incompatibility::TooLong)?;
            buffer.extend_from_slice(&length.to_be_bytes());
            return Ok(bytes);
        }
    }
    Ok(&[])
}

/// Appends a value of a few bytes.
fn append_fixed<const N: usize>(buffer: &mut Vec<u8>, value: &[u8; N]) {
    buffer.extend_from_slice(&(N as i32).to_be_bytes());
    buffer.extend_from_slice(value);
}

/// A moment as the server counts it.
fn server_microseconds(moment: Moment) -> Result<i64, Incompatibility> {
    if matches!(moment.0, i64::MIN | i64::MAX) {
        return Ok(moment.0);
    }
    let microseconds = moment.0.checked_sub(EPOCH_MICROSECONDS);
    microseconds
        .filter(|time| (FIRST_MICROSECOND..END_MICROSECOND).contains(time))
        .ok_or(Incompatibility::YearOutOfRange)
}

/// A day as the server counts it.
fn server_days(day: Day) -> Result<i32, Incompatibility> {
    if matches!(day.0, i32::MIN | i32::MAX) {
        return Ok(day.0);
    }
    let days = day.0.checked_sub(EPOCH_DAYS);
    days.filter(|day| (FIRST_DAY..END_DAY).contains(day)).ok_or(Incompatibility::YearOutOfRange)
}
