//! The constraints of a table, as the catalogue of a PostgreSQL server has them.
//! (PostgreSQL documentation, "pg_constraint")

use super::row::Row;
use crate::error::Result;
use crate::store::schema::POSTGRES;
use cts_schema::catalog::{ForeignKey, Table, Text};
use cts_schema::sql::canonical;

/// Names that a query has aggregated into one cell, a line each.
pub fn lines(text: &str) -> Vec<Text> {
    text.split('\n').map(|line| line.to_string().into()).collect()
}

/// The columns of a query for constraints, for [`Constraint::read`]. The query names the rows `k`
/// (`pg_constraint`), `c` (its table) and `p` (the table that a foreign key references).
pub const CONSTRAINT_COLUMNS: &str = "c.relname, k.contype, \
     (SELECT string_agg(a.attname, chr(10) ORDER BY n.place) FROM unnest(k.conkey) WITH ORDINALITY n(num, place) \
         JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = n.num), \
     CASE WHEN p.relnamespace = c.relnamespace THEN p.relname::text ELSE p.relnamespace::regnamespace || '.' || quote_ident(p.relname) END, \
     (SELECT string_agg(a.attname, chr(10) ORDER BY n.place) FROM unnest(k.confkey) WITH ORDINALITY n(num, place) \
         JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = n.num), \
     k.confdeltype, CASE WHEN k.contype IN ('c', 'x') THEN pg_get_constraintdef(k.oid) END, k.conname, k.conindid, k.convalidated, \
     nullif(concat_ws(chr(10), \
         'ON UPDATE ' || CASE k.confupdtype WHEN 'c' THEN 'CASCADE' WHEN 'r' THEN 'RESTRICT' WHEN 'n' THEN 'SET NULL' WHEN 'd' THEN 'SET DEFAULT' END, \
         'ON DELETE SET THE COLUMNS ' || CASE WHEN k.confdeltype IN ('n', 'd') THEN to_jsonb(k) ->> 'confdelsetcols' END, \
         CASE k.confmatchtype WHEN 'f' THEN 'MATCH FULL' WHEN 'p' THEN 'MATCH PARTIAL' END, \
         CASE WHEN k.condeferrable THEN 'DEFERRABLE' END, CASE WHEN k.condeferred THEN 'INITIALLY DEFERRED' END, \
         CASE WHEN k.contype <> 'f' THEN NULL \
             WHEN EXISTS (SELECT 1 FROM pg_trigger g WHERE g.tgconstraint = k.oid AND g.tgenabled NOT IN ('O', 'A')) THEN 'WITH ITS TRIGGERS DISABLED' \
             WHEN k.convalidated THEN NULL WHEN to_jsonb(k) ->> 'conenforced' = 'false' THEN 'NOT ENFORCED' ELSE 'NOT VALID' END), '')";

/// Number of the columns of [`CONSTRAINT_COLUMNS`].
pub const CONSTRAINT_COLUMN_COUNT: usize = 11;

/// The kind of a constraint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConstraintKind {
    /// `PRIMARY KEY`.
    PrimaryKey,
    /// `UNIQUE`.
    Unique,
    /// `CHECK`.
    Check,
    /// `FOREIGN KEY`.
    ForeignKey,
    /// `EXCLUDE`.
    Exclusion,
    /// `NOT NULL`, which is a constraint since PostgreSQL 18.
    NotNull,
    /// A constraint trigger.
    Other,
}

/// A constraint of a table.
#[derive(Clone, Debug)]
pub struct Constraint {
    /// Its table.
    pub table: String,
    /// Its kind.
    pub kind: ConstraintKind,
    /// Its columns, in order.
    pub columns: Vec<Text>,
    /// The table that a foreign key references.
    pub parent: Option<String>,
    /// The columns that a foreign key references.
    pub parent_columns: Vec<Text>,
    /// Its name.
    pub name: String,
    /// The oid of the index that enforces it, of a foreign key the one of the parent; 0 without one.
    pub index_oid: u32,
    on_delete: &'static str,
    /// The condition of a `CHECK`, in parentheses; the definition of an `EXCLUDE`.
    pub condition: Option<String>,
    /// Whether every row is known to follow it.
    is_validated: bool,
    /// What it has beside these, as SQL text.
    attributes: Vec<Text>,
}

