//! Copies of the tables of an older CTS, before they are given another shape: in the transaction
//! that does it, in a schema of their own where the role may make one, else beside the tables.

use std::time::SystemTime;

use super::session::{SCHEMA, Session};
use super::{inspect, inspect::BEFORE};
use crate::error::{Error, Kind, Result};
use crate::store::sql::{literal, quoted};
use crate::system::version::VERSION;

/// Names are no longer than this. (PostgreSQL documentation, "Identifiers and Key Words")
const NAME: usize = 63;

/// Copies every table of our names that has rows, and proves the copies. Returns where they are;
/// `None` where there is no row.
pub fn back_up(session: &mut Session) -> Result<Option<String>> {
    let catalog = inspect::snapshot(session, false)?.snapshot.catalog;
    let tables: Vec<&str> = catalog.tables.iter().map(|table| &*table.name).collect();
    if tables.is_empty() {
        return Ok(None);
    }
    let all: Vec<String> = tables.iter().map(|table| quoted(table)).collect();
    // One after the other would let a program come in between.
    session.run(&format!(
        "LOCK TABLE {} IN ACCESS EXCLUSIVE MODE; SET LOCAL row_security = off",
        all.join(", ")
    ))?;
    let mut filled = Vec::new();
    for table in tables {
        if is(session, &format!("SELECT EXISTS (SELECT FROM {})", quoted(table)))? {
            filled.push(table);
        }
    }
    if filled.is_empty() {
        return Ok(None);
    }
    let sql = "SELECT has_database_privilege(current_database(), 'CREATE')";
    let has_schema = is(session, sql)?;
    let name = free_name(session)?;
    if has_schema {
        session.run(&format!("CREATE SCHEMA {}", quoted(&name)))?;
        let found = format!("pg_namespace WHERE nspname = {}", literal(&name));
        keep_to_owner(session, &format!("SCHEMA {}", quoted(&name)), "nsp", &found)?;
    }
    for table in &filled {
        let copy = match has_schema {
            true => format!("{}.{}", quoted(&name), quoted(table)),
            false => quoted(&cut(format!("{name}_{table}"))),
        };
        copy_table(session, table, &copy)?;
    }
    let count = filled.len();
    Ok(Some(match has_schema {
        true => format!("schema {name}, with copies of {count} tables"),
        false => format!("tables {name}_…, copies of {count} tables"),
    }))
}

fn copy_table(session: &mut Session, table: &str, copy: &str) -> Result<()> {
    let original = quoted(table);
    session.run(&format!("CREATE TABLE {copy} AS TABLE {original}"))?;
    let found = format!("pg_class WHERE oid = {}::regclass", literal(copy));
    keep_to_owner(session, &format!("TABLE {copy}"), "rel", &found)?;
    let sql = format!("SELECT (SELECT count(*) FROM {original}) = (SELECT count(*) FROM {copy})");
    match is(session, &sql)? {
        true => Ok(()),
        false => {
            Err(Error::new(Kind::Data, format!("table {table} cannot be copied: rows are missing")))
        }
    }
}

/// Takes from everybody else what default privileges have granted, and proves it: a copy holds
/// secrets that not everybody may read who may read new tables. `found` is its row of the
/// catalogue, whose columns begin with `prefix`.
fn keep_to_owner(session: &mut Session, object: &str, prefix: &str, found: &str) -> Result<()> {
    let granted = format!(
        "SELECT DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END \
         FROM (SELECT {prefix}owner AS owner, (aclexplode({prefix}acl)).grantee FROM {found}) AS granted \
         WHERE grantee <> owner"
    );
    session.run(&format!("REVOKE ALL ON {object} FROM PUBLIC"))?;
    for row in session.ask(&granted)?.into_iter().flatten() {
        session.run(&format!("REVOKE ALL ON {object} FROM {} CASCADE", row.text(0)))?;
    }
    match session.ask(&granted)?.into_iter().flatten().next() {
        None => Ok(()),
        Some(row) => {
            let what = format!("{object}: {} could read the copy", row.text(0));
            Err(Error::new(Kind::Data, what).remedy(
                "take back what default privileges grant (`ALTER DEFAULT PRIVILEGES … REVOKE …`)",
            ))
        }
    }
}

/// Up to a name's length. All of it is ASCII.
fn cut(mut name: String) -> String {
    name.truncate(NAME);
    name
}

/// `cts_before_3_1_0_20261123054300`, or the first after it that nothing begins with.
fn free_name(session: &mut Session) -> Result<String> {
    let version = VERSION.replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let time: String = time.chars().filter(char::is_ascii_digit).collect();
    let name = format!("{BEFORE}{version}_{time}");
    for number in 1..100 {
        let name = if number == 1 { name.clone() } else { format!("{name}_{number}") };
        let sql = format!(
            "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = {0}) OR EXISTS (SELECT FROM pg_class \
                 WHERE relnamespace = {SCHEMA} AND starts_with(relname, {0}))",
            literal(&name)
        );
        if !is(session, &sql)? {
            return Ok(name);
        }
    }
    Err(Error::new(Kind::Data, format!("there are too many copies named {name}"))
        .remedy("drop those that are no longer needed"))
}

fn is(session: &mut Session, sql: &str) -> Result<bool> {
    Ok(session.ask(sql)?.into_iter().flatten().next().is_some_and(|row| row.is(0)))
}
