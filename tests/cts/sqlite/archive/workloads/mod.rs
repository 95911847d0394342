//! Random workloads: programs with two versions of SQLite write, roll back, checkpoint, vacuum and are killed, and so is the service,
//! which is stopped for a while, too. Each archived moment is exactly a state that was recorded by the program that made it,
//! and that was committed.

use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rustix::process::Signal;

use self::moments::Moments;
use self::writer::{CREATE, Writer, checkpoint_of, recorded, state_of};
use super::{archive, archiving, number, restored, segments, time, until_base};
use crate::support::harness::{Machine, Service, await_that};
use crate::support::kills::tried;
use crate::support::random::Random;

mod moments;
mod writer;

/// Workloads that run at a time.
const AT_A_TIME: usize = 4;

/// What workloads have seen.
#[derive(Debug, Default)]
struct Tally {
    workloads: usize,
    transactions: u64,
    moments: usize,
    restored: usize,
    gaps: usize,
    kills_of_cts: usize,
    stops: usize,
    pauses: usize,
    kills_of_writers: usize,
    commands: usize,
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        self.workloads += other.workloads;
        self.transactions += other.transactions;
        self.moments += other.moments;
        self.restored += other.restored;
        self.gaps += other.gaps;
        self.kills_of_cts += other.kills_of_cts;
        self.stops += other.stops;
        self.pauses += other.pauses;
        self.kills_of_writers += other.kills_of_writers;
        self.commands += other.commands;
    }
}

/// A workload while it runs.
struct Workload {
    machine: Machine,
    writer: Writer,
    random: Random,
    service: Option<Service>,
    programs: Vec<Child>,
    /// Whether the archive was without the service, so that it may lack something.
    may_lack: bool,
    tally: Tally,
}

impl Workload {
    fn new(seed: u64) -> Workload {
        let (machine, mut random) = (Machine::migrated(), Random(seed));
        let page_bytes = 512 << random.below(8);
        let auto_vacuum = ["NONE", "FULL", "INCREMENTAL"][random.below(3)];
        let conn = machine.open();
        conn.execute_batch(&format!(
            "PRAGMA journal_mode = DELETE; PRAGMA page_size = {page_bytes}; PRAGMA auto_vacuum = {auto_vacuum}; \
             VACUUM; PRAGMA journal_mode = WAL; {CREATE}"
        ))
        .unwrap();
        let found: i64 = conn.query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap();
        assert_eq!(found, page_bytes);
        let path = |name: &str| machine.path(name);
        let writer = Writer { db: machine.db(), records: path("records"), stop: path("stop") };
        writer.record(&state_of(&conn).0);
        let tally = Tally { workloads: 1, ..Tally::default() };
        let programs = Vec::new();
        Workload { machine, writer, random, service: None, programs, may_lack: false, tally }
    }

    fn pause(&mut self, milliseconds: usize) {
        thread::sleep(Duration::from_millis(self.random.below(milliseconds) as u64));
    }

    fn start_service(&mut self) {
        self.service = Some(archiving(&self.machine).start());
    }

    fn start_program(&mut self) {
        let (is_older, seed) = (self.random.below(2) == 0, self.random.next());
        self.programs.push(self.writer.start(is_older, seed));
    }

    /// Kills one of the programs that write, and starts another.
    fn kill_program(&mut self) {
        let place = self.random.below(self.programs.len());
        let mut program = self.programs.swap_remove(place);
        program.kill().unwrap();
        program.wait().unwrap();
        self.tally.kills_of_writers += 1;
        self.start_program();
    }

    /// A command of cts beside the service: it may wait for its locks in vain.
    fn run_command(&mut self) {
        let old = "INSERT INTO site_logs (timestamp, level, category, message) \
            SELECT '2020-01-01 00:00:00', 'info', 'engine', hex(randomblob(200)) FROM own";
        let (statement, command) = match self.random.below(2) {
            0 => (old, "prune --trust-clock"),
            _ => ("DROP INDEX IF EXISTS idx_site_logs_time", "repair"),
        };
        self.machine.sql(statement);
        let done = self.machine.cts(command).run();
        let code = done.0.status.code();
        assert!(matches!(code, Some(0 | 75)), "{command}: {code:?} {}", done.all_err());
        self.tally.commands += 1;
    }

