//! The SQLite store: one file, opened with care, in WAL mode. Only the files of this folder use the crate
//! `rusqlite`.

mod backup;
mod catalog;
mod checkpoint;
mod checkup;
mod checkup_files;
mod connect;
mod database;
mod draft;
mod error;
mod exceptions;
mod file;
mod file_error;
mod file_system;
mod inspect;
mod lock;
mod permissions;
mod rebuild;
mod recognition;
mod storage;
mod store;
mod transaction;

pub use database::{DatabaseFile, FileAccess};
pub use store::Sqlite;
