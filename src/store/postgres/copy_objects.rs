//! Indexes that are taken away from tables before rows are copied into them, those of primary keys among them, and made again
//! as they were: by the server's own text of their definition, under their names.

use super::catalog::schema_oid;
use super::row::Row;
use super::session::Session;
use crate::error::{Cause, Error, Result};
use crate::store::schema::POSTGRES;
use crate::store::sql::{literal, quoted};
use cts_schema::catalog::Table;

/// The savepoint before an index or a key that rows may not allow.
const SAVEPOINT: &str = "cts_copy";
/// The SQLSTATEs of rows that share a key, and of a NULL in a key. (PostgreSQL documentation, appendix A)
const UNIQUE_VIOLATION: &str = "23505";
const NOT_NULL_VIOLATION: &str = "23502";
/// The SQLSTATE of an index entry that does not fit into a page.
const PROGRAM_LIMIT_EXCEEDED: &str = "54000";

/// The indexes that are taken away together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexKind {
    /// Those of primary keys.
    PrimaryKey,
    /// All others, without those of EXCLUDE constraints.
    Other,
}

/// An index, perhaps of a primary key or a UNIQUE constraint, which has its name then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyIndex {
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Its definition, from its name on.
    definition: String,
    /// Whether no two rows may share its key.
    pub is_unique: bool,
    /// The kind of its constraint, as in `ALTER TABLE … ADD CONSTRAINT`, and what follows the index there.
    constraint: Option<(&'static str, &'static str)>,
    /// Its tablespace; empty for that of the database.
    tablespace: String,
    is_replica_identity: bool,
    is_clustered: bool,
    comment: Option<String>,
}

impl CopyIndex {
    fn read(row: &Row) -> Result<CopyIndex> {
        let is_unique = row.flag(3)?;
        let begin = if is_unique { "CREATE UNIQUE INDEX " } else { "CREATE INDEX " };
        let definition = row.text(2)?;
        let deferral = match (row.get(9), row.get(10)) {
            (Some("t"), Some("t")) => " DEFERRABLE INITIALLY DEFERRED",
            (Some("t"), _) => " DEFERRABLE",
            _ => "",
        };
        let constraint = row.get(8).map(|kind| match kind {
            "p" => ("PRIMARY KEY", deferral),
            _ => ("UNIQUE", deferral),
        });
        Ok(CopyIndex {
            table: row.text(0)?.to_string(),
            name: row.text(1)?.to_string(),
            definition: definition.strip_prefix(begin).unwrap_or(definition).to_string(),
            is_unique,
            constraint,
            tablespace: row.text(4)?.to_string(),
            is_replica_identity: row.flag(5)?,
            is_clustered: row.flag(6)?,
            comment: row.get(7).map(str::to_string),
        })
    }

    /// The indexes of tables of our schema, whose names are given as a list of literals. One that another object needs, such
    /// as a view that groups by a primary key, is left out and stays. So is one that a cancelled build has left.
    ///
    /// # Errors
    /// If the query fails; the transaction is aborted then.
    pub fn find(session: &mut Session, tables: &str, kind: IndexKind) -> Result<Vec<CopyIndex>> {
        let kinds = match kind {
            IndexKind::PrimaryKey => "x.indisprimary",
            IndexKind::Other => "NOT x.indisprimary AND NOT x.indisexclusion",
        };
        let sql = format!(
            "SELECT c.relname, i.relname, pg_get_indexdef(x.indexrelid), x.indisunique, coalesce(s.spcname, ''), \
                 x.indisreplident, x.indisclustered, coalesce(obj_description(k.oid, 'pg_constraint'), obj_description(i.oid, 'pg_class')), \
                 k.contype, k.condeferrable, k.condeferred \
             FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid JOIN pg_class i ON i.oid = x.indexrelid \
                 LEFT JOIN pg_tablespace s ON s.oid = i.reltablespace \
                 LEFT JOIN pg_constraint k ON k.conindid = x.indexrelid AND k.conrelid = x.indrelid AND k.contype IN ('p', 'u') \
             WHERE c.relnamespace = {} AND c.relkind = 'r' AND c.relname IN ({tables}) AND x.indisvalid AND {kinds} \
                 AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.refclassid = 'pg_constraint'::regclass AND d.refobjid = k.oid \
                     AND d.deptype = 'n' AND d.classid <> 'pg_constraint'::regclass) \
             ORDER BY c.relname, k.contype NULLS LAST, i.relname",
            schema_oid(&session.server.schema)
        );
        session.rows(&sql)?.iter().map(CopyIndex::read).collect()
    }

    /// The primary key of the schema, for a table that has none.
    pub fn of_primary_key(session: &Session, table: &Table) -> CopyIndex {
        let mut columns: Vec<_> =
            table.columns.iter().filter(|column| column.primary_key_position > 0).collect();
        columns.sort_by_key(|column| column.primary_key_position);
        let columns: Vec<&str> = columns.into_iter().map(|column| &*column.name).collect();
        CopyIndex::of_key(session, &table.name, &columns)
    }