    /// Something happens.
    fn event(&mut self) {
        self.pause(800);
        match self.random.below(9) {
            0 => {
                // It is killed.
                self.service = None;
                (self.tally.kills_of_cts, self.may_lack) = (self.tally.kills_of_cts + 1, true);
                self.pause(100);
                self.start_service();
            }
            1 => {
                let service = self.service.take().unwrap();
                service.until("Listening on http://");
                assert_eq!(service.stop().0, Some(0));
                (self.tally.stops, self.may_lack) = (self.tally.stops + 1, true);
                self.pause(100);
                self.start_service();
            }
            2 => {
                let pause = self.random.below(500) as u64;
                let service = self.service.as_ref().unwrap();
                service.signal(Signal::STOP);
                thread::sleep(Duration::from_millis(pause));
                service.signal(Signal::CONT);
                self.tally.pauses += 1;
            }
            3 => self.run_command(),
            _ => self.kill_program(),
        }
    }

    /// Runs it, beside one that checkpoints and one that reads.
    fn run(&mut self) {
        // Without it, the last one that closes the database removes the WAL.
        let keeper = (self.random.below(2) == 0).then(|| self.machine.open());
        keeper.iter().for_each(|conn| conn.execute_batch("SELECT count(*) FROM own").unwrap());
        let is_over = AtomicBool::new(false);
        self.start_service();
        if self.random.below(4) > 0 {
            until_base(&self.machine);
        }
        self.start_program();
        self.start_program();
        let db = self.machine.db();
        let seeds = [self.random.next(), self.random.next(), self.random.next()];
        thread::scope(|scope| {
            let (db, is_over, writer) = (&db, &is_over, self.writer.clone());
            scope.spawn(move || writer.run(seeds[0]));
            scope.spawn(move || checkpoint_until(is_over, db, seeds[1]));
            scope.spawn(move || read_until(is_over, db, seeds[2]));
            let end = End(is_over, self.writer.stop.clone());
            for _ in 0..3 + self.random.below(4) {
                self.event();
            }
            self.pause(500);
            drop(end);
        });
        for program in &mut self.programs {
            assert!(program.wait().unwrap().success());
        }
        self.until_archived();
        assert_eq!(self.service.take().unwrap().stop().0, Some(0));
    }

    /// Waits until the service says that all is archived.
    fn until_archived(&self) {
        let (ended, service) = (Instant::now(), self.service.as_ref().unwrap());
        await_that("all is archived", || {
            let since = ended.elapsed().as_secs_f64();
            let metrics = service.get("/metrics").body;
            let mut lines = metrics.lines();
            let lag = lines.find_map(|line| line.strip_prefix("cts_archive_lag_seconds "));
            lag.is_some_and(|lag| lag.parse::<f64>().unwrap() < since)
        });
    }

