//! What a column of the owner holds, by its declared type, and by its values where SQLite has no rule for that.

use rusqlite::Connection;

use crate::store::ValueType;
use crate::store::sql::quoted;
use cts_schema::catalog::Column;

/// What a column holds.
///
/// # Errors
/// If its values cannot be read.
pub fn value_type(conn: &Connection, table: &str, column: &Column) -> rusqlite::Result<ValueType> {
    match Affinity::of(&column.data_type) {
        Affinity::Integer => Ok(ValueType::Integer),
        Affinity::Text => Ok(ValueType::Text),
        Affinity::Real => Ok(ValueType::Real),
        Affinity::Blob => Ok(ValueType::Bytes),
        Affinity::Numeric | Affinity::None => {
            let found = ValueCounts::of(conn, table, &column.name)?;
            Ok(found.value_type(&column.data_type))
        }
    }
}

/// The affinity of a column, by its declared type in upper case (sqlite.org/datatype3.html, 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Affinity {
    /// Of integers.
    Integer,
    /// Of texts.
    Text,
    /// Of BLOBs.
    Blob,
    /// Of doubles.
    Real,
    /// Of any numbers.
    Numeric,
    /// There is no declared type.
    None,
}

impl Affinity {
    /// That of a column with this declared type.
    fn of(declared: &str) -> Affinity {
        let has = |words: &[&str]| words.iter().any(|word| declared.contains(word));
        match declared {
            "" => Affinity::None,
            _ if has(&["INT"]) => Affinity::Integer,
            _ if has(&["CHAR", "CLOB", "TEXT"]) => Affinity::Text,
            _ if has(&["BLOB"]) => Affinity::Blob,
            _ if has(&["REAL", "FLOA", "DOUB"]) => Affinity::Real,
            _ => Affinity::Numeric,
        }
    }
}

/// The values of a column whose declared type does not decide what it holds.
struct ValueCounts {
    all: u64,
    integers: u64,
    numbers: u64,
    booleans: u64,
    blobs: u64,
}

impl ValueCounts {
    fn of(conn: &Connection, table: &str, column: &str) -> rusqlite::Result<ValueCounts> {
        let sql = format!(
            "SELECT count(v), count(*) FILTER (WHERE k = 'integer'), count(*) FILTER (WHERE k IN ('integer', 'real')), \
             count(*) FILTER (WHERE v IN (0, 1)), count(*) FILTER (WHERE k = 'blob') FROM (SELECT t.{0} AS v, typeof(t.{0}) AS k FROM {1} AS t)",
            quoted(column),
            quoted(table)
        );
        conn.query_row(&sql, [], |row| {
            let (all, integers, numbers) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(ValueCounts { all, integers, numbers, booleans: row.get(3)?, blobs: row.get(4)? })
        })
    }

    /// The type that holds all values, and those that programs write later: a column that is declared for numbers, whose
    /// values happen to be whole so far, is one of numbers. `declared` decides where there is no value.
    fn value_type(&self, declared: &str) -> ValueType {
        let is_declared = |words: &[&str]| words.iter().any(|word| declared.contains(word));
        if is_declared(&["BOOL"]) && self.booleans == self.all {
            ValueType::Boolean
        } else if is_declared(&["NUM", "DEC"]) && self.numbers == self.all {
            ValueType::Real
        } else if self.all == 0 {
            ValueType::Text
        } else if self.integers == self.all {
            ValueType::Integer
        } else if self.numbers == self.all {
            ValueType::Real
        } else if self.blobs == self.all {
            ValueType::Bytes
        } else {
            ValueType::Text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_of_a_column_of_numbers_does_not_depend_on_which_numbers_are_there() {
        let counts = |all, integers, numbers, booleans, blobs| ValueCounts {
            all,
            integers,
            numbers,
            booleans,
            blobs,
        };
        for (declared, found, expected) in [
            ("DECIMAL(20,8)", counts(0, 0, 0, 0, 0), ValueType::Real),
            ("DECIMAL(20,8)", counts(2, 2, 2, 1, 0), ValueType::Real),
            ("NUMERIC", counts(2, 0, 1, 0, 0), ValueType::Text),
            ("BOOLEAN", counts(0, 0, 0, 0, 0), ValueType::Boolean),
            ("BOOLEAN", counts(2, 2, 2, 2, 0), ValueType::Boolean),
            ("BOOLEAN", counts(2, 2, 2, 1, 0), ValueType::Integer),
            ("DATETIME", counts(0, 0, 0, 0, 0), ValueType::Text),
            ("DATETIME", counts(3, 0, 0, 0, 0), ValueType::Text),
            ("DATETIME", counts(3, 3, 3, 0, 0), ValueType::Integer),
            ("", counts(3, 0, 0, 0, 3), ValueType::Bytes),
            ("", counts(3, 2, 3, 1, 0), ValueType::Real),
        ] {
            assert_eq!(found.value_type(declared), expected, "{declared}");
        }
    }

    #[test]
    fn affinities_are_those_of_sqlite() {
        let conn = rusqlite::Connection::open_in_memory().unwrap();
        for (declared, affinity) in [
            ("", Affinity::None),
            ("BIGINT", Affinity::Integer),
            ("CHARINT", Affinity::Integer),
            ("FLOATING POINT", Affinity::Integer),
            ("VARCHAR(5)", Affinity::Text),
            ("CLOB", Affinity::Text),
            ("BLOB", Affinity::Blob),
            ("DOUBLE PRECISION", Affinity::Real),
            ("DECIMAL(10,2)", Affinity::Numeric),
            ("DATETIME", Affinity::Numeric),
            ("BOOLEAN", Affinity::Numeric),
            ("STRING", Affinity::Numeric),
        ] {
            assert_eq!(Affinity::of(declared), affinity, "{declared}");
            let stored = "SELECT group_concat(typeof(c), ' ') FROM t";
            let sql = format!(
                "DROP TABLE IF EXISTS t; CREATE TABLE t (c {declared}); INSERT INTO t VALUES ('1'), (1), (1.5)"
            );
            conn.execute_batch(&sql).unwrap();
            let stored: String = conn.query_row(stored, [], |row| row.get(0)).unwrap();
            let expected = match affinity {
                Affinity::Integer | Affinity::Numeric => "integer integer real",
                Affinity::Text => "text text text",
                Affinity::Blob | Affinity::None => "text integer real",
                Affinity::Real => "real real real",
            };
            assert_eq!(stored, expected, "{declared}");
        }
    }
}
