//! The packages on a machine without cts: what is installed, what an upgrade keeps, and what stays
//! after removal. They contain the binary under test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::support::container::{Container, ContainerPlan};
use crate::support::project::{ProjectCopy, source};

const VERSION: &str = env!("CARGO_PKG_VERSION");
const NEXT: &str = "99.0.0";
const LIVE: &str =
    "curl -s -o /dev/null -w '%{http_code}' --max-time 20 http://127.0.0.1:3100/livez";

/// A container with the packages in `/mnt`.
pub fn machine() -> Option<Container> {
    machine_of(ContainerPlan::bare())
}

/// A container made by this plan, with the packages in `/mnt`.
pub fn machine_of(plan: ContainerPlan) -> Option<Container> {
    plan.with(packages()?, "/mnt").boot()
}

/// The folder of the packages, made once in a run, or `None`, and it is printed why.
pub fn packages() -> Option<PathBuf> {
    static PACKAGES: OnceLock<Option<PathBuf>> = OnceLock::new();
    let packages = PACKAGES.get_or_init(|| {
        let has_cargo_deb = Command::new(env!("CARGO")).args(["deb", "--version"]).output();
        if !has_cargo_deb.is_ok_and(|output| output.status.success()) {
            return None;
        }
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages");
        let _ = fs::remove_dir_all(&folder);
        let for_archive = ProjectCopy::make("cts-static", VERSION).build_static().unwrap();
        pack(&folder, Path::new(env!("CARGO_BIN_EXE_cts")), &for_archive, VERSION);
        Some(folder)
    });
    if packages.is_none() {
        ContainerPlan::impossible("cargo-deb is not installed (tests/run.sh installs it)");
    }
    packages.clone()
}

