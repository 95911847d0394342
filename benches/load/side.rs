//! The databases that are compared, and how their tables are created.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};
use rusqlite::Connection;

use crate::settings::{DEFAULTS, RECOMMENDED, Settings};
use crate::world::INDICATION_TYPES;
use crate::{Result, appliance};

static SCHEMA: Dir = include_dir!("$CARGO_MANIFEST_DIR/schema/sqlite");
const UNIFIED: &str = "unified_complete_setup.sql";
/// Applied to databases of an older CTS only.
const FALLBACK: &str = "000_master_initialization.sql";

/// Tables for which the baseline has its own indexes.
const REINDEXED: [&str; 3] = ["indications_", "pseudo_positions", "exchange_positions"];
/// Full indexes on positions, as one writes them without measuring.
const BASELINE_POSITIONS: &str = "
    CREATE INDEX b_positions_symbol ON pseudo_positions (connection_id, symbol, created_at DESC);
    CREATE INDEX b_positions_status ON pseudo_positions (connection_id, status, opened_at DESC);
    CREATE INDEX b_positions_type ON pseudo_positions (connection_id, indication_type, side);
    CREATE INDEX b_positions_closed ON pseudo_positions (status, closed_at DESC);
    CREATE INDEX b_real_symbol ON real_pseudo_positions (connection_id, symbol, created_at DESC);
    CREATE INDEX b_real_status ON real_pseudo_positions (connection_id, status, created_at DESC);
    CREATE INDEX b_exchange_symbol ON exchange_positions (connection_id, symbol, opened_at DESC);
    CREATE INDEX b_exchange_status ON exchange_positions (connection_id, status, opened_at DESC);";

/// The beginning of an index that every side has.
const KEY: &str = "CREATE UNIQUE";

#[derive(Clone, Copy, PartialEq)]
pub enum Schema {
    Ours,
    Baseline,
    /// No indexes except the keys: the upper limit of the insert rate.
    Bare,
}

pub struct Side {
    pub name: &'static str,
    pub path: PathBuf,
    /// The connection settings of its programs.
    pub settings: Settings,
}

impl Side {
    /// Creates the database in `folder`; `more` is SQL to apply to the cts schema.
    pub fn create(folder: &Path, schema: Schema, more: &str) -> Result<Self> {
        let (name, settings) = match schema {
            Schema::Ours => ("ours", RECOMMENDED),
            Schema::Baseline => ("baseline", DEFAULTS),
            Schema::Bare => ("bare", RECOMMENDED),
        };
        let side = Self { name, path: folder.join(format!("{name}.db")), settings };
        if schema == Schema::Ours {
            appliance::migrate(&side.path)?;
            side.open(settings)?.execute_batch(more)?;
            return Ok(side);
        }
        let conn = side.open(settings)?;
        conn.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        for made in our_objects()? {
            if let Some(sql) = made.on(schema) {
                conn.execute_batch(&sql)?;
            }
        }
        if schema == Schema::Baseline {
            conn.execute_batch(&reindexed().concat())?;
        }
        Ok(side)
    }

    pub fn open(&self, settings: Settings) -> Result<Connection> {
        open(&self.path, settings)
    }

    /// Size of the WAL file, in bytes.
    pub fn wal_bytes(&self) -> Result<u64> {
        wal_bytes(&self.path)
    }

    /// The random numbers in the header of the WAL, which change when it is reset; `None` if it has none.
    /// (sqlite.org/fileformat2.html, 4.1)
    pub fn wal_salts(&self) -> Result<Option<[u8; 8]>> {
        let mut salts = [0; 8];
        match File::open(wal_path(&self.path)) {
            Ok(wal) => Ok(wal.read_exact_at(&mut salts, 16).is_ok().then_some(salts)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}

pub fn open(path: &Path, settings: Settings) -> Result<Connection> {
    let conn = Connection::open(path)?;
    settings.apply(&conn)?;
    Ok(conn)
}

pub fn wal_bytes(path: &Path) -> Result<u64> {
    Ok(std::fs::metadata(wal_path(path))?.len())
}

fn wal_path(path: &Path) -> PathBuf {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    wal.into()
}

/// Runs a checkpoint; `mode` is that of `PRAGMA wal_checkpoint`.
pub fn checkpoint(conn: &Connection, mode: &str) -> Result<()> {
    conn.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))?;
    Ok(())
}

/// The SQL files in the order in which the appliance applies them.
fn our_sql() -> Result<String> {
    let mut files: Vec<_> =
        SCHEMA.files().filter(|file| !file.path().ends_with(FALLBACK)).collect();
    files.sort_by_key(|file| (!file.path().ends_with(UNIFIED), file.path()));
    let texts: Option<Vec<_>> = files.iter().map(|file| file.contents_utf8()).collect();
    Ok(texts.ok_or("a file under schema/sqlite is not UTF-8")?.concat())
}

/// The indexes of the baseline on the tables for which it has its own.
fn reindexed() -> Vec<String> {
    let mut indexes: Vec<_> =
        BASELINE_POSITIONS.trim().lines().map(|line| line.trim().to_owned()).collect();
    for name in INDICATION_TYPES {
        for second in ["symbol", "status"] {
            indexes.push(format!(
                "CREATE INDEX b_{name}_{second} ON indications_{name} (connection_id, {second}, calculated_at DESC);"
            ));
        }
    }
    indexes
}

/// All indexes of the baseline except the keys.
#[cfg(feature = "postgres")]
pub fn baseline_indexes() -> Result<Vec<String>> {
    let objects = our_objects()?;
    let plain = objects.iter().filter(|made| made.is_index && !made.sql.starts_with(KEY));
    let others = plain.filter_map(|made| made.on(Schema::Baseline));
    Ok(others.chain(reindexed()).collect())
}

/// A table or an index of the cts schema.
struct Made {
    is_index: bool,
    table: String,
    sql: String,
}

impl Made {
    /// Its definition on another side; `None` if it does not exist there.
    fn on(&self, side: Schema) -> Option<String> {
        let is_key = self.sql.starts_with(KEY);
        let is_reindexed = is_reindexed(&self.table);
        match side {
            _ if !self.is_index || is_key => Some(self.sql.clone()),
            Schema::Baseline if !is_reindexed => Some(full(&self.sql)),
            _ => None,
        }
    }
}

pub fn is_reindexed(table: &str) -> bool {
    REINDEXED.iter().any(|name| table.contains(name))
}

/// The index without its condition and with the newest rows first, as in the published schema.
fn full(index: &str) -> String {
    let index = index.split("WHERE").next().unwrap_or(index);
    index.replace("created_at", "created_at DESC").replace("timestamp", "timestamp DESC")
}

fn our_objects() -> Result<Vec<Made>> {
    let conn = Connection::open_in_memory()?;
    conn.execute_batch(&our_sql()?)?;
    let sql = "SELECT type = 'index', tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid";
    let mut statement = conn.prepare(sql)?;
    let made = |row: &rusqlite::Row| {
        Ok(Made { is_index: row.get(0)?, table: row.get(1)?, sql: row.get(2)? })
    };
    let objects = statement.query_map([], made)?.collect::<rusqlite::Result<_>>()?;
    Ok(objects)
}
