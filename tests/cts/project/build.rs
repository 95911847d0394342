//! What the build refuses in `schema/`: each case is a copy of this project with one file changed,
//! built by cargo.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::support::harness::Machine;
use crate::support::project::{ProjectCopy, source};

#[test]
#[ignore = "sweep"]
fn the_build_proves_the_schema() {
    let copy = ProjectCopy::make("cts-copy", env!("CARGO_PKG_VERSION"));
    let extra = copy.path("schema/sqlite/072_extra.sql");
    let notes = copy.path("schema/sqlite/notes.sql");
    let write = |sql: &str| fs::write(&extra, sql).unwrap();

    write("-- a new one\n\nCREATE TABLE IF NOT EXISTS broken (id INTEGER,);\n");
    copy.refused(&["072_extra.sql, line 3", "syntax error", "CREATE TABLE IF NOT EXISTS broken"]);

    write("CREATE INDEX IF NOT EXISTS idx_users_email ON site_logs (level);\n");
    copy.refused(&["072_extra.sql, line 1", "used twice"]);

    write("INSERT INTO system_settings (key, value) VALUES (hex(randomblob(8)), 'x');\n");
    copy.refused(&["072_extra.sql, line 1", "not idempotent"]);

    write("CREATE INDEX idx_new ON site_logs (level);\n");
    copy.refused(&["072_extra.sql, line 1", "idx_new already exists"]);

    fs::rename(&extra, &notes).unwrap();
    copy.refused(&["notes.sql", "072_add_something.sql"]);
    fs::remove_file(&notes).unwrap();

    write("CREATE INDEX IF NOT EXISTS idx_new ON site_logs (user_id);\n");
    copy.refused(&["schema/sqlite/072_extra.sql", "no such file in schema/postgres"]);

    let other = copy.path("schema/postgres/072_extra.sql");
    let write = |sql: &str| fs::write(&other, sql).unwrap();
    write("-- a new one\n\nCREATE INDEX idx_new ON site_logs (user_id);\n");
    copy.refused(&["schema/postgres/072_extra.sql, line 3", "is not understood"]);

    write("CREATE INDEX IF NOT EXISTS idx_new ON site_logs (user_id DESC);\n");
    copy.refused(&["index idx_new: (user_id) in schema/sqlite, (user_id DESC) in schema/postgres"]);

    write(
        "CREATE INDEX IF NOT EXISTS idx_new ON site_logs (user_id);\n\
         ALTER TABLE users ADD COLUMN IF NOT EXISTS age INTEGER;\n",
    );
    copy.refused(&["users: column age is missing in schema/sqlite"]);

    write("SELECT $$;$$;\n");
    copy.refused(&["schema/postgres/072_extra.sql, line 1", "dollar quotes"]);

    write("CREATE INDEX IF NOT EXISTS idx_new ON site_logs (user_id);\n");
    let output = Command::new(copy.build().unwrap())
        .args(["migrate", "--dry-run", "--db"])
        .arg(copy.path("new.db"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("would apply 072_extra.sql (1 statements)"), "{said}");
}

/// The crates that a build depends on.
fn packages(features: &[&str]) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--package=cts", "-e", "normal", "--locked", "--offline", "--prefix=none"])
        .args(["--format", "{p}"])
        .args(features)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().filter_map(|line| Some(line.split(' ').next()?.to_string())).collect()
}

#[test]
fn only_the_build_with_postgresql_depends_on_its_crates() {
    let of_postgres = ["tokio-postgres", "tokio", "r2d2", "rustls", "ring"];
    let default = packages(&[]);
    assert!(default.iter().any(|name| name == "rusqlite"), "{default:?}");
    for name in of_postgres {
        assert!(!default.iter().any(|found| found == name), "{name} is in {default:?}");
    }
    // They are downloaded only where that feature was built before.
    if cfg!(feature = "postgres") {
        let all = packages(&["--features", "postgres"]);
        for name in of_postgres {
            assert!(all.iter().any(|found| found == name), "{name} is not in {all:?}");
        }
    }
}

/// The README's first command names no program.
#[test]
fn cargo_run_is_about_cts() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--locked", "--offline", "--format-version=1"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let default = metadata["workspace_default_members"].as_array().unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let packages = packages.iter().filter(|package| default.contains(&package["id"]));
    let targets = packages.flat_map(|package| package["targets"].as_array().unwrap());
    let programs = targets.filter(|target| target["kind"][0] == "bin");
    assert_eq!(programs.map(|target| &target["name"]).collect::<Vec<_>>(), ["cts"]);
}

/// `cargo run` passes what the build script sets to the program.
#[test]
fn what_the_build_sets_is_not_taken_for_a_setting() {
    let script = fs::read_to_string(source("build.rs")).unwrap();
    let names =
        script.split("cargo:rustc-env=").skip(1).map(|rest| rest.split('=').next().unwrap());
    let machine = Machine::new();
    let mut run = machine.cts("migrate");
    let mut count = 0;
    for name in names {
        run = run.env(name, "1");
        count += 1;
    }
    let done = run.success();
    assert!(count > 0 && !done.err().contains("no such setting"), "{}", done.err());
}
