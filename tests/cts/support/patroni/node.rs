//! One node: a PostgreSQL server, and the Patroni that runs it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Child;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use postgres::{Client, Config, NoTls, SimpleQueryMessage};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::support::cluster::{Cluster, SUPERUSER, ServerFiles, last_lines};
use crate::support::harness::await_that;

use super::configuration::Addresses;
use super::programs::{PYTHON, Programs};

/// Of the superuser and of the replication role.
pub const PASSWORD: &str = "x";
const REST_TIMEOUT: Duration = Duration::from_secs(30);

/// A PostgreSQL server that Patroni runs.
pub struct Node {
    pub server: Cluster,
    rest_port: u16,
    packages: std::path::PathBuf,
    patroni: Mutex<Option<Child>>,
    /// A connection of the superuser that is kept, so that the server can be asked often.
    client: Mutex<Option<Client>>,
}

impl Node {
    /// Writes the configuration of the node at this place, and starts it.
    pub fn start(
        server: Cluster,
        programs: &Programs,
        addresses: &Addresses,
        at: usize,
        scope: &str,
    ) -> Node {
        let folder = server.folder();
        let text = addresses.of_node(at, server.name(), folder.to_str().unwrap(), scope);
        fs::write(folder.join("patroni.yml"), text).unwrap();
        let node = Node {
            server,
            rest_port: addresses.rest[at],
            packages: programs.packages.clone(),
            patroni: Mutex::new(None),
            client: Mutex::new(None),
        };
        node.start_again();
        node
    }

    /// Starts Patroni, which starts the server if it does not run.
    pub fn start_again(&self) {
        let folder = self.server.folder();
        let log = File::options().create(true).append(true).open(folder.join("log")).unwrap();
        let mut process = self.patroni.lock().unwrap();
        assert!(process.is_none(), "it runs already");
        let mut command = ServerFiles::of_this_process().program(PYTHON);
        command.args(["-m", "patroni"]).arg(folder.join("patroni.yml"));
        // What it starts is found by its home when everything is ended.
        command.env("PYTHONPATH", &self.packages).env("PYTHONUNBUFFERED", "1").env("HOME", &folder);
        command.env("PATH", "/usr/bin:/bin").current_dir(&folder);
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        *process = Some(child);
    }

    pub fn name(&self) -> &str {
        self.server.name()
    }

    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.server.port)
    }

    /// Whether its Patroni says that it holds the leader's lock and that its server is a primary.
    pub fn is_leader(&self) -> bool {
        self.ask("GET /primary").is_some_and(|answer| answer.starts_with("HTTP/1.0 200"))
    }

    /// Whether its server answers and can be written to.
    pub fn is_primary(&self) -> bool {
        self.text("SELECT pg_is_in_recovery()").as_deref() == Some("f")
    }

    /// The timeline that the primary writes.
    pub fn timeline(&self) -> Option<u32> {
        let sql = "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)";
        u32::from_str_radix(&self.text(sql)?, 16).ok()
    }

    /// The timeline that the standby receives from a primary.
    pub fn received_timeline(&self) -> Option<u32> {
        let sql = "SELECT received_tli FROM pg_stat_wal_receiver WHERE status = 'streaming'";
        self.text(sql)?.parse().ok()
    }

    /// The answer to a query; `None` if the server does not answer.
    pub fn text(&self, sql: &str) -> Option<String> {
        let mut kept = self.client.lock().unwrap();
        let client = match kept.take() {
            Some(client) if !client.is_closed() => Some(client),
            _ => {
                let mut config = Config::new();
                config.host_path(self.server.folder()).port(self.server.port).user(SUPERUSER);
                config.dbname(SUPERUSER).connect_timeout(Duration::from_secs(5)).connect(NoTls).ok()
            }
        };
        let mut client = client?;
        let messages = client.simple_query(sql).ok()?;
        *kept = Some(client);
        messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_string),
            _ => None,
        })
    }

    /// Kills the postmaster with SIGKILL; Patroni starts the server again.
    pub fn kill_postmaster(&self) {
        let pid = self.postmaster().expect("the server runs");
        kill_process(pid, Signal::KILL).unwrap();
        await_that("the postmaster has ended", || self.postmaster() != Some(pid));
    }

    /// Kills Patroni with SIGKILL; the server goes on.
    pub fn kill_patroni(&self) {
        self.end_patroni();
    }

    /// Kills Patroni and all processes of the server with SIGKILL, as the loss of the machine does.
    pub fn kill(&self) {
        self.end_patroni();
        let mut pids: Vec<Pid> = self.postmaster().into_iter().collect();
        pids.extend(pids.first().map(|pid| children(*pid)).unwrap_or_default());
        for pid in &pids {
            let _ = kill_process(*pid, Signal::KILL);
        }
        await_that("its processes have ended", || {
            pids.iter().all(|pid| test_kill_process(*pid).is_err())
        });
    }

    pub fn end_patroni(&self) {
        if let Some(mut child) = self.patroni.lock().unwrap().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The process in the server's lock file, if there is one.
    fn postmaster(&self) -> Option<Pid> {
        let file = fs::read_to_string(self.server.folder().join("data/postmaster.pid")).ok()?;
        let pid: i32 = file.lines().next()?.trim().parse().ok()?;
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        Pid::from_raw(pid).filter(|_| comm.trim() == "postgres")
    }

    /// Sends a request to Patroni's REST API. The answer comes when the work is done, and is printed.
    pub fn post(&self, path: &str, body: &str) {
        let request = format!("POST {path}");
        let (port, body) = (self.rest_port, body.to_string());
        thread::spawn(move || {
            let answer = ask(port, &request, &body).unwrap_or_default();
            eprintln!("{request}: {}", answer.lines().last().unwrap_or_default());
        });
    }

    fn ask(&self, request: &str) -> Option<String> {
        ask(self.rest_port, request, "")
    }

    /// The end of the log of Patroni and its server.
    pub fn last_lines(&self) -> String {
        format!("The log of {}:\n{}", self.host(), last_lines(&self.server.log(), |_| true))
    }
}

fn ask(port: u16, request: &str, body: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(REST_TIMEOUT)).ok()?;
    let head = format!("{request} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn children(parent: Pid) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name());
    let pids = entries.filter_map(|name| name.to_str()?.parse::<i32>().ok());
    let is_child = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The state and the parent follow the name, which is in parentheses.
        let parent_of_it = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1));
        parent_of_it == Some(&parent.to_string())
    };
    pids.filter(is_child).filter_map(Pid::from_raw).collect()
}
