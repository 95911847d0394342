//! The SQLite store: one file, opened with care, in WAL mode. Only the files of this folder use the crate
//! `rusqlite`.

mod backup;
mod catalog;
mod checkpoint;
mod checkup;
mod checkup_files;
mod connect;
mod create_table;
mod damage;
mod database;
mod draft;
mod error;
mod exceptions;
mod existing_table;
mod file;
mod file_error;
mod file_system;
mod index;
mod inspect;
mod ledger;
mod lock;
mod path_state;
mod permissions;
mod rebuild;
mod recognition;
mod row_copy;
mod storage;
mod store;
mod transaction;
mod violations;

pub use database::{DatabaseFile, FileAccess};
pub use store::Sqlite;
