//! Reads a PostgreSQL URL as libpq does (PostgreSQL documentation, "Connection URIs" and
//! "Parameter Key Words") into a [`Target`]. It is stricter than libpq where a misplaced
//! delimiter could make part of a password pass for a host, a port or a database: an `@`,
//! `?` or `/` that is not percent-encoded is refused. No error quotes the URL, save the name
//! of an unknown parameter where that cannot be part of a password.

mod passfile;
mod values;

#[cfg(test)]
mod tests;

use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::system::environment::Environment;
use values::Values;

/// Where the server listens if no port is named (PostgreSQL documentation, "port").
const DEFAULT_PORT: u16 = 5432;
/// Folder of the socket if no host is named, as Debian builds libpq (`pg_config`,
/// `DEFAULT_PGSOCKET_DIR`).
const DEFAULT_SOCKET: &str = "/var/run/postgresql";
/// What the server is told that we are.
const APPLICATION: &str = "cts";

/// A database on a server, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The servers, to be tried in this order; at least one.
    pub hosts: Vec<Host>,
    /// Who logs in.
    pub user: String,
    /// The database; that of the user's name if none is given.
    pub database: String,
    /// Shown in `pg_stat_activity`.
    pub application_name: String,
    /// How long to wait for each host; `None` is without end.
    pub connect_timeout: Option<Duration>,
    /// Options for the server's process, such as `-c search_path=x`.
    pub options: Option<String>,
    /// Which server of several will do.
    pub session: SessionAttrs,
    /// Signs of life on an idle connection.
    pub keepalives: Keepalives,
    /// How long sent data may stay unacknowledged; `None` is the system's way.
    pub tcp_user_timeout: Option<Duration>,
    /// Whether the login is bound to the TLS session.
    pub channel_binding: ChannelBinding,
    /// How the connection is encrypted, and what the server must prove.
    pub tls: TlsSettings,
    /// What an operator should be told about, and does not stop anything.
    pub warnings: Vec<String>,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its name, which its certificate is compared with, or its socket.
    pub place: Endpoint,
    /// Where to connect to in place of what the name resolves to (`hostaddr`).
    pub address: Option<IpAddr>,
    /// Its port, also of a socket.
    pub port: u16,
    /// What to log in with: of the URL, else of the password file.
    pub password: Option<Password>,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A host name or an address, without brackets.
    Tcp(String),
    /// The folder of a Unix socket.
    Unix(PathBuf),
}

/// A password: any bytes, never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Vec<u8>);

