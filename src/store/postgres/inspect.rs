//! Reads what a PostgreSQL database holds: the catalogue, the ledger and the relaxed rules in
//! one look of two questions, and damage where there is some.

use std::collections::BTreeMap;

use serde_json::Value;

use super::exceptions;
use super::session::{Known, Row, SCHEMA, Session, read_only};
use crate::error::{Error, Kind, Result};
use crate::store::schema::POSTGRES;
use crate::store::sql::{EXCEPTIONS_TABLE, literal, quoted};
use crate::store::{Damage, Orphans, Snapshot};
use cts_schema::catalog::{Catalog, Column, ForeignKey, Index, List, Table, Text, is_cts_database};
use cts_schema::migration::AppliedMigration;
use cts_schema::sql::canonical;
use cts_schema::sql::ddl::{IDENTITY, type_name};

/// What the names of copies begin with that were made before an adoption.
pub const BEFORE: &str = "cts_before_";

/// What a look finds beside what every store finds.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// What every store finds.
    pub snapshot: Snapshot,
    /// Why the server cannot be written.
    pub read_only: Option<String>,
    /// Indexes of our tables that a cut-off build has left behind: table, index.
    pub invalid: Vec<(String, String)>,
}

/// Ledger and catalogue. `own` begins and ends a transaction for it; else one is open.
pub fn snapshot(session: &mut Session, own: bool) -> Result<Inspection> {
    let (begin, end) = match own {
        true => ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; ", "; COMMIT"),
        false => ("", ""),
    };
    let first = session.ask(&format!("{begin}{}", state_sql(&session.server.schema)));
    let read = first.and_then(|results| {
        let state = results.into_iter().flatten().next().ok_or_else(nothing)?;
        let Known { catalog, invalid, .. } = catalogue(session, state.text(4))?;
        let sql = format!("{}; {}{end}", ledger_sql(&catalog), exceptions::select(state.is(2)));
        let mut results = session.ask(&sql)?.into_iter();
        let ledger = ledger(&results.next().unwrap_or_default());
        let exceptions = exceptions::read(&results.next().unwrap_or_default());
        let others: Vec<&str> = state.text(3).split('\n').filter(|name| !name.is_empty()).collect();
        recognise(&catalog, &ledger, &others, &session.server.schema)?;
        let snapshot = Snapshot { ledger, catalog, exceptions };
        Ok(Inspection { snapshot, read_only: read_only(state.is(0), state.is(1)), invalid })
    });
    if own && read.is_err() {
        // Where the connection is lost, so is the transaction.
        let _ = session.run("ROLLBACK");
    }
    read
}

fn nothing() -> Error {
    Error::new(Kind::Data, "the server's catalogue gives no row")
}

/// Refuses tables of our names that are another program's.
fn recognise(
    catalog: &Catalog,
    ledger: &[AppliedMigration],
    others: &[&str],
    schema: &str,
) -> Result<()> {
    let own = catalog.tables.iter().map(|table| &*table.name);
    let tables: Vec<&str> = own.chain(others.iter().copied()).collect();
    let has = |name: &str| {
        let table = catalog.table("migrations");
        table.is_some_and(|table| table.columns.iter().any(|column| column.name == name))
    };
    let is_ours = ledger.iter().any(AppliedMigration::is_ours);
    if catalog.is_empty() || is_ours || is_cts_database(&tables, has("name") && has("executed_at"))
    {
        return Ok(());
    }
    let names: Vec<&str> = catalog.tables.iter().take(3).map(|table| &*table.name).collect();
    let what = format!(
        "schema {schema} holds tables of another program ({}), and no table of CTS; they were left as they are",
        names.join(", ")
    );
    Err(Error::new(Kind::Data, what).remedy(
        "give cts a schema of its own: create one, and add options=-csearch_path%3Dits_name to the URL",
    ))
}

/// The names of our tables, for SQL.
fn names() -> String {
    let names = POSTGRES.expected.tables.iter().map(|table| literal(&table.name));
    names.collect::<Vec<_>>().join(", ")
}

