//! Every parameter that cts knows of: those of libpq (PostgreSQL 18 documentation, "Parameter Key Words"), and
//! those that other programs put into the URLs that they share with cts. None is ignored in silence that
//! changes which database is used or how safe the connection is.

/// What cts does with a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterRule {
    /// It has libpq's meaning, which [`super::reader`] gives it.
    Read,
    /// These values ask for what cts does anyway; every other one is refused.
    Only(&'static [&'static str], Unsupported),
    /// No value of it changes anything: it is about prepared statements, of which cts uses none, or marks
    /// the URL for another program.
    Satisfied,
    /// It is meant for another program and has no effect, which is said; what sets the same for cts.
    WithoutEffect(&'static str),
    /// It asks for something that cts cannot do.
    Refused(Unsupported),
}

/// Why a parameter is refused, after its name, and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// Why.
    pub why: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

use ParameterRule::{Only, Read, Refused, Satisfied, WithoutEffect};

const fn unsupported(why: &'static str, remedy: &'static str) -> Unsupported {
    Unsupported { why, remedy }
}

const fn refused(why: &'static str, remedy: &'static str) -> ParameterRule {
    Refused(unsupported(why, remedy))
}

const OFF: &[&str] = &["0", "false", "off", "no"];
const GSSAPI: ParameterRule = refused(
    "is about GSSAPI (Kerberos), which cts does not support",
    "leave it out, and let the role log in with a password (scram-sha-256) or a client certificate",
);
const OAUTH: ParameterRule = refused(
    "is about the login by OAuth, which cts does not support",
    "leave it out, and let the role log in with a password (scram-sha-256) or a client certificate",
);
const SCRAM_KEYS: ParameterRule = refused(
    "gives a key of SCRAM in place of the password, which cts does not support",
    "leave it out, and give the password itself in the URL or in the password file",
);
const SERVICE: ParameterRule = refused(
    "names a connection service file, which cts does not read",
    "leave it out, and write the parameters of that service into the URL",
);
const TIMEOUTS: ParameterRule = WithoutEffect("cts sets the timeouts of its statements itself");
const POOL: ParameterRule =
    WithoutEffect("the pool of cts is set by CTS_POOL_MAX and CTS_POOL_IDLE");
const SEARCH_PATH: ParameterRule = refused(
    "is not a connection parameter",
    "set the schema with options=-csearch_path%3DNAME, or `ALTER ROLE … SET search_path`",
);

