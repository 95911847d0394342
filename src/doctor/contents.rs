//! What is in the database, and the disk under it: the ledger, and the difference from the
//! expected catalogue, decided as `cts verify` and the health answers decide it.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::health::{Finding, disk_finding};
use crate::migrate::Plan;
use crate::store::finding::{Group, Observation};
use crate::store::schema::Schema;
use crate::store::{Database, Look, Owner, Patience, Place};
use cts_schema::catalog::{CRITICAL, Drift, Object};

/// How long who has locked the whole database is waited for.
const LOCKED_FOR: Duration = Duration::from_secs(2);
/// So many objects are named, the others counted.
const NAMED: usize = 5;

/// Looks at the database and at where it is.
pub fn examine(database: &dyn Database) -> (Vec<Observation>, Option<Owner>) {
    let stop = Arc::new(AtomicBool::new(false));
    let seen = database.examine(&Patience::silent(LOCKED_FOR, &stop));
    let mut all = seen.observations;
    all.extend(disk(&seen.place));
    all.extend(writable(&seen.place));
    all.extend(seen.look.map(|look| contents(database.schema(), &look)).unwrap_or_default());
    (all, seen.owner)
}

fn disk(place: &Place) -> Option<Observation> {
    let (free, total) = (place.free_bytes?, place.total_bytes?);
    let name = "free disk";
    let remedy = "free some space on it: df -h, du -xh --max-depth=2";
    Some(match disk_finding(place) {
        None => {
            let what = format!("{} MiB of {} MiB", free >> 20, total >> 20);
            Observation::good(Group::Files, name, what)
        }
        Some(Finding::Warning(what)) => {
            Observation::attention(Group::Files, name, what).remedy(remedy)
        }
        Some(Finding::Critical(what)) => Observation::bad(Group::Files, name, what).remedy(remedy),
    })
}

fn writable(place: &Place) -> Option<Observation> {
    let why = place.read_only.as_ref()?;
    let seen = Observation::bad(Group::Database, "writable", why);
    Some(seen.remedy(match place.total_bytes {
        Some(_) => "mount its disk so that it can be written (findmnt), and look at its rights",
        None => "look which server is the primary, and name it in the URL",
    }))
}

fn contents(schema: &Schema, look: &Look) -> Vec<Observation> {
    let is_older = !look.catalog.is_empty() && !look.ledger.iter().any(|row| row.is_ours());
    if is_older {
        let what = "is of an older CTS; a start of cts copies it beside itself and adopts it";
        return vec![
            Observation::attention(Group::Database, "ledger", what)
                .remedy("cts migrate --dry-run shows what would be done, cts migrate does it"),
        ];
    }
    let drift = look.drift(schema);
    let mut all = vec![ledger(schema, look)];
    all.extend(missing(schema, &drift));
    all.extend(altered(&drift));
    if !look.relaxations.is_empty() {
        let what = format!("{} rules do not hold for older rows", look.relaxations.len());
        let seen = Observation::good(Group::Database, "relaxed", what);
        all.push(seen.remedy("cts verify lists them, cts repair tightens what no row breaks"));
    }
    all
}

fn ledger(schema: &Schema, look: &Look) -> Observation {
    let name = "ledger";
    let plan = match Plan::of(schema, look) {
        Ok(plan) => plan,
        Err(error) => {
            let seen = Observation::bad(Group::Database, name, error.what);
            return Observation { remedy: error.remedy, ..seen };
        }
    };
    if plan.pending.is_empty() {
        let last = look.ledger.iter().rfind(|row| row.is_ours());
        let when = last.and_then(|row| row.executed_at.as_deref()).unwrap_or("an unknown time");
        let applied = look.ledger.iter().filter(|row| row.is_ours()).count();
        let what = format!("{applied} migrations, the last of {when} UTC");
        return Observation::good(Group::Database, name, what);
    }
    let what = format!("pending: {}", some(plan.pending.iter().map(|m| m.name)));
    Observation::attention(Group::Database, name, what).remedy("cts migrate")
}

fn missing(schema: &Schema, drift: &Drift) -> Vec<Observation> {
    let is_critical = |object: &&Object| match object {
        Object::Table(table) => CRITICAL.contains(&table.as_str()),
        _ => false,
    };
    let (critical, others): (Vec<&Object>, Vec<&Object>) =
        drift.missing.iter().partition(is_critical);
    let mut all = Vec::new();
    if !critical.is_empty() {
        let what = format!("critical, and missing: {}", some(critical.iter()));
        all.push(Observation::bad(Group::Database, "schema", what).remedy("cts repair"));
    }
    if !others.is_empty() {
        let what = format!("missing: {}", some(others.iter()));
        all.push(Observation::attention(Group::Database, "schema", what).remedy("cts repair"));
    }
    if drift.is_none() {
        let tables = &schema.expected.tables;
        let indexes: usize = tables.iter().map(|table| table.indexes.len()).sum();
        let what = format!("{} tables and {indexes} indexes as expected", tables.len());
        all.push(Observation::good(Group::Database, "schema", what));
    }
    all
}

fn altered(drift: &Drift) -> Option<Observation> {
    if drift.altered.is_empty() {
        return None;
    }
    let what = format!("differs: {}", some(drift.altered.iter()));
    Some(
        Observation::attention(Group::Database, "schema", what)
            .remedy("cts verify tells all of it"),
    )
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
    use cts_schema::migration::Applied;

    fn whole() -> Look {
        let applied = |(id, m): (i64, &cts_schema::migration::Migration)| Applied {
            id,
            name: m.name.into(),
            checksum: Some(m.checksum.into()),
            executed_at: Some("2026-11-23 09:04:27.879".into()),
            execution_time_ms: Some(1),
            version: None,
        };
        Look {
            ledger: (1..).zip(&SQLITE.migrations).map(applied).collect(),
            catalog: SQLITE.expected.clone(),
            relaxations: Vec::new(),
        }
    }

    fn judged(change: impl FnOnce(&mut Look)) -> Vec<(Grade, String)> {
        let mut look = whole();
        change(&mut look);
        contents(&SQLITE, &look).into_iter().map(|seen| (seen.grade, seen.what)).collect()
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
            move |look: &mut Look| look.catalog.tables.to_mut().retain(|t| t.name != table)
        };
        assert_eq!(grades(judged(without("users"))), [Good, Bad]);
        assert_eq!(grades(judged(without("indication_states"))), [Good, Attention]);
        assert_eq!(grades(judged(|look| drop(look.ledger.pop()))), [Attention, Good]);
        assert_eq!(
            grades(judged(|look| look.ledger[1].checksum = Some("f".repeat(64)))),
            [Bad, Good]
        );
        assert_eq!(grades(judged(|look| look.ledger.clear())), [Attention]);
    }

    #[test]
    fn a_disk_is_judged_as_health_judges_it() {
        let grade = |free, total| {
            let place =
                Place { free_bytes: Some(free), total_bytes: Some(total), ..Place::default() };
            disk(&place).unwrap().grade
        };
        assert_eq!(grade(8 << 20, 1 << 40), Grade::Bad);
        assert_eq!(grade(1 << 29, 1 << 40), Grade::Attention);
        assert_eq!(grade(1 << 35, 1 << 40), Grade::Good);
        assert!(disk(&Place::default()).is_none());
    }

    #[test]
    fn many_names_are_counted() {
        assert_eq!(some(1..=5), "1, 2, 3, 4, 5");
        assert_eq!(some(1..=7), "1, 2, 3, 4, 5, and 2 more");
    }
}
