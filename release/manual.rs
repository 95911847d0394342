//! The sections of the man page that the command line does not know: exit status, environment,
//! files, examples. Defaults come from the constants that the program uses.

use std::io::{self, Write};

use roff::{Inline, Roff, bold, italic, roman};

use crate::config::{
    DEFAULT_ARCHIVE_KEEP, DEFAULT_BACKUP_EVERY, DEFAULT_BACKUP_KEEP, DEFAULT_CONNECTIONS,
    DEFAULT_DB, DEFAULT_HOST, DEFAULT_LOCK_TIMEOUT, DEFAULT_POOL_CONNECT, DEFAULT_POOL_IDLE,
    DEFAULT_POOL_MAX, DEFAULT_PORT, DEFAULT_RETENTION, DEFAULT_WAIT,
};

/// When these sections were last changed; the footer of the page.
pub const DATE: &str = "2026-11-30";

/// An entry of a list: its term and what it means.
struct Entry {
    term: String,
    text: String,
}

fn entry(term: impl Into<String>, text: impl Into<String>) -> Entry {
    Entry { term: term.into(), text: text.into() }
}

/// Writes the synopsis.
///
/// # Errors
///
/// Those of `page`; a part may have been written.
pub fn synopsis(page: &mut impl Write) -> io::Result<()> {
    let mut text = Roff::new();
    text.control("SH", ["SYNOPSIS"]);
    text.text([bold("cts"), roman(" ["), italic("OPTION"), roman("]... [serve]")]);
    text.control("br", []);
    text.text([
        bold("cts"),
        roman(" ["),
        italic("OPTION"),
        roman("]... "),
        italic("COMMAND"),
        roman(" ["),
        italic("ARGUMENT"),
        roman("]..."),
    ]);
    text.to_writer(page)
}

/// Writes the description.
///
/// # Errors
///
/// Those of `page`; a part may have been written.
pub fn description(page: &mut impl Write) -> io::Result<()> {
    let mut text = Roff::new();
    text.control("SH", ["DESCRIPTION"]);
    for (number, paragraph) in DESCRIPTION.iter().enumerate() {
        if number > 0 {
            text.control("PP", []);
        }
        text.text([roman(*paragraph)]);
    }
    text.to_writer(page)
}

const DESCRIPTION: &[&str] = &[
    "cts creates the database of CTS v3.1, a crypto trading system, brings its schema to the current version, verifies \
     it, restores what is missing, and reports its state over HTTP and by exit code. The trading programs open the same \
     SQLite file, or the same PostgreSQL schema, and read and write its 24 tables.",
    "Without a command, cts runs the appliance (serve). Results go to standard output, log lines to standard error.",
];

/// Writes the sections from EXIT STATUS on.
///
/// # Errors
///
/// Those of `page`; a part may have been written.
pub fn write(page: &mut impl Write) -> io::Result<()> {
    let mut text = Roff::new();
    exit_status(&mut text);
    list(&mut text, "ENVIRONMENT", ENVIRONMENT_NOTE, environment());
    list(&mut text, "FILES", "", files());
    examples(&mut text);
    see_also(&mut text);
    text.to_writer(page)
}

const ENVIRONMENT_NOTE: &str = "A flag overrides the environment, the environment the default. A variable that is set to the \
     empty string counts as not set. Durations are written as 30s or 2min; switches as 1 or 0.";

fn list(text: &mut Roff, title: &str, note: &str, entries: Vec<Entry>) {
    text.control("SH", [title]);
    if !note.is_empty() {
        text.text([roman(note)]);
    }
    entries.iter().for_each(|entry| item(text, entry));
}

fn item(text: &mut Roff, Entry { term, text: meaning }: &Entry) {
    text.control("TP", []);
    text.text([bold(term.as_str())]);
    text.text([roman(meaning.as_str())]);
}

fn exit_status(text: &mut Roff) {
    text.control("SH", ["EXIT STATUS"]);
    for (of, codes) in RESULTS {
        text.control("SS", [*of]);
        codes.iter().for_each(|(code, meaning)| item(text, &entry(*code, *meaning)));
    }
    text.control("SS", ["Every command, on failure"]);
    text.text([roman("After sysexits(3). systemd starts the service again after 69, 74 and 75.")]);
    ERRORS.iter().for_each(|(code, meaning)| item(text, &entry(*code, *meaning)));
}

/// A code and what it means.
type Code = (&'static str, &'static str);

