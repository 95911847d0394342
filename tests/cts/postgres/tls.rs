//! TLS with real servers: what each `sslmode` accepts and refuses, and the remedies. Expected is
//! what PostgreSQL documents for libpq ("SSL Mode Descriptions"), except where cts documents that
//! it is stricter.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::support::certs::{Certs, Pair, issued, revocation_list};
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
        crate::support::not_tried("this machine has no address that is not a loopback one");
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

/// Whether libpq connects with these parameters, as `psql` does.
fn libpq_connects(url: &str) -> bool {
    let mut psql = Command::new("psql");
    psql.env_clear().env("PATH", std::env::var("PATH").unwrap()).env("HOME", "/nonexistent");
    psql.args(["-XAtc", "SELECT 1", url]).output().unwrap().status.success()
}

const AUTHORITY: &str =
    "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n";
const SERVER: &str = "basicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth\nsubjectAltName=DNS:localhost\n";
const NOW: (&str, &str) = ("20200101000000Z", "20480101000000Z");

/// The certificates of an authority that is not valid now, or that may not sign for this name, and others
/// that libpq refuses.
#[test]
fn a_chain_that_libpq_refuses_is_refused() {
    let machine = Machine::new();
    let folder = machine.path("");
    Certs::make(&folder);
    let make = |authority: &str, name: &str, extensions: &str, dates| {
        issued(&folder, authority, name, extensions, dates)
    };
    make("old", "old", AUTHORITY, ("20200101000000Z", "20210101000000Z"));
    make("young", "young", AUTHORITY, ("20470101000000Z", "20480101000000Z"));
    let others = "nameConstraints=critical,permitted;DNS:example.com\n";
    make("narrow", "narrow", &format!("{AUTHORITY}{others}"), NOW);
    make("ca", "between", AUTHORITY, NOW);
    make("ca", "former", AUTHORITY, ("20200101000000Z", "20210101000000Z"));
    let client = SERVER.replace("serverAuth", "clientAuth");
    let by_name = SERVER.replace("localhost", "*.localhost");
    let mut cases: Vec<(Pair, &str, &str)> = vec![
        (make("old", "of-old", SERVER, NOW), "old", "certificate of the authority has expired"),
        (make("young", "of-young", SERVER, NOW), "young", "authority is not valid yet"),
        (make("narrow", "of-narrow", SERVER, NOW), "narrow", "its authority may not issue"),
        (make("ca", "client", &client, NOW), "ca", "may not be used by a server"),
        (make("ca", "wild", &by_name, NOW), "ca", "is for *.localhost, not for this host"),
        (
            make("ca", "later", SERVER, ("20470101000000Z", "20480101000000Z")),
            "ca",
            "not valid yet",
        ),
        (make("ca", "good", SERVER, NOW), "ca", ""),
    ];
    for (name, authority, says) in
        [("of-between", "between", ""), ("of-former", "former", "has expired")]
    {
        let pair = make(authority, name, SERVER, NOW);
        let chain = [&pair.cert, &folder.join(format!("{authority}.crt"))]
            .map(|path| fs::read(path).unwrap());
        fs::write(&pair.cert, chain.concat()).unwrap();
        cases.push((pair, "ca", says));
    }
    for_each(cases, |(pair, authority, says)| {
        let cluster = Cluster::builder().tls(&pair).start();
        let database = cluster.owned();
        let root = encoded(&folder.join(format!("{authority}.crt")));
        let url = |mode: &str| {
            let parameters = format!("sslmode={mode}&sslrootcert={root}");
            url(&database, &cluster, "localhost", &parameters)
        };
        // With a root certificate, `require` is the same as `verify-ca`.
        for mode in ["verify-full", "verify-ca", "require"] {
            let is_good = says.is_empty() || says.contains("is for") && mode != "verify-full";
            let done =
                database.cts("migrate").env("DATABASE_URL", url(mode)).env("CTS_WAIT", "0").run();
            let what = format!("{}, {mode}: {}", pair.cert.display(), done.err());
            assert_eq!(done.0.status.success(), is_good, "{what}");
            assert!(is_good || done.err().contains(says), "{what}");
            assert!(!done.err().contains("Other("), "{what}");
            assert_eq!(libpq_connects(&url(mode)), is_good, "{what}");
        }
    });
}

