//! Two databases on one machine, by the commands of docs/install.md: neither has anything of the other.

use std::fs;

use super::under_systemd::installed;
use crate::support::project::source;

/// The commands of the section of docs/install.md.
fn commands() -> String {
    let page = fs::read_to_string(source("docs/install.md")).unwrap();
    let (_, section) = page.split_once("\n## Two databases on one machine\n").unwrap();
    let (_, block) = section.split_once("```sh\n").unwrap();
    block.split_once("```").unwrap().0.to_string()
}

#[test]
#[ignore = "sweep"]
fn a_second_database_has_a_service_a_port_and_backups_of_its_own() {
    let Some(machine) = installed() else { return };
    machine.ok("systemctl start cts");
    machine.ok(&commands());
    let as_cts = |command: &str| machine.sh(&format!("cd /; runuser -u cts -- {command}"));
    let row = "INSERT INTO site_logs (level, category, message) VALUES ('info', 'test', 'paper')";
    machine.ok(&format!("runuser -u cts -- sqlite3 /data/paper/cts.db \"{row}\""));
    let count = "SELECT count(*) FROM site_logs WHERE message = 'paper'";
    for (database, rows) in [("/data/cts.db", "0"), ("/data/paper/cts.db", "1")] {
        assert_eq!(machine.ok(&format!("sqlite3 {database} \"{count}\"")), rows, "{database}");
    }
    // Backups are told apart by their folders.
    assert!(as_cts("cts backup").0.status.success());
    assert!(as_cts("cts backup --db /data/paper/cts.db").0.status.success());
    for folder in ["/data/backups", "/data/paper/backups"] {
        machine.ok(&format!("ls {folder}/cts-*.db"));
        let listed = as_cts(&format!(
            "cts backups --db {}/cts.db",
            folder.strip_suffix("/backups").unwrap()
        ));
        assert!(!listed.out().contains("another database"), "{}", listed.out());
    }

    // Which database a command means, by a variable: that of either service is right, and a third is not.
    let check = |path: &str| as_cts(&format!("env SQLITE_DB_PATH={path} cts --check"));
    for (path, is_warned) in
        [("/data/cts.db", false), ("/data/paper/cts.db", false), ("/data/third.db", true)]
    {
        let done = check(path);
        let said = done.out() + &done.err();
        assert_eq!(said.contains("the service on this machine uses"), is_warned, "{path}: {said}");
    }
    let doctor = as_cts("cts doctor");
    assert!(!doctor.out().contains("another database"), "{}", doctor.out());
    machine.ok("echo CTS_ADMIN_TOKEN=sesame >>/etc/default/cts-paper");
    let doctor = as_cts("cts doctor").out();
    assert!(doctor.contains("CTS_ADMIN_TOKEN in /etc/default/cts-paper, mode 0644"), "{doctor}");

    // Each is restarted and stopped by itself.
    machine.ok("systemctl kill -s KILL cts-paper; curl -sf http://127.0.0.1:3000/readyz");
    machine.ok("until curl -sf http://127.0.0.1:3001/readyz; do sleep 0.1; done");
    assert_eq!(machine.show("NRestarts"), "0");
    machine.ok("systemctl stop cts; curl -sf http://127.0.0.1:3001/readyz");
    machine.ok(
        "systemctl start cts; systemctl restart cts-paper; curl -sf http://127.0.0.1:3000/readyz",
    );
    for unit in ["cts", "cts-paper"] {
        let warnings =
            machine.ok(&format!("journalctl -q -o cat -p warning _SYSTEMD_UNIT={unit}.service"));
        // That the first database is another one is said once, when the second is created.
        assert_eq!(
            warnings.lines().count(),
            usize::from(unit == "cts-paper"),
            "{unit}: {warnings}"
        );
    }
}
