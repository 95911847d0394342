//! The query plans of the trading programs' statements: each statement prepares, and each that
//! filters or sorts uses an index.

use std::collections::BTreeMap;

use rusqlite::Connection;

use crate::support::harness::Machine;
use crate::support::statements::{Shape, shapes};

/// The steps of the query plan. Parameters are unbound, as when a program prepares a statement.
fn plan(conn: &Connection, sql: &str) -> Vec<String> {
    let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let rows = statement.raw_query().mapped(|row| row.get(3)).collect::<Result<_, _>>();
    rows.unwrap()
}

/// The expected steps of each plan: the index, and the columns by which it is searched; none for a
/// statement that only inserts. `{table}` is the table of the title.
const PLANS: &[(&str, &[&str])] = &[
    ("H01", &["SEARCH idx_{table}_live (connection_id=? AND symbol=?)"]),
    ("H02", &["SEARCH idx_{table}_best (connection_id=?)"]),
    ("H03", &["SEARCH idx_{table}_recent (connection_id=? AND calculated_at>?)"]),
    ("H04", &["SEARCH idx_{table}_live (connection_id=? AND symbol=?)"]),
    ("H05", &["SEARCH idx_{table}_status (connection_id=? AND status=?)"]),
    ("H06", &["SEARCH idx_{table}_status (connection_id=? AND status=?)"]),
    ("H07", &["SEARCH COVERING idx_{table}_status (connection_id=? AND status=?)"]),
    ("H08", &["SEARCH idx_{table}_live (connection_id=?)"]),
    ("H09", &["SEARCH COVERING idx_{table}_limit (connection_id=? AND side=?)"]),
    (
        "H10",
        &[
            "SEARCH COVERING idx_{table}_limit (connection_id=? AND side=? AND symbol=? AND indication_type=?)",
        ],
    ),
    (
        "H11",
        &[
            "SEARCH idx_{table}_limit (connection_id=? AND side=? AND symbol=? AND indication_type=?)",
        ],
    ),
    ("H12", &[]),
    ("H13", &[BY_ID]),
    ("H14", &[BY_ID]),
    (
        "H15",
        &[
            "SEARCH idx_{table}_symbol (connection_id=? AND symbol=? AND created_at>?)",
            "CORRELATED SCALAR SUBQUERY 1",
            "SEARCH COVERING idx_real_pseudo_positions_main_config (main_config_id=?)",
        ],
    ),
    // The average runs over the result of the sub-select, which has at most LIMIT rows.
    (
        "H16",
        &["CO-ROUTINE latest", "SEARCH COVERING idx_{table}_closed (closed_at>?)", "SCAN latest"],
    ),
    ("H17", &["SEARCH idx_{table}_base (base_position_id=? AND position_level=?)"]),
    (
        "H18",
        &[
            "SEARCH idx_{table}_status (connection_id=? AND status=?)",
            "CORRELATED SCALAR SUBQUERY 1",
            "SEARCH COVERING idx_exchange_positions_real (real_pseudo_position_id=?)",
        ],
    ),
    ("H19", &["SEARCH COVERING idx_{table}_status (connection_id=?)"]),
    ("H20", &["SEARCH idx_{table}_key (key=?)"]),
    ("H21", &[]),
    ("H22", &["SEARCH idx_{table}_category (category=?)"]),
    ("H23", &[]),
    ("H24", &["SEARCH idx_{table}_category (category=? AND level=?)"]),
    ("H25", &["SEARCH idx_{table}_connection (connection_id=?)"]),
    // The time range is searched; its rows are then counted by level.
    ("H26", &["SEARCH COVERING idx_{table}_time (timestamp>?)", "USE TEMP B-TREE FOR GROUP BY"]),
    ("H27", &[BY_KEY]),
    ("H28", &[BY_KEY]),
    // A flag alone is not selective; the partial index contains exactly the result.
    ("H29", &["SCAN idx_{table}_running"]),
    ("H30 connection_coordination: heartbeat", &[]),
    ("H30", &["SEARCH idx_{table}_heartbeat (status=? AND last_heartbeat<?)"]),
    ("H31", &[]),
    ("H32", &[STRATEGY, "LIST SUBQUERY 1", STRATEGY, "CREATE BLOOM FILTER"]),
];
const STRATEGY: &str = "SEARCH COVERING idx_{table}_strategy (strategy_type=?)";
const BY_ID: &str = "SEARCH INTEGER PRIMARY KEY (rowid=?)";
const BY_KEY: &str = "SEARCH sqlite_autoindex_{table}_1 (id=?)";

