//! The content of the database and the disk it is on: the ledger, and the difference from the expected
//! catalogue, judged as `cts verify` and the health answers judge it.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::backup::BackedUpDatabase;
use crate::health::{Reason, Severity, disk_reason, inode_reason, unanswered_reason};
use crate::migrate::assessment::Assessment;
use crate::migrate::outlook::{MissingObject, Outlook, missing_objects};
use crate::store::finding::{Finding, Group};
use crate::store::schema::Schema;
use crate::store::{Database, FileOwner, KeptWal, Origin, Snapshot, StorageStatus, WaitPolicy};
use crate::system::size::Bytes;
use cts_schema::catalog::{CRITICAL, Drift, Object};

/// How long a lock on the whole database is waited for.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// How many objects are named; the others are counted.
const OBJECTS_NAMED: usize = 5;

/// What the examination of the database found.
pub struct DatabaseExamination {
    /// The findings.
    pub findings: Vec<Finding>,
    /// The user who owns the database file.
    pub owner: Option<FileOwner>,
    /// Which database backups must be of.
    pub backed_up: BackedUpDatabase,
    /// Whether its ledger and catalogue were read.
    pub is_readable: bool,
}

impl DatabaseExamination {
    /// The one of a database that did not answer.
    pub fn unanswered(database: &dyn Database, finding: Finding) -> DatabaseExamination {
        let backed_up = unread(database);
        DatabaseExamination { findings: vec![finding], owner: None, backed_up, is_readable: false }
    }
}

/// The database of backups, as far as it is known without its ledger.
fn unread(database: &dyn Database) -> BackedUpDatabase {
    BackedUpDatabase::unread(&database.identity())
}

/// Examines the database and its storage.
pub fn examine(database: &dyn Database) -> DatabaseExamination {
    let cancelled = Arc::new(AtomicBool::new(false));
    let found = database.examine(&WaitPolicy::silent(LOCK_TIMEOUT, &cancelled));
    let mut backed_up = unread(database);
    let mut findings = found.findings;
    findings.extend(unanswered(&found.storage));
    findings.extend(found.kept_wal.map(kept_wal));
    findings.extend(disk(&found.storage));
    findings.extend(inodes(&found.storage));
    findings.extend(writable(&found.storage));
    if let Some(snapshot) = &found.snapshot {
        let missing = missing_objects_of(database, snapshot);
        backed_up = BackedUpDatabase::of(&database.identity(), snapshot);
        findings.extend(contents(database.identity().schema, snapshot, &missing));
    }
    let is_readable = found.snapshot.is_some();
    DatabaseExamination { findings, owner: found.owner, backed_up, is_readable }
}

fn disk(storage: &StorageStatus) -> Option<Finding> {
    let (free, total) = (storage.free_bytes?, storage.total_bytes?);
    let name = "free disk";
    let remedy = "free some space on it: df -h, du -xh --max-depth=2";
    let Some(reason) = disk_reason(storage) else {
        let what = format!("{} of {}", Bytes(free), Bytes(total));
        return Some(Finding::good(Group::Files, name, what));
    };
    Some(of_reason(name, &reason).remedy(remedy))
}

/// The finding for few free inodes; none where there are enough or they are not known.
fn inodes(storage: &StorageStatus) -> Option<Finding> {
    Some(of_reason("free inodes", &inode_reason(storage)?))
}

/// The finding on the files of a database that a reason gives.
fn of_reason(name: &'static str, reason: &Reason) -> Finding {
    match reason.severity {
        Severity::Critical => Finding::bad(Group::Files, name, &*reason.text),
        Severity::Warning | Severity::Notice => {
            Finding::attention(Group::Files, name, &*reason.text)
        }
    }
}

/// What a file system that does not answer is judged to be.
fn unanswered(storage: &StorageStatus) -> Option<Finding> {
    let error = storage.unanswered.as_ref()?;
    let (group, name) = (Group::Files, "file system");
    let finding = match unanswered_reason(error).severity {
        Severity::Critical => Finding::bad(group, name, error.message()),
        _ => Finding::unknown(group, name, error.message()),
    };
    Some(Finding { remedy: error.remedy.clone(), ..finding })
}

