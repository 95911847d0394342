//! A database on a server is not rebuilt here: its server uses the room of deleted rows again by itself.

use super::database::DatabaseServer;
use crate::error::{Error, Kind, Result, StateLeft};
use crate::store::{
    Compact, CompactionPlace, Database, RebuiltDatabase, RestoreOrigin, WaitPolicy,
};

impl Compact for DatabaseServer {
    fn compaction_place(&self, _: &WaitPolicy<'_>) -> Result<CompactionPlace> {
        Err(self.left_to_the_server())
    }

    fn compact(&self, _: &RestoreOrigin, _: &WaitPolicy<'_>) -> Result<RebuiltDatabase> {
        Err(self.left_to_the_server())
    }
}

impl DatabaseServer {
    fn left_to_the_server(&self) -> Error {
        let what = "is on a PostgreSQL server, whose autovacuum lets new rows use the room of deleted ones; a table is not rewritten here, which would lock it";
        Error::new(Kind::Usage, what)
            .at(self.identity().location)
            .leaving(StateLeft::Unchanged)
            .remedy("where the files must become smaller now, run pg_repack while programs go on, or VACUUM FULL while they are stopped, on the tables that cts prune has emptied")
    }
}
