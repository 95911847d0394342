//! The service from start to stop: notifications to systemd, and the files that remain.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use rustix::process::Signal;

use crate::support::harness::{Machine, Run, Service, TIMEOUT, await_that};

#[test]
fn sigterm_and_sigint_end_it_with_0_and_no_wal() {
    for signal in [Signal::TERM, Signal::INT] {
        let machine = Machine::new();
        let service = machine.serve().start();
        service.until_ready();
        machine
            .sql("INSERT INTO site_logs (level, category, message) VALUES ('info', 'test', 'x')");
        assert!(machine.path("cts.db-wal").metadata().unwrap().len() > 0);
        service.signal(signal);
        assert_eq!(service.end().0, Some(0));
        assert!(!machine.path("cts.db-wal").exists() && !machine.path("cts.db-shm").exists());
    }
}

#[test]
fn the_wal_is_emptied_though_another_program_has_the_database_open() {
    let machine = Machine::new();
    let service = machine.serve().start();
    service.until_ready();
    let other = machine.open();
    other
        .execute_batch(
            "INSERT INTO site_logs (level, category, message) VALUES ('info', 'test', 'x')",
        )
        .unwrap();
    assert_eq!(service.stop().0, Some(0));
    assert_eq!(machine.path("cts.db-wal").metadata().unwrap().len(), 0);
}

#[test]
fn the_wal_is_checkpointed_for_programs_that_never_do() {
    let machine = Machine::new();
    let service = machine.serve().start();
    service.until_ready();
    let program = machine.open();
    program.execute_batch("PRAGMA wal_autocheckpoint = 0").unwrap();
    let fill = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) \
                INSERT INTO site_logs (level, category, message) SELECT 'info', 'test', hex(randomblob(400)) FROM n";
    let (db, wal) = (machine.db(), machine.path("cts.db-wal"));
    let length = |path: &std::path::Path| path.metadata().unwrap().len();
    program.execute_batch(fill).unwrap();
    assert!(length(&wal) > 16 << 20);
    // The rows reach the database file, and later writes restart the WAL.
    await_that("the rows are in the database", || length(&db) > 16 << 20);
    let longest = length(&wal);
    await_that("the WAL is used again", || {
        program.execute_batch("UPDATE system_settings SET value = value").unwrap();
        let first =
            program.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get::<_, i64>(1));
        first.unwrap() < 1000
    });
    assert_eq!(length(&wal), longest);
}

/// The notification socket of a service manager, as systemd provides it.
struct Manager(UnixDatagram);

impl Manager {
    fn new(machine: &Machine) -> Manager {
        let socket = UnixDatagram::bind(machine.path("notify")).unwrap();
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        Manager(socket)
    }

    fn notification(&self) -> String {
        let mut bytes = [0; 4096];
        loop {
            match self.0.recv(&mut bytes) {
                // A read with a timeout is not restarted after a signal.
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                length => return String::from_utf8_lossy(&bytes[..length.unwrap()]).into_owned(),
            }
        }
    }

    fn until(&self, part: &str) -> String {
        loop {
            let notified = self.notification();
            if notified.contains(part) {
                return notified;
            }
        }
    }
}

#[test]
fn systemd_is_notified_of_ready_watchdog_and_stopping() {
    let machine = Machine::new();
    let manager = Manager::new(&machine);
    let service = machine
        .serve()
        .env("NOTIFY_SOCKET", machine.path("notify"))
        .env("WATCHDOG_USEC", "300000")
        .start();
    let first = manager.notification();
    assert!(first.contains("READY=1") && first.contains("STATUS=serving on"), "{first}");
    service.until_ready();
    assert_eq!(service.get("/readyz").code, 200);
    assert_eq!(manager.notification(), "WATCHDOG=1");
    assert_eq!(manager.notification(), "WATCHDOG=1");
    service.signal(Signal::TERM);
    manager.until("STOPPING=1");
    assert_eq!(service.end().0, Some(0));
}

