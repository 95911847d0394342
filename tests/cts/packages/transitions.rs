//! What dpkg does with a package, from every state that the service may be in: which binary is in
//! place afterwards, which one runs, and what the operator has chosen.

use std::fs;
use std::path::Path;

use super::variants::Variants;
use crate::support::container::{Container, ContainerPlan};

/// Prints the state of the service, whether it is enabled, the binary in place, the one that runs,
/// and dpkg's state.
const PROBE: &str = r#"
name() { tail -c 24 "$1" | tr -d '\0' | sed -n 's/^variant=//p'; }
show() { systemctl show -P "$1" cts.service; }
# A process that has just been made is still systemd.
runs=
while [ -z "$runs" ]; do
    case $(show MainPID) in 0) runs=nothing ;; *) runs=$(name "/proc/$(show MainPID)/exe" || true) ;; esac
done
echo "$(show ActiveState) $(systemctl is-enabled cts.service), $(name /usr/bin/cts), runs $runs, $(dpkg-query -W -f '${db:Status-Abbrev}' cts)"
"#;

/// The machine as after the first installation of the present version, with a row in its database.
const RESET: &str = r#"
exec >/dev/null 2>&1
systemctl stop holder.service || true
rm -f /usr/sbin/policy-rc.d /root/killed
systemctl unmask cts.service || true
systemctl disable --now cts.socket || true
dpkg --force-all -P cts || true
rm -rf /data /usr/lib/cts /run/cts-upgrade /etc/default/cts /etc/systemd/system/cts.*
systemctl daemon-reload
systemctl reset-failed
dpkg -i /variants/present.deb
sqlite3 /data/cts.db "INSERT INTO site_logs (level, category, message) VALUES ('info', 'test', 'kept')"
"#;

