//! What can be put right of an altered object without losing a row, and what its owner can do about the rest.

use std::fmt;

use super::attribute::{self, KEYS_TURNED_OFF, UNLOGGED};
use super::{Alteration, Aspect, ForeignKey, Object};

/// A change that makes an altered table as expected, and keeps every row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Correction {
    /// The rows of a table survive a crash of the server again.
    MakeLogged(String),
    /// New rows of a table are checked by a foreign key again.
    EnforceForeignKey(String, ForeignKey),
    /// All rows of a table are checked by a foreign key that only new ones are checked by.
    ValidateForeignKey(String, ForeignKey),
}

impl Correction {
    /// The table.
    pub fn table(&self) -> &str {
        let (Correction::MakeLogged(table)
        | Correction::EnforceForeignKey(table, _)
        | Correction::ValidateForeignKey(table, _)) = self;
        table
    }

    /// The correction that this one makes possible, if there is one.
    pub fn next(&self) -> Option<Correction> {
        match self {
            Correction::EnforceForeignKey(table, key) => {
                Some(Correction::ValidateForeignKey(table.clone(), key.clone()))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Correction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Correction::MakeLogged(table) => write!(f, "make table {table} logged"),
            Correction::EnforceForeignKey(table, key) => {
                write!(f, "enforce {key} of table {table}")
            }
            Correction::ValidateForeignKey(table, key) => {
                write!(f, "validate {key} of table {table}")
            }
        }
    }
}

impl Alteration {
    /// What puts it right without losing a row, if something does.
    pub fn correction(&self) -> Option<Correction> {
        let table = self.object.table().to_string();
        match &self.aspect {
            Aspect::ForeignKey { key, checks_new_rows: true } => {
                Some(Correction::ValidateForeignKey(table, key.clone()))
            }
            Aspect::ForeignKey { key, checks_new_rows: false } => {
                Some(Correction::EnforceForeignKey(table, key.clone()))
            }
            Aspect::Attribute if self.found == UNLOGGED => Some(Correction::MakeLogged(table)),
            Aspect::Attribute | Aspect::Definition => None,
        }
    }

    /// What to do about it, where that is known.
    pub fn remedy(&self) -> Option<String> {
        match (&self.aspect, &self.object) {
            (Aspect::ForeignKey { checks_new_rows: true, .. }, _) => {
                Some("`cts repair` validates it, once every row follows it".into())
            }
            (Aspect::ForeignKey { .. }, _) => Some("`cts repair` enforces it again".into()),
            (Aspect::Attribute, _) if self.found == UNLOGGED => {
                Some("it is empty after a crash of the server; `cts repair` makes it logged".into())
            }
            (Aspect::Attribute, _) if self.found == KEYS_TURNED_OFF => Some(
                "`ALTER ROLE … RESET session_replication_role`, or ALTER DATABASE, turns them on"
                    .into(),
            ),
            (Aspect::Attribute, object) => attribute::removal(object.table(), &self.found)
                .map(|sql| format!("`{sql}` undoes it")),
            (Aspect::Definition, Object::Index(..)) => {
                Some("drop it, and `cts repair` creates it again".into())
            }
            (Aspect::Definition, _) => None,
        }
    }

    /// The difference with its remedy.
    pub fn with_remedy(&self) -> String {
        match self.remedy() {
            Some(remedy) => format!("{self}; {remedy}"),
            None => self.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alteration(found: &str) -> Alteration {
        Alteration {
            object: Object::Table("users".into()),
            expected: "an ordinary table".into(),
            found: found.into(),
            aspect: Aspect::Attribute,
        }
    }

    #[test]
    fn a_remedy_names_the_statement_that_undoes_the_change() {
        for (found, remedy) in [
            ("ROW LEVEL SECURITY", "`ALTER TABLE users DISABLE ROW LEVEL SECURITY` undoes it"),
            ("RULE \"A b\" ON INSERT DO INSTEAD", "`DROP RULE \"A b\" ON users` undoes it"),
            ("INHERITS o.parent", "`ALTER TABLE users NO INHERIT o.parent` undoes it"),
            ("PARTITION OF o.big", "`ALTER TABLE o.big DETACH PARTITION users` undoes it"),
        ] {
            assert_eq!(alteration(found).remedy().as_deref(), Some(remedy));
            assert_eq!(alteration(found).correction(), None);
        }
        assert_eq!(alteration("PARTITION BY RANGE (id)").remedy(), None);
        let unlogged = alteration(UNLOGGED).correction();
        assert_eq!(unlogged, Some(Correction::MakeLogged("users".into())));
    }
}
