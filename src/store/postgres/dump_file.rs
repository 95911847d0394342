//! Reads a file that `pg_dump -Fc` has written, by `pg_restore` and without a server: its schema, its tables, their rows, and
//! the migrations in the ledger. Every block of rows in it is a zlib stream with a checksum, so that reading them all finds
//! what was cut off or changed in them.

use std::collections::BTreeMap;
use std::fs::File;
use std::mem;
use std::path::Path;

use super::client_program::ClientPrograms;
use super::client_run::{ClientEnd, ClientInput, ClientOutput, ClientRun, OutputReader};
use crate::error::{Cause, Error, Kind, Result};
use crate::store::schema::POSTGRES;
use crate::store::{BackupContent, TableRows, WaitPolicy};
use cts_schema::catalog::is_cts_database;
use cts_schema::migration::AppliedMigration;

/// The longest statement or ledger row that is read.
const LINE_BYTES_MAX: usize = 1 << 20;
/// What ends the rows of a table. (PostgreSQL documentation, COPY, "Text Format")
const END_OF_ROWS: &[u8] = b"\\.";
/// What to do with a file that is no sound backup.
const USE_ANOTHER: &str = "use another backup (`cts backups` lists them)";

/// What a file of `pg_dump` holds.
#[derive(Debug, Default)]
pub struct DumpFile {
    /// The schema of our tables.
    pub schema: String,
    /// Ledger and tables.
    pub content: BackupContent,
}

impl DumpFile {
    /// Reads it to its end.
    ///
    /// # Errors
    /// [`Kind::Data`] where it is no complete dump of a database of CTS, or was made by a newer cts; or where it cannot be
    /// read, or `wait` was cancelled.
    pub fn read(path: &Path, programs: &ClientPrograms, wait: &WaitPolicy<'_>) -> Result<DumpFile> {
        let mut reader = DumpRows::default();
        let mut take = |bytes: &[u8]| reader.take(bytes);
        let arguments = ["--data-only", "--file=-"];
        run(path, programs, &arguments, &mut take, wait)
            .map_err(|error| error.at(path.display()))?;
        reader.finish().map_err(|error| error.at(path.display()))
    }
}

/// The entries of a dump with the rows of a table, each as `schema table owner`.
///
/// # Errors
/// As [`DumpFile::read`].
pub fn row_entries(
    path: &Path,
    programs: &ClientPrograms,
    wait: &WaitPolicy<'_>,
) -> Result<Vec<String>> {
    let mut listed = Vec::new();
    let mut take = |bytes: &[u8]| {
        listed.extend_from_slice(bytes);
        Ok(())
    };
    run(path, programs, &["--list"], &mut take, wait).map_err(|error| error.at(path.display()))?;
    let listed = String::from_utf8_lossy(&listed);
    let entries = listed.lines().filter_map(|line| line.split_once(" TABLE DATA "));
    Ok(entries.map(|(_, entry)| entry.to_string()).collect())
}

fn run(
    path: &Path,
    programs: &ClientPrograms,
    arguments: &[&str],
    take: &mut OutputReader<'_>,
    wait: &WaitPolicy<'_>,
) -> Result<()> {
    let file = File::open(path).map_err(|e| Error::new(Kind::Io, "cannot be read").caused_by(e))?;
    let mut run = ClientRun::of(&programs.restore, wait);
    run.command.args(arguments);
    run.input = ClientInput::File(file);
    match run.finish(ClientOutput::Read(take))? {
        ClientEnd::Succeeded => Ok(()),
        ClientEnd::Failed(failure) => {
            let what = format!("the backup is damaged: {}", failure.sentence);
            Err(refused(what).caused_by(Cause::Damage))
        }
    }
}

fn refused(what: impl Into<String>) -> Error {
    Error::new(Kind::Data, what).remedy(USE_ANOTHER)
}

