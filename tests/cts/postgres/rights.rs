//! A right that the role has lost shows in health, `--check` and doctor, as far as the role can see it.

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
        let said = format!("role {name} has lost rights: {right} on {table}");
        database.cts("--check").status(code).says(&[&said, "GRANT SELECT, INSERT, UPDATE, DELETE"]);
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
}

/// It may look and no more, which is no fault; nor does it see what others may.
#[test]
fn the_role_of_a_monitoring_program_says_what_it_cannot_know() {
    let database = Cluster::shared().owned();
    database.cts("migrate").success();
    let (name, port) = (&database.name, Cluster::shared().port);
    let reader = format!("{name}-monitor");
    Cluster::shared().sql(&format!("CREATE ROLE \"{reader}\" LOGIN PASSWORD 'read'"));
    database.sql(&format!("GRANT SELECT ON migrations TO \"{reader}\""));
    let url = format!("postgresql://{reader}:read@127.0.0.1:{port}/{name}?sslmode=disable");
    let check: Run = database.cts("--check").env("DATABASE_URL", &url);
    let done = check.success();
    done.says(&["CTS OK", "may write none of the tables", "unknown"]);
    drop(database);
    Cluster::shared().sql(&format!("DROP ROLE \"{reader}\""));
}
