//! Servers that break the protocol, written here: what answers on the port of a server need not be
//! PostgreSQL. Every command ends in time, says what is wrong, and keeps its memory.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::harness::{Machine, Run, for_each};

/// The memory that a command may take beside such a server.
const RESIDENT_KIB_MAX: u64 = 32 << 10;
/// The longest that a command may take: twice the time that it waits for a server.
const ENDS_WITHIN: Duration = Duration::from_secs(20);
const LOGIN_OK: [u8; 9] = [b'R', 0, 0, 0, 8, 0, 0, 0, 0];
const CHUNK: usize = 60_000;

/// One way to break the protocol.
struct Way {
    name: &'static str,
    /// What is sent once, and what is sent without end after it, up to the end of the login.
    login: (Vec<u8>, Vec<u8>),
    /// The same in answer to the first query, where the login was gone through with.
    answer: Option<(Vec<u8>, Vec<u8>)>,
    /// What the error says.
    says: &'static str,
}

fn message(letter: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32 + 4).to_be_bytes();
    [&[letter][..], &length, body].concat()
}

/// A header that announces a message of this many bytes.
fn announced(letter: u8, length: u32) -> Vec<u8> {
    [&[letter][..], &length.to_be_bytes()].concat()
}

fn login() -> Vec<u8> {
    let settings = [&b"server_version\x0016.1\0"[..], b"client_encoding\0UTF8\0"];
    let settings = settings.map(|setting| message(b'S', setting)).concat();
    [&LOGIN_OK[..], &settings, &message(b'K', &[0, 0, 0, 1, 0, 0, 0, 2]), &message(b'Z', b"I")]
        .concat()
}

/// The description of rows of this many columns.
fn columns(count: u16) -> Vec<u8> {
    let column = [&b"x\0"[..], &[0; 6], &25_u32.to_be_bytes(), &[255; 6], &[0; 2]].concat();
    message(b'T', &[&count.to_be_bytes()[..], &column.repeat(count.into())].concat())
}

/// A row whose columns have these values.
fn row(values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut body = (values.len() as u16).to_be_bytes().to_vec();
    for value in values {
        let length = value.map_or(-1, |value| value.len() as i32);
        body.extend(length.to_be_bytes());
        body.extend(value.unwrap_or_default());
    }
    message(b'D', &body)
}

fn before_login(name: &'static str, once: Vec<u8>, endless: Vec<u8>, says: &'static str) -> Way {
    Way { name, login: (once, endless), answer: None, says }
}

fn in_answer(name: &'static str, once: Vec<u8>, endless: Vec<u8>, says: &'static str) -> Way {
    Way { name, login: (login(), Vec::new()), answer: Some((once, endless)), says }
}

fn ways() -> Vec<Way> {
    let zeros = || vec![0; CHUNK];
    let notice = message(b'N', &[&b"SNOTICE\0C00000\0M"[..], &[b'n'; 20_000], b"\0\0"].concat());
    let notify = message(b'A', &[&b"\0\0\0\x01c\0"[..], &[b'p'; 7000], b"\0"].concat());
    let setting = |bytes: usize| message(b'S', &[&b"a\0"[..], &vec![b'b'; bytes], b"\0"].concat());
    let settings = |count: u32| {
        (0..count)
            .flat_map(|at| message(b'S', format!("s{at:x}\0v\0").as_bytes()))
            .collect::<Vec<_>>()
    };
    let error = [announced(b'E', 1 << 30), b"SFATAL\0C28000\0M".to_vec()].concat();
    let sasl =
        message(b'R', &[&[0, 0, 0, 10][..], &b"SCRAM-SHA-256\0".repeat(1500), b"\0"].concat());
    vec![
        before_login("zeros before the login", Vec::new(), zeros(), "shorter than its own header"),
        before_login("notices before the login", Vec::new(), notice.clone(), "unexpected message"),
        before_login(
            "a login message of 2 GiB",
            announced(b'R', 0x7fff_fff0),
            zeros(),
            "2147483632 bytes",
        ),
        before_login("an error of 1 GiB", error, vec![b'e'; CHUNK], "1073741824 bytes"),
        before_login("many login methods", sasl, zeros(), ""),
        before_login("long settings", LOGIN_OK.to_vec(), setting(20_000), "262144 bytes"),
        before_login("many settings", LOGIN_OK.to_vec(), settings(20_000), "262144 bytes"),
        before_login(
            "short notices",
            LOGIN_OK.to_vec(),
            message(b'N', b"\0").repeat(4000),
            "262144 bytes",
        ),
        before_login("garbage", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), Vec::new(), "bytes"),
        in_answer("rows without end", columns(1), row(&[Some(&[b'y'; CHUNK][..])]), "bytes"),
        in_answer("rows of nothing", columns(0), row(&[]).repeat(4000), "bytes"),
        in_answer("rows of NULL", columns(1600), row(&[None; 1600]).repeat(9), "bytes"),
        in_answer(
            "rows of single letters",
            columns(1600),
            row(&[Some(&b"y"[..]); 1600]).repeat(8),
            "bytes",
        ),
        in_answer("descriptions of rows", Vec::new(), columns(1600), "bytes"),
        in_answer(
            "ends of statements",
            Vec::new(),
            message(b'C', b"SELECT 1\0").repeat(4000),
            "bytes",
        ),
        in_answer("notices", Vec::new(), notice, "bytes"),
        in_answer("notifications", Vec::new(), notify, "bytes"),
        in_answer("settings", Vec::new(), settings(20_000), "262144 bytes"),
        in_answer(
            "a row of 2 GiB",
            [columns(1), announced(b'D', 0x7fff_fff0)].concat(),
            zeros(),
            "2147483632 bytes",
        ),
        in_answer(
            "a row with a value of 2 GiB",
            [columns(1), message(b'D', b"\0\x01\x7f\xff\xff\xff")].concat(),
            Vec::new(),
            "",
        ),
        in_answer("a length below zero", announced(b'D', 0xffff_fffb), zeros(), "4294967291 bytes"),
        in_answer(
            "a value that is not UTF-8",
            [
                columns(1),
                row(&[Some(&b"\xff"[..])]),
                message(b'C', b"SELECT 1\0"),
                message(b'Z', b"I"),
            ]
            .concat(),
            Vec::new(),
            "not UTF-8",
        ),
        in_answer("rows without a description", row(&[Some(&b"y"[..])]), Vec::new(), ""),
        in_answer("a copy that nobody asked for", message(b'G', &[0, 0, 0]), Vec::new(), ""),
        in_answer("garbage in an answer", vec![7; 4000], Vec::new(), "bytes"),
        in_answer("silence", Vec::new(), Vec::new(), "does not answer within"),
    ]
}

