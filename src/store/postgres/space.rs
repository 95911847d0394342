//! Whether the disks of our tables have room. No function of the server says so to a role without special rights. But
//! a query whose rows exceed its memory writes them to a temporary file in the tablespace, which is no part of
//! the database, is not logged, and is removed at the end of the query. A read-only transaction and a standby may do
//! that too. (PostgreSQL documentation, "temp_tablespaces", "work_mem")

use super::catalog::is_our_table;
use super::error::is_disk_fault;
use super::session::Session;
use crate::error::{Error, Kind, Result};
use crate::store::sql::{literal, quoted};

/// About 300 KiB, with the least `work_mem` that there is.
const TEMPORARY_FILE: &str =
    "WITH content AS MATERIALIZED (SELECT generate_series(1, 10000)) SELECT count(*) FROM content";

/// What is known of the room on the disks of our tables.
#[derive(Default)]
pub struct DiskRoom {
    /// The fault of a disk that takes no more data.
    full: Option<Error>,
    /// What cannot be known, as sentences.
    unknown: Vec<String>,
}

impl DiskRoom {
    /// That of a server which could not be asked: a lost connection is no full disk.
    pub fn not_asked(error: Error) -> DiskRoom {
        let what =
            format!("whether the disks of the database have room is unknown: {}", error.what);
        DiskRoom { full: None, unknown: vec![what] }
    }

    /// What cannot be known, as sentences.
    ///
    /// # Errors
    /// The fault of a disk that takes no more data.
    pub fn unless_full(self) -> Result<Vec<String>> {
        self.full.map_or(Ok(self.unknown), Err)
    }

    fn add(&mut self, found: Result<()>, place: &str) {
        let Err(error) = found else { return };
        if is_disk_fault(&error) {
            let what = format!("the disk of {place} takes no more data: {}", error.what);
            self.full = Some(Error { what, kind: Kind::Io, ..error });
        } else {
            let what = format!("whether the disk of {place} has room is unknown: {}", error.what);
            self.unknown.push(what);
        }
    }
}

/// Writes a temporary file in each tablespace with a table or an index of ours.
///
/// # Errors
/// The connection is lost, or the server does not answer in time.
pub fn find_room(session: &mut Session) -> Result<DiskRoom> {
    let mut room = DiskRoom::default();
    // That of the database, which is where a table is unless it says otherwise.
    room.add(write_in(session, None)?, "the database");
    let tablespaces = match session.rows(&tablespaces_sql(&session.server.schema.clone())) {
        Err(error) if session.is_alive() => {
            let what = "whether the tablespaces of the tables have room is unknown";
            room.unknown.push(format!("{what}: {}", error.what));
            return Ok(room);
        }
        tablespaces => tablespaces?,
    };
    for row in tablespaces {
        let (name, may_create) = (row.text(0)?, row.flag(1)?);
        if may_create {
            room.add(write_in(session, Some(name))?, &format!("tablespace {name}"));
        } else {
            room.unknown.push(format!(
                "whether tablespace {name} has room is unknown, because this role may not create a temporary file in it (GRANT CREATE ON TABLESPACE {} would show it)",
                quoted(name)
            ));
        }
    }
    Ok(room)
}

/// Writes a temporary file. The inner result is that of a server that answers.
fn write_in(session: &mut Session, tablespace: Option<&str>) -> Result<Result<()>> {
    // SET takes a literal of a list as one name, and an empty one as the tablespace of the database.
    let sql = format!(
        "SET LOCAL work_mem = 64; SET LOCAL temp_tablespaces = {}; {TEMPORARY_FILE}",
        literal(tablespace.unwrap_or_default())
    );
    match session.rows(&sql) {
        Err(error) if !session.is_alive() => Err(error),
        written => Ok(written.map(drop)),
    }
}

/// The tablespaces, other than that of the database, of our tables, their partitions and the indexes of all of them.
fn tablespaces_sql(schema: &str) -> String {
    format!(
        "WITH RECURSIVE tables AS (SELECT c.oid, c.reltablespace FROM pg_class c WHERE {} \
             UNION SELECT c.oid, c.reltablespace FROM tables t JOIN pg_inherits h ON h.inhparent = t.oid \
                 JOIN pg_class c ON c.oid = h.inhrelid) \
         SELECT DISTINCT s.spcname, has_tablespace_privilege(s.oid, 'CREATE') \
         FROM tables t LEFT JOIN pg_index x ON x.indrelid = t.oid LEFT JOIN pg_class i ON i.oid = x.indexrelid \
             JOIN pg_tablespace s ON s.oid IN (t.reltablespace, i.reltablespace) \
         ORDER BY 1",
        is_our_table(schema)
    )
}
