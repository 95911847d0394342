//! The proof that a plan is what a run does: some hundred random databases, older ones and ones that
//! have drifted; the steps that the plan lists are compared with the events of the run. Only what
//! the plan announced as depending on the data may differ.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;

use super::Plan;
use crate::error::Result;
use crate::migrate::event::{Event, Outcome};
use crate::migrate::step::{Action, Step};
use crate::migrate::{Task, plan, run};
use crate::store::schema::SQLITE;
use crate::store::sqlite::{FileAccess, Sqlite};
use crate::store::{Origin, Store, WaitPolicy};
use cts_schema::catalog::{Column, Object, Table};
use cts_schema::constraint_exception::Rule;

const DATABASES: u64 = 200;

/// A generator of numbers that are the same in every run (Knuth's MMIX).
struct Generator(u64);

impl Generator {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    fn pick<'p, T>(&mut self, from: &'p [T]) -> &'p T {
        &from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

fn with<T>(work: impl FnOnce(&WaitPolicy<'_>) -> T) -> T {
    let cancelled = Arc::new(AtomicBool::new(false));
    work(&WaitPolicy::silent(Duration::from_secs(5), &cancelled))
}

fn open(path: &Path, wait: &WaitPolicy<'_>) -> Sqlite {
    Sqlite::open(path, FileAccess::default(), wait).unwrap()
}

/// The plan as a dry run decides it, on a read-only connection.
fn planned(path: &Path) -> Result<Plan> {
    with(|wait| {
        let mut database =
            Sqlite::open_read_only(path, FileAccess::default(), wait).unwrap().unwrap();
        plan(&mut database)
    })
}

fn executed(path: &Path) -> Result<Outcome> {
    with(|wait| run(&mut open(path, wait), wait, Task::Migrate))
}

/// A column of an older version: perhaps of another type, without NOT NULL, without a default.
fn old_column(column: &Column, random: &mut Generator) -> String {
    let mut sql = format!("\"{}\" ", column.name);
    sql += if random.percent(60) {
        &column.data_type
    } else {
        const TYPES: [&str; 6] = ["TEXT", "INTEGER", "REAL", "VARCHAR(20)", "BOOLEAN", ""];
        *random.pick(&TYPES)
    };
    if column.primary_key_position > 0 && random.percent(85) {
        sql += " PRIMARY KEY";
    } else if random.percent(10) {
        sql += " UNIQUE";
    }
    if column.not_null && random.percent(50) {
        sql += " NOT NULL DEFAULT 0";
    }
    sql
}

fn old_table(table: &Table, random: &mut Generator) -> String {
    let is_ledger = table.name == "migrations";
    let is_kept = |column: &&Column, random: &mut Generator| {
        is_ledger && matches!(&*column.name, "id" | "name" | "executed_at")
            || !is_ledger && (column.primary_key_position > 0 || random.percent(75))
    };
    let mut columns: Vec<String> = Vec::new();
    for column in table.columns.iter() {
        if is_kept(&column, random) {
            columns.push(old_column(column, random));
        }
    }
    if random.percent(15) {
        columns
            .push((*random.pick(&["own TEXT", "own INT NOT NULL", "own REAL DEFAULT 1"])).into());
    }
    if columns.is_empty() {
        columns.push("own TEXT".into());
    }
    format!("CREATE TABLE \"{}\" ({});\n", table.name, columns.join(", "))
}

fn rows(table: &str, columns: &[String], random: &mut Generator) -> String {
    let mut sql = String::new();
    for _ in 0..random.below(5) {
        let value = |random: &mut Generator| {
            *random.pick(&["NULL", "1", "2", "7", "'1'", "'a'", "2.5", "'2026-01-01'", "''"])
        };
        let values: Vec<&str> = columns.iter().map(|_| value(random)).collect();
        let names: Vec<String> = columns.iter().map(|name| format!("\"{name}\"")).collect();
        let _ = writeln!(
            sql,
            "INSERT OR IGNORE INTO \"{table}\" ({}) VALUES ({});",
            names.join(", "),
            values.join(", ")
        );
    }
    sql
}

fn column_names(conn: &Connection, table: &str) -> Vec<String> {
    let mut statement = conn.prepare("SELECT name FROM pragma_table_info(?1)").unwrap();
    statement.query_map([table], |row| row.get(0)).unwrap().map(|name| name.unwrap()).collect()
}

/// The database of an older CTS: some of its tables, of other shapes, with rows that break rules.
fn make_older(path: &Path, random: &mut Generator) {
    let conn = Connection::open(path).unwrap();
    for table in SQLITE.expected.tables.iter() {
        let is_known = matches!(&*table.name, "migrations" | "exchange_connections" | "users");
        if is_known || random.percent(55) {
            conn.execute_batch(&old_table(table, random)).unwrap();
            let columns = column_names(&conn, &table.name);
            for insert in rows(&table.name, &columns, random).lines() {
                // A value that the column cannot hold is left out.
                let _ = conn.execute_batch(insert);
            }
        }
        if random.percent(10) {
            // Some columns may not exist.
            let column = random.pick(&table.columns).name.clone();
            let (name, table) = (format!("own_{}", table.name), &table.name);
            let _ = conn.execute_batch(&format!("CREATE INDEX {name} ON {table} (\"{column}\")"));
        }
    }
}

/// A database of ours in which somebody has dropped and added things.
fn make_drifted(template: &Path, path: &Path, random: &mut Generator) {
    fs::copy(template, path).unwrap();
    let conn = Connection::open(path).unwrap();
    let tables = &SQLITE.expected.tables;
    for _ in 0..1 + random.below(6) {
        let table = random.pick(tables);
        let index = (!table.indexes.is_empty()).then(|| random.pick(&table.indexes).name.clone());
        let column = random.pick(&table.columns);
        let name = &table.name;
        let sql = match random.below(9) {
            0 if name != "migrations" => format!("DROP TABLE {name}"),
            1 | 2 => match index {
                Some(index) => format!("DROP INDEX IF EXISTS {index}"),
                None => continue,
            },
            3 | 4 if name != "migrations" => {
                let indexes = table.indexes.iter();
                let using = indexes.filter(|i| {
                    i.columns.iter().any(|c| c.trim_end_matches(" DESC") == column.name)
                        || i.predicate.as_ref().is_some_and(|sql| sql.contains(&*column.name))
                });
                let mut sql: String = using.fold(String::new(), |sql, i| {
                    sql + &format!("DROP INDEX IF EXISTS {}; ", i.name)
                });
                let _ = write!(sql, "ALTER TABLE {name} DROP COLUMN \"{}\"", column.name);
                sql
            }
            5 => format!("ALTER TABLE {name} ADD COLUMN own_{} TEXT", random.below(100)),
            6 if name != "migrations" => rows(name, &column_names(&conn, name), random),
            7 => "DELETE FROM migrations WHERE id > (SELECT abs(random()) % 4 FROM migrations)"
                .into(),
            8 => format!("CREATE TRIGGER own_{name} AFTER DELETE ON {name} BEGIN SELECT 1; END"),
            _ => continue,
        };
        // What another change has made impossible is left out.
        let _ = conn.execute_batch(&sql);
    }
    if random.percent(15) {
        conn.execute_batch("DELETE FROM migrations").unwrap();
    }
    if random.percent(10) {
        // An object of another kind with the name of a missing one.
        let _ = conn
            .execute_batch("DROP TABLE statistics_daily; CREATE VIEW statistics_daily AS SELECT 1");
    }
}

/// What the plan lists, and what it announces as depending on the data.
struct Expectation {
    certain: BTreeSet<String>,
    /// Steps that may fail on the data.
    uncertain: BTreeSet<String>,
    /// Tables whose exceptions and dropped constraints may differ.
    tables: BTreeSet<String>,
    /// Steps that cannot be done.
    blocked: BTreeSet<String>,
}

fn key(action: &Action) -> String {
    format!("{}: {}", action.name(), action.object())
}

fn expectation(plan: &Plan) -> Expectation {
    let mut expected = Expectation {
        certain: BTreeSet::new(),
        uncertain: BTreeSet::new(),
        tables: BTreeSet::new(),
        blocked: BTreeSet::new(),
    };
    let converted: BTreeSet<&str> = plan
        .steps
        .iter()
        .filter(|step| step.depends_on_data.is_some())
        .filter_map(|step| match &step.action {
            Action::RebuildTable(rebuild) => Some(rebuild.table.as_str()),
            Action::CreateIndex(table, _) => Some(table.as_str()),
            _ => None,
        })
        .collect();
    for step in &plan.steps {
        let key = key(&step.action);
        let _ = match (&step.action, &step.blocked, step.depends_on_data) {
            (_, Some(_), _) => expected.blocked.insert(key),
            (Action::FinishAdoption, ..) => true,
            (Action::CreateIndex(..), None, Some(_)) => expected.uncertain.insert(key),
            (Action::RecordException(e), ..) if converted.contains(e.table.as_str()) => {
                expected.uncertain.insert(key)
            }
            (Action::DropConstraint(table, _), ..) if converted.contains(table.as_str()) => {
                expected.uncertain.insert(key)
            }
            _ => expected.certain.insert(key),
        };
    }
    expected.tables = converted.into_iter().map(Into::into).collect();
    expected
}

/// The steps that the events show as executed, and those that failed.
fn executed_steps(outcome: &Outcome) -> (BTreeSet<String>, BTreeSet<String>) {
    let created = |object: &Object| match object {
        Object::Table(_) => format!("create table: {object}"),
        Object::Column(..) => format!("add column: {object}"),
        Object::Index(..) => format!("create index: {object}"),
    };
    let rebuilt: BTreeSet<&str> = outcome
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Rebuilt { table, .. } => Some(table.as_str()),
            _ => None,
        })
        .collect();
    let (mut done, mut failed) = (BTreeSet::new(), BTreeSet::new());
    for event in &outcome.events {
        let _ = match event {
            Event::BackedUp(_) => done.insert("back up: database".into()),
            Event::Reindexed(index) => done.insert(format!("reindex: index {index}")),
            Event::Rebuilt { table, .. } => done.insert(format!("rebuild table: table {table}")),
            Event::Applied(run) => done.insert(format!("apply migration: {}", run.name)),
            // Columns come with the rebuild of their table.
            Event::Created(Object::Column(table, _))
            | Event::Restored(Object::Column(table, _))
                if rebuilt.contains(table.as_str()) =>
            {
                true
            }
            Event::Created(object) | Event::Restored(object) | Event::BuiltOnline(object) => {
                done.insert(created(object))
            }
            Event::NotRestored(object, _) => failed.insert(created(object)),
            Event::ConstraintDropped(text) => done.insert(format!("drop constraint: {text}")),
            Event::ExceptionRecorded(e) => done.insert(format!("record exception: {e}")),
            Event::Enforced(e) => done.insert(format!("enforce constraint: {}", e.rule_text())),
            Event::CounterAdvanced(fault) => done.insert(format!("advance counter: {fault}")),
            Event::CounterNotAdvanced(fault, _) => {
                failed.insert(format!("advance counter: {fault}"))
            }
            Event::Corrected(c) => done.insert(format!("correct table: table {}", c.table())),
            Event::NotCorrected(c, _) => {
                failed.insert(format!("correct table: table {}", c.table()))
            }
            Event::NotChecked(_) | Event::SiteLogFailed(_) => true,
        };
    }
    (done, failed)
}

