//! Standard error that is read slowly, not at all, or cannot be written: the service and the commands do
//! their work all the same, and lines that are lost are counted.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, PipeReader, PipeWriter, Read, Write, pipe};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::io::ioctl_fionbio;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::harness::{Machine, Run, TIMEOUT, await_that, await_within};

/// A pipe that is full, so that a write to it waits until somebody reads.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe().unwrap();
    ioctl_fionbio(&writer, true).unwrap();
    let full = loop {
        if let Err(e) = writer.write(&[b'x'; 512]) {
            break e;
        }
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    ioctl_fionbio(&writer, false).unwrap();
    (reader, writer)
}

/// Everything that is read from now on, as text.
fn drain(mut reader: PipeReader) -> String {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// The service with this standard error, on a port that was free.
struct Unread {
    child: Child,
    address: SocketAddr,
}

impl Unread {
    fn start(machine: &Machine, stderr: impl Into<Stdio>) -> Unread {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut run = machine.cts(&format!("serve --port {}", address.port()));
        run.command.stderr(stderr).stdout(Stdio::null());
        Unread { child: run.command.spawn().unwrap(), address }
    }

    /// The answer to a request; `None` while the port is not bound.
    fn ask(&self, request: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        write!(stream, "{request} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        Some(text)
    }

    fn until_health(&self, part: &str) -> &Unread {
        await_that(part, || {
            self.ask("GET /api/health/database").is_some_and(|answer| answer.contains(part))
        });
        self
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// SIGTERM; the exit code.
    fn stop(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        end(&mut self.child)
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for the end of a process; its exit code.
fn end(child: &mut Child) -> Option<i32> {
    let mut status = None;
    await_within(Duration::from_secs(30), "the process has ended", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap().code()
}

#[test]
fn a_log_that_nobody_reads_holds_up_neither_health_nor_clients_nor_the_stop() {
    let machine = Machine::new();
    let (reader, writer) = full_pipe();
    let mut service = Unread::start(&machine, writer);
    service.until_health(r#""status":"healthy""#);
    let refused = service.ask("POST /x").unwrap();
    assert!(refused.starts_with("HTTP/1.1 404 "), "{refused}");
    // The thread that owns the database logs each of these changes.
    for _ in 0..2 {
        machine.sql("ALTER TABLE users RENAME TO elsewhere");
        service.until_health("critical table users is missing");
        machine.sql("ALTER TABLE elsewhere RENAME TO users");
        service.until_health(r#""status":"healthy""#);
    }
    assert_eq!(service.stop(), Some(0));
    assert!(!machine.path("cts.db-wal").exists());
    drop(reader);
}

#[test]
fn lines_that_waited_are_written_once_the_log_is_read_again() {
    let machine = Machine::new();
    let (reader, writer) = full_pipe();
    let mut service = Unread::start(&machine, writer);
    service.until_health(r#""status":"healthy""#);
    let reading = thread::spawn(move || drain(reader));
    assert_eq!(service.stop(), Some(0));
    let log = reading.join().unwrap();
    for line in ["Database Type: SQLITE", "Application Ready", "Stopping (SIGTERM)", "Stopped\n"] {
        assert!(log.contains(line), "{line}: {log}");
    }
}

#[test]
fn lines_that_could_not_be_written_are_counted_in_the_next_one() {
    let machine = Machine::migrated();
    let fifo = machine.path("log");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let reading = || {
        OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
            .open(&fifo)
            .unwrap()
    };
    let mut reader = reading();
    let service = Unread::start(&machine, OpenOptions::new().write(true).open(&fifo).unwrap());
    service.until_health(r#""status":"healthy""#);
    let mut log = Vec::new();
    await_that("lines are missing", || {
        let _ = reader.read_to_end(&mut log);
        drop(std::mem::replace(&mut reader, File::open("/dev/null").unwrap()));
        service.signal(Signal::USR1);
        thread::sleep(Duration::from_millis(20));
        reader = reading();
        service.signal(Signal::USR2);
        thread::sleep(Duration::from_millis(20));
        let _ = reader.read_to_end(&mut log);
        let text = String::from_utf8_lossy(&log);
        text.contains(
            "of the log are missing here: standard error could not be written (Broken pipe",
        )
    });
    let text = String::from_utf8_lossy(&log).into_owned();
    let (_, after) = text.split_once("Broken pipe").unwrap();
    assert!(after.contains("\n[v0] ⚠ SIGUSR"), "{text}");
}

#[test]
fn a_log_on_a_full_disk_stops_nothing() {
    let machine = Machine::new();
    let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut migrate = machine.cts("migrate");
    migrate.command.stderr(full());
    assert_eq!(migrate.command.status().unwrap().code(), Some(0));
    let mut service = Unread::start(&machine, full());
    service.until_health(r#""status":"healthy""#);
    assert_eq!(service.stop(), Some(0));
}

/// `cts migrate` of a new database, whose log is not read yet.
fn migrating(machine: &Machine, stderr: PipeWriter) -> Child {
    let mut run = machine.cts("migrate");
    run.command.stderr(stderr);
    run.command.spawn().unwrap()
}

#[test]
fn a_command_does_its_work_without_a_reader_and_loses_no_line_to_a_slow_one() {
    for is_nonblocking in [false, true] {
        let machine = Machine::new();
        let (reader, writer) = full_pipe();
        // As another program may set it that shares the pipe or the terminal.
        ioctl_fionbio(&writer, is_nonblocking).unwrap();
        let mut child = migrating(&machine, writer);
        await_that("the database is there", || machine.db().exists());
        // No lock is held, and nothing is left to do.
        machine.sql("BEGIN IMMEDIATE; ROLLBACK");
        machine.cts("--check").success();
        assert!(child.try_wait().unwrap().is_none(), "its lines are lost");
        let log = drain(reader);
        for line in ["Database Type: SQLITE", "Unified setup complete", "All 22 critical tables"] {
            assert!(log.contains(line), "{line}: {log}");
        }
        assert!(!log.contains("missing here"), "{log}");
        assert_eq!(end(&mut child), Some(0));
    }
}

#[test]
fn two_signals_end_a_service_whose_log_nobody_reads() {
    let machine = Machine::new();
    let (reader, writer) = full_pipe();
    let mut service = Unread::start(&machine, writer);
    service.until_health(r#""status":"healthy""#);
    service.signal(Signal::INT);
    service.signal(Signal::TERM);
    assert_eq!(end(&mut service.child), Some(0));
    assert!(!machine.path("cts.db-wal").exists());
    drop(reader);
}

#[test]
fn a_fatal_error_ends_the_service_though_nobody_reads_it() {
    let machine = Machine::new();
    std::fs::write(machine.db(), "garbage").unwrap();
    let (reader, writer) = full_pipe();
    let mut service = Unread::start(&machine, writer);
    let start = Instant::now();
    assert_eq!(end(&mut service.child), Some(65));
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    drop(reader);
    // Read, it is there.
    machine.cts("serve --port 0").status(65).says(&["not a SQLite database"]);
}

#[test]
#[ignore = "sweep"]
fn a_command_ends_though_nobody_reads_its_log() {
    let machine = Machine::new();
    let (reader, writer) = full_pipe();
    assert_eq!(end(&mut migrating(&machine, writer)), Some(0));
    machine.cts("--check").success();
    drop(reader);
}

#[test]
fn standard_output_may_be_a_closed_pipe_or_one_that_does_not_block() {
    let machine = Machine::migrated();
    for words in ["status", "verify", "--check", "migrate --dry-run", "--help", "--version"] {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        let mut run = machine.cts(words);
        run.command.stdout(writer);
        assert_eq!(run.command.status().unwrap().code(), Some(0), "{words}");
    }
    let (reader, writer) = full_pipe();
    ioctl_fionbio(&writer, true).unwrap();
    let mut run = machine.cts("status --json");
    run.command.stdout(OwnedFd::from(writer));
    let mut child = run.command.spawn().unwrap();
    drop(run);
    let text = drain(reader);
    assert_eq!(end(&mut child), Some(0));
    assert!(text.trim_end().ends_with('}') && text.contains(r#""status":"complete""#), "{text}");
}

/// A terminal that is stopped (Ctrl-S) while a service in it is started and stopped.
#[test]
fn a_stopped_terminal_holds_up_nothing() {
    let machine = Machine::new();
    let script = "import os,pty,sys,termios\n\
        m,s=pty.openpty()\ntermios.tcflow(s,termios.TCOOFF)\n\
        os.dup2(s,2)\nos.set_inheritable(m,True)\nos.execv(sys.argv[1],sys.argv[1:])";
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut run = Run::of("python3".as_ref(), "").db(&machine.db());
    run.command.args(["-c", script, env!("CARGO_BIN_EXE_cts"), "serve", "--port"]);
    run.command.arg(address.port().to_string()).stdout(Stdio::null());
    let mut service = Unread { child: run.command.spawn().unwrap(), address };
    service.until_health(r#""status":"healthy""#);
    assert_eq!(service.stop(), Some(0));
}
