//! What answers at HOST and PORT: a running cts on its four paths, another program, or nothing; then whether
//! cts could listen there. No token is sent, since another program that listens there would receive it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, bind, socket, sockopt};
use serde_json::Value;

use super::unit;
use crate::config::Config;
use crate::health::Status;
use crate::http::client::{get, is_alive};
use crate::store::finding::{Finding, Group};
use crate::system::address::{of_own_listener, resolve};
use crate::system::version::VERSION;

/// How long the resolver may take.
const RESOLVER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a response may take.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(1500);
/// Lower ports need a privilege that the unit does not have (ip(7)).
const FIRST_UNPRIVILEGED_PORT: u16 = 1024;

/// What this configuration lets expect of a running cts.
struct Expected<'c> {
    backend: &'c str,
    has_token: bool,
}

type Answer = io::Result<(u16, String)>;

/// Examines what answers at the configured address.
pub fn examine(config: &Config) -> Vec<Finding> {
    let (host, port) = (config.listen.host.as_str(), config.listen.port);
    let name = format!("{host}:{port}");
    if port == 0 {
        let what = "not examined: port 0 stands for a free port, chosen at each start";
        return vec![Finding::skipped(Group::Endpoints, &name, what)];
    }
    let addresses = match resolve(host, port, RESOLVER_TIMEOUT) {
        Ok(addresses) => addresses,
        Err(reason) => {
            let finding = Finding::bad(Group::Endpoints, &name, format!("HOST: {reason}"));
            return vec![finding.remedy("set HOST (or --host) to an address of this machine")];
        }
    };
    if unit::is_socket_activated() {
        let what = "not examined: cts.socket listens, and a request would start cts";
        return vec![Finding::skipped(Group::Endpoints, &name, what)];
    }
    let ask_at = |address: &SocketAddr, path: &str| {
        let address = of_own_listener(*address);
        get(address, &address.to_string(), path, RESPONSE_TIMEOUT)
            .map(|response| (response.status_code, response.body))
    };
    // cts listens at the first address of the name at which it can.
    let answers = addresses.iter().map(|address| (address, ask_at(address, "/livez")));
    let mut answers: Vec<(&SocketAddr, Answer)> = answers.collect();
    let Some(at) = answers.iter().position(|(_, answer)| is_cts(answer)) else {
        let free = addresses.iter().map(can_listen).reduce(|one, other| one.or(other));
        let of_other = answers.iter().position(|(_, answer)| answer.is_ok()).unwrap_or_default();
        let (_, answer) = answers.swap_remove(of_other);
        return vec![without_cts(&name, port, &answer, free.unwrap_or(Err(Errno::ADDRNOTAVAIL)))];
    };
    let (address, _) = answers.swap_remove(at);
    let ask = |path: &str| ask_at(address, path);
    let expected = Expected {
        backend: config.database.identity().backend.name(),
        has_token: config.admin_token.is_some(),
    };
    let mut all = vec![Finding::good(Group::Endpoints, &name, "cts answers")];
    all.push(Finding::good(Group::Endpoints, "/livez", "200"));
    all.push(ready(&ask("/readyz")));
    all.extend(health(&ask("/api/health/database"), &expected));
    all.push(status(&ask("/api/admin/migrations/status"), &expected));
    all
}

/// Binds the address for a moment without listening, so that a cts that starts meanwhile is not refused.
fn can_listen(address: &SocketAddr) -> Result<(), Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket(family, SocketType::STREAM, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, address)
}

fn is_cts(alive: &Answer) -> bool {
    matches!(alive, Ok((status_code, body)) if is_alive(*status_code, body))
}

