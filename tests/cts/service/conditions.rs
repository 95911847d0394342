//! What a thread of the service finds reaches the health answers and the log in the same words, and ends
//! with the first success.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::support::harness::{Machine, Run, Service, await_within, is_root};
use crate::support::strace::AttachedStrace;

const HEALTH: &str = "/api/health/database";

/// The service examines the schema once a minute.
const HEALING_TIMEOUT: Duration = Duration::from_secs(150);

/// The reasons of the health answer.
fn reasons(service: &Service) -> Vec<String> {
    let json = service.get(HEALTH).json();
    let reasons = json["reasons"].as_array().cloned().unwrap_or_default();
    reasons.iter().filter_map(Value::as_str).map(String::from).collect()
}

/// Gives the service something to checkpoint.
fn write_row(machine: &Machine) {
    machine.sql("INSERT INTO site_logs (level, category, message) VALUES ('info', 'x', 'y')");
}

#[test]
fn a_failed_checkpoint_makes_the_service_unhealthy_until_one_succeeds() {
    // The WAL and then the file are synced; the file is cut to its length in between.
    for calls in ["fsync,fdatasync", "ftruncate"] {
        let machine = Machine::new();
        let service = machine.serve().start();
        service.until_ready().until_status("healthy");
        let failing = AttachedStrace::inject(&service, "upkeep", calls, "error=EIO");
        await_within(Duration::from_secs(60), "the failed checkpoint is reported", || {
            write_row(&machine);
            service.get(HEALTH).json()["status"] == "unhealthy"
        });
        let answer = service.get(HEALTH);
        assert_eq!(answer.code, 503, "{}", answer.body);
        assert_eq!(service.get("/readyz").code, 503);
        let reason = reasons(&service).remove(0);
        assert!(reason.starts_with("upkeep failed and is retried: "), "{reason}");
        assert!(reason.contains(machine.db().to_str().unwrap()), "{reason}");
        let url = format!("--check --url http://{}", service.address());
        machine.cts(&url).status(2).says(&[&reason]);
        // The log has the same sentence, once for the fault and once for the status.
        service.until(&format!("✗ {reason}"));
        service.until(&format!("The database cannot be used: {reason}"));
        drop(failing);
        service.until_status("healthy");
        service.until("✓ upkeep works again").until("✓ The database can be used again");
        assert_eq!(service.get("/readyz").code, 200);
        machine.cts(&url).success();
        assert_eq!(service.log().matches("✗").count(), 1, "{}", service.log());
        assert_eq!(service.stop().0, Some(0));
        machine.cts("--check --deep").success();
    }
}

#[test]
fn a_momentary_failure_of_upkeep_is_logged_and_changes_no_status() {
    let machine = Machine::new();
    let service = machine.serve().start();
    service.until_ready().until_status("healthy");
    let failing = AttachedStrace::inject(&service, "upkeep", "fsync,fdatasync", "error=EIO:when=1");
    await_within(Duration::from_secs(60), "the failure is logged", || {
        write_row(&machine);
        assert_eq!(service.get(HEALTH).json()["status"], "healthy");
        service.log().contains("; the next attempt succeeded")
    });
    drop(failing);
    assert!(!service.log().contains("✗"), "{}", service.log());
    assert_eq!(service.stop().0, Some(0));
}

#[test]
fn damage_that_a_checkpoint_meets_makes_the_service_unhealthy() {
    let machine = Machine::new();
    let service = machine.serve().start();
    service.until_ready().until_status("healthy");
    machine.sql(
        "INSERT INTO site_logs (level, category, message) VALUES ('info', 'x', zeroblob(4 << 20))",
    );
    let length = || fs::metadata(machine.db()).unwrap().len();
    await_within(Duration::from_secs(60), "it is checkpointed", || length() > 4 << 20);
    let file = fs::File::options().write(true).open(machine.db()).unwrap();
    file.set_len(length() / 2).unwrap();
    machine.sql("UPDATE system_settings SET value = value || ' '");
    let met = |reason: &String| reason.starts_with("upkeep failed") && reason.contains("damaged");
    await_within(Duration::from_secs(60), "the damage is reported", || {
        reasons(&service).iter().any(met)
    });
    assert_eq!(service.get(HEALTH).json()["status"], "unhealthy");
    service.until("✗ upkeep failed and is retried: ");
}

#[test]
fn a_file_system_that_does_not_answer_makes_the_service_unhealthy() {
    let machine = Machine::new();
    let service = machine.serve().start();
    service.until_ready().until_status("healthy");
    // The first for its free space, the others for the file at the path.
    for calls in ["statfs,fstatfs", "stat,statx,newfstatat"] {
        let failing = AttachedStrace::inject(&service, "database", calls, "error=EIO");
        let reason = service.until_status("unhealthy").json()["reasons"][0].clone();
        let reason = reason.as_str().unwrap();
        let expected = format!("{}: its file system does not answer: ", machine.db().display());
        assert!(reason.starts_with(&expected), "{reason}");
        assert!(!reason.contains("deleted"), "{reason}");
        drop(failing);
        service.until_status("healthy");
    }
    assert_eq!(service.stop().0, Some(0));
}

