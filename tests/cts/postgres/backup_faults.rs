//! What must not go wrong with backups by `pg_dump`: passwords that are seen, kills, full disks, damaged files.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::backup::{cts, files, filled, waiting};
use crate::support::certs::Certs;
use crate::support::cluster::{Cluster, Database};
use crate::support::harness::{Machine, Run, await_that, for_each, is_root, leave_free};
use crate::support::kills::{KillSweep, kill_after};
use crate::support::random::Random;

/// No variable and no argument of another program holds it.
const SECRET: &str = "Kq7' \"\\$`;:@/%?&=#é Zw9";

/// Processes of this machine of which this file in /proc holds the secret, by the name of their program.
fn holders(file: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let holds = |path: &PathBuf| {
        let bytes = fs::read(path.join(file)).unwrap_or_default();
        bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes())
    };
    let paths = entries.map(|entry| entry.path()).filter(holds);
    paths
        .map(|path| fs::read_to_string(path.join("comm")).unwrap_or_default().trim().to_string())
        .collect()
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// A run whose URL, with the secret, is in a file.
fn with_secret(database: &Database, machine: &Machine, words: &str) -> Run {
    let (name, port) = (&database.name, Cluster::shared().port);
    let url =
        format!("postgresql://{name}:{}@127.0.0.1:{port}/{name}?sslmode=disable", encoded(SECRET));
    let path = machine.path("url");
    fs::write(&path, url).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let mut run = cts(database, machine, words).env("DATABASE_URL_FILE", path);
    run.command.env_remove("DATABASE_URL");
    run
}

#[test]
fn only_the_environment_of_pg_dump_holds_the_password() {
    let (database, machine) = (Cluster::shared().owned(), Machine::new());
    filled(&database, 1);
    let password = SECRET.replace('\'', "''");
    Cluster::shared().sql(&format!("ALTER ROLE \"{}\" PASSWORD '{password}'", database.name));
    let mut holder = database.open();
    holder.batch_execute("BEGIN; LOCK TABLE own IN ACCESS EXCLUSIVE MODE").unwrap();
    let run = with_secret(&database, &machine, "backup -v").start();
    await_that("pg_dump runs", || holders("environ") == ["pg_dump"]);
    assert_eq!(holders("cmdline"), [""; 0]);
    holder.batch_execute("ROLLBACK").unwrap();
    let (code, log) = run.end();
    assert_eq!(code, Some(0), "{log}");
    let backup = files(&machine.path("backups"));
    for name in backup {
        let bytes = fs::read(machine.path("backups").join(name)).unwrap();
        assert!(!bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()));
    }
    // A failure of pg_dump alone: its connection is ended.
    holder.batch_execute("BEGIN; LOCK TABLE own IN ACCESS EXCLUSIVE MODE").unwrap();
    let run = with_secret(&database, &machine, "backup -v").start();
    await_that("pg_dump runs", || holders("environ") == ["pg_dump"]);
    let end = "SELECT count(*) FROM pg_stat_activity a, pg_terminate_backend(a.pid) \
        WHERE a.application_name = 'cts backup' AND a.datname = '";
    await_that("its session is ended", || {
        Cluster::shared().number(&format!("{end}{}'", database.name)) == 1
    });
    let (code, log) = run.end();
    assert!(matches!(code, Some(74 | 75)), "{log}");
    assert!(log.contains("pg_dump: ") && !log.contains("Kq7") && !log.contains("Zw9"), "{log}");
    assert_eq!(log.lines().count(), log.lines().filter(|line| line.starts_with("[v0] ")).count());
}

#[test]
fn a_backup_connects_as_cts_does_by_tls_with_a_certificate_and_over_a_socket() {
    let machine = Machine::new();
    let certs = Certs::make(machine.path("").as_path());
    let cluster = Cluster::builder().tls(&certs.server).start();
    let database = cluster.owned();
    if database.has_pg_dump_without_tls() {
        crate::support::not_tried("this pg_dump was built without TLS");
        return;
    }
    filled(&database, 1);
    let path = |path: &Path| path.to_str().unwrap().replace('/', "%2F");
    let host = format!("localhost:{}", cluster.port);
    let run = |url: String| cts(&database, &machine, "backup").env("DATABASE_URL", url);
    let verified = format!("sslmode=verify-full&sslrootcert={}", path(&certs.ca));
    run(database.url_to(&host, &verified)).success();
    run(database.url_to(&host, &format!("{verified}&channel_binding=require"))).success();
    // The default of a host that is not local, with the authorities of the system.
    let of_system = database.url_to(&host, "sslrootcert=system");
    run(of_system.clone()).env("SSL_CERT_FILE", &certs.ca).success();
    run(of_system).env("SSL_CERT_FILE", &certs.other_ca).status(78);
    let socket = format!("{}:{}", path(&cluster.folder()), cluster.port);
    run(database.url_to(&socket, "")).success();
    let both = format!("127.0.0.1:1,{host}");
    run(database.url_to(&both, &verified)).success();
    // Of one day, the rules keep the newest.
    assert_eq!(files(&machine.path("backups")).len(), 3);
}