impl Password {
    /// The password itself.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
impl From<&str> for Password {
    fn from(text: &str) -> Password {
        Password(text.into())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Which server of several will do (`target_session_attrs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionAttrs {
    /// The first that answers: what a single host gets.
    Any,
    /// The first that takes writes: what several hosts get, since cts writes.
    ReadWrite,
}

/// Signs of life on an idle connection; `None` is the client library's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalives {
    /// Whether there are any.
    pub on: bool,
    /// After how long of silence.
    pub idle: Option<Duration>,
    /// How far apart.
    pub interval: Option<Duration>,
    /// After how many lost ones the connection counts as dead.
    pub count: Option<u32>,
}

/// Whether the login is bound to the TLS session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// Where the server can.
    Prefer,
    /// Always.
    Require,
}

/// How much is asked of TLS (PostgreSQL documentation, "SSL Mode Descriptions").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS where the server has it, without proof of whom we talk to.
    Prefer,
    /// Always TLS; proof only where a root certificate is given.
    Require,
    /// TLS, and the certificate is signed by somebody we trust.
    VerifyCa,
    /// TLS, and the certificate is also that of the host's name.
    VerifyFull,
}

impl SslMode {
    /// Its name in a URL.
    pub fn name(self) -> &'static str {
        match self {
            SslMode::Disable => "disable",
            SslMode::Prefer => "prefer",
            SslMode::Require => "require",
            SslMode::VerifyCa => "verify-ca",
            SslMode::VerifyFull => "verify-full",
        }
    }
}

/// Whose signature on a certificate is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    /// The authorities in this file.
    File(PathBuf),
    /// The authorities that the operating system trusts.
    System,
}

/// How the connection is encrypted. Does not apply to a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// How much is asked.
    pub mode: SslMode,
    /// Whose signature is trusted, where that is configured.
    pub root: Option<Root>,
    /// Our own certificate.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// The folder in which libpq looks for what is not configured: `~/.postgresql`.
    pub folder: Option<PathBuf>,
}

impl Target {
    /// Reads `url`, which came from `source` (the name of a variable or a flag, perhaps with a
    /// path). A password file is read too, where the URL has no password.
    pub fn read(source: &str, url: &str, environment: Environment<'_>) -> Result<Target> {
        values(url).and_then(|values| target(&values, environment)).map_err(|e| e.at(source))
    }

    /// The database as it may be shown: without a password and without parameters.
    pub fn location(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = match self.hosts.iter().any(|host| host.password.is_some()) {
            true => ":***",
            false => "",
        };
        write!(f, "postgresql://{}{secret}@", encoded(&self.user))?;
        for (i, host) in self.hosts.iter().enumerate() {
            write!(f, "{}{host}", if i == 0 { "" } else { "," })?;
        }
        write!(f, "/{}", encoded(&self.database))
    }
}

impl Host {
    /// Whether nothing leaves this machine on the way to it.
    pub fn is_local(&self) -> bool {
        match (&self.place, self.address) {
            (Endpoint::Unix(_), _) => true,
            (Endpoint::Tcp(_), Some(address)) => address.is_loopback(),
            (Endpoint::Tcp(name), None) => {
                name.eq_ignore_ascii_case("localhost")
                    || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
            }
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Endpoint::Tcp(name) if name.contains(':') => {
                write!(f, "[{}]", name.replace('%', "%25"))?
            }
            Endpoint::Tcp(name) => f.write_str(&encoded(name))?,
            Endpoint::Unix(folder) => f.write_str(&encoded(&folder.to_string_lossy()))?,
        }
        write!(f, ":{}", self.port)
    }
}

/// All but RFC 3986's unreserved characters as %XX.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// The words of the URL, decoded, under the names that libpq has for them.
fn values(url: &str) -> Result<Values> {
    // A file ends with a line feed.
    let rest = without_scheme(url.trim_matches(|c: char| c.is_ascii_whitespace()))?;
    if rest.chars().any(|c| c.is_ascii_whitespace() || c.is_control()) {
        return Err(fault("there is a space, a line break or a control character in the URL")
            .remedy("percent-encode it: a space as %20"));
    }
    let (login, rest) = match rest.find(['@', '/', '?']) {
        Some(end) if rest[end..].starts_with('@') => (&rest[..end], &rest[end + 1..]),
        _ => ("", rest),
    };
    if rest.contains('@') {
        return Err(delimiter());
    }
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let (hosts, ports) = split_hosts(authority)?;
    let mut values = Values::default();
    for (name, word) in [
        ("user", user),
        ("password", password),
        ("host", &*hosts),
        ("port", &*ports),
        ("dbname", database),
    ] {
        values.set(name, word)?;
    }
    values.set_query(query)?;
    Ok(values)
}

/// The URL without `postgresql://`.
fn without_scheme(url: &str) -> Result<&str> {
    // Only these two, in lower case (PostgreSQL documentation, "Connection URIs").
    let rest = ["postgresql://", "postgres://"].iter().find_map(|s| url.strip_prefix(s));
    let what = match rest {
        Some(rest) => return Ok(rest),
        None if url.is_empty() => "it is empty, and a URL is wanted",
        None if url.starts_with("jdbc:") => {
            "it begins with jdbc:, which only Java has, and a PostgreSQL URL is wanted"
        }
        None if !url.contains("://") && url.contains('=') => {
            "it has the form name=value, and a URL is wanted"
        }
        None => "it does not begin with postgresql://",
    };
    Err(fault(what).remedy("write postgresql://user:password@host:port/database"))
}

/// The hosts and the ports, each as a list with commas, still percent-encoded.
fn split_hosts(authority: &str) -> Result<(String, String)> {
    let (mut hosts, mut ports) = (Vec::new(), Vec::new());
    for item in authority.split(',') {
        let (host, port) = split_host(item)?;
        hosts.push(host);
        ports.push(port);
    }
    Ok((hosts.join(","), ports.join(",")))
}

fn split_host(item: &str) -> Result<(&str, &str)> {
    let Some(bracketed) = item.strip_prefix('[') else {
        return Ok(item.split_once(':').unwrap_or((item, "")));
    };
    let wrong = || {
        fault(
            "the brackets round the IPv6 address of a host are not closed, or hold no such address",
        )
        .remedy("write [address]:port, as in [::1]:5432")
    };
    let (address, rest) = bracketed.split_once(']').ok_or_else(wrong)?;
    // A zone such as %25eth0 may follow.
    let plain = address.split('%').next().unwrap_or_default();
    let port = rest.strip_prefix(':').or(rest.is_empty().then_some(""));
    match (plain.parse::<Ipv6Addr>(), port) {
        (Ok(_), Some(port)) => Ok((address, port)),
        _ => Err(wrong()),
    }
}

/// What the words mean, with the defaults for those that are missing.
fn target(values: &Values, environment: Environment<'_>) -> Result<Target> {
    let user = match values.text("user")? {
        Some(user) => user.to_string(),
        None => system_user(environment)?,
    };
    let database = values.text("dbname")?.unwrap_or(&user).to_string();
    let mut hosts = hosts(values)?;
    let mut warnings = Vec::new();
    match values.bytes("password") {
        Some(password) => {
            hosts.iter_mut().for_each(|h| h.password = Some(Password(password.to_vec())));
        }
        None => {
            let file = passfile::path(values.path("passfile"), environment);
            let file = file.map(|path| passfile::read(&path, &mut warnings)).unwrap_or_default();
            for host in &mut hosts {
                host.password = passfile::find(&file, host, &database, &user).map(Password);
            }
        }
    }
    Ok(Target {
        application_name: application_name(values)?,
        connect_timeout: connect_timeout(values)?,
        options: values.text("options")?.map(str::to_string),
        session: session(values, hosts.len())?,
        keepalives: keepalives(values)?,
        tcp_user_timeout: values.positive("tcp_user_timeout")?.map(Duration::from_millis),
        channel_binding: channel_binding(values)?,
        tls: tls(values, &hosts, environment)?,
        hosts,
        user,
        database,
        warnings,
    })
}

fn hosts(values: &Values) -> Result<Vec<Host>> {
    let (names, addresses) = (values.list("host")?, values.list("hostaddr")?);
    let count = names.len().max(addresses.len()).max(1);
    for (name, list) in [("host", &names), ("hostaddr", &addresses)] {
        if !list.is_empty() && list.len() != count {
            return Err(fault(format!("{name} has fewer items than there are hosts"))
                .remedy("give every host its own, in the same order"));
        }
    }
    let ports = values.list("port")?;
    if ports.len() > 1 && ports.len() != count {
        return Err(fault("there are not as many ports as hosts")
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
            fault("hostaddr has an item that is not an IP address")
                .remedy("write an address such as 192.0.2.1, or leave hostaddr out")
        })?),
    };
    let place = match (name, given) {
        // libpq takes an empty item of a list for the default socket; it is a slip.
        ("", None) if count > 1 => {
            return Err(fault("the list of hosts has an empty item")
                .remedy("leave no comma too many between the hosts"));
        }
        ("", None) => Endpoint::Unix(DEFAULT_SOCKET.into()),
        ("", Some(address)) => Endpoint::Tcp(address.to_string()),
        (name, _) if name.starts_with('/') => Endpoint::Unix(name.into()),
        (name, _)
            if name
                .contains(|c: char| "@/?#[]\\\"'<>".contains(c) || c.is_control() || c == ' ') =>
        {
            return Err(fault("a host has a character that no host name has").remedy(
                "write host:port, percent-encode what is special in the password \
                 (/ as %2F, @ as %40, ? as %3F, : as %3A), and give a socket as ?host=/folder",
            ));
        }
        (name, _) => Endpoint::Tcp(name.to_string()),
    };
    let address = given.filter(|_| matches!(place, Endpoint::Tcp(_)));
    Ok(Host { place, address, port: read_port(port)?, password: None })
}

fn read_port(text: &str) -> Result<u16> {
    if text.is_empty() {
        return Ok(DEFAULT_PORT);
    }
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0).ok_or_else(|| {
        fault("what follows the colon of a host is not a port from 1 to 65535").remedy(
            "write host:port; percent-encode what is special in the password (/ as %2F, \
             @ as %40, ? as %3F), and put an IPv6 address in brackets",
        )
    })
}

/// Who runs this process, as libpq finds it; a container may know no name for the id.
fn system_user(environment: Environment<'_>) -> Result<String> {
    let id = rustix::process::geteuid().as_raw();
    let known = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let variable = |name| environment(name)?.into_string().ok().filter(|name| !name.is_empty());
    name_of(id, &known).or_else(|| variable("USER")).or_else(|| variable("LOGNAME")).ok_or_else(
        || {
            fault("the URL names no user, and the operating system has no name for the one that runs cts")
                .remedy("write postgresql://user@host/database")
        },
    )
}

/// The name of a user id in passwd(5).
fn name_of(id: u32, passwd: &str) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == id.to_string()).then(|| name.to_string())
    })
}

