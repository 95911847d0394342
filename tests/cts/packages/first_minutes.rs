//! The first minutes with cts on each release of Debian: what an installation prints is short, is true
//! for the state of the machine, and each command in it works as it is printed.

use crate::packages::install::machine_of;
use crate::support::container::{Container, ContainerPlan, Debian};
use crate::support::harness::Done;

const SUMMARY: &str = "/usr/lib/cts/summary";

/// A container with the packages and with a user who may use sudo.
fn machine(debian: Debian) -> Option<Container> {
    let machine = machine_of(ContainerPlan::bare().on(debian))?;
    machine.ok("useradd --create-home anna");
    machine.write("/etc/sudoers.d/anna", "anna ALL=(ALL) NOPASSWD: ALL\n");
    Some(machine)
}

/// Installs the archive, and returns what was printed.
fn install_archive(machine: &Container) -> String {
    machine.ok("mkdir /root/cts; tar -C /root/cts --strip-components=1 -xzf /mnt/cts-*.tar.gz");
    machine.ok("/root/cts/install.sh")
}

/// The lines about the installation in what was printed: at most ten of at most 100 columns.
fn summary(said: &str) -> Vec<String> {
    let mut from = said.lines().skip_while(|line| !line.contains(" is installed. "));
    let first = from.next().into_iter();
    // dpkg may go on with the triggers of other packages.
    let lines = first.chain(from.take_while(|line| line.starts_with("  ")));
    let lines: Vec<String> = lines.map(str::to_string).collect();
    assert!((5..=10).contains(&lines.len()), "{said}");
    assert!(lines.iter().all(|line| line.chars().count() <= 100), "{said}");
    lines
}

