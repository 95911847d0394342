//! Whether the disks of our tables have room. No function of the server says so to a role without special rights. But
//! a query whose rows exceed its memory writes them to a temporary file in the tablespace, which is no part of
//! the database, is not logged, and is removed at the end of the query. A read-only transaction and a standby may do
//! that too. (PostgreSQL documentation, "temp_tablespaces", "work_mem")

use super::catalog::is_our_table;
use super::session::Session;
use crate::error::{Error, Kind, Result};
use crate::store::sql::{literal, quoted};

/// About 300 KiB, with the least `work_mem` that there is.
const TEMPORARY_FILE: &str =
    "WITH content AS MATERIALIZED (SELECT generate_series(1, 10000)) SELECT count(*) FROM content";

/// Writes a temporary file in each tablespace with a table or an index of ours. Returns what cannot be known, as
/// sentences.
///
/// # Errors
/// That of the server where a file cannot be written: the disk is full. A lost connection, a lock and a timeout are none.
pub fn find_full(session: &mut Session) -> Result<Vec<String>> {
    let mut unknown = Vec::new();
    // That of the database, which is where a table is unless it says otherwise.
    unknown.extend(write_in(session, None)?);
    for row in session.rows(&tablespaces_sql(&session.server.schema.clone()))? {
        let (name, may_create) = (row.text(0)?, row.flag(1)?);
        let found = match may_create {
            true => write_in(session, Some(name))?,
            false => Some(format!(
                "whether tablespace {name} has room is unknown, because this role may not create a temporary file in it (GRANT CREATE ON TABLESPACE {} would show it)",
                quoted(name)
            )),
        };
        unknown.extend(found);
    }
    Ok(unknown)
}

fn write_in(session: &mut Session, tablespace: Option<&str>) -> Result<Option<String>> {
    let place = tablespace.map_or("the database".to_string(), |name| format!("tablespace {name}"));
    // SET takes a literal of a list as one name, and an empty one as the tablespace of the database.
    let sql = format!(
        "SET LOCAL work_mem = 64; SET LOCAL temp_tablespaces = {}; {TEMPORARY_FILE}",
        literal(tablespace.unwrap_or_default())
    );
    match session.rows(&sql) {
        Ok(_) => Ok(None),
        // A file system that was mounted read-only is a refused permission to the server.
        Err(error) if matches!(error.kind, Kind::Io | Kind::Permission) => {
            let what = format!("the disk of {place} takes no more data: {}", error.what);
            Err(Error { what, kind: Kind::Io, ..error })
        }
        Err(error) => {
            Ok(Some(format!("whether the disk of {place} has room is unknown: {}", error.what)))
        }
    }
}

/// The tablespaces, other than that of the database, of our tables and of their indexes.
fn tablespaces_sql(schema: &str) -> String {
    format!(
        "SELECT DISTINCT s.spcname, has_tablespace_privilege(s.oid, 'CREATE') \
         FROM pg_class c LEFT JOIN pg_index x ON x.indrelid = c.oid LEFT JOIN pg_class i ON i.oid = x.indexrelid \
             JOIN pg_tablespace s ON s.oid IN (c.reltablespace, i.reltablespace) \
         WHERE {} ORDER BY 1",
        is_our_table(schema)
    )
}
