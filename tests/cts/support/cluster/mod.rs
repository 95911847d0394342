//! PostgreSQL servers of the tests, each with its own folder and port. They can be killed, paused
//! and followed by a standby. No server outlives the tests, however these end: a shell waits for
//! the end of this process, then stops the servers and removes their files.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{self, Child};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, Config, NoTls};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::harness::{TIMEOUT, await_that};

mod builder;
mod database;
mod pooler;
mod programs;
mod server_files;
mod state;

pub use builder::Builder;
pub use database::{Database, SmallTablespace, number, texts};
pub use pooler::Pooler;
pub use server_files::{ServerFiles, done, end, folder_of_all_servers};

pub const SUPERUSER: &str = "postgres";
const NOBODY: u32 = 65534;

#[derive(Clone, Copy, Debug)]
pub enum Mode {
    /// Sessions are terminated, and the server writes a checkpoint.
    Fast,
    /// All processes end at once; the next start recovers from the WAL.
    Immediate,
}

/// A PostgreSQL server; ended when dropped.
pub struct Cluster {
    /// Part of the title of each of its processes.
    name: String,
    /// Holds its data, its log and its socket.
    folder: PathBuf,
    pub port: u16,
    server: Mutex<Option<Child>>,
    is_shared: bool,
}

impl Cluster {
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The server shared by all tests that do not stop, fill or reconfigure it.
    pub fn shared() -> &'static Cluster {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| {
            let mut cluster = Cluster::builder().set("max_connections", "300").start();
            cluster.is_shared = true;
            cluster
        })
    }

    fn start_new(name: String, folder: PathBuf) -> Cluster {
        let server = Mutex::new(None);
        let mut cluster = Cluster { name, folder, port: 0, server, is_shared: false };
        loop {
            cluster.port = free_port();
            if cluster.start_server() {
                return cluster;
            }
        }
    }

    /// A server that another program runs, with its data, log and socket in this folder.
    pub fn run_by_another(name: String, folder: PathBuf, port: u16) -> Cluster {
        Cluster { name, folder, port, server: Mutex::new(None), is_shared: false }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts the server again on the same folder and port.
    pub fn start_again(&self) {
        await_that("the port is free again", || self.start_server());
    }

    /// Starts the server and waits until it accepts connections. Returns false if its port is in
    /// use.
    fn start_server(&self) -> bool {
        let mut server = self.server.lock().unwrap();
        assert!(server.is_none(), "it runs already");
        let before = self.log().len();
        let log = File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
        let mut child = ServerFiles::of_this_process()
            .program("postgres")
            .arg("-D")
            .arg(self.folder.join("data"))
            .arg("-k")
            .arg(&self.folder)
            .args(["-p", &self.port.to_string(), "-c", &format!("cluster_name={}", self.name)])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let deadline = Instant::now() + TIMEOUT;
        while !self.is_ready(child.id()) {
            if child.try_wait().unwrap().is_some() {
                let log = self.log().split_off(before);
                assert!(log.contains("Address already in use"), "it does not start:\n{log}");
                return false;
            }
            assert!(Instant::now() < deadline, "it never starts:\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
        *server = Some(child);
        true
    }

    /// Whether the lock file says ready, and is that of this process and not of an earlier one.
    fn is_ready(&self, pid: u32) -> bool {
        let file = fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap_or_default();
        let mut lines = file.lines().map(str::trim);
        lines.next() == Some(pid.to_string().as_str()) && lines.nth(6) == Some("ready")
    }

    pub fn stop(&self, mode: Mode) {
        let mut child = self.server.lock().unwrap().take().expect("it runs");
        let signal = match mode {
            Mode::Fast => Signal::INT,
            Mode::Immediate => Signal::QUIT,
        };
        kill_process(pid_of(&child), signal).unwrap();
        await_that("the server has ended", || child.try_wait().unwrap().is_some());
    }

    /// Kills the server and all its processes with SIGKILL.
    pub fn kill(&self) {
        let mut child = self.server.lock().unwrap().take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
        await_that("the killed server's processes are gone", || {
            self.signal(Signal::KILL);
            self.processes().is_empty()
        });
    }

    /// Stops all of its processes with SIGSTOP: the kernel accepts connections, and nothing
    /// answers.
    pub fn pause(&self) {
        let is_stopped = |pid: &Pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit(") ").next().is_some_and(|state| state.starts_with('T'))
        };
        // A process that was just being started is stopped in the next iteration.
        await_that("all processes have stopped", || {
            self.signal(Signal::STOP);
            self.processes().iter().all(is_stopped)
        });
    }

    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        for pid in self.processes() {
            let _ = kill_process(pid, signal);
        }
    }

    /// The server and all that it started.
    pub fn processes(&self) -> Vec<Pid> {
        processes(&self.name)
    }

    pub fn log(&self) -> String {
        let bytes = fs::read(self.folder.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A hot standby that follows this server by streaming replication.
    pub fn standby(&self) -> Cluster {
        let files = ServerFiles::of_this_process();
        let (name, folder) = files.new_folder();
        let port = self.port.to_string();
        done(
            files
                .program("pg_basebackup")
                .args(["-X", "stream", "-c", "fast", "--no-sync", "-U", SUPERUSER])
                .args(["-p", &port, "-h"])
                .arg(&self.folder)
                .arg("-D")
                .arg(folder.join("data")),
        );
        files.follow(&folder.join("data"), &self.folder, self.port);
        let standby = Cluster::start_new(name, folder);
        let streams = "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'";
        await_that("the standby streams", || standby.number(streams) == 1);
        standby
    }

    /// Waits until this standby has replayed what is committed on the primary so far.
    pub fn catch_up_with(&self, primary: &Cluster) {
        // It waits for the disk, and so for all that was committed before without waiting for it.
        primary.texts("SELECT pg_logical_emit_message(true, 'test', '')::text");
        let there = primary.texts("SELECT pg_current_wal_flush_lsn()").remove(0);
        let lag = format!("SELECT greatest('{there}'::pg_lsn - pg_last_wal_replay_lsn(), 0)");
        await_that("the standby has caught up", || self.number(&lag) == 0);
    }

    /// Makes this standby a primary.
    pub fn promote(&self) {
        assert_eq!(self.texts("SELECT pg_promote()"), ["t"], "{}", self.log());
    }

    /// The folder of its socket.
    pub fn folder(&self) -> PathBuf {
        self.folder.clone()
    }

    /// The superuser, over the socket.
    pub fn admin(&self, database: &str) -> Client {
        self.connect(SUPERUSER, database)
    }

    pub fn sql(&self, sql: &str) {
        self.admin(SUPERUSER).batch_execute(sql).unwrap();
    }

    pub fn number(&self, sql: &str) -> i64 {
        number(&mut self.admin(SUPERUSER), sql)
    }

    pub fn texts(&self, sql: &str) -> Vec<String> {
        texts(&mut self.admin(SUPERUSER), sql)
    }

    fn connect(&self, user: &str, database: &str) -> Client {
        let mut config = Config::new();
        config.host_path(&self.folder).port(self.port).user(user).dbname(database);
        config.connect(NoTls).unwrap_or_else(|e| panic!("{e:?}:\n{}", self.log()))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("The server's log:\n{}", last_lines(&self.log(), |_| true));
        }
        let _ = end(&self.name, &self.folder, "").status();
        if let Some(mut child) = self.server.get_mut().unwrap().take() {
            let _ = child.wait();
        }
    }
}

/// A free port outside the range from which the kernel assigns ephemeral ports.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let of_this_process = u16::try_from(process::id() * 53 % 20_000).unwrap();
    let ports = std::iter::from_fn(|| Some(NEXT.fetch_add(1, Ordering::Relaxed)));
    ports
        .map(|n| 10_000 + (of_this_process + n % 20_000) % 20_000)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .unwrap()
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap()
}

/// The processes of PostgreSQL with this in their titles.
pub fn processes(title: &str) -> Vec<Pid> {
    processes_of(&["postgres"], title)
}

/// The processes of these programs with this in their titles.
pub fn processes_of(programs: &[&str], title: &str) -> Vec<Pid> {
    let is_one = |path: &Path| {
        let read = |name| fs::read_to_string(path.join(name)).unwrap_or_default();
        programs.contains(&read("comm").trim()) && read("cmdline").contains(title)
    };
    let entries = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    entries
        .filter_map(|path| {
            let pid = path.file_name()?.to_str()?.parse().ok()?;
            is_one(&path).then(|| Pid::from_raw(pid))?
        })
        .collect()
}

pub fn last_lines(log: &str, is_wanted: impl Fn(&str) -> bool) -> String {
    let mut lines: Vec<_> = log.lines().rev().filter(|line| is_wanted(line)).take(40).collect();
    lines.reverse();
    lines.join("\n")
}
