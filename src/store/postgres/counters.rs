//! The sequences that give new rows of our tables their ids: the one of an identity column, or the one
//! that a default names. Rows that were restored with their ids do not advance them.

use super::catalog::is_our_table;
use super::foreign_code::ForeignCode;
use super::row::Row;
use super::session::Session;
use crate::error::{Error, Kind, Result};
use crate::store::schema::POSTGRES;
use crate::store::sql::{literal, quoted};
use cts_schema::catalog::{CounterFault, CounterState};
use cts_schema::sql::ddl::IDENTITY;

/// How many ids at the end of a table are compared with the next ones of a sequence that leaves ids out.
const IDS_COMPARED_MAX: u32 = 1000;

/// A sequence that gives a column of one of our tables its values.
struct IdSequence {
    table: String,
    column: String,
    /// Its name, as SQL.
    name: String,
    increment: i64,
    /// The last value in the direction in which it counts.
    limit: i64,
    cycles: bool,
}

/// The sequences that would give ids which rows have already, or that have none left. Those that this
/// role may not read are left out. A row that is visible took its id before, so a program that inserts
/// meanwhile makes no fault.
///
/// # Errors
/// If the server refuses a query; an open transaction is aborted then.
pub fn find_faults(session: &mut Session) -> Result<Vec<CounterFault>> {
    let mut sequences = sequences(session, "true")?;
    // A table that cannot be read without running code of another role is left out; doctor names it.
    sequences.retain(|found| ForeignCode::refuse_read(session, &[&found.table]).is_ok());
    faults_of(session, &sequences)
}

/// [`find_faults`] for an inspection, which a table that goes meanwhile must not end.
///
/// # Errors
/// If the server does not answer, or is lost.
pub fn find_faults_outside_transaction(session: &mut Session) -> Result<Vec<CounterFault>> {
    match find_faults(session) {
        Err(error) if matches!(error.kind, Kind::Data | Kind::Permission) => Ok(Vec::new()),
        found => found,
    }
}

fn faults_of(session: &mut Session, sequences: &[IdSequence]) -> Result<Vec<CounterFault>> {
    if sequences.is_empty() {
        return Ok(Vec::new());
    }
    let schema = session.server.schema.clone();
    let each = sequences.iter().enumerate().map(|(at, sequence)| sequence.state_sql(at, &schema));
    let rows = session.rows(&each.collect::<Vec<_>>().join(" UNION ALL "))?;
    let mut faults = Vec::new();
    for row in &rows {
        let Some(sequence) = sequences.get(row.number::<usize>(0)?) else { continue };
        faults.extend(sequence.fault(row)?);
    }
    Ok(faults)
}

