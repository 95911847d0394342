//! Runs and servers that are killed: the database is the old or the new one, and the next run
//! completes it.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::cluster::{Cluster, Database, Mode};
use crate::support::harness::{await_that, await_within, for_each};

/// Moments of the kill in each scenario, spread over the duration of a run. More follow until
/// enough runs were killed and enough have completed, as a run takes longer beside other tests.
const MOMENTS: u32 = 60;
const ENOUGH_ENDED: u32 = 3;
/// Number of moments at which a server is killed, and at which it is stopped immediately.
const OF_SERVER: u32 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Old,
    New,
}

/// A database as it is before the run, and the command that brings it up to date.
struct Scenario {
    name: &'static str,
    words: &'static str,
    /// Statements that make it from a migrated database; without them it is empty.
    lost: Option<&'static str>,
}

const LOST: &str = "
    INSERT INTO users (username, password_hash) VALUES ('kept', 'x');
    DROP TABLE system_settings; DROP TABLE indications_auto; DROP TABLE indication_states;
    ALTER TABLE users DROP COLUMN role; ALTER TABLE exchange_positions DROP COLUMN leverage;
    DROP INDEX idx_pseudo_positions_live; DROP INDEX idx_site_logs_category;";
const PENDING: &str = "DELETE FROM migrations WHERE id > 1; DROP TABLE indication_states; \
    DROP INDEX idx_pseudo_positions_live; DROP INDEX idx_site_logs_category";

const SCENARIOS: [Scenario; 3] = [
    Scenario { name: "a first run", words: "migrate", lost: None },
    Scenario { name: "pending migrations", words: "migrate", lost: Some(PENDING) },
    Scenario { name: "a repair", words: "repair", lost: Some(LOST) },
];

/// A scenario with its database before the run, and the schema before and after.
struct Trial<'a> {
    scenario: &'static Scenario,
    before: Database<'a>,
    old: Vec<String>,
    new: Vec<String>,
    takes: Duration,
}

impl<'a> Trial<'a> {
    fn of(scenario: &'static Scenario, cluster: &'a Cluster) -> Trial<'a> {
        let before = cluster.owned();
        if let Some(lost) = scenario.lost {
            before.cts("migrate").success();
            before.sql(lost);
        }
        let old = before.shape();
        let mut takes = Vec::new();
        let mut new = Vec::new();
        for _ in 0..3 {
            let after = made_of(&before);
            let start = Instant::now();
            after.cts(scenario.words).success();
            takes.push(start.elapsed());
            new = after.shape();
        }
        takes.sort();
        assert_ne!(old, new, "{}: nothing to do", scenario.name);
        Trial { scenario, before, old, new, takes: takes[1] }
    }

    fn state(&self, database: &Database) -> State {
        let found = database.shape();
        if found == self.old {
            return State::Old;
        }
        assert_eq!(found, self.new, "{}: neither old nor new", self.scenario.name);
        State::New
    }

    fn completes(&self, database: &Database) {
        database.cts(self.scenario.words).success();
        assert_eq!(self.state(database), State::New, "{}", self.scenario.name);
        database.cts("verify").success();
        if self.scenario.lost == Some(LOST) {
            assert_eq!(database.texts("SELECT username || role FROM users"), ["keptuser"]);
        }
    }
}

/// A copy, made once no session is connected to the original.
fn made_of<'a>(database: &Database<'a>) -> Database<'a> {
    let sessions = "SELECT count(*) - 1 FROM pg_stat_activity WHERE datname = current_database()";
    await_that("nobody is connected", || database.number(sessions) == 0);
    database.copy()
}

#[test]
#[ignore = "sweep"]
fn a_kill_at_any_moment_leaves_the_old_database_or_the_new_one() {
    for scenario in &SCENARIOS {
        let trial = Trial::of(scenario, Cluster::shared());
        let seen = Mutex::new(BTreeMap::<(bool, State), u32>::new());
        // Copies that a killed run has not changed are used again.
        let spare = Mutex::new(vec![made_of(&trial.before), made_of(&trial.before)]);
        let ended = || -> u32 {
            seen.lock().unwrap().iter().filter(|(key, _)| !key.0).map(|(_, count)| count).sum()
        };
        let is_wanted = |moment: u32| moment < MOMENTS || ended() < ENOUGH_ENDED;
        for_each((0..10 * MOMENTS).take_while(|moment| is_wanted(*moment)), |moment| {
            let database = spare.lock().unwrap().pop();
            let database = database.unwrap_or_else(|| trial.before.copy());
            let mut run = database.cts(scenario.words);
            run.command.stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = run.command.spawn().unwrap();
            thread::sleep(trial.takes * moment / MOMENTS);
            child.kill().unwrap();
            let is_cut_off = child.wait().unwrap().signal().is_some();
            await_within(Duration::from_secs(5), "nothing of it is left on the server", || {
                database.sessions_of_cts() == 0
            });
            let state = trial.state(&database);
            assert!(is_cut_off || state == State::New, "ended by itself with work left");
            *seen.lock().unwrap().entry((is_cut_off, state)).or_default() += 1;
            if state == State::New || moment % 8 == 0 {
                trial.completes(&database);
            } else {
                spare.lock().unwrap().push(database);
            }
        });
        let ended = ended();
        let seen = seen.into_inner().unwrap();
        eprintln!("{}, {:?}: {seen:?}", scenario.name, trial.takes);
        let cut_off = seen.values().sum::<u32>() - ended;
        assert!(cut_off >= MOMENTS / 3 && ended > 0, "{}: {seen:?}", scenario.name);
        assert!(seen.keys().any(|key| key.1 == State::Old), "{}: {seen:?}", scenario.name);
    }
}

#[test]
#[ignore = "sweep"]
fn a_server_stopped_at_any_moment_keeps_the_old_database_or_the_new_one() {
    let cluster = Cluster::builder().start();
    let trials: Vec<_> = SCENARIOS.iter().map(|scenario| Trial::of(scenario, &cluster)).collect();
    let mut seen = BTreeMap::<(Option<i32>, State), u32>::new();
    for moment in 0..2 * OF_SERVER {
        let trial = &trials[moment as usize % trials.len()];
        let database = made_of(&trial.before);
        let run = database.cts(trial.scenario.words).env("CTS_WAIT", "0s").start();
        thread::sleep(trial.takes * moment / (2 * OF_SERVER));
        if moment / 3 % 2 == 0 {
            cluster.kill();
        } else {
            cluster.stop(Mode::Immediate);
        }
        let (code, log) = run.end();
        cluster.start_again();
        let state = trial.state(&database);
        *seen.entry((code, state)).or_default() += 1;
        match code {
            Some(0) => assert_eq!(state, State::New, "{log}"),
            Some(69) if log.contains("nothing was changed") => {
                assert_eq!(state, State::Old, "{log}");
            }
            Some(69) if log.contains("whether the last change was committed is unknown") => {}
            // The server was not reached at all.
            Some(69) => assert!(state == State::Old || log.contains("✓"), "{log}"),
            other => panic!("{other:?}: {log}"),
        }
        trial.completes(&database);
    }
    eprintln!("{seen:?}");
    assert!(seen.keys().any(|key| key.0 == Some(69)), "{seen:?}");
}
