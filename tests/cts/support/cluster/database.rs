//! Databases on a test server, each with its own role for cts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use postgres::{Client, Config, SimpleQueryMessage};

use super::server_files::{ServerFiles, done};
use super::{Cluster, NOBODY, SUPERUSER, last_lines};
use crate::support::harness::{Run, is_root, leave_free};

/// Each of these must be encoded in a URL, or quoted in SQL.
pub(super) const PASSWORD: &str = "p@ss/w:rd#%?&=+'\"\\ x";

impl Cluster {
    /// A new database, owned by a new role.
    pub fn owned(&self) -> Database<'_> {
        Database::make(self, "")
    }

    /// A database owned by the superuser, with a role that owns the schema `cts` in it and may
    /// create nothing outside.
    pub fn one_schema(&self) -> Database<'_> {
        let database = self.owned();
        let name = &database.name;
        self.sql(&format!("ALTER DATABASE \"{name}\" OWNER TO {SUPERUSER}"));
        database
            .admin()
            .batch_execute(&format!(
                "REVOKE CREATE ON DATABASE \"{name}\" FROM PUBLIC;
                 REVOKE CREATE ON SCHEMA public FROM PUBLIC;
                 CREATE SCHEMA cts AUTHORIZATION \"{name}\";
                 ALTER ROLE \"{name}\" IN DATABASE \"{name}\" SET search_path = cts"
            ))
            .unwrap();
        database
    }

    /// A tablespace on a disk of this size; only root can make one.
    pub fn small_tablespace(&self, mebibytes: u32) -> Option<SmallTablespace<'_>> {
        if !is_root() {
            crate::support::not_tried("only root can mount a small disk");
            return None;
        }
        let name = unique("small");
        let folder = self.folder.join(format!("disk-{name}"));
        fs::create_dir(&folder).unwrap();
        let options = format!("size={mebibytes}m,mode=700,uid={NOBODY},gid={NOBODY}");
        done(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&folder));
        self.sql(&format!("CREATE TABLESPACE \"{name}\" LOCATION '{}'", folder.display()));
        Some(SmallTablespace { cluster: self, name, folder })
    }
}
/// A database, and the role that cts connects as.
pub struct Database<'a> {
    pub(super) cluster: &'a Cluster,
    /// Must be quoted in SQL.
    pub name: String,
    /// The owner; must be quoted in SQL.
    pub(super) role: String,
    /// Whether dropping this value drops the database.
    is_first: bool,
}

impl<'a> Database<'a> {
    fn make(cluster: &'a Cluster, options: &str) -> Database<'a> {
        let name = unique("Box");
        create(cluster, &name, options);
        Database { cluster, role: name.clone(), name, is_first: true }
    }

    /// A copy of it on the same server, for the same role. Nobody may be connected to it.
    pub fn copy(&self) -> Database<'a> {
        let (copy, name, role) = (unique("Copy"), &self.name, &self.role);
        let sql = format!("CREATE DATABASE \"{copy}\" TEMPLATE \"{name}\" OWNER \"{role}\"");
        self.cluster.sql(&sql);
        Database { cluster: self.cluster, name: copy, role: role.clone(), is_first: true }
    }

