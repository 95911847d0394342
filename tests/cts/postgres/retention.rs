//! Retention on a PostgreSQL server: what other programs hold is left alone, and the size is estimated.

use std::time::{Duration, Instant};

use crate::support::cluster::Cluster;
use crate::support::harness::await_that;
use crate::support::kills::{KillSweep, kill_after};

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

/// Old log lines and closed positions of 8 days whose statistics are proved, each beside some that stay: young ones, open
/// ones, and one that an open one refers to.
const HISTORY: &str = "
    INSERT INTO exchange_connections (id, name, exchange) VALUES ('c', 'c', 'x'), ('d', 'd', 'x');
    INSERT INTO site_logs (timestamp, level, category, message)
    SELECT now() - CASE WHEN i % 2 = 1 THEN interval '60 days' ELSE interval '1 hour' END, 'info', 'engine',
        CASE WHEN i % 2 = 1 THEN 'old' ELSE 'young' END
    FROM generate_series(0, 799) i;
    INSERT INTO pseudo_positions (id, connection_id, symbol, status, closed_at, pnl, base_position_id)
    SELECT i + 1, CASE WHEN i % 3 > 0 THEN 'c' ELSE 'd' END, 'S' || (i % 5), CASE WHEN i % 10 > 0 THEN 'closed' ELSE 'active' END,
        CASE WHEN i % 10 > 0 THEN now() - (60 - i / 100) * interval '1 day' END, CASE WHEN i % 10 > 0 THEN i % 7 - 3.3 END,
        CASE WHEN i = 0 THEN '702' END
    FROM generate_series(0, 799) i;
    UPDATE system_settings SET value = '30' WHERE key = 'positions_closed_days'";

/// What must be there whatever happened: rows that stay, and all that the statistics say of each day.
const KEPT: &str = "
    SELECT 'log ' || id FROM site_logs WHERE message = 'young'
    UNION ALL SELECT 'position ' || id FROM pseudo_positions WHERE status = 'active' OR id = 702
    UNION ALL SELECT 'day ' || trade_date || connection_id || total_trades || total_pnl || source_rows || source_digest FROM statistics_daily
    UNION ALL SELECT 'strategy ' || period_start || connection_id || symbol || source_rows || source_digest FROM statistics_strategy
    UNION ALL SELECT 'indication ' || period_start || connection_id || symbol || source_rows || source_digest FROM statistics_indication
    ORDER BY 1";
/// How many rows are left that may go.
const LEFT: &str = "SELECT (SELECT count(*) FROM site_logs WHERE message = 'old')
    + (SELECT count(*) FROM pseudo_positions WHERE status = 'closed' AND id <> 702)";

/// How long what a killed cts was doing may go on on the server.
const GONE_WITHIN: Duration = Duration::from_secs(5);

#[test]
#[ignore = "sweep"]
fn a_run_killed_at_any_moment_deletes_only_what_may_go() {
    let source = Cluster::shared().owned();
    source.cts("migrate").success();
    source.sql(HISTORY);
    let service = source.serve().env("CTS_RETENTION", "0").start();
    service.until_ready();
    await_that("the statistics are proved", || {
        source.cts("verify --statistics").run().0.status.code() == Some(0)
    });
    service.stop();
    source.await_unused(GONE_WITHIN);
    let expected = source.texts(KEPT);
    assert!(expected.len() > 480, "{}", expected.len());
    let whole = source.copy();
    let began = Instant::now();
    whole.cts("prune").success();
    let sweep = KillSweep::at(40, began.elapsed());
    assert_eq!(whole.number(LEFT), 0);
    for (moment, delay) in sweep.moments() {
        let database = source.copy();
        let is_killed = kill_after(delay, database.cts("prune"));
        database.await_unused(GONE_WITHIN);
        let is_part = (1..1119).contains(&database.number(LEFT));
        assert_eq!(database.texts(KEPT), expected, "moment {moment}");
        if moment % 10 == 0 {
            database.cts("prune").success();
            assert_eq!(database.number(LEFT), 0);
            database.cts("verify --statistics").success();
            assert_eq!(database.texts(KEPT), expected, "moment {moment}");
        }
        sweep.record(is_killed, is_part);
    }
    assert!(sweep.found("prune on PostgreSQL").contains(&true));
}
