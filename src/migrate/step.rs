//! One step of a plan: what is done to which object, why, how many rows it concerns, and what is
//! known of its outcome beforehand. Values only.

use std::fmt;

use crate::error::Error;
use crate::store::{Backend, Origin};
use crate::system::count::counts;
use cts_schema::catalog::{Correction, CounterFault, Object};
use cts_schema::constraint_exception::ConstraintException;
use cts_schema::migration::Migration;

/// How a table is rebuilt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRebuild {
    /// The table.
    pub table: String,
    /// Expected columns that it does not have.
    pub columns_added: usize,
    /// Columns and constraints that differ.
    pub columns_changed: usize,
    /// Indexes that are created with it.
    pub indexes_created: usize,
    /// The missing columns that it gets, where the table is rebuilt only for them.
    pub restored: Vec<Object>,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Copies the database before tables are rebuilt.
    BackUp,
    /// Rebuilds a damaged index.
    Reindex(String),
    /// Applies a migration and records it in the ledger.
    ApplyMigration(Migration),
    /// Creates a missing table, with its default rows.
    CreateTable(String),
    /// Adds a missing column: table, column.
    AddColumn(String, String),
    /// Gives a table the expected shape; every row is kept.
    RebuildTable(TableRebuild),
    /// Creates an index in the transaction: table, index.
    CreateIndex(String, String),
    /// Builds an index after the transaction, while programs write: table, index.
    BuildIndexOnline(String, String),
    /// Records a rule that rows violate. Part of the rebuild or the index before it.
    RecordException(ConstraintException),
    /// Leaves out a constraint that the expected table does not have: table, constraint. Part of
    /// the rebuild before it.
    DropConstraint(String, String),
    /// Puts an altered table right after the transaction; every row is kept.
    Correct(Correction),
    /// Enforces a rule that no row violates any longer.
    EnforceConstraint(ConstraintException),
    /// Makes a counter of ids go on past those of the rows.
    AdvanceCounter(CounterFault),
    /// Gives new rows ids of their own, and checks every foreign key.
    FinishAdoption,
}

impl Action {
    /// Its name in JSON.
    pub fn name(&self) -> &'static str {
        match self {
            Action::BackUp => "back up",
            Action::Reindex(_) => "reindex",
            Action::ApplyMigration(_) => "apply migration",
            Action::CreateTable(_) => "create table",
            Action::AddColumn(..) => "add column",
            Action::RebuildTable(_) => "rebuild table",
            Action::CreateIndex(..) => "create index",
            Action::BuildIndexOnline(..) => "build index online",
            Action::RecordException(_) => "record exception",
            Action::DropConstraint(..) => "drop constraint",
            Action::Correct(_) => "correct table",
            Action::EnforceConstraint(_) => "enforce constraint",
            Action::AdvanceCounter(_) => "advance counter",
            Action::FinishAdoption => "finish adoption",
        }
    }

    /// What it is about, in words.
    pub fn object(&self) -> String {
        match self {
            Action::BackUp | Action::FinishAdoption => "database".into(),
            Action::Reindex(index) => format!("index {index}"),
            Action::ApplyMigration(migration) => migration.name.into(),
            Action::CreateTable(table) => format!("table {table}"),
            Action::RebuildTable(rebuild) => format!("table {}", rebuild.table),
            Action::AddColumn(table, column) => format!("column {table}.{column}"),
            Action::CreateIndex(table, index) | Action::BuildIndexOnline(table, index) => {
                format!("index {index} on {table}")
            }
            Action::RecordException(exception) => exception.to_string(),
            Action::Correct(correction) => format!("table {}", correction.table()),
            Action::DropConstraint(_, constraint) => constraint.clone(),
            Action::EnforceConstraint(exception) => exception.rule_text(),
            Action::AdvanceCounter(fault) => fault.to_string(),
        }
    }

    /// Whether programs cannot write while it runs. On SQLite that is so during the whole
    /// transaction; on PostgreSQL while a table is locked.
    fn blocks_writers(&self, backend: Backend) -> bool {
        match self {
            Action::BuildIndexOnline(..) | Action::Correct(Correction::ValidateForeignKey(..)) => {
                false
            }
            Action::RecordException(_)
            | Action::CreateTable(_)
            | Action::DropConstraint(..)
            | Action::FinishAdoption => backend == Backend::Sqlite,
            _ => true,
        }
    }
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it does.
    pub action: Action,
    /// Why.
    pub reason: String,
    /// The rows that it concerns; `None` where that is not known.
    pub rows: Option<u64>,
    /// Whether programs cannot write while it runs.
    pub blocks_writers: bool,
    /// What of its outcome shows only when the data is in hand.
    pub depends_on_data: Option<&'static str>,
    /// Why it cannot be done.
    pub blocked: Option<Error>,
}

