//! A password appears nowhere outside its source, and a role with too few privileges is told which
//! are missing.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::support::certs::Certs;
use crate::support::cluster::{Cluster, Database};
use crate::support::harness::{Done, Machine, Run, for_each};

const HEALTH: &str = "/api/health/database";
/// No four characters of it occur elsewhere in the output, and each piece ends at another
/// delimiter.
const SECRET: &str = "Xq7v/Zk9w@Jh3f#Gy5d?Bm8c:Np4t%Wr6s Lk2x&Vd1z=Tb0q";

fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// Expects neither the secret nor four characters of it in the output, raw or encoded.
fn holds_no_piece(text: &str, what: &str) {
    for form in [SECRET.to_string(), encoded(SECRET)] {
        let characters: Vec<char> = form.chars().collect();
        for piece in characters.windows(4) {
            let piece: String = piece.iter().collect();
            assert!(!text.contains(&piece), "{what}: {piece:?} is in:\n{text}");
        }
    }
}

/// A database whose role has the secret for a password.
fn database() -> Database<'static> {
    let database = Cluster::shared().owned();
    Cluster::shared().sql(&format!("ALTER ROLE \"{}\" PASSWORD '{SECRET}'", database.name));
    database
}

/// Its URL with this password.
fn url(database: &Database, password: &str) -> String {
    let (name, port) = (&database.name, Cluster::shared().port);
    format!("postgresql://{name}:{password}@127.0.0.1:{port}/{name}?sslmode=disable")
}

