//! The binary format of COPY: rows as the server sends them ([`reading`]), and values as it takes them ([`writing`]).
//! (PostgreSQL documentation, "COPY", "Binary Format")

mod reading;
#[cfg(test)]
mod tests;
mod writing;

pub use reading::{FieldForm, FormatFault, RowReader, WireType};
pub use writing::{Encoded, append, encoded};

use crate::store::{Incompatibility, ValueType};

/// What the rows begin with: a signature, no flags, no more header.
pub const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What follows the last row.
pub const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();

/// The server counts times from 2000-01-01: in microseconds, and in days, after 1970-01-01.
const EPOCH_MICROSECONDS: i64 = 946_684_800_000_000;
const EPOCH_DAYS: i32 = 10_957;

/// Why a value of another type is none of this one.
pub fn mismatch(value_type: ValueType) -> Incompatibility {
    match value_type {
        ValueType::Boolean => Incompatibility::NoBoolean,
        ValueType::Integer | ValueType::ShortInteger => Incompatibility::NoInteger,
        ValueType::Real => Incompatibility::NoNumber,
        ValueType::Text => Incompatibility::NoText,
        ValueType::Time => Incompatibility::NoTime,
        ValueType::Day => Incompatibility::NoDay,
        ValueType::Bytes => Incompatibility::NoBytes,
    }
}
