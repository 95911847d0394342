//! What the parameters of a URL mean, as libpq has them (PostgreSQL documentation, "Parameter Key
//! Words"), with the defaults of those that are missing.

use std::net::IpAddr;
use std::time::Duration;

use super::parameters::Parameters;
use super::startup_options::{search_path_of, with_search_path};
use super::target::{ChannelBinding, Endpoint, Host, Keepalives, Password, SessionAttrs, Target};
use super::tls_settings::tls_settings;
use super::{DEFAULT_SOCKET, config_error, environment, passfile};
use crate::error::Result;
use crate::store::sql::quoted;
use crate::system::environment::Environment;
use crate::system::users;

/// Where the server listens if no port is named (PostgreSQL documentation, "port").
const DEFAULT_PORT: u16 = 5432;
/// The `application_name` of a connection unless the URL gives another one.
const APPLICATION: &str = "cts";

/// The database that the parameters name, with defaults for those that are missing.
///
/// # Errors
/// `Kind::Config` if a value is malformed, or asks for something that cts does not support.
pub fn target(parameters: &Parameters, variables: Environment<'_>) -> Result<Target> {
    let user = match parameters.text("user")? {
        Some(user) => user.to_string(),
        None => system_user(variables)?,
    };
    let database = parameters.text("dbname")?.unwrap_or(&user).to_string();
    let mut hosts = hosts(parameters)?;
    let mut warnings = parameters.warnings().to_vec();
    match parameters.bytes("password") {
        Some(password) => {
            hosts.iter_mut().for_each(|h| h.password = Some(Password::new(password.to_vec())));
        }
        None => {
            let path = passfile::path(parameters.path("passfile"), variables);
            let file = path.map_or(Ok(Vec::new()), |path| passfile::read(&path));
            let file = file.unwrap_or_else(|warning| {
                warnings.push(warning);
                Vec::new()
            });
            for host in &mut hosts {
                host.password = passfile::find(&file, host, &database, &user).map(Password::new);
            }
        }
    }
    warnings.extend(environment::not_read(parameters, &hosts, variables));
    Ok(Target {
        application_name: application_name(parameters)?,
        connect_timeout: connect_timeout(parameters)?,
        options: options(parameters)?,
        session_attrs: session_attrs(parameters, hosts.len())?,
        keepalives: keepalives(parameters)?,
        tcp_user_timeout: parameters.positive("tcp_user_timeout")?.map(Duration::from_millis),
        channel_binding: channel_binding(parameters)?,
        tls: tls_settings(parameters, &hosts, variables)?,
        hosts,
        user,
        database,
        warnings,
    })
}

fn hosts(parameters: &Parameters) -> Result<Vec<Host>> {
    let (names, addresses) = (parameters.list("host")?, parameters.list("hostaddr")?);
    let count = names.len().max(addresses.len()).max(1);
    for (name, list) in [("host", &names), ("hostaddr", &addresses)] {
        if !list.is_empty() && list.len() != count {
            return Err(config_error(format!("{name} has fewer items than there are hosts"))
                .remedy("give every host its own, in the same order"));
        }
    }
    let ports = parameters.list("port")?;
    if ports.len() > 1 && ports.len() != count {
        return Err(config_error("there are not as many ports as hosts")
            .remedy("give one port for all hosts, or one for each"));
    }
    (0..count)
        .map(|i| {
            let port = if ports.len() == 1 { ports.first() } else { ports.get(i) };
            host(
                names.get(i).copied().unwrap_or_default(),
                addresses.get(i).copied().unwrap_or_default(),
                port.copied().unwrap_or_default(),
                count,
            )
        })
        .collect()
}

fn host(name: &str, address: &str, port: &str, count: usize) -> Result<Host> {
    let given = match address {
        "" => None,
        text => Some(text.parse::<IpAddr>().map_err(|_| {
            config_error("hostaddr has an item that is not an IP address")
                .remedy("write an address such as 192.0.2.1, or leave hostaddr out")
        })?),
    };
    let endpoint = match (name, given) {
        // libpq reads an empty item of a list as the default socket; here it is a typing error.
        ("", None) if count > 1 => {
            return Err(config_error("the list of hosts has an empty item")
                .remedy("remove the surplus comma between the hosts"));
        }
        ("", None) => Endpoint::Unix(DEFAULT_SOCKET.into()),
        ("", Some(address)) => Endpoint::Tcp(address.to_string()),
        (name, _) if name.starts_with('/') => Endpoint::Unix(name.into()),
        (name, _)
            if name
                .contains(|c: char| "@/?#[]\\\"'<>".contains(c) || c.is_control() || c == ' ') =>
        {
            return Err(config_error(
                "a host contains a character that a host name cannot contain",
            )
            .remedy(
                "write host:port, percent-encode the delimiters in the password \
                 (/ as %2F, @ as %40, ? as %3F, : as %3A), and give a socket as ?host=/folder",
            ));
        }
        (name, _) => Endpoint::Tcp(name.to_string()),
    };
    let address = given.filter(|_| matches!(endpoint, Endpoint::Tcp(_)));
    Ok(Host { endpoint, address, port: read_port(port)?, password: None })
}

