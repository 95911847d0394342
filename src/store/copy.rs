//! Copying all rows of one database into another, as far as it depends on the store: values as both stores have them,
//! reading rows of one snapshot, and writing them in one transaction. Which tables are copied, and the proof that both
//! sides are equal, are decided above.

use std::borrow::Cow;
use std::fmt;

use super::{Backend, Change, Inspect, OpenDatabase, WaitPolicy};
use crate::error::Result;
use cts_schema::catalog::{Column, Table};
use cts_schema::constraint_exception::ConstraintException;

/// What a column holds, whichever store it is in. A store reads each value of the column as one of this type, or says
/// why it is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// `BOOLEAN` on PostgreSQL; 0 or 1 on SQLite.
    Boolean,
    /// An integer of 64 bits.
    Integer,
    /// An integer of 32 bits: `INTEGER` on PostgreSQL.
    ShortInteger,
    /// A double.
    Real,
    /// Text.
    Text,
    /// A moment, in microseconds: `TIMESTAMPTZ` on PostgreSQL, the text of a UTC time on SQLite.
    Time,
    /// A day: `DATE` on PostgreSQL, text on SQLite.
    Day,
    /// Bytes: `BYTEA` on PostgreSQL, a BLOB on SQLite.
    Bytes,
}

impl ValueType {
    /// The type of a column that holds such values, as the catalogue of the store names it.
    pub fn data_type(self, backend: Backend) -> &'static str {
        let (sqlite, postgresql) = match self {
            ValueType::Boolean => ("INTEGER", "BOOLEAN"),
            ValueType::Integer => ("INTEGER", "BIGINT"),
            ValueType::ShortInteger => ("INTEGER", "INTEGER"),
            ValueType::Real => ("REAL", "DOUBLE PRECISION"),
            ValueType::Text => ("TEXT", "TEXT"),
            ValueType::Time => ("TEXT", "TIMESTAMPTZ"),
            ValueType::Day => ("TEXT", "DATE"),
            ValueType::Bytes => ("BLOB", "BYTEA"),
        };
        match backend {
            Backend::Sqlite => sqlite,
            Backend::Postgresql => postgresql,
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ValueType::Boolean => "boolean",
            ValueType::Integer => "integer",
            ValueType::ShortInteger => "integer of 32 bits",
            ValueType::Real => "number",
            ValueType::Text => "text",
            ValueType::Time => "time",
            ValueType::Day => "day",
            ValueType::Bytes => "bytes",
        })
    }
}

/// A value as both stores have it. Two values are the same if both databases call them equal.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'v> {
    /// NULL.
    Null,
    /// Of [`ValueType::Boolean`].
    Boolean(bool),
    /// Of [`ValueType::Integer`] and [`ValueType::ShortInteger`].
    Integer(i64),
    /// Of [`ValueType::Real`]; also infinite or not a number.
    Real(f64),
    /// Of [`ValueType::Text`]. An integer in such a column of SQLite is its decimal text.
    Text(Cow<'v, str>),
    /// Of [`ValueType::Time`].
    Time(Moment),
    /// Of [`ValueType::Day`].
    Day(Day),
    /// Of [`ValueType::Bytes`].
    Bytes(Cow<'v, [u8]>),
}

/// A moment: microseconds since 1970-01-01 00:00:00 UTC, in the proleptic Gregorian calendar. The least and the greatest
/// `i64` are PostgreSQL's `-infinity` and `infinity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub i64);

/// A day: days since 1970-01-01, in the proleptic Gregorian calendar. The least and the greatest `i32` are PostgreSQL's
/// `-infinity` and `infinity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub i32);

/// Why a value cannot be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Incompatibility {
    /// It is no boolean: neither 0 or 1, nor one of the texts that programs write.
    NoBoolean,
    /// It is no integer.
    NoInteger,
    /// It is no integer of 64 bits.
    BeyondInteger,
    /// It is no integer of 32 bits.
    BeyondShortInteger,
    /// It is no number.
    NoNumber,
    /// It is an integer that no double is equal to.
    InexactNumber,
    /// It is no text.
    NoText,
    /// Its bytes are not UTF-8.
    InvalidUtf8,
    /// It is a text with a NUL character, which PostgreSQL does not store.
    #[cfg_attr(not(feature = "postgres"), allow(dead_code))]
    NulInText,
    /// It is not the text of a time, or one that no calendar has.
    NoTime,
    /// It is a time with digits below the microsecond.
    FinerThanMicrosecond,
    /// It is a time before the year 1 or after 9999, which has no text on SQLite that sorts.
    YearOutOfRange,
    /// It is an infinite time.
    InfiniteTime,
    /// It is not the text of a day.
    NoDay,
    /// It is not a number (NaN), which SQLite stores as NULL.
    NotANumber,
    /// It is no sequence of bytes.
    NoBytes,
    /// The value, or its row, is longer than the target can store or read.
    TooLong,
    /// It is longer than an entry of an index of PostgreSQL, and its column is in one.
    TooLongForIndex,
    /// It is NULL in a primary key, which only SQLite allows.
    NullInKey,
}