#[test]
#[ignore = "sweep"]
fn a_kill_at_any_moment_leaves_a_whole_backup_or_none_and_no_program() {
    let (database, machine) = (Cluster::shared().owned(), Machine::new());
    filled(&database, 20_000);
    let start = Instant::now();
    cts(&database, &machine, "backup").success();
    let sweep = KillSweep::<bool>::over(start.elapsed());
    let folders = Mutex::new(0_u32);
    for_each(sweep.moments(), |(_, delay)| {
        let machine = Machine::new();
        let is_killed = kill_after(delay, cts(&database, &machine, "backup"));
        let folder = machine.path("backups");
        let names = files(&folder);
        let has_backup = names.iter().any(|name| name.ends_with(".dump"));
        assert!(is_killed || has_backup);
        if has_backup {
            cts(&database, &machine, "backups").success().says(&[".dump"]);
        }
        let program = folder.to_str().unwrap().to_string();
        await_that("no program of it is left", || programs_in(&program).is_empty());
        cts(&database, &machine, "backup").success();
        *folders.lock().unwrap() += 1;
        sweep.record(is_killed, has_backup);
    });
    sweep.found("a backup of PostgreSQL");
    await_that("no session is left", || database.sessions_of_cts() == 0);
}

/// Programs of PostgreSQL that have a file in this folder open.
fn programs_in(folder: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let is_one = |path: &PathBuf| {
        let comm = fs::read_to_string(path.join("comm")).unwrap_or_default();
        let files = fs::read_dir(path.join("fd")).into_iter().flatten().flatten();
        let mut open = files.filter_map(|file| fs::read_link(file.path()).ok());
        comm.starts_with("pg_") && open.any(|file| file.to_string_lossy().contains(folder))
    };
    processes.filter(is_one).map(|path| path.display().to_string()).collect()
}

#[test]
fn a_limit_on_file_sizes_is_named_as_that_and_leaves_nothing() {
    let (database, machine) = (Cluster::shared().owned(), Machine::new());
    filled(&database, 5000);
    for level in [0_u64, 4096, 100_000, 200_000] {
        let mut command = Command::new("prlimit");
        command.env_clear().env("DATABASE_URL", database.url());
        command.env("CTS_BACKUP_DIR", machine.path("backups"));
        command.arg(format!("--fsize={level}")).arg(env!("CARGO_BIN_EXE_cts")).arg("backup");
        let done = Run { command }.within(Duration::from_secs(60));
        assert_eq!(done.0.status.code(), Some(74), "{level}: {}", done.err());
        let log = done.err();
        let is_named = log.contains("may not grow beyond") || log.contains("cannot be written");
        assert!(is_named, "{level}: {log}");
        assert_eq!(files(&machine.path("backups")), [""; 0], "{level}");
    }
    cts(&database, &machine, "backup").success();
}

