//! Settings as people and files write them: none leads to a second, empty database that is called healthy.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::harness::{Done, Machine, is_root};

/// All files below a folder, without the side files of a database.
fn files_below(folder: &Path) -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if !path.to_string_lossy().ends_with("-wal")
            && !path.to_string_lossy().ends_with("-shm")
        {
            files.insert(path);
        }
    }
    files
}

/// A run in the machine's folder with this value, given as a variable or as a flag.
fn with_path(machine: &Machine, words: &str, value: &str, by_flag: bool) -> Done {
    let mut run = machine.cts(words).env("HOME", machine.path(""));
    run.command.current_dir(machine.path(""));
    match by_flag {
        true => drop(run.command.env_remove("SQLITE_DB_PATH").arg("--db").arg(value)),
        false => drop(run.command.env("SQLITE_DB_PATH", value)),
    }
    run.run()
}

#[test]
fn no_spelling_of_the_path_makes_a_second_database() {
    let machine = Machine::migrated();
    let real = machine.db().display().to_string();
    let folder = machine.path("");
    let before = files_below(&folder);
    for value in [
        format!("{real}\r"),
        format!("{real} "),
        format!(" \t{real}\n"),
        format!("\"{real}\""),
        format!("'{real}' "),
        format!("\u{feff}{real}"),
        format!("{real}\u{a0}"),
        format!("{real}/"),
        format!("{real}\x1b"),
        format!("{real} # the database"),
        format!("{real};"),
        format!("sqlite:{real}"),
        format!("sqlite://{real}"),
        format!("file:{real}"),
        format!("file://{real}?mode=rwc"),
        format!("SQLITE_DB_PATH={real}"),
        "~/cts.db".into(),
        "$HOME/cts.db".into(),
        "${HOME}/cts.db".into(),
        ":memory:".into(),
        " ".into(),
        "\"\"".into(),
    ] {
        for by_flag in [false, true] {
            for words in ["migrate", "migrate --dry-run", "status", "repair"] {
                let done = with_path(&machine, words, &value, by_flag);
                let (code, all) = (done.0.status.code().unwrap(), done.out() + &done.err());
                assert!([0, 78].contains(&code), "{value:?} {words}: {code} {all}");
                let name = if by_flag { "--db: " } else { "SQLITE_DB_PATH: " };
                assert!(code == 0 || all.contains(name), "{value:?} {words}: {all}");
                assert!(!all.contains("nothing was changed") || words.ends_with("dry-run"));
                assert_eq!(files_below(&folder), before, "{value:?} {words}: {all}");
            }
        }
    }
}

#[test]
fn every_setting_is_read_without_what_an_environment_file_leaves_around_it() {
    let machine = Machine::new();
    let service = machine
        .serve()
        .env("HOST", "'127.0.0.1'\r")
        .env("CTS_LOCK_TIMEOUT", " 30s\r")
        .env("CTS_GROUP_ACCESS", "\"0\"")
        .env("CTS_ADMIN_TOKEN", "hunter2\r")
        .env("DATABASE_TYPE", "sqlite\r")
        .start();
    service.until_ready();
    for (name, value) in [
        ("CTS_ADMIN_TOKEN", "'hunter2'"),
        ("CTS_ADMIN_TOKEN", "hun\x1bter2"),
        ("CTS_ADMIN_TOKEN", "CTS_ADMIN_TOKEN=hunter2"),
        ("CTS_ADMIN_TOKEN", "hunter2\nhunter3"),
        ("PORT", "3000 # hunter"),
        ("HOST", "localhost:3000"),
        ("CTS_LOCK_TIMEOUT", "30\u{a0}\u{202e}s"),
    ] {
        let done = machine.cts("migrate").env(name, value).status(78).says(&[name]);
        assert!(name == "PORT" || !done.err().contains("hunter"), "{}", done.err());
    }
}

#[test]
fn a_database_of_exactly_the_written_name_is_still_found() {
    let machine = Machine::migrated();
    let odd = machine.path("cts.db\r");
    fs::rename(machine.db(), &odd).unwrap();
    machine.cts("--check").db(&odd).success().says(&["is used as it is written"]);
    machine.cts("migrate").db(&odd).success().says(&["⚠ SQLITE_DB_PATH: ", r"cts.db\r"]);
    assert!(!machine.db().exists());
    machine.cts("migrate").success();
    machine.cts("migrate").db(&odd).status(78).says(&["may mean two files"]);
}

