//! Upgrades that a kill, a power cut or a full disk ends: the machine has a cts that runs, and all rows.

use super::upgrades::{FAILS, UPGRADE, installed, is_well, program, put_next};
use crate::support::container::Container;
use crate::support::kills::tried_from;

#[test]
#[ignore = "sweep"]
fn a_full_disk_ends_an_upgrade_with_a_cts_that_runs() {
    let Some(machine) = installed() else { return };
    put_next(&machine);
    let mount = "mkdir /small; mount -t tmpfs -o size=100m small /small; mkdir /small/changes /small/work; \
        mount -t overlay -o lowerdir=/usr,upperdir=/small/changes,workdir=/small/work small /usr";
    machine.ok(mount);
    // Room for none, one or two copies of the binary, or for the notes alone.
    let size = machine.ok("stat -c %s /root/cts/cts").parse::<u64>().unwrap() >> 10;
    for free in [0, 8, size / 2, size + 8, size * 3 / 2, size * 2 + 8] {
        machine.ok("rm -f /usr/lib/cts/candidate /usr/lib/cts/previous; systemctl restart cts");
        let fill = format!(
            "fallocate -l $(($(df -k --output=avail /small | tail -n 1) - {free}))K /small/fill"
        );
        let done = machine.sh(&format!("{fill}; {UPGRADE} try /opt/next"));
        machine.ok("rm /small/fill");
        let said = format!("{free} KiB free: {}{}", done.out(), done.err());
        is_well(&machine, &said);
        let version = if done.0.status.success() { "cts 99.0.0" } else { "cts 3.1.0" };
        assert_eq!(machine.ok("cts -V"), version, "{said}");
        assert!(done.0.status.success() || said.contains("No space left on device"), "{said}");
    }
    assert_eq!(machine.ok("cts -V"), "cts 99.0.0");

    machine.ok(
        "mount -o remount,size=8m /run; dd if=/dev/zero of=/run/fill bs=4k 2>/dev/null || true",
    );
    let done = machine.sh(&format!("echo >>/opt/next; {UPGRADE} try /opt/next"));
    machine.ok("rm /run/fill");
    assert!(done.err().contains("/run/cts-upgrade cannot be written"), "{}", done.err());
    is_well(&machine, "after a full /run");
}

/// Ends an upgrade, as a kill -9 or a power cut would, before the command with this number that changes something.
const KILLS: &str = r#"
case "${0##*/} $*" in
"systemctl show "* | "systemctl --quiet reset-failed"* | "sync /usr/bin" | "sync /usr/lib/cts" | "sync "*.new) ;;
*)
    count=$(($(cat /opt/count) + 1))
    echo $count >/opt/count
    if [ $count = "$(cat /opt/stop)" ]; then echo "${0##*/} $*" >/opt/killed; kill -9 0; fi
    ;;
esac
exec "/usr/bin/${0##*/}" "$@"
"#;

/// The state from which each of these upgrades begins.
const BEGIN: &str = "systemctl stop cts cts-trial 2>/dev/null || true; systemctl reset-failed; rm -rf /data/* /run/cts-upgrade \
    /run/systemd/system/cts-trial.service; cd /usr/lib/cts; rm -f previous candidate unfinished *.new; \
    systemctl daemon-reload; cp /root/cts/cts /usr/bin/cts; cp -a /root/data/. /data; systemctl start cts";

/// What remains of an interrupted upgrade after a reboot, and the boot.
const REBOOT: &str = "systemctl kill -s KILL cts cts-trial 2>/dev/null || true; systemctl stop cts cts-trial 2>/dev/null || true; \
    systemctl reset-failed; rm -rf /run/cts-upgrade /run/systemd/system/cts-trial.service; systemctl daemon-reload; \
    ! test -e /usr/lib/cts/unfinished || sed -i s/^boot=.*/boot=before/ /usr/lib/cts/unfinished; systemctl start cts";

/// What a package manager does before it has the new binary tried.
fn unpack(new: &str) -> String {
    format!("{UPGRADE} keep; cp {new} /usr/bin/unpacked; mv -f /usr/bin/unpacked /usr/bin/cts")
}

