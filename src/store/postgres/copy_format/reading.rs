//! Rows as the server sends them. Every length is checked, so that nothing that a server could send does more than fail.

use std::borrow::Cow;
use std::fmt;

use super::{EPOCH_DAYS, EPOCH_MICROSECONDS, mismatch};
use crate::store::postgres::answer_limits::COPIED_ROW_BYTES_MAX;
use crate::store::{
    Day, Field, Incompatibility, IncompatibleValue, Moment, StoredValue, Value, ValueType,
};

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// The flags of the header that a reader has to know. It knows none.
const CRITICAL_FLAGS: u32 = 0xffff_0000;
const DAY_MICROSECONDS: i64 = 86_400_000_000;
/// Every integer up to this one is exactly a double.
const EXACT_INTEGER_MAX: i64 = 1 << 53;

/// What comes is not the binary format, or not the rows that were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormatFault(pub(super) &'static str);

impl fmt::Display for FormatFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// In which form the server sends a column: that of a type of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireType {
    /// `bool`.
    Bool,
    /// `int2`, `int4` and `int8`.
    Int,
    /// `float8`.
    Float,
    /// `text` and what has its form.
    Text,
    /// `timestamptz`, and `timestamp` as UTC.
    Timestamp,
    /// `date`.
    Date,
    /// `bytea`.
    Bytea,
}

/// What is read as one field of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldForm {
    /// One value in this form.
    Plain(WireType, ValueType),
    /// Two values: one in this form, and a text in place of one that has no such form.
    OrText(WireType, ValueType),
}

/// Reads rows out of the messages of a COPY, wherever one message ends and the next begins.
pub struct RowReader {
    forms: Vec<FieldForm>,
    /// The number of values of a row.
    values: usize,
    /// The beginning of a row whose rest is still to come.
    begun: Vec<u8>,
    has_header: bool,
    has_trailer: bool,
}

/// What stands next in the bytes.
enum Next<'b> {
    /// A row was read; the bytes after it.
    Row(&'b [u8]),
    /// The header or the trailer; the bytes after it.
    Mark(&'b [u8]),
    /// More bytes are needed.
    Incomplete,
}

impl RowReader {
    /// Of rows with these fields.
    pub fn new(forms: Vec<FieldForm>) -> RowReader {
        let values = forms.iter().map(|form| match form {
            FieldForm::Plain(..) => 1,
            FieldForm::OrText(..) => 2,
        });
        RowReader {
            values: values.sum(),
            forms,
            begun: Vec::new(),
            has_header: false,
            has_trailer: false,
        }
    }

    /// Reads a message. Calls `on_row` with each row that is complete. `fields` is memory to use, which is left empty.
    ///
    /// # Errors
    /// [`FormatFault`], or the error of `on_row`.
    pub fn read<'m, E: From<FormatFault>>(
        &mut self,
        message: &'m [u8],
        fields: &mut Vec<Field<'m>>,
        on_row: &mut dyn FnMut(&[Field<'_>]) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.begun.is_empty() {
            let rest = self.read_rows(message, fields, on_row)?;
            self.begun.extend_from_slice(rest);
            return Ok(());
        }
        let mut begun = std::mem::take(&mut self.begun);
        begun.extend_from_slice(message);
        let rest = self.read_rows(&begun, &mut Vec::new(), on_row)?.len();
        begun.drain(..begun.len() - rest);
        self.begun = begun;
        Ok(())
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// [`FormatFault`] if the trailer has not come.
    pub fn finish(&self) -> Result<(), FormatFault> {
        match self.has_trailer {
            true => Ok(()),
            false => Err(FormatFault("ends before its last row")),
        }
    }

    /// Reads the rows that are complete. Returns the bytes that are left.
    fn read_rows<'b, E: From<FormatFault>>(
        &mut self,
        mut bytes: &'b [u8],
        fields: &mut Vec<Field<'b>>,
        on_row: &mut dyn FnMut(&[Field<'_>]) -> Result<(), E>,
    ) -> Result<&'b [u8], E> {
        while !bytes.is_empty() {
            let next = self.next(bytes, fields)?;
            bytes = match next {
                Next::Row(after) => {
                    on_row(fields)?;
                    after
                }
                Next::Mark(after) => after,
                Next::Incomplete if bytes.len() as u64 > COPIED_ROW_BYTES_MAX => {
                    return Err(FormatFault("has a row that is too long").into());
                }
                Next::Incomplete => break,
            };
            fields.clear();
        }
        fields.clear();
        Ok(bytes)
    }

    fn next<'b>(
        &mut self,
        bytes: &'b [u8],
        fields: &mut Vec<Field<'b>>,
    ) -> Result<Next<'b>, FormatFault> {
        if self.has_trailer {
            return Err(FormatFault("goes on after its last row"));
        }
        if !self.has_header {
            return Ok(match header(bytes)? {
                Some(after) => {
                    self.has_header = true;
                    Next::Mark(after)
                }
                None => Next::Incomplete,
            });
        }
        let Some((count, mut rest)) = bytes.split_first_chunk() else {
            return Ok(Next::Incomplete);
        };
        let count = i16::from_be_bytes(*count);
        if count == -1 {
            self.has_trailer = true;
            return Ok(Next::Mark(rest));
        }
        if usize::try_from(count) != Ok(self.values) {
            return Err(FormatFault("has a row with another number of columns"));
        }
        if !is_complete(rest, self.values)? {
            return Ok(Next::Incomplete);
        }
        for form in &self.forms {
            fields.push(match *form {
                FieldForm::Plain(wire, value_type) => match take(&mut rest)? {
                    Some(bytes) => field(bytes, wire, value_type)?,
                    None => Ok(Value::Null),
                },
                FieldForm::OrText(wire, value_type) => match (take(&mut rest)?, take(&mut rest)?) {
                    (_, Some(text)) => Err(unconverted(text, value_type)),
                    (Some(bytes), None) => field(bytes, wire, value_type)?,
                    (None, None) => Ok(Value::Null),
                },
            });
        }
        Ok(Next::Row(rest))
    }
}

