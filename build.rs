//! Checks the SQL files, and generates the constants that the binary is compiled with: the files in their order, their
//! checksums, and the expected catalogues.
//!
//! The files for SQLite are applied to the SQLite that is compiled in. Wrong SQL, a statement that is not idempotent and a
//! name that is used twice fail the build, with file and line. The files for PostgreSQL are read, since there is no
//! server to apply them to, and must lead to the same tables, columns, constraints and indexes.

#![forbid(unsafe_code)]

use std::error::Error;
use std::path::Path;
use std::time::UNIX_EPOCH;
use std::{env, fs};

mod build {
    pub mod commit;
}

use build::commit;
use cts_schema::catalog::{Catalog, catalog_expression};
use cts_schema::migration::{FALLBACK, UNIFIED, checksum, order};
use cts_schema::parity::compare_catalogs;
use cts_schema::reference::{self, CommentDefect, SchemaSource};
use cts_schema::sql::ddl;
use cts_schema::sql::{SqlFile, statements, without_comments};
use cts_schema::sqlite_catalog::{self, SqliteConnection, TextRow};
use rusqlite::Connection;
use rusqlite::types::ValueRef;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A SQL file of a folder.
struct MigrationFile {
    path: String,
    name: String,
    text: String,
}

impl MigrationFile {
    fn sql(&self) -> SqlFile<'_> {
        SqlFile { name: &self.path, text: &self.text }
    }
}

/// The SQL files for one database.
struct MigrationFolder {
    fallback: MigrationFile,
    /// The other files, in the order in which they are applied.
    files: Vec<MigrationFile>,
}

impl MigrationFolder {
    /// The files without the fallback.
    fn sql_files(&self) -> Vec<SqlFile<'_>> {
        self.files.iter().map(MigrationFile::sql).collect()
    }

    /// All files, the fallback first.
    fn with_fallback(&self) -> impl Iterator<Item = &MigrationFile> {
        std::iter::once(&self.fallback).chain(&self.files)
    }
}

