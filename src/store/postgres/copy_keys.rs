//! Foreign keys and triggers of tables that rows are copied into: the keys are made again after the rows, as they were, and the
//! triggers are off meanwhile.

use super::catalog::schema_oid;
use super::copy_objects::attempt;
use super::row::Row;
use super::session::Session;
use crate::error::{Error, Kind, Result};
use crate::store::sql::{literal, quoted};

/// The SQLSTATE of a row whose parent does not exist. (PostgreSQL documentation, appendix A)
const FOREIGN_KEY_VIOLATION: &str = "23503";

/// A foreign key of one of the tables, or of a table that refers to one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyForeignKey {
    /// Its table, as SQL.
    table: String,
    /// The name of its table, for messages; the one of a table of ours.
    pub table_name: String,
    name: String,
    definition: String,
    /// The name of the table that it refers to.
    pub parent: String,
    comment: Option<String>,
}

impl CopyForeignKey {
    fn read(row: &Row) -> Result<CopyForeignKey> {
        let definition = row.text(3)?;
        Ok(CopyForeignKey {
            table: row.text(0)?.to_string(),
            table_name: row.text(1)?.to_string(),
            name: row.text(2)?.to_string(),
            definition: definition.strip_suffix(" NOT VALID").unwrap_or(definition).to_string(),
            parent: row.text(4)?.to_string(),
            comment: row.get(5).map(str::to_string),
        })
    }

    /// The foreign keys of and to tables of our schema, whose names are given as a list of literals.
    ///
    /// # Errors
    /// If the query fails; the transaction is aborted then.
    pub fn find(session: &mut Session, tables: &str) -> Result<Vec<CopyForeignKey>> {
        let schema = schema_oid(&session.server.schema);
        let is_one =
            |name: &str| format!("{name}.relnamespace = {schema} AND {name}.relname IN ({tables})");
        let sql = format!(
            "SELECT k.conrelid::regclass, CASE WHEN c.relnamespace = {schema} THEN c.relname::text ELSE k.conrelid::regclass::text END, \
                 k.conname, pg_get_constraintdef(k.oid), \
                 CASE WHEN p.relnamespace = {schema} THEN p.relname::text ELSE k.confrelid::regclass::text END, \
                 obj_description(k.oid, 'pg_constraint') \
             FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_class p ON p.oid = k.confrelid \
             WHERE k.contype = 'f' AND k.conparentid = 0 AND ({} OR {}) ORDER BY 1, 3",
            is_one("c"),
            is_one("p")
        );
        session.rows(&sql)?.iter().map(CopyForeignKey::read).collect()
    }

    /// The statement that takes it away.
    pub fn drop_sql(&self) -> String {
        format!("ALTER TABLE {} DROP CONSTRAINT {}", self.table, quoted(&self.name))
    }

    /// Makes it. Returns false, and makes one that new rows only are checked by, where rows have no parent.
    ///
    /// # Errors
    /// If the server refuses a statement for another reason; the transaction has to be rolled back.
    pub fn create(&self, session: &mut Session) -> Result<bool> {
        let at =
            |error: Error| error.at(format!("foreign key {} of {}", self.name, self.table_name));
        let holds = attempt(session, &self.create_sql(""), &[FOREIGN_KEY_VIOLATION]).map_err(at)?;
        if !holds {
            session.run(&self.create_sql(" NOT VALID")).map_err(at)?;
        }
        Ok(holds)
    }

    /// The error of a key that the schema does not have and that rows violate.
    pub fn violated(&self) -> Error {
        let CopyForeignKey { name, table_name, parent, .. } = self;
        let what = format!(
            "rows of table {table_name} refer to missing rows of {parent}, which foreign key {name} of the target forbids"
        );
        Error::new(Kind::Data, what).remedy(format!(
            "drop that key (`ALTER TABLE {} DROP CONSTRAINT {}`), or correct the rows in the source",
            self.table,
            quoted(name)
        ))
    }

    fn create_sql(&self, validity: &str) -> String {
        let CopyForeignKey { table, definition, .. } = self;
        let name = quoted(&self.name);
        let mut sql = format!("ALTER TABLE {table} ADD CONSTRAINT {name} {definition}{validity}");
        if let Some(comment) = &self.comment {
            sql += &format!("; COMMENT ON CONSTRAINT {name} ON {table} IS {}", literal(comment));
        }
        sql
    }
}

/// A trigger of the owner of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyTrigger {
    table: String,
    name: String,
    /// The action that turns it on as it was.
    enable: &'static str,
}

impl CopyTrigger {
    /// The triggers that are on, of tables of our schema, whose names are given as a list of literals.
    ///
    /// # Errors
    /// If the query fails; the transaction is aborted then.
    pub fn find(session: &mut Session, tables: &str) -> Result<Vec<CopyTrigger>> {
        let sql = format!(
            "SELECT c.relname, g.tgname, g.tgenabled FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid \
             WHERE c.relnamespace = {} AND c.relname IN ({tables}) AND NOT g.tgisinternal AND g.tgenabled <> 'D' ORDER BY 1, 2",
            schema_oid(&session.server.schema)
        );
        let rows = session.rows(&sql)?;
        let trigger = |row: &Row| {
            Ok(CopyTrigger {
                table: session.qualified(row.text(0)?),
                name: quoted(row.text(1)?),
                enable: match row.text(2)? {
                    "A" => "ENABLE ALWAYS",
                    "R" => "ENABLE REPLICA",
                    _ => "ENABLE",
                },
            })
        };
        rows.iter().map(trigger).collect()
    }

    /// The statement that turns it off.
    pub fn disable_sql(&self) -> String {
        format!("ALTER TABLE {} DISABLE TRIGGER {}", self.table, self.name)
    }

    /// The statement that turns it on as it was.
    pub fn enable_sql(&self) -> String {
        format!("ALTER TABLE {} {} TRIGGER {}", self.table, self.enable, self.name)
    }
}