fn application_name(values: &Values) -> Result<String> {
    let name = match values.text("application_name")? {
        Some(name) => Some(name),
        None => values.text("fallback_application_name")?,
    };
    Ok(name.unwrap_or(APPLICATION).to_string())
}

/// PostgreSQL documentation, "connect_timeout": zero, negative or not given is no limit. libpq
/// takes 1 for 2 (fe-connect.c, `connectDBComplete`).
fn connect_timeout(values: &Values) -> Result<Option<Duration>> {
    Ok(values.positive("connect_timeout")?.map(|seconds| Duration::from_secs(seconds.max(2))))
}

fn session(values: &Values, hosts: usize) -> Result<SessionAttrs> {
    let choices = [
        ("any", Some(SessionAttrs::Any)),
        ("read-write", Some(SessionAttrs::ReadWrite)),
        ("primary", Some(SessionAttrs::ReadWrite)),
        ("read-only", None),
        ("standby", None),
        ("prefer-standby", None),
    ];
    match values.choice("target_session_attrs", &choices)? {
        None if hosts > 1 => Ok(SessionAttrs::ReadWrite),
        None => Ok(SessionAttrs::Any),
        Some(Some(attrs)) => Ok(attrs),
        Some(None) => Err(fault(
            "target_session_attrs asks for a server that takes no writes, and cts must write",
        )
        .remedy("set target_session_attrs=read-write, or leave it out")),
    }
}

