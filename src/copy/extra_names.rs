//! Names of the owner's columns and tables that the target cannot have. All of them are found before anything is written.

use std::collections::BTreeMap;

use crate::error::{Error, Kind, Result};
use crate::store::{Backend, CopiedTable};

/// The longest name on PostgreSQL, in bytes; it cuts longer ones off. (PostgreSQL documentation, "Identifiers and Key Words")
const NAME_BYTES_MAX: usize = 63;
/// The columns that every table of PostgreSQL has. (PostgreSQL documentation, "System Columns")
const SYSTEM_COLUMNS: [&str; 6] = ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"];

/// Refuses names that the target cannot have.
///
/// # Errors
/// [`Kind::Data`], with all of them.
pub fn refuse_names(target: Backend, tables: &[CopiedTable]) -> Result<()> {
    let mut faults = Vec::new();
    let names = tables.iter().map(|table| (table.name.as_str(), table.is_extra));
    faults.extend(name_faults(target, "table", names));
    for table in tables {
        let columns = table.columns.iter();
        let names = columns.map(|column| (column.name.as_str(), column.is_extra));
        let found = name_faults(target, "column", names);
        faults.extend(found.into_iter().map(|fault| format!("table {}: {fault}", table.name)));
    }
    if faults.is_empty() {
        return Ok(());
    }
    let what = format!("{} cannot have these names: {}", target.label(), faults.join("; "));
    Err(Error::new(Kind::Data, what)
        .remedy("rename them in the source, or copy without --with-extra"))
}

/// The faults of the names of one namespace, each with whether it is one of the owner's.
fn name_faults<'n>(
    target: Backend,
    kind: &str,
    names: impl Iterator<Item = (&'n str, bool)>,
) -> Vec<String> {
    let mut faults = Vec::new();
    // SQLite does not tell upper from lower case of ASCII letters. (sqlite.org/lang_keywords.html)
    let mut folded: BTreeMap<String, &str> = BTreeMap::new();
    for (name, is_extra) in names {
        if target == Backend::Sqlite
            && let Some(other) = folded.insert(name.to_ascii_lowercase(), name)
        {
            faults.push(format!("{kind} {name} beside {other}"));
        }
        let fault = is_extra.then(|| name_fault(target, kind, name)).flatten();
        faults.extend(fault.map(|fault| format!("{kind} \"{name}\" {fault}")));
    }
    faults
}

fn name_fault(target: Backend, kind: &str, name: &str) -> Option<&'static str> {
    let is_reserved = |prefix: &str| name.to_ascii_lowercase().starts_with(prefix);
    match (target, kind) {
        (Backend::Sqlite, "table") if is_reserved("sqlite_") => Some("begins with sqlite_"),
        (Backend::Postgresql, _) if name.is_empty() => Some("is empty"),
        (Backend::Postgresql, _) if name.len() > NAME_BYTES_MAX => Some("has more than 63 bytes"),
        (Backend::Postgresql, "column") if SYSTEM_COLUMNS.contains(&name) => {
            Some("is the name of a system column")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_the_target_cannot_have_is_found() {
        let faults = |target, kind, names: &[&'static str]| {
            name_faults(target, kind, names.iter().map(|name| (*name, true)))
        };
        // 64 bytes, and 32 characters.
        let long = "é".repeat(32).leak();
        for (target, kind, names, found) in [
            (Backend::Sqlite, "table", ["Case", "case"], 1),
            (Backend::Sqlite, "table", ["a", "SQLITE_x"], 1),
            (Backend::Sqlite, "column", ["sqlite_x", "ctid"], 0),
            (Backend::Postgresql, "table", ["Case", "case"], 0),
            (Backend::Postgresql, "table", ["", "ctid"], 1),
            (Backend::Postgresql, "column", [&*long, "ctid"], 2),
        ] {
            assert_eq!(faults(target, kind, &names).len(), found, "{target:?} {kind} {names:?}");
        }
    }
}
