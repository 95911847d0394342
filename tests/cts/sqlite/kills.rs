//! Runs that are killed, alone and among concurrent runs: the database is the old or the new one,
//! and the next run completes it.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::Mutex;
use std::thread;

use crate::support::harness::{Machine, for_each};
use crate::support::scenario::{State, Trial, side_file};

/// Moments of the kill in each scenario, spread over the duration of a run. More follow until
/// enough runs were killed and enough have completed, as a run takes longer beside other tests.
const MOMENTS: u32 = 60;
const ENOUGH_ENDED: u32 = 6;

#[test]
#[ignore = "sweep"]
fn a_kill_at_any_moment_leaves_the_old_database_or_the_new_one() {
    for trial in Trial::all() {
        let whole = trial.median_time();
        // Number of runs by (killed, state, with a WAL or journal).
        let seen = Mutex::new(BTreeMap::<(bool, State, bool), u32>::new());
        let ended = || -> u32 {
            seen.lock().unwrap().iter().filter(|(key, _)| !key.0).map(|(_, count)| count).sum()
        };
        let is_wanted = |moment: u32| moment < MOMENTS || ended() < ENOUGH_ENDED;
        for_each((0..10 * MOMENTS).take_while(|moment| is_wanted(*moment)), |moment| {
            let machine = Machine::new();
            let db = machine.db();
            trial.copy_to(&db);
            let mut run = trial.run(&db);
            run.command.stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = run.command.spawn().unwrap();
            thread::sleep(whole * moment / MOMENTS);
            child.kill().unwrap();
            let is_cut_off = child.wait().unwrap().signal().is_some();
            let has_log = ["-wal", "-journal"]
                .iter()
                .any(|suffix| side_file(&db, suffix).metadata().is_ok_and(|log| log.len() > 0));
            let state = trial.state(&db);
            assert!(is_cut_off || state == State::New, "ended by itself with work left");
            *seen.lock().unwrap().entry((is_cut_off, state, has_log)).or_default() += 1;
            trial.completes(&db);
        });
        let (name, ended) = (trial.scenario.name, ended());
        let seen = seen.into_inner().unwrap();
        eprintln!("{name}, {whole:?}: {seen:?}");
        let cut_off = seen.values().sum::<u32>() - ended;
        assert!(cut_off >= MOMENTS / 3 && ended > 0, "{name}: {cut_off} cut off, {ended} not");
        assert!(seen.keys().any(|key| key.1 == State::Old), "{name}: none left the old one");
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