/// Where there is too little room at first, no backup is begun; here another program fills the disk meanwhile.
#[test]
fn a_disk_that_fills_while_pg_dump_runs_is_named_and_nothing_is_left() {
    if !is_root() {
        crate::support::not_tried("only root can mount a small disk");
        return;
    }
    let (database, machine) = (Cluster::shared().owned(), Machine::new());
    filled(&database, 20_000);
    let disk = machine.path("disk");
    fs::create_dir(&disk).unwrap();
    let mount =
        |words: &[&str]| Command::new(words[0]).args(&words[1..]).arg(&disk).status().unwrap();
    assert!(mount(&["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs"]).success());
    let run = || database.cts("backup").env("CTS_BACKUP_DIR", disk.join("backups"));
    let mut holder = database.open();
    let mut done = Vec::new();
    for level in [0, 4096, 100_000, 300_000, 500_000] {
        holder.batch_execute("BEGIN; LOCK TABLE own IN ACCESS EXCLUSIVE MODE").unwrap();
        let run = run().start();
        await_that("pg_dump waits for the table", || waiting(&database) == 1);
        leave_free(&disk, level);
        holder.batch_execute("ROLLBACK").unwrap();
        done.push((level, run.end(), files(&disk.join("backups"))));
        fs::remove_file(disk.join("filler")).unwrap();
    }
    let last = run().run();
    assert!(mount(&["umount", "-l"]).success());
    for (level, (code, log), left) in done {
        assert_eq!(code, Some(74), "{level}: {log}");
        assert!(log.contains("free some space on that disk"), "{level}: {log}");
        assert_eq!(left, [""; 0], "{level}");
    }
    assert!(last.0.status.success(), "{}", last.err());
}

/// Ways to damage a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Harm {
    Truncated,
    FlippedBit,
    Zeroed,
}

#[test]
#[ignore = "sweep"]
fn of_damaged_backups_without_a_sha_256_none_passes_with_other_rows() {
    let (database, machine) = (Cluster::shared().owned(), Machine::new());
    Cluster::shared().sql(&format!("ALTER ROLE \"{}\" CREATEDB", database.name));
    filled(&database, 3000);
    cts(&database, &machine, "backup").success();
    let folder = machine.path("backups");
    let name = files(&folder).into_iter().find(|name| name.ends_with(".dump")).unwrap();
    let good = fs::read(folder.join(&name)).unwrap();
    let mut random = Random(7);
    let (mut found, mut passed) = (BTreeMap::<Harm, u32>::new(), BTreeMap::<Harm, u32>::new());
    for number in 0..99 {
        let harm = [Harm::Truncated, Harm::FlippedBit, Harm::Zeroed][number % 3];
        let (mut bytes, at) = (good.clone(), random.below(good.len()));
        match harm {
            Harm::Truncated => bytes.truncate(at),
            Harm::FlippedBit => bytes[at] ^= 1 << random.below(8),
            Harm::Zeroed => bytes[at..good.len().min(at + 512)].fill(0),
        }
        let path = machine.path(&format!("harmed-{number}.dump"));
        fs::write(&path, &bytes).unwrap();
        // With the SHA-256 every one is found.
        let digest = fs::read(folder.join(format!("{name}.sha256"))).unwrap();
        let beside = PathBuf::from(format!("{}.sha256", path.display()));
        fs::write(&beside, digest).unwrap();
        let verify = || database.cts(&format!("backup --verify {}", path.display()));
        if bytes != good {
            verify().status(65).says(&["SHA-256"]);
        }
        fs::remove_file(beside).unwrap();
        let done = verify().run();
        let counts = if done.0.status.success() { &mut passed } else { &mut found };
        *counts.entry(harm).or_default() += 1;
        assert!(matches!(done.0.status.code(), Some(0 | 65)), "{harm:?} {at}: {}", done.err());
        fs::remove_file(path).unwrap();
    }
    eprintln!("found by reading {found:?}, passed without a SHA-256 {passed:?}");
    assert_eq!(passed.get(&Harm::Truncated), None);
}

#[test]
fn a_program_that_ignores_to_end_is_ended_with_the_backup() {
    let (database, machine) = (Cluster::shared().owned(), Machine::new());
    filled(&database, 1);
    let version = database.server_major();
    for name in ["pg_dump", "pg_restore"] {
        let text = format!(
            "#!/bin/sh\nif [ \"$1\" = --version ]; then echo '{name} (PostgreSQL) {version}.0'; exit; fi\n\
             trap '' TERM; echo begun > {}; while :; do sleep 0.1; done\n",
            machine.path("begun").display()
        );
        fs::write(machine.path(name), text).unwrap();
        fs::set_permissions(machine.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let run = cts(&database, &machine, "backup")
        .env("CTS_PG_DUMP", machine.path("pg_dump"))
        .env("PATH", "/usr/bin:/bin")
        .start();
    await_that("the program runs", || machine.path("begun").exists());
    run.signal(Signal::TERM);
    let (code, log) = run.end();
    assert_eq!(code, Some(75), "{log}");
    assert_eq!(files(&machine.path("backups")), [""; 0]);
}
