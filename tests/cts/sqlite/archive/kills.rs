//! Kills of the service at random moments, beside programs that write: while a base is made, while segments are written, and while
//! they are merged. Each listed moment is one that was committed.

use std::fs;
use std::thread;
use std::time::Duration;

use super::aged::{archiving_before, copy, levels, of_all_ages};
use super::{
    CREATE, Recorded, archive, archiving, beside_programs, prove, restored, segments, trader,
    until_archived,
};
use crate::support::harness::{Machine, await_that, for_each};
use crate::support::kills::tried;
use crate::support::random::Random;

/// Machines, and the kills of each.
const MACHINES: u32 = 16;
const KILLS: u64 = 10;
/// Kills while segments are merged, each of a machine of its own.
const COMPACTIONS: u32 = 40;
const WORKERS: u32 = 8;

/// Starts it once more. It goes on, and the newest moment is what was written last.
fn goes_on(machine: &Machine, recorded: &Recorded) {
    let service = archiving(machine).start();
    until_archived(machine, &service);
    service.stop();
    let written = *recorded.lock().unwrap().keys().last().unwrap();
    assert_eq!(prove(machine, recorded, 25), written);
    let listed = machine.cts("backups --json").env("CTS_ARCHIVE_DIR", archive(machine)).success();
    assert!(listed.json()["archive"]["fault"].is_null(), "{}", listed.out());
    // Nothing was taken for damaged.
    let names = fs::read_dir(archive(machine)).unwrap().map(|entry| entry.unwrap().file_name());
    let aside: Vec<_> = names.filter(|n| n.to_string_lossy().starts_with("damaged-")).collect();
    assert!(aside.is_empty(), "{aside:?}");
}

#[test]
#[ignore = "sweep"]
fn a_kill_at_any_moment_leaves_only_what_can_be_restored() {
    for_each(tried(MACHINES), |seed| {
        let machine = Machine::migrated();
        let db = machine.db();
        trader(&db).execute_batch(CREATE).unwrap();
        // A file large enough that its base takes a while.
        if seed % 2 == 0 {
            let fill = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4000) \
                INSERT INTO site_logs (level, category, message) SELECT 'info', 'test', hex(randomblob(2500)) FROM n";
            machine.sql(fill);
        }
        let (recorded, mut random) = (Recorded::default(), Random(u64::from(seed)));
        for round in 0..KILLS {
            let service = archiving(&machine).start();
            beside_programs(&db, u64::from(seed) * KILLS + round, &recorded, || {
                let delay = if random.below(2) == 0 { 300 } else { 1200 };
                thread::sleep(Duration::from_millis(random.below(delay) as u64));
                drop(service);
            });
        }
        goes_on(&machine, &recorded);
    });
}

#[test]
#[ignore = "sweep"]
fn a_kill_while_segments_are_merged_leaves_only_what_can_be_restored() {
    let (aged, recorded) = of_all_ages(71);
    let merged = fs::read_dir(archive(&aged).join("ltx")).unwrap().count();
    let tries = |seed: u32| {
        let machine = Machine::new();
        fs::copy(aged.db(), machine.db()).unwrap();
        copy(&archive(&aged), &archive(&machine));
        let mut random = Random(700 + u64::from(seed));
        let service = archiving_before(&machine, Duration::ZERO).start();
        let folder = archive(&machine).join("ltx");
        await_that("a merge has begun", || fs::read_dir(&folder).unwrap().count() > merged);
        match seed % 4 {
            // What is restored meanwhile finds files that are merged just then.
            0 => drop(restored(&machine, "latest", "meanwhile.db")),
            _ => thread::sleep(Duration::from_micros(random.below(150_000) as u64)),
        }
        drop(service);
        prove(&machine, &recorded, 4);
        let service = archiving_before(&machine, Duration::ZERO).start();
        await_that("all is merged", || levels(&machine).ends_with(&[1, 2, 3]));
        until_archived(&machine, &service);
        service.stop();
        prove(&machine, &recorded, 4);
        assert!(!segments(&machine).is_empty());
    };
    // They wait most of the time.
    thread::scope(|scope| {
        let tries = &tries;
        for worker in 0..WORKERS {
            let own = tried(COMPACTIONS).filter(move |seed| seed % WORKERS == worker);
            scope.spawn(move || own.for_each(tries));
        }
    });
}
