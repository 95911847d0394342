//! What is in the database, and the disk under it: the ledger, and the difference from the
//! expected catalogue, decided as `cts verify` and the health answers decide it.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::health::{Reason, disk_reason};
use crate::migrate::Plan;
use crate::store::finding::{Finding, Group};
use crate::store::schema::Schema;
use crate::store::{Database, FileOwner, Origin, Snapshot, StorageStatus, WaitPolicy};
use cts_schema::catalog::{CRITICAL, Drift, Object};

/// How long who has locked the whole database is waited for.
const LOCKED_FOR: Duration = Duration::from_secs(2);
/// So many objects are named, the others counted.
const NAMED: usize = 5;

/// Looks at the database and at where it is.
pub fn examine(database: &dyn Database) -> (Vec<Finding>, Option<FileOwner>) {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = database.examine(&WaitPolicy::silent(LOCKED_FOR, &stop));
    let mut all = seen.findings;
    all.extend(disk(&seen.storage));
    all.extend(writable(&seen.storage));
    all.extend(
        seen.snapshot
            .map(|snapshot| contents(database.identity().schema, &snapshot))
            .unwrap_or_default(),
    );
    (all, seen.owner)
}

fn disk(place: &StorageStatus) -> Option<Finding> {
    let (free, total) = (place.free_bytes?, place.total_bytes?);
    let name = "free disk";
    let remedy = "free some space on it: df -h, du -xh --max-depth=2";
    Some(match disk_reason(place) {
        None => {
            let what = format!("{} MiB of {} MiB", free >> 20, total >> 20);
            Finding::good(Group::Files, name, what)
        }
        Some(Reason::Warning(what) | Reason::Notice(what)) => {
            Finding::attention(Group::Files, name, what).remedy(remedy)
        }
        Some(Reason::Critical(what)) => Finding::bad(Group::Files, name, what).remedy(remedy),
    })
}

fn writable(place: &StorageStatus) -> Option<Finding> {
    let why = place.read_only.as_ref()?;
    let seen = Finding::bad(Group::Database, "writable", why);
    Some(seen.remedy(match place.total_bytes {
        Some(_) => "mount its disk so that it can be written (findmnt), and look at its rights",
        None => "look which server is the primary, and name it in the URL",
    }))
}

fn contents(schema: &Schema, snapshot: &Snapshot) -> Vec<Finding> {
    let is_older = snapshot.origin() == Origin::OlderCts;
    if is_older {
        let what = "is of an older CTS; a start of cts copies it beside itself and adopts it";
        return vec![
            Finding::attention(Group::Database, "ledger", what)
                .remedy("cts migrate --dry-run shows what would be done, cts migrate does it"),
        ];
    }
    let drift = snapshot.drift(schema);
    let mut all = vec![ledger(schema, snapshot)];
    all.extend(missing(schema, &drift));
    all.extend(altered(&drift));
    if !snapshot.exceptions.is_empty() {
        let what = format!("{} rules do not hold for older rows", snapshot.exceptions.len());
        let seen = Finding::good(Group::Database, "relaxed", what);
        all.push(seen.remedy("cts verify lists them, cts repair tightens what no row breaks"));
    }
    all
}

fn ledger(schema: &Schema, snapshot: &Snapshot) -> Finding {
    let name = "ledger";
    let plan = match Plan::of(schema, snapshot) {
        Ok(plan) => plan,
        Err(error) => {
            let seen = Finding::bad(Group::Database, name, error.message());
            return Finding { remedy: error.remedy, ..seen };
        }
    };
    if plan.pending.is_empty() {
        let last = snapshot.ledger.iter().rfind(|row| row.is_ours());
        let when = last.and_then(|row| row.executed_at.as_deref()).unwrap_or("an unknown time");
        let applied = snapshot.ledger.iter().filter(|row| row.is_ours()).count();
        let what = format!("{applied} migrations, the last of {when} UTC");
        return Finding::good(Group::Database, name, what);
    }
    let what = format!("pending: {}", some(plan.pending.iter().map(|m| m.name)));
    Finding::attention(Group::Database, name, what).remedy("cts migrate")
}

