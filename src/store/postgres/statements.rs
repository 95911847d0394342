//! Runs the statements of a migration, and counts those that changed something.

use super::session::Session;
use crate::error::Result;
use crate::store::StatementCounts;
use crate::store::sql::quoted;
use cts_schema::sql::{Created, Statement, with_schema};

/// The savepoint before statements that are run at once.
pub const SAVEPOINT: &str = "cts_all";

/// Runs statements in one round trip.
///
/// # Errors
/// If one of them fails, which the error does not name. The transaction is aborted then, and can go on from
/// [`SAVEPOINT`].
pub fn run_at_once(session: &mut Session, statements: &[Statement<'_>]) -> Result<StatementCounts> {
    let texts: Vec<String> =
        statements.iter().map(|statement| in_our_schema(session, statement)).collect();
    let sql = format!("SAVEPOINT {SAVEPOINT};\n{};\nRELEASE {SAVEPOINT}", texts.join(";\n"));
    let before = session.exists_notices();
    let counts = session.changed_rows(&sql)?;
    let found = session.exists_notices() - before;
    let rows = statements.iter().zip(counts.iter().skip(1));
    let refused = rows
        .filter(|(statement, rows)| **rows == 0 && matches!(statement.creates(), Created::Rows(_)));
    let skipped = found + refused.count();
    Ok(StatementCounts { applied: statements.len().saturating_sub(skipped), skipped })
}

/// Runs one statement. Returns whether it changed something.
///
/// # Errors
/// If it fails; the transaction is aborted then.
pub fn run_one(session: &mut Session, statement: &Statement<'_>) -> Result<bool> {
    let before = session.exists_notices();
    let sql = in_our_schema(session, statement);
    let counts = session.changed_rows(&sql)?;
    let is_refused = matches!(statement.creates(), Created::Rows(_)) && counts == [0];
    Ok(!is_refused && session.exists_notices() == before)
}

/// The statement, as SQL that names the schema.
fn in_our_schema(session: &Session, statement: &Statement<'_>) -> String {
    with_schema(statement.sql, &quoted(&session.server.schema))
}