fn main() -> Result<()> {
    for source in ["schema", "build.rs", "build"] {
        println!("cargo:rerun-if-changed={source}");
    }
    for variable in ["SOURCE_DATE_EPOCH", "CTS_COMMIT"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    println!("cargo:rustc-env=BUILD_COMMIT={}", build_commit()?);
    println!("cargo:rustc-env=BUNDLED_SQLITE={}", rusqlite::version());
    let has_postgresql = env::var_os("CARGO_FEATURE_POSTGRES").is_some();
    let included = if has_postgresql { "included" } else { "not included" };
    println!("cargo:rustc-env=WITH_POSTGRESQL={included}");

    let sqlite = read_folder(Path::new("schema/sqlite"))?;
    let sqlite_catalog = apply_to_sqlite(&sqlite)?;
    let postgres = read_folder(Path::new("schema/postgres"))?;
    check_same_names(&sqlite.files, &postgres.files)?;
    check_same_names(&postgres.files, &sqlite.files)?;
    let postgres_catalog = read_postgres(&postgres)?;
    compare_catalogs(&sqlite_catalog, &postgres_catalog)?;

    println!("cargo:rustc-env=BUILT_AT_SECONDS={}", built_at_seconds(&[&sqlite, &postgres])?);
    let folder = env::var("OUT_DIR")?;
    write_bundled_files(&sqlite, &Path::new(&folder).join("sqlite"))?;
    write_bundled_files(&postgres, &Path::new(&folder).join("postgres"))?;
    let write = |name: &str, text: String| fs::write(Path::new(&folder).join(name), text);
    write("sqlite_schema.rs", constants(&sqlite, &sqlite_catalog))?;
    write("postgres_schema.rs", constants(&postgres, &postgres_catalog))?;
    let sqlite_files = sqlite.sql_files();
    let postgres_files = postgres.sql_files();
    let page = reference::page(
        &SchemaSource { files: &sqlite_files, catalog: &sqlite_catalog },
        &SchemaSource { files: &postgres_files, catalog: &postgres_catalog },
    );
    write("schema_reference.rs", reference_constant(page))?;
    Ok(())
}

/// The commit of this build: `CTS_COMMIT`, else that of the repository, else `unknown`. A debug build does not ask the
/// repository, since it would be compiled again after each commit.
fn build_commit() -> Result<String> {
    if let Some(text) = env::var("CTS_COMMIT").ok().filter(|text| !text.is_empty()) {
        return Ok(commit::given(&text)?);
    }
    if env::var("PROFILE").as_deref() != Ok("release") {
        return Ok("unknown".into());
    }
    let checked_out = commit::checked_out(Path::new("."));
    for file in &checked_out.files {
        println!("cargo:rerun-if-changed={}", file.display());
    }
    Ok(checked_out.commit.unwrap_or("unknown".into()))
}

/// A time before which this build cannot run, in seconds since 1970: that of the newest SQL file, so that two builds of
/// the same sources are equal, or `SOURCE_DATE_EPOCH` (reproducible-builds.org).
fn built_at_seconds(folders: &[&MigrationFolder]) -> Result<u64> {
    if let Ok(given) = env::var("SOURCE_DATE_EPOCH") {
        return Ok(given.parse().map_err(|e| format!("SOURCE_DATE_EPOCH: {given:?}: {e}"))?);
    }
    let mut newest = fs::metadata("build.rs")?.modified()?;
    for file in folders.iter().flat_map(|folder| folder.with_fallback()) {
        newest = newest.max(fs::metadata(&file.path)?.modified()?);
    }
    // 0 is unknown: an archive may give its files a time before 1970.
    Ok(newest.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// Reads the SQL files of a folder.
///
/// # Errors
/// Where a file is not named like a migration, two have the same number, or the unified setup or the fallback is missing.
fn read_folder(folder: &Path) -> Result<MigrationFolder> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let path = path.display().to_string();
        order(&name).map_err(|_| {
            format!("{path}: a migration is named {UNIFIED} or like 072_add_something.sql")
        })?;
        let text = fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
        files.push(MigrationFile { path, name, text });
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
    Ok(MigrationFolder { fallback, files })
}

/// Checks that each of these files has a file of the same name in the other folder.
fn check_same_names(files: &[MigrationFile], others: &[MigrationFile]) -> Result<()> {
    match files.iter().find(|file| !others.iter().any(|other| other.name == file.name)) {
        None => Ok(()),
        Some(file) => {
            let other = others.first().and_then(|other| Path::new(&other.path).parent());
            let folder = other.unwrap_or(Path::new("schema")).display();
            Err(format!("{}: there is no such file in {folder}", file.path).into())
        }
    }
}

/// Reads the files for PostgreSQL, without and with the fallback. Returns the catalogue they lead to.
fn read_postgres(folder: &MigrationFolder) -> Result<Catalog> {
    let expected = ddl::read_catalog(&folder.sql_files(), false)?;
    let files: Vec<SqlFile<'_>> = folder.with_fallback().map(MigrationFile::sql).collect();
    if ddl::read_catalog(&files, true)? != expected {
        return Err(format!("{}: leads to another schema", folder.fallback.path).into());
    }
    Ok(expected)
}

/// Applies the files to an empty SQLite database, where each statement must change something, and again, where none may;
/// then the same behind the fallback, which must lead to the same catalogue. Returns the catalogue.
fn apply_to_sqlite(folder: &MigrationFolder) -> Result<Catalog> {
    let changes = |changed: bool| changed;
    let changes_nothing = |changed: bool| !changed;
    let conn = Connection::open_in_memory()?;
    for file in &folder.files {
        apply(&conn, file, changes, "creates nothing: its name is used twice")?;
    }
    let expected = sqlite_catalog::read(&BuildConnection(&conn), None)?;
    for file in &folder.files {
        apply(&conn, file, changes_nothing, "is not idempotent: it changes something each time")?;
    }
    let conn = Connection::open_in_memory()?;
    for file in folder.with_fallback() {
        apply(&conn, file, |_| true, "")?;
    }
    for file in folder.with_fallback() {
        apply(&conn, file, changes_nothing, "is not idempotent behind the fallback")?;
    }
    let drift = expected.difference(&sqlite_catalog::read(&BuildConnection(&conn), None)?);
    if !drift.is_none() || !drift.extra.is_empty() {
        return Err(format!("{}: leads to another schema: {drift:?}", folder.fallback.path).into());
    }
    Ok(expected)
}

/// Runs the statements of a file. `is_right` decides from whether a statement changed something.
fn apply(
    conn: &Connection,
    file: &MigrationFile,
    is_right: fn(bool) -> bool,
    complaint: &str,
) -> Result<()> {
    for statement in statements(&file.text) {
        let location = format!("{}, line {}", file.path, statement.line);
        let changed = sqlite_catalog::execute(&BuildConnection(conn), &statement)
            .map_err(|e| format!("{location}: {e}\n{}", statement.sql))?;
        if !is_right(changed) {
            return Err(format!("{location}: {complaint}\n{}", statement.sql).into());
        }
    }
    Ok(())
}

/// The connection to the database to which the files are applied.
struct BuildConnection<'c>(&'c Connection);

impl SqliteConnection for BuildConnection<'_> {
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

/// Writes the files that become part of the binary: without comments, which are as long as the statements.
fn write_bundled_files(folder: &MigrationFolder, to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    fs::create_dir_all(to)?;
    for file in folder.with_fallback() {
        fs::write(to.join(&file.name), without_comments(&file.text))?;
    }
    Ok(())
}

/// The files and the catalogue of one database as Rust constants.
fn constants(folder: &MigrationFolder, catalog: &Catalog) -> String {
    let files: Vec<String> = folder.files.iter().map(bundled).collect();
    format!(
        "pub const FALLBACK: Bundled = {};\n\
         pub const MIGRATIONS: &[Bundled] = &[\n    {}\n];\n\
         pub static EXPECTED: Catalog = {};\n",
        bundled(&folder.fallback),
        files.join(",\n    "),
        catalog_expression(catalog)
    )
}

fn bundled(file: &MigrationFile) -> String {
    format!(
        "Bundled {{ name: {:?}, checksum: {:?}, statements: {} }}",
        file.name,
        checksum(&file.text),
        statements(&file.text).len()
    )
}

/// The schema reference as a Rust constant, or the defects of the comments it is made from. Defects do not fail the
/// build: a test reports them.
fn reference_constant(page: std::result::Result<String, Vec<CommentDefect>>) -> String {
    let page = page
        .map_err(|defects| defects.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    format!(
        "/// The page, or the defects of the comments, one per line.\n\
         pub const PAGE: Result<&str, &str> = {page:?};\n"
    )
}
