//! The tables of a server as the target of a copy, in the transaction that holds the migration lock: emptied, without
//! indexes and keys while rows are written, and whole again afterwards. Until its end, programs that use them wait.

use std::collections::{BTreeMap, BTreeSet};

use super::catalog::is_our_table;
use super::copy_completion::Completion;
use super::copy_keys::{CopyForeignKey, CopyTrigger};
use super::copy_objects::{CopyIndex, IndexKind};
use super::copy_rows;
use super::copy_shape::{ShapedTable, added_columns, added_table};
use super::inspect;
use super::session::Session;
use super::transaction::PostgresTx;
use super::violations::default_exception;
use crate::error::{Error, Kind, Result};
use crate::store::schema::POSTGRES;
use crate::store::sql::{LEDGER_TABLE, literal, table_with_exceptions};
use crate::store::{CopiedTable, CopyTarget, Field, ReadRows, RowSink, WaitPolicy};
use cts_schema::catalog::Catalog;
use cts_schema::constraint_exception::{ConstraintException, Rule};

/// What was taken away from the tables of a copy, and what is known of them.
#[derive(Debug, Default)]
pub struct PreparedTables {
    /// The indexes, those of primary keys first.
    pub(super) indexes: Vec<CopyIndex>,
    /// The foreign keys of the tables, and those of others that refer to them.
    pub(super) foreign_keys: Vec<CopyForeignKey>,
    /// The triggers, which are turned off.
    pub(super) triggers: Vec<CopyTrigger>,
    /// The exceptions that the columns have.
    pub(super) exceptions: Vec<ConstraintException>,
    /// The tables that this transaction has emptied or created. Their rows are written as those of a transaction that has
    /// ended long ago, so that no reader and no VACUUM has to mark them. (PostgreSQL documentation, COPY, `FREEZE`)
    emptied: BTreeSet<String>,
    /// The tables that were there when this transaction began.
    pub(super) present_before: Vec<String>,
    /// The rows that were written, for each table.
    pub(super) rows: BTreeMap<String, u64>,
}

/// Locks our tables in the transaction that is open, so that no program writes a row between the look whether they are
/// empty and the copy. The ledger can be read by others still. Returns their names.
///
/// # Errors
/// If the server refuses a lock; the transaction is aborted then.
pub fn lock_tables(session: &mut Session) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT c.relname FROM pg_class c WHERE {} AND c.relname <> {} ORDER BY 1",
        is_our_table(&session.server.schema),
        literal(LEDGER_TABLE)
    );
    let rows = session.rows(&sql)?;
    let names: Vec<String> =
        rows.iter().map(|row| row.text(0).map(str::to_string)).collect::<Result<_>>()?;
    let qualified: Vec<String> = names.iter().map(|name| session.qualified(name)).collect();
    if !names.is_empty() {
        session.run(&format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", qualified.join(", ")))?;
    }
    Ok(names)
}

impl PreparedTables {
    /// Empties the tables, takes away what slows the writing of rows, and gives the columns their shape.
    ///
    /// # Errors
    /// If the server refuses a statement, or `Kind::Data` if the target has something in the way; the transaction has to be
    /// rolled back then.
    fn make(
        session: &mut Session,
        tables: &[CopiedTable],
        exceptions: &[ConstraintException],
        present_before: Vec<String>,
    ) -> Result<PreparedTables> {
        let mut prepared = PreparedTables {
            exceptions: with_defaults(tables, exceptions),
            present_before,
            ..PreparedTables::default()
        };
        let ours: Vec<&str> =
            tables.iter().filter(|table| !table.is_extra).map(|table| &*table.name).collect();
        // Without an exception, the few rows of the ledger are written with its indexes in place.
        let is_changed = |name: &&&str| {
            **name != LEDGER_TABLE
                || prepared.exceptions.iter().any(|kept| kept.table == LEDGER_TABLE)
        };
        let changed = literals(ours.iter().filter(is_changed));
        let emptied: Vec<&str> =
            ours.iter().copied().filter(|name| *name != LEDGER_TABLE).collect();
        prepared.take_keys(session, &changed, &literals(&ours))?;
        prepared.empty(session, &emptied)?;
        prepared.emptied.extend(emptied.into_iter().map(str::to_string));
        prepared.shape(session, tables)?;
        // After the columns have their types, which the definitions of indexes depend on.
        prepared.take_indexes(session, &changed, IndexKind::Other)?;
        // Another scan that has ended in the middle of a table would let the next one begin there.
        session.run("SET LOCAL synchronize_seqscans = off")?;
        Ok(prepared)
    }

