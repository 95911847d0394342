//! The statistics that one store has calculated are, to the bit, those that the other one calculates.

use super::Ends;
use crate::support::harness::await_that;

/// Times in every form, and sums that depend on the order and on compensation.
const HISTORY: &str = "
    INSERT INTO exchange_connections (id, name) VALUES ('c1', 'one'), ('c2', 'two');
    WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
    INSERT INTO pseudo_positions (connection_id, symbol, indication_type, strategy_type, status, pnl, profit_loss, opened_at, closed_at)
    SELECT iif(i % 3, 'c1', 'c2'), 'SYM' || (i % 7), CASE i % 5 WHEN 0 THEN NULL WHEN 1 THEN '' ELSE 'type' || (i % 5) END,
        iif(i % 4, 'main', NULL), CASE i % 6 WHEN 0 THEN 'archived' WHEN 1 THEN 'stopped' WHEN 2 THEN 'active' ELSE 'closed' END,
        CASE i % 9 WHEN 0 THEN NULL WHEN 1 THEN -0.0 WHEN 2 THEN 1e16 WHEN 3 THEN -1e16 WHEN 4 THEN 7 ELSE (abs(random()) % 2000001 - 1000000) / 977.0 END,
        (i % 13 - 6) / 3.0,
        CASE i % 8 WHEN 0 THEN NULL ELSE strftime('%Y-%m-%d %H:%M:%f', 1.76e9 + i * 3607 - i % 500, 'unixepoch') END,
        CASE i % 4 WHEN 0 THEN strftime('%Y-%m-%dT%H:%M:%fZ', 1.76e9 + i * 3607, 'unixepoch')
            WHEN 1 THEN strftime('%Y-%m-%d %H:%M:%f+05:30', 1.76e9 + i * 3607 + 19800, 'unixepoch')
            ELSE strftime('%Y-%m-%d %H:%M:%f', 1.76e9 + i / 2 * 7214, 'unixepoch') END
    FROM n;
    INSERT INTO pseudo_positions (connection_id, symbol, status, pnl, closed_at) VALUES
        ('c1', 'HUGE', 'closed', 1.7e308, '2025-01-01'), ('c1', 'HUGE', 'closed', 1.7e308, '2025-01-01'),
        ('c1', 'TINY', 'closed', 5e-324, '0001-01-01 00:00:00'), ('c1', 'TINY', 'closed', -5e-324, '9999-12-30 23:59:59.999'),
        ('c1', 'LAST', 'closed', 1, '9999-12-31');";

#[test]
fn both_stores_calculate_the_same_bits() {
    let ends = Ends::with(HISTORY);
    let service = ends.machine.cts("serve --port 0").start();
    service.until_ready();
    await_that("the statistics are proved", || {
        ends.machine.cts("verify --statistics").run().0.status.code() == Some(0)
    });
    service.stop();
    ends.to_postgresql("").success();
    let there = ends.database.cts("verify --statistics --json").success().json();
    let here = ends.machine.cts("verify --statistics --json").success().json();
    assert_eq!(there, here);
    assert_eq!(here["left_out"][0]["reason"], "closed_at is not a time", "{here}");
    assert!(
        here["positions"].as_u64().unwrap() > 700 && here["rows"].as_u64().unwrap() > 700,
        "{here}"
    );
    // Calculated there, and compared here.
    ends.database.sql("TRUNCATE statistics_daily, statistics_indication, statistics_strategy");
    let service = ends.database.cts("serve --port 0").start();
    service.until_ready();
    await_that("the statistics are proved", || {
        ends.database.cts("verify --statistics").run().0.status.code() == Some(0)
    });
    service.stop();
    ends.to_sqlite("").success();
    ends.machine.cts("verify --statistics").db(&ends.back()).success();
}