fn keepalives(values: &Values) -> Result<Keepalives> {
    let seconds = |name| values.positive(name).map(|seconds| seconds.map(Duration::from_secs));
    Ok(Keepalives {
        // PostgreSQL documentation, "keepalives": 0 is off, and they are on by default.
        on: values.integer("keepalives")? != Some(0),
        idle: seconds("keepalives_idle")?,
        interval: seconds("keepalives_interval")?,
        count: values.positive("keepalives_count")?.and_then(|count| count.try_into().ok()),
    })
}

fn channel_binding(values: &Values) -> Result<ChannelBinding> {
    let choices = [
        ("disable", ChannelBinding::Disable),
        ("prefer", ChannelBinding::Prefer),
        ("require", ChannelBinding::Require),
    ];
    Ok(values.choice("channel_binding", &choices)?.unwrap_or(ChannelBinding::Prefer))
}

fn tls(values: &Values, hosts: &[Host], environment: Environment<'_>) -> Result<TlsSettings> {
    let choices = [
        ("disable", SslMode::Disable),
        ("allow", SslMode::Prefer),
        ("prefer", SslMode::Prefer),
        ("require", SslMode::Require),
        ("verify-ca", SslMode::VerifyCa),
        ("verify-full", SslMode::VerifyFull),
    ];
    let root = values.path("sslrootcert").map(|path| match path == Path::new("system") {
        true => Root::System,
        false => Root::File(path),
    });
    let mode = values.choice("sslmode", &choices)?;
    // PostgreSQL documentation, "sslrootcert": anybody can get a certificate of a public authority.
    if root == Some(Root::System) && mode.is_some_and(|mode| mode != SslMode::VerifyFull) {
        return Err(fault("sslrootcert=system proves nothing without the host's name")
            .remedy("set sslmode=verify-full, or leave sslmode out"));
    }
    let local = root != Some(Root::System) && hosts.iter().all(Host::is_local);
    Ok(TlsSettings {
        mode: mode.unwrap_or(if local { SslMode::Prefer } else { SslMode::VerifyFull }),
        root,
        cert: values.path("sslcert"),
        key: values.path("sslkey"),
        folder: home(environment).map(|home| home.join(".postgresql")),
    })
}

fn home(environment: Environment<'_>) -> Option<PathBuf> {
    environment("HOME").filter(|home| !home.is_empty()).map(PathBuf::from)
}

fn fault(what: impl Into<String>) -> Error {
    Error::new(Kind::Config, what)
}

/// The URL cannot be cut into pieces with certainty.
fn delimiter() -> Error {
    fault("a character that ends a piece of the URL stands where it cannot, most often in the password")
        .remedy("percent-encode it: / as %2F, @ as %40, ? as %3F, : as %3A, # as %23, % as %25")
}
