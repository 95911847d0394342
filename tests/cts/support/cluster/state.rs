//! The content of a database as text, to compare two states of it.

use std::time::Duration;

use postgres::Client;

use super::Database;
use super::database::texts;
use crate::support::harness::await_within;

/// Columns, constraints, indexes and their state, each as one line.
const SHAPE: &str = "
    SELECT 'column ' || c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
           || a.attnotnull || a.attidentity::text || coalesce(pg_get_expr(d.adbin, d.adrelid), '')
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
         LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r'
    UNION ALL
    SELECT 'constraint ' || c.relname || ' ' || k.conname || ' ' || pg_get_constraintdef(k.oid)
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
    WHERE c.relnamespace = current_schema()::regnamespace AND k.contype <> 'n'
    UNION ALL
    SELECT 'index ' || pg_get_indexdef(x.indexrelid) || x.indisvalid
    FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r'
    ORDER BY 1";

impl Database<'_> {
    /// Schema, ledger, and number of events in `site_logs`.
    pub fn shape(&self) -> Vec<String> {
        let mut client = self.open();
        let mut shape = texts(&mut client, SHAPE);
        for (table, sql) in [
            ("migrations", "SELECT 'ledger ' || name FROM migrations ORDER BY id"),
            ("site_logs", "SELECT count(*) || ' notes' FROM site_logs WHERE category = 'database'"),
        ] {
            if texts(&mut client, &format!("SELECT to_regclass('{table}')")) != ["NULL"] {
                shape.extend(texts(&mut client, sql));
            }
        }
        shape
    }

    /// Schema, and every row of every table with the id of the transaction that wrote it.
    pub fn everything(&self) -> Vec<String> {
        let mut client = self.open();
        let mut all = texts(&mut client, SHAPE);
        for table in tables(&mut client) {
            let sql = format!(
                "SELECT '{table}: ' || count(*) || coalesce(md5(string_agg(t::text || t.xmin, chr(10) ORDER BY t.ctid)), '') \
                 FROM \"{table}\" t"
            );
            all.extend(texts(&mut client, &sql));
        }
        // A recreated object has another row there.
        all.extend(texts(
            &mut client,
            "SELECT relname || oid || ' ' || xmin FROM pg_class \
             WHERE relnamespace = current_schema()::regnamespace ORDER BY 1",
        ));
        all
    }

    /// The schema as `pg_dump` prints it.
    pub fn schema_dump(&self) -> String {
        self.printed(&["--schema-only"])
    }

    /// The number of sessions of cts in this database.
    pub fn sessions_of_cts(&self) -> i64 {
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'cts%' AND datname = '{}'",
            self.name
        );
        super::number(&mut self.admin(), &sql)
    }

    /// Waits until no session of cts is left in this database.
    pub fn await_unused(&self, limit: Duration) {
        let what = "no session of cts is left on the server";
        await_within(limit, what, || self.sessions_of_cts() == 0);
    }

    /// Invalid indexes, as an interrupted build leaves them.
    pub fn invalid(&self) -> Vec<String> {
        self.texts("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid")
    }
}

fn tables(client: &mut Client) -> Vec<String> {
    texts(
        client,
        "SELECT relname FROM pg_class WHERE relkind = 'r' \
         AND relnamespace = current_schema()::regnamespace ORDER BY 1",
    )
}
