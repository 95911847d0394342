//! Runs the bundled statements: those of a migration, and single ones once more.

use std::time::Instant;

use super::event::{Event, MigrationRun};
use super::execute::Execution;
use crate::error::Result;
use crate::store::Change;
use cts_schema::catalog::Object;
use cts_schema::constraint_exception::Rule;
use cts_schema::migration::Migration;
use cts_schema::sql::{Created, Statement};

impl Execution<'_> {
    /// Applies a migration and records it; the fallback is recorded before the next one, when the
    /// ledger has its shape.
    pub(super) fn apply(&mut self, tx: &mut dyn Change, migration: &Migration) -> Result<()> {
        if let Some((fallback, took)) = self.unrecorded.take() {
            tx.record(&fallback, took)?;
        }
        let run = self.run_statements(tx, migration)?;
        if migration.name == self.identity.schema.fallback.name {
            self.unrecorded = Some((*migration, run.took));
        } else {
            tx.record(migration, run.took)?;
        }
        self.events.push(Event::Applied(run));
        Ok(())
    }

    fn run_statements(&self, tx: &mut dyn Change, migration: &Migration) -> Result<MigrationRun> {
        let start = Instant::now();
        let mut statements = migration.statements();
        // Most runs leave nothing out, and need not know what each statement creates.
        if !self.online.is_empty() {
            statements.retain(|statement| !self.is_built_online(&statement.creates()));
        }
        let all = statements.len();
        if !self.exceptions.is_empty() {
            statements.retain(|statement| !self.would_repeat_rows(statement));
        }
        let left_out = all - statements.len();
        let counts = tx.execute(&statements, self.wait).map_err(|failed| {
            match failed.position.and_then(|at| statements.get(at)) {
                Some(statement) => failed.error.at(location(migration, statement)),
                None => *failed.error,
            }
        })?;
        let (applied, skipped) = (counts.applied, counts.skipped + left_out);
        Ok(MigrationRun { name: migration.name, applied, skipped, took: start.elapsed() })
    }

    fn is_built_online(&self, created: &Created) -> bool {
        let Created::Index(name) = created else { return false };
        self.online.iter().any(|object| matches!(object, Object::Index(_, index) if index == name))
    }

    /// Default rows are told apart by a unique index; without it they would be added again.
    fn would_repeat_rows(&self, statement: &Statement<'_>) -> bool {
        let Created::Rows(table) = statement.creates() else { return false };
        self.has_shared_keys(&table)
    }

    pub(super) fn has_shared_keys(&self, table: &str) -> bool {
        let mut exceptions = self.exceptions.iter();
        exceptions.any(|e| e.table == table && matches!(e.rule, Rule::Unique(_)))
    }

    /// Runs the bundled statements that create something once more.
    pub(super) fn run_again(&self, tx: &mut dyn Change, created: &Created) -> Result<()> {
        for migration in &self.identity.schema.migrations {
            for statement in migration.statements() {
                if statement.creates() == *created {
                    tx.execute(&[statement], self.wait)
                        .map_err(|failed| failed.error.at(location(migration, &statement)))?;
                }
            }
        }
        Ok(())
    }
}

/// File, line and statement, for an error.
fn location(migration: &Migration, statement: &Statement<'_>) -> String {
    let sql = cts_schema::sql::fold(statement.sql);
    let mut short: String = sql.chars().take(100).collect();
    if short.len() < sql.len() {
        short.push('…');
    }
    format!("{}, line {}: {short}", migration.name, statement.line)
}
