//! Decisions, without a database.
#![allow(clippy::unwrap_used)]

use crate::error::{Error, Kind, Result};
use crate::migrate::assessment::Assessment;
use crate::migrate::facts::Facts;
use crate::migrate::plan::Plan;
use crate::store::schema::SQLITE;
use crate::store::{Backend, DatabaseIdentity, Forecast, Obstacle, Snapshot};
use cts_schema::catalog::{Object, Table};
use cts_schema::constraint_exception::{ConstraintException, Rule};
use cts_schema::migration::AppliedMigration;

fn identity(backend: Backend) -> DatabaseIdentity {
    DatabaseIdentity {
        backend,
        schema: &SQLITE,
        location: "/data/cts.db".into(),
        absent: "",
        creation: "",
        absent_remedy: "",
        no_answer_remedy: "",
    }
}

/// A database of ours with all of the schema, and the first migrations in its ledger.
fn current(migrations: usize) -> Snapshot {
    let row = |(id, migration): (i64, &cts_schema::migration::Migration)| AppliedMigration {
        id: Some(id),
        name: migration.name.into(),
        checksum: Some(migration.checksum.into()),
        executed_at: None,
        execution_time_ms: None,
        version: None,
    };
    Snapshot {
        ledger: (1..).zip(SQLITE.migrations.iter().take(migrations)).map(row).collect(),
        catalog: SQLITE.expected.clone(),
        exceptions: Vec::new(),
        counters: Vec::new(),
        accepted: Vec::new(),
    }
}

fn change(snapshot: &mut Snapshot, table: &str, change: impl FnOnce(&mut Table)) {
    let tables = snapshot.catalog.tables.to_mut();
    change(tables.iter_mut().find(|found| found.name == *table).unwrap());
}

fn decide(backend: Backend, snapshot: &Snapshot, facts: &Facts) -> Result<Plan> {
    let assessment = Assessment::of(&SQLITE, snapshot).unwrap();
    Plan::decide(&identity(backend), snapshot, &assessment, facts)
}

/// The steps, each as its action and object.
fn steps(backend: Backend, snapshot: &Snapshot, facts: &Facts) -> Vec<String> {
    let plan = decide(backend, snapshot, facts).unwrap();
    let actions = plan.steps.iter().map(|step| &step.action);
    actions.map(|action| format!("{}: {}", action.name(), action.object())).collect()
}

#[test]
fn a_new_database_gets_every_migration() {
    let planned = steps(Backend::Sqlite, &Snapshot::default(), &Facts::default());
    let expected: Vec<String> =
        SQLITE.migrations.iter().map(|m| format!("apply migration: {}", m.name)).collect();
    assert_eq!(planned, expected);
}

#[test]
fn a_current_database_gets_no_step() {
    assert!(steps(Backend::Sqlite, &current(4), &Facts::default()).is_empty());
}

#[test]
fn a_missing_table_is_created_with_its_indexes() {
    let mut snapshot = current(4);
    snapshot.catalog.tables.to_mut().retain(|table| table.name != "statistics_daily");
    let planned = steps(Backend::Sqlite, &snapshot, &Facts::default());
    let expected = [
        "create table: table statistics_daily",
        "create index: index idx_statistics_daily_date on statistics_daily",
        "create index: index idx_statistics_daily_day on statistics_daily",
    ];
    assert_eq!(planned, expected);
}

#[test]
fn what_a_pending_migration_creates_is_left_to_it() {
    let mut snapshot = current(3);
    snapshot.catalog.tables.to_mut().retain(|table| table.name != "indication_states");
    let planned = steps(Backend::Sqlite, &snapshot, &Facts::default());
    assert_eq!(planned, ["apply migration: 071_add_coordination_tables.sql"]);
}

