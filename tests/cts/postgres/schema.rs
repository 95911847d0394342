//! The schema on a PostgreSQL server: it is as expected, equals that of SQLite, and supports the
//! statements of the trading programs.

use std::collections::BTreeSet;

use postgres::Client;
use serde_json::Value;

use crate::support::cluster::{Cluster, Database, number, texts};
use crate::support::harness::Machine;
use crate::support::statements::{Shape, shapes};

const FILES: [&str; 4] = [
    include_str!("../../../schema/postgres/unified_complete_setup.sql"),
    include_str!("../../../schema/postgres/051_add_performance_indexes.sql"),
    include_str!("../../../schema/postgres/070_high_frequency_performance_indexes.sql"),
    include_str!("../../../schema/postgres/071_add_coordination_tables.sql"),
];

fn migrated() -> Database<'static> {
    let database = Cluster::shared().owned();
    database.cts("migrate").success();
    database
}

#[test]
fn migrations_applied_again_change_nothing_in_any_schema() {
    for database in [Cluster::shared().owned(), Cluster::shared().one_schema()] {
        database.cts("migrate").success().says(&["92 applied, 0 skipped"]);
        database.cts("verify").success().says(&["no drift: 24 tables"]);
        let (dump, everything) = (database.schema_dump(), database.everything());
        for file in FILES {
            database.sql(file);
        }
        assert_eq!(database.schema_dump(), dump);
        assert_eq!(database.everything(), everything);
        database.cts("verify").success();
        // Nothing was created in another schema.
        let elsewhere = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace NOT IN \
            (current_schema()::regnamespace, 'pg_catalog'::regnamespace, 'information_schema'::regnamespace)";
        assert_eq!(database.texts(elsewhere), Vec::<String>::new());
    }
}

/// The record of the server is not part of the schema.
const DROP_RECORD: &str = "DROP TABLE cts_server";

#[test]
fn migrations_applied_by_hand_give_the_same_database() {
    let by_hand = Cluster::shared().owned();
    for file in FILES {
        by_hand.sql(file);
    }
    let shape = |database: &Database| -> Vec<String> {
        let is_schema = |line: &String| !line.starts_with("ledger ") && !line.ends_with(" notes");
        database.shape().into_iter().filter(is_schema).collect()
    };
    let migrated = migrated();
    migrated.sql(DROP_RECORD);
    assert_eq!(shape(&by_hand), shape(&migrated));
}

#[test]
fn both_stores_have_the_same_tables_columns_and_indexes() {
    let (machine, database) = (Machine::migrated(), migrated());
    database.sql(DROP_RECORD);
    for (in_sqlite, on_the_server, count) in [
        (
            "SELECT t.name || '.' || c.name FROM sqlite_schema t, pragma_table_info(t.name) c WHERE t.type = 'table'",
            "SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = current_schema()",
            240,
        ),
        (
            "SELECT tbl_name || '.' || name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL",
            "SELECT tablename || '.' || indexname FROM pg_indexes WHERE schemaname = current_schema() AND indexname NOT LIKE '%\\_pkey'",
            50,
        ),
        (
            "SELECT t.name || '.' || f.\"from\" || f.\"table\" || f.\"to\" || f.on_delete FROM sqlite_schema t, pragma_foreign_key_list(t.name) f WHERE t.type = 'table'",
            "SELECT c.conrelid::regclass || '.' || a.attname || c.confrelid::regclass || 'id' || \
                 CASE confdeltype WHEN 'c' THEN 'CASCADE' END \
             FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1] WHERE contype = 'f'",
            19,
        ),
        (
            "SELECT t.name || '.' || c.name FROM sqlite_schema t, pragma_table_info(t.name) c WHERE t.type = 'table' AND c.\"notnull\" AND NOT c.pk",
            "SELECT a.attrelid::regclass || '.' || a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
             WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace AND a.attnotnull AND a.attnum > 0 \
                 AND NOT EXISTS (SELECT 1 FROM pg_index x WHERE x.indrelid = c.oid AND x.indisprimary AND a.attnum = ANY (x.indkey))",
            20,
        ),
        (
            "SELECT key || '=' || value || category || value_type FROM system_settings",
            "SELECT key || '=' || value || category || value_type FROM system_settings",
            10,
        ),
    ] {
        let sets = [machine.texts(in_sqlite), database.texts(on_the_server)]
            .map(|names| names.into_iter().collect::<BTreeSet<_>>());
        let [ours, theirs] = &sets;
        let differing: Vec<_> = ours.symmetric_difference(theirs).collect();
        assert!(differing.is_empty(), "{differing:?}");
        assert!(ours.len() >= count, "{}", ours.len());
    }
}

