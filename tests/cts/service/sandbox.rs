//! The sandbox of the unit, seen by somebody who has taken over the process: a shell with the settings of
//! `cts.service` tries what must be refused, and what cts needs.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use super::under_systemd::{installed, installed_with};
use super::unit_files::documented_drop_ins;
use crate::support::container::{Container, Debian};
use crate::support::harness::{Machine, await_that, is_root};
use crate::support::project::source;

/// Makes a unit that runs a script in the sandbox of another one.
fn make_intruder(machine: &Container, unit: &str) {
    machine.ok(&format!(
        "sed -e 's|^ExecStart=.*|ExecStart=/bin/sh -eu /opt/intruder.sh|' -e 's|^Type=.*|Type=oneshot|' \
         -e '/^Watchdog/d' -e '/^Restart/d' /usr/lib/systemd/system/{unit} \
         >/run/systemd/system/intruder.service; systemctl daemon-reload"
    ));
}

/// Whether a command succeeds in that sandbox.
fn succeeds_inside(machine: &Container, command: &str) -> bool {
    machine.write("/opt/intruder.sh", &format!("{command}\n"));
    machine.sh("systemctl start intruder").0.status.success()
}

/// A Perl program that makes a system call by its number and succeeds if that does.
fn system_call(number: u32, arguments: &str) -> String {
    format!(
        "exec perl -e 'my @a = ({number}{arguments}); exit(syscall(shift @a, @a) >= 0 ? 0 : 1)'"
    )
}

/// Opens a socket of a kind by Perl's Socket module, and binds it to a free port of this machine.
fn bound(kind: &str, protocol: &str) -> String {
    format!(
        "exec perl -MSocket -e 'socket(S, {kind}, {protocol}) && bind(S, pack_sockaddr_in(0, INADDR_LOOPBACK)) or exit 1'"
    )
}

/// What cts itself needs, by which also the tries are tried.
const NEEDED: [&str; 7] = [
    "echo x >/data/intruder",
    "echo x >/tmp/x; echo x >/var/tmp/x",
    "read -r line </proc/locks || :; test -r /proc/locks",
    "test \"$(cat /proc/1/comm)\" = systemd",
    "cp /bin/true /data/true; exec /bin/true",
    "curl -s -o /dev/null http://127.0.0.1:3000/livez",
    "perl -MSocket -e 'socket(S, AF_UNIX, SOCK_DGRAM, 0) && connect(S, pack_sockaddr_un(q(/run/systemd/notify))) or exit 1'",
];

/// What must be refused.
fn refused() -> Vec<String> {
    let files = [
        "echo x >/etc/x",
        "echo x >/usr/bin/cts",
        "echo x >/run/x",
        "echo x >/var/lib/x",
        "echo x >/srv/trader/x",
        "echo x >/dev/shm/x",
        "cat /dev/shm/prices",
        "cat /home/u/x",
        "cat /etc/shadow",
        "cat /dev/kmsg",
        "echo 1 >/proc/sys/kernel/core_pattern",
        "cp /bin/true /data/true && /data/true",
        "cp /bin/true /tmp/true && /tmp/true",
        "cp /bin/true /var/tmp/true && /var/tmp/true",
        "/lib64/ld-linux-x86-64.so.2 /data/true",
        "cp /bin/true /data/x; chmod 4755 /data/x",
        "mkdir /data/m; mount -t tmpfs tmpfs /data/m",
        "unshare --user true",
        "test \"$(nice -n -5 nice)\" -lt 0",
        "ls -d /run/dbus/*",
        // Another program of the same user.
        "cat /proc/$(cat /run/trader.pid)/environ",
        "cat /proc/$(cat /run/trader.pid)/root/srv/trader/key",
        "echo x >/proc/$(cat /run/trader.pid)/mem",
    ];
    let sockets = [
        bound("AF_INET, SOCK_RAW", "1"),
        bound("16, SOCK_RAW", "0"),
        "exec curl -s --max-time 5 --unix-socket /run/dbus/system_bus_socket http://bus/".into(),
    ];
    let calls: &[(u32, &str)] = match std::env::consts::ARCH {
        // memfd_create, io_uring_setup, keyctl, add_key, userfaultfd, process_vm_readv, ptrace, bpf
        "x86_64" => &[
            (319, ", q(x), 0"),
            (425, ", 1, chr(0) x 120"),
            (250, ", 0, -3, 1"),
            (248, ", q(user), q(x), q(x), 1, -2"),
            (323, ", 1"),
            (310, ", $$, 0, 0, 0, 0, 0"),
            (101, ", 0, 0, 0, 0"),
            (321, ", 0, 0, 0"),
        ],
        _ => &[],
    };
    let calls = calls.iter().map(|(number, arguments)| system_call(*number, arguments));
    files.into_iter().map(str::to_string).chain(sockets).chain(calls).collect()
}

