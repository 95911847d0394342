//! Measures the database of a server, on a connection opened for it. The rows of a small table of cts are counted;
//! those of the others are what the server estimates, by ANALYZE or by what it counts of the changes.
//! (PostgreSQL documentation, "pg_class", "The Cumulative Statistics System", "Database Object Size Functions")

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::catalog::{schema_oid, table_names};
use super::database::DatabaseServer;
use super::foreign_code::{ForeignCode, Use};
use super::pool::{PoolSettings, SessionPool};
use super::row::Row;
use super::server_record::SERVER_TABLE;
use super::session::Session;
use crate::error::Result;
use crate::store::sql::{EXCEPTIONS_TABLE, literal};
use crate::store::{DatabaseSizes, Measure, MeasuredTables, OTHER_TABLES_MAX, TableFigures};

/// The server looks at each file of the database.
const SIZES_INTERVAL: Duration = Duration::from_secs(60);
/// How long a measurement may take, the connection included.
const LIMIT: Duration = Duration::from_secs(10);
/// Bytes of a table of cts up to which its rows are counted.
const COUNTED_BYTES_MAX: u64 = 1 << 20;

impl DatabaseServer {
    /// A pool of one connection, of which no other thread waits for a place.
    pub(super) fn measuring_pool(&self, stopping: &Arc<AtomicBool>) -> Result<SessionPool> {
        let settings = PoolSettings { max: 1, ..self.pool };
        let (target, cluster) = (Arc::clone(&self.target), Arc::clone(&self.cluster));
        Ok(SessionPool::new(target, cluster, settings)?.stopped_by(stopping))
    }
}

impl Measure for DatabaseServer {
    fn sizes_interval(&self) -> Duration {
        SIZES_INTERVAL
    }

    fn measure_sizes(&self, stopping: &Arc<AtomicBool>) -> Result<DatabaseSizes> {
        let pool = self.measuring_pool(stopping)?;
        let size = "SELECT pg_database_size(current_database())";
        let found = pool.run_within(LIMIT, |session| session.number(size));
        let database_bytes = found.map_err(|error| error.at(self.target.location()))?;
        Ok(DatabaseSizes {
            database_bytes: Some(database_bytes),
            wal_bytes: None,
            certificate_ends_at: pool.tls.certificate_ends_at(),
        })
    }

    fn measure_tables(&self, stopping: &Arc<AtomicBool>) -> Result<MeasuredTables> {
        let pool = self.measuring_pool(stopping)?;
        let found = pool.run_within(LIMIT, measure);
        found.map_err(|error| error.at(self.target.location()))
    }
}

fn measure(session: &mut Session) -> Result<MeasuredTables> {
    let rows = session.rows(&estimates_sql(&session.server.schema))?;
    let mut tables = rows.iter().map(estimate).collect::<Result<Vec<_>>>()?;
    let others = rows.first().map_or(Ok(0), |row| row.number::<usize>(4))?;
    tables.sort_by(|a, b| b.is_ours.cmp(&a.is_ours).then_with(|| a.name.cmp(&b.name)));
    // A table that is locked, or that may not be read, keeps its estimate and has no size.
    let sizes = session.rows(&sizes_sql(&session.server.schema)).unwrap_or_default();
    add_sizes(&mut tables, &sizes)?;
    let counted: Vec<String> = tables
        .iter()
        .filter(|table| table.is_ours)
        .filter(|table| table.size_bytes.is_some_and(|bytes| bytes <= COUNTED_BYTES_MAX))
        .map(|table| table.name.clone())
        .collect();
    let counts = count(session, &counted).unwrap_or_default();
    for table in &mut tables {
        if let Some(rows) = counts.get(&table.name) {
            (table.rows, table.is_exact) = (Some(*rows), true);
        }
    }
    Ok(MeasuredTables { tables, omitted: others.saturating_sub(OTHER_TABLES_MAX) })
}

/// Name, whether it is ours, two estimates, and the number of other tables; of the others the largest. The tables in
/// which cts keeps its own records are none of either.
fn estimates_sql(schema: &str) -> String {
    format!(
        "SELECT t.relname, t.is_ours, t.reltuples::bigint, pg_stat_get_live_tuples(t.oid), t.others FROM ( \
             SELECT c.oid, c.relname, c.relname IN ({ours}) AS is_ours, c.reltuples, \
                 count(*) FILTER (WHERE c.relname NOT IN ({ours})) OVER () AS others, \
                 row_number() OVER (PARTITION BY c.relname IN ({ours}) ORDER BY c.relpages DESC, c.relname) AS place \
             FROM pg_class c WHERE c.relnamespace = {schema} AND c.relkind IN ('r', 'p') \
                 AND c.relname NOT IN ('{EXCEPTIONS_TABLE}', '{SERVER_TABLE}')) t \
         WHERE t.is_ours OR t.place <= {OTHER_TABLES_MAX}",
        ours = table_names(),
        schema = schema_oid(schema)
    )
}

fn estimate(row: &Row) -> Result<TableFigures> {
    // Before the first ANALYZE the estimate is -1, before PostgreSQL 14 it is 0.
    let analysed = u64::try_from(row.number::<i64>(2)?).ok().filter(|rows| *rows > 0);
    let counted = u64::try_from(row.number::<i64>(3)?).ok().filter(|rows| *rows > 0);
    Ok(TableFigures {
        name: row.text(0)?.to_string(),
        rows: analysed.or(counted),
        is_exact: false,
        size_bytes: None,
        is_ours: row.flag(1)?,
    })
}

/// Name, bytes of the rows, bytes with indexes and large values. A partitioned table has none of its own.
fn sizes_sql(schema: &str) -> String {
    format!(
        "SELECT c.relname, pg_relation_size(c.oid), pg_total_relation_size(c.oid) \
         FROM pg_class c WHERE c.relnamespace = {} AND c.relkind = 'r'",
        schema_oid(schema)
    )
}

fn add_sizes(tables: &mut [TableFigures], sizes: &[Row]) -> Result<()> {
    let mut found = BTreeMap::new();
    for row in sizes {
        // A table that was dropped meanwhile has no size.
        if let (Some(rows), Some(_)) = (row.get(1), row.get(2)) {
            found.insert(row.text(0)?, (rows == "0", row.number::<u64>(2)?));
        }
    }
    for table in tables {
        let Some((is_empty, bytes)) = found.get(&*table.name) else { continue };
        table.size_bytes = Some(*bytes);
        if *is_empty {
            (table.rows, table.is_exact) = (Some(0), true);
        }
    }
    Ok(())
}

/// Counts the rows of these tables of ours, but for those that cannot be read without running code of another role.
fn count(session: &mut Session, tables: &[String]) -> Result<BTreeMap<String, u64>> {
    let code = ForeignCode::find(session)?;
    let is_readable =
        |table: &&String| ForeignCode::refuse_found(&code, &[table.as_str()], Use::Read).is_ok();
    let query = |table: &String| {
        format!("SELECT {}, count(*) FROM {}", literal(table), session.qualified(table))
    };
    let queries: Vec<String> = tables.iter().filter(is_readable).map(query).collect();
    if queries.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows = session.rows(&queries.join(" UNION ALL "))?;
    rows.iter().map(|row| Ok((row.text(0)?.to_string(), row.number(1)?))).collect()
}
