//! The transactions of a session, and the time limits of their statements.
//!
//! Settings come in the same message as the statements that they are for, which saves a round trip; where the
//! server would parse these before the settings are in force, they are sent before.

use std::time::Duration;

use super::Session;
use crate::error::Result;
use crate::store::postgres::row::{Row, results};
use crate::store::postgres::settings::{
    MESSAGE_ISOLATION, TimeLimits, TransactionMode, settings, statement_timeout,
};

impl Session {
    /// Begins a transaction with these time limits, and runs statements in it. Returns the rows of each.
    ///
    /// # Errors
    /// As [`Session::results`]. No transaction is open then.
    pub fn begin(
        &mut self,
        mode: TransactionMode,
        limits: TimeLimits,
        sql: &str,
    ) -> Result<Vec<Vec<Row>>> {
        let begin = format!("{}; {}", mode.begin_sql(), settings(self.server.version, limits));
        self.limits_after.get_or_insert(self.limits);
        self.limits = limits;
        let begun = match is_parsed_alike(sql) {
            true => {
                let set = statements_of(&begin);
                let message = format!("{begin}; {sql}");
                self.wait_as_limited();
                results(&mut self.client, self.password.as_ref(), &message, sql)
                    .map(|mut results| results.split_off(set.min(results.len())))
            }
            false => self.execute(&begin).and_then(|()| self.results(sql)),
        };
        begun.inspect_err(|_| self.roll_back())
    }

    /// Runs statements, and commits the transaction. Returns the rows of each.
    ///
    /// # Errors
    /// As [`Session::results`]. The transaction is rolled back then, unless the connection was lost while it
    /// was committed.
    pub fn commit_after(&mut self, sql: &str) -> Result<Vec<Vec<Row>>> {
        let done = self.results(&format!("{sql}; COMMIT"));
        match done {
            Ok(mut results) => {
                self.end_transaction();
                results.pop();
                Ok(results)
            }
            Err(error) => {
                self.roll_back();
                Err(error)
            }
        }
    }

    /// Commits the transaction.
    ///
    /// # Errors
    /// If the server refuses it, and then has rolled it back, or if the connection is lost meanwhile.
    pub fn commit(&mut self) -> Result<()> {
        let done = self.execute("COMMIT");
        self.end_transaction();
        done
    }

    /// Rolls back the transaction, if one is open. Where that fails, the connection is not used again, and
    /// the server rolls back when it ends.
    pub fn roll_back(&mut self) {
        if self.is_in_transaction() {
            self.is_broken = self.is_broken || self.execute("ROLLBACK").is_err();
            self.end_transaction();
        }
    }

    /// The time limits of the transaction that is open, or of the next ones.
    pub fn limits(&self) -> TimeLimits {
        self.limits
    }

    /// Whether a transaction is open. It may have been aborted by an error.
    pub fn is_in_transaction(&self) -> bool {
        self.limits_after.is_some()
    }

    /// Runs `work` without a limit on the time of its statements.
    ///
    /// # Errors
    /// That of `work`, or if the limit cannot be set; a transaction that is open is aborted then.
    pub fn without_statement_timeout<T>(
        &mut self,
        work: impl FnOnce(&mut Session) -> Result<T>,
    ) -> Result<T> {
        let limit = self.limits.statement;
        self.limit_statements(Duration::ZERO)?;
        let done = work(self);
        match done {
            Ok(value) => self.limit_statements(limit).map(|()| value),
            // In a transaction that is aborted, nothing can be set, and its end does it.
            Err(error) => {
                self.limits.statement = limit;
                Err(error)
            }
        }
    }

    /// Limits the time of the following statements of the transaction that is open, else that of all; zero is no
    /// limit.
    ///
    /// # Errors
    /// If the limit cannot be set; the transaction is aborted then.
    pub fn limit_statements(&mut self, limit: Duration) -> Result<()> {
        if self.is_in_transaction() && self.limits.statement != limit {
            self.execute(&statement_timeout(limit))?;
        }
        self.limits.statement = limit;
        Ok(())
    }

    /// Notes that the transaction has ended.
    fn end_transaction(&mut self) {
        if let Some(limits) = self.limits_after.take() {
            self.limits = limits;
        }
    }

    /// Runs `work`, which sends `sql`, in the transaction that is open. Where none is, it begins one if the
    /// settings that come in the same message would not yet be in force while the server parses it.
    pub(super) fn in_transaction<T>(
        &mut self,
        sql: &str,
        work: impl FnOnce(&mut Session) -> Result<T>,
    ) -> Result<T> {
        if self.is_in_transaction() || is_parsed_alike(sql) {
            return work(self);
        }
        self.begin(TransactionMode::ReadCommitted, self.limits, "")?;
        let done = work(self).and_then(|value| self.commit().map(|()| value));
        done.inspect_err(|_| self.roll_back())
    }

    /// The message that runs statements, with the settings before them where no transaction is open, and the
    /// number of statements of these.
    pub(super) fn message(&self, sql: &str) -> (String, usize) {
        if self.is_in_transaction() {
            return (sql.to_string(), 0);
        }
        let settings =
            format!("{MESSAGE_ISOLATION}; {}", settings(self.server.version, self.limits));
        let set = statements_of(&settings);
        (format!("{settings}; {sql}"), set)
    }
}

/// The number of statements of settings, none of which contains a semicolon.
fn statements_of(settings: &str) -> usize {
    settings.split(';').count()
}

/// Whether the server parses statements alike with `standard_conforming_strings` on and off. It parses a
/// message as a whole, before it runs the settings at its beginning. (PostgreSQL documentation, "String
/// Constants with C-Style Escapes")
fn is_parsed_alike(sql: &str) -> bool {
    !sql.contains('\\')
}
