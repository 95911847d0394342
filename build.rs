//! Applies every bundled SQL file to the bundled SQLite, so that wrong SQL, a statement
//! that is not idempotent or a name used twice fails the build with its file and line, and
//! writes down for the binary what it found: the files in their order, their checksums,
//! and the expected catalogue. The files for PostgreSQL are read instead, since there is no
//! server to apply them to, and must lead to the same tables.

#![forbid(unsafe_code)]

#[path = "build/parity.rs"]
mod parity;

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;
use std::{env, fs};

use cts_schema::catalog::{Catalog, Column, Index, Table, Text};
use cts_schema::migration::{FALLBACK, UNIFIED, checksum, order};
use cts_schema::reference::{self, SchemaSource};
use cts_schema::sql::ddl::{self, SqlFile};
use cts_schema::sql::statements;
use cts_schema::sqlite_catalog::{self, SqliteConnection, TextRow};
use rusqlite::Connection;
use rusqlite::types::ValueRef;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

struct File {
    path: PathBuf,
    name: String,
    text: String,
}

fn main() -> Result<()> {
    let sources = ["schema", "build.rs", "build"];
    for source in sources {
        println!("cargo:rerun-if-changed={source}");
    }
    println!("cargo:rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo:rustc-env=CTS_BUILT={}", built(&sources)?);

    let (fallback, files) = self::files(Path::new("schema/sqlite"))?;
    let expected = prove(&fallback, &files)?;
    let (other_fallback, others) = self::files(Path::new("schema/postgres"))?;
    same_names(&files, &others)?;
    let other = understand(&other_fallback, &others)?;
    parity::prove(&expected, &other)?;

    let out = env::var("OUT_DIR")?;
    let out = Path::new(&out);
    fs::write(out.join("sqlite_schema.rs"), generated(&fallback, &files, &expected)?)?;
    fs::write(out.join("postgres_schema.rs"), generated(&other_fallback, &others, &other)?)?;
    fs::write(out.join("schema_reference.rs"), reference(&files, &expected, &others, &other)?)?;
    Ok(())
}

/// The schema reference as a constant, or what is wrong with the comments it is made from. That does not
/// fail the build: a test does.
fn reference(
    files: &[File],
    expected: &Catalog,
    others: &[File],
    other: &Catalog,
) -> Result<String> {
    let paths = |files: &[File]| -> Vec<String> {
        files.iter().map(|file| file.path.display().to_string()).collect()
    };
    let (here, there) = (paths(files), paths(others));
    let sqlite = SchemaSource { files: &sources(files, &here), catalog: expected };
    let postgres = SchemaSource { files: &sources(others, &there), catalog: other };
    let page = reference::page(&sqlite, &postgres).map_err(|defects| {
        let lines = defects.iter().map(ToString::to_string).collect::<Vec<_>>();
        lines.join("\n")
    });
    Ok(format!(
        "/// The page, or the defects of the comments, one a line.\n\
         pub const PAGE: Result<&str, &str> = {page:?};\n"
    ))
}

fn sources<'f>(files: &'f [File], paths: &'f [String]) -> Vec<SqlFile<'f>> {
    let pairs = files.iter().zip(paths);
    pairs.map(|(file, name)| SqlFile { name, text: &file.text }).collect()
}

/// A time, in seconds since 1970, before which this build cannot be running: of its sources, so
/// that two builds of the same are the same, unless one is given (reproducible-builds.org).
fn built(sources: &[&str]) -> Result<u64> {
    if let Ok(given) = env::var("SOURCE_DATE_EPOCH") {
        return Ok(given.parse().map_err(|e| format!("SOURCE_DATE_EPOCH: {given:?}: {e}"))?);
    }
    let mut newest = 0;
    for source in sources {
        let changed = fs::metadata(source)?.modified()?;
        newest = newest.max(changed.duration_since(UNIX_EPOCH)?.as_secs());
    }
    Ok(newest)
}

