//! The file of the rows that are not copied, one JSON object a line. It appears with the first of them, and is removed
//! again if the copy fails.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json, json};

use super::problems::RowProblem;
use crate::error::{Error, Kind, Result};
use crate::store::{CopiedTable, Field, StoredValue, Value};
use crate::system::new_file::create_file;
use crate::system::visible::hexadecimal;

/// The mode of the file: rows hold keys of exchanges.
const FILE_MODE: u32 = 0o600;

/// The file. Dropped before [`SkippedRows::keep`], it is removed.
pub struct SkippedRows {
    path: PathBuf,
    file: Option<BufWriter<File>>,
}

impl SkippedRows {
    /// Nothing is created yet.
    ///
    /// # Errors
    /// [`Kind::CannotCreate`] if there is a file at the path, or no folder for it.
    pub fn at(path: &Path) -> Result<SkippedRows> {
        if fs::symlink_metadata(path).is_ok() {
            return Err(Error::new(Kind::CannotCreate, "there is a file of this name already")
                .at(path.display())
                .remedy("name a new file for the rows that are skipped (--skip-bad)"));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if folder.is_some_and(|folder| !folder.is_dir()) {
            return Err(Error::new(Kind::CannotCreate, "its folder does not exist")
                .at(path.display())
                .remedy("create the folder, or name another file (--skip-bad)"));
        }
        Ok(SkippedRows { path: path.to_path_buf(), file: None })
    }

    /// Writes a row.
    ///
    /// # Errors
    /// The file cannot be created or written.
    pub fn write(
        &mut self,
        table: &CopiedTable,
        row: &[Field<'_>],
        problems: &[RowProblem],
    ) -> Result<()> {
        if self.file.is_none() {
            let created = create_file(&self.path, FILE_MODE);
            let (file, _) = created.map_err(|e| self.failed(Kind::CannotCreate, &e))?;
            self.file = Some(BufWriter::new(file));
        }
        let line = line(table, row, problems);
        match self.file.as_mut().map(|file| writeln!(file, "{line}")) {
            Some(Err(e)) => Err(self.failed(Kind::Io, &e)),
            _ => Ok(()),
        }
    }

    /// Writes what is not on the disk yet: the rows have to be there before a copy without them is.
    ///
    /// # Errors
    /// The file cannot be written completely.
    pub fn sync(&mut self) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let written = file.flush().and_then(|()| file.get_ref().sync_all());
        written.map_err(|e| self.failed(Kind::Io, &e))
    }

    /// Keeps the file. Returns its path if rows are in it.
    pub fn keep(mut self) -> Option<PathBuf> {
        self.file.take().map(|_| self.path.clone())
    }

    fn failed(&self, kind: Kind, cause: &std::io::Error) -> Error {
        Error::new(kind, "the skipped rows cannot be written to the file")
            .at(self.path.display())
            .caused_by(cause)
            .remedy("name another file (--skip-bad), or free some space")
    }
}

impl Drop for SkippedRows {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // What stays is said by the next copy, which refuses to write over it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn line(table: &CopiedTable, row: &[Field<'_>], problems: &[RowProblem]) -> Json {
    let names = || table.columns.iter().map(|column| column.name.clone());
    let values: Map<String, Json> = names().zip(row.iter().map(field_json)).collect();
    let problems = problems.iter().map(|(at, reason)| {
        let column = table.columns.get(*at).map(|column| &column.name);
        json!({ "column": column, "reason": reason.to_string() })
    });
    json!({ "table": table.name, "row": values, "problems": problems.collect::<Vec<_>>() })
}

fn field_json(field: &Field<'_>) -> Json {
    match field {
        Ok(Value::Null) => Json::Null,
        Ok(Value::Boolean(value)) => json!(value),
        Ok(Value::Integer(value)) => json!(value),
        Ok(Value::Real(value)) => real_json(*value),
        Ok(Value::Text(text)) => json!(text),
        Ok(Value::Time(time)) => json!(time.to_string()),
        Ok(Value::Day(day)) => json!(day.to_string()),
        Ok(Value::Bytes(bytes)) => bytes_json(bytes),
        Err(incompatible) => match &incompatible.stored {
            StoredValue::Integer(value) => json!(value),
            StoredValue::Real(value) => real_json(*value),
            StoredValue::Bytes(bytes) => bytes_json(bytes),
            StoredValue::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => json!(text),
                Err(_) => bytes_json(bytes),
            },
        },
    }
}

/// JSON has no infinite number, and no NaN.
fn real_json(value: f64) -> Json {
    let name = match value {
        f64::INFINITY => "Infinity",
        f64::NEG_INFINITY => "-Infinity",
        _ if value.is_nan() => "NaN",
        _ => return json!(value),
    };
    json!({ "number": name })
}

fn bytes_json(bytes: &[u8]) -> Json {
    json!({ "hex": hexadecimal(bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{CopiedColumn, Incompatibility, IncompatibleValue, Moment, ValueType};

    #[test]
    fn a_line_has_every_value_and_the_problems() {
        let column = |name: &str| CopiedColumn {
            name: name.into(),
            value_type: ValueType::Text,
            is_extra: false,
        };
        let table = CopiedTable {
            name: "t".into(),
            columns: ["id", "at", "text", "number"].map(column).into(),
            key: vec!["id".into()],
            is_extra: false,
        };
        let invalid = IncompatibleValue {
            reason: Incompatibility::InvalidUtf8,
            stored: StoredValue::Text(b"a\xff".into()),
        };
        let row = [
            Ok(Value::Integer(7)),
            Ok(Value::Time(Moment(1_000))),
            Err(invalid),
            Ok(Value::Real(f64::NEG_INFINITY)),
        ];
        let problems = [(2, Incompatibility::InvalidUtf8), (4, Incompatibility::TooLong)];
        assert_eq!(
            line(&table, &row, &problems),
            json!({
                "table": "t",
                "row": {
                    "id": 7,
                    "at": "1970-01-01 00:00:00.001",
                    "text": { "hex": "61ff" },
                    "number": { "number": "-Infinity" },
                },
                "problems": [
                    { "column": "text", "reason": "is not valid UTF-8" },
                    { "column": null, "reason": "is too long for the target" },
                ],
            })
        );
    }
}
