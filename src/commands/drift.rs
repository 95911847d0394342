//! The text of a difference from the expected catalogue, for `cts verify` and `cts repair`.

use crate::store::schema::Schema;
use crate::system::visible::Lines;
use cts_schema::catalog::Drift;
use cts_schema::constraint_exception::ConstraintException;

/// One line for each difference and exception, and a line of totals.
pub fn drift_text(schema: &Schema, drift: &Drift, exceptions: &[ConstraintException]) -> Lines {
    let mut text = Lines::new();
    for object in &drift.missing {
        text.add(format_args!("missing: {object}"));
    }
    for alteration in &drift.altered {
        text.add(format_args!("altered: {}", alteration.with_remedy()));
    }
    for counter in &drift.counters {
        text.add(format_args!("counter: {counter}"));
    }
    for object in &drift.extra {
        text.add(format_args!("extra:   {object} (left alone)"));
    }
    for exception in exceptions {
        text.add(format_args!("exception: {exception}"));
    }
    let expected = schema.expected;
    let indexes: usize = expected.tables.iter().map(|table| table.indexes.len()).sum();
    if drift.is_none() {
        text.add(format_args!(
            "no drift: {} tables and {indexes} indexes are as expected",
            expected.tables.len()
        ));
    } else {
        let counters = match drift.counters.len() {
            0 => String::new(),
            behind => format!(", {behind} counters behind their ids"),
        };
        text.add(format_args!(
            "drift: {} missing, {} altered{counters}; `cts repair` puts back what is missing",
            drift.missing.len(),
            drift.altered.len()
        ));
    }
    text
}