/// The catalogue, read anew where its rows are not those of the last time.
fn catalogue(session: &mut Session, fingerprint: &str) -> Result<Known> {
    if let Some(known) = session.known.as_ref().filter(|known| known.fingerprint == fingerprint) {
        return Ok(known.clone());
    }
    let mut results = session.ask(&catalogue_sql(&session.server.schema))?.into_iter();
    let mut next = || results.next().unwrap_or_default();
    let (catalog, invalid) = catalog(&next(), &next(), &next());
    let known = Known { fingerprint: fingerprint.to_string(), catalog, invalid };
    Ok(session.known.insert(known).clone())
}

/// Which rows of `pg_class` (as `c`) are our tables.
pub fn ours(schema: &str) -> String {
    format!(
        "c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = {}) \
         AND c.relkind IN ('r', 'p') AND c.relname IN ({})",
        literal(schema),
        names()
    )
}

/// The server's state, the names of the other tables, and a fingerprint of the catalogue: the
/// place and the transaction of each of its rows, which move with every change to one. It takes
/// a fifth of the time of reading them in full.
fn state_sql(schema: &str) -> String {
    format!(
        "WITH ours AS MATERIALIZED (SELECT c.oid, c.xmin, c.ctid FROM pg_class c WHERE {ours}), \
         own AS MATERIALIZED (SELECT x.xmin, x.ctid, x.indexrelid, x.indisvalid, x.indisready FROM ours JOIN pg_index x ON x.indrelid = ours.oid), \
         parts AS ( \
             SELECT hashtextextended(concat(xmin, ctid, oid), 0) AS part FROM ours \
             UNION ALL SELECT hashtextextended(concat(a.xmin, a.ctid, a.attrelid), 1) FROM ours JOIN pg_attribute a ON a.attrelid = ours.oid \
             UNION ALL SELECT hashtextextended(concat(d.xmin, d.ctid), 2) FROM ours JOIN pg_attrdef d ON d.adrelid = ours.oid \
             UNION ALL SELECT hashtextextended(concat(k.xmin, k.ctid), 3) FROM ours JOIN pg_constraint k ON k.conrelid = ours.oid \
             UNION ALL SELECT hashtextextended(concat(xmin, ctid, indisvalid, indisready), 4) FROM own \
             UNION ALL SELECT hashtextextended(concat(i.xmin, i.ctid), 5) FROM own JOIN pg_class i ON i.oid = own.indexrelid) \
         SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on', \
             bool_or(relname = '{EXCEPTIONS_TABLE}'), \
             string_agg(relname, chr(10)) FILTER (WHERE relname <> '{EXCEPTIONS_TABLE}' AND NOT starts_with(relname, '{BEFORE}')), \
             (SELECT concat(count(*), ' ', sum(part)) FROM parts) \
         FROM pg_class c WHERE relkind IN ('r', 'p') AND relname NOT IN ({}) \
             AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = {})",
        names(),
        literal(schema),
        ours = ours(schema)
    )
}

/// Columns, constraints and indexes of our tables. (PostgreSQL documentation, chapter 53)
fn catalogue_sql(schema: &str) -> String {
    format!(
        "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, \
             a.attidentity, a.attgenerated, pg_get_expr(d.adbin, d.adrelid) \
         FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid \
             LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum \
         WHERE {ours} AND a.attnum > 0 AND NOT a.attisdropped ORDER BY c.relname, a.attnum; \
         SELECT c.relname, k.contype, \
             (SELECT string_agg(a.attname, chr(10) ORDER BY n.place) FROM unnest(k.conkey) WITH ORDINALITY n(num, place) \
                 JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = n.num), \
             p.relname, \
             (SELECT string_agg(a.attname, chr(10) ORDER BY n.place) FROM unnest(k.confkey) WITH ORDINALITY n(num, place) \
                 JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = n.num), \
             k.confdeltype, CASE WHEN k.contype = 'c' THEN pg_get_constraintdef(k.oid) END \
         FROM pg_class c JOIN pg_constraint k ON k.conrelid = c.oid LEFT JOIN pg_class p ON p.oid = k.confrelid \
         WHERE {ours} ORDER BY c.relname, k.conname; \
         SELECT c.relname, i.relname, x.indisunique, x.indisvalid AND x.indisready, \
             pg_get_expr(x.indpred, x.indrelid), m.amname, \
             (SELECT string_agg(coalesce( \
                 (SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = x.indrelid AND a.attnum = x.indkey[place - 1] AND a.attnum > 0), \
                 '(' || pg_get_indexdef(x.indexrelid, place, true) || ')') \
                 || CASE x.indoption[place - 1] & 3 WHEN 1 THEN ' DESC NULLS LAST' WHEN 3 THEN ' DESC' WHEN 2 THEN ' NULLS FIRST' ELSE '' END, \
                 chr(10) ORDER BY place) FROM generate_series(1, x.indnkeyatts) place) \
         FROM pg_class c JOIN pg_index x ON x.indrelid = c.oid JOIN pg_class i ON i.oid = x.indexrelid \
             JOIN pg_am m ON m.oid = i.relam \
         WHERE {ours} AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = x.indexrelid AND k.contype IN ('p', 'u', 'x')) \
         ORDER BY c.relname, i.relname",
        ours = ours(schema)
    )
}