impl fmt::Display for Incompatibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Incompatibility::NoBoolean => "is neither true nor false (0, 1, true, false, t, f)",
            Incompatibility::NoInteger => "is not an integer",
            Incompatibility::BeyondInteger => "is not an integer of 64 bits",
            Incompatibility::BeyondShortInteger => "is not an integer of 32 bits",
            Incompatibility::NoNumber => "is not a number",
            Incompatibility::InexactNumber => "is an integer that is not exactly a double",
            Incompatibility::NoText => "is not text",
            Incompatibility::InvalidUtf8 => "is not valid UTF-8",
            Incompatibility::NulInText => "contains the character NUL",
            Incompatibility::NoTime => "is not a time",
            Incompatibility::FinerThanMicrosecond => "is a time with digits below the microsecond",
            Incompatibility::YearOutOfRange => "is a time outside of the years 1 to 9999",
            Incompatibility::InfiniteTime => "is an infinite time",
            Incompatibility::NoDay => "is not a day (YYYY-MM-DD)",
            Incompatibility::NotANumber => "is NaN",
            Incompatibility::NoBytes => "is not a BLOB",
            Incompatibility::TooLong => "is too long for the target",
            Incompatibility::TooLongForIndex => {
                "is too long for an index of PostgreSQL, whose entries have 2704 bytes at most"
            }
            Incompatibility::NullInKey => "is NULL in a primary key",
        })
    }
}

/// A value that is not of the type of its column.
#[derive(Clone, Debug, PartialEq)]
pub struct IncompatibleValue {
    /// Why it is not.
    pub reason: Incompatibility,
    /// The value as it is stored.
    pub stored: StoredValue,
}

/// A value as it is stored, for the record of a row that is not copied.
#[derive(Clone, Debug, PartialEq)]
pub enum StoredValue {
    /// An integer.
    Integer(i64),
    /// A double.
    Real(f64),
    /// The bytes of a text, which may not be UTF-8.
    Text(Vec<u8>),
    /// A BLOB.
    Bytes(Vec<u8>),
}

/// A value of a row, or why it is not of the type of its column.
pub type Field<'v> = Result<Value<'v>, IncompatibleValue>;

/// A column that is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopiedColumn {
    /// Its name, on both sides.
    pub name: String,
    /// What it holds.
    pub value_type: ValueType,
    /// Whether it is one of the owner's, which the schema of cts does not have. Such a column is created in the target.
    pub is_extra: bool,
}

/// A table that is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopiedTable {
    /// Its name, on both sides.
    pub name: String,
    /// The columns that are copied, in this order.
    pub columns: Vec<CopiedColumn>,
    /// The columns of its primary key in the source, which its rows are ordered by. Empty if it has none: then the order
    /// is that of the store, as always on SQLite. They need not be among those that are copied.
    pub key: Vec<String>,
    /// Whether it is one of the owner's, which the schema of cts does not have. Such a table is created in the target,
    /// with its primary key.
    pub is_extra: bool,
}

