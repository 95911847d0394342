//! cts for ARM, run here by QEMU, which emulates the processor: its code, SQLite's and that of the C library are those
//! of the machine, and the kernel is that of this one. The databases are compared with those of cts for this machine.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use rustix::process::Signal;

use super::release;
use crate::support::harness::{Machine, Run, for_each};
use crate::support::kills::kill_after;
use crate::support::not_tried;
use crate::support::older_databases::Old;

const EMULATOR: &str = "qemu-aarch64-static";

/// Sizes of a page of memory with which kernels for ARM are built: a Raspberry Pi 5 has 16 KiB, and some distributions
/// for servers have 64 KiB.
const PAGE_SIZES: [u32; 3] = [4 << 10, 16 << 10, 64 << 10];

/// The static binary for arm64, and the size of a page in the machine that is emulated.
struct Emulated {
    binary: PathBuf,
    page_bytes: u32,
}

impl Emulated {
    /// `None` where it cannot be built or run.
    fn new() -> Option<Emulated> {
        if Command::new(EMULATOR).arg("--version").output().is_err() {
            not_tried("cts for ARM: qemu-aarch64-static is missing (tests/run.sh installs it)");
            return None;
        }
        let binary = release::shared()?.static_for_arm64();
        Some(Emulated { binary, page_bytes: PAGE_SIZES[0] })
    }

    fn cts(&self, machine: &Machine, words: &str) -> Run {
        let mut run = Run::of(Path::new(EMULATOR), "-p").db(&machine.db());
        run.command.arg(self.page_bytes.to_string()).arg(&self.binary);
        run.command.args(words.split_whitespace());
        run
    }
}

#[test]
#[ignore = "sweep"]
fn on_arm64_a_database_is_created_damaged_repaired_backed_up_and_restored() {
    let Some(emulated) = Emulated::new() else { return };
    for_each(PAGE_SIZES, |page_bytes| {
        let emulated = Emulated { binary: emulated.binary.clone(), page_bytes };
        let machine = Machine::new();
        let cts = |words: &str| emulated.cts(&machine, words);
        cts("migrate").success().says(&["✓ All 22 critical tables verified"]);
        cts("--check --deep").success().says(&["CTS OK - sqlite, 22/22 core tables"]);
        // What follows depends on the processor, and not on its pages.
        if page_bytes != PAGE_SIZES[1] {
            return;
        }
        cts("status").success().says(&["4 of 4 applied"]);

        machine.sql("DROP INDEX idx_site_logs_time; DROP TABLE statistics_daily");
        cts("--check").status(1).says(&["statistics_daily"]);
        cts("verify").status(1).says(&["idx_site_logs_time"]);
        cts("repair").success();
        cts("verify").success();
        let found = cts("doctor").run();
        assert!(matches!(found.0.status.code(), Some(0 | 1)), "{}{}", found.out(), found.err());

        machine.sql("INSERT INTO users (username, password_hash) VALUES ('saved', 'x')");
        cts("backup").success();
        cts("backups").success().says(&[".db"]);
        machine.sql("DELETE FROM users");
        cts("restore latest").success();
        assert_eq!(machine.number("SELECT count(*) FROM users"), 1);
        // Each of the two finds what the other has made in order.
        machine.cts("--check --deep").success();
        machine.cts("backup").success();
        cts("--check --deep").success();
    });
}

#[test]
#[ignore = "sweep"]
fn on_arm64_an_older_database_is_adopted_as_on_this_machine() {
    let Some(emulated) = Emulated::new() else { return };
    for_each(Old::ALL, |old| {
        let [there, here] = [Machine::new(), Machine::new()];
        old.make(&there.db());
        old.make(&here.db());
        emulated.cts(&there, "migrate").success();
        here.cts("migrate").success();
        for (there, here) in content(&there.open()).iter().zip(&content(&here.open())) {
            assert_eq!(there, here, "{old:?}");
        }
        emulated.cts(&there, "--check --deep").success();
        here.cts("verify").success();
    });
}

