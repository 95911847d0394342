//! Upgrades that go back: whatever the new binary is, and wherever an upgrade is interrupted, the machine
//! ends with a cts that runs and with all rows.

use std::process::Command;

use super::install::{machine, next};
use crate::support::container::Container;
use crate::support::harness::Done;

pub const UPGRADE: &str = "/usr/lib/cts/upgrade";
const ADD: &str = "sqlite3 /data/cts.db \"INSERT INTO site_logs (level, category, message) VALUES ('info', 'test', 'kept')\"";
const KEPT: &str = "sqlite3 /data/cts.db \"SELECT count(*) FROM site_logs WHERE message = 'kept'\"";
/// What an upgrade may have left that would be used, or be in the way, later.
const LEFT: &str = "ls -d /usr/lib/cts/unfinished /run/cts-upgrade /run/systemd/system/cts-trial* \
    /tmp/systemd-private-*-cts-trial* 2>/dev/null || true";
/// Files that were not completed.
const INCOMPLETE: &str = "ls -d /usr/lib/cts/*.new /usr/bin/cts.new 2>/dev/null || true";

/// A machine with cts and a row in its database.
pub fn installed() -> Option<Container> {
    let machine = machine()?;
    install(&machine);
    machine.ok(ADD);
    Some(machine)
}

/// Installs the archive; `/opt/same` is another build of it.
pub fn install(machine: &Container) {
    machine.ok("mkdir /root/cts; tar -C /root/cts --strip-components=1 -xzf /mnt/cts-*.tar.gz");
    machine.ok("/root/cts/install.sh; cp /root/cts/cts /opt/same; echo >>/opt/same");
}

/// Puts the binary of a later version, with one more migration, at `/opt/next`.
pub fn put_next(machine: &Container) {
    let stripped = tempfile::NamedTempFile::new().unwrap();
    let mut strip = Command::new("strip");
    assert!(strip.arg("-o").arg(stripped.path()).arg(next()).status().unwrap().success());
    machine.put(stripped.path(), "/opt/next");
    machine.ok("chmod 755 /opt/next");
}

/// A program that stands in for a new version.
pub fn program(machine: &Container, path: &str, script: &str) {
    machine.write(path, &format!("#!/bin/sh\n{script}\n"));
    machine.ok(&format!("chmod 755 {path}"));
}

/// Tries the binary, expects a refusal that contains this text, and that nothing is different.
fn refused(machine: &Container, new: &str, why: &str) -> Done {
    let look = "systemctl show -P MainPID cts; sha256sum /usr/bin/cts; \
        sqlite3 /data/cts.db .schema 'SELECT * FROM migrations' | sha256sum";
    let before = machine.ok(look);
    let done = machine.sh(&format!("{UPGRADE} try {new}"));
    let said = format!("{}{}", done.out(), done.err());
    assert_eq!(done.0.status.code(), Some(1), "{new}: {said}");
    assert!(said.contains(why) && said.contains("nothing was changed"), "{new}: {said}");
    assert_eq!(machine.ok(look), before, "{new}: {said}");
    assert_eq!(machine.ok(&format!("{LEFT}; {INCOMPLETE}")), "", "{new}");
    done
}

/// Expects a cts that runs, is healthy, and has the row.
pub fn is_well(machine: &Container, when: &str) {
    let look =
        format!("cts --check --url http://127.0.0.1:3000 >&2 || [ $? -eq 1 ]; {KEPT}; {LEFT}");
    let done = machine.sh(&look);
    let said = format!("{when}: {}{}", done.out(), done.err());
    assert!(done.0.status.success(), "{said}\n{}", machine.journal(""));
    assert_eq!(done.out(), "1\n", "{said}");
}