/// Goes through the header. Returns what follows it, once all of it has come.
fn header(bytes: &[u8]) -> Result<Option<&[u8]>, FormatFault> {
    let begun = bytes.len().min(SIGNATURE.len());
    let fault = FormatFault("does not begin as the binary format does");
    if bytes[..begun] != SIGNATURE[..begun] {
        return Err(fault);
    }
    let Some((flags, rest)) = bytes[begun..].split_first_chunk() else { return Ok(None) };
    if u32::from_be_bytes(*flags) & CRITICAL_FLAGS != 0 {
        return Err(fault);
    }
    let Some((length, rest)) = rest.split_first_chunk() else { return Ok(None) };
    // There is none up to PostgreSQL 18.
    match u32::from_be_bytes(*length) {
        0 => Ok(Some(rest)),
        _ => Err(fault),
    }
}

/// Takes the length of a value off the bytes.
fn take_length(bytes: &mut &[u8]) -> Result<Option<usize>, Missing> {
    let (length, rest) = bytes.split_first_chunk().ok_or(Missing)?;
    *bytes = rest;
    match i32::from_be_bytes(*length) {
        -1 => Ok(None),
        // A length that no value has is found as one that is too long.
        length => Ok(Some(usize::try_from(length).unwrap_or(usize::MAX))),
    }
}

/// Bytes are missing.
struct Missing;

/// Whether so many values have come.
fn is_complete(mut bytes: &[u8], values: usize) -> Result<bool, FormatFault> {
    for _ in 0..values {
        let Ok(length) = take_length(&mut bytes) else { return Ok(false) };
        match bytes.get(length.unwrap_or(0)..) {
            Some(rest) => bytes = rest,
            None if length.is_some_and(|length| length as u64 > COPIED_ROW_BYTES_MAX) => {
                return Err(FormatFault("has a value that is too long"));
            }
            None => return Ok(false),
        }
    }
    Ok(true)
}

/// Takes a value off the bytes of a complete row; `None` is NULL.
fn take<'b>(bytes: &mut &'b [u8]) -> Result<Option<&'b [u8]>, FormatFault> {
    let fault = FormatFault("has a row that is cut off");
    let Some(length) = take_length(bytes).map_err(|_| fault)? else { return Ok(None) };
    let (value, rest) = bytes.split_at_checked(length).ok_or(fault)?;
    *bytes = rest;
    Ok(Some(value))
}

/// The bytes of a number of one length.
fn number<const N: usize>(bytes: &[u8]) -> Result<[u8; N], FormatFault> {
    bytes.try_into().map_err(|_| FormatFault("has a value of another length than its type has"))
}

