//! Retention on PostgreSQL.

use super::database::DatabaseServer;
use crate::error::{Error, Kind, Result};
use crate::store::WaitPolicy;
use crate::store::retention::{OpenRetention, RetentionStore};

impl OpenRetention for DatabaseServer {
    fn open_retention(&self, _: &WaitPolicy<'_>) -> Result<Box<dyn RetentionStore>> {
        Err(not_here())
    }

    fn read_retention(&self, _: &WaitPolicy<'_>) -> Result<Box<dyn RetentionStore>> {
        Err(not_here())
    }
}

fn not_here() -> Error {
    Error::new(Kind::Config, "rows of a PostgreSQL database are not deleted by this version")
}