const RESULTS: &[(&str, &[Code])] = &[
    ("serve, migrate", &[("0", "serve: stopped by a signal. migrate: the schema is up to date.")]),
    (
        "check, --check",
        &[
            ("0", "Healthy."),
            ("1", "Degraded or initializing."),
            ("2", "Unhealthy: no database, no answer, or not usable."),
            (
                "3",
                "The database could not be asked: wrong flag, wrong configuration, no permission.",
            ),
        ],
    ),
    ("status", &[("0", "Complete."), ("1", "A migration is pending or an object is missing.")]),
    ("verify, repair", &[("0", "No drift; after repair, none left."), ("1", "Drift.")]),
    (
        "doctor",
        &[
            ("0", "All good."),
            ("1", "At least one finding needs attention."),
            ("2", "At least one fault keeps cts from working."),
            ("3", "No fault, but the database could not be examined."),
            ("78", "The configuration is wrong."),
        ],
    ),
];

const ERRORS: &[Code] = &[
    ("64", "The command line is wrong."),
    (
        "65",
        "The data is not as expected: a damaged file, another program's file, an edited or unknown migration.",
    ),
    (
        "69",
        "Unavailable: the port is in use, or the database server cannot be reached or written, or was lost during a commit.",
    ),
    ("73", "The file or directory cannot be created."),
    ("74", "Reading or writing failed, or the disk is full."),
    (
        "75",
        "Try again: another program holds the lock, or a signal interrupted a migration, which was rolled back.",
    ),
    ("77", "No permission: for the file, at the server, or for a port below 1024."),
    ("78", "The configuration is wrong; the message names the variable."),
];

fn environment() -> Vec<Entry> {
    let default = |value: &dyn std::fmt::Display, text: &str| format!("{text} Default: {value}.");
    vec![
        entry(
            "DATABASE_TYPE",
            "sqlite or postgresql. Default: postgresql where a database URL is set, else sqlite.",
        ),
        entry("SQLITE_DB_PATH", default(&DEFAULT_DB, "Path of the SQLite database (--db).")),
        entry(
            "CTS_GROUP_ACCESS",
            "1: members of the file's group may open the SQLite database (mode 0660). Default: 0.",
        ),
        entry(
            "CTS_ALLOW_NETWORK_FS",
            "1: open a SQLite database on a network file system, where SQLite's locks are not safe. Default: 0.",
        ),
        entry(
            "CTS_BACKUP_DIR",
            "Folder of the backups; the default is beside the SQLite database. Default: backups.",
        ),
        entry(
            "CTS_BACKUP_EVERY",
            default(&DEFAULT_BACKUP_EVERY, "How often the service makes a backup; 0: never."),
        ),
        entry("CTS_BACKUP_KEEP", default(&DEFAULT_BACKUP_KEEP, "Which backups are kept.")),
        entry(
            "CTS_BACKUP_COMPRESS",
            "1: compress the backups of the folder with zstd; pg_dump compresses by itself. Default: 0.",
        ),
        entry(
            "CTS_ARCHIVE_DIR",
            "The folder of the archive of every change, from which the database of any moment is restored; SQLite only. Default: there is no archive.",
        ),
        entry("CTS_ARCHIVE_KEEP", default(&DEFAULT_ARCHIVE_KEEP, "How far back the archive goes.")),
        entry(
            "CTS_RETENTION",
            default(&DEFAULT_RETENTION, "0: the service deletes no old rows by itself."),
        ),
        entry(
            "CTS_PG_DUMP",
            "Path of pg_dump, with pg_restore in the same folder, for backups of a PostgreSQL database. Without, they are looked for on PATH and in /usr/lib/postgresql.",
        ),
        entry(
            "CTS_LOCK_TIMEOUT",
            default(
                &DEFAULT_LOCK_TIMEOUT,
                "How long a command waits for the write lock or the migration lock. serve waits without limit.",
            ),
        ),
        entry("DATABASE_URL", "postgresql://user:password@host:port/database."),
        entry(
            "DATABASE_URL_FILE",
            "File that holds this URL (--database-url-file). Read where DATABASE_URL is not set.",
        ),
        entry(
            "CTS_WAIT",
            default(
                &DEFAULT_WAIT,
                "How long serve, migrate and repair wait for a PostgreSQL server that cannot be reached.",
            ),
        ),
        entry(
            "CTS_POOL_MAX",
            default(&DEFAULT_POOL_MAX, "Upper limit of the PostgreSQL connection pool."),
        ),
        entry(
            "CTS_POOL_IDLE",
            default(&DEFAULT_POOL_IDLE, "How long an idle connection of the pool is kept."),
        ),
        entry(
            "CTS_POOL_CONNECT",
            default(&DEFAULT_POOL_CONNECT, "How long a connection of the pool is waited for."),
        ),
        entry(
            "PGPASSFILE",
            "PostgreSQL password file, for a URL without a password. Default: ~/.pgpass.",
        ),
        entry("HOST", default(&DEFAULT_HOST, "Address to listen on (--host).")),
        entry("PORT", default(&DEFAULT_PORT, "Port to listen on (--port); 0 takes a free one.")),
        entry(
            "CTS_ADMIN_TOKEN",
            "Bearer token for /api/admin/*. Where it is not set, these paths answer on a loopback listener only.",
        ),
        entry(
            "CTS_ADMIN_TOKEN_FILE",
            "File that holds this token. Read where CTS_ADMIN_TOKEN is not set.",
        ),
        entry(
            "CTS_ALLOWED_HOSTS",
            "Host names, separated by commas, that HTTP clients may send in the Host header, in addition to IP addresses and localhost.",
        ),
        entry(
            "CTS_HTTP_CONNECTIONS",
            default(&DEFAULT_CONNECTIONS, "HTTP connections served at once, 4 to 4096."),
        ),
    ]
}