/// Reads the statements that `pg_restore --data-only` prints: `COPY schema.table (columns) FROM stdin;`, then a line for each
/// row, and the end. Only the rows of the ledger are kept.
#[derive(Default)]
struct DumpRows {
    /// The line as far as it was read, and is needed.
    line: Vec<u8>,
    /// The table whose rows are being read.
    table: Option<DumpedTable>,
    /// The rows of each table of ours, by schema.
    rows: BTreeMap<String, BTreeMap<String, u64>>,
    /// The ledger, by schema.
    ledger: BTreeMap<String, Vec<AppliedMigration>>,
}

/// A table whose rows follow.
struct DumpedTable {
    schema: String,
    name: String,
    columns: Vec<String>,
    rows: u64,
}

impl DumpRows {
    fn take(&mut self, mut bytes: &[u8]) -> Result<()> {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (part, rest) = bytes.split_at(end);
            self.keep(part)?;
            bytes = rest.get(1..).unwrap_or_default();
            let line = mem::take(&mut self.line);
            self.read_line(&line);
            self.line = line;
            self.line.clear();
        }
        self.keep(bytes)
    }

    /// Keeps a part of a line, of a row only what tells it from the end of the rows.
    fn keep(&mut self, part: &[u8]) -> Result<()> {
        let is_needed = self.table.as_ref().is_none_or(|table| table.name == "migrations");
        let most = if is_needed { LINE_BYTES_MAX + 1 } else { END_OF_ROWS.len() + 1 };
        let room = most.saturating_sub(self.line.len());
        self.line.extend_from_slice(part.get(..room).unwrap_or(part));
        match is_needed && self.line.len() > LINE_BYTES_MAX {
            true => {
                Err(refused("is no backup of a database of CTS: a row of its ledger is too long"))
            }
            false => Ok(()),
        }
    }

    fn read_line(&mut self, line: &[u8]) {
        match &mut self.table {
            None => self.table = DumpedTable::read(line),
            Some(_) if line == END_OF_ROWS => self.end_table(),
            Some(table) => {
                table.rows += 1;
                if table.name == "migrations" {
                    let row = table.applied(line);
                    self.ledger.entry(table.schema.clone()).or_default().push(row);
                }
            }
        }
    }

    fn end_table(&mut self) {
        let Some(table) = self.table.take() else { return };
        if POSTGRES.expected.table(&table.name).is_some() {
            // A partitioned table has rows in several blocks.
            *self.rows.entry(table.schema).or_default().entry(table.name).or_default() +=
                table.rows;
        }
    }

    /// What was read, of the one schema with tables of CTS.
    fn finish(mut self) -> Result<DumpFile> {
        if self.table.is_some() {
            let what = "the backup is damaged: it ends within the rows of a table";
            return Err(refused(what).caused_by(Cause::Damage));
        }
        let is_ours = |tables: &BTreeMap<String, u64>, ledger: Option<&Vec<AppliedMigration>>| {
            let names: Vec<&str> = tables.keys().map(String::as_str).collect();
            is_cts_database(&names, ledger.is_some())
        };
        let schema =
            self.rows.iter().find(|(schema, tables)| is_ours(tables, self.ledger.get(*schema)));
        let Some((schema, _)) = schema.map(|(schema, tables)| (schema.clone(), tables)) else {
            return Err(refused("is no backup of a database of CTS: it has no table of CTS"));
        };
        let tables = self.rows.remove(&schema).unwrap_or_default();
        let mut ledger = self.ledger.remove(&schema).unwrap_or_default();
        ledger.retain(AppliedMigration::is_ours);
        ledger.sort_by_key(|row| row.id);
        let migrations: Vec<String> = ledger.into_iter().map(|row| row.name).collect();
        refuse_newer(&migrations)?;
        let tables = tables.into_iter().map(|(table, rows)| TableRows { table, rows }).collect();
        Ok(DumpFile { schema, content: BackupContent { migrations, tables, orphans: Vec::new() } })
    }
}

fn refuse_newer(migrations: &[String]) -> Result<()> {
    let known: Vec<&str> =
        POSTGRES.migrations.iter().chain([&POSTGRES.fallback]).map(|known| known.name).collect();
    let unknown = migrations.iter().find(|name| !known.contains(&name.as_str()));
    unknown.map_or(Ok(()), |name| {
        let what = format!("was made by a newer cts: this one does not know its migration {name}");
        Err(Error::new(Kind::Data, what).remedy("install that cts, and use the backup with it"))
    })
}

