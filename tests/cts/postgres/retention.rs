//! Retention on a PostgreSQL server: what other programs hold is left alone, and the size is estimated.

use crate::support::cluster::Cluster;

const FILL: &str = "INSERT INTO site_logs (timestamp, level, category, message) \
     SELECT now() - interval '40 days', 'info', 'engine', repeat('x', 200) FROM generate_series(1, 20000)";

#[test]
fn a_row_that_a_program_has_locked_is_left_and_one_that_is_referred_to_stays() {
    let database = Cluster::shared().owned();
    database.cts("migrate").success();
    database.sql(
        "INSERT INTO site_logs (timestamp, level, category, message) \
         SELECT now() - interval '40 days', 'info', 'engine', 'old' FROM generate_series(1, 3) \
         UNION ALL SELECT now(), 'info', 'engine', 'young'",
    );
    let old = "SELECT count(*) FROM site_logs WHERE message = 'old'";
    let mut program = database.open();
    let mut transaction = program.transaction().unwrap();
    transaction
        .batch_execute("UPDATE site_logs SET details = 'read' WHERE id = (SELECT min(id) FROM site_logs WHERE message = 'old')")
        .unwrap();
    database.cts("prune").success().says(&["site_logs: 2 rows deleted"]);
    assert_eq!(database.number(old), 1);
    transaction.commit().unwrap();
    database.sql("CREATE TABLE notes (line BIGINT REFERENCES site_logs (id) ON DELETE CASCADE)");
    database.cts("prune").status(65).says(&["notes refers to rows of site_logs"]);
    assert_eq!(database.number(old), 1);
    database.sql("DROP TABLE notes");
    database.cts("prune").success().says(&["site_logs: 1 row deleted"]);
}

#[test]
fn the_size_is_that_of_the_rows_and_not_of_the_space_that_they_have_left() {
    let database = Cluster::shared().owned();
    database.cts("migrate").success();
    database.sql("UPDATE system_settings SET value = '0' WHERE key = 'site_logs_days'");
    for _ in 0..4 {
        database.sql(FILL);
    }
    // What proves the clock.
    database
        .sql("INSERT INTO site_logs (level, category, message) VALUES ('info', 'engine', 'young')");
    database.sql("ANALYZE site_logs");
    database.sql("UPDATE system_settings SET value = '16777216' WHERE key = 'database_max_bytes'");
    let done = database.cts("prune --json").success().json();
    assert_eq!(done["size"]["exceeded"], false, "{done}");
    let before = done["size"]["beforeBytes"].as_u64().unwrap();
    assert!(before > 20_000_000, "{done}");
    let left = database.number("SELECT count(*) FROM site_logs");
    assert!(left < 70_000, "{left} of 80,000 rows are left: {done}");
    // The files are as large as before, and the next run deletes nothing more for that.
    database.sql("VACUUM ANALYZE site_logs");
    let again = database.cts("prune --json").success().json();
    let left_then = database.number("SELECT count(*) FROM site_logs");
    assert!(left_then + 2000 > left, "{left} and then {left_then}: {again}");
}