fn catalog(
    columns: &[Row],
    constraints: &[Row],
    indexes: &[Row],
) -> (Catalog, Vec<(String, String)>) {
    let mut tables: BTreeMap<&str, Table> = BTreeMap::new();
    for row in columns {
        let table = tables.entry(row.text(0)).or_insert_with(|| empty(row.text(0)));
        table.columns.to_mut().push(column(row));
    }
    for row in constraints {
        if let Some(table) = tables.get_mut(row.text(0)) {
            constrain(table, row);
        }
    }
    let mut invalid = Vec::new();
    for row in indexes {
        match tables.get_mut(row.text(0)) {
            Some(_) if !row.is(3) => {
                invalid.push((row.text(0).to_string(), row.text(1).to_string()));
            }
            Some(table) => table.indexes.to_mut().push(index(row)),
            None => {}
        }
    }
    let tables: Vec<Table> = tables.into_values().collect();
    (Catalog { tables: tables.into(), other_tables: List::default() }, invalid)
}

/// A table with nothing in it.
pub fn empty(name: &str) -> Table {
    Table {
        name: name.to_string().into(),
        columns: List::default(),
        unique: List::default(),
        foreign_keys: List::default(),
        checks: List::default(),
        indexes: List::default(),
        definition: Text::default(),
    }
}

fn column(row: &Row) -> Column {
    let default = match (row.text(4), row.text(5)) {
        ("d", _) => Some(IDENTITY.into()),
        ("a", _) => Some("GENERATED ALWAYS AS IDENTITY".into()),
        (_, "s") => Some(format!("GENERATED ALWAYS AS ({}) STORED", canonical(row.text(6))).into()),
        _ => row.get(6).map(|sql| canonical(sql).into()),
    };
    Column {
        name: row.text(1).to_string().into(),
        data_type: type_name(row.text(2)).into(),
        not_null: row.is(3),
        default,
        primary_key_position: 0,
    }
}

/// The texts that stand in lines.
pub fn lines(text: &str) -> Vec<Text> {
    text.split('\n').map(|line| line.to_string().into()).collect()
}

/// Adds a constraint to its table.
pub fn constrain(table: &mut Table, row: &Row) {
    let columns = lines(row.text(2));
    match row.text(1) {
        "p" => {
            for (place, name) in (1..).zip(&columns) {
                let mut all = table.columns.to_mut().iter_mut();
                if let Some(column) = all.find(|column| column.name == *name) {
                    column.primary_key_position = place;
                }
            }
        }
        "u" => table.unique.to_mut().push(columns.into()),
        "c" => table.checks.to_mut().push(check(row.text(6)).into()),
        "f" => {
            let actions = row.text(5);
            let on_delete = match actions {
                "c" => "CASCADE",
                "r" => "RESTRICT",
                "n" => "SET NULL",
                "d" => "SET DEFAULT",
                _ => "NO ACTION",
            };
            let keys = columns.into_iter().zip(lines(row.text(4))).map(|(column, references)| {
                ForeignKey {
                    column,
                    table: row.text(3).to_string().into(),
                    references,
                    on_delete: on_delete.into(),
                }
            });
            table.foreign_keys.to_mut().extend(keys);
        }
        _ => {}
    }
}

/// A condition as `definition::check_conditions` gives it, in parentheses.
fn check(definition: &str) -> String {
    let condition = definition.strip_prefix("CHECK ").unwrap_or(definition);
    format!("({})", canonical(condition.trim_end_matches(" NOT VALID")))
}