/// Judges an address at which no cts answers.
fn without_cts(name: &str, port: u16, answer: &Answer, can_listen: Result<(), Errno>) -> Finding {
    let bad = |what: &str| Finding::bad(Group::Endpoints, name, what);
    let remedy =
        format!("ss -ltnp 'sport = :{port}' shows the program; or set PORT (or --port) to another");
    match can_listen {
        Err(Errno::ADDRINUSE) if answer.is_ok() => {
            bad("another program answers: the response is not that of cts").remedy(remedy)
        }
        Err(Errno::ADDRINUSE) => {
            bad("the port is in use by another program, or by a cts that does not answer")
                .remedy(remedy)
        }
        Err(Errno::ACCESS) => bad("this user may not listen on this port")
            .remedy("set PORT (or --port) to 1024 or higher"),
        Err(Errno::ADDRNOTAVAIL) => bad("this machine has no such address")
            .remedy("set HOST (or --host) to an address of this machine"),
        Err(e) => bad(&format!("cannot listen: {}", io::Error::from(e))),
        Ok(()) if port < FIRST_UNPRIVILEGED_PORT => {
            let what = "free, but only root may listen on ports below 1024, and the unit does not run as root";
            Finding::attention(Group::Endpoints, name, what)
                .remedy("set PORT (or --port) to 1024 or higher")
        }
        Ok(()) => Finding::good(Group::Endpoints, name, "free; no cts runs there"),
    }
}

fn ready(answer: &Answer) -> Finding {
    let name = "/readyz";
    match answer {
        Ok((200, _)) => Finding::good(Group::Endpoints, name, "200"),
        Ok((503, _)) => {
            Finding::attention(Group::Endpoints, name, "503, not ready").remedy("cts --check")
        }
        other => unexpected(name, other),
    }
}

fn unexpected(name: &str, answer: &Answer) -> Finding {
    let what = match answer {
        Ok((code, _)) => format!("{code}, a status code that cts does not use for this path"),
        Err(e) => format!("no answer: {e}"),
    };
    Finding::bad(Group::Endpoints, name, what)
        .remedy("read the log of cts: journalctl -u cts -n 20")
}

