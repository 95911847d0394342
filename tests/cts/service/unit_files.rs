//! The files in `systemd/`, checked by systemd's own tools in a staged root: the unit loads without
//! a warning, its sandbox is tight, its restart policy follows the exit codes, and the user and
//! folder are made as the unit expects them. Nothing here needs a running systemd. A missing tool
//! fails the test, because a skipped check looks like a passed one.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// The units with a sandbox, and the exposure of each, as `systemd-analyze security` counts it (0 is
/// best, 10 worst).
const EXPOSURES: [(&str, f32); 4] = [
    ("cts.service", 1.2),
    ("cts-backup.service", 1.1),
    ("cts-offsite.service", 1.1),
    ("litestream.service", 1.1),
];

/// The units that are shipped.
const UNITS: [&str; 7] = [
    "cts.service",
    "cts-recover.service",
    "cts.socket",
    "cts-backup.service",
    "cts-backup.timer",
    "cts-offsite.path",
    "cts-offsite.service",
];

/// Exit codes of permanent errors, and of errors after which a restart may succeed (sysexits, as
/// docs/commands.md lists them).
const FINAL: [i32; 5] = [64, 65, 73, 77, 78];
const TRANSIENT: [i32; 3] = [69, 74, 75];

#[test]
fn unit_passes_systemd_analyze_verify() {
    let root = StagedRoot::new();
    assert_eq!(root.complaints(), "", "the unit as shipped");
}

#[test]
fn unit_of_litestream_passes_systemd_analyze_verify() {
    let root = StagedRoot::new();
    root.copy("litestream.service", "etc/systemd/system/litestream.service");
    root.write("usr/local/bin/litestream", "#!/bin/sh\n");
    let program = root.path("usr/local/bin/litestream");
    fs::set_permissions(program, fs::Permissions::from_mode(0o755)).expect("chmod");
    assert_eq!(root.complaints_about(&["litestream.service"]), "", "the unit as shipped");
}

#[test]
fn drop_ins_in_the_comments_pass_systemd_analyze_verify() {
    let drop_ins = documented_drop_ins(&unit_text());
    assert_eq!(drop_ins.len(), 6, "drop-ins found: {drop_ins:#?}");
    for (number, text) in drop_ins.iter().enumerate() {
        let root = StagedRoot::new();
        root.write("etc/systemd/system/cts.service.d/local.conf", text);
        assert_eq!(root.complaints(), "", "drop-in {}:\n{text}", number + 1);
    }
}

#[test]
fn verify_detects_a_misspelt_setting() {
    let root = StagedRoot::new();
    root.write("etc/systemd/system/cts.service.d/local.conf", "[Service]\nWatchdogSecs=30s\n");
    assert!(root.complaints().contains("WatchdogSecs"), "{}", root.complaints());
}

#[test]
fn unit_exposure_is_low() {
    for (name, limit) in EXPOSURES {
        let exposure = exposure(&source(name));
        assert!(exposure <= limit, "{name}: {exposure} is over {limit}");
    }
}

/// The settings of a unit's sandbox, without those named.
fn sandbox(name: &str, without: &[&str]) -> Vec<String> {
    let text = read(name);
    let (_, sandbox) = text.split_once("# --- files ---").expect("a part on files");
    let lines = sandbox.lines().take_while(|line| *line != "[Install]");
    let is_setting = |line: &&str| {
        let key = line.split('=').next().unwrap_or_default();
        !line.is_empty()
            && !line.starts_with('#')
            && !without.contains(&key)
            && !without.contains(line)
    };
    lines.filter(is_setting).map(str::to_owned).collect()
}

/// Its priority is set by systemd.
const OWN_PRIORITY: &str = "SystemCallFilter=setpriority";

#[test]
fn the_unit_of_a_backup_has_the_sandbox_of_the_service() {
    let of_service = sandbox("cts.service", &[OWN_PRIORITY, "SocketBindAllow"]);
    assert_eq!(sandbox("cts-backup.service", &[]), of_service);
}

