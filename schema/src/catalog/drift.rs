//! Drift: the difference between the expected catalogue and that of a database.

use std::borrow::Cow;
use std::fmt;

use super::attribute::{self, ORDINARY_TABLE};
use super::{Catalog, Column, CounterFault, ForeignKey, Index, Table, Text, is_key_column};
use crate::sql::definition::contains_name;

/// A part of the schema that can be missing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    /// A table.
    Table(String),
    /// A column: table, column.
    Column(String, String),
    /// An index: table, index.
    Index(String, String),
}

impl Object {
    /// The table it is or belongs to.
    pub fn table(&self) -> &str {
        let (Object::Table(table) | Object::Column(table, _) | Object::Index(table, _)) = self;
        table
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Object::Table(table) => write!(f, "table {table}"),
            Object::Column(table, column) => write!(f, "column {table}.{column}"),
            Object::Index(table, index) => write!(f, "index {index} on {table}"),
        }
    }
}

/// What of an object differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Aspect {
    /// Its columns, constraints or keys.
    Definition,
    /// An attribute of a table beside these, such as `UNLOGGED`.
    Attribute,
    /// Whether rows are checked by this foreign key, which is as expected otherwise.
    ForeignKey {
        /// The expected one.
        key: ForeignKey,
        /// Whether at least new rows are checked.
        checks_new_rows: bool,
    },
}

/// An object that differs from the expected one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alteration {
    /// The object.
    pub object: Object,
    /// Its expected definition.
    pub expected: String,
    /// Its definition in the database.
    pub found: String,
    /// What differs.
    pub aspect: Aspect,
}

impl Alteration {
    fn of_definition(
        object: Object,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> Alteration {
        let (expected, found) = (expected.to_string(), found.to_string());
        Alteration { object, expected, found, aspect: Aspect::Definition }
    }
}

impl fmt::Display for Alteration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, found {}", self.object, self.expected, self.found)
    }
}

/// The difference between the expected catalogue and that of a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Expected objects that do not exist. Columns and indexes of a missing table are not listed.
    pub missing: Vec<Object>,
    /// Objects that exist and differ.
    pub altered: Vec<Alteration>,
    /// Objects in expected tables that are not expected. They are listed and are not a fault.
    pub extra: Vec<Object>,
    /// Counters that give new rows no usable id.
    pub counters: Vec<CounterFault>,
    /// Differences that the owner has accepted. They are listed and are not a fault.
    pub accepted: Vec<Alteration>,
}

impl Drift {
    /// Whether every expected object exists as expected, and new rows get ids. Extra objects do not count.
    pub fn is_none(&self) -> bool {
        self.missing.is_empty() && self.altered.is_empty() && self.counters.is_empty()
    }
}

impl Catalog {
    /// The difference of `actual` from this catalogue, which is the expected one. Tables of other programs are not
    /// part of it.
    pub fn difference(&self, actual: &Catalog) -> Drift {
        if self.has_the_tables_of(actual) {
            return Drift::default();
        }
        let mut drift = Drift::default();
        for expected in self.tables.iter() {
            match actual.table(&expected.name) {
                None => drift.missing.push(Object::Table(expected.name.to_string())),
                Some(found) if found == expected => {}
                Some(found) => expected.difference(found, &mut drift),
            }
        }
        drift
    }
}

impl Catalog {
    /// The same catalogue, with the tables of `expected` in place of its own where they are equal: it then takes
    /// no memory, and comparing it with `expected` or copying it no time.
    pub fn share(self, expected: &'static Catalog) -> Catalog {
        if self.tables == expected.tables {
            return Catalog { tables: Cow::Borrowed(&expected.tables), ..self };
        }
        let mut tables = self.tables.into_owned();
        for table in &mut tables {
            if let Some(equal) = expected.tables.iter().find(|expected| *expected == table) {
                *table = equal.clone();
            }
        }
        Catalog { tables: tables.into(), ..self }
    }

    /// Whether both have the very same tables in memory, which no comparison has to show.
    fn has_the_tables_of(&self, other: &Catalog) -> bool {
        std::ptr::eq::<[Table]>(&*self.tables, &*other.tables)
    }
}

impl Table {
    fn difference(&self, found: &Table, drift: &mut Drift) {
        self.compare_columns(found, drift);
        self.compare_constraints(found, drift);
        self.compare_attributes(found, drift);
        self.compare_indexes(found, drift);
    }