#[test]
fn a_revoked_certificate_is_refused_and_a_list_that_is_needed_must_be_there() {
    let machine = Machine::new();
    let folder = machine.path("");
    let certs = Certs::make(&folder);
    issued(&folder, "ca", "between", AUTHORITY, NOW);
    let below = issued(&folder, "between", "below", SERVER, NOW);
    let chain = [&below.cert, &folder.join("between.crt")].map(|path| fs::read(path).unwrap());
    fs::write(&below.cert, chain.concat()).unwrap();
    let (late, past) = ("20480101000000Z", "20210101000000Z");
    let list = |authority, revoked: &[&str], until, options| {
        revocation_list(&folder, authority, revoked, until, options)
    };
    // Without extensions it is of version 1.
    let version_2 = "-crlexts version_2";
    let direct = [
        (list("ca", &["server"], late, ""), "is revoked"),
        (list("ca", &["server"], late, version_2), "is revoked"),
        (list("ca", &["foreign"], late, ""), ""),
        (list("ca", &[], late, version_2), ""),
        (list("ca", &[], past, ""), "out of date"),
        (list("other-ca", &[], late, ""), "none of the authority"),
    ];
    let both = |of_ca: &[&str], of_between: &[&str]| {
        let name = format!("both-{}-{}.crl", of_ca.join("-"), of_between.join("-"));
        let lists = [list("ca", of_ca, late, ""), list("between", of_between, late, version_2)];
        fs::write(folder.join(&name), lists.map(|path| fs::read(path).unwrap()).concat()).unwrap();
        folder.join(name)
    };
    let with_intermediate = [
        (both(&[], &[]), ""),
        (both(&["between"], &[]), "is revoked"),
        (both(&[], &["below"]), "is revoked"),
        (list("ca", &[], late, ""), "none of the authority"),
        (list("between", &[], late, ""), "none of the authority"),
    ];
    let home = machine.path("home/.postgresql");
    fs::create_dir_all(&home).unwrap();
    for (pair, lists) in [(&certs.server, direct.to_vec()), (&below, with_intermediate.to_vec())] {
        let cluster = Cluster::builder().tls(pair).start();
        let database = cluster.owned();
        for (list, says) in lists {
            let at = |parameters: &str| url(&database, &cluster, "localhost", parameters);
            let root = format!("sslmode=verify-full&sslrootcert={}", encoded(&certs.ca));
            let hashed = machine.path("hashed");
            let _ = fs::remove_dir_all(&hashed);
            fs::create_dir(&hashed).unwrap();
            // A file holds one list there.
            let text = fs::read_to_string(&list).unwrap();
            for (n, one) in text.split_inclusive("-----END X509 CRL-----\n").enumerate() {
                fs::write(hashed.join(format!("{n}.pem")), one).unwrap();
            }
            assert!(Command::new("openssl").arg("rehash").arg(&hashed).status().unwrap().success());
            fs::copy(&list, home.join("root.crl")).unwrap();
            for (parameters, is_at_home) in [
                (format!("{root}&sslcrl={}", encoded(&list)), false),
                (format!("{root}&sslcrldir={}", encoded(&hashed)), false),
                (root.clone(), true),
            ] {
                let run = database
                    .cts("migrate")
                    .env("DATABASE_URL", at(&parameters))
                    .env("CTS_WAIT", "0");
                let done =
                    if is_at_home { run.env("HOME", machine.path("home")) } else { run }.run();
                let what = format!("{}, {parameters}: {}", list.display(), done.err());
                assert_eq!(done.0.status.success(), says.is_empty(), "{what}");
                assert!(done.err().contains(says), "{what}");
                if !is_at_home {
                    assert_eq!(libpq_connects(&at(&parameters)), says.is_empty(), "{what}");
                }
            }
        }
        let at = |parameters: &str| {
            let root = format!("sslmode=verify-full&sslrootcert={}", encoded(&certs.ca));
            let at = url(&database, &cluster, "localhost", &format!("{root}&{parameters}"));
            database.cts("migrate").env("DATABASE_URL", at)
        };
        at("sslcrl=/nowhere").status(78).says(&["sslcrl: /nowhere cannot be read"]);
        at("sslcrl=/etc/passwd").status(78).says(&["contains no certificate revocation list"]);
        at("sslcrldir=/etc/cron.d").status(78).says(&["has no revocation list", "openssl rehash"]);
    }
}

