//! The columns of the tables that a copy is written to: those of the schema, as the constraint exceptions allow them, and
//! those that the owner has added to the source. SQL texts only; the tables are empty when they run.

use super::conversion::as_text;
use super::rebuild::default_sql;
use crate::error::{Error, Kind, Result};
use crate::store::sql::quoted;
use crate::store::{Backend, CopiedColumn, CopiedTable, ValueType};
use cts_schema::catalog::{Column, Table};
use cts_schema::sql::ddl::IDENTITY;

/// A table whose columns get another shape.
pub struct ShapedTable<'t> {
    /// Its name, as SQL.
    pub name: String,
    /// The table as it is.
    pub found: &'t Table,
    /// The table as it is to be.
    pub target: &'t Table,
    /// The table of the schema.
    pub expected: &'t Table,
    /// Whether it has rows, whose values are kept.
    pub has_rows: bool,
}

impl ShapedTable<'_> {
    /// The statements that give the columns of the schema their shape, in order.
    pub fn statements(&self) -> Vec<String> {
        let columns = self.target.columns.iter().zip(self.expected.columns.iter());
        let found = columns.filter_map(|(target, expected)| {
            let found = self.found.columns.iter().find(|found| found.name == target.name)?;
            Some(self.changes(found, target, expected))
        });
        let change = |change| format!("ALTER TABLE {} {change}", self.name);
        found.flatten().map(change).collect()
    }

    /// The changes of a column. An identity is dropped before NULL is allowed, and made after it is forbidden.
    fn changes(&self, found: &Column, target: &Column, expected: &Column) -> Vec<String> {
        let column = format!("ALTER COLUMN {}", quoted(&target.name));
        // An attribute is a collation, which goes with the type.
        let has_type = found.data_type == target.data_type && found.attributes == target.attributes;
        let has_default = has_type && found.default == target.default;
        let mut changes = Vec::new();
        if let Some(default) = found.default.as_deref().filter(|_| !has_default) {
            changes.push(format!("{column} {}", drop_default(default)));
        }
        if found.not_null && !target.not_null {
            changes.push(format!("{column} DROP NOT NULL"));
        }
        if !has_type {
            let data_type = &target.data_type;
            let value = match self.has_rows {
                true => format!("({})", as_text(&quoted(&target.name))),
                false => "NULL".into(),
            };
            changes.push(format!("{column} TYPE {data_type} USING {value}::{data_type}"));
        }
        if target.not_null && !found.not_null {
            changes.push(format!("{column} SET NOT NULL"));
        }
        match target.default.as_deref().filter(|_| !has_default) {
            None => {}
            Some(IDENTITY) => changes.push(format!("{column} ADD {IDENTITY}")),
            Some(sql) => {
                changes
                    .push(format!("{column} SET DEFAULT {}", default_sql(sql, target, expected)));
            }
        }
        changes
    }
}

/// The action that drops what fills a column.
fn drop_default(default: &str) -> &'static str {
    match default {
        sql if sql.ends_with("AS IDENTITY") => "DROP IDENTITY",
        sql if sql.starts_with("GENERATED") => "DROP EXPRESSION",
        _ => "DROP DEFAULT",
    }
}

/// The statements that add to a table, whose name is given as SQL, the columns that the source has beyond the schema. One
/// that is there already stays, if it has the type that values are written as.
///
/// # Errors
/// `Kind::Data` if it has another.
pub fn added_columns(name: &str, found: &Table, table: &CopiedTable) -> Result<Vec<String>> {
    let mut statements = Vec::new();
    for column in table.columns.iter().filter(|column| column.is_extra) {
        let data_type = column.value_type.data_type(Backend::Postgresql);
        match found.columns.iter().find(|found| found.name == column.name) {
            None => {
                let definition = definition(column);
                statements.push(format!("ALTER TABLE {name} ADD COLUMN {definition}"));
            }
            Some(existing) if existing.data_type == data_type => {}
            Some(existing) => {
                let what = format!(
                    "column {}.{} exists in the target, of type {} and not {data_type}",
                    table.name, column.name, existing.data_type
                );
                return Err(Error::new(Kind::Data, what)
                    .remedy("drop that column of the target, or give it this type"));
            }
        }
    }
    Ok(statements)
}