/// Interrupts an upgrade at its steps, from the first; after each, `then` is run.
fn interrupt(machine: &Container, before: &str, attempt: &str, then: &str, version: &str) {
    for name in ["cp", "install", "ln", "mv", "rm", "sync", "systemctl"] {
        program(machine, &format!("/opt/kills/{name}"), KILLS);
    }
    machine.ok("systemctl stop cts; cp -a /data /root/data");
    for step in tried_from(1) {
        machine.ok(&format!(
            "{BEGIN}; {before}; echo 0 >/opt/count; echo {step} >/opt/stop; rm -f /opt/killed"
        ));
        let run = format!("PATH=/opt/kills:$PATH setsid --wait {attempt}");
        machine.sh(&run);
        let killed = machine.sh("cat /opt/killed").out();
        if killed.is_empty() {
            assert!(step > 20, "{step}");
            return;
        }
        let when = format!("killed at step {step}, {killed}");
        let done = machine.sh(then);
        is_well(machine, &format!("{when}{}{}", done.out(), done.err()));
        let is = machine.ok("cts -V");
        assert!(version.split('|').any(|version| is == version), "{when}: {is}");
        eprintln!("{step} {killed}");
    }
}

#[test]
#[ignore = "sweep"]
fn going_back_that_a_power_cut_ends_at_any_step_leaves_a_cts_that_runs_after_the_boot() {
    let Some(machine) = installed() else { return };
    put_next(&machine);
    program(&machine, "/opt/fails", FAILS);
    let attempt = format!("{UPGRADE} try");
    interrupt(&machine, &unpack("/opt/fails"), &attempt, REBOOT, "cts 3.1.0");
}

#[test]
#[ignore = "sweep"]
fn an_upgrade_that_a_power_cut_ends_at_any_step_leaves_a_cts_that_runs_after_the_boot() {
    let Some(machine) = installed() else { return };
    put_next(&machine);
    let attempt = format!("{UPGRADE} try");
    interrupt(&machine, &unpack("/opt/next"), &attempt, REBOOT, "cts 3.1.0|cts 99.0.0");
}

#[test]
#[ignore = "sweep"]
fn going_back_that_is_killed_at_any_step_is_completed_by_running_it_again() {
    let Some(machine) = installed() else { return };
    put_next(&machine);
    program(&machine, "/opt/fails", FAILS);
    let attempt = format!("{UPGRADE} try");
    interrupt(&machine, &unpack("/opt/fails"), &attempt, &attempt, "cts 3.1.0");
}

#[test]
#[ignore = "sweep"]
fn an_upgrade_whose_connection_is_lost_goes_back_all_the_same() {
    let Some(machine) = installed() else { return };
    put_next(&machine);
    program(&machine, "/opt/fails", FAILS);
    for reads in ["true", "head -n 1"] {
        machine.ok(&format!("{UPGRADE} try /opt/fails 2>&1 | {reads}"));
        is_well(&machine, reads);
        assert_eq!(machine.ok("cts -V"), "cts 3.1.0", "{reads}");
    }
}

#[test]
#[ignore = "sweep"]
fn what_a_fault_of_the_disk_has_damaged_is_not_put_in_place() {
    let Some(machine) = installed() else { return };
    let boot = "systemctl restart cts";
    machine.ok("printf 'boot=before\\nstep=staged\\n' >/usr/lib/cts/unfinished; install /dev/null /usr/lib/cts/previous");
    machine.ok(boot);
    is_well(&machine, "an empty binary");
    // The binary of an upgrade of long ago, which the database would stop, and notes without a step.
    program(&machine, "/usr/lib/cts/previous", "echo cts 0.1.0; exit 65");
    for notes in [": >", "head -c 400 /dev/urandom >"] {
        machine.ok(&format!("{notes}/usr/lib/cts/unfinished; {boot}"));
        is_well(&machine, notes);
        machine.ok(&format!("{notes}/usr/lib/cts/unfinished; ! {UPGRADE} try /bin/false; {boot}"));
        is_well(&machine, notes);
        machine.ok("cmp /usr/bin/cts /root/cts/cts");
    }
    // A boot waits until a large backup is put back.
    machine.ok("[ $(systemctl show -P TimeoutStartUSec cts-recover) = 7h ]; grep -q TimeoutStartSec=6h /usr/lib/cts/upgrade");
}