/// Both folders hold the same migrations.
fn same_names(files: &[File], others: &[File]) -> Result<()> {
    for (here, there) in [(files, others), (others, files)] {
        if let Some(file) = here.iter().find(|file| !there.iter().any(|o| o.name == file.name)) {
            let folder = there.first().and_then(|file| file.path.parent());
            let folder = folder.unwrap_or(Path::new("schema")).display();
            return Err(
                format!("{}: there is no such file in {folder}", file.path.display()).into()
            );
        }
    }
    Ok(())
}

/// Reads the files for PostgreSQL as [`prove`] applies those for SQLite.
fn understand(fallback: &File, files: &[File]) -> Result<Catalog> {
    let paths: Vec<String> = std::iter::once(fallback)
        .chain(files)
        .map(|file| file.path.display().to_string())
        .collect();
    let sources: Vec<SqlFile<'_>> = std::iter::once(fallback)
        .chain(files)
        .zip(&paths)
        .map(|(file, name)| SqlFile { name, text: &file.text })
        .collect();
    let expected = ddl::read(sources.get(1..).unwrap_or_default(), false)?;
    if ddl::read(&sources, true)? != expected {
        return Err(format!("{}: leads to another schema", fallback.path.display()).into());
    }
    Ok(expected)
}

/// The fallback, and the other files in the order in which they are applied.
fn files(folder: &Path) -> Result<(File, Vec<File>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        order(&name).map_err(|_| {
            format!(
                "{}: a migration is named {UNIFIED} or like 072_add_something.sql",
                path.display()
            )
        })?;
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        files.push(File { path, name, text });
    }
    files.sort_by_key(|file| order(&file.name));
    if let Some(pair) = files.windows(2).find(|pair| order(&pair[0].name) == order(&pair[1].name)) {
        return Err(format!("{} and {} have the same number", pair[0].name, pair[1].name).into());
    }
    let fallback = files.iter().position(|file| file.name == FALLBACK);
    let fallback = files.remove(fallback.ok_or(format!("{}: no {FALLBACK}", folder.display()))?);
    if files.first().is_none_or(|file| file.name != UNIFIED) {
        return Err(format!("{}: no {UNIFIED}", folder.display()).into());
    }
    Ok((fallback, files))
}

/// Applies the files to an empty database, where each statement must do something, and
/// once more, where none may; then again behind the fallback, which must end the same.
fn prove(fallback: &File, files: &[File]) -> Result<Catalog> {
    let conn = Connection::open_in_memory()?;
    for file in files {
        apply(&conn, file, |changed| changed, "makes nothing new: its name is used twice")?;
    }
    let expected = sqlite_catalog::read(&Applied(&conn), None)?;
    for file in files {
        apply(
            &conn,
            file,
            |changed| !changed,
            "is not idempotent: it changes something each time",
        )?;
    }
    let conn = Connection::open_in_memory()?;
    for file in std::iter::once(fallback).chain(files) {
        apply(&conn, file, |_| true, "")?;
    }
    for file in std::iter::once(fallback).chain(files) {
        apply(&conn, file, |changed| !changed, "is not idempotent behind the fallback")?;
    }
    let drift = expected.difference(&sqlite_catalog::read(&Applied(&conn), None)?);
    if !drift.is_none() || !drift.extra.is_empty() {
        return Err(
            format!("{}: leads to another schema: {drift:?}", fallback.path.display()).into()
        );
    }
    Ok(expected)
}

/// A database to which the files are applied.
struct Applied<'c>(&'c Connection);