/// What the steps of a transition call.
const FUNCTIONS: &str = r#"
is() { [ "$(systemctl show -P "$1" cts.service)" = "$2" ]; }
await() { until is "$1" "$2"; do :; done; }
forbid() { printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d; }
request() { curl -sf --max-time 20 http://127.0.0.1:3000/livez >/dev/null; }
"#;

/// One transition, begun with the present version running.
struct Transition {
    name: &'static str,
    before: &'static str,
    change: &'static str,
    /// What `PROBE` prints afterwards.
    after: &'static str,
}

const HOLD: &str = r#"systemctl stop cts
    systemd-run -q --unit=holder --uid=cts sqlite3 /data/cts.db 'BEGIN EXCLUSIVE' '.shell touch /tmp/holds; sleep 600'
    until [ -e /tmp/holds ]; do :; done; rm /tmp/holds
    systemctl start --no-block cts
    await ActiveState activating"#;

const SOCKET: &str =
    "systemctl stop cts; systemctl -q enable --now cts.socket; systemctl start cts";

const TRANSITIONS: &[Transition] = &[
    Transition {
        name: "a fresh installation is enabled and runs",
        before: "dpkg -P cts; rm -r /data; rm -rf /etc/systemd/system/multi-user.target.wants/cts.service",
        change: "dpkg -i /variants/later.deb",
        after: "active enabled, later, runs later, ii",
    },
    Transition {
        name: "an upgrade of a running service",
        before: "",
        change: "dpkg -i /variants/later.deb",
        after: "active enabled, later, runs later, ii",
    },
    Transition {
        name: "a downgrade on the same schema",
        before: "",
        change: "dpkg -i /variants/older.deb",
        after: "active enabled, older, runs older, ii",
    },
    Transition {
        name: "the same version once more",
        before: "",
        change: "dpkg -i /variants/present.deb",
        after: "active enabled, present, runs present, ii",
    },
    Transition {
        name: "unpacked first and configured later, as apt does it",
        before: "dpkg --unpack /variants/later.deb",
        change: "dpkg --configure cts",
        after: "active enabled, later, runs later, ii",
    },
    Transition {
        name: "the upgrade cannot begin, as its lock cannot be made: dpkg says so",
        before: "rm -f /run/cts-upgrade.lock; mkdir /run/cts-upgrade.lock",
        change: "! dpkg -i /variants/later.deb; rmdir /run/cts-upgrade.lock",
        after: "active enabled, present, runs present, iF",
    },
    Transition {
        name: "until it is configured, the old binary is in place and survives a crash",
        before: "dpkg --unpack /variants/later.deb",
        change: "kill -9 $(systemctl show -P MainPID cts); await NRestarts 1; await ActiveState active",
        after: "active enabled, present, runs present, iU",
    },
    Transition {
        name: "stopped by the operator, it stays stopped",
        before: "systemctl stop cts",
        change: "dpkg -i /variants/later.deb",
        after: "inactive enabled, later, runs nothing, ii",
    },
    Transition {
        name: "disabled and stopped, it stays both",
        before: "systemctl -q disable --now cts",
        change: "dpkg -i /variants/later.deb",
        after: "inactive disabled, later, runs nothing, ii",
    },
    Transition {
        name: "disabled and running, it goes on with the new binary and stays disabled",
        before: "systemctl -q disable cts",
        change: "dpkg -i /variants/later.deb",
        after: "active disabled, later, runs later, ii",
    },
    Transition {
        name: "masked and stopped, it stays both",
        before: "systemctl -q mask --now cts",
        change: "dpkg -i /variants/later.deb",
        after: "inactive masked, later, runs nothing, ii",
    },
    Transition {
        name: "masked while it runs, it is not restarted",
        before: "systemctl -q mask cts",
        change: "dpkg -i /variants/later.deb",
        after: "active masked, later, runs present, ii",
    },
    Transition {
        name: "failed, and what it failed for is mended: it is started",
        before: "echo PORT=much >/etc/default/cts; systemctl restart cts || true
            await ActiveState failed; rm /etc/default/cts; touch /etc/default/cts",
        change: "dpkg --force-confold -i /variants/later.deb",
        after: "active enabled, later, runs later, ii",
    },
    Transition {
        name: "waiting for a lock, the new binary waits on",
        before: HOLD,
        change: "timeout 60 dpkg -i /variants/later.deb; await ActiveState activating",
        after: "activating enabled, later, runs later, ii",
    },
    Transition {
        name: "waiting for a lock, and the lock is released after the upgrade",
        before: HOLD,
        change: "timeout 60 dpkg -i /variants/later.deb; systemctl stop holder
            await ActiveState active",
        after: "active enabled, later, runs later, ii",
    },
    Transition {
        name: "with cts.socket, the socket stays open",
        before: SOCKET,
        change: "dpkg -i /variants/later.deb; systemctl -q is-active cts.socket; request",
        after: "active enabled, later, runs later, ii",
    },
    Transition {
        name: "with cts.socket alone, the next request starts the new binary",
        before: "systemctl stop cts; systemctl -q enable --now cts.socket; systemctl -q disable cts",
        change: "dpkg -i /variants/later.deb; is ActiveState inactive; request
            await ActiveState active",
        after: "active disabled, later, runs later, ii",
    },
    Transition {
        name: "cts.socket failed with the service, and what they failed for is mended: both are started",
        before: "echo PORT=much >/etc/default/cts; systemctl stop cts; systemctl -q enable --now cts.socket
            request || true; until systemctl -q is-failed cts.socket; do request || true; done
            rm /etc/default/cts; touch /etc/default/cts; await ActiveState failed",
        change: "dpkg --force-confold -i /variants/later.deb; systemctl -q is-active cts.socket; request",
        after: "active enabled, later, runs later, ii",
    },
    Transition {
        name: "removed and installed again, it runs",
        before: "dpkg -r cts",
        change: "dpkg -i /variants/later.deb",
        after: "active enabled, later, runs later, ii",
    },
    Transition {
        name: "disabled, removed and installed again, it stays disabled",
        before: "systemctl -q disable --now cts; dpkg -r cts",
        change: "dpkg -i /variants/later.deb",
        after: "inactive disabled, later, runs nothing, ii",
    },
    Transition {
        name: "masked, removed and installed again, it stays masked",
        before: "systemctl -q mask --now cts; dpkg -r cts",
        change: "dpkg -i /variants/later.deb",
        after: "inactive masked, later, runs nothing, ii",
    },
    Transition {
        name: "with cts.socket, removed and installed again, both run",
        before: "systemctl stop cts; systemctl -q enable --now cts.socket; dpkg -r cts",
        change: "dpkg -i /variants/later.deb; systemctl -q is-active cts.socket",
        after: "active enabled, later, runs later, ii",
    },
    Transition {
        name: "purged and installed over the kept data, it runs",
        before: "dpkg -P cts",
        change: "dpkg -i /variants/later.deb",
        after: "active enabled, later, runs later, ii",
    },
    Transition {
        name: "removed while it was only unpacked, nothing of it runs; installed again, it runs",
        before: "dpkg --unpack /variants/later.deb; dpkg -r cts; ! pgrep -x cts; [ ! -e /usr/lib/cts ]",
        change: "dpkg -i /variants/later.deb",
        after: "active enabled, later, runs later, ii",
    },
    Transition {
        name: "policy-rc.d forbids starts: the running one is left, the new binary is in place",
        before: "forbid",
        change: "dpkg -i /variants/later.deb",
        after: "active enabled, later, runs present, ii",
    },
    Transition {
        name: "policy-rc.d forbids starts: a fresh installation is not started",
        before: "dpkg -P cts; forbid",
        change: "dpkg -i /variants/later.deb",
        after: "inactive enabled, later, runs nothing, ii",
    },
    Transition {
        name: "without an input to read from",
        before: "",
        change: "dpkg -i /variants/later.deb <&-",
        after: "active enabled, later, runs later, ii",
    },
    Transition {
        name: "no systemd is seen, as in a chroot: the service is left as it is",
        before: "",
        change: "unshare -m sh -c 'mount -t tmpfs tmpfs /run && dpkg -i /variants/later.deb'; [ ! -e /usr/lib/cts/unfinished ]",
        after: "active enabled, later, runs present, ii",
    },
    Transition {
        name: "a chroot without /proc and /dev: installed and enabled for the first boot",
        before: "dpkg -P cts; rm -r /data",
        change: "unshare -m sh -c 'mkdir -p /chroot && mount --bind / /chroot && mount -t tmpfs tmpfs /chroot/run &&
            cp /variants/later.deb /chroot/root && chroot /chroot dpkg -i /root/later.deb'; systemctl daemon-reload",
        after: "inactive enabled, later, runs nothing, ii",
    },
];

/// A machine with the variants in `/variants`.
fn machine(variants: &Variants) -> Option<Container> {
    ContainerPlan::bare().with(variants.folder.clone(), "/variants").boot()
}

fn expect(machine: &Container, transition: &Transition) {
    machine.ok(RESET);
    for step in [transition.before, transition.change] {
        let done = machine.sh(&format!("{FUNCTIONS}{step}"));
        let said = format!("{}{}", done.out(), done.err());
        assert!(
            done.0.status.success(),
            "{}: {step}\n{said}{}",
            transition.name,
            machine.journal("")
        );
    }
    let after = machine.sh(PROBE).out();
    assert_eq!(after.trim_end(), transition.after, "{}\n{}", transition.name, machine.journal(""));
    let kept = "sqlite3 /data/cts.db \"SELECT count(*) FROM site_logs WHERE message = 'kept'\"";
    if !transition.before.contains("rm -r /data") && !after.starts_with("activating") {
        assert_eq!(machine.ok(kept), "1", "{}", transition.name);
    }
    // No name that a step uses for a moment is left.
    let left = "ls -d /usr/bin/cts.* /usr/lib/cts/*.new 2>/dev/null || true";
    assert_eq!(machine.ok(left), "", "{}", transition.name);
}

#[test]
#[ignore = "sweep"]
fn every_transition_of_the_package_ends_in_the_state_that_the_operator_expects() {
    let Some(variants) = Variants::make() else { return };
    let Some(machine) = machine(&variants) else { return };
    for transition in TRANSITIONS {
        expect(&machine, transition);
    }
}

/// A package whose upgrade or removal is given up on the way, and what brings it back.
#[test]
#[ignore = "sweep"]
fn an_interrupted_or_abandoned_change_leaves_the_service_running_and_can_be_made_again() {
    let Some(variants) = Variants::make() else { return };
    let killed = "[ -e /root/killed ] || { touch /root/killed; kill -9 $PPID; exit 1; }";
    for script in ["preinst", "postinst"] {
        variants.add_with(&format!("killed-{script}"), "3.1.2", script, killed);
    }
    variants.add_with("killed-postrm", "3.1.0", "postrm", killed);
    variants.add_with("given-up", "3.1.2", "preinst", "trap 'exit 1' EXIT");
    variants.add_with("stays", "3.1.2", "prerm", "trap 'exit 1' EXIT");
    let Some(machine) = machine(&variants) else { return };
    let killed = |before, change: &str, repaired, after| {
        machine.ok(RESET);
        machine.ok(before);
        let pid = machine.show("MainPID");
        assert!(!machine.sh(change).0.status.success(), "{change}");
        assert!(machine.sh("[ -e /root/killed ]").0.status.success(), "{change}");
        // The old one runs, and would after a crash.
        assert_eq!(machine.show("MainPID"), pid, "{change}");
        machine
            .ok(&format!("{FUNCTIONS}kill -9 {pid}; await NRestarts 1; await ActiveState active"));
        machine.ok(repaired);
        assert_eq!(machine.ok(PROBE), after, "{change}");
        assert_eq!(machine.ok("dpkg --audit; ls /usr/lib/cts | grep unfinished || true"), "");
    };
    let ran = "active enabled, killed-preinst, runs killed-preinst, ii";
    let again = "dpkg -i /variants/killed-preinst.deb";
    killed("true", again, again, ran);
    let ran = "active enabled, killed-postinst, runs killed-postinst, ii";
    killed("true", "dpkg -i /variants/killed-postinst.deb", "dpkg --configure -a", ran);
    let ran = "active enabled, later, runs later, ii";
    let with_killed_postrm = "dpkg -i /variants/killed-postrm.deb";
    killed(with_killed_postrm, "dpkg -i /variants/later.deb", "dpkg -i /variants/later.deb", ran);

    // A new package that is refused before it is unpacked.
    machine.ok(RESET);
    let pid = machine.show("MainPID");
    assert!(!machine.sh("dpkg -i /variants/given-up.deb").0.status.success());
    assert_eq!(machine.ok(PROBE), "active enabled, present, runs present, ii");
    assert_eq!(machine.show("MainPID"), pid);
    assert_eq!(
        machine.ok("ls /usr/lib/cts | grep unfinished || true; ls /run/cts-upgrade || true"),
        ""
    );

    // A removal that is given up: what it stopped is started again.
    machine.ok("dpkg -i /variants/stays.deb; systemctl -q start cts-backup.timer");
    assert!(!machine.sh("dpkg -r cts").0.status.success());
    assert_eq!(machine.ok(PROBE), "active enabled, stays, runs stays, ri");
    machine.ok("systemctl -q is-active cts-backup.timer");
    machine.ok("systemctl stop cts");
    assert!(!machine.sh("dpkg -r cts").0.status.success());
    assert_eq!(machine.ok(PROBE), "inactive enabled, stays, runs nothing, ri");
}

#[test]
#[ignore = "sweep"]
fn a_version_that_does_not_work_is_refused_and_the_one_before_goes_on() {
    let Some(variants) = Variants::make() else { return };
    variants.add_script("mute", "3.1.2", "#!/bin/sh\n[ \"$1\" != -V ] || echo cts 3.1.2\n");
    let Some(machine) = machine(&variants) else { return };
    machine.ok(RESET);
    let pid = machine.show("MainPID");
    for change in ["dpkg -i /variants/mute.deb", "dpkg --configure -a"] {
        let done = machine.sh(change);
        assert!(!done.0.status.success(), "{}", done.out());
        assert_eq!(
            machine.ok(PROBE),
            "active enabled, present, runs present, iF",
            "{}",
            done.err()
        );
        assert_eq!(machine.show("MainPID"), pid);
    }
    // The way back, and the next attempt.
    machine.ok("dpkg -i /variants/present.deb");
    assert_eq!(machine.ok(PROBE), "active enabled, present, runs present, ii");
    assert!(!machine.sh("dpkg -i /variants/mute.deb").0.status.success());
    machine.ok("dpkg -i /variants/later.deb");
    assert_eq!(machine.ok(PROBE), "active enabled, later, runs later, ii");
    // It can be removed in that state too.
    assert!(!machine.sh("dpkg -i /variants/mute.deb").0.status.success());
    machine.ok("dpkg -r cts; ! pgrep -x cts; [ ! -e /usr/lib/cts ] && [ ! -e /usr/bin/cts ]");
    machine.ok("dpkg -i /variants/later.deb");
    assert_eq!(machine.ok(PROBE), "active enabled, later, runs later, ii");
}

/// What was chosen before a boot holds after it, and a power cut leaves a machine that works.
#[test]
#[ignore = "sweep"]
fn a_boot_starts_what_is_enabled_and_puts_the_old_binary_in_the_place_of_an_untried_one() {
    let Some(variants) = Variants::make() else { return };
    let disk = Path::new(env!("CARGO_TARGET_TMPDIR")).join("disk");
    let _ = fs::remove_dir_all(&disk);
    // Ends without being shut down, as by a power cut, when it is dropped.
    let boot = || {
        let folder = variants.folder.clone();
        ContainerPlan::bare().with(folder, "/variants").on_disk(disk.clone()).boot()
    };
    let Some(mut machine) = boot() else { return };
    let boots: &[(&str, &str)] = &[
        (
            "dpkg -i /variants/present.deb; chmod 2770 /data",
            "active enabled, present, runs present, ii",
        ),
        (
            "systemctl disable --now cts; dpkg -i /variants/later.deb",
            "inactive disabled, later, runs nothing, ii",
        ),
        (
            "systemctl mask cts; dpkg -i /variants/older.deb",
            "inactive masked, older, runs nothing, ii",
        ),
        (
            "systemctl unmask cts; systemctl enable cts; dpkg -i /variants/later.deb",
            "active enabled, later, runs later, ii",
        ),
        ("dpkg --unpack /variants/present.deb", "active enabled, later, runs later, iU"),
        ("dpkg --configure -a", "active enabled, present, runs present, ii"),
        ("dpkg -r cts; dpkg -i /variants/later.deb", "active enabled, later, runs later, ii"),
    ];
    for (change, after) in boots {
        machine.ok(change);
        // What a killed machine has not written is not what is tried here.
        machine.ok("sync");
        drop(machine);
        machine = boot().expect("it was booted before");
        assert_eq!(machine.ok(PROBE), *after, "{change}\n{}", machine.journal(""));
        assert_eq!(machine.ok("stat -c '%U %a' /data"), "cts 2770", "{change}");
    }
    drop(machine);
    fs::remove_dir_all(&disk).unwrap();
}