    /// Empties tables. One that this transaction has created, and that has no page yet, is empty.
    fn empty(&self, session: &mut Session, tables: &[&str]) -> Result<()> {
        let sql = format!(
            "SELECT c.relname FROM pg_class c WHERE {} AND pg_relation_size(c.oid) > 0",
            is_our_table(&session.server.schema)
        );
        let mut to_empty = self.present_before.clone();
        for row in session.rows(&sql)? {
            to_empty.push(row.text(0)?.to_string());
        }
        // A table that inherits from one of ours is the owner's, and so are its rows.
        let names: Vec<String> = tables
            .iter()
            .filter(|name| to_empty.iter().any(|other| other == *name))
            .map(|name| format!("ONLY {}", session.qualified(name)))
            .collect();
        match names.is_empty() {
            true => Ok(()),
            false => session.run(&format!("TRUNCATE {}", names.join(", "))),
        }
    }

    /// Takes away foreign keys and primary keys, and turns triggers off.
    fn take_keys(&mut self, session: &mut Session, changed: &str, all: &str) -> Result<()> {
        if all.is_empty() {
            return Ok(());
        }
        self.triggers = CopyTrigger::find(session, all)?;
        run_all(session, self.triggers.iter().map(CopyTrigger::disable_sql))?;
        self.foreign_keys = CopyForeignKey::find(session, all)?;
        run_all(session, self.foreign_keys.iter().map(CopyForeignKey::drop_sql))?;
        self.take_indexes(session, changed, IndexKind::PrimaryKey)
    }

    fn take_indexes(&mut self, session: &mut Session, of: &str, kind: IndexKind) -> Result<()> {
        if of.is_empty() {
            return Ok(());
        }
        let indexes = CopyIndex::find(session, of, kind)?;
        let drops: Vec<String> = indexes.iter().map(|index| index.drop_sql(session)).collect();
        run_all(session, drops)?;
        self.indexes.extend(indexes.into_iter().map(CopyIndex::unique_as_expected));
        Ok(())
    }

    /// Gives the columns their shape, and creates those and the tables that the schema does not have.
    fn shape(&mut self, session: &mut Session, tables: &[CopiedTable]) -> Result<()> {
        let found = inspect::inspect_in_transaction(session)?.snapshot.catalog;
        for table in tables {
            let done = match table.is_extra {
                true => self.create_table(session, table),
                false => self.shape_table(session, table, &found),
            };
            done.map_err(|error| error.at(format!("table {}", table.name)))?;
        }
        Ok(())
    }

    fn shape_table(
        &mut self,
        session: &mut Session,
        table: &CopiedTable,
        catalog: &Catalog,
    ) -> Result<()> {
        let missing = || Error::new(Kind::Data, "it does not exist in the target");
        let found = catalog.table(&table.name).ok_or_else(missing)?;
        let expected = POSTGRES.expected.table(&table.name).ok_or_else(missing)?;
        if found.attributes.iter().any(|attribute| attribute.starts_with("PARTITION ")) {
            let what = "it is partitioned, and rows are copied into ordinary tables only";
            return Err(Error::new(Kind::Data, what).remedy(
                "create it anew as an ordinary table, or name an empty schema in the URL",
            ));
        }
        let name = session.qualified(&table.name);
        let of_table: Vec<ConstraintException> =
            self.exceptions.iter().filter(|kept| kept.table == table.name).cloned().collect();
        let target = &table_with_exceptions(expected, &of_table);
        let has_rows = table.name == LEDGER_TABLE;
        let shaped = ShapedTable { name: name.clone(), found, target, expected, has_rows };
        let mut statements = shaped.statements();
        statements.extend(added_columns(&name, found, table)?);
        run_all(session, statements)?;
        let has_key = |columns: &[cts_schema::catalog::Column]| {
            columns.iter().any(|column| column.primary_key_position > 0)
        };
        if has_key(&expected.columns) && !has_key(&found.columns) && !self.has_key_of(&table.name) {
            self.indexes.push(CopyIndex::of_primary_key(session, expected));
        }
        Ok(())
    }

    fn has_key_of(&self, table: &str) -> bool {
        self.indexes.iter().any(|index| index.table == table && index.is_primary_key())
    }