/// Every parameter, by name.
pub const PARAMETERS: &[(&str, ParameterRule)] = &[
    // Those of libpq that cts gives libpq's meaning.
    ("application_name", Read),
    ("channel_binding", Read),
    ("connect_timeout", Read),
    ("dbname", Read),
    ("fallback_application_name", Read),
    ("host", Read),
    ("hostaddr", Read),
    ("keepalives", Read),
    ("keepalives_count", Read),
    ("keepalives_idle", Read),
    ("keepalives_interval", Read),
    ("options", Read),
    ("passfile", Read),
    ("password", Read),
    ("port", Read),
    ("require_auth", Read),
    ("ssl", Read),
    ("ssl_max_protocol_version", Read),
    ("ssl_min_protocol_version", Read),
    ("sslcert", Read),
    ("sslcertmode", Read),
    ("sslcrl", Read),
    ("sslcrldir", Read),
    ("sslkey", Read),
    ("sslmode", Read),
    ("sslnegotiation", Read),
    ("sslrootcert", Read),
    ("sslsni", Read),
    ("target_session_attrs", Read),
    ("tcp_user_timeout", Read),
    ("user", Read),
    // Those of libpq of which cts can do one thing only.
    (
        "client_encoding",
        Only(
            &["utf8", "utf-8", "unicode", "auto"],
            unsupported(
                "asks for another encoding than UTF-8, the only one of cts",
                "leave it out",
            ),
        ),
    ),
    (
        "gssencmode",
        Only(
            &["disable", "prefer"],
            unsupported(
                "asks for encryption by GSSAPI, which cts does not support",
                "leave it out, and set sslmode=verify-full for encryption by TLS",
            ),
        ),
    ),
    (
        "gssdelegation",
        Only(OFF, unsupported("asks for GSSAPI, which cts does not support", "leave it out")),
    ),
    (
        "load_balance_hosts",
        Only(
            &["disable"],
            unsupported(
                "asks for a random host, and cts uses the one that it can write",
                "leave it out, or set load_balance_hosts=disable",
            ),
        ),
    ),
    (
        "min_protocol_version",
        Only(
            &["3.0"],
            unsupported(
                "asks for a newer protocol than 3.0, the one that cts speaks",
                "leave it out: every version of PostgreSQL accepts 3.0",
            ),
        ),
    ),
    (
        "max_protocol_version",
        Only(
            &["3.0", "3.2", "latest"],
            unsupported("is not a version of the protocol", "leave it out"),
        ),
    ),
    (
        "replication",
        Only(
            OFF,
            unsupported(
                "asks for a replication connection, and cts needs an ordinary one",
                "leave it out",
            ),
        ),
    ),
    (
        "sslcompression",
        Only(
            &["0"],
            unsupported(
                "asks for compression by TLS, which is not safe and which cts does not have",
                "leave it out",
            ),
        ),
    ),
    // Those of libpq that cts cannot do.
    ("gsslib", GSSAPI),
    ("krbsrvname", GSSAPI),
    ("oauth_client_id", OAUTH),
    ("oauth_client_secret", OAUTH),
    ("oauth_issuer", OAUTH),
    ("oauth_scope", OAUTH),
    ("scram_client_key", SCRAM_KEYS),
    ("scram_server_key", SCRAM_KEYS),
    ("service", SERVICE),
    ("servicefile", SERVICE),
    (
        "requirepeer",
        refused(
            "asks for a check of the server's user on a Unix socket, which cts does not make",
            "leave it out, and let nobody else write the folder of the socket",
        ),
    ),
    (
        "requiressl",
        refused(
            "is an old form of sslmode",
            "write sslmode=require, or better sslmode=verify-full",
        ),
    ),
    (
        "sslkeylogfile",
        refused(
            "asks for the keys of the connection to be written to a file, which cts does not do",
            "leave it out",
        ),
    ),
    (
        "sslpassword",
        refused(
            "is the password of an encrypted key, and cts reads only a key that is not encrypted",
            "decrypt it (`openssl pkey -in KEY -out NEW`, chmod 600), name the new file in sslkey, and leave sslpassword out",
        ),
    ),
    // The schema.
    ("schema", Read),
    ("currentSchema", SEARCH_PATH),
    ("search_path", SEARCH_PATH),
    // Neon.
    (
        "endpoint",
        refused(
            "is not a connection parameter",
            "leave it out: cts names the host to the server (SNI), which is enough for Neon; else write options=endpoint%3DNAME",
        ),
    ),
    // Supabase and Vercel.
    ("supa", Satisfied),
    ("workaround", Satisfied),
    // node-postgres.
    (
        "uselibpqcompat",
        Only(
            &["true", "1"],
            unsupported("asks for other meanings than libpq's, which cts has", "leave it out"),
        ),
    ),
    // Prisma.
    ("pgbouncer", Satisfied),
    (
        "sslaccept",
        Only(
            &["strict"],
            unsupported(
                "asks cts to accept a certificate that is not valid",
                "leave it out, and set sslmode=require, which verifies nothing, or better sslrootcert=/path/of/its/CA.pem",
            ),
        ),
    ),
    (
        "sslidentity",
        refused(
            "names a PKCS #12 file, which cts does not read",
            "leave it out, and name PEM files in sslcert and sslkey",
        ),
    ),
    ("connection_limit", POOL),
    (
        "pool_timeout",
        WithoutEffect("CTS_POOL_CONNECT sets how long cts waits for a connection of its pool"),
    ),
    ("socket_timeout", TIMEOUTS),
    ("max_idle_connection_lifetime", POOL),
    // Prepared statements, of pgbouncer's users: Prisma, asyncpg, SQLAlchemy, sqlx, pgx, JDBC, lib/pq, Rails.
    ("statement_cache_size", Satisfied),
    ("prepared_statement_cache_size", Satisfied),
    ("prepared_statement_name_func", Satisfied),
    ("prepared_statements", Satisfied),
    ("prepare_threshold", Satisfied),
    ("prepareThreshold", Satisfied),
    ("preparedStatementCacheQueries", Satisfied),
    ("preparedStatementCacheSizeMiB", Satisfied),
    ("preferQueryMode", Satisfied),
    ("binary_parameters", Satisfied),
    ("disable_prepared_binary_result", Satisfied),
    ("statement-cache-capacity", Satisfied),
    ("statement_cache_capacity", Satisfied),
    ("statement_cache_mode", Satisfied),
    ("description_cache_capacity", Satisfied),
    ("default_query_exec_mode", Satisfied),
    ("prefer_simple_protocol", Satisfied),
    // Pools of other programs.
    ("max_pool_size", POOL),
    ("min_pool_size", POOL),
    ("pool", POOL),
    ("pool_health_check_period", POOL),
    ("pool_max_conn_idle_time", POOL),
    ("pool_max_conn_lifetime", POOL),
    ("pool_max_conn_lifetime_jitter", POOL),
    ("pool_max_conns", POOL),
    ("pool_min_conns", POOL),
    ("pool_size", POOL),
    // Settings of the server that drivers send when they connect, and that cts sets itself.
    ("idle_in_transaction_session_timeout", TIMEOUTS),
    ("lock_timeout", TIMEOUTS),
    ("query_timeout", TIMEOUTS),
    ("statement_timeout", TIMEOUTS),
    ("timezone", WithoutEffect("cts works in UTC")),
    ("TimeZone", WithoutEffect("cts works in UTC")),
];

/// The parameters whose value is a secret. Where one stands in the URL, the names after it may be part of it.
pub const SECRETS: [&str; 5] =
    ["password", "sslpassword", "scram_client_key", "scram_server_key", "oauth_client_secret"];