/// Indexes that no statement uses, by the end of their names, and their purpose.
const OTHERS: &[(&str, &str)] = &[
    ("_conn_symbol", "published; the history of a symbol"),
    ("_direction_status", "published"),
    ("_move_status", "published"),
    ("_active_status", "published"),
    ("_optimal_status", "published"),
    ("_auto_status", "published"),
    ("idx_users_username", "unique"),
    ("idx_users_email", "unique"),
    ("idx_migrations_name", "unique"),
    ("idx_statistics_indication_period", "unique, and the foreign key"),
    ("idx_statistics_strategy_period", "unique, and the foreign key"),
    ("idx_statistics_daily_date", "unique, and the foreign key"),
    ("_indication_day", "the statistics of some days"),
    ("_strategy_day", "the statistics of some days"),
    ("_daily_day", "the statistics of some days"),
    ("idx_indication_states_key", "unique; the conflict target of H31"),
    ("idx_indication_states_connection", "the foreign key"),
    ("idx_exchange_positions_connection", "the foreign key"),
    (
        "idx_real_pseudo_positions_main_position",
        "deleting old positions: whether one is referred to",
    ),
];

/// The expected plan of a statement.
fn expected(shape: &Shape) -> Vec<String> {
    let table = shape.table();
    let plan = PLANS.iter().find(|(start, _)| shape.title.starts_with(start));
    let (_, steps) = plan.unwrap_or_else(|| panic!("{}: no plan is expected", shape.title));
    steps.iter().map(|step| step.replace("{table}", table)).collect()
}

/// A step without the alias of the table and without the words `USING` and `INDEX`.
fn short(step: &str) -> String {
    match step.split_once(" USING ") {
        Some((search, index)) => {
            format!("{} {}", search.split(' ').next().unwrap(), index.replacen("INDEX ", "", 1))
        }
        None => step.to_owned(),
    }
}

#[test]
fn all_statements_are_covered() {
    let shapes = shapes();
    for number in 1..=32 {
        let label = format!("H{number:02} ");
        assert!(shapes.iter().any(|shape| shape.title.starts_with(&label)), "{label} is missing");
    }
    assert!(shapes.len() >= 54, "only {} statements", shapes.len());
}

/// The statements whose plans are not as expected.
fn faults(conn: &Connection) -> Vec<String> {
    let mut faults = Vec::new();
    for shape in shapes() {
        let steps = plan(conn, &shape.sql);
        let plan: Vec<_> = steps.iter().map(|step| short(step)).collect();
        let expected = expected(&shape);
        if plan != expected {
            let [found, expected] = [&plan, &expected].map(|steps| steps.join("\n    "));
            let Shape { title, sql } = &shape;
            faults.push(format!("{title}\n{sql}  is:\n    {found}\n  expected:\n    {expected}"));
        }
    }
    faults
}

