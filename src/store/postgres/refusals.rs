//! What of an older CTS is not given another shape, because something would be lost or broken by it.
//! Each refusal is one sentence that names the object, and what to do.

use super::existing_table::{RebuildPlan, Referring, needs};
use super::session::Session;
use crate::error::{Error, Kind, Result};
use crate::store::schema::POSTGRES;
use crate::store::sql::{index_columns, literal, quoted};
use cts_schema::catalog::{Column, Index};
use cts_schema::constraint_exception::{ConstraintException, Rule};

impl RebuildPlan<'_> {
    /// Refuses what is in the way of the plan.
    pub fn refuse(&self, session: &mut Session) -> Result<()> {
        self.refuse_shared_parents()?;
        self.refuse_ledger()?;
        self.refuse_loss(session)?;
        self.refuse_readers(session)?;
        self.refuse_foreign()?;
        self.refuse_indexes(session)
    }

    /// Foreign keys of tables that are not ours stay, and so does what they refer to.
    fn refuse_foreign(&self) -> Result<()> {
        let foreign = self.freed().find(|referring| !referring.is_ours);
        let Some(Referring { name, table, .. }) = foreign else { return Ok(()) };
        let what = format!(
            "foreign key {name} of table {table} refers to a column of table {} that has to change",
            self.expected.name
        );
        Err(Error::new(Kind::Data, what).remedy(format!(
            "drop it (`ALTER TABLE {table} DROP CONSTRAINT {}`), and make it again afterwards",
            quoted(name)
        )))
    }

    /// The proof of what is decided: no value is lost in the types that the columns get.
    fn refuse_loss(&self, session: &mut Session) -> Result<()> {
        for column in self.converted() {
            let is_lossy = self.old.conversion(&column.name, &column.data_type).is_lossy;
            let table = quoted(&self.expected.name);
            let sql = format!("SELECT EXISTS (SELECT FROM {table} WHERE {is_lossy})");
            if session.ask(&sql)?.into_iter().flatten().next().is_none_or(|row| row.is(0)) {
                let what = format!(
                    "{}.{}: values of type {} cannot become {} without a loss",
                    self.expected.name,
                    column.name,
                    self.old
                        .column(&column.name)
                        .map(|c| c.data_type.to_string())
                        .unwrap_or_default(),
                    column.data_type
                );
                return Err(
                    Error::new(Kind::Data, what).remedy("give it a type of texts or numbers")
                );
            }
        }
        Ok(())
    }

    /// The server makes no index over a type that does not fit it.
    fn refuse_indexes(&self, session: &mut Session) -> Result<()> {
        for ConstraintException { rule, rows, .. } in &self.rules {
            let Rule::Type(name, kind) = rule else { continue };
            let mut columns = self.expected.columns.iter();
            let Some(column) = columns.find(|column| column.name == *name) else { continue };
            for index in self.expected.indexes.iter().filter(|index| needs(index, name)) {
                match session.ask(&self.sample(index)) {
                    Ok(_) => {}
                    Err(error) if error.kind == Kind::Data => {
                        let table = &self.expected.name;
                        let what = format!(
                            "{table}.{name}: {rows} rows cannot become {}, and index {} cannot be made over {kind}",
                            column.data_type, index.name
                        );
                        return Err(Error::new(Kind::Data, what).remedy(format!(
                            "give {name} a value of type {} in these rows of {table}",
                            column.data_type
                        )));
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// A question that the server answers with no row where it can make the index over the types
    /// that the columns are to have.
    fn sample(&self, index: &Index) -> String {
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
            "SELECT FROM (SELECT {} FROM {} LIMIT 0) AS sample WHERE {} ORDER BY {}",
            columns.join(", "),
            quoted(&self.expected.name),
            index.predicate.as_deref().unwrap_or("true"),
            names.collect::<Vec<_>>().join(", ")
        )
    }

    /// What is applied is written into the ledger, of whatever types it is.
    fn refuse_ledger(&self) -> Result<()> {
        let is_odd = |rule: &Rule| match rule {
            Rule::Type(_, kind) => !kind.starts_with("TEXT") && !kind.starts_with("CHARACTER"),
            _ => false,
        };
        let odd = self.rules.iter().find(|exception| is_odd(&exception.rule));
        match odd.filter(|exception| exception.table == "migrations") {
            None => Ok(()),
            Some(exception) => {
                let what = format!("the ledger would not take a row: {exception}");
                Err(Error::new(Kind::Data, what).remedy("mend or empty that column"))
            }
        }
    }

    /// Keys that rows share can be kept, but nothing can refer to them.
    fn refuse_shared_parents(&self) -> Result<()> {
        let name = &self.expected.name;
        let is_parent = |column: &str| {
            let mut keys = POSTGRES.expected.tables.iter().flat_map(|t| t.foreign_keys.iter());
            keys.any(|key| key.table == *name && key.references == *column)
        };
        for ConstraintException { rule, rows, .. } in &self.rules {
            match rule {
                Rule::PrimaryKey(column) if is_parent(column) => {
                    let what = format!(
                        "{rows} rows of table {name} share their {column} or have none, and other tables refer to it"
                    );
                    return Err(
                        Error::new(Kind::Data, what).remedy("give each of these rows its own")
                    );
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The server alters no column that a view, a generated column, a trigger or a policy reads.
    fn refuse_readers(&self, session: &mut Session) -> Result<()> {
        let names: Vec<String> = self.converted().map(|column| literal(&column.name)).collect();
        if names.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "SELECT CASE v.relkind WHEN 'm' THEN 'materialized view ' || v.oid::regclass WHEN 'v' THEN 'view ' || v.oid::regclass \
                 ELSE pg_describe_object(coalesce(g.classid, d.classid), coalesce(g.objid, d.objid), coalesce(g.objsubid, d.objsubid)) END, a.attname \
             FROM pg_depend d JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid \
                 LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid LEFT JOIN pg_class v ON v.oid = r.ev_class \
                 LEFT JOIN (SELECT e.oid, 'pg_class'::regclass::oid AS classid, e.adrelid AS objid, e.adnum::int AS objsubid \
                     FROM pg_attrdef e JOIN pg_attribute b ON b.attrelid = e.adrelid AND b.attnum = e.adnum AND b.attgenerated <> '') g \
                     ON g.oid = d.objid AND d.classid = 'pg_attrdef'::regclass AND (g.objid, g.objsubid) <> (a.attrelid, a.attnum) \
             WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = {}::regclass AND a.attname IN ({}) \
                 AND (g.oid IS NOT NULL OR d.classid IN ('pg_rewrite'::regclass, 'pg_trigger'::regclass, 'pg_policy'::regclass, 'pg_proc'::regclass)) \
             ORDER BY 1, 2 LIMIT 1",
            literal(&quoted(&self.expected.name)),
            names.join(", ")
        );
        let Some(row) = session.ask(&sql)?.into_iter().flatten().next() else { return Ok(()) };
        let what = format!(
            "{} reads {}.{}, which has to get another type",
            row.text(0),
            self.expected.name,
            row.text(1)
        );
        Err(Error::new(Kind::Data, what)
            .remedy("keep its definition, drop it, and make it again afterwards"))
    }
}
