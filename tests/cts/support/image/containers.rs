//! Containers of an image.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use super::Image;
use crate::support::harness::{Done, Service, await_that};

/// Makes the mounts of a container, and becomes its first process: that of the image's user, without capabilities.
/// Arguments: root, volume, a folder for `/run/secrets` or nothing, user and group, and the command, which gets the
/// variables that stand in place of `ENVIRONMENT`.
const FIRST_PROCESS: &str = r#"
root=$1 volume=$2 secrets=$3 user=$4
shift 4
mkdir -p "$root/proc" "$root/run/secrets"
mount --bind "$root" "$root"
mount --bind "$volume" "$root/data"
[ -z "$secrets" ] || mount --bind "$secrets" "$root/run/secrets"
mount -t proc proc "$root/proc"
mount -o remount,bind,ro "$root"
ip link set lo up
exec setpriv --no-new-privs env -i ENVIRONMENT /usr/sbin/chroot --userspec="$user" --groups= "$root" "$@"
"#;

/// A container to be started.
pub struct ImageRun<'i> {
    image: &'i Image,
    volume: PathBuf,
    secrets: Option<PathBuf>,
    environment: Vec<String>,
}

impl<'i> ImageRun<'i> {
    pub(super) fn new(image: &'i Image, volume: &Path) -> ImageRun<'i> {
        let (volume, environment) = (volume.to_path_buf(), image.words("/Env"));
        ImageRun { image, volume, secrets: None, environment }
    }

    /// Sets a variable, as `--env` does.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|set| !set.starts_with(&format!("{name}=")));
        self.environment.push(format!("{name}={value}"));
        self
    }

    /// Mounts this folder at `/run/secrets`, as `--secret` does with a file.
    pub fn secrets(mut self, folder: &Path) -> Self {
        self.secrets = Some(folder.to_path_buf());
        self
    }

    fn user(&self) -> &'i str {
        self.image.config["User"].as_str().unwrap()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child=KILL"])
            .args(["sh", "-euc", &with_environment(&self.environment), "sh"])
            .args([&self.image.root, &self.volume])
            .arg(self.secrets.as_deref().unwrap_or(Path::new("")))
            .arg(self.user())
            .args(self.image.words("/Entrypoint"))
            .args(words)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// Runs a command of cts to its end, in a container of its own.
    pub fn cts(self, words: &[&str]) -> Done {
        Done(self.command(words).output().unwrap())
    }

    /// Starts a container that runs this command of cts; none is the service.
    pub fn start(self, words: &[&str]) -> ImageContainer<'i> {
        let service = Service::start(self.command(words));
        let unshare = service.child.id();
        let children = format!("/proc/{unshare}/task/{unshare}/children");
        let mut first = None;
        await_that("cts is the first process of a container", || {
            let child = fs::read_to_string(&children).unwrap_or_default();
            first = child.trim().parse().ok().and_then(Pid::from_raw);
            let program = format!("/proc/{}/comm", child.trim());
            assert!(Path::new(&format!("/proc/{unshare}")).exists(), "{}", service.log());
            fs::read_to_string(program).is_ok_and(|name| name == "cts\n")
        });
        ImageContainer { run: self, service, first: first.unwrap() }
    }
}

/// The script, which gives cts these variables and no others.
fn with_environment(environment: &[String]) -> String {
    assert!(environment.iter().all(|set| !set.contains(['\'', '\n'])));
    let quoted: Vec<String> = environment.iter().map(|set| format!("'{set}'")).collect();
    FIRST_PROCESS.replace("ENVIRONMENT", &quoted.join(" "))
}

/// A running container.
pub struct ImageContainer<'i> {
    run: ImageRun<'i>,
    pub service: Service,
    /// Its first process, by its id on the host.
    first: Pid,
}

impl ImageContainer<'_> {
    fn nsenter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.first.as_raw_nonzero().to_string(), "--net"]);
        command
    }

    /// Runs a command in the container, as `docker exec` does.
    pub fn exec(&self, words: &[&str], environment: &[(&str, &str)]) -> Done {
        let (user, group) = self.run.user().split_once(':').unwrap();
        let mut command = self.nsenter();
        command
            .args(["--mount", "--pid", "--root", "--wd", "--setuid", user, "--setgid", group])
            .args(words)
            .env_clear()
            .envs(self.run.environment.iter().map(|set| set.split_once('=').unwrap()))
            .envs(environment.iter().copied());
        Done(command.output().unwrap())
    }

    /// The status code and the body of an answer at the published port.
    pub fn get(&self, path: &str, token: Option<&str>) -> (String, String) {
        let mut command = self.nsenter();
        let bearer = token.map(|token| format!("Authorization: Bearer {token}"));
        command
            .args(["curl", "--silent", "--max-time", "30", "--write-out", "\n%{http_code}"])
            .args(bearer.iter().flat_map(|header| ["--header", header]))
            .arg(format!("http://127.0.0.1:3000{path}"));
        let done = Done(command.output().unwrap());
        let out = done.out();
        let (body, code) = out.trim_end().rsplit_once('\n').unwrap_or_else(|| panic!("{out}"));
        (code.to_string(), body.to_string())
    }

    /// A field of `/proc/PID/status` of the first process.
    pub fn status(&self, field: &str) -> String {
        let status = format!("/proc/{}/status", self.first.as_raw_nonzero());
        let status = fs::read_to_string(status).unwrap();
        let value = status.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
        value.unwrap().trim().to_string()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.first, signal).unwrap();
    }

    /// Stops it as the image says; returns the exit code and the log.
    pub fn stop(self) -> (Option<i32>, String) {
        assert_eq!(self.run.image.config["StopSignal"], "SIGTERM");
        self.signal(Signal::TERM);
        self.service.end()
    }
}