#[test]
fn a_new_database_is_announced_and_so_are_its_new_folder_and_the_one_of_a_running_cts() {
    let machine = Machine::new();
    let done = machine.cts("migrate").success().says(&[
        "✓ Created ",
        "(24 tables, mode 0600)",
        "Look at it with `",
    ]);
    assert!(!done.err().contains("did not exist either"), "{}", done.err());
    let done = machine.cts("migrate").success();
    assert!(!done.err().contains("Created "), "{}", done.err());

    let service = machine.serve().start();
    service.until_ready();
    let other = machine.path("not/mounted/cts.db");
    let done = machine.cts("migrate").db(&other).success();
    for part in [
        "did not exist either and was created".to_string(),
        format!("{} is a new, empty database, and a running cts (pid ", other.display()),
        format!("uses another one: {}; ", machine.db().display()),
    ] {
        assert!(done.all_err().contains(&part), "{part:?} is missing in {}", done.all_err());
    }
}

#[test]
fn a_variable_that_is_not_read_is_named_with_the_one_that_is_meant() {
    let machine = Machine::migrated();
    for words in ["migrate", "status", "--check", "doctor --port 0"] {
        let run = machine.cts(words).env("CTS_GROUP_ACESS", "1").env("CTS_PORT", "1");
        run.run().says(&["CTS_GROUP_ACESS", "is CTS_GROUP_ACCESS meant?", "is PORT meant?"]);
    }
    assert!(machine.cts("migrate").success().err().lines().all(|line| !line.contains('⚠')));
}

/// Names below `/etc`, and contents.
type Files<'f> = &'f [(&'f str, &'f [u8])];

/// Runs cts where `/etc/default` and `/etc/systemd/system` have these files alone. `None` where this machine cannot.
fn beside_service(machine: &Machine, files: Files<'_>, words: &str) -> Option<Done> {
    if !is_root() {
        return None;
    }
    let etc = machine.path("etc");
    let _ = fs::remove_dir_all(&etc);
    for folder in ["default", "systemd/system"] {
        fs::create_dir_all(etc.join(folder)).unwrap();
    }
    for (name, content) in files {
        let file = etc.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }
    let mut run = Command::new("unshare");
    let script = format!(
        "set -e; mount --bind \"$0\"/default /etc/default; mkdir -p /etc/systemd/system; \
         mount --bind \"$0\"/systemd/system /etc/systemd/system; exec \"$1\" {words}"
    );
    run.args(["-m", "sh", "-c", &script]).arg(&etc);
    run.env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin").env("SQLITE_DB_PATH", machine.db());
    run.arg(env!("CARGO_BIN_EXE_cts"));
    let done = Done(run.output().unwrap());
    (!done.err().contains("unshare failed")).then_some(done)
}

const FILE: &str = "default/cts";
const UNIT: &str = "systemd/system/cts.service";
const DROP_IN: &str = "systemd/system/cts.service.d/db.conf";
/// The unit that is shipped.
const SHIPPED: &[u8] = include_bytes!("../../../systemd/cts.service");

#[test]
fn a_command_says_that_the_service_uses_another_database() {
    let machine = Machine::migrated();
    let file: &[u8] = b"# of this box\r\nSQLITE_DB_PATH=\"/srv/other.db\"\r\n";
    let both = [machine.db().display().to_string(), "/srv/other.db (/etc/default/cts)".into()];
    for words in ["status", "verify", "migrate", "--check", "migrate --dry-run", "doctor --port 0"]
    {
        let Some(done) = beside_service(&machine, &[(FILE, file)], words) else { return };
        let all = done.out() + &done.err();
        assert!(both.iter().all(|part| all.contains(part.as_str())), "{words}: {all}");
    }
    for name in ["cts.db", "cts.db-wal", "cts.db-shm"] {
        let _ = fs::remove_file(machine.path(name));
    }
    let done = beside_service(&machine, &[(FILE, file)], "migrate").unwrap();
    done.says(&["is a new, empty database, and /etc/default/cts names another one: /srv/other.db"]);
    let same = format!("SQLITE_DB_PATH={}\n", machine.db().display());
    for file in [same.as_bytes(), b"PORT=1\n", b"SQLITE_DB_PATH=\xff\n"] {
        let done = beside_service(&machine, &[(FILE, file)], "migrate").unwrap();
        assert!(!done.err().contains('⚠'), "{}", done.err());
    }
}

