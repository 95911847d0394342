//! The server that is measured: a private one with fsync on, or one that runs already.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};

use crate::Result;
use crate::random::Random;

/// The user of the server where the benchmark runs as root.
const NOBODY: u32 = 65534;
const TIMEOUT: Duration = Duration::from_secs(60);
/// Runs a program until standard input is closed, so that the server ends with the benchmark, however that ends.
const GUARD: &str = r#""$0" "$@" & read -r line; kill -INT $!; wait $!"#;
/// Autovacuum comes by every 5 s instead of every minute, since a measurement takes seconds. Timed
/// checkpoints would fall on one side or the other.
const SETTINGS: [&str; 8] = [
    "shared_buffers=1GB",
    "max_wal_size=8GB",
    "checkpoint_timeout=1h",
    "autovacuum_naptime=5s",
    "max_connections=60",
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "timezone=UTC",
];

pub struct PostgresServer {
    /// The URL up to the slash before the database.
    base: String,
    /// The parameters of the URL, with the question mark.
    parameters: String,
    /// The private server; `None` for one that runs already.
    child: Option<Child>,
}

impl PostgresServer {
    /// A server that runs already; its user may create databases.
    pub fn at(url: &str) -> Result<Self> {
        let (address, parameters) = url.split_once('?').unwrap_or((url, ""));
        let (_, rest) = address.split_once("://").ok_or("--url: not a URL")?;
        let host = rest.split('/').next().unwrap_or(rest);
        let base = address[..address.len() - rest.len() + host.len()].to_owned();
        let parameters =
            if parameters.is_empty() { String::new() } else { format!("?{parameters}") };
        Ok(Self { base, parameters, child: None })
    }

    /// Starts a private server whose data are in `folder`.
    pub fn start(folder: &Path) -> Result<Self> {
        let user = rustix::process::geteuid().is_root().then_some(NOBODY);
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        chown(folder, user, user)?;
        let password = password();
        let file = folder.join("password");
        fs::write(&file, &password)?;
        chown(&file, user, user)?;
        let data = folder.join("data");
        let made = as_user(&mut Command::new(programs()?.join("initdb")), user, folder)
            .args(["--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"])
            .arg(format!("--pwfile={}", file.display()))
            .arg("-D")
            .arg(&data)
            .output()?;
        if !made.status.success() {
            return Err(format!("initdb: {}", String::from_utf8_lossy(&made.stderr)).into());
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let log = File::create(folder.join("log"))?;
        let mut command = Command::new("sh");
        as_user(&mut command, user, folder)
            .args(["-c", GUARD])
            .arg(programs()?.join("postgres"))
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string()])
            .args(SETTINGS.iter().flat_map(|setting| ["-c", setting]))
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log);
        let base = format!("postgresql://postgres:{password}@127.0.0.1:{port}");
        let child = Some(command.spawn()?);
        let mut server = Self { base, parameters: "?sslmode=disable".into(), child };
        server.await_start(&folder.join("log"))?;
        Ok(server)
    }

    fn await_start(&mut self, log: &Path) -> Result<()> {
        let begun = Instant::now();
        while self.connect("postgres").is_err() {
            let has_ended = match &mut self.child {
                Some(child) => child.try_wait()?.is_some(),
                None => false,
            };
            if has_ended || begun.elapsed() > TIMEOUT {
                return Err(format!("postgres: {}", fs::read_to_string(log)?).into());
            }
            sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    pub fn url(&self, database: &str) -> String {
        format!("{}/{database}{}", self.base, self.parameters)
    }

    pub fn connect(&self, database: &str) -> Result<Client> {
        Ok(Client::connect(&self.url(database), NoTls)?)
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.stdin.take());
            // It ends at the end of its standard input; there is nobody to report an error to.
            let _ = child.wait();
        }
    }
}

fn as_user<'a>(command: &'a mut Command, user: Option<u32>, folder: &Path) -> &'a mut Command {
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    command.current_dir(folder)
}

/// Unknown to other users of the machine, who can connect to the port.
fn password() -> String {
    let mut random = Random::new(u64::from(std::process::id()) << 32 ^ clock());
    format!("{:016x}", random.next())
}

fn clock() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |time| time.as_nanos() as u64)
}

/// The programs of the newest server that is installed.
fn programs() -> Result<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for entry in fs::read_dir("/usr/lib/postgresql").into_iter().flatten() {
        let entry = entry?;
        let version = entry.file_name().to_str().and_then(|name| name.parse().ok());
        found.extend(version.map(|version| (version, entry.path().join("bin"))));
    }
    found.retain(|(_, programs)| programs.join("initdb").exists());
    let newest = found.into_iter().max().map(|(_, programs)| programs);
    newest.ok_or_else(|| "no PostgreSQL server is installed (Debian: postgresql)".into())
}
