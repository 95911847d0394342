//! The unit under a real systemd: start, crash, hang, stop, and errors.

use std::thread;

use crate::support::container::{Container, ContainerPlan};
use crate::support::harness::await_that;
use crate::support::project::source;

/// A container with cts installed and not started.
pub fn installed() -> Option<Container> {
    installed_with(|plan| plan)
}

/// The same, with more in it.
pub fn installed_with(more: impl FnOnce(ContainerPlan) -> ContainerPlan) -> Option<Container> {
    let units = "/usr/lib/systemd/system";
    let plan = ContainerPlan::bare()
        .with(env!("CARGO_BIN_EXE_cts").into(), "/usr/bin/cts")
        .with(source("systemd/cts.service"), &format!("{units}/cts.service"))
        .with(source("systemd/cts.socket"), &format!("{units}/cts.socket"))
        .with(source("systemd/sysusers.d/cts.conf"), "/usr/lib/sysusers.d/cts.conf")
        .with(source("systemd/tmpfiles.d/cts.conf"), "/usr/lib/tmpfiles.d/cts.conf");
    let machine = more(plan).boot()?;
    machine.ok("systemd-sysusers; systemd-tmpfiles --create cts.conf");
    Some(machine)
}

/// Starts cts. Like `systemctl`, returns once the service has notified that it is ready.
fn started() -> Option<Container> {
    let machine = installed()?;
    machine.ok("systemctl start cts");
    Some(machine)
}

const LIVE: &str =
    "curl -s -o /dev/null -w '%{http_code}' --max-time 20 http://127.0.0.1:3000/livez";

#[test]
#[ignore = "sweep"]
fn start_ends_when_the_database_is_ready() {
    let Some(machine) = started() else { return };
    assert_eq!(machine.show("ActiveState"), "active");
    assert_eq!(machine.show("StatusText"), "serving on 127.0.0.1:3000");
    let health = machine.ok("curl -s http://127.0.0.1:3000/api/health/database");
    assert!(health.contains(r#""status":"healthy""#), "{health}");
    let files = machine.ok("cd /data; stat -c '%a %U %G %n' . *");
    let wanted = ["700 cts cts .", "600 cts cts cts.db"];
    assert!(wanted.iter().all(|file| files.lines().any(|line| line == *file)), "{files}");
    assert!(!machine.log("").is_empty());
    assert_eq!(machine.log("-p warning"), "");
}

#[test]
#[ignore = "sweep"]
fn a_killed_service_is_restarted_in_seconds() {
    let Some(machine) = started() else { return };
    machine.ok("sqlite3 /data/cts.db \"INSERT INTO site_logs (level, category, message) VALUES ('info', 'test', 'kept')\"");
    machine.ok("systemctl kill -s KILL cts");
    machine.until("NRestarts", "1");
    machine.until("ActiveState", "active");
    machine.ok("curl -sf http://127.0.0.1:3000/readyz");
    let kept = "SELECT count(*) FROM site_logs WHERE message = 'kept'";
    assert_eq!(machine.ok(&format!("sqlite3 /data/cts.db \"{kept}\"")), "1");
}

#[test]
#[ignore = "sweep"]
fn a_hanging_service_is_restarted_by_the_watchdog() {
    let Some(machine) = installed() else { return };
    machine.drop_in("[Service]\nWatchdogSec=1s\nRestartSec=100ms\n");
    machine.ok("systemctl start cts");
    // It notifies the watchdog for longer than its interval before it is stopped.
    let alive = machine.show("WatchdogTimestampMonotonic");
    await_that("it tells the watchdog", || machine.show("WatchdogTimestampMonotonic") != alive);
    assert_eq!(machine.show("NRestarts"), "0");
    machine.ok("systemctl kill -s STOP cts");
    machine.until("NRestarts", "1");
    machine.until("ActiveState", "active");
    machine.ok("curl -sf http://127.0.0.1:3000/readyz");
    let journal = machine.journal("");
    assert!(journal.contains("Watchdog timeout"), "{journal}");
}

#[test]
#[ignore = "sweep"]
fn a_stop_leaves_no_wal() {
    let Some(machine) = started() else { return };
    machine.ok("test -s /data/cts.db-wal; systemctl stop cts");
    assert_eq!(
        (machine.show("Result"), machine.show("ExecMainStatus")),
        ("success".into(), "0".into())
    );
    assert_eq!(machine.ok("ls /data"), "cts.db");
    assert_eq!(machine.log("-p warning"), "");
}

/// Sends 200 requests while cts is restarted repeatedly. Returns the number of answers and of
/// restarts.
fn answered_over_restarts(machine: &Container) -> (usize, u32) {
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let request =
                format!("i=0; while [ $i -lt 50 ]; do i=$((i+1)); {LIVE} || true; echo; done");
            let mut command = machine.command(&request);
            thread::spawn(move || command.output().unwrap())
        })
        .collect();
    let mut restarts = 0;
    while clients.iter().any(|client| !client.is_finished()) {
        machine.ok("systemctl restart cts");
        restarts += 1;
    }
    let answers = clients.into_iter().map(|client| client.join().unwrap());
    let text = answers.map(|output| String::from_utf8(output.stdout).unwrap()).collect::<String>();
    assert_eq!(text.lines().count(), 200, "{text}");
    (text.lines().filter(|code| *code == "200").count(), restarts)
}

