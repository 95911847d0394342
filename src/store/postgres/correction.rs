//! Puts altered tables right: `SET LOGGED`, and foreign keys that no row, or not every row, is
//! checked by. (PostgreSQL documentation, ALTER TABLE)

use super::damage::count_orphans;
use super::rebuild::add_foreign_key_sql;
use super::session::Session;
use crate::error::Result;
use crate::store::sql::{literal, quoted};
use cts_schema::catalog::{Correction, ForeignKey};

/// Makes a correction in the transaction that is open. Returns how many rows keep a foreign key from
/// being validated.
///
/// # Errors
/// If the server refuses a statement; the transaction is aborted then.
pub fn make(session: &mut Session, correction: &Correction) -> Result<u64> {
    match correction {
        Correction::MakeLogged(table) => {
            session.run(&format!("ALTER TABLE {} SET LOGGED", session.qualified(table)))?;
            Ok(0)
        }
        Correction::EnforceForeignKey(table, key) => enforce(session, table, key).map(|()| 0),
        Correction::ValidateForeignKey(table, key) => validate(session, table, key),
    }
}

/// Makes the foreign key again, because only a superuser can enable its triggers. Rows are not
/// checked yet, so that the locks are held only for a moment.
fn enforce(session: &mut Session, table: &str, key: &ForeignKey) -> Result<()> {
    for name in names(session, table, key)? {
        let add = add_foreign_key_sql(session, table, key, false);
        let (table, name) = (session.qualified(table), quoted(&name));
        session.run(&format!("ALTER TABLE {table} DROP CONSTRAINT {name}; {add}"))?;
    }
    Ok(())
}

/// Checks every row, unless some violate the key. Programs go on writing meanwhile.
fn validate(session: &mut Session, table: &str, key: &ForeignKey) -> Result<u64> {
    let orphans = count_orphans(session, table, key)?;
    if orphans == 0 {
        for name in names(session, table, key)? {
            let (table, name) = (session.qualified(table), quoted(&name));
            session.run(&format!("ALTER TABLE {table} VALIDATE CONSTRAINT {name}"))?;
        }
    }
    Ok(orphans)
}

/// The names of the constraints that are this foreign key.
fn names(session: &mut Session, table: &str, key: &ForeignKey) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT k.conname FROM pg_constraint k \
             JOIN pg_attribute a ON a.attrelid = k.conrelid AND k.conkey = ARRAY[a.attnum] \
         WHERE k.contype = 'f' AND k.conrelid = to_regclass({}) AND k.confrelid = to_regclass({}) AND a.attname = {}",
        session.qualified_literal(table),
        session.qualified_literal(&key.table),
        literal(&key.column)
    );
    session.rows(&sql)?.iter().map(|row| row.text(0).map(str::to_string)).collect()
}
