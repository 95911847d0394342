//! What `release/release.sh` makes: the packages of each architecture, the same bytes from any folder.
//!
//! The copies of the project that are released here are hardly optimised; all else is as in a release.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::support::kills::tries_all;
use crate::support::not_tried;
use crate::support::project::source;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A quick build: what matters here is where things go. Optimised is only what an emulated processor would run for
/// minutes.
const QUICK: &str = "[profile.release]\nopt-level = 0\nlto = \"off\"\ncodegen-units = 16\n\
                     [profile.release.package.libsqlite3-sys]\nopt-level = 1\n\
                     [profile.release.package.zstd-sys]\nopt-level = 1\n\
                     [profile.release.package.cts-schema]\nopt-level = 1\n\
                     [profile.release.package.sha2]\nopt-level = 1\n";

/// The packages of a copy of the project.
pub struct Release {
    project: PathBuf,
}

/// The release that the tests share, for arm64. `None` where it cannot be made.
pub fn shared() -> Option<&'static Release> {
    static RELEASE: OnceLock<Option<Release>> = OnceLock::new();
    let release = RELEASE.get_or_init(|| {
        let release = Release::copy(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("release"));
        let mut command = release.command();
        release.make(command.arg("arm64"))
    });
    if release.is_none() {
        not_tried(
            "a release: a compiler for arm64 or cargo-deb is missing (tests/run.sh installs them)",
        );
    }
    release.as_ref()
}

impl Release {
    /// Copies the project. What was compiled in the folder before is kept.
    fn copy(project: &Path) -> Release {
        for part in [
            "src",
            "build",
            "schema",
            "release",
            "systemd",
            "docs",
            "tests",
            "benches",
            "target/unpacked",
        ] {
            let _ = fs::remove_dir_all(project.join(part));
        }
        fs::create_dir_all(project.join(".cargo")).unwrap();
        fs::write(project.join(".cargo/config.toml"), QUICK).unwrap();
        let entries = fs::read_dir(source("")).unwrap().map(|entry| entry.unwrap());
        let is_source = |name: &str| !name.starts_with('.') && name != "target";
        for entry in entries.filter(|entry| is_source(&entry.file_name().to_string_lossy())) {
            let done = Command::new("cp").arg("-r").args([&entry.path(), project]).status();
            assert!(done.unwrap().success());
        }
        Release { project: project.to_path_buf() }
    }

    /// `release.sh` of this copy, at a commit and a time of its own.
    fn command(&self) -> Command {
        let mut command = Command::new(self.project.join("release/release.sh"));
        command.env("CTS_COMMIT", "0123456789ab").env("SOURCE_DATE_EPOCH", "1764000000");
        command.env_remove("CARGO_TARGET_DIR").env_remove("PAGES");
        command
    }

    /// Runs it. `None` where the machine lacks what it needs.
    fn make(self, command: &mut Command) -> Option<Release> {
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if said.contains("nothing was built") {
            return None;
        }
        assert!(output.status.success(), "{said}");
        Some(self)
    }

    /// A file of the release.
    pub fn file(&self, name: &str) -> PathBuf {
        self.project.join("target/release-files").join(name)
    }

    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(self.file("")).unwrap().map(|entry| entry.unwrap().path());
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        entries.map(|path| (name(&path), fs::read(&path).unwrap())).collect()
    }

    /// Unpacks the archive for arm64. Returns its binary.
    pub fn static_for_arm64(&self) -> PathBuf {
        let (folder, name) = (self.unpacked("archive"), format!("cts-{VERSION}-linux-aarch64"));
        let mut tar = Command::new("tar");
        ok(tar.arg("-C").arg(&folder).arg("-xzf").arg(self.file(&format!("{name}.tar.gz"))));
        folder.join(name).join("cts")
    }

    /// Unpacks the package for arm64. Returns its binary, which has both stores.
    pub fn packaged_for_arm64(&self) -> PathBuf {
        let folder = self.unpacked("package");
        let package = self.file(&format!("cts_{VERSION}_arm64.deb"));
        ok(Command::new("dpkg-deb").arg("-x").arg(package).arg(&folder));
        folder.join("usr/bin/cts")
    }

    /// An empty folder, of each call its own.
    fn unpacked(&self, what: &str) -> PathBuf {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = self.project.join(format!("target/unpacked/{what}-{number}"));
        fs::create_dir_all(&folder).unwrap();
        folder
    }
}

