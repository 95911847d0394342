//! The refusal of a PostgreSQL database by a build without the feature `postgres`.

use std::sync::Arc;

use crate::config::Flags;
use crate::config::database_url::DatabaseUrl;
use crate::config::environment::EnvironmentReader;
use crate::error::{Error, Kind, Result};
use crate::store::Database;
use crate::store::url_kind::after_scheme;

/// Refuses. A URL that is no PostgreSQL URL is refused as what it is.
///
/// # Errors
///
/// [`Kind::Config`], always.
pub fn database(flags: &Flags, env: &EnvironmentReader<'_>) -> Result<Arc<dyn Database>> {
    let is_postgresql = |named: String| named.to_ascii_lowercase().starts_with("postgres");
    let because = if env.text("DATABASE_TYPE")?.is_some_and(is_postgresql) {
        "DATABASE_TYPE is postgresql".to_string()
    } else {
        let url = DatabaseUrl::read(flags, env)?;
        after_scheme(&url.text).map_err(|e| e.at(&url.origin))?;
        format!("{}: a PostgreSQL URL is configured", url.origin)
    };
    let what =
        format!("{because}, but this cts was built without PostgreSQL (`--features postgres`)");
    Err(Error::new(Kind::Config, what).remedy(
        "use a build with PostgreSQL, or set DATABASE_TYPE=sqlite to use a SQLite database",
    ))
}

/// None: this build has no other store.
///
/// # Errors
///
/// None.
pub fn any_database(_: &EnvironmentReader<'_>) -> Result<Option<Arc<dyn Database>>> {
    Ok(None)
}
