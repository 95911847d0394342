//! What keeps an object from being put back: each refusal leaves the service usable and `degraded`, with the
//! reason and a remedy that can work, in the service as in a check beside it.

use crate::support::harness::Machine;

/// A database that was changed so that an object is missing, and what is said of it.
struct Refusal {
    change: &'static str,
    /// What `--check` says, which attempts nothing.
    look: &'static str,
    /// What a start, which attempts it, has found.
    start: &'static str,
}

const REFUSALS: [Refusal; 5] = [
    Refusal {
        change: "ALTER TABLE statistics_daily RENAME TO mine; CREATE VIEW statistics_daily AS SELECT 1",
        look: "table statistics_daily is missing and cannot be put back: table statistics_daily cannot be created: \
               view statistics_daily has its name. Try: rename that object",
        start: "view statistics_daily has its name. Try: rename that object",
    },
    Refusal {
        change: "DROP INDEX idx_site_logs_time; CREATE TABLE idx_site_logs_time (a)",
        look: "index idx_site_logs_time on site_logs is missing and cannot be put back: index idx_site_logs_time \
               cannot be created: table idx_site_logs_time has its name",
        start: "table idx_site_logs_time has its name",
    },
    Refusal {
        change: "DROP INDEX idx_site_logs_time; CREATE INDEX idx_site_logs_time ON users (email)",
        look: "an index of table users has its name. Try: rename that object",
        start: "an index of table users has its name",
    },
    Refusal {
        change: "DROP TABLE statistics_daily; CREATE TABLE other (a); \
                 CREATE TRIGGER statistics_daily AFTER INSERT ON other BEGIN SELECT 1; END",
        look: "trigger statistics_daily has its name",
        start: "trigger statistics_daily has its name",
    },
    Refusal {
        change: "DROP INDEX idx_users_username; \
                 CREATE TRIGGER idx_users_username AFTER INSERT ON users BEGIN SELECT 1; END",
        look: "trigger idx_users_username has its name",
        start: "trigger idx_users_username has its name",
    },
];

#[test]
fn a_refusal_is_degraded_with_its_reason_and_no_remedy_that_cannot_work() {
    for Refusal { change, look, start } in REFUSALS {
        let machine = Machine::migrated();
        machine.sql(change);
        let check = machine.cts("--check").status(1).says(&[look]);
        assert!(!check.out().contains("cts repair"), "{}", check.out());
        let verify = machine.cts("verify").status(1).says(&["cannot be put back: "]);
        assert!(!verify.out().contains("cts repair"), "{}", verify.out());
        let doctor = machine.cts("doctor --port 0").run().out();
        assert!(!doctor.contains("cts repair"), "{doctor}");
        let service = machine.serve().start();
        service.until_ready();
        let answer = service.get("/api/health/database");
        assert_eq!(answer.json()["status"], "degraded", "{}", answer.body);
        assert!(answer.body.contains(start), "{}", answer.body);
        assert!(!answer.body.contains("cts repair"), "{}", answer.body);
        assert_eq!(service.stop().0, Some(0));
        machine.cts("repair").status(1).says(&[start]);
    }
}

#[test]
fn a_trigger_that_rolls_back_does_not_end_the_start_nor_undo_what_else_is_put_back() {
    let machine = Machine::migrated();
    // The rows of a restored table, and rows about the run, are refused with the whole transaction.
    machine.sql(
        "DROP INDEX idx_site_logs_time; \
         CREATE TRIGGER no_logs BEFORE INSERT ON site_logs BEGIN SELECT RAISE(ROLLBACK, 'no logs'); END",
    );
    let service = machine.serve().start();
    service.until_ready();
    let answer = service.get("/api/health/database");
    assert_eq!(answer.json()["status"], "healthy", "{}", answer.body);
    assert!(answer.body.contains("cannot write to table site_logs"), "{}", answer.body);
    assert_eq!(service.stop().0, Some(0));
    machine.cts("verify").success();
}

#[test]
fn a_unique_index_is_not_promised_without_its_condition() {
    let machine = Machine::migrated();
    machine.sql(
        "DROP INDEX idx_users_username; \
         INSERT INTO users (username, password_hash) VALUES ('same', 'x'), ('same', 'y')",
    );
    machine.cts("--check").status(1).says(&[
        "missing: index idx_users_username on users. Run: cts repair (unless rows share a key)",
    ]);
    let service = machine.serve().start();
    service.until_ready();
    let answer = service.get("/api/health/database");
    assert_eq!(answer.json()["status"], "degraded", "{}", answer.body);
    assert!(answer.body.contains("cannot put back what is missing: "), "{}", answer.body);
    assert!(!answer.body.contains("cts repair"), "{}", answer.body);
    assert_eq!(service.stop().0, Some(0));
}

#[test]
fn nothing_is_promised_of_a_database_that_a_repair_refuses() {
    let machine = Machine::migrated();
    machine.sql("DROP INDEX idx_site_logs_time; UPDATE migrations SET checksum = 'f' WHERE id = 2");
    let check =
        machine.cts("--check").status(1).says(&["missing: index idx_site_logs_time on site_logs"]);
    assert!(!check.out().contains("cts repair"), "{}", check.out());
    machine.cts("repair").status(65);
}