fn read_port(text: &str) -> Result<u16> {
    if text.is_empty() {
        return Ok(DEFAULT_PORT);
    }
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0).ok_or_else(|| {
        config_error("the text after the colon of a host is not a port from 1 to 65535").remedy(
            "write host:port; percent-encode the delimiters in the password (/ as %2F, \
             @ as %40, ? as %3F), and put an IPv6 address in brackets",
        )
    })
}

/// The user that runs this process, found as libpq does. In a container the id may have no name.
fn system_user(variables: Environment<'_>) -> Result<String> {
    let id = rustix::process::geteuid().as_raw();
    let variable = |name| variables(name)?.into_string().ok().filter(|name| !name.is_empty());
    let name = users::known_name(id).or_else(|| variable("USER")).or_else(|| variable("LOGNAME"));
    name.ok_or_else(|| {
        config_error("the URL names no user, and the user that runs cts has no name in /etc/passwd, USER or LOGNAME")
            .remedy("write postgresql://user@host/database")
    })
}

fn application_name(parameters: &Parameters) -> Result<String> {
    let name = match parameters.text("application_name")? {
        Some(name) => Some(name),
        None => parameters.text("fallback_application_name")?,
    };
    Ok(name.unwrap_or(APPLICATION).to_string())
}

/// `options`, with the schema of Prisma's `schema` as its search path.
fn options(parameters: &Parameters) -> Result<Option<String>> {
    let options = parameters.text("options")?.map(str::to_string);
    let Some(schema) = parameters.text("schema")? else { return Ok(options) };
    if options.as_deref().and_then(search_path_of).is_some() {
        return Err(config_error("schema and options both set the search path")
            .remedy("leave one of them out"));
    }
    Ok(Some(with_search_path(options.as_deref(), &quoted(schema))))
}

/// Zero, negative or not given is no limit (PostgreSQL documentation, "connect_timeout"). Like
/// libpq, reads 1 as 2 (fe-connect.c, `connectDBComplete`).
fn connect_timeout(parameters: &Parameters) -> Result<Option<Duration>> {
    Ok(parameters.positive("connect_timeout")?.map(|seconds| Duration::from_secs(seconds.max(2))))
}

fn session_attrs(parameters: &Parameters, hosts: usize) -> Result<SessionAttrs> {
    let choices = [
        ("any", Some(SessionAttrs::Any)),
        ("read-write", Some(SessionAttrs::ReadWrite)),
        ("primary", Some(SessionAttrs::ReadWrite)),
        ("read-only", None),
        ("standby", None),
        ("prefer-standby", None),
    ];
    match parameters.choice("target_session_attrs", &choices)? {
        None if hosts > 1 => Ok(SessionAttrs::ReadWrite),
        None => Ok(SessionAttrs::Any),
        Some(Some(attrs)) => Ok(attrs),
        Some(None) => Err(config_error(
            "target_session_attrs asks for a read-only server, and cts must write",
        )
        .remedy("set target_session_attrs=read-write, or leave it out")),
    }
}

fn keepalives(parameters: &Parameters) -> Result<Keepalives> {
    let seconds = |name| parameters.positive(name).map(|seconds| seconds.map(Duration::from_secs));
    Ok(Keepalives {
        // PostgreSQL documentation, "keepalives": on by default, 0 turns them off.
        on: parameters.integer("keepalives")? != Some(0),
        idle: seconds("keepalives_idle")?,
        interval: seconds("keepalives_interval")?,
        count: parameters.positive("keepalives_count")?.and_then(|count| count.try_into().ok()),
    })
}

fn channel_binding(parameters: &Parameters) -> Result<ChannelBinding> {
    let choices = [
        ("disable", ChannelBinding::Disable),
        ("prefer", ChannelBinding::Prefer),
        ("require", ChannelBinding::Require),
    ];
    Ok(parameters.choice("channel_binding", &choices)?.unwrap_or(ChannelBinding::Prefer))
}
