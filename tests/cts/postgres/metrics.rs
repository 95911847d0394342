//! `/metrics` of a server: what only a server has.

use std::time::Duration;

use crate::support::cluster::Cluster;
use crate::support::harness::await_within;

#[test]
fn sizes_rows_and_connections_of_a_server_are_samples() {
    let database = Cluster::shared().owned();
    database.cts("migrate").success();
    database.sql("INSERT INTO users (username, password_hash) VALUES ('a', 'x'), ('b', 'x')");
    database.sql("CREATE TABLE own (id int); INSERT INTO own VALUES (1); ANALYZE own");
    let service = database.serve().start();
    service.until_ready();
    let mut found = String::new();
    await_within(Duration::from_secs(60), "measured tables", || {
        found = service.get("/metrics").body;
        found.contains("\ncts_tables_measured_timestamp_seconds ")
    });
    for sample in [
        "cts_up 1",
        "cts_table_rows{table=\"users\"} 2",
        "cts_table_rows{table=\"own\"} 1",
        "cts_table_rows{table=\"exchange_positions\"} 0",
        "cts_pool_connections_max 20",
    ] {
        assert!(found.lines().any(|line| line == sample), "{sample}: {found}");
    }
    for name in ["cts_database_size_bytes ", "cts_table_size_bytes{table=\"users\"} "] {
        assert!(found.contains(&format!("\n{name}")), "{name}: {found}");
    }
    assert!(!found.contains("cts_wal_size_bytes"), "{found}");
}
