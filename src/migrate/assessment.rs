//! What one snapshot shows: the migrations that the ledger does not hold, and the difference from
//! the expected catalogue. Pure.

use crate::error::{Error, Kind, Result};
use crate::store::Snapshot;
use crate::store::schema::Schema;
use crate::system::version::VERSION;
use cts_schema::catalog::Drift;
use cts_schema::migration::{LedgerRefusal, Migration, pending};

/// How a database compares with this binary.
#[derive(Debug)]
pub struct Assessment {
    /// Migrations that the ledger does not hold.
    pub pending: Vec<Migration>,
    /// The difference from the expected catalogue.
    pub drift: Drift,
}

impl Assessment {
    /// Compares ledger and catalogue.
    ///
    /// # Errors
    /// [`Kind::Data`] where the ledger holds a migration that was edited or that this binary does
    /// not know.
    pub fn of(schema: &Schema, snapshot: &Snapshot) -> Result<Assessment> {
        let pending = pending(&schema.migrations, &schema.fallback, &snapshot.ledger)
            .map_err(|refusal| refused(&refusal))?;
        Ok(Assessment { pending, drift: snapshot.drift(schema) })
    }

    /// Whether nothing is pending, nothing is missing, and new rows get ids.
    pub fn is_complete(&self) -> bool {
        self.pending.is_empty() && self.drift.missing.is_empty() && self.drift.counters.is_empty()
    }
}

fn refused(refusal: &LedgerRefusal) -> Error {
    let remedy = match refusal {
        LedgerRefusal::Edited { .. } => "start the cts that applied it, or put the file back as it was and build again; a change is a new migration".into(),
        LedgerRefusal::Unknown { applied_by, .. } => {
            let newer = applied_by.as_deref().unwrap_or("that applied it");
            format!("start cts {newer} or later, or restore a backup made before the upgrade (SQLite: with no -wal and -shm beside it)")
        }
    };
    Error::new(Kind::Data, format!("{refusal} (this is cts {VERSION})")).remedy(remedy)
}
