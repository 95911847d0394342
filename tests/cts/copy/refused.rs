//! Words and sources that are refused, with nothing changed anywhere.

use std::fs;

use crate::support::cluster::Cluster;
use crate::support::harness::Machine;

use super::{Ends, migrated_file};

#[test]
fn words_that_make_no_sense_are_refused_with_64() {
    let ends = Ends::new();
    let before = ends.everything();
    for (words, says) in [
        ("copy", "--to"),
        ("copy --to", "--to"),
        ("copy --to mysql", "mysql"),
        ("copy --to postgresql --skip-bad", "--skip-bad"),
        ("copy --to postgresql --with-extras", "--with-extra"),
        ("copy postgresql", "postgresql"),
    ] {
        ends.cts(words).status(64).says(&[says]);
    }
    assert_eq!(ends.everything(), before);
}

#[test]
fn a_database_that_is_not_configured_is_named() {
    let machine = migrated_file();
    let before = machine.files();
    for words in ["copy --to postgresql", "copy --to sqlite"] {
        machine.cts(words).status(78).says(&["DATABASE_URL"]);
    }
    assert_eq!(machine.files(), before);
}

#[test]
fn the_type_of_database_that_is_configured_plays_no_part() {
    for database_type in ["sqlite", "postgresql"] {
        let ends = Ends::with("INSERT INTO users (username, password_hash) VALUES ('a', 'x')");
        ends.to_postgresql("").env("DATABASE_TYPE", database_type).success();
        assert_eq!(ends.database.texts("SELECT username FROM users"), ["a"]);
        ends.to_sqlite("").env("DATABASE_TYPE", database_type).success();
        assert!(ends.back().exists());
    }
}

/// No file, a file of another program, one with pending migrations, one of a newer cts, one that lacks a table.
#[test]
fn a_file_that_is_no_complete_database_of_cts_is_refused() {
    let database = Cluster::shared().owned();
    let before = database.everything();
    let refused = |make: &dyn Fn(&mut Machine), code: i32, says: &[&str]| {
        let mut machine = Machine::new();
        make(&mut machine);
        let files = machine.files();
        let run = machine.cts("copy --to postgresql").env("DATABASE_URL", database.url());
        run.status(code).says(says);
        assert_eq!(machine.files(), files);
        assert_eq!(database.everything(), before);
    };
    let migrated = |machine: &mut Machine, sql: &str| {
        *machine = migrated_file();
        machine.sql(sql);
    };
    refused(&|_| (), 65, &["cts.db"]);
    refused(&|machine| fs::write(machine.db(), "").unwrap(), 65, &["cts.db"]);
    refused(
        &|machine| fs::write(machine.db(), "no database ".repeat(1000)).unwrap(),
        65,
        &["cts.db"],
    );
    refused(&|machine| machine.sql("CREATE TABLE tracks (id)"), 65, &["cts.db"]);
    let pending = "DELETE FROM migrations WHERE id > 3; DROP TABLE indication_states; DROP TABLE connection_coordination";
    refused(
        &|machine| migrated(machine, pending),
        65,
        &["071_add_coordination_tables.sql", "cts migrate"],
    );
    let newer = format!(
        "INSERT INTO migrations (name, checksum, version) VALUES ('072_later.sql', '{}', '3.2.0')",
        "a".repeat(64)
    );
    refused(&|machine| migrated(machine, &newer), 65, &["072_later.sql", "3.2.0"]);
    refused(
        &|machine| migrated(machine, "DROP TABLE statistics_daily"),
        65,
        &["statistics_daily", "cts repair"],
    );
    refused(
        &|machine| migrated(machine, "ALTER TABLE users DROP COLUMN role"),
        65,
        &["role", "cts repair"],
    );
}

#[test]
fn a_database_on_a_server_that_is_no_complete_one_of_cts_is_refused() {
    let pending = "DELETE FROM migrations WHERE id > 3; DROP TABLE indication_states; DROP TABLE connection_coordination";
    for (sql, says) in [
        ("", vec!["cts migrate"]),
        ("DROP TABLE statistics_daily", vec!["statistics_daily", "cts repair"]),
        (pending, vec!["071_add_coordination_tables.sql", "cts migrate"]),
    ] {
        let ends = match sql {
            "" => Ends { machine: Machine::new(), database: Cluster::shared().owned() },
            sql => Ends::backwards(sql),
        };
        ends.changes_nothing(ends.to_sqlite(""), 65, &says);
    }
}

#[test]
fn a_server_that_does_not_answer_is_69() {
    let ends = Ends::new();
    for words in ["copy --to postgresql", "copy --to sqlite"] {
        let run = ends.machine.cts(words).db(&if words.ends_with("sqlite") {
            ends.back()
        } else {
            ends.machine.db()
        });
        run.env("DATABASE_URL", "postgresql://a:b@127.0.0.1:9/x")
            .env("CTS_WAIT", "0s")
            .status(69)
            .says(&["127.0.0.1:9"]);
    }
    assert!(!ends.back().exists());
}