#[test]
fn every_statement_uses_its_index() {
    let machine = Machine::migrated();
    let faults = faults(&machine.open());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_index_is_there_for_a_reason() {
    let machine = Machine::migrated();
    let used: Vec<_> = shapes().iter().flat_map(expected).collect();
    let all =
        machine.texts("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL");
    for index in &all {
        let other = OTHERS.iter().find(|(end, _)| index.ends_with(end));
        let is_used = used.iter().any(|step| step.split(' ').any(|word| word == index));
        assert!(is_used || other.is_some(), "{index}: which shape needs it?");
        assert!(!is_used || other.is_none(), "{index}: a shape needs it after all");
    }
    for (end, reason) in OTHERS {
        assert!(all.iter().any(|index| index.ends_with(end)), "{end} ({reason}) is not there");
    }
}

#[test]
fn a_statement_without_its_index_is_detected() {
    let machine = Machine::migrated();
    for (index, shape) in [
        ("idx_site_logs_connection", "H25 "),
        ("idx_indications_move_live", "H01 indications_move"),
        ("idx_pseudo_positions_closed", "H16 "),
        ("idx_exchange_connections_running", "H29 "),
    ] {
        machine.sql(&format!("DROP INDEX {index}"));
        let faults = faults(&machine.open());
        assert!(faults.iter().any(|fault| fault.starts_with(shape)), "{index}: {faults:?}");
    }
}

#[test]
fn every_column_that_the_trading_programs_use_exists() {
    let machine = Machine::migrated();
    let conn = machine.open();
    let mut columns: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let sql = "SELECT t.name, c.name FROM sqlite_schema t, pragma_table_xinfo(t.name) c WHERE t.type = 'table'";
    let mut statement = conn.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?))).unwrap();
    for (table, column) in rows.map(Result::unwrap) {
        columns.entry(table).or_default().push(column);
    }
    let mut used = 0;
    for line in include_str!("../support/application_columns.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
    {
        let (table, names) = line.split_once(':').unwrap();
        for name in names.split_whitespace() {
            assert!(columns[table].iter().any(|column| column == name), "{table}.{name}");
            used += 1;
        }
    }
    assert_eq!(used, 237, "number of columns checked");
}

#[test]
fn foreign_keys_cascade_and_each_has_an_index() {
    let machine = Machine::migrated();
    let keys = "SELECT t.name FROM sqlite_schema t, pragma_foreign_key_list(t.name) f WHERE t.type = 'table'";
    assert_eq!(machine.number(&format!("SELECT count(*) FROM ({keys})")), 19);
    let wrong =
        format!("{keys} AND (f.on_delete <> 'CASCADE' OR f.\"table\" <> 'exchange_connections')");
    assert!(machine.texts(&wrong).is_empty());
    for table in machine.texts(keys) {
        let sql = format!("SELECT 1 FROM {table} WHERE connection_id = ?1");
        let plan = plan(&machine.open(), &sql).join("\n");
        assert!(plan.starts_with("SEARCH"), "{table}: {plan}");
    }
}

#[test]
fn values_that_trading_programs_bind_are_accepted() {
    let machine = Machine::migrated();
    let conn = machine.open();
    conn.execute_batch(
        "INSERT INTO exchange_connections (id, name, is_enabled) VALUES ('bybit-x03', 'main', true); \
         INSERT INTO indication_states (state_key, validated_at) VALUES ('k', '2026-01-01 00:00:00'); \
         INSERT INTO indication_states (state_key, validated_at) VALUES ('k', '2026-01-02 00:00:00') \
         ON CONFLICT (state_key) DO UPDATE SET validated_at = excluded.validated_at; \
         INSERT INTO site_logs (level, category, message, connection_id) VALUES ('warn', 'x', 'y', 'unknown');",
    )
    .unwrap();
    let open = "INSERT INTO pseudo_positions (connection_id, symbol, indication_type, entry_price) \
                VALUES ('bybit-x03', 'BTCUSDT', 'active_advanced', 1.5) RETURNING id || status";
    let made: String = conn.query_row(open, [], |row| row.get(0)).unwrap();
    assert_eq!(made, "1active");
    let time: String =
        conn.query_row("SELECT created_at FROM pseudo_positions", [], |row| row.get(0)).unwrap();
    assert!(time.len() == 23 && &time[10..11] == " " && &time[19..20] == ".", "{time}");
    conn.execute_batch("DELETE FROM exchange_connections").unwrap();
    assert_eq!(machine.number("SELECT count(*) FROM pseudo_positions"), 0);
}
