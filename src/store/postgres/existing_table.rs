//! A table of an older CTS as it is, what it is to become, and what its rows do not allow.

use super::conversion::{Conversion, Held, conversion};
use super::index::duplicates_of;
use super::inspect::{self, constrain, empty, lines};
use super::session::{Row, Session};
use crate::error::{Error, Kind, Result};
use crate::store::schema::POSTGRES;
use crate::store::sql::{index_columns, literal, quoted, table_with_exceptions};
use cts_schema::catalog::{Column, ForeignKey, Index, Table, Text};
use cts_schema::constraint_exception::{ConstraintException, Rule};
use cts_schema::sql::ddl::IDENTITY;
use cts_schema::sql::definition::contains_name;

/// A constraint of the table.
pub struct Constraint {
    /// Its name.
    pub name: String,
    kind: String,
    columns: Vec<Text>,
    /// The number of the index that it brings along.
    index: String,
    /// A table that has nothing but it.
    rule: Table,
}

/// A foreign key that leads to the table.
pub struct Referring {
    /// Its name.
    pub name: String,
    /// The table that has it, for SQL.
    pub table: String,
    /// Whether all of it is between tables and columns of ours.
    pub is_ours: bool,
    /// The rule, if it is one of the schema that is expected.
    is_expected: bool,
    columns: Vec<Text>,
    index: String,
    text: String,
}

/// A sequence that fills a column.
pub struct Sequence {
    /// Its name, for SQL.
    pub name: String,
    column: String,
    /// Whether it belongs to the column and fills it, and nothing else needs it.
    pub is_its_own: bool,
    /// Whether it would go with the column, and is not that of an identity.
    pub is_attached: bool,
}

/// A table as it is.
pub struct ExistingTable {
    /// As the catalogue has it.
    pub table: Table,
    /// The types of its columns, in their order.
    held: Vec<Held>,
    /// Its constraints.
    pub constraints: Vec<Constraint>,
    referring: Vec<Referring>,
    sequences: Vec<Sequence>,
    /// Whether somebody has set storage parameters.
    pub is_tuned: bool,
}

/// What a table is to become.
pub struct RebuildPlan<'e> {
    /// As it is.
    pub old: ExistingTable,
    /// The table of the schema.
    pub expected: &'e Table,
    /// The same without the rules that its rows break.
    pub target: Table,
    /// Its rows.
    pub rows: u64,
    /// The rules that they break.
    pub rules: Vec<ConstraintException>,
}

impl ExistingTable {
    /// Reads it.
    pub fn read(session: &mut Session, expected: &Table) -> Result<ExistingTable> {
        let name = &*expected.name;
        let catalog = inspect::snapshot(session, false)?.snapshot.catalog;
        let missing = || Error::new(Kind::Data, format!("there is no table {name}"));
        let table = catalog.table(name).cloned().ok_or_else(missing)?;
        let mut results = session.ask(&details(name))?.into_iter();
        let mut next = || results.next().unwrap_or_default();
        let (state, columns, constraints, referring, sequences) =
            (next(), next(), next(), next(), next());
        let state = state.into_iter().next().ok_or_else(missing)?;
        if state.is(0) {
            let what = format!("table {name} is partitioned, and cannot be given another shape");
            return Err(Error::new(Kind::Data, what).remedy("make a plain table of it"));
        }
        let held = |column: &Column| {
            let is_it = |row: &&Row| row.text(0) == column.name;
            columns.iter().find(is_it).map(held).unwrap_or_default()
        };
        Ok(ExistingTable {
            held: table.columns.iter().map(held).collect(),
            constraints: constraints.iter().map(constraint).collect(),
            referring: referring.iter().map(|row| Referring::read(row, name)).collect(),
            sequences: sequences.iter().map(sequence).collect(),
            is_tuned: state.is(1),
            table,
        })
    }

    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.table.columns.iter().find(|column| column.name == *name)
    }

    /// How a column becomes of another type.
    pub fn conversion(&self, column: &str, to: &str) -> Conversion {
        conversion(self.held(column), to, &quoted(column))
    }

    fn held(&self, name: &str) -> &Held {
        static NONE: Held =
            Held { name: String::new(), category: String::new(), full: String::new() };
        let at = self.table.columns.iter().position(|column| column.name == *name);
        at.and_then(|at| self.held.get(at)).unwrap_or(&NONE)
    }

    /// The sequence from which a column takes its numbers.
    pub fn sequences(&self, column: &str) -> impl Iterator<Item = &Sequence> {
        self.sequences.iter().filter(move |sequence| sequence.column == column)
    }

    /// Its columns that the schema does not know.
    pub fn added<'o>(&'o self, expected: &'o Table) -> impl Iterator<Item = &'o Column> {
        self.table.columns.iter().filter(|column| !is_of(expected, &column.name))
    }
}