#[test]
#[ignore = "sweep"]
fn the_token_of_a_credential_is_needed_and_no_other_user_sees_it() {
    let Some(machine) = installed() else { return };
    machine.ok("install -d -m 700 /etc/cts; umask 077; echo open-sesame >/etc/cts/admin-token");
    machine.drop_in(
        "[Service]\nLoadCredential=admin-token:/etc/cts/admin-token\n\
         Environment=CTS_ADMIN_TOKEN_FILE=%d/admin-token\n",
    );
    machine.ok("systemctl start cts.socket cts");
    let ask = "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:3000/api/admin/overview";
    assert_eq!(machine.ok(ask), "401");
    assert_eq!(machine.ok(&format!("{ask} -H 'Authorization: Bearer open-sesame'")), "200");
    let nobody = "runuser -u nobody -- sh -c 'systemctl show cts; cat /etc/cts/admin-token /run/credentials/cts.service/admin-token' 2>&1";
    assert!(!machine.sh(nobody).out().contains("open-sesame"));
    let doctor = "runuser -u cts -- cts doctor";
    assert!(
        !machine.sh(doctor).out().contains("every user can read"),
        "{}",
        machine.sh(doctor).out()
    );

    // In a unit's Environment=, every user sees it, whatever the mode of the file is.
    machine.drop_in("[Service]\nEnvironment=CTS_ADMIN_TOKEN=open-sesame\n");
    machine.ok("chmod 600 /etc/systemd/system/cts.service.d/test.conf");
    assert!(machine.sh(nobody).out().contains("open-sesame"));
    let found = machine.sh("cts doctor").out();
    assert!(
        found.contains("test.conf has CTS_ADMIN_TOKEN in Environment=: every user can read it"),
        "{found}"
    );
    // So it is in /etc/default/cts.
    machine.ok("rm /etc/systemd/system/cts.service.d/test.conf; systemctl daemon-reload");
    machine.write("/etc/default/cts", "CTS_ADMIN_TOKEN=open-sesame\n");
    let found = machine.sh(doctor).out();
    let line = "CTS_ADMIN_TOKEN in /etc/default/cts, mode 0644, of root: other users may read or change it";
    assert!(found.contains(line), "{found}");
}

#[test]
#[ignore = "sweep"]
fn restic_works_in_the_sandbox_of_its_unit() {
    let restic = std::path::PathBuf::from("/usr/bin/restic");
    if !restic.exists() {
        crate::support::not_tried("restic is not installed (tests/run.sh installs it)");
        return;
    }
    let Some(machine) = installed_with(|plan| {
        let units = ["cts-offsite.service", "cts-offsite.path"].into_iter();
        units.fold(plan.with(restic, "/usr/bin/restic"), |plan, unit| {
            plan.with(
                source(&format!("systemd/{unit}")),
                &format!("/usr/lib/systemd/system/{unit}"),
            )
        })
    }) else {
        return;
    };
    let settings = "RESTIC_REPOSITORY=/srv/restic\nRESTIC_PASSWORD=a-long-random-password\n";
    machine.write("/etc/cts/offsite", settings);
    machine.write(
        "/etc/systemd/system/cts-offsite.service.d/local.conf",
        "[Service]\nReadWritePaths=/srv/restic\nRestart=no\n",
    );
    machine.ok("chmod 600 /etc/cts/offsite; install -d -o cts -g cts -m 700 /srv/restic; systemctl daemon-reload");
    machine.ok("set -a; . /etc/cts/offsite; runuser -u cts -- restic --no-cache init");
    machine.ok("systemctl start cts; runuser -u cts -- cts backup; systemctl start cts-offsite");
    let snapshots =
        "set -a; . /etc/cts/offsite; runuser -u cts -- restic --no-cache snapshots --tag cts";
    assert!(machine.ok(snapshots).contains("/data/backups"));
    assert!(!machine.sh("cts doctor").out().contains("other users may read"));
    machine.ok("chmod 644 /etc/cts/offsite");
    let found = machine.sh("cts doctor").out();
    assert!(found.contains("RESTIC_PASSWORD in /etc/cts/offsite, mode 0644"), "{found}");
}

