//! The environment variables of libpq (PostgreSQL documentation, "Environment Variables"). Of these cts reads
//! PGPASSFILE alone: a service has one place for its settings. One that would change which database is used or
//! how safe the connection is, and for which the URL says nothing, is named.

use super::parameters::Parameters;
use super::target::{ConfigWarning, Host, WarningSubject};
use crate::system::environment::Environment;

/// Variables that libpq reads and cts does not, each with the parameter that the URL has for it.
pub const NOT_READ: &[(&str, &str)] = &[
    ("PGCHANNELBINDING", "channel_binding"),
    ("PGDATABASE", "dbname"),
    ("PGGSSENCMODE", "gssencmode"),
    ("PGHOST", "host"),
    ("PGHOSTADDR", "hostaddr"),
    ("PGOPTIONS", "options"),
    ("PGPASSWORD", "password"),
    ("PGPORT", "port"),
    ("PGREQUIREAUTH", "require_auth"),
    ("PGREQUIREPEER", "requirepeer"),
    ("PGREQUIRESSL", "sslmode"),
    ("PGSERVICE", "service"),
    ("PGSERVICEFILE", "servicefile"),
    ("PGSSLCERT", "sslcert"),
    ("PGSSLCERTMODE", "sslcertmode"),
    ("PGSSLCRL", "sslcrl"),
    ("PGSSLCRLDIR", "sslcrldir"),
    ("PGSSLKEY", "sslkey"),
    ("PGSSLMAXPROTOCOLVERSION", "ssl_max_protocol_version"),
    ("PGSSLMINPROTOCOLVERSION", "ssl_min_protocol_version"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLNEGOTIATION", "sslnegotiation"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
    ("PGUSER", "user"),
];

/// The variables that are set, are not read, and have no counterpart in the URL.
pub fn not_read(
    parameters: &Parameters,
    hosts: &[Host],
    variables: Environment<'_>,
) -> Option<ConfigWarning> {
    let has_password = hosts.iter().all(|host| host.password.is_some());
    let is_open = |parameter: &str| match parameter {
        "password" => !has_password,
        // Where the URL names a host, these of another one are not meant for it.
        "host" | "hostaddr" => parameters.bytes("host").or(parameters.bytes("hostaddr")).is_none(),
        "port" => !parameters.bytes("port").is_some_and(|ports| ports.iter().any(|b| *b != b',')),
        "service" | "servicefile" => true,
        name => parameters.bytes(name).is_none(),
    };
    let is_set = |name: &str| match (name, variables(name)) {
        ("PGGSSENCMODE", value) => value.is_some_and(|value| value == "require"),
        (_, value) => value.is_some_and(|value| !value.is_empty()),
    };
    let found: Vec<_> =
        NOT_READ.iter().filter(|(name, parameter)| is_set(name) && is_open(parameter)).collect();
    let first = found.first()?;
    let names: Vec<_> = found.iter().map(|(name, _)| *name).collect();
    let parameters: Vec<_> = found.iter().map(|(_, parameter)| *parameter).collect();
    let (is, it) = if names.len() == 1 { ("is", "it") } else { ("are", "them") };
    let remedy = match first {
        (_, "service" | "servicefile") => "write the parameters of the service into the URL".into(),
        _ => {
            format!("where it is meant for cts, write it into the URL ({})", parameters.join(", "))
        }
    };
    Some(ConfigWarning {
        subject: WarningSubject::Environment,
        what: format!("{} {is} set, and cts does not read {it}", names.join(", ")),
        remedy,
    })
}