/// The column of a table that the schema does not have whose values are ids: its key, if that is one integer. New rows get
/// their id from it, as they do on SQLite.
pub fn id_column(table: &CopiedTable) -> Option<&CopiedColumn> {
    let [key] = &*table.key else { return None };
    let column = table.columns.iter().find(|column| column.name == *key);
    let is_integer = |column: &&CopiedColumn| {
        matches!(column.value_type, ValueType::Integer | ValueType::ShortInteger)
    };
    column.filter(|_| table.is_extra).filter(is_integer)
}

/// The statement that creates a table, whose name is given as SQL, which the schema does not have.
pub fn added_table(name: &str, table: &CopiedTable) -> String {
    let id = id_column(table);
    let columns = table.columns.iter().map(|column| {
        let identity = if id == Some(column) { format!(" {IDENTITY}") } else { String::new() };
        definition(column) + &identity
    });
    format!("CREATE TABLE {name} ({})", columns.collect::<Vec<_>>().join(", "))
}

fn definition(column: &CopiedColumn) -> String {
    format!("{} {}", quoted(&column.name), column.value_type.data_type(Backend::Postgresql))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema::POSTGRES;
    use crate::store::sql::table_with_exceptions;
    use cts_schema::constraint_exception::{ConstraintException, Rule};

    fn statements(rules: &[Rule], has_rows: bool) -> Vec<String> {
        let expected = POSTGRES.expected.table("users").unwrap();
        let exception = |rule: &Rule| ConstraintException {
            table: "users".into(),
            rule: rule.clone(),
            rows: 1,
        };
        let exceptions: Vec<_> = rules.iter().map(exception).collect();
        let target = &table_with_exceptions(expected, &exceptions);
        let shaped = ShapedTable { name: "t".into(), found: expected, target, expected, has_rows };
        shaped.statements()
    }

    #[test]
    fn a_table_without_exceptions_stays() {
        assert!(statements(&[Rule::ForeignKey("users".into())], false).is_empty());
    }

    #[test]
    fn a_key_that_contains_texts_has_no_identity() {
        assert_eq!(
            statements(&[Rule::IntegerKey("id".into())], false),
            [
                r#"ALTER TABLE t ALTER COLUMN "id" DROP IDENTITY"#,
                r#"ALTER TABLE t ALTER COLUMN "id" TYPE TEXT USING NULL::TEXT"#,
                r#"ALTER TABLE t ALTER COLUMN "id" SET DEFAULT floor(random() * 9007199254740991)::bigint::text"#,
            ]
        );
    }

    #[test]
    fn a_type_takes_its_default_along_and_keeps_values() {
        let rules =
            [Rule::Type("is_active".into(), "TEXT".into()), Rule::NotNull("username".into())];
        assert_eq!(
            statements(&rules, true),
            [
                r#"ALTER TABLE t ALTER COLUMN "username" DROP NOT NULL"#,
                r#"ALTER TABLE t ALTER COLUMN "is_active" DROP DEFAULT"#,
                r#"ALTER TABLE t ALTER COLUMN "is_active" TYPE TEXT USING (CASE WHEN "is_active" IS NOT NULL THEN concat("is_active") END)::TEXT"#,
                r#"ALTER TABLE t ALTER COLUMN "is_active" SET DEFAULT (TRUE)::TEXT"#,
            ]
        );
        let rules =
            [Rule::Type("created_at".into(), "BIGINT".into()), Rule::Default("created_at".into())];
        let last = r#"ALTER TABLE t ALTER COLUMN "created_at" TYPE BIGINT USING NULL::BIGINT"#;
        assert_eq!(statements(&rules, false).last().map(String::as_str), Some(last));
    }

    #[test]
    fn an_added_column_is_created_or_has_the_type_already() {
        let column =
            |name: &str, value_type| CopiedColumn { name: name.into(), value_type, is_extra: true };
        let table = |columns| CopiedTable {
            name: "users".into(),
            columns,
            key: vec!["id".into()],
            is_extra: false,
        };
        let found = POSTGRES.expected.table("users").unwrap();
        let columns = vec![column("a \"b\"", ValueType::Bytes), column("email", ValueType::Text)];
        let added = added_columns("t", found, &table(columns)).unwrap();
        assert_eq!(added, [r#"ALTER TABLE t ADD COLUMN "a ""b""" BYTEA"#]);
        let refused = added_columns("t", found, &table(vec![column("email", ValueType::Integer)]));
        let error = refused.unwrap_err();
        assert!(error.what.contains("column users.email"), "{error}");
        assert!(error.remedy.is_some());
    }
}
