//! The backup beside an adopted database, and runs that change no byte.

use std::path::PathBuf;

use rusqlite::{Connection, OpenFlags};

use crate::support::harness::{Machine, mode};

use super::content::{assert_sound, fresh, number, schema, snapshot, tables};
use super::violations::has_word;
use super::{every_adopted, every_old};

fn backups(machine: &Machine) -> Vec<PathBuf> {
    let is_one = |path: &PathBuf| {
        path.file_name().unwrap().to_string_lossy().starts_with("cts.db.before-3.1.0-")
    };
    machine.files().into_keys().filter(is_one).collect()
}

#[test]
fn a_backup_of_the_old_database_is_beside_it() {
    every_old(|_, machine| {
        let types = "'table', 'index', 'view', 'trigger'";
        let (rows, sql) = (snapshot(&machine.open()), schema(&machine.open(), types));
        let done = machine.cts("migrate").success();
        let [backup] = &backups(machine)[..] else { panic!("backups: {:?}", backups(machine)) };
        assert_eq!((mode(backup), mode(&machine.db())), (0o600, 0o600));
        let name = backup.file_name().unwrap().to_string_lossy().into_owned();
        done.says(&[&name]);
        let copy = Connection::open_with_flags(backup, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        assert_sound(&copy);
        assert_eq!(schema(&copy, types), sql);
        let kept = snapshot(&copy);
        for (table, rows) in rows {
            assert_eq!(kept[&table], rows, "{table}");
        }
    });
}

#[test]
fn a_second_run_changes_no_byte() {
    every_adopted(|_, machine| {
        let before = machine.files();
        machine.cts("migrate").success();
        machine.cts("verify").success();
        machine.cts("repair").success();
        assert_eq!(machine.files(), before);
    });
}

#[test]
fn a_dry_run_names_every_table_and_changes_no_byte() {
    every_old(|_, machine| {
        let (_fresh, fresh) = fresh();
        let before = machine.files();
        let plan = machine.cts("migrate --dry-run").success().out();
        assert_eq!(machine.files(), before);
        let conn = machine.open();
        let there = tables(&conn);
        for table in tables(&fresh) {
            let lines: Vec<&str> = plan.lines().filter(|line| has_word(line, &table)).collect();
            let says = |what: &str| lines.iter().any(|line| line.contains(what));
            if !there.contains(&table) {
                assert!(says("create"), "{table} is not said to be created:\n{plan}");
                continue;
            }
            assert!(
                says("add") || says("rebuil"),
                "{table} is neither added to nor rebuilt:\n{plan}"
            );
            let count = number(&conn, &format!("SELECT count(*) FROM {table}")).to_string();
            for line in lines.iter().filter(|line| line.contains("rebuil")) {
                assert!(has_word(line, &count), "{table} has {count} rows: {line}");
            }
        }
    });
}