#[test]
#[ignore = "sweep"]
fn a_new_binary_that_does_not_work_is_refused_while_the_old_one_runs() {
    let Some(machine) = installed() else { return };
    program(&machine, "/opt/version", "case $1 in -V | --version) echo cts 9.9.9 ;; esac");
    refused(&machine, "/opt/version", "it ended without a message");
    program(&machine, "/opt/crash", "echo it is raining >&2; kill -SEGV $$");
    refused(&machine, "/opt/crash", "it is raining");
    machine
        .ok("head -c 4096 /root/cts/cts >/opt/torn; : >/opt/empty; chmod 755 /opt/torn /opt/empty");
    refused(&machine, "/opt/torn", "it ended without a message");
    refused(&machine, "/opt/empty", "it cannot be executed on this machine");
    // The machine of an ELF header is at offset 18; 243 is RISC-V.
    machine.ok("cp /root/cts/cts /opt/riscv; printf '\\363' | dd of=/opt/riscv bs=1 seek=18 conv=notrunc status=none");
    refused(&machine, "/opt/riscv", "it cannot be executed on this machine");
    program(&machine, "/opt/hang", "trap '' TERM; while :; do sleep 1; done");
    let hang = machine.sh(&format!("CTS_UPGRADE_TRIAL_SECONDS=1 {UPGRADE} try /opt/hang"));
    assert!(hang.err().contains("it did not answer in time"), "{}", hang.err());
    is_well(&machine, "after one that hangs");
    // It starts, and has no plan for the database.
    let serves = "case $1 in serve) exec /usr/lib/cts/previous \"$@\" ;; esac; echo '{}'";
    program(&machine, "/opt/planless", serves);
    refused(&machine, "/opt/planless", "it printed no plan");
    let refuses = "case $1 in serve) exec /usr/lib/cts/previous \"$@\" ;; esac; echo 'no, thanks' >&2; exit 65";
    program(&machine, "/opt/choosy", refuses);
    refused(&machine, "/opt/choosy", "no, thanks");
    // What was refused is tried again by the package manager.
    let again = machine.sh(&format!("{UPGRADE} try"));
    assert!(again.err().contains("no, thanks"), "{}", again.err());

    // Settings that were broken since the last start, with a new binary and with the same one.
    machine.write("/etc/default/cts", "PORT=much\n");
    for new in ["/opt/same", "/root/cts/cts"] {
        refused(&machine, new, "PORT: \"much\" is not a port");
    }
    machine.ok("rm /etc/default/cts");
    let lock = "flock /run/cts-upgrade.lock sh -c 'echo locked; sleep 100' & \
        while ! grep -q $(stat -c %i /run/cts-upgrade.lock) /proc/locks; do :; done; ";
    let both = machine.sh(&format!("{lock} {UPGRADE} try /opt/same; code=$?; kill $!; exit $code"));
    assert!(both.err().contains("another upgrade is under way"), "{}", both.err());
    machine.ok(&format!("pkill -x sleep || true; {UPGRADE} try /opt/same"));
    is_well(&machine, "after an upgrade");
    machine.ok("cmp /usr/bin/cts /opt/same; cmp /usr/lib/cts/previous /root/cts/cts");
    machine.ok("! test -e /usr/lib/cts/candidate");
}

/// A version that migrates the database of the service and then ends. Its trial start has another database.
pub const FAILS: &str = "case \"$*\" in serve | serve\\ --host*) /opt/next migrate; exit 70 ;; esac; exec /opt/next \"$@\"";