fn index(row: &Row) -> Index {
    let mut columns: Vec<Text> = lines(row.text(6));
    if let Some(first) = columns.first_mut().filter(|_| row.text(5) != "btree") {
        *first = format!("{} USING {}", first, row.text(5)).into();
    }
    Index {
        name: row.text(1).to_string().into(),
        columns: columns.into(),
        unique: row.is(2),
        predicate: row.get(4).map(|sql| canonical(sql).into()),
        definition: Text::default(),
    }
}

/// The ledger's rows as JSON, so that it may have whatever columns. Only those that can be ours: an
/// older program may have left any number.
fn ledger_sql(catalog: &Catalog) -> String {
    let has = |name: &str| {
        let table = catalog.table("migrations");
        table.is_some_and(|table| table.columns.iter().any(|column| column.name == name))
    };
    if !has("name") || !has("checksum") {
        return "SELECT NULL WHERE false".into();
    }
    let all = POSTGRES.migrations.iter().chain([&POSTGRES.fallback]);
    let names: Vec<String> = all.map(|migration| literal(migration.name)).collect();
    format!(
        "SELECT to_json(m) FROM migrations m \
         WHERE length(m.checksum::text) = 64 OR m.checksum IS NOT NULL AND m.name::text IN ({})",
        names.join(", ")
    )
}

fn ledger(rows: &[Row]) -> Vec<AppliedMigration> {
    let mut ledger: Vec<AppliedMigration> = rows.iter().map(|row| applied(row.text(0))).collect();
    ledger.sort_by_key(|row| row.id);
    ledger
}

