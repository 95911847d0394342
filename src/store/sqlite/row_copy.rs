//! Copies the rows of a table into its rebuilt one, and compares every value.

use rusqlite::Connection;

use super::catalog::number;
use super::error::{Result, SqliteError};
use super::existing_table::SourceTable;
use crate::store::Progress;
use crate::store::sql::quoted;
use cts_schema::catalog::{Object, Table};
use cts_schema::constraint_exception::{ConstraintException, Rule};

/// Rows that are copied between two reports of the progress.
const ROWS_PER_STEP: i64 = 20_000;

/// A rebuilt table under its temporary name, and the table whose rows it gets.
pub struct RowCopy<'t> {
    /// The table that is copied.
    pub source: &'t SourceTable,
    /// The name of the new table.
    pub new_name: &'t str,
    /// The columns of the new table.
    pub target: &'t Table,
}

/// A column of the new table, and the expression of the value it gets, both as SQL.
struct ColumnCopy {
    column: String,
    value: String,
}

impl RowCopy<'_> {
    /// Copies the rows, in their order and with their rowids. Returns how many the old table has.
    ///
    /// # Errors
    /// If SQLite refuses a statement. The transaction has to be rolled back then.
    pub fn run(&self, conn: &Connection, progress: &dyn Fn(Progress<'_>)) -> Result<u64> {
        let old = quoted(&self.source.table.name);
        let total = number(conn, &format!("SELECT count(*) FROM {old}"))?;
        let insert = self.insert_sql();
        let Some(rowid) = &self.source.rowid else {
            conn.execute(&insert, [])?;
            return Ok(total);
        };
        let last_of_step = format!(
            "SELECT max(row) FROM (SELECT {rowid} AS row FROM {old} WHERE {rowid} > ?1 ORDER BY {rowid} LIMIT {ROWS_PER_STEP})"
        );
        let mut last_of_step = conn.prepare(&last_of_step)?;
        let mut insert = conn
            .prepare(&format!("{insert} WHERE {rowid} > ?1 AND {rowid} <= ?2 ORDER BY {rowid}"))?;
        let object = &Object::Table(self.source.table.name.to_string());
        // A row with the least rowid of all would not be copied, which the comparison would find.
        let (mut after, mut done) = (i64::MIN, 0);
        while let Some(last) =
            last_of_step.query_row([after], |row| row.get::<_, Option<i64>>(0))?
        {
            done += insert.execute([after, last])? as u64;
            after = last;
            progress(Progress::of_rows(object, done, total));
        }
        Ok(total)
    }

    fn insert_sql(&self) -> String {
        let copied = self.columns();
        let columns: Vec<&str> = copied.iter().map(|copied| copied.column.as_str()).collect();
        let values: Vec<&str> = copied.iter().map(|copied| copied.value.as_str()).collect();
        format!(
            "INSERT INTO {} ({}) SELECT {} FROM {}",
            quoted(self.new_name),
            columns.join(", "),
            values.join(", "),
            quoted(&self.source.table.name)
        )
    }

    /// The columns that get a value: those of the old table, those whose default would make one up
    /// (the present time, for example) and that get NULL instead, and the rowid. A column that is left
    /// out gets its default.
    fn columns(&self) -> Vec<ColumnCopy> {
        let copied =
            |column: &str, value: &str| ColumnCopy { column: column.into(), value: value.into() };
        let stored = self.source.stored_columns.iter().map(|name| quoted(name));
        let mut columns: Vec<_> = stored.map(|name| copied(&name, &name)).collect();
        let is_new = |name: &str| self.source.column(name).is_none();
        for column in self.target.columns.iter().filter(|column| is_new(&column.name)) {
            let is_made_up = column.default.as_ref().is_some_and(|sql| sql.contains('('));
            if is_made_up && !column.not_null && column.primary_key_position == 0 {
                columns.push(copied(&quoted(&column.name), "NULL"));
            }
        }
        if let Some(rowid) = &self.source.rowid {
            match self.target.rowid_alias() {
                None => columns.push(copied(rowid, rowid)),
                Some(key) if is_new(&key.name) => columns.push(copied(&quoted(&key.name), rowid)),
                Some(_) => {}
            }
        }
        columns
    }

    /// The columns whose type has altered values, as exceptions: the column keeps its old type.
    /// `rows` is the number of rows of the old table.
    ///
    /// # Errors
    /// If rows are missing, or values are altered although a column has its old type; or SQLite
    /// refuses a query. The transaction has to be rolled back then.
    pub fn altered_columns(
        &self,
        conn: &Connection,
        rows: u64,
    ) -> Result<Vec<ConstraintException>> {
        let table = &self.source.table.name;
        let mut altered = Vec::new();
        let compared: u64 = conn.query_row(&self.comparison_sql(), [], |row| {
            for (at, name) in self.source.stored_columns.iter().enumerate() {
                let rows: u64 = row.get(at + 1)?;
                if rows > 0 {
                    let rule = Rule::Type(name.clone(), self.source.data_type(name));
                    altered.push(ConstraintException { table: table.to_string(), rule, rows });
                }
            }
            row.get(0)
        })?;
        let copied = number(conn, &format!("SELECT count(*) FROM {}", quoted(self.new_name)))?;
        let has_old_type = |exception: &ConstraintException| match &exception.rule {
            Rule::Type(name, old_type) => {
                self.target.columns.iter().all(|c| c.name != *name || c.data_type == *old_type)
            }
            _ => false,
        };
        if compared == rows && copied == rows && !altered.iter().any(has_old_type) {
            return Ok(altered);
        }
        let what = format!("table {table}: its rows cannot be copied without a change");
        let remedy = format!(
            "rename the table (`ALTER TABLE {} RENAME TO …`), run cts again, and copy the rows into the new table",
            quoted(table)
        );
        Err(SqliteError::refused(what, remedy))
    }

    /// Counts the rows that are in both tables and, for each column, those whose value is altered.
    fn comparison_sql(&self) -> String {
        let target = self.target;
        let sums = self.source.stored_columns.iter().map(|name| {
            let is_key =
                target.columns.iter().any(|c| c.name == *name && c.primary_key_position > 0)
                    || target.foreign_keys.iter().any(|key| key.column == *name);
            let may_become_text = is_key || self.source.data_type(name).contains("INT");
            let name = quoted(name);
            format!("coalesce(sum(NOT ({})), 0)", is_same_sql(&name, &name, may_become_text))
        });
        format!(
            "SELECT count(*), {} FROM {} AS o JOIN {} AS n ON {}",
            sums.collect::<Vec<_>>().join(", "),
            quoted(&self.source.table.name),
            quoted(self.new_name),
            self.same_row_sql()
        )
    }

    /// Whether `n` is the copy of the row `o`.
    fn same_row_sql(&self) -> String {
        let key = self.target.rowid_alias();
        if let Some(key) = key.filter(|key| self.source.column(&key.name).is_some()) {
            return format!("n.{0} = CAST(o.{0} AS INTEGER)", quoted(&key.name));
        }
        if let Some(rowid) = &self.source.rowid {
            return format!("n.{rowid} = o.{rowid}");
        }
        let columns = self.source.table.columns.iter();
        let keys = columns.filter(|column| column.primary_key_position > 0);
        let keys = keys.map(|key| format!("n.{0} IS o.{0} COLLATE BINARY", quoted(&key.name)));
        keys.collect::<Vec<_>>().join(" AND ")
    }
}

/// Whether a value is the same in the column `old` of table `o` and the column `new` of table `n`:
/// equal; a text that became the number it denotes; or, if `may_become_text`, an integer that became
/// its decimal text.
pub fn is_same_sql(old: &str, new: &str, may_become_text: bool) -> String {
    let (o, n) = (format!("o.{old}"), format!("n.{new}"));
    format!(
        "CASE typeof({o}) || ' ' || typeof({n}) \
         WHEN 'integer text' THEN {may_become_text} AND CAST({o} AS TEXT) = {n} COLLATE BINARY \
         WHEN 'text integer' THEN {o} = CAST({n} AS TEXT) COLLATE BINARY \
         WHEN 'integer real' THEN {o} = {n} COLLATE BINARY \
         WHEN 'real integer' THEN {o} = {n} COLLATE BINARY \
         ELSE typeof({o}) = typeof({n}) AND {o} IS {n} COLLATE BINARY END"
    )
}
