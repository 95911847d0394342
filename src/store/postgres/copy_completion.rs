//! Completes the tables that rows were copied into: NOT NULL, primary keys, indexes and foreign keys, as far as the rows
//! allow them, the record of the rest, and the sequences of the ids.

use super::copy_keys::{CopyForeignKey, CopyTrigger};
use super::copy_objects::CopyIndex;
use super::copy_shape::id_column;
use super::copy_target::{PreparedTables, is_of_type, run_all};
use super::foreign_code::ForeignCode;
use super::session::Session;
use super::{exceptions, inspect, sequences, violations};
use crate::error::{Error, Kind, Result};
use crate::store::schema::POSTGRES;
use crate::store::sql::{EXCEPTIONS_TABLE, LEDGER_TABLE, delete_exception, quoted};
use crate::store::{CopiedTable, Progress, WaitPolicy};
use cts_schema::catalog::{Object, Table};
use cts_schema::constraint_exception::{ConstraintException, Rule};

/// The least memory for the build of an index, in bytes: 1,000,000 positions with seven indexes took 12 s with it, and 14 s
/// with the 64 MiB of a server that is not tuned.
const BUILD_MEMORY_MIN: u64 = 256 << 20;

/// The completion of the tables of a copy.
pub struct Completion<'c> {
    session: &'c mut Session,
    prepared: &'c PreparedTables,
    tables: &'c [CopiedTable],
    wait: &'c WaitPolicy<'c>,
    /// The rules that rows violate.
    exceptions: Vec<ConstraintException>,
}