#[test]
#[ignore = "sweep"]
fn healing_that_is_refused_is_reported_with_its_reason_until_it_succeeds() {
    let machine = Machine::new();
    let service = machine.serve().start();
    service.until_ready().until_status("healthy");
    machine.sql("DROP INDEX idx_site_logs_time; CREATE VIEW idx_site_logs_time AS SELECT 1 AS one");
    service.until_status("degraded");
    let refused = || reasons(&service).into_iter().find(|reason| reason.starts_with("cannot put"));
    await_within(HEALING_TIMEOUT, "the refusal is reported", || refused().is_some());
    let reason = refused().unwrap();
    assert!(reason.contains("index idx_site_logs_time on site_logs: "), "{reason}");
    service.until(&format!("⚠ {reason}"));
    assert_eq!(service.get(HEALTH).json()["status"], "degraded");
    machine.sql("DROP VIEW idx_site_logs_time");
    await_within(HEALING_TIMEOUT, "the index is there again", || refused().is_none());
    service.until("✓ nothing is left that could not be put back").until_status("healthy");
    assert_eq!(service.log().matches(&reason).count(), 1, "{}", service.log());
}

/// An event trigger that another role has created refuses every DDL statement.
#[cfg(feature = "postgres")]
#[test]
#[ignore = "sweep"]
fn healing_that_the_server_refuses_is_reported_with_its_reason_until_it_succeeds() {
    let database = crate::support::cluster::Cluster::shared().owned();
    let service = database.serve().start();
    service.until_ready().until_status("healthy");
    database.sql("DROP INDEX idx_site_logs_time");
    let admin = |sql: &str| database.admin().batch_execute(sql).unwrap();
    admin(
        "CREATE FUNCTION no_ddl() RETURNS event_trigger LANGUAGE plpgsql \
             AS $$ BEGIN RAISE EXCEPTION 'no changes before the audit'; END $$; \
         CREATE EVENT TRIGGER no_ddl ON ddl_command_start EXECUTE FUNCTION no_ddl()",
    );
    let refused = || {
        let mut reasons = reasons(&service).into_iter();
        reasons.find(|reason| reason.contains("no changes before the audit"))
    };
    await_within(HEALING_TIMEOUT, "the refusal is reported", || refused().is_some());
    let reason = refused().unwrap();
    assert!(reason.contains("index idx_site_logs_time on site_logs: "), "{reason}");
    service.until(&format!("⚠ {reason}"));
    assert_eq!(service.get(HEALTH).json()["status"], "degraded");
    admin("DROP EVENT TRIGGER no_ddl");
    await_within(HEALING_TIMEOUT, "the index is there again", || refused().is_none());
    service.until_status("healthy");
}

#[test]
fn a_table_site_logs_that_refuses_rows_is_reported_and_degrades_nothing() {
    let machine = Machine::migrated();
    machine.sql(
        "CREATE TRIGGER closed BEFORE INSERT ON site_logs BEGIN SELECT raise(ABORT, 'closed'); END",
    );
    let service = machine.serve().start();
    service.until_ready().until_status("healthy");
    let reasons = reasons(&service);
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    assert!(reasons[0].starts_with("cannot write to table site_logs: "), "{reasons:?}");
    service.until(&format!("⚠ {}", reasons[0]));
    assert_eq!(service.stop().0, Some(0));
}

/// The service and a check beside it come to the same verdict on each change, and again once it is undone.
#[test]
fn a_check_and_the_service_agree_whatever_is_changed_beside_them() {
    for (change, undo) in [
        ("PRAGMA application_id = 7", "PRAGMA application_id = 1129599795"),
        ("PRAGMA application_id = 0", "PRAGMA application_id = 1129599795"),
        ("PRAGMA user_version = 7", "PRAGMA user_version = 0"),
        (
            "INSERT INTO migrations (name, checksum, version) VALUES ('099_later.sql', replace(hex(zeroblob(32)), '0', 'f'), '9.0.0')",
            "DELETE FROM migrations WHERE name = '099_later.sql'",
        ),
        (
            "UPDATE migrations SET checksum = 'f' || checksum WHERE id = 2",
            "UPDATE migrations SET checksum = substr(checksum, 2) WHERE id = 2",
        ),
        ("ALTER TABLE users RENAME TO mine", "ALTER TABLE mine RENAME TO users"),
    ] {
        let machine = Machine::new();
        let service = machine.serve().start();
        service.until_ready().until_status("healthy");
        let agree = |what: &str| {
            let answer = service.get(HEALTH).json();
            let expected = match answer["status"].as_str().unwrap() {
                "healthy" => 0,
                "degraded" => 1,
                _ => 2,
            };
            let check = machine.cts("--check").run();
            let code = check.0.status.code();
            assert_eq!(code, Some(expected), "{what}: {answer} {}", check.out());
            expected
        };
        machine.sql(change);
        let code = agree(change);
        let is_harmless = change.contains("_id = 0") || change.contains("user_version");
        assert_eq!(code == 0, is_harmless, "{change}");
        machine.sql("PRAGMA wal_checkpoint(TRUNCATE)");
        assert_eq!(agree(change), code, "{change}");
        machine.sql(undo);
        assert_eq!(agree(undo), 0);
        assert_eq!(service.stop().0, Some(0));
        machine.cts("--check").success();
    }
}

