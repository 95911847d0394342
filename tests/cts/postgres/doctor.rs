//! `cts doctor` on PostgreSQL: the server, the connection and the privileges of the role are
//! examined, each fault is reported with its remedy, and the database is not changed.

use std::fs::{self, Permissions};
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::certs::Certs;
use crate::support::cluster::{Cluster, Database};
use crate::support::harness::{Machine, Run};

/// It promises less than 10 s; the machine may be busy.
const WITHIN: Duration = Duration::from_secs(20);

fn doctor(database: &Database) -> Run {
    database.cts("doctor --json --port 0")
}

fn json(run: Run) -> (i32, Value) {
    let done = run.within(WITHIN);
    let all = done.out() + &done.err();
    // The password of the test's role, plain and percent-encoded.
    assert!(!all.contains("w:rd#") && !all.contains("p%40ss"), "{all}");
    (done.0.status.code().unwrap(), done.json())
}

/// Status, text and remedy of a finding.
fn found(report: &Value, group: &str, name: &str) -> (String, String, String) {
    let all = report["findings"].as_array().unwrap();
    let finding = all.iter().find(|finding| finding["group"] == group && finding["name"] == name);
    let finding = finding.unwrap_or_else(|| panic!("{group} {name}: {report:#}"));
    let text = |key: &str| finding[key].as_str().unwrap_or_default().to_string();
    (text("status"), text("what"), text("remedy"))
}

#[track_caller]
fn says(run: Run, code: i32, at: [&str; 3], what: &str, remedy: &str) -> Value {
    let (ended, report) = json(run);
    let [group, name, status] = at;
    let (is, said, try_this) = found(&report, group, name);
    assert_eq!((is.as_str(), ended), (status, code), "{report:#}");
    assert!(said.contains(what), "{what:?} is missing in {said:?}");
    assert!(try_this.contains(remedy), "{remedy:?} is missing in {try_this:?}");
    report
}

#[test]
fn a_sound_server_has_no_findings_and_is_not_changed() {
    let database = Cluster::shared().one_schema();
    let before = database.dump();
    let at = ["database", "database", "attention"];
    says(doctor(&database), 1, at, "schema cts has no table of CTS", "cts migrate");
    assert_eq!(database.dump(), before);
    database.cts("migrate").success();
    let before = database.dump();
    let (code, report) = json(doctor(&database));
    assert_eq!(database.dump(), before);
    assert!((0..=1).contains(&code), "{report:#}");
    for finding in report["findings"].as_array().unwrap() {
        let is_of_the_test = matches!(
            finding["group"].as_str(),
            Some("service" | "clock" | "endpoints" | "backups")
        ) || finding["name"] == "amcheck"
            || finding["name"] == "drill"
            // Before 14 a server goes on with a statement whose client is gone.
            || finding["name"] == "connection" && database.server_major() < 14
            || finding["name"] == "/etc/default/cts";
        assert!(finding["status"] == "good" || is_of_the_test, "{finding:#}");
    }
    assert!(found(&report, "configuration", "DATABASE_URL").1.contains(":***@"), "{report:#}");
    for (group, name, what) in [
        ("credentials", "password", "there is one"),
        ("server", "connection", "PostgreSQL "),
        ("server", "TLS", "not encrypted, on this machine"),
        ("server", "create", "in schema cts"),
        ("server", "rights", "owns all existing tables"),
        ("server", "connections", "CTS_POOL_MAX 20"),
        ("server", "pg_dump", "/bin/pg_dump "),
        ("database", "ledger", "4 migrations"),
        ("database", "schema", "as expected"),
        ("clock", "server", "of this machine differ by "),
    ] {
        let (status, said, _) = found(&report, group, name);
        let is_good = status == "good" || name == "connection" && database.server_major() < 14;
        assert!(is_good && said.contains(what), "{name}: {status}, {said}");
    }
    database.admin().batch_execute("CREATE EXTENSION IF NOT EXISTS amcheck").unwrap();
    let (_, report) = json(doctor(&database));
    assert_eq!(found(&report, "server", "amcheck").0, "good");
}

