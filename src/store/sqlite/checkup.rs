//! Examines a SQLite database for `cts doctor`: its file and folder, its journal mode, and whether its
//! pages are damaged. Nothing is changed, and no side file of a database at rest is created.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use super::checkup_files::FileState;
use super::file::folder_of;
use super::free_pages::free_pages;
use super::running::other_services;
use super::wal_hold::announced_hold;
use super::wal_length::kept_wal;
use super::{DatabaseFile, Sqlite, draft, file, storage};
use crate::error::{Error, Kind, Result};
use crate::store::finding::{Finding, Group};
use crate::store::{Damage, DamageScope, Examination, FreePages, Inspect, Snapshot, WaitPolicy};
use crate::system::size::Bytes;

/// How long the pages are checked; a large database is not checked to its end.
const PAGE_CHECK_MAX: Duration = Duration::from_secs(3);
/// From so many free bytes, and so many of a hundred, on a person is told how a file becomes smaller that does not by itself.
const MUCH_FREE_BYTES: u64 = 16 << 20;
const MUCH_FREE_PERCENT: u64 = 20;

/// Examines the file and what is in it.
pub fn examine(database: &DatabaseFile, wait: &WaitPolicy<'_>) -> Examination {
    let path = match file::resolve(&database.path) {
        Ok(path) => path,
        Err(e) => {
            let findings = vec![bad(Group::Files, "file", e)];
            return Examination { findings, ..Default::default() };
        }
    };
    let files = FileState::read(&path);
    let mut findings = files.findings(database.access);
    let place = storage::storage_status(&path, None);
    // Before the own connection reads.
    let kept_wal = kept_wal(&path, announced_hold(&path));
    let mut snapshot = None;
    match read_contents(database, &path, wait) {
        Ok(Some(contents)) => {
            findings.push(journal_mode(file::is_wal(&path)));
            findings.push(pages(contents.damage));
            findings.extend(contents.free.map(free_space));
            snapshot = Some(contents.snapshot);
        }
        Ok(None) => findings.push(match draft::prove_creatable(&path, database.access) {
            Ok(()) => no_database(&path),
            // The finding of the folder says it.
            Err(_) if !folder_of(&path).exists() => no_database(&path),
            Err(error) => bad(Group::Database, "database", error),
        }),
        Err(error) => findings.extend(files.unreadable_contents(error)),
    }
    findings.extend(services(&other_services(&path)));
    let owner = files.owner(database.access);
    Examination { findings, snapshot, storage: place, kept_wal, owner }
}

/// That more than one service has the database open.
fn services(pids: &[u32]) -> Option<Finding> {
    if pids.len() < 2 {
        return None;
    }
    let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
    let what = format!("{} services have it open, the processes {}", pids.len(), pids.join(", "));
    let remedy = format!("stop all but one: ps -fp {}", pids.join(","));
    Some(Finding::attention(Group::Database, "services", what).remedy(remedy))
}

/// What is in the database.
struct Contents {
    snapshot: Snapshot,
    damage: Result<Damage>,
    /// Its free pages; `None` where they cannot be counted.
    free: Option<FreePages>,
}

/// `None` if there is no database.
fn read_contents(
    database: &DatabaseFile,
    path: &Path,
    wait: &WaitPolicy<'_>,
) -> Result<Option<Contents>> {
    let store = Sqlite::open_read_only(path, database.access, wait)?;
    store.map(|store| inspect(store, wait)).transpose()
}

fn inspect(mut store: Sqlite, wait: &WaitPolicy<'_>) -> Result<Contents> {
    let snapshot = store.inspect_with_counters()?;
    let cancelled = Arc::clone(wait.cancelled);
    thread::spawn(move || {
        thread::sleep(PAGE_CHECK_MAX);
        cancelled.store(true, Ordering::Relaxed);
    });
    let free = free_pages(&store.conn).ok();
    let damage = store.find_damage(DamageScope::Pages);
    Ok(Contents { snapshot, damage, free })
}

fn no_database(path: &Path) -> Finding {
    let what = format!("{}: there is no database yet", path.display());
    Finding::attention(Group::Database, "database", what)
        .remedy("cts migrate, or systemctl start cts")
}

fn journal_mode(is_wal: bool) -> Finding {
    let name = "journal mode";
    if is_wal {
        return Finding::good(Group::Database, name, "wal");
    }
    let what = "not wal: readers block writers, and writers block readers";
    Finding::attention(Group::Database, name, what)
        .remedy("cts migrate, or a start of cts, sets it to wal")
}

fn pages(damage: Result<Damage>) -> Finding {
    let (group, name) = (Group::Database, "pages");
    match damage {
        Ok(Damage { pages, unchecked, .. }) => match pages.first() {
            None if !unchecked.is_empty() => {
                let unchecked: Vec<String> = unchecked.iter().map(ToString::to_string).collect();
                Finding::good(group, name, format!("no damage found; {}", unchecked.join("; ")))
            }
            None => {
                Finding::good(group, name, "no damage; cts --check --deep checks the indexes too")
            }
            Some(first) => Finding::bad(group, name, format!("damaged: {first}")).remedy(
                "cts --check --deep lists all damage; stop the trading programs, copy the file, its -wal and its -shm, move these two away, restore a backup",
            ),
        },
        Err(error) if error.kind == Kind::TryAgain => {
            let limit = PAGE_CHECK_MAX.as_secs();
            let what = format!("not checked to the end, which takes more than {limit} s");
            Finding::skipped(group, name, what).remedy("cts --check --deep")
        }
        Err(error) => bad(group, name, error),
    }
}

/// What is free in the file, and how it becomes smaller.
fn free_space(found: FreePages) -> Finding {
    let FreePages { free_bytes, total_bytes, can_be_given_back } = found;
    let share = free_bytes * 100 / total_bytes.max(1);
    let (free, total) = (Bytes(free_bytes), Bytes(total_bytes));
    let mut what = format!("{free} of {total} are free ({share} %), and are used for new rows");
    if can_be_given_back {
        what += "; what programs do not soon need is given back to the file system";
    } else if free_bytes >= MUCH_FREE_BYTES && share >= MUCH_FREE_PERCENT {
        what += "; `cts prune --compact` makes the file smaller, while every program is stopped";
    }
    Finding::good(Group::Database, "free pages", what)
}

fn bad(group: Group, name: &str, error: Error) -> Finding {
    Finding { remedy: error.remedy.clone(), ..Finding::bad(group, name, error.message()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::finding::Grade::{self, Attention, Bad, Good};

    #[test]
    fn a_file_with_much_free_that_does_not_shrink_by_itself_is_told_how() {
        let text = |free_mib: u64, can_be_given_back| {
            let (free_bytes, total_bytes) = (free_mib << 20, 100 << 20);
            free_space(FreePages { free_bytes, total_bytes, can_be_given_back }).what
        };
        assert!(text(50, false).contains("`cts prune --compact`"), "{}", text(50, false));
        assert!(!text(50, true).contains("--compact") && !text(10, false).contains("--compact"));
        assert!(text(50, true).starts_with("50 MiB of 100 MiB are free (50 %)"));
    }

    #[test]
    fn pages_and_journal_have_their_grades() {
        let damage = Damage { pages: vec!["Page 3".into()], ..Damage::default() };
        assert_eq!(pages(Ok(damage)).grade, Bad);
        assert_eq!(pages(Ok(Damage::default())).grade, Good);
        let late = pages(Err(crate::store::interrupted()));
        assert_eq!(late.grade, Grade::Skipped);
        assert_eq!((journal_mode(true).grade, journal_mode(false).grade), (Good, Attention));
    }
}
