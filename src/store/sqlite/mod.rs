//! The SQLite store: a database in one file, in WAL mode. Only this folder uses the crate `rusqlite`.
//!
//! - The traits of the store: `database`, `store`, `transaction`.
//! - Opening: `connect`, `at_rest`, `file`, `file_system`, `recognition`, `permissions`, `lock`, `running`,
//!   `draft`.
//! - Before a WAL is copied into the file: `wal_match` with `wal_file`, `wal_evidence`, `page_source` and
//!   `page_tree`; after a journal was rolled back `hot_journal`.
//! - Reading: `inspect`, `catalog`, `ledger`, `exceptions`, `damage`; for `cts doctor` `checkup`, for
//!   the overview `journal`.
//! - `backup` with `backup_copy`, `running_copy` and `open_here`: copies of the database while programs write.
//! - `restore` with `restore_draft`, `restore_intent` and `openers`:
//!   a copy in the place of the database.
//! - `compact`: a rebuilt file in the place of the database.
//! - `copy`: an end of a copy of all rows, with `copy_reader`, `copy_values` and `copy_types`; as the source `copy_source`,
//!   as the target `copy_draft`, `copy_target` and `copy_shape`.
//! - `retention`: deleting old rows in short transactions.
//! - Changing: `rebuild` with `existing_table`, `create_table`, `row_copy` and `violations`; `index`,
//!   `rebuild_copy`.
//! - While it is open: `storage`, `measure`, `checkpoint` with `wal_reset` and `litestream`; `overwrite` with `watched_wal` and
//!   `wal_index`; `wal_length` with `wal_hold`; `free_pages`; `temporary`; `statistics`. Errors: `error`, `failed_call`, `file_error`.

mod archive_capture;
mod archive_thread;
mod at_rest;
mod backup;
mod backup_copy;
mod beside;
mod catalog;
mod checkpoint;
mod checkup;
mod checkup_files;
mod compact;
mod connect;
mod copy;
mod copy_draft;
mod copy_reader;
mod copy_shape;
mod copy_source;
mod copy_target;
mod copy_types;
mod copy_values;
mod counters;
mod create_table;
mod damage;
mod database;
mod draft;
mod error;
mod exceptions;
mod existing_table;
mod failed_call;
mod file;
mod file_error;
mod file_system;
mod free_pages;
mod hot_journal;
mod index;
mod inspect;
mod journal;
mod kept_open;
mod ledger;
mod litestream;
mod lock;
mod measure;
mod moment;
mod open_here;
mod openers;
mod overwrite;
mod page_source;
mod page_tree;
mod path_state;
mod permissions;
mod proof;
mod rebuild;
mod rebuild_copy;
mod recognition;
mod restore;
mod restore_draft;
mod restore_intent;
mod retention;
mod row_copy;
mod running;
mod running_copy;
#[allow(dead_code)]
mod statistics;
mod storage;
mod store;
mod temporary;
mod transaction;
mod violations;
mod wal_capture;
mod wal_evidence;
mod wal_file;
mod wal_hold;
mod wal_index;
mod wal_length;
mod wal_match;
mod wal_reset;
mod wal_writes;
mod watched_wal;
mod write_access;

pub use database::{DatabaseFile, FileAccess};
pub use running::{RunningDatabase, running_databases};
pub use store::Sqlite;