fn ok(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.env("LC_ALL", "C").output().unwrap();
    assert!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

fn words(program: &str, words: &[&str], path: &Path) -> String {
    ok(Command::new(program).args(words).arg(path))
}

#[test]
#[ignore = "sweep"]
fn a_release_for_arm64_has_packages_lists_of_their_parts_and_checksums() {
    let Some(release) = shared() else { return };
    let package = format!("cts_{VERSION}_arm64");
    let archive = format!("cts-{VERSION}-linux-aarch64");
    let names = [
        "SHA256SUMS",
        &format!("{archive}.cdx.json"),
        &format!("{archive}.tar.gz"),
        &format!("{package}.cdx.json"),
        &format!("{package}.deb"),
    ];
    let files = release.files();
    assert_eq!(files.keys().collect::<Vec<_>>(), names);
    let mut checksums = Command::new("sha256sum");
    checksums.args(["--check", "--strict", "SHA256SUMS"]).current_dir(release.file(""));
    assert_eq!(ok(&mut checksums).lines().count(), names.len() - 1);

    // Of the system, the binary needs the C library, as Debian names it, and not a newer one than it uses.
    let fields = words("dpkg-deb", &["-f"], &release.file(&format!("{package}.deb")));
    assert!(fields.contains("\nArchitecture: arm64\n"), "{fields}");
    let depends = fields.lines().find_map(|line| line.strip_prefix("Depends: ")).unwrap();
    let libraries: Vec<&str> =
        depends.split(", ").filter(|package| package.starts_with("lib")).collect();
    let symbols = words("readelf", &["--version-info", "-W"], &release.packaged_for_arm64());
    let newest = symbols
        .split("GLIBC_2.")
        .skip(1)
        .filter_map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u32>().ok());
    assert_eq!(libraries, [format!("libc6 (>= 2.{})", newest.max().unwrap())]);

    // The lists name what is compiled in, the libraries in C too, and no more.
    let list = |name: &str| -> Value { serde_json::from_slice(&files[name]).unwrap() };
    let parts = |list: &Value| -> BTreeSet<String> {
        let parts = list["components"].as_array().unwrap().iter();
        parts.map(|part| part["name"].as_str().unwrap().to_string()).collect()
    };
    let [of_package, of_archive] =
        [&package, &archive].map(|name| list(&format!("{name}.cdx.json")));
    assert_eq!(
        (&of_package["bomFormat"], &of_package["specVersion"]),
        (&"CycloneDX".into(), &"1.5".into())
    );
    assert_eq!(of_package["metadata"]["timestamp"], "2025-11-24T16:00:00Z");
    for part in ["rusqlite", "sqlite", "zstd", "cts-schema"] {
        assert!(parts(&of_package).contains(part) && parts(&of_archive).contains(part), "{part}");
    }
    assert!(parts(&of_package).contains("rustls") && !parts(&of_archive).contains("rustls"));
    assert!(
        !parts(&of_package).iter().any(|part| ["cc", "syn", "tempfile"].contains(&part.as_str()))
    );
    let sqlite =
        of_package["components"].as_array().unwrap().iter().find(|part| part["name"] == "sqlite");
    assert_eq!(sqlite.unwrap()["version"], rusqlite::version());
}

#[test]
#[ignore = "sweep"]
fn a_release_compiles_sqlite_once_for_each_processor() {
    let Some(release) = shared() else { return };
    let compiled = words("find", &[], &release.project.join("target/release-build"));
    let compiled: Vec<&str> =
        compiled.lines().filter(|path| path.ends_with("-sqlite3.o")).collect();
    // Build scripts run on this machine.
    let processors = if cfg!(target_arch = "aarch64") { 1 } else { 2 };
    assert_eq!(compiled.len(), processors, "{compiled:?}");
}