/// Machines with cts and another program of its user, whose secrets somebody may want.
fn beside_a_trader(debian: Debian) -> Option<Container> {
    let machine = installed_with(|plan| {
        let unit = "cts-offsite.service";
        let from = source(&format!("systemd/{unit}"));
        plan.on(debian).with(from, &format!("/usr/lib/systemd/system/{unit}"))
    })?;
    machine.ok("systemctl start cts; mkdir -p /srv/trader /home/u /etc/cts; echo x >/home/u/x");
    machine.ok("echo secret >/srv/trader/key; echo x >/dev/shm/prices; chown -R cts: /srv/trader /dev/shm/prices");
    machine.ok("systemd-run -q --unit=trader -p User=cts --setenv=KEY=secret sleep 600");
    machine.ok("systemctl show -P MainPID trader >/run/trader.pid; touch /etc/cts/offsite");
    Some(machine)
}

/// The tries that succeed though they must be refused.
fn possible(machine: &Container) -> Vec<String> {
    refused().into_iter().filter(|tried| succeeds_inside(machine, tried)).collect()
}

#[test]
#[ignore = "sweep"]
fn who_has_taken_over_the_process_can_write_the_database_and_nothing_else() {
    for debian in Debian::ALL {
        let Some(machine) = beside_a_trader(debian) else { continue };
        make_intruder(&machine, "cts.service");
        for needed in NEEDED {
            assert!(succeeds_inside(&machine, needed), "{needed}\n{}", machine.journal(""));
        }
        assert_eq!(possible(&machine), [""; 0], "{debian:?}");
        // Any port may be listened on. That no other kind is bound is not tried: a container has no BPF.
        let tcp = bound("AF_INET, SOCK_STREAM", "0");
        assert!(succeeds_inside(&machine, &tcp), "{debian:?}");
    }
}

#[test]
#[ignore = "sweep"]
fn who_has_taken_over_the_copy_off_the_machine_can_read_the_backups_and_write_nothing() {
    let Some(machine) = beside_a_trader(Debian::Bookworm) else { return };
    machine.ok("runuser -u cts -- cts backup");
    make_intruder(&machine, "cts-offsite.service");
    assert!(succeeds_inside(
        &machine,
        "cat /data/backups/* >/dev/null; echo x >/var/cache/cts-offsite/x"
    ));
    let mut possible = possible(&machine);
    let more = [
        "echo x >/data/x",
        "echo x >>/data/cts.db",
        "cat /proc/1/comm",
        "cat /proc/locks",
        "kill -0 $(cat /run/trader.pid)",
    ];
    possible.extend(
        more.into_iter().filter(|tried| succeeds_inside(&machine, tried)).map(str::to_string),
    );
    assert_eq!(possible, [""; 0]);
}

/// The sandbox does not stand in the way of what the pages tell an operator to set.
#[test]
#[ignore = "sweep"]
fn another_port_disk_or_folder_of_backups_works_in_the_sandbox() {
    let unit = fs::read_to_string(source("systemd/cts.service")).unwrap();
    let drop_ins = documented_drop_ins(&unit);
    for debian in Debian::ALL {
        let Some(machine) = installed_with(|plan| plan.on(debian)) else { continue };
        for (port, shown) in [("8123", "serving on 127.0.0.1:8123"), ("0", "serving on 127.0.0.1:")]
        {
            machine.write("/etc/default/cts", &format!("PORT={port}\n"));
            machine.ok("systemctl restart cts");
            assert!(
                machine.show("StatusText").starts_with(shown),
                "{}",
                machine.show("StatusText")
            );
        }
        machine.ok("systemctl stop cts; rm /etc/default/cts");
        // Drop-ins 3 and 6, with disks of memory. Without its disk, cts does not start.
        machine.drop_in(&drop_ins[2]);
        assert!(!machine.sh("systemctl start cts").0.status.success());
        for (folder, name) in [("/data", "data.mount"), ("/mnt/backup", "mnt-backup.mount")] {
            let mount = format!(
                "[Mount]\nWhat=tmpfs\nWhere={folder}\nType=tmpfs\nOptions=mode=700,uid=cts,gid=cts\n"
            );
            machine.write(&format!("/etc/systemd/system/{name}"), &mount);
        }
        machine.write("/etc/systemd/system/cts.service.d/backups.conf", &drop_ins[5]);
        machine.ok("systemctl daemon-reload; systemctl start cts mnt-backup.mount");
        machine.ok("install -d -o cts -g cts /mnt/backup/cts");
        machine.drop_in(&format!("{}[Service]\nEnvironment=CTS_BACKUP_EVERY=1s\n", drop_ins[2]));
        machine.ok("systemctl restart cts");
        await_that("a backup on the other disk", || {
            machine.sh("test -e /mnt/backup/cts/last-success").0.status.success()
        });
        machine.ok("systemctl stop cts; rm -r /etc/systemd/system/cts.service.d");
        // What the sandbox does not permit is said, with what to do.
        machine.write("/etc/default/cts", "SQLITE_DB_PATH=/dev/shm/cts.db\n");
        machine.ok("systemctl daemon-reload");
        assert!(!machine.sh("systemctl start cts").0.status.success());
        assert_eq!(machine.show("ExecMainStatus"), "77", "{}", machine.journal(""));
        let found = machine.sh("runuser -u cts -- cts doctor").out();
        assert!(
            found.contains("cts.service may not enter /dev/shm (InaccessiblePaths=)"),
            "{found}"
        );
    }
}