    fn compare_columns(&self, found: &Table, drift: &mut Drift) {
        let object =
            |column: &Column| Object::Column(self.name.to_string(), column.name.to_string());
        for column in self.columns.iter() {
            match found.columns.iter().find(|c| c.name == column.name) {
                None => drift.missing.push(object(column)),
                Some(other) if other.same_as(column) => {}
                Some(other) => {
                    drift.altered.push(Alteration::of_definition(object(column), column, other));
                }
            }
        }
        let ours = |name: &str| self.columns.iter().any(|c| c.name == name);
        for column in found.columns.iter().filter(|c| !ours(&c.name)) {
            if column.requires_value() {
                let expected = "a column that may be omitted";
                drift.altered.push(Alteration::of_definition(object(column), expected, column));
            }
            drift.extra.push(object(column));
        }
    }

    fn compare_constraints(&self, found: &Table, drift: &mut Drift) {
        // Constraints on columns that the owner has added are not compared.
        let is_added = |name: &str| {
            let is_it = |table: &Table| table.columns.iter().any(|column| column.name == name);
            is_it(found) && !is_it(self)
        };
        let added: Vec<&str> = found
            .columns
            .iter()
            .map(|column| &*column.name)
            .filter(|name| is_added(name))
            .collect();
        let text = |table: &Table| {
            let unique = table.unique.iter();
            let is_over_added = |key: &Text| added.iter().any(|name| is_key_column(key, name));
            let unique = unique.filter(|columns| !columns.iter().all(is_over_added));
            let mut parts: Vec<String> =
                unique.map(|columns| format!("UNIQUE ({})", columns.join(", "))).collect();
            let keys = table.foreign_keys.iter().filter(|key| !is_added(&key.column));
            // Whether rows are checked by an expected key is compared apart.
            let text = |key: &ForeignKey| self.same_key(key).unwrap_or(key).to_string();
            parts.extend(keys.map(text));
            let checks = table.checks.iter();
            let checks =
                checks.filter(|check| !added.iter().any(|name| contains_name(check, name)));
            parts.extend(checks.map(|condition| format!("CHECK {condition}")));
            parts.sort();
            if parts.is_empty() { "no constraint".into() } else { parts.join(", ") }
        };
        let (expected, found) = (text(self), text(found));
        if expected != found {
            let object = Object::Table(self.name.to_string());
            drift.altered.push(Alteration::of_definition(object, expected, found));
        }
    }

    /// The foreign key of this table that differs from `found` only in whether rows are checked, if at all.
    fn same_key(&self, found: &ForeignKey) -> Option<&ForeignKey> {
        let mut key = found.clone();
        key.attributes.to_mut().retain(|attribute| !attribute::leaves_rows_unchecked(attribute));
        self.foreign_keys.iter().find(|expected| **expected == key)
    }

    /// Compares what a table has beside columns, constraints and indexes, and whether foreign keys are enforced.
    fn compare_attributes(&self, found: &Table, drift: &mut Drift) {
        let mut push = |expected: String, found: String, aspect| {
            let object = Object::Table(self.name.to_string());
            drift.altered.push(Alteration { object, expected, found, aspect });
        };
        let all = |table: &Table| match table.attributes.is_empty() {
            true => ORDINARY_TABLE.to_string(),
            false => table.attributes.join(", "),
        };
        let is_added = |name: &str| !self.columns.iter().any(|column| column.name == name);
        let added: Vec<&str> =
            found.columns.iter().map(|c| &*c.name).filter(|name| is_added(name)).collect();
        let is_of_added = |attribute: &Text| {
            attribute::is_constraint(attribute)
                && added.iter().any(|name| contains_name(attribute, name))
        };
        let new = found.attributes.iter().filter(|own| !self.attributes.contains(own));
        for attribute in new.filter(|attribute| !is_of_added(attribute)) {
            push(all(self), attribute.to_string(), Aspect::Attribute);
        }
        if self.attributes.iter().any(|own| !found.attributes.contains(own)) {
            push(all(self), all(found), Aspect::Attribute);
        }
        for key in found.foreign_keys.iter().filter(|key| !self.foreign_keys.contains(key)) {
            if let Some(expected) = self.same_key(key) {
                let checks_new_rows = attribute::checks_new_rows(&key.attributes);
                let aspect = Aspect::ForeignKey { key: expected.clone(), checks_new_rows };
                push(expected.to_string(), key.to_string(), aspect);
            }
        }
    }