/// Reads the rows of tables, all in one snapshot.
pub trait ReadRows {
    /// Calls `on_row` with each row of a table: one field for each column that is copied, in their order. A value is never
    /// left out: one that is not of the type of its column comes as an error of its field.
    ///
    /// # Errors
    /// Where the table cannot be read, or with the error of `on_row`, after which no more rows are read.
    fn read_rows(
        &mut self,
        table: &CopiedTable,
        on_row: &mut dyn FnMut(&[Field<'_>]) -> Result<()>,
    ) -> Result<()>;

    /// The number of rows of a table that exists.
    ///
    /// # Errors
    /// Where the table cannot be read.
    fn count_rows(&mut self, table: &str) -> Result<u64>;
}

/// The database that is copied: all of its methods see the same snapshot, whatever programs write meanwhile.
pub trait CopySource: ReadRows + Inspect {
    /// The names of the owner's tables in the same schema: neither those of cts, nor those that the database itself or a
    /// replication program keeps there.
    ///
    /// # Errors
    /// Where they cannot be read.
    fn other_tables(&mut self) -> Result<Vec<String>>;

    /// A table that is not one of cts, with its columns.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn other_table(&mut self, name: &str) -> Result<Table>;

    /// What a column holds that has this declared type, which is not the one of the schema; on SQLite, where a type
    /// does not decide, also by its values.
    ///
    /// # Errors
    /// Where its values cannot be read.
    fn value_type(&mut self, table: &str, column: &Column) -> Result<ValueType>;

    /// Proves that what was read is still the database at its place.
    ///
    /// # Errors
    /// [`Kind::TryAgain`](crate::error::Kind) if another one has taken its place.
    fn prove_in_place(&mut self) -> Result<()>;
}

/// Takes the rows of one table.
pub trait RowSink {
    /// Writes a row: one field for each column that is copied, in their order. None of them is an error.
    ///
    /// # Errors
    /// Where the row cannot be written. The transaction has to be rolled back.
    fn write(&mut self, row: &[Field<'_>]) -> Result<()>;
}

/// The transaction that writes a copy, under the migration lock of the target. Dropped before [`Change::commit`], it rolls
/// back, and the target is as it was. Its rows are read as this transaction sees them.
///
/// The caller brings the schema up to date with the methods of [`Change`] first. Of every method: after an error, the
/// transaction has to be rolled back.
pub trait CopyTarget: Change + ReadRows {
    /// Empties the tables that are copied but the ledger, creates the extra columns and tables, gives the tables the shape
    /// that the exceptions allow (a column that may be NULL, or that has another type), and takes away what is cheaper to
    /// make after the rows: indexes and keys.
    ///
    /// # Errors
    /// Where a statement is refused.
    fn prepare_tables(
        &mut self,
        tables: &[CopiedTable],
        exceptions: &[ConstraintException],
    ) -> Result<()>;

    /// Writes the rows that `feed` hands to the sink. Returns how many.
    ///
    /// # Errors
    /// Where a row is refused, or with the error of `feed`.
    fn write_rows(
        &mut self,
        table: &CopiedTable,
        feed: &mut dyn FnMut(&mut dyn RowSink) -> Result<()>,
    ) -> Result<u64>;

    /// Makes what [`CopyTarget::prepare_tables`] has taken away: keys, indexes and foreign keys, with as many of the rules
    /// as the rows allow; records the exceptions that are left; and lets new rows get ids past the highest. Returns the
    /// exceptions that are in force.
    ///
    /// # Errors
    /// Where a statement is refused, or `wait` was cancelled.
    fn complete_tables(
        &mut self,
        tables: &[CopiedTable],
        exceptions: &[ConstraintException],
        wait: &WaitPolicy<'_>,
    ) -> Result<Vec<ConstraintException>>;
}

/// A target that a copy is prepared in. Dropped before [`CopyDraft::put_in_place`], the target is as it was.
pub trait CopyDraft {
    /// Begins the transaction that writes the copy, with the migration lock. Called once.
    ///
    /// # Errors
    /// Where the lock is not granted in time, or the target cannot be written.
    fn begin<'d>(&'d mut self, wait: &WaitPolicy<'_>) -> Result<Box<dyn CopyTarget + 'd>>;

    /// Makes the committed copy last, and puts it in its place where it was made apart from it.
    ///
    /// # Errors
    /// Where a file has appeared at the place meanwhile, or the disk fails. The target is as it was.
    fn put_in_place(self: Box<Self>, wait: &WaitPolicy<'_>) -> Result<()>;
}

/// A configured database as one end of a copy.
pub trait CopyEnd {
    /// Opens it as the source: the snapshot is that of this moment.
    ///
    /// # Errors
    /// Where it does not exist, cannot be read, or belongs to another program. Nothing is changed.
    fn open_copy_source(&self, wait: &WaitPolicy<'_>) -> Result<Box<dyn CopySource + '_>>;

    /// Opens it as [`CopyEnd::open_copy_source`] does, to examine rows that are not copied: nothing beside it is changed
    /// either, for which the snapshot may be given up.
    ///
    /// # Errors
    /// As [`CopyEnd::open_copy_source`]; reading fails where another program writes a database that no program had open.
    fn open_sample_source(&self, wait: &WaitPolicy<'_>) -> Result<Box<dyn CopySource + '_>> {
        self.open_copy_source(wait)
    }

    /// Refuses a target that a copy cannot be written to, as far as that shows beforehand: where it cannot be reached or
    /// written, or a file is in its place. Returns the database that the copy will be written into, whose tables may have
    /// rows; `None` where the copy creates it. Changes nothing.
    ///
    /// # Errors
    /// Why it cannot be the target.
    fn open_copy_target(&self, wait: &WaitPolicy<'_>) -> Result<Option<Box<dyn OpenDatabase>>>;

    /// Begins a copy into it.
    ///
    /// # Errors
    /// As [`CopyEnd::open_copy_target`].
    fn begin_copy(&self, wait: &WaitPolicy<'_>) -> Result<Box<dyn CopyDraft + '_>>;

    /// Whether a value can be stored in a column of this type, so that it is read back the same.
    ///
    /// # Errors
    /// The reason why it cannot.
    fn accepts(&self, value: &Value<'_>, value_type: ValueType) -> Result<(), Incompatibility>;

    /// The most bytes that all values of a row may have together.
    fn row_bytes_max(&self) -> u64;
}
