//! The text of a difference from the expected catalogue, for `cts verify` and `cts repair`.

use std::fmt::Write as _;

use crate::store::schema::Schema;
use cts_schema::catalog::Drift;
use cts_schema::constraint_exception::ConstraintException;

/// One line for each difference and exception, and a line of totals.
pub fn drift_text(schema: &Schema, drift: &Drift, exceptions: &[ConstraintException]) -> String {
    let mut text = String::new();
    for object in &drift.missing {
        let _ = writeln!(text, "missing: {object}");
    }
    for alteration in &drift.altered {
        let _ = writeln!(text, "altered: {alteration}");
    }
    for object in &drift.extra {
        let _ = writeln!(text, "extra:   {object} (left alone)");
    }
    for exception in exceptions {
        let _ = writeln!(text, "exception: {exception}");
    }
    let expected = schema.expected;
    let indexes: usize = expected.tables.iter().map(|table| table.indexes.len()).sum();
    if drift.is_none() {
        let _ = writeln!(
            text,
            "no drift: {} tables and {indexes} indexes are as expected",
            expected.tables.len()
        );
    } else {
        let _ = writeln!(
            text,
            "drift: {} missing, {} altered; `cts repair` puts back what is missing",
            drift.missing.len(),
            drift.altered.len()
        );
    }
    text
}