    fn create_table(&mut self, session: &mut Session, table: &CopiedTable) -> Result<()> {
        let name = session.qualified(&table.name);
        let sql = added_table(&name, table);
        session.run(&sql).map_err(|error| match error.kind {
            Kind::Data => error.remedy("rename or drop what has that name in the target"),
            _ => error,
        })?;
        self.emptied.insert(table.name.clone());
        let is_copied = |key: &&String| table.columns.iter().any(|column| column.name == **key);
        if !table.key.is_empty() && table.key.iter().all(|key| is_copied(&key)) {
            let key: Vec<&str> = table.key.iter().map(String::as_str).collect();
            self.indexes.push(CopyIndex::of_key(session, &table.name, &key));
        }
        Ok(())
    }
}

/// The exceptions of these tables, and those for defaults that a type does not allow.
fn with_defaults(
    tables: &[CopiedTable],
    exceptions: &[ConstraintException],
) -> Vec<ConstraintException> {
    let is_copied = |exception: &&ConstraintException| {
        tables.iter().any(|table| !table.is_extra && table.name == exception.table)
    };
    let mut all: Vec<ConstraintException> = exceptions.iter().filter(is_copied).cloned().collect();
    for exception in exceptions {
        let Some(expected) = POSTGRES.expected.table(&exception.table) else { continue };
        let Some(default) = default_exception(expected, exception) else { continue };
        let is_it =
            |kept: &ConstraintException| kept.table == default.table && kept.rule == default.rule;
        if !all.iter().any(is_it) {
            all.push(default);
        }
    }
    all
}

/// Runs statements in one message.
pub(super) fn run_all(
    session: &mut Session,
    statements: impl IntoIterator<Item = String>,
) -> Result<()> {
    let statements: Vec<String> = statements.into_iter().collect();
    match statements.is_empty() {
        true => Ok(()),
        false => session.run(&statements.join("; ")),
    }
}

/// Names as a list of literals.
fn literals<'n>(names: impl IntoIterator<Item = &'n &'n str>) -> String {
    names.into_iter().map(|name| literal(name)).collect::<Vec<_>>().join(", ")
}

impl ReadRows for PostgresTx {
    /// The rows of a table that this transaction has written come in the order in which they were.
    fn read_rows(
        &mut self,
        table: &CopiedTable,
        on_row: &mut dyn FnMut(&[Field<'_>]) -> Result<()>,
    ) -> Result<()> {
        // There is no index yet that gives their order, and sorting them would take their size in memory or on disk.
        let unsorted = CopiedTable { key: Vec::new(), ..table.clone() };
        copy_rows::read_rows(self.session(), &unsorted, on_row)
    }

    fn count_rows(&mut self, table: &str) -> Result<u64> {
        self.without_statement_timeout(|session| {
            let rows = copy_rows::own_rows(session, table)?;
            session.number(&format!("SELECT count(*) FROM {rows}"))
        })
    }
}

impl CopyTarget for PostgresTx {
    fn prepare_tables(
        &mut self,
        tables: &[CopiedTable],
        exceptions: &[ConstraintException],
    ) -> Result<()> {
        self.without_statement_timeout(lock_tables)?;
        // The migrations may have made some of the tables. A trigger that another role creates waits for the lock.
        self.find_foreign_code().map_err(|error| self.with_lock_holder(error))?;
        for table in tables {
            self.refuse_foreign_code(&table.name)?;
        }
        let present_before = std::mem::take(&mut self.prepared().present_before);
        let prepared = self.without_statement_timeout(|session| {
            PreparedTables::make(session, tables, exceptions, present_before)
        })?;
        *self.prepared() = prepared;
        Ok(())
    }

    fn write_rows(
        &mut self,
        table: &CopiedTable,
        feed: &mut dyn FnMut(&mut dyn RowSink) -> Result<()>,
    ) -> Result<u64> {
        let freeze = self.prepared().emptied.contains(&table.name);
        let rows = copy_rows::write_rows(self.session(), table, freeze, feed)?;
        self.prepared().rows.insert(table.name.clone(), rows);
        Ok(rows)
    }

    fn complete_tables(
        &mut self,
        tables: &[CopiedTable],
        _: &[ConstraintException],
        wait: &WaitPolicy<'_>,
    ) -> Result<Vec<ConstraintException>> {
        let prepared = std::mem::take(self.prepared());
        self.without_statement_timeout(|session| {
            Completion::new(session, &prepared, tables, wait).run()
        })
    }
}

/// Whether an exception is about the type or the default of a column, which is as it was given.
pub(super) fn is_of_type(rule: &Rule) -> bool {
    matches!(rule, Rule::Type(..) | Rule::Default(_) | Rule::IntegerKey(_))
}
