//! Signals: which of them stop the service or a command, and that none ends either without a word.

use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::Signal;

use crate::support::harness::{Machine, Run, Service, TIMEOUT, await_that};

/// cts as the leader of a session without a terminal, as systemd and a container start it.
fn without_terminal(machine: &Machine, words: &str) -> Run {
    within(machine, &["setsid"], words)
}

/// cts with a terminal of its own: standard error stays as it is.
fn in_terminal(machine: &Machine, words: &str) -> Run {
    let script = "import fcntl,os,pty,sys,termios\n\
        os.setsid()\nm,s=pty.openpty()\nfcntl.ioctl(s,termios.TIOCSCTTY,0)\n\
        os.set_inheritable(m,True)\nos.execv(sys.argv[1],sys.argv[1:])";
    within(machine, &["python3", "-c", script], words)
}

/// cts started by this program. What the tests themselves inherit as ignored, under `nohup` or as
/// a background job of a script, is the default again first.
fn within(machine: &Machine, program: &[&str], words: &str) -> Run {
    let mut run = Run::of("env".as_ref(), "--default-signal=HUP,INT,QUIT").db(&machine.db());
    run.command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    run.command.args(program).arg(env!("CARGO_BIN_EXE_cts")).args(words.split_whitespace());
    run
}

fn wal_is_emptied(machine: &Machine) -> bool {
    !machine.path("cts.db-wal").exists()
}

fn write_a_row(machine: &Machine) {
    machine.sql("INSERT INTO site_logs (level, category, message) VALUES ('info', 'test', 'x')");
}

#[test]
fn every_request_to_stop_ends_the_service_with_0_and_no_wal() {
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
        let machine = Machine::new();
        let service = machine.serve().start();
        service.until_ready();
        write_a_row(&machine);
        service.signal(signal);
        let (code, log) = service.end();
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("Stopping (SIG") && log.ends_with("Stopped\n"), "{log}");
        assert!(wal_is_emptied(&machine));
    }
}

#[test]
fn signals_that_mean_nothing_to_the_service_are_reported_and_it_goes_on() {
    let machine = Machine::new();
    let service = without_terminal(&machine, "serve --port 0").start();
    service.until_ready();
    for (signal, said) in [
        (Signal::HUP, "SIGHUP has no effect: cts reads its settings when it starts"),
        (Signal::USR1, "SIGUSR1 has no effect"),
        (Signal::USR2, "SIGUSR2 has no effect"),
    ] {
        service.signal(signal).until(said);
    }
    service.signal(Signal::PIPE);
    assert_eq!(service.get("/readyz").code, 200);
    assert_eq!(service.stop().0, Some(0));
    assert!(wal_is_emptied(&machine));
}

#[test]
fn the_loss_of_its_terminal_stops_the_service_as_sigterm_does() {
    let machine = Machine::new();
    let service = in_terminal(&machine, "serve --port 0").start();
    service.until_ready();
    service.signal(Signal::HUP);
    let (code, log) = service.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("Stopping (SIGHUP)"), "{log}");
    assert!(wal_is_emptied(&machine));
}

#[test]
fn a_service_under_nohup_outlives_its_terminal() {
    let machine = Machine::new();
    let ignore = "import signal,os,sys\nsignal.signal(signal.SIGHUP,signal.SIG_IGN)\n\
        import fcntl,pty,termios\nos.setsid()\nm,s=pty.openpty()\nfcntl.ioctl(s,termios.TIOCSCTTY,0)\n\
        os.set_inheritable(m,True)\nos.execv(sys.argv[1],sys.argv[1:])";
    let service = within(&machine, &["python3", "-c", ignore], "serve --port 0").start();
    service.until_ready();
    service.signal(Signal::HUP).until("SIGHUP has no effect");
    assert_eq!(service.get("/readyz").code, 200);
    assert_eq!(service.stop().0, Some(0));
}

