//! Inspects a PostgreSQL database: ledger, catalogue and constraint exceptions in one transaction
//! of two round trips, or of three where the catalogue has changed.

use super::attributes;
use super::catalog::{self, InvalidIndex, is_our_table, schema_oid, table_names};
use super::connect::{ReadOnlyReason, SessionServer};
use super::exceptions;
use super::foreign_code::ForeignCode;
use super::ledger;
use super::privileges::{missing_rights, missing_rights_sql};
use super::row::{Row, unreadable};
use super::server_identity::ServerIdentity;
use super::server_record::SERVER_TABLE;
use super::session::Session;
use super::settings::TransactionMode;
use crate::error::{Error, Kind, Result, StateLeft};
use crate::store::sql::EXCEPTIONS_TABLE;
use crate::store::{MissingRights, Origin, Snapshot};
use cts_schema::catalog::is_cts_database;

/// The prefix of the copies that are made before an adoption.
pub const BACKUP_PREFIX: &str = "cts_before_";

/// What an inspection finds.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// Ledger, catalogue and constraint exceptions.
    pub snapshot: Snapshot,
    /// Why the server accepts no writes.
    pub read_only: Option<ReadOnlyReason>,
    /// The rights that the role lacks.
    pub missing_rights: Option<MissingRights>,
    /// Indexes of our tables that a cancelled build has left.
    pub invalid_indexes: Vec<InvalidIndex>,
}

/// Inspects the database in a read-only transaction of its own.
///
/// # Errors
/// If the server refuses a query, does not answer, or is lost; `Kind::Data` if the schema holds the
/// tables of another program. No transaction is open then.
pub fn inspect(session: &mut Session) -> Result<Inspection> {
    let state = state_sql(&session.server);
    let state = session.begin(TransactionMode::Snapshot, session.limits(), &state)?;
    let inspected = read(session, state, Session::commit_after);
    if inspected.is_err() {
        session.roll_back();
    }
    inspected
}

/// Inspects the database in the transaction that is open.
///
/// # Errors
/// As [`inspect`]; where the server refused a query, the transaction is aborted.
pub fn inspect_in_transaction(session: &mut Session) -> Result<Inspection> {
    let state = state_sql(&session.server);
    let state = session.results(&state)?;
    read(session, state, Session::results)
}

/// The cells of [`state_sql`].
struct DatabaseState {
    read_only: Option<ReadOnlyReason>,
    has_exceptions_table: bool,
    /// The names of the other tables of the schema.
    other_tables: Vec<String>,
    /// Changes with every change of the catalogue.
    fingerprint: String,
    identity: ServerIdentity,
}

impl DatabaseState {
    fn read(row: &Row) -> Result<DatabaseState> {
        let others = row.get(3).into_iter().flat_map(|names| names.split('\n'));
        Ok(DatabaseState {
            read_only: ReadOnlyReason::of(row.flag(0)?, row.flag(1)?),
            has_exceptions_table: row.flag(2)?,
            other_tables: others.map(str::to_string).collect(),
            fingerprint: row.text(4)?.to_string(),
            identity: ServerIdentity::read(row, 5)?,
        })
    }
}

/// Reads the rest of an inspection. `state` is the result of [`state_sql`]; `finish` runs the last queries.
fn read(
    session: &mut Session,
    state: Vec<Vec<Row>>,
    finish: impl FnOnce(&mut Session, &str) -> Result<Vec<Vec<Row>>>,
) -> Result<Inspection> {
    let schema = session.server.schema.clone();
    let no_row = || unreadable(&state_sql(&session.server), "has no row");
    let state = DatabaseState::read(state.iter().flatten().next().ok_or_else(no_row)?)?;
    // A standby may have been promoted since the connection was opened.
    (session.server.read_only, session.server.identity) = (state.read_only, state.identity);
    let found = catalog::read(session, &state.fingerprint)?;
    // Reading a table could run code of another role.
    ForeignCode::find_in(session, &state.fingerprint)?;
    ForeignCode::refuse_read(session, &["migrations"])?;
    if state.has_exceptions_table {
        ForeignCode::refuse_read_of_exceptions(session)?;
    }
    let ledger = ledger::select(&found.catalog, &session.qualified("migrations"));
    let exceptions = exceptions::select(session, state.has_exceptions_table);
    let rights = missing_rights_sql(&schema);
    let sql = format!("{ledger}; {exceptions}; {rights}");
    let results = finish(session, &sql)?;
    let [ledger, exceptions, rights] =
        results.try_into().map_err(|_| unreadable(&sql, "is incomplete"))?;
    let rights = rights.first().map(|row| missing_rights(row, &schema)).transpose()?;
    let recorded = exceptions::read(&exceptions)?;
    let mut snapshot = Snapshot {
        ledger: ledger::read(&ledger),
        exceptions: recorded.exceptions,
        accepted: recorded.accepted,
        catalog: found.catalog,
        counters: Vec::new(),
    };
    attributes::accept_exceptions(&mut snapshot.catalog, &snapshot.exceptions);
    refuse_other_program(&snapshot, &state.other_tables, &schema)?;
    let DatabaseState { read_only, .. } = state;
    Ok(Inspection {
        snapshot,
        read_only,
        missing_rights: rights.flatten(),
        invalid_indexes: found.invalid_indexes,
    })
}