#[test]
fn a_command_says_so_where_the_unit_names_the_database_or_nothing_does() {
    let machine = Machine::migrated();
    let here = machine.db().display().to_string();
    let none: &[u8] = b"PORT=3100\n";
    let other: &[u8] =
        b"[Service]\nEnvironment=\"CTS_ADMIN_TOKEN=hush\" SQLITE_DB_PATH=/srv/other.db\n";
    let unit = [SHIPPED, b"\n", other].concat();
    let flag: &[u8] = b"[Service]\nExecStart=\nExecStart=/usr/bin/cts serve --db /srv/flag.db\n";
    let cases: &[(Files<'_>, &str)] = &[
        (&[(UNIT, SHIPPED), (FILE, none)], "/data/cts.db (the default)"),
        (&[(UNIT, SHIPPED)], "/data/cts.db (the default)"),
        (&[(UNIT, &unit)], "/srv/other.db (/etc/systemd/system/cts.service)"),
        (
            &[(UNIT, SHIPPED), (DROP_IN, other), (FILE, none)],
            "/srv/other.db (/etc/systemd/system/cts.service.d/db.conf)",
        ),
        (
            &[(UNIT, SHIPPED), (DROP_IN, flag)],
            "/srv/flag.db (/etc/systemd/system/cts.service.d/db.conf)",
        ),
        // The file overrides what the unit says.
        (
            &[(UNIT, &unit), (FILE, b"SQLITE_DB_PATH=/srv/file.db\n")],
            "/srv/file.db (/etc/default/cts)",
        ),
        (
            &[(UNIT, SHIPPED), (FILE, b"DATABASE_URL=postgresql://cts:hush@db.example/cts\n")],
            if cfg!(feature = "postgres") { "db.example" } else { "a PostgreSQL database" },
        ),
    ];
    for (files, there) in cases {
        for words in ["status", "migrate", "--check"] {
            let Some(done) = beside_service(&machine, files, words) else { return };
            let all = done.out() + &done.err();
            let warning = format!("this run uses {here}, and the service on this machine uses ");
            let (_, named) = all.split_once(&warning).unwrap_or_else(|| panic!("{there}: {all}"));
            assert!(named.contains(there), "{there} is not in {named}");
            assert!(!all.contains("hush"), "{all}");
        }
        // A flag says which database is meant.
        for words in ["status", "migrate", "--check"] {
            let words = format!("{words} --db {here}");
            let done = beside_service(&machine, files, &words).unwrap();
            let all = done.out() + &done.err();
            assert!(!all.contains("this run uses"), "{words}: {all}");
        }
    }
    // The database of a second service is not a wrong one; what a unit that does not serve uses does not count.
    for (command, is_warned) in [("serve", false), ("backup", true)] {
        let copy = "systemd/system/cts-paper.service";
        let unit = format!(
            "[Service]\nExecStart=/usr/bin/cts {command}\nEnvironment=SQLITE_DB_PATH={here}\n"
        );
        let files = [(UNIT, SHIPPED), (copy, unit.as_bytes())];
        let done = beside_service(&machine, &files, "status").unwrap();
        let all = done.out() + &done.err();
        assert_eq!(all.contains("this run uses"), is_warned, "{command}: {all}");
    }
}

#[test]
fn a_command_is_not_told_of_another_database_where_there_is_none_or_none_is_known() {
    let machine = Machine::migrated();
    let here = machine.db();
    let variable = format!("[Service]\nEnvironment=SQLITE_DB_PATH={}\n", here.display());
    let folder = format!(
        "[Service]\nWorkingDirectory={}\nEnvironment=SQLITE_DB_PATH=cts.db\n",
        here.parent().unwrap().display()
    );
    let cases: &[Files<'_>] = &[
        &[(UNIT, SHIPPED), (DROP_IN, variable.as_bytes())],
        &[(UNIT, SHIPPED), (DROP_IN, folder.as_bytes())],
        &[(UNIT, SHIPPED), (DROP_IN, b"[Service]\nEnvironment=SQLITE_DB_PATH=/srv/%H.db\n")],
        // An empty unit is masked.
        &[(UNIT, b""), (DROP_IN, b"[Service]\nEnvironment=SQLITE_DB_PATH=/srv/other.db\n")],
        &[(DROP_IN, b"[Service]\nEnvironment=SQLITE_DB_PATH=/srv/other.db\n")],
    ];
    for files in cases {
        let Some(done) = beside_service(&machine, files, "migrate") else { return };
        assert!(!done.err().contains('⚠'), "{files:?}: {}", done.err());
    }
}
