//! The databases that are compared on PostgreSQL, and how their tables are created.

use std::process::Command;

use postgres::{Client, NoTls};

use crate::Result;
use crate::appliance::CTS;
use crate::postgres::server::PostgresServer;
use crate::side::{Schema, baseline_indexes};

const INDEXES: &str = "
    SELECT indexrelid::regclass::text FROM pg_index
    WHERE NOT indisunique AND indrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)";
const STORAGE_PARAMETERS: &str = "
    SELECT c.relname, string_agg(split_part(o, '=', 1), ', ') FROM pg_class c, unnest(c.reloptions) o
    WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace GROUP BY c.relname";

pub struct PostgresSide {
    pub name: &'static str,
    pub database: String,
    pub url: String,
}

impl PostgresSide {
    /// Creates the database; `more` is SQL to apply to it. The baseline has the same tables with
    /// PostgreSQL's default storage parameters, and the baseline's indexes.
    pub fn create(server: &PostgresServer, schema: Schema, more: &str) -> Result<Self> {
        let name = if schema == Schema::Ours { "ours" } else { "baseline" };
        let database = format!("cts_load_{name}");
        server.connect("postgres")?.batch_execute(&format!("CREATE DATABASE {database}"))?;
        let side = Self { name, url: server.url(&database), database };
        side.migrate()?;
        let mut client = side.connect()?;
        if schema == Schema::Baseline {
            for row in client.query(INDEXES, &[])? {
                client.batch_execute(&format!("DROP INDEX {}", row.get::<_, &str>(0)))?;
            }
            for row in client.query(STORAGE_PARAMETERS, &[])? {
                let [table, names] = [row.get::<_, &str>(0), row.get(1)];
                client.batch_execute(&format!("ALTER TABLE {table} RESET ({names})"))?;
            }
            for sql in baseline_indexes()? {
                client.batch_execute(&sql)?;
            }
        }
        client.batch_execute(more)?;
        Ok(side)
    }

    fn migrate(&self) -> Result<()> {
        let mut command = Command::new(CTS);
        command.args(["migrate", "--quiet"]).env("DATABASE_URL", &self.url);
        let status = command.status()?;
        if status.success() { Ok(()) } else { Err(format!("cts migrate: {status}").into()) }
    }

    pub fn connect(&self) -> Result<Client> {
        let mut client = Client::connect(&self.url, NoTls)?;
        client.batch_execute("SET TIME ZONE 'UTC'")?;
        Ok(client)
    }
}

pub fn connect_both(sides: [&PostgresSide; 2]) -> Result<[Client; 2]> {
    Ok([sides[0].connect()?, sides[1].connect()?])
}

/// The end of the WAL, in bytes since its beginning. What other sessions write is in it too.
pub fn wal_position(client: &mut Client) -> Result<f64> {
    let sql = "SELECT (pg_current_wal_insert_lsn() - '0/0')::float8";
    Ok(client.query_one(sql, &[])?.get(0))
}

/// Deletes the rows inserted after that id, and frees their space.
pub fn take_back(client: &mut Client, table: &str, before: i64) -> Result<()> {
    client.batch_execute(&format!("DELETE FROM {table} WHERE id > {before}"))?;
    Ok(client.batch_execute(&format!("VACUUM {table}"))?)
}

pub fn highest(client: &mut Client, table: &str) -> Result<i64> {
    let sql = format!("SELECT coalesce(max(id), 0) FROM {table}");
    Ok(client.query_one(&sql, &[])?.get(0))
}

/// The same for both sides, since they hold the same rows.
pub fn live_positions(client: &mut Client) -> Result<Vec<i64>> {
    let sql = "SELECT id FROM pseudo_positions WHERE status = 'active' ORDER BY id";
    Ok(client.query(sql, &[])?.iter().map(|row| row.get(0)).collect())
}