impl Constraint {
    /// Reads a row whose first columns are [`CONSTRAINT_COLUMNS`].
    ///
    /// # Errors
    /// `Kind::Io` if a cell cannot be read.
    pub fn read(row: &Row) -> Result<Constraint> {
        Ok(Constraint {
            table: row.text(0)?.to_string(),
            kind: match row.text(1)? {
                "p" => ConstraintKind::PrimaryKey,
                "u" => ConstraintKind::Unique,
                "c" => ConstraintKind::Check,
                "f" => ConstraintKind::ForeignKey,
                "x" => ConstraintKind::Exclusion,
                "n" => ConstraintKind::NotNull,
                _ => ConstraintKind::Other,
            },
            // A CHECK may be on no column.
            columns: row.get(2).map(lines).unwrap_or_default(),
            parent: row.get(3).map(str::to_string),
            parent_columns: row.get(4).map(lines).unwrap_or_default(),
            on_delete: match row.text(5)? {
                "c" => "CASCADE",
                "r" => "RESTRICT",
                "n" => "SET NULL",
                "d" => "SET DEFAULT",
                _ => "NO ACTION",
            },
            condition: row.get(6).map(condition),
            name: row.text(7)?.to_string(),
            index_oid: row.number(8)?,
            is_validated: row.flag(9)?,
            attributes: row.get(10).map(lines).unwrap_or_default(),
        })
    }

    /// Its foreign keys, one for each column.
    pub fn foreign_keys(&self) -> Vec<ForeignKey> {
        let Some(parent) = self.parent.as_ref().filter(|_| self.kind == ConstraintKind::ForeignKey)
        else {
            return Vec::new();
        };
        let key = |(column, references): (&Text, &Text)| ForeignKey {
            column: column.clone(),
            table: parent.clone().into(),
            references: references.clone(),
            on_delete: self.on_delete.into(),
            attributes: self.attributes.clone().into(),
        };
        self.columns.iter().zip(&self.parent_columns).map(key).collect()
    }

    /// Whether it concerns a column of the expected schema, or an expression.
    pub fn is_of_our_columns(&self) -> bool {
        let table = POSTGRES.expected.table(&self.table);
        let is_ours = |name: &Text| {
            table.is_some_and(|table| table.columns.iter().any(|column| column.name == *name))
        };
        self.columns.is_empty() || self.columns.iter().any(is_ours)
    }

    /// Adds it to a table.
    pub fn add_to(&self, table: &mut Table) {
        match self.kind {
            ConstraintKind::PrimaryKey => {
                for (position, name) in (1..).zip(&self.columns) {
                    let mut columns = table.columns.to_mut().iter_mut();
                    if let Some(column) = columns.find(|column| column.name == *name) {
                        column.primary_key_position = position;
                    }
                }
                if !self.attributes.is_empty() {
                    let attribute = format!("PRIMARY KEY {}", self.attributes.join(" "));
                    table.attributes.to_mut().push(attribute.into());
                }
            }
            ConstraintKind::Unique => table.unique.to_mut().push(self.columns.clone().into()),
            ConstraintKind::Check => {
                table.checks.to_mut().extend(self.condition.clone().map(Text::from));
            }
            ConstraintKind::ForeignKey => table.foreign_keys.to_mut().extend(self.foreign_keys()),
            ConstraintKind::Exclusion => {
                table.attributes.to_mut().extend(self.condition.clone().map(Text::from));
            }
            // A rule that rows may violate does not hold.
            ConstraintKind::NotNull if !self.is_validated => {
                let columns = table.columns.to_mut().iter_mut();
                columns.filter(|c| self.columns.contains(&c.name)).for_each(|c| c.not_null = false);
            }
            ConstraintKind::NotNull | ConstraintKind::Other => {}
        }
    }
}

/// The condition of a `CHECK` in its canonical form, in parentheses; another definition as it is.
fn condition(definition: &str) -> String {
    match definition.strip_prefix("CHECK ") {
        Some(condition) => format!("({})", canonical(condition.trim_end_matches(" NOT VALID"))),
        None => definition.to_string(),
    }
}