/// They write elsewhere, reach other machines, and need not see the holder of a lock.
#[test]
fn the_units_of_other_programs_have_the_rest_of_that_sandbox() {
    let own = [
        "ReadWritePaths",
        "NoExecPaths",
        "ProtectProc",
        "ProcSubset",
        "RemoveIPC",
        "IPAddressDeny",
        "IPAddressAllow",
        "SocketBindAllow",
        OWN_PRIORITY,
    ];
    for name in ["cts-offsite.service", "litestream.service"] {
        assert_eq!(sandbox(name, &own), sandbox("cts.service", &own), "{name}");
    }
}

/// What a unit can write, it cannot run.
#[test]
fn no_program_can_be_run_from_a_directory_that_a_unit_can_write() {
    for (name, _) in EXPOSURES {
        let text = read(name);
        let words = |setting| values(&text, setting).join(" ").replace('-', "");
        let caches = values(&text, "CacheDirectory").into_iter();
        let caches = caches.map(|cache| format!("/var/cache/{cache}").replace('-', ""));
        let not_run = words("NoExecPaths");
        let written = words("ReadWritePaths") + " /tmp /var/tmp";
        for folder in written.split_whitespace().map(str::to_owned).chain(caches) {
            assert!(not_run.split(' ').any(|path| path == folder), "{name}: {folder}: {not_run}");
        }
    }
}

#[test]
fn the_timer_makes_up_for_what_was_missed_and_nothing_but_the_service_is_enabled() {
    let timer = read("cts-backup.timer");
    assert_eq!(values(&timer, "Persistent"), ["true"]);
    assert_eq!(values(&timer, "RandomizedDelaySec"), ["1h"]);
    assert!(!read("cts-backup.service").contains("[Install]"));
    let scripts = ["release/debian/postinst", "release/install.sh"];
    for script in scripts {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
        let text = fs::read_to_string(path).expect(script);
        assert!(!text.contains("enable cts-backup"), "{script}");
    }
}

#[test]
fn restart_policy_follows_the_exit_codes() {
    let unit = unit_text();
    assert_eq!(values(&unit, "Restart"), ["on-failure"]);
    assert_eq!(
        values(&unit, "StartLimitIntervalSec"),
        ["0"],
        "with a limit on starts a box may stay down for good"
    );
    assert!(
        values(&unit, "SuccessExitStatus").is_empty(),
        "an error code taken for success is not restarted"
    );

    let prevented: Vec<i32> = values(&unit, "RestartPreventExitStatus")
        .iter()
        .flat_map(|value| value.split_whitespace())
        .map(|code| code.parse().expect("a number"))
        .collect();
    assert_eq!(prevented, FINAL);
    for code in TRANSIENT {
        assert!(!prevented.contains(&code), "{code} may pass and must be retried");
    }
}

#[test]
fn holder_of_a_lock_stays_visible() {
    let unit = unit_text();
    assert_eq!(values(&unit, "ProcSubset"), ["all"], "/proc/locks would be gone");
    assert_eq!(
        values(&unit, "ProtectProc"),
        ["default"],
        "other users' /proc/PID/comm would be gone"
    );
}

#[test]
fn every_setting_has_its_reason() {
    for name in
        UNITS.iter().chain(&["litestream.service", "sysusers.d/cts.conf", "tmpfiles.d/cts.conf"])
    {
        let text = read(name);
        let mut above = "";
        for (number, line) in text.lines().enumerate() {
            let is_setting = !line.is_empty() && !line.starts_with(['#', '[']);
            let reason = above.strip_prefix('#').map(str::trim).unwrap_or_default();
            assert!(
                !is_setting || !reason.is_empty(),
                "{name}:{}: no reason above `{line}`",
                number + 1
            );
            above = line;
        }
    }
}