#[test]
#[ignore = "sweep"]
fn a_version_that_migrates_and_does_not_become_ready_is_undone() {
    let Some(machine) = installed() else { return };
    put_next(&machine);
    program(&machine, "/opt/fails", FAILS);
    machine.ok("systemctl restart cts");
    let done = machine.sh(&format!("{UPGRADE} try /opt/fails"));
    let said = done.err();
    assert_eq!(done.0.status.code(), Some(1), "{said}");
    for part in [
        "072_nickname.sql: 1 applied",
        "status=70",
        "The database before is kept as /data/cts.db.before-restore-",
        "cts 3.1.0 is in place again, and the service is active",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // Only the lines of the new version's run.
    assert!(!said.contains("Ready for Production") && !said.contains("✓ Created"), "{said}");
    is_well(&machine, "after going back");
    let migrations = "sqlite3 /data/cts.db 'SELECT count(*) FROM migrations'";
    assert_eq!(machine.ok(migrations), "4");

    // A program has the database open: the new version stays, and the same command goes back later.
    let holder = "systemd-run -q --unit=holder -p User=cts sh -c 'sqlite3 /data/cts.db \"SELECT 1 FROM users\" \".shell sleep 1000\"'";
    machine.ok(&format!("{holder}; until fuser -s /data/cts.db 2>/dev/null || ls -l /proc/[0-9]*/fd 2>/dev/null | grep -q 'cts.db$'; do :; done"));
    machine.ok("until pgrep -x sleep >/dev/null; do :; done");
    let done = machine.sh(&format!("{UPGRADE} try /opt/fails"));
    assert!(done.err().contains("it is open in sqlite3"), "{}", done.err());
    assert_eq!(machine.ok(migrations), "5");
    machine.ok("systemctl stop holder");
    let done = machine.sh(&format!("{UPGRADE} try"));
    assert!(done.err().contains("is in place again, and the service is active"), "{}", done.err());
    is_well(&machine, "after going back in two steps");
    assert_eq!(machine.ok(migrations), "4");

    // Without a backup nothing of the database is changed.
    let cap = "mount -t tmpfs -o size=100k,uid=$(id -u cts),mode=700 full /data/backups";
    machine.ok(&format!("rm -rf /data/backups; runuser -u cts -- mkdir /data/backups; {cap}"));
    refused(&machine, "/opt/next", "the backup before it fails");
    machine.ok("umount /data/backups");
    let said = machine.ok(&format!("{UPGRADE} try /opt/next"));
    let backup = said.split_whitespace().find_map(|word| word.strip_suffix(".db,"));
    let backup = format!("{}.db", backup.expect("a backup"));
    is_well(&machine, "after the upgrade");
    assert_eq!(machine.ok(migrations), "5");
    machine.ok(&format!(
        "systemctl stop cts; install -m 755 /usr/lib/cts/previous /usr/bin/cts; \
        runuser -u cts -- cts restore {backup}; systemctl start cts"
    ));
    is_well(&machine, "after going back by hand");
    assert_eq!(machine.ok(migrations), "4");
    machine.ok(&format!("{UPGRADE} try /opt/next"));
    // A downgrade is refused by the older one, which the newer database stops.
    refused(&machine, "/root/cts/cts", "072_nickname.sql");
    is_well(&machine, "after a downgrade was refused");
}

/// Settings that reach the service by ways other than /etc/default/cts.
const DROP_IN: &str = "[Unit]
OnFailure=alarm.service
[Service]
LoadCredential=admin-token:/etc/cts/token
Environment=CTS_ADMIN_TOKEN_FILE=%d/admin-token
EnvironmentFile=/etc/cts/environment
ReadWritePaths=/srv/cts
RuntimeDirectory=cts
ExecStartPre=/bin/sh -c 'echo started >>/srv/cts/starts'
ExecStart=
ExecStart=/usr/bin/cts serve --db /srv/cts/other.db --port 3100
";

#[test]
#[ignore = "sweep"]
fn a_trial_has_the_settings_of_the_service_and_does_nothing_else() {
    let Some(machine) = installed() else { return };
    put_next(&machine);
    machine.ok("install -d -o cts -g cts -m 700 /srv/cts; mkdir /etc/cts");
    machine.write("/etc/cts/token", "a-token-of-forty-characters-for-this-test\n");
    machine.write("/etc/cts/environment", "CTS_ARCHIVE_KEEP=3d\nCTS_BACKUP_DIR=/srv/cts/copies\n");
    machine.write(
        "/etc/systemd/system/alarm.service",
        "[Service]\nType=oneshot\nExecStart=touch /srv/alarm\n",
    );
    machine.drop_in(DROP_IN);
    machine.ok("systemctl restart cts");
    let shows = "case $1 in serve) exec /usr/lib/cts/previous \"$@\" ;; esac; exec >&2; \
        echo \"$@\"; env; id -un; cat \"$CTS_ADMIN_TOKEN_FILE\"; touch /srv/cts/here; exit 65";
    program(&machine, "/opt/shows", shows);
    let said = refused(&machine, "/opt/shows", "a-token-of-forty-characters").err();
    for part in
        ["migrate --dry-run --json --db /srv/cts/other.db", "CTS_ARCHIVE_KEEP=3d", "\ncts\n"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(
        machine.ok("cat /srv/cts/starts; ls -d /run/cts; ls /srv"),
        "started\n/run/cts\ncts"
    );
    machine.ok(&format!("{UPGRADE} try /opt/next"));
    machine.ok("cts --check --url http://127.0.0.1:3100");
    let migrations = "sqlite3 /srv/cts/other.db 'SELECT count(*) FROM migrations'; ls /srv/cts/copies/*.db | wc -l";
    assert_eq!(machine.ok(migrations), "5\n1");
    assert_eq!(machine.ok(KEPT), "1");
}

#[test]
#[ignore = "sweep"]
fn paths_with_spaces_and_signs_of_systemd_are_those_of_the_service() {
    let Some(machine) = installed() else { return };
    put_next(&machine);
    program(&machine, "/opt/fails", FAILS);
    let folder = "/srv/my 50% \\\"data\\\"";
    machine.ok(&format!("systemctl stop cts; mv /data \"{folder}\""));
    let drop_in = "/etc/systemd/system/cts.service.d/of this machine.conf";
    machine.ok("mkdir /etc/systemd/system/cts.service.d");
    machine.ok(&format!("printf '[Service]\\nReadWritePaths=/srv\\n' >'{drop_in}'"));
    machine.write("/etc/default/cts", "SQLITE_DB_PATH='/srv/my 50% \"data\"/cts.db'\n");
    machine.ok("systemctl daemon-reload; systemctl start cts");
    let done = machine.sh(&format!("{UPGRADE} try /opt/fails"));
    for part in ["without what was written after it", "the service is active"] {
        assert!(done.err().contains(part), "{part}: {}", done.err());
    }

    machine.ok("rm /etc/default/cts");
    let command = "ExecStart=\nExecStart=/usr/bin/cts serve \\\n --db '/srv/my 50%% \"data\"/cts.db' --port 3000\n";
    machine.drop_in(&format!("[Service]\n{command}"));
    machine.ok("systemctl restart cts");
    let said = machine.ok(&format!("{UPGRADE} try /opt/next; /usr/lib/cts/summary"));
    for part in ["Backup    /srv/my 50% \"data\"/backups/", "Database  /srv/my 50% \"data\"/cts.db"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    let look = "SELECT count(*) FROM migrations' \"SELECT count(*) FROM site_logs WHERE message = 'kept'\"";
    assert_eq!(machine.ok(&format!("sqlite3 \"{folder}/cts.db\" '{look}")), "5\n1");
    machine.ok("cts --check --url http://127.0.0.1:3000");
}

#[test]
#[ignore = "sweep"]
fn a_unit_of_the_operator_that_systemd_calls_started_at_once_is_asked_whether_it_works() {
    let Some(machine) = installed() else { return };
    put_next(&machine);
    program(&machine, "/opt/fails", FAILS);
    let unit = "[Service]\nUser=cts\nExecStart=/usr/bin/cts serve\nRestart=always\n";
    machine.write("/etc/systemd/system/cts.service", unit);
    machine.ok("systemctl daemon-reload; systemctl restart cts; until cts --check --url http://127.0.0.1:3000; do :; done");
    let done = machine.sh(&format!("{UPGRADE} try /opt/fails"));
    assert!(done.err().contains("is in place again, and the service is active"), "{}", done.err());
    is_well(&machine, "after going back");
    machine.ok(&format!("{UPGRADE} try /opt/next"));
    is_well(&machine, "after the upgrade");
    assert_eq!(machine.ok("cts -V"), "cts 99.0.0");
}

#[test]
#[ignore = "sweep"]
fn a_program_of_another_user_that_has_only_opened_the_database_keeps_it_from_being_replaced() {
    let Some(machine) = installed() else { return };
    put_next(&machine);
    program(&machine, "/opt/fails", FAILS);
    // It holds no lock, as one that waits for the lock of the restore; it would write to the database that is kept.
    machine.ok("systemd-run -q --unit=opener sh -c 'exec 3<>/data/cts.db; exec sleep 1000'; until pgrep -x sleep; do :; done");
    let done = machine.sh(&format!("{UPGRADE} try /opt/fails"));
    assert!(done.err().contains("it is open in sleep"), "{}", done.err());
    assert!(done.err().contains("the new cts stays in place"), "{}", done.err());
    machine.ok("systemctl stop opener");
    let done = machine.sh(&format!("{UPGRADE} try"));
    assert!(done.err().contains("is in place again, and the service is active"), "{}", done.err());
    is_well(&machine, "after going back");
}
