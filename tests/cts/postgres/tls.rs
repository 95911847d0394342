//! TLS with real servers: what each `sslmode` accepts and refuses, and the remedies. Expected is
//! what PostgreSQL documents for libpq ("SSL Mode Descriptions"), except where cts documents that
//! it is stricter.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;

use crate::support::certs::Certs;
use crate::support::cluster::{Cluster, Database, texts};
use crate::support::harness::{Machine, for_each};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Shown {
    NoTls,
    Good,
    Foreign,
    Expired,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Trusted {
    Nobody,
    Right,
    Wrong,
}

/// The exit codes of `cts migrate` and of `cts --check`, and texts of the message.
type Verdict = (i32, i32, &'static [&'static str]);

const TAKEN: Verdict = (0, 0, &[]);
const NO_TLS: Verdict =
    (78, 3, &["the server does not support TLS, and sslmode=", "set ssl=on at the server"]);
const NO_ROOT: Verdict =
    (78, 3, &["sslmode=verify-ca: no root certificate is configured", "set sslrootcert="]);
const NOT_KNOWN: Verdict =
    (78, 3, &["is not signed by a known authority", "set sslrootcert=", "sslmode=require"]);
const OTHER_AUTHORITY: Verdict = (
    78,
    3,
    &["is not signed by an authority in ", "other-ca.crt", "put the certificate of the authority"],
);
const OTHER_NAME: Verdict =
    (78, 3, &["certificate is for db.example.com, not for this host", "sslmode=verify-ca"]);
const TOO_OLD: Verdict = (69, 2, &["certificate has expired", "renew it", "clock"]);

fn verdict(shown: Shown, mode: &str, trusted: Trusted) -> Verdict {
    match (mode, trusted, shown) {
        ("disable" | "prefer", _, _) => TAKEN,
        ("verify-ca", Trusted::Nobody, _) => NO_ROOT,
        (_, _, Shown::NoTls) => NO_TLS,
        ("require", Trusted::Nobody, _) => TAKEN,
        // The validity period is checked before the signature.
        (_, _, Shown::Expired) => TOO_OLD,
        (_, Trusted::Nobody, _) => NOT_KNOWN,
        (_, Trusted::Wrong, _) => OTHER_AUTHORITY,
        ("verify-full", Trusted::Right, Shown::Foreign) => OTHER_NAME,
        (_, Trusted::Right, _) => TAKEN,
    }
}

fn encoded(path: &Path) -> String {
    path.to_str().unwrap().replace('/', "%2F")
}

fn url(database: &Database, cluster: &Cluster, host: &str, parameters: &str) -> String {
    database.url_to(&format!("{host}:{}", cluster.port), parameters)
}

#[test]
fn each_sslmode_accepts_what_libpq_documents() {
    let machine = Machine::new();
    let certs = Certs::make(machine.path("").as_path());
    // The certificates of the system contain only an authority that has signed nothing here.
    let system = certs.other_ca.clone();
    let servers = [
        (Shown::NoTls, None),
        (Shown::Good, Some(&certs.server)),
        (Shown::Foreign, Some(&certs.foreign)),
        (Shown::Expired, Some(&certs.expired)),
    ];
    for_each(servers, |(shown, pair)| {
        let cluster = match pair {
            Some(pair) => Cluster::builder().tls(pair).start(),
            None => Cluster::builder().start(),
        };
        let database = cluster.owned();
        database.cts("migrate").success();
        for mode in ["disable", "prefer", "require", "verify-ca", "verify-full"] {
            for trusted in [Trusted::Nobody, Trusted::Right, Trusted::Wrong] {
                let root = match trusted {
                    Trusted::Nobody => String::new(),
                    Trusted::Right => format!("&sslrootcert={}", encoded(&certs.ca)),
                    Trusted::Wrong => format!("&sslrootcert={}", encoded(&certs.other_ca)),
                };
                let url = url(&database, &cluster, "localhost", &format!("sslmode={mode}{root}"));
                let (migrate, check, says) = verdict(shown, mode, trusted);
                for (words, code) in [("--check", check), ("migrate", migrate)] {
                    if (words, code) == ("migrate", 0) {
                        // It connects in the same way as `--check`.
                        continue;
                    }
                    let run = database.cts(words).env("DATABASE_URL", &url);
                    let done = run.env("SSL_CERT_FILE", &system).env("CTS_WAIT", "0").run();
                    let what = format!("{words}, {shown:?}, {mode}, {trusted:?}");
                    let all = done.out() + &done.err();
                    assert_eq!(done.0.status.code(), Some(code), "{what}: {all}");
                    done.says(says);
                }
            }
        }
    });
}