#[test]
#[ignore = "sweep"]
fn with_the_socket_no_request_is_lost_over_restarts() {
    let Some(machine) = installed() else { return };
    machine.ok("systemctl start cts.socket cts");
    let (answered, restarts) = answered_over_restarts(&machine);
    assert!(restarts >= 3, "only {restarts} restarts while the requests came");
    assert_eq!(answered, 200, "{restarts} restarts:\n{}", machine.journal(""));
    assert_eq!(machine.ok("systemctl is-active cts.socket"), "active");

    // Without the socket some are lost; otherwise the test above would prove nothing.
    machine.ok("systemctl stop cts.socket cts; systemctl start cts");
    let (answered, restarts) = answered_over_restarts(&machine);
    assert!(answered < 200, "{answered} answered over {restarts} restarts without the socket");
}

#[test]
#[ignore = "sweep"]
fn a_request_to_the_socket_starts_the_service() {
    let Some(machine) = installed() else { return };
    machine.ok("systemctl start cts.socket");
    assert_eq!(machine.show("ActiveState"), "inactive");
    assert_eq!(machine.ok(LIVE), "200");
    machine.until("ActiveState", "active");
    assert_eq!(machine.show("StatusText"), "serving on 127.0.0.1:3000");
}

#[test]
#[ignore = "sweep"]
fn a_second_address_of_the_socket_is_refused() {
    let Some(machine) = installed() else { return };
    machine.write(
        "/etc/systemd/system/cts.socket.d/test.conf",
        "[Socket]\nListenStream=127.0.0.1:3001\n",
    );
    machine.ok("systemctl daemon-reload; systemctl start cts.socket");
    machine.sh("systemctl start cts");
    assert_eq!(machine.show("ExecMainStatus"), "78", "{}", machine.journal(""));
    assert!(machine.log("-p err").contains("ListenStream"), "{}", machine.log(""));
}

#[test]
#[ignore = "sweep"]
fn a_read_only_disk_is_never_ready() {
    let Some(machine) = started() else { return };
    machine.ok("systemctl stop cts; cp -a /data /root/data; mount -t tmpfs tmpfs /data");
    machine.ok("cp -a /root/data/. /data; mount -o remount,ro /data");
    let active = machine.show("ActiveEnterTimestampMonotonic");
    let done = machine.sh("systemctl start cts");
    assert!(!done.0.status.success());
    assert_eq!(machine.show("ActiveEnterTimestampMonotonic"), active);
    let log = machine.log("-n 3");
    assert!(log.contains("read-only") && !log.contains("Ready"), "{log}");
}

#[test]
#[ignore = "sweep"]
fn a_permanent_error_is_not_restarted() {
    let Some(machine) = installed() else { return };
    machine.write("/etc/default/cts", "PORT=much\n");
    assert!(!machine.sh("systemctl start cts").0.status.success());
    let state = ["ExecMainStatus", "ActiveState", "SubState", "NRestarts"];
    assert_eq!(state.map(|name| machine.show(name)), ["78", "failed", "failed", "0"]);

    // A temporary error is restarted: here another program has the port.
    machine.write("/etc/default/cts", "PORT=3000\n");
    machine.drop_in("[Service]\nRestartSec=100ms\n");
    machine.ok("systemd-run -q --unit=other --service-type=notify --property=NotifyAccess=all \
                --setenv=SQLITE_DB_PATH=/tmp/other.db cts serve");
    assert!(!machine.sh("systemctl start cts").0.status.success());
    assert_eq!(machine.show("ExecMainStatus"), "69");
    machine.ok("systemctl stop other");
    machine.until("ActiveState", "active");
    assert_ne!(machine.show("NRestarts"), "0");
}

#[test]
#[ignore = "sweep"]
fn a_permanent_error_is_not_restarted_through_the_socket_either() {
    let Some(machine) = installed() else { return };
    machine.write("/etc/default/cts", "CTS_LOCK_TIMEOUT=soon\n");
    machine.ok("systemctl start cts.socket");
    machine.sh(LIVE);
    await_that("the socket gives up", || {
        machine.sh("systemctl show -P Result cts.socket").out().trim() == "trigger-limit-hit"
    });
    machine.ok("rm /etc/default/cts; systemctl restart cts.socket cts");
    assert_eq!(machine.ok(LIVE), "200");
}