fn kept_wal(kept: KeptWal) -> Finding {
    let KeptWal { error, is_by_cts } = kept;
    if is_by_cts {
        return Finding::good(Group::Files, "WAL", error.message());
    }
    let finding = Finding::attention(Group::Files, "WAL", error.message());
    Finding { remedy: error.remedy, ..finding }
}

fn writable(storage: &StorageStatus) -> Option<Finding> {
    let (group, name) = (Group::Database, "writable");
    let finding = match (&storage.read_only, &storage.not_ours) {
        (Some(reason), _) => Finding::bad(group, name, reason),
        (None, Some(reason)) => Finding::unknown(group, name, reason),
        (None, None) => return None,
    };
    Some(Finding { remedy: storage.write_remedy.clone(), ..finding })
}

/// The missing objects, each with whether it can be put back. The database is opened again for that, which
/// may fail by now; then it is not known.
fn missing_objects_of(database: &dyn Database, snapshot: &Snapshot) -> Vec<MissingObject> {
    if snapshot.drift(database.identity().schema).missing.is_empty() {
        return Vec::new();
    }
    let cancelled = Arc::new(AtomicBool::new(false));
    let opened = database.open_read_only(&WaitPolicy::silent(LOCK_TIMEOUT, &cancelled));
    let opened = opened.ok().and_then(|opened| opened.database);
    opened.map(|mut open| missing_objects(&mut *open, snapshot)).unwrap_or_default()
}

fn contents(schema: &Schema, snapshot: &Snapshot, missing_now: &[MissingObject]) -> Vec<Finding> {
    let is_older = snapshot.origin() == Origin::OlderCts;
    if is_older {
        let what =
            "of an older CTS: a start of cts backs the database up beside itself and adopts it";
        return vec![
            Finding::attention(Group::Database, "ledger", what)
                .remedy("cts migrate --dry-run prints the plan, cts migrate executes it"),
        ];
    }
    let drift = snapshot.drift(schema);
    let mut all = vec![ledger(schema, snapshot)];
    all.extend(missing(schema, &drift, missing_now));
    all.extend(altered(&drift));
    all.extend(counters(&drift));
    if !drift.accepted.is_empty() {
        let what = format!("accepted: {}", list(drift.accepted.iter()));
        let finding = Finding::good(Group::Database, "accepted", what);
        all.push(finding.remedy("cts accept OBJECT --withdraw, if one is not meant so any more"));
    }
    if !snapshot.exceptions.is_empty() {
        let what = format!("{} constraint exceptions are recorded", snapshot.exceptions.len());
        let finding = Finding::good(Group::Database, "exceptions", what);
        all.push(
            finding.remedy("cts verify lists them, cts repair enforces those without violations"),
        );
    }
    all
}

fn ledger(schema: &Schema, snapshot: &Snapshot) -> Finding {
    let name = "ledger";
    let assessment = match Assessment::of(schema, snapshot) {
        Ok(assessment) => assessment,
        Err(error) => {
            let finding = Finding::bad(Group::Database, name, error.message());
            return Finding { remedy: error.remedy, ..finding };
        }
    };
    if assessment.pending.is_empty() {
        let last = snapshot.ledger.iter().rfind(|row| row.is_ours());
        let last = match last.and_then(|row| row.executed_at.as_deref()) {
            Some(time) => format!("the last at {time} UTC"),
            None => "the last at an unknown time".into(),
        };
        let applied = snapshot.ledger.iter().filter(|row| row.is_ours()).count();
        let what = format!("{applied} migrations, {last}");
        return Finding::good(Group::Database, name, what);
    }
    let what = format!("pending: {}", list(assessment.pending.iter().map(|m| m.name)));
    Finding::attention(Group::Database, name, what).remedy("cts migrate")
}

