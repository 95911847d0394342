//! The tables that a copy is written to: those that the migrations have made, in the shape that the constraint exceptions
//! of the source allow, and those of the owner. SQLite changes no rule of a table that exists, so that a table with an
//! exception is created again while it is empty.

use rusqlite::Connection;

use super::catalog::number;
use super::create_table::create_table;
use super::error::{Result, SqliteError};
use super::existing_table::SourceTable;
use super::{index, violations};
use crate::store::schema::SQLITE;
use crate::store::sql::{LEDGER_TABLE, quoted, table_with_exceptions};
use crate::store::{Backend, CopiedColumn, CopiedTable, ValueType, WaitPolicy, interrupted};
use cts_schema::catalog::{ForeignKey, Table};
use cts_schema::constraint_exception::{ConstraintException, Rule};

/// A table of the schema that is copied, with the rules that it leaves out here.
pub struct Shape<'t> {
    copied: &'t CopiedTable,
    expected: &'static Table,
    left_out: Vec<ConstraintException>,
}

impl<'t> Shape<'t> {
    /// The shape of a table of the schema in a database whose source has these exceptions.
    ///
    /// # Errors
    /// If the schema has no such table.
    pub fn of(copied: &'t CopiedTable, exceptions: &[ConstraintException]) -> Result<Shape<'t>> {
        let expected = SQLITE.expected.table(&copied.name).ok_or_else(|| {
            let what = format!("the schema of SQLite has no table {}", copied.name);
            SqliteError::refused(what, "leave that table out")
        })?;
        let own = exceptions.iter().filter(|e| e.table.eq_ignore_ascii_case(&copied.name));
        let rules = own.filter_map(|exception| rule_here(copied, expected, &exception.rule));
        let mut left_out: Vec<_> = rules
            .map(|rule| ConstraintException { table: expected.name.to_string(), rule, rows: 0 })
            .collect();
        left_out.sort();
        left_out.dedup();
        Ok(Shape { copied, expected, left_out })
    }

    /// Empties the table, but the ledger; gives it its shape and the columns of its owner, and takes its indexes away.
    ///
    /// # Errors
    /// If SQLite refuses a statement. The transaction has to be rolled back.
    pub fn prepare(&self, conn: &Connection) -> Result<()> {
        let table = quoted(&self.expected.name);
        if !self.left_out.is_empty() {
            self.create_again(conn)?;
        } else if self.expected.name != LEDGER_TABLE {
            conn.execute_batch(&format!("DELETE FROM {table}"))?;
        }
        for index in self.expected.indexes.iter() {
            conn.execute_batch(&format!("DROP INDEX IF EXISTS {}", quoted(&index.name)))?;
        }
        for column in self.copied.columns.iter().filter(|column| column.is_extra) {
            conn.execute_batch(&format!("ALTER TABLE {table} ADD COLUMN {}", column_sql(column)))?;
        }
        Ok(())
    }

    fn create_again(&self, conn: &Connection) -> Result<()> {
        let source = SourceTable::read(conn, self.expected)?;
        let target = table_with_exceptions(self.expected, &self.left_out);
        let create = create_table(&source, &self.expected.name, &target);
        let table = quoted(&self.expected.name);
        let replace = format!("DROP TABLE main.{table}; {create}");
        if self.expected.name != LEDGER_TABLE {
            return Ok(conn.execute_batch(&replace)?);
        }
        Ok(conn.execute_batch(&format!(
            "CREATE TEMP TABLE cts_kept AS SELECT * FROM main.{table}; {replace}; \
             INSERT INTO main.{table} SELECT * FROM cts_kept; DROP TABLE temp.cts_kept"
        ))?)
    }

    /// Makes the indexes, and counts the rows that violate the rules. Returns the exceptions, each with the present number
    /// of rows. A rule that the table leaves out is one of them even if no row violates it any longer.
    ///
    /// # Errors
    /// If SQLite refuses a statement, or `wait` was cancelled. The transaction has to be rolled back.
    pub fn complete(
        &self,
        conn: &Connection,
        wait: &WaitPolicy<'_>,
    ) -> Result<Vec<ConstraintException>> {
        let mut exceptions = Vec::new();
        for index in self.expected.indexes.iter() {
            refuse_cancelled(wait)?;
            exceptions.extend(index::create(conn, &self.expected.name, index, wait.on_progress)?);
        }
        for key in self.expected.foreign_keys.iter() {
            refuse_cancelled(wait)?;
            let rule = Rule::ForeignKey(key.table.to_string());
            let rows = self.count_orphans(conn, key, &rule)?;
            exceptions.extend((rows > 0).then(|| self.exception(rule, rows)));
        }
        for ConstraintException { rule, .. } in &self.left_out {
            refuse_cancelled(wait)?;
            let rows = violations::count_violations(conn, self.expected, rule)?;
            exceptions.push(self.exception(rule.clone(), rows));
        }
        Ok(exceptions)
    }

    fn exception(&self, rule: Rule, rows: u64) -> ConstraintException {
        ConstraintException { table: self.expected.name.to_string(), rule, rows }
    }

    /// Looks up each key once, in the order of an index, where SQLite would look up that of each row.
    fn count_orphans(&self, conn: &Connection, key: &ForeignKey, rule: &Rule) -> Result<u64> {
        let sql = format!(
            "SELECT EXISTS (SELECT 1 FROM (SELECT DISTINCT {0} AS k FROM {1} WHERE {0} IS NOT NULL) \
             WHERE NOT EXISTS (SELECT 1 FROM {2} AS p WHERE p.{3} = k))",
            quoted(&key.column),
            quoted(&self.expected.name),
            quoted(&key.table),
            quoted(&key.references)
        );
        match number(conn, &sql)? {
            0 if self.left_out.is_empty() => Ok(0),
            _ => Ok(violations::count_violations(conn, self.expected, rule)?),
        }
    }
}

fn refuse_cancelled(wait: &WaitPolicy<'_>) -> Result<()> {
    match wait.is_stopped() {
        true => Err(interrupted().into()),
        false => Ok(()),
    }
}

/// The rule that a table of SQLite leaves out where one of the source leaves out this one; `None` where the rule can hold
/// here, or where it is judged when the index or the key is made.
fn rule_here(copied: &CopiedTable, expected: &Table, rule: &Rule) -> Option<Rule> {
    let column = expected.columns.iter().find(|column| column.name == rule.object())?;
    let name = column.name.to_string();
    let is_it = |copied: &&CopiedColumn| copied.name.eq_ignore_ascii_case(&name);
    let value_type = copied.columns.iter().find(is_it).map(|copied| copied.value_type);
    let holds_texts = !matches!(value_type, Some(ValueType::Integer | ValueType::ShortInteger));
    match rule {
        Rule::NotNull(_) => column.not_null.then_some(Rule::NotNull(name)),
        Rule::IntegerKey(_) | Rule::Type(..) if expected.rowid_alias() == Some(column) => {
            holds_texts.then_some(Rule::IntegerKey(name))
        }
        Rule::Type(..) => {
            let declared = value_type?.data_type(Backend::Sqlite);
            (declared != column.data_type).then(|| Rule::Type(name, declared.into()))
        }
        Rule::PrimaryKey(_) => (column.primary_key_position > 0).then_some(Rule::PrimaryKey(name)),
        // A default of any type is allowed.
        Rule::Default(_) | Rule::IntegerKey(_) | Rule::Unique(_) | Rule::ForeignKey(_) => None,
    }
}

/// The statement that creates a table of the owner, with its primary key where all columns of that are copied.
pub fn create_extra_table(table: &CopiedTable) -> String {
    let is_key = |column: &CopiedColumn| table.key.contains(&column.name);
    let single_key = table.columns.iter().find(|column| is_key(column) && table.key.len() == 1);
    let is_rowid = |column: &CopiedColumn| {
        single_key == Some(column)
            && matches!(column.value_type, ValueType::Integer | ValueType::ShortInteger)
    };
    let mut items: Vec<String> = table
        .columns
        .iter()
        .map(|column| match is_rowid(column) {
            true => format!("{} PRIMARY KEY", column_sql(column)),
            false => column_sql(column),
        })
        .collect();
    let is_complete = table.columns.iter().filter(|column| is_key(column)).count();
    if !table.key.is_empty() && is_complete == table.key.len() && !single_key.is_some_and(is_rowid)
    {
        let names: Vec<String> = table.key.iter().map(|name| quoted(name)).collect();
        items.push(format!("PRIMARY KEY ({})", names.join(", ")));
    }
    format!("CREATE TABLE {} ({})", quoted(&table.name), items.join(", "))
}

fn column_sql(column: &CopiedColumn) -> String {
    format!("{} {}", quoted(&column.name), column.value_type.data_type(Backend::Sqlite))
}