fn is_of(table: &Table, name: &str) -> bool {
    table.columns.iter().any(|column| column.name == *name)
}

/// Kind, types, constraints, foreign keys that lead here, and sequences.
fn details(table: &str) -> String {
    let oid = format!("{}::regclass", literal(&quoted(table)));
    let columns = |of: &str, keys: &str| {
        format!(
            "(SELECT string_agg(a.attname, chr(10) ORDER BY n.place) FROM unnest({keys}) WITH ORDINALITY n(num, place) \
                 JOIN pg_attribute a ON a.attrelid = {of} AND a.attnum = n.num)"
        )
    };
    let (own, there) = (columns("k.conrelid", "k.conkey"), columns("k.confrelid", "k.confkey"));
    let row = format!(
        "c.relname, k.contype, {own}, p.relname, {there}, k.confdeltype, \
         CASE WHEN k.contype = 'c' THEN pg_get_constraintdef(k.oid) END, k.conname, k.conindid"
    );
    format!(
        "SELECT relkind = 'p', reloptions IS NOT NULL FROM pg_class WHERE oid = {oid}; \
         SELECT a.attname, b.typname, b.typcategory, format_type(a.atttypid, a.atttypmod) \
         FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
             JOIN pg_type b ON b.oid = CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END \
         WHERE a.attrelid = {oid} AND a.attnum > 0 AND NOT a.attisdropped; \
         SELECT {row} FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid LEFT JOIN pg_class p ON p.oid = k.confrelid \
         WHERE k.conrelid = {oid} ORDER BY k.conname; \
         SELECT {row}, k.conrelid::regclass, c.relnamespace = p.relnamespace \
         FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_class p ON p.oid = k.confrelid \
         WHERE k.confrelid = {oid} AND k.contype = 'f' ORDER BY c.relname, k.conname; \
         SELECT s.oid::regclass, a.attname, \
             bool_or(d.deptype = 'a') AND bool_or(d.classid = 'pg_attrdef'::regclass) AND NOT EXISTS (SELECT FROM pg_depend o WHERE o.refobjid = s.oid \
                 AND o.refclassid = 'pg_class'::regclass AND NOT (o.classid = 'pg_attrdef'::regclass AND o.objid IN \
                     (SELECT oid FROM pg_attrdef WHERE adrelid = {oid} AND adnum = a.attnum))), \
             bool_or(d.deptype = 'a') \
         FROM pg_attribute a LEFT JOIN pg_attrdef e ON e.adrelid = a.attrelid AND e.adnum = a.attnum \
             JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum AND d.deptype IN ('a', 'i') \
                 OR d.classid = 'pg_attrdef'::regclass AND d.objid = e.oid \
             JOIN pg_class s ON s.relkind = 'S' AND s.oid = CASE d.classid WHEN 'pg_class'::regclass THEN d.objid ELSE d.refobjid END \
         WHERE a.attrelid = {oid} AND a.attnum > 0 GROUP BY s.oid, a.attname, a.attnum"
    )
}

fn held(row: &Row) -> Held {
    Held { name: row.text(1).into(), category: row.text(2).into(), full: row.text(3).into() }
}

fn constraint(row: &Row) -> Constraint {
    let mut rule = empty(row.text(0));
    constrain(&mut rule, row);
    Constraint {
        name: row.text(7).into(),
        kind: row.text(1).into(),
        columns: lines(row.text(2)),
        index: row.text(8).into(),
        rule,
    }
}

fn sequence(row: &Row) -> Sequence {
    Sequence {
        name: row.text(0).into(),
        column: row.text(1).into(),
        is_its_own: row.is(2),
        is_attached: row.is(3),
    }
}

impl Constraint {
    /// Whether it is a foreign key.
    pub fn is_foreign_key(&self) -> bool {
        self.kind == "f"
    }

    /// Whether it is the primary key.
    pub fn is_primary_key(&self) -> bool {
        self.kind == "p"
    }
}