#[test]
fn every_unit_names_pages_that_are_installed() {
    let folder = source("");
    let entries = fs::read_dir(&folder).expect("systemd/").map(|entry| entry.expect("a file"));
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let is_unit = |name: &String| {
        ["service", "socket", "timer", "path"]
            .iter()
            .any(|kind| name.ends_with(&format!(".{kind}")))
    };
    for name in names.filter(is_unit) {
        let text = read(&name);
        let pages = values(&text, "Documentation").join(" ");
        assert!(!pages.is_empty(), "{name} has no Documentation=");
        for page in pages.split(' ').filter(|page| !page.starts_with("man:")) {
            let page =
                page.strip_prefix("file:///usr/share/doc/cts/").expect("a page of the package");
            assert!(folder.join("..").join(page).is_file(), "{name}: {page} is not installed");
        }
    }
}

#[test]
fn sysusers_and_tmpfiles_make_the_user_and_folder() {
    let root = StagedRoot::new();
    root.copy("sysusers.d/cts.conf", "usr/lib/sysusers.d/cts.conf");
    root.copy("tmpfiles.d/cts.conf", "usr/lib/tmpfiles.d/cts.conf");

    let sysusers = run(root.tool("systemd-sysusers").arg("cts.conf"));
    assert!(sysusers.status.success(), "{}", both_streams(&sysusers));
    let [uid, gid, home, shell] = account(&root.read("etc/passwd"), "cts");
    assert!(shell.ends_with("nologin") && home == "/", "cts can log in: {shell} in {home}");
    assert!(
        root.read("etc/group").contains(&format!("cts:x:{gid}:")),
        "{}",
        root.read("etc/group")
    );

    if !is_root() {
        // Only root can change the owner of the folder; the tool at least parses the line without
        // an error.
        let dry = run(root.tool("systemd-tmpfiles").args(["--cat-config", "cts.conf"]));
        assert!(
            dry.status.success() && both_streams(&dry).contains("d /data :0700 :cts :cts -"),
            "{}",
            both_streams(&dry)
        );
        return;
    }
    // It is made with these; a mode that was set by hand stays at the next boot.
    for mode in [0o700, 0o2770] {
        let tmpfiles = run(root.tool("systemd-tmpfiles").args(["--create", "cts.conf"]));
        assert!(tmpfiles.status.success(), "{}", both_streams(&tmpfiles));
        let data = fs::metadata(root.path("data")).expect("/data is there");
        assert!(data.is_dir());
        assert_eq!(data.mode() & 0o7777, mode);
        assert_eq!((data.uid().to_string(), data.gid().to_string()), (uid.clone(), gid.clone()));
        fs::set_permissions(root.path("data"), fs::Permissions::from_mode(0o2770)).unwrap();
    }
}

/// A root file system with what the tools read: the binary, the unit, and the targets that units
/// depend on.
struct StagedRoot(TempDir);

impl StagedRoot {
    fn new() -> Self {
        let root = Self(TempDir::new().expect("a temporary folder"));
        for folder in ["usr/bin", "etc"] {
            fs::create_dir_all(root.path(folder)).expect("make a folder");
        }
        fs::copy(env!("CARGO_BIN_EXE_cts"), root.path("usr/bin/cts")).expect("copy the binary");
        // The programs that the units name; systemd requires only that they are executable.
        for program in ["usr/bin/systemctl", "usr/bin/restic", "usr/lib/cts/upgrade"] {
            root.write(program, "#!/bin/sh\n");
            fs::set_permissions(root.path(program), fs::Permissions::from_mode(0o755))
                .expect("chmod");
        }
        for unit in UNITS {
            root.copy(unit, &format!("usr/lib/systemd/system/{unit}"));
        }
        for target in [
            "sysinit",
            "basic",
            "shutdown",
            "sockets",
            "timers",
            "paths",
            "multi-user",
            "network-online",
        ] {
            let text = format!(
                "[Unit]\nDescription=stand-in for {target}.target\nDefaultDependencies=no\n"
            );
            root.write(&format!("usr/lib/systemd/system/{target}.target"), &text);
        }
        root
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.0.path().join(inside)
    }

