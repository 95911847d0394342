//! Proving that a file is a whole database of CTS, by itself: it is read without its WAL, without locks, and without
//! creating anything beside it.

use std::path::{Path, PathBuf};

use super::at_rest::connect_immutable;
use super::connect::interrupt_when;
use super::damage::{find_all_orphans, structural_damage};
use super::error::from_sqlite;
use super::file::{self, FileContent};
use super::file_error::unreadable;
use super::inspect::snapshot;
use super::recognition::refuse_foreign;
use super::{DatabaseFile, FileAccess, catalog};
use crate::error::{Cause, Error, Kind, Result};
use crate::store::sql::quoted;
use crate::store::{
    BackupContent, Database, Origin, ProofDepth, TableRows, TrialDatabase, WaitPolicy,
};

/// Proves that a file, which nobody has open, is a whole database of CTS, and counts its rows.
///
/// # Errors
/// [`Kind::Data`] where it is damaged, another program's, or without a table of CTS; or where it cannot be read.
pub fn prove(path: &Path, depth: ProofDepth, wait: &WaitPolicy<'_>) -> Result<BackupContent> {
    if matches!(file::inspect(path)?, FileContent::Missing | FileContent::Empty) {
        return Err(without_tables(path));
    }
    refuse_truncated(path)?;
    let failed = |e: &rusqlite::Error| from_sqlite(path, e);
    let mut conn = connect_immutable(path)?;
    interrupt_when(&mut conn, wait.cancelled).map_err(|e| failed(&e))?;
    refuse_foreign(&conn, path)?;
    let damage = structural_damage(&conn, depth).map_err(|e| failed(&e))?;
    if let Some(line) = damage.first() {
        return Err(Error::new(Kind::Data, format!("the database in it is damaged: {line}"))
            .at(path.display())
            .caused_by(Cause::Damage)
            .remedy("use another backup (`cts backups` lists them)"));
    }
    let snapshot = snapshot(&conn, &mut None).map_err(|e| e.at(path))?;
    if snapshot.origin() == Origin::Empty {
        return Err(without_tables(path));
    }
    let mut tables = Vec::new();
    for table in snapshot.catalog.tables.iter() {
        let sql = format!("SELECT count(*) FROM {}", quoted(&table.name));
        let rows = catalog::number(&conn, &sql).map_err(|e| failed(&e))?;
        tables.push(TableRows { table: table.name.to_string(), rows });
    }
    let orphans = find_all_orphans(&conn).map_err(|e| failed(&e))?;
    let own = snapshot.ledger.iter().filter(|row| row.is_ours());
    let migrations = own.map(|row| row.name.to_string()).collect();
    Ok(BackupContent { migrations, tables, orphans })
}

/// Refuses a file that is shorter than its header says. SQLite reads zeros where the last page is cut off.
fn refuse_truncated(path: &Path) -> Result<()> {
    let size = file::size_in_header(path).map_err(|e| unreadable(path, &e))?;
    let found_bytes = file::attributes(path)?.map_or(0, |found| found.len());
    match size {
        Some(bytes) if found_bytes < bytes => {
            let what = format!("it is cut off: it has {found_bytes} bytes of {bytes}");
            Err(Error::new(Kind::Data, what).at(path.display()).caused_by(Cause::Damage))
        }
        _ => Ok(()),
    }
}

fn without_tables(path: &Path) -> Error {
    Error::new(Kind::Data, "holds no table of CTS").at(path.display())
}

/// A backup's file, opened for a trial as the database that it is.
pub struct TrialFile {
    database: DatabaseFile,
}

impl TrialFile {
    /// The trial of this file, on whatever file system it is: no other program opens it.
    pub fn at(file: &Path) -> TrialFile {
        let access = FileAccess { group: false, allow_network: true };
        TrialFile { database: DatabaseFile { path: PathBuf::from(file), access } }
    }
}

impl TrialDatabase for TrialFile {
    fn database(&self) -> &dyn Database {
        &self.database
    }

    fn prove(&self, wait: &WaitPolicy<'_>) -> Result<BackupContent> {
        prove(&self.database.path, ProofDepth::Everything, wait)
    }
}
