//! The text of a difference from the expected catalogue, for `cts verify` and `cts repair`.

use crate::migrate::outlook::{MissingObject, Outlook};
use crate::store::schema::Schema;
use crate::system::count::counts;
use crate::system::visible::Lines;
use cts_schema::catalog::Drift;
use cts_schema::constraint_exception::ConstraintException;

/// One line for each difference and exception, and a line of totals.
/// `missing` says of the missing objects whether they can be put back.
pub fn drift_text(
    schema: &Schema,
    drift: &Drift,
    missing: &[MissingObject],
    exceptions: &[ConstraintException],
) -> Lines {
    let mut text = Lines::new();
    for object in &drift.missing {
        let found = missing.iter().find(|found| found.object == *object);
        match found.map(|found| &found.outlook) {
            Some(Outlook::Blocked(error)) => {
                text.add(format_args!("missing: {object} (cannot be put back: {error})"));
            }
            Some(Outlook::Repairable(Some(unless))) => {
                text.add(format_args!("missing: {object} (can be put back, unless {unless})"));
            }
            _ => text.add(format_args!("missing: {object}")),
        }
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
    for alteration in &drift.accepted {
        text.add(format_args!("accepted: {alteration}"));
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
        let found = counts(&[
            (drift.missing.len(), "missing", "missing"),
            (drift.altered.len(), "altered", "altered"),
            (drift.counters.len(), "counter behind its ids", "counters behind their ids"),
        ]);
        let is_repairable = |found: &MissingObject| matches!(found.outlook, Outlook::Repairable(_));
        let repairable = missing.iter().filter(|found| is_repairable(found)).count();
        let remedy = match (repairable == drift.missing.len(), drift.counters.len() + repairable) {
            (_, 0) => "",
            (true, _) => "; `cts repair` puts back what is missing",
            (false, _) => "; `cts repair` puts back what nothing is in the way of",
        };
        text.add(format_args!("drift: {found}{remedy}"));
    }
    text
}