fn missing(schema: &Schema, drift: &Drift) -> Vec<Finding> {
    let is_critical = |object: &&Object| match object {
        Object::Table(table) => CRITICAL.contains(&table.as_str()),
        _ => false,
    };
    let (critical, others): (Vec<&Object>, Vec<&Object>) =
        drift.missing.iter().partition(is_critical);
    let mut all = Vec::new();
    if !critical.is_empty() {
        let what = format!("critical, and missing: {}", some(critical.iter()));
        all.push(Finding::bad(Group::Database, "schema", what).remedy("cts repair"));
    }
    if !others.is_empty() {
        let what = format!("missing: {}", some(others.iter()));
        all.push(Finding::attention(Group::Database, "schema", what).remedy("cts repair"));
    }
    if drift.is_none() {
        let tables = &schema.expected.tables;
        let indexes: usize = tables.iter().map(|table| table.indexes.len()).sum();
        let what = format!("{} tables and {indexes} indexes as expected", tables.len());
        all.push(Finding::good(Group::Database, "schema", what));
    }
    all
}

fn altered(drift: &Drift) -> Option<Finding> {
    if drift.altered.is_empty() {
        return None;
    }
    let what = format!("differs: {}", some(drift.altered.iter()));
    Some(Finding::attention(Group::Database, "schema", what).remedy("cts verify tells all of it"))
}

/// The first few, and how many there are beside.
fn some(all: impl Iterator<Item = impl Display>) -> String {
    let all: Vec<String> = all.map(|one| one.to_string()).collect();
    let shown = all.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown}, and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::finding::Grade;
    use crate::store::schema::SQLITE;
    use cts_schema::migration::AppliedMigration;

    fn whole() -> Snapshot {
        let applied = |(id, m): (i64, &cts_schema::migration::Migration)| AppliedMigration {
            id,
            name: m.name.into(),
            checksum: Some(m.checksum.into()),
            executed_at: Some("2026-11-23 09:04:27.879".into()),
            execution_time_ms: Some(1),
            version: None,
        };
        Snapshot {
            ledger: (1..).zip(&SQLITE.migrations).map(applied).collect(),
            catalog: SQLITE.expected.clone(),
            exceptions: Vec::new(),
        }
    }

    fn judged(change: impl FnOnce(&mut Snapshot)) -> Vec<(Grade, String)> {
        let mut snapshot = whole();
        change(&mut snapshot);
        contents(&SQLITE, &snapshot).into_iter().map(|seen| (seen.grade, seen.what)).collect()
    }

    #[test]
    fn a_whole_database_is_good() {
        let all = judged(|_| {});
        assert!(all.iter().all(|(grade, _)| *grade == Grade::Good), "{all:?}");
        assert_eq!(all[0].1, "4 migrations, the last of 2026-11-23 09:04:27.879 UTC");
    }

    #[test]
    fn each_fault_of_the_contents_has_its_grade() {
        let grades =
            |all: Vec<(Grade, String)>| all.iter().map(|(grade, _)| *grade).collect::<Vec<_>>();
        use Grade::{Attention, Bad, Good};
        let without = |table: &'static str| {
            move |snapshot: &mut Snapshot| {
                snapshot.catalog.tables.to_mut().retain(|t| t.name != table)
            }
        };
        assert_eq!(grades(judged(without("users"))), [Good, Bad]);
        assert_eq!(grades(judged(without("indication_states"))), [Good, Attention]);
        assert_eq!(grades(judged(|snapshot| drop(snapshot.ledger.pop()))), [Attention, Good]);
        assert_eq!(
            grades(judged(|snapshot| snapshot.ledger[1].checksum = Some("f".repeat(64)))),
            [Bad, Good]
        );
        assert_eq!(grades(judged(|snapshot| snapshot.ledger.clear())), [Attention]);
    }

    #[test]
    fn a_disk_is_judged_as_health_judges_it() {
        let grade = |free, total| {
            let place = StorageStatus {
                free_bytes: Some(free),
                total_bytes: Some(total),
                ..StorageStatus::default()
            };
            disk(&place).unwrap().grade
        };
        assert_eq!(grade(8 << 20, 1 << 40), Grade::Bad);
        assert_eq!(grade(1 << 29, 1 << 40), Grade::Attention);
        assert_eq!(grade(1 << 35, 1 << 40), Grade::Good);
        assert!(disk(&StorageStatus::default()).is_none());
    }

    #[test]
    fn many_names_are_counted() {
        assert_eq!(some(1..=5), "1, 2, 3, 4, 5");
        assert_eq!(some(1..=7), "1, 2, 3, 4, 5, and 2 more");
    }
}