#[test]
fn a_password_is_given_away_only_to_a_server_that_is_proved_or_where_the_url_allows_it() {
    let machine = Machine::new();
    let certs = Certs::make(machine.path("").as_path());
    let root = format!("sslmode=verify-full&sslrootcert={}", encoded(&certs.ca));
    for (method, asked) in [("password", "in clear text"), ("md5", "as an MD5 digest")] {
        let cluster = Cluster::builder()
            .tls(&certs.server)
            .set("password_encryption", "md5")
            .hba(&format!("host all all 127.0.0.1/32 {method}"))
            .start();
        let database = cluster.owned();
        let cts = |words: &str, parameters: &str| {
            let url = url(&database, &cluster, "localhost", parameters);
            database.cts(words).env("DATABASE_URL", url).env("CTS_WAIT", "5s")
        };
        let says = ["the server asks for the password", asked, "was not sent", "require_auth="];
        for parameters in ["sslmode=disable", "sslmode=require", ""] {
            cts("migrate", parameters).status(78).says(&says);
            cts("--check", parameters).status(3).says(&says);
        }
        cts("migrate", &root).success();
        for parameters in ["sslmode=disable", "sslmode=require"] {
            cts("--check", &format!("{parameters}&require_auth={method}")).success();
            cts("--check", &format!("{parameters}&require_auth=!none")).success();
        }
        let refused = ["asks for the password", "require_auth does not accept"];
        cts("--check", &format!("{root}&require_auth=scram-sha-256")).status(3).says(&refused);
        cts("--check", "require_auth=anything").status(3).says(&["require_auth", "scram-sha-256"]);
        let socket = format!("host=%2Ftmp&require_auth={method}");
        cts("--check", &socket).status(3).says(&["no effect on a Unix socket"]);
    }
    let cluster = Cluster::builder().hba("host all all 127.0.0.1/32 trust").start();
    let database = cluster.owned();
    let cts = |words: &str, parameters: &str| {
        let url = url(&database, &cluster, "localhost", parameters);
        database.cts(words).env("DATABASE_URL", url)
    };
    cts("migrate", "sslmode=disable").success();
    let says = ["asks for no login", "require_auth does not accept"];
    cts("--check", "sslmode=disable&require_auth=scram-sha-256").status(3).says(&says);
}

#[test]
fn whoever_holds_the_port_receives_no_password() {
    for request in [&b"R\0\0\0\x08\0\0\0\x03"[..], b"R\0\0\0\x0C\0\0\0\x05salt"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut length = [0; 4];
            client.read_exact(&mut length).unwrap();
            let mut startup = vec![0; u32::from_be_bytes(length) as usize - 4];
            client.read_exact(&mut startup).unwrap();
            client.write_all(request).unwrap();
            let mut answer = Vec::new();
            let _ = client.read_to_end(&mut answer);
            answer
        });
        let url = format!("postgresql://u:secret@127.0.0.1:{port}/d?sslmode=disable");
        let machine = Machine::new();
        let done = machine.cts("--check").env("DATABASE_URL", url).status(3);
        done.says(&["the password was not sent"]);
        assert_eq!(server.join().unwrap(), b"");
    }
}

