//! Whether what is missing can be put back, as far as that shows in milliseconds and without changing
//! anything: for the remedies that health, `cts verify` and `cts doctor` name.

use std::fmt;

use super::assessment::Assessment;
use super::facts::Facts;
use crate::error::Error;
use crate::store::{OpenDatabase, Snapshot};
use cts_schema::catalog::{Drift, Object};

/// An object that is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingObject {
    /// The object.
    pub object: Object,
    /// Whether it can be put back.
    pub outlook: Outlook,
}

/// Whether a missing object can be put back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// `cts repair` does it, with a condition on which that depends.
    Repairable(Option<String>),
    /// This is in the way.
    Blocked(Box<Error>),
    /// It was attempted and refused, or something else is wrong that comes first.
    NotNow,
}

impl fmt::Display for MissingObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is missing", self.object)?;
        match &self.outlook {
            Outlook::Repairable(None) => f.write_str("; `cts repair` puts it back"),
            Outlook::Repairable(Some(unless)) => {
                write!(f, "; `cts repair` puts it back, unless {unless}")
            }
            Outlook::Blocked(error) => write!(f, " and cannot be put back: {error}"),
            Outlook::NotNow => Ok(()),
        }
    }
}

/// The objects that are missing in a database, each with whether it can be put back.
pub fn missing_objects(database: &mut dyn OpenDatabase, snapshot: &Snapshot) -> Vec<MissingObject> {
    let identity = database.identity();
    let Ok(assessment) = Assessment::of(identity.schema, snapshot) else {
        return not_now(&snapshot.drift(identity.schema));
    };
    if assessment.drift.missing.is_empty() {
        return Vec::new();
    }
    // What cannot be found out leaves the remedy out.
    let Ok(facts) = Facts::without_rows(database, &identity, snapshot, &assessment) else {
        return not_now(&assessment.drift);
    };
    let trigger = database.find_ddl_trigger().ok().flatten();
    let is_unique = |object: &Object| {
        let Object::Index(table, index) = object else { return false };
        let expected = identity.schema.expected.table(table);
        snapshot.catalog.table(table).is_some()
            && expected.and_then(|table| table.index(index)).is_some_and(|index| index.unique)
    };
    let condition = |object: &Object| {
        let keys = is_unique(object).then(|| "rows share a key".to_string());
        let refusal = trigger.as_ref().map(|trigger| format!("{trigger} refuses it"));
        let conditions: Vec<String> = keys.into_iter().chain(refusal).collect();
        (!conditions.is_empty()).then(|| conditions.join(" or "))
    };
    let outlook = |object: &Object| match facts.obstacle(object) {
        Some(error) => Outlook::Blocked(Box::new(error.clone())),
        None => Outlook::Repairable(condition(object)),
    };
    let missing = assessment.drift.missing.iter();
    missing
        .map(|object| MissingObject { object: object.clone(), outlook: outlook(object) })
        .collect()
}

/// The missing objects of a database that `cts repair` refuses.
fn not_now(drift: &Drift) -> Vec<MissingObject> {
    let missing = drift.missing.iter().cloned();
    missing.map(|object| MissingObject { object, outlook: Outlook::NotNow }).collect()
}