impl DumpedTable {
    /// Reads `COPY schema.table (columns) FROM stdin;`.
    fn read(line: &[u8]) -> Option<DumpedTable> {
        let line = String::from_utf8_lossy(line);
        let names = line.strip_prefix("COPY ")?.strip_suffix(" FROM stdin;")?;
        let (schema, rest) = identifier(names)?;
        let (name, rest) = identifier(rest.strip_prefix('.')?)?;
        let mut rest = rest.strip_prefix(" (").unwrap_or_default();
        let mut columns = Vec::new();
        while let Some((column, after)) = identifier(rest) {
            columns.push(column);
            rest = after.strip_prefix(", ").unwrap_or_default();
        }
        Some(DumpedTable { schema, name, columns, rows: 0 })
    }

    /// A row of the ledger. What an older CTS has written may hold anything.
    fn applied(&self, row: &[u8]) -> AppliedMigration {
        let row = String::from_utf8_lossy(row);
        let cells: Vec<&str> = row.split('\t').collect();
        let cell = |name: &str| {
            let at = self.columns.iter().position(|column| column == name)?;
            cells.get(at).copied().filter(|cell| *cell != "\\N")
        };
        AppliedMigration {
            id: cell("id").and_then(|id| id.parse().ok()),
            name: cell("name").unwrap_or_default().to_string(),
            checksum: cell("checksum").map(str::to_string),
            executed_at: None,
            execution_time_ms: None,
            version: None,
        }
    }
}

/// A name at the beginning of a text, as SQL has it, and the rest.
fn identifier(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
        let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        return (!name.is_empty()).then(|| (name.to_string(), rest));
    };
    let (mut name, mut rest) = (String::new(), quoted);
    loop {
        let (part, after) = rest.split_once('"')?;
        name += part;
        match after.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUM: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn read(text: &str, step: usize) -> Result<DumpFile> {
        let mut reader = DumpRows::default();
        for part in text.as_bytes().chunks(step) {
            reader.take(part)?;
        }
        reader.finish()
    }

    #[test]
    fn rows_are_counted_whatever_they_hold_and_wherever_a_read_ends() {
        let text = format!(
            "SET x;\n\nCOPY \"my \"\"box\".exchange_connections (id, \"a.b\") FROM stdin;\n1\t\\\\.\n\\\\.x\n\n\\.\n\
             COPY \"my \"\"box\".own (id) FROM stdin;\nCOPY a.users (id) FROM stdin;\n\\.\n\
             COPY \"my \"\"box\".migrations (name, id, checksum) FROM stdin;\n\
             070_high_frequency_performance_indexes.sql\t2\t{SUM}\nunified_complete_setup.sql\t1\t{SUM}\nold\t3\t\\N\n\\.\n"
        );
        for step in [1, 2, 3, 7, 4096] {
            let dump = read(&text, step).unwrap();
            assert_eq!(dump.schema, "my \"box");
            let tables: Vec<_> =
                dump.content.tables.iter().map(|of| (of.table.as_str(), of.rows)).collect();
            assert_eq!(tables, [("exchange_connections", 3), ("migrations", 3)]);
            assert_eq!(
                dump.content.migrations,
                ["unified_complete_setup.sql", "070_high_frequency_performance_indexes.sql"]
            );
        }
    }

    #[test]
    fn what_is_no_complete_backup_of_cts_is_refused() {
        for (text, says) in [
            ("", "no table of CTS"),
            ("COPY a.users (id) FROM stdin;\n1\n\\.\n", "no table of CTS"),
            ("COPY a.exchange_connections (id) FROM stdin;\n1\n", "within the rows"),
        ] {
            assert!(read(text, 5).unwrap_err().what.contains(says), "{text}");
        }
        let newer = format!(
            "COPY a.indications_auto (id) FROM stdin;\n\\.\nCOPY a.migrations (id, name, checksum) FROM stdin;\n1\t099_new.sql\t{SUM}\n\\.\n"
        );
        assert!(read(&newer, 5).unwrap_err().what.contains("099_new.sql"));
    }
}