    fn compare_indexes(&self, found: &Table, drift: &mut Drift) {
        let object = |index: &Index| Object::Index(self.name.to_string(), index.name.to_string());
        for index in self.indexes.iter() {
            match found.indexes.iter().find(|i| i.name == index.name) {
                None => drift.missing.push(object(index)),
                Some(other) if other.to_string() == index.to_string() => {}
                Some(other) => {
                    drift.altered.push(Alteration::of_definition(object(index), index, other));
                }
            }
        }
        let ours = |name: &str| self.indexes.iter().any(|i| i.name == name);
        drift.extra.extend(found.indexes.iter().filter(|i| !ours(&i.name)).map(object));
    }
}

impl Column {
    fn same_as(&self, other: &Column) -> bool {
        self.data_type == other.data_type
            && self.not_null == other.not_null
            && self.default == other.default
            && self.primary_key_position == other.primary_key_position
            && self.attributes == other.attributes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{ForeignKey, List, Text};

    fn column(name: &'static str, data_type: &'static str) -> Column {
        Column {
            name: name.into(),
            data_type: data_type.into(),
            not_null: false,
            default: None,
            primary_key_position: 0,
            attributes: List::default(),
        }
    }

    fn index(name: &'static str, columns: &[&'static str]) -> Index {
        Index {
            name: name.into(),
            columns: columns.iter().map(|c| Text::from(*c)).collect::<Vec<_>>().into(),
            unique: false,
            predicate: None,
            attributes: List::default(),
            definition: "".into(),
        }
    }

    fn table(name: &'static str, columns: Vec<Column>, indexes: Vec<Index>) -> Table {
        Table {
            name: name.into(),
            columns: columns.into(),
            unique: List::default(),
            foreign_keys: List::default(),
            checks: List::default(),
            attributes: List::default(),
            indexes: indexes.into(),
            definition: "".into(),
        }
    }

    fn catalog(tables: Vec<Table>) -> Catalog {
        Catalog { tables: tables.into(), other_tables: List::default() }
    }

    fn expected() -> Catalog {
        let users = table(
            "users",
            vec![column("id", "INTEGER"), column("name", "TEXT")],
            vec![index("by_name", &["name DESC"])],
        );
        catalog(vec![users, table("logs", vec![column("id", "INTEGER")], vec![])])
    }

    #[test]
    fn a_catalogue_has_no_drift_from_itself() {
        let drift = expected().difference(&expected());
        assert_eq!(drift, Drift::default());
        assert!(drift.is_none());
    }

    #[test]
    fn a_missing_table_is_one_missing_object() {
        let actual = catalog(vec![table("logs", vec![column("id", "INTEGER")], vec![])]);
        assert_eq!(expected().difference(&actual).missing, [Object::Table("users".into())]);
    }

    #[test]
    fn missing_columns_and_indexes_are_named() {
        let mut actual = expected();
        actual.tables.to_mut()[0] = table("users", vec![column("id", "INTEGER")], vec![]);
        let missing = expected().difference(&actual).missing;
        let named: Vec<String> = missing.iter().map(ToString::to_string).collect();
        assert_eq!(named, ["column users.name", "index by_name on users"]);
    }

    #[test]
    fn altered_objects_are_shown_as_expected_and_found() {
        let mut actual = expected();
        let mut name = column("name", "INTEGER");
        name.default = Some("0".into());
        actual.tables.to_mut()[0] = table(
            "users",
            vec![name, column("id", "INTEGER")],
            vec![Index { unique: true, ..index("by_name", &["name"]) }],
        );
        actual.tables.to_mut()[1].foreign_keys = vec![ForeignKey {
            column: "id".into(),
            table: "users".into(),
            references: "id".into(),
            on_delete: "NO ACTION".into(),
            attributes: List::default(),
        }]
        .into();
        let drift = expected().difference(&actual);
        let altered: Vec<String> = drift.altered.iter().map(ToString::to_string).collect();
        assert_eq!(
            altered,
            [
                "column users.name: expected TEXT, found INTEGER DEFAULT 0",
                "index by_name on users: expected (name DESC), found UNIQUE (name)",
                "table logs: expected no constraint, found FOREIGN KEY (id) REFERENCES users(id) \
                 ON DELETE NO ACTION",
            ]
        );
        assert!(drift.missing.is_empty() && !drift.is_none());
    }

    #[test]
    fn extra_objects_are_no_drift() {
        let mut actual = expected();
        actual.tables.to_mut()[1].columns.to_mut().push(column("mine", "TEXT"));
        actual.tables.to_mut()[1].indexes.to_mut().push(index("own", &["mine"]));
        actual.tables.to_mut().push(table("notes", vec![], vec![]));
        let drift = expected().difference(&actual);
        assert!(drift.is_none());
        assert_eq!(drift.extra.len(), 2, "{:?}", drift.extra);
    }
}