/// Whether an event that the plan does not list was announced as depending on the data.
fn is_announced(expected: &Expectation, is_adoption: bool, outcome: &Outcome, key: &str) -> bool {
    if expected.uncertain.contains(key) {
        return true;
    }
    outcome.events.iter().any(|event| match event {
        Event::ExceptionRecorded(e) if *key == format!("record exception: {e}") => {
            expected.tables.contains(&e.table)
                || is_adoption && matches!(e.rule, Rule::ForeignKey(_))
        }
        Event::ConstraintDropped(text) if *key == format!("drop constraint: {text}") => {
            expected.tables.iter().any(|table| text.ends_with(&format!(" on table {table}")))
        }
        _ => false,
    })
}

fn compare(plan: &Plan, outcome: &Outcome, about: &str) {
    let expected = expectation(plan);
    let (done, failed) = executed_steps(outcome);
    let missing: Vec<_> = expected.certain.difference(&done).collect();
    assert!(
        missing.is_empty(),
        "{about}: planned and not executed: {missing:#?}\n{:#?}",
        outcome.events
    );
    let is_adoption = plan.origin == Origin::OlderCts;
    let extra: Vec<_> = done
        .difference(&expected.certain)
        .filter(|key| !is_announced(&expected, is_adoption, outcome, key))
        .collect();
    let expected_keys = (&expected.certain, &expected.uncertain);
    assert!(extra.is_empty(), "{about}: executed and not planned: {extra:#?}\n{expected_keys:#?}");
    let unexpected: Vec<_> = failed
        .iter()
        .filter(|key| !expected.blocked.contains(*key) && !expected.uncertain.contains(*key))
        .collect();
    assert!(unexpected.is_empty(), "{about}: failed, and was not announced: {unexpected:#?}");
}

