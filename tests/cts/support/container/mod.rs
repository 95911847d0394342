//! A container with its own systemd, booted by systemd-nspawn from a cached root file system under
//! an overlay in memory. Its files, mounts and processes end with the container, and the container
//! ends with the test, even if that is killed.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::harness::{Done, TIMEOUT, is_root};
use crate::support::project::source;

/// A release of Debian on which cts is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Debian {
    Bookworm,
    Trixie,
}

impl Debian {
    /// Every release, the oldest first.
    pub const ALL: [Debian; 2] = [Debian::Bookworm, Debian::Trixie];

    /// The name of the release in the archive of Debian.
    fn codename(self) -> &'static str {
        match self {
            Debian::Bookworm => "bookworm",
            Debian::Trixie => "trixie",
        }
    }

    /// The release of this machine. The binary under test is linked with its C library, and
    /// therefore runs on it and on later ones. The oldest on a machine without one of them.
    fn of_this_machine() -> Debian {
        let about = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let is_this = |release: &Debian| {
            let line = format!("VERSION_CODENAME={}", release.codename());
            about.lines().any(|have| have == line)
        };
        Debian::ALL.into_iter().find(is_this).unwrap_or(Debian::Bookworm)
    }
}

pub struct Container {
    name: String,
    nspawn: Child,
    /// Process 1 of the container, by its id on the host.
    leader: Pid,
    cgroup: Option<PathBuf>,
    _folder: TempDir,
}

/// How a container is made.
pub struct ContainerPlan {
    debian: Debian,
    binds: Vec<(PathBuf, String)>,
    disk: Option<PathBuf>,
}

impl ContainerPlan {
    /// A Debian without cts, of the release of this machine.
    pub fn bare() -> ContainerPlan {
        ContainerPlan { debian: Debian::of_this_machine(), binds: Vec::new(), disk: None }
    }

    /// Takes this release of Debian.
    pub fn on(mut self, debian: Debian) -> ContainerPlan {
        self.debian = debian;
        self
    }

    /// Binds a file or folder of the host into the container, read-only.
    pub fn with(mut self, from: PathBuf, to: &str) -> ContainerPlan {
        self.binds.push((from, to.to_string()));
        self
    }

    /// Keeps the root file system in this folder, which is made if it does not exist: the next
    /// container with the same folder is the same machine after a boot.
    pub fn on_disk(mut self, folder: PathBuf) -> ContainerPlan {
        self.disk = Some(folder);
        self
    }

    /// Boots it. Returns `None` and prints why, also where output is captured, if this machine
    /// cannot.
    pub fn boot(self) -> Option<Container> {
        let here = Debian::of_this_machine();
        if self.debian < here {
            let needs = "the binary under test is linked with the C library of Debian";
            crate::support::not_tried(&format!("on {:?}: {needs} {here:?}", self.debian));
            return None;
        }
        match self.try_boot() {
            Ok(booted) => Some(booted),
            Err(why) => ContainerPlan::impossible(&why),
        }
    }

    /// Prints that the test is not run; with `CTS_BOOTED=required` it fails instead.
    pub fn impossible(why: &str) -> Option<Container> {
        let is_required = std::env::var_os("CTS_BOOTED").is_some_and(|wanted| wanted == "required");
        assert!(!is_required, "CTS_BOOTED=required, but: {why}");
        crate::support::not_tried(why);
        None
    }