#[test]
fn a_pipe_in_place_of_a_certificate_stops_no_command() {
    let machine = Machine::new();
    let pipe = machine.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    fs::set_permissions(&pipe, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let pipe = pipe.display();
    let key = format!("sslcert={pipe}&sslkey={pipe}");
    for files in [format!("sslrootcert={pipe}"), format!("sslcrl={pipe}"), key] {
        let url = format!("postgresql://box@127.0.0.1:1/box?sslmode=verify-full&{files}");
        let run = machine.cts("verify").env("DATABASE_URL", url).within(Duration::from_secs(20));
        assert_eq!(run.0.status.code(), Some(78), "{files}: {}", run.err());
        run.says(&["contains no certificate", &pipe.to_string()]);
    }
}

/// What `cts --check` sends to a server before it has answered anything but a request for TLS.
fn first_bytes(parameters: &str) -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("postgresql://u:p@localhost:{port}/d?hostaddr=127.0.0.1&{parameters}");
    thread::scope(|scope| {
        let served = scope.spawn(move || {
            let (mut client, _) = listener.accept().unwrap();
            let mut bytes = vec![0; 8];
            client.read_exact(&mut bytes).unwrap();
            if bytes[0] == 0 {
                client.write_all(b"S").unwrap();
            }
            let mut hello = vec![0; 4096];
            let read = client.read(&mut hello).unwrap();
            bytes.extend(&hello[..read]);
            bytes
        });
        Machine::new().cts("--check").env("DATABASE_URL", url).status(2);
        served.join().unwrap()
    })
}

#[test]
fn the_url_decides_how_tls_begins_and_what_it_sends() {
    let has = |bytes: &[u8], part: &str| bytes.windows(part.len()).any(|w| w == part.as_bytes());
    let asked = first_bytes("sslmode=require");
    assert_eq!(asked[..8], [0, 0, 0, 8, 4, 210, 22, 47]);
    assert!(has(&asked, "localhost") && has(&asked, "postgresql"));
    // A handshake of TLS (RFC 8446, section 5.1) that names the protocol, which the server requires then.
    let direct = first_bytes("sslmode=require&sslnegotiation=direct");
    assert!(direct[0] == 22 && has(&direct, "localhost") && has(&direct, "postgresql"));
    let nameless = first_bytes("sslmode=require&sslsni=0");
    assert!(!has(&nameless, "localhost") && has(&nameless, "postgresql"));
}

#[test]
fn the_url_decides_which_versions_of_tls_and_which_certificates_are_used() {
    let machine = Machine::new();
    let certs = Certs::make(machine.path("").as_path());
    let cluster = Cluster::builder().tls(&certs.server).start();
    let old = Cluster::builder().tls(&certs.server).set("ssl_max_protocol_version", "TLSv1.2");
    let old = old.start();
    let cts = |cluster: &Cluster, words: &str, parameters: &str| {
        let database = cluster.owned();
        database.cts("migrate").success();
        let url = url(&database, cluster, "localhost", &format!("sslmode=require&{parameters}"));
        database.cts(words).env("DATABASE_URL", url).env("CTS_WAIT", "0").run()
    };
    for (parameters, version) in [
        ("", "TLSv1.3"),
        ("ssl_min_protocol_version=TLSv1.3", "TLSv1.3"),
        ("ssl_max_protocol_version=TLSv1.2", "TLSv1.2"),
    ] {
        cts(&cluster, "doctor", parameters).says(&[version]);
    }
    cts(&old, "doctor", "ssl_min_protocol_version=TLSv1.2").says(&["TLSv1.2"]);
    let refused = cts(&old, "--check", "ssl_min_protocol_version=TLSv1.3");
    assert_eq!(refused.0.status.code(), Some(2), "{}", refused.out());
    // Since PostgreSQL 17 a server accepts TLS at once.
    let code = if cluster.owned().server_major() >= 17 { 0 } else { 2 };
    let direct = cts(&cluster, "--check", "sslnegotiation=direct");
    assert_eq!(direct.0.status.code(), Some(code), "{}", direct.out());
    let certificate = "sslcert=/nowhere/c.pem&sslkey=/nowhere/k.pem";
    cts(&cluster, "--check", certificate).says(&["sslcert: /nowhere/c.pem cannot be read"]);
    let without = cts(&cluster, "--check", &format!("{certificate}&sslcertmode=disable"));
    assert_eq!(without.0.status.code(), Some(0), "{}", without.out());
}