fn send((once, endless): &(Vec<u8>, Vec<u8>), to: &mut TcpStream) -> io::Result<()> {
    to.write_all(once)?;
    while !endless.is_empty() {
        to.write_all(endless)?;
    }
    Ok(())
}

/// One connection: the request for TLS is denied, the login and one query are answered.
fn answer(way: &Way, mut client: TcpStream) -> io::Result<()> {
    let mut bytes = [0; 8192];
    while client.read(&mut bytes)? == 8 {
        client.write_all(b"N")?;
    }
    send(&way.login, &mut client)?;
    if let Some(answer) = &way.answer {
        // The query.
        let _ = client.read(&mut bytes)?;
        send(answer, &mut client)?;
    }
    // Until the client goes.
    while client.read(&mut bytes)? > 0 {}
    Ok(())
}

/// Starts a server that breaks the protocol in this way. It lives as long as the test.
fn broken_server(way: Way) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let way: &'static Way = Box::leak(Box::new(way));
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // The client ends a connection that it has read enough of.
            thread::spawn(move || drop(answer(way, client)));
        }
    });
    port
}

/// Runs it to its end. Returns its exit code, what it wrote, and the most memory that it had, in KiB.
fn measured(mut run: Run) -> (Option<i32>, String, u64) {
    let mut child = run.command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let (start, mut most) = (Instant::now(), 0);
    while child.try_wait().unwrap().is_none() {
        let found = fs::read_to_string(&status).unwrap_or_default();
        // Before it runs its program, it has the memory of the test.
        let found = if found.starts_with("Name:\tcts\n") { found } else { String::new() };
        let line = found.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let figure = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
        most = most.max(figure.unwrap_or(0));
        if start.elapsed() > ENDS_WITHIN || most > RESIDENT_KIB_MAX {
            child.kill().unwrap();
        }
        thread::sleep(Duration::from_millis(2));
    }
    let done = child.wait_with_output().unwrap();
    let said = [done.stdout, done.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    (done.status.code(), said.concat(), most)
}

#[test]
fn a_server_that_breaks_the_protocol_takes_no_memory_and_no_time() {
    let machine = Machine::new();
    for_each(ways(), |way| {
        let (name, says) = (way.name, way.says);
        let port = broken_server(way);
        for (words, code) in
            [("--check", 2), ("migrate", 69), ("doctor", 2), ("serve --port 0", 69)]
        {
            let run = machine
                .cts(words)
                .env("DATABASE_URL", format!("postgresql://u:p@127.0.0.1:{port}/d?sslmode=disable"))
                .env("CTS_WAIT", "1s")
                .env("CTS_POOL_CONNECT", "2s");
            let (ended, said, most) = measured(run);
            eprintln!("{name}, {words}: {most} KiB, {ended:?}");
            assert!(most < RESIDENT_KIB_MAX, "{name}, {words}: {most} KiB");
            // An answer that is complete and cannot be read is not waited out.
            let expected = [Some(code), (code == 69).then_some(74)];
            assert!(expected.contains(&ended), "{name}, {words}, {ended:?}: {said}");
            // On a busy machine the time may be over before a limit is reached.
            let is_late = said.contains("does not answer within");
            assert!(said.contains(says) || is_late, "{name}, {words}: {said}");
            assert!(said.contains(&format!("127.0.0.1:{port}")), "{name}, {words}: {said}");
            assert!(said.len() < 8000, "{name}, {words}: {} bytes", said.len());
        }
    });
}