#[test]
fn a_column_is_added_unless_rows_need_a_value() {
    let mut snapshot = current(4);
    change(&mut snapshot, "users", |table| {
        table.columns.to_mut().retain(|column| column.name != "password_hash");
    });
    let planned = steps(Backend::Sqlite, &snapshot, &Facts::default());
    assert_eq!(planned, ["add column: column users.password_hash"]);
    let mut facts = Facts::default();
    facts.filled.insert("users".into());
    let planned = steps(Backend::Sqlite, &snapshot, &facts);
    assert_eq!(planned, ["back up: database", "rebuild table: table users"]);
}

#[test]
fn an_index_of_a_large_table_is_built_online() {
    let mut snapshot = current(4);
    change(&mut snapshot, "site_logs", |table| {
        table.indexes.to_mut().retain(|index| index.name != "idx_site_logs_time");
    });
    let planned = steps(Backend::Postgresql, &snapshot, &Facts::default());
    assert_eq!(planned, ["create index: index idx_site_logs_time on site_logs"]);
    let mut facts = Facts::default();
    facts.large.insert("site_logs".into());
    let plan = decide(Backend::Postgresql, &snapshot, &facts).unwrap();
    assert_eq!(plan.steps[0].action.name(), "build index online");
    assert!(!plan.steps[0].blocks_writers);
}

#[test]
fn an_obstacle_blocks_a_step_or_the_whole_of_a_new_database() {
    let object = Object::Table("statistics_daily".into());
    let obstacles = vec![Obstacle::name_taken(&object, "view statistics_daily")];
    let facts = Facts { obstacles, ..Facts::default() };
    let mut snapshot = current(4);
    snapshot.catalog.tables.to_mut().retain(|table| table.name != "statistics_daily");
    let plan = decide(Backend::Sqlite, &snapshot, &facts).unwrap();
    assert_eq!(plan.steps.len(), 1);
    assert!(plan.steps[0].blocked.is_some());
    assert!(decide(Backend::Sqlite, &Snapshot::default(), &facts).is_err());
    // A missing right, too.
    let error = Error::new(Kind::Permission, "role cts may not create tables");
    let facts = Facts { obstacles: vec![Obstacle { object, error }], ..Facts::default() };
    let plan = decide(Backend::Postgresql, &snapshot, &facts).unwrap();
    let blocked = plan.steps[0].blocked.as_ref().map(|error| error.kind);
    assert_eq!(blocked, Some(Kind::Permission));
    assert!(decide(Backend::Postgresql, &Snapshot::default(), &facts).is_err());
}

#[test]
fn the_database_of_an_older_cts_is_copied_first_and_checked_last() {
    let mut snapshot = current(0);
    snapshot.ledger.clear();
    let planned = steps(Backend::Sqlite, &snapshot, &Facts::default());
    assert_eq!((planned.len(), &*planned[0]), (6, "back up: database"));
    assert_eq!(planned[5], "finish adoption: database");
    change(&mut snapshot, "migrations", |table| {
        table.columns.to_mut().retain(|column| column.name != "checksum");
    });
    let planned = steps(Backend::Sqlite, &snapshot, &Facts::default());
    let expected = [
        "back up: database",
        "apply migration: 000_master_initialization.sql",
        "rebuild table: table migrations",
    ];
    assert_eq!(planned[..3], expected);
}

#[test]
fn a_key_that_rows_share_and_others_refer_to_is_refused() {
    let mut snapshot = current(0);
    snapshot.ledger.clear();
    let rule = Rule::PrimaryKey("id".into());
    let table = "exchange_connections".to_string();
    let exceptions = vec![ConstraintException { table: table.clone(), rule, rows: 2 }];
    let mut facts = Facts::default();
    facts.forecasts.insert(table, Forecast { rows: 3, exceptions, dropped: Vec::new() });
    let error = decide(Backend::Sqlite, &snapshot, &facts).unwrap_err();
    assert!(
        error.what.starts_with("2 rows of table exchange_connections share their id"),
        "{error}"
    );
}