impl<'c> Completion<'c> {
    /// The completion of tables that were prepared in the transaction of this session.
    pub fn new(
        session: &'c mut Session,
        prepared: &'c PreparedTables,
        tables: &'c [CopiedTable],
        wait: &'c WaitPolicy<'c>,
    ) -> Completion<'c> {
        Completion { session, prepared, tables, wait, exceptions: Vec::new() }
    }

    /// Does all of it. Returns the exceptions that are in force.
    ///
    /// # Errors
    /// If the server refuses a statement, or the work is cancelled, or `Kind::Data` if rows violate what has no exception;
    /// the transaction has to be rolled back then.
    pub fn run(mut self) -> Result<Vec<ConstraintException>> {
        self.raise_build_memory()?;
        self.forbid_nulls()?;
        self.count_kept_types()?;
        let prepared = self.prepared;
        for index in &prepared.indexes {
            self.wait.check_cancelled()?;
            self.create_index(index)?;
        }
        for key in &prepared.foreign_keys {
            self.wait.check_cancelled()?;
            self.create_foreign_key(key)?;
        }
        run_all(self.session, prepared.triggers.iter().map(CopyTrigger::enable_sql))?;
        self.record()?;
        self.advance_sequences()?;
        self.analyze()?;
        Ok(self.exceptions)
    }

    fn raise_build_memory(&mut self) -> Result<()> {
        self.session.run(&format!(
            "SELECT set_config('maintenance_work_mem', '{} kB', true) \
             WHERE pg_size_bytes(current_setting('maintenance_work_mem')) < {BUILD_MEMORY_MIN}",
            BUILD_MEMORY_MIN >> 10
        ))
    }

    /// Forbids NULL again in the columns where an exception has allowed it, and no row has it.
    fn forbid_nulls(&mut self) -> Result<()> {
        for exception in &self.prepared.exceptions {
            let ConstraintException { table, rule: Rule::NotNull(column), .. } = exception else {
                continue;
            };
            if self.count(table, &exception.rule)? == 0 {
                let name = self.session.qualified(table);
                let column = quoted(column);
                self.session
                    .run(&format!("ALTER TABLE {name} ALTER COLUMN {column} SET NOT NULL"))?;
            }
        }
        Ok(())
    }

    /// Counts the rows for which a column has another type. It keeps that type even where none is left: the values would
    /// no longer be those that were compared with the source.
    fn count_kept_types(&mut self) -> Result<()> {
        for exception in self.prepared.exceptions.iter().filter(|kept| is_of_type(&kept.rule)) {
            let expected = expected(&exception.table)?;
            let rows = violations::count_violations(self.session, expected, &exception.rule)?;
            self.exceptions.push(ConstraintException { rows, ..exception.clone() });
        }
        Ok(())
    }

    /// Counts the rows that violate a rule, and adds the exception where there are some.
    fn count(&mut self, table: &str, rule: &Rule) -> Result<u64> {
        let rows = violations::count_violations(self.session, expected(table)?, rule)?;
        if rows > 0 {
            let (table, rule) = (table.to_string(), rule.clone());
            self.exceptions.push(ConstraintException { table, rule, rows });
        }
        Ok(rows)
    }

    fn create_index(&mut self, index: &CopyIndex) -> Result<()> {
        let object = &Object::Index(index.table.clone(), index.name.clone());
        let rows = self.prepared.rows.get(&index.table).copied().unwrap_or_default();
        (self.wait.on_progress)(Progress::of_rows(object, 0, rows));
        if !index.create(self.session)? {
            self.create_without_rule(index)?;
        }
        (self.wait.on_progress)(Progress::of_rows(object, rows, rows));
        Ok(())
    }

    /// Makes an index that rows do not allow to be unique without that, and leaves a primary key out.
    fn create_without_rule(&mut self, index: &CopyIndex) -> Result<()> {
        let expected = POSTGRES.expected.table(&index.table);
        if index.is_primary_key()
            && let Some(expected) = expected
        {
            refuse_shared_parent_key(expected)?;
            for column in expected.columns.iter().filter(|c| c.primary_key_position > 0) {
                self.count(&index.table, &Rule::PrimaryKey(column.name.to_string()))?;
            }
            return Ok(());
        }
        let rule = Rule::Unique(index.name.clone());
        if expected.is_none_or(|table| table.index(&index.name).is_none()) {
            return Err(shared_key(index));
        }
        index.create_not_unique(self.session)?;
        self.count(&index.table, &rule).map(drop)
    }

    fn create_foreign_key(&mut self, key: &CopyForeignKey) -> Result<()> {
        if key.create(self.session)? {
            return Ok(());
        }
        let expected = POSTGRES.expected.table(&key.table_name);
        let mut keys = expected.into_iter().flat_map(|table| table.foreign_keys.iter());
        if !keys.any(|expected| expected.table == key.parent) {
            return Err(key.violated());
        }
        match self.count(&key.table_name, &Rule::ForeignKey(key.parent.clone()))? {
            // It is another key of the same two tables that rows violate.
            0 => Err(key.violated()),
            _ => Ok(()),
        }
    }

    /// Records the exceptions, and removes the record of those that are over.
    fn record(&mut self) -> Result<()> {
        let recorded = inspect::inspect_in_transaction(self.session)?.snapshot.exceptions;
        let is_copied = |exception: &&ConstraintException| {
            self.tables
                .iter()
                .any(|table| table.name == exception.table && table.name != LEDGER_TABLE)
        };
        let is_over = |recorded: &&ConstraintException| {
            let mut kept = self.exceptions.iter();
            !kept.any(|kept| kept.table == recorded.table && kept.rule == recorded.rule)
        };
        let over: Vec<_> = recorded.iter().filter(is_copied).filter(is_over).collect();
        if over.is_empty() && self.exceptions.is_empty() {
            return Ok(());
        }
        ForeignCode::refuse_write(self.session, EXCEPTIONS_TABLE)?;
        let name = self.session.qualified(EXCEPTIONS_TABLE);
        run_all(
            self.session,
            over.into_iter().map(|exception| delete_exception(&name, exception)),
        )?;
        for exception in &self.exceptions {
            exceptions::record(self.session, exception)?;
        }
        Ok(())
    }

    /// New rows get ids past the highest, also in the tables of the owner.
    fn advance_sequences(&mut self) -> Result<()> {
        sequences::advance_where_left(self.session)?;
        for table in self.tables {
            if let Some(column) = id_column(table) {
                sequences::advance_where_left_of(self.session, &table.name, &column.name)?;
            }
        }
        Ok(())
    }

    /// Gathers statistics: without them the first queries would be planned as if the tables were empty. One table of
    /// 1,000,000 rows took 2 s.
    fn analyze(&mut self) -> Result<()> {
        let names: Vec<String> =
            self.tables.iter().map(|table| self.session.qualified(&table.name)).collect();
        self.wait.check_cancelled()?;
        match names.is_empty() {
            true => Ok(()),
            false => self.session.run(&format!("ANALYZE {}", names.join(", "))),
        }
    }
}

fn expected(table: &str) -> Result<&'static Table> {
    let unknown = || Error::new(Kind::Data, format!("table {table} is not one of the schema"));
    POSTGRES.expected.table(table).ok_or_else(unknown)
}

/// Rows may share a primary key, but then no foreign key can refer to it.
fn refuse_shared_parent_key(table: &Table) -> Result<()> {
    let mut keys = POSTGRES.expected.tables.iter().flat_map(|table| table.foreign_keys.iter());
    match keys.find(|key| key.table == table.name) {
        None => Ok(()),
        Some(key) => {
            let (name, column) = (&table.name, &key.references);
            let what = format!(
                "rows of table {name} have no unique {column}, and foreign keys of other tables refer to it"
            );
            Err(Error::new(Kind::Data, what)
                .remedy(format!("give each of these rows in the source its own {column}")))
        }
    }
}

/// The error of rows that share a key which the schema does not have.
fn shared_key(index: &CopyIndex) -> Error {
    let CopyIndex { name, table, .. } = index;
    let what = format!("rows of table {table} share a key, or have none, which {name} forbids");
    Error::new(Kind::Data, what)
        .remedy("correct these rows in the source, or drop that index or key")
}
