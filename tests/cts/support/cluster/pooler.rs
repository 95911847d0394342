//! PgBouncer between the programs of a test and a server.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;

use postgres::{Client, NoTls};
use rustix::process::{Signal, kill_process};

use super::database::PASSWORD;
use super::server_files::{ServerFiles, give_away};
use super::{Database, free_port, pid_of, texts};
use crate::support::harness::{Run, await_that};

/// Where Debian has it, which is not on the PATH of every user.
const PROGRAM: &str = "/usr/sbin/pgbouncer";

const PID: &str = "SELECT pg_backend_pid()";
/// The pooler itself passes on the name of each program.
const SETTINGS: &str = "SELECT name || '=' || setting FROM pg_settings \
     WHERE name NOT IN ('application_name', 'transaction_isolation') ORDER BY 1";

/// A PgBouncer before one database; ended when dropped.
pub struct Pooler<'d> {
    database: &'d Database<'d>,
    pub port: u16,
    size: u32,
    folder: PathBuf,
    child: Child,
}

impl<'d> Database<'d> {
    /// A pooler before this database in this mode (`transaction`, `session` or `statement`), with at most
    /// `size` connections of the server, and with more lines of its configuration.
    pub fn pooler(&'d self, mode: &str, size: u32, more: &str) -> Pooler<'d> {
        let (name, folder) = ServerFiles::of_this_process().new_folder();
        let port = free_port();
        let server = self.cluster.port;
        let users = folder.join("users");
        let (role, password) = (&self.role, PASSWORD.replace('"', "\"\""));
        fs::write(&users, format!("\"{role}\" \"{password}\"\n")).unwrap();
        let settings = format!(
            "; {name}\n[databases]\n* = host=127.0.0.1 port={server}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = scram-sha-256\nauth_file = {}\nlogfile = {}\n\
             pool_mode = {mode}\ndefault_pool_size = {size}\nmax_client_conn = 500\n{more}\n",
            users.display(),
            folder.join("log").display()
        );
        fs::write(folder.join("pgbouncer.ini"), settings).unwrap();
        for path in ["users", "pgbouncer.ini"] {
            fs::set_permissions(folder.join(path), fs::Permissions::from_mode(0o644)).unwrap();
        }
        give_away(&folder);
        let child = start(&folder);
        let pooler = Pooler { database: self, port, size, folder, child };
        await_that("the pooler listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        pooler
    }
}

/// Starts it as a user that is not root, which PgBouncer does not accept.
fn start(folder: &Path) -> Child {
    let mut command = ServerFiles::of_this_process().as_server_user(Path::new(PROGRAM));
    command.arg("-q").arg(folder.join("pgbouncer.ini"));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("PgBouncer is needed: tests/run.sh installs it")
}

impl Pooler<'_> {
    /// The URL of the database through the pooler.
    pub fn url(&self) -> String {
        self.url_with("sslmode=disable")
    }

    /// The same with these parameters.
    pub fn url_with(&self, parameters: &str) -> String {
        self.database.url_to(&format!("127.0.0.1:{}", self.port), parameters)
    }

    /// One run of cts through the pooler.
    pub fn cts(&self, words: &str) -> Run {
        self.database.cts(words).env("DATABASE_URL", self.url())
    }

    /// The service, through the pooler, on a free port.
    pub fn serve(&self) -> Run {
        self.cts("serve --port 0")
    }

    /// The database, opened through the pooler as a trading program would.
    pub fn open(&self) -> Client {
        let config = self.database.config(self.port);
        config.connect(NoTls).unwrap_or_else(|e| panic!("{e:?}:\n{}", self.log()))
    }

    /// Opens programs until each connection of the server that the pooler may have is in the transaction of one of
    /// them.
    pub fn all_connections(&self) -> Vec<Client> {
        let mut clients: Vec<Client> = (0..self.size).map(|_| self.open()).collect();
        for client in &mut clients {
            client.batch_execute("BEGIN").unwrap();
        }
        let pids: BTreeSet<_> = clients.iter_mut().map(|c| texts(c, PID).remove(0)).collect();
        assert_eq!(pids.len(), clients.len());
        clients
    }

    /// Expects every connection of the server to have the settings of a new one, and no lock.
    pub fn assert_clean(&self) {
        let fresh = self.database.config(self.database.cluster.port).connect(NoTls);
        let expected = texts(&mut fresh.unwrap(), SETTINGS);
        for mut client in self.all_connections() {
            let found = texts(&mut client, SETTINGS);
            let left: Vec<_> = found.iter().filter(|line| !expected.contains(line)).collect();
            assert!(left.is_empty(), "left on a connection of the server: {left:?}");
        }
        await_that("no advisory lock is left", || self.advisory_locks() == 0);
    }

    /// The number of advisory locks in the database.
    pub fn advisory_locks(&self) -> i64 {
        self.database.number(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        )
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Pooler<'_> {
    fn drop(&mut self) {
        let _ = kill_process(pid_of(&self.child), Signal::KILL);
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("The pooler's log:\n{}", self.log());
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}
