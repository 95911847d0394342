//! Differences from the expected catalogue that the owner means so: they are recorded in the database, listed, and no
//! longer drift. What was accepted is the difference as it was then; another one of the same object is drift again.
//!
//! A record is a row of the table of constraint exceptions, under a rule of its own: that table is in every database
//! that needs one, and a cts that does not know the rule leaves the row out, and reports the difference as before.

use super::{Alteration, Aspect, Drift, Object};

/// The name of these records among the rules of the table of constraint exceptions, which is part of the database format.
pub const ACCEPTED_RULE: &str = "accepted";

/// The differences of one object that are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedDifference {
    /// The object.
    pub object: Object,
    /// The differences as text, each as it was when it was accepted.
    pub differences: Vec<String>,
}

impl AcceptedDifference {
    /// The object as it is recorded, beside the name of its table.
    pub fn record_object(&self) -> String {
        match &self.object {
            Object::Table(_) => "table".into(),
            Object::Column(_, name) => format!("column {name}"),
            Object::Index(_, name) => format!("index {name}"),
        }
    }

    /// The differences as they are recorded.
    pub fn record_detail(&self) -> String {
        self.differences.join("\n")
    }

    /// What a record says; `None` for an object that only a later cts knows.
    pub fn from_record(table: String, object: &str, detail: &str) -> Option<AcceptedDifference> {
        let object = match object.split_once(' ') {
            None if object == "table" => Object::Table(table),
            Some(("column", name)) => Object::Column(table, name.into()),
            Some(("index", name)) => Object::Index(table, name.into()),
            _ => return None,
        };
        let differences = detail.split('\n').map(str::to_string).collect();
        Some(AcceptedDifference { object, differences })
    }
}

impl Alteration {
    /// The difference without its object, as it is recorded.
    pub fn difference(&self) -> String {
        let Alteration { expected, found, .. } = self;
        format!("expected {expected}, found {found}").replace('\n', " ")
    }

    /// That an expected index does not exist.
    fn missing(object: &Object) -> Alteration {
        let (expected, found) = ("it to exist".to_string(), "none".to_string());
        Alteration { object: object.clone(), expected, found, aspect: Aspect::Definition }
    }
}

impl Drift {
    /// The same without the differences that are accepted, which are listed apart. A missing table or column is
    /// drift in any case.
    pub fn accept(mut self, accepted: &[AcceptedDifference]) -> Drift {
        let is_accepted = |alteration: &Alteration| {
            let mut records = accepted.iter().filter(|record| record.object == alteration.object);
            records.any(|record| record.differences.contains(&alteration.difference()))
        };
        let missing = self.missing.extract_if(.., |object| {
            matches!(object, Object::Index(..)) && is_accepted(&Alteration::missing(object))
        });
        let missing: Vec<Alteration> = missing.map(|object| Alteration::missing(&object)).collect();
        let altered = self.altered.extract_if(.., |alteration| is_accepted(alteration));
        self.accepted = altered.collect();
        self.accepted.extend(missing);
        self
    }

    /// What can be accepted: every altered object, and missing indexes.
    pub fn acceptable(&self) -> Vec<Alteration> {
        let indexes = self.missing.iter().filter(|object| matches!(object, Object::Index(..)));
        self.altered.iter().cloned().chain(indexes.map(Alteration::missing)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back() {
        for object in [
            Object::Table("t".into()),
            Object::Column("t".into(), "a b".into()),
            Object::Index("t".into(), "i".into()),
        ] {
            let differences = vec!["expected a, found b".into(), "expected c, found d".into()];
            let record = AcceptedDifference { object, differences };
            let (object, detail) = (record.record_object(), record.record_detail());
            assert_eq!(AcceptedDifference::from_record("t".into(), &object, &detail), Some(record));
        }
        assert_eq!(AcceptedDifference::from_record("t".into(), "view", ""), None);
    }
}