#[test]
#[ignore = "sweep"]
fn a_binary_for_arm64_runs_on_kernels_with_large_pages() {
    let Some(release) = shared() else { return };
    let (fixed, dynamic) = (release.static_for_arm64(), release.packaged_for_arm64());
    let interpreter = |path: &Path| words("readelf", &["-lW"], path).contains("INTERP");
    assert!(!interpreter(&fixed) && interpreter(&dynamic));
    for binary in [fixed, dynamic] {
        assert!(words("readelf", &["-hW"], &binary).contains("AArch64"));
        let headers = words("readelf", &["-lW"], &binary);
        let parts: Vec<&str> =
            headers.lines().filter(|line| line.trim().starts_with("LOAD")).collect();
        assert!(
            parts.len() > 1 && parts.iter().all(|part| part.ends_with(" 0x10000")),
            "{headers}"
        );
    }
}

#[test]
#[ignore = "sweep"]
fn a_release_from_another_folder_has_the_same_bytes() {
    if !tries_all() {
        return not_tried(
            "a release from another folder: it takes minutes (tests/run.sh makes it)",
        );
    }
    let Some(release) = shared() else { return };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("released in another folder");
    let other = Release::copy(&folder);
    // Another home, which has what cargo fetched; another umask, zone and language; and the sources are newer.
    let home = folder.join("home");
    let _ = fs::remove_dir_all(&home);
    fs::create_dir_all(home.join("cargo")).unwrap();
    let of_user = |name: &str, folder: &str| {
        let home = || PathBuf::from(std::env::var_os("HOME").unwrap()).join(folder);
        std::env::var_os(name).map_or_else(home, PathBuf::from)
    };
    for part in ["registry", "git"] {
        symlink(of_user("CARGO_HOME", ".cargo").join(part), home.join("cargo").join(part)).unwrap();
    }
    let mut command = Command::new("sh");
    command.args(["-c", "umask 077; exec \"$0\" arm64"]).arg(other.command().get_program());
    for (name, value) in other.command().get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.env("RUSTUP_HOME", of_user("RUSTUP_HOME", ".rustup")).env("HOME", &home);
    command.env("CARGO_HOME", home.join("cargo")).env("TZ", "Asia/Tokyo").env("LC_ALL", "C.UTF-8");
    let other = other.make(&mut command).unwrap();

    let (first, second) = (release.files(), other.files());
    assert!(first.keys().eq(second.keys()));
    for (name, bytes) in &second {
        let [one, two] = [&release, &&other].map(|release| release.file(name));
        assert!(first[name] == *bytes, "{} and {} differ", one.display(), two.display());
    }
    let rights =
        fs::metadata(other.file(&format!("cts_{VERSION}_arm64.deb"))).unwrap().permissions();
    assert_eq!(rights.mode() & 0o777, 0o644);
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_release_without_a_compiler_says_what_to_install_and_builds_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let program = |name: &str, script: &str| {
        let path = folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    program("arm-linux-gnueabihf-gcc", "exit 1");
    program(
        "rustc",
        "case $* in *sysroot*) echo /nowhere ;; *) echo 'host: x86_64-unknown-linux-gnu' ;; esac",
    );
    program("cargo", "echo built >&2");
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let release = |architecture: &str| {
        let mut command = Command::new(source("release/release.sh"));
        let output = command.arg(architecture).env("PATH", &path).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let said = release("armhf");
    for part in [
        "apt-get install gcc-arm-linux-gnueabihf libc6-dev-armhf-cross",
        "rustup target add armv7-unknown-linux-gnueabihf",
        "nothing was built",
    ] {
        assert!(said.contains(part), "{said}");
    }
    assert!(!said.contains("built\nbuilt") && !said.starts_with("built"), "{said}");
    assert!(release("pdp11").contains("the names are amd64, arm64 and armhf"));
}
