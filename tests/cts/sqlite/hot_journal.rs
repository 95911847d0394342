//! A journal that a killed program has left: a sound one is rolled back, and after one that cannot be
//! rolled back whole the damaged database is never ready.

use std::fs;

use crate::support::harness::Machine;
use crate::support::scenario::copy;

/// Bytes before the first record of a journal, which is a page number, a page and a checksum.
const SECTOR_BYTES: usize = 512;

/// A machine with the files of a program that was killed in rollback mode while it wrote, after many pages
/// of its transaction had reached the file.
fn interrupted() -> Machine {
    let source = Machine::migrated();
    source.sql(
        "PRAGMA journal_mode = DELETE; \
         WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) \
         INSERT INTO users (username, password_hash, email) SELECT 'u' || i, 'x', i || '@x' FROM n",
    );
    let conn = source.open();
    conn.execute_batch(
        "PRAGMA cache_size = 5; BEGIN; UPDATE users SET email = 'new' || id; DELETE FROM users WHERE id % 3 = 0",
    )
    .unwrap();
    let machine = Machine::new();
    copy(&source.db(), &machine.db());
    machine
}

fn names(machine: &Machine) -> Vec<String> {
    let entries = fs::read_dir(machine.path("")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains("journal")).collect()
}

#[test]
fn a_sound_journal_is_rolled_back_and_nothing_of_it_stays() {
    let machine = interrupted();
    machine.cts("--check").status(2).says(&["interrupted and is not rolled back yet"]);
    machine.cts("migrate").success();
    assert_eq!(machine.number("SELECT count(*) FROM users WHERE email LIKE '%@x'"), 3000);
    assert_eq!(names(&machine), [""; 0]);
    machine.cts("--check --deep").success();
}

#[test]
fn a_database_whose_journal_is_damaged_is_refused_at_every_start_and_by_every_look() {
    let machine = interrupted();
    let backup = machine.path("backup");
    let older = Machine::migrated();
    fs::copy(older.db(), &backup).unwrap();
    let journal = machine.path("cts.db-journal");
    let mut bytes = fs::read(&journal).unwrap();
    // The checksum is of every 200th byte, from the end. (`pager_cksum` in pager.c)
    bytes[SECTOR_BYTES + 4 + 4096 - 2000] ^= 0xff;
    fs::write(&journal, &bytes).unwrap();
    let damaged = ["is damaged", "could not be rolled back whole", "cts.db-journal.unproved"];
    for start in ["migrate", "serve --port 0", "repair", "migrate"] {
        machine.cts(start).status(65).says(&damaged);
    }
    for look in ["status", "verify", "migrate --dry-run"] {
        machine.cts(look).status(65).says(&damaged);
    }
    machine.cts("--check").status(2).says(&damaged);
    machine.cts("doctor").status(2).says(&damaged[..1]);
    assert!(fs::read(machine.path("cts.db-journal.unproved")).unwrap() == bytes);
    // The backup is proved in its place.
    fs::copy(&backup, machine.db()).unwrap();
    machine.cts("migrate").success();
    assert_eq!(names(&machine), [""; 0]);
}
