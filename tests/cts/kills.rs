//! Runs that are killed, alone and in a crowd: the database is the old or the new one, and
//! the next run completes it.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::Mutex;
use std::thread;

use crate::harness::{Machine, for_each};
use crate::scenario::{State, Trial, beside};

/// Moments of each scenario, spread over half as long again as it takes.
const MOMENTS: u32 = 80;

#[test]
fn a_kill_at_any_moment_leaves_the_old_database_or_the_new_one() {
    for trial in Trial::all() {
        let whole = trial.takes() * 3 / 2;
        let seen = Mutex::new(BTreeMap::<_, u32>::new());
        let moments: Vec<u32> = (0..MOMENTS).collect();
        for_each(&moments, |moment| {
            let machine = Machine::new();
            let db = machine.db();
            trial.put(&db);
            let mut run = trial.run(&db);
            run.command.stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = run.command.spawn().unwrap();
            thread::sleep(whole * *moment / MOMENTS);
            child.kill().unwrap();
            let is_cut_off = child.wait().unwrap().signal().is_some();
            let has_log = ["-wal", "-journal"]
                .iter()
                .any(|suffix| beside(&db, suffix).metadata().is_ok_and(|log| log.len() > 0));
            let state = trial.state(&db);
            *seen.lock().unwrap().entry((is_cut_off, state, has_log)).or_default() += 1;
            trial.completes(&db);
        });
        let seen = seen.into_inner().unwrap();
        eprintln!("{}, {whole:?} (cut off, state, with a log): {seen:?}", trial.scenario.name);
        let count = |is_it: fn(&(bool, State, bool)) -> bool| {
            seen.iter().filter(|(key, _)| is_it(key)).map(|(_, count)| count).sum::<u32>()
        };
        let cut_off = count(|key| key.0);
        assert!(cut_off >= MOMENTS / 4, "{}: only {cut_off} cut off", trial.scenario.name);
        assert!(count(|key| key.1 == State::Old) > 0 && count(|key| key.1 == State::New) > 0);
    }
}

/// Starts at once, all of which have the same to do.
const STARTS: usize = 32;

#[test]
fn of_starts_at_once_one_may_be_killed_and_the_others_complete() {
    for trial in Trial::all() {
        let whole = trial.takes() * 4;
        let rounds: Vec<u32> = (0..6).collect();
        for round in rounds {
            let machine = Machine::new();
            trial.put(&machine.db());
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
