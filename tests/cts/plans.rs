//! The statements of the trading programs on the schema: each prepares, and each that
//! filters or orders is answered from an index.

use std::collections::BTreeMap;

use rusqlite::Connection;

use crate::harness::Machine;

/// A statement of `hot_queries.sql` with the comment above it.
struct Shape {
    title: &'static str,
    sql: String,
}

fn shapes() -> Vec<Shape> {
    let text: &'static str = include_str!("hot_queries.sql");
    let mut shapes: Vec<Shape> = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("-- ") {
            Some(title) if title.starts_with('H') => {
                shapes.push(Shape { title, sql: String::new() })
            }
            Some(_) => {}
            None => {
                if let Some(shape) = shapes.last_mut() {
                    shape.sql += line;
                    shape.sql.push('\n');
                }
            }
        }
    }
    shapes
}

/// The steps of the plan. Parameters are left unbound, as they are when a program prepares.
fn plan(conn: &Connection, sql: &str) -> Vec<String> {
    let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let rows = statement.raw_query().mapped(|row| row.get(3)).collect::<Result<_, _>>();
    rows.unwrap()
}

/// Steps that cannot be otherwise, by shape, and why.
fn allowed(title: &str) -> &'static [&'static str] {
    match title.split(' ').next().unwrap() {
        // The average runs over the result of the sub-select, which has at most LIMIT rows.
        "H16" => &["SCAN latest"],
        // A flag by itself cannot be searched; the partial index holds exactly the answer.
        "H29" => &["SCAN exchange_connections USING INDEX idx_exchange_connections_running"],
        // The window is searched; its lines are then counted by level.
        "H26" => &["USE TEMP B-TREE FOR GROUP BY"],
        _ => &[],
    }
}

#[test]
fn all_shapes_are_tried() {
    let shapes = shapes();
    for number in 1..=32 {
        let label = format!("H{number:02} ");
        assert!(shapes.iter().any(|shape| shape.title.starts_with(&label)), "{label} is missing");
    }
    assert!(shapes.len() >= 54, "only {} statements", shapes.len());
}

#[test]
fn every_shape_is_answered_from_an_index() {
    let machine = Machine::migrated();
    let conn = machine.open();
    let mut faults = Vec::new();
    for shape in shapes() {
        for step in plan(&conn, &shape.sql) {
            let is_slow = step.contains("SCAN ")
                || step.contains("TEMP B-TREE")
                || step.contains("AUTOMATIC");
            if is_slow && !allowed(shape.title).contains(&step.as_str()) {
                faults.push(format!("{}\n{}    {step}", shape.title, shape.sql));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_shape_without_its_index_would_be_noticed() {
    let machine = Machine::migrated();
    machine.sql("DROP INDEX idx_site_logs_connection");
    let shape = shapes().into_iter().find(|shape| shape.title.starts_with("H25 ")).unwrap();
    let plan = plan(&machine.open(), &shape.sql).join("\n");
    assert!(plan.contains("SCAN site_logs") || plan.contains("TEMP B-TREE FOR ORDER BY"), "{plan}");
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
    for line in
        include_str!("application_columns.txt").lines().filter(|line| !line.starts_with('#'))
    {
        let (table, names) = line.split_once(':').unwrap();
        for name in names.split_whitespace() {
            assert!(columns[table].iter().any(|column| column == name), "{table}.{name}");
            used += 1;
        }
    }
    assert_eq!(used, 237, "columns were looked for");
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
fn what_the_trading_programs_bind_is_taken() {
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
