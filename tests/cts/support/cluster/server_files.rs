//! The programs and folders of all test servers of this process, and the shell that removes them.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs};

use super::programs::Programs;
use super::{NOBODY, SUPERUSER};
use crate::support::harness::{free_bytes, is_root};

const END: &str = include_str!("end.sh");

/// What all servers of this process have in common.
pub struct ServerFiles {
    programs: Programs,
    pub folder: PathBuf,
    made: AtomicU32,
    /// Ends all servers when its standard input is closed, which is when this process ends.
    _cleanup_process: Child,
}

impl ServerFiles {
    pub fn of_this_process() -> &'static ServerFiles {
        static FILES: OnceLock<ServerFiles> = OnceLock::new();
        FILES.get_or_init(|| {
            let mut folder = tempfile::Builder::new();
            let folder = folder.prefix("cts-pg-").tempdir_in(place_for_servers()).unwrap().keep();
            give_away(&folder);
            let files = ServerFiles {
                made: AtomicU32::new(0),
                _cleanup_process: cleanup_process(&folder),
                programs: Programs::of_this_process(&folder),
                folder,
            };
            files.make_cluster(&files.template());
            files
        })
    }

    /// Makes a new cluster in a folder that does not exist yet.
    pub fn make_cluster(&self, data: &Path) {
        done(
            self.program("initdb")
                .args(["--no-sync", "--username", SUPERUSER, "--auth", "trust"])
                .args(["--encoding", "UTF8", "--locale", "C.UTF-8", "--wal-segsize", "1"])
                .arg("--pgdata")
                .arg(data),
        );
    }

    /// A new cluster that every server starts from a copy of.
    pub fn template(&self) -> PathBuf {
        self.folder.join("template")
    }

    /// A program of PostgreSQL, or one with its absolute path, run as a user who may run a server (not root).
    pub fn program(&self, name: &str) -> Command {
        self.as_server_user(&self.programs.path(name))
    }

    /// Another program, run as the same user.
    pub fn as_server_user(&self, path: &Path) -> Command {
        let mut command = Command::new(path);
        command.env_clear().env("LC_ALL", "C").stdin(Stdio::null());
        command.current_dir(&self.folder).process_group(0);
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    /// The folder of the server's own programs.
    pub fn server_programs(&self) -> PathBuf {
        self.programs.path("postgres").parent().unwrap().to_path_buf()
    }

    /// The `pg_dump` for these servers, if it is not one that cts finds by itself.
    pub fn pg_dump(&self) -> Option<&Path> {
        self.programs.pg_dump.as_deref()
    }

    /// Makes a copy of a server's data that of a standby. What `pg_basebackup -R` writes, an older server may not know.
    pub fn follow(&self, data: &Path, socket: &Path, port: u16) {
        let primary = format!("host={} port={port} user={SUPERUSER}", socket.display());
        let line = format!("primary_conninfo = '{primary}'\n");
        for (name, text) in [("standby.signal", ""), ("postgresql.auto.conf", &line)] {
            let path = data.join(name);
            fs::write(&path, text).unwrap();
            give_away(&path);
        }
    }

    /// The name and the folder for one more cluster.
    pub fn new_folder(&self) -> (String, PathBuf) {
        let title = self.folder.file_name().unwrap().to_str().unwrap();
        let name = format!("{title}-{:04}", self.made.fetch_add(1, Ordering::Relaxed));
        let folder = self.folder.join(&name);
        fs::create_dir(&folder).unwrap();
        give_away(&folder);
        (name, folder)
    }
}

/// Memory where there is room, a disk else. The servers sync nothing, and a fifth of the time of these tests goes into the
/// making of the 300 files of a new database on ext4.
fn place_for_servers() -> PathBuf {
    const ROOM: u64 = 4 << 30;
    let memory = Path::new("/dev/shm");
    let free = free_bytes(memory).unwrap_or(0);
    if free.min(available_memory()) >= ROOM { memory.to_path_buf() } else { env::temp_dir() }
}

/// In bytes, as the kernel estimates it.
fn available_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kibibytes = text.lines().find_map(|line| {
        line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    });
    kibibytes.unwrap_or(0) << 10
}

/// Holds the data, logs and sockets of all servers of this process.
pub fn folder_of_all_servers() -> &'static Path {
    &ServerFiles::of_this_process().folder
}

/// Starts the shell that waits for the end of this process. It has its own process group, so that a
/// signal to the group of the tests does not reach it.
fn cleanup_process(folder: &Path) -> Child {
    let mut command = end(folder.file_name().unwrap().to_str().unwrap(), folder, "read -r _");
    command.stdin(Stdio::piped()).process_group(0).spawn().unwrap()
}

/// The command that runs `first`, then ends the processes with this title and removes the folder.
pub fn end(title: &str, folder: &Path, first: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{first}\n{END}"), "sh", title]).arg(folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Makes the user of the servers the owner; every user may traverse the folder.
pub fn give_away(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o711)).unwrap();
    if is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

pub fn done(command: &mut Command) {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}
