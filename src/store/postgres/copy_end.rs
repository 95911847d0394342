//! A server as one end of a copy.

use std::sync::Arc;

use super::copy_rows;
use super::copy_source::ServerSnapshot;
use super::copy_target::lock_tables;
use super::database::DatabaseServer;
use super::lock::{self, LockedSession};
use super::pool::SessionPool;
use super::session::Session;
use super::store::{INSPECTION_TIMEOUT, Postgres};
use super::transaction::PostgresTx;
use crate::error::{Error, Kind, Result, StateLeft};
use crate::store::{
    CopyDraft, CopyEnd, CopySource, CopyTarget, Incompatibility, OpenDatabase, Value, ValueType,
    WaitPolicy,
};

impl CopyEnd for DatabaseServer {
    fn open_copy_source(&self, wait: &WaitPolicy<'_>) -> Result<Box<dyn CopySource + '_>> {
        let store = self.connect(self.pool.connect, wait.cancelled)?;
        Ok(Box::new(ServerSnapshot::open(store, wait)?))
    }

    fn open_copy_target(&self, wait: &WaitPolicy<'_>) -> Result<Option<Box<dyn OpenDatabase>>> {
        Ok(Some(Box::new(self.copy_target(wait)?)))
    }

    fn begin_copy(&self, wait: &WaitPolicy<'_>) -> Result<Box<dyn CopyDraft + '_>> {
        let store = self.copy_target(wait)?;
        Ok(Box::new(ServerCopy { store }))
    }

    fn accepts(&self, value: &Value<'_>, value_type: ValueType) -> Result<(), Incompatibility> {
        copy_rows::accepts(value, value_type)
    }

    fn row_bytes_max(&self) -> u64 {
        copy_rows::ROW_BYTES_MAX
    }
}

impl DatabaseServer {
    fn copy_target(&self, wait: &WaitPolicy<'_>) -> Result<Postgres> {
        let target = Arc::new(self.target.for_writing_rows());
        let pool = SessionPool::new(target, Arc::clone(&self.cluster), self.pool)
            .map(|pool| pool.stopped_by(wait.cancelled));
        let connect = |pool: SessionPool| {
            let store = wait.retry_while_blocked(|| self.connect_to_write(pool.clone()))?;
            let proved = store.pool.run_within(INSPECTION_TIMEOUT, refuse_other_encoding);
            proved.map(|()| store).map_err(|error| error.at(self.target.location()))
        };
        pool.and_then(connect).map_err(|error| error.leaving(StateLeft::Unchanged))
    }
}

/// Refuses a database whose encoding has not every character of a text.
fn refuse_other_encoding(session: &mut Session) -> Result<()> {
    let row = session.row("SELECT current_setting('server_encoding')")?;
    match row.text(0)? {
        "UTF8" => Ok(()),
        other => {
            let what = format!(
                "the encoding of the database is {other}, which has not every character of a text"
            );
            Err(Error::new(Kind::Data, what).remedy(
                "copy into a database that is created with ENCODING 'UTF8' TEMPLATE template0",
            ))
        }
    }
}

/// A server that a copy is written to. All of it is one transaction, whose commit puts it in its place.
struct ServerCopy {
    store: Postgres,
}

impl CopyDraft for ServerCopy {
    fn begin<'d>(&'d mut self, wait: &WaitPolicy<'_>) -> Result<Box<dyn CopyTarget + 'd>> {
        let store = &self.store;
        let begun = wait.retry_while_blocked(|| begin(&store.pool, wait));
        begun
            .map(|tx| Box::new(tx) as Box<dyn CopyTarget>)
            .map_err(|error| store.at(error).leaving(StateLeft::Unchanged))
    }

    fn put_in_place(self: Box<Self>, _: &WaitPolicy<'_>) -> Result<()> {
        Ok(())
    }
}

/// Begins the transaction, with the migration lock and the locks on our tables.
fn begin(pool: &SessionPool, wait: &WaitPolicy<'_>) -> Result<PostgresTx> {
    let mut locked = LockedSession::take(pool, wait)?;
    let with_holder = |locked: &mut LockedSession, error: Error| {
        let session = locked.session();
        session.roll_back();
        lock::with_lock_holder(session, error)
    };
    let present = lock_tables(locked.session()).map_err(|error| with_holder(&mut locked, error))?;
    let mut tx = PostgresTx::begin(locked, pool, wait)?;
    tx.prepared().present_before = present;
    Ok(tx)
}
