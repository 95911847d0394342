//! What keeps an object from being put back: each refusal leaves the service usable and `degraded`, with the
//! reason and a remedy that can work, in the service as in a check beside it.

use crate::support::cluster::{Cluster, Database};

const HEALTH: &str = "/api/health/database";

/// A migrated database whose tables belong to the superuser, and to whose rows the role has all rights.
fn of_another_role<'a>(cluster: &'a Cluster) -> Database<'a> {
    let database = cluster.owned();
    database.cts("migrate").success();
    database
        .admin()
        .batch_execute(&format!(
            "DO $$ DECLARE t text; BEGIN FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP \
                 EXECUTE format('ALTER TABLE %I OWNER TO CURRENT_USER', t); END LOOP; END $$; \
             GRANT ALL ON ALL TABLES IN SCHEMA public TO \"{0}\"; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO \"{0}\"",
            database.name
        ))
        .unwrap();
    database
}

/// Expects this reason of the service, and that it promises no repair.
fn is_degraded(database: &Database<'_>, reason: &str) {
    let service = database.serve().start();
    service.until_ready();
    let answer = service.get(HEALTH).json();
    assert_eq!(answer["status"], "degraded", "{answer}");
    let reasons = answer["reasons"].to_string();
    assert!(reasons.contains(reason), "{reason} is not in {reasons}");
    assert!(!reasons.contains("cts repair"), "{reasons}");
    assert_eq!(service.stop().0, Some(0));
}

#[test]
fn tables_of_another_role_leave_the_service_degraded() {
    let database = of_another_role(Cluster::shared());
    for (change, object) in [
        ("DROP INDEX idx_users_username", "index idx_users_username on users"),
        ("ALTER TABLE users DROP COLUMN role", "column users.role"),
        (
            "CREATE INDEX CONCURRENTLY idx_users_username ON users (username); UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'idx_users_username'::regclass",
            "index idx_users_username on users",
        ),
    ] {
        change.split("; ").for_each(|sql| database.admin().batch_execute(sql).unwrap());
        let reason =
            format!("{object} is missing and cannot be put back: must be owner of table users");
        is_degraded(&database, object);
        is_degraded(&database, "must be owner of table users");
        let check = database.cts("--check").status(1).says(&[&reason]);
        assert!(!check.out().contains("cts repair"), "{}", check.out());
        let verify = database.cts("verify").status(1).says(&["cannot be put back: must be owner"]);
        assert!(!verify.out().contains("cts repair"), "{}", verify.out());
        // A command is told the missing right by its exit code.
        for words in ["migrate", "repair", "migrate --dry-run"] {
            database.cts(words).status(77).says(&["must be owner of table users"]);
        }
        let doctor = database.cts("doctor").run();
        assert!(doctor.out().contains("must be owner of table users"), "{}", doctor.out());
        assert!(!doctor.out().contains("cts repair"), "{}", doctor.out());
    }
}

#[test]
fn what_nothing_is_in_the_way_of_is_put_back_beside_what_is_refused() {
    let database = of_another_role(Cluster::shared());
    let name = &database.name;
    database
        .admin()
        .batch_execute(&format!(
            "ALTER TABLE site_logs OWNER TO \"{name}\"; DROP INDEX idx_site_logs_time; DROP INDEX idx_users_username; \
             DROP TABLE statistics_daily; GRANT CREATE ON SCHEMA public TO \"{name}\""
        ))
        .unwrap();
    is_degraded(&database, "cannot put back what is missing: index idx_users_username on users: ");
    database.cts("verify").status(1).says(&["drift: 1 missing", "idx_users_username"]);
}

#[test]
fn a_table_that_would_refer_to_one_of_another_role_is_refused_by_name() {
    let database = of_another_role(Cluster::shared());
    let name = &database.name;
    database
        .admin()
        .batch_execute(&format!(
            "DROP TABLE indication_states; REVOKE REFERENCES ON exchange_connections FROM \"{name}\""
        ))
        .unwrap();
    let reason = "table indication_states is missing and cannot be put back: \
        may not refer to table exchange_connections";
    database.cts("--check").status(1).says(&[reason]);
    is_degraded(&database, "may not refer to table exchange_connections");
}

#[test]
fn an_event_trigger_that_refuses_is_named_before_and_after() {
    let database = Cluster::shared().owned();
    database.cts("migrate").success();
    database.sql("DROP INDEX idx_site_logs_time");
    let refuse = "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS \
        $$ BEGIN RAISE EXCEPTION 'no changes today'; END $$; \
        CREATE EVENT TRIGGER guard ON ddl_command_start EXECUTE FUNCTION refuse()";
    database.admin().batch_execute(refuse).unwrap();
    let unless = "Run: cts repair (unless event trigger guard refuses it)";
    database.cts("--check").status(1).says(&[unless]);
    is_degraded(
        &database,
        "cannot put back what is missing: index idx_site_logs_time on site_logs",
    );
    is_degraded(&database, "no changes today");
    database.cts("repair").status(1).says(&["cannot be put back: ", "no changes today"]);
    database.cts("migrate").success().says(&["cannot be put back", "no changes today"]);
    database.admin().batch_execute("DROP EVENT TRIGGER guard").unwrap();
    database.cts("repair").success();
}

#[test]
fn a_running_service_says_why_it_cannot_put_an_object_back() {
    let database = of_another_role(Cluster::shared());
    let service = database.serve().start();
    service.until_status("healthy");
    database.admin().batch_execute("DROP INDEX idx_users_username").unwrap();
    let answer = service.until_status("degraded");
    assert!(
        answer.body.contains("cannot be put back: must be owner of table users"),
        "{}",
        answer.body
    );
    assert_eq!(service.stop().0, Some(0));
}
