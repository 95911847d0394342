//! What the service says when it is ready for the first time: how to ask it, where its backups are, and what is next.

use std::net::SocketAddr;
use std::path::Path;

use rustix::process::geteuid;

use crate::backup::BackupSettings;
use crate::store::{Backend, DatabaseIdentity};
use crate::system::address::of_own_listener;
use crate::system::shell::word;
use crate::system::users;

/// What the lines are about.
pub struct FirstStart<'s> {
    /// How this program is called.
    pub command: String,
    /// Where the service listens.
    pub address: SocketAddr,
    /// Whether the status page answers nobody before a token is set.
    pub lacks_token: bool,
    pub identity: DatabaseIdentity,
    pub backups: &'s BackupSettings,
}

impl FirstStart<'_> {
    /// The lines. Each command in them can be typed as it is, in the folder in which the service was started.
    pub fn lines(&self) -> [String; 3] {
        let FirstStart { command, identity, .. } = self;
        let address = of_own_listener(self.address);
        let user = users::name(geteuid().as_raw());
        let location = &identity.location;
        let open = match identity.backend {
            Backend::Sqlite => format!("open {location} as the user {user}"),
            Backend::Postgresql => format!("connect to {location}, each with a login of its own"),
        };
        let page = match self.lacks_token {
            true => format!("; set CTS_ADMIN_TOKEN for the status page, http://{address}/"),
            false => format!(", or http://{address}/ in a browser"),
        };
        [
            format!("Ask it: `{command} --check --url http://{address}`{page}"),
            self.backups(),
            format!("Next: trading programs {open}; `{command} --help` lists the settings"),
        ]
    }

    fn backups(&self) -> String {
        let command = match self.identity.backend {
            Backend::Sqlite => {
                format!("{} --db {} backup", self.command, word(Path::new(&self.identity.location)))
            }
            Backend::Postgresql => format!("{} backup", self.command),
        };
        let BackupSettings { folder, every, .. } = self.backups;
        let Some(folder) = folder else {
            return "Backups: cts makes none; set CTS_BACKUP_DIR to a folder for them".into();
        };
        let folder = folder.display();
        match every {
            Some(every) => format!(
                "Backups: in {folder}, one every {}; `{command}` makes one now",
                humantime::format_duration(*every)
            ),
            None => format!("Backups: in {folder}, by `{command}` only (CTS_BACKUP_EVERY is 0)"),
        }
    }
}