/// The system calls that a filter of systemd has: names, and groups of them with a `@`.
fn expanded(filter: &str) -> BTreeSet<String> {
    let mut calls = BTreeSet::new();
    for word in filter.split_whitespace() {
        if !word.starts_with('@') {
            calls.insert(word.to_string());
            continue;
        }
        let output =
            Command::new("systemd-analyze").args(["syscall-filter", word]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let inside = text.lines().skip(1).map(str::trim).filter(|line| !line.starts_with('#'));
        calls.extend(expanded(&inside.collect::<Vec<_>>().join(" ")));
    }
    calls
}

/// What the filters of the unit permit.
fn permitted() -> BTreeSet<String> {
    let unit = fs::read_to_string(source("systemd/cts.service")).unwrap();
    let mut permitted = BTreeSet::new();
    for filter in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        match filter.strip_prefix('~') {
            Some(refused) => permitted = &permitted - &expanded(refused),
            None => permitted.extend(expanded(filter)),
        }
    }
    permitted
}

/// The system calls of a service that starts, makes a backup, answers and stops.
fn made(machine: &Machine, settings: &[(&str, &str)]) -> BTreeSet<String> {
    let (trace, backups) = (machine.path("trace"), machine.path("backups"));
    fs::create_dir(&backups).unwrap();
    let mut strace = Command::new("strace")
        .args(["--follow-forks", "--quiet=all", "--output"])
        .arg(&trace)
        .args([env!("CARGO_BIN_EXE_cts"), "--port", "0"])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("CTS_BACKUP_EVERY", "1s")
        .env("CTS_BACKUP_DIR", &backups)
        .envs(settings.iter().copied())
        .stderr(fs::File::create(machine.path("log")).unwrap())
        .spawn()
        .expect("strace (Debian package strace)");
    await_that("a backup", || backups.join("last-success").exists());
    let log = fs::read_to_string(machine.path("log")).unwrap();
    let (_, address) = log.split_once("Listening on http://").unwrap();
    let address = address.split('/').next().unwrap();
    for path in ["readyz", "metrics", "api/admin/overview"] {
        let url = format!("http://{address}/{path}");
        assert!(
            Command::new("curl").args(["-s", "-o", "/dev/null", &url]).status().unwrap().success()
        );
    }
    // strace passes the signal on, or ends with its program.
    let first = fs::read_to_string(&trace).unwrap();
    let pid = first.split_whitespace().next().unwrap().parse().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    assert_eq!(strace.wait().unwrap().code(), Some(0), "{log}");
    let text = fs::read_to_string(&trace).unwrap();
    let calls = text.lines().filter_map(|line| line.split_whitespace().nth(1)?.split_once('('));
    let is_name = |name: &&str| {
        name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    calls.map(|(name, _)| name).filter(is_name).map(str::to_string).collect()
}

fn assert_permitted(mut made: BTreeSet<String>) {
    assert!(made.len() > 40 && made.contains("execve"), "{made:?}");
    if is_root() {
        // SQLite gives the files that root creates to the owner of the database.
        made.remove("fchown");
    }
    let refused: Vec<_> = made.difference(&permitted()).cloned().collect();
    assert!(refused.is_empty(), "the unit refuses {refused:?}");
}

#[test]
fn the_unit_permits_every_system_call_of_the_service() {
    let machine = Machine::new();
    let database = machine.db();
    assert_permitted(made(&machine, &[("SQLITE_DB_PATH", database.to_str().unwrap())]));
}

/// `pg_dump` and `pg_restore` run under the same filter.
#[cfg(feature = "postgres")]
#[test]
fn the_unit_permits_every_system_call_of_the_service_on_postgresql() {
    let database = crate::support::cluster::Cluster::shared().one_schema();
    assert_permitted(made(&Machine::new(), &[("DATABASE_URL", &database.url())]));
}
