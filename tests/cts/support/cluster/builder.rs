//! The configuration of a new server.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use super::Cluster;
use super::server_files::{ServerFiles, done, give_away};
use crate::support::certs::Pair;

const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
fsync = off
password_encryption = 'scram-sha-256'
shared_buffers = '16MB'
max_wal_size = '256MB'
log_line_prefix = '%m [%p] %q%u@%d %a '
log_lock_waits = on
wal_retrieve_retry_interval = '50ms'
";
/// Connections over TCP need a password.
const HBA: &str = "
local all all trust
local replication all trust
host all all 127.0.0.1/32 scram-sha-256
";

/// The configuration of a new cluster.
#[derive(Default)]
pub struct Builder {
    settings: String,
    hba: String,
    tls: Option<(PathBuf, PathBuf)>,
    has_own_identifier: bool,
}

impl Builder {
    pub fn set(mut self, name: &str, value: &str) -> Builder {
        self.settings += &format!("{name} = '{}'\n", value.replace('\'', "''"));
        self
    }

    /// Lines of `pg_hba.conf` that come before the usual ones.
    pub fn hba(mut self, lines: &str) -> Builder {
        self.hba += &format!("{lines}\n");
        self
    }

    /// The server also accepts TLS, with this certificate.
    pub fn tls(mut self, pair: &Pair) -> Builder {
        self.tls = Some((pair.cert.clone(), pair.key.clone()));
        self.set("ssl", "on")
    }

    /// The server has a `system_identifier` of its own. Others share that of the template.
    pub fn of_another_cluster(mut self) -> Builder {
        self.has_own_identifier = true;
        self
    }

    pub fn start(self) -> Cluster {
        let files = ServerFiles::of_this_process();
        let (name, folder) = files.new_folder();
        let data = folder.join("data");
        match self.has_own_identifier {
            true => files.make_cluster(&data),
            false => done(Command::new("cp").arg("-a").arg(files.template()).arg(&data)),
        }
        let settings = data.join("postgresql.conf");
        let all = fs::read_to_string(&settings).unwrap() + SETTINGS + &self.settings;
        fs::write(settings, all).unwrap();
        fs::write(data.join("pg_hba.conf"), self.hba + HBA).unwrap();
        if let Some((cert, key)) = self.tls {
            for (from, name) in [(cert, "server.crt"), (key, "server.key")] {
                let to = data.join(name);
                fs::copy(from, &to).unwrap();
                give_away(&to);
                fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).unwrap();
            }
        }
        Cluster::start_new(name, folder)
    }
}