#[test]
#[ignore = "sweep"]
fn journal_lines_have_their_priorities() {
    let Some(machine) = started() else { return };
    machine.ok("systemctl stop cts; sqlite3 /data/cts.db 'DROP INDEX idx_site_logs_time'");
    machine.ok("systemctl start cts; systemctl stop cts");
    machine.ok("echo garbage >/data/cts.db");
    assert!(!machine.sh("systemctl start cts").0.status.success());
    let lines = |more: &str| machine.log(more).lines().map(str::to_string).collect::<Vec<_>>();
    let (errors, warnings, all) = (lines("-p err"), lines("-p warning..warning"), lines(""));
    assert!(matches!(&errors[..], [only] if only.contains("not a SQLite database")), "{errors:?}");
    assert!(matches!(&warnings[..], [only] if only.contains("put back")), "{warnings:?}");
    assert!(all.len() > 10 && all.iter().all(|line| line.starts_with("[v0] ")), "{all:?}");
}

#[test]
#[ignore = "sweep"]
fn the_holder_of_a_lock_is_named_from_inside_the_sandbox() {
    let Some(machine) = started() else { return };
    machine.ok("systemctl stop cts; sqlite3 /data/cts.db 'DROP INDEX idx_site_logs_time'");
    machine.ok("mkfifo /run/words; systemd-run -q --unit=holder sh -c 'exec sqlite3 /data/cts.db </run/words'");
    machine.ok("systemd-run -q --unit=words sh -c 'exec >/run/words; echo BEGIN IMMEDIATE\\;; exec sleep 600'");
    let pid = machine.ok("systemctl show -P MainPID holder");
    await_that("the lock is held", || {
        !machine.sh("sqlite3 /data/cts.db 'BEGIN IMMEDIATE; ROLLBACK'").0.status.success()
    });
    machine.ok("systemctl start --no-block cts");
    await_that("the wait is reported", || machine.show("StatusText").contains("waiting"));
    let status = machine.show("StatusText");
    assert!(status.contains("sqlite3") && status.contains(&pid), "not {pid}: {status}");
    assert_eq!(machine.show("ActiveState"), "activating");
    machine.ok("systemctl stop words");
    machine.until("ActiveState", "active");
}

#[test]
#[ignore = "sweep"]
fn programs_of_the_group_can_use_the_database() {
    let Some(machine) = installed() else { return };
    machine.write("/etc/tmpfiles.d/cts.conf", "d /data 2770 cts cts -\n");
    machine.drop_in(
        "[Service]\nEnvironment=CTS_GROUP_ACCESS=1 SQLITE_DB_PATH=/data/box/cts.db\nUMask=0007\n",
    );
    machine.ok("systemd-tmpfiles --create cts.conf; systemctl start cts");
    machine.ok("useradd -G cts trader");
    let row = "INSERT INTO site_logs (level, category, message) VALUES ('info', 'test', 'x')";
    machine.ok(&format!("runuser -u trader -- sqlite3 /data/box/cts.db \"{row}\""));
    let modes = machine.ok("cd /data/box; stat -c '%a %G %n' . *");
    assert!(
        modes
            .lines()
            .all(|line| line.starts_with("2770 cts .") || line.starts_with("660 cts cts.db")),
        "{modes}"
    );
    let warnings = machine.log("-p warning");
    assert!(warnings.contains("/data/box did not exist either"), "{warnings}");
    assert_eq!(warnings.trim().lines().count(), 1, "{warnings}");
}

#[test]
#[ignore = "sweep"]
fn a_secret_is_read_from_a_credential_of_systemd() {
    let Some(machine) = installed() else { return };
    machine.write("/etc/cts/admin-token", "open sesame\n");
    machine.drop_in(
        "[Service]\nLoadCredential=admin-token:/etc/cts/admin-token\n\
         Environment=CTS_ADMIN_TOKEN_FILE=%d/admin-token\n",
    );
    machine.ok("chmod 600 /etc/cts/admin-token; systemctl start cts");
    let ask =
        "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:3000/api/admin/migrations/status";
    assert_eq!(machine.ok(ask), "401");
    assert_eq!(machine.ok(&format!("{ask} -H 'Authorization: Bearer open sesame'")), "200");
}

/// The build with PostgreSQL runs under the same sandbox, on either store.
#[cfg(feature = "postgres")]
#[test]
#[ignore = "sweep"]
fn postgres_build_starts_under_the_unit_and_reads_its_url_from_a_credential() {
    let Some(machine) = started() else { return };
    assert_eq!(machine.log("-p warning"), "");
    machine.ok("systemctl stop cts");
    machine.write("/etc/cts/database-url", "postgresql://cts:sesame@127.0.0.1:1/cts\n");
    machine.drop_in(
        "[Service]\nLoadCredential=database-url:/etc/cts/database-url\n\
         Environment=DATABASE_URL_FILE=%d/database-url CTS_WAIT=1s\n",
    );
    machine.ok("chmod 600 /etc/cts/database-url");
    assert!(!machine.sh("systemctl start cts").0.status.success());
    assert_eq!(machine.show("ExecMainStatus"), "69");
    assert_eq!(machine.show("SubState"), "auto-restart");
    let log = machine.log("-p err");
    assert!(log.contains("127.0.0.1:1") && !machine.journal("").contains("sesame"), "{log}");
}