/// The schema and all rows, without those in which cts writes down its own work, with its times.
fn content(conn: &Connection) -> Vec<String> {
    let year: String = conn.query_row("SELECT strftime('%Y-')", [], |row| row.get(0)).unwrap();
    // Older programs wrote text that is not UTF-8.
    let rows = |columns: &str, from: &str| -> Vec<String> {
        let mut statement = conn.prepare(&format!("SELECT {columns} FROM {from}")).unwrap();
        let count = statement.column_count();
        let row = |row: &Row<'_>| {
            // The times of this run; the rows of the older program are of 2025.
            let cell = |at| match row.get_ref(at)? {
                ValueRef::Text(text) if text.starts_with(year.as_bytes()) => Ok(ValueRef::Null),
                value => Ok(value),
            };
            let cells: rusqlite::Result<Vec<_>> = (0..count).map(cell).collect();
            Ok(format!("{from}: {:?}", cells?))
        };
        statement.query_map([], row).unwrap().map(Result::unwrap).collect()
    };
    let tables = tables(conn);
    let mut content = rows("type, name, sql", "sqlite_schema ORDER BY type, name");
    for table in tables {
        content.extend(rows("*", &table));
    }
    content
}

/// The names of the tables, quoted.
fn tables(conn: &Connection) -> Vec<String> {
    let mut names = conn
        .prepare(
            "SELECT format('\"%w\"', name) FROM sqlite_schema WHERE type = 'table' \
             AND name NOT IN ('migrations', 'site_logs') AND name NOT LIKE 'cts!_%' ESCAPE '!'",
        )
        .unwrap();
    names.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[test]
#[ignore = "sweep"]
fn on_arm64_the_service_answers_and_loses_nothing_when_it_is_killed() {
    let Some(emulated) = Emulated::new() else { return };
    for_each(PAGE_SIZES, |page_bytes| {
        let emulated = Emulated { binary: emulated.binary.clone(), page_bytes };
        let machine = Machine::new();
        let service = emulated.cts(&machine, "serve --port 0").start();
        service.until_status("healthy");
        assert_eq!(service.get("/readyz").code, 200);
        assert_eq!(service.get("/api/admin/migrations/status").json()["status"], "complete");
        assert!(service.get("/metrics").body.contains("process_resident_memory_bytes"));
        // Shared memory is mapped in whole pages.
        let shared_memory = machine.path("cts.db-shm").metadata().unwrap().len();
        if shared_memory < u64::from(page_bytes) {
            not_tried("cts for ARM on pages of 64 KiB: this version of QEMU does not emulate them");
        }
        machine.sql("INSERT INTO users (username, password_hash) VALUES ('before', 'x')");
        service.signal(Signal::KILL);
        service.end();

        let service = emulated.cts(&machine, "serve --port 0").start();
        service.until_status("healthy");
        machine.sql("INSERT INTO users (username, password_hash) VALUES ('after', 'x')");
        let url = format!("--check --url http://{}", service.address());
        emulated.cts(&machine, &url).success();
        emulated.cts(&machine, "--check --deep").success();
        let (code, log) = service.stop();
        assert_eq!(code, Some(0), "{log}");
        assert_eq!(machine.number("SELECT count(*) FROM users"), 2);
        assert!(!machine.path("cts.db-wal").exists(), "the WAL was emptied at the stop");
    });
}

#[test]
#[ignore = "sweep"]
fn on_arm64_a_migration_that_is_killed_is_completed_by_the_next() {
    let Some(emulated) = Emulated::new() else { return };
    for_each((0..8).map(|moment| Duration::from_millis(40 * moment)), |delay| {
        let machine = Machine::new();
        Old::Unified.make(&machine.db());
        kill_after(delay, emulated.cts(&machine, "migrate"));
        emulated.cts(&machine, "migrate").success();
        machine.cts("--check --deep").success();
    });
}