#[test]
fn a_valid_certificate_encrypts_and_binds_the_login() {
    let machine = Machine::new();
    let certs = Certs::make(machine.path("").as_path());
    let cluster = Cluster::builder().tls(&certs.server).start();
    let database = cluster.owned();
    let cts = |words: &str, parameters: &str| {
        let url = url(&database, &cluster, "127.0.0.1", parameters);
        database.cts(words).env("DATABASE_URL", url).env("CTS_WAIT", "0")
    };
    let full = format!("sslmode=verify-full&sslrootcert={}", encoded(&certs.ca));
    let service = cts("serve --port 0", &full).start();
    service.until_ready();
    let encrypted = "SELECT s.ssl::text FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) \
        WHERE application_name = 'cts'";
    let sessions = texts(&mut database.admin(), encrypted);
    assert!(!sessions.is_empty() && sessions.iter().all(|ssl| ssl == "true"), "{sessions:?}");
    service.until_status("healthy");
    drop(service);
    // Without `sslmode`, a connection to a local server is encrypted if the server supports it.
    let service = cts("serve --port 0", "").start();
    service.until_ready();
    assert!(texts(&mut database.admin(), encrypted).iter().all(|ssl| ssl == "true"));
    drop(service);

    cts("--check", &format!("{full}&channel_binding=require")).success();
    let done = cts("--check", "sslmode=disable&channel_binding=require").status(3);
    done.says(&["channel binding"]);
    // The certificates of the system, and `~/.postgresql/root.crt`.
    cts("--check", "sslmode=verify-full").env("SSL_CERT_FILE", &certs.ca).success();
    cts("--check", "sslrootcert=system").env("SSL_CERT_FILE", &certs.ca).success();
    let home = machine.path("home");
    fs::create_dir_all(home.join(".postgresql")).unwrap();
    for (ca, code) in [(&certs.ca, 0), (&certs.other_ca, 3)] {
        fs::copy(ca, home.join(".postgresql/root.crt")).unwrap();
        for mode in ["require", "verify-ca", "verify-full"] {
            cts("--check", &format!("sslmode={mode}")).env("HOME", &home).status(code);
        }
        cts("--check", "sslmode=prefer").env("HOME", &home).success();
    }
    for (root, says) in [("/nowhere/ca.pem", "cannot be read"), ("/etc/passwd", "no certificate")] {
        let parameters = format!("sslmode=verify-full&sslrootcert={root}");
        cts("migrate", &parameters).status(78).says(&["sslrootcert", root, says]);
    }
    cts("migrate", "sslmode=always").status(78).says(&["sslmode"]);
}

/// An address of this machine that others can reach, if it has one.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent.
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_loopback())
}

#[test]
fn a_server_on_another_host_must_be_verified() {
    let Some(address) = own_address() else {
        eprintln!("NOT TRIED: this machine has no address that is not a loopback one");
        return;
    };
    let machine = Machine::new();
    let certs = Certs::make(machine.path("").as_path());
    let start = |builder: crate::support::cluster::Builder| {
        builder
            .set("listen_addresses", &format!("127.0.0.1,{address}"))
            .hba(&format!("host all all {address}/32 scram-sha-256"))
            .start()
    };
    let (plain, tls) = (start(Cluster::builder()), start(Cluster::builder().tls(&certs.server)));
    let address = address.to_string();
    for (cluster, says) in [
        (
            &plain,
            [
                "the server does not support TLS, and sslmode=verify-full (set, or the default for a host",
                "sslmode=disable",
            ],
        ),
        (&tls, ["is not signed by a known authority", "set sslrootcert="]),
    ] {
        let database = cluster.owned();
        let cts = |words: &str, parameters: &str| {
            let url = url(&database, cluster, &address, parameters);
            database.cts(words).env("DATABASE_URL", url).env("SSL_CERT_FILE", &certs.other_ca)
        };
        cts("migrate", "").status(78).says(&says);
        cts("--check", "").status(3).says(&says);
        cts("migrate", "sslmode=disable").success();
    }
    let database = tls.owned();
    let cts = |parameters: &str| {
        let url = url(&database, &tls, &address, parameters);
        database.cts("migrate").env("DATABASE_URL", url)
    };
    let root = format!("sslrootcert={}", encoded(&certs.ca));
    cts(&root).status(78).says(&["certificate is for localhost, 127.0.0.1, not for this host"]);
    cts(&format!("sslmode=verify-ca&{root}")).success();
    cts("sslmode=require").success();
    // The certificate is valid for the host name.
    let by_name = database.url_to(
        &format!("localhost:{}", tls.port),
        &format!("{root}&sslmode=verify-full&hostaddr={address}"),
    );
    database.cts("migrate").env("DATABASE_URL", by_name).success();
}