#[test]
fn a_refused_login_and_a_stopped_server_are_reported() {
    let database = Cluster::shared().owned();
    let at = ["server", "connection", "bad"];
    let wrong = database.url().replacen(":p%40ss", ":q%40ss", 1);
    assert_ne!(wrong, database.url());
    let run = doctor(&database).env("DATABASE_URL", &wrong);
    says(run, 2, at, "password authentication failed", "correct the password");
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = database.url_to(&free.to_string(), "sslmode=disable");
    says(doctor(&database).env("DATABASE_URL", url), 2, at, "connection refused", "pg_isready");
    // The kernel accepts connections, and nothing answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = database.url_to(&silent.local_addr().unwrap().to_string(), "sslmode=disable");
    let start = Instant::now();
    says(doctor(&database).env("DATABASE_URL", url), 2, at, "does not answer within", "network");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn missing_privileges_of_the_role_are_reported() {
    let cluster = Cluster::shared();
    let database = cluster.one_schema();
    database.cts("migrate").success();
    let role = &database.name;
    let admin = |sql: &str| database.admin().batch_execute(sql).unwrap();
    admin("ALTER TABLE cts.site_logs OWNER TO postgres");
    let run = || doctor(&database);
    says(run(), 2, ["server", "rights", "bad"], "DELETE on site_logs", "REASSIGN");
    admin(&format!("GRANT SELECT, INSERT, UPDATE, DELETE ON cts.site_logs TO \"{role}\""));
    says(run(), 1, ["server", "rights", "attention"], "does not own", "REASSIGN");
    admin(&format!("ALTER TABLE cts.site_logs OWNER TO \"{role}\""));
    admin("ALTER SCHEMA cts OWNER TO postgres");
    admin(&format!("REVOKE ALL ON SCHEMA cts FROM \"{role}\""));
    admin(&format!("GRANT USAGE ON SCHEMA cts TO \"{role}\""));
    says(run(), 2, ["server", "create", "bad"], "may not create", "GRANT USAGE, CREATE ON SCHEMA");
    admin(&format!("GRANT CREATE ON SCHEMA cts TO \"{role}\""));
    cluster.sql(&format!("ALTER ROLE \"{role}\" CONNECTION LIMIT 5"));
    says(run(), 1, ["server", "connections", "attention"], "LIMIT 5", "CTS_POOL_MAX");
    admin("DROP INDEX cts.idx_site_logs_time");
    let what = "index idx_site_logs_time";
    says(run(), 1, ["database", "schema", "attention"], what, "cts repair");
}

#[test]
fn a_standby_is_reported_and_its_database_is_inspected() {
    let primary = Cluster::builder().start();
    let database = primary.owned();
    database.cts("migrate").success();
    let standby = primary.standby();
    standby.catch_up_with(&primary);
    let copy = database.on(&standby);
    let at = ["database", "writable", "bad"];
    let report = says(doctor(&copy), 2, at, "in recovery (a standby)", "primary");
    assert_eq!(found(&report, "database", "schema").0, "good");
}

#[test]
fn a_password_file_readable_by_others_is_reported() {
    let machine = Machine::new();
    let database = Cluster::shared().owned();
    let (name, port) = (&database.name, Cluster::shared().port);
    let url = format!("postgresql://{name}@127.0.0.1:{port}/{name}?sslmode=disable");
    let file = machine.path("pass");
    fs::write(&file, "*:*:*:*:p@ss/w\\:rd#%?&=+'\"\\\\ x\n").unwrap();
    let run = || doctor(&database).env("DATABASE_URL", &url).env("PGPASSFILE", &file);
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let at = ["credentials", "password", "good"];
    says(run(), 1, at, "there is one", "");
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let at = ["credentials", "password file", "attention"];
    let remedy = format!("chmod 600 {}", file.display());
    let report = says(run(), 2, at, "is ignored", &remedy);
    assert_eq!(found(&report, "server", "connection").0, "bad");
}

/// An address of this machine that others can reach, if it has one.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent.
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_loopback())
}

#[test]
fn a_connection_to_another_host_must_be_encrypted_and_verified() {
    let Some(address) = own_address() else {
        crate::support::not_tried("this machine has no address that is not a loopback one");
        return;
    };
    let machine = Machine::new();
    let certs = Certs::make(machine.path("").as_path());
    let cluster = Cluster::builder()
        .tls(&certs.server)
        .set("listen_addresses", &format!("127.0.0.1,{address}"))
        .hba(&format!("host all all {address}/32 scram-sha-256"))
        .start();
    let database = cluster.owned();
    database.cts("migrate").success();
    let run = |parameters: &str| {
        let url = database.url_to(&format!("{address}:{}", cluster.port), parameters);
        doctor(&database).env("DATABASE_URL", url).env("SSL_CERT_FILE", &certs.other_ca)
    };
    let at = |status| ["server", "TLS", status];
    says(run("sslmode=disable"), 1, at("attention"), "not encrypted", "ssl=on");
    says(run("sslmode=require"), 1, at("attention"), "certificate is not verified", "verify-full");
    let ca = certs.ca.to_str().unwrap().replace('/', "%2F");
    let (code, report) = json(run(&format!("sslmode=verify-ca&sslrootcert={ca}")));
    assert_eq!(found(&report, "server", "TLS").0, "good", "{report:#}");
    assert!(code <= 1);
    // The default sslmode for such a host refuses an unverified server.
    let at = ["server", "connection", "bad"];
    says(run(""), 2, at, "is not signed by a known authority", "sslrootcert");
}

#[test]
fn a_dry_run_ends_as_the_run_would_where_the_role_may_not_create() {
    let database = Cluster::shared().one_schema();
    let role = &database.name;
    let admin = |sql: &str| database.admin().batch_execute(sql).unwrap();
    admin("ALTER SCHEMA cts OWNER TO postgres");
    admin(&format!("REVOKE ALL ON SCHEMA cts FROM \"{role}\""));
    admin(&format!("GRANT USAGE ON SCHEMA cts TO \"{role}\""));
    for words in ["migrate --dry-run", "migrate"] {
        database.cts(words).status(77).says(&["may not create tables in schema cts", "GRANT"]);
    }
    admin(&format!("GRANT CREATE ON SCHEMA cts TO \"{role}\""));
    for words in ["migrate --dry-run", "migrate", "migrate --dry-run"] {
        database.cts(words).success();
    }
    admin(&format!("REVOKE CREATE ON SCHEMA cts FROM \"{role}\""));
    database.cts("migrate --dry-run").success().says(&["nothing to do"]);
    database.cts("migrate").success();
}
