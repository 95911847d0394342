//! The refusal of a PostgreSQL database by a build without the feature `postgres`.

use std::sync::Arc;

use crate::config::Flags;
use crate::config::environment::EnvironmentReader;
use crate::error::{Error, Kind, Result};
use crate::store::Database;

/// Refuses.
///
/// # Errors
///
/// [`Kind::Config`], always.
pub fn database(_: &Flags, env: &EnvironmentReader<'_>) -> Result<Arc<dyn Database>> {
    let because = if env.is_set("DATABASE_TYPE") {
        "DATABASE_TYPE is postgresql"
    } else {
        "a PostgreSQL URL is configured (DATABASE_URL, DATABASE_URL_FILE or --database-url-file)"
    };
    let what =
        format!("{because}, but this cts was built without PostgreSQL (`--features postgres`)");
    Err(Error::new(Kind::Config, what).remedy(
        "use a build with PostgreSQL, or set DATABASE_TYPE=sqlite to use a SQLite database",
    ))
}