/// Thousands of rows in tables where statements search for a few.
const ROWS: &str = "
    INSERT INTO exchange_connections (id, name, is_enabled, is_active, created_at)
    SELECT 'conn-' || g, 'c', g % 20 = 0, g % 20 = 0, now() - g * interval '1 min' FROM generate_series(1, 2000) g;
    INSERT INTO pseudo_positions (connection_id, symbol, indication_type, side, status, takeprofit_factor, stoploss_ratio,
        profit_factor, trailing_enabled, strategy_type, base_position_id, position_level, opened_at, created_at, closed_at)
    SELECT 'conn-' || g % 10 + 1, 'SYM' || g % 200, 'active', CASE g % 2 WHEN 0 THEN 'long' ELSE 'short' END,
        CASE WHEN g % 40 = 0 THEN 'active' WHEN g % 7 = 0 THEN 'main_closed' ELSE 'closed' END, 1.5, 0.5, random(), false,
        'type-' || g / 40 % 5, 'base-' || g % 500, 'base', now() - g * interval '1 s', now() - g * interval '1 s', now()
    FROM generate_series(1, 10000) g;
    INSERT INTO real_pseudo_positions (connection_id, symbol, main_config_id, status, validated_at)
    SELECT 'conn-' || g % 10 + 1, 'S', g, CASE g % 50 WHEN 0 THEN 'validated' ELSE 'done' END, now()
    FROM generate_series(1, 5000) g;
    INSERT INTO exchange_positions (connection_id, real_pseudo_position_id, symbol)
    SELECT 'conn-' || g % 10 + 1, g, 'S' FROM generate_series(1, 5000) g;
    INSERT INTO site_logs (level, category, message, connection_id, timestamp)
    SELECT 'level' || g % 3, 'category' || g % 4, 'm', 'conn-' || g % 10, now() - g * interval '10 s'
    FROM generate_series(1, 5000) g;
    INSERT INTO system_settings (key, value, category) SELECT 'k' || g, 'v', 'cat' || g % 50 FROM generate_series(1, 2000) g;
    INSERT INTO connection_coordination (connection_id, status, last_heartbeat)
    SELECT id, 'idle', now() - random() * interval '1 day' FROM exchange_connections;
    DO $$ DECLARE t text; BEGIN
        FOREACH t IN ARRAY ARRAY['direction', 'move', 'active', 'optimal', 'auto'] LOOP
            EXECUTE format('INSERT INTO indications_%s (connection_id, symbol, profit_factor, confidence, status, calculated_at)
                SELECT ''conn-'' || g %% 10 + 1, ''SYM'' || g %% 200, random(), random(),
                    CASE g %% 20 WHEN 0 THEN ''active'' ELSE ''expired'' END, now() - g * interval ''5 s''
                FROM generate_series(1, 3000) g', t);
        END LOOP;
        FOREACH t IN ARRAY ARRAY['base', 'main', 'block', 'dca', 'trailing', 'real'] LOOP
            EXECUTE format('INSERT INTO strategies_%s (connection_id, symbol, profit_factor, status, created_at)
                SELECT ''conn-'' || g %% 10 + 1, ''SYM'' || g %% 200, random(),
                    (ARRAY[''active'', ''open'', ''closed'', ''closed'', ''closed''])[g %% 5 + 1], now() - g * interval ''5 s''
                FROM generate_series(1, 3000) g', t);
        END LOOP;
    END $$";

/// The indexes that each statement uses. `{table}` is the table of the title.
const INDEXES: &[(&str, &[&str])] = &[
    ("H01", &["idx_{table}_live"]),
    ("H02", &["idx_{table}_best"]),
    ("H03", &["idx_{table}_recent"]),
    ("H04", &["idx_{table}_live"]),
    ("H05", &["idx_{table}_status"]),
    ("H06", &["idx_{table}_status"]),
    ("H07", &["idx_{table}_status"]),
    ("H08", &["idx_{table}_live"]),
    ("H09", &["idx_{table}_limit"]),
    ("H10", &["idx_{table}_limit"]),
    // Both indexes find the few positions of a symbol.
    ("H11", &["idx_{table}_limit"]),
    ("H12", &[]),
    ("H13", &["{table}_pkey"]),
    ("H14", &["{table}_pkey"]),
    ("H15", &["idx_{table}_symbol", "idx_real_pseudo_positions_main_config"]),
    ("H16", &["idx_{table}_closed"]),
    ("H17", &["idx_{table}_base"]),
    ("H18", &["idx_{table}_status", "idx_exchange_positions_real"]),
    ("H19", &["idx_{table}_status"]),
    ("H20", &["idx_{table}_key"]),
    ("H21", &[]),
    ("H22", &["idx_{table}_category"]),
    ("H23", &[]),
    ("H24", &["idx_{table}_category"]),
    ("H25", &["idx_{table}_connection"]),
    ("H26", &["idx_{table}_time"]),
    ("H27", &["{table}_pkey"]),
    ("H28", &["{table}_pkey"]),
    ("H29", &["idx_{table}_running"]),
    ("H30 connection_coordination: heartbeat", &[]),
    ("H30", &["idx_{table}_heartbeat"]),
    ("H31", &[]),
    ("H32", &["idx_{table}_strategy", "idx_{table}_strategy"]),
];

/// The generic plan, as a prepared statement gets it after some executions.
fn plan(client: &mut Client, shape: &Shape) -> Value {
    let sql = (1..=20).rev().fold(shape.sql.clone(), |sql, number| {
        sql.replace(&format!("?{number}"), &format!("${number}"))
    });
    let parameters = client.prepare(&sql).unwrap_or_else(|e| panic!("{sql}{e:?}")).params().len();
    let nulls = vec!["NULL"; parameters].join(", ");
    let values = if nulls.is_empty() { nulls } else { format!("({nulls})") };
    client.batch_execute(&format!("DEALLOCATE ALL; PREPARE shape AS {sql}")).unwrap();
    let plan = texts(client, &format!("EXPLAIN (FORMAT JSON, COSTS OFF) EXECUTE shape{values}"));
    serde_json::from_str(&plan.concat()).unwrap()
}

/// Every string with this key at any depth.
fn all(plan: &Value, name: &str) -> Vec<String> {
    let below: Vec<&Value> = match plan {
        Value::Array(all) => all.iter().collect(),
        Value::Object(all) => all.values().collect(),
        _ => Vec::new(),
    };
    let own = plan.get(name).and_then(Value::as_str).map(str::to_string);
    own.into_iter().chain(below.into_iter().flat_map(|value| all(value, name))).collect()
}

/// The statements whose plans are not as expected.
fn faults(client: &mut Client) -> Vec<String> {
    let mut faults = Vec::new();
    for shape in shapes() {
        let plan = plan(client, &shape);
        let (_, expected) =
            INDEXES.iter().find(|(start, _)| shape.title.starts_with(start)).unwrap();
        let mut expected: Vec<_> =
            expected.iter().map(|name| name.replace("{table}", shape.table())).collect();
        let mut found = all(&plan, "Index Name");
        if shape.title.starts_with("H11") {
            found = found.into_iter().map(|name| name.replace("_symbol", "_limit")).collect();
        }
        found.sort();
        expected.sort();
        let scans = all(&plan, "Node Type").iter().any(|node| node == "Seq Scan");
        if found != expected || scans {
            faults.push(format!("{}: expected {expected:?}, found {plan:#}", shape.title));
        }
    }
    faults
}

#[test]
fn every_statement_uses_its_index() {
    let database = migrated();
    database.sql(ROWS);
    database.admin().batch_execute("ANALYZE").unwrap();
    let mut client = database.open();
    client
        .batch_execute("SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off")
        .unwrap();
    let found = faults(&mut client);
    assert!(found.is_empty(), "{}", found.join("\n"));
    // A missing index is detected.
    for (index, shape) in [
        ("idx_site_logs_connection", "H25 "),
        ("idx_indications_move_live", "H01 indications_move"),
        ("idx_pseudo_positions_closed", "H16 "),
        ("idx_exchange_connections_running", "H29 "),
    ] {
        client.batch_execute(&format!("BEGIN; DROP INDEX {index}")).unwrap();
        let found = faults(&mut client);
        assert!(found.iter().any(|fault| fault.starts_with(shape)), "{index}: {found:?}");
        client.batch_execute("ROLLBACK").unwrap();
    }
}

#[test]
fn frequent_updates_are_heap_only() {
    let database = migrated();
    database.sql(
        "INSERT INTO exchange_connections (id, name) SELECT 'conn-' || g, 'c' FROM generate_series(1, 20) g; \
         INSERT INTO pseudo_positions (connection_id, symbol, status) SELECT 'conn-1', 'S', 'active' FROM generate_series(1, 270); \
         INSERT INTO connection_coordination (connection_id) SELECT id FROM exchange_connections; \
         INSERT INTO indication_states (state_key) SELECT 'k' || g FROM generate_series(1, 20) g",
    );
    for (table, tick, rows) in [
        // A page has space for some new row versions; vacuum frees it again.
        (
            "pseudo_positions",
            "UPDATE pseudo_positions SET current_price = 2, profit_factor = 1.1, updated_at = now() WHERE id % 30 = 0",
            9,
        ),
        (
            "system_settings",
            "UPDATE system_settings SET value = 'x', updated_at = now() WHERE id < 6",
            5,
        ),
        ("indication_states", "UPDATE indication_states SET validated_at = now()", 20),
    ] {
        let mut client = database.open();
        client.batch_execute(&format!("BEGIN; {tick}")).unwrap();
        let counts = format!(
            "SELECT n_tup_upd || ' ' || n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = '{table}'"
        );
        assert_eq!(texts(&mut client, &counts), [format!("{rows} {rows}")], "{table}");
    }
}

#[test]
fn foreign_keys_cascade_and_each_has_an_index() {
    let database = migrated();
    let lacking = "SELECT conrelid::regclass::text FROM pg_constraint c WHERE contype = 'f' AND NOT EXISTS \
        (SELECT 1 FROM pg_index x WHERE x.indrelid = c.conrelid AND x.indkey[0] = c.conkey[1] AND x.indpred IS NULL)";
    assert_eq!(database.texts(lacking), Vec::<String>::new());
    database.sql("INSERT INTO exchange_connections (id, name) VALUES ('a', 'x'), ('b', 'y')");
    let children =
        "SELECT DISTINCT conrelid::regclass::text FROM pg_constraint WHERE contype = 'f'";
    let mut client = database.open();
    for table in texts(&mut client, children) {
        let refused = format!("INSERT INTO {table} (connection_id) VALUES ('nobody')");
        assert!(client.batch_execute(&refused).is_err(), "{table}");
    }
    database
        .sql("INSERT INTO indications_move (connection_id, symbol) VALUES ('a', 'S'), ('b', 'S')");
    database
        .sql("INSERT INTO pseudo_positions (connection_id, symbol) VALUES ('a', 'S'), ('b', 'S')");
    database.sql("INSERT INTO connection_coordination (connection_id) VALUES ('a'), ('b')");
    database.sql("DELETE FROM exchange_connections WHERE id = 'a'");
    for table in ["indications_move", "pseudo_positions", "connection_coordination"] {
        assert_eq!(database.texts(&format!("SELECT connection_id FROM {table}")), ["b"], "{table}");
    }
}

#[test]
fn values_that_trading_programs_bind_are_accepted() {
    let database = migrated();
    let mut client = database.open();
    client
        .batch_execute(
            "INSERT INTO exchange_connections (id, name, is_enabled) VALUES ('bybit-x03', 'main', true); \
             INSERT INTO indication_states (state_key, validated_at) VALUES ('k', '2026-01-01 00:00:00'); \
             INSERT INTO indication_states (state_key, validated_at) VALUES ('k', '2026-01-02 00:00:00') \
             ON CONFLICT (state_key) DO UPDATE SET validated_at = excluded.validated_at; \
             INSERT INTO site_logs (level, category, message, connection_id) VALUES ('warn', 'x', 'y', 'unknown');",
        )
        .unwrap();
    let open = "INSERT INTO pseudo_positions (connection_id, symbol, indication_type, entry_price) \
                VALUES ('bybit-x03', 'BTCUSDT', 'active_advanced', 1.5) RETURNING id || status";
    assert_eq!(texts(&mut client, open), ["1active"]);
    // A row may be inserted with its id.
    client
        .batch_execute(
            "INSERT INTO pseudo_positions (id, connection_id, symbol) VALUES (700, 'bybit-x03', 'BTCUSDT')",
        )
        .unwrap();
    let age = "SELECT count(*) FROM pseudo_positions WHERE now() - created_at < interval '1 min'";
    assert_eq!(number(&mut client, age), 2);
    client.batch_execute("DELETE FROM exchange_connections").unwrap();
    assert_eq!(database.number("SELECT count(*) FROM pseudo_positions"), 0);
}

#[test]
fn every_column_that_the_trading_programs_use_exists() {
    let database = migrated();
    let sql = "SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = current_schema()";
    let columns: BTreeSet<String> = database.texts(sql).into_iter().collect();
    for line in include_str!("../support/application_columns.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
    {
        let (table, names) = line.split_once(':').unwrap();
        for name in names.split_whitespace() {
            assert!(columns.contains(&format!("{table}.{name}")), "{table}.{name}");
        }
    }
}

#[test]
fn a_database_on_a_server_is_not_rebuilt_and_the_remedy_is_named() {
    let database = migrated();
    let parts = ["is on a PostgreSQL server", "nothing was changed", "pg_repack", "VACUUM FULL"];
    database.cts("prune --compact").status(64).says(&parts);
}
