//! The service is killed, or the disk is full, at a hundred moments while it writes the statistics of all days anew: what is
//! stored of a day and connection is always of one state, and the next start completes it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use rusqlite::Connection;

use crate::support::disk::Disk;
use crate::support::harness::{Machine, Service, await_that, is_root};
use crate::support::kills::tried;

/// Databases that are worked on at the same time, and moments of each.
const LANES: u64 = 4;
const MOMENTS: u32 = 25;
/// Moments after which a service completes what there is. Whichever moments are tried, some of these are among them.
const COMPLETED_EVERY: u64 = 8;

/// Positions of 49 days.
const HISTORY: &str = "
    INSERT INTO exchange_connections (id, name) VALUES ('c1', 'one'), ('c2', 'two');
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200)
    INSERT INTO pseudo_positions (connection_id, symbol, indication_type, strategy_type, status, pnl, closed_at)
    SELECT iif(i % 3, 'c1', 'c2'), 'SYM' || (i % 5), 'type' || (i % 2), 'main', 'closed', (abs(random()) % 2001 - 1000) / 7.0,
        strftime('%Y-%m-%d %H:%M:%f', 1.76e9 + i * 3456, 'unixepoch')
    FROM n;";
/// Rows of statistics_daily of the history.
const DAYS: u64 = 98;

/// Every position has another profit, so that every row of statistics is to be written.
const CHANGE: &str = "UPDATE pseudo_positions SET pnl = pnl + 1";
/// Days and connections whose row of the day is not what their other rows add up to.
const TORN: &str = "
    SELECT count(*) FROM statistics_daily d WHERE abs(total_pnl - (SELECT coalesce(sum(total_pnl), 1e9)
            FROM statistics_indication WHERE connection_id = d.connection_id AND substr(period_start, 1, 10) = d.trade_date)) > 1e-6
        OR abs(total_pnl - (SELECT coalesce(sum(total_pnl), 1e9)
            FROM statistics_strategy WHERE connection_id = d.connection_id AND substr(period_start, 1, 10) = d.trade_date)) > 1e-6";
/// Days and connections whose statistics are those of their positions.
const CURRENT: &str = "
    WITH days AS (SELECT connection_id, substr(closed_at, 1, 10) AS day, sum(pnl) AS total FROM pseudo_positions GROUP BY 1, 2)
    SELECT count(*) FROM statistics_daily d JOIN days ON days.connection_id = d.connection_id AND day = trade_date
    WHERE abs(total - total_pnl) < 1e-6";

fn execute(db: &Path, sql: &str) {
    Connection::open(db).unwrap().execute_batch(sql).unwrap();
}

fn number(db: &Path, sql: &str) -> u64 {
    Connection::open(db).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

fn served(machine: &Machine, db: &Path) -> Service {
    let service = machine.cts("serve --port 0").db(db).start();
    service.until_ready();
    service
}

fn complete(machine: &Machine, db: &Path) {
    let service = served(machine, db);
    await_that("the statistics are those of the positions", || number(db, CURRENT) == DAYS);
    service.stop();
    machine.cts("verify --statistics").db(db).success();
}

/// Calls `work` in each lane with each of its moments, of all of them.
fn at_moments(work: impl Fn(u64, &mut dyn FnMut(&dyn Fn(u64))) + Sync) {
    let work = &work;
    thread::scope(|scope| {
        for lane in 0..LANES {
            scope.spawn(move || {
                work(lane, &mut |at_moment| {
                    tried(MOMENTS).for_each(|moment| at_moment(u64::from(moment) * LANES + lane));
                });
            });
        }
    });
}

/// Counts the current days after a fault, and completes them now and then.
fn prove(machine: &Machine, db: &Path, moment: u64, seen: &Mutex<BTreeSet<u64>>) {
    assert_eq!(number(db, TORN), 0, "moment {moment}");
    seen.lock().unwrap().insert(number(db, CURRENT));
    if moment / LANES % COMPLETED_EVERY == COMPLETED_EVERY - 1 {
        complete(machine, db);
    }
}

/// Expects that there were faults before, in the middle, and after.
fn expect_all(seen: Mutex<BTreeSet<u64>>) {
    let seen = seen.into_inner().unwrap();
    println!("days and connections that were current: {seen:?}");
    assert!(seen.len() > 5, "{seen:?}");
}

#[test]
#[ignore = "sweep"]
fn a_service_that_is_killed_at_any_moment_leaves_whole_days() {
    let seen = Mutex::new(BTreeSet::new());
    at_moments(|_, moments| {
        let machine = Machine::migrated();
        let db = machine.db();
        execute(&db, HISTORY);
        complete(&machine, &db);
        moments(&|moment| {
            execute(&db, CHANGE);
            let service = served(&machine, &db);
            await_that("so many days are current", || {
                number(&db, CURRENT) >= moment * DAYS / (LANES * u64::from(MOMENTS))
            });
            // It is killed.
            drop(service);
            prove(&machine, &db, moment, &seen);
        });
    });
    expect_all(seen);
}

#[test]
#[ignore = "sweep"]
fn a_disk_that_is_full_at_any_moment_leaves_whole_days() {
    if !is_root() {
        crate::support::not_tried("only root can mount a small disk");
        return;
    }
    let seen = Mutex::new(BTreeSet::new());
    at_moments(|_, moments| {
        let machine = Machine::new();
        let disk = Disk::mount(&machine);
        let db = disk.folder.join("cts.db");
        machine.cts("migrate").db(&db).success();
        execute(&db, HISTORY);
        complete(&machine, &db);
        moments(&|moment| {
            disk.leave(disk.size);
            execute(&db, CHANGE);
            let service = served(&machine, &db);
            disk.leave(moment * (4 << 10));
            await_that("the disk is full, or the statistics are complete", || {
                service.log().contains("the statistics are not kept current")
                    || number(&db, CURRENT) == DAYS
            });
            assert_eq!(service.get("/livez").code, 200);
            service.stop();
            disk.leave(disk.size);
            prove(&machine, &db, moment, &seen);
        });
    });
    expect_all(seen);
}