fn files() -> Vec<Entry> {
    let database = format!("{DEFAULT_DB}, {DEFAULT_DB}-wal, {DEFAULT_DB}-shm");
    let copy = format!("{DEFAULT_DB}.before-VERSION-TIME");
    vec![
        entry(
            database,
            "The SQLite database, its write-ahead log and its shared memory. Mode 0600, owned by the user cts.",
        ),
        entry(copy, "A copy of the database from before an adoption or a rebuild of its tables."),
        entry("/data/backups/", "The backups, where CTS_BACKUP_DIR names no other directory."),
        entry(
            "/etc/default/cts",
            "Settings of this machine, one NAME=value to a line, read by the service.",
        ),
        entry(
            "/usr/lib/systemd/system/cts.service, cts.socket, cts-backup.service, cts-backup.timer, cts-recover.service",
            "The service, its port (optional), a daily backup (optional), and the end of an upgrade that a power cut interrupted. \
             Change them with systemctl edit cts.",
        ),
        entry(
            "/usr/lib/cts/",
            "What an upgrade runs (upgrade), the binary from before the last one (previous), and, until an upgrade has \
             succeeded, the new binary (candidate) and a mark (unfinished).",
        ),
        entry(
            "/usr/lib/sysusers.d/cts.conf, /usr/lib/tmpfiles.d/cts.conf",
            "The user cts and the directory /data.",
        ),
        entry(
            "/usr/share/doc/cts/",
            "README.md and the pages of docs/: installation, configuration, commands, HTTP, client settings, troubleshooting, schema; \
             examples; copyright, with the licences of all libraries in the binary.",
        ),
    ]
}

fn examples(text: &mut Roff) {
    text.control("SH", ["EXAMPLES"]);
    for (number, (about, command)) in EXAMPLES.iter().enumerate() {
        if number > 0 {
            text.control("PP", []);
        }
        text.text([roman(*about)]);
        text.control("PP", []).control("RS", ["4"]).control("nf", []);
        text.text([roman(*command)]);
        text.control("fi", []).control("RE", []);
    }
}

const EXAMPLES: &[(&str, &str)] = &[
    ("Create a database in the current directory and serve it until Ctrl-C:", "cts --db ./cts.db"),
    ("See what a migration would do, then do it:", "cts migrate --dry-run && cts migrate"),
    (
        "Monitor the service as a user who may not open the database:",
        "cts --check --url http://127.0.0.1:3000",
    ),
    ("Read every page, index entry and foreign key:", "sudo -u cts cts --check --deep"),
    (
        "Put the newest backup in place of the database:",
        "systemctl stop cts && sudo -u cts cts restore latest",
    ),
    (
        "Examine this machine with the settings of the service:",
        "systemd-run --quiet --pipe --wait -p User=cts -p EnvironmentFile=/etc/default/cts cts doctor",
    ),
    (
        "Use a PostgreSQL database whose URL is in a file:",
        "cts --database-url-file /etc/cts/database-url migrate",
    ),
];

fn see_also(text: &mut Roff) {
    let pages: &[(&str, &str)] = &[
        ("sqlite3", "1"),
        ("psql", "1"),
        ("systemctl", "1"),
        ("journalctl", "1"),
        ("systemd.service", "5"),
        ("sysexits", "3"),
    ];
    text.control("SH", ["SEE ALSO"]);
    let mut line: Vec<Inline> = Vec::new();
    for (number, (name, section)) in pages.iter().enumerate() {
        line.push(bold(*name));
        line.push(roman(format!(
            "({section}){}",
            if number + 1 < pages.len() { ", " } else { "" }
        )));
    }
    text.text(line);
    text.control("PP", []);
    text.text([italic("/usr/share/doc/cts/README.md")]);
}