fn file(machine: &Machine, name: &str, content: &str, mode: u32) -> PathBuf {
    let path = machine.path(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn cts(words: &str) -> Run {
    Run::of(Path::new(env!("CARGO_BIN_EXE_cts")), words)
        .env("CTS_WAIT", "0")
        .env("CTS_POOL_CONNECT", "2s")
}

fn reveals_nothing(done: &Done, what: &str) {
    holds_no_piece(&(done.out() + &done.err()), what);
}

/// Runs commands with the URL from each possible source, and expects this exit code, that one of
/// `--check`, and no part of the secret.
fn refused(url: &str, code: i32, check: i32, says: &[&str]) {
    let machine = Machine::new();
    let path = file(&machine, "url", &format!("{url}\n"), 0o600);
    let commands = [
        ("migrate", code),
        ("migrate --dry-run", code),
        ("serve --port 0 --verbose", code),
        ("status --json", code),
        ("verify --json", code),
        ("repair", code),
        ("--check", check),
        ("--check --json --verbose", check),
    ];
    for_each(commands.into_iter().enumerate(), |(turn, (words, code))| {
        let run = match turn % 3 {
            0 => cts(words).env("DATABASE_URL", url),
            1 => cts(words).env("DATABASE_URL_FILE", &path),
            _ => cts(&format!("{words} --database-url-file {}", path.display())),
        };
        let done = run.run();
        let what = format!("{words}: {}{}", done.out(), done.err());
        assert_eq!(done.0.status.code(), Some(code), "{what}");
        reveals_nothing(&done, words);
        done.says(says);
    });
}

#[test]
fn a_refused_login_reveals_no_secret() {
    let database = database();
    let (name, right) = (&database.name, url(&database, &encoded(SECRET)));
    cts("migrate").env("DATABASE_URL", &right).success();
    let wrong = url(&database, &encoded(&SECRET.replace("Xq7v", "Xq7v!")));
    refused(&wrong, 77, 3, &["password authentication failed", "correct the password"]);
    let no_user = right.replacen(name.as_str(), "nobody-here", 1);
    refused(&no_user, 77, 3, &["password authentication failed"]);
    let database = right.replace(&format!("/{name}?"), "/nothing-here?");
    refused(&database, 78, 3, &["nothing-here", "does not exist", "CREATE DATABASE"]);
    let host = right.replace("127.0.0.1", "db.invalid");
    refused(&host, 69, 2, &["db.invalid"]);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let port = Cluster::shared().port;
    let down = right.replace(&format!(":{port}/"), &format!(":{free}/"));
    refused(&down, 69, 2, &["connection refused"]);
    let both =
        right.replace(&format!("127.0.0.1:{port}/"), &format!("127.0.0.1:{free},db.invalid:1/"));
    refused(&both, 69, 2, &["connection refused", "db.invalid"]);
    let tls = right.replace("sslmode=disable", "sslmode=require");
    refused(&tls, 78, 3, &["the server does not support TLS", "sslmode=disable"]);
}

#[test]
fn a_refused_certificate_reveals_no_secret() {
    let machine = Machine::new();
    let certs = Certs::make(machine.path("").as_path());
    let cluster = Cluster::builder().tls(&certs.foreign).start();
    let database = cluster.owned();
    cluster.sql(&format!("ALTER ROLE \"{}\" PASSWORD '{SECRET}'", database.name));
    let (name, ca) = (&database.name, encoded(certs.ca.to_str().unwrap()));
    let url = format!(
        "postgresql://{name}:{}@127.0.0.1:{}/{name}?sslmode=verify-full&sslrootcert={ca}",
        encoded(SECRET),
        cluster.port
    );
    refused(&url, 78, 3, &["certificate is for db.example.com"]);
}

#[test]
fn a_malformed_url_reveals_no_secret() {
    let rest = "@127.0.0.1:1/box";
    let raw = ["Xq7v/Zk9w", "Xq7v@Zk9w", "Xq7v?Zk9w", "Xq7v Zk9w", "Xq7v%Zk9w", "Xq7v%", SECRET];
    for password in raw {
        refused(&format!("postgresql://trader:{password}{rest}"), 78, 3, &["Try: "]);
    }
    let password = encoded(SECRET);
    for url in [
        format!("postgresql://trader:{password}@127.0.0.1:port/box"),
        format!("postgresql://trader:{password}@127.0.0.1:70000/box"),
        format!("postgresql://trader:{password}@[::1/box"),
        format!("postgresql://trader:{password}@one,,three/box"),
        format!("postgresql://trader:{password}@one,two:1:2/box"),
        format!("postgresql://trader:{password}@127.0.0.1:1/box?{password}"),
        format!("postgresql://trader:{password}@127.0.0.1:1/box?sslmode={password}"),
        format!("postgresql://trader@127.0.0.1:1/box?pasword={password}"),
        format!("postgresql://trader@127.0.0.1:1/box?password={SECRET}"),
        format!("mysql://trader:{password}@127.0.0.1:1/box"),
        format!("trader:{password}@127.0.0.1:1/box"),
        format!("host=127.0.0.1 user=trader password={SECRET}"),
        format!("\"postgresql://trader:{password}@127.0.0.1:1/box\""),
    ] {
        refused(&url, 78, 3, &["Try: "]);
    }
}

#[test]
fn only_delimiters_in_a_url_must_be_encoded() {
    let database = database();
    for plain in ["Xq7v:Zk9w", "Xq7v#Zk9w", "Xq7v&=+,;!"] {
        Cluster::shared().sql(&format!("ALTER ROLE \"{}\" PASSWORD '{plain}'", database.name));
        cts("migrate").env("DATABASE_URL", url(&database, plain)).success();
    }
}

#[test]
fn a_url_in_an_argument_is_refused_and_not_repeated() {
    let url = format!("postgresql://trader:{}@127.0.0.1:1/box", encoded(SECRET));
    let bare = format!("postgres://trader:{}@127.0.0.1:1/box", encoded(SECRET));
    for words in [
        format!("migrate --db={url}"),
        format!("--db {url} migrate"),
        format!("migrate --database-url-file {url}"),
        format!("migrate --database-url-file={bare}"),
        format!("--database-url={url} migrate"),
        format!("--host {url}"),
        format!("--port={url}"),
        format!("serve {url}"),
        url.clone(),
        bare.clone(),
        format!("migrate --dry-run{url}"),
        format!("status --json {bare}"),
        format!("DATABASE_URL={url}"),
        url.replace("postgresql:", "postgresql+psycopg2:"),
        url.replace("postgresql:", "PostgreSQL:"),
        format!("migrate --db=jdbc:{url}"),
        url.replace("postgresql:", "mysql:"),
        format!("sqlite://:{}@/box.db", encoded(SECRET)),
    ] {
        let done = cts(&words).run();
        assert_eq!(done.0.status.code(), Some(64), "{}", done.err());
        reveals_nothing(&done, "an argument");
        done.says(&["an argument holds a database URL", "change the password", "DATABASE_URL"]);
    }
    for words in [
        format!("--check {url}"),
        format!("--check --json --db={url}"),
        format!("--check --url {url}"),
        format!("--check --url=http://127.0.0.1:1/{bare}"),
    ] {
        let done = cts(&words).run();
        assert_eq!(done.0.status.code(), Some(3), "{}", done.err());
        reveals_nothing(&done, "an argument of --check");
        done.says(&["an argument holds a database URL"]);
    }
}

#[test]
fn a_service_reveals_its_secret_nowhere() {
    let database = database();
    let machine = Machine::new();
    let path = file(&machine, "url", &url(&database, &encoded(SECRET)), 0o600);
    let words = format!("serve --port 0 --verbose --database-url-file {}", path.display());
    let service = cts(&words).env("CTS_ADMIN_TOKEN", "token").start();
    service.until_ready();
    let ask = |path: &str| {
        let answer = service.ask(&format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer token\r\nConnection: close\r\n\r\n"
        ));
        holds_no_piece(&(answer.head + &answer.body), path);
        answer.code
    };
    let answers =
        || [HEALTH, "/api/admin/migrations/status", "/livez", "/readyz", "/nothing"].map(ask);
    assert_eq!(answers(), [200, 200, 200, 200, 404]);
    let folder = format!("/proc/{}", service.child.id());
    for name in ["cmdline", "environ"] {
        let bytes = fs::read(format!("{folder}/{name}")).unwrap();
        holds_no_piece(&String::from_utf8_lossy(&bytes), name);
    }
    // The role may not log in any more.
    let mut admin = database.admin();
    let (name, cut) = (&database.name, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity");
    admin
        .batch_execute(&format!(
            "ALTER ROLE \"{name}\" PASSWORD 'another'; {cut} WHERE usename = '{name}'"
        ))
        .unwrap();
    let answer = service.until_status("unhealthy");
    assert!(answer.body.contains("password authentication failed"), "{}", answer.body);
    assert_eq!(answers(), [503, 503, 200, 503, 404]);
    admin.batch_execute(&format!("ALTER ROLE \"{name}\" PASSWORD '{SECRET}'")).unwrap();
    service.until_status("healthy");
    let (code, log) = service.stop();
    assert_eq!(code, Some(0), "{log}");
    holds_no_piece(&log, "the log");
    assert!(log.contains(&format!("postgresql://{name}:***@127.0.0.1")), "{log}");
    let rows =
        crate::support::cluster::texts(&mut admin, "SELECT to_json(l)::text FROM site_logs l");
    assert!(rows.len() >= 2);
    holds_no_piece(&rows.join("\n"), "site_logs");
}

#[test]
fn a_password_file_is_used_unless_others_can_read_it() {
    let database = database();
    let machine = Machine::new();
    let (name, port) = (&database.name, Cluster::shared().port);
    let line = format!("127.0.0.1:{port}:{name}:*:{}", SECRET.replace(':', "\\:"));
    let path = file(&machine, "pgpass", &format!("# passwords\nother:*:*:*:x\n{line}\n"), 0o600);
    let url = format!("postgresql://{name}@127.0.0.1:{port}/{name}?sslmode=disable");
    let run = |words: &str| cts(words).env("DATABASE_URL", &url);
    for words in ["migrate", "--check", "status --json", "verify"] {
        let done = run(words).env("PGPASSFILE", &path).success();
        reveals_nothing(&done, words);
    }
    let in_url = format!("{url}&passfile={}", encoded(path.to_str().unwrap()));
    run("--check").env("DATABASE_URL", in_url).success();
    fs::copy(&path, machine.path(".pgpass")).unwrap();
    run("--check").env("HOME", machine.path("")).success();
    for mode in [0o640, 0o604, 0o644] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        for (words, code) in
            [("migrate", 77), ("serve --port 0", 77), ("status", 77), ("--check", 3)]
        {
            let done = run(words).env("PGPASSFILE", &path).status(code);
            reveals_nothing(&done, words);
            done.says(&["is ignored", "chmod 600", path.to_str().unwrap()]);
        }
    }
    let done = run("migrate").env("PGPASSFILE", machine.path("none")).status(77);
    assert!(!done.err().contains("is ignored"), "{}", done.err());
    fs::write(&path, "127.0.0.1:*:*:*:Zk9wXq7v\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let done = run("migrate").env("PGPASSFILE", &path).status(77);
    reveals_nothing(&done, "a wrong password");
}

#[test]
fn a_role_with_one_schema_can_do_everything() {
    let database = Cluster::shared().one_schema();
    database.cts("--check").status(2).says(&["there is no table of CTS"]);
    database.cts("migrate").success().says(&["All 22 critical tables verified"]);
    database.cts("verify").success().says(&["no drift"]);
    database.sql("DROP TABLE cts.indication_states; DROP INDEX cts.idx_site_logs_time");
    database.cts("verify").status(1).says(&["indication_states", "idx_site_logs_time"]);
    database.cts("repair").success().says(&["no drift"]);
    let service = database.serve().start();
    service.until_ready();
    assert_eq!(service.get(HEALTH).json()["status"], "healthy");
    assert_eq!(service.stop().0, Some(0));
    let outside = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace \
        WHERE relowner = (SELECT oid FROM pg_roles WHERE rolname = current_user) \
        AND nspname NOT IN ('cts', 'pg_toast')";
    assert_eq!(database.number(outside), 0);
}

#[test]
fn a_read_only_role_can_inspect_and_is_told_its_missing_privileges() {
    let database = Cluster::shared().owned();
    let (name, port) = (&database.name, Cluster::shared().port);
    let reader = format!("{name}-reader");
    Cluster::shared().sql(&format!("CREATE ROLE \"{reader}\" LOGIN PASSWORD 'read'"));
    let url = format!("postgresql://{reader}:read@127.0.0.1:{port}/{name}?sslmode=disable");
    let run = |words: &str| cts(words).env("DATABASE_URL", &url);
    // On an empty database it may create nothing, as is the default since PostgreSQL 15.
    database.admin().batch_execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC").unwrap();
    let grant = format!("GRANT CREATE ON SCHEMA public TO \"{name}\"");
    database.admin().batch_execute(&grant).unwrap();
    run("migrate").status(77).says(&["may not create tables in schema public", "GRANT"]);
    database.cts("migrate").success();
    run("--check").status(3).says(&["permission denied for table migrations", "GRANT SELECT"]);
    database.sql(&format!("GRANT SELECT ON ALL TABLES IN SCHEMA public TO \"{reader}\""));
    run("--check").success().says(&["CTS OK", "22/22 core tables, 4/4 migrations"]);
    run("status").success();
    run("verify").success();
    database.sql("DROP INDEX idx_site_logs_time");
    run("--check").status(1).says(&["idx_site_logs_time"]);
    for words in ["migrate", "repair"] {
        run(words).status(77).says(&["must be owner", "the owner of the schema and its tables"]);
    }
    database.cts("repair").success();
    // `migrate` has nothing to do; `serve` needs write access.
    run("migrate").success().says(&["0 applied"]);
    run("serve --port 0").status(77).says(&["permission denied for table site_logs"]);
    drop(database);
    Cluster::shared().sql(&format!("DROP ROLE \"{reader}\""));
}

#[test]
fn a_schema_without_usage_privilege_is_not_reported_as_missing() {
    let database = Cluster::shared().owned();
    database.cts("migrate").success();
    let name = &database.name;
    let mut admin = database.admin();
    let change = format!(
        "CREATE SCHEMA \"Not \"\"mine\"; ALTER ROLE \"{name}\" SET search_path = nowhere, \"Not \"\"mine\""
    );
    admin.batch_execute(&change).unwrap();
    for (words, code) in [("migrate", 77), ("status", 77), ("--check", 3)] {
        let says = ["permission denied for schema Not \"mine", "GRANT USAGE"];
        database.cts(words).env("CTS_WAIT", "0").status(code).says(&says);
    }
}

#[test]
fn role_settings_have_no_effect_and_row_security_is_reported() {
    let database = Cluster::shared().owned();
    database.cts("migrate").success();
    let name = &database.name;
    let set = |sql: &str| database.sql(&format!("ALTER ROLE \"{name}\" SET {sql}"));
    set("quote_all_identifiers = on");
    set("idle_in_transaction_session_timeout = 1");
    database.cts("--check").success().says(&["CTS OK"]);
    database.cts("verify").success().says(&["no drift"]);
    database.sql(
        "ALTER TABLE migrations ENABLE ROW LEVEL SECURITY; \
         ALTER TABLE migrations FORCE ROW LEVEL SECURITY",
    );
    for (words, code) in [("migrate", 77), ("status", 77), ("--check", 3)] {
        let says = ["row-level security policy for table \"migrations\"", "BYPASSRLS"];
        database.cts(words).env("CTS_WAIT", "0").status(code).says(&says);
    }
    for options in ["-cfoo", "-cno_such_thing%3D1", "-cwork_mem%3Dmuch"] {
        let url = format!("{}&options={options}", database.url());
        let done = database.cts("status").env("DATABASE_URL", &url).status(78);
        done.says(&["correct `options` in the URL"]);
    }
}

/// A pooler may repeat what was sent to it.
#[test]
fn server_messages_are_shown_without_secrets_shortened_and_on_one_line() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut length = [0; 4];
            stream.read_exact(&mut length).unwrap();
            let mut rest = vec![0; u32::from_be_bytes(length) as usize - 4];
            stream.read_exact(&mut rest).unwrap();
            let text = format!("\u{1b}[2Jno login with {SECRET}\u{7}{}", "no ".repeat(8_000));
            let fields = format!("SFATAL\0VFATAL\0C28000\0M{text}\0\0");
            let length = u32::try_from(fields.len() + 4).unwrap();
            let _ =
                stream.write_all(&[b"E", &length.to_be_bytes()[..], fields.as_bytes()].concat());
        }
    });
    let url = format!("postgresql://u:{}@127.0.0.1:{port}/box?sslmode=disable", encoded(SECRET));
    for (words, code) in [("--check", 3), ("--check --json", 3), ("status", 77), ("migrate", 77)] {
        let done = cts(words).env("DATABASE_URL", &url).status(code);
        reveals_nothing(&done, words);
        let said = done.out() + &done.err();
        let lines = said.replace('\n', "");
        assert!(lines.len() < 2000 && !lines.contains(char::is_control), "{said}");
        done.says(&["no login with ***"]);
    }
}

