//! Copies the tables of an older CTS before they are converted: in the same transaction, into a
//! schema of its own if the role may create one, else into tables of the same schema.

use super::catalog::schema_oid;
use super::inspect::{self, BACKUP_PREFIX};
use super::session::Session;
use crate::error::{Error, Kind, Result};
use crate::store::sql::{literal, quoted};
use crate::system::clock::UtcTime;
use crate::system::version::VERSION;

/// The longest name, in bytes. (PostgreSQL documentation, "Identifiers and Key Words")
const NAME_BYTES_MAX: usize = 63;

/// Copies every one of our tables that has rows, and compares the number of rows. Returns where the
/// copies are; `None` if there is no row.
///
/// # Errors
/// If a statement fails, or `Kind::Data` if a copy is incomplete or could be read by others; the
/// transaction has to be rolled back then, with the copies.
pub fn back_up(session: &mut Session) -> Result<Option<String>> {
    let tables = locked_tables_with_rows(session)?;
    if tables.is_empty() {
        return Ok(None);
    }
    let sql = "SELECT has_database_privilege(current_database(), 'CREATE')";
    let has_schema = session.flag(sql)?;
    let name = free_name(session)?;
    if has_schema {
        session.run(&format!("CREATE SCHEMA {}", quoted(&name)))?;
        let row = format!("pg_namespace WHERE nspname = {}", literal(&name));
        revoke_from_others(session, &format!("SCHEMA {}", quoted(&name)), "nsp", &row)?;
    }
    for table in &tables {
        let copy = match has_schema {
            true => format!("{}.{}", quoted(&name), quoted(table)),
            false => session.qualified(&shortened(format!("{name}_{table}"))),
        };
        copy_table(session, table, &copy)?;
    }
    let count = tables.len();
    Ok(Some(match has_schema {
        true => format!("schema {name}, with copies of {count} tables"),
        false => format!("tables {name}_…, copies of {count} tables"),
    }))
}

/// Locks our tables. Returns the names of those that have rows.
fn locked_tables_with_rows(session: &mut Session) -> Result<Vec<String>> {
    let catalog = inspect::inspect_in_transaction(session)?.snapshot.catalog;
    let quoted_names: Vec<String> =
        catalog.tables.iter().map(|t| session.qualified(&t.name)).collect();
    if quoted_names.is_empty() {
        return Ok(Vec::new());
    }
    // Locked one after the other, a program could write between two copies.
    session.run(&format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", quoted_names.join(", ")))?;
    let mut tables = Vec::new();
    for table in catalog.tables.iter() {
        if session
            .flag(&format!("SELECT EXISTS (SELECT FROM {})", session.qualified(&table.name)))?
        {
            tables.push(table.name.to_string());
        }
    }
    Ok(tables)
}

fn copy_table(session: &mut Session, table: &str, copy: &str) -> Result<()> {
    let original = session.qualified(table);
    session.run(&format!("CREATE TABLE {copy} AS TABLE {original}"))?;
    let row = format!("pg_class WHERE oid = {}::regclass", literal(copy));
    revoke_from_others(session, &format!("TABLE {copy}"), "rel", &row)?;
    let sql = format!("SELECT (SELECT count(*) FROM {original}) = (SELECT count(*) FROM {copy})");
    match session.flag(&sql)? {
        true => Ok(()),
        false => {
            let what = format!("table {table}: its copy {copy} has another number of rows");
            Err(Error::new(Kind::Data, what).remedy("look for rules, triggers and policies on it"))
        }
    }
}

/// Revokes what default privileges have granted to other roles, and checks it: a copy holds
/// secrets of exchanges, which not every role that may read new tables may read. `row` selects the
/// object in the catalogue, whose columns have the prefix `prefix`.
fn revoke_from_others(session: &mut Session, object: &str, prefix: &str, row: &str) -> Result<()> {
    let granted = format!(
        "SELECT DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END \
         FROM (SELECT {prefix}owner AS owner, (aclexplode({prefix}acl)).grantee FROM {row}) AS granted \
         WHERE grantee <> owner"
    );
    session.run(&format!("REVOKE ALL ON {object} FROM PUBLIC"))?;
    for role in session.rows(&granted)? {
        session.run(&format!("REVOKE ALL ON {object} FROM {} CASCADE", role.text(0)?))?;
    }
    match session.first_row(&granted)? {
        None => Ok(()),
        Some(role) => {
            let what = format!("{object}: role {} could read the copy", role.text(0)?);
            Err(Error::new(Kind::Data, what).remedy(
                "revoke what default privileges grant (`ALTER DEFAULT PRIVILEGES … REVOKE …`)",
            ))
        }
    }
}

/// A name of ASCII characters, cut to the longest length.
fn shortened(mut name: String) -> String {
    name.truncate(NAME_BYTES_MAX);
    name
}

/// `cts_before_3_1_0_20261123054300`, with a number behind it where an object has that name or
/// begins with it.
fn free_name(session: &mut Session) -> Result<String> {
    let version = VERSION.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let time = UtcTime::now().for_file_name();
    let time: String = time.chars().filter(char::is_ascii_digit).collect();
    let name = format!("{BACKUP_PREFIX}{version}_{time}");
    for number in 1..100 {
        let name = if number == 1 { name.clone() } else { format!("{name}_{number}") };
        let sql = format!(
            "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = {0}) OR EXISTS (SELECT FROM pg_class \
                 WHERE relnamespace = {1} AND starts_with(relname, {0}))",
            literal(&name),
            schema_oid(&session.server.schema)
        );
        if !session.flag(&sql)? {
            return Ok(name);
        }
    }
    Err(Error::new(Kind::Data, format!("there are too many copies named {name}"))
        .remedy("drop those that are no longer needed"))
}