/// What is between backquotes.
fn commands(lines: &[String]) -> Vec<&str> {
    lines.iter().flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

/// Runs a command as the user of [`machine`].
fn as_anna(machine: &Container, command: &str) -> Done {
    assert!(!command.contains('"'), "{command}");
    machine.sh(&format!("cd /home/anna; runuser -u anna -- sh -c \"{command}\""))
}

/// Runs each command as it is printed; then every path exists, and the status page is served.
fn is_true(machine: &Container, lines: &[String]) {
    for command in commands(lines) {
        let done = as_anna(machine, command);
        assert!(done.0.status.success(), "{command}: {}{}", done.out(), done.err());
        // A restart of the service is followed by other commands.
        machine.until("ActiveState", "active");
    }
    let words = lines.iter().flat_map(|line| line.split([' ', '`', ',', ';', '"']));
    for word in words {
        if word.starts_with('/') {
            machine.ok(&format!("test -e {word}"));
        } else if word.starts_with("http://") {
            machine.ok(&format!("curl --silent --fail --output /dev/null {word}"));
        }
    }
}

#[test]
#[ignore = "sweep"]
fn what_the_archive_prints_on_each_debian_can_be_typed_as_it_is() {
    for debian in Debian::ALL {
        let Some(machine) = machine(debian) else { continue };
        let lines = summary(&install_archive(&machine));
        // The page shows them, and so says what is expected.
        let page = include_str!("../../../docs/install.md");
        assert!(page.contains(&format!("```text\n{}\n```\n", lines.join("\n"))), "{lines:#?}");
        let named = commands(&lines).join("\n");
        for part in ["--check --url ", "cts status", "cts backup\n", "cts backups", "journalctl"] {
            assert!(named.contains(part), "{lines:#?}");
        }
        is_true(&machine, &lines);
        assert_eq!(
            machine.ok("ls /data/backups/*.db | wc -l; stat -c %U /data/*"),
            "1\ncts\ncts\ncts\ncts"
        );
    }
}

#[test]
#[ignore = "sweep"]
fn what_is_printed_is_true_in_every_state_of_the_service() {
    let Some(machine) = machine(Debian::Bookworm) else { return };
    install_archive(&machine);
    let said = || summary(&machine.ok(SUMMARY));
    let settings = |text: &str| {
        machine.write("/etc/default/cts", text);
        machine.ok("systemctl restart cts");
    };

    // Another address, another file, another folder of backups, and no schedule.
    machine.ok("install -d -o cts /data/other '/data/my backups'");
    settings(
        "PORT=3100\nSQLITE_DB_PATH=/data/other/db\nCTS_BACKUP_EVERY=0\nCTS_BACKUP_DIR='/data/my backups'\n",
    );
    let lines = said();
    assert!(
        lines.concat().contains("none by itself") && lines.concat().contains(":3100/"),
        "{lines:#?}"
    );
    for command in commands(&lines) {
        let done = as_anna(&machine, command);
        assert!(done.0.status.success(), "{command}: {}{}", done.out(), done.err());
    }
    machine.ok("ls '/data/my backups'/cts-*.db");

    // Where other machines can reach it, the page answers with a token only.
    settings("HOST=0.0.0.0\n");
    let lines = said();
    let page = "http://127.0.0.1:3000/, once CTS_ADMIN_TOKEN or CTS_ADMIN_TOKEN_FILE is set";
    assert!(lines.iter().any(|line| line.ends_with(page)), "{lines:#?}");
    settings("CTS_ADMIN_TOKEN=0123456789abcdef0123456789abcdef\n");
    assert!(said().iter().any(|line| line.ends_with("/, which asks for the token")));

    // A secret of the settings is not printed.
    machine.ok("systemctl stop cts");
    machine.write("/etc/default/cts", "DATABASE_URL=postgresql://u:hunter2@db.example/cts\n");
    let lines = said();
    assert!(
        lines.concat().contains("PostgreSQL") && !lines.concat().contains("hunter2"),
        "{lines:#?}"
    );
    assert!(!lines.concat().contains("sudo -u cts"), "{lines:#?}");
    machine.write("/etc/default/cts", "");

    // Each first line says how to start it, and that is so.
    for (before, first) in [
        ("systemctl stop cts", "It is stopped: `sudo systemctl start cts`."),
        ("systemctl disable --now cts", "It does not run: `sudo systemctl enable --now cts`."),
    ] {
        machine.ok(before);
        let lines = said();
        assert!(lines[0].ends_with(first), "{lines:#?}");
        as_anna(&machine, commands(&lines)[0]);
        assert_eq!(machine.show("ActiveState"), "active");
        is_true(&machine, &said());
    }
    machine.ok("systemctl stop cts; systemctl enable --now cts.socket");
    assert!(said()[0].ends_with("The next request to its port starts it."));
    // It is answered while cts starts.
    as_anna(&machine, commands(&said())[0]);
    machine.until("ActiveState", "active");
    is_true(&machine, &said());
    machine.ok("systemctl disable --now cts.socket; systemctl stop cts; systemctl mask cts");
    assert!(said()[0].ends_with("Its service is masked: `sudo systemctl unmask cts`."));

    // Without systemd and without sudo.
    let script = format!(
        "mount -t tmpfs none /run/systemd; mv /usr/bin/sudo /root; {SUMMARY}; mv /root/sudo /usr/bin"
    );
    let lines = summary(&machine.ok(&format!("unshare --mount sh -euc '{script}'")));
    assert!(lines[0].contains("`runuser -u cts -- cts serve`"), "{lines:#?}");
    assert!(
        !lines.concat().contains("sudo") && !lines.concat().contains("systemctl"),
        "{lines:#?}"
    );
}

#[test]
#[ignore = "sweep"]
fn apt_installs_the_package_on_each_debian_and_cts_runs() {
    for debian in Debian::ALL {
        let Some(machine) = machine(debian) else { continue };
        let said = machine
            .ok("cp /mnt/cts_*.deb /tmp; cd /tmp; sudo apt-get install --quiet --yes ./cts_*.deb");
        is_true(&machine, &summary(&said));
    }
}