impl Referring {
    fn read(row: &Row, parent: &str) -> Referring {
        let Constraint { name, columns, index, rule, .. } = constraint(row);
        let child = POSTGRES.expected.table(&rule.name).filter(|_| row.is(10));
        let is_ours = child.is_some_and(|child| columns.iter().any(|column| is_of(child, column)));
        let to = |key: &ForeignKey| key.table == *parent && columns == [key.column.clone()];
        let text: Vec<String> = rule.foreign_keys.iter().map(ToString::to_string).collect();
        Referring {
            name,
            table: row.text(9).into(),
            is_ours,
            is_expected: child.is_some_and(|child| child.foreign_keys.iter().any(to)),
            columns: lines(row.text(4)),
            index,
            text: format!("{} on table {}", text.join(", "), rule.name),
        }
    }
}

impl<'e> RebuildPlan<'e> {
    /// Reads the table, asks its rows, and refuses what is in the way.
    pub fn make(session: &mut Session, expected: &'e Table) -> Result<RebuildPlan<'e>> {
        let old = ExistingTable::read(session, expected)?;
        let (rows, rules) = violations(session, &old, expected)?;
        let target = table_with_exceptions(expected, &rules);
        let plan = RebuildPlan { old, expected, target, rows, rules };
        plan.refuse(session)?;
        Ok(plan)
    }

    /// The columns that are there and get another type, with it.
    pub fn converted(&self) -> impl Iterator<Item = &Column> {
        self.target.columns.iter().filter(|column| self.is_converted(&column.name))
    }

    pub fn is_converted(&self, name: &str) -> bool {
        let target = self.target.columns.iter().find(|column| column.name == *name);
        let old = self.old.column(name);
        target.zip(old).is_some_and(|(target, old)| target.data_type != old.data_type)
    }

    /// The columns of an index as they are to be, for SQL.
    fn values(&self, index: &Index) -> Vec<String> {
        let value = |name: &str| match self.converted().find(|column| column.name == *name) {
            Some(column) => format!("({})", self.old.conversion(name, &column.data_type).value),
            None => quoted(name),
        };
        index_columns(index).map(value).collect()
    }

    /// The columns of the primary key, in order.
    pub fn key(&self) -> Vec<&Text> {
        let mut key: Vec<&Column> =
            self.target.columns.iter().filter(|c| c.primary_key_position > 0).collect();
        key.sort_by_key(|column| column.primary_key_position);
        key.into_iter().map(|column| &column.name).collect()
    }

    /// Whether a constraint of the table can stay.
    pub fn keeps(&self, constraint: &Constraint) -> bool {
        let Constraint { kind, columns, rule, .. } = constraint;
        match kind.as_str() {
            "p" => columns.iter().collect::<Vec<_>>() == self.key(),
            "f" if self.is_theirs(constraint) => true,
            "f" => {
                let is_expected = |key: &ForeignKey| self.target.foreign_keys.contains(key);
                rule.foreign_keys.len() == 1
                    && rule.foreign_keys.iter().all(is_expected)
                    && !columns.iter().any(|name| self.is_converted(name))
            }
            _ => self.is_theirs(constraint),
        }
    }

    /// Whether the table has a foreign key that is expected, and keeps it.
    pub fn has(&self, key: &ForeignKey) -> bool {
        let mut constraints = self.old.constraints.iter();
        constraints
            .any(|constraint| constraint.rule.foreign_keys.contains(key) && self.keeps(constraint))
    }

    /// Whether a constraint is about columns that somebody has added.
    fn is_theirs(&self, constraint: &Constraint) -> bool {
        let Constraint { kind, columns, rule, .. } = constraint;
        match kind.as_str() {
            "u" | "f" => columns.iter().all(|name| !is_of(self.expected, name)),
            "c" => {
                let mut added = self.old.added(self.expected);
                added.any(|column| {
                    rule.checks.iter().any(|check| contains_name(check, &column.name))
                })
            }
            "p" => false,
            _ => true,
        }
    }

    /// The foreign keys that lead to a key that goes, or to a column that gets another type.
    pub fn freed(&self) -> impl Iterator<Item = &Referring> {
        let goes = |index: &str| {
            let mut constraints = self.old.constraints.iter();
            constraints.any(|constraint| constraint.index == *index && !self.keeps(constraint))
        };
        let changes = |referring: &Referring, name: &Text| {
            let target = self.converted().find(|column| column.name == *name);
            target.is_some_and(|target| {
                referring.is_ours || !self.old.held(name).compares_with(&target.data_type)
            })
        };
        // One of the table itself that goes in any case is not counted twice.
        let own = |name: &str| {
            let mut constraints = self.old.constraints.iter();
            constraints.any(|constraint| constraint.name == *name && !self.keeps(constraint))
        };
        let table = quoted(&self.expected.name);
        self.old.referring.iter().filter(move |referring| {
            let is_own = quoted(&referring.table) == table || referring.table == table;
            (goes(&referring.index)
                || referring.columns.iter().any(|name| changes(referring, name)))
                && !(is_own && own(&referring.name))
        })
    }

    /// The rules of the table that hold no longer, each with it.
    pub fn dropped(&self) -> Vec<String> {
        let mut kept = self.expected.clone();
        let mut rules = Vec::new();
        for constraint in &self.old.constraints {
            if self.is_theirs(constraint) {
                let rule = &constraint.rule;
                kept.unique.to_mut().extend(rule.unique.iter().cloned());
                kept.checks.to_mut().extend(rule.checks.iter().cloned());
                kept.foreign_keys.to_mut().extend(rule.foreign_keys.iter().cloned());
            } else if constraint.kind == "p" && !self.keeps(constraint) {
                rules.push(format!("PRIMARY KEY ({})", constraint.columns.join(", ")));
            }
        }
        rules.extend(self.old.table.constraints_not_in(&kept));
        let rules = rules.into_iter().map(|rule| format!("{rule} on table {}", self.expected.name));
        rules.collect()
    }

    /// Those of other tables that go with a key of this one.
    pub fn dropped_elsewhere(&self) -> impl Iterator<Item = String> {
        let freed = self.freed().filter(|referring| !referring.is_expected);
        freed.map(|referring| referring.text.clone())
    }
}

/// The rows, and the rules of columns that they break.
fn violations(
    session: &mut Session,
    old: &ExistingTable,
    expected: &Table,
) -> Result<(u64, Vec<ConstraintException>)> {
    let mut asked: Vec<(Rule, String)> = Vec::new();
    for column in expected.columns.iter() {
        let name = column.name.to_string();
        match old.column(&name) {
            Some(found) => asked.extend(broken(old, column, found)),
            None if column.not_null && column.default.is_none() => {
                let shared =
                    (column.primary_key_position > 0).then(|| Rule::PrimaryKey(name.clone()));
                asked.extend(
                    [Some(Rule::NotNull(name)), shared]
                        .into_iter()
                        .flatten()
                        .map(|rule| (rule, "true".into())),
                );
            }
            None => {}
        }
    }
    let counts = asked.iter().map(|(_, sql)| format!(", count(*) FILTER (WHERE {sql})"));
    let sql =
        format!("SELECT count(*){} FROM {}", counts.collect::<String>(), quoted(&expected.name));
    // Of every double all digits are shown.
    let found = session.ask(&format!("SET extra_float_digits = 1; {sql}"))?;
    let row = found.into_iter().flatten().next();
    let count = |at: usize| row.as_ref().map(|row| row.number::<u64>(at)).unwrap_or_default();
    let table = expected.name.to_string();
    let mut rules: Vec<ConstraintException> = Vec::new();
    for (at, (rule, _)) in asked.into_iter().enumerate() {
        rules.push(ConstraintException { table: table.clone(), rule, rows: count(at + 1) });
    }
    for column in expected
        .columns
        .iter()
        .filter(|c| c.primary_key_position > 0 && old.column(&c.name).is_some())
    {
        let rows = shared(session, &expected.name, &column.name)?;
        rules.push(ConstraintException {
            table: table.clone(),
            rule: Rule::PrimaryKey(column.name.to_string()),
            rows,
        });
    }
    rules.retain(|exception| exception.rows > 0);
    let without: Vec<ConstraintException> =
        rules.iter().filter_map(|kept| without_default(expected, kept)).collect();
    rules.extend(without);
    Ok((count(0), rules))
}

/// The default goes where a column keeps a type that has none like it.
fn without_default(expected: &Table, kept: &ConstraintException) -> Option<ConstraintException> {
    let Rule::Type(name, kind) = &kept.rule else { return None };
    let column = expected.columns.iter().find(|column| column.name == *name)?;
    let default = column.default.as_deref()?;
    let is_plain = !kind.ends_with(']');
    let starts = |kinds: &[&str]| is_plain && kinds.iter().any(|known| kind.starts_with(known));
    let is_number = |sql: &str| sql.parse::<f64>().is_ok() || matches!(sql, "TRUE" | "FALSE");
    let can_be = starts(&["TEXT", "CHARACTER"])
        || starts(&["DATE", "TIME"]) && default == "CURRENT_TIMESTAMP"
        || starts(&["SMALLINT", "INTEGER", "BIGINT", "NUMERIC", "REAL", "DOUBLE PRECISION"])
            && is_number(default);
    let rule = Rule::Default(name.clone());
    (!can_be).then(|| ConstraintException { table: kept.table.clone(), rule, rows: kept.rows })
}

/// The rules of a column that its values may break, each with the rows that do, as a condition.
fn broken(old: &ExistingTable, expected: &Column, found: &Column) -> Vec<(Rule, String)> {
    let name = expected.name.to_string();
    let is_null = format!("{} IS NULL", quoted(&name));
    let is_lossy = old.conversion(&name, &expected.data_type).is_lossy;
    let mut broken = Vec::new();
    if expected.default.as_deref() == Some(IDENTITY) {
        broken.push((Rule::IntegerKey(name.clone()), format!("{is_null} OR {is_lossy}")));
    } else if found.data_type != expected.data_type {
        broken.push((Rule::Type(name.clone(), found.data_type.to_string()), is_lossy));
    }
    if expected.not_null && !found.not_null {
        broken.push((Rule::NotNull(name), is_null));
    }
    broken
}

/// How many rows cannot be told apart by a key: others have it as well, or it is NULL.
pub fn shared(session: &mut Session, table: &str, column: &str) -> Result<u64> {
    let sql = format!(
        "SELECT coalesce(sum(n), 0) FROM (SELECT count(*) AS n, c FROM (SELECT {}::text AS c FROM {}) AS keys \
         GROUP BY c HAVING count(*) > 1 OR c IS NULL) AS shared",
        quoted(column),
        quoted(table)
    );
    Ok(session.ask(&sql)?.into_iter().flatten().next().map(|row| row.number(0)).unwrap_or_default())
}

/// Whether an index is over the column, or asks it.
pub fn needs(index: &Index, column: &str) -> bool {
    index.columns.iter().any(|name| name.trim_end_matches(" DESC") == column)
        || index.predicate.as_ref().is_some_and(|sql| contains_name(sql, column))
}

/// The unique indexes that the rows do not allow, where all of their columns are there.
pub fn not_unique(
    session: &mut Session,
    plan: &RebuildPlan<'_>,
) -> Result<Vec<ConstraintException>> {
    let mut rules = Vec::new();
    for index in plan.expected.indexes.iter().filter(|index| index.unique) {
        let mut needed = plan.expected.columns.iter().filter(|column| needs(index, &column.name));
        if needed.all(|column| plan.old.column(&column.name).is_some()) {
            let rows = duplicates_of(session, &plan.expected.name, index, &plan.values(index))?;
            let rule = Rule::Unique(index.name.to_string());
            rules.push(ConstraintException { table: plan.expected.name.to_string(), rule, rows });
        }
    }
    rules.retain(|exception| exception.rows > 0);
    Ok(rules)
}

/// Rows that refer to rows that are gone. Ids may still be of two types.
pub fn orphans(session: &mut Session, plan: &RebuildPlan<'_>) -> Result<Vec<ConstraintException>> {
    let catalog = inspect::snapshot(session, false)?.snapshot.catalog;
    let mut rules = Vec::new();
    for key in
        plan.expected.foreign_keys.iter().filter(|key| plan.old.column(&key.column).is_some())
    {
        let column = quoted(&key.column);
        let is_parent = |table: &&Table| is_of(table, &key.references);
        let there = match catalog.table(&key.table).filter(is_parent) {
            None => "false".into(),
            Some(_) => format!(
                "EXISTS (SELECT FROM {} p WHERE p.{}::text = t.{column}::text)",
                quoted(&key.table),
                quoted(&key.references)
            ),
        };
        let sql = format!(
            "SELECT count(*) FROM {} t WHERE {column} IS NOT NULL AND NOT {there}",
            quoted(&plan.expected.name)
        );
        let found = session.ask(&sql)?.into_iter().flatten().next();
        let rows = found.map(|row| row.number(0)).unwrap_or_default();
        let rule = Rule::ForeignKey(key.table.to_string());
        rules.push(ConstraintException { table: plan.expected.name.to_string(), rule, rows });
    }
    rules.retain(|exception| exception.rows > 0);
    Ok(rules)
}
