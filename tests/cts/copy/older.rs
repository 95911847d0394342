//! Databases of an older CTS, adopted, go there and come back: their constraint exceptions travel, and rows with values
//! that the server cannot hold are left out on request.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::support::harness::{Machine, for_each};
use crate::support::older_databases::Old;

use super::{Ends, proved};

/// The rules that are not enforced, without the number of rows. TEXT is the type of a time on SQLite.
fn rules(report: &serde_json::Value) -> BTreeSet<String> {
    let list = report["constraintExceptions"].as_array().unwrap_or_else(|| panic!("{report}"));
    let rules =
        list.iter().map(|exception| exception.as_str().unwrap().split(" (").next().unwrap());
    rules.filter(|rule| !rule.ends_with("keeps its type TEXT")).map(str::to_string).collect()
}

#[test]
fn adopted_databases_of_an_older_cts_go_there_and_back() {
    for_each(Old::ALL, |old| {
        let with_extra = matches!(old, Old::Unified | Old::Master);
        for extra in ["", "--with-extra"].into_iter().take(1 + usize::from(with_extra)) {
            let mut ends = Ends::new();
            ends.machine = Machine::new();
            old.make(&ends.machine.db());
            ends.machine.cts("migrate").success();
            if old == Old::Init {
                refuses_rows_without_a_key(&ends);
            }
            let file = ends.machine.path("bad.jsonl");
            let before = ends.machine.files();
            let words = format!("--json {extra} --skip-bad {}", file.display());
            let there = ends.to_postgresql(&words).success().json();
            let mut after = ends.machine.files();
            after.remove(&file);
            assert_eq!(after, before, "{old:?}");
            ends.database.cts("verify").success();
            // Nothing is left out on the way back.
            let back = ends.to_sqlite(&format!("--json {extra}")).success().json();
            assert_eq!(proved(&there), proved(&back), "{old:?} {extra}");
            assert_eq!(back["skipped"]["rows"], 0, "{old:?}");
            assert_eq!(rules(&there), rules(&back), "{old:?}: {there} {back}");
            ends.machine.cts("verify").db(&ends.back()).success();
            names_what_is_left_out(old, extra, &there);
            rows_are_kept(old, &ends, &there, &file);
        }
    });
}

/// One connection has no id. On a server, that cannot be.
fn refuses_rows_without_a_key(ends: &Ends) {
    let says = ["exchange_connections, column id: 1 row: is NULL in a primary key"];
    ends.changes_nothing(ends.to_postgresql(""), 65, &says);
}

fn names_what_is_left_out(old: Old, extra: &str, report: &serde_json::Value) {
    let left_out = report["leftOut"].to_string();
    let own = ["column users.my_nickname", "table my_notes", "table my_audit"];
    for name in own {
        let is_expected = old != Old::Empty && extra.is_empty();
        assert_eq!(left_out.contains(name), is_expected, "{old:?} {extra}: {name}: {left_out}");
    }
}

/// Every row of the file is in the one that has come back, or among those left out.
fn rows_are_kept(old: Old, ends: &Ends, report: &serde_json::Value, file: &Path) {
    let lines = std::fs::read_to_string(file).unwrap_or_default();
    assert_eq!(report["skipped"]["rows"], lines.lines().count());
    // Those of the ledger are counted elsewhere: each side has rows of its own in it.
    let skipped = lines.lines().filter(|line| !line.contains(r#""table":"migrations""#)).count();
    let count = |db: &Path| -> BTreeMap<String, usize> {
        let conn = rusqlite::Connection::open(db).unwrap();
        let tables = report["tables"].as_array().unwrap().iter();
        let names = tables.map(|table| table["table"].as_str().unwrap().to_string());
        let names = names.filter(|name| name != "migrations");
        let rows = |name: &str| {
            let sql = format!("SELECT count(*) FROM \"{}\"", name.replace('"', "\"\""));
            conn.query_row(&sql, [], |row| row.get(0)).unwrap()
        };
        names.map(|name| (name.clone(), rows(&name))).collect()
    };
    let (first, back) = (count(&ends.machine.db()), count(&ends.back()));
    let missing: usize = first.iter().map(|(table, rows)| rows - back[table]).sum();
    eprintln!(
        "{old:?}: {} rows, {skipped} left out, {}",
        report["rows"], report["constraintExceptions"]
    );
    assert_eq!(missing, skipped, "{old:?}: {first:?} {back:?}");
}