/// The sequences of the id columns of our tables, of those that meet a condition on `c`, the row of
/// the table in `pg_class`.
fn sequences(session: &mut Session, condition: &str) -> Result<Vec<IdSequence>> {
    let columns = POSTGRES.expected.tables.iter().flat_map(|table| {
        let ids = table.columns.iter().filter(|c| c.default.as_deref() == Some(IDENTITY));
        ids.map(|column| format!("({}, {})", literal(&table.name), literal(&column.name)))
    });
    let sql = format!(
        "SELECT c.relname, a.attname, n.nspname, s.relname, q.seqincrement, \
             CASE WHEN q.seqincrement > 0 THEN q.seqmax ELSE q.seqmin END, q.seqcycle \
         FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
             JOIN LATERAL ( \
                 SELECT d.objid AS oid FROM pg_catalog.pg_depend d \
                 WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass \
                     AND d.refobjid = c.oid AND d.refobjsubid = a.attnum AND d.deptype = 'i' \
                 UNION SELECT d.refobjid FROM pg_catalog.pg_attrdef e \
                     JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_attrdef'::regclass AND d.objid = e.oid \
                 WHERE e.adrelid = c.oid AND e.adnum = a.attnum AND d.refclassid = 'pg_catalog.pg_class'::regclass) used ON true \
             JOIN pg_catalog.pg_class s ON s.oid = used.oid AND s.relkind = 'S' \
             JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace \
             JOIN pg_catalog.pg_sequence q ON q.seqrelid = s.oid \
         WHERE {} AND (c.relname, a.attname) IN ({}) AND a.atttypid IN (20, 21, 23) AND {condition} \
             AND has_table_privilege(c.oid, 'SELECT') AND has_sequence_privilege(s.oid, 'SELECT') \
         ORDER BY c.relname, s.oid",
        is_our_table(&session.server.schema),
        columns.collect::<Vec<_>>().join(", ")
    );
    session.rows(&sql)?.iter().map(IdSequence::read).collect()
}

impl IdSequence {
    fn read(row: &Row) -> Result<IdSequence> {
        Ok(IdSequence {
            table: row.text(0)?.to_string(),
            column: row.text(1)?.to_string(),
            name: format!("{}.{}", quoted(row.text(2)?), quoted(row.text(3)?)),
            increment: row.number(4)?,
            limit: row.number(5)?,
            cycles: row.flag(6)?,
        })
    }

    /// The query for its state: `at`; the next value, which may be past the limit; the id of a row that
    /// it would reach, if there is one; and whether no value is left.
    fn state_sql(&self, at: usize, schema: &str) -> String {
        let IdSequence { name, increment, limit, cycles, .. } = self;
        let (id, table) =
            (quoted(&self.column), format!("{}.{}", quoted(schema), quoted(&self.table)));
        let (past, last, order) =
            if *increment > 0 { (">", "max", "DESC") } else { ("<", "min", "ASC") };
        let is_next = format!("SELECT {id} FROM {table} WHERE {id} = q.next LIMIT 1");
        let reached = match (increment, cycles) {
            // One that began again gives the ids of rows that are gone; only the next one shows a fault.
            (_, true) => is_next,
            (1 | -1, false) => format!(
                "SELECT h.id FROM (SELECT {last}({id}) AS id FROM {table}) h WHERE h.id {past}= q.next"
            ),
            // Other ids may come from another sequence, which counts between.
            _ => format!(
                "SELECT h.id FROM (SELECT {id} AS id FROM {table} WHERE {id} {past}= q.next ORDER BY {id} {order} LIMIT {IDS_COMPARED_MAX}) h \
                 WHERE (h.id - q.next) % {increment} = 0 ORDER BY h.id {order} LIMIT 1"
            ),
        };
        format!(
            "SELECT {at}, q.next, ({reached}), NOT {cycles} AND q.next {past} {limit} \
             FROM (SELECT s.last_value::numeric + CASE WHEN s.is_called THEN {increment} ELSE 0 END AS next FROM {name} s) q"
        )
    }

    fn fault(&self, row: &Row) -> Result<Option<CounterFault>> {
        let state = if row.flag(3)? {
            CounterState::Exhausted { last: self.limit }
        } else if row.get(2).is_some() {
            CounterState::Behind { next: row.number(1)?, used: row.number(2)? }
        } else {
            return Ok(None);
        };
        let (table, column) = (self.table.clone(), self.column.clone());
        Ok(Some(CounterFault { table, column, state }))
    }
}

/// Advances the sequences of a table past its ids.
///
/// # Errors
/// `Kind::Data` if no id is left, `Kind::Permission` if the sequence belongs to another role, or if a
/// statement fails; an open transaction is aborted then.
pub fn advance(session: &mut Session, fault: &CounterFault) -> Result<()> {
    let of_table = format!("c.relname = {}", literal(&fault.table));
    for sequence in sequences(session, &of_table)? {
        let IdSequence { name, increment, limit, .. } = &sequence;
        // Its lock keeps programs from taking values until the end of the transaction.
        session.run(&format!("ALTER SEQUENCE {name} INCREMENT BY {increment}"))?;
        let sequences = std::slice::from_ref(&sequence);
        let Some(found) = faults_of(session, sequences)?.into_iter().next() else { continue };
        let next = match found.state {
            CounterState::Behind { next, used } => after(next.into(), used.into(), *increment),
            // Somebody has set it to its end; the ids of the rows say where it has to go on.
            CounterState::Exhausted { .. } => {
                let last = if *increment > 0 { "max" } else { "min" };
                let table = format!("{}.{}", quoted(&session.server.schema), quoted(&fault.table));
                session.number(&format!(
                    "SELECT coalesce({last}({})::numeric + {increment}, \
                         (SELECT seqstart FROM pg_catalog.pg_sequence WHERE seqrelid = {}::regclass)) FROM {table}",
                    quoted(&fault.column),
                    literal(name)
                ))?
            }
        };
        let is_left =
            if *increment > 0 { next <= i128::from(*limit) } else { next >= i128::from(*limit) };
        if !is_left {
            let what = CounterFault { state: CounterState::Exhausted { last: *limit }, ..found };
            return Err(Error::new(Kind::Data, what.to_string()).remedy(format!(
                "give the row with the last id another one, or change the limit of sequence {name}"
            )));
        }
        session.run(&format!("ALTER SEQUENCE {name} RESTART WITH {next}"))?;
    }
    Ok(())
}

/// The first value of a sequence past an id, counted on from its next one.
fn after(next: i128, used: i128, increment: i64) -> i128 {
    let increment = i128::from(increment);
    next + ((used - next) / increment + 1) * increment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_goes_on_in_its_own_steps() {
        assert_eq!(after(1, 7, 1), 8);
        assert_eq!(after(1, 7, 2), 9);
        assert_eq!(after(2, 7, 2), 8);
        assert_eq!(after(-1, -7, -1), -8);
        assert_eq!(after(-1, -7, -3), -10);
        assert_eq!(after(5, i64::MAX.into(), 1), i128::from(i64::MAX) + 1);
    }
}
