//! Of which kind a database URL is, told by its beginning, and what to write in place of one that is not a
//! PostgreSQL URL. A build without PostgreSQL has to tell them apart too. No error shows anything of the URL.

use crate::error::{Error, Kind, Result};

/// The form of a URL that cts reads.
const FORM: &str = "write postgresql://user:password@host:port/database";
/// The beginnings of a PostgreSQL URL, in lower case only (PostgreSQL documentation, "Connection URIs").
const POSTGRESQL: [&str; 2] = ["postgresql://", "postgres://"];
/// Quotes that a shell removes and other readers of settings (`docker run --env-file`) do not, and those
/// that a word processor writes.
const QUOTES: &[char] = &['"', '\'', '`', '“', '”', '„', '‘', '’', '‚', '«', '»', '‹', '›', '´'];

/// What a text is that cts cannot read as a PostgreSQL URL.
struct OtherUrl {
    /// After "it".
    what: &'static str,
    remedy: String,
}

impl OtherUrl {
    fn new(what: &'static str, remedy: &str) -> OtherUrl {
        OtherUrl { what, remedy: remedy.into() }
    }

    fn sqlite() -> OtherUrl {
        OtherUrl::new(
            "names a SQLite file, and this setting is for a PostgreSQL database",
            "set SQLITE_DB_PATH (or --db) to the path of the file, and leave the database URL out",
        )
    }

    fn error(self) -> Error {
        Error::new(Kind::Config, format!("it {}", self.what)).remedy(self.remedy)
    }
}

/// The rest of a PostgreSQL URL after `postgresql://`, without white space around the URL.
///
/// # Errors
/// `Kind::Config`, without a location, if it is none; the message says what it is.
pub fn after_scheme(url: &str) -> Result<&str> {
    // A file ends with a line feed.
    let url = url.trim_matches(|c: char| c.is_ascii_whitespace());
    let rest = POSTGRESQL.iter().find_map(|scheme| url.strip_prefix(scheme));
    match rest {
        Some(rest) if !url.ends_with(QUOTES) => Ok(rest),
        _ => Err(other(url).error()),
    }
}

/// Refuses a text that names a SQLite database. Any other text is accepted.
///
/// # Errors
/// `Kind::Config`, without a location.
pub fn refuse_sqlite(url: &str) -> Result<()> {
    if names_sqlite(url) { Err(OtherUrl::sqlite().error()) } else { Ok(()) }
}

/// Whether a text names a SQLite database: a URL of another program's form, or a path.
fn names_sqlite(url: &str) -> bool {
    let lower = url.trim_matches(|c: char| c.is_whitespace() || QUOTES.contains(&c));
    let lower = lower.to_ascii_lowercase();
    let schemes = ["sqlite:", "sqlite3:", "sqlite+", "jdbc:sqlite:", "file:"];
    let is_path = lower.starts_with(['/', '.', '~'])
        || (!lower.contains("://") && !lower.contains(['=', '@']) && is_file_name(&lower));
    is_path || schemes.iter().any(|scheme| lower.starts_with(scheme))
}

fn is_file_name(text: &str) -> bool {
    [".db", ".sqlite", ".sqlite3"].iter().any(|ending| text.ends_with(ending))
}

/// Says what a text is that is no PostgreSQL URL, or one in quotes.
fn other(url: &str) -> OtherUrl {
    if url.is_empty() {
        return OtherUrl::new("is empty; a PostgreSQL URL is required", FORM);
    }
    if url.starts_with("psql ") {
        let remedy = format!("{FORM}: the URL alone, without psql and quotes");
        return OtherUrl::new("is a psql command; a PostgreSQL URL is required", &remedy);
    }
    if url.starts_with(QUOTES) || url.ends_with(QUOTES) {
        return OtherUrl::new(
            "begins or ends with a quotation mark",
            "write the URL without quotes; where one is meant, percent-encode it: ' as %27, \" as %22",
        );
    }
    if names_sqlite(url) {
        return OtherUrl::sqlite();
    }
    let lower = url.to_ascii_lowercase();
    let found = KNOWN.iter().find(|(beginnings, _, _)| {
        beginnings.split_ascii_whitespace().any(|beginning| lower.starts_with(beginning))
    });
    match found {
        Some((_, what, remedy)) => OtherUrl::new(what, &remedy.replace("FORM", FORM)),
        None if !url.contains("://") && url.contains('=') => {
            OtherUrl::new("has the form name=value; a PostgreSQL URL is required", FORM)
        }
        None => OtherUrl::new("does not begin with postgresql://", FORM),
    }
}

