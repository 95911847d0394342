//! The tables of an older CTS that cts refuses to convert, because something would be lost or broken.
//! Each refusal names the object and says what to do.

use super::existing_table::ReferencingKey;
use super::obstacles::described;
use super::rebuild_plan::{RebuildPlan, uses_column};
use super::session::Session;
use crate::error::{Error, Kind, Result};
use crate::store::schema::POSTGRES;
use crate::store::sql::{index_columns, literal, quoted};
use cts_schema::catalog::{Column, Index};
use cts_schema::constraint_exception::{ConstraintException, Rule};

impl RebuildPlan<'_> {
    /// Refuses a plan that would lose or break something.
    ///
    /// # Errors
    /// `Kind::Data` if it is refused, or the error of a query. Nothing is changed; where a query
    /// failed, an open transaction is aborted.
    pub fn refuse(&self, session: &mut Session) -> Result<()> {
        self.refuse_shared_parent_keys()?;
        self.refuse_unwritable_ledger()?;
        self.refuse_loss(session)?;
        self.refuse_dependent_objects(session)?;
        self.refuse_foreign_keys_of_others()?;
        self.refuse_impossible_indexes(session)
    }

    /// Rows may share a primary key, but then no foreign key can reference it.
    fn refuse_shared_parent_keys(&self) -> Result<()> {
        let name = &self.expected.name;
        let is_parent = |column: &str| {
            let mut keys = POSTGRES.expected.tables.iter().flat_map(|t| t.foreign_keys.iter());
            keys.any(|key| key.table == *name && key.references == *column)
        };
        for ConstraintException { rule, rows, .. } in &self.exceptions {
            match rule {
                Rule::PrimaryKey(column) if is_parent(column) => {
                    let what = format!(
                        "{rows} rows of table {name} have no unique {column}, and foreign keys of other tables reference it"
                    );
                    return Err(Error::new(Kind::Data, what)
                        .remedy(format!("give each of these rows a {column} of its own")));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// cts writes a row into the ledger for each migration, whatever types its columns keep.
    fn refuse_unwritable_ledger(&self) -> Result<()> {
        let is_unwritable = |rule: &Rule| match rule {
            Rule::Type(_, data_type) => {
                !data_type.starts_with("TEXT") && !data_type.starts_with("CHARACTER")
            }
            _ => false,
        };
        let found = self.exceptions.iter().find(|exception| is_unwritable(&exception.rule));
        match found.filter(|exception| exception.table == "migrations") {
            None => Ok(()),
            Some(exception) => {
                let what = format!("cts could not write its rows into the ledger: {exception}");
                Err(Error::new(Kind::Data, what)
                    .remedy("correct or clear the values of that column"))
            }
        }
    }

    /// Checks the rows once more: no value of a column that is converted may be lost.
    fn refuse_loss(&self, session: &mut Session) -> Result<()> {
        for column in self.converted() {
            let is_lossy = self.old.conversion(&column.name, &column.data_type).is_lossy;
            let table = session.qualified(&self.expected.name);
            if session.flag(&format!("SELECT EXISTS (SELECT FROM {table} WHERE {is_lossy})"))? {
                let found = self.old.column(&column.name).map(|found| &*found.data_type);
                let what = format!(
                    "{}.{}: values of type {} cannot be converted to {} without loss",
                    self.expected.name,
                    column.name,
                    found.unwrap_or_default(),
                    column.data_type
                );
                return Err(Error::new(Kind::Data, what)
                    .remedy("change the type of that column to text or to a number type"));
            }
        }
        Ok(())
    }

    /// The server refuses to alter a column that a view, a generated column, a trigger or a policy
    /// depends on.
    fn refuse_dependent_objects(&self, session: &mut Session) -> Result<()> {
        let names: Vec<String> = self.converted().map(|column| literal(&column.name)).collect();
        if names.is_empty() {
            return Ok(());
        }
        let table = session.qualified_literal(&self.expected.name);
        let object = "coalesce(g.classid, d.classid), coalesce(g.objid, d.objid), coalesce(g.objsubid, d.objsubid)";
        let described = described(session, object);
        let sql = dependent_objects_sql(&table, &names.join(", "), &described);
        let Some(row) = session.first_row(&sql)? else { return Ok(()) };
        let what = format!(
            "{} depends on {}.{}, whose type has to change",
            row.text(0)?,
            self.expected.name,
            row.text(1)?
        );
        Err(Error::new(Kind::Data, what)
            .remedy("save its definition, drop it, migrate, and create it again"))
    }

    /// Foreign keys of tables that are not ours stay, and so must what they reference.
    fn refuse_foreign_keys_of_others(&self) -> Result<()> {
        let Some(ReferencingKey { constraint, table, shown_table, .. }) =
            self.referencing_keys_to_drop().find(|key| !key.is_ours)
        else {
            return Ok(());
        };
        let name = &constraint.name;
        let what = format!(
            "foreign key {name} of table {shown_table} references a column of table {} that has to change",
            self.expected.name
        );
        Err(Error::new(Kind::Data, what).remedy(format!(
            "drop it (`ALTER TABLE {table} DROP CONSTRAINT {}`), migrate, and create it again",
            quoted(name)
        )))
    }

    /// A column that keeps its type may have one over which an expected index cannot be created.
    fn refuse_impossible_indexes(&self, session: &mut Session) -> Result<()> {
        for ConstraintException { rule, rows, .. } in &self.exceptions {
            let Rule::Type(name, data_type) = rule else { continue };
            let mut columns = self.expected.columns.iter();
            let Some(column) = columns.find(|column| column.name == *name) else { continue };
            for index in self.expected.indexes.iter().filter(|index| uses_column(index, name)) {
                let table = session.qualified(&self.expected.name);
                match session.run(&self.sample_sql(&table, index)) {
                    Err(error) if error.kind == Kind::Data => {
                        let table = &self.expected.name;
                        let what = format!(
                            "{table}.{name}: {rows} rows cannot be converted to {}, and index {} cannot be created over type {data_type}",
                            column.data_type, index.name
                        );
                        return Err(Error::new(Kind::Data, what).remedy(format!(
                            "give {name} a value of type {} in these rows of {table}",
                            column.data_type
                        )));
                    }
                    other => other?,
                }
            }
        }
        Ok(())
    }

    /// A query without rows that the server refuses where an index cannot be created over the types
    /// of the columns after the rebuild.
    fn sample_sql(&self, table: &str, index: &Index) -> String {
        let column = |column: &Column| {
            let name = quoted(&column.name);
            match self.old.column(&column.name) {
                Some(_) if !self.is_converted(&column.name) => name,
                _ => format!("NULL::{} AS {name}", column.data_type),
            }
        };
        let columns: Vec<String> = self.target.columns.iter().map(column).collect();
        let names = index_columns(index).map(quoted);
        format!(
            "SELECT FROM (SELECT {} FROM {table} LIMIT 0) AS sample WHERE {} ORDER BY {}",
            columns.join(", "),
            index.predicate.as_deref().unwrap_or("true"),
            names.collect::<Vec<_>>().join(", ")
        )
    }
}

/// The query for the first object that depends on a column: its description, and the column. The table
/// is a literal; `described` is the description of an object that is no view. What a generated column is computed
/// from is noted at its expression, before PostgreSQL 15 at the column itself.
fn dependent_objects_sql(table: &str, columns: &str, described: &str) -> String {
    format!(
        "SELECT CASE WHEN v.relkind IN ('m', 'v') THEN CASE v.relkind WHEN 'm' THEN 'materialized view ' ELSE 'view ' END \
                 || CASE v.relnamespace WHEN o.relnamespace THEN quote_ident(v.relname) ELSE v.oid::regclass::text END \
             ELSE {described} END, a.attname \
         FROM pg_depend d JOIN pg_class o ON o.oid = d.refobjid JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid \
             LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid LEFT JOIN pg_class v ON v.oid = r.ev_class \
             LEFT JOIN (SELECT e.oid, 'pg_class'::regclass::oid AS classid, e.adrelid AS objid, e.adnum::int AS objsubid \
                 FROM pg_attrdef e JOIN pg_attribute b ON b.attrelid = e.adrelid AND b.attnum = e.adnum AND b.attgenerated <> '') g \
                 ON (d.classid = 'pg_attrdef'::regclass AND g.oid = d.objid \
                         OR d.classid = 'pg_class'::regclass AND (g.objid, g.objsubid) = (d.objid, d.objsubid)) \
                     AND (g.objid, g.objsubid) <> (a.attrelid, a.attnum) \
         WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = {table}::regclass AND a.attname IN ({columns}) \
             AND (g.oid IS NOT NULL OR d.classid IN ('pg_rewrite'::regclass, 'pg_trigger'::regclass, 'pg_policy'::regclass, 'pg_proc'::regclass)) \
         ORDER BY 1, 2 LIMIT 1"
    )
}
