//! Names with several addresses, and sockets that are meant for another process.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::harness::{Machine, Run, is_root};

#[test]
fn sockets_that_are_meant_for_another_process_are_ignored() {
    for pid in [None, Some(""), Some("1"), Some("0"), Some("x")] {
        let machine = Machine::new();
        let mut run = machine.serve().env("LISTEN_FDS", "1");
        if let Some(pid) = pid {
            run = run.env("LISTEN_PID", pid);
        }
        let service = run.start();
        service.until_ready();
        assert_eq!(service.get("/readyz").code, 200, "{pid:?}");
    }
}

/// The command of a cts for which `box.test` has these addresses. `None` where this machine cannot run it.
fn with_hosts(machine: &Machine, addresses: &[&str], words: &str) -> Option<Run> {
    let can_unshare = || Command::new("unshare").args(["-m", "true"]).status();
    if !is_root() || !can_unshare().is_ok_and(|status| status.success()) {
        return None;
    }
    let hosts = machine.path("hosts");
    let lines = addresses.iter().map(|address| format!("{address} box.test\n"));
    fs::write(&hosts, lines.collect::<String>()).unwrap();
    let mut run = Run::of(Path::new("unshare"), "-m sh -c");
    let script = format!("mount --bind \"$0\" /etc/hosts && exec \"$1\" {words}");
    run.command.arg(script).arg(&hosts).arg(env!("CARGO_BIN_EXE_cts"));
    Some(run.env("PATH", "/usr/bin:/bin:/usr/sbin").db(&machine.db()))
}

#[test]
fn every_address_of_a_name_is_asked_before_a_check_is_critical() {
    let machine = Machine::new();
    let service = machine.serve().env("CTS_ALLOWED_HOSTS", "box.test").start();
    service.until_ready();
    let port = service.address().port();
    let check = format!("--check --url http://box.test:{port}");
    // Nothing listens at the first address; at the second, somebody accepts and never answers.
    let silent = TcpListener::bind(("127.0.0.7", port)).unwrap();
    for first in [&["::1"][..], &["127.0.0.9"], &["127.0.0.7"], &["::1", "127.0.0.9", "127.0.0.7"]]
    {
        let addresses = [first, &["127.0.0.1"]].concat();
        let Some(run) = with_hosts(&machine, &addresses, &check) else { return };
        run.success();
    }
    let start = Instant::now();
    with_hosts(&machine, &["127.0.0.9", "127.0.0.7"], &check).unwrap().status(2);
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    drop(silent);
    let done = with_hosts(&machine, &["::1", "127.0.0.9"], &check).unwrap().status(2);
    assert_eq!(done.out().matches("refused").count(), 2, "each address is named: {}", done.out());
}

#[test]
fn the_doctor_and_the_listener_try_every_address_of_a_name() {
    let machine = Machine::new();
    let service = machine.serve().start();
    service.until_ready();
    let port = service.address().port();
    let doctor = format!("doctor --host box.test --port {port}");
    let Some(run) = with_hosts(&machine, &["127.0.0.9", "127.0.0.1"], &doctor) else { return };
    run.run().says(&["cts answers"]);
    // 198.51.100.7 is an address of no machine (RFC 5737).
    let other = Machine::new();
    let serve = "serve --host box.test --port 0";
    let service = with_hosts(&other, &["198.51.100.7", "127.0.0.1"], serve).unwrap().start();
    service.until_ready();
    assert_eq!(service.get("/readyz").code, 200);
    let done =
        with_hosts(&Machine::new(), &["198.51.100.7", "203.0.113.7"], serve).unwrap().status(78);
    done.says(&["198.51.100.7:0: ", "203.0.113.7:0: ", "set HOST"]);
}