/// A value in the form of a type of the server.
pub(super) fn field(
    bytes: &[u8],
    wire: WireType,
    value_type: ValueType,
) -> Result<Field<'_>, FormatFault> {
    Ok(match wire {
        WireType::Bool => Ok(Value::Boolean(number::<1>(bytes)? != [0])),
        WireType::Int => {
            let integer = match bytes.len() {
                2 => i16::from_be_bytes(number(bytes)?).into(),
                4 => i32::from_be_bytes(number(bytes)?).into(),
                _ => i64::from_be_bytes(number(bytes)?),
            };
            match value_type == ValueType::ShortInteger && i32::try_from(integer).is_err() {
                true => {
                    incompatible(Incompatibility::BeyondShortInteger, StoredValue::Integer(integer))
                }
                false => Ok(Value::Integer(integer)),
            }
        }
        WireType::Float => Ok(Value::Real(f64::from_be_bytes(number(bytes)?))),
        WireType::Text => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Value::Text(Cow::Borrowed(text))),
            Err(_) => incompatible(Incompatibility::InvalidUtf8, StoredValue::Text(bytes.to_vec())),
        },
        WireType::Timestamp => moment(i64::from_be_bytes(number(bytes)?)),
        WireType::Date => {
            let days = i32::from_be_bytes(number(bytes)?);
            match value_type {
                ValueType::Time => moment(midnight(days)),
                _ => day(days),
            }
        }
        WireType::Bytea if value_type == ValueType::Bytes => Ok(Value::Bytes(Cow::Borrowed(bytes))),
        WireType::Bytea => incompatible(mismatch(value_type), StoredValue::Bytes(bytes.to_vec())),
    })
}

fn incompatible<'v>(reason: Incompatibility, stored: StoredValue) -> Field<'v> {
    Err(IncompatibleValue { reason, stored })
}

/// A time that the server counts from its own epoch. One that does not fit into a [`Moment`] is in the year 294247 or
/// later.
fn moment<'v>(microseconds: i64) -> Field<'v> {
    let moment = match microseconds {
        i64::MIN | i64::MAX => Some(microseconds),
        _ => microseconds.checked_add(EPOCH_MICROSECONDS).filter(|moment| *moment < i64::MAX),
    };
    match moment {
        Some(moment) => Ok(Value::Time(Moment(moment))),
        None => {
            let text = format!("{microseconds} microseconds after 2000-01-01 00:00:00 UTC");
            incompatible(Incompatibility::YearOutOfRange, StoredValue::Text(text.into_bytes()))
        }
    }
}

/// The beginning of a day, as a time of the server. A day that is too late for one is not infinite.
fn midnight(days: i32) -> i64 {
    match days {
        i32::MIN => i64::MIN,
        i32::MAX => i64::MAX,
        _ => i64::from(days).checked_mul(DAY_MICROSECONDS).unwrap_or(i64::MAX - 1),
    }
}

fn day<'v>(days: i32) -> Field<'v> {
    let day = match days {
        i32::MIN | i32::MAX => Some(days),
        _ => days.checked_add(EPOCH_DAYS).filter(|day| *day < i32::MAX),
    };
    match day {
        Some(day) => Ok(Value::Day(Day(day))),
        None => {
            let text = format!("{days} days after 2000-01-01");
            incompatible(Incompatibility::YearOutOfRange, StoredValue::Text(text.into_bytes()))
        }
    }
}

/// A value of another type that the server could not convert.
pub(super) fn unconverted(text: &[u8], value_type: ValueType) -> IncompatibleValue {
    let found = whole_number(text);
    let is_beyond = |greatest: i64| found.is_some_and(|number| number > i128::from(greatest));
    let reason = match value_type {
        ValueType::Integer if is_beyond(i64::MAX) => Incompatibility::BeyondInteger,
        ValueType::ShortInteger if is_beyond(i32::MAX.into()) => {
            Incompatibility::BeyondShortInteger
        }
        ValueType::Real if is_beyond(EXACT_INTEGER_MAX) => Incompatibility::InexactNumber,
        _ => mismatch(value_type),
    };
    IncompatibleValue { reason, stored: StoredValue::Text(text.to_vec()) }
}

/// The amount of a whole number, from its text: digits, and after a point zeros only. That of the least of a type is
/// greater than its greatest. One that is too great counts as the greatest.
fn whole_number(text: &[u8]) -> Option<i128> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_whole = !whole.is_empty()
        && whole.bytes().all(|byte| byte.is_ascii_digit())
        && fraction.bytes().all(|byte| byte == b'0');
    is_whole.then(|| whole.parse().unwrap_or(i128::MAX))
}
