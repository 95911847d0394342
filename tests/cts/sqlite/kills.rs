//! Runs that are killed, alone and among concurrent runs: the database is the old or the new one,
//! and the next run completes it.

use std::process::Stdio;
use std::thread;

use crate::support::harness::{Machine, for_each};
use crate::support::kills::{KillSweep, kill_after};
use crate::support::scenario::{State, Trial, side_file};

#[test]
#[ignore = "sweep"]
fn a_kill_at_any_moment_leaves_the_old_database_or_the_new_one() {
    for trial in Trial::all() {
        let name = trial.scenario.name;
        // Runs are counted by state and by whether there is a WAL or journal.
        let sweep = KillSweep::<(State, bool)>::over(trial.median_time());
        for_each(sweep.moments(), |(_, delay)| {
            let machine = Machine::new();
            let db = machine.db();
            trial.copy_to(&db);
            let is_killed = kill_after(delay, trial.run(&db));
            let has_log = ["-wal", "-journal"]
                .iter()
                .any(|suffix| side_file(&db, suffix).metadata().is_ok_and(|log| log.len() > 0));
            let state = trial.state(&db);
            assert!(is_killed || state == State::New, "{name}: it ended with work left");
            sweep.record(is_killed, (state, has_log));
            trial.completes(&db);
        });
        let found = sweep.found(name);
        assert!(found.iter().any(|(state, _)| *state == State::Old), "{name}: none left the old");
    }
}

/// Number of concurrent runs.
const STARTS: usize = 32;

#[test]
#[ignore = "sweep"]
fn concurrent_starts_succeed_though_one_is_killed() {
    for trial in Trial::all() {
        let whole = trial.median_time() * 4;
        let rounds: Vec<u32> = (0..6).collect();
        for round in rounds {
            let machine = Machine::new();
            trial.copy_to(&machine.db());
            let mut starts: Vec<_> = (0..STARTS)
                .map(|_| {
                    let mut run = machine.cts("migrate");
                    run.command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
                })
                .collect();
            if round > 0 {
                let mut victim = starts.remove(round as usize % 4);
                thread::sleep(whole * (round - 1) / 5);
                victim.kill().unwrap();
                victim.wait().unwrap();
            }
            for start in starts {
                let output = start.wait_with_output().unwrap();
                let log = String::from_utf8_lossy(&output.stderr);
                let name = trial.scenario.name;
                assert_eq!(output.status.code(), Some(0), "{name}, round {round}: {log}");
            }
            assert_eq!(trial.state(&machine.db()), State::New);
            machine.cts("verify").success();
            machine.cts("--check --deep").success();
        }
    }
}