    fn try_boot(self) -> Result<Container, String> {
        static ROOTS: [OnceLock<Result<PathBuf, String>>; Debian::ALL.len()] =
            [const { OnceLock::new() }; Debian::ALL.len()];
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let root = ROOTS[self.debian as usize].get_or_init(|| root(self.debian)).clone()?;
        let name = format!("cts-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = TempDir::new().unwrap();
        let notify = folder.path().join("notify");
        let manager = UnixDatagram::bind(&notify).unwrap();
        let console = folder.path().join("console");
        let output = fs::File::create(&console).unwrap();
        let cgroup = own_cgroup(&name)?;
        let mut command = Command::new("sh");
        command
            .args(["-c", r#"[ -z "$0" ] || echo $$ >"$0/cgroup.procs"; exec "$@""#])
            .arg(cgroup.as_deref().unwrap_or(Path::new("")))
            // The container shuts down if the test is killed.
            .args(["setpriv", "--pdeathsig", "TERM", "systemd-nspawn", "--boot", "--quiet"])
            .args(root_arguments(&root, self.disk.as_deref())?)
            .args(["--register=no", "--private-network"])
            .args(["--console=pipe", "--notify-ready=yes"])
            .arg(format!("--machine={name}"))
            .args(cgroup.as_ref().map(|_| "--keep-unit"))
            .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
            .env("NOTIFY_SOCKET", &notify)
            .env("TMPDIR", folder.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output);
        for (from, to) in &self.binds {
            command.arg(format!("--bind-ro={}:{to}", from.display()));
        }
        let mut nspawn = command.spawn().map_err(|e| format!("nothing can be started: {e}"))?;
        match leader(&manager, &mut nspawn) {
            Ok(leader) => Ok(Container { name, nspawn, leader, cgroup, _folder: folder }),
            Err(why) => {
                let _ = nspawn.kill();
                let _ = nspawn.wait();
                cgroup.iter().for_each(|cgroup| remove_cgroup(cgroup));
                let said = fs::read_to_string(&console).unwrap_or_default();
                Err(format!("systemd does not boot here, {why}: {}", said.trim()))
            }
        }
    }
}

/// The arguments that name the root file system: under an overlay in memory, or a copy on disk.
fn root_arguments(root: &Path, disk: Option<&Path>) -> Result<Vec<String>, String> {
    let Some(disk) = disk else {
        let root = root.display();
        return Ok(vec![format!("--directory={root}"), "--volatile=overlay".into()]);
    };
    if !disk.exists() {
        let copied = Command::new("cp").arg("-a").args([root, disk]).status();
        if !copied.map_err(|e| e.to_string())?.success() {
            return Err(format!("the Debian to boot cannot be copied to {}", disk.display()));
        }
    }
    Ok(vec![format!("--directory={}", disk.display())])
}

/// The cached root file system of a release, built if it does not exist.
fn root(debian: Debian) -> Result<PathBuf, String> {
    if !is_root() {
        return Err("only root can boot a container".into());
    }
    for program in ["systemd-nspawn", "debootstrap", "setpriv", "nsenter"] {
        if let Err(e) = Command::new(program).arg("--version").output() {
            return Err(format!("{program} cannot be run: {e} (tests/run.sh installs it)"));
        }
    }
    let script = source("tests/cts/support/container/root.sh");
    let output = Command::new(script).arg(debian.codename()).output().map_err(|e| e.to_string())?;
    if output.status.success() {
        return Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last: Vec<_> = said.lines().rev().take(3).collect();
    Err(format!("a Debian to boot cannot be fetched: {}", last.join(" / ")))
}

/// Makes a control group for the container if systemd does not run on the host.
fn own_cgroup(name: &str) -> Result<Option<PathBuf>, String> {
    if Path::new("/run/systemd/system").is_dir() {
        return Ok(None);
    }
    let trees = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
    let tree = trees.into_iter().find(|tree| tree.join("cgroup.procs").exists());
    let tree = tree.ok_or("there is no cgroup v2 here")?;
    sweep(tree);
    let cgroup = tree.join(name);
    fs::create_dir(&cgroup).map_err(|e| format!("{}: {e}", cgroup.display()))?;
    Ok(Some(cgroup))
}

/// Removes the control groups of test runs that were killed.
fn sweep(tree: &Path) {
    for entry in fs::read_dir(tree).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let run = name.strip_prefix("cts-").and_then(|name| name.split('-').next());
        let pid = run.and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            remove_cgroup(&entry.path());
        }
    }
}

/// Waits until the systemd of the container notifies that it has booted.
fn leader(manager: &UnixDatagram, nspawn: &mut Child) -> Result<Pid, String> {
    let deadline = Instant::now() + TIMEOUT;
    manager.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let (mut leader, mut bytes) = (None, [0; 4096]);
    while Instant::now() < deadline {
        let told = match manager.recv(&mut bytes) {
            Ok(length) => String::from_utf8_lossy(&bytes[..length]).into_owned(),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                if let Some(status) = nspawn.try_wait().unwrap() {
                    return Err(status.to_string());
                }
                continue;
            }
            Err(e) => return Err(e.to_string()),
        };
        let pid = told.lines().find_map(|line| line.strip_prefix("X_NSPAWN_LEADER_PID="));
        leader = pid.and_then(|pid| Pid::from_raw(pid.parse().ok()?)).or(leader);
        if told.lines().any(|line| line == "READY=1") {
            return leader.ok_or("its process 1 is not named".into());
        }
    }
    Err("it did not say in time that it is up".into())
}

impl Container {
    /// Runs a script inside.
    pub fn sh(&self, script: &str) -> Done {
        Done(self.command(script).output().unwrap())
    }