/// The beginnings of texts that stand where a PostgreSQL URL belongs, in lower case and separated by blanks;
/// what they are; and what to write.
const KNOWN: [(&str, &str, &str); 8] = [
    (
        "jdbc:postgresql: jdbc:postgres: r2dbc:postgresql: r2dbc:postgres:",
        "is a JDBC URL (jdbc:); a PostgreSQL URL is required",
        "FORM, without jdbc:, with user and password before the host",
    ),
    (
        "postgresql+ postgres+",
        "names a driver of another program in its scheme, as SQLAlchemy's URLs do; a PostgreSQL URL is required",
        "leave out the plus sign and the driver: FORM",
    ),
    (
        "mysql: mysql2: mysql+ mysqls: mariadb: mariadb+ jdbc:mysql: jdbc:mariadb: r2dbc:mysql: r2dbc:mariadb:",
        "names a MySQL or MariaDB database, and cts works on SQLite and PostgreSQL",
        "FORM, or leave the database URL out for SQLite",
    ),
    (
        "mssql: mssql+ sqlserver: jdbc:sqlserver: oracle: oracle+ jdbc:oracle: mongodb: mongodb+ redis: rediss: \
         libsql: cockroachdb: cockroachdb+ duckdb: clickhouse:",
        "names a database of another kind, and cts works on SQLite and PostgreSQL",
        "FORM, or leave the database URL out for SQLite",
    ),
    (
        "prisma: prisma+",
        "is a URL of Prisma's own service, which only Prisma reads",
        "FORM, with the address of the database itself",
    ),
    (
        "http: https:",
        "is the address of a web server; a PostgreSQL URL is required",
        "FORM: the provider shows it as the connection string of the database",
    ),
    (
        "postgresql:// postgres://",
        "has a scheme that is not in lower case",
        "write postgresql:// in lower case: FORM",
    ),
    ("postgresql: postgres:", "does not begin with postgresql://", "FORM, with two slashes"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        after_scheme(url).unwrap_err().to_string()
    }

    #[test]
    fn a_postgresql_url_is_read_after_its_scheme() {
        for url in ["postgresql://u:p@h/d", " postgres://u:p@h/d\r\n"] {
            assert_eq!(after_scheme(url).unwrap(), "u:p@h/d");
        }
    }

    #[test]
    fn a_url_of_another_kind_is_told_apart_and_not_shown() {
        for (url, what, remedy) in [
            ("sqlite:///zebra.db", "names a SQLite file", "SQLITE_DB_PATH"),
            ("sqlite:/zebra.db", "names a SQLite file", "SQLITE_DB_PATH"),
            ("sqlite::memory:", "names a SQLite file", "SQLITE_DB_PATH"),
            ("SQLite3:zebra", "names a SQLite file", "SQLITE_DB_PATH"),
            ("sqlite+aiosqlite:////zebra", "names a SQLite file", "SQLITE_DB_PATH"),
            ("sqlite+pysqlcipher://:zebra@/x.db", "names a SQLite file", "SQLITE_DB_PATH"),
            ("jdbc:sqlite:zebra.db", "names a SQLite file", "SQLITE_DB_PATH"),
            ("file:./zebra.db", "names a SQLite file", "SQLITE_DB_PATH"),
            ("file:zebra?mode=ro", "names a SQLite file", "SQLITE_DB_PATH"),
            ("/zebra/cts.db", "names a SQLite file", "SQLITE_DB_PATH"),
            ("zebra.sqlite", "names a SQLite file", "SQLITE_DB_PATH"),
            ("mysql://u:zebra@h/d", "names a MySQL or MariaDB", "postgresql://user"),
            ("mysql+pymysql://u:zebra@h/d", "names a MySQL or MariaDB", "postgresql://user"),
            ("mariadb://u:zebra@h/d", "names a MySQL or MariaDB", "postgresql://user"),
            ("jdbc:mysql://h/zebra", "names a MySQL or MariaDB", "postgresql://user"),
            ("mongodb+srv://u:zebra@h/d", "of another kind", "postgresql://user"),
            ("sqlserver://u:zebra@h", "of another kind", "postgresql://user"),
            ("jdbc:postgresql://h/d?password=zebra", "a JDBC URL", "without jdbc:"),
            ("postgresql+psycopg2://u:zebra@h/d", "SQLAlchemy", "leave out the plus sign"),
            ("postgresql+asyncpg://u:zebra@h/d", "SQLAlchemy", "leave out the plus sign"),
            ("postgres+psycopg://u:zebra@h/d", "SQLAlchemy", "leave out the plus sign"),
            ("prisma+postgres://h/?api_key=zebra", "of Prisma's own service", "postgresql://user"),
            ("https://zebra.supabase.co", "a web server", "connection string"),
            ("PostgreSQL://u:zebra@h/d", "not in lower case", "postgresql://user"),
            ("postgresql:/u:zebra@h/d", "does not begin with postgresql://", "two slashes"),
            ("psql 'postgresql://u:zebra@h/d'", "a psql command", "without psql"),
            ("host=h password=zebra", "the form name=value", "postgresql://user"),
            ("u:zebra@h/d", "does not begin with postgresql://", "postgresql://user"),
            ("", "is empty", "postgresql://user"),
        ] {
            let text = refusal(url);
            assert!(text.contains(what) && text.contains(remedy), "{url}: {text}");
            assert!(!text.contains("zebra") && !text.contains("FORM"), "{text}");
        }
    }

    #[test]
    fn quotes_around_a_url_are_named() {
        let inner = "postgresql://u:zebra@h/d";
        for (open, close) in [
            ("\"", "\""),
            ("'", "'"),
            ("`", "`"),
            ("“", "”"),
            ("„", "“"),
            ("‘", "’"),
            ("«", "»"),
            ("\"", ""),
            ("", "'"),
        ] {
            let text = refusal(&format!("{open}{inner}{close}\n"));
            assert!(text.contains("quotation mark") && text.contains("without quotes"), "{text}");
            assert!(!text.contains("zebra"), "{text}");
        }
    }
}
