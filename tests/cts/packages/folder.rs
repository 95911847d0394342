//! A `/data` that is there before cts is installed: whose it is taken for, what is refused, and that
//! neither an upgrade nor a boot changes it.

use std::fs;

use super::variants::Variants;
use crate::support::container::{Container, ContainerPlan};
use crate::support::project::source;

/// A machine without cts and without `/data`.
const RESET: &str = r#"
exec >/dev/null 2>&1
dpkg --force-all -P cts || true
umount /data || true
rm -rf /data /srv/* /etc/default/cts /etc/tmpfiles.d/cts.conf /etc/systemd/system/cts.service.d
systemctl daemon-reload
systemctl reset-failed
getent passwd alice || useradd alice
"#;

/// What is in `/data`, and whose it is.
const LIST: &str = "find /data /srv -printf '%p %u:%g %m %s %l\\n' | sort";

#[test]
fn the_package_and_the_script_have_the_same_rule() {
    let rule = |file: &str| {
        let text = fs::read_to_string(source(file)).unwrap();
        let (_, from) = text.split_once("# The same functions are in").expect(file);
        from.split_once("# End of the same functions.").expect(file).0.to_string()
    };
    assert_eq!(rule("release/folder.sh"), rule("release/debian/preinst"));
}

/// `upgrade` is one file, so that a boot finds it whole after an unpack that was cut off.
#[test]
fn the_upgrade_and_the_summary_read_the_flags_of_the_service_alike() {
    let function = |file: &str| {
        let text = fs::read_to_string(source(file)).unwrap();
        let (_, from) = text.split_once("\nflag() {\n").expect(file);
        from.split_once("\n}\n").expect(file).0.to_string()
    };
    assert_eq!(function("release/upgrade.sh"), function("release/summary.sh"));
}

/// How `/data` is made, and what the refusal contains.
const REFUSED: &[(&str, &str)] = &[
    ("mkdir -m 750 /data; touch /data/photo; chown -R alice: /data", "/data is in use by alice,"),
    ("mkdir /data; chown alice: /data", "/data is in use by alice,"),
    ("mkdir /data; touch /data/theirs", "/data is in use by root,"),
    ("mkdir -p /data/.git", "/data is in use by root,"),
    ("mkdir /data; ln -s /nowhere /data/link", "/data is in use by root,"),
    ("mkdir /data; chown 4242:4242 /data", "/data is in use by the user id 4242,"),
    ("touch /data", "/data is not a directory."),
    (
        "mkdir /srv/photos; chown alice: /srv/photos; ln -s /srv/photos /data",
        "/data is in use by alice,",
    ),
    (
        "mkdir /data; chown alice: /data; echo '#SQLITE_DB_PATH=/srv/cts.db' >/etc/default/cts",
        "/data is in use by alice,",
    ),
];

#[test]
#[ignore = "sweep"]
fn a_folder_of_others_is_refused_before_anything_is_unpacked() {
    let Some(variants) = Variants::make() else { return };
    let Some(machine) = machine(&variants) else { return };
    for (made, why) in REFUSED {
        machine.ok(RESET);
        machine.ok(made);
        let before = machine.ok(LIST);
        let done = machine.sh("dpkg -i /variants/present.deb");
        assert!(!done.0.status.success(), "{made}: {}", done.out());
        assert!(done.err().contains(&format!("cts: {why}")), "{made}: {}", done.err());
        assert!(done.err().contains("CTS_ANY_DATA=1. Nothing was installed."), "{}", done.err());
        let script = machine.sh("/release/folder.sh --check");
        assert!(
            !script.0.status.success() && done.err().contains(&script.err()),
            "{}",
            script.err()
        );
        assert_eq!(machine.ok(LIST), before, "{made}");
        let left = "ls -d /usr/bin/cts /usr/lib/cts /run/cts-upgrade /usr/lib/systemd/system/cts.* 2>/dev/null || true; \
            getent passwd cts; dpkg --audit; dpkg-query -W -f '${db:Status-Abbrev}' cts || true";
        // dpkg remembers the name of a package that it was asked to install.
        let left = machine.sh(left).out();
        assert!(["", "un "].contains(&&*left), "{made}: {left}");
    }
}

/// What is installed into a `/data` made so.
struct Accepted {
    made: &'static str,
    install: &'static str,
    /// Owner and mode of `/data`, or of what it links to.
    folder: &'static str,
    /// The state of the service, and the owner of its database.
    runs: &'static str,
}

const INSTALL: &str = "dpkg -i /variants/present.deb";
const DATABASE: &str = "dpkg -i /variants/present.deb; systemctl stop cts; cp /data/cts.db /root/cts.db; dpkg -P cts; rm -r /data";

const ACCEPTED: &[Accepted] = &[
    Accepted { made: "true", install: INSTALL, folder: "cts:cts 700", runs: "active cts" },
    Accepted { made: "mkdir /data", install: INSTALL, folder: "cts:cts 700", runs: "active cts" },
    Accepted {
        made: "mkdir /data; mount -t tmpfs tmpfs /data; mkdir -m 700 /data/lost+found",
        install: INSTALL,
        folder: "cts:cts 700",
        runs: "active cts",
    },
    Accepted {
        made: "mkdir /srv/disk; ln -s /srv/disk /data",
        install: INSTALL,
        folder: "cts:cts 700",
        runs: "active cts",
    },
    // A link to a disk that is not mounted.
    Accepted { made: "ln -s /srv/disk /data", install: INSTALL, folder: "none", runs: "failed none" },
    // A database that root has copied back, with its backups.
    Accepted {
        made: "mkdir -p /data/backups; cp /root/cts.db /data/cts.db; touch /data/backups/cts-20261127T203045Z.db",
        install: INSTALL,
        folder: "cts:cts 700",
        runs: "active cts",
    },
    // Backups of others are not touched, and cts says what it lacks.
    Accepted {
        made: "mkdir -p /data/backups; cp /root/cts.db /data/cts.db; touch /data/backups/mail.tar",
        install: INSTALL,
        folder: "root:root 755",
        runs: "failed root",
    },
    Accepted {
        made: "mkdir /data; cp /root/cts.db /data/cts.db; chown -R alice: /data",
        install: INSTALL,
        folder: "alice:alice 755",
        runs: "failed alice",
    },
    Accepted {
        made: "mkdir /data; touch /data/photo; chown -R alice: /data",
        install: "CTS_ANY_DATA=1 dpkg -i /variants/present.deb",
        folder: "alice:alice 755",
        runs: "failed none",
    },
    // The database is elsewhere.
    Accepted {
        made: "mkdir /data /srv/cts; touch /data/photo; chown -R alice: /data; chown cts: /srv/cts
            echo SQLITE_DB_PATH=/srv/cts/cts.db >/etc/default/cts; mkdir /etc/systemd/system/cts.service.d
            printf '[Service]\\nReadWritePaths=/srv/cts\\n' >/etc/systemd/system/cts.service.d/folder.conf",
        install: "dpkg --force-confold -i /variants/present.deb",
        folder: "alice:alice 755",
        runs: "active none",
    },
    // A folder that root has prepared for a group, or with a line of its own for systemd-tmpfiles.
    Accepted {
        made: "mkdir -m 2770 /data; chgrp cts /data",
        install: INSTALL,
        folder: "root:cts 2770",
        runs: "active cts",
    },
    Accepted {
        made: "mkdir /data; echo 'd /data 2770 cts cts -' >/etc/tmpfiles.d/cts.conf",
        install: INSTALL,
        folder: "cts:cts 2770",
        runs: "active cts",
    },
];

#[test]
#[ignore = "sweep"]
fn an_empty_folder_of_root_and_a_copied_database_are_given_to_cts_and_no_other_is_changed() {
    let Some(variants) = Variants::make() else { return };
    let Some(machine) = machine(&variants) else { return };
    machine.ok(RESET);
    machine.ok(DATABASE);
    for Accepted { made, install, folder, runs } in ACCEPTED {
        machine.ok(RESET);
        machine.ok(made);
        let said = machine.sh(install);
        assert!(said.0.status.success(), "{made}: {}{}", said.out(), said.err());
        let after = "stat -L -c '%U:%G %a' /data 2>/dev/null || echo none
            echo \"$(systemctl show -P ActiveState cts) $(stat -c %U /data/cts.db 2>/dev/null || echo none)\"";
        assert_eq!(
            machine.ok(after),
            format!("{folder}\n{runs}"),
            "{made}: {}{}",
            said.out(),
            said.err()
        );
        // Neither an upgrade nor a boot changes it.
        machine.ok("dpkg -i /variants/later.deb; systemd-tmpfiles --create --boot cts.conf");
        assert_eq!(machine.ok(after), format!("{folder}\n{runs}"), "{made}");
    }
}

#[test]
#[ignore = "sweep"]
fn a_mode_set_by_hand_survives_and_a_missing_folder_is_made_at_boot() {
    let Some(variants) = Variants::make() else { return };
    let Some(machine) = machine(&variants) else { return };
    let is = || machine.ok("stat -c '%U:%G %a' /data");
    machine.ok(INSTALL);
    machine.ok("chmod 2770 /data");
    for change in [
        "systemd-tmpfiles --create --boot",
        "dpkg -i /variants/later.deb",
        INSTALL,
        "dpkg -r cts",
        INSTALL,
    ] {
        machine.ok(change);
        assert_eq!(is(), "cts:cts 2770", "{change}");
    }
    machine.ok(
        "systemctl stop cts; rm -r /data; systemd-tmpfiles --create --boot; systemctl start cts",
    );
    assert_eq!(is(), "cts:cts 700");
}

/// A machine with the variants in `/variants`.
fn machine(variants: &Variants) -> Option<Container> {
    let folder = variants.folder.clone();
    ContainerPlan::bare().with(folder, "/variants").with(source("release"), "/release").boot()
}