impl Step {
    /// A step whose outcome is known, and which nothing is in the way of.
    pub fn new(backend: Backend, action: Action, reason: impl Into<String>) -> Step {
        let blocks_writers = action.blocks_writers(backend);
        let reason = reason.into();
        Step { action, reason, rows: None, blocks_writers, depends_on_data: None, blocked: None }
    }

    /// Sets the rows that it concerns.
    pub fn rows(mut self, rows: Option<u64>) -> Step {
        self.rows = rows;
        self
    }

    /// Sets what shows only when the data is in hand.
    pub fn depends_on_data(mut self, what: Option<&'static str>) -> Step {
        self.depends_on_data = what;
        self
    }

    /// Sets why it cannot be done.
    pub fn blocked(mut self, error: Option<Error>) -> Step {
        self.blocked = error;
        self
    }
}

/// A step as a dry run shows it, for a database of this origin: in one of an older CTS, what is
/// missing is created; in one of this cts it is put back.
pub struct StepLine<'s>(pub &'s Step, pub Origin);

impl fmt::Display for StepLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write_line(f, if self.1 == Origin::OlderCts { "create" } else { "put back" })
    }
}

impl Step {
    fn write_line(&self, f: &mut fmt::Formatter<'_>, create: &str) -> fmt::Result {
        let object = self.action.object();
        if let Some(error) = &self.blocked {
            return write!(f, "cannot {create} {object}: {error}");
        }
        match &self.action {
            Action::BackUp => f.write_str("would be copied beside itself first")?,
            Action::Reindex(_) => write!(f, "would rebuild {object}, which is damaged")?,
            Action::ApplyMigration(migration) => {
                write!(f, "would apply {object} ({} statements)", migration.statements().len())?;
            }
            Action::CreateTable(_) | Action::AddColumn(..) | Action::CreateIndex(..) => {
                write!(f, "would {create} {object}")?;
            }
            Action::BuildIndexOnline(..) => {
                write!(f, "would {create} {object}, while programs write")?;
            }
            Action::RebuildTable(rebuild) => {
                let rows = self.rows.map_or("all rows".into(), |rows| format!("{rows} rows, all"));
                let TableRebuild { columns_added, columns_changed, indexes_created, .. } = rebuild;
                let changes = counts(&[
                    (*columns_added, "column added", "columns added"),
                    (
                        *columns_changed,
                        "column or constraint changed",
                        "columns or constraints changed",
                    ),
                    (*indexes_created, "index created", "indexes created"),
                ]);
                let changes = if changes.is_empty() { changes } else { format!(": {changes}") };
                write!(f, "would rebuild {object} ({rows} kept){changes}")?;
            }
            Action::RecordException(_) => {
                write!(f, "  would record constraint exception: {object}")?
            }
            Action::DropConstraint(..) => write!(f, "  would drop constraint: {object}")?,
            Action::Correct(correction) => write!(f, "would {correction}")?,
            Action::EnforceConstraint(_) => write!(f, "would enforce: {object}")?,
            Action::AdvanceCounter(_) => write!(f, "would advance the {object}")?,
            Action::FinishAdoption => {
                f.write_str("would advance the id sequences and check every foreign key")?;
            }
        }
        match self.depends_on_data {
            Some(what) => write!(f, " ({what})"),
            None => Ok(()),
        }
    }
}
