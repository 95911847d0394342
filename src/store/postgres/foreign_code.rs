//! Finds code of other roles that would run with the rights of our role when a table of ours is used.
//! The server runs triggers, rules, defaults, constraints and the checks of domains as the role that
//! writes a row, and the functions in the condition of an index even while it plans a query.

use std::fmt;

use super::catalog::{schema_oid, table_names};
use super::row::Row;
use super::server_record::SERVER_TABLE;
use super::session::Session;
use crate::error::{Error, Kind, Result};
use crate::store::sql::{EXCEPTIONS_TABLE, literal, quoted};

/// The roles that our role need not protect itself from: itself, those whose member it is, and
/// superusers. What a membership gives a superuser without being a member does not count: it is others
/// whose code must not run with a superuser's rights.
pub const OTHER_ROLES: &str = "mine (oid) AS ( \
         SELECT oid FROM pg_roles WHERE rolname = current_user \
         UNION SELECT m.roleid FROM pg_auth_members m JOIN mine ON m.member = mine.oid), \
     others AS (SELECT r.oid, r.rolname FROM pg_roles r WHERE NOT r.rolsuper AND r.oid NOT IN (SELECT oid FROM mine) \
         AND NOT (r.rolname = 'pg_database_owner' AND (SELECT d.datdba IN (SELECT oid FROM mine) \
             OR (SELECT o.rolsuper FROM pg_roles o WHERE o.oid = d.datdba) \
             FROM pg_database d WHERE d.datname = current_database())))";
/// Functions of the server, not immutable, that a default or a constraint may call, whoever wrote it.
/// Others read tables or run SQL that their arguments give.
const HARMLESS: &str = "'nextval', 'random', 'now', 'clock_timestamp', 'statement_timestamp', 'transaction_timestamp', \
     'gen_random_uuid', 'timezone', 'date_trunc', 'timestamp', 'timestamptz', 'date', 'to_char', 'concat', 'concat_ws'";

/// When code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Already when the table is read.
    Read,
    /// When rows of it are written, or the table is altered.
    Write,
}

/// Code of another role on a table of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignCode {
    /// The table.
    pub table: String,
    /// What contains or calls the code, such as "trigger audit".
    what: String,
    /// The role that wrote it.
    role: String,
    /// Whether it already runs when the table is read.
    runs_when_read: bool,
    /// Our role.
    ours: String,
}

/// The code on our tables as it was last looked for on a connection.
pub struct SessionForeignCode {
    /// Differs after every change of the catalogue.
    fingerprint: String,
    found: Vec<ForeignCode>,
}

impl ForeignCode {
    fn read(row: &Row) -> Result<ForeignCode> {
        Ok(ForeignCode {
            table: row.text(0)?.to_string(),
            what: row.text(1)?.to_string(),
            role: row.text(2)?.to_string(),
            runs_when_read: row.flag(3)?,
            ours: row.text(4)?.to_string(),
        })
    }

    /// The code on our tables.
    ///
    /// # Errors
    /// If the query fails; an open transaction is aborted then.
    pub fn find(session: &mut Session) -> Result<Vec<ForeignCode>> {
        let own = [EXCEPTIONS_TABLE, SERVER_TABLE].map(literal).join(", ");
        let tables = format!("{}, {own}", table_names());
        ForeignCode::find_on(session, &tables)
    }

    /// The same on some tables, given as a list of literals.
    fn find_on(session: &mut Session, tables: &str) -> Result<Vec<ForeignCode>> {
        let sql = foreign_code_sql(&session.server.schema, tables);
        session.rows(&sql)?.iter().map(ForeignCode::read).collect()
    }

    /// Looks for the code on our tables, unless the fingerprint says that the catalogue is as it was when
    /// it was last looked for on this connection.
    ///
    /// # Errors
    /// If the query fails; an open transaction is aborted then.
    pub fn find_in(session: &mut Session, fingerprint: &str) -> Result<()> {
        let known = session.foreign_code.as_ref();
        if known.is_none_or(|known| known.fingerprint != fingerprint) {
            let found = ForeignCode::find(session)?;
            session.foreign_code =
                Some(SessionForeignCode { fingerprint: fingerprint.to_string(), found });
        }
        Ok(())
    }

