//! ViolatedRule are kept and listed, and rules are enforced once their rows are corrected.

use rusqlite::Connection;

use crate::support::harness::Machine;
use crate::support::older_databases::Old;

use super::content::{assert_sound, columns, foreign_keys, fresh, number, snapshot, tables};
use super::{every_adopted, older_with};

/// Rows that violate a rule of the present schema.
#[derive(Debug)]
pub struct ViolatedRule {
    pub table: String,
    /// Number of rows. Duplicates may be counted with or without the first of each.
    pub counts: Vec<i64>,
    pub correction: String,
}

/// All violations of the rules of a new database; those of foreign keys last.
pub fn violated_rules(fresh: &Connection, conn: &Connection) -> Vec<ViolatedRule> {
    let mut found = Vec::new();
    let mut count_violations = |table: &str, condition: &str, correction: &str| {
        let count = number(conn, &format!("SELECT count(*) FROM {table} WHERE {condition}"));
        let correction = format!("{correction} WHERE {condition}");
        found.push(ViolatedRule { table: table.to_string(), counts: vec![count], correction });
    };
    let all = tables(fresh);
    for table in &all {
        for (name, column) in columns(fresh, table) {
            if column.is_integer_key() {
                count_violations(
                    table,
                    &format!("typeof({name}) <> 'integer'"),
                    &format!("UPDATE {table} SET {name} = rowid"),
                );
            } else if column.not_null {
                count_violations(
                    table,
                    &format!("{name} IS NULL"),
                    &format!("UPDATE {table} SET {name} = 'mended ' || rowid"),
                );
            }
        }
    }
    for (table, keys) in unique_keys(fresh) {
        let some =
            format!("FROM {table} WHERE {} IS NOT NULL GROUP BY {keys}", keys.replace(',', " || "));
        let groups = format!("SELECT count(*) AS n {some} HAVING n > 1");
        let count =
            |what: &str| number(conn, &format!("SELECT coalesce({what}, 0) FROM ({groups})"));
        found.push(ViolatedRule {
            counts: vec![count("sum(n)"), count("sum(n - 1)"), count("count(*)")],
            correction: format!(
                "DELETE FROM {table} WHERE rowid NOT IN (SELECT min(rowid) {some})"
            ),
            table,
        });
    }
    for table in &all {
        for (column, parent, key) in foreign_keys(fresh, table) {
            let orphan = format!(
                "{column} IS NOT NULL AND NOT EXISTS \
                 (SELECT 1 FROM {parent} AS p WHERE p.{key} = {table}.{column})"
            );
            let count = number(conn, &format!("SELECT count(*) FROM {table} WHERE {orphan}"));
            found.push(ViolatedRule {
                table: table.clone(),
                counts: vec![count],
                correction: format!("DELETE FROM {table} WHERE {orphan}"),
            });
        }
    }
    found.retain(|rule| rule.counts[0] > 0);
    found
}

/// Each unique index: its table and its columns.
fn unique_keys(conn: &Connection) -> Vec<(String, String)> {
    let sql = "SELECT t.name, (SELECT group_concat(name) FROM pragma_index_info(i.name)) \
        FROM sqlite_schema AS t, pragma_index_list(t.name) AS i \
        WHERE t.type = 'table' AND i.\"unique\" AND i.origin = 'c' AND NOT i.partial";
    let mut statement = conn.prepare(sql).unwrap();
    statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !(c.is_alphanumeric() || c == '_'))
}

pub fn has_word(line: &str, word: &str) -> bool {
    words(line).any(|w| w == word)
}

fn assert_listed(said: &str, rule: &ViolatedRule) {
    let is_it = |line: &str| {
        line.contains("exception")
            && has_word(line, &rule.table)
            && rule.counts.iter().any(|count| has_word(line, &count.to_string()))
    };
    assert!(
        said.lines().any(is_it),
        "no line lists this as a constraint exception: {rule:?}\n{said}"
    );
}

#[test]
fn the_test_databases_hold_violations() {
    let (_fresh, fresh) = fresh();
    for (old, tables) in [
        (Old::Unified, &["indication_states", "migrations", "indications_move"][..]),
        (Old::Master, &["indications_direction", "strategies_main", "indication_states"]),
        (Old::Both, &["indication_states", "migrations", "pseudo_positions"]),
        (Old::Init, &["exchange_connections", "real_pseudo_positions", "indication_states"]),
        (Old::Empty, &[]),
    ] {
        let machine = Machine::new();
        old.make(&machine.db());
        assert_sound(&machine.open());
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(&format!("ATTACH '{}' AS old", machine.db().display())).unwrap();
        // A table or column that does not exist yet will hold NULL only.
        for table in self::tables(&fresh) {
            let (new, now) = (columns(&fresh, &table), columns(&machine.open(), &table));
            let value = |name: &String| {
                if now.contains_key(name) { name.clone() } else { format!("NULL AS {name}") }
            };
            let list: Vec<String> = new.keys().map(value).collect();
            let from = if now.is_empty() {
                String::from("(SELECT 1) LIMIT 0")
            } else {
                format!("old.{table} ORDER BY rowid")
            };
            conn.execute_batch(&format!(
                "CREATE TABLE {table} AS SELECT {} FROM {from}",
                list.join(", ")
            ))
            .unwrap();
        }
        let found: Vec<String> =
            violated_rules(&fresh, &conn).into_iter().map(|rule| rule.table).collect();
        for table in tables {
            assert!(found.contains(&(*table).to_string()), "{old:?}: {table} is not in {found:?}");
        }
        assert_eq!(found.is_empty(), tables.is_empty(), "{old:?}: {found:?}");
    }
}

