//! Records differences from the expected catalogue as meant so, for `cts accept`, and withdraws that.

use std::collections::BTreeMap;

use super::assessment::Assessment;
use crate::error::{Error, Kind, Result, StateLeft};
use crate::store::{Change, DatabaseIdentity, Origin, SiteLogEntry, Snapshot, Store, WaitPolicy};
use crate::system::version::VERSION;
use cts_schema::catalog::{AcceptedDifference, Drift, Object};

/// What came of it, one line for each object.
pub type AcceptanceLines = Vec<String>;

/// Accepts all differences of an object, or withdraws their acceptance. A table stands for its columns and
/// indexes too. Accepting what is accepted, and withdrawing what is not, changes nothing.
///
/// # Errors
/// [`Kind::Data`] where the object does not differ or cannot be accepted, or the database is not one of
/// this cts yet; nothing was changed.
pub fn accept(
    store: &mut dyn Store,
    wait: &WaitPolicy<'_>,
    object: &str,
    withdraw: bool,
) -> Result<AcceptanceLines> {
    let identity = store.identity();
    let done = wait.retry_while_blocked(|| {
        let mut tx = store.lock(wait)?;
        let snapshot = tx.inspect()?;
        let records = match withdraw {
            true => to_withdraw(&snapshot, object),
            false => to_accept(&identity, &snapshot, object)?,
        };
        let lines = write(&mut *tx, &snapshot, &records, withdraw)?;
        if !lines.is_empty() {
            tx.commit(wait)?;
        }
        Ok(lines)
    });
    done.map_err(|error| error.at(&identity.location).leaving(StateLeft::Unchanged))
}

/// Writes or removes the records that are not as they should be. Returns what was done.
fn write(
    tx: &mut dyn Change,
    snapshot: &Snapshot,
    records: &[AcceptedDifference],
    withdraw: bool,
) -> Result<AcceptanceLines> {
    let mut lines = Vec::new();
    for record in records {
        if withdraw {
            tx.withdraw_acceptance(record)?;
            lines.push(format!("no longer accepted: {}", record.object));
        } else if !snapshot.accepted.contains(record) {
            tx.record_acceptance(record)?;
            let differences = record.differences.join("; ");
            lines.push(format!("accepted: {}: {differences}", record.object));
        }
    }
    for line in &lines {
        let entry = SiteLogEntry { level: "warn", message: format!("cts {VERSION} {line}") };
        match tx.attempt(&mut |tx| tx.write_site_log(&entry)) {
            // The table may be the very one that differs.
            Err(error) if error.kind == Kind::Data => {}
            written => written?,
        }
    }
    Ok(lines)
}

/// The present differences of the object, with those that are accepted already.
fn to_accept(
    identity: &DatabaseIdentity,
    snapshot: &Snapshot,
    object: &str,
) -> Result<Vec<AcceptedDifference>> {
    if snapshot.origin() != Origin::Ours {
        let what = "the database is not one of this cts yet";
        return Err(Error::new(Kind::Data, what).remedy("cts migrate"));
    }
    Assessment::of(identity.schema, snapshot)?;
    let drift = snapshot.drift(identity.schema);
    let mut found: BTreeMap<Object, Vec<String>> = BTreeMap::new();
    for alteration in drift.acceptable().into_iter().chain(drift.accepted.iter().cloned()) {
        if names(object, &alteration.object) {
            let difference = alteration.difference();
            found.entry(alteration.object).or_default().push(difference);
        }
    }
    if found.is_empty() {
        return Err(no_difference(&drift, object));
    }
    let record = |(object, mut differences): (Object, Vec<String>)| {
        differences.sort();
        differences.dedup();
        AcceptedDifference { object, differences }
    };
    Ok(found.into_iter().map(record).collect())
}

fn no_difference(drift: &Drift, object: &str) -> Error {
    if let Some(missing) = drift.missing.iter().find(|missing| names(object, missing)) {
        let what = format!("{missing} is missing, which cannot be accepted: programs need it");
        return Error::new(Kind::Data, what).remedy("cts repair puts it back");
    }
    let differing = drift.acceptable();
    let mut names: Vec<String> = differing.iter().map(|found| found.object.to_string()).collect();
    names.dedup();
    let what = format!("{object}: there is no difference from the expected catalogue");
    Error::new(Kind::Data, what).remedy(match names.is_empty() {
        true => "cts verify lists what differs: nothing does".into(),
        false => format!("name one that differs: {}", names.join(", ")),
    })
}

/// The records of the object.
fn to_withdraw(snapshot: &Snapshot, object: &str) -> Vec<AcceptedDifference> {
    snapshot.accepted.iter().filter(|record| names(object, &record.object)).cloned().collect()
}

/// Whether these words name an object, or the table it belongs to: as it is shown (`column users.role`,
/// `index idx_users_email on users`), or by its name alone.
fn names(words: &str, object: &Object) -> bool {
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    let short = match object {
        Object::Table(name) | Object::Index(_, name) => name.clone(),
        Object::Column(table, column) => format!("{table}.{column}"),
    };
    let kind = match object {
        Object::Table(_) => "table",
        Object::Column(..) => "column",
        Object::Index(..) => "index",
    };
    let table = object.table();
    [object.to_string(), format!("{kind} {short}"), short, table.into(), format!("table {table}")]
        .iter()
        .any(|name| name.eq_ignore_ascii_case(&words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_named_as_it_is_shown_or_by_its_name() {
        let column = Object::Column("users".into(), "role".into());
        for words in
            ["users.role", "column users.role", "column  Users.ROLE", "users", "table users"]
        {
            assert!(names(words, &column), "{words}");
        }
        for words in ["role", "user", "index users.role", ""] {
            assert!(!names(words, &column), "{words}");
        }
        let index = Object::Index("users".into(), "by_name".into());
        for words in ["by_name", "index by_name", "index by_name on users", "users"] {
            assert!(names(words, &index), "{words}");
        }
    }
}
