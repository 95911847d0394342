//! Gives a table another shape and keeps every row, as sqlite.org/lang_altertable.html
//! prescribes ("Making Other Kinds Of Table Schema Changes"): a new table, the rows copied, the
//! old one dropped, the new one renamed, its indexes and triggers made again. Foreign keys are
//! off on this connection, or the drop would delete the rows of other tables.
//!
//! Everything comes from the catalogue and from the table itself; no table is known by name.
//! What somebody has added to the table stays: columns, their constraints, indexes, triggers,
//! and an AUTOINCREMENT with its counter.

use rusqlite::{Connection, OptionalExtension, Result};

use super::catalog;
use crate::store::sql::{
    count_duplicates, create_index, index_columns, not_unique, quoted, table_with_exceptions,
};
use crate::store::{Progress, Rebuilt};
use cts_schema::catalog::{Column, Index, Object, Table};
use cts_schema::constraint_exception::{ConstraintException, Rule};
use cts_schema::sql::definition::{constraint_columns, contains_name, table_items};
use cts_schema::sql::tokens;

/// Rows that are copied between two words on how far it is.
const CHUNK: i64 = 20_000;

/// Makes the table as expected, but for rules that its rows break, which are relaxed.
pub fn rebuild(
    conn: &Connection,
    expected: &Table,
    progress: &dyn Fn(Progress<'_>),
) -> Result<Rebuilt> {
    let old = OldTable::read(conn, expected)?;
    let mut rules = old.violations(conn, expected)?;
    let new = format!("cts_rebuilt_{}", expected.name);
    let rows = loop {
        let target = table_with_exceptions(expected, &rules);
        conn.execute_batch(&old.create(&new, &target))?;
        let rows = old.copy(conn, &new, &target, progress)?;
        let changed = old.changed(conn, &new, &target, rows)?;
        if changed.is_empty() {
            old.replace(conn, &new, &target)?;
            break rows;
        }
        // A type that would alter what is stored is not taken over.
        conn.execute_batch(&format!("DROP TABLE {}", quoted(&new)))?;
        rules.extend(changed);
    };
    for index in expected.indexes.iter() {
        rules.extend(put_index(conn, &expected.name, index, progress)?);
    }
    let dropped = old.dropped(&catalog::read_table(conn, &expected.name)?);
    Ok(Rebuilt { rows, exceptions: rules, dropped })
}

/// The rows of a table, and the rules that they break, as far as can be seen from them.
pub fn forecast(conn: &Connection, expected: &Table) -> Result<Rebuilt> {
    let old = OldTable::read(conn, expected)?;
    let rows = count(conn, &format!("SELECT count(*) FROM {}", quoted(&expected.name)))?;
    let mut exceptions = old.violations(conn, expected)?;
    for index in expected.indexes.iter().filter(|index| index.unique) {
        let rows = match index_columns(index).all(|name| old.column(name).is_some()) {
            // A predicate may name a column that is not there yet; then no row meets it.
            true => duplicates(conn, &expected.name, index).unwrap_or(0),
            false => 0,
        };
        exceptions.extend(not_unique(&expected.name, index, rows));
    }
    Ok(Rebuilt { rows, exceptions, dropped: old.dropped(expected) })
}

/// Makes an index anew, whatever has its name on this table; not unique, where rows share a key.
pub fn put_index(
    conn: &Connection,
    table: &str,
    index: &Index,
    progress: &dyn Fn(Progress<'_>),
) -> Result<Option<ConstraintException>> {
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE \
               AND (type <> 'index' OR tbl_name <> ?2 COLLATE NOCASE)";
    if conn.query_row(sql, [&*index.name, table], |row| row.get::<_, i64>(0))? > 0 {
        return refuse(format!("index {} cannot be made: something else has its name", index.name));
    }
    let object = &Object::Index(table.into(), index.name.to_string());
    let total = count(conn, &format!("SELECT count(*) FROM {}", quoted(table)))?;
    progress(Progress { object, done: 0, total });
    let rows = if index.unique { duplicates(conn, table, index)? } else { 0 };
    let name = quoted(&index.name);
    let made = if index.unique && rows > 0 || index.definition.is_empty() {
        create_index(table, index, rows == 0, "")
    } else {
        index.definition.to_string()
    };
    conn.execute_batch(&format!("DROP INDEX IF EXISTS {name}; {made}"))?;
    progress(Progress { object, done: total, total });
    Ok(not_unique(table, index, rows))
}

/// The error of what cannot be done without a loss.
fn refuse<T>(why: String) -> Result<T> {
    Err(rusqlite::Error::ToSqlConversionFailure(why.into()))
}

/// How many rows share a key of a unique index.
fn duplicates(conn: &Connection, table: &str, index: &Index) -> Result<u64> {
    let names: Vec<String> = index_columns(index).map(quoted).collect();
    count(conn, &count_duplicates(table, index, &names))
}

fn count(conn: &Connection, sql: &str) -> Result<u64> {
    conn.query_row(sql, [], |row| row.get(0))
}

/// How many rows break a rule that was relaxed, by now. `expected` is the table without it.
pub fn count_violations(conn: &Connection, expected: &Table, rule: &Rule) -> Result<u64> {
    let table = quoted(&expected.name);
    let column = |name: &str| expected.columns.iter().find(|column| column.name == name);
    match rule {
        Rule::NotNull(name) => {
            count(conn, &format!("SELECT count(*) FROM {table} WHERE {} IS NULL", quoted(name)))
        }
        Rule::IntegerKey(name) => count(conn, &no_integers(&expected.name, name)),
        Rule::PrimaryKey(name) => count(conn, &shared(&expected.name, name)),
        Rule::Unique(name) => match expected.indexes.iter().find(|index| index.name == *name) {
            Some(index) => duplicates(conn, &expected.name, index),
            None => Ok(0),
        },
        Rule::Type(name, _) | Rule::Default(name) => match column(name) {
            Some(column) => altered_by_type(conn, &expected.name, column),
            None => Ok(0),
        },
        Rule::ForeignKey(parent) => {
            let sql = "SELECT count(*) FROM pragma_foreign_key_check(?1) WHERE parent = ?2 COLLATE NOCASE";
            conn.query_row(sql, [&*expected.name, parent], |row| row.get(0))
        }
    }
}

/// Rows whose id could not be an INTEGER PRIMARY KEY, or not beside another one.
fn no_integers(table: &str, column: &str) -> String {
    let (table, column) = (quoted(table), quoted(column));
    let is_integer = format!(
        "(typeof({column}) = 'integer' OR typeof({column}) = 'text' AND CAST(CAST({column} AS INTEGER) AS TEXT) = {column})"
    );
    format!(
        "SELECT count(*) - count(DISTINCT CASE WHEN {is_integer} THEN CAST({column} AS INTEGER) END) FROM {table}"
    )
}

/// Rows whose key others have as well.
fn shared(table: &str, column: &str) -> String {
    let (table, column) = (quoted(table), quoted(column));
    format!(
        "SELECT coalesce(sum(n), 0) FROM (SELECT count(*) AS n FROM {table} WHERE {column} IS NOT NULL \
         GROUP BY CAST({column} AS TEXT) HAVING n > 1)"
    )
}

/// How many values another type would alter, found by storing them in it.
fn altered_by_type(conn: &Connection, table: &str, column: &Column) -> Result<u64> {
    let (table, name) = (quoted(table), quoted(&column.name));
    conn.execute_batch(&format!(
        "CREATE TABLE cts_tried (row, value {}); INSERT INTO cts_tried SELECT rowid, {name} FROM {table}",
        column.data_type
    ))?;
    let altered = format!(
        "SELECT count(*) FROM {table} AS o JOIN cts_tried AS n ON n.row = o.rowid WHERE NOT ({})",
        same(&name, "value", false)
    );
    let altered = count(conn, &altered)?;
    conn.execute_batch("DROP TABLE cts_tried")?;
    Ok(altered)
}

/// Whether a value is the same in the old and in the new table: equal, or a text that has become
/// its own number, or, where the column held integers, a number its own text.
fn same(old: &str, new: &str, held_integers: bool) -> String {
    let (o, n) = (format!("o.{old}"), format!("n.{new}"));
    format!(
        "CASE typeof({o}) || ' ' || typeof({n}) \
         WHEN 'integer text' THEN {held_integers} AND CAST({o} AS TEXT) = {n} \
         WHEN 'text integer' THEN {o} = CAST({n} AS TEXT) \
         WHEN 'integer real' THEN {o} = {n} WHEN 'real integer' THEN {o} = {n} \
         ELSE typeof({o}) = typeof({n}) AND {o} IS {n} END"
    )
}

/// A table as it is.
struct OldTable {
    table: Table,
    /// Columns that hold values. Generated ones do not, but what one of ours shows is kept.
    stored: Vec<String>,
    has_rowid: bool,
}

impl OldTable {
    fn read(conn: &Connection, expected: &Table) -> Result<OldTable> {
        let name = &*expected.name;
        let table = catalog::read_table(conn, name)?;
        if contains_name(table.definition.split('(').next().unwrap_or_default(), "VIRTUAL") {
            return refuse(format!("table {name} is a virtual table, which cannot be rebuilt"));
        }
        let is_ours =
            |name: &str| expected.columns.iter().any(|c| c.name.eq_ignore_ascii_case(name));
        let mut statement =
            conn.prepare("SELECT name, hidden FROM pragma_table_xinfo(?1) ORDER BY cid")?;
        let columns: Vec<(String, i64)> =
            statement.query_map([name], |row| row.try_into())?.collect::<Result<_>>()?;
        let stored = columns.into_iter().filter(|(name, hidden)| *hidden == 0 || is_ours(name));
        let stored = stored.map(|(name, _)| name).collect();
        let sql = "SELECT NOT wr FROM pragma_table_list(?1) WHERE schema = 'main'";
        let has_rowid = conn.query_row(sql, [name], |row| row.get(0))?;
        Ok(OldTable { table, stored, has_rowid })
    }

    fn column(&self, name: &str) -> Option<&Column> {
        self.table.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// The rules that another table in its place has not.
    fn dropped(&self, other: &Table) -> Vec<String> {
        let rules = self.table.constraints_not_in(other).into_iter();
        rules.map(|rule| format!("{rule} on table {}", other.name)).collect()
    }

    /// The rules of columns that the rows break.
    fn violations(&self, conn: &Connection, expected: &Table) -> Result<Vec<ConstraintException>> {
        let mut violations = Vec::new();
        for column in expected.columns.iter() {
            let name = column.name.to_string();
            if column.primary_key_position == 1
                && !is_integer_key(column)
                && self.column(&name).is_some()
            {
                let rows = count(conn, &shared(&self.table.name, &name))?;
                let rule = Rule::PrimaryKey(name.clone());
                let table = expected.name.to_string();
                violations.extend((rows > 0).then_some(ConstraintException { table, rule, rows }));
            }
            let (sql, rule) = if is_integer_key(column) && self.column(&name).is_some() {
                (no_integers(&self.table.name, &name), Rule::IntegerKey(name))
            } else if !column.not_null {
                continue;
            } else if self.column(&name).is_some() {
                let sql = format!(
                    "SELECT count(*) FROM {} WHERE {} IS NULL",
                    quoted(&self.table.name),
                    quoted(&name)
                );
                (sql, Rule::NotNull(name))
            } else if column.default.is_none() {
                (format!("SELECT count(*) FROM {}", quoted(&self.table.name)), Rule::NotNull(name))
            } else {
                continue;
            };
            let rows = count(conn, &sql)?;
            if rows > 0 {
                violations.push(ConstraintException {
                    table: expected.name.to_string(),
                    rule,
                    rows,
                });
            }
        }
        Ok(violations)
    }

    /// The statement for the new table: the expected columns, then what somebody has added.
    fn create(&self, name: &str, target: &Table) -> String {
        let is_ours = |name: &str| target.columns.iter().any(|c| c.name.eq_ignore_ascii_case(name));
        let counts = contains_name(&self.table.definition, "AUTOINCREMENT");
        let mut parts: Vec<String> =
            target.columns.iter().map(|column| define(target, column, counts)).collect();
        let found = table_items(&self.table.definition);
        let added: Vec<&str> = found
            .iter()
            .filter_map(|item| item.column.as_deref())
            .filter(|c| !is_ours(c))
            .collect();
        let is_theirs = |constraint: &str| {
            if contains_name(constraint, "CHECK") {
                added.iter().any(|column| contains_name(constraint, column))
            } else {
                constraint_columns(constraint).iter().all(|name| !is_ours(name))
            }
        };
        for item in &found {
            match &item.column {
                Some(column) if is_ours(column) => {}
                // It has one primary key.
                Some(column) if contains_name(item.text, "PRIMARY") => {
                    let kind =
                        self.column(column).map(|c| c.data_type.to_string()).unwrap_or_default();
                    parts.push(format!("{} {kind}", quoted(column)));
                }
                Some(column) if self.column(column).is_some_and(Column::requires_value) => {
                    parts.push(without_not_null(item.text));
                }
                Some(_) => parts.push(item.text.to_string()),
                None if !contains_name(item.text, "PRIMARY") && is_theirs(item.text) => {
                    parts.push(item.text.to_string());
                }
                None => {}
            }
        }
        format!("CREATE TABLE {} (\n    {}\n)", quoted(name), parts.join(",\n    "))
    }

    /// What each column of the new table is filled with: itself, or NULL where it was not there
    /// and its default would make up a value, such as the present time. A column that is left out
    /// gets its default.
    fn values(&self, target: &Table) -> Vec<(String, String)> {
        let mut values: Vec<_> =
            self.stored.iter().map(|name| (quoted(name), quoted(name))).collect();
        for column in target.columns.iter().filter(|column| self.column(&column.name).is_none()) {
            let is_made_up = column.default.as_ref().is_some_and(|sql| sql.contains('('));
            if is_made_up && !column.not_null && column.primary_key_position == 0 {
                values.push((quoted(&column.name), "NULL".into()));
            }
        }
        values
    }

    /// Copies the rows, in their order and with their rowids. Returns how many.
    fn copy(
        &self,
        conn: &Connection,
        new: &str,
        target: &Table,
        progress: &dyn Fn(Progress<'_>),
    ) -> Result<u64> {
        let old = quoted(&self.table.name);
        let total = count(conn, &format!("SELECT count(*) FROM {old}"))?;
        let mut values = self.values(target);
        // Rows keep their numbers, also where these had no name until now.
        match target.columns.iter().find(|column| is_integer_key(column)) {
            _ if !self.has_rowid => {}
            None => values.push(("rowid".into(), "rowid".into())),
            Some(key) if self.column(&key.name).is_none() => {
                values.push((quoted(&key.name), "rowid".into()));
            }
            Some(_) => {}
        }
        let (into, from): (Vec<_>, Vec<_>) = values.into_iter().unzip();
        let insert = format!(
            "INSERT INTO {} ({}) SELECT {} FROM {old}",
            quoted(new),
            into.join(", "),
            from.join(", ")
        );
        if !self.has_rowid {
            conn.execute(&insert, [])?;
            return Ok(total);
        }
        let end = format!(
            "SELECT max(rowid) FROM (SELECT rowid FROM {old} WHERE rowid > ?1 ORDER BY rowid LIMIT {CHUNK})"
        );
        let mut end = conn.prepare(&end)?;
        let mut insert =
            conn.prepare(&format!("{insert} WHERE rowid > ?1 AND rowid <= ?2 ORDER BY rowid"))?;
        // A row with the lowest id there can be would be missed, and then found to be missing.
        let object = &Object::Table(self.table.name.to_string());
        let (mut after, mut done) = (i64::MIN, 0);
        while let Some(last) = end.query_row([after], |row| row.get::<_, Option<i64>>(0))? {
            done += insert.execute([after, last])? as u64;
            after = last;
            progress(Progress { object, done, total });
        }
        Ok(total)
    }

    /// The columns in which a value would not be the same, as rules to relax.
    fn changed(
        &self,
        conn: &Connection,
        new: &str,
        target: &Table,
        rows: u64,
    ) -> Result<Vec<ConstraintException>> {
        let key = target.columns.iter().find(|column| is_integer_key(column));
        let key = match key.filter(|key| self.column(&key.name).is_some()) {
            Some(key) => format!("n.{0} = CAST(o.{0} AS INTEGER)", quoted(&key.name)),
            None if self.has_rowid => "n.rowid = o.rowid".into(),
            None => {
                let keys =
                    self.table.columns.iter().filter(|column| column.primary_key_position > 0);
                let keys = keys.map(|key| format!("n.{0} IS o.{0}", quoted(&key.name)));
                keys.collect::<Vec<_>>().join(" AND ")
            }
        };
        let sums = self.stored.iter().map(|name| {
            let is_key =
                target.columns.iter().any(|c| c.name == *name && c.primary_key_position > 0)
                    || target.foreign_keys.iter().any(|key| key.column == *name);
            let held_integers =
                is_key || self.column(name).is_some_and(|c| c.data_type.contains("INT"));
            let name = quoted(name);
            format!("coalesce(sum(NOT ({})), 0)", same(&name, &name, held_integers))
        });
        let sql = format!(
            "SELECT count(*), {} FROM {} AS o JOIN {} AS n ON {key}",
            sums.collect::<Vec<_>>().join(", "),
            quoted(&self.table.name),
            quoted(new)
        );
        let mut changed = Vec::new();
        let found: u64 = conn.query_row(&sql, [], |row| {
            for (at, name) in self.stored.iter().enumerate() {
                let rows: u64 = row.get(at + 1)?;
                if rows > 0 {
                    let kind =
                        self.column(name).map(|c| c.data_type.to_string()).unwrap_or_default();
                    let rule = Rule::Type(name.clone(), kind);
                    changed.push(ConstraintException {
                        table: self.table.name.to_string(),
                        rule,
                        rows,
                    });
                }
            }
            row.get(0)
        })?;
        let copied = count(conn, &format!("SELECT count(*) FROM {}", quoted(new)))?;
        let is_known = |rule: &ConstraintException| {
            let Rule::Type(name, kind) = &rule.rule else { return false };
            target.columns.iter().all(|c| c.name != *name || c.data_type == *kind)
        };
        if found != rows || copied != rows || changed.iter().any(is_known) {
            let why = "the rows could not be copied without a change";
            return refuse(format!("table {}: {why}", self.table.name));
        }
        Ok(changed)
    }

    /// Puts the new table in the place of the old one, with all that hung on that.
    fn replace(&self, conn: &Connection, new: &str, target: &Table) -> Result<()> {
        let name = &self.table.name;
        let counter: Option<i64> = if contains_name(&self.table.definition, "AUTOINCREMENT") {
            let sql = "SELECT seq FROM sqlite_sequence WHERE name = ?1";
            conn.query_row(sql, [name], |row| row.get(0)).optional()?
        } else {
            None
        };
        let sql = "SELECT iif(type = 'index', name, ''), sql FROM sqlite_schema \
                   WHERE tbl_name = ?1 COLLATE NOCASE AND type IN ('index', 'trigger') AND sql IS NOT NULL \
                   ORDER BY rowid";
        let mut statement = conn.prepare(sql)?;
        let hung: Vec<(String, String)> =
            statement.query_map([name], |row| row.try_into())?.collect::<Result<_>>()?;
        // As it was before SQLite 3.26: a rename that leaves views and other tables alone.
        conn.execute_batch(&format!(
            "PRAGMA legacy_alter_table = ON; DROP TABLE {0}; ALTER TABLE {1} RENAME TO {0}; PRAGMA legacy_alter_table = OFF",
            quoted(name),
            quoted(new)
        ))?;
        let is_ours = |name: &str| target.indexes.iter().any(|i| i.name.eq_ignore_ascii_case(name));
        for (_, sql) in hung.iter().filter(|(name, _)| !is_ours(name)) {
            conn.execute_batch(sql)?;
        }
        let Some(counter) = counter.filter(|_| target.columns.iter().any(is_integer_key)) else {
            return Ok(());
        };
        let moved = conn.execute(
            "UPDATE sqlite_sequence SET seq = max(seq, ?2) WHERE name = ?1",
            (name, counter),
        )?;
        if moved == 0 {
            conn.execute(
                "INSERT INTO sqlite_sequence (name, seq) VALUES (?1, ?2)",
                (name, counter),
            )?;
        }
        Ok(())
    }
}

/// A column without its NOT NULL, and every other byte as it is.
fn without_not_null(item: &str) -> String {
    let words: Vec<_> = tokens(item).filter(|token| !token.is_blank()).collect();
    let is = |at: usize, word: &str| {
        words.get(at).is_some_and(|token| token.text.eq_ignore_ascii_case(word))
    };
    let mut depth = 0_usize;
    for (at, token) in words.iter().enumerate() {
        match token.text {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            _ if depth == 0 && is(at, "NOT") && is(at + 1, "NULL") => {
                let conflict = is(at + 2, "ON") && is(at + 3, "CONFLICT");
                let last = words.get(at + if conflict { 4 } else { 1 });
                let end = last.map_or(item.len(), |token| token.start + token.text.len());
                let (before, after) = (item.get(..token.start), item.get(end..));
                return format!("{}{}", before.unwrap_or_default(), after.unwrap_or_default());
            }
            _ => {}
        }
    }
    item.to_owned()
}

/// Whether the column is the rowid by another name.
fn is_integer_key(column: &Column) -> bool {
    column.primary_key_position == 1 && column.data_type == "INTEGER"
}

/// A column for a `CREATE TABLE` statement. Ours have one key column at most.
fn define(table: &Table, column: &Column, counts: bool) -> String {
    let mut sql = format!("{} {}", quoted(&column.name), column.data_type);
    if column.primary_key_position > 0 {
        sql += " PRIMARY KEY";
        if counts && is_integer_key(column) {
            sql += " AUTOINCREMENT";
        }
    }
    if column.not_null {
        sql += " NOT NULL";
    }
    if let Some(default) = &column.default {
        sql += &format!(" DEFAULT ({default})");
    }
    for key in table.foreign_keys.iter().filter(|key| key.column == column.name) {
        sql += &format!(
            " REFERENCES {} ({}) ON DELETE {}",
            quoted(&key.table),
            quoted(&key.references),
            key.on_delete
        );
    }
    sql
}

/// Tables with a foreign key to a column that is not unique, which stops every write to them.
pub fn mismatched(conn: &Connection) -> Result<Vec<String>> {
    let mut names = conn.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?;
    let names: Vec<String> = names.query_map([], |row| row.get(0))?.collect::<Result<_>>()?;
    let is_mismatched = |name: &String| {
        let sql = "SELECT count(*) FROM pragma_foreign_key_check(?1)";
        let found = conn.query_row(sql, [name], |row| row.get::<_, i64>(0));
        found.is_err_and(|error| error.to_string().contains("foreign key mismatch"))
    };
    Ok(names.into_iter().filter(is_mismatched).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_null_is_taken_out_and_nothing_else() {
        for (item, left) in [
            ("own TEXT NOT NULL CHECK(own<>'q')", "own TEXT  CHECK(own<>'q')"),
            ("own INT not /* x */ null ON CONFLICT FAIL DEFAULT 1.5", "own INT  DEFAULT 1.5"),
            ("own INT CHECK(own NOT NULL OR a)", "own INT CHECK(own NOT NULL OR a)"),
        ] {
            assert_eq!(without_not_null(item), left);
        }
    }
}