#[test]
fn violations_are_kept_and_listed() {
    every_adopted(|_, machine| {
        let (_fresh, fresh) = fresh();
        let rules = violated_rules(&fresh, &machine.open());
        let (verify, status) =
            (machine.cts("verify").success().out(), machine.cts("status").success().out());
        for rule in &rules {
            assert_listed(&verify, rule);
            assert_listed(&status, rule);
        }
        let json = machine.cts("verify --json").success().json();
        assert_eq!(json["drift"], false, "{json}");
        let status_json = machine.cts("status --json").success().json();
        for rule in &rules {
            for exceptions in [&json["relaxed"], &status_json["relaxed"]] {
                let listed = exceptions.as_array().unwrap();
                assert!(listed.iter().any(|one| one["table"] == rule.table), "{exceptions}");
            }
        }
        if rules.is_empty() {
            assert!(
                !verify.contains("exception") && !status.contains("exception"),
                "{verify}{status}"
            );
        }
        machine.cts("--check").success().says(&["CTS OK"]);
    });
}

#[test]
fn repair_enforces_rules_whose_rows_were_corrected() {
    every_adopted(|_, machine| {
        let (_fresh, fresh) = fresh();
        let conn = machine.open();
        let rules = violated_rules(&fresh, &conn);
        conn.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
        for ViolatedRule { correction, .. } in &rules {
            conn.execute_batch(correction).unwrap_or_else(|e| panic!("{e}: {correction}"));
        }
        // A corrected id may have orphaned rows, and deletions may have removed duplicates.
        for ViolatedRule { correction, .. } in self::violated_rules(&fresh, &conn) {
            conn.execute_batch(&correction).unwrap_or_else(|e| panic!("{e}: {correction}"));
        }
        if columns(&conn, "strategies_dca").contains_key("dca_config") {
            let times = "UPDATE strategies_dca SET updated_at = '2026-11-23 12:00:00' \
                WHERE typeof(updated_at) = 'integer'";
            conn.execute_batch(times).unwrap();
        }
        drop(conn);
        let before = snapshot(&machine.open());
        let done = machine.cts("repair").success();
        let said = done.out() + &done.err();
        for ViolatedRule { table, .. } in &rules {
            let is_it = |line: &str| line.contains("enforced again") && has_word(line, table);
            assert!(said.lines().any(is_it), "{table} is not said to be enforced again:\n{said}");
        }
        let verify = machine.cts("verify").success().out();
        assert!(!verify.contains("exception"), "{verify}");
        let conn = machine.open();
        for table in tables(&fresh) {
            let now = columns(&conn, &table);
            for (name, column) in columns(&fresh, &table) {
                assert_eq!(now.get(&name), Some(&column), "{table}.{name}");
            }
        }
        // The record of exceptions is the only thing that shrank.
        for (table, rows) in before.into_iter().filter(|(table, _)| table != "cts_relaxations") {
            assert!(snapshot(&conn)[&table].rows.len() >= rows.rows.len(), "{table} lost rows");
        }
        conn.execute_batch(
            "INSERT INTO indication_states (state_key) VALUES ('upsert'); \
             INSERT INTO indication_states (state_key, state_value) VALUES ('upsert', 'x') \
             ON CONFLICT (state_key) DO UPDATE SET state_value = excluded.state_value",
        )
        .unwrap();
        assert_sound(&conn);
        let left = self::violated_rules(&fresh, &conn);
        assert!(left.is_empty(), "{left:?}");
    });
}

#[test]
fn repair_keeps_exceptions_that_still_have_violations() {
    every_adopted(|_, machine| {
        let before = snapshot(&machine.open());
        let done = machine.cts("repair").success();
        let said = done.out() + &done.err();
        assert!(!said.contains("enforced again"), "{said}");
        assert_eq!(snapshot(&machine.open()), before);
    });
}

#[test]
fn duplicate_keys_are_kept_until_they_are_corrected() {
    let machine = older_with(
        "CREATE TABLE connection_coordination (id INTEGER PRIMARY KEY, connection_id INTEGER, status TEXT); \
         INSERT INTO connection_coordination VALUES (1, 7, 'a'), (2, 7, 'b')",
    );
    let shared =
        "connection_coordination.connection_id is not a key (2 rows have duplicate values)";
    machine.cts("migrate --dry-run").success().says(&[shared]);
    machine.cts("migrate").success().says(&[shared]);
    machine.cts("--check").success();
    let rows =
        machine.texts("SELECT connection_id || status FROM connection_coordination ORDER BY id");
    assert_eq!(rows, ["7a", "7b"]);
    machine.sql("DELETE FROM connection_coordination WHERE id = 1");
    machine
        .cts("repair")
        .success()
        .says(&["enforced again: connection_coordination.connection_id is the primary key"]);
    machine.sql(
        "INSERT INTO connection_coordination (connection_id) VALUES ('7') \
         ON CONFLICT (connection_id) DO UPDATE SET status = 'c'",
    );
    assert_eq!(machine.texts("SELECT status FROM connection_coordination"), ["c"]);
}