#[test]
fn two_signals_at_once_empty_the_wal_too() {
    for (first, second) in [(Signal::INT, Signal::INT), (Signal::INT, Signal::TERM)] {
        let machine = Machine::new();
        let service = machine.serve().start();
        service.until_ready();
        write_a_row(&machine);
        service.signal(first).signal(second);
        let (code, log) = service.end();
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("Stopped\n") && wal_is_emptied(&machine), "{log}");
    }
}

/// A service, and a client that has sent a part of its request.
fn with_a_slow_client(machine: &Machine) -> (Service, TcpStream) {
    let service = machine.serve().start();
    service.until_ready();
    let mut client = TcpStream::connect(service.address()).unwrap();
    client.set_read_timeout(Some(TIMEOUT)).unwrap();
    write!(client, "GET /livez HTTP/1.1\r\nHost: loc").unwrap();
    (service, client)
}

#[test]
fn a_second_request_to_stop_no_longer_waits_for_clients() {
    let machine = Machine::new();
    let (service, mut client) = with_a_slow_client(&machine);
    write_a_row(&machine);
    service.signal(Signal::INT).until("Stopping (SIGINT)");
    service.signal(Signal::INT);
    let (code, log) = service.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("Asked to stop again"), "{log}");
    assert!(wal_is_emptied(&machine));
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest);
}

#[test]
fn a_service_that_cannot_close_its_database_is_ended_by_a_second_request_and_says_so() {
    let machine = Machine::migrated();
    let service = machine.serve().start();
    service.until_ready();
    write_a_row(&machine);
    let holder = machine.open();
    holder.execute_batch("BEGIN; SELECT count(*) FROM users").unwrap();
    // Stopped in the middle of the stop, as on a disk that hangs: the process is traced.
    let mut tracer = std::process::Command::new("strace")
        .args([
            "-f",
            "-qq",
            "-e",
            "trace=fdatasync,fsync",
            "-e",
            "inject=fdatasync,fsync:delay_enter=20000000",
        ])
        .args(["-o", "/dev/null", "-p", &service.child.id().to_string()])
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/task/{0}/status", service.child.id());
    await_that("it is traced", || {
        std::fs::read_to_string(&status).is_ok_and(|text| {
            text.lines().any(|l| l.starts_with("TracerPid:") && !l.ends_with("\t0"))
        })
    });
    service.signal(Signal::TERM).until("Stopping (SIGTERM)");
    service.signal(Signal::TERM);
    let (code, log) = service.end();
    let _ = tracer.kill();
    let _ = tracer.wait();
    assert_eq!(code, None, "{log}");
    assert!(
        log.contains("Ended before the database was closed: what was committed is kept"),
        "{log}"
    );
    drop(holder);
    machine.cts("migrate").success();
    assert_eq!(machine.number("SELECT count(*) FROM site_logs WHERE category = 'test'"), 1);
}

#[test]
fn a_signal_in_the_middle_of_a_migration_rolls_it_back() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        for signals in [1, 2] {
            let (machine, holder) = Machine::locked();
            let migrate =
                without_terminal(&machine, "migrate").env("CTS_LOCK_TIMEOUT", "60s").start();
            migrate.until("waiting for the write lock");
            migrate.signal(Signal::USR1).until("SIGUSR1 has no effect");
            for _ in 0..signals {
                migrate.signal(signal);
            }
            let (code, log) = migrate.end();
            assert_eq!(code, Some(75), "{signal:?}: {log}");
            assert!(log.contains("nothing was changed"), "{signal:?}: {log}");
            holder.execute_batch("ROLLBACK").unwrap();
            machine.cts("--check").status(1);
        }
    }
}

#[test]
fn a_migration_under_nohup_outlives_its_terminal() {
    let (machine, holder) = Machine::locked();
    let migrate = within(&machine, &["setsid", "nohup"], "migrate").start();
    migrate.until("waiting for the write lock");
    migrate.signal(Signal::HUP);
    holder.execute_batch("ROLLBACK").unwrap();
    assert_eq!(migrate.end().0, Some(0));
    machine.cts("--check").success();
}
