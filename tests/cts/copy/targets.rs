//! Targets: those that a copy may be written to, and those that are refused with nothing changed.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Output, Stdio};

use crate::support::cluster::Cluster;
use crate::support::harness::Run;

use super::{Ends, migrated_database, migrated_file, proved};

const USER: &str = "INSERT INTO users (username, password_hash) VALUES ('a', 'x')";

/// A source with a row, and a target that was migrated before.
fn prepared() -> Ends<'static> {
    let ends = Ends { machine: migrated_file(), database: migrated_database() };
    ends.machine.sql(USER);
    ends
}

/// A migrated target, changed by these statements, is refused with these words.
fn is_refused(sql: &str, says: &[&str]) {
    let ends = prepared();
    ends.database.sql(sql);
    ends.changes_nothing(ends.to_postgresql(""), 65, says);
}

#[test]
fn a_target_with_rows_is_refused() {
    is_refused(USER, &["users"]);
    is_refused(
        "INSERT INTO exchange_connections (id, name) VALUES ('c', 'c')",
        &["exchange_connections"],
    );
    is_refused(
        "INSERT INTO site_logs (level, category, message) VALUES ('info', 'trade', 'x')",
        &["site_logs"],
    );
    is_refused(
        "INSERT INTO system_settings (key, value) VALUES ('mine', '1')",
        &["system_settings"],
    );
    is_refused(
        "UPDATE system_settings SET value = '0.2' WHERE key = 'positionCost'",
        &["system_settings"],
    );
}

#[test]
fn a_target_that_is_newer_or_was_edited_is_refused() {
    let sum = "a".repeat(64);
    is_refused(
        &format!(
            "INSERT INTO migrations (name, checksum, version) VALUES ('072_later.sql', '{sum}', '3.2.0')"
        ),
        &["072_later.sql", "cts 3.2.0", "nothing was changed"],
    );
    is_refused(
        &format!("UPDATE migrations SET checksum = '{sum}' WHERE id = 2"),
        &["051_add_performance_indexes.sql", "nothing was changed"],
    );
}

#[test]
fn a_target_of_another_program_or_owner_is_refused() {
    let ends = Ends::with(USER);
    ends.database
        .sql("CREATE TABLE users (id INTEGER, songs TEXT); CREATE TABLE tracks (id INTEGER)");
    ends.changes_nothing(ends.to_postgresql(""), 65, &["another program", "users"]);
    let ends = prepared();
    ends.database.admin().batch_execute("ALTER TABLE users OWNER TO postgres").unwrap();
    let before = ends.database.dump();
    ends.to_postgresql("").status(77).says(&["users"]);
    assert_eq!(ends.database.dump(), before);
    // A role that may create nothing.
    let ends = Ends::with(USER);
    ends.database
        .admin()
        .batch_execute(
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC; ALTER SCHEMA public OWNER TO postgres",
        )
        .unwrap();
    ends.changes_nothing(ends.to_postgresql(""), 77, &["public"]);
}

/// Migrated, served for a while, repaired: all of that leaves rows of cts itself.
#[test]
fn a_target_that_was_prepared_before_is_filled() {
    for words in ["migrate", "serve --port 0"] {
        let ends = Ends::with(USER);
        match words {
            "migrate" => {
                ends.database.cts(words).success();
            }
            _ => {
                let service = ends.database.serve().start();
                service.until_ready();
                assert_eq!(service.stop().0, Some(0));
                ends.database.sql("DROP INDEX idx_site_logs_time");
                ends.database.cts("repair").success();
            }
        }
        assert!(ends.database.number("SELECT count(*) FROM site_logs") > 0);
        proved(&ends.to_postgresql("--json").success().json());
        assert_eq!(ends.database.texts("SELECT username FROM users"), ["a"]);
        let logs = |texts: Vec<String>| texts;
        let sql = "SELECT message FROM site_logs ORDER BY id";
        assert_eq!(logs(ends.database.texts(sql)), logs(ends.machine.texts(sql)), "{words}");
        ends.server_is_good();
        // It has rows now.
        ends.changes_nothing(ends.to_postgresql(""), 65, &["rows"]);
    }
}

/// The ledger may have rows before: those of this cts, and those of an older one, which stay.
#[test]
fn the_older_history_of_a_target_is_kept() {
    let ends = Ends::with("INSERT INTO migrations (name) VALUES ('unified_001'), ('unified_002')");
    ends.database.cts("migrate").success();
    ends.database.sql("INSERT INTO migrations (name) VALUES ('unified_001'), ('there before')");
    let report = ends.to_postgresql("--json").success().json();
    assert_eq!(report["equal"], true);
    let names = "SELECT name FROM migrations WHERE checksum IS NULL ORDER BY name";
    assert_eq!(
        ends.database.texts(names),
        ["there before", "unified_001", "unified_001", "unified_002"]
    );
    ends.server_is_good();
}

/// Tables of other programs beside it are left alone.
#[test]
fn other_tables_in_the_target_are_kept() {
    let ends = prepared();
    ends.database.sql("CREATE TABLE notes (id INTEGER); INSERT INTO notes VALUES (1)");
    ends.to_postgresql("").success();
    assert_eq!(ends.database.texts("SELECT id FROM notes"), ["1"]);
    // A schema of its own, in a database that belongs to somebody else.
    let ends = Ends { machine: migrated_file(), database: Cluster::shared().one_schema() };
    ends.machine.sql(USER);
    proved(&ends.to_postgresql("--json").success().json());
    assert_eq!(ends.database.texts("SELECT username FROM cts.users"), ["a"]);
    ends.server_is_good();
}