    fn write(&self, inside: &str, text: &str) {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().expect("a folder")).expect("make the folder");
        fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    fn copy(&self, name: &str, inside: &str) {
        self.write(inside, &read(name));
    }

    fn read(&self, inside: &str) -> String {
        let path = self.path(inside);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The command `program --root=HERE`, without further arguments.
    fn tool(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg(format!("--root={}", self.0.path().display()));
        command
    }

    fn complaints(&self) -> String {
        self.complaints_about(&UNITS)
    }

    /// The output of `systemd-analyze verify`. It exits 0 despite an unknown setting, so the output
    /// decides; a failing exit code is added to it.
    fn complaints_about(&self, units: &[&str]) -> String {
        let mut command = Command::new("systemd-analyze");
        command
            .args(["verify", "--man=no", "--no-pager"])
            .arg(format!("--root={}", self.0.path().display()));
        let output = run(command.args(units));
        let stderr = String::from_utf8_lossy(&output.stderr);
        let is_ours = |line: &&str| units.iter().any(|unit| line.contains(unit));
        let mut lines: Vec<&str> = stderr.lines().filter(is_ours).collect();
        if !output.status.success() && lines.is_empty() {
            lines = stderr.lines().chain(["and verify did not exit 0"]).collect();
        }
        lines.join("\n")
    }
}

/// The drop-ins in the last comment of the unit, each as the text of a file. Their lines are
/// indented by six spaces.
pub fn documented_drop_ins(unit: &str) -> Vec<String> {
    let (_, comment) = unit.split_once("\n# Drop-ins").expect("a comment on drop-ins");
    let mut drop_ins: Vec<String> = Vec::new();
    let mut inside = false;
    for line in comment.lines() {
        let setting = line.strip_prefix("#      ");
        if let Some(setting) = setting {
            if !inside {
                drop_ins.push(String::new());
            }
            let text = drop_ins.last_mut().expect("pushed above");
            text.push_str(setting);
            text.push('\n');
        }
        inside = setting.is_some();
    }
    drop_ins
}

/// The exposure of a unit file.
fn exposure(unit: &Path) -> f32 {
    let output = run(Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager"])
        .arg(unit));
    let table = both_streams(&output);
    overall_exposure(&table).unwrap_or_else(|| panic!("no overall exposure in:\n{table}"))
}

/// The number in `→ Overall exposure level for cts.service: 1.1 OK`.
fn overall_exposure(table: &str) -> Option<f32> {
    let (_, rest) = table.split_once("Overall exposure level for ")?;
    rest.split_once(": ")?.1.split_whitespace().next()?.parse().ok()
}

/// All values that a unit file gives to one setting, in order.
fn values<'a>(unit: &'a str, setting: &str) -> Vec<&'a str> {
    unit.lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(key, _)| *key == setting)
        .map(|(_, value)| value)
        .collect()
}

/// User id, group id, home and shell of one line of a passwd file.
fn account(passwd: &str, user: &str) -> [String; 4] {
    let line = passwd.lines().find(|line| line.split(':').next() == Some(user));
    let fields: Vec<&str> =
        line.unwrap_or_else(|| panic!("no {user} in:\n{passwd}")).split(':').collect();
    [fields[2], fields[3], fields[5], fields[6]].map(str::to_owned)
}

/// Runs one of systemd's tools. If it is missing, the panic names the Debian package that has all
/// of them.
fn run(command: &mut Command) -> Output {
    let program = command.get_program().to_string_lossy().into_owned();
    match command
        .env("SYSTEMD_LOG_LEVEL", "info")
        .env("SYSTEMD_COLORS", "0")
        .env("LC_ALL", "C.UTF-8")
        .output()
    {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            panic!(
                "{program} is not installed; it is in Debian's package systemd: apt-get install systemd"
            )
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

fn both_streams(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Whether this process runs as root, by the owner of its entry in /proc.
fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(name)
}

fn read(name: &str) -> String {
    let path = source(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn unit_text() -> String {
    read("cts.service")
}