    /// A primary key of these columns.
    pub fn of_key(session: &Session, table: &str, columns: &[&str]) -> CopyIndex {
        let name = key_name(table);
        let columns: Vec<String> = columns.iter().map(|name| quoted(name)).collect();
        let definition =
            format!("{} ON {} ({})", quoted(&name), session.qualified(table), columns.join(", "));
        CopyIndex {
            table: table.to_string(),
            name,
            definition,
            is_unique: true,
            constraint: Some(("PRIMARY KEY", "")),
            tablespace: String::new(),
            is_replica_identity: false,
            is_clustered: false,
            comment: None,
        }
    }

    /// Whether it is the index of a primary key.
    pub fn is_primary_key(&self) -> bool {
        matches!(self.constraint, Some(("PRIMARY KEY", _)))
    }

    /// Makes it unique where the schema says so.
    pub fn unique_as_expected(mut self) -> CopyIndex {
        let expected = POSTGRES.expected.table(&self.table);
        let expected = expected.and_then(|table| table.index(&self.name));
        self.is_unique |= expected.is_some_and(|index| index.unique);
        self
    }

    /// The statement that takes it away.
    pub fn drop_sql(&self, session: &Session) -> String {
        match self.constraint {
            None => format!("DROP INDEX {}", session.qualified(&self.name)),
            Some(_) => format!(
                "ALTER TABLE {} DROP CONSTRAINT {}",
                session.qualified(&self.table),
                quoted(&self.name)
            ),
        }
    }

    /// Makes it. Returns false, and makes nothing, where rows do not allow it.
    ///
    /// # Errors
    /// If the server refuses a statement for another reason; the transaction has to be rolled back.
    pub fn create(&self, session: &mut Session) -> Result<bool> {
        attempt(session, &self.create_sql(session), &[UNIQUE_VIOLATION, NOT_NULL_VIOLATION])
            .map_err(|error| self.explained(error))
    }

    /// Makes it without UNIQUE.
    ///
    /// # Errors
    /// If the server refuses a statement; the transaction has to be rolled back.
    pub fn create_not_unique(&self, session: &mut Session) -> Result<()> {
        let index = CopyIndex { is_unique: false, constraint: None, ..self.clone() };
        session.run(&index.create_sql(session)).map_err(|error| self.explained(error))
    }

    fn create_sql(&self, session: &Session) -> String {
        let CopyIndex { definition, tablespace, .. } = self;
        let (table, name) = (session.qualified(&self.table), quoted(&self.name));
        let unique = if self.is_unique { "UNIQUE " } else { "" };
        let mut sql = format!(
            "SET LOCAL default_tablespace = {}; CREATE {unique}INDEX {definition}",
            literal(tablespace)
        );
        if let Some((kind, deferral)) = self.constraint {
            sql += &format!(
                "; ALTER TABLE {table} ADD CONSTRAINT {name} {kind} USING INDEX {name}{deferral}"
            );
        }
        if self.is_replica_identity && self.is_unique {
            sql += &format!("; ALTER TABLE {table} REPLICA IDENTITY USING INDEX {name}");
        }
        if self.is_clustered {
            sql += &format!("; ALTER TABLE {table} CLUSTER ON {name}");
        }
        if let Some(comment) = &self.comment {
            let object = match self.constraint {
                None => format!("INDEX {}", session.qualified(&self.name)),
                Some(_) => format!("CONSTRAINT {name} ON {table}"),
            };
            sql += &format!("; COMMENT ON {object} IS {}", literal(comment));
        }
        sql
    }

    fn explained(&self, error: Error) -> Error {
        let error = error.at(format!("index {} on {}", self.name, self.table));
        match has_state(&error, &[PROGRAM_LIMIT_EXCEEDED]) {
            true => error.remedy(format!(
                "shorten the longest texts in the columns of that index in table {} of the source, or leave those rows out",
                self.table
            )),
            false => error,
        }
    }
}

/// The name that the server gives a primary key. (PostgreSQL source, `makeObjectName`)
fn key_name(table: &str) -> String {
    const LABEL: &str = "_pkey";
    let mut end = table.len().min(63 - LABEL.len());
    while !table.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{LABEL}", &table[..end])
}

/// Runs statements behind a savepoint. Returns false, and undoes them, where one fails with one of these SQLSTATEs.
///
/// # Errors
/// If one fails with another; the transaction is aborted then.
pub(super) fn attempt(session: &mut Session, sql: &str, states: &[&str]) -> Result<bool> {
    match session.run(&format!("SAVEPOINT {SAVEPOINT}; {sql}; RELEASE {SAVEPOINT}")) {
        Ok(()) => Ok(true),
        Err(error) if has_state(&error, states) => {
            session.run(&format!("ROLLBACK TO {SAVEPOINT}; RELEASE {SAVEPOINT}")).map(|()| false)
        }
        Err(error) => Err(error),
    }
}

fn has_state(error: &Error, states: &[&str]) -> bool {
    matches!(error.cause.as_deref(), Some(Cause::SqlState(state)) if states.contains(&&**state))
}