#[test]
fn a_run_executes_the_steps_of_its_plan() {
    let folder = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
    let template = folder.path().join("template.db");
    with(|wait| {
        let mut store = open(&template, wait);
        run(&mut store, wait, Task::Migrate).unwrap();
        Box::new(store).close().unwrap();
    });
    let (mut adopted, mut steps, mut refused) = (0, 0, 0);
    for seed in 0..DATABASES {
        let path = folder.path().join(format!("{seed}.db"));
        let mut random = Generator(seed.wrapping_mul(2_654_435_761).wrapping_add(1));
        if seed % 2 == 0 {
            make_older(&path, &mut random);
        } else {
            make_drifted(&template, &path, &mut random);
        }
        let about = format!("database {seed}");
        match (planned(&path), executed(&path)) {
            (Ok(plan), Ok(outcome)) => {
                compare(&plan, &outcome, &about);
                adopted += u32::from(plan.origin == Origin::OlderCts);
                steps += plan.steps.len();
                let again = planned(&path).unwrap();
                let is_left =
                    |step: &Step| step.blocked.is_none() && step.depends_on_data.is_none();
                let left: Vec<_> =
                    again.steps.iter().filter(|s| is_left(s)).map(|s| key(&s.action)).collect();
                assert!(left.is_empty(), "{about}: {left:#?}");
            }
            (Err(planned), Err(error)) => {
                assert_eq!(planned.what, error.what, "{about}");
                refused += 1;
            }
            (Ok(plan), Err(error)) => {
                let steps: Vec<String> = plan.steps.iter().map(|s| key(&s.action)).collect();
                panic!("{about}: failed with {error}, planned {steps:#?}");
            }
            (Err(error), Ok(_)) => panic!("{about}: executed, and planned {error}"),
        }
        fs::remove_file(&path).unwrap();
    }
    assert!(adopted > 70 && steps > 2000 && refused < 40, "{adopted}, {steps}, {refused}");
}