impl SqliteConnection for Applied<'_> {
    type Error = rusqlite::Error;

    fn query(&self, sql: &str, parameters: &[&str]) -> rusqlite::Result<Vec<TextRow>> {
        let mut statement = self.0.prepare(sql)?;
        let columns = statement.column_count();
        let text = |value: ValueRef<'_>| match value {
            ValueRef::Null => None,
            ValueRef::Integer(number) => Some(number.to_string()),
            ValueRef::Real(number) => Some(number.to_string()),
            ValueRef::Text(text) | ValueRef::Blob(text) => {
                Some(String::from_utf8_lossy(text).into_owned())
            }
        };
        let rows = statement.query_map(rusqlite::params_from_iter(parameters), |row| {
            let cells = (0..columns).map(|at| row.get_ref(at).map(text));
            cells.collect::<rusqlite::Result<_>>().map(TextRow)
        })?;
        rows.collect()
    }

    fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.0.execute_batch(sql)
    }

    fn total_changes(&self) -> u64 {
        self.0.total_changes()
    }

    fn malformed(&self, what: &str) -> rusqlite::Error {
        rusqlite::Error::ToSqlConversionFailure(what.into())
    }
}

fn apply(
    conn: &Connection,
    file: &File,
    is_right: fn(bool) -> bool,
    complaint: &str,
) -> Result<()> {
    for statement in statements(&file.text) {
        let place = format!("{}, line {}", file.path.display(), statement.line);
        let changed = sqlite_catalog::execute(&Applied(conn), &statement)
            .map_err(|e| format!("{place}: {e}\n{}", statement.sql))?;
        if !is_right(changed) {
            return Err(format!("{place}: {complaint}\n{}", statement.sql).into());
        }
    }
    Ok(())
}

fn generated(fallback: &File, files: &[File], expected: &Catalog) -> Result<String> {
    let mut out = String::new();
    writeln!(out, "pub const FALLBACK: Bundled = {};", bundled(fallback))?;
    writeln!(out, "pub const MIGRATIONS: &[Bundled] = &[")?;
    for file in files {
        writeln!(out, "    {},", bundled(file))?;
    }
    writeln!(
        out,
        "];\npub static EXPECTED: Catalog = Catalog {{ other_tables: Borrowed(&[]), tables: Borrowed(&["
    )?;
    for table in expected.tables.iter() {
        writeln!(out, "    {},", table_literal(table))?;
    }
    writeln!(out, "]) }};")?;
    Ok(out)
}

fn bundled(file: &File) -> String {
    format!(
        "Bundled {{ name: {:?}, checksum: {:?}, statements: {} }}",
        file.name,
        checksum(&file.text),
        statements(&file.text).len()
    )
}

fn table_literal(table: &Table) -> String {
    let unique = list(&table.unique, |columns| list(columns, text));
    let keys = list(&table.foreign_keys, |key| {
        format!(
            "ForeignKey {{ column: {}, table: {}, references: {}, on_delete: {} }}",
            text(&key.column),
            text(&key.table),
            text(&key.references),
            text(&key.on_delete)
        )
    });
    format!(
        "Table {{ name: {}, columns: {}, unique: {unique}, foreign_keys: {keys}, checks: {}, indexes: {}, definition: {} }}",
        text(&table.name),
        list(&table.columns, column_literal),
        list(&table.checks, text),
        list(&table.indexes, index_literal),
        text(&table.definition)
    )
}

fn column_literal(column: &Column) -> String {
    format!(
        "Column {{ name: {}, data_type: {}, not_null: {}, default: {}, primary_key_position: {} }}",
        text(&column.name),
        text(&column.data_type),
        column.not_null,
        option(column.default.as_ref()),
        column.primary_key_position
    )
}

fn index_literal(index: &Index) -> String {
    format!(
        "Index {{ name: {}, columns: {}, unique: {}, predicate: {}, definition: {} }}",
        text(&index.name),
        list(&index.columns, text),
        index.unique,
        option(index.predicate.as_ref()),
        text(&index.definition)
    )
}

fn text(text: &Text) -> String {
    format!("Borrowed({text:?})")
}

fn option(value: Option<&Text>) -> String {
    value.map_or("None".into(), |value| format!("Some({})", text(value)))
}

fn list<T>(items: &[T], literal: impl Fn(&T) -> String) -> String {
    format!("Borrowed(&[{}])", items.iter().map(literal).collect::<Vec<_>>().join(", "))
}