    /// Refuses to read tables that have code which runs then, as it was last found.
    ///
    /// # Errors
    /// `Kind::Permission` if one has.
    pub fn refuse_read(session: &Session, tables: &[&str]) -> Result<()> {
        let found = session.foreign_code.as_ref().map(|known| &*known.found);
        ForeignCode::refuse_found(found.unwrap_or_default(), tables, Use::Read)
    }

    /// Refuses to read the table of the constraint exceptions, which the fingerprint of the catalogue
    /// does not cover.
    ///
    /// # Errors
    /// `Kind::Permission` if it has such code, or the error of the query.
    pub fn refuse_read_of_exceptions(session: &mut Session) -> Result<()> {
        ForeignCode::refuse_read_of(session, EXCEPTIONS_TABLE)
    }

    /// Refuses to read a table that has code which runs then.
    ///
    /// # Errors
    /// `Kind::Permission` if it has, or the error of the query.
    pub fn refuse_read_of(session: &mut Session, table: &str) -> Result<()> {
        let found = ForeignCode::find_on(session, &literal(table))?;
        ForeignCode::refuse_found(&found, &[table], Use::Read)
    }

    /// Refuses to write rows of a table that has code which runs then.
    ///
    /// # Errors
    /// `Kind::Permission` if it has, or the error of the query. An open transaction is aborted by the
    /// latter only.
    pub fn refuse_write(session: &mut Session, table: &str) -> Result<()> {
        let found = ForeignCode::find_on(session, &literal(table))?;
        ForeignCode::refuse_found(&found, &[table], Use::Write)
    }

    /// The same, where the code has been found before.
    ///
    /// # Errors
    /// `Kind::Permission` if a table has such code.
    pub fn refuse_found(found: &[ForeignCode], tables: &[&str], used: Use) -> Result<()> {
        let runs = |code: &&ForeignCode| {
            tables.contains(&&*code.table) && (code.runs_when_read || used == Use::Write)
        };
        found.iter().find(runs).map_or(Ok(()), |code| Err(code.error()))
    }

    fn error(&self) -> Error {
        Error::new(Kind::Permission, self.to_string()).remedy(self.remedy())
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        let ForeignCode { table, role, .. } = self;
        let ours = quoted(&self.ours);
        format!(
            "drop it, or make {ours} the owner of table {table} and of what it calls, or, if role {role} \
             is to be trusted with everything that cts may do, `GRANT {} TO {ours}`",
            quoted(role)
        )
    }
}

impl fmt::Display for ForeignCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ForeignCode { table, what, role, ours, .. } = self;
        write!(
            f,
            "table {table}: {what} is code of role {role}, which would run with the rights of {ours}"
        )
    }
}

