//! HAProxy in front of the nodes.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

use postgres::{Config, NoTls};

use crate::support::cluster::{SUPERUSER, ServerFiles, end, free_port};

use super::configuration::Addresses;
use super::node::PASSWORD;
use super::programs::HAPROXY;

/// HAProxy; ended when dropped.
pub struct Proxy {
    pub port: u16,
    name: String,
    folder: PathBuf,
    process: Child,
}

impl Proxy {
    pub fn start(addresses: &Addresses) -> Proxy {
        let files = ServerFiles::of_this_process();
        let (name, folder) = files.new_folder();
        let port = free_port();
        let file = folder.join("haproxy.cfg");
        fs::write(&file, addresses.of_proxy(port)).unwrap();
        let log = File::create(folder.join("log")).unwrap();
        let process = files
            .program(HAPROXY)
            .args(["-db", "-f"])
            .arg(&file)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Proxy { port, name, folder, process }
    }

    /// Whether a connection through it reaches the server on this port, and that can be written to.
    pub fn leads_to(&self, port: u16) -> bool {
        let sql = "SELECT CASE WHEN NOT pg_is_in_recovery() THEN inet_server_port() END";
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port).user(SUPERUSER).password(PASSWORD);
        config.dbname(SUPERUSER).connect_timeout(Duration::from_secs(5));
        let Ok(mut client) = config.connect(NoTls) else { return false };
        let answer = client.query_one(sql, &[]).and_then(|row| row.try_get::<_, Option<i32>>(0));
        answer.is_ok_and(|found| found == Some(i32::from(port)))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = end(&self.name, &self.folder, "").status();
    }
}
