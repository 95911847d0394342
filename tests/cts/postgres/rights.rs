//! A right that the role lacks shows in health, `--check` and doctor, as far as the role can see it.

use crate::support::cluster::Cluster;
use crate::support::harness::Run;

#[test]
fn a_revoked_right_shows_in_health_and_in_check() {
    let database = Cluster::shared().owned();
    let service = database.serve().start();
    service.until_ready();
    let name = &database.name;
    // Trading tables can do without for a while; a critical one cannot.
    for (right, table, code, status) in [
        ("UPDATE", "pseudo_positions", 1, "degraded"),
        ("INSERT", "statistics_daily", 1, "degraded"),
        ("SELECT", "users", 2, "unhealthy"),
        ("INSERT", "site_logs", 2, "unhealthy"),
        ("DELETE", "system_settings", 2, "unhealthy"),
    ] {
        database.sql(&format!("REVOKE {right} ON {table} FROM \"{name}\""));
        let said = format!("role {name} lacks rights: {right} on {table}");
        database.cts("--check").status(code).says(&[&said, "GRANT SELECT, INSERT, UPDATE, DELETE"]);
        database.cts("doctor").status(2).says(&[&said, "GRANT SELECT, INSERT, UPDATE, DELETE"]);
        let answer = service.until_status(status);
        assert!(answer.body.contains(&said), "{}", answer.body);
        database.sql(&format!("GRANT {right} ON {table} TO \"{name}\""));
        service.until_status("healthy");
    }
    // As an owner may revoke them, of many tables.
    database.sql(&format!("REVOKE DELETE ON ALL TABLES IN SCHEMA public FROM \"{name}\""));
    database.cts("--check").status(2).says(&["DELETE on ", "; and on 21 more tables"]);
    database.sql(&format!("GRANT DELETE ON ALL TABLES IN SCHEMA public TO \"{name}\""));
    database.cts("--check").success();
    assert_eq!(service.stop().0, Some(0));
}

/// The sequence of a column that an older CTS made is an object of its own, with rights of its own.
#[test]
fn a_right_on_a_sequence_is_one_of_those() {
    let database = Cluster::shared().owned();
    database.cts("migrate").success();
    let name = &database.name;
    database.sql(
        "ALTER TABLE statistics_daily ALTER id DROP IDENTITY; CREATE SEQUENCE own; \
         ALTER SEQUENCE own OWNED BY statistics_daily.id; ALTER TABLE statistics_daily ALTER id SET DEFAULT nextval('own')",
    );
    let before = database.cts("--check").run().out();
    database.sql(&format!("REVOKE ALL ON SEQUENCE own FROM \"{name}\""));
    let said = "USAGE of sequence own on statistics_daily";
    assert!(!before.contains(said), "{before}");
    database.cts("--check").status(1).says(&[said]);
    database.cts("doctor").status(2).says(&[said]);
}

/// They are not the role of `cts`, so that what they may not do is no fault; nor do they see what others may.
#[test]
fn a_role_that_does_not_write_the_ledger_says_what_it_cannot_know() {
    let database = Cluster::shared().owned();
    database.cts("migrate").success();
    let (name, port) = (&database.name, Cluster::shared().port);
    for (purpose, grants) in [
        ("monitor", "GRANT SELECT ON migrations TO role"),
        (
            "trade",
            "GRANT SELECT ON ALL TABLES IN SCHEMA public TO role; GRANT INSERT, UPDATE, DELETE ON pseudo_positions TO role",
        ),
        (
            "columns",
            "GRANT SELECT ON migrations TO role; GRANT INSERT (name), UPDATE (name) ON exchange_connections TO role",
        ),
    ] {
        let role = format!("{name}-{purpose}");
        Cluster::shared().sql(&format!("CREATE ROLE \"{role}\" LOGIN PASSWORD 'read'"));
        database.sql(&grants.replace("role", &format!("\"{role}\"")));
        let url = format!("postgresql://{role}:read@127.0.0.1:{port}/{name}?sslmode=disable");
        let check: Run = database.cts("--check").env("DATABASE_URL", &url);
        let done = check.success();
        done.says(&["CTS OK", "neither writes the ledger nor owns a table", "unknown"]);
        let doctor: Run = database.cts("doctor").env("DATABASE_URL", &url);
        doctor.run().says(&["neither writes the ledger nor owns a table"]);
        database.admin().batch_execute(&format!("DROP OWNED BY \"{role}\"")).unwrap();
        Cluster::shared().sql(&format!("DROP ROLE \"{role}\""));
    }
}

/// It is the role of `cts`, which a database administrator keeps from owning the tables. The name of a role is any text.
#[test]
fn a_role_that_writes_the_ledger_is_told_what_it_lacks() {
    let database = Cluster::shared().owned();
    database.cts("migrate").success();
    let (name, port) = (&database.name, Cluster::shared().port);
    let role = format!("{name}\"writer");
    let quoted = format!("\"{name}\"\"writer\"");
    Cluster::shared().sql(&format!("CREATE ROLE {quoted} LOGIN PASSWORD 'write'"));
    database.sql(&format!("GRANT ALL ON ALL TABLES IN SCHEMA public TO {quoted}"));
    database.sql(&format!("REVOKE DELETE ON users FROM {quoted}"));
    let encoded = role.replace('"', "%22");
    let url = format!("postgresql://{encoded}:write@127.0.0.1:{port}/{name}?sslmode=disable");
    let check: Run = database.cts("--check").env("DATABASE_URL", &url);
    let said = format!("role {role} lacks rights: DELETE on users");
    check.status(2).says(&[&said, &format!("IN SCHEMA \"public\" TO {quoted};")]);
    database.admin().batch_execute(&format!("DROP OWNED BY {quoted}")).unwrap();
    Cluster::shared().sql(&format!("DROP ROLE {quoted}"));
}