fn health(answer: &Answer, expected: &Expected<'_>) -> Vec<Finding> {
    let name = "/api/health/database";
    let json = match answer {
        Ok((200 | 503, body)) => serde_json::from_str::<Value>(body).unwrap_or_default(),
        other => return vec![unexpected(name, other)],
    };
    let Some(state) = json["status"].as_str() else { return vec![unexpected(name, answer)] };
    let reasons: Vec<&str> =
        json["reasons"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let what = match reasons.is_empty() {
        true => state.to_string(),
        false => format!("{state}: {}", reasons.join("; ")),
    };
    let mut all = vec![if state == Status::Healthy.name() {
        Finding::good(Group::Endpoints, name, what)
    } else if state == Status::Unhealthy.name() {
        Finding::bad(Group::Endpoints, name, what)
            .remedy("correct the named faults; cts --check examines the database again")
    } else {
        Finding::attention(Group::Endpoints, name, what)
            .remedy("cts --check examines the database again")
    }];
    let differs = |what: String| {
        Finding::attention(Group::Endpoints, name, what)
            .remedy("systemctl restart cts, if this is not intended")
    };
    if let Some(kind) = json["database"]["type"].as_str().filter(|kind| *kind != expected.backend) {
        let here = expected.backend;
        all.push(differs(format!(
            "the running cts uses a {kind} database, this run is configured for {here}"
        )));
    }
    if let Some(version) = json["version"].as_str().filter(|version| *version != VERSION) {
        all.push(differs(format!("the running cts is {version}, this is cts {VERSION}")));
    }
    all
}

fn status(answer: &Answer, expected: &Expected<'_>) -> Finding {
    let name = "/api/admin/migrations/status";
    let good = |what: &str| Finding::good(Group::Endpoints, name, what);
    match answer {
        Ok((200, _)) if expected.has_token => {
            let what = "200 without the token that this run has: the running cts has no token";
            Finding::attention(Group::Endpoints, name, what).remedy("systemctl restart cts")
        }
        Ok((200, _)) => good("200, for requests of this machine only"),
        Ok((401, _)) if expected.has_token => good("401 without the token, as expected"),
        Ok((401, _)) => good("401: the running cts has a token, this run has none"),
        Ok((403, _)) => {
            good("403: refused, since no token is set and other machines can reach the port")
        }
        Ok((503, _)) => {
            Finding::attention(Group::Endpoints, name, "503: the database could not be examined")
                .remedy("cts --check")
        }
        other => unexpected(name, other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::finding::Grade::{Attention, Bad, Good};

    const EXPECTED: Expected<'static> = Expected { backend: "sqlite", has_token: false };

    fn refused() -> Answer {
        Err(io::ErrorKind::ConnectionRefused.into())
    }

    #[test]
    fn without_a_cts_the_port_must_be_free() {
        let other = || Ok((200, "hello".to_string()));
        for (answer, can_listen, port, grade, says) in [
            (refused(), Ok(()), 3000, Good, "free"),
            (refused(), Ok(()), 80, Attention, "only root"),
            (refused(), Err(Errno::ACCESS), 80, Bad, "may not listen"),
            (refused(), Err(Errno::ADDRINUSE), 3000, Bad, "does not answer"),
            (refused(), Err(Errno::ADDRNOTAVAIL), 3000, Bad, "no such address"),
            (refused(), Err(Errno::MFILE), 3000, Bad, "cannot listen"),
            (other(), Err(Errno::ADDRINUSE), 3000, Bad, "another program answers"),
        ] {
            let found = without_cts("here", port, &answer, can_listen);
            assert_eq!(found.grade, grade, "{found:?}");
            assert!(found.what.contains(says), "{found:?}");
        }
    }

    #[test]
    fn only_the_response_of_cts_is_taken_for_one() {
        assert!(is_cts(&Ok((200, r#"{"status":"alive"}"#.into()))));
        for other in [(200, "alive"), (404, r#"{"status":"alive"}"#), (200, "{}")] {
            assert!(!is_cts(&Ok((other.0, other.1.into()))), "{other:?}");
        }
        assert!(!is_cts(&refused()));
    }

    #[test]
    fn health_is_graded_by_its_status_and_compared_with_this_run() {
        let grades = |body: &str| {
            let all = health(&Ok((200, body.into())), &EXPECTED);
            all.into_iter().map(|found| found.grade).collect::<Vec<_>>()
        };
        let body = |status: &str, kind: &str, version: &str| {
            format!(
                r#"{{"status":"{status}","database":{{"type":"{kind}"}},"version":"{version}"}}"#
            )
        };
        for (state, grade) in [
            ("healthy", Good),
            ("degraded", Attention),
            ("initializing", Attention),
            ("unhealthy", Bad),
        ] {
            assert_eq!(grades(&body(state, "sqlite", VERSION)), [grade], "{state}");
        }
        assert_eq!(grades(&body("healthy", "postgresql", VERSION)), [Good, Attention]);
        assert_eq!(grades(&body("healthy", "sqlite", "3.0.9")), [Good, Attention]);
        assert_eq!(grades("hello"), [Bad]);
        let all =
            health(&Ok((503, r#"{"status":"unhealthy","reasons":["a","b"]}"#.into())), &EXPECTED);
        assert_eq!(all[0].what, "unhealthy: a; b");
        assert_eq!(health(&refused(), &EXPECTED)[0].grade, Bad);
    }

    #[test]
    fn the_administrative_path_is_open_or_closed_as_configured() {
        let grade = |code: u16, has_token| {
            status(&Ok((code, String::new())), &Expected { has_token, ..EXPECTED }).grade
        };
        let grades = [200, 401, 403, 503, 404].map(|code| (grade(code, false), grade(code, true)));
        assert_eq!(
            grades,
            [(Good, Attention), (Good, Good), (Good, Good), (Attention, Attention), (Bad, Bad)]
        );
        assert_eq!(ready(&Ok((503, String::new()))).grade, Attention);
        assert_eq!(ready(&Ok((404, String::new()))).grade, Bad);
    }
}