#[test]
fn a_search_path_without_a_schema_is_reported() {
    let database = Cluster::shared().owned();
    let role = &database.name;
    database.sql(&format!("ALTER ROLE \"{role}\" SET search_path = nowhere, neither"));
    for (words, code) in [("migrate", 78), ("serve --port 0", 78), ("status", 78), ("--check", 3)] {
        let says = ["no schema of the search path (nowhere, neither) exists", "CREATE SCHEMA"];
        database.cts(words).status(code).says(&says);
    }
    // The remedy that the message gives.
    database.sql("CREATE SCHEMA trading");
    let url = database.url() + "&options=-csearch_path%3Dtrading";
    database.cts("migrate").env("DATABASE_URL", url).success();
    assert_eq!(database.number("SELECT count(*) FROM trading.migrations"), 4);
}

#[test]
fn two_schemas_of_one_database_are_independent() {
    let database = Cluster::shared().owned();
    database.sql("CREATE SCHEMA one; CREATE SCHEMA two");
    let cts = |schema: &str, words: &str| {
        let url = format!("{}&options=-csearch_path%3D{schema}", database.url());
        database.cts(words).env("DATABASE_URL", url)
    };
    cts("one", "migrate").success();
    cts("two", "--check").status(2).says(&["there is no table of CTS"]);
    for_each(["one", "two", "two", "one"], |schema| drop(cts(schema, "migrate").success()));
    let services = ["one", "two"].map(|schema| {
        let service = cts(schema, "serve --port 0").start();
        service.until_ready();
        service
    });
    database.sql("DROP TABLE one.users CASCADE; DROP INDEX two.idx_site_logs_time");
    services[0].until_status("unhealthy");
    let second = services[1].until_status("degraded");
    assert!(!second.body.contains("users"), "{}", second.body);
    cts("one", "repair").success();
    assert_eq!(services[0].until_status("healthy").code, 200);
    assert_eq!(services[1].get(HEALTH).json()["status"], "degraded");
    cts("two", "repair").success();
    services[1].until_status("healthy");
    for (service, schema) in services.into_iter().zip(["one", "two"]) {
        assert_eq!(service.stop().0, Some(0));
        let notes =
            format!("SELECT count(*) FROM {schema}.site_logs WHERE message LIKE 'the service%'");
        assert_eq!(database.number(&notes), 2);
    }
    // The lock of one schema does not block the other.
    let mut holder = database.open();
    holder
        .batch_execute("SELECT pg_advisory_lock(1129599795, 'one'::regnamespace::oid::int4)")
        .unwrap();
    database.sql("DROP INDEX one.idx_site_logs_time; DROP INDEX two.idx_site_logs_time");
    cts("one", "migrate").env("CTS_LOCK_TIMEOUT", "1").status(75).says(&["lock"]);
    cts("two", "migrate").success();
}

/// What another user can see of a run: the command line, and not the environment.
#[test]
fn the_command_line_of_a_waiting_process_holds_no_secret() {
    let machine = Machine::new();
    let url = format!("postgresql://trader:{}@127.0.0.1:1/box?sslmode=disable", encoded(SECRET));
    let path = file(&machine, "url", &url, 0o600);
    let service = Run::of(Path::new(env!("CARGO_BIN_EXE_cts")), "serve --port 0 -v")
        .env("DATABASE_URL_FILE", &path)
        .start();
    service.until("waiting for");
    let line = fs::read(format!("/proc/{}/cmdline", service.child.id())).unwrap();
    holds_no_piece(&String::from_utf8_lossy(&line), "the command line");
    let answer = service.until_status("initializing");
    holds_no_piece(&answer.body, "health");
    let (code, log) = service.stop();
    assert_eq!(code, Some(0), "{log}");
    holds_no_piece(&log, "the log");
}