fn applied(json: &str) -> AppliedMigration {
    let row: Value = serde_json::from_str(json).unwrap_or_default();
    let words = |name: &str| match &row[name] {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    AppliedMigration {
        id: words("id").and_then(|id| id.parse().ok()).unwrap_or_default(),
        name: words("name").unwrap_or_default(),
        checksum: words("checksum"),
        executed_at: words("executed_at").map(|time| stored(&time)),
        execution_time_ms: row["execution_time_ms"].as_i64(),
        version: words("version"),
    }
}

/// A time of the server (`2026-11-23T05:43:00.1234+00:00`) as the other store has it.
fn stored(time: &str) -> String {
    let (day, rest) = time.split_once('T').unwrap_or((time, "00:00:00"));
    let clock = rest.split(['+', '-', 'Z']).next().unwrap_or_default();
    let (seconds, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    format!("{day} {seconds}.{:0<3}", fraction.get(..3).unwrap_or(fraction))
}

/// Reads every row of our tables, and asks `amcheck`, where it is installed, about every index.
/// Foreign keys that were never validated are counted.
pub fn find_damage(session: &mut Session) -> Result<Damage> {
    let mut damage = Damage::default();
    let found = snapshot(session, true)?.snapshot;
    session.run("SET statement_timeout = 0")?;
    for table in found.catalog.tables.iter() {
        let name = quoted(&table.name);
        let sql = format!("SELECT sum(length(t::text)) FROM {name} t");
        if let Err(error) = session.ask(&sql) {
            if error.kind != Kind::Data {
                return Err(error);
            }
            damage.pages.push(format!("table {}: {}", table.name, error.message()));
        }
    }
    check_indexes(session, &mut damage, false)?;
    for table in found.catalog.tables.iter() {
        damage.orphans.extend(orphans(session, table)?);
    }
    Ok(damage)
}

/// Damaged indexes alone. In a transaction, where an error would end it, each is asked about
/// behind a savepoint.
pub fn find_damaged_indexes(session: &mut Session) -> Result<Damage> {
    let mut damage = Damage::default();
    check_indexes(session, &mut damage, true)?;
    Ok(damage)
}

/// Whether a table of ours exists and has more than this number of rows. One whose file is too
/// small for that is not read.
///
/// # Errors
/// Where the table cannot be read.
pub fn has_more_rows(session: &mut Session, table: &str, than: u64) -> Result<bool> {
    let sql = format!(
        "SELECT pg_relation_size(c.oid) FROM pg_class c \
         WHERE c.relnamespace = {SCHEMA} AND c.relkind = 'r' AND c.relname = {}",
        literal(table)
    );
    // The server's own count may be old, or not have been made yet.
    let size = session.ask(&sql)?.into_iter().flatten().next().map(|row| row.number::<u64>(0));
    if size.unwrap_or_default() / LEAST_ROW_BYTES <= than {
        return Ok(false);
    }
    let limit = than.saturating_add(1);
    let sql = format!(
        "SELECT count(*) > {than} FROM (SELECT 1 FROM {} LIMIT {limit}) AS few",
        quoted(table)
    );
    let found = session.ask(&sql)?;
    Ok(found.first().and_then(|rows| rows.first()).is_some_and(|row| row.is(0)))
}

/// A row takes at least so many bytes: its header, and its pointer in the page. (PostgreSQL
/// documentation, "Database Page Layout")
const LEAST_ROW_BYTES: u64 = 28;

fn check_indexes(session: &mut Session, damage: &mut Damage, in_transaction: bool) -> Result<()> {
    let (before, after, undo) = match in_transaction {
        true => ("SAVEPOINT cts_check; ", "; RELEASE cts_check", "ROLLBACK TO cts_check"),
        false => ("", "", ""),
    };
    let sql = format!(
        "SELECT x.indexrelid::regclass::text, e.nspname, x.indexrelid FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid \
         JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_am m ON m.oid = i.relam AND m.amname = 'btree', \
         (SELECT n.nspname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace \
             WHERE p.proname = 'bt_index_check' AND has_function_privilege(p.oid, 'EXECUTE') LIMIT 1) e \
         WHERE c.relname IN ({}) AND c.relnamespace = {SCHEMA} AND x.indisvalid AND i.relpersistence = 'p'",
        names()
    );
    for row in session.ask(&sql)?.into_iter().flatten() {
        let sql = format!(
            "{before}SELECT {}.bt_index_check({}::regclass, true){after}",
            quoted(row.text(1)),
            row.text(2)
        );
        match session.ask(&sql) {
            Ok(_) => {}
            Err(error) if error.kind == Kind::Data => {
                session.run(undo)?;
                damage.pages.push(format!("index {}: {}", row.text(0), error.message()));
                damage.indexes.push(row.text(0).to_string());
            }
            Err(error) => return Err(error),
        }
    }
    if damage.indexes.len() < damage.pages.len() {
        damage.indexes.clear();
    }
    Ok(())
}

fn orphans(session: &mut Session, table: &Table) -> Result<Vec<Orphans>> {
    let mut found = Vec::new();
    for key in table.foreign_keys.iter() {
        let rows = orphaned(session, &table.name, key)?;
        if rows > 0 {
            let (table, parent) = (table.name.to_string(), key.table.to_string());
            found.push(Orphans { table, parent, rows });
        }
    }
    Ok(found)
}

/// How many rows refer to rows that are gone.
pub fn orphaned(session: &mut Session, table: &str, key: &ForeignKey) -> Result<u64> {
    let (column, parent, to) = (quoted(&key.column), quoted(&key.table), quoted(&key.references));
    let sql = format!(
        "SELECT count(*) FROM {} t WHERE t.{column} IS NOT NULL AND NOT EXISTS (SELECT 1 FROM {parent} p WHERE p.{to} = t.{column})",
        quoted(table)
    );
    let rows = session.ask(&sql)?;
    Ok(rows.first().and_then(|rows| rows.first()).map(|row| row.number(0)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_server_are_shown_as_those_of_sqlite() {
        for (given, shown) in [
            ("2026-11-23T05:43:00.123456+00:00", "2026-11-23 05:43:00.123"),
            ("2026-11-23T05:43:00.1+00:00", "2026-11-23 05:43:00.100"),
            ("2026-11-23T05:43:00", "2026-11-23 05:43:00.000"),
            ("2026-11-23", "2026-11-23 00:00:00.000"),
        ] {
            assert_eq!(stored(given), shown);
        }
    }

    #[test]
    fn damaged_ledger_rows_are_read() {
        let row = applied(r#"{"id":"x","name":7,"checksum":null,"extra":1}"#);
        assert_eq!((row.id, row.name.as_str(), row.checksum), (0, "7", None));
        assert_eq!(applied("nonsense").name, "");
    }
}