#[test]
fn a_link_that_leads_elsewhere_is_noticed() {
    let machine = Machine::migrated();
    let (link, other) = (machine.path("link.db"), machine.path("other.db"));
    fs::copy(machine.db(), &other).unwrap();
    std::os::unix::fs::symlink(machine.db(), &link).unwrap();
    let service = machine.serve().db(&link).start();
    service.until_ready().until_status("healthy");
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(&other, &link).unwrap();
    let answer = service.until_status("unhealthy");
    assert!(
        answer.body.contains("leads to") && answer.body.contains("other.db"),
        "{}",
        answer.body
    );
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(machine.db(), &link).unwrap();
    service.until_status("healthy");
    assert_eq!(service.stop().0, Some(0));
}

#[test]
fn two_services_on_one_database_are_said_in_log_health_and_doctor() {
    let machine = Machine::new();
    let first = machine.serve().start();
    first.until_ready();
    let second = machine.serve().start();
    second.until_ready();
    for (service, other) in [(&first, &second), (&second, &first)] {
        let said =
            format!("another service has this database open too: cts (pid {})", other.child.id());
        service.until(&format!("⚠ {said}"));
        let answer = service.get(HEALTH).json();
        assert_eq!(answer["status"], "healthy", "{answer}");
        assert!(answer["reasons"][0].as_str().unwrap().starts_with(&said), "{answer}");
    }
    machine.cts("doctor --port 0").run().says(&["services: 2 services have it open"]);
    assert_eq!(second.stop().0, Some(0));
    first.until("✓ no other cts serves the database");
    assert!(!machine.cts("doctor --port 0").run().out().contains("services have it open"));
    assert_eq!(first.stop().0, Some(0));
}

/// Starts the service where the folder `seen` is at the path of `other`, for it alone, as in a container.
fn in_own_mounts(seen: &Machine, other: &Machine) -> Service {
    let mut run = Run::of(Path::new("unshare"), "-m sh -c");
    run.command.arg("mount --bind \"$0\" \"$1\" && exec \"$2\" serve --port 0");
    run.command.args([seen.path(""), other.path("")]).arg(env!("CARGO_BIN_EXE_cts"));
    run.env("PATH", "/usr/bin:/bin:/usr/sbin").db(&other.db()).start()
}

#[test]
fn a_service_in_a_container_is_told_by_the_file_that_it_has_open_and_not_by_its_path() {
    let can_unshare = || Command::new("unshare").args(["-m", "true"]).status();
    if !is_root() || !can_unshare().is_ok_and(|status| status.success()) {
        crate::support::not_tried("only root can mount a folder elsewhere");
        return;
    }
    let (here, inside, unused) = (Machine::migrated(), Machine::new(), Machine::new());
    // Another file at the same path.
    let contained = in_own_mounts(&inside, &here);
    contained.until_ready();
    let service = here.serve().start();
    service.until_ready();
    let other = Machine::new();
    let said = other.cts("migrate").success().err();
    assert!(!said.contains(&format!("(pid {})", contained.child.id())), "{said}");
    assert!(!here.cts("doctor --port 0").run().out().contains("services have it open"));
    // The same file at another path.
    let same = in_own_mounts(&here, &unused);
    same.until_ready();
    here.cts("doctor --port 0").run().says(&["services: 2 services have it open"]);
    service.until(&format!(
        "another service has this database open too: cts (pid {})",
        same.child.id()
    ));
}

#[test]
fn a_wait_names_the_holder_and_since_when_and_a_check_no_setting_that_it_does_not_read() {
    let (machine, holder) = Machine::locked();
    let service = machine.serve().start();
    service.until("waiting for the write lock");
    let pid = format!("(pid {}), which has run for ", std::process::id());
    for path in ["/readyz", HEALTH] {
        await_within(Duration::from_secs(60), path, || service.get(path).body.contains(&pid));
        assert_eq!(service.get(path).code, 503);
    }
    let migrate = machine.cts("migrate").env("CTS_LOCK_TIMEOUT", "600ms").status(75);
    migrate.says(&[&pid, "or raise CTS_LOCK_TIMEOUT"]);
    holder.execute_batch("ROLLBACK").unwrap();
    service.until_ready();
    assert_eq!(service.stop().0, Some(0));
    // A lock on the whole database, which a check waits for too.
    holder.execute_batch("PRAGMA journal_mode = DELETE; BEGIN EXCLUSIVE").unwrap();
    let check = machine.cts("--check").env("CTS_LOCK_TIMEOUT", "60s").status(2);
    assert!(
        check.out().contains(&pid) && !check.out().contains("CTS_LOCK_TIMEOUT"),
        "{}",
        check.out()
    );
}