    /// Compares each archived moment with what was recorded, and restores some of them.
    fn prove(&mut self) {
        let (now, committed) = state_of(&self.machine.open());
        let recorded = recorded(&self.writer.records);
        let segments = segments(&self.machine);
        let moments = Moments::new(self.machine.path("moment.db"));
        let some = self.random.below(segments.len());
        let mut newest = None;
        for (place, segment) in segments.iter().enumerate() {
            moments.apply(&archive(&self.machine), segment);
            let (state, _) = state_of(&moments.open());
            let (expected, committed_at) = &recorded[&state.token];
            assert_eq!(&state, expected, "{segment}");
            let before = (state.n as usize).checked_sub(1).map(|at| committed[at].as_str());
            assert_eq!(before.unwrap_or_default(), state.token, "it was not committed: {segment}");
            assert!(*committed_at <= number(segment, "at"), "{committed_at}: {segment}");
            let is_later = |newest: &writer::Recorded| newest.n <= state.n;
            assert!(newest.as_ref().is_none_or(is_later), "{newest:?} before {state:?}");
            // Of those of one millisecond the last is restored.
            let is_last = place + 1 == segments.len();
            let is_shown = is_last || segments[place + 1]["at"] != segment["at"];
            if is_shown && (place == some || is_last) {
                let name = format!("restored-{place}.db");
                let db = restored(&self.machine, &time(number(segment, "at")), &name);
                assert_eq!(state_of(&Connection::open(db).unwrap()).0, state, "{segment}");
                self.tally.restored += 1;
            }
            newest = Some(state);
            self.tally.moments += 1;
            self.tally.gaps += usize::from(segment["gap"].is_string());
        }
        self.tally.transactions = now.n;
        assert_eq!(newest, Some(now));
        assert!(self.may_lack || self.tally.gaps == 0, "{segments:?}");
    }
}

/// Ends the programs when it is dropped, also where the test fails.
struct End<'a>(&'a AtomicBool, PathBuf);

impl Drop for End<'_> {
    fn drop(&mut self) {
        fs::write(&self.1, "").unwrap();
        self.0.store(true, Ordering::Relaxed);
    }
}

fn checkpoint_until(is_over: &AtomicBool, db: &PathBuf, seed: u64) {
    let (conn, mut random) = (Connection::open(db).unwrap(), Random(seed));
    while !is_over.load(Ordering::Relaxed) {
        conn.busy_timeout(Duration::from_millis([0, 20, 300][random.below(3)])).unwrap();
        // Others may hold its locks.
        let _ = conn.query_row(&checkpoint_of(&mut random), [], |_| Ok(()));
        thread::sleep(Duration::from_millis(random.below(60) as u64));
    }
}

fn read_until(is_over: &AtomicBool, db: &PathBuf, seed: u64) {
    let (conn, mut random) = (Connection::open(db).unwrap(), Random(seed));
    conn.busy_timeout(Duration::from_secs(30)).unwrap();
    while !is_over.load(Ordering::Relaxed) {
        conn.execute_batch("BEGIN; SELECT count(*) FROM own_history").unwrap();
        thread::sleep(Duration::from_millis(random.below(80) as u64));
        conn.execute_batch("COMMIT").unwrap();
        thread::sleep(Duration::from_millis(random.below(40) as u64));
    }
}

fn workload(seed: u64) -> Tally {
    let mut workload = Workload::new(seed);
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        workload.run();
        workload.prove();
    }));
    if let Err(panic) = ran {
        let log = workload.service.as_ref().map(Service::log).unwrap_or_default();
        eprintln!("workload {seed} has failed; the log of the service:\n{log}");
        workload.programs.iter_mut().for_each(|program| drop(program.kill()));
        std::panic::resume_unwind(panic);
    }
    workload.tally
}

/// Runs the workloads of these numbers.
fn all(seeds: impl Iterator<Item = u64> + Send) -> Tally {
    let (seeds, total) = (Mutex::new(seeds), Mutex::new(Tally::default()));
    let next = || seeds.lock().unwrap().next();
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(seed) = next() {
                    let tally = workload(seed);
                    total.lock().unwrap().add(&tally);
                }
            });
        }
    });
    total.into_inner().unwrap()
}

#[test]
fn each_moment_of_some_random_workloads_is_as_it_was_recorded() {
    all(1000..1003);
}

#[test]
#[ignore = "sweep"]
fn each_moment_of_random_workloads_is_as_it_was_recorded() {
    let began = Instant::now();
    let tally = all(tried(200).map(u64::from));
    eprintln!("random workloads in {:?}: {tally:?}", began.elapsed());
    assert!(tally.kills_of_cts > 0 && tally.kills_of_writers > 0 && tally.pauses > 0);
}
