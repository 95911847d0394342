//! Tests of the test servers themselves.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use postgres::{Client, NoTls};

use crate::support::certs::Certs;
use crate::support::cluster::{
    Cluster, Database, Mode, folder_of_all_servers, number, processes_of,
};
use crate::support::harness::{Machine, TIMEOUT, await_that};
use crate::support::patroni::Patroni;

/// Connects as cts does: over TCP, with the password.
fn open(database: &Database) -> Client {
    Client::connect(&database.url(), NoTls).unwrap()
}

#[test]
fn a_killed_server_restarts_with_all_committed_rows() {
    let cluster = Cluster::builder().set("max_connections", "20").start();
    let database = cluster.owned();
    let mut client = open(&database);
    client.batch_execute("CREATE TABLE t (n int); INSERT INTO t VALUES (7)").unwrap();
    cluster.kill();
    assert!(client.simple_query("SELECT 1").is_err());
    cluster.start_again();
    assert_eq!(number(&mut open(&database), "SELECT n FROM t"), 7);
    assert_eq!(number(&mut open(&database), "SHOW max_connections"), 20);
    for mode in [Mode::Fast, Mode::Immediate] {
        cluster.stop(mode);
        cluster.start_again();
        assert_eq!(database.number("SELECT n FROM t"), 7);
    }
}

#[test]
fn a_paused_server_does_not_answer_until_it_is_resumed() {
    let cluster = Cluster::builder().start();
    let database = cluster.owned();
    cluster.pause();
    thread::scope(|scope| {
        let asked = scope.spawn(|| number(&mut open(&database), "SELECT 7"));
        thread::sleep(Duration::from_millis(200));
        assert!(!asked.is_finished());
        cluster.resume();
        assert_eq!(asked.join().unwrap(), 7);
    });
}

#[test]
fn a_standby_follows_and_can_be_promoted() {
    let primary = Cluster::builder().start();
    let standby = primary.standby();
    let database = primary.owned();
    let copy = database.on(&standby);
    database.sql("CREATE TABLE t (n int); INSERT INTO t VALUES (7)");
    standby.catch_up_with(&primary);
    assert_eq!(copy.number("SELECT n FROM t"), 7);
    assert!(open(&copy).simple_query("DELETE FROM t").is_err());
    primary.kill();
    standby.promote();
    open(&copy).batch_execute("INSERT INTO t VALUES (8)").unwrap();
    assert_eq!(copy.number("SELECT sum(n) FROM t"), 15);
}

#[test]
fn each_role_has_its_privileges_and_no_more() {
    let owned = Cluster::shared().owned();
    owned.sql("CREATE SCHEMA mine; CREATE TABLE public.t (n int)");
    let one_schema = Cluster::shared().one_schema();
    one_schema.sql("CREATE TABLE t (n int)");
    assert_eq!(one_schema.texts("SELECT 't'::regclass::oid::regclass"), ["t"]);
    assert_eq!(one_schema.number("SELECT count(*) FROM cts.t"), 0);
    for refused in ["CREATE SCHEMA mine", "CREATE TABLE public.t (n int)"] {
        let error = open(&one_schema).batch_execute(refused).unwrap_err();
        assert_eq!(error.code().map(|code| code.code()), Some("42501"), "{refused}");
    }
}

#[test]
fn a_full_tablespace_refuses_rows() {
    // A private server: its checkpoints fail while the tablespace is full, and without a checkpoint
    // no database can be created or dropped on a server.
    let cluster = Cluster::builder().start();
    let Some(disk) = cluster.small_tablespace(24) else { return };
    let database = disk.database();
    database.sql("CREATE TABLE t (x text)");
    let fill = "INSERT INTO t SELECT repeat('x', 1000) FROM generate_series(1, 1000)";
    cluster.sql("CHECKPOINT");
    disk.leave(0);
    let error = open(&database).batch_execute(fill).unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some("53100"), "{error:?}");
    disk.leave(8 << 20);
    database.sql(fill);
}

#[test]
fn a_server_shows_the_certificate_it_is_given() {
    let machine = Machine::new();
    let certs = Certs::make(machine.path("").as_path());
    for (pair, ca, verdict) in [
        (&certs.server, &certs.ca, "Verification: OK"),
        (&certs.server, &certs.other_ca, "unable to verify the first certificate"),
        (&certs.foreign, &certs.ca, "hostname mismatch"),
        (&certs.expired, &certs.ca, "certificate has expired"),
    ] {
        let cluster = Cluster::builder().tls(pair).start();
        let mut command = Command::new("openssl");
        command.args(["s_client", "-starttls", "postgres", "-verify_hostname", "localhost"]);
        command.args(["-connect", &format!("127.0.0.1:{}", cluster.port)]);
        let shown = command.arg("-CAfile").arg(ca).stdin(Stdio::null()).output().unwrap();
        let shown = String::from_utf8_lossy(&shown.stdout);
        assert!(shown.contains(verdict), "{verdict}:\n{shown}");
    }
}

/// Starts a second process of this test that calls `start`, kills it, and waits until none of these
/// programs runs and the folder is gone. `start` returns false where the servers are not installed.
fn end_with_the_tests(programs: &[&str], start: impl Fn() -> bool) {
    const INSIDE: &str = "CTS_TEST_KILLED_WITH_A_SERVER";
    if std::env::var_os(INSIDE).is_some() {
        if start() {
            println!("folder {}", folder_of_all_servers().display());
            thread::sleep(TIMEOUT);
        }
        return;
    }
    let name = thread::current().name().unwrap().to_string();
    let mut tests = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture", "--include-ignored"])
        .env(INSIDE, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(tests.stdout.take().unwrap()).lines().map(Result::unwrap);
    let folder = lines.filter_map(|line| line.split_once("folder ").map(|(_, path)| path.into()));
    let Some(folder): Option<PathBuf> = { folder }.next() else {
        assert!(tests.wait().unwrap().success());
        return;
    };
    let title = folder.file_name().unwrap().to_str().unwrap();
    let runs = |program: &&str| !processes_of(&[program], title).is_empty();
    assert!(programs.iter().all(runs), "{programs:?}");
    tests.kill().unwrap();
    tests.wait().unwrap();
    await_that("all is gone", || !programs.iter().any(runs) && !folder.exists());
}

#[test]
fn no_server_outlives_the_tests() {
    end_with_the_tests(&["postgres"], || {
        let cluster = Cluster::builder().start();
        cluster.pause();
        std::mem::forget(cluster);
        true
    });
}

#[test]
#[ignore = "sweep"]
fn no_program_of_patroni_outlives_the_tests() {
    end_with_the_tests(&["postgres", "python3", "haproxy"], || {
        let Some(patroni) = Patroni::begin() else { return false };
        patroni.leader();
        std::mem::forget(patroni);
        true
    });
}