    /// A command that runs a script inside.
    pub fn command(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--all", "--target", &self.leader.as_raw_nonzero().to_string()])
            .args(["sh", "-euc", script])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C.UTF-8")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null());
        command
    }

    /// Runs a script inside, expects exit code 0, and returns what it printed.
    pub fn ok(&self, script: &str) -> String {
        let done = self.sh(script);
        assert!(
            done.0.status.success(),
            "{script}: {}\n{}{}\n{}",
            done.0.status,
            done.out(),
            done.err(),
            self.journal("")
        );
        done.out().trim_end().to_string()
    }

    /// Writes a file inside.
    pub fn write(&self, path: &str, text: &str) {
        assert!(!text.contains("EOF"));
        self.ok(&format!("mkdir -p $(dirname {path}); cat >{path} <<'EOF'\n{text}EOF"));
    }

    /// Copies a file of the host into the container.
    pub fn put(&self, from: &Path, to: &str) {
        let mut command = self.command(&format!("cat >{to}"));
        assert!(command.stdin(fs::File::open(from).unwrap()).status().unwrap().success());
    }

    /// A drop-in for the service.
    pub fn drop_in(&self, text: &str) {
        self.write("/etc/systemd/system/cts.service.d/test.conf", text);
        self.ok("systemctl daemon-reload");
    }

    /// A property of the service.
    pub fn show(&self, property: &str) -> String {
        self.ok(&format!("systemctl show -P {property} cts.service"))
    }

    /// Waits until the property has this value.
    pub fn until(&self, property: &str, wanted: &str) {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let is = self.show(property);
            if is == wanted {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{property} is {is}, not {wanted}:\n{}",
                self.journal("")
            );
        }
    }

    /// The log lines of the service, without those of systemd.
    pub fn log(&self, more: &str) -> String {
        self.ok("journalctl --sync");
        self.sh(&format!("journalctl -q -o cat _SYSTEMD_UNIT=cts.service {more}")).out()
    }

    /// The end of the whole journal.
    pub fn journal(&self, more: &str) -> String {
        self.sh(&format!("journalctl -q -o short-monotonic --no-hostname -b {more} | tail -n 60"))
            .out()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // All processes and mounts of the container end with its process 1.
        let _ = kill_process(self.leader, Signal::KILL);
        let _ = self.nspawn.wait();
        self.cgroup.iter().for_each(|cgroup| remove_cgroup(cgroup));
        for left in ["propagate", "unix-export"] {
            let _ = fs::remove_dir(Path::new("/run/systemd/nspawn").join(left).join(&self.name));
        }
    }
}

fn remove_cgroup(cgroup: &Path) {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    // The last processes may need a moment to end.
    let deadline = Instant::now() + Duration::from_secs(2);
    while fs::remove_dir(cgroup).is_err() && cgroup.exists() && Instant::now() < deadline {
        std::thread::yield_now();
    }
}
