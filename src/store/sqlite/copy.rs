//! A configured SQLite database as one end of a copy.

use super::DatabaseFile;
use super::copy_draft::{PreparedCopy, prove_free};
use super::copy_source::{FileSource, Locking};
use super::copy_values::{VALUE_BYTES_MAX, prove_storable};
use crate::error::Result;
use crate::store::{
    CopyDraft, CopyEnd, CopySource, Incompatibility, OpenDatabase, Value, ValueType, WaitPolicy,
};

/// Bytes that the types and lengths of the values of a row take at most: 9 for each of 2000 columns
/// (sqlite.org/fileformat2.html, 2.1; sqlite.org/limits.html, 2).
const ROW_HEADER_BYTES_MAX: u64 = 9 * 2001;

impl CopyEnd for DatabaseFile {
    fn open_copy_source(&self, wait: &WaitPolicy<'_>) -> Result<Box<dyn CopySource + '_>> {
        Ok(Box::new(FileSource::open(self, Locking::Shared, wait)?))
    }

    fn open_sample_source(&self, wait: &WaitPolicy<'_>) -> Result<Box<dyn CopySource + '_>> {
        Ok(Box::new(FileSource::open(self, Locking::NoneAtRest, wait)?))
    }

    fn open_copy_target(&self, _: &WaitPolicy<'_>) -> Result<Option<Box<dyn OpenDatabase>>> {
        prove_free(self).map(|_| None)
    }

    fn begin_copy(&self, _: &WaitPolicy<'_>) -> Result<Box<dyn CopyDraft + '_>> {
        Ok(Box::new(PreparedCopy::begin(self)?))
    }

    fn accepts(&self, value: &Value<'_>, _: ValueType) -> Result<(), Incompatibility> {
        prove_storable(value)
    }

    fn row_bytes_max(&self) -> u64 {
        VALUE_BYTES_MAX - ROW_HEADER_BYTES_MAX
    }
}

#[cfg(test)]
mod tests;
