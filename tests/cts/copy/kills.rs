//! A copy that is killed at any moment leaves an empty target or a complete one, and the source as it was; the next
//! copy succeeds, and removes what the killed one has left.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::support::cluster::{Cluster, Database};
use crate::support::harness::{Machine, Run, await_that, for_each};
use crate::support::hostile::{Forms, fill};
use crate::support::kills::{KillSweep, kill_after};
use crate::support::random::Random;
use crate::support::scenario::copy;

use super::{Ends, columns};

const MOMENTS: u32 = 100;
/// A killed session ends once its server notices.
const GONE_WITHIN: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Empty,
    Complete,
}

/// Both ends, filled the same.
fn filled() -> Ends<'static> {
    let ends = Ends::new();
    fill(&ends.machine.open(), columns(), &mut Random(100), 10, Forms::Own);
    ends
}

fn median_time(run: impl Fn() -> Run) -> Duration {
    let mut times: Vec<_> = (0..3)
        .map(|_| {
            let run = run();
            let start = Instant::now();
            run.success();
            start.elapsed()
        })
        .collect();
    times.sort();
    times[1]
}

/// A file as the source: the same for each run, on a machine of its own.
fn copied(source: &Machine) -> Machine {
    let machine = Machine::new();
    copy(&source.db(), &machine.db());
    machine
}

fn to_server(machine: &Machine, database: &Database) -> Run {
    machine.cts("copy --to postgresql").env("DATABASE_URL", database.url())
}

fn relations(database: &Database) -> i64 {
    database.number("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace")
}

#[test]
#[ignore = "sweep"]
fn a_kill_at_any_moment_leaves_an_empty_schema_or_a_complete_one() {
    let ends = filled();
    ends.to_postgresql("").success();
    let complete = ends.database.shape();
    let users = ends.database.texts("SELECT users::text FROM users ORDER BY id");
    // No program has the file open.
    let source = copied(&ends.machine);
    let made = Mutex::new(Vec::new());
    let duration = median_time(|| {
        let database = Cluster::shared().owned();
        let run = to_server(&source, &database);
        made.lock().unwrap().push(database);
        run
    });
    drop(made);
    let sweep = KillSweep::<Target>::at(MOMENTS, duration);
    let spare = Mutex::new(Vec::new());
    let files = source.files();
    for_each(sweep.moments(), |(moment, delay)| {
        let database = spare.lock().unwrap().pop().unwrap_or_else(|| Cluster::shared().owned());
        let is_killed = kill_after(delay, to_server(&source, &database));
        database.await_unused(GONE_WITHIN);
        let target = if relations(&database) == 0 { Target::Empty } else { Target::Complete };
        assert!(is_killed || target == Target::Complete);
        sweep.record(is_killed, target);
        if target == Target::Empty && moment % 16 == 0 {
            to_server(&source, &database).success();
        }
        if target == Target::Complete || moment % 16 == 0 {
            assert_eq!(database.shape(), complete, "after {delay:?}");
            assert_eq!(database.texts("SELECT users::text FROM users ORDER BY id"), users);
            database.cts("verify").success();
        } else {
            spare.lock().unwrap().push(database);
        }
    });
    assert_eq!(source.files(), files);
    let found = sweep.found("copies to a server");
    assert!(found.contains(&Target::Empty), "{found:?}");
}

/// The names of the files in a folder, without those that every reader makes.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let names = entries.map(|name| name.into_string().unwrap());
    let mut names: Vec<_> =
        names.filter(|name| !name.ends_with("-shm") && !name.ends_with("-wal")).collect();
    names.sort();
    names
}

#[test]
#[ignore = "sweep"]
fn a_kill_at_any_moment_leaves_no_file_or_a_complete_one() {
    let ends = filled();
    ends.to_postgresql("").success();
    let before = ends.database.everything();
    let run =
        |folder: &Machine| folder.cts("copy --to sqlite").env("DATABASE_URL", ends.database.url());
    let duration = median_time(|| {
        let folder = Machine::new();
        let db = folder.db();
        let run = run(&folder);
        // The folder has to be there until the run has ended, and is removed with the others of this test.
        std::mem::forget(folder);
        run.db(&db)
    });
    let sweep = KillSweep::<Target>::at(MOMENTS, duration);
    let leftovers = Mutex::new(0);
    for_each(sweep.moments(), |(moment, delay)| {
        let folder = Machine::new();
        let is_killed = kill_after(delay, run(&folder));
        let target = if folder.db().exists() { Target::Complete } else { Target::Empty };
        assert!(is_killed || target == Target::Complete);
        sweep.record(is_killed, target);
        if target == Target::Empty {
            *leftovers.lock().unwrap() += usize::from(!names(folder.path("").as_path()).is_empty());
            if moment % 16 == 0 {
                run(&folder).success();
            }
        }
        if folder.db().exists() {
            assert_eq!(
                folder.number("SELECT count(*) FROM users"),
                ends.machine.number("SELECT count(*) FROM users")
            );
            folder.cts("verify").success();
            folder.cts("--check --deep").success();
        }
        if target == Target::Empty && moment % 16 == 0 {
            assert_eq!(names(folder.path("").as_path()), ["cts.db"], "after {delay:?}");
        }
    });
    await_that("nothing of it is left on the server", || ends.database.sessions_of_cts() == 0);
    assert_eq!(ends.database.everything(), before);
    eprintln!("{} of the killed runs left something", leftovers.into_inner().unwrap());
    let found = sweep.found("copies to a file");
    assert!(found.contains(&Target::Empty), "{found:?}");
}