/// The query for the code: table, what it is, its role, whether it runs when the table is read, and our
/// role. A function that a role has written is its code. On a table of another role every expression is,
/// unless it calls harmless functions of the server only.
fn foreign_code_sql(schema: &str, tables: &str) -> String {
    format!(
        "WITH RECURSIVE {OTHER_ROLES}, \
         tables AS (SELECT c.oid, c.relname, o.rolname AS owner FROM pg_class c LEFT JOIN others o ON o.oid = c.relowner \
             WHERE c.relnamespace = {schema} AND c.relkind IN ('r', 'p') AND c.relname IN ({tables})), \
         expressions (relid, what, is_read, tree) AS ( \
             SELECT d.adrelid, 'the default of column ' || a.attname, false, d.adbin::text \
             FROM tables t JOIN pg_attrdef d ON d.adrelid = t.oid JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum \
             UNION ALL SELECT k.conrelid, 'constraint ' || k.conname, false, k.conbin::text \
             FROM tables t JOIN pg_constraint k ON k.conrelid = t.oid WHERE k.conbin IS NOT NULL \
             UNION ALL SELECT x.indrelid, 'index ' || i.relname, true, concat(x.indexprs::text, x.indpred::text) \
             FROM tables t JOIN pg_index x ON x.indrelid = t.oid JOIN pg_class i ON i.oid = x.indexrelid \
             WHERE x.indexprs IS NOT NULL OR x.indpred IS NOT NULL \
             UNION ALL SELECT p.partrelid, 'the partition key', true, p.partexprs::text \
             FROM tables t JOIN pg_partitioned_table p ON p.partrelid = t.oid WHERE p.partexprs IS NOT NULL \
             UNION ALL SELECT g.tgrelid, 'trigger ' || g.tgname, false, g.tgqual::text \
             FROM tables t JOIN pg_trigger g ON g.tgrelid = t.oid WHERE g.tgqual IS NOT NULL \
             UNION ALL SELECT w.ev_class, 'rule ' || w.rulename, false, concat(w.ev_qual::text, w.ev_action::text) \
             FROM tables t JOIN pg_rewrite w ON w.ev_class = t.oid), \
         found AS ( \
             SELECT t.relname, e.what, coalesce(o.rolname, CASE WHEN NOT (p.pronamespace = 'pg_catalog'::regnamespace \
                 AND (p.provolatile = 'i' OR p.proname IN ({HARMLESS}))) THEN t.owner END) AS role, e.is_read \
             FROM expressions e JOIN tables t ON t.oid = e.relid, \
                 regexp_matches(e.tree, ':(?:funcid|opfuncid) ([1-9][0-9]*)', 'g') called (oids) \
                 JOIN pg_proc p ON p.oid = called.oids[1]::oid LEFT JOIN others o ON o.oid = p.proowner \
             UNION ALL SELECT t.relname, 'trigger ' || g.tgname, coalesce(o.rolname, t.owner), false \
             FROM tables t JOIN pg_trigger g ON g.tgrelid = t.oid JOIN pg_proc p ON p.oid = g.tgfoid LEFT JOIN others o ON o.oid = p.proowner \
             WHERE NOT g.tgisinternal AND g.tgenabled <> 'D' \
             UNION ALL SELECT t.relname, 'rule ' || w.rulename, t.owner, false FROM tables t JOIN pg_rewrite w ON w.ev_class = t.oid \
             UNION ALL SELECT t.relname, 'type ' || format_type(y.oid, NULL) || ' of column ' || a.attname, o.rolname, false \
             FROM tables t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped \
                 JOIN pg_type y ON y.oid = a.atttypid AND y.typtype = 'd' JOIN others o ON o.oid = y.typowner) \
         SELECT DISTINCT relname, what, role, is_read, current_user FROM found WHERE role IS NOT NULL ORDER BY 1, 4 DESC, 2 LIMIT 50",
        schema = schema_oid(schema)
    )
}

/// The query for the roles that may create objects in our schema, as a text with commas, and for the
/// statements that take that right from them. NULL where there is none.
pub fn creators_sql(schema: &str) -> String {
    format!(
        "WITH RECURSIVE {OTHER_ROLES}, \
         creators (role, remedy) AS ( \
             SELECT coalesce(o.rolname, 'PUBLIC'), format('REVOKE CREATE ON SCHEMA %I FROM %s', n.nspname, \
                 CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(o.rolname) END) \
             FROM pg_namespace n CROSS JOIN aclexplode(n.nspacl) g LEFT JOIN others o ON o.oid = g.grantee \
             WHERE n.nspname = {name} AND g.privilege_type = 'CREATE' AND (g.grantee = 0 OR o.oid IS NOT NULL) AND g.grantee <> n.nspowner \
             UNION SELECT o.rolname, format('ALTER SCHEMA %I OWNER TO %I', n.nspname, current_user) \
             FROM pg_namespace n JOIN others o ON o.oid = n.nspowner WHERE n.nspname = {name}) \
         SELECT string_agg(role, ', ' ORDER BY role), string_agg(remedy, '; ' ORDER BY role) FROM creators",
        name = literal(schema)
    )
}