fn missing(schema: &Schema, drift: &Drift, missing_now: &[MissingObject]) -> Vec<Finding> {
    let is_critical = |object: &&Object| match object {
        Object::Table(table) => CRITICAL.contains(&table.as_str()),
        _ => false,
    };
    let (critical, others): (Vec<&Object>, Vec<&Object>) =
        drift.missing.iter().partition(is_critical);
    let mut all = missing_of_grade(&critical, "missing and critical", missing_now, Finding::bad);
    all.extend(missing_of_grade(&others, "missing", missing_now, Finding::attention));
    if drift.is_none() {
        let tables = &schema.expected.tables;
        let indexes: usize = tables.iter().map(|table| table.indexes.len()).sum();
        let what = format!("{} tables and {indexes} indexes as expected", tables.len());
        all.push(Finding::good(Group::Database, "schema", what));
    }
    all
}

/// One finding for those that `cts repair` puts back, and one for each of the others.
fn missing_of_grade(
    objects: &[&Object],
    words: &str,
    missing_now: &[MissingObject],
    finding: impl Fn(Group, &str, String) -> Finding,
) -> Vec<Finding> {
    let finding = |what: String| finding(Group::Database, "schema", what);
    let mut repairable = Vec::new();
    let mut all = Vec::new();
    for object in objects {
        let found = missing_now.iter().find(|found| found.object == **object);
        let what = format!("{words}: {object}");
        match found.map(|found| &found.outlook) {
            Some(Outlook::Repairable(None)) => repairable.push(object),
            Some(Outlook::Repairable(Some(unless))) => {
                all.push(finding(what).remedy(format!("cts repair, unless {unless}")));
            }
            Some(Outlook::Blocked(error)) => all.push(Finding {
                remedy: error.remedy.clone(),
                ..finding(format!("{what}: {}", error.message()))
            }),
            Some(Outlook::NotNow) | None => all.push(finding(what)),
        }
    }
    if !repairable.is_empty() {
        let what = format!("{words}: {}", list(repairable.iter()));
        all.insert(0, finding(what).remedy("cts repair"));
    }
    all
}

fn altered(drift: &Drift) -> Option<Finding> {
    if drift.altered.is_empty() {
        return None;
    }
    let what = format!("altered: {}", list(drift.altered.iter()));
    Some(
        Finding::attention(Group::Database, "schema", what)
            .remedy("cts verify prints every difference"),
    )
}

/// Where rows were restored with their ids, every insert fails; where there are none of these, all is well.
fn counters(drift: &Drift) -> Option<Finding> {
    if drift.counters.is_empty() {
        return None;
    }
    let what = list(drift.counters.iter());
    Some(Finding::attention(Group::Database, "ids", what).remedy("cts repair"))
}

/// The first few names, and how many more there are.
fn list(all: impl Iterator<Item = impl Display>) -> String {
    let all: Vec<String> = all.map(|one| one.to_string()).collect();
    let shown = all.iter().take(OBJECTS_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(OBJECTS_NAMED) {
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

    fn complete() -> Snapshot {
        let applied = |(id, m): (i64, &cts_schema::migration::Migration)| AppliedMigration {
            id: Some(id),
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
            counters: Vec::new(),
            accepted: Vec::new(),
        }
    }

    fn judged(change: impl FnOnce(&mut Snapshot)) -> Vec<(Grade, String)> {
        let mut snapshot = complete();
        change(&mut snapshot);
        contents(&SQLITE, &snapshot, &[])
            .into_iter()
            .map(|found| (found.grade, found.what))
            .collect()
    }

    #[test]
    fn a_complete_database_is_good() {
        let all = judged(|_| {});
        assert!(all.iter().all(|(grade, _)| *grade == Grade::Good), "{all:?}");
        assert_eq!(all[0].1, "4 migrations, the last at 2026-11-23 09:04:27.879 UTC");
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
            let storage = StorageStatus {
                free_bytes: Some(free),
                total_bytes: Some(total),
                ..StorageStatus::default()
            };
            disk(&storage).unwrap().grade
        };
        assert_eq!(grade(8 << 20, 1 << 40), Grade::Bad);
        assert_eq!(grade(1 << 29, 1 << 40), Grade::Attention);
        assert_eq!(grade(1 << 35, 1 << 40), Grade::Good);
        assert!(disk(&StorageStatus::default()).is_none());
    }

    #[test]
    fn many_names_are_counted() {
        assert_eq!(list(1..=5), "1, 2, 3, 4, 5");
        assert_eq!(list(1..=7), "1, 2, 3, 4, 5, and 2 more");
    }
}
