//! Recognises a database of CTS by its application id or, without one, by its tables, and refuses
//! those of other programs.

use std::path::Path;

use rusqlite::Connection;

use super::error::from_sqlite;
use super::file::APPLICATION_ID;
use crate::error::{Error, Kind, Result};
use crate::system::shell;
use cts_schema::catalog::is_cts_database;

/// What a database is recognised by.
struct Marks {
    application_id: u32,
    tables: Vec<String>,
    /// Whether the table `migrations` has the columns that every CTS gives it.
    has_ledger: bool,
}

impl Marks {
    /// Reads them in one transaction, because another process may just be creating them.
    fn read(conn: &Connection) -> rusqlite::Result<Marks> {
        let transaction = conn.unchecked_transaction()?;
        let application_id = application_id(&transaction)?;
        if application_id == APPLICATION_ID {
            return Ok(Marks { application_id, tables: Vec::new(), has_ledger: false });
        }
        let mut tables = transaction.prepare(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
        )?;
        let tables = tables.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        let columns: i64 = transaction.query_row(
            "SELECT count(*) FROM pragma_table_xinfo('migrations') WHERE name IN ('name', 'executed_at')",
            [],
            |row| row.get(0),
        )?;
        Ok(Marks { application_id, tables, has_ledger: columns == 2 })
    }

    fn refuse_foreign(&self, path: &Path) -> Result<()> {
        let tables: Vec<&str> = self.tables.iter().map(String::as_str).collect();
        match self.application_id {
            APPLICATION_ID => Ok(()),
            0 if tables.is_empty() || is_cts_database(&tables, self.has_ledger) => Ok(()),
            0 => {
                let some = tables.iter().take(3).copied().collect::<Vec<_>>().join(", ");
                Err(foreign(path, &format!("it holds {some}, and no table of CTS")))
            }
            id if is_cts_database(&tables, self.has_ledger) => {
                let why =
                    format!("its application id is 0x{id:08x}, though it holds tables of CTS");
                let sql = format!("'PRAGMA application_id = {APPLICATION_ID}'");
                Err(foreign(path, &why).remedy(format!(
                    "find the program that set this id; if the database is that of CTS, set it back: sqlite3 {} {sql}",
                    shell::word(path)
                )))
            }
            id => refuse_foreign_id(path, id),
        }
    }
}

fn application_id(conn: &Connection) -> rusqlite::Result<u32> {
    conn.query_row("PRAGMA application_id", [], |row| row.get(0)).map(i32::cast_unsigned)
}

/// Refuses a database that another program created.
///
/// # Errors
/// The database is another program's, or cannot be read. It was not changed.
pub fn refuse_foreign(conn: &Connection, path: &Path) -> Result<()> {
    if application_id(conn).map_err(|e| from_sqlite(path, &e))? == APPLICATION_ID {
        return Ok(());
    }
    Marks::read(conn).map_err(|e| from_sqlite(path, &e))?.refuse_foreign(path)
}

/// Refuses a database that is clearly another program's although its last transaction was
/// interrupted. Opening it for writing rolls that back; until then the file may hold anything, so that
/// what cannot be read is not refused here.
///
/// # Errors
/// The database is another program's. It was not changed.
pub fn refuse_foreign_interrupted(conn: &Connection, path: &Path) -> Result<()> {
    match Marks::read(conn) {
        Ok(marks) => marks.refuse_foreign(path),
        Err(_) => Ok(()),
    }
}

/// Refuses the application id of another program.
///
/// # Errors
/// Always.
pub fn refuse_foreign_id<T>(path: &Path, id: u32) -> Result<T> {
    let why = format!("its application id is 0x{id:08x}, that of CTS is 0x{APPLICATION_ID:08x}");
    Err(foreign(path, &why))
}

fn foreign(path: &Path, why: &str) -> Error {
    Error::new(Kind::Data, format!("is another program's database ({why})"))
        .at(path.display())
        .note("it was left as it is")
        .remedy("set SQLITE_DB_PATH (or --db) to another file")
}