/// Refuses tables that belong to another program and have names of our tables.
fn refuse_other_program(snapshot: &Snapshot, others: &[String], schema: &str) -> Result<()> {
    if snapshot.origin() != Origin::OlderCts {
        return Ok(());
    }
    let catalog = &snapshot.catalog;
    let own = catalog.tables.iter().map(|table| &*table.name);
    let tables: Vec<&str> = own.chain(others.iter().map(String::as_str)).collect();
    let has_column = |name: &str| {
        let table = catalog.table("migrations");
        table.is_some_and(|table| table.columns.iter().any(|column| column.name == name))
    };
    if is_cts_database(&tables, has_column("name") && has_column("executed_at")) {
        return Ok(());
    }
    let names: Vec<&str> = catalog.tables.iter().take(3).map(|table| &*table.name).collect();
    let what = format!(
        "schema {schema} holds tables of another program ({}), and no table of CTS",
        names.join(", ")
    );
    Err(Error::new(Kind::Data, what).leaving(StateLeft::Unchanged).remedy(
        "give cts a schema of its own: create one, and add options=-csearch_path%3Dits_name to the URL",
    ))
}

/// The query for the server's state, the names of the other tables of the schema, and a
/// fingerprint of the catalogue: location and transaction of each of its rows, which change with
/// every change to one. It takes a fifth of the time of reading the catalogue.
fn state_sql(server: &SessionServer) -> String {
    let SessionServer { schema, identity_columns, .. } = server;
    format!(
        "WITH tables AS MATERIALIZED (SELECT c.oid, c.xmin, c.ctid FROM pg_class c WHERE {is_our_table}), \
         indexes AS MATERIALIZED (SELECT x.xmin, x.ctid, x.indexrelid, x.indisvalid, x.indisready, x.indislive FROM tables JOIN pg_index x ON x.indrelid = tables.oid), \
         parts AS ( \
             SELECT hashtextextended(concat(xmin, ctid, oid), 0) AS part FROM tables \
             UNION ALL SELECT hashtextextended(concat(a.xmin, a.ctid, a.attrelid), 1) FROM tables JOIN pg_attribute a ON a.attrelid = tables.oid \
             UNION ALL SELECT hashtextextended(concat(d.xmin, d.ctid), 2) FROM tables JOIN pg_attrdef d ON d.adrelid = tables.oid \
             UNION ALL SELECT hashtextextended(concat(k.xmin, k.ctid), 3) FROM tables JOIN pg_constraint k ON k.conrelid = tables.oid \
             UNION ALL SELECT hashtextextended(concat(xmin, ctid, indisvalid, indisready, indislive), 4) FROM indexes \
             UNION ALL SELECT hashtextextended(concat(i.xmin, i.ctid), 5) FROM indexes JOIN pg_class i ON i.oid = indexes.indexrelid \
             UNION ALL SELECT hashtextextended(concat(g.xmin, g.ctid), 6) FROM tables JOIN pg_trigger g ON g.tgrelid = tables.oid AND g.tgconstraint <> 0 \
             UNION ALL SELECT hashtextextended(concat(r.xmin, r.ctid), 7) FROM tables JOIN pg_rewrite r ON r.ev_class = tables.oid \
             UNION ALL SELECT hashtextextended(concat(h.xmin, h.ctid, h.inhparent), 8) FROM tables JOIN pg_inherits h ON h.inhrelid = tables.oid) \
         SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on', \
             coalesce(bool_or(relname = '{EXCEPTIONS_TABLE}'), false), \
             string_agg(relname, chr(10)) FILTER (WHERE relname NOT IN ('{EXCEPTIONS_TABLE}', '{SERVER_TABLE}') AND NOT starts_with(relname, '{BACKUP_PREFIX}')), \
             (SELECT concat(count(*), ' ', sum(part)) FROM parts), {} \
         FROM pg_class c WHERE relkind IN ('r', 'p') AND relname NOT IN ({}) \
             AND relnamespace = {}",
        identity_columns.sql(),
        table_names(),
        schema_oid(schema),
        is_our_table = is_our_table(schema)
    )
}