    /// The same database on another server that has a copy of it.
    pub fn on<'b>(&self, cluster: &'b Cluster) -> Database<'b> {
        Database { cluster, name: self.name.clone(), role: self.role.clone(), is_first: false }
    }

    /// An empty database of this name for a role of the same name, on a server of another cluster.
    pub fn recreated_on<'b>(&self, cluster: &'b Cluster) -> Database<'b> {
        create(cluster, &self.name, "");
        self.on(cluster)
    }

    /// How to reach its server by the socket: the folder, and the port.
    pub fn socket(&self) -> (&Path, u16) {
        (&self.cluster.folder, self.cluster.port)
    }

    /// Over TCP, with the password and without TLS.
    pub fn url(&self) -> String {
        self.url_to(&format!("127.0.0.1:{}", self.cluster.port), "sslmode=disable")
    }

    /// With these hosts and ports, separated by commas, and these parameters.
    pub fn url_to(&self, hosts: &str, parameters: &str) -> String {
        let (name, role) = (encoded(&self.name), encoded(&self.role));
        let password = encoded(PASSWORD);
        format!("postgresql://{role}:{password}@{hosts}/{name}?{parameters}")
    }

    /// One run of cts with these arguments, on this database.
    pub fn cts(&self, words: &str) -> Run {
        let run = Run::of(Path::new(env!("CARGO_BIN_EXE_cts")), words);
        let run = run.env("DATABASE_URL", self.url());
        match ServerFiles::of_this_process().pg_dump() {
            Some(pg_dump) => run.env("CTS_PG_DUMP", pg_dump),
            None => run,
        }
    }

    /// The service, on a free port.
    pub fn serve(&self) -> Run {
        self.cts("serve --port 0")
    }

    /// The database, opened as a trading program would, by the same role.
    pub fn open(&self) -> Client {
        self.cluster.connect(&self.role, &self.name)
    }

    /// How its role logs in over TCP.
    pub(super) fn config(&self, port: u16) -> Config {
        let mut config = Config::new();
        config.host("127.0.0.1").port(port).user(&self.role).password(PASSWORD);
        config.dbname(&self.name).application_name("trader");
        config
    }

    /// The database, opened by the superuser.
    pub fn admin(&self) -> Client {
        self.cluster.admin(&self.name)
    }

    pub fn sql(&self, sql: &str) {
        self.open().batch_execute(sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }

    /// The whole database as SQL.
    pub fn dump(&self) -> String {
        self.printed(&[])
    }

    /// What `pg_dump` prints.
    pub fn printed(&self, words: &[&str]) -> String {
        let mut command = ServerFiles::of_this_process().program("pg_dump");
        command.args(words).args(["-U", SUPERUSER, "-p", &self.cluster.port.to_string(), "-h"]);
        let done = command.arg(&self.cluster.folder).arg(&self.name).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let dump = String::from_utf8(done.stdout).unwrap();
        // These lines contain a token that differs in each dump.
        let lines = dump.lines().filter(|line| !line.contains("restrict "));
        lines.map(|line| format!("{line}\n")).collect()
    }

    /// What another program of PostgreSQL prints, run without a server by this user.
    pub fn printed_of(&self, program: &str, words: &[&str]) -> String {
        let path = ServerFiles::of_this_process().program(program).get_program().to_owned();
        let done = Command::new(path).args(words).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }

    /// Whether its `pg_dump` is that of PyPI, which knows no TLS.
    pub fn has_pg_dump_without_tls(&self) -> bool {
        ServerFiles::of_this_process().pg_dump().is_some()
    }

    /// The major version of its server.
    pub fn server_major(&self) -> i64 {
        self.number("SELECT current_setting('server_version_num')::int / 10000")
    }

    pub fn number(&self, sql: &str) -> i64 {
        number(&mut self.open(), sql)
    }

    pub fn texts(&self, sql: &str) -> Vec<String> {
        texts(&mut self.open(), sql)
    }
}

/// Creates a role and a database of this name.
fn create(cluster: &Cluster, name: &str, options: &str) {
    let mut admin = cluster.admin(SUPERUSER);
    let password = PASSWORD.replace('\'', "''");
    for sql in [
        format!("CREATE ROLE \"{name}\" LOGIN PASSWORD '{password}'"),
        format!("CREATE DATABASE \"{name}\" OWNER \"{name}\" {options}"),
    ] {
        admin.batch_execute(&sql).unwrap_or_else(|e| panic!("{e:?}:\n{}", cluster.log()));
    }
}

impl Drop for Database<'_> {
    fn drop(&mut self) {
        if !self.cluster.is_shared || !self.is_first {
            return;
        }
        if thread::panicking() {
            let of_it = |line: &str| line.contains(&format!("@{} ", self.name));
            eprintln!("The server's log:\n{}", last_lines(&self.cluster.log(), of_it));
        }
        let mut admin = self.cluster.admin(SUPERUSER);
        let _ = admin.batch_execute(&format!("DROP DATABASE \"{}\" WITH (FORCE)", self.name));
        if self.role == self.name {
            let _ = admin.batch_execute(&format!("DROP ROLE \"{}\"", self.role));
        }
    }
}

/// Percent-encodes every byte that is not a letter or a digit.
fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// A tablespace on a small disk; unmounted when dropped.
pub struct SmallTablespace<'a> {
    cluster: &'a Cluster,
    name: String,
    folder: PathBuf,
}

impl SmallTablespace<'_> {
    /// A database in it, with a role that owns it.
    pub fn database(&self) -> Database<'_> {
        Database::make(self.cluster, &format!("TABLESPACE \"{}\"", self.name))
    }

    /// Leaves this many bytes free, or everything if there is less.
    pub fn leave(&self, bytes: u64) {
        leave_free(&self.folder, bytes);
    }
}

impl Drop for SmallTablespace<'_> {
    fn drop(&mut self) {
        if self.cluster.is_shared {
            let mut admin = self.cluster.admin(SUPERUSER);
            let _ = admin.batch_execute(&format!("DROP TABLESPACE \"{}\"", self.name));
        }
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}

pub fn number(client: &mut Client, sql: &str) -> i64 {
    texts(client, sql)[0].parse().unwrap()
}

/// The first column of every row, of whatever type it is.
pub fn texts(client: &mut Client, sql: &str) -> Vec<String> {
    let messages = client.simple_query(sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_string()),
        _ => None,
    });
    rows.collect()
}

/// A name that is unique within this process.
fn unique(word: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    format!("{word}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}