fn pack(folder: &Path, for_package: &Path, for_archive: &Path, version: &str) {
    let mut command = Command::new(source("release/pack.sh"));
    let output =
        command.arg(folder).args([for_package, for_archive]).arg(version).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The binary of a later version, with one more migration.
pub fn next() -> PathBuf {
    // Built once: the tests that need it run at the same time.
    static NEXT_BINARY: OnceLock<PathBuf> = OnceLock::new();
    NEXT_BINARY.get_or_init(build_next).clone()
}

fn build_next() -> PathBuf {
    let copy = ProjectCopy::make("cts-next", NEXT);
    let sql = "ALTER TABLE users ADD COLUMN";
    fs::write(copy.path("schema/sqlite/072_nickname.sql"), format!("{sql} nickname TEXT;\n"))
        .unwrap();
    fs::write(
        copy.path("schema/postgres/072_nickname.sql"),
        format!("{sql} IF NOT EXISTS nickname TEXT;\n"),
    )
    .unwrap();
    copy.build().unwrap()
}

const ADD_USER: &str = "sqlite3 /data/cts.db \"INSERT INTO site_logs (level, category, message) VALUES ('info', 'test', 'kept')\"";
const KEPT: &str = "sqlite3 /data/cts.db \"SELECT count(*) FROM site_logs WHERE message = 'kept'\"";

#[test]
#[ignore = "sweep"]
fn the_package_is_installed_upgraded_removed_and_purged() {
    let Some(machine) = machine() else { return };
    let later = tempfile::TempDir::new().unwrap();
    machine.ok(&format!("dpkg -i /mnt/cts_{VERSION}_*.deb"));
    assert_eq!(machine.ok("systemctl is-enabled cts; systemctl is-active cts"), "enabled\nactive");
    assert_eq!(machine.sh("systemctl is-enabled cts.socket").out(), "disabled\n");
    machine.ok("cts --check --url http://127.0.0.1:3000");
    machine.ok("cd /usr/share; test -s man/man1/cts.1.gz; test -s bash-completion/completions/cts");
    machine.ok("cd /usr/share/doc/cts; test -s README.md; test -s docs/install.md; \
         test -s monitoring/alerts.yml; test -s monitoring/alerts_test.yml; test -s monitoring/dashboard.json");
    assert_eq!(machine.ok("stat -c '%a %U' /data"), "700 cts");
    machine.ok(ADD_USER);
    // A changed configuration file is kept.
    machine.write("/etc/default/cts", "PORT=3100\n");
    machine.ok("systemctl restart cts");

    let next = next();
    pack(later.path(), &next, &next, NEXT);
    let package = fs::read_dir(later.path()).unwrap().map(|entry| entry.unwrap().path());
    let package = package.filter(|path| path.extension().is_some_and(|kind| kind == "deb"));
    machine.put(&package.last().unwrap(), "/root/next.deb");
    let before = machine.show("MainPID");
    let said = machine.ok("dpkg -i /root/next.deb");
    let was = format!("cts {VERSION} was replaced by cts {NEXT}. It runs now and at every boot.");
    assert!(said.contains(&was) && said.contains("072_nickname.sql applied"), "{said}");
    let backup = said.lines().find_map(|line| line.trim().strip_prefix("Backup "));
    let backup = backup.and_then(|rest| rest.trim().strip_suffix(", made before")).unwrap();
    machine.ok(&format!("sudo -u cts cts backup --verify {backup}"));
    assert_ne!(machine.show("MainPID"), before);
    assert_eq!(machine.show("StatusText"), "serving on 127.0.0.1:3100");
    assert_eq!(machine.ok("cts -V"), format!("cts {NEXT}"));
    let ledger = machine.ok("sqlite3 /data/cts.db 'SELECT name FROM migrations ORDER BY id DESC LIMIT 1; SELECT count(nickname) FROM users'");
    assert_eq!(ledger, "072_nickname.sql\n0");
    assert_eq!(machine.ok(KEPT), "1");

    // The older version refuses the newer database: the newer one goes on running, and can be installed again.
    let before = machine.show("MainPID");
    for attempt in [&format!("dpkg -i /mnt/cts_{VERSION}_*.deb"), "dpkg --configure -a"] {
        let done = machine.sh(attempt);
        assert!(
            !done.0.status.success() && done.err().contains("072_nickname.sql"),
            "{}",
            done.err()
        );
        assert_eq!(machine.ok("cts -V"), format!("cts {NEXT}"));
        assert_eq!(
            (machine.show("MainPID"), &*machine.show("ActiveState")),
            (before.clone(), "active")
        );
    }
    machine.ok("dpkg -i /root/next.deb; dpkg --audit");
    assert_eq!(machine.show("ActiveState"), "active");
    assert_eq!(machine.ok(KEPT), "1");

    machine.ok("dpkg -r cts");
    // A folder of backups is beside it where the service ran for a minute.
    assert_eq!(
        machine.ok("ls /data/cts.db; ls /etc/default/cts"),
        "/data/cts.db\n/etc/default/cts"
    );
    assert_eq!(
        machine.ok("pgrep -c cts || true; ls /usr/bin/cts 2>&1 || true").lines().next(),
        Some("0")
    );
    machine.ok("dpkg -P cts");
    assert!(!machine.sh("test -e /etc/default/cts").0.status.success());
    assert_eq!(machine.ok("ls /data/cts.db; stat -c %U /data/cts.db"), "/data/cts.db\ncts");
    assert_eq!(machine.ok(KEPT), "1");
    assert_eq!(machine.ok("find / -xdev '(' -name cts -o -name 'cts.*' -o -name _cts ')' -not -path '/data/*' -not -path '/root/*'"), "");
}

#[test]
#[ignore = "sweep"]
fn the_script_installs_upgrades_and_uninstalls() {
    let Some(machine) = machine() else { return };
    machine.ok("mkdir /root/cts; tar -C /root/cts --strip-components=1 -xzf /mnt/cts-*.tar.gz");
    let install = "/root/cts/install.sh";
    let refused = |why: &str| {
        let done = machine.sh(install);
        assert!(!done.0.status.success());
        assert!(done.err().contains(why), "{}{}", done.out(), done.err());
        assert!(!machine.sh("test -e /usr/bin/cts").0.status.success());
    };
    // A machine that does not meet the requirements is not changed.
    machine.ok("systemd-run -q --unit=other --service-type=notify --property=NotifyAccess=all \
                --setenv=SQLITE_DB_PATH=/tmp/other.db /root/cts/cts serve");
    refused("another program listens on port 3000");
    machine.ok("systemctl stop other; mkdir /data; touch /data/theirs");
    refused("/data is in use by root");
    machine.ok(
        "rm -r /data; mv /root/cts/architecture /root/right; echo pdp11 >/root/cts/architecture",
    );
    refused("is for pdp11");
    machine.ok("mv /root/right /root/cts/architecture");

    let said = machine.ok(install);
    assert!(
        said.starts_with("Installing cts ") && said.contains("It runs now and at every boot."),
        "{said}"
    );
    assert_eq!(machine.ok("systemctl is-enabled cts; systemctl is-active cts"), "enabled\nactive");
    machine.ok(ADD_USER);
    machine.write("/etc/default/cts", "PORT=3100\n");
    machine.ok("cd /usr/share/doc/cts; test -s README.md; test -s docs/install.md; \
         test -s monitoring/alerts.yml; test -s monitoring/alerts_test.yml; test -s monitoring/dashboard.json");
    let said = machine.ok(install);
    assert!(
        said.starts_with("Upgrading cts ") && said.contains("It runs now and at every boot."),
        "{said}"
    );
    assert_eq!(machine.ok(LIVE), "200");
    // A service that runs is not restarted with settings that it would refuse.
    machine.write("/etc/default/cts", "PORT=much\n");
    let done = machine.sh(install);
    assert!(!done.0.status.success() && done.err().contains("PORT"), "{}", done.err());
    assert_eq!(machine.ok(LIVE), "200");

    machine.ok(&format!("{install} --uninstall"));
    assert_eq!(machine.ok(KEPT), "1");
    assert_eq!(machine.ok("ls /etc/default/cts; ls /data"), "/etc/default/cts\ncts.db");
    assert_eq!(machine.ok("ls /usr/bin/cts /usr/lib/systemd/system/cts* 2>/dev/null || true"), "");
    assert!(!machine.sh("test -e /usr/share/doc/cts").0.status.success());
    assert_eq!(machine.ok("systemctl list-units --all --plain --no-legend 'cts*' || true"), "");
    let again = machine.ok(&format!("rm /etc/default/cts; {install}"));
    assert!(again.contains("It runs now"), "{again}");
    assert_eq!(machine.ok(KEPT), "1");
}
