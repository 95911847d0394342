//! The service from start to stop: what systemd is told, and what is left behind.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use rustix::process::Signal;

use crate::support::harness::{Machine, PATIENCE, Run, Service, await_that};

#[test]
fn both_signals_end_it_with_0_and_no_wal() {
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
    // What was written reaches the database, and later writing begins the WAL anew.
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

/// The socket of a service manager, as systemd hands it over.
struct Manager(UnixDatagram);

impl Manager {
    fn new(machine: &Machine) -> Manager {
        let socket = UnixDatagram::bind(machine.path("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Manager(socket)
    }

    fn told(&self) -> String {
        let mut bytes = [0; 4096];
        loop {
            match self.0.recv(&mut bytes) {
                // A socket with a timeout is not gone back to after a signal.
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                length => return String::from_utf8_lossy(&bytes[..length.unwrap()]).into_owned(),
            }
        }
    }

    fn until(&self, part: &str) -> String {
        loop {
            let told = self.told();
            if told.contains(part) {
                return told;
            }
        }
    }
}

#[test]
fn systemd_is_told_ready_alive_and_stopping() {
    let machine = Machine::new();
    let manager = Manager::new(&machine);
    let service = machine
        .serve()
        .env("NOTIFY_SOCKET", machine.path("notify"))
        .env("WATCHDOG_USEC", "300000")
        .start();
    let first = manager.told();
    assert!(first.contains("READY=1") && first.contains("STATUS=serving on"), "{first}");
    service.until_ready();
    assert_eq!(service.get("/readyz").code, 200);
    assert_eq!(manager.told(), "WATCHDOG=1");
    assert_eq!(manager.told(), "WATCHDOG=1");
    service.signal(Signal::TERM);
    manager.until("STOPPING=1");
    assert_eq!(service.end().0, Some(0));
}

#[test]
fn systemd_is_not_told_ready_while_the_lock_is_waited_for() {
    let machine = Machine::migrated();
    machine.sql("DROP INDEX idx_site_logs_time");
    let holder = machine.open();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let manager = Manager::new(&machine);
    let service = machine.serve().env("NOTIFY_SOCKET", machine.path("notify")).start();
    let told = manager.told();
    assert!(told.starts_with("EXTEND_TIMEOUT_USEC="), "{told}");
    assert!(told.contains("waiting for the write lock"), "{told}");
    holder.execute_batch("ROLLBACK").unwrap();
    manager.until("READY=1");
    service.until_ready();
}

#[test]
fn a_start_that_fails_never_says_ready() {
    let machine = Machine::new();
    std::fs::write(machine.db(), "garbage").unwrap();
    let manager = Manager::new(&machine);
    machine.serve().env("NOTIFY_SOCKET", machine.path("notify")).status(65);
    let told = manager.told();
    assert!(told.starts_with("STATUS=") && told.contains("not a SQLite database"), "{told}");
    manager.0.set_nonblocking(true).unwrap();
    assert!(manager.0.recv(&mut [0; 64]).is_err());
}

/// Starts cts with this listener, as systemd does for a socket unit.
fn with_listener(machine: &Machine, listener: &TcpListener) -> Service {
    let mut run = Run::of(Path::new("sh"), "").db(&machine.db());
    let takes = "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" serve";
    run.command.args(["-c", takes, env!("CARGO_BIN_EXE_cts")]);
    run.command.stdin(OwnedFd::from(listener.try_clone().unwrap()));
    run.start()
}

#[test]
fn who_asks_before_it_is_up_is_answered_by_a_listener_of_systemd() {
    let machine = Machine::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    for _ in 0..2 {
        // Nobody accepts, at first and after a stop: the socket is systemd's, and stays open.
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
fn what_is_no_listener_is_refused() {
    let machine = Machine::new();
    let mut run = Run::of(Path::new("sh"), "").db(&machine.db());
    let takes = "exec 3</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" serve";
    run.command.args(["-c", takes, env!("CARGO_BIN_EXE_cts")]);
    run.status(78).says(&["systemd hands over", "ListenStream="]);
}