#[test]
fn a_service_manager_that_takes_no_notification_does_not_hold_up_the_stop() {
    let machine = Machine::new();
    let manager = Manager::new(&machine);
    let filler = UnixDatagram::unbound().unwrap();
    filler.set_nonblocking(true).unwrap();
    let mut fillers = 0;
    while filler.send_to(b"STATUS=filler", machine.path("notify")).is_ok() {
        fillers += 1;
    }
    let service = machine.serve().env("NOTIFY_SOCKET", machine.path("notify")).start();
    service.until_ready();
    assert_eq!(service.get("/readyz").code, 200);
    // It is told once it takes notifications again.
    for _ in 0..fillers {
        assert_eq!(manager.notification(), "STATUS=filler");
    }
    manager.until("READY=1");
    while filler.send_to(b"STATUS=filler", machine.path("notify")).is_ok() {}
    assert_eq!(service.stop().0, Some(0));
}

#[test]
fn systemd_is_not_notified_of_ready_while_the_lock_is_held() {
    let (machine, holder) = Machine::locked();
    let manager = Manager::new(&machine);
    let service = machine.serve().env("NOTIFY_SOCKET", machine.path("notify")).start();
    let notified = manager.notification();
    assert!(notified.starts_with("EXTEND_TIMEOUT_USEC="), "{notified}");
    assert!(notified.contains("waiting for the write lock"), "{notified}");
    holder.execute_batch("ROLLBACK").unwrap();
    manager.until("READY=1");
    service.until_ready();
}

#[test]
fn a_failed_start_never_notifies_ready() {
    let machine = Machine::new();
    std::fs::write(machine.db(), "garbage").unwrap();
    let manager = Manager::new(&machine);
    machine.serve().env("NOTIFY_SOCKET", machine.path("notify")).status(65);
    let notified = manager.notification();
    assert!(
        notified.starts_with("STATUS=") && notified.contains("not a SQLite database"),
        "{notified}"
    );
    manager.0.set_nonblocking(true).unwrap();
    assert!(manager.0.recv(&mut [0; 64]).is_err());
}

#[test]
fn a_line_end_in_a_name_begins_no_notification() {
    let machine = Machine::new();
    let db = machine.path("x\nREADY=1");
    std::fs::write(&db, "garbage").unwrap();
    let manager = Manager::new(&machine);
    machine.serve().db(&db).env("NOTIFY_SOCKET", machine.path("notify")).status(65);
    let notified = manager.notification();
    assert!(notified.contains(r"x\nREADY=1: is not a SQLite database"), "{notified}");
    assert_eq!(notified.lines().count(), 1, "{notified}");
}

/// Starts cts with this listener, as systemd does with a socket unit.
fn with_listener(machine: &Machine, listener: &TcpListener) -> Service {
    let mut run = Run::of(Path::new("sh"), "").db(&machine.db());
    let takes = "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" serve";
    run.command.args(["-c", takes, env!("CARGO_BIN_EXE_cts")]);
    run.command.stdin(OwnedFd::from(listener.try_clone().unwrap()));
    run.start()
}

#[test]
fn requests_before_the_start_wait_in_the_listener_of_systemd() {
    let machine = Machine::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    for _ in 0..2 {
        // Nothing accepts before the start and after the stop: the socket belongs to systemd and
        // stays open.
        let mut early = TcpStream::connect(address).unwrap();
        early.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let service = with_listener(&machine, &listener);
        let mut text = String::new();
        early.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
        assert_eq!(service.until_ready().address(), address);
        assert_eq!(service.get("/readyz").code, 200);
        assert_eq!(service.stop().0, Some(0));
    }
}

#[test]
fn a_passed_descriptor_that_is_no_listener_is_refused() {
    let machine = Machine::new();
    let mut run = Run::of(Path::new("sh"), "").db(&machine.db());
    let takes = "exec 3</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" serve";
    run.command.args(["-c", takes, env!("CARGO_BIN_EXE_cts")]);
    run.status(78).says(&["systemd hands over", "ListenStream="]);
}