#[test]
fn a_pooler_between_does_not_matter() {
    for mode in ["transaction", "session"] {
        let ends = Ends::with(USER);
        let pooler = ends.database.pooler(mode, 3, "");
        let through = |run: Run| run.env("DATABASE_URL", pooler.url());
        let there = proved(&through(ends.to_postgresql("--json")).success().json());
        let back = proved(&through(ends.to_sqlite("--json")).success().json());
        assert_eq!(there, back);
        pooler.cts("verify").success();
        pooler.assert_clean();
    }
}

#[test]
fn a_file_that_exists_is_refused_and_kept() {
    let ends = Ends::backwards(USER);
    let back = ends.back();
    let refused = |code: i32| {
        ends.changes_nothing(ends.to_sqlite(""), code, &[back.to_str().unwrap()]);
    };
    migrated_file().open().execute("VACUUM INTO ?1", [back.to_str().unwrap()]).unwrap();
    refused(73);
    fs::write(&back, "").unwrap();
    refused(73);
    fs::remove_file(&back).unwrap();
    fs::create_dir(&back).unwrap();
    refused(73);
    fs::remove_dir(&back).unwrap();
    symlink(ends.machine.path("nowhere"), &back).unwrap();
    refused(65);
    fs::remove_file(&back).unwrap();
    // The WAL of a database that is gone.
    fs::write(ends.machine.path("back.db-wal"), "x".repeat(5000)).unwrap();
    refused(73);
    fs::remove_file(ends.machine.path("back.db-wal")).unwrap();
    // The database from before the move to the server is beside the path, as docs/moving.md has it.
    fs::write(ends.machine.path("back.db.before-postgresql"), "x".repeat(5000)).unwrap();
    ends.to_sqlite("").success();
    ends.machine.cts("--check").db(&back).success();
    // A folder that is not there is made, as for a first start.
    let deep = ends.machine.path("a/b/back.db");
    ends.to_sqlite("").db(&deep).success();
    ends.machine.cts("--check --deep").db(&deep).success();
}

fn at_once(runs: [Run; 2]) -> Vec<Output> {
    let start =
        |mut run: Run| run.command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let started: Vec<_> = runs.into_iter().map(start).collect();
    started.into_iter().map(|child| child.wait_with_output().unwrap()).collect()
}

/// One of two copies wins; the other says why it did not.
#[test]
fn of_two_copies_at_once_one_is_refused() {
    let rows = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) \
                INSERT INTO users (username, password_hash) SELECT 'user ' || i, 'x' FROM n";
    let ends = Ends::with(rows);
    // The other one may still be at work.
    let ways: [(&dyn Fn() -> Run, [i32; 2]); 2] =
        [(&|| ends.to_postgresql("--json"), [65, 65]), (&|| ends.to_sqlite("--json"), [73, 75])];
    for (copy, refusals) in ways {
        let outputs = at_once([copy(), copy()]);
        let said: Vec<_> = outputs
            .iter()
            .map(|output| {
                (
                    output.status.code().unwrap(),
                    String::from_utf8_lossy(&output.stderr).into_owned(),
                )
            })
            .collect();
        let mut codes: Vec<i32> = said.iter().map(|(code, _)| *code).collect();
        codes.sort_unstable();
        assert!(codes[0] == 0 && refusals.contains(&codes[1]), "{said:?}");
        let (_, error) = said.iter().find(|(code, _)| *code != 0).unwrap();
        let says = ["has rows", "already", "another cts copies a database to this path"];
        assert!(says.iter().any(|part| error.contains(part)), "{error}");
    }
    assert_eq!(ends.database.number("SELECT count(*) FROM users"), 300);
    ends.server_is_good();
    ends.machine.cts("verify").db(&ends.back()).success();
    let folder = ends.machine.files();
    let left: Vec<_> = folder
        .keys()
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            !name.starts_with("cts.db") && name != "back.db"
        })
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// The server alters a row as it is written: what turns triggers on again as soon as the copy has turned them off.
const ALTERS_ROWS: &str = "CREATE FUNCTION public.enable() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN \
        IF EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgname = 'alters' AND tgenabled = 'D') THEN \
            ALTER TABLE public.users ENABLE TRIGGER alters; \
        END IF; END $$; \
    CREATE EVENT TRIGGER enables ON ddl_command_end WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION public.enable()";

#[test]
fn a_copy_that_is_not_equal_is_rolled_back_and_its_rows_are_named() {
    let ends = prepared();
    ends.machine.sql("INSERT INTO users (username, password_hash) VALUES ('b', 'x'), ('c', 'x')");
    ends.database.sql(
        "CREATE FUNCTION alter_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             new.role = 'admin'; RETURN new; END $$; \
         CREATE TRIGGER alters BEFORE INSERT ON users FOR EACH ROW WHEN (new.username = 'b') EXECUTE FUNCTION alter_row()",
    );
    ends.database.admin().batch_execute(ALTERS_ROWS).unwrap();
    let says = [
        "table users is not equal on both sides: 3 rows",
        "by id: 2 differs",
        "nothing was changed",
    ];
    ends.changes_nothing(ends.to_postgresql(""), 65, &says);
    ends.database.admin().batch_execute("DROP EVENT TRIGGER enables").unwrap();
    proved(&ends.to_postgresql("--json").success().json());
}
